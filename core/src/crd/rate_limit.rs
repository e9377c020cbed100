// SPDX-License-Identifier: Apache-2.0
//! RateLimit: limits for descriptors.

use std::collections::BTreeMap;

use super::decode::{choice, record};

record! {
    pub struct RateLimit {
        pub domain: Option<String>,
        pub limits: Vec<Limit>,
    }
}

record! {
    pub struct Limit {
        pub name: Option<String>,
        pub action: Option<LimitAction>,
        /// Entries in order; a value of `*` or nothing is any value.
        pub pattern: Vec<BTreeMap<String, String>>,
        pub rate: Option<u64>,
        pub unit: Option<LimitUnit>,
        pub burst_factor: Option<u64> as "burstFactor",
        pub inject_request_headers: Vec<InjectedHeader> as "injectRequestHeaders",
        pub inject_response_headers: Vec<InjectedHeader> as "injectResponseHeaders",
        pub error_response: Option<ErrorResponse> as "errorResponse",
    }
}

choice! {
    pub enum LimitAction { Enforce = "Enforce", LogOnly = "LogOnly" }
}

choice! {
    pub enum LimitUnit { Second = "second", Minute = "minute", Hour = "hour", Day = "day" }
}

record! {
    /// The value is a template.
    pub struct InjectedHeader {
        pub name: String,
        pub value: String,
    }
}

record! {
    pub struct ErrorResponse {
        pub realm: Option<String>,
        pub headers: Vec<InjectedHeader>,
        pub body_template: Option<String> as "bodyTemplate",
    }
    dead { "contentType" => "set a Content-Type in `headers`" }
}
