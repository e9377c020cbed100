// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::super::tests::{LISTENER, mapping, settings, snapshot_of};
use super::super::{Memo, resolve};
use crate::ir::{Action, Cluster, Ir};
use crate::policy::balance::{Balancer, HashKey};

const MODULE: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Module
metadata: {name: ambassador, namespace: default}
spec: {config: {load_balancer: {policy: maglev, source_ip: true}}}
---
";

fn ir(yaml: &[&str]) -> (Ir, Vec<String>) {
    let (ir, problems) = resolve(&snapshot_of(settings(), &yaml.concat()), &mut Memo::default());
    (ir, problems.iter().map(|p| format!("{} {}", p.reason, p.path)).collect())
}

fn forwarded(ir: &Ir) -> (Arc<Cluster>, Option<HashKey>) {
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let group = groups.iter().find(|g| &*g.members[0].route.object.name == "m").unwrap();
    let Action::Forward(forward) = &group.members[0].route.action else { panic!() };
    (Arc::clone(&ir.clusters[&*forward.cluster]), forward.hash.as_deref().cloned())
}

#[track_caller]
fn check(fields: &str, cluster: &str, hash: &str) {
    let (ir, problems) =
        ir(&[LISTENER, &mapping("m", &format!("hostname: '*', prefix: /, service: q{fields}"))]);
    assert_eq!(problems, [""; 0], "{fields}");
    let (found, key) = forwarded(&ir);
    assert_eq!(&*found.name, cluster, "{fields}");
    assert_eq!(serde_json::to_string(&key).unwrap(), hash, "{fields}");
}

#[test]
fn policies_with_their_keys() {
    check("", "cluster_q_default", "null");
    check(", load_balancer: {policy: round_robin}", "cluster_q_default", "null");
    check(", load_balancer: {policy: least_request}", "cluster_q_default_least_request", "null");
    check(
        ", load_balancer: {policy: ring_hash, header: X-User}",
        "cluster_q_default_ring_hash",
        r#"{"header":"x-user"}"#,
    );
    check(
        ", load_balancer: {policy: maglev, source_ip: true}",
        "cluster_q_default_maglev",
        r#""source_ip""#,
    );
    check(
        ", load_balancer: {policy: maglev, source_ip: false, cookie: {name: stick}}",
        "cluster_q_default_maglev",
        r#"{"cookie":{"name":"stick"}}"#,
    );
    check(
        ", load_balancer: {policy: ring_hash, cookie: {name: s, path: /a, ttl: 1h30m}}",
        "cluster_q_default_ring_hash",
        r#"{"cookie":{"name":"s","path":"/a","ttl":5400000}}"#,
    );
    check(
        ", load_balancer: {policy: ring_hash, cookie: {name: s, ttl: '0'}}",
        "cluster_q_default_ring_hash",
        r#"{"cookie":{"name":"s","ttl":0}}"#,
    );
}

#[test]
fn the_module_s_is_a_default() {
    let plain = mapping("m", "hostname: '*', prefix: /, service: q");
    let (ir_, problems) = ir(&[LISTENER, MODULE, &plain]);
    assert_eq!(problems, [""; 0]);
    let (cluster, hash) = forwarded(&ir_);
    assert_eq!((cluster.balancer, hash), (Balancer::Maglev, Some(HashKey::SourceIp)));

    let own = "hostname: '*', prefix: /, service: q, load_balancer: {policy: least_request}";
    let (ir_, _) = ir(&[LISTENER, MODULE, &mapping("m", own)]);
    let (cluster, hash) = forwarded(&ir_);
    assert_eq!((cluster.balancer, hash), (Balancer::LeastRequest, None));

    // A mistake in it costs the default, and no Mapping.
    let (ir_, problems) = ir(&[LISTENER, &MODULE.replace("true", "false"), &plain]);
    assert_eq!(problems, ["BadValue spec.config.load_balancer"]);
    assert_eq!(forwarded(&ir_).0.balancer, Balancer::RoundRobin);
}

#[test]
fn one_service_by_two_policies_is_two_clusters() {
    let one = mapping("m", "hostname: '*', prefix: /, service: q");
    let other = "hostname: '*', prefix: /o/, service: q, load_balancer: {policy: least_request}";
    let (ir, problems) = ir(&[LISTENER, &one, &mapping("other", other)]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(forwarded(&ir).0.balancer, Balancer::RoundRobin);
    assert!(ir.clusters.contains("cluster_q_default_least_request"));
}

#[track_caller]
fn refused(balancer: &str, problem: &str) {
    let fields = format!("hostname: '*', prefix: /, service: q, load_balancer: {balancer}");
    let (ir, problems) = ir(&[LISTENER, &mapping("m", &fields)]);
    assert_eq!(problems, [problem], "{balancer}");
    assert!(!ir.clusters.contains("cluster_q_default"), "{balancer}");
}

#[test]
fn mistakes_refuse_the_mapping() {
    let keys = "BadValue spec.load_balancer";
    refused("{policy: ring_hash}", keys);
    refused("{policy: maglev, header: x, source_ip: true}", keys);
    refused("{policy: maglev, source_ip: false}", keys);
    refused("{policy: least_request, header: x}", keys);
    let cookie = |fields: &str| format!("{{policy: ring_hash, cookie: {{{fields}}}}}");
    refused(&cookie("name: a, ttl: soon"), "BadValue spec.load_balancer.cookie.ttl");
    refused(&cookie("name: a, ttl: -1s"), "BadValue spec.load_balancer.cookie.ttl");
    refused(&cookie("name: 'a b'"), "BadValue spec.load_balancer.cookie.name");
    refused(&cookie("name: a, path: '/;x'"), "BadValue spec.load_balancer.cookie.path");
}
