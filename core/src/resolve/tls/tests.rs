// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use super::super::host::tests::host;
use super::super::tests::{LISTENER, mapping, only, reasons, resolved, settings, snapshot_of};
use super::super::{Memo, resolve};
use super::*;
use crate::ir::{Ir, TlsChain, Transport};
use crate::problem::Severity;
use crate::tls::tests::{Made, authority, revocations, self_signed};

/// A Listener that takes TLS, and a Mapping for everything.
const HTTPS: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: m}
spec: {hostname: '*', prefix: /, service: quote}
---
";

static MADE: LazyLock<Made> = LazyLock::new(|| self_signed("a.com"));
static OTHER: LazyLock<Made> = LazyLock::new(|| self_signed("b.com"));
static AUTHORITY: LazyLock<String> = LazyLock::new(|| authority().pem());

fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let value = |(key, text): &(&str, &str)| {
        let lines: Vec<String> = text.lines().map(|line| format!("    {line}\n")).collect();
        format!("  {key}: |\n{}\n", lines.concat())
    };
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         stringData:\n{}  x: ''\n---\n",
        values.iter().map(value).collect::<String>()
    )
}

/// The usual Secret.
fn certificate(name: &str, made: &Made) -> String {
    secret(name, &[("tls.crt", &made.chain), ("tls.key", &made.key)])
}

fn context(name: &str, fields: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: TLSContext\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{fields}}}\n---\n"
    )
}

fn module(config: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata: {{name: ambassador}}\n\
         spec: {{config: {{{config}}}}}\n---\n"
    )
}

fn https(parts: &[&str]) -> (Ir, Problems) {
    resolved(&[&[HTTPS], parts].concat().concat())
}

fn chains(ir: &Ir) -> Vec<&TlsChain> {
    ir.listeners.iter().flat_map(|l| &l.tls).map(|chain| &**chain).collect()
}

/// `a.com: b.com` for a chain that shows the certificate of b.com; `a.com: -` for none.
fn shown(ir: &Ir) -> Vec<String> {
    let shows = |chain: &&TlsChain| {
        let server = chain.termination.as_ref();
        let name = server.map_or("-", |server| &server.spec.identity.names[0]);
        format!("{}: {name}", chain.server_name)
    };
    chains(ir).iter().map(shows).collect()
}

fn refusals(ir: &Ir) -> usize {
    ir.listeners[0].virtual_hosts.iter().filter(|host| host.refusal.is_some()).count()
}

/// The termination of the only chain.
fn termination(ir: &Ir) -> &Server {
    let chains = chains(ir);
    assert_eq!(chains.len(), 1);
    chains[0].termination.as_ref().unwrap()
}

#[test]
fn hosts_with_a_secret_have_chains_the_most_specific_first() {
    let hosts = [
        host("star", "hostname: '*', tlsSecret: {name: b}"),
        host("wide", "hostname: '*.a.com', tlsSecret: {name: a}"),
        host("exact", "hostname: 'A.com', tlsSecret: {name: a}"),
        host("plain", "hostname: plain.com"),
    ]
    .concat();
    let secrets = certificate("a", &MADE) + &certificate("b", &OTHER);
    let (ir, problems) = https(&[&hosts, &secrets]);
    assert_eq!(problems.0, []);
    assert_eq!(shown(&ir), ["a.com: a.com", "*.a.com: a.com", "*: b.com"]);
    let chains = chains(&ir);
    assert_eq!(&*chains[0].object.as_ref().unwrap().name, "exact");
    let (one, two) = (chains[0].termination.as_ref(), chains[1].termination.as_ref());
    assert!(Arc::ptr_eq(one.unwrap(), two.unwrap()), "equal, so one configuration");
    // No TLS in the stack: no chains.
    let (ir, _) = resolved(&[LISTENER, &hosts, &secrets].concat());
    assert!(ir.listeners[0].tls.is_empty());
}

