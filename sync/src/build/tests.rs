// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::path::Path;

use ringway_core::snapshot::Settings;

use super::*;
use crate::store::Store;

const BASE: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: any}
spec: {hostname: '*', requestPolicy: {insecure: {action: Route}}}
";

fn mapping(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}}}\n\
         spec:\n  hostname: '*'\n  service: 127.0.0.1:9\n  prefix: /{name}/\n  {rest}\n"
    )
}

struct Bench {
    store: Store,
    builder: Builder,
}

impl Bench {
    fn new() -> Self {
        let mut store = Store::new(Settings::default(), BTreeMap::new());
        store.set_file(Path::new("base.yaml"), BASE);
        Self { store, builder: Builder::default() }
    }

    fn build(&mut self, text: &str) -> Built {
        self.store.set_file(Path::new("a.yaml"), text);
        let doubtful = self.store.with_errors().clone();
        self.builder.build(self.store.snapshot(), &doubtful, Generation(0)).unwrap()
    }
}

fn routes(built: &Built) -> Vec<String> {
    let mut names: Vec<String> =
        built.table.routes.iter().flatten().map(|r| r.spec().object.name.to_string()).collect();
    names.retain(|name| !name.contains("probe"));
    names.sort();
    names
}

fn timeout(built: &Built, name: &str) -> Option<Duration> {
    let route =
        built.table.routes.iter().flatten().find(|r| &*r.spec().object.name == name).unwrap();
    match &route.action {
        ringway_core::table::Action::Forward(forward) => forward.timeouts.request,
        ringway_core::table::Action::Redirect(_) => panic!("{name} forwards"),
    }
}

#[test]
fn generations_count_what_means_something_new() {
    let mut bench = Bench::new();
    let built = bench.build(&mapping("one", ""));
    assert!(built.is_new);
    assert_eq!(built.table.generation, Generation(1));
    assert!(
        built.problems.iter().all(|p| p.severity > Severity::FailsClosed),
        "{:?}",
        built.problems
    );
    let built = bench.build(&format!("# a comment\n{}", mapping("one", "# another")));
    assert!(!built.is_new);
    assert_eq!(built.table.generation, Generation(1));
    let built = bench.build(&(mapping("one", "") + &mapping("two", "")));
    assert_eq!(built.table.generation, Generation(2));
    assert_eq!(routes(&built), ["one", "two"]);
}

#[test]
fn an_object_that_turns_senseless_serves_as_last_accepted() {
    let mut bench = Bench::new();
    bench.build(&mapping("one", "timeout_ms: 1000"));
    // A regular expression that does not parse is found by resolving.
    let bad = mapping("one", "timeout_ms: 2000\n  regex_rewrite: {pattern: '(', substitution: x}");
    let built = bench.build(&(bad.clone() + &mapping("two", "")));
    let one = Ref::new(ringway_core::name::Kind::Mapping, "default", "one");
    assert_eq!(built.outdated, BTreeSet::from([one.clone()]));
    assert_eq!(timeout(&built, "one"), Some(Duration::from_millis(1000)));
    assert_eq!(routes(&built), ["one", "two"]);
    assert!(built.problems.iter().any(|p| p.object == one && p.severity == Severity::Error));
    // It stays so while others change, and ends when it is mended or gone.
    let built = bench.build(&bad);
    assert_eq!(timeout(&built, "one"), Some(Duration::from_millis(1000)));
    assert_eq!(routes(&built), ["one"]);
    let built = bench.build(&mapping("one", "timeout_ms: 3000"));
    assert!(built.outdated.is_empty());
    assert_eq!(timeout(&built, "one"), Some(Duration::from_millis(3000)));
    let built = bench.build("");
    assert!(routes(&built).is_empty());
    // Forgotten with its deletion.
    let built = bench.build(&bad);
    assert!(built.outdated.is_empty());
    assert_eq!(timeout_or_none(&built), None);
}

fn timeout_or_none(built: &Built) -> Option<Duration> {
    built.table.routes.iter().flatten().find_map(|route| match &route.action {
        ringway_core::table::Action::Forward(f) if &*route.spec().object.name == "one" => {
            f.timeouts.request.filter(|t| *t == Duration::from_millis(1000))
        }
        _ => None,
    })
}

