// SPDX-License-Identifier: Apache-2.0
//! Emissary's `/snapshot-external`: every object that the gateway knows, for whoever asks. What is
//! secret is not in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_core::crd::Object;
use ringway_core::crd::encode::api_version;
use ringway_core::name::{Kind, Ref};
use ringway_core::problem::Severity;
use ringway_core::snapshot::Snapshot;
use serde_json::{Value, json};

use super::http::{Request, Response, Service};
use crate::gateway::{Report, State};
use crate::log::Timestamp;

/// Answers on the snapshot's port.
pub(super) struct External(pub Arc<State>);

impl Service for External {
    fn quick(&self, request: &Request) -> Option<Response> {
        (request.is_post || request.path != "/snapshot-external")
            .then(|| Response::text(404, "not found\n"))
    }

    fn slow(&self, _: &Request) -> Response {
        Response { status: 200, content_type: "application/json", body: written(&self.0) }
    }
}

/// Kinds by the names that Emissary's snapshot has for their lists, then the kinds that it has no
/// list of.
const LISTS: [(&str, Kind); 25] = [
    ("ingressclasses", Kind::IngressClass),
    ("ingresses", Kind::Ingress),
    ("service", Kind::Service),
    ("Endpoints", Kind::Endpoints),
    ("Listener", Kind::Listener),
    ("Host", Kind::Host),
    ("Mapping", Kind::Mapping),
    ("TCPMapping", Kind::TCPMapping),
    ("Module", Kind::Module),
    ("TLSContext", Kind::TLSContext),
    ("AuthService", Kind::AuthService),
    ("RateLimitService", Kind::RateLimitService),
    ("LogService", Kind::LogService),
    ("TracingService", Kind::TracingService),
    ("DevPortal", Kind::DevPortal),
    ("ConsulResolver", Kind::ConsulResolver),
    ("KubernetesEndpointResolver", Kind::KubernetesEndpointResolver),
    ("KubernetesServiceResolver", Kind::KubernetesServiceResolver),
    ("secret", Kind::Secret),
    ("ConfigMaps", Kind::ConfigMap),
    ("EndpointSlice", Kind::EndpointSlice),
    ("Filter", Kind::Filter),
    ("FilterPolicy", Kind::FilterPolicy),
    ("RateLimit", Kind::RateLimit),
    ("Namespace", Kind::Namespace),
];

/// Object by object, so that ten thousand of them are not in memory twice.
fn written(state: &State) -> Vec<u8> {
    let report = state.report();
    let hidden = hidden(&state.options.environment);
    let meta = json!({
        "cluster_id": "",
        "ambassador_id": &*state.options.settings.ambassador_id,
        "ambassador_version": state.options.version,
        "kube_version": "",
        "sidecar": null,
    });
    let mut out = format!("{{\"AmbassadorMeta\":{meta},\"Kubernetes\":{{").into_bytes();
    for (name, kind) in LISTS {
        out.extend(format!("\"{name}\":[").into_bytes());
        list(&report.snapshot, kind, &hidden, &mut out);
        out.extend(b"],");
    }
    let invalid = Value::Array(invalid(&report));
    let rest =
        format!("\"annotations\":{{}}}},\"Consul\":{{}},\"Deltas\":[],\"Invalid\":{invalid}}}\n");
    out.extend(rest.into_bytes());
    out
}

fn list(snapshot: &Snapshot, kind: Kind, hidden: &[(&str, &str)], out: &mut Vec<u8>) {
    for (n, object) in snapshot.of_kind(kind).enumerate() {
        if n > 0 {
            out.push(b',');
        }
        // Writing to memory does not fail, nor does a tree of JSON.
        let _ = serde_json::to_writer(&mut *out, &shown(object, hidden));
    }
}

fn shown(object: &Object, hidden: &[(&str, &str)]) -> Value {
    let mut value = object.to_json();
    if let Some(created) = object.meta.created.and_then(|at| u64::try_from(at).ok()) {
        let at = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(created));
        value["metadata"]["creationTimestamp"] = at.to_string().into();
    }
    if let Some(spec) = value.get_mut("spec") {
        hide(spec, hidden);
    }
    value
}

/// Variables of the environment whose values may be secrets: Emissary's snapshot shows `$NAME` as
/// it is written, and here its value stands in the objects already.
fn hidden(environment: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    /// Shorter values are words that stand everywhere.
    const LENGTH_MIN: usize = 8;
    const HARMLESS: [&str; 6] = ["AMBASSADOR_", "RINGWAY_", "KUBERNETES_", "NODE_", "HOST", "PATH"];
    let variables = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    variables
        .filter(|(name, value)| {
            value.len() >= LENGTH_MIN && !HARMLESS.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect()
}

/// Puts the names of variables back where their values stand.
fn hide(value: &mut Value, hidden: &[(&str, &str)]) {
    match value {
        Value::String(text) => {
            for (name, secret) in hidden {
                if text.contains(secret) {
                    *text = text.replace(secret, &format!("${{{name}}}"));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, hidden)),
        Value::Object(fields) => fields.values_mut().for_each(|field| hide(field, hidden)),
        _ => {}
    }
}

/// Objects that are refused as they are written: their names and why, and nothing of their content.
fn invalid(report: &Report) -> Vec<Value> {
    let of = |name: &Ref| {
        let errors = report.diagnostics.iter().filter(|diagnostic| {
            diagnostic.object.as_ref() == Some(name)
                && matches!(diagnostic.severity, Severity::Error | Severity::FailsClosed)
        });
        let errors: Vec<String> =
            errors.map(|error| format!("{}: {}", error.path, error.message)).collect();
        json!({
            "apiVersion": api_version(name.kind),
            "kind": name.kind.as_str(),
            "metadata": {"name": &*name.name, "namespace": &*name.namespace},
            "errors": errors.join("; "),
        })
    };
    report.refused.iter().map(of).collect()
}
