// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::crd::source::{Diagnostic, Style};

fn options() -> Options {
    let environment = [("ZONE", "example.com"), ("W", "10")];
    Options {
        environment: environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Options::default()
    }
}

/// One line per thing found: `Mapping default/a`, `refused Host default/b`, `malformed Syntax`,
/// `foreign apps/v1 Deployment`, each with its problems as `severity path reason`.
fn summary(found: &[Parsed]) -> String {
    let mut out = String::new();
    for parsed in found {
        let problems = match parsed {
            Parsed::Object { object, problems } => {
                assert_eq!(object.meta.object.kind, object.spec.kind());
                out += &object.meta.object.to_string();
                problems
            }
            Parsed::Refused { meta, problems, .. } => {
                out += &format!("refused {}", meta.object);
                problems
            }
            Parsed::Malformed(malformed) => {
                out += &format!("malformed {}\n", malformed.mistake.reason);
                continue;
            }
            Parsed::Foreign { api_version, kind } => {
                out += &format!("foreign {api_version} {kind}\n");
                continue;
            }
        };
        out.push('\n');
        for problem in problems.iter() {
            out += &format!("  {} {} {}\n", problem.severity, problem.path, problem.reason);
        }
    }
    out
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let found = parse("test.yaml", text, &options());
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let summary = summary(&found);
    assert_eq!(lines(&summary), lines(expected.trim()), "{summary}");
}

/// Every problem of a text, rendered.
fn rendered(text: &str) -> String {
    let mut out = String::new();
    for parsed in parse("manifests/quote.yaml", text, &options()) {
        match &parsed {
            Parsed::Object { object, problems } => {
                for problem in problems.iter() {
                    out +=
                        &Diagnostic::of_problem(problem, Some(&object.origin)).render(Style::Plain);
                }
            }
            Parsed::Refused { origin, problems, .. } => {
                for problem in problems.iter() {
                    out += &Diagnostic::of_problem(problem, Some(origin)).render(Style::Plain);
                }
            }
            Parsed::Malformed(malformed) => {
                out += &Diagnostic::of_malformed(malformed).render(Style::Plain);
            }
            Parsed::Foreign { .. } => {}
        }
    }
    out
}

#[track_caller]
fn check_rendered(text: &str, expected: &str) {
    let rendered = rendered(text);
    assert_eq!(rendered.trim(), expected.trim(), "\n{rendered}");
}

#[test]
fn objects_of_all_sorts_come_from_one_stream() {
    check(
        r#"
# nothing but a comment
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: a}
spec: {prefix: /a/, service: a}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: b, namespace: other}
spec: {prefix: /b/, service: 8080, prefx: /c/}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
---
}
---
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
"#,
        "
        Mapping default/a
        refused Mapping other/b
          warning spec.prefx UnknownField
          error spec.service WrongType
        foreign apps/v1 Deployment
        malformed Syntax
        Namespace n
        ",
    );
}

#[test]
fn a_problem_is_shown_with_its_line() {
    check_rendered(
        "apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata:
  name: quote
spec:
  hostname: '*'
  prefx: /back
  service: 8080
  precedence: high
",
        "
warning[UnknownField]: Mapping default/quote: unknown field `prefx` is ignored
  --> manifests/quote.yaml:7:3
   |
 7 |   prefx: /back
   |   ^^^^^
   = help: did you mean `prefix`?
error[MissingField]: Mapping default/quote: the required field `prefix` is missing
  --> manifests/quote.yaml:5:1
   |
 5 | spec:
   | ^^^^
error[WrongType]: Mapping default/quote: expected a string, found a number (8080)
  --> manifests/quote.yaml:8:12
   |
 8 |   service: 8080
   |            ^^^^
   = help: put it in quotes: \"8080\"
error[WrongType]: Mapping default/quote: expected an integer, found the string \"high\"
  --> manifests/quote.yaml:9:15
   |
 9 |   precedence: high
   |               ^^^^
",
    );
}

#[test]
fn text_that_does_not_parse_is_shown_too() {
    check_rendered(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata:\n  name: a\n name: b\n",
        "
error[Syntax]: the document does not parse: while parsing a block mapping, did not find expected key
  --> manifests/quote.yaml:5:2
   |
 5 |  name: b
   |  ^
",
    );
}

/// A spec in which every field is accepted without a word.
#[track_caller]
fn check_accepted(kind: &str, spec: &str) {
    check_spec(kind, spec, "");
}

/// A spec and the problems that it has.
#[track_caller]
fn check_spec(kind: &str, spec: &str, problems: &str) {
    let name = if kind == "Module" { "ambassador" } else { "x" };
    let spec: String = spec.trim().lines().map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{spec}"
    );
    let refused = problems.contains("error ") && kind != "Module";
    let refused = if refused { "refused " } else { "" };
    check(&text, &format!("{refused}{kind} default/{name}\n{}", problems.trim()));
}