#[test]
fn a_host_whose_secret_is_of_no_use_loses_its_tls_only() {
    let host = host("h", "hostname: a.com, tlsSecret: {name: s}");
    let broken = |secret: &str| {
        let (ir, problems) = https(&[&host, secret]);
        assert_eq!(shown(&ir), ["a.com: -"], "{secret}");
        assert_eq!((ir.listeners[0].virtual_hosts.len(), refusals(&ir)), (1, 0));
        problems
    };
    let problems = broken("");
    let problem = only(&problems);
    assert_eq!(problem.message, "there is no Secret default/s: no TLS for it");
    assert_eq!((&*problem.path, problem.severity), ("spec.tlsSecret", Severity::Error));
    let garbled = MADE.key.replace("BEGIN", "BEG");
    for (values, path, message) in [
        (&[("tls.crt", &*MADE.chain)][..], "data", "it has no `tls.key`"),
        (&[("tls.key", &*MADE.key)], "data", "it has no `tls.crt`"),
        (
            &[("tls.crt", &MADE.chain), ("tls.key", &OTHER.key)],
            "data[\"tls.crt\"]",
            "the private key does not fit the certificate",
        ),
        (
            &[("cert-chain.pem", &MADE.chain), ("key.pem", &garbled)],
            "data[\"key.pem\"]",
            "there is no private key in it",
        ),
        (
            &[("tls.crt", ""), ("tls.key", &MADE.key)],
            "data[\"tls.crt\"]",
            "there is no certificate in it",
        ),
    ] {
        let problems = broken(&secret("s", values));
        let told: Vec<_> =
            problems.iter().map(|p| (&*p.object.name, &*p.path, &*p.message, p.severity)).collect();
        let unusable = "the Secret default/s cannot be used: no TLS by it";
        assert_eq!(
            told,
            [
                ("s", path, message, Severity::Error),
                ("h", "spec.tlsSecret", unusable, Severity::Warning)
            ]
        );
    }
}

#[test]
fn many_users_of_a_broken_secret_tell_of_it_once() {
    let hosts: String = (0..3)
        .map(|n| host(&format!("h{n}"), &format!("hostname: h{n}.com, tlsSecret: {{name: s}}")))
        .collect();
    let (_, problems) = https(&[&hosts, &secret("s", &[("tls.crt", "x"), ("tls.key", "y")])]);
    let of = |severity| problems.iter().filter(|p| p.severity == severity).count();
    assert_eq!((of(Severity::Error), of(Severity::Warning)), (1, 3));
}

#[test]
fn secrets_are_found_by_namespace_dot_and_own_namespace() {
    let at = |fields: &str, secret_name: &str, more: &str| {
        let host = host("h", &format!("hostname: a.com, {fields}"));
        let (ir, problems) = https(&[&host, &certificate(secret_name, &MADE), more]);
        let found = shown(&ir) == ["a.com: a.com"];
        assert_eq!(found, problems.is_empty(), "{problems:?}");
        found
    };
    assert!(at("tlsSecret: {name: s}", "default/s", ""));
    assert!(!at("tlsSecret: {name: s}", "other/s", ""));
    assert!(at("tlsSecret: {name: s, namespace: other}", "other/s", ""));
    assert!(at("tlsSecret: {name: s.other}", "other/s", ""));
    assert!(at("tlsSecret: {name: s.other, namespace: default}", "default/s.other", ""));
    let plain = module("defaults: {tls_secret_namespacing: false}");
    assert!(!at("tlsSecret: {name: s.other}", "other/s", &plain));
    assert!(at("tlsSecret: {name: s.other}", "default/s.other", &plain));
    // A Module without the key changes nothing.
    assert!(at("tlsSecret: {name: s.other}", "other/s", &module("server_name: x")));
    let named = "tlsContext: {name: c}";
    assert!(at(named, "other/s", &context("c", "secret: s.other")));
    assert!(at(
        named,
        "other/s",
        &(context("c", "secret: s.other, secret_namespacing: true") + &plain)
    ));
    assert!(at(
        named,
        "default/s.other",
        &context("c", "secret: s.other, secret_namespacing: false")
    ));
    assert!(at(named, "default/s.other", &(context("c", "secret: s.other") + &plain)));
    assert!(at(named, "team/s", &context("team/c", "secret: s")), "in the context's namespace");

    let single = crate::snapshot::Settings { single_namespace: true, ..settings() };
    let host = host("h", "hostname: a.com, tlsSecret: {name: s.other}");
    let yaml = [HTTPS, &host, &certificate("other/s", &MADE)].concat();
    let (ir, _) = resolve(&snapshot_of(single, &yaml), &mut Memo::default());
    assert_eq!(shown(&ir), ["a.com: -"]);
}

