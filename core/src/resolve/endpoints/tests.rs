// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{LISTENER, mapping, resolved, settings, snapshot_of};
use super::super::{Memo, resolve};
use crate::ir::EndpointSource;
use crate::snapshot::{ServiceResolution, Settings};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: q, namespace: ns}
spec:
  clusterIP: 10.96.0.1
  ports: [{port: 80, name: web, targetPort: 8080}, {port: 9090, name: admin, targetPort: admin}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: q-1, namespace: ns, labels: {kubernetes.io/service-name: q}}
addressType: IPv4
ports: [{name: web, port: 8080}, {name: admin, port: 9000}]
endpoints:
- {addresses: [10.1.0.2], conditions: {ready: true}}
- {addresses: [10.1.0.1]}
- {addresses: [10.1.0.3], conditions: {ready: false}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: q-2, namespace: ns, labels: {kubernetes.io/service-name: q}}
addressType: IPv4
ports: [{name: web, port: 8081}]
endpoints: [{addresses: [10.1.0.4]}]
---
";

const SINGLE: &str = "
apiVersion: v1
kind: Service
metadata: {name: single}
spec: {ports: [{port: 8000}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: single}
subsets: [{addresses: [{ip: 10.2.0.1}], notReadyAddresses: [{ip: 10.2.0.2}], ports: [{port: 8001}]}]
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Service
metadata: {name: empty}
spec: {ports: [{port: 80}]}
---
";

fn source(fields: &str, settings: Settings) -> (String, usize) {
    let yaml =
        [LISTENER, SERVICE, SINGLE, &mapping("m", &format!("hostname: '*', prefix: /, {fields}"))];
    let (ir, problems) = resolve(&snapshot_of(settings, &yaml.concat()), &mut Memo::default());
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let group = groups.iter().find(|g| &*g.members[0].route.object.name == "m").unwrap();
    let crate::ir::Action::Forward(forward) = &group.members[0].route.action else { panic!() };
    let text = match &ir.clusters[&*forward.cluster].source {
        EndpointSource::Static(all) => format!("static {all:?}"),
        EndpointSource::Dns { name, port, .. } => format!("dns {name}:{port}"),
        EndpointSource::Service { namespace, name, endpoints, .. } => {
            format!("service {namespace}/{name} {endpoints:?}")
        }
    };
    (text, problems.iter().filter(|p| p.reason == "NoSuchPort").count())
}

#[track_caller]
fn check(fields: &str, expected: &str) {
    assert_eq!(source(fields, settings()), (expected.to_owned(), 0), "{fields}");
}

#[test]
fn known_services_give_their_ready_endpoints() {
    let all = "service ns/q [10.1.0.1:8080, 10.1.0.2:8080, 10.1.0.4:8081]";
    check("service: q.ns", all);
    check("service: 'q.ns:80'", all);
    check("service: q.ns.svc.cluster.local", all);
    check("service: q.ns, resolver: endpoint", all);
    check("service: 'q.ns:9090'", "service ns/q [10.1.0.1:9000, 10.1.0.2:9000]");
    // Only a service without a port takes a single port of another number.
    check("service: single", "service default/single [10.2.0.1:8001]");
    check("service: 'single:8000'", "service default/single [10.2.0.1:8001]");
    check("service: empty", "service default/empty []");
}

#[test]
fn a_port_that_a_service_lacks_is_told() {
    assert_eq!(source("service: 'q.ns:81'", settings()), ("service ns/q []".to_owned(), 1));
    assert_eq!(
        source("service: 'single:80'", settings()),
        ("service default/single []".to_owned(), 1)
    );
    let yaml = [LISTENER, SERVICE, &mapping("m", "hostname: '*', prefix: /, service: 'q.ns:81'")];
    let (_, problems) = resolved(&yaml.concat());
    assert_eq!(problems.0[0].help.as_deref(), Some("it has 80 (web), 9090 (admin)"));
}

#[test]
fn everything_else_goes_by_dns_or_directly() {
    check("service: q.other", "dns q.other:80");
    check("service: q.ns.example.com", "dns q.ns.example.com:80");
    check("service: 'outside:8080'", "dns example.com:8080");
    check("service: '10.0.0.1:81'", "static [10.0.0.1:81]");
    check("service: '[::1]:81'", "static [[::1]:81]");
    check("service: localhost", "static [127.0.0.1:80]");
    check("service: q, resolver: consul", "static []");
}

#[test]
fn the_service_resolver_is_emissary_s_way() {
    check("service: q.ns, resolver: kubernetes-service", "static [10.96.0.1:80]");
    check("service: single, resolver: kubernetes-service", "dns single:80");
    let dns = Settings { service_resolution: ServiceResolution::Dns, ..settings() };
    assert_eq!(source("service: q.ns", dns.clone()).0, "static [10.96.0.1:80]");
    assert_eq!(
        source("service: single, resolver: endpoint", dns).0,
        "service default/single [10.2.0.1:8001]"
    );
}

#[test]
fn hand_written_slices_need_no_port_names() {
    let yaml = [
        LISTENER,
        &SERVICE
            .replace("{name: web, port: 8080}, {name: admin, port: 9000}", "{port: 7000}")
            .replace("{name: web, port: 8081}", "{port: 7001}"),
        &mapping("m", "hostname: '*', prefix: /, service: q.ns"),
    ];
    let (ir, _) = resolved(&yaml.concat());
    let EndpointSource::Service { endpoints, .. } = &ir.clusters["cluster_q_ns_default"].source
    else {
        panic!()
    };
    assert_eq!(endpoints.len(), 3);
    assert_eq!(endpoints[0], "10.1.0.1:7000".parse().unwrap());
}

/// Addresses and near ones of the Service `q` with these slices, for a gateway in zone `a`.
fn of_slices(slices: &[String], fields: &str) -> (Vec<String>, Vec<String>) {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: q}\nspec: {ports: [{port: 80}]}\n---\n";
    let slices: Vec<String> = (slices.iter().enumerate())
        .map(|(n, slice)| {
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: q-{n}, labels: {{kubernetes.io/service-name: q}}}}\n\
                 ports: [{{port: 80}}]\n{slice}\n---\n"
            )
        })
        .collect();
    let mapping = mapping("m", &format!("hostname: '*', prefix: /, service: q{fields}"));
    let yaml = [LISTENER, service, &slices.concat(), &mapping].concat();
    let settings = Settings { zone: Some("a".into()), ..settings() };
    let (ir, problems) = resolve(&snapshot_of(settings, &yaml), &mut Memo::default());
    assert!(problems.is_empty(), "{problems:?}");
    let cluster = ir.clusters.iter().find(|c| c.name.starts_with("cluster_q_")).unwrap();
    let EndpointSource::Service { endpoints, near, .. } = &cluster.source else { panic!() };
    let text = |list: &[std::net::SocketAddr]| list.iter().map(|a| a.ip().to_string()).collect();
    (text(endpoints), text(near))
}

