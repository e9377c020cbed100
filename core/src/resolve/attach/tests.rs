// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{LISTENER, mapping, reasons, resolved, routes};
use crate::problem::Severity;

fn host(namespace: &str, name: &str, created: &str, fields: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\n\
         metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}\n\
         spec: {{{fields}}}\n---\n"
    )
}

const OLD: &str = "2020-01-01T00:00:00Z";
const NEW: &str = "2024-01-01T00:00:00Z";

#[track_caller]
fn winner(hosts: &[String], expected: &str, loser: &str) {
    let yaml = LISTENER.to_owned() + &hosts.concat();
    let (ir, problems) = resolved(&yaml);
    let served: Vec<String> = ir.listeners[0]
        .virtual_hosts
        .iter()
        .map(|h| h.host.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(served, [expected]);
    let taken: Vec<String> = problems
        .iter()
        .filter(|p| p.reason == "HostnameTaken" && p.severity == Severity::Error)
        .map(|p| p.object.to_string())
        .collect();
    assert_eq!(taken, [loser]);
}

#[test]
fn of_two_hosts_of_one_name_the_oldest_serves() {
    let name = "hostname: foo.com";
    winner(&[host("a", "h", NEW, name), host("b", "h", OLD, name)], "Host b/h", "Host a/h");
    winner(&[host("a", "h", OLD, name), host("b", "h", NEW, name)], "Host a/h", "Host b/h");
    winner(&[host("b", "h", OLD, name), host("a", "h", OLD, name)], "Host a/h", "Host b/h");
}

#[test]
fn hosts_of_one_name_on_different_listeners_do_not_meet() {
    let listener = |namespace: &str, port: u16| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Listener\n\
             metadata: {{name: l, namespace: {namespace}}}\n\
             spec: {{port: {port}, protocol: HTTP, securityModel: XFP, hostBinding: {{namespace: {{from: SELF}}}}}}\n---\n"
        )
    };
    let yaml = [
        listener("a", 8080),
        listener("b", 8081),
        host("a", "h", OLD, "hostname: foo.com"),
        host("b", "h", NEW, "hostname: foo.com"),
    ]
    .concat();
    let (ir, problems) = resolved(&yaml);
    assert_eq!(reasons(&problems), []);
    assert_eq!(ir.listeners.len(), 2);
    assert!(ir.listeners.iter().all(|l| l.virtual_hosts.len() == 1));
}

#[test]
fn domains_go_from_special_to_general() {
    let hosts = ["*", "*.com", "a.*", "b.com", "*.a.com"];
    let hosts = hosts
        .iter()
        .enumerate()
        .map(|(at, h)| host("default", &format!("h{at}"), OLD, &format!("hostname: '{h}'")));
    let yaml = LISTENER.to_owned()
        + &hosts.collect::<String>()
        + &mapping("m", "hostname: b.com, prefix: /, service: quote");
    let (ir, _) = resolved(&yaml);
    let domains: Vec<&str> = ir.listeners[0].virtual_hosts.iter().map(|h| &*h.domain).collect();
    assert_eq!(domains, ["b.com", "*.a.com", "*.com", "a.*", "*"]);
    // A literal Mapping is on every Host whose glob its name meets.
    assert_eq!(routes(&ir), ["b.com / -> m", "*.com / -> m", "* / -> m"]);
}

#[test]
fn a_host_that_no_listener_binds_says_so() {
    let yaml = LISTENER.replace("from: ALL", "from: SELF")
        + &host("default", "here", OLD, "hostname: a.com")
        + &host("other", "there", OLD, "hostname: b.com");
    let (_, problems) = resolved(&yaml);
    assert_eq!(reasons(&problems), [("there", Severity::Warning, "NoListener")]);
}
