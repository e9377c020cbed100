// SPDX-License-Identifier: Apache-2.0
//! The Ambassador Module: gateway-wide defaults.
//!
//! Its configuration is untyped to an API server, so one bad key does not refuse the rest: the key
//! is left out and named in `refused_keys`, and who depends on it decides what that means.

use std::collections::BTreeMap;

use super::decode::{At, Context, Decode, Untyped, choice, record};
use super::encode::Encode;
use super::mapping::{
    AddedHeader, CircuitBreaker, Cors, ErrorResponseOverride, Keepalive, LabelSpecifier,
    LoadBalancer, RetryPolicy,
};
use super::node::Node;
use super::schema::{Form, Record};
use crate::problem::Severity;

/// A Module. Only the one named `ambassador` has a meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    pub config: Box<Config>,
    /// Keys of `spec.config` that were written but could not be read.
    pub refused_keys: Vec<String>,
}

impl Encode for Module {
    fn encode(&self) -> serde_json::Value {
        serde_json::json!({"config": self.config.encode()})
    }
}

impl Decode for Module {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let Some(config) = node.get("config").filter(|config| !config.is_null()) else {
            cx.problems.missing_field(&cx.object, at.field("config").to_string(), "config");
            return None;
        };
        if &*cx.object.name != "ambassador" {
            cx.problems.module_without_meaning(&cx.object);
            let empty = Config::decode(&Node::empty_map(), at, cx)?;
            return Some(Self { config: Box::new(empty), refused_keys: Vec::new() });
        }
        let before = cx.problems.len();
        let at_config = at.field("config");
        let config = Config::decode(config, &at_config, cx)?;
        let prefix = format!("{at_config}.");
        let mut refused_keys = Vec::new();
        for problem in cx.problems.0[before..].iter().filter(|p| p.severity == Severity::Error) {
            let Some(rest) = problem.path.strip_prefix(&prefix) else { continue };
            let key: String = rest.chars().take_while(|c| !matches!(c, '.' | '[')).collect();
            if !refused_keys.contains(&key) {
                refused_keys.push(key);
            }
        }
        Some(Self { config: Box::new(config), refused_keys })
    }

    fn form() -> Form {
        let mut spec = Record::default();
        spec.declare(&["config"], &["The settings."], Config::form(), true);
        Form::Record(spec)
    }
}

