// SPDX-License-Identifier: Apache-2.0
//! One Host → its name, selector, cleartext policy, and what of it cannot be enforced yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crd::{self, Meta, Spec};
use crate::ir::{InsecureAction, Refusal};
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Snapshot;

use super::guard;
use super::mapping::{Hostname, Labels, one_spelling};
use super::{hostglob, secret};

/// A Host that is accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Host {
    /// `None` for the host that is there when nobody wrote one.
    pub(crate) object: Option<Ref>,
    pub(crate) namespace: Arc<str>,
    pub(crate) hostname: Arc<str>,
    /// `matchLabels` of its selector, if it has one.
    pub(crate) selector: Option<BTreeMap<String, String>>,
    pub(crate) labels: Labels,
    pub(crate) insecure: InsecureAction,
    pub(crate) refusal: Option<Arc<Refusal>>,
    pub(crate) created: Option<i64>,
}

/// Why a Host and a group are not associated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// Neither the Host has a selector nor the Mapping a hostname.
    NothingToGoBy,
    Hostname,
    Labels,
}

impl Host {
    /// The host that serves everything in cleartext when there is no Host; with a fallback
    /// certificate, cleartext is redirected.
    pub(crate) fn built_in(namespace: &Arc<str>, has_certificate: bool) -> Self {
        let insecure =
            if has_certificate { InsecureAction::Redirect } else { InsecureAction::Route };
        Self {
            object: None,
            namespace: Arc::clone(namespace),
            hostname: "*".into(),
            selector: None,
            labels: Labels::default(),
            insecure,
            refusal: None,
            created: None,
        }
    }

    /// Emissary's association of Hosts and Mappings; `strict` is the default since 2.5.
    pub(crate) fn takes(
        &self,
        hostname: &Hostname,
        labels: &Labels,
        strict: bool,
    ) -> Result<(), Apart> {
        let named = match hostname {
            Hostname::None => None,
            Hostname::Regex => Some(true),
            Hostname::Glob(glob) => Some(hostglob::overlap(&self.hostname, glob)),
        };
        let chosen = self.selector.as_ref().map(|selector| selects(selector, labels, strict));
        let taken = match (chosen, named, strict) {
            (None, None, _) => return Err(Apart::NothingToGoBy),
            (chosen, named, false) => chosen == Some(true) || named == Some(true),
            (chosen, named, true) => chosen != Some(false) && named != Some(false),
        };
        match taken {
            true => Ok(()),
            false if named == Some(false) => Err(Apart::Hostname),
            false => Err(Apart::Labels),
        }
    }
}

/// Whether a selector's labels are there: all of them, or any where selectors are loose.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &Labels, strict: bool) -> bool {
    let mut wanted = selector.iter().map(|(name, value)| labels.0.get(name) == Some(value));
    selector.is_empty() || if strict { wanted.all(|has| has) } else { wanted.any(|has| has) }
}