#[test]
fn hosts_take_the_context_that_they_name_or_that_is_named_for_them() {
    let secrets = certificate("a", &MADE) + &certificate("b", &OTHER);
    let resolve = |fields: &str, contexts: &str| {
        https(&[&host("h", &format!("hostname: a.com, {fields}")), &secrets, contexts])
    };
    let versions = "min_tls_version: v1.3";
    let min = |ir: &Ir| termination(ir).spec.parameters.min_version;
    // Named, with a Secret of its own, of the Host, of both.
    for (fields, context_fields) in [
        ("tlsContext: {name: c}", "secret: a, min_tls_version: v1.3"),
        ("tlsContext: {name: c}, tlsSecret: {name: a}", versions),
        ("tlsContext: {name: c}, tlsSecret: {name: a}", "secret: a, min_tls_version: v1.3"),
        ("tls: {min_tls_version: v1.3}, tlsSecret: {name: a}", ""),
        ("tls: {minTLSVersion: v1.3}, tlsSecret: {name: a}", ""),
    ] {
        let (ir, problems) = resolve(fields, &context("c", context_fields));
        assert_eq!((min(&ir), problems.len()), (Some(Version::V1_3), 0), "{fields}");
    }
    // Emissary's `<host>-context`, of the Host's namespace.
    let implicit = "tlsSecret: {name: a}";
    assert_eq!(min(&resolve(implicit, &context("h-context", versions)).0), Some(Version::V1_3));
    assert_eq!(min(&resolve(implicit, &context("other/h-context", versions)).0), None);
    // Its own namespace's before another's.
    let two = context("c", "secret: a") + &context("aaa/c", "secret: b.default");
    assert_eq!(shown(&resolve("tlsContext: {name: c}", &two).0), ["a.com: a.com"]);
    let one = context("aaa/c", "secret: b.default");
    assert_eq!(shown(&resolve("tlsContext: {name: c}", &one).0), ["a.com: b.com"]);

    let (ir, problems) = resolve("tlsContext: {name: c}, tls: {sni: x}", &context("c", ""));
    assert!(ir.listeners.is_empty());
    assert_eq!(problems.0[0].reason, "Conflict");
    let differing = "tlsContext: {name: c}, tlsSecret: {name: a}";
    let (ir, problems) = resolve(differing, &context("c", "secret: b"));
    assert!(ir.listeners.is_empty());
    let message = "the TLSContext `c` has the Secret default/b, the Host default/a";
    assert_eq!(problems.0[0].message, message);
    let (ir, problems) = resolve(differing, &context("c", "hosts: [b.com]"));
    assert_eq!(shown(&ir), ["a.com: a.com"]);
    assert_eq!(only(&problems).message, "the `hosts` of the TLSContext `c` lack \"a.com\"");
    // TLS was asked for: a wider Host does not take it.
    for fields in ["tls: {min_tls_version: v1.3}", "tlsContext: {name: c}"] {
        let (ir, problems) = resolve(fields, &context("c", ""));
        assert_eq!(shown(&ir), ["a.com: -"]);
        assert!(problems.iter().any(|p| p.reason == "NoCertificate"), "{problems:?}");
    }
}

