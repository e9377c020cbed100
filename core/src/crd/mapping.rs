// SPDX-License-Identifier: Apache-2.0
//! Mapping: which requests, to which service, changed how. Field names are Emissary's.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use super::decode::{At, Context, Decode, Unwritten, choice, record};
use super::node::Node;

record! {
    #[derive(Default)]
    /// A route as written; `Option` where absence is not the same as a default.
    pub struct Mapping {
        pub prefix: String,
        pub prefix_exact: bool,
        pub prefix_regex: bool,
        pub case_sensitive: Option<bool>,
        pub service: String,
        pub hostname: Option<String>,
        pub host: Option<String>,
        pub host_regex: bool,
        pub precedence: Option<i64>,
        /// `Some("")`: leave the path alone.
        pub rewrite: Option<String>,
        pub weight: Option<i64>,
        pub bypass_auth: Option<bool>,
        pub timeout_ms: Option<u64>,
        pub connect_timeout_ms: Option<u64>,
    }
    dead {
        "modules" => "Emissary never read it; use the Mapping's own fields",
        "envoy_override" => "there is no Envoy configuration to override",
        "v2ExplicitTLS" => "",
    }
    rest MappingRest
}

record! {
    #[derive(Default)]
    /// The fields that most Mappings do without.
    pub struct MappingRest {
        pub headers: BTreeMap<String, String>,
        pub regex_headers: BTreeMap<String, String>,
        pub query_parameters: BTreeMap<String, String>,
        pub regex_query_parameters: BTreeMap<String, String>,
        /// Names that only have to be present.
        pub v2_bool_headers: Vec<String> as "v2BoolHeaders",
        pub v2_bool_query_parameters: Vec<String> as "v2BoolQueryParameters",
        pub method: Option<String>,
        pub method_regex: bool,
        pub regex_rewrite: Option<RegexRewrite>,
        pub host_rewrite: Option<String>,
        pub auto_host_rewrite: bool,
        pub host_redirect: bool,
        pub path_redirect: Option<String>,
        pub prefix_redirect: Option<String>,
        pub regex_redirect: Option<RegexRewrite>,
        pub redirect_response_code: Option<i64>,
        pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
        pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
        pub remove_request_headers: Option<Vec<String>>,
        pub remove_response_headers: Option<Vec<String>>,
        pub add_linkerd_headers: Option<bool>,
        pub shadow: Option<bool>,
        pub cluster_tag: Option<String>,
        pub stats_name: Option<String>,
        pub resolver: Option<String>,
        /// Name of a TLSContext, or `true`/`false` as text (v2).
        pub tls: Option<String>,
        pub grpc: Option<bool>,
        pub enable_ipv4: Option<bool>,
        pub enable_ipv6: Option<bool>,
        pub dns_type: Option<String>,
        pub respect_dns_ttl: Option<bool>,
        pub idle_timeout_ms: Option<u64>,
        pub cluster_idle_timeout_ms: Option<u64>,
        pub cluster_max_connection_lifetime_ms: Option<u64>,
        pub keepalive: Option<Keepalive>,
        pub circuit_breakers: Option<Vec<CircuitBreaker>>,
        pub load_balancer: Option<LoadBalancer>,
        pub health_checks: Option<Vec<HealthCheck>>,
        pub outlier_detection: Option<String>,
        pub retry_policy: Option<Box<RetryPolicy>>,
        pub cors: Option<Box<Cors>>,
        pub allow_upgrade: Vec<String>,
        /// Deprecated. Written at all, whatever it says: WebSocket is allowed.
        pub use_websocket: Option<bool>,
        /// Domain → groups in order.
        pub labels: Option<BTreeMap<String, Vec<LabelGroup>>>,
        pub auth_context_extensions: BTreeMap<String, String>,
        pub error_response_overrides: Option<Vec<ErrorResponseOverride>>,
        pub bypass_error_response_overrides: Option<bool>,
        pub priority: Option<String>,
        pub docs: Option<Box<Docs>>,
    }
}

impl Unwritten for MappingRest {
    fn unwritten() -> &'static Self {
        static UNWRITTEN: LazyLock<MappingRest> = LazyLock::new(MappingRest::default);
        &UNWRITTEN
    }
}

/// All fields are reached as if they stood in one struct.
impl Deref for Mapping {
    type Target = MappingRest;

    fn deref(&self) -> &MappingRest {
        &self.rest
    }
}

impl DerefMut for Mapping {
    fn deref_mut(&mut self) -> &mut MappingRest {
        &mut self.rest
    }
}

record! {
    /// A replacement by regular expression, `\1` for groups.
    pub struct RegexRewrite {
        pub pattern: Option<String>,
        pub substitution: Option<String>,
    }
}

record! {
    /// A header to add; `append` defaults to true.
    pub struct AddedHeader {
        pub value: Option<String>,
        pub append: Option<bool>,
    }
    dead { "v2Representation" => "" }
}

record! {
    /// TCP keep-alive towards the upstream. The Module writes `time`, Mappings `idle_time`.
    pub struct Keepalive {
        pub probes: Option<u32>,
        pub idle_time: Option<u32> as "idle_time" | "time",
        pub interval: Option<u32>,
    }
}

record! {
    pub struct CircuitBreaker {
        pub priority: Option<BreakerPriority>,
        pub max_connections: Option<u32>,
        pub max_pending_requests: Option<u32>,
        pub max_requests: Option<u32>,
        pub max_retries: Option<u32>,
    }
}

choice! {
    pub enum BreakerPriority { Default = "default", High = "high" }
}