/// Resolves one Host; `None` with problems where it is refused.
pub(crate) fn resolve(
    meta: &Meta,
    host: &crd::Host,
    snapshot: &Snapshot,
    problems: &mut Problems,
) -> Option<Host> {
    let object = &meta.object;
    let written = host.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or("*");
    let hostname = one_spelling(written);
    if !is_hostname(&hostname) {
        problems.bad_hostname(object, written);
        return None;
    }
    let context = host.tls_context.as_ref().and_then(|c| c.name.as_deref());
    let conflict = context.is_some() && host.tls.is_some();
    if conflict {
        problems.exclusive(object, "spec.tls", "tlsContext", "tls");
    }
    let secret = host.tls_secret.as_ref().and_then(|s| {
        let name = s.name.as_deref().filter(|n| !n.is_empty())?;
        Some((name, s.namespace.as_deref().filter(|n| !n.is_empty())))
    });
    if let Some((name, namespace)) = secret {
        let at = secret::Reference { name, namespace, own: &object.namespace, dotted: true };
        secret::check(snapshot, &at, secret::Use::Certificate, object, "spec.tlsSecret", problems);
    }
    let mut refusal = None;
    if let Some(tls) = &host.tls {
        refusal = inline_tls(meta, tls, problems);
    }
    let mut refused = conflict;
    let exists = |name| snapshot.of_kind(Kind::TLSContext).any(|c| &**c.meta.name() == name);
    if let Some(name) = context.filter(|name| !conflict || exists(*name)) {
        let (asked, fits) = named_context(meta, name, secret, snapshot, problems);
        refusal = refusal.or(asked);
        refused |= !fits;
    }
    // One that would have asked for client certificates stays and refuses requests: without it a
    // wider Host would serve its name to everybody.
    if refused && refusal.is_none() {
        return None;
    }
    if secret.is_some() || context.is_some() || host.tls.is_some() {
        let path = match (secret.is_some(), context.is_some()) {
            (true, _) => "spec.tlsSecret",
            (false, true) => "spec.tlsContext",
            (false, false) => "spec.tls",
        };
        problems.not_enforced_yet(object, path, "TLS termination");
    }
    let acme = host.acme_provider.as_ref().and_then(|acme| acme.authority.as_deref());
    if acme.is_some_and(|authority| !matches!(authority, "" | "none")) {
        problems.not_served_yet(object, "spec.acmeProvider", "ACME");
    }
    let selector = host.mapping_selector.as_ref().or(host.selector.as_ref());
    let action = host.request_policy.as_ref().and_then(|p| p.insecure.as_ref()?.action);
    Some(Host {
        object: Some(object.clone()),
        namespace: Arc::clone(&object.namespace),
        hostname: hostname.into(),
        selector: selector.map(|s| s.match_labels.clone()),
        labels: Labels(Arc::new(meta.labels.clone())),
        insecure: match action {
            None | Some(crd::host::InsecureAction::Redirect) => InsecureAction::Redirect,
            Some(crd::host::InsecureAction::Reject) => InsecureAction::Reject,
            Some(crd::host::InsecureAction::Route) => InsecureAction::Route,
        },
        refusal,
        created: meta.created,
    })
}

/// One star at most, at one end; no character that no authority has.
pub(crate) fn is_hostname(text: &str) -> bool {
    let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b) || b >= 0x80;
    inner.bytes().all(fits) && text.len() <= 255
}

fn inline_tls(
    meta: &Meta,
    tls: &crd::host::HostTls,
    problems: &mut Problems,
) -> Option<Arc<Refusal>> {
    let object = &meta.object;
    if let (Some(min), Some(max)) = (tls.min_tls_version, tls.max_tls_version)
        && min > max
    {
        problems.tls_versions(object, "spec.tls.min_tls_version", min.as_str(), max.as_str());
    }
    client_certificates(
        object,
        "spec.tls",
        tls.cert_required == Some(true),
        tls.crl_secret.is_some(),
        problems,
    )
}

/// A Host that asks for client certificates, or checks them against a revocation list, refuses
/// everything until it can ask.
fn client_certificates(
    object: &Ref,
    path: &str,
    required: bool,
    revocation: bool,
    problems: &mut Problems,
) -> Option<Arc<Refusal>> {
    if required {
        problems.client_certificates_fail_closed(object, &format!("{path}.cert_required"));
    }
    if revocation {
        problems.client_certificates_fail_closed(object, &format!("{path}.crl_secret"));
    }
    (required || revocation).then(|| guard::refusal(object))
}

/// What a TLSContext asks of the Host that names it, and whether the two fit together.
fn named_context(
    meta: &Meta,
    name: &str,
    secret: Option<(&str, Option<&str>)>,
    snapshot: &Snapshot,
    problems: &mut Problems,
) -> (Option<Arc<Refusal>>, bool) {
    let object = &meta.object;
    let named = |candidate: &&Arc<crd::Object>| &**candidate.meta.name() == name;
    let contexts: Vec<_> = snapshot.of_kind(Kind::TLSContext).filter(named).collect();
    let own = contexts.iter().find(|c| c.meta.namespace() == meta.namespace());
    let context = own.or_else(|| contexts.first());
    let Some(Spec::TLSContext(spec)) = context.map(|context| &context.spec) else {
        // It may have asked for client certificates.
        problems.unknown_tls_context(object, "spec.tlsContext", name);
        problems.client_certificates_fail_closed(object, "spec.tlsContext");
        return (Some(guard::refusal(object)), true);
    };
    let mut fits = true;
    if let (Some((secret, _)), Some(other)) = (secret, spec.secret.as_deref())
        && secret != other
    {
        problems.context_has_other_secret(object, name, other, secret);
        fits = false;
    }
    let (required, revocation) = (spec.cert_required == Some(true), spec.crl_secret.is_some());
    (client_certificates(object, "spec.tlsContext", required, revocation, problems), fits)
}

#[cfg(test)]
mod tests;
