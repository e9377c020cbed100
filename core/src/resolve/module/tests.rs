// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{LISTENER, mapping, only, reasons, resolved};
use crate::ir::settings::{AccessLog, GrpcMethods, Underscores};
use crate::ir::{self, Ir};
use crate::problem::{Problems, Severity};

fn module(config: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Module\nmetadata: {{name: ambassador}}\nspec: {{config: {{{config}}}}}\n---\n"
    )
}

fn with(config: &str, fields: &str) -> (Ir, Problems) {
    let mapping = mapping("m", &format!("hostname: '*', prefix: /a/, service: q{fields}"));
    resolved(&[LISTENER, &module(config), &mapping].concat())
}

fn route(ir: &Ir, name: &str) -> Option<std::sync::Arc<ir::Route>> {
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let route = groups.iter().map(|g| &g.members[0].route);
    route.into_iter().find(|r| &*r.object.name == name).cloned()
}

#[test]
fn settings() {
    let (ir, problems) = with(
        "server_name: mine, use_remote_address: false, enable_http10: true, merge_slashes: true, \
         headers_with_underscores_action: DROP_HEADER, max_request_headers_kb: 96, \
         listener_idle_timeout_ms: 500, buffer: {max_request_bytes: 1000}, \
         strip_matching_host_port: true",
        "",
    );
    assert_eq!(problems.0, []);
    let settings = &ir.settings;
    assert_eq!(&*settings.server_name, "mine");
    assert!(!settings.use_remote_address && settings.enable_http10 && settings.merge_slashes);
    assert_eq!(settings.headers_with_underscores, Underscores::DropHeader);
    assert_eq!(settings.head_bytes_max, 96 * 1024);
    assert_eq!(settings.idle_timeout.as_millis(), 500);
    assert_eq!(settings.body_bytes_max, Some(1000));
    assert!(settings.strip_matching_host_port);
    let (ir, problems) = with("max_request_headers_kb: 9000, server_name: \"a\\nb\"", "");
    assert_eq!(ir.settings, ir::Settings::default().into());
    assert_eq!(problems.len(), 2);
}

#[test]
fn grpc() {
    // Emissary: the key enables, whatever its value.
    let (ir, problems) = with("enable_grpc_web: false, enable_grpc_http11_bridge: false", "");
    assert!(ir.settings.grpc_web && ir.settings.grpc_http1_bridge);
    assert_eq!(ir.settings.grpc_stats, None);
    assert_eq!(problems.len(), 0, "{problems:?}");
    let stats = |fields: &str| {
        let (ir, problems) = with(&format!("grpc_stats: {{{fields}}}"), "");
        assert_eq!(problems.len(), 0, "{problems:?}");
        ir.settings.grpc_stats.clone().unwrap()
    };
    let services =
        "services: [{name: a.B, method_names: [D, C, D]}, {name: e.F, method_names: []}]";
    let listed = stats(services);
    assert!(!listed.upstream);
    for (service, method, counts) in
        [("a.B", "C", true), ("a.B", "D", true), ("a.B", "E", false), ("e.F", "C", false)]
    {
        assert_eq!(listed.methods.contains(service, method), counts, "{service}/{method}");
    }
    let all = stats(&format!("{services}, all_methods: true, upstream_stats: true"));
    assert!(all.upstream && all.methods == GrpcMethods::All && all.methods.contains("x", "y"));
    assert!(!stats("").methods.contains("a.B", "C"));
}

#[test]
fn access_logs() {
    let log = |config: &str| with(config, "").0.settings.access_log.clone();
    let AccessLog::Text(text) = log("envoy_log_format: '%PROTOCOL%'") else { panic!() };
    assert_eq!(text.as_str(), "%PROTOCOL%");
    let AccessLog::Json(keys) = log("envoy_log_type: json") else { panic!() };
    assert_eq!(keys.len(), 22);
    assert_eq!(&*keys[0].0, "start_time");
    assert_eq!(log("envoy_log_type: typed_json"), AccessLog::typed_json());
    let AccessLog::TypedJson(keys) =
        log("envoy_log_type: typed_json, envoy_log_format: {a: '%PROTOCOL%'}")
    else {
        panic!()
    };
    assert_eq!(keys.len(), 1);
    let (ir, problems) = with("envoy_log_format: '%NOPE%'", "");
    assert_eq!(ir.settings, ir::Settings::default().into());
    assert_eq!(only(&problems).reason, "BadFormat");
    let (_, problems) = with("envoy_log_type: json, envoy_log_format: text", "");
    assert_eq!(only(&problems).reason, "WrongType");
}