record! {
    pub struct LoadBalancer {
        pub policy: LoadBalancerPolicy,
        pub cookie: Option<LoadBalancerCookie>,
        pub header: Option<String>,
        pub source_ip: Option<bool>,
    }
}

choice! {
    pub enum LoadBalancerPolicy {
        LeastRequest = "least_request",
        Maglev = "maglev",
        RingHash = "ring_hash",
        RoundRobin = "round_robin",
    }
}

record! {
    pub struct LoadBalancerCookie {
        pub name: String,
        pub path: Option<String>,
        /// A duration, as `30s`.
        pub ttl: Option<String>,
    }
}

record! {
    /// Times are durations, as `3s`.
    pub struct HealthCheck {
        pub timeout: Option<String>,
        pub interval: Option<String>,
        pub unhealthy_threshold: Option<u32>,
        pub healthy_threshold: Option<u32>,
        pub health_check: Option<HealthCheckKind>,
    }
}

record! {
    /// One of the two is set.
    pub struct HealthCheckKind {
        pub http: Option<HttpHealthCheck>,
        pub grpc: Option<GrpcHealthCheck>,
    }
}

record! {
    pub struct HttpHealthCheck {
        pub path: Option<String>,
        pub hostname: Option<String>,
        pub add_request_headers: BTreeMap<String, AddedHeader>,
        pub remove_request_headers: Vec<String>,
        pub expected_statuses: Vec<StatusRange>,
    }
}

record! {
    /// Both ends belong to it.
    pub struct StatusRange {
        pub min: i64,
        pub max: i64,
    }
}

record! {
    pub struct GrpcHealthCheck {
        pub upstream_name: Option<String>,
        pub authority: Option<String>,
    }
}

record! {
    pub struct RetryPolicy {
        pub retry_on: Option<RetryOn>,
        pub num_retries: Option<u32>,
        /// A duration, as `0.5s`.
        pub per_try_timeout: Option<String>,
    }
}

choice! {
    pub enum RetryOn {
        FiveXx = "5xx",
        ConnectFailure = "connect-failure",
        GatewayError = "gateway-error",
        RefusedStream = "refused-stream",
        Retriable4xx = "retriable-4xx",
        RetriableStatusCodes = "retriable-status-codes",
    }
}

record! {
    pub struct Cors {
        pub origins: Vec<String>,
        pub methods: Vec<String>,
        pub headers: Vec<String>,
        pub credentials: Option<bool>,
        pub exposed_headers: Vec<String>,
        /// Seconds, as text.
        pub max_age: Option<String>,
    }
    dead { "v2CommaSeparatedOrigins" => "" }
}

record! {
    pub struct ErrorResponseOverride {
        pub on_status_code: i64,
        pub body: ErrorResponseBody,
    }
}

record! {
    /// One of the three formats is set.
    pub struct ErrorResponseBody {
        pub text_format: Option<String>,
        pub json_format: Option<BTreeMap<String, String>>,
        pub text_format_source: Option<TextFormatSource>,
        pub content_type: Option<String>,
    }
}

record! {
    pub struct TextFormatSource {
        pub filename: Option<String>,
    }
}

record! {
    pub struct Docs {
        pub path: Option<String>,
        pub url: Option<String>,
        pub ignored: Option<bool>,
        pub display_name: Option<String>,
        pub timeout_ms: Option<u64>,
    }
}

/// One descriptor: a named group of specifiers.
pub type LabelGroup = BTreeMap<String, Vec<LabelSpecifier>>;

/// One entry of a rate-limit descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelSpecifier {
    DestinationCluster { key: String },
    GenericKey { key: Option<String>, value: String },
    RemoteAddress { key: String },
    RequestHeaders { key: String, header_name: String, omit_if_not_present: Option<bool> },
    SourceCluster { key: String },
}

record! {
    pub struct KeyOnly {
        pub key: String,
    }
}

record! {
    pub struct GenericKey {
        pub key: Option<String>,
        pub value: String,
    }
    dead { "v2Shorthand" => "" }
}

record! {
    pub struct RequestHeaders {
        pub key: String,
        pub header_name: String,
        pub omit_if_not_present: Option<bool>,
    }
}

record! {
    pub struct Specifier {
        pub destination_cluster: Option<KeyOnly>,
        pub generic_key: Option<GenericKey>,
        pub remote_address: Option<KeyOnly>,
        pub request_headers: Option<RequestHeaders>,
        pub source_cluster: Option<KeyOnly>,
    }
}

impl Decode for LabelSpecifier {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let known = cx.problems.len();
        let specifier = Specifier::decode(node, at, cx)?;
        let mut found = Vec::with_capacity(1);
        if let Some(KeyOnly { key }) = specifier.destination_cluster {
            found.push(Self::DestinationCluster { key });
        }
        if let Some(GenericKey { key, value }) = specifier.generic_key {
            found.push(Self::GenericKey { key, value });
        }
        if let Some(KeyOnly { key }) = specifier.remote_address {
            found.push(Self::RemoteAddress { key });
        }
        if let Some(RequestHeaders { key, header_name, omit_if_not_present }) =
            specifier.request_headers
        {
            found.push(Self::RequestHeaders { key, header_name, omit_if_not_present });
        }
        if let Some(KeyOnly { key }) = specifier.source_cluster {
            found.push(Self::SourceCluster { key });
        }
        // A specifier that failed above has its problem already.
        if found.len() != 1 && cx.problems.len() == known {
            let message = "a label takes exactly one of source_cluster, destination_cluster, \
                           remote_address, request_headers, generic_key";
            cx.problems.bad_value(&cx.object, at.to_string(), message.into());
        }
        found.pop()
    }
}