#[test]
fn client_certificates_are_asked_for_or_nothing_is_served() {
    let secrets = certificate("a", &MADE)
        + &secret("ca", &[("tls.crt", &AUTHORITY)])
        + &secret("ca2", &[("ca.crt", &AUTHORITY)])
        + &secret("insists", &[("tls.crt", &AUTHORITY), ("cert_required", "TRUE")])
        + &secret(
            "istio",
            &[
                ("cert-chain.pem", &MADE.chain),
                ("key.pem", &MADE.key),
                ("root-cert.pem", &AUTHORITY),
            ],
        )
        + &secret("empty", &[("tls.crt", "")]);
    let resolve =
        |fields: &str| https(&[&host("h", &format!("hostname: a.com, {fields}")), &secrets]);
    let asked = |fields: &str| {
        let (ir, problems) = resolve(fields);
        assert_eq!(problems.0, [], "{fields}");
        termination(&ir).spec.clients.as_ref().map(|policy| policy.required)
    };
    assert_eq!(asked("tlsSecret: {name: a}"), None);
    assert_eq!(asked("tlsSecret: {name: a}, tls: {ca_secret: ca}"), Some(false));
    assert_eq!(asked("tlsSecret: {name: a}, tls: {caSecret: ca2, certRequired: true}"), Some(true));
    assert_eq!(asked("tlsSecret: {name: a}, tls: {ca_secret: ca.default}"), Some(false));
    assert_eq!(asked("tlsSecret: {name: a}, tls: {ca_secret: insists}"), Some(true));
    assert_eq!(asked("tlsSecret: {name: istio}"), Some(false));
    for fields in [
        "tlsSecret: {name: a}, tls: {cert_required: true}",
        "tlsSecret: {name: a}, tls: {ca_secret: gone}",
        "tlsSecret: {name: a}, tls: {ca_secret: empty}",
        "tlsSecret: {name: a}, tls: {cacert_chain_file: /gone}",
        "tlsSecret: {name: a}, tls: {ca_secret: ca, crl_secret: gone}",
        "tlsSecret: {name: a}, tls: {ca_secret: ca, crl_secret: ca}",
        "tlsSecret: {name: a}, tls: {crl_secret: ca}",
        "tlsSecret: {name: a}, tlsContext: {name: gone}",
        "tlsSecret: {name: a}, tlsContext: {name: gone}, tls: {cert_required: true}",
    ] {
        let (ir, problems) = resolve(fields);
        assert_eq!((shown(&ir), refusals(&ir)), (vec!["a.com: -".to_owned()], 1), "{fields}");
        assert!(problems.iter().any(|p| p.severity == Severity::FailsClosed), "{problems:?}");
    }
    // The fault of a context is told there and at the Host.
    let (_, problems) = https(&[
        &host("h", "hostname: a.com, tlsContext: {name: c}"),
        &secrets,
        &context("c", "secret: a, ca_secret: gone"),
    ]);
    assert_eq!(
        reasons(&problems),
        [
            ("c", Severity::FailsClosed, "BadAuthorities"),
            ("h", Severity::FailsClosed, "BadTLSContext")
        ]
    );
}

#[test]
fn revocation_lists_are_read() {
    let authority = authority();
    let list = revocations(&authority, &[7], 2900);
    let list = String::from_utf8(list.0.to_vec()).unwrap();
    let (ir, problems) = https(&[
        &host("h", "hostname: a.com, tlsSecret: {name: a}, tls: {ca_secret: ca, crl_secret: crl}"),
        &certificate("a", &MADE),
        &secret("ca", &[("tls.crt", &authority.pem())]),
        &secret("crl", &[("crl.pem", &list)]),
    ]);
    assert_eq!(problems.0, []);
    let spec = serde_json::to_value(termination(&ir)).unwrap();
    assert_eq!(
        spec["clients"],
        serde_json::json!({"authorities": "present", "required": false, "revocations": "present"})
    );
}

