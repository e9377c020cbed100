// SPDX-License-Identifier: Apache-2.0
//! Which endpoint of a cluster takes a request. Emissary: `load_balancer`.

use std::time::Duration;

use serde::Serialize;

use super::timeouts::ms;

/// How a cluster chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balancer {
    #[default]
    RoundRobin,
    LeastRequest,
    RingHash,
    Maglev,
}

impl Balancer {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What of a request the hashing balancers go by: one route's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    Header(Box<str>),
    Cookie(HashCookie),
    /// The client's address after `X-Forwarded-For` handling.
    SourceIp,
}

/// A cookie that keeps a client at its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HashCookie {
    pub name: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
    /// With one, a request without the cookie is given one; 0 is a session cookie.
    #[serde(serialize_with = "ms", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}
