// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::{Circumstances, Outcome};
use crate::ir::{self, InsecureAction, Protocol, SecurityModel};
use crate::name::{Generation, Kind, Ref};
use crate::table::sample::{self, Sent};
use crate::table::{Slots, Table, compile};
use crate::tls::{ClientPolicy, Identity, Parameters, Pem, Server, ServerSpec, Tickets};
use std::sync::Arc;

const DAY: i64 = 86_400;

fn termination(name: &str, clients: Option<bool>) -> Arc<Server> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let chain = Pem::from(params.self_signed(&key).unwrap().pem().as_bytes());
    let identity =
        Identity::parse(chain.clone(), Pem::from(key.serialize_pem().as_bytes())).unwrap();
    let spec = ServerSpec {
        identity,
        alpn: vec!["http/1.1".into()],
        parameters: Parameters::default(),
        clients: clients.map(|required| ClientPolicy {
            authorities: chain,
            required,
            revocations: None,
        }),
    };
    Arc::new(Server::new(spec, &mut Tickets::default()).unwrap())
}

fn chain(name: &str, termination: Option<Arc<Server>>, tcp: bool) -> Arc<ir::TlsChain> {
    let member = |name: &str, from, to| ir::TcpMember {
        from,
        to,
        object: Ref::new(Kind::TCPMapping, "default", name),
        cluster: "c".into(),
        idle_timeout: None,
    };
    let route = ir::TcpRoute { members: vec![member("one", 0, 0), member("two", 0, 60)] };
    Arc::new(ir::TlsChain {
        server_name: name.into(),
        object: Some(Ref::new(Kind::Host, "default", name)),
        termination,
        tcp: tcp.then(|| Arc::new(route)),
    })
}

fn table(chains: Vec<Arc<ir::TlsChain>>) -> Table {
    let host = ir::VirtualHost {
        domain: "*".into(),
        host: None,
        insecure: InsecureAction::Route,
        refusal: None,
        groups: Vec::new(),
    };
    let mut ir = sample::ir(SecurityModel::Xfp, vec![host]);
    ir.listeners[0].stack = vec![Protocol::Tls, Protocol::Http, Protocol::Tcp];
    ir.listeners[0].tls = chains;
    compile(&ir, Generation(1), &mut Slots::new(), None).unwrap()
}

#[test]
fn a_handshake_has_its_chain_and_its_certificate_told() {
    let termination = termination("*.foo.com", Some(true));
    let end = termination.spec.identity.not_after;
    let table = table(vec![chain("*.foo.com", Some(termination), false)]);
    let story = table.listeners[0].explain_handshake(Some("a.foo.com"), end - 10 * DAY);
    assert_eq!(story.refused, None);
    let text = story.to_string();
    for said in [
        "server name a.foo.com, chain *.foo.com (Host default/*.foo.com): no chain has exactly",
        "certificate for *.foo.com, valid for 10 more days",
        "client certificates: required",
        "TLS 1.2 to 1.3, ALPN http/1.1",
    ] {
        assert!(text.contains(said), "{text}");
    }
    let text = table.listeners[0].explain_handshake(Some("a.foo.com"), end + DAY).to_string();
    assert!(text.contains("EXPIRED 1 days ago"), "{text}");
    let json = serde_json::to_value(&story).unwrap();
    assert_eq!(json["chain"]["certificate"]["days_left"], 10);
    assert_eq!(json["chain"]["certificate"]["names"][0], "*.foo.com");
}

#[track_caller]
fn check_refused(table: &Table, server_name: Option<&str>, expected: &str) {
    let story = table.listeners[0].explain_handshake(server_name, 0);
    let refused = story.refused.unwrap();
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn refusals_have_their_reasons() {
    let broken = table(vec![chain("foo.com", None, false)]);
    check_refused(&broken, Some("foo.com"), "Host default/foo.com has no usable certificate");
    check_refused(&broken, Some("bar.com"), "is for \"bar.com\"");
    check_refused(&broken, None, "the client sends no server name");
    check_refused(&table(Vec::new()), Some("foo.com"), "on Listener default/l has a certificate");
    let cleartext = sample::ir(SecurityModel::Xfp, Vec::new());
    let cleartext = compile(&cleartext, Generation(1), &mut Slots::new(), None).unwrap();
    check_refused(
        &cleartext,
        Some("foo.com"),
        "the protocolStack of Listener default/l has no TLS",
    );
}

fn outcome(table: &Table, server_name: Option<&str>, authority: &str) -> Outcome {
    let sent = Sent::new("GET", authority, "/", None, &[], true);
    let circumstances = Circumstances { tls: Some(server_name), ..Circumstances::bare(None) };
    table.listeners[0].explain(&sent.request(), &circumstances).outcome
}

#[test]
fn a_request_for_a_host_of_another_configuration_is_misdirected() {
    let shared = termination("a.com", None);
    let table = table(vec![
        chain("a.com", Some(shared.clone()), false),
        chain("b.com", Some(shared), false),
        chain("c.com", Some(termination("c.com", None)), false),
        chain("d.com", Some(termination("d.com", Some(true))), false),
        chain("*", Some(termination("any", None)), false),
        chain("gone.com", None, false),
    ]);
    let misdirected = |name, authority: &str| {
        matches!(outcome(&table, name, authority), Outcome::Misdirected { .. })
    };
    assert!(!misdirected(Some("a.com"), "a.com"));
    assert!(!misdirected(Some("a.com"), "a.com:8443"));
    assert!(!misdirected(Some("a.com"), "b.com"));
    assert!(misdirected(Some("a.com"), "c.com"));
    assert!(misdirected(Some("a.com"), "c.com:443"));
    assert!(misdirected(Some("a.com"), "d.com"));
    // Without a name only client certificates matter.
    assert!(!misdirected(None, "a.com"));
    assert!(misdirected(None, "d.com"));
    assert!(matches!(outcome(&table, Some("gone.com"), "a.com"), Outcome::NoConnection { .. }));
}

#[test]
fn connections_find_their_tcp_mapping() {
    let table = table(vec![
        chain("db.com", Some(termination("db.com", None)), true),
        chain("web.com", Some(termination("web.com", None)), false),
    ]);
    let listener = &table.listeners[0];
    let text = |tls, roll| listener.explain_connection(tls, roll, 0, &|_| None).to_string();
    let story = text(Some(Some("db.com")), None);
    assert!(story.contains("tunnelled by TCPMapping default/two to c"), "{story}");
    assert!(story.contains("TCPMapping default/one takes rolls 0..0"), "{story}");
    assert!(story.contains("its addresses are known only to the running gateway"), "{story}");
    // What weights leave over goes to the last.
    assert!(text(Some(Some("db.com")), Some(99)).contains("by TCPMapping default/two"));
    assert!(text(Some(Some("web.com")), None).contains("its bytes are HTTP"));
    assert!(text(Some(Some("x.com")), None).contains("closed: no Host, TCPMapping"));
    assert!(text(None, None).contains("its bytes are HTTP"));
}