#[test]
fn what_is_not_offered_is_named() {
    let problems_of = |fields: &str| {
        let context = context("c", &format!("secret: a, {fields}"));
        let host = host("h", "hostname: a.com, tlsContext: {name: c}");
        let (ir, problems) = https(&[&host, &context, &certificate("a", &MADE)]);
        let server = chains(&ir)[0].termination.clone();
        (server.map(|server| server.spec.clone()), problems)
    };
    let (spec, problems) =
        problems_of("cipher_suites: ['[ECDHE-RSA-AES128-GCM-SHA256|RC4-SHA]', AES128-SHA]");
    assert_eq!(spec.unwrap().parameters.cipher_suites, ["ECDHE-RSA-AES128-GCM-SHA256".into()]);
    let problem = only(&problems);
    assert_eq!((&*problem.path, problem.severity), ("spec.cipher_suites", Severity::Warning));
    assert_eq!(problem.message, "not offered here, ignored: RC4-SHA, AES128-SHA");
    assert!(problem.help.as_ref().unwrap().contains("ECDHE-ECDSA-CHACHA20-POLY1305"));
    let (spec, problems) = problems_of("ecdh_curves: [P-521, X25519]");
    assert_eq!(spec.unwrap().parameters.curves, ["X25519".into()]);
    assert_eq!(only(&problems).message, "not offered here, ignored: P-521");
    let (spec, problems) = problems_of("min_tls_version: v1.0");
    assert_eq!(spec.unwrap().parameters.min_version, None);
    assert_eq!(only(&problems).message, "v1.0 is not spoken: v1.2 is the least");
    let (spec, problems) = problems_of("alpn_protocols: 'h2,http/1.1'");
    assert_eq!(spec.unwrap().alpn, ["h2".into(), "http/1.1".into()]);
    assert!(problems.is_empty());
    let (spec, problems) = problems_of("alpn_protocols: 'h2,,x'");
    assert!(spec.unwrap().alpn.is_empty());
    assert_eq!(only(&problems).message, "an ALPN protocol has 1 to 255 bytes");

    for (fields, path, message) in [
        ("max_tls_version: v1.1", "max_tls_version", "v1.1 is not spoken: no version is left"),
        (
            "min_tls_version: v1.3, max_tls_version: v1.2",
            "min_tls_version",
            "no TLS version is at least v1.3 and at most v1.2",
        ),
        ("cipher_suites: [AES128-SHA]", "cipher_suites", "none of its cipher suites exists"),
        ("ecdh_curves: [P-521]", "ecdh_curves", "none of its curves exists"),
        (
            "cipher_suites: [TLS_AES_128_GCM_SHA256], max_tls_version: v1.2",
            "cipher_suites",
            "none of its cipher suites exists",
        ),
        (
            "cert_chain_file: /x",
            "cert_chain_file",
            "`secret` and `cert_chain_file` exclude each other",
        ),
    ] {
        let (spec, problems) = problems_of(fields);
        assert_eq!(spec, None, "{fields}");
        let path = format!("spec.{path}");
        let found = problems.iter().find(|p| p.severity == Severity::Error).unwrap();
        assert_eq!((&*found.path, &*found.message), (&*path, message));
        assert_eq!(
            problems.0.last().unwrap().message,
            "the TLSContext `c` cannot be used: no TLS by it"
        );
    }
}

