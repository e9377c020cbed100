// SPDX-License-Identifier: Apache-2.0
//! The Ambassador Module: gateway-wide defaults.
//!
//! Its configuration is untyped to an API server, so one bad key does not refuse the rest: the key
//! is left out and named in `refused_keys`, and who depends on it decides what that means.

use std::collections::BTreeMap;

use super::decode::{At, Context, Decode, Untyped, choice, record};
use super::mapping::{
    AddedHeader, CircuitBreaker, Cors, ErrorResponseOverride, Keepalive, LabelSpecifier,
    LoadBalancer, RetryPolicy,
};
use super::node::Node;
use crate::problem::Severity;

/// A Module. Only the one named `ambassador` has a meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    pub config: Box<Config>,
    /// Keys of `spec.config` that were written but could not be read.
    pub refused_keys: Vec<String>,
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
}

record! {
    pub struct Config {
        pub add_linkerd_headers: Option<bool>,
        pub admin_port: Option<u16>,
        pub allow_chunked_length: Option<bool>,
        pub buffer: Option<Buffer>,
        pub buffer_limit_bytes: Option<u64>,
        pub circuit_breakers: Option<Vec<CircuitBreaker>>,
        pub cluster_idle_timeout_ms: Option<u64>,
        pub cluster_max_connection_lifetime_ms: Option<u64>,
        pub cluster_request_timeout_ms: Option<u64>,
        pub cors: Option<Cors>,
        pub debug_mode: Option<bool>,
        pub default_label_domain: Option<String>,
        pub default_labels: BTreeMap<String, DefaultLabels>,
        pub defaults: Option<Defaults>,
        pub diagnostics: Option<Diagnostics>,
        pub enable_grpc_http11_bridge: Option<bool>,
        pub enable_grpc_web: Option<bool>,
        pub enable_http10: Option<bool>,
        pub enable_ipv4: Option<bool>,
        pub enable_ipv6: Option<bool>,
        pub envoy_log_format: Option<LogFormat>,
        pub envoy_log_path: Option<String>,
        pub envoy_log_type: Option<LogType>,
        pub error_response_overrides: Option<Vec<ErrorResponseOverride>>,
        pub forward_client_cert_details: Option<ClientCertDetails>,
        pub grpc_stats: Option<GrpcStats>,
        pub gzip: Option<Gzip>,
        pub header_case_overrides: Option<Vec<String>>,
        pub headers_with_underscores_action: Option<Underscores>,
        pub ip_allow: Option<Vec<IpMatch>>,
        pub ip_deny: Option<Vec<IpMatch>>,
        pub keepalive: Option<Keepalive>,
        pub listener_idle_timeout_ms: Option<u64>,
        pub liveness_probe: Option<Probe>,
        pub load_balancer: Option<LoadBalancer>,
        pub lua_scripts: Option<String>,
        pub max_request_headers_kb: Option<u32>,
        pub merge_slashes: Option<bool>,
        pub preserve_external_request_id: Option<bool>,
        pub proper_case: Option<bool>,
        pub readiness_probe: Option<Probe>,
        pub regex_max_size: Option<u64>,
        pub reject_requests_with_escaped_slashes: Option<bool>,
        pub resolver: Option<String>,
        pub retry_policy: Option<RetryPolicy>,
        pub server_name: Option<String>,
        pub set_current_client_cert_details: Option<CurrentClientCertDetails>,
        pub statsd: Option<Untyped>,
        pub strip_matching_host_port: Option<bool>,
        pub suppress_envoy_headers: Option<bool>,
        pub use_ambassador_namespace_for_service_resolution: Option<bool>,
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
        pub max_request_bytes: u64,
    }
    dead { "max_request_time" => "Emissary no longer reads it" }
}

record! {
    /// Labels before those of each Mapping.
    pub struct DefaultLabels {
        pub defaults: Vec<LabelSpecifier>,
    }
}

record! {
    pub struct Defaults {
        pub httpmapping: Option<MappingDefaults>,
        pub tls_secret_namespacing: Option<bool>,
        /// Defaults outside of any kind apply to all kinds.
        pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
        pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
        pub remove_request_headers: Option<Vec<String>>,
        pub remove_response_headers: Option<Vec<String>>,
        pub stats_name: Option<String>,
    }
}

record! {
    pub struct MappingDefaults {
        pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
        pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
        pub remove_request_headers: Option<Vec<String>>,
        pub remove_response_headers: Option<Vec<String>>,
        pub stats_name: Option<String>,
    }
}

record! {
    pub struct Diagnostics {
        pub enabled: Option<bool>,
        pub allow_non_local: Option<bool>,
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

impl Decode for LogFormat {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        match node.as_str() {
            Some(text) => Some(Self::Text(text.to_owned())),
            None => BTreeMap::decode(node, at, cx).map(Self::Json),
        }
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
        pub subject: Option<bool>,
        pub cert: Option<bool>,
        pub chain: Option<bool>,
        pub dns: Option<bool>,
        pub uri: Option<bool>,
    }
}

record! {
    pub struct GrpcStats {
        pub all_methods: Option<bool>,
        pub services: Vec<GrpcStatsService>,
        pub upstream_stats: Option<bool>,
    }
}

record! {
    pub struct GrpcStatsService {
        pub name: String,
        pub method_names: Vec<String>,
    }
}

record! {
    pub struct Gzip {
        pub memory_level: Option<u32>,
        pub min_content_length: Option<u64>,
        pub compression_level: Option<String>,
        pub compression_strategy: Option<String>,
        pub window_bits: Option<u32>,
        pub content_type: Option<Vec<String>>,
        pub disable_on_etag_header: Option<bool>,
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
        pub peer: Option<String>,
        pub remote: Option<String>,
    }
}

record! {
    pub struct Probe {
        pub enabled: Option<bool>,
        pub prefix: Option<String>,
        pub rewrite: Option<String>,
        pub service: Option<String>,
    }
}
