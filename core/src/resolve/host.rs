// SPDX-License-Identifier: Apache-2.0
//! One Host → its name, selector, cleartext policy and TLS.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crd::{self, Meta};
use crate::ir::{InsecureAction, Refusal};
use crate::name::Ref;
use crate::problem::Problems;

use super::mapping::{Hostname, Labels, one_spelling};
use super::tls::{self, ForHost, HostTls};
use super::{guard, hostglob, ingress};

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
    pub(crate) tls: HostTls,
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
    /// The host that serves everything when there is no Host; with a fallback certificate,
    /// cleartext is redirected.
    pub(crate) fn built_in(namespace: &Arc<str>, tls: HostTls) -> Self {
        let insecure = match tls {
            HostTls::None => InsecureAction::Route,
            _ => InsecureAction::Redirect,
        };
        Self {
            object: None,
            namespace: Arc::clone(namespace),
            hostname: "*".into(),
            selector: None,
            labels: Labels::default(),
            insecure,
            refusal: None,
            tls,
            created: None,
        }
    }

    /// Emissary's association of Hosts and Mappings; `strict` is the default since 2.5. A challenge's
    /// solver does not know what a Host selects: the name is enough.
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
        let selector = self.selector.as_ref();
        let asked = selector.filter(|_| named.is_none() || !ingress::is_challenge(labels));
        let chosen = asked.map(|selector| selects(selector, labels, strict));
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
    cx: &mut tls::Cx<'_>,
    problems: &mut Problems,
) -> Option<Host> {
    let object = &meta.object;
    let written = host.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or("*");
    let hostname = one_spelling(written);
    if !is_hostname(&hostname) {
        problems.bad_hostname(object, written);
        return None;
    }
    let ForHost { tls, fails_closed, is_refused } = cx.host(object, &hostname, host, problems);
    if is_refused {
        return None;
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
        refusal: fails_closed.then(|| guard::refusal(object)),
        tls,
        created: meta.created,
    })
}

/// One star at most, at one end; no character that no authority has.
pub(crate) fn is_hostname(text: &str) -> bool {
    let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b) || b >= 0x80;
    inner.bytes().all(fits) && text.len() <= 255
}

#[cfg(test)]
pub(crate) mod tests;
