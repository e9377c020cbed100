// SPDX-License-Identifier: Apache-2.0
//! AuthService, RateLimitService, TracingService and LogService.

use std::collections::BTreeMap;

use super::decode::{choice, record};
use super::mapping::CircuitBreaker;

record! {
    pub struct AuthService {
        /// The service that is asked: `[scheme://]host[:port]`.
        pub auth_service: String,
        /// How it is asked. Default: `http`.
        pub proto: Option<AuthProto>,
        /// Version of Envoy's protocol; `grpc` needs `v3`.
        pub protocol_version: Option<ProtocolVersion>,
        /// With `http`: what stands before the path of the request.
        pub path_prefix: Option<String>,
        /// Name of the TLSContext that connections to the service are made with. In v2 also true or
        /// false, for https or http.
        pub tls: Option<String>,
        /// Milliseconds that its answer may take. Default: 5000.
        pub timeout_ms: Option<u64>,
        /// With `http`: request headers that it sees besides those that it always sees.
        pub allowed_request_headers: Vec<String>,
        /// With `http`: headers of its answer that the service behind sees.
        pub allowed_authorization_headers: Vec<String>,
        /// With `http`: headers that are added to the question.
        pub add_auth_headers: BTreeMap<String, String>,
        /// Tells Linkerd the service by the header `l5d-dst-override`.
        pub add_linkerd_headers: Option<bool>,
        /// It sees bodies too.
        pub include_body: Option<IncludeBody>,
        /// Deprecated: `include_body` with 4096 bytes, partial allowed.
        pub allow_request_body: Option<bool>,
        /// Requests pass where it does not answer. Default: false.
        pub failure_mode_allow: Option<bool>,
        /// What is answered where it does not answer. Default: 403.
        pub status_on_error: Option<StatusOnError>,
        /// Its name in metrics.
        pub stats_name: Option<String>,
        /// Bounds of what is under way to it at a time.
        pub circuit_breakers: Option<Vec<CircuitBreaker>>,
    }
    dead { "v2ExplicitTLS" => "" }
}

choice! {
    pub enum AuthProto { Grpc = "grpc", Http = "http" }
}

choice! {
    /// Of Envoy's gRPC services.
    pub enum ProtocolVersion { V2 = "v2", V3 = "v3" }
}

record! {
    pub struct IncludeBody {
        /// How many bytes at most.
        pub max_bytes: u64,
        /// It sees the beginning of a longer body; otherwise that is 413.
        pub allow_partial: bool,
    }
}

record! {
    pub struct StatusOnError {
        /// The status code.
        pub code: Option<i64>,
    }
}

record! {
    pub struct RateLimitService {
        /// The service that is asked: `[scheme://]host[:port]`.
        pub service: String,
        /// Milliseconds that its answer may take. Default: 20.
        pub timeout_ms: Option<u64>,
        /// Labels of this domain are sent. Default: the Module's `default_label_domain`.
        pub domain: Option<String>,
        /// Version of Envoy's protocol; it must be `v3`.
        pub protocol_version: Option<ProtocolVersion>,
        /// Name of the TLSContext that connections to the service are made with. In v2 also true or
        /// false, for https or http.
        pub tls: Option<String>,
        /// Its name in metrics.
        pub stats_name: Option<String>,
        /// Requests are answered with 500 where it does not answer. Default: false, they pass.
        pub failure_mode_deny: Option<bool>,
        /// What gRPC clients see.
        pub grpc: Option<RateLimitGrpc>,
    }
    dead { "v2ExplicitTLS" => "" }
}

record! {
    pub struct RateLimitGrpc {
        /// They see RESOURCE_EXHAUSTED instead of UNAVAILABLE.
        pub use_resource_exhausted_code: Option<bool>,
    }
}

