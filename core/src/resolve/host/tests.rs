// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{LISTENER, mapping, only, resolved, routes, settings, snapshot_of};
use super::super::{Memo, resolve};
use crate::ir::InsecureAction;
use crate::snapshot::Settings;

pub(crate) fn host(name: &str, fields: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: {name}}}\nspec: {{{fields}}}\n---\n"
    )
}

/// A Mapping `m` with labels and a hostname (each may be empty).
fn labelled(hostname: &str, labels: &str) -> String {
    let hostname =
        if hostname.is_empty() { String::new() } else { format!("hostname: '{hostname}', ") };
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: m, labels: {{{labels}}}}}\n\
         spec: {{{hostname}prefix: /, service: quote}}\n---\n"
    )
}

#[track_caller]
fn check(selector: &str, hostname: &str, labels: &str, strict: bool, loose: bool) {
    let selector = match selector {
        "" => String::new(),
        labels => format!(", mappingSelector: {{matchLabels: {{{labels}}}}}"),
    };
    let yaml = [
        LISTENER,
        &host("h", &format!("hostname: foo.com{selector}")),
        &labelled(hostname, labels),
    ]
    .concat();
    for (strict_selectors, expected) in [(true, strict), (false, loose)] {
        let settings = Settings { strict_selectors, ..settings() };
        let (ir, problems) = resolve(&snapshot_of(settings, &yaml), &mut Memo::default());
        assert_eq!(routes(&ir).len(), usize::from(expected), "strict: {strict_selectors}");
        let nowhere = problems.iter().filter(|p| p.reason == "RoutedNowhere").count();
        assert_eq!(nowhere, usize::from(!expected), "{problems:?}");
    }
}

#[test]
fn association_matrix() {
    // Host's selector, Mapping's hostname and labels; strict, loose.
    check("", "", "", false, false);
    check("", "foo.com", "", true, true);
    check("", "*", "", true, true);
    check("", "bar.com", "", false, false);
    check("a: '1'", "", "a: '1'", true, true);
    check("a: '1'", "", "a: '2'", false, false);
    check("a: '1'", "", "", false, false);
    check("a: '1'", "foo.com", "a: '1'", true, true);
    check("a: '1'", "foo.com", "a: '2'", false, true);
    check("a: '1'", "bar.com", "a: '1'", false, true);
    check("a: '1'", "bar.com", "", false, false);
    check("a: '1', b: '2'", "", "a: '1', b: '2', c: '3'", true, true);
    check("a: '1', b: '2'", "", "a: '1'", false, true);
}

#[test]
fn what_is_routed_nowhere_says_why() {
    let nowhere = |yaml: &str| {
        let (_, problems) = resolved(&[LISTENER, yaml].concat());
        let problem = only(&problems).clone();
        (problem.path, problem.message, problem.help.unwrap())
    };
    let (path, message, help) =
        nowhere(&[host("h", "hostname: foo.com"), labelled("", "")].concat());
    assert_eq!(path, "");
    assert!(message.contains("no hostname"), "{message}");
    assert_eq!(help, "write `hostname: \"foo.com\"`, or `hostname: \"*\"` for every Host");
    let (path, message, help) =
        nowhere(&[host("h", "hostname: foo.com"), labelled("bar.com", "")].concat());
    assert_eq!(path, "spec.hostname");
    assert!(message.contains("\"bar.com\""), "{message}");
    assert_eq!(help, "there are Hosts for foo.com");
    let selector = "hostname: foo.com, mappingSelector: {matchLabels: {team: red}}";
    let (path, message, help) =
        nowhere(&[host("h", selector), labelled("", "team: blue")].concat());
    assert_eq!(path, "metadata.labels");
    assert!(message.contains("`h`"), "{message}");
    assert_eq!(help, "add the label team: red");
}

#[test]
fn regex_hosts_are_attached_to_every_host() {
    let yaml = [
        LISTENER,
        &host("a", "hostname: a.com"),
        &host("b", "hostname: '*.b.com'"),
        &mapping("m", r"host: '.*\.com', host_regex: true, prefix: /, service: quote"),
    ]
    .concat();
    assert_eq!(routes(&resolved(&yaml).0), ["a.com / -> m", "*.b.com / -> m"]);
}

#[test]
fn fields() {
    let one = |fields: &str| {
        let yaml = [LISTENER, &host("h", fields), &labelled("*", "")].concat();
        let (ir, problems) = resolved(&yaml);
        let hosts = ir.listeners.first().map(|l| l.virtual_hosts.clone()).unwrap_or_default();
        let host = hosts.into_iter().find(|h| h.host.is_some());
        (host, problems)
    };
    let (host, problems) = one("hostname: Foo.COM.");
    assert_eq!(&*host.as_ref().unwrap().domain, "foo.com");
    assert_eq!(host.unwrap().insecure, InsecureAction::Redirect);
    assert_eq!(problems.len(), 0);
    assert_eq!(&*one("selector: {matchLabels: {}}").0.unwrap().domain, "*");
    assert_eq!(&*one("hostname: 'foo.com:8443'").0.unwrap().domain, "foo.com:8443");
    let action = |action: &str| one(&format!("requestPolicy: {{insecure: {{action: {action}}}}}"));
    assert_eq!(action("Route").0.unwrap().insecure, InsecureAction::Route);
    assert_eq!(action("Reject").0.unwrap().insecure, InsecureAction::Reject);
    let (host, problems) = one("hostname: 'foo.*.com'");
    assert!(host.is_none());
    assert_eq!(problems.0[0].reason, "BadHostname");
    let context =
        "apiVersion: getambassador.io/v3alpha1\nkind: TLSContext\nmetadata: {name: c}\nspec: {}\n";
    let conflict = super::tests::host("h", "tlsContext: {name: c}, tls: {sni: x}");
    let (ir, problems) = resolved(&[LISTENER, &conflict, context].concat());
    assert_eq!(ir.listeners, []);
    assert_eq!(problems.0[0].reason, "Conflict");
    let (host, problems) = one("acmeProvider: {authority: 'https://acme'}");
    assert!(host.is_some());
    assert_eq!(only(&problems).reason, "NotServedYet");
    assert_eq!(one("acmeProvider: {authority: none}").1.len(), 0);
}

#[test]
fn no_host_at_all() {
    let mapping = labelled("*", "");
    let (ir, _) = resolved(&[LISTENER, &mapping].concat());
    assert_eq!(ir.listeners[0].virtual_hosts[0].insecure, InsecureAction::Route);
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: fallback-self-signed-cert}\n---\n";
    let (ir, _) = resolved(&[LISTENER, &mapping, secret].concat());
    assert_eq!(ir.listeners[0].virtual_hosts[0].insecure, InsecureAction::Redirect);
    // A Host that is refused opens nothing, neither here nor by the parser.
    for fields in ["hostname: 'a*b'", "requestPolicy: {insecure: {action: Nonsense}}"] {
        let (ir, problems) = resolved(&[LISTENER, &mapping, &host("h", fields)].concat());
        assert_eq!(ir.listeners, [], "{fields}");
        assert!(problems.iter().any(|p| p.reason == "NoHost"), "{problems:?}");
    }
}
