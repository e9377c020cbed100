// SPDX-License-Identifier: Apache-2.0
//! Mapping: which requests, to which service, changed how. Field names are Emissary's.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;

use super::decode::{At, Context, Decode, Unwritten, choice, record};
use super::encode::Encode;
use super::node::Node;
use super::schema::Form;

record! {
    #[derive(Default)]
    /// A route as written; `Option` where absence is not the same as a default.
    pub struct Mapping {
        /// Paths that begin with this text are taken; with `prefix_exact` or `prefix_regex` the
        /// whole path is meant.
        pub prefix: String,
        /// `prefix` is the whole path.
        pub prefix_exact: bool,
        /// `prefix` is a regular expression (RE2) that must match the whole path.
        pub prefix_regex: bool,
        /// Whether letters of `prefix` count as they are written, upper or lower case. Default:
        /// true.
        pub case_sensitive: Option<bool>,
        /// Where the requests go: `[scheme://]host[:port]`. With `https` TLS is spoken there. A
        /// name without a dot is a Service of the Mapping's own namespace. For a redirect: the host
        /// that clients are sent to.
        pub service: String,
        /// Host names that requests are taken for, exact or with a star at the beginning or the
        /// end. Must overlap with a Host's.
        pub hostname: Option<String>,
        /// Deprecated: use `hostname`. The host name, exactly, or with `host_regex` a regular
        /// expression.
        pub host: Option<String>,
        /// `host` is a regular expression (RE2) that must match the whole authority.
        pub host_regex: bool,
        /// Mappings with more of it are tried first, whatever their prefix. Default: 0.
        pub precedence: Option<i64>,
        /// What replaces the matched prefix on the way to the service; an empty text leaves the
        /// path alone. Default: `/`.
        pub rewrite: Option<String>,
        /// Percentage of the requests that this Mapping takes of those that several Mappings match
        /// equally; without one it shares what remains.
        pub weight: Option<i64>,
        /// Requests of this Mapping are not shown to the AuthService.
        pub bypass_auth: Option<bool>,
        /// Milliseconds from the end of the request to the end of the answer; 0: any time. Default:
        /// 3000.
        pub timeout_ms: Option<u64>,
        /// Milliseconds that a connection to the service may take to come about. Default: 3000.
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
        /// Request headers that must be there with exactly these values.
        pub headers: BTreeMap<String, String>,
        /// Request headers whose values these regular expressions (RE2) must match as a whole.
        pub regex_headers: BTreeMap<String, String>,
        /// Query parameters that must be there with exactly these values.
        pub query_parameters: BTreeMap<String, String>,
        /// Query parameters whose values these regular expressions (RE2) must match as a whole.
        pub regex_query_parameters: BTreeMap<String, String>,
        /// Request headers that must be there, with any value.
        pub v2_bool_headers: Vec<String> as "v2BoolHeaders",
        /// Query parameters that must be there, with any value.
        pub v2_bool_query_parameters: Vec<String> as "v2BoolQueryParameters",
        /// The method that requests must have, as `GET`.
        pub method: Option<String>,
        /// `method` is a regular expression (RE2).
        pub method_regex: bool,
        /// Rewrites the path by a regular expression, instead of `rewrite`.
        pub regex_rewrite: Option<RegexRewrite>,
        /// The Host header that the service sees, instead of the client's.
        pub host_rewrite: Option<String>,
        /// The service sees its own name as Host header.
        pub auto_host_rewrite: bool,
        /// Clients are redirected to the host that `service` names.
        pub host_redirect: bool,
        /// With `host_redirect`: the path of the redirect.
        pub path_redirect: Option<String>,
        /// With `host_redirect`: what replaces the matched prefix in the redirect.
        pub prefix_redirect: Option<String>,
        /// With `host_redirect`: rewrites the path of the redirect by a regular expression.
        pub regex_redirect: Option<RegexRewrite>,
        /// With `host_redirect`: 301, 302, 303, 307 or 308. Default: 301.
        pub redirect_response_code: Option<i64>,
        /// Headers that are added to requests on their way to the service, by name; a lone text is
        /// the value.
        pub add_request_headers: Option<BTreeMap<String, AddedHeader>>,
        /// Headers that are added to answers on their way to the client, by name; a lone text is
        /// the value.
        pub add_response_headers: Option<BTreeMap<String, AddedHeader>>,
        /// Headers that are taken out of requests.
        pub remove_request_headers: Option<Vec<String>>,
        /// Headers that are taken out of answers.
        pub remove_response_headers: Option<Vec<String>>,
        /// Tells Linkerd the service by the header `l5d-dst-override`. Default: as the Module says.
        pub add_linkerd_headers: Option<bool>,
        /// The service gets copies of what the other Mappings of the same match take; its answers
        /// go nowhere.
        pub shadow: Option<bool>,
        /// Keeps this Mapping's connections and figures apart from those of others to the same
        /// service.
        pub cluster_tag: Option<String>,
        /// Name of the service in metrics. Default: derived from `service`.
        pub stats_name: Option<String>,
        /// Name of the resolver that finds the service's endpoints. Default: as the Module says.
        pub resolver: Option<String>,
        /// Name of the TLSContext that connections to the service are made with. In v2 also true or
        /// false, for https or http.
        pub tls: Option<String>,
        /// The service speaks HTTP/2, as gRPC needs it.
        pub grpc: Option<bool>,
        /// Names are resolved to IPv4 addresses. Default: true.
        pub enable_ipv4: Option<bool>,
        /// Names are resolved to IPv6 addresses. Default: false.
        pub enable_ipv6: Option<bool>,
        /// `strict_dns` (default): every address of a name is used; `logical_dns`: one at a time.
        pub dns_type: Option<String>,
        /// Names are resolved again when the DNS says that their addresses are old.
        pub respect_dns_ttl: Option<bool>,
        /// Milliseconds without a byte in either direction after which a request is given up; 0:
        /// never. Default: 300000.
        pub idle_timeout_ms: Option<u64>,
        /// Milliseconds after which an unused connection to the service is closed.
        pub cluster_idle_timeout_ms: Option<u64>,
        /// Milliseconds after which a connection to the service gets no more requests.
        pub cluster_max_connection_lifetime_ms: Option<u64>,
        /// TCP keep-alive on connections to the service.
        pub keepalive: Option<Keepalive>,
        /// Bounds of what is under way to the service at a time.
        pub circuit_breakers: Option<Vec<CircuitBreaker>>,
        /// How requests are spread over the service's endpoints. Default: in turn.
        pub load_balancer: Option<LoadBalancer>,
        /// How endpoints are asked whether they are well.
        pub health_checks: Option<Vec<HealthCheck>>,
        /// Not supported, in Emissary neither.
        pub outlier_detection: Option<String>,
        /// When a request is sent again.
        pub retry_policy: Option<Box<RetryPolicy>>,
        /// Which other sites' pages may read the answers.
        pub cors: Option<Box<Cors>>,
        /// Protocols that HTTP/1.1 requests may be upgraded to, as `websocket`.
        pub allow_upgrade: Vec<String>,
        /// Deprecated: use `allow_upgrade`. Written at all, whatever it says, it allows WebSocket.
        pub use_websocket: Option<bool>,
        /// What the RateLimitService or a RateLimit is told of a request: by domain, a list of
        /// named groups; each group is one descriptor.
        pub labels: Option<BTreeMap<String, Vec<LabelGroup>>>,
        /// What the AuthService is told besides the request.
        pub auth_context_extensions: BTreeMap<String, String>,
        /// Bodies for answers with certain error codes, instead of the Module's.
        pub error_response_overrides: Option<Vec<ErrorResponseOverride>>,
        /// The Module's `error_response_overrides` do not apply.
        pub bypass_error_response_overrides: Option<bool>,
        /// Envoy's priority of the route.
        pub priority: Option<String>,
        /// Where the developer portal finds the service's documents.
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
        /// The regular expression (RE2) that is looked for in the path.
        pub pattern: Option<String>,
        /// What replaces each match; `\1` is its first group.
        pub substitution: Option<String>,
    }
}

