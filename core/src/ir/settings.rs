// SPDX-License-Identifier: Apache-2.0
//! The Ambassador Module as far as the data plane reads it, with Emissary's defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::limits;
use crate::policy::client_certificate::{Details, Forwarding};
use crate::policy::format::Format;

/// Gateway-wide settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Value of the `server` response header.
    pub server_name: Box<str>,
    pub use_remote_address: bool,
    pub preserve_external_request_id: bool,
    pub suppress_envoy_headers: bool,
    pub enable_http10: bool,
    pub allow_chunked_length: bool,
    pub merge_slashes: bool,
    pub reject_requests_with_escaped_slashes: bool,
    pub strip_matching_host_port: bool,
    pub headers_with_underscores: Underscores,
    pub head_bytes_max: usize,
    /// `listener_idle_timeout_ms`: keep-alive connections without a request.
    #[serde(serialize_with = "whole_ms")]
    pub idle_timeout: Duration,
    /// `buffer.max_request_bytes`; beyond: 413.
    pub body_bytes_max: Option<u64>,
    /// `forward_client_cert_details`.
    #[serde(skip_serializing_if = "is_default")]
    pub client_certificates: Forwarding,
    /// `set_current_client_cert_details`.
    #[serde(skip_serializing_if = "is_default")]
    pub client_certificate_details: Details,
    pub access_log: AccessLog,
    /// `enable_grpc_web`: browsers' requests become gRPC's.
    #[serde(skip_serializing_if = "is_default")]
    pub grpc_web: bool,
    /// `enable_grpc_http11_bridge`: gRPC requests by HTTP/1.1 get their status in the head.
    #[serde(skip_serializing_if = "is_default")]
    pub grpc_http1_bridge: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_stats: Option<GrpcStats>,
}

/// `grpc_stats`: what is counted of gRPC requests, per cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrpcStats {
    pub methods: GrpcMethods,
    /// `upstream_stats`: how long upstreams take, too.
    pub upstream: bool,
}

/// Methods that are counted by name; others count for their cluster alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GrpcMethods {
    /// `all_methods`, which clients can make up.
    All,
    /// `services`, by service; both lists are sorted.
    Listed(BTreeMap<Box<str>, Vec<Box<str>>>),
}

impl GrpcMethods {
    /// Whether requests for this method of this service count by name.
    pub fn contains(&self, service: &str, method: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(services) => services.get(service).is_some_and(|methods| {
                methods.binary_search_by(|listed| (**listed).cmp(method)).is_ok()
            }),
        }
    }
}

/// `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Underscores {
    Allow,
    RejectRequest,
    DropHeader,
}

/// What one access-log line says. `--access-log` can override the form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLog {
    Text(Format),
    /// Keys in order; every value a string, `-` where it is missing (Envoy's `json_format`).
    Json(Vec<(Box<str>, Format)>),
    /// Keys in order; numbers stay numbers, what is missing is null (`typed_json_format`).
    TypedJson(Vec<(Box<str>, Format)>),
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn whole_ms<S: serde::Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(value.as_millis() as u64)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_name: "envoy".into(),
            use_remote_address: true,
            preserve_external_request_id: false,
            suppress_envoy_headers: false,
            enable_http10: false,
            allow_chunked_length: false,
            merge_slashes: false,
            reject_requests_with_escaped_slashes: false,
            strip_matching_host_port: false,
            headers_with_underscores: Underscores::Allow,
            head_bytes_max: limits::HEAD_BYTES_MAX,
            idle_timeout: limits::KEEP_ALIVE_IDLE_TIMEOUT,
            body_bytes_max: None,
            client_certificates: Forwarding::default(),
            client_certificate_details: Details::default(),
            access_log: AccessLog::Text(Format::access_log_text()),
            grpc_web: false,
            grpc_http1_bridge: false,
            grpc_stats: None,
        }
    }
}