#[test]
fn broken_ip_rules_are_never_replaced_by_their_absence() {
    let module = |rest: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata: {{name: ambassador}}\n\
             spec:\n  config:\n    server_name: x\n    {rest}\n"
        )
    };
    let mut bench = Bench::new();
    bench.build(&module(""));
    let built = bench.build(&module("ip_deny: nonsense"));
    assert!(built.outdated.is_empty(), "{:?}", built.outdated);
    assert!(!built.ir.guards.is_empty(), "it fails closed");
}

/// PEM of a certificate for a name, and of its key.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn secret(name: &str, chain: &str, key: &str) -> String {
    let block = |text: &str| text.replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n  \
         tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        block(chain),
        block(key)
    )
}

fn tls(fields: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: https}}\n\
         spec: {{port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}\n\
         ---\napiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: h}}\n\
         spec: {{hostname: h.com, {fields}}}\n"
    )
}

/// Whose certificate the only chain shows, if any.
fn shown(built: &Built) -> Option<String> {
    let chain = built.ir.listeners.iter().flat_map(|listener| &listener.tls).next().unwrap();
    chain.termination.as_ref().map(|server| server.spec.identity.names[0].to_string())
}

#[test]
fn a_secret_that_turns_senseless_serves_as_last_accepted() {
    let mut bench = Bench::new();
    let ((one, key), (two, other_key)) = (certificate("one"), certificate("two"));
    let host = tls("tlsSecret: {name: s}");
    let mut build =
        |chain: &str, key: &str| bench.build(&(host.clone() + &secret("s", chain, key)));
    assert_eq!(shown(&build(&one, &key)).as_deref(), Some("one"));
    let built = build(&two, &key);
    assert_eq!(shown(&built).as_deref(), Some("one"));
    assert_eq!(built.outdated.iter().map(|name| &*name.name).collect::<Vec<_>>(), ["s"]);
    assert!(built.problems.iter().any(|p| p.reason == "BadSecret"));
    let built = build(&two, &other_key);
    assert_eq!((shown(&built).as_deref(), built.outdated.len()), (Some("two"), 0));
    // Deleted is deleted.
    assert_eq!(shown(&bench.build(&host)), None);
}

/// New authorities that cannot be read do not leave the old ones in force.
#[test]
fn what_guards_has_no_last_accepted_version() {
    let mut bench = Bench::new();
    let (chain, key) = certificate("one");
    let secrets = secret("s", &chain, &key) + &secret("ca", &chain, &key);
    let guarded = |ca: &str| tls(&format!("tlsSecret: {{name: s}}, tls: {{ca_secret: {ca}}}"));
    let refused = |built: &Built| {
        let hosts = built.ir.listeners.iter().flat_map(|listener| &listener.virtual_hosts);
        hosts.filter(|host| host.refusal.is_some()).count() > 0
    };
    let built = bench.build(&(tls("tlsSecret: {name: s}") + &secrets));
    assert_eq!((shown(&built).as_deref(), refused(&built)), (Some("one"), false));
    let built = bench.build(&(guarded("gone") + &secrets));
    assert_eq!((shown(&built), refused(&built), built.outdated.len()), (None, true, 0));
    let built = bench.build(&(guarded("ca") + &secrets));
    assert_eq!((shown(&built).as_deref(), refused(&built)), (Some("one"), false));
    let broken = secret("s", &chain, &key) + &secret("ca", "nonsense", &key);
    let built = bench.build(&(guarded("ca") + &broken));
    assert_eq!((shown(&built), refused(&built)), (None, true));
}

#[test]
fn a_certificate_and_its_key_change_together_however_apart_their_files_do() {
    let mut bench = Bench::new();
    let ((one, key), (two, other_key)) = (certificate("one"), certificate("two"));
    let text = tls("tls: {cert_chain_file: /c, private_key_file: /k}");
    let mut build = |chain: Option<&str>, key: &str| {
        let read = |text: &str| Ok(ringway_core::tls::Pem::from(text.as_bytes()));
        let chain = chain.map_or_else(|| Err("gone".into()), read);
        bench.store.set_files(BTreeMap::from([("/c".into(), chain), ("/k".into(), read(key))]));
        bench.build(&text)
    };
    assert_eq!(shown(&build(Some(&one), &key)).as_deref(), Some("one"));
    for chain in [Some(&*two), None, Some(&two)] {
        let built = build(chain, &key);
        assert_eq!(shown(&built).as_deref(), Some("one"));
        assert_eq!(built.outdated.iter().map(|name| &*name.name).collect::<Vec<_>>(), ["h"]);
    }
    let built = build(Some(&two), &other_key);
    assert_eq!((shown(&built).as_deref(), built.outdated.len()), (Some("two"), 0));
}
