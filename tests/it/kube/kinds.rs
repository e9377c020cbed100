// SPDX-License-Identifier: Apache-2.0
//! Every kind there is applied, changed and deleted, while requests come.

use ringway_core::crd::schema::DEFINITIONS;
use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{Cluster, await_status};
use ringway_tests::load::Backend;
use ringway_tests::manifest::{listener, mapping, module, service, slice};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};

use super::{base, pod, under_load};

/// What is seen from outside of an object that is not there, is applied, and is changed.
struct Case {
    kind: &'static str,
    applied: String,
    changed: String,
    see: Box<dyn Fn(&Gateway) -> String>,
    seen: [&'static str; 3],
}

fn emissary(kind: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: {kind}
metadata: {{name: tried}}
spec: {{{spec}}}
"
    )
}

/// The answer to a request: its status, who answered, and a header.
fn answer(
    port: u16,
    path: &'static str,
    host: &'static str,
    header: &'static str,
) -> Box<dyn Fn(&Gateway) -> String> {
    Box::new(move |gateway| match gateway.get(port, path, host) {
        Ok(answer) => {
            let backend = answer.seen().and_then(|seen| Some(seen["backend"].as_str()?.to_owned()));
            let parts = [Some(answer.status.to_string()), backend, answer.header(header)];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        Err(_) => "nothing".into(),
    })
}

/// Kinds that change nothing by themselves, or nothing yet: with the two texts that they are
/// applied and changed with. That they are read is seen from what is counted.
const SILENT: [(&str, &str, &str); 11] = [
    ("ConsulResolver", "address: 'c:8500', datacenter: a", "address: 'c:8500', datacenter: b"),
    ("DevPortal", "default: true", "default: false"),
    ("Filter", "JWT: {jwksURI: 'https://a.example/'}", "JWT: {jwksURI: 'https://b.example/'}"),
    ("KubernetesEndpointResolver", "ambassador_id: [default]", "ambassador_id: [default, b]"),
    ("KubernetesServiceResolver", "ambassador_id: [default]", "ambassador_id: [default, b]"),
    ("LogService", "service: s, driver: http", "service: t, driver: http"),
    ("RateLimit", "domain: a, limits: []", "domain: b, limits: []"),
    ("RateLimitService", "service: s", "service: t"),
    ("TLSContext", "alpn_protocols: h2", "alpn_protocols: http/1.1"),
    ("TracingService", "service: s, driver: zipkin", "service: t, driver: zipkin"),
    ("FilterPolicy", "rules: []", "rules: [{host: none.example, path: /a, filters: []}]"),
];

/// An Ingress that leads to the Service `fixed`.
fn ingress(name: &str, path: &str, class: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  ingressClassName: {class}
  rules:
  - http:
      paths:
      - {{path: {path}, pathType: Prefix, backend: {{service: {{name: fixed, port: {{number: 80}}}}}}}}
"
    )
}

/// A class that the gateway takes for its own.
fn class(name: &str, note: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}, annotations: {{note: {note}}}}}
spec: {{controller: getambassador.io/ingress-controller}}
"
    )
}