#[test]
fn certificates_come_from_files_too() {
    let fields = "cert_chain_file: /c, private_key_file: /k";
    let yaml =
        [HTTPS, &host("h", &format!("hostname: a.com, tls: {{{fields}, cacert_chain_file: /a}}"))]
            .concat();
    let mut snapshot = snapshot_of(settings(), &yaml);
    let all = Files { chain: Some("/c"), key: Some("/k"), authorities: Some("/a") };
    assert_eq!(snapshot.objects().filter(|object| files(object) == all).count(), 1);
    let (ir, problems) = resolve(&snapshot, &mut Memo::default());
    assert_eq!(shown(&ir), ["a.com: -"]);
    let told: Vec<&str> = problems.iter().map(|p| &*p.message).collect();
    assert_eq!(told[..2], ["/c: it was not read", "/k: it was not read"]);
    let file = |text: &str| Ok(Pem::from(text.as_bytes()));
    let all = |key: &str| {
        BTreeMap::from([
            ("/c".into(), file(&MADE.chain)),
            ("/k".into(), file(key)),
            ("/a".into(), file(&AUTHORITY)),
        ])
    };
    let mut memo = Memo::default();
    snapshot.set_files(all(&MADE.key));
    let (ir, problems) = resolve(&snapshot, &mut memo);
    assert_eq!((shown(&ir), problems.len()), (vec!["a.com: a.com".to_owned()], 0));
    snapshot.set_files(all(&OTHER.key));
    let (ir, problems) = resolve(&snapshot, &mut memo);
    assert_eq!(shown(&ir), ["a.com: -"]);
    assert_eq!(only(&problems).message, "/c: the private key does not fit the certificate");
    for (fields, lacks) in [
        ("cert_chain_file: /c", "`private_key_file`"),
        ("private_key_file: /k", "`cert_chain_file`"),
    ] {
        let (ir, problems) = https(&[&host("h", &format!("hostname: a.com, tls: {{{fields}}}"))]);
        assert_eq!(shown(&ir), ["a.com: -"]);
        assert!(only(&problems).message.contains(lacks), "{problems:?}");
    }
}

#[test]
fn hosts_that_share_a_server_name_share_its_tls() {
    let hosts = |first: &str, second: &str| {
        host("a", &format!("hostname: a.com, {first}"))
            + &host("b", &format!("hostname: 'a.com:8443', {second}"))
    };
    let secrets = certificate("a", &MADE)
        + &certificate("b", &OTHER)
        + &secret("ca", &[("tls.crt", &AUTHORITY)]);
    let resolve = |first: &str, second: &str| https(&[&hosts(first, second), &secrets]);
    let (ir, problems) = resolve("tlsSecret: {name: a}", "tlsSecret: {name: a}");
    assert_eq!((shown(&ir), problems.len()), (vec!["a.com: a.com".to_owned()], 0));
    let (ir, problems) = resolve("tlsSecret: {name: a}", "tlsSecret: {name: b}");
    assert_eq!((shown(&ir), refusals(&ir)), (vec!["a.com: a.com".to_owned()], 0));
    let problem = only(&problems);
    assert_eq!((&*problem.object.name, problem.reason), ("b", "ServerNameTaken"));
    // Whoever has a certificate comes first.
    let (ir, problems) = resolve("tlsSecret: {name: gone}", "tlsSecret: {name: b}");
    assert_eq!(shown(&ir), ["a.com: b.com"]);
    assert_eq!(only(&problems).reason, "UnknownSecret");
    // Who would ask for certificates does not serve those who were not asked.
    for second in [
        "tlsSecret: {name: b}, tls: {ca_secret: ca}",
        "tlsSecret: {name: gone}, tls: {ca_secret: ca}",
    ] {
        let (ir, _) = resolve("tlsSecret: {name: a}", second);
        assert_eq!((shown(&ir), refusals(&ir)), (vec!["a.com: a.com".to_owned()], 1));
    }
}

#[test]
fn without_hosts_the_fallback_certificate_serves() {
    let name = "fallback-self-signed-cert";
    let (ir, problems) = https(&[&certificate(name, &MADE)]);
    assert_eq!((shown(&ir), problems.len()), (vec!["*: a.com".to_owned()], 0));
    assert_eq!(ir.listeners[0].virtual_hosts[0].insecure, crate::ir::InsecureAction::Redirect);
    let (ir, problems) = https(&[&secret(name, &[])]);
    assert_eq!(shown(&ir), ["*: -"]);
    assert_eq!(problems.0[0].reason, "BadSecret");
}

