// SPDX-License-Identifier: Apache-2.0
//! What guards access and cannot be enforced yet: the requests that it would have guarded get
//! Emissary's answer for a misconfigured AuthService, and no others.

use std::sync::Arc;

use crate::crd::{Object, Spec};
use crate::ir::{Guard, GuardScope, Refusal};
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Snapshot;

/// All guards of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    pub(crate) guards: Vec<Guard>,
    /// For every route that an AuthService would have guarded.
    pub(crate) auth: Option<Arc<Refusal>>,
}

/// The answer's text. Emissary names the object by its key, `name.namespace.1`.
pub(crate) fn refusal(object: &Ref) -> Arc<Refusal> {
    let message = format!(
        "the {}.{}.1 {} is misconfigured; see the logs for more information",
        object.name, object.namespace, object.kind
    );
    Arc::new(Refusal { message: message.into() })
}

fn everywhere(scope: GuardScope, object: &Ref) -> Guard {
    Guard { host: "*".into(), path: "*".into(), scope, refusal: Some(refusal(object)) }
}

/// Collects the guards: `ours` says which objects this gateway reads.
pub(crate) fn resolve(
    snapshot: &Snapshot,
    ours: impl Fn(&crate::crd::Meta) -> bool,
    ip_rules: Option<&Ref>,
    problems: &mut Problems,
) -> Guards {
    let mut found = Guards::default();
    let of_kind = |kind| snapshot.of_kind(kind).filter(|o| ours(&o.meta));
    // What could not even be read guards all that it might have guarded.
    let refused = |kind| snapshot.refused_of_kind(kind).filter(|meta| ours(meta));

    if let Some(module) = ip_rules {
        found.guards.push(everywhere(GuardScope::Everything, module));
    }

    let mut services: Vec<&Ref> = of_kind(Kind::AuthService).map(|o| &o.meta.object).collect();
    services.extend(refused(Kind::AuthService).map(|meta| &meta.object));
    services.sort_by(|a, b| (&a.name, &a.namespace).cmp(&(&b.name, &b.namespace)));
    for object in &services {
        problems.auth_fails_closed(object);
    }
    if let Some(first) = services.first() {
        found.auth = Some(refusal(first));
        found.guards.push(everywhere(GuardScope::Unrouted, first));
    }

    let mut policies: Vec<&Arc<Object>> = of_kind(Kind::FilterPolicy).collect();
    policies.sort_by(|a, b| {
        let key = |o: &Object| (o.meta.name().clone(), o.meta.namespace().clone());
        key(a).cmp(&key(b))
    });
    for meta in refused(Kind::FilterPolicy) {
        problems.filter_policy_fails_closed(&meta.object);
        found.guards.push(everywhere(GuardScope::NotRedirects, &meta.object));
    }
    for object in policies {
        let Spec::FilterPolicy(policy) = &object.spec else { continue };
        if policy.rules.iter().any(|rule| !rule.filters.is_empty()) {
            problems.filter_policy_fails_closed(&object.meta.object);
        }
        let refusal = refusal(&object.meta.object);
        for rule in &policy.rules {
            let guards = !rule.filters.is_empty();
            let host = host_glob(rule.host.as_deref().unwrap_or("*"), guards);
            let path = path_glob(rule.path.as_deref().unwrap_or("*"), guards);
            let (Some(host), Some(path)) = (host, path) else { continue };
            let refusal = guards.then(|| Arc::clone(&refusal));
            found.guards.push(Guard { host, path, scope: GuardScope::NotRedirects, refusal });
        }
    }
    for object in of_kind(Kind::Filter) {
        problems.filter_not_served(&object.meta.object);
    }
    found
}

/// Characters that mean something in the globs of FilterPolicies, beside `*`.
const GLOB: [char; 6] = ['?', '[', ']', '{', '}', '\\'];

/// A rule's host glob as guards read it: `*` at one end, no port. What does not fit is widened
/// where the rule guards, and `None` where it opens: never less is guarded than was meant.
fn host_glob(text: &str, guards: bool) -> Option<Box<str>> {
    let host = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit() || b == b'*') => host,
        _ => text,
    };
    let inner = host.strip_prefix('*').or_else(|| host.strip_suffix('*')).unwrap_or(host);
    if host.len() == text.len() && !inner.contains('*') && !text.contains(GLOB) {
        return Some(text.to_ascii_lowercase().into());
    }
    guards.then(|| match !inner.contains('*') && !text.contains(GLOB) {
        // Only the port is too much.
        true => host.to_ascii_lowercase().into(),
        false => "*".into(),
    })
}

fn path_glob(text: &str, guards: bool) -> Option<Box<str>> {
    match text.find(GLOB) {
        None => Some(text.into()),
        Some(at) => guards.then(|| format!("{}*", &text[..at]).into()),
    }
}

#[cfg(test)]
mod tests;