record! {
    /// A header to add; `append` defaults to true.
    pub struct AddedHeader {
        /// The value; Envoy's format strings such as `%DOWNSTREAM_REMOTE_ADDRESS%` are filled in.
        pub value: Option<String>,
        /// Whether a header of this name that is there already stays. Default: true.
        pub append: Option<bool>,
    }
    dead { "v2Representation" => "" }
}

record! {
    /// TCP keep-alive towards the upstream. The Module writes `time`, Mappings `idle_time`.
    pub struct Keepalive {
        /// Probes without an answer after which the connection is given up.
        pub probes: Option<u32>,
        /// Seconds without traffic before the first probe.
        pub idle_time: Option<u32> as "idle_time" | "time",
        /// Seconds between probes.
        pub interval: Option<u32>,
    }
}

record! {
    pub struct CircuitBreaker {
        /// Requests of which priority are counted. Default: `default`.
        pub priority: Option<BreakerPriority>,
        /// Connections. Default: 1024.
        pub max_connections: Option<u32>,
        /// Requests that wait for a connection. Default: 1024.
        pub max_pending_requests: Option<u32>,
        /// Requests under way. Default: 1024.
        pub max_requests: Option<u32>,
        /// Requests that are being sent again. Default: 3.
        pub max_retries: Option<u32>,
    }
}