fn client(ir: &Ir) -> Option<&ClientSpec> {
    let mut clusters = ir.clusters.iter().filter_map(|cluster| match &cluster.transport {
        Transport::Tls(client) => Some(client.as_ref().map(|client| &client.spec)),
        Transport::Cleartext => None,
    });
    let client = clusters.next().unwrap();
    assert_eq!(clusters.next(), None);
    client
}

#[test]
fn upstreams_are_connected_to_as_the_context_says() {
    let to = |fields: &str, more: &str| {
        let mapping = mapping("m", &format!("hostname: '*', prefix: /, {fields}"));
        resolved(&[LISTENER, &mapping, more].concat())
    };
    let (ir, problems) = to("service: https://q", "");
    assert_eq!((client(&ir), problems.len()), (Some(&ClientSpec::default()), 0));
    let sni = |fields: &str, more: &str| client(&to(fields, more).0).unwrap().sni.clone();
    let named = "service: q, tls: c";
    assert_eq!(sni("service: https://q, host_rewrite: 'q.com:99'", ""), Some("q.com".into()));
    assert_eq!(sni("service: https://q, host_rewrite: '10.0.0.1'", ""), None);
    assert_eq!(
        sni("service: q, tls: c, host_rewrite: q.com", &context("c", "sni: r.com")),
        Some("r.com".into())
    );

    let secrets = certificate("a", &MADE) + &secret("ca", &[("tls.crt", &AUTHORITY)]);
    let with = |fields: &str| to(named, &(context("c", fields) + &secrets));
    let (ir, problems) =
        with("secret: a, ca_secret: ca, min_tls_version: v1.3, alpn_protocols: http/1.1");
    assert_eq!(problems.0, []);
    let spec = client(&ir).unwrap();
    assert!(spec.identity.is_some() && spec.authorities.is_some() && !spec.checks_name);
    assert_eq!((spec.parameters.min_version, spec.alpn.len()), (Some(Version::V1_3), 1));
    // Without a certificate of its own, which Emissary refuses.
    let (ir, problems) = with("ca_secret: ca, sni: a.com");
    assert_eq!(problems.0, []);
    assert!(client(&ir).unwrap().checks_name);
    for fields in
        ["secret: gone", "ca_secret: gone", "max_tls_version: v1.0", "cert_chain_file: /x"]
    {
        let (ir, problems) = with(fields);
        assert_eq!(client(&ir), None, "{fields}");
        let last = problems.0.last().unwrap();
        assert_eq!(
            (&*last.object.name, &*last.path, last.severity),
            ("m", "spec.tls", Severity::Warning)
        );
    }
    let (_, problems) = with("sni: '-'");
    assert_eq!(problems.0[0].reason, "BadValue");
    // Of its own namespace before any other.
    let two = context("c", "sni: own.com") + &context("aaa/c", "sni: other.com");
    assert_eq!(sni(named, &two), Some("own.com".into()));
    assert_eq!(sni(named, &context("aaa/c", "sni: other.com")), Some("other.com".into()));
}

#[test]
fn a_changed_secret_makes_new_clusters_and_chains_only() {
    let yaml = [
        HTTPS,
        &host("h", "hostname: a.com, tlsSecret: {name: s}"),
        &host("i", "hostname: b.com, tlsSecret: {name: t}"),
        &mapping("up", "hostname: '*', prefix: /up/, service: q, tls: c"),
        &mapping("plain", "hostname: '*', prefix: /p/, service: p"),
        &context("c", "secret: s"),
        &certificate("s", &MADE),
        &certificate("t", &MADE),
    ]
    .concat();
    let mut snapshot = snapshot_of(settings(), &yaml);
    let mut memo = Memo::default();
    let (before, problems) = resolve(&snapshot, &mut memo);
    assert_eq!(problems.0, []);
    let renewed = snapshot_of(settings(), &certificate("s", &OTHER));
    snapshot.insert(Arc::clone(renewed.objects().next().unwrap()));
    let (after, _) = resolve(&snapshot, &mut memo);
    assert_eq!(shown(&before), ["a.com: a.com", "b.com: a.com"]);
    assert_eq!(shown(&after), ["a.com: b.com", "b.com: a.com"]);
    let server = |ir: &Ir| Arc::clone(ir.listeners[0].tls[1].termination.as_ref().unwrap());
    assert!(Arc::ptr_eq(&server(&before), &server(&after)));
    let name = "cluster_q_otls_c_default";
    assert!(!Arc::ptr_eq(&before.clusters[name], &after.clusters[name]));
    let names = |ir: &Ir| client(ir).unwrap().identity.as_ref().unwrap().names[0].to_string();
    assert_eq!((names(&before), names(&after)), ("a.com".into(), "b.com".into()));
    let name = "cluster_p_default";
    assert!(Arc::ptr_eq(&before.clusters[name], &after.clusters[name]));
}