record! {
    pub struct Config {
        /// Tells Linkerd services by the header `l5d-dst-override`.
        pub add_linkerd_headers: Option<bool>,
        /// Port of Envoy's own admin interface.
        pub admin_port: Option<u16>,
        /// Requests may have Content-Length and chunks.
        pub allow_chunked_length: Option<bool>,
        /// Requests are read as a whole before they go on.
        pub buffer: Option<Buffer>,
        /// Bytes per connection that may wait. Default: 1 MiB.
        pub buffer_limit_bytes: Option<u64>,
        /// Of Mappings that have none.
        pub circuit_breakers: Option<Vec<CircuitBreaker>>,
        /// Of Mappings that have none.
        pub cluster_idle_timeout_ms: Option<u64>,
        /// Of Mappings that have none.
        pub cluster_max_connection_lifetime_ms: Option<u64>,
        /// `timeout_ms` of Mappings that have none. Default: 3000.
        pub cluster_request_timeout_ms: Option<u64>,
        /// Of Mappings that have none.
        pub cors: Option<Cors>,
        /// Says more in the log.
        pub debug_mode: Option<bool>,
        /// Domain of labels. Default: `ambassador`.
        pub default_label_domain: Option<String>,
        /// Labels before those of each Mapping, by domain.
        pub default_labels: BTreeMap<String, DefaultLabels>,
        /// Defaults of Mappings.
        pub defaults: Option<Defaults>,
        /// The diagnostics page.
        pub diagnostics: Option<Diagnostics>,
        /// Written at all: HTTP/1.1 clients may call gRPC services.
        pub enable_grpc_http11_bridge: Option<bool>,
        /// Written at all: gRPC-Web clients are served.
        pub enable_grpc_web: Option<bool>,
        /// HTTP/1.0 clients are served; otherwise they get 426.
        pub enable_http10: Option<bool>,
        /// Names are resolved to IPv4 addresses. Default: true.
        pub enable_ipv4: Option<bool>,
        /// Names are resolved to IPv6 addresses. Default: false.
        pub enable_ipv6: Option<bool>,
        /// The line of the access log, or the keys of its JSON objects.
        pub envoy_log_format: Option<LogFormat>,
        /// Where the access log goes.
        pub envoy_log_path: Option<String>,
        /// `text` (default), `json` or `typed_json`.
        pub envoy_log_type: Option<LogType>,
        /// Bodies for answers with certain error codes.
        pub error_response_overrides: Option<Vec<ErrorResponseOverride>>,
        /// What becomes of X-Forwarded-Client-Cert.
        pub forward_client_cert_details: Option<ClientCertDetails>,
        /// Metrics of gRPC methods.
        pub grpc_stats: Option<GrpcStats>,
        /// Answers are compressed.
        pub gzip: Option<Gzip>,
        /// Response headers in just this spelling.
        pub header_case_overrides: Option<Vec<String>>,
        /// What becomes of request headers with an underscore. Default: `ALLOW`.
        pub headers_with_underscores_action: Option<Underscores>,
        /// Only these addresses may ask.
        pub ip_allow: Option<Vec<IpMatch>>,
        /// These addresses may not ask.
        pub ip_deny: Option<Vec<IpMatch>>,
        /// TCP keep-alive on connections to services whose Mappings have none.
        pub keepalive: Option<Keepalive>,
        /// Milliseconds after which an idle client's connection is closed.
        pub listener_idle_timeout_ms: Option<u64>,
        /// Mapping of `/ambassador/v0/check_alive` on every Host.
        pub liveness_probe: Option<Probe>,
        /// Of Mappings that have none.
        pub load_balancer: Option<LoadBalancer>,
        /// Lua that every request runs through.
        pub lua_scripts: Option<String>,
        /// KiB that the headers of a request may take. Default: 60.
        pub max_request_headers_kb: Option<u32>,
        /// Adjacent slashes of a path are one.
        pub merge_slashes: Option<bool>,
        /// The client's X-Request-Id is kept.
        pub preserve_external_request_id: Option<bool>,
        /// Response headers begin their words in upper case.
        pub proper_case: Option<bool>,
        /// Mapping of `/ambassador/v0/check_ready` on every Host.
        pub readiness_probe: Option<Probe>,
        /// How complex a regular expression may be. Default: 200.
        pub regex_max_size: Option<u64>,
        /// A path with %2F or %5C is 400.
        pub reject_requests_with_escaped_slashes: Option<bool>,
        /// Name of the resolver of Mappings that name none.
        pub resolver: Option<String>,
        /// Of Mappings that have none.
        pub retry_policy: Option<RetryPolicy>,
        /// The Server header of answers. Default: `envoy`.
        pub server_name: Option<String>,
        /// What X-Forwarded-Client-Cert says.
        pub set_current_client_cert_details: Option<CurrentClientCertDetails>,
        /// Metrics by statsd.
        pub statsd: Option<Untyped>,
        /// The Listener's own port is taken off the Host header.
        pub strip_matching_host_port: Option<bool>,
        /// No `x-envoy-` headers are added.
        pub suppress_envoy_headers: Option<bool>,
        /// Services without a namespace are of the gateway's.
        pub use_ambassador_namespace_for_service_resolution: Option<bool>,
        /// The client's address is that of the connection. Default: true.
        pub use_remote_address: Option<bool>,
    }
    dead {
        "auth_enabled" => "use an AuthService",
        "envoy_validation_timeout" => "there is no Envoy to wait for; remove it",
        "prune_unreachable_routes" => "unreachable routes are always pruned; remove it",
        "regex_type" => "regular expressions are always RE2; remove it",
        "runtime_flags" => "there is no Envoy runtime to set; remove it",
        "service_port" => "give the port a Listener",
        "tls" => "use a Host with a tlsSecret, or a TLSContext",
        "use_proxy_proto" => "give the Listener a protocolStack that begins with PROXY",
        "x_forwarded_proto_redirect" => "set requestPolicy.insecure.action: Redirect on the Host",
        "xff_num_trusted_hops" => "set l7Depth on the Listener",
    }
}

record! {
    pub struct Buffer {
        /// Bytes that a body may have; more is 413.
        pub max_request_bytes: u64,
    }
    dead { "max_request_time" => "Emissary no longer reads it" }
}

record! {
    /// Labels before those of each Mapping.
    pub struct DefaultLabels {
        /// The labels.
        pub defaults: Vec<LabelSpecifier>,
    }
}