fn of_endpoints(endpoints: &str) -> Vec<String> {
    of_slices(&[format!("addressType: IPv4\nendpoints: [{endpoints}]")], "").0
}

#[test]
fn those_that_leave_serve_when_no_other_does() {
    let ready = "{addresses: [10.0.0.1], conditions: {ready: true}}";
    let leaving =
        "{addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}";
    let done =
        "{addresses: [10.0.0.3], conditions: {ready: false, serving: false, terminating: true}}";
    let starting = "{addresses: [10.0.0.4], conditions: {ready: false, serving: true}}";
    let unsaid = "{addresses: [10.0.0.5], conditions: {}}";
    assert_eq!(of_endpoints(&[ready, leaving, done, starting].join(", ")), ["10.0.0.1"]);
    assert_eq!(of_endpoints(&[leaving, done, starting].join(", ")), ["10.0.0.2"]);
    assert_eq!(of_endpoints(&[done, starting].join(", ")), [""; 0]);
    assert_eq!(of_endpoints(&[leaving, unsaid].join(", ")), ["10.0.0.5"]);
}

#[test]
fn a_dual_stack_service_is_reached_by_one_family() {
    let v4 = "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]".to_owned();
    let v6 = "addressType: IPv6\nendpoints: [{addresses: ['fd00::1']}]".to_owned();
    let both = [v4.clone(), v6.clone()];
    assert_eq!(of_slices(&both, "").0, ["10.0.0.1"]);
    assert_eq!(of_slices(&both, ", enable_ipv6: true").0, ["fd00::1"]);
    assert_eq!(of_slices(&both, ", enable_ipv4: false, enable_ipv6: true").0, ["fd00::1"]);
    // What there is, is used.
    assert_eq!(of_slices(&[v6], "").0, ["fd00::1"]);
    assert_eq!(of_slices(&[v4], ", enable_ipv4: false, enable_ipv6: true").0, ["10.0.0.1"]);
    // Names are no endpoints of a Service.
    let fqdn = "addressType: FQDN\nendpoints: [{addresses: [example.com]}]".to_owned();
    assert_eq!(of_slices(&[fqdn], "").0, [""; 0]);
}

