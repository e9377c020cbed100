// SPDX-License-Identifier: Apache-2.0
//! What v1 and v2 write otherwise, as `crd/legacy.rs` reads it. A structural schema has no unions:
//! where a text may stand for a list, or a word for a map, anything is taken, and the gateway says
//! what is wrong with it.

use super::{Form, Record};
use crate::name::Kind;

/// Where older versions write something else.
pub(super) fn paths(kind: Kind) -> &'static [&'static [&'static str]] {
    match kind {
        Kind::AuthService => &[
            &["add_auth_headers", "*"],
            &["allowed_authorization_headers"],
            &["allowed_request_headers"],
            &["tls"],
        ],
        Kind::Mapping => &[
            &["add_request_headers", "*"],
            &["add_response_headers", "*"],
            &["allow_upgrade"],
            &["cors", "exposed_headers"],
            &["cors", "headers"],
            &["cors", "methods"],
            &["cors", "origins"],
            &["headers", "*"],
            &["labels", "*", "[]", "*", "[]"],
            &["query_parameters", "*"],
            &["remove_request_headers"],
            &["remove_response_headers"],
            &["tls"],
        ],
        Kind::RateLimitService | Kind::TCPMapping => &[&["tls"]],
        Kind::TLSContext => &[&["hosts"]],
        Kind::TracingService => &[&["tag_headers"]],
        _ => &[],
    }
}

/// Adds the older shapes of a kind to its spec.
pub(super) fn widen(kind: Kind, spec: &mut Form) {
    for path in paths(kind) {
        if let Some(form) = spec.at(path) {
            *form = std::mem::replace(form, Form::Any).loosened();
        }
    }
    if let Form::Record(record) = spec {
        stored_as_v2(kind, record);
    }
}

/// Names under which Emissary's conversion stores fields of v3alpha1 in v2.
fn stored_as_v2(kind: Kind, spec: &mut Record) {
    let names: &[(&'static str, &str)] = match kind {
        Kind::Mapping => &[("v3StatsName", "stats_name"), ("v3health_checks", "health_checks")],
        _ => &[],
    };
    for (name, field) in names {
        if let Some(mut schema) = spec.fields.get(field).cloned() {
            schema.description = format!("`{field}`, as Emissary stores it in v2.");
            spec.fields.insert(name, schema);
        }
    }
}
