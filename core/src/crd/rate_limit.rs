// SPDX-License-Identifier: Apache-2.0
//! RateLimit: limits for descriptors.

use std::collections::BTreeMap;

use super::decode::{choice, record};

record! {
    pub struct RateLimit {
        /// Labels of this domain are counted.
        pub domain: Option<String>,
        /// The limits; the longest pattern that fits counts.
        pub limits: Vec<Limit>,
    }
}

record! {
    pub struct Limit {
        /// Its name in metrics and logs.
        pub name: Option<String>,
        /// Whether it is enforced or only logged.
        pub action: Option<LimitAction>,
        /// Entries of the descriptor in order; a value of `*` or nothing is any value, each counted
        /// by itself.
        pub pattern: Vec<BTreeMap<String, String>>,
        /// How many requests.
        pub rate: Option<u64>,
        /// In what time.
        pub unit: Option<LimitUnit>,
        /// How many times as many in a burst.
        pub burst_factor: Option<u64> as "burstFactor",
        /// Headers that are added to requests.
        pub inject_request_headers: Vec<InjectedHeader> as "injectRequestHeaders",
        /// Headers that are added to answers.
        pub inject_response_headers: Vec<InjectedHeader> as "injectResponseHeaders",
        /// What is answered when it is exceeded.
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
        /// Name of the header.
        pub name: String,
        /// Its value, a template.
        pub value: String,
    }
}

record! {
    pub struct ErrorResponse {
        /// Realm of the challenge.
        pub realm: Option<String>,
        /// Headers of the answer.
        pub headers: Vec<InjectedHeader>,
        /// Body of the answer, a template.
        pub body_template: Option<String> as "bodyTemplate",
    }
    dead { "contentType" => "set a Content-Type in `headers`" }
}
