// SPDX-License-Identifier: Apache-2.0
//! What there is to say of an object in its status, worked out of what the workers serve.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ringway_core::crd::source::Diagnostic;
use ringway_core::crd::{Object, Spec};
use ringway_core::name::{Kind, Ref};
use ringway_core::problem::{Problems, Severity};
use serde_json::{Value, json};

use crate::gateway::Report;

/// Kinds that have a status which is written, by their plural.
pub(super) const WITH_STATUS: [(Kind, &str); 3] =
    [(Kind::Host, "hosts"), (Kind::Listener, "listeners"), (Kind::Mapping, "mappings")];

/// Characters of a message; conditions take 32 KiB, people less.
const MESSAGE_CHARS_MAX: usize = 1024;

/// What is said of one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Verdict {
    /// What is wrong with it as it is written: a reason, and a sentence.
    pub(super) refused: Option<Said>,
    /// What it refers to is not there, or cannot be used.
    pub(super) unresolved: Option<Said>,
    /// Somebody else has what it asks for.
    pub(super) conflict: Option<Said>,
    /// Of a Listener: its address cannot be bound.
    pub(super) unbound: Option<Said>,
    /// Requests can come to it.
    pub(super) is_served: bool,
    /// An earlier version of it is what serves.
    pub(super) is_earlier: bool,
    /// Of a Host: whether it has a certificate to show.
    pub(super) has_certificate: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Said {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What a report says of every object that is ours and has a status.
pub(super) fn verdicts(report: &Report) -> HashMap<Ref, Verdict> {
    let mut served: HashSet<&Ref> = HashSet::new();
    for route in report.table.iter().flat_map(|table| table.routes.iter().flatten()) {
        served.insert(&route.spec().object);
    }
    for listener in &report.ir.listeners {
        served.insert(&listener.object);
        served.extend(listener.virtual_hosts.iter().filter_map(|host| host.host.as_ref()));
    }
    let mut problems: HashMap<&Ref, Vec<&Diagnostic>> = HashMap::new();
    for diagnostic in &report.diagnostics {
        if let Some(object) = &diagnostic.object {
            problems.entry(object).or_default().push(diagnostic);
        }
    }
    let id = &report.snapshot.settings.ambassador_id;
    let mut verdicts = HashMap::new();
    let mut judge = |name: &Ref, object: Option<&Object>| {
        let said = problems.get(name).map_or(&[][..], Vec::as_slice);
        let is_earlier =
            report.outdated.contains(name) || report.refused.contains(name) && object.is_some();
        let verdict = Verdict {
            refused: first(said, |d| {
                matches!(d.severity, Severity::Error | Severity::FailsClosed)
                    && !is_unresolved(d)
                    && !is_conflict(d)
                    && !is_unbound(d)
            }),
            unresolved: first(said, is_unresolved),
            conflict: first(said, is_conflict),
            unbound: first(said, is_unbound),
            is_served: served.contains(name)
                || object.is_some_and(|o| is_shadow(o) && said.is_empty()),
            is_earlier,
            has_certificate: object.is_some_and(names_certificate),
        };
        verdicts.insert(name.clone(), verdict);
    };
    for (kind, _) in WITH_STATUS {
        for object in report.snapshot.of_kind(kind).filter(|object| object.meta.is_for(id)) {
            judge(&object.meta.object, Some(object));
        }
        for meta in report.snapshot.refused_of_kind(kind).filter(|meta| meta.is_for(id)) {
            judge(&meta.object, None);
        }
    }
    verdicts
}

fn first(said: &[&Diagnostic], is_it: impl Fn(&Diagnostic) -> bool) -> Option<Said> {
    let found = said.iter().find(|diagnostic| is_it(diagnostic))?;
    let mut message = if found.path.is_empty() {
        found.message.to_string()
    } else {
        format!("{}: {}", found.path, found.message)
    };
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(end);
        message.push('…');
    }
    Some(Said { reason: found.reason, message })
}

fn is_unresolved(diagnostic: &Diagnostic) -> bool {
    matches!(
        diagnostic.reason,
        "UnknownSecret" | "UnknownTLSContext" | "UnknownResolver" | "NoSuchPort" | "BadSecret"
    )
}