#[test]
fn a_mapping_takes_all_its_fields() {
    check_accepted(
        "Mapping",
        r#"
ambassador_id: [default]
prefix: /
prefix_exact: true
prefix_regex: false
case_sensitive: false
service: s
hostname: '*'
host: a
host_regex: true
headers: {x: y}
regex_headers: {x: y}
query_parameters: {x: y}
regex_query_parameters: {x: y}
v2BoolHeaders: [x]
v2BoolQueryParameters: [x]
v2ExplicitTLS: {tls: x, serviceScheme: y}
method: GET
method_regex: false
precedence: -1
rewrite: ""
regex_rewrite: {pattern: x, substitution: y}
host_rewrite: x
auto_host_rewrite: true
host_redirect: true
path_redirect: /x
prefix_redirect: /x
regex_redirect: {pattern: x, substitution: y}
redirect_response_code: 302
add_request_headers: {x: {value: y, append: false, v2Representation: string}}
add_response_headers: {x: {value: y}}
remove_request_headers: [x]
remove_response_headers: [x]
add_linkerd_headers: true
weight: 50
shadow: true
cluster_tag: x
stats_name: x
resolver: endpoint
tls: x
grpc: true
enable_ipv4: true
enable_ipv6: true
dns_type: strict_dns
respect_dns_ttl: true
connect_timeout_ms: 1
timeout_ms: 0
idle_timeout_ms: 1
cluster_idle_timeout_ms: 1
cluster_max_connection_lifetime_ms: 1
keepalive: {probes: 1, idle_time: 1, interval: 1}
circuit_breakers: [{priority: high, max_connections: 1, max_pending_requests: 1, max_requests: 1, max_retries: 1}]
load_balancer: {policy: ring_hash, cookie: {name: x, path: /, ttl: 1s}, header: x, source_ip: false}
health_checks:
- timeout: 1s
  interval: 1s
  unhealthy_threshold: 1
  healthy_threshold: 1
  health_check:
    http: {path: /, hostname: x, add_request_headers: {x: {value: y}}, remove_request_headers: [x], expected_statuses: [{min: 200, max: 299}]}
- health_check: {grpc: {upstream_name: x, authority: y}}
outlier_detection: x
retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 1s}
cors: {origins: [x], methods: [x], headers: [x], credentials: true, exposed_headers: [x], max_age: "1"}
allow_upgrade: [websocket]
use_websocket: true
labels:
  ambassador:
  - g:
    - generic_key: {key: x, value: y}
    - remote_address: {key: remote_address}
    - request_headers: {key: x, header_name: y, omit_if_not_present: true}
    - source_cluster: {key: source_cluster}
    - destination_cluster: {key: destination_cluster}
bypass_auth: true
auth_context_extensions: {x: y}
error_response_overrides:
- on_status_code: 404
  body: {text_format: x, content_type: y}
- on_status_code: 500
  body: {json_format: {x: y}}
- on_status_code: 503
  body: {text_format_source: {filename: x}}
bypass_error_response_overrides: true
priority: HIGH
docs: {path: /, url: x, ignored: true, display_name: x, timeout_ms: 1}
"#,
    );
}