#[test]
fn near_is_what_hints_say_else_the_zone() {
    let slice = "addressType: IPv4\nendpoints:\n\
         - {addresses: [10.0.0.1], zone: a}\n\
         - {addresses: [10.0.0.2], zone: b}\n\
         - {addresses: [10.0.0.3]}\n\
         - {addresses: [10.0.0.4], zone: b, hints: {forZones: [{name: c}, {name: a}]}}\n\
         - {addresses: [10.0.0.5], zone: a, hints: {forZones: [{name: b}]}}\n\
         - {addresses: [10.0.0.6], zone: a, hints: {forZones: []}}";
    let (all, near) = of_slices(&[slice.to_owned()], "");
    assert_eq!(all.len(), 6);
    assert_eq!(near, ["10.0.0.1", "10.0.0.4", "10.0.0.6"]);
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_thousands_fit() {
    // Kubernetes puts at most 100 into one slice by default; while it moves one, both have it.
    let slice = |n: u32| {
        let addresses =
            (0..101).map(|k| format!("{{addresses: [10.{}.{}.1]}}", n / 2, n % 2 * 100 + k));
        format!("addressType: IPv4\nendpoints: [{}]", addresses.collect::<Vec<_>>().join(", "))
    };
    let (all, near) = of_slices(&(0..24).map(slice).collect::<Vec<_>>(), "");
    assert_eq!(all.len(), 24 * 100 + 12, "of each pair of slices, one address is in both");
    assert_eq!(near, [""; 0]);
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_port_may_say_that_it_speaks_http_2() {
    use crate::ir::UpstreamProtocol::{self, Http1, Http2};
    let service = |app: &str| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: app}}
spec: {{ports: [{{port: 80, appProtocol: {app}}}, {{port: 81}}]}}
---
"
        )
    };
    let protocol = |app: &str, fields: &str| -> UpstreamProtocol {
        let fields = format!("hostname: '*', prefix: /, {fields}");
        let yaml = [LISTENER, &service(app), &mapping("m", &fields)].concat();
        let (ir, _) = resolve(&snapshot_of(settings(), &yaml), &mut Memo::default());
        // Probes have clusters, too.
        let own = |host: &str| host.starts_with("app") || host.starts_with("other");
        ir.clusters.iter().find(|cluster| own(&cluster.host)).unwrap().protocol
    };
    let h2c = "kubernetes.io/h2c";
    for (app, fields, wanted) in [
        (h2c, "service: app", Http2),
        (h2c, "service: 'app:80'", Http2),
        (h2c, "service: app.default", Http2),
        (h2c, "service: 'app:81'", Http1),
        (h2c, "service: app, grpc: false", Http1),
        // By prior knowledge means over cleartext.
        (h2c, "service: 'https://app:80'", Http1),
        (h2c, "service: other", Http1),
        ("kubernetes.io/ws", "service: app", Http1),
        ("http", "service: app, grpc: true", Http2),
    ] {
        assert_eq!(protocol(app, fields), wanted, "{app}, {fields}");
    }
}
