// SPDX-License-Identifier: Apache-2.0
//! Which endpoint of a cluster takes a request. Emissary: `load_balancer`.
//!
//! Tables are pure functions of the endpoints' addresses, made on the sync side and shared
//! read-only; gateways with equal endpoints send equal keys to equal places. What changes from
//! request to request (whose turn it is, how many requests an endpoint has) is the caller's: each
//! worker counts its own.

use std::time::Duration;

use serde::Serialize;

use super::timeouts::ms;
use crate::feed::Endpoint;

mod key;
mod maglev;
mod ring;

pub use key::{Affinity, Caller, CookieValue};
use maglev::Maglev;
use ring::Ring;

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

    /// As it is written in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequest => "least_request",
            Self::RingHash => "ring_hash",
            Self::Maglev => "maglev",
        }
    }
}

/// What of a request the hashing balancers go by: one route's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// Lower case.
    Header(Box<str>),
    Cookie(HashCookie),
    /// The client's address after `X-Forwarded-For` handling.
    SourceIp,
}

/// A cookie that keeps a client at its endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HashCookie {
    pub name: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Box<str>>,
    /// With one, a request without the cookie is given one; 0 is a session cookie.
    #[serde(serialize_with = "ms", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

/// What chooses among one list of endpoints.
#[derive(Debug, PartialEq, Eq)]
pub enum Picker {
    RoundRobin,
    LeastRequest,
    Ring(Ring),
    Maglev(Maglev),
}

/// What one choice depends on besides the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Hash of the request's key; without one, hashing balancers choose at random.
    pub key: Option<u64>,
    /// Random.
    pub roll: u64,
    /// Counts up from choice to choice.
    pub turn: usize,
}

/// How busy an endpoint is: less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// Requests that the chooser has there now.
    pub active: u32,
    /// Not in the gateway's own zone: decides between equally busy ones.
    pub far: bool,
}

impl Picker {
    /// For these endpoints, at most [`crate::limits::ENDPOINTS_MAX`], sorted, each once.
    pub fn new(balancer: Balancer, endpoints: &[Endpoint]) -> Self {
        match balancer {
            Balancer::RoundRobin => Self::RoundRobin,
            Balancer::LeastRequest => Self::LeastRequest,
            Balancer::RingHash => Self::Ring(Ring::new(endpoints)),
            Balancer::Maglev => Self::Maglev(Maglev::new(endpoints)),
        }
    }

    pub fn balancer(&self) -> Balancer {
        match self {
            Self::RoundRobin => Balancer::RoundRobin,
            Self::LeastRequest => Balancer::LeastRequest,
            Self::Ring(_) => Balancer::RingHash,
            Self::Maglev(_) => Balancer::Maglev,
        }
    }

    /// Chooses one of `count` endpoints, those that this was made for: its index. One that `tried`
    /// names (this request failed there) is taken only if there is no other.
    pub fn pick(
        &self,
        count: usize,
        draw: Draw,
        load: impl Fn(usize) -> Load,
        tried: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if count <= 1 {
            return (count == 1).then_some(0);
        }
        let random = draw.roll as u32 as usize % count;
        let start = match (self, draw.key) {
            (Self::RoundRobin, _) => draw.turn % count,
            (Self::LeastRequest, _) => {
                // The power of two choices: two different ones at random, the less busy of them.
                let step = 1 + (draw.roll >> 32) as usize % (count - 1);
                let other = (random + step) % count;
                if load(other) < load(random) { other } else { random }
            }
            (Self::Ring(ring), Some(key)) => return ring.pick(key, tried),
            (Self::Maglev(maglev), Some(key)) => return maglev.pick(key, count, tried),
            (Self::Ring(_) | Self::Maglev(_), None) => random,
        };
        Some(first_untried(start, count, tried))
    }

    /// Where a request with a key of this hash goes; `None` where the key does not decide.
    pub fn of_key(&self, key: u64) -> Option<usize> {
        match self {
            Self::RoundRobin | Self::LeastRequest => None,
            Self::Ring(ring) => ring.pick(key, |_| false),
            Self::Maglev(maglev) => maglev.pick(key, 1, |_| false),
        }
    }
}

/// From `start` on, around.
fn first_untried(start: usize, count: usize, tried: impl Fn(usize) -> bool) -> usize {
    let mut around = (start..count).chain(0..start);
    around.find(|at| !tried(*at)).unwrap_or(start)
}

/// Envoy's hash of keys and addresses.
pub fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, 0)
}

fn seeded(bytes: &[u8], seed: u64) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, seed)
}

#[cfg(test)]
mod tests;