record! {
    pub struct TracingService {
        /// The protocol of the collector.
        pub driver: TracingDriver,
        /// The collector: `[scheme://]host[:port]`.
        pub service: String,
        /// How many requests are traced.
        pub sampling: Option<Sampling>,
        /// What spans say besides.
        pub custom_tags: Vec<CustomTag>,
        /// Deprecated: use `custom_tags`. Request headers that spans repeat.
        pub tag_headers: Vec<String>,
        /// Settings of the driver.
        pub config: Option<TracingConfig>,
        /// Its name in metrics.
        pub stats_name: Option<String>,
    }
    dead { "v3CustomTags" => "" }
}

choice! {
    pub enum TracingDriver {
        Datadog = "datadog",
        Lightstep = "lightstep",
        Opentelemetry = "opentelemetry",
        Zipkin = "zipkin",
    }
}

record! {
    /// Percent.
    pub struct Sampling {
        /// Percent of the requests that ask to be traced which are. Default: 100.
        pub client: Option<i64>,
        /// Percent of the other requests that are traced. Default: 100.
        pub random: Option<i64>,
        /// Percent of all requests at most. Default: 100.
        pub overall: Option<i64>,
    }
}

record! {
    pub struct CustomTag {
        /// Name of the tag.
        pub tag: String,
        /// Its value is a text.
        pub literal: Option<LiteralTag>,
        /// Its value is an environment variable of the gateway.
        pub environment: Option<NamedTag>,
        /// Its value is a request header.
        pub request_header: Option<NamedTag>,
    }
}

record! {
    pub struct LiteralTag {
        /// The text.
        pub value: String,
    }
}

record! {
    pub struct NamedTag {
        /// Name of the variable or header.
        pub name: String,
        /// The value where it is not there.
        pub default_value: Option<String>,
    }
}

record! {
    pub struct TracingConfig {
        /// Path of the file with the access token.
        pub access_token_file: Option<String>,
        /// Name of the collector in metrics.
        pub collector_cluster: Option<String>,
        /// Path at the collector. Default: `/api/v2/spans`.
        pub collector_endpoint: Option<String>,
        /// Form of the spans: `HTTP_JSON` (default) or `HTTP_PROTO`.
        pub collector_endpoint_version: Option<String>,
        /// Host header for the collector.
        pub collector_hostname: Option<String>,
        /// How the context is handed on.
        pub propagation_modes: Vec<String>,
        /// Name of the gateway in traces. Default: `ambassador`.
        pub service_name: Option<String>,
        /// Client and server share a span. Default: true.
        pub shared_span_context: Option<bool>,
        /// Trace ids have 128 bits. Default: true.
        pub trace_id_128bit: Option<bool>,
    }
}

record! {
    pub struct LogService {
        /// The service that receives the log: `[scheme://]host[:port]`.
        pub service: Option<String>,
        /// What is logged: requests (`http`) or connections (`tcp`).
        pub driver: Option<LogDriver>,
        /// Version of Envoy's protocol; it must be `v3`.
        pub protocol_version: Option<ProtocolVersion>,
        /// Settings of the driver.
        pub driver_config: Option<LogDriverConfig>,
        /// Seconds that lines may wait. Default: 1.
        pub flush_interval_time: Option<u64>,
        /// Bytes that may wait. Default: 16384.
        pub flush_interval_byte_size: Option<u64>,
        /// It is spoken to by gRPC; it must be true.
        pub grpc: Option<bool>,
        /// Its name in metrics.
        pub stats_name: Option<String>,
    }
}

choice! {
    pub enum LogDriver { Http = "http", Tcp = "tcp" }
}

record! {
    pub struct LogDriverConfig {
        /// Headers that are logged besides.
        pub additional_log_headers: Vec<AdditionalLogHeader>,
    }
}

record! {
    /// Each of the three defaults to true.
    pub struct AdditionalLogHeader {
        /// Name of the header.
        pub header_name: Option<String>,
        /// Of the request. Default: true.
        pub during_request: Option<bool>,
        /// Of the answer. Default: true.
        pub during_response: Option<bool>,
        /// Of the trailers. Default: true.
        pub during_trailer: Option<bool>,
    }
}
