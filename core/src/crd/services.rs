// SPDX-License-Identifier: Apache-2.0
//! AuthService, RateLimitService, TracingService and LogService.

use std::collections::BTreeMap;

use super::decode::{choice, record};
use super::mapping::CircuitBreaker;

record! {
    pub struct AuthService {
        pub auth_service: String,
        pub proto: Option<AuthProto>,
        pub protocol_version: Option<ProtocolVersion>,
        pub path_prefix: Option<String>,
        pub tls: Option<String>,
        pub timeout_ms: Option<u64>,
        pub allowed_request_headers: Vec<String>,
        pub allowed_authorization_headers: Vec<String>,
        pub add_auth_headers: BTreeMap<String, String>,
        pub add_linkerd_headers: Option<bool>,
        pub include_body: Option<IncludeBody>,
        /// Deprecated: `include_body` with 4096 bytes, partial allowed.
        pub allow_request_body: Option<bool>,
        pub failure_mode_allow: Option<bool>,
        pub status_on_error: Option<StatusOnError>,
        pub stats_name: Option<String>,
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
        pub max_bytes: u64,
        pub allow_partial: bool,
    }
}

record! {
    pub struct StatusOnError {
        pub code: Option<i64>,
    }
}

record! {
    pub struct RateLimitService {
        pub service: String,
        pub timeout_ms: Option<u64>,
        pub domain: Option<String>,
        pub protocol_version: Option<ProtocolVersion>,
        pub tls: Option<String>,
        pub stats_name: Option<String>,
        pub failure_mode_deny: Option<bool>,
        pub grpc: Option<RateLimitGrpc>,
    }
    dead { "v2ExplicitTLS" => "" }
}

record! {
    pub struct RateLimitGrpc {
        pub use_resource_exhausted_code: Option<bool>,
    }
}

record! {
    pub struct TracingService {
        pub driver: TracingDriver,
        pub service: String,
        pub sampling: Option<Sampling>,
        pub custom_tags: Vec<CustomTag>,
        pub tag_headers: Vec<String>,
        pub config: Option<TracingConfig>,
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
        pub client: Option<i64>,
        pub random: Option<i64>,
        pub overall: Option<i64>,
    }
}

record! {
    pub struct CustomTag {
        pub tag: String,
        pub literal: Option<LiteralTag>,
        pub environment: Option<NamedTag>,
        pub request_header: Option<NamedTag>,
    }
}

record! {
    pub struct LiteralTag {
        pub value: String,
    }
}

record! {
    pub struct NamedTag {
        pub name: String,
        pub default_value: Option<String>,
    }
}

record! {
    pub struct TracingConfig {
        pub access_token_file: Option<String>,
        pub collector_cluster: Option<String>,
        pub collector_endpoint: Option<String>,
        pub collector_endpoint_version: Option<String>,
        pub collector_hostname: Option<String>,
        pub propagation_modes: Vec<String>,
        pub service_name: Option<String>,
        pub shared_span_context: Option<bool>,
        pub trace_id_128bit: Option<bool>,
    }
}

record! {
    pub struct LogService {
        pub service: Option<String>,
        pub driver: Option<LogDriver>,
        pub protocol_version: Option<ProtocolVersion>,
        pub driver_config: Option<LogDriverConfig>,
        pub flush_interval_time: Option<u64>,
        pub flush_interval_byte_size: Option<u64>,
        pub grpc: Option<bool>,
        pub stats_name: Option<String>,
    }
}

choice! {
    pub enum LogDriver { Http = "http", Tcp = "tcp" }
}

record! {
    pub struct LogDriverConfig {
        pub additional_log_headers: Vec<AdditionalLogHeader>,
    }
}

record! {
    /// Each of the three defaults to true.
    pub struct AdditionalLogHeader {
        pub header_name: Option<String>,
        pub during_request: Option<bool>,
        pub during_response: Option<bool>,
        pub during_trailer: Option<bool>,
    }
}