fn cases(namespace: &str, one: &Upstream, two: &Upstream) -> Vec<Case> {
    let to = |upstream: &Upstream| format!("service: \"{}\"", upstream.address());
    let of = |backend: &Upstream| {
        emissary("Mapping", &format!("hostname: '*', prefix: /m/, {}", to(backend)))
    };
    let host = |action: &str| {
        emissary("Host", &format!("hostname: h, requestPolicy: {{insecure: {{action: {action}}}}}"))
    };
    let listens = |port: u16| {
        let binding = "hostBinding: {namespace: {from: ALL}}";
        emissary(
            "Listener",
            &format!("port: {port}, protocol: HTTP, securityModel: XFP, {binding}"),
        )
    };
    let tcp = |backend: &Upstream| emissary("TCPMapping", &format!("port: 9000, {}", to(backend)));
    let guard =
        |id: &str| emissary("AuthService", &format!("auth_service: s, ambassador_id: [{id}]"));
    let class = |note: &str| class(namespace, note);
    let ours = |path: &str| ingress("tried", path, &format!("{namespace}-kept"));
    let case = |kind, applied, changed, see, seen| Case { kind, applied, changed, see, seen };
    let at = |path, header| answer(8080, path, "a", header);
    vec![
        case("Mapping", of(one), of(two), at("/m/", ""), ["404", "200 one", "200 two"]),
        case(
            "Host",
            host("Redirect"),
            host("Reject"),
            answer(8080, "/quote/", "h", ""),
            ["200 one", "301", "404"],
        ),
        case(
            "Listener",
            listens(8081),
            listens(8082),
            Box::new(|gateway| {
                format!("{:?}", [8081, 8082].map(|port| gateway.client(port).is_ok()))
            }),
            ["[false, false]", "[true, false]", "[false, true]"],
        ),
        case(
            "Module",
            module("server_name: mine"),
            module("server_name: yours"),
            at("/quote/", "server"),
            ["200 one envoy", "200 one mine", "200 one yours"],
        ),
        case(
            "AuthService",
            guard("default"),
            guard("other"),
            at("/quote/", ""),
            ["200 one", "500", "200 one"],
        ),
        case(
            "TCPMapping",
            tcp(one),
            tcp(two),
            answer(9000, "/", "a", ""),
            ["nothing", "200 one", "200 two"],
        ),
        case(
            "EndpointSlice",
            slice("there", &[one.address()]),
            slice("there", &[two.address()]),
            at("/there/", ""),
            ["503", "200 one", "200 two"],
        ),
        case(
            "Service",
            service("later"),
            service("later").replace("name: later", "name: later, labels: {a: b}"),
            at("/later/", ""),
            ["503", "200 one", "200 one"],
        ),
        case("IngressClass", class("a"), class("b"), at("/c/", ""), ["404", "200 one", "200 one"]),
        case("Ingress", ours("/i/"), ours("/j/"), at("/i/", ""), ["404", "200 one", "404"]),
    ]
}

#[test]
fn every_kind_comes_changes_and_goes_while_requests_come() {
    let Some(cluster) = Cluster::begin("kinds") else { return };
    let steady = Backend::start().unwrap();
    let (one, two) = (pod("one"), pod("two"));
    let mut always = base(&one.address());
    let load = format!("prefix: /load/, service: \"{}\", bypass_auth: true", steady.address());
    always += &mapping("load", &load);
    always += &mapping("there", "prefix: /there/, service: there");
    always += &mapping("later", "prefix: /later/, service: later");
    always += &(service("there") + &slice("later", &[one.address()]));
    always += &(service("fixed") + &slice("fixed", &[one.address()]));
    always += &ingress("classed", "/c/", &cluster.namespace);
    always += &class(&format!("{}-kept", cluster.namespace), "always");
    always += &listener(9000).replace("protocol: HTTP", "protocol: TCP");
    cluster.apply(&always);
    // So that nothing but what is applied here is told of.
    let mut options = cluster.options();
    options.args.push("--update-status=false".into());
    let gateway = Gateway::start("", &options).unwrap();
    await_status(&gateway, 8080, "/quote/", 200);
    let cases = cases(&cluster.namespace, &one, &two);
    let tried = cases.iter().map(|case| case.kind).chain(SILENT.map(|(kind, ..)| kind));
    let tried: Vec<&str> = tried.collect();
    for definition in DEFINITIONS {
        assert!(tried.contains(&definition.kind.as_str()), "{} is not tried", definition.plural);
    }
    under_load(&gateway, || {
        for case in &cases {
            let sees = |step: usize, what: &str| {
                let mut last = String::new();
                let end = std::time::Instant::now() + PATIENCE;
                while std::time::Instant::now() < end {
                    last = (case.see)(&gateway);
                    if last == case.seen[step] {
                        return;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                panic!("{} {what}: {last:?}, not {:?}", case.kind, case.seen[step]);
            };
            sees(0, "before");
            cluster.apply(&case.applied);
            sees(1, "applied");
            cluster.apply(&case.changed);
            sees(2, "changed");
            cluster.delete(&case.changed);
            sees(0, "deleted");
        }
        for (kind, applied, changed) in SILENT {
            let state = || {
                let labels = format!("kind=\"{kind}\",state=\"accepted\"");
                let there = gateway.metric("ringway_config_objects", &labels).unwrap();
                (there, gateway.metric("ringway_watch_events_total", "").unwrap())
            };
            let (_, before) = state();
            cluster.apply(&emissary(kind, applied));
            wait_until(&format!("{kind} is there"), PATIENCE, || state().0 == 1.0);
            let (_, first) = state();
            assert!(first > before, "{kind}");
            cluster.apply(&emissary(kind, changed));
            wait_until(&format!("{kind} is told of"), PATIENCE, || state().1 > first);
            cluster.delete(&emissary(kind, changed));
            wait_until(&format!("{kind} is gone"), PATIENCE, || state().0 == 0.0);
        }
    });
}