#[test]
fn defaults_of_mappings() {
    let config = "cluster_request_timeout_ms: 7, add_linkerd_headers: true, enable_ipv6: true, \
                  keepalive: {time: 5}, cluster_idle_timeout_ms: 8, defaults: {httpmapping: \
                  {add_request_headers: {x: {value: y}}, remove_response_headers: [z], stats_name: s}}";
    let (ir, problems) = with(config, "");
    assert_eq!(problems.0, []);
    let found = route(&ir, "m").unwrap();
    let names: Vec<&str> = found.request_headers.add.iter().map(|a| &*a.name).collect();
    assert_eq!(names, ["x", "l5d-dst-override"]);
    assert_eq!(&*found.response_headers.drop[0], "z");
    let ir::Action::Forward(forward) = &found.action else { panic!() };
    assert_eq!(forward.timeouts.request.unwrap().as_millis(), 7);
    let cluster = &ir.clusters[&*forward.cluster];
    assert_eq!(&*cluster.stats_name, "s");
    assert_eq!(cluster.keepalive.unwrap().idle_s, Some(5));
    assert_eq!(cluster.idle_timeout.unwrap().as_millis(), 8);
    assert!(matches!(cluster.source, ir::EndpointSource::Dns { ipv4: true, ipv6: true, .. }));
    // An empty map switches a default off.
    let off = ", add_request_headers: {}, add_linkerd_headers: false, remove_response_headers: []";
    let found = route(&with(config, off).0, "m").unwrap();
    assert!(found.request_headers.is_empty() && found.response_headers.is_empty());
}

#[test]
fn the_first_by_namespace_counts() {
    let other = module("server_name: other")
        .replace("{name: ambassador}", "{name: ambassador, namespace: zzz}");
    let (ir, problems) = resolved(&[LISTENER, &other, &module("server_name: mine")].concat());
    assert_eq!(&*ir.settings.server_name, "mine");
    assert_eq!(reasons(&problems), [("ambassador", Severity::Error, "Conflict")]);
    assert_eq!(&*only(&problems).object.namespace, "zzz");
}

#[test]
fn an_unknown_resolver_is_told_once_and_not_used() {
    let (ir, problems) = with("resolver: nope", "");
    assert!(route(&ir, "m").is_some());
    assert_eq!(only(&problems).path, "spec.config.resolver");
}

#[test]
fn what_is_not_enforced_yet_is_named() {
    for key in
        ["gzip: {}", "lua_scripts: x", "cors: {origins: [a]}", "retry_policy: {retry_on: 5xx}"]
    {
        let (ir, problems) = with(key, "");
        assert!(route(&ir, "m").is_some());
        let problem = only(&problems);
        assert_eq!(
            (problem.severity, problem.reason),
            (Severity::Warning, "NotEnforcedYet"),
            "{key}"
        );
    }
}

#[test]
fn probes() {
    let path = |ir: &Ir, name: &str| {
        let groups = &ir.listeners[0].virtual_hosts[0].groups;
        let group = groups.iter().find(|g| &*g.members[0].route.object.name == name)?;
        Some(group.rank.path.to_string())
    };
    let (live, ready) = ("internal_liveness_probe_mapping", "internal_readiness_probe_mapping");
    let (ir, _) = with("", "");
    assert_eq!(path(&ir, live).as_deref(), Some("/ambassador/v0/check_alive"));
    assert_eq!(path(&ir, ready).as_deref(), Some("/ambassador/v0/check_ready"));
    assert_eq!(path(&ir, "internal_diagnostics_probe_mapping"), None);
    let probe = route(&ir, live).unwrap();
    assert!(probe.always && probe.unguarded);
    let (ir, _) = with(
        "liveness_probe: {enabled: false}, readiness_probe: {enabled: true, prefix: /ready}, \
         diagnostics: {allow_non_local: true}",
        "",
    );
    assert_eq!(path(&ir, live), None);
    assert_eq!(path(&ir, ready).as_deref(), Some("/ready"));
    assert!(path(&ir, "internal_diagnostics_probe_mapping").is_some());
}