#[test]
fn tcp_mappings_are_terminated_by_a_host_or_a_context() {
    let tcp = "apiVersion: getambassador.io/v3alpha1\nkind: TCPMapping\nmetadata: {name: t}\n\
               spec: {port: 8443, host: t.com, service: 'q:99'}\n---\n";
    let secrets = certificate("a", &MADE) + &certificate("b", &OTHER);
    let with = |more: &str| {
        let (ir, _) = https(&[tcp, &secrets, more]);
        let is_tcp = |chain: &&TlsChain| chain.tcp.is_some();
        assert!(chains(&ir).iter().filter(|chain| is_tcp(chain)).count() <= 1);
        shown(&ir)
    };
    let star = host("star", "hostname: '*', tlsSecret: {name: b}");
    let own = host("own", "hostname: t.com, tlsSecret: {name: a}");
    assert_eq!(with(&star), ["t.com: b.com", "*: b.com"]);
    assert_eq!(with(&(star.clone() + &own)), ["t.com: a.com", "*: b.com"]);
    let plain = host("plain", "hostname: t.com");
    assert_eq!(with(&(star.clone() + &plain)), ["t.com: b.com", "*: b.com"]);
    // It would ask for certificates: nobody else is asked for none in its place.
    let strict = host("own", "hostname: t.com, tlsSecret: {name: a}, tls: {ca_secret: gone}");
    assert_eq!(with(&(star + &strict)), ["t.com: -", "*: b.com"]);
    let listed = context("c", "hosts: [t.com], secret: a, alpn_protocols: 'h2'");
    assert_eq!(with(&(plain.clone() + &listed)), ["t.com: a.com"]);
    assert_eq!(with(&(plain + &context("c", "hosts: ['*.com'], secret: a"))), Vec::<String>::new());
    let (ir, _) = https(&[tcp, &secrets, &listed]);
    // What is inside is not HTTP: everything may be offered.
    assert_eq!(termination(&ir).spec.alpn, ["h2".into()]);
}

#[test]
fn the_secrets_that_objects_name_are_known_before_they_are_there() {
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i, \
                   annotations: {kubernetes.io/ingress.class: ambassador}}\n\
                   spec: {tls: [{hosts: [i.com], secretName: of-ingress}]}\n---\n";
    let yaml = [
        context("c", "secret: of-context.there, ca_secret: ca"),
        context("plain", "secret: a.b, secret_namespacing: false, crl_secret: crl"),
        context("others", "secret: not-ours, ambassador_id: [other]"),
        host(
            "a",
            "hostname: a.com, tlsSecret: {name: of-host, namespace: far}, tls: {ca_secret: x}",
        ),
        "---\n".to_owned(),
        ingress.to_owned(),
    ];
    let snapshot = snapshot_of(settings(), &yaml.concat());
    let named: Vec<String> = secrets(&snapshot).iter().map(ToString::to_string).collect();
    let expected = [
        "default/a.b",
        "default/ca",
        "default/crl",
        "default/fallback-self-signed-cert",
        "default/of-ingress",
        "default/x",
        "far/of-host",
        "there/of-context",
    ];
    assert_eq!(named, expected.map(|name| format!("Secret {name}")));
}