choice! {
    pub enum BreakerPriority { Default = "default", High = "high" }
}

record! {
    pub struct LoadBalancer {
        /// How an endpoint is chosen. `ring_hash` and `maglev` take one of `cookie`, `header` and
        /// `source_ip`, and stay with the endpoint that it leads to.
        pub policy: LoadBalancerPolicy,
        /// The cookie that leads to an endpoint.
        pub cookie: Option<LoadBalancerCookie>,
        /// The request header whose value leads to an endpoint.
        pub header: Option<String>,
        /// The client's address leads to an endpoint.
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
        /// Name of the cookie.
        pub name: String,
        /// Path of the cookie, where the gateway sets it.
        pub path: Option<String>,
        /// How long the cookie lives, as `30s`. With it the gateway sets the cookie for clients
        /// without one.
        pub ttl: Option<String>,
    }
}

record! {
    /// Times are durations, as `3s`.
    pub struct HealthCheck {
        /// How long an answer may take, as `3s`. Default: 3s.
        pub timeout: Option<String>,
        /// How long until the next question, as `5s`. Default: 5s.
        pub interval: Option<String>,
        /// Failures in a row after which an endpoint gets no more requests. Default: 2.
        pub unhealthy_threshold: Option<u32>,
        /// Successes in a row after which it gets requests again. Default: 1.
        pub healthy_threshold: Option<u32>,
        /// What is asked: either `http` or `grpc`.
        pub health_check: Option<HealthCheckKind>,
    }
}

record! {
    /// One of the two is set.
    pub struct HealthCheckKind {
        /// An HTTP request.
        pub http: Option<HttpHealthCheck>,
        /// gRPC's own health check.
        pub grpc: Option<GrpcHealthCheck>,
    }
}

record! {
    pub struct HttpHealthCheck {
        /// Path of the request.
        pub path: Option<String>,
        /// Host header of the request.
        pub hostname: Option<String>,
        /// Headers that are added to the request, by name.
        pub add_request_headers: BTreeMap<String, AddedHeader>,
        /// Headers that are taken out of the request.
        pub remove_request_headers: Vec<String>,
        /// Status codes that are a success. Default: 200.
        pub expected_statuses: Vec<StatusRange>,
    }
}

record! {
    /// Both ends belong to it.
    pub struct StatusRange {
        /// The first status code.
        pub min: i64,
        /// The last status code; it belongs to the range.
        pub max: i64,
    }
}

record! {
    pub struct GrpcHealthCheck {
        /// The service that is asked about.
        pub upstream_name: Option<String>,
        /// `:authority` of the call.
        pub authority: Option<String>,
    }
}