fn is_conflict(diagnostic: &Diagnostic) -> bool {
    matches!(diagnostic.reason, "HostnameTaken" | "ServerNameTaken" | "AddressTaken" | "Duplicate")
}

fn is_unbound(diagnostic: &Diagnostic) -> bool {
    diagnostic.reason == Problems::ADDRESS_NOT_BOUND
}

fn is_shadow(object: &Object) -> bool {
    matches!(&object.spec, Spec::Mapping(mapping) if mapping.shadow == Some(true))
}

fn names_certificate(object: &Object) -> bool {
    matches!(&object.spec, Spec::Host(host) if host.tls_secret.is_some())
}

/// One condition, in the form of Kubernetes' own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) r#type: &'static str,
    pub(super) status: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    /// The sentence that matters most.
    pub(super) fn complaint(&self) -> Option<&Said> {
        let all = [&self.refused, &self.conflict, &self.unresolved, &self.unbound];
        all.into_iter().flatten().next()
    }

    pub(super) fn conditions(&self) -> Vec<Condition> {
        let condition = |r#type, said: &Option<Said>, good: &'static str| match said {
            None => Condition { r#type, status: true, reason: good, message: String::new() },
            Some(Said { reason, message }) => {
                Condition { r#type, status: false, reason, message: message.clone() }
            }
        };
        let mut accepted = condition("Accepted", &self.refused, "Accepted");
        if self.is_earlier {
            accepted.message += " (an earlier version is served)";
        }
        let (is_programmed, reason, message) =
            match (self.is_served, self.is_earlier, &self.unbound) {
                (_, _, Some(said)) => (false, said.reason, &*said.message),
                (true, false, None) => (true, "Programmed", ""),
                (true, true, None) => (false, "EarlierVersion", "an earlier version is served"),
                (false, _, None) => (false, "NotServed", "no request can come to it"),
            };
        let mut conditions = vec![
            accepted,
            condition("ResolvedRefs", &self.unresolved, "ResolvedRefs"),
            Condition {
                r#type: "Programmed",
                status: is_programmed,
                reason,
                message: message.to_owned(),
            },
        ];
        if let Some(Said { reason, message }) = &self.conflict {
            let message = message.clone();
            conditions.push(Condition { r#type: "Conflicted", status: true, reason, message });
        }
        conditions
    }

    /// The status, without when its conditions became so.
    pub(super) fn status(&self, kind: Kind, generation: i64) -> Value {
        let conditions: Vec<Value> = (self.conditions().into_iter())
            .map(|condition| {
                json!({
                    "type": condition.r#type,
                    "status": if condition.status { "True" } else { "False" },
                    "reason": condition.reason,
                    "message": condition.message,
                    "observedGeneration": generation,
                })
            })
            .collect();
        let mut status = json!({"conditions": conditions, "observedGeneration": generation});
        let complaint = self.complaint().map_or("", |said| &said.message);
        match kind {
            Kind::Mapping => {
                status["state"] = if self.is_served { "Running" } else { "Inactive" }.into();
                if !complaint.is_empty() {
                    status["reason"] = complaint.into();
                }
            }
            Kind::Host => {
                let is_good = self.complaint().is_none() && self.is_served;
                status["state"] = if is_good { "Ready" } else { "Error" }.into();
                let source = if self.has_certificate { "Other" } else { "None" };
                status["tlsCertificateSource"] = source.into();
                if !is_good {
                    let why = if complaint.is_empty() { "no Listener takes it" } else { complaint };
                    status["errorReason"] = why.into();
                }
            }
            _ => {}
        }
        status
    }
}

/// A hash of a status that does not depend on the order of keys, nor on when its conditions became
/// so.
pub(super) fn fingerprint(status: &Value) -> u64 {
    fn walk(value: &Value, hasher: &mut DefaultHasher) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<&String> = map.keys().collect();
                keys.sort();
                for key in keys.into_iter().filter(|key| *key != "lastTransitionTime") {
                    key.hash(hasher);
                    walk(&map[key], hasher);
                }
                "}".hash(hasher);
            }
            Value::Array(items) => {
                for item in items {
                    walk(item, hasher);
                }
                "]".hash(hasher);
            }
            scalar => scalar.to_string().hash(hasher),
        }
    }
    let mut hasher = DefaultHasher::new();
    walk(status, &mut hasher);
    hasher.finish()
}
