// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::super::tests::{LISTENER, mapping, reasons, resolved};
use crate::ir::{EndpointSource, Ir, Protocol};
use crate::problem::Severity::{self, Error, Warning};

fn tcp(name: &str, fields: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: TCPMapping\nmetadata: {{name: {name}}}\nspec: {{{fields}}}\n---\n"
    )
}

fn listener(name: &str, fields: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Listener\nmetadata: {{name: {name}}}\n\
         spec: {{{fields}, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}\n---\n"
    )
}

/// `address stack: from-to cluster, …` of every listener.
fn served(ir: &Ir) -> Vec<String> {
    let listeners = ir.listeners.iter().map(|listener| {
        let members = listener.tcp.iter().flat_map(|tcp| &tcp.members);
        let members: Vec<String> =
            members.map(|m| format!("{}-{} {}", m.from, m.to, m.cluster)).collect();
        format!("{} {:?}: {}", listener.address, listener.stack, members.join(", "))
    });
    listeners.collect()
}

#[track_caller]
fn check(yaml: &str, expected: &[&str], problems: &[(&str, Severity, &'static str)]) -> Ir {
    let (ir, found) = resolved(yaml);
    assert_eq!(served(&ir), expected);
    assert_eq!(reasons(&found), problems, "{found:?}");
    ir
}

#[test]
fn without_a_listener_one_is_made_up() {
    let none = ("*", Warning, "NoListener");
    let yaml = tcp("redis", "port: 6379, service: 'redis:6379'");
    let ir = check(&yaml, &["0.0.0.0:6379 [Tcp]: 0-100 cluster_redis_6379_default"], &[none]);
    assert_eq!(&*ir.listeners[0].stats_prefix, "ingress_tcp_6379");
    assert!(ir.listeners[0].virtual_hosts.is_empty());
    let member = &ir.listeners[0].tcp.as_ref().unwrap().members[0];
    assert_eq!(member.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(&*member.object.name, "redis");

    let yaml = tcp("redis", "port: 6379, service: 'redis:6379', address: 127.0.0.2")
        + &tcp("redis6", "port: 6379, service: 'redis:6379', address: '::1'");
    check(
        &yaml,
        &[
            "127.0.0.2:6379 [Tcp]: 0-100 cluster_redis_6379_default",
            "[::1]:6379 [Tcp]: 0-100 cluster_redis_6379_default",
        ],
        &[none],
    );
    // TLS where any of a port has a host.
    let yaml = tcp("a", "port: 1, service: a") + &tcp("b", "port: 1, service: b, host: foo.com");
    let ir = check(
        &yaml,
        &["0.0.0.0:1 [Tls, Tcp]: 0-100 cluster_a_default"],
        &[none, ("b", Error, "NoTLS")],
    );
    assert_eq!(&*ir.listeners[0].stats_prefix, "ingress_tls_1");
}

#[test]
fn a_listener_on_the_port_is_used() {
    let redis = tcp("redis", "port: 6379, service: redis");
    let yaml = listener("l", "port: 6379, protocol: TCP, statsPrefix: mine") + &redis;
    let ir = check(&yaml, &["0.0.0.0:6379 [Tcp]: 0-100 cluster_redis_default"], &[]);
    assert_eq!(&*ir.listeners[0].stats_prefix, "mine");
    let yaml = listener("l", "port: 6379, protocolStack: [PROXY, TCP]") + &redis;
    check(&yaml, &["0.0.0.0:6379 [Proxy, Tcp]: 0-100 cluster_redis_default"], &[]);
    // At another address it is another's.
    let yaml = listener("l", "port: 6379, protocol: TCP")
        + &tcp("redis", "port: 6379, service: redis, address: 127.0.0.1");
    check(
        &yaml,
        &["127.0.0.1:6379 [Tcp]: 0-100 cluster_redis_default"],
        &[("l", Error, "NoTCPMapping")],
    );
}

#[test]
fn cleartext_of_an_http_port_is_its_too() {
    let yaml = LISTENER.to_owned()
        + &mapping("quote", "hostname: '*', prefix: /, service: quote")
        + &tcp("redis", "port: 8080, service: redis");
    let ir = check(
        &yaml,
        &["0.0.0.0:8080 [Http, Tcp]: 0-100 cluster_redis_default"],
        &[("redis", Warning, "TakesCleartext")],
    );
    assert_eq!(ir.listeners[0].virtual_hosts.len(), 1);
}

#[test]
fn listeners_without_http_serve_no_host() {
    let yaml = listener("l", "port: 1, protocol: TLS")
        + "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {name: h}\nspec: {hostname: foo.com}\n---\n";
    check(&yaml, &[], &[("l", Error, "NoTCPMapping")]);
    let ir = check(
        &(yaml + &tcp("t", "port: 1, service: a")),
        &["0.0.0.0:1 [Tls, Tcp]: 0-100 cluster_a_default"],
        &[],
    );
    assert!(ir.listeners[0].virtual_hosts.is_empty());
}

#[track_caller]
fn shares(weights: &[&str], expected: &[&str], problems: &[(&str, Severity, &'static str)]) {
    let mut yaml = listener("l", "port: 1, protocol: TCP");
    for (name, weight) in ["a", "b", "c"].iter().zip(weights) {
        yaml.push_str(&tcp(name, &format!("port: 1, service: {name}, {weight}")));
    }
    let (ir, found) = resolved(&yaml);
    let members = &ir.listeners[0].tcp.as_ref().unwrap().members;
    let found_shares: Vec<String> =
        members.iter().map(|m| format!("{} {}-{}", m.object.name, m.from, m.to)).collect();
    assert_eq!(found_shares, expected);
    assert_eq!(reasons(&found), problems);
}

#[test]
fn weights_are_what_was_written() {
    shares(&["weight: 30", "weight: 70"], &["a 0-30", "b 30-100"], &[]);
    shares(&["weight: 30"], &["a 0-100"], &[]);
    shares(&["weight: 0"], &["a 0-100"], &[]);
    shares(&["", "weight: 10"], &["b 0-10", "a 10-100"], &[]);
    shares(&["", "", ""], &["a 0-33", "b 33-66", "c 66-100"], &[]);
    shares(&["weight: 60", "weight: 50"], &["a 0-60", "b 60-100"], &[("b", Error, "BadWeight")]);
    shares(&["weight: -1", "weight: 50"], &["a 0-0", "b 0-50"], &[("a", Error, "BadWeight")]);
}

#[test]
fn a_service_is_the_cluster_that_a_mapping_makes_of_it() {
    let yaml = LISTENER.to_owned()
        + &mapping("quote", "hostname: '*', prefix: /, service: 'quote:80'")
        + &listener("l", "port: 1, protocol: TCP")
        + &tcp("a", "port: 1, service: 'quote:80'")
        + &tcp("b", "port: 1, service: 'quote:80', cluster_tag: t, enable_ipv6: true")
        + &tcp("c", "port: 1, service: '10.1.2.3:4', stats_name: s");
    let (ir, problems) = resolved(&yaml);
    assert_eq!(reasons(&problems), []);
    let names: Vec<&str> = ir.clusters.iter().map(|cluster| &*cluster.name).collect();
    assert_eq!(
        names,
        [
            "cluster_10_1_2_3_4_default_sn_s",
            "cluster_127_0_0_1_8877_default",
            "cluster_quote_80_default",
            "cluster_t_quote_80_default_ip46",
        ]
    );
    let address = "10.1.2.3:4".parse().unwrap();
    let plain = &ir.clusters["cluster_10_1_2_3_4_default_sn_s"];
    assert_eq!(plain.source, EndpointSource::Static(vec![address]));
    assert_eq!(&*plain.stats_name, "s");
}

#[track_caller]
fn idle(written: &str, expected: Option<Duration>, problems: &[(&str, Severity, &'static str)]) {
    let yaml = listener("l", "port: 1, protocol: TCP")
        + &tcp("t", &format!("port: 1, service: a, idle_timeout_ms: {written}"));
    let (ir, found) = resolved(&yaml);
    assert_eq!(ir.listeners[0].tcp.as_ref().unwrap().members[0].idle_timeout, expected);
    assert_eq!(reasons(&found), problems);
}

#[test]
fn idle_timeouts_are_strings_or_numbers() {
    let (ms, hour) = (Duration::from_millis, Some(Duration::from_secs(3600)));
    idle("3000", Some(ms(3000)), &[]);
    idle("'3000'", Some(ms(3000)), &[]);
    idle("'0'", None, &[]);
    idle("0", None, &[]);
    idle("30s", hour, &[("t", Error, "BadValue")]);
    idle("-1", hour, &[("t", Error, "BadValue")]);
}

#[track_caller]
fn refused(fields: &str, reason: &'static str) {
    let (ir, found) = resolved(&(listener("l", "port: 1, protocol: TCP") + &tcp("t", fields)));
    assert_eq!(ir.listeners, []);
    assert!(reasons(&found).contains(&("t", Error, reason)), "{found:?}");
}

#[test]
fn refusals() {
    refused("port: 0, service: a", "BadValue");
    refused("port: 1, service: 'a:b'", "BadService");
    refused("port: 1, service: a, address: here", "BadValue");
    refused("port: 1, service: a, host: 'foo.com:1'", "BadHostname");
    refused("port: 1, service: a, host: 'f*o.com'", "BadHostname");
    refused("port: 1, service: a, tls: nobody", "UnknownTLSContext");
    refused("port: 1, service: a, resolver: nobody", "UnknownResolver");
}

#[test]
fn what_has_no_effect_is_said() {
    let yaml = listener("l", "port: 1, protocol: TCP")
        + &tcp("t", "port: 1, service: a, circuit_breakers: [{max_connections: 1}]");
    check(
        &yaml,
        &["0.0.0.0:1 [Tcp]: 0-100 cluster_a_default"],
        &[("t", Warning, "NotEnforcedYet")],
    );
    // A host is known from TLS only.
    let yaml =
        listener("l", "port: 1, protocol: TCP") + &tcp("t", "port: 1, service: a, host: foo.com");
    check(&yaml, &["0.0.0.0:1 [Tcp]: "], &[("t", Error, "NoTLS")]);
}

#[test]
fn udp_listeners_share_the_port_and_carry_none() {
    let yaml = listener("l", "port: 1, protocolStack: [TLS, HTTP, UDP]")
        + &tcp("t", "port: 1, service: a");
    let (ir, found) = resolved(&yaml);
    assert_eq!(served(&ir), ["0.0.0.0:1 [Tcp]: 0-100 cluster_a_default"]);
    assert_eq!(reasons(&found), [("l", Warning, "NotServedYet")]);
    assert_eq!(ir.listeners[0].stack, [Protocol::Tcp]);
}