record! {
    pub struct RetryPolicy {
        /// What a request is sent again for.
        pub retry_on: Option<RetryOn>,
        /// How often at most. Default: 1.
        pub num_retries: Option<u32>,
        /// How long each try may take, as `0.5s`. Default: all of `timeout_ms`.
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
        /// Sites whose pages may read the answers, as `https://a.example`; `*` is any.
        pub origins: Vec<String>,
        /// Methods that they may use.
        pub methods: Vec<String>,
        /// Request headers that they may set.
        pub headers: Vec<String>,
        /// Whether cookies are sent along.
        pub credentials: Option<bool>,
        /// Response headers that they may read.
        pub exposed_headers: Vec<String>,
        /// How long a browser need not ask again: seconds, as text.
        pub max_age: Option<String>,
    }
    dead { "v2CommaSeparatedOrigins" => "" }
}

record! {
    pub struct ErrorResponseOverride {
        /// The status code, 400 to 599.
        pub on_status_code: i64,
        /// What is answered instead; the status code stays.
        pub body: ErrorResponseBody,
    }
}

record! {
    /// One of the three formats is set.
    pub struct ErrorResponseBody {
        /// The body, with Envoy's format strings filled in. Exactly one of the three formats is
        /// written.
        pub text_format: Option<String>,
        /// The body's keys, as JSON.
        pub json_format: Option<BTreeMap<String, String>>,
        /// The file that holds the body.
        pub text_format_source: Option<TextFormatSource>,
        /// Its Content-Type. Default: `text/plain`, for JSON `application/json`.
        pub content_type: Option<String>,
    }
}

record! {
    pub struct TextFormatSource {
        /// Path of the file in the gateway's container.
        pub filename: Option<String>,
    }
}

record! {
    pub struct Docs {
        /// Path below the prefix at which the service has its OpenAPI document.
        pub path: Option<String>,
        /// URL of the OpenAPI document, instead of `path`.
        pub url: Option<String>,
        /// The service is not shown.
        pub ignored: Option<bool>,
        /// Its title. Default: name and namespace of the Mapping.
        pub display_name: Option<String>,
        /// Milliseconds that fetching the document may take.
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
        /// Key of the entry.
        pub key: String,
    }
}

record! {
    pub struct GenericKey {
        /// Key of the entry. Default: `generic_key`.
        pub key: Option<String>,
        /// Value of the entry.
        pub value: String,
    }
    dead { "v2Shorthand" => "" }
}

record! {
    pub struct RequestHeaders {
        /// Key of the entry.
        pub key: String,
        /// The request header whose value it has; also `:path`, `:method` and `:authority`.
        pub header_name: String,
        /// Without the header the entry alone is left out, not its group.
        pub omit_if_not_present: Option<bool>,
    }
}

record! {
    pub struct Specifier {
        /// An entry with the name of the upstream.
        pub destination_cluster: Option<KeyOnly>,
        /// An entry with a fixed value.
        pub generic_key: Option<GenericKey>,
        /// An entry with the client's address.
        pub remote_address: Option<KeyOnly>,
        /// An entry with the value of a request header.
        pub request_headers: Option<RequestHeaders>,
        /// An entry with the name of the gateway.
        pub source_cluster: Option<KeyOnly>,
    }
}

impl Encode for LabelSpecifier {
    fn encode(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Self::DestinationCluster { key } => json!({"destination_cluster": {"key": key}}),
            Self::GenericKey { key: None, value } => json!({"generic_key": {"value": value}}),
            Self::GenericKey { key, value } => json!({"generic_key": {"key": key, "value": value}}),
            Self::RemoteAddress { key } => json!({"remote_address": {"key": key}}),
            Self::RequestHeaders { key, header_name, omit_if_not_present } => json!({
                "request_headers": {
                    "key": key,
                    "header_name": header_name,
                    "omit_if_not_present": omit_if_not_present,
                },
            }),
            Self::SourceCluster { key } => json!({"source_cluster": {"key": key}}),
        }
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

    fn form() -> Form {
        Specifier::form()
    }
}