record! {
    pub struct Defaults {
        /// Of Mappings only; the others are of all kinds.
        pub httpmapping: Option<MappingDefaults>,
        /// Whether a dot in the name of a Secret begins its namespace. Default: true.
        pub tls_secret_namespacing: Option<bool>,
        /// Headers that are added to requests.
        pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
        /// Headers that are added to answers.
        pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
        /// Headers that are taken out of requests.
        pub remove_request_headers: Option<Vec<String>>,
        /// Headers that are taken out of answers.
        pub remove_response_headers: Option<Vec<String>>,
        /// Name of the service in metrics.
        pub stats_name: Option<String>,
    }
}

record! {
    pub struct MappingDefaults {
        /// Headers that are added to requests.
        pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
        /// Headers that are added to answers.
        pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
        /// Headers that are taken out of requests.
        pub remove_request_headers: Option<Vec<String>>,
        /// Headers that are taken out of answers.
        pub remove_response_headers: Option<Vec<String>>,
        /// Name of the service in metrics.
        pub stats_name: Option<String>,
    }
}

record! {
    pub struct Diagnostics {
        /// Whether it is there. Default: true.
        pub enabled: Option<bool>,
        /// Others than this machine may see it.
        pub allow_non_local: Option<bool>,
        /// Its path. Default: `/ambassador/v0/`.
        pub prefix: Option<String>,
    }
}

choice! {
    pub enum LogType { Json = "json", Text = "text", TypedJson = "typed_json" }
}

/// One line of text, or the keys of a JSON object (sorted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json(BTreeMap<String, String>),
    Text(String),
}

impl Encode for LogFormat {
    fn encode(&self) -> serde_json::Value {
        match self {
            Self::Json(keys) => keys.encode(),
            Self::Text(text) => text.encode(),
        }
    }
}

impl Decode for LogFormat {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        match node.as_str() {
            Some(text) => Some(Self::Text(text.to_owned())),
            None => BTreeMap::decode(node, at, cx).map(Self::Json),
        }
    }

    fn form() -> Form {
        Form::Any
    }
}

choice! {
    pub enum ClientCertDetails {
        AlwaysForwardOnly = "ALWAYS_FORWARD_ONLY",
        AppendForward = "APPEND_FORWARD",
        ForwardOnly = "FORWARD_ONLY",
        Sanitize = "SANITIZE",
        SanitizeSet = "SANITIZE_SET",
    }
}

record! {
    pub struct CurrentClientCertDetails {
        /// The subject.
        pub subject: Option<bool>,
        /// The certificate.
        pub cert: Option<bool>,
        /// The chain.
        pub chain: Option<bool>,
        /// The DNS names.
        pub dns: Option<bool>,
        /// The URI.
        pub uri: Option<bool>,
    }
}

record! {
    pub struct GrpcStats {
        /// Of all methods.
        pub all_methods: Option<bool>,
        /// Of these only.
        pub services: Vec<GrpcStatsService>,
        /// With times.
        pub upstream_stats: Option<bool>,
    }
}

record! {
    pub struct GrpcStatsService {
        /// Name of the service.
        pub name: String,
        /// Names of its methods.
        pub method_names: Vec<String>,
    }
}

record! {
    pub struct Gzip {
        /// Memory that is used, 1 to 9.
        pub memory_level: Option<u32>,
        /// Bytes that an answer must have.
        pub min_content_length: Option<u64>,
        /// How hard it tries.
        pub compression_level: Option<String>,
        /// What it tries.
        pub compression_strategy: Option<String>,
        /// How far back it looks.
        pub window_bits: Option<u32>,
        /// Types of answers that are compressed.
        pub content_type: Option<Vec<String>>,
        /// Answers with an ETag are not.
        pub disable_on_etag_header: Option<bool>,
        /// Services do not see that the client takes gzip.
        pub remove_accept_encoding_header: Option<bool>,
    }
}

choice! {
    pub enum Underscores {
        Allow = "ALLOW",
        DropHeader = "DROP_HEADER",
        RejectRequest = "REJECT_REQUEST",
    }
}

record! {
    /// One of the two is set, to a CIDR.
    pub struct IpMatch {
        /// Addresses (CIDR) that the connection comes from.
        pub peer: Option<String>,
        /// Addresses (CIDR) of clients, as trusted proxies say.
        pub remote: Option<String>,
    }
}

record! {
    pub struct Probe {
        /// Whether it is there. Default: true.
        pub enabled: Option<bool>,
        /// Its path.
        pub prefix: Option<String>,
        /// Its path at the service.
        pub rewrite: Option<String>,
        /// Who answers.
        pub service: Option<String>,
    }
}
