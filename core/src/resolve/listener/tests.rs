// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{mapping, reasons, resolved, settings, snapshot_of};
use super::super::{Memo, resolve};
use crate::ir::Protocol::{self, Http, Proxy, Tcp, Tls};
use crate::problem::Severity;
use crate::snapshot::Settings;

const ALL: &str = "securityModel: XFP, hostBinding: {namespace: {from: ALL}}";

fn listener(name: &str, fields: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: {name}}}\nspec: {{{fields}}}\n---\n"
    )
}

#[track_caller]
fn stack(protocol: &str, expected: &[Protocol], stats_prefix: &str) {
    let (ir, problems) = resolved(&listener("l", &format!("port: 8443, {protocol}, {ALL}")));
    assert_eq!(ir.listeners[0].stack, expected, "{problems:?}");
    assert_eq!(&*ir.listeners[0].stats_prefix, stats_prefix);
    assert_eq!(ir.listeners[0].address, "0.0.0.0:8443".parse().unwrap());
}

#[test]
fn stacks() {
    stack("protocol: HTTP", &[Http, Tcp], "ingress_http");
    stack("protocol: HTTPS", &[Tls, Http, Tcp], "ingress_https");
    stack("protocolStack: [HTTP, TCP], protocol: HTTPS", &[Http, Tcp], "ingress_http");
    stack("protocol: HTTPPROXY", &[Proxy, Http, Tcp], "ingress_http");
    // Emissary has TLS first, which no balancer sends.
    stack("protocol: HTTPSPROXY", &[Proxy, Tls, Http, Tcp], "ingress_https");
    stack("protocolStack: [TLS, PROXY, HTTP, TCP]", &[Tls, Proxy, Http, Tcp], "ingress_https");
    stack("protocol: HTTP, statsPrefix: mine", &[Http, Tcp], "mine");
}

#[track_caller]
fn refused(fields: &str, reason: &str) {
    let (ir, problems) = resolved(&listener("l", fields));
    assert_eq!(ir.listeners, [], "{fields}");
    assert_eq!(problems.0[0].reason, reason, "{problems:?}");
    assert_eq!(problems.0[0].severity, Severity::Error);
}

#[test]
fn streams_of_http2() {
    let streams = |fields: &str| {
        let fields = format!("port: 1, protocol: HTTP, {fields}{ALL}");
        let (ir, problems) = resolved(&listener("l", &fields));
        let said: Vec<_> = problems.iter().map(|p| p.reason).collect();
        (ir.listeners[0].http2_streams_max, said.join(" "))
    };
    assert_eq!(streams("").0, None);
    let (max, said) = streams("http2MaxConcurrentStreams: 10, ");
    assert_eq!((max, said.as_str()), (Some(10), ""));
    for bad in ["0", "2147483648"] {
        let (max, said) = streams(&format!("http2MaxConcurrentStreams: {bad}, "));
        assert_eq!((max, said.contains("BadValue")), (None, true), "{said}");
    }
}

#[test]
fn refusals() {
    refused(&format!("port: 1, {ALL}"), "MissingField");
    refused(&format!("port: 1, protocol: UDP, {ALL}"), "BadStack");
    refused(&format!("port: 1, protocolStack: [HTTP], {ALL}"), "BadStack");
    refused(&format!("port: 1, protocolStack: [HTTP, HTTP, TCP], {ALL}"), "BadStack");
    refused(&format!("port: 0, protocol: HTTP, {ALL}"), "BadValue");
    refused("port: 1, protocol: HTTP, securityModel: XFP, hostBinding: {}", "MissingField");
}

#[test]
fn http3_is_not_served_yet() {
    let yaml = listener("l", &format!("port: 1, protocolStack: [TLS, HTTP, UDP], {ALL}"));
    let (ir, problems) = resolved(&yaml);
    assert_eq!(ir.listeners, []);
    assert_eq!(reasons(&problems), [("l", Severity::Warning, "NotServedYet")]);
}

#[test]
fn of_two_on_one_address_the_first_by_name_serves() {
    let yaml = listener("b", &format!("port: 1, protocol: HTTP, {ALL}"))
        + &listener("a", &format!("port: 1, protocol: HTTPS, {ALL}"))
        + &listener("udp", &format!("port: 1, protocolStack: [TLS, HTTP, UDP], {ALL}"));
    let (ir, problems) = resolved(&yaml);
    assert_eq!(ir.listeners.len(), 1);
    assert_eq!(&*ir.listeners[0].object.name, "a");
    let expected =
        [("b", Severity::Error, "AddressTaken"), ("udp", Severity::Warning, "NotServedYet")];
    assert_eq!(reasons(&problems), expected);
}

/// The Hosts that a binding takes, of four.
#[track_caller]
fn binds(binding: &str, expected: &[&str]) {
    let mut yaml = listener(
        "l",
        &format!("port: 1, protocol: HTTP, securityModel: XFP, hostBinding: {binding}"),
    );
    for (name, namespace, labels) in
        [("a", "default", ""), ("b", "default", "x: y"), ("c", "other", ""), ("d", "other", "x: y")]
    {
        yaml.push_str(&format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Host\n\
             metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n\
             spec: {{hostname: {name}.com}}\n---\n"
        ));
    }
    let (ir, _) = resolved(&yaml);
    let hosts = &ir.listeners[0].virtual_hosts;
    let names: Vec<&str> = hosts.iter().map(|h| &*h.host.as_ref().unwrap().name).collect();
    assert_eq!(names, expected, "{binding}");
}

#[test]
fn host_binding() {
    binds("{namespace: {from: ALL}}", &["a", "b", "c", "d"]);
    binds("{namespace: {from: SELF}}", &["a", "b"]);
    binds("{selector: {matchLabels: {x: y}}}", &["b"]);
    binds("{namespace: {from: ALL}, selector: {matchLabels: {x: y}}}", &["b", "d"]);
    binds("{namespace: {from: SELECTOR}}", &["a", "b"]);
}

#[test]
fn without_any() {
    let quote = mapping("m", "hostname: '*', prefix: /, service: quote");
    let (ir, problems) = resolved(&quote);
    assert_eq!(ir.listeners, []);
    assert_eq!(reasons(&problems), [("*", Severity::Warning, "NoListener")]);
    let settings = Settings { default_listeners: true, ..settings() };
    let (ir, problems) = resolve(&snapshot_of(settings, &quote), &mut Memo::default());
    assert_eq!(reasons(&problems), []);
    let served: Vec<_> = ir.listeners.iter().map(|l| (l.address.port(), l.stack.clone())).collect();
    assert_eq!(served, [(8080, vec![Http, Tcp]), (8443, vec![Tls, Http, Tcp])]);
}

#[test]
fn binding_no_host_disables_it_unless_a_tcp_mapping_has_its_port() {
    let yaml = listener(
        "l",
        "port: 6379, protocol: TCP, securityModel: XFP, hostBinding: {selector: {matchLabels: {x: y}}}",
    );
    let (_, problems) = resolved(&yaml);
    assert!(reasons(&problems).contains(&("l", Severity::Error, "NoHost")), "{problems:?}");
    let tcp = "apiVersion: getambassador.io/v3alpha1\nkind: TCPMapping\nmetadata: {name: t}\n\
               spec: {port: 6379, service: redis}\n";
    let (ir, problems) = resolved(&(yaml + tcp));
    assert_eq!(reasons(&problems), []);
    assert_eq!(ir.listeners[0].stack, [Tcp]);
}
