// SPDX-License-Identifier: Apache-2.0
//! The time-outs of one route, resolved: Mapping over Module over built-in default.

use std::time::Duration;

use serde::Serialize;

/// `None` switches a time-out off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Timeouts {
    /// From the end of the request to the end of the answer; beyond: 504. Emissary: `timeout_ms`.
    #[serde(serialize_with = "ms")]
    pub request: Option<Duration>,
    /// Neither side moves. Emissary: `idle_timeout_ms`.
    #[serde(serialize_with = "ms")]
    pub idle: Option<Duration>,
}

/// Serializes a duration as whole milliseconds.
pub fn ms<S: serde::Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(duration) => s.serialize_u64(duration.as_millis() as u64),
        None => s.serialize_none(),
    }
}