#[test]
fn the_other_kinds_take_all_their_fields() {
    check_accepted(
        "Host",
        "
hostname: a.com
mappingSelector: {matchLabels: {x: y}}
selector: {matchLabels: {x: y}}
tlsSecret: {name: x, namespace: y}
tlsContext: {name: x}
tls: {ca_secret: x, crl_secret: x, certChainFile: x, private_key_file: x, cacert_chain_file: x, alpn_protocols: 'h2,http/1.1', cert_required: true, min_tls_version: v1.2, maxTLSVersion: v1.3, cipher_suites: [x], ecdh_curves: [x], sni: x, redirect_cleartext_from: 80}
requestPolicy: {insecure: {action: Route}}
acmeProvider: {authority: none, email: x, privateKeySecret: {name: x}, registration: x}
",
    );
    check_accepted(
        "Listener",
        "
port: 8443
protocol: HTTPS
protocolStack: [TLS, HTTP, TCP]
securityModel: XFP
hostBinding: {namespace: {from: SELF}, selector: {matchLabels: {x: y}}}
l7Depth: 1
statsPrefix: x
http2MaxConcurrentStreams: 1
",
    );
    check_accepted(
        "TLSContext",
        "
hosts: [x]
secret: x
cert_chain_file: x
private_key_file: x
ca_secret: x
cacert_chain_file: x
crl_secret: x
alpn_protocols: h2
cert_required: true
min_tls_version: v1.0
max_tls_version: v1.3
cipher_suites: [x]
ecdh_curves: [x]
secret_namespacing: true
redirect_cleartext_from: 80
sni: x
",
    );
    check_accepted(
        "TCPMapping",
        "
port: 1
host: x
address: x
service: x
enable_ipv4: true
enable_ipv6: true
circuit_breakers: []
idle_timeout_ms: '5'
resolver: x
tls: x
weight: 1
cluster_tag: x
stats_name: x
",
    );
    check_accepted(
        "AuthService",
        "
auth_service: x
proto: grpc
protocol_version: v3
path_prefix: /
tls: x
timeout_ms: 1
allowed_request_headers: [x]
allowed_authorization_headers: [x]
add_auth_headers: {x: y}
add_linkerd_headers: true
include_body: {max_bytes: 1, allow_partial: true}
allow_request_body: true
failure_mode_allow: true
status_on_error: {code: 503}
stats_name: x
circuit_breakers: []
",
    );
    check_accepted(
        "RateLimitService",
        "
service: x
timeout_ms: 1
domain: x
protocol_version: v3
tls: x
stats_name: x
failure_mode_deny: true
grpc: {use_resource_exhausted_code: true}
",
    );
    check_accepted(
        "TracingService",
        "
driver: zipkin
service: x
sampling: {client: 1, random: 1, overall: 1}
custom_tags: [{tag: x, literal: {value: y}}, {tag: x, environment: {name: y, default_value: z}}, {tag: x, request_header: {name: y}}]
tag_headers: [x]
config: {access_token_file: x, collector_cluster: x, collector_endpoint: x, collector_endpoint_version: HTTP_JSON, collector_hostname: x, propagation_modes: [x], service_name: x, shared_span_context: true, trace_id_128bit: true}
stats_name: x
",
    );
    check_accepted(
        "LogService",
        "
service: x
driver: http
protocol_version: v3
driver_config: {additional_log_headers: [{header_name: x, during_request: true, during_response: true, during_trailer: true}]}
flush_interval_time: 1
flush_interval_byte_size: 1
grpc: true
stats_name: x
",
    );
    check_accepted("KubernetesServiceResolver", "ambassador_id: [x]");
    check_accepted("KubernetesEndpointResolver", "{}");
    check_accepted("ConsulResolver", "address: x\ndatacenter: y");
    check_accepted(
        "DevPortal",
        "
default: true
content: {url: x, branch: x, dir: x}
docs: [{service: x, url: x, timeout_ms: 1}]
selector: {matchNamespaces: [x], matchLabels: {x: y}}
naming_scheme: name.prefix
search: {enabled: true, type: all-content}
preserve_servers: true
",
    );
    check_accepted(
        "RateLimit",
        "
domain: x
limits:
- name: x
  action: Enforce
  pattern: [{x: '*'}]
  rate: 1
  unit: minute
  burstFactor: 1
  injectRequestHeaders: [{name: x, value: y}]
  injectResponseHeaders: [{name: x, value: y}]
  errorResponse: {headers: [{name: x, value: y}], bodyTemplate: x}
",
    );
    check_accepted("Filter", "JWT: {jwksURI: x, anything: 1}");
    check_accepted("Filter", "type: jwt\njwt: {jwksURI: x}");
    check_accepted(
        "FilterPolicy",
        "
rules:
- host: '*'
  path: /x/*
  filters:
  - {name: x, namespace: y, onDeny: break, onAllow: continue, arguments: {scope: [x]}, ifRequestHeader: {name: x, negate: true, value: y, valueRegex: z}}
",
    );
    check_accepted(
        "Module",
        r"
config:
  add_linkerd_headers: true
  admin_port: 1
  allow_chunked_length: true
  buffer: {max_request_bytes: 1}
  buffer_limit_bytes: 1
  circuit_breakers: []
  cluster_idle_timeout_ms: 1
  cluster_max_connection_lifetime_ms: 1
  cluster_request_timeout_ms: 1
  cors: {origins: [x]}
  debug_mode: true
  default_label_domain: x
  default_labels: {x: {defaults: [remote_address]}}
  defaults: {httpmapping: {stats_name: x}, tls_secret_namespacing: true, add_request_headers: {x: y}}
  diagnostics: {enabled: true, allow_non_local: true, prefix: /}
  enable_grpc_http11_bridge: true
  enable_grpc_web: true
  enable_http10: true
  enable_ipv4: true
  enable_ipv6: true
  envoy_log_format: {x: y}
  envoy_log_path: x
  envoy_log_type: json
  error_response_overrides: []
  forward_client_cert_details: SANITIZE_SET
  grpc_stats: {all_methods: true, services: [{name: x, method_names: [y]}], upstream_stats: true}
  gzip: {memory_level: 1, min_content_length: 1, compression_level: BEST, compression_strategy: DEFAULT, window_bits: 9, content_type: [x], disable_on_etag_header: true, remove_accept_encoding_header: true}
  header_case_overrides: [x]
  headers_with_underscores_action: ALLOW
  ip_allow: [{peer: 10.0.0.0/8}]
  ip_deny: [{remote: 10.0.0.0/8}]
  keepalive: {probes: 1, time: 1, interval: 1}
  listener_idle_timeout_ms: 1
  liveness_probe: {enabled: true, prefix: /, rewrite: /, service: x}
  load_balancer: {policy: round_robin}
  lua_scripts: x
  max_request_headers_kb: 1
  merge_slashes: true
  preserve_external_request_id: true
  proper_case: true
  readiness_probe: {enabled: false}
  regex_max_size: 1
  reject_requests_with_escaped_slashes: true
  resolver: endpoint
  retry_policy: {retry_on: 5xx}
  server_name: x
  set_current_client_cert_details: {subject: true, cert: true, chain: true, dns: true, uri: true}
  statsd: {enabled: true}
  strip_matching_host_port: true
  suppress_envoy_headers: true
  use_ambassador_namespace_for_service_resolution: true
  use_remote_address: true
",
    );
}

#[test]
fn kubernetes_kinds_are_read_as_far_as_they_matter() {
    let found = parse(
        "a.yaml",
        r#"
apiVersion: v1
kind: Service
metadata: {name: s, resourceVersion: "7", creationTimestamp: 2020-01-02T03:04:05Z}
spec:
  type: ClusterIP
  clusterIP: 10.0.0.1
  selector: {app: s}
  ports: [{name: http, port: 80, targetPort: web}, {port: 81, targetPort: 8081, nodePort: 3}]
status: {loadBalancer: {}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2], conditions: {ready: true}, zone: a, targetRef: {kind: Pod}}]
ports: [{name: http, port: 8080, protocol: TCP}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: s}
subsets: [{addresses: [{ip: 10.0.0.2}], notReadyAddresses: [{ip: 10.0.0.3}], ports: [{port: 8080}]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i, annotations: {getambassador.io/ambassador-id: me}}
spec:
  ingressClassName: ambassador
  defaultBackend: {service: {name: s, port: {number: 80}}}
  tls: [{hosts: [a.com], secretName: t}]
  rules: [{host: a.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {name: http}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: ambassador}
spec: {controller: getambassador.io/ingress-controller, parameters: {}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {k: v}
"#,
        &Options::default(),
    );
    assert_eq!(
        summary(&found),
        "Service default/s\nEndpointSlice default/s-1\nEndpoints default/s\nIngress default/i\n\
         IngressClass ambassador\nConfigMap default/c\n"
    );
    let object = |i: usize| match &found[i] {
        Parsed::Object { object, .. } => object.clone(),
        other => panic!("{other:?}"),
    };
    let Spec::Service(service) = &object(0).spec else { panic!() };
    assert_eq!(
        service.ports[0].target_port,
        Some(crate::crd::kube::IntOrString::String("web".into()))
    );
    assert_eq!(service.ports[1].target_port, Some(crate::crd::kube::IntOrString::Int(8081)));
    assert_eq!(object(0).meta.created, Some(1_577_934_245));
    assert_eq!(*object(3).meta.ambassador_id, ["me"]);
    let Spec::EndpointSlice(slice) = &object(1).spec else { panic!() };
    assert_eq!(slice.endpoints[0].addresses, ["10.0.0.2"]);
}

#[test]
fn wrong_types_and_values_refuse_their_object() {
    #[track_caller]
    fn check(spec: &str, problem: &str) {
        check_spec("Mapping", &format!("prefix: /\nservice: s\n{spec}"), problem);
    }
    check("prefix_exact: 'true'", "error spec.prefix_exact WrongType");
    check("precedence: 1.5", "error spec.precedence WrongType");
    check("precedence: 99999999999999999999", "error spec.precedence WrongType");
    check("timeout_ms: -1", "error spec.timeout_ms WrongType");
    check("timeout_ms: 1s", "error spec.timeout_ms WrongType");
    check("headers: [x]", "error spec.headers WrongType");
    check("headers: {x-user: 1}", "error spec.headers[\"x-user\"] WrongType");
    check("headers: {x: {}}", "error spec.headers.x WrongType");
    check("allow_upgrade: websocket", "error spec.allow_upgrade WrongType");
    check("remove_request_headers: [a, 2]", "error spec.remove_request_headers[1] WrongType");
    check("cors: x", "error spec.cors WrongType");
    check(
        "circuit_breakers: [{priority: low}]",
        "error spec.circuit_breakers[0].priority BadValue",
    );
    check("retry_policy: {retry_on: 5xxx}", "error spec.retry_policy.retry_on BadValue");
    check("load_balancer: {}", "error spec.load_balancer.policy MissingField");
    check("labels: {d: [{g: [{}]}]}", "error spec.labels.d[0].g[0] BadValue");
    check(
        "labels: {d: [{g: [{remote_address: {key: x}, source_cluster: {key: x}}]}]}",
        "error spec.labels.d[0].g[0] BadValue",
    );
    check(
        "labels: {d: [{g: [{remote_address: {}}]}]}",
        "error spec.labels.d[0].g[0].remote_address.key MissingField",
    );
    check("labels: {d: [{g: 1}]}", "error spec.labels.d[0].g WrongType");
    check(
        "error_response_overrides: [{on_status_code: 404}]",
        "error spec.error_response_overrides[0].body MissingField",
    );
    // Several at once.
    check(
        "cors: x\ntls: 1\nweight: x",
        "error spec.weight WrongType\nerror spec.tls WrongType\nerror spec.cors WrongType",
    );
    check_spec("Mapping", "service: s", "error spec.prefix MissingField");
    check_spec("Mapping", "prefix: /\nservice:", "error spec.service MissingField");
    check_spec(
        "Listener",
        "port: 65536\nsecurityModel: XFP\nhostBinding: {}",
        "error spec.port WrongType",
    );
    check_spec(
        "Listener",
        "port: 80\nsecurityModel: xfp\nhostBinding: {}",
        "error spec.securityModel BadValue",
    );
    check_spec(
        "Listener",
        "port: 80",
        "error spec.securityModel MissingField\nerror spec.hostBinding MissingField",
    );
    check_spec(
        "Host",
        "requestPolicy: {insecure: {action: deny}}",
        "error spec.requestPolicy.insecure.action BadValue",
    );
    check_spec("Filter", "{}", "error spec BadValue");
    check_spec("Filter", "JWT: {}\nExternal: {}", "error spec BadValue");
    check_spec("Filter", "JWT: {}\ntype: external", "error spec BadValue");
    check_spec("TracingService", "driver: x\nservice: s", "error spec.driver BadValue");
    check_spec("RateLimitService", "{}", "error spec.service MissingField");
    check_spec("Mapping", "[]", "error spec WrongType");
}

#[test]
fn null_is_absence_and_bare_yes_is_true() {
    check_accepted(
        "Mapping",
        "prefix: /\nservice: s\nrewrite:\ntimeout_ms: null\nheaders: ~\ngrpc: yes\nshadow: off",
    );
}

#[test]
fn what_has_no_effect_is_said() {
    check_spec(
        "Mapping",
        "prefix: /\nservice: s\nmodules: {}\nenvoy_override: {}\n'x.y': 1\nHeaders: {}",
        "warning spec.modules NoEffect\nwarning spec.envoy_override NoEffect\n\
         warning spec[\"x.y\"] UnknownField\nwarning spec.Headers UnknownField",
    );
    check_spec(
        "Host",
        "hostname: x\npreviewUrl: {enabled: true}",
        "warning spec.previewUrl NoEffect",
    );
    check_spec(
        "Host",
        "mappingSelector: {matchExpressions: []}",
        "warning spec.mappingSelector.matchExpressions NoEffect",
    );
    check_spec(
        "Module",
        "config:\n  xff_num_trusted_hops: 1\n  use_proxy_proto: true\n  tls: {}\n  servername: x",
        "warning spec.config.xff_num_trusted_hops NoEffect\nwarning spec.config.use_proxy_proto NoEffect\n\
         warning spec.config.tls NoEffect\nwarning spec.config.servername UnknownField",
    );
}

#[test]
fn a_module_loses_bad_keys_only() {
    check_spec(
        "Module",
        "config: {server_name: 1, enable_http10: true}",
        "error spec.config.server_name WrongType",
    );
    let text = "{apiVersion: getambassador.io/v3alpha1, kind: Module, metadata: {name: ambassador}, \
                spec: {config: {ip_deny: [{peer: 1}, {remote: 2}], server_name: 1, enable_http10: true}}}";
    let Parsed::Object { object, .. } = parse("a.yaml", text, &options()).remove(0) else {
        panic!()
    };
    let Spec::Module(module) = &object.spec else { panic!() };
    assert_eq!(module.refused_keys, ["ip_deny", "server_name"]);
    assert_eq!(module.config.enable_http10, Some(true));
    assert_eq!(module.config.server_name, None);
    check(
        "{apiVersion: getambassador.io/v3alpha1, kind: Module, metadata: {name: tls}, spec: {config: {server: 1}}}",
        "Module default/tls\n warning  NoEffect",
    );
    check(
        "{apiVersion: getambassador.io/v3alpha1, kind: Module, metadata: {name: ambassador}, spec: {}}",
        "refused Module default/ambassador\n error spec.config MissingField",
    );
}

#[test]
fn kinds_and_versions() {
    let doc = |version: &str, kind: &str| {
        format!(
            "{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, spec: {{prefix: /, service: s}}}}"
        )
    };
    for version in [
        "getambassador.io/v1",
        "getambassador.io/v2",
        "getambassador.io/v3alpha1",
        "x.getambassador.io/v3alpha1",
        "ambassador/v0",
        "ambassador/v1",
        "ambassador/v2",
        "ambassador/v3",
    ] {
        check(&doc(version, "Mapping"), "Mapping default/x");
    }
    check(&doc("getambassador.io/v4", "Mapping"), "malformed UnknownKind");
    check(&doc("getambassador.io/v2", "Maping"), "malformed UnknownKind");
    check(&doc("gateway.getambassador.io/v1alpha1", "Mapping"), "malformed UnknownKind");
    check(&doc("serving.knative.dev/v1", "Service"), "foreign serving.knative.dev/v1 Service");
    check(&doc("other.io/v1", "Mapping"), "foreign other.io/v1 Mapping");
    check(
        "{apiVersion: gateway.getambassador.io/v1alpha1, kind: Filter, metadata: {name: x}, spec: {type: jwt, jwt: {}}}",
        "Filter default/x",
    );
    check("kind: Mapping", "foreign  Mapping");
    check("apiVersion: v1", "malformed NotAnObject");
    check("{apiVersion: v1, kind: [x]}", "malformed NotAnObject");
    check("hello", "malformed NotAnObject");
    check("[a]", "malformed NotAnObject");
    check_rendered(
        "apiVersion: getambassador.io/v3alpha1\nkind: Maping\n",
        "
error[UnknownKind]: there is no kind `Maping` in getambassador.io/v3alpha1
  --> manifests/quote.yaml:2:7
   |
 2 | kind: Maping
   |       ^^^^^^
   = help: did you mean `Mapping`?
",
    );
}

#[test]
fn names_and_namespaces() {
    let doc = |metadata: &str| {
        format!(
            "{{apiVersion: getambassador.io/v3alpha1, kind: Host, metadata: {metadata}, spec: {{}}}}"
        )
    };
    check(&doc("{name: x}"), "Host default/x");
    check(&doc("{name: x, namespace: ''}"), "Host default/x");
    check(&doc("{name: x, namespace: y}"), "Host y/x");
    check(&doc("{}"), "malformed MissingName");
    check(&doc("{name: }"), "malformed MissingName");
    check(&doc("{name: ''}"), "malformed BadName");
    check(&doc("{name: 1}"), "malformed BadName");
    check(&doc("{name: a/b}"), "malformed BadName");
    check(&doc("{name: \"a\\nb\"}"), "malformed BadName");
    check(&doc("{name: x, namespace: 1}"), "malformed BadName");
    check(&doc("[]"), "malformed MissingName");
    check(
        &doc("{name: x, labels: {a: 1}}"),
        "refused Host default/x\n error metadata.labels.a WrongType",
    );
    check("{apiVersion: getambassador.io/v3alpha1, kind: Host}", "malformed MissingName");
    check("{apiVersion: v1, kind: Namespace, metadata: {name: x, namespace: y}}", "Namespace x");
}

#[test]
fn lists_are_their_items() {
    check(
        "
apiVersion: v1
kind: List
items:
- {apiVersion: getambassador.io/v2, kind: Mapping, metadata: {name: a}, spec: {prefix: /, service: s}}
- {apiVersion: getambassador.io/v2, kind: Mapping, metadata: {name: b}, spec: {prefix: 1, service: s}}
- 7
---
apiVersion: getambassador.io/v2
kind: MappingList
items:
- {metadata: {name: c}, spec: {prefix: /, service: s}}
---
{apiVersion: v1, kind: List, items: []}
",
        "
        Mapping default/a
        refused Mapping default/b
          error spec.prefix WrongType
        malformed NotAnObject
        Mapping default/c
        ",
    );
    check_rendered(
        "apiVersion: v1
kind: List
items:
- apiVersion: getambassador.io/v3alpha1
  kind: Mapping
  metadata: {name: b}
  spec:
    prefix: 1
    service: s
",
        "
error[WrongType]: Mapping default/b: expected a string, found a number (1)
  --> manifests/quote.yaml:8:13
   |
 8 |     prefix: 1
   |             ^
   = help: put it in quotes: \"1\"
",
    );
}

#[test]
fn ambassador_ids() {
    #[track_caller]
    fn check(spec: &str, expected: &[&str]) {
        let text = format!(
            "{{apiVersion: getambassador.io/v2, kind: Host, metadata: {{name: x}}, spec: {{{spec}}}}}"
        );
        let Parsed::Object { object, problems } = parse("a", &text, &options()).remove(0) else {
            panic!("{spec}")
        };
        assert!(problems.is_empty());
        assert_eq!(*object.meta.ambassador_id, *expected);
    }
    check("", &["default"]);
    check("ambassador_id: one", &["one"]);
    check("ambassador_id: [one, two]", &["one", "two"]);
    check("ambassadorId: [one]", &["one"]);
    check("ambassador_id: []", &["default"]);
    check("ambassador_id: [--apiVersion-v3alpha1-only--one]", &["one"]);
    check("ambassador_id: [$ZONE]", &["example.com"]);
    check_spec("Host", "ambassador_id: 7", "error spec.ambassador_id WrongType");
    let meta = Meta {
        ambassador_id: ["_automatic_".into()].into(),
        ..Meta::of(Ref::new(Kind::Host, "a", "b"))
    };
    assert!(meta.is_for("anything"));
}

#[test]
fn the_environment_is_seen_in_strings_of_everything_but_secrets() {
    let text = "
{apiVersion: getambassador.io/v3alpha1, kind: Host, metadata: {name: 'h-${W}'}, spec: {hostname: '*.$ZONE'}}
---
{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {k: $ZONE}}
";
    let found = parse("a", text, &options());
    assert_eq!(summary(&found), "Host default/h-10\nSecret default/s\n");
    let Parsed::Object { object, .. } = &found[0] else { panic!() };
    let Spec::Host(host) = &object.spec else { panic!() };
    assert_eq!(host.hostname.as_deref(), Some("*.example.com"));
    let Parsed::Object { object, .. } = &found[1] else { panic!() };
    let Spec::Secret(secret) = &object.spec else { panic!() };
    assert_eq!(&*secret.data["k"].0, b"$ZONE");
}

#[test]
fn secrets_are_decoded_and_never_shown() {
    let text = "apiVersion: v1
kind: Secret
metadata: {name: s}
type: Opaque
data: {a: aGVsbG8=, b: '', hush: aGVsbG8}
stringData: {a: hush-hush, c: 5}
";
    let found = parse("a.yaml", text, &options());
    assert_eq!(
        summary(&found),
        "refused Secret default/s\n  error data.hush BadValue\n  error stringData.c WrongType\n"
    );
    check_rendered(
        text,
        "
error[BadValue]: Secret default/s: the value is not base64
  --> manifests/quote.yaml:5:34
error[WrongType]: Secret default/s: expected a string, found a number
  --> manifests/quote.yaml:6:31
",
    );
    let text = text.replace(", hush: aGVsbG8", "").replace(", c: 5", "");
    let found = parse("a.yaml", &text, &options());
    let Parsed::Object { object, .. } = &found[0] else { panic!("{found:?}") };
    let Spec::Secret(secret) = &object.spec else { panic!() };
    assert_eq!(&*secret.data["a"].0, b"hush-hush");
    assert_eq!(&*secret.data["b"].0, b"");
    let debug = format!("{found:?}");
    assert!(!debug.contains("hush") && !debug.contains("aGVs"), "{debug}");
    // Broken text around a Secret is not shown either.
    for kind in ["kind: Secret", "\"kind\": \"Secret\"", "kind:   'Secret'", "kind: SecretList"] {
        let shown = rendered(&format!("apiVersion: v1\n{kind}\ndata: {{a: hush, }}}}\n"));
        assert!(shown.contains("quote.yaml:3:") && !shown.contains("hush"), "{shown}");
    }
}

#[test]
fn annotations_hold_objects() {
    let text = "
apiVersion: v1
kind: Service
metadata:
  name: s
  namespace: shop
  labels: {app: shop}
  annotations:
    getambassador.io/config: |
      ---
      apiVersion: ambassador/v2
      kind: Mapping
      name: flat
      prefix: /${W}/
      service: s
      headers: {x: true}
      ---
      apiVersion: getambassador.io/v3alpha1
      kind: Mapping
      metadata: {name: full, namespace: other, labels: {own: 'yes'}}
      spec: {prefix: /, service: s}
      ---
      apiVersion: ambassador/v2
      kind: Mapping
      name: bad
      prefix: /
      service: 7
      ---
      apiVersion: ambassador/v2
      kind: Mapping
      name: [
      ---
      {apiVersion: v1, kind: Service, metadata: {name: no}}
spec:
  ports: [{port: 80}]
";
    let found = parse("a.yaml", text, &options());
    assert_eq!(
        summary(&found),
        "Service shop/s
Mapping shop/flat
Mapping other/full
refused Mapping shop/bad
  error spec.service WrongType
malformed Syntax
malformed NotInAnAnnotation
"
    );
    let Parsed::Object { object, .. } = &found[1] else { panic!() };
    assert_eq!(object.meta.labels["app"], "shop");
    let Spec::Mapping(mapping) = &object.spec else { panic!() };
    assert_eq!(mapping.prefix, "/10/");
    assert_eq!(mapping.v2_bool_headers, ["x"]);
    let Parsed::Object { object, .. } = &found[2] else { panic!() };
    assert_eq!(object.meta.labels["own"], "yes");
    check_rendered(
        text,
        "
error[WrongType]: Mapping shop/bad: expected a string, found a number (7)
   --> manifests/quote.yaml:27:16
    |
 27 |       service: 7
    |                ^
    = help: put it in quotes: \"7\"
error[Syntax]: the document does not parse: while parsing a node, did not find expected node content
   --> manifests/quote.yaml:32:7
    |
 32 |       ---
    |       ^
error[NotInAnAnnotation]: a Service cannot be written in an annotation
   --> manifests/quote.yaml:33:30
    |
 33 |       {apiVersion: v1, kind: Service, metadata: {name: no}}
    |                              ^^^^^^^
",
    );
}

#[test]
fn what_did_not_change_keeps_its_identity() {
    let doc = |name: &str, prefix: &str| {
        format!(
            "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {{prefix: {prefix}, service: s}}\n"
        )
    };
    let objects = |file: &File| -> Vec<Arc<Object>> {
        let object = |parsed: &Parsed| match parsed {
            Parsed::Object { object, .. } => Some(object.clone()),
            _ => None,
        };
        file.found().filter_map(object).collect()
    };
    let before =
        File::parse("a", &(doc("a", "/a") + &doc("b", "/b") + &doc("c", "/c")), &options(), None);
    let text = doc("new", "/") + &doc("a", "/a") + &doc("b", "/changed") + &doc("c", "/c");
    let after = File::parse("a", &text, &options(), Some(&before));
    let (before, after) = (objects(&before), objects(&after));
    assert_eq!((before.len(), after.len()), (3, 4));
    assert!(Arc::ptr_eq(&before[0], &after[1]));
    assert!(!Arc::ptr_eq(&before[1], &after[2]));
    assert!(Arc::ptr_eq(&before[2], &after[3]));
    // Its place follows it.
    assert_eq!(after[3].origin.document.as_ref().unwrap().first_line(), 15);
    // Two documents with one text are two.
    let twice = File::parse("a", &(doc("a", "/") + &doc("a", "/")), &options(), None);
    let again = File::parse("a", &(doc("a", "/") + &doc("a", "/")), &options(), Some(&twice));
    let lines: Vec<_> = again.documents.iter().map(|d| d.document.first_line()).collect();
    assert_eq!(lines, [0, 5]);
}

#[test]
fn base64_is_strict() {
    let doc = |value: &str| {
        format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, data: {{k: \"{value}\"}}}}")
    };
    for (text, expected) in [
        ("", ""),
        ("Zg==", "f"),
        ("Zm8=", "fo"),
        ("Zm9v", "foo"),
        ("Zm9vYg==", "foob"),
        ("Zm9v\\nYmFy\\n", "foobar"),
    ] {
        let Parsed::Object { object, .. } = parse("a", &doc(text), &options()).remove(0) else {
            panic!("{text}")
        };
        let Spec::Secret(secret) = &object.spec else { panic!() };
        assert_eq!(&*secret.data["k"].0, expected.as_bytes(), "{text}");
    }
    for text in
        ["Z", "Zg", "Zg=", "Z===", "Zg==Zg==", "Zg=a", "Zm9v=", "====", "Zm 9v", "Zm9-", "Zg==="]
    {
        assert!(matches!(parse("a", &doc(text), &options())[0], Parsed::Refused { .. }), "{text}");
    }
}

#[test]
fn timestamps() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2000-02-29T12:30:15Z", Some(951_827_415)),
        ("2000-02-29T12:30:15.123456Z", Some(951_827_415)),
        ("2000-02-29T14:30:15+02:00", Some(951_827_415)),
        ("1969-12-31T23:59:59Z", Some(-1)),
        ("2026-11-24T20:48:27Z", Some(1_795_553_307)),
        ("2000-02-29 12:30:15Z", None),
        ("2000-13-29T12:30:15Z", None),
        ("2000-02-29T12:30:15", None),
        ("x", None),
        ("éééééééééééé", None),
    ] {
        assert_eq!(timestamp(text), expected, "{text}");
    }
}

/// Documents that are close to objects.
fn near_objects() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let pieces = [
        "apiVersion: getambassador.io/v3alpha1\n",
        "apiVersion: ambassador/v1\n",
        "apiVersion: v1\n",
        "kind: Mapping\n",
        "kind: Host\n",
        "kind: Module\n",
        "kind: Secret\n",
        "kind: Service\n",
        "kind: List\n",
        "items:\n",
        "- ",
        "metadata:\n",
        "  name: x\n",
        "  annotations:\n",
        "    getambassador.io/config: |\n",
        "      kind: Mapping\n",
        "name: x\n",
        "spec:\n",
        "  prefix: /\n",
        "  service: s\n",
        "  labels: {a: [{b: [c]}]}\n",
        "  headers: {a: true}\n",
        "  config:\n",
        "    cors: x\n",
        "data: {a: x}\n",
        "---\n",
        "é",
        "$ZONE",
        "  tls: true\n",
        "{",
        "}",
        "[",
        "]",
        "\"",
    ];
    let piece =
        prop_oneof![proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned), ".{0,4}"];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2048))]

    #[test]
    fn any_text_is_read_and_rendered_without_a_panic(text in near_objects()) {
        rendered(&text);
        for parsed in parse("a", &text, &options()) {
            if let Parsed::Object { object, .. } = parsed {
                crate::crd::source::locate(&object.origin, "spec.prefix[0].x[\"y\"]", crate::crd::source::Part::Value);
            }
        }
    }
}

#[test]
fn an_api_servers_object_is_read_without_a_place() {
    let json = r#"{"metadata": {"name": "m", "namespace": "n", "managedFields": [{"f": {}}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
        "spec": {"prefix": "/", "service": "s", "colour": 1}, "status": {"state": "Running"}}"#;
    let options = Options::default();
    let found = parse_object(json, "getambassador.io/v3alpha1", "Mapping", &options);
    let [Parsed::Object { object, problems }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(object.meta.object.to_string(), "Mapping n/m");
    assert_eq!(object.meta.annotations.keys().collect::<Vec<_>>(), ["a"]);
    assert!(object.origin.document.is_none());
    assert_eq!(problems.0[0].path, "spec.colour");
    let found = parse_object("{\"metadata\": ", "v1", "Service", &options);
    assert!(matches!(&found[..], [Parsed::Malformed(_)]), "{found:?}");
}

/// `kubectl get -o yaml` prints objects as they are stored, in whichever version they were written.
#[test]
fn what_kubectl_prints_has_the_shapes_of_any_version() {
    let object = |metadata: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: m{metadata}}}\n\
             spec: {{prefix: /, service: s, add_response_headers: {{x-a: b}}}}\n"
        )
    };
    let refused = |text: &str| {
        let found = parse("a", text, &Options::default());
        matches!(&found[..], [Parsed::Refused { .. }])
    };
    assert!(refused(&object("")));
    assert!(!refused(&object(", resourceVersion: '7'")));
}
