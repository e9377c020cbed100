// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{LISTENER, resolved, routes};
use crate::ir::{AuthorityMatch, InsecureAction, PathMatch};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: q}
spec: {ports: [{port: 8000, name: web}]}
---
";

fn ingress(annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i, annotations: {{{annotations}}}}}\nspec: {{{spec}}}\n---\n"
    )
}

const CLASS: &str = "kubernetes.io/ingress.class: Ambassador";

fn path(path: &str, kind: &str) -> String {
    format!(
        "{{path: {path}, pathType: {kind}, backend: {{service: {{name: q, port: {{name: web}}}}}}}}"
    )
}

#[test]
fn only_ours() {
    let rules = format!("rules: [{{http: {{paths: [{}]}}}}]", path("/a", "Prefix"));
    let count = |annotations: &str, spec: &str, more: &str| {
        let yaml = [LISTENER, SERVICE, &ingress(annotations, spec), more].concat();
        routes(&resolved(&yaml).0).len()
    };
    assert_eq!(count(CLASS, &rules, ""), 1);
    assert_eq!(count("", &rules, ""), 0);
    let class = |controller: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: edge}}\nspec: {{controller: {controller}}}\n"
        )
    };
    let by_class = format!("ingressClassName: edge, {rules}");
    assert_eq!(count("", &by_class, &class("getambassador.io/ingress-controller")), 1);
    assert_eq!(count("", &by_class, &class("k8s.io/ingress-nginx")), 0);
    assert_eq!(count(&format!("{CLASS}, getambassador.io/ambassador-id: other"), &rules, ""), 0);
    assert_eq!(count(&format!("{CLASS}, getambassador.io/ambassador-id: default"), &rules, ""), 1);
}

#[test]
fn paths_hosts_and_ports() {
    let spec = format!(
        "defaultBackend: {{service: {{name: q, port: {{number: 8000}}}}}}, rules: \
         [{{host: '*.x.y', http: {{paths: [{}]}}}}, {{host: foo.com, http: {{paths: [{}]}}}}]",
        path("/a", "Exact"),
        path("/a", "Prefix"),
    );
    let (ir, problems) = resolved(&[LISTENER, SERVICE, &ingress(CLASS, &spec)].concat());
    assert_eq!(problems.0, []);
    assert!(ir.clusters.contains("cluster_q_default_8000_default"), "{:?}", ir.clusters);
    assert_eq!(routes(&ir), ["* /a -> i", "* /a -> i", "* / -> i"]);
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let exact = groups.iter().find(|g| g.rank.precedence == 1).unwrap();
    assert!(matches!(exact.matcher.path, PathMatch::Exact { .. }));
    let Some(AuthorityMatch::Regex(pattern)) = &exact.matcher.authority else { panic!() };
    assert_eq!(pattern.as_str(), r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\.x\.y$");
    assert!(pattern.is_full_match(b"a.x.y"));
    assert!(!pattern.is_full_match(b"a.b.x.y"));
}

#[test]
fn an_unknown_port_refuses_that_path_alone() {
    let spec = format!(
        "rules: [{{http: {{paths: [{}, {}]}}}}]",
        path("/a", "Prefix"),
        path("/b", "Prefix").replace("name: web", "name: nope")
    );
    let (ir, problems) = resolved(&[LISTENER, SERVICE, &ingress(CLASS, &spec)].concat());
    assert_eq!(routes(&ir), ["* /a -> i"]);
    assert_eq!(problems.0[0].path, "spec.rules[0].http.paths[1]");
    assert_eq!(problems.0[0].reason, "NoSuchPort");
}

#[test]
fn tls_makes_hosts_that_take_this_ingress_only() {
    let spec = format!(
        "tls: [{{hosts: [foo.com], secretName: s}}], rules: [{{http: {{paths: [{}]}}}}]",
        path("/a", "Prefix")
    );
    let (ir, _) = resolved(&[LISTENER, SERVICE, &ingress(CLASS, &spec)].concat());
    assert_eq!(routes(&ir), ["foo.com /a -> i"]);
    let host = &ir.listeners[0].virtual_hosts[0];
    assert_eq!(host.insecure, InsecureAction::Route);
    assert_eq!(host.host.as_ref().unwrap().to_string(), "Ingress default/i");
}
