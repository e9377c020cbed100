// SPDX-License-Identifier: Apache-2.0
//! Envoy's format strings (`%REQ(NAME?ALT):LEN%`, `%DOWNSTREAM_REMOTE_ADDRESS%`, …): header
//! values, access logs, error bodies.

use std::net::SocketAddr;

use crate::wire::{HeadView, Version};

/// What a format string may ask about a request and its answer. Built only when a format asks.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub request: HeadView<'a>,
    /// Normalised path and query, before any rewrite.
    pub path: &'a [u8],
    /// Lower case, as routing saw it.
    pub authority: &'a [u8],
    /// The request id that goes upstream; empty before it is known.
    pub request_id: &'a [u8],
    /// The `x-forwarded-for` that goes upstream; empty before it is known.
    pub forwarded_for: &'a [u8],
    /// The path that went upstream, when it was rewritten.
    pub rewritten_path: Option<&'a [u8]>,
    /// Connection peer.
    pub peer: SocketAddr,
    /// The client after trusted hops.
    pub client: std::net::IpAddr,
    pub local: SocketAddr,
    pub secure: bool,
    pub version: Version,
    /// Microseconds since the Unix epoch when the request's first byte came.
    pub start_us: u64,
    pub response: Option<HeadView<'a>>,
    /// 0 when there was no answer.
    pub status: u16,
    pub flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`, as Envoy names them (`via_upstream`, `route_not_found`, …).
    pub details: &'a str,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Of the whole exchange.
    pub duration_us: u64,
    /// Until the upstream's head came; `None` without an upstream.
    pub upstream_us: Option<u64>,
    pub upstream: Option<SocketAddr>,
    pub upstream_local: Option<SocketAddr>,
    /// The cluster's name.
    pub cluster: &'a str,
    /// `namespace/name` of the Mapping.
    pub route: &'a str,
    /// Why an upstream connection failed.
    pub transport_failure: &'a str,
}

/// Envoy's response flags, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    pub const NONE: Self = Self(0);
    /// Client went away before the answer was complete.
    pub const DC: Self = Self(1 << 0);
    /// No healthy upstream.
    pub const UH: Self = Self(1 << 1);
    /// Upstream connection failure.
    pub const UF: Self = Self(1 << 2);
    /// Upstream overflow (circuit breaking).
    pub const UO: Self = Self(1 << 3);
    /// No route.
    pub const NR: Self = Self(1 << 4);
    /// Upstream request time-out.
    pub const UT: Self = Self(1 << 5);
    /// Upstream retry limit exceeded.
    pub const URX: Self = Self(1 << 6);
    /// Upstream remote reset.
    pub const UR: Self = Self(1 << 7);
    /// Upstream connection termination.
    pub const UC: Self = Self(1 << 8);
    /// Connection local reset.
    pub const LR: Self = Self(1 << 9);
    /// Rate limited.
    pub const RL: Self = Self(1 << 10);
    /// Unauthorized by the external auth service.
    pub const UAEX: Self = Self(1 << 11);
    /// Stream idle time-out.
    pub const SI: Self = Self(1 << 12);
    /// Downstream protocol error.
    pub const DPE: Self = Self(1 << 13);
    /// Upstream protocol error.
    pub const UPE: Self = Self(1 << 14);
    /// Cluster not found.
    pub const NC: Self = Self(1 << 15);
    /// Overload manager.
    pub const OM: Self = Self(1 << 16);

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A compiled format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// As written; what `Eq` and `Serialize` mean.
    text: std::sync::Arc<str>,
}

impl Format {
    /// Emissary's default access-log line.
    pub fn access_log_text() -> Self {
        Self { text: "".into() }
    }
}

impl serde::Serialize for Format {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
