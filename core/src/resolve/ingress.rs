// SPDX-License-Identifier: Apache-2.0
//! Kubernetes Ingress → the Mappings and Hosts that Emissary makes of it: prefixes are strings and
//! are stripped, exact paths come first, each TLS host becomes a Host.
//!
//! One thing is not as there: the path of an ACME challenge, which a certificate's solver adds for
//! a while, is answered whatever Hosts, redirects and guards say, and comes to the solver as it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::crd::host::{Insecure, InsecureAction, RequestPolicy, SecretRef, Selector};
use crate::crd::ingress::{IngressBackend, IngressPath, IngressRule};
use crate::crd::{self, Meta, Object, Spec};
use crate::name::Kind;
use crate::problem::Problems;
use crate::snapshot::Snapshot;

use super::endpoints::Services;
use super::mapping::{ACME_CHALLENGE, Labels};

/// Ties the Mappings of an Ingress to the Hosts that its `tls` makes.
const LABEL: &str = "a10r-k8s-ingress";
/// Ties the paths of challenges to the Hosts that are made for them alone.
const CHALLENGE_LABEL: &str = "ringway-acme-challenge";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const ID_ANNOTATION: &str = "getambassador.io/ambassador-id";
const CONTROLLER: &str = "getambassador.io/ingress-controller";

/// What an Ingress stands for. Equal inputs give equal results, so that it can be remembered.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expanded {
    pub(crate) mappings: Vec<Path>,
    /// With labels as the Ingress has them.
    pub(crate) hosts: Vec<crd::Host>,
    /// Hosts of challenges, for names that no other Host has.
    pub(crate) challenged: Vec<crd::Host>,
    pub(crate) problems: Problems,
}

/// One path of an Ingress.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    /// Name of the Mapping that Emissary would make: `<name>-<rule>-<path>`.
    pub(crate) name: String,
    /// Where in the Ingress.
    pub(crate) at: String,
    pub(crate) mapping: crd::Mapping,
    /// Further to the labels of the Ingress.
    pub(crate) labels: Vec<(String, String)>,
    /// A token below ACME's well-known path.
    pub(crate) is_challenge: bool,
}

/// IngressClasses whose controller we are.
pub(crate) fn classes(snapshot: &Snapshot) -> BTreeSet<&str> {
    let classes = snapshot.of_kind(Kind::IngressClass).filter(|object| match &object.spec {
        Spec::IngressClass(class) => class.controller.as_deref() == Some(CONTROLLER),
        _ => false,
    });
    classes.map(|object| &**object.meta.name()).collect()
}

/// Whether an Ingress is for this gateway.
pub(crate) fn is_ours(object: &Object, classes: &BTreeSet<&str>, ambassador_id: &str) -> bool {
    let Spec::Ingress(ingress) = &object.spec else { return false };
    let annotation = |name: &str| object.meta.annotations.get(name).map(String::as_str);
    let by_class = ingress.ingress_class_name.as_deref().is_some_and(|c| classes.contains(c));
    let by_annotation =
        annotation(CLASS_ANNOTATION).is_some_and(|c| c.eq_ignore_ascii_case("ambassador"));
    let id = annotation(ID_ANNOTATION).unwrap_or("default");
    (by_class || by_annotation) && id == ambassador_id
}

/// Expands one Ingress.
pub(crate) fn expand(meta: &Meta, ingress: &crd::Ingress, services: &Services) -> Expanded {
    let mut expanded = Expanded::default();
    let id = format!("a10r-ingress-{}-{}", meta.name(), meta.namespace());
    let label = (!ingress.tls.is_empty()).then(|| (LABEL.to_owned(), id.clone()));

    for tls in &ingress.tls {
        let Some(secret) = &tls.secret_name else { continue };
        let every = ["*".to_owned()];
        let hosts = if tls.hosts.is_empty() { &every[..] } else { &tls.hosts[..] };
        expanded.hosts.extend(hosts.iter().map(|host| tls_host(host, secret, &id)));
    }

    let mut cx = Context { meta, services, label, expanded };
    if let Some(backend) = &ingress.default_backend {
        let at = "spec.defaultBackend".to_owned();
        if let Some(service) = cx.service(backend, &at) {
            let mut mapping = blank("/", service);
            mapping.hostname = Some("*".to_owned());
            cx.push(format!("{}-default-backend", meta.name()), at, mapping);
        }
    }
    for (rule_at, rule) in ingress.rules.iter().enumerate() {
        let paths = rule.http.as_ref().map_or(&[][..], |http| &http.paths);
        for (path_at, path) in paths.iter().enumerate() {
            let at = format!("spec.rules[{rule_at}].http.paths[{path_at}]");
            cx.path(rule, path, format!("{}-{rule_at}-{path_at}", meta.name()), at);
        }
    }
    cx.expanded
}

struct Context<'a> {
    meta: &'a Meta,
    services: &'a Services,
    label: Option<(String, String)>,
    expanded: Expanded,
}

impl Context<'_> {
    fn push(&mut self, name: String, at: String, mut mapping: crd::Mapping) {
        let is_challenge = mapping.prefix.len() > ACME_CHALLENGE.len()
            && mapping.prefix.starts_with(ACME_CHALLENGE);
        let mut labels: Vec<_> = self.label.clone().into_iter().collect();
        if is_challenge {
            labels.push((CHALLENGE_LABEL.to_owned(), String::new()));
            challenge(&mut mapping);
            let name = mapping.hostname.as_deref().filter(|name| *name != "*");
            self.expanded.challenged.extend(name.map(challenged_host));
        }
        self.expanded.mappings.push(Path { name, at, mapping, labels, is_challenge });
    }

    fn path(&mut self, rule: &IngressRule, path: &IngressPath, name: String, at: String) {
        let Some(service) = self.service(&path.backend, &at) else { return };
        let text = path.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
        let mut mapping = blank(text, service);
        if path.path_type.as_deref() == Some("Exact") {
            mapping.prefix_exact = true;
            mapping.precedence = Some(1);
        }
        match rule.host.as_deref().filter(|host| !host.is_empty()) {
            // Kubernetes: the star stands for one label.
            Some(host) if host.starts_with("*.") => {
                let rest = host[1..].replace('.', r"\.");
                mapping.host = Some(format!("^[a-z0-9]([-a-z0-9]*[a-z0-9])?{rest}$"));
                mapping.host_regex = true;
            }
            Some(host) => mapping.hostname = Some(host.to_owned()),
            // With TLS, only the Hosts that it makes.
            None if self.label.is_some() => {}
            None => mapping.hostname = Some("*".to_owned()),
        }
        self.push(name, at, mapping);
    }

    fn service(&mut self, backend: &IngressBackend, at: &str) -> Option<String> {
        let object = &self.meta.object;
        let Some(service) = &backend.service else {
            self.expanded.problems.ingress_without_service(object, at);
            return None;
        };
        let port = service.port.as_ref().and_then(|port| {
            let named = |name: &String| {
                self.services.named_port(self.meta.namespace(), &service.name, name)
            };
            port.number.or_else(|| port.name.as_ref().and_then(named))
        });
        let Some(port) = port else {
            let name = service.port.as_ref().and_then(|p| p.name.as_deref()).unwrap_or_default();
            self.expanded.problems.ingress_port(object, at, &service.name, name);
            return None;
        };
        Some(format!("{}.{}:{port}", service.name, self.meta.namespace()))
    }
}

fn blank(prefix: &str, service: String) -> crd::Mapping {
    crd::Mapping { prefix: prefix.to_owned(), service, ..crd::Mapping::default() }
}

/// Whether these labels are those of a challenge's path.
pub(crate) fn is_challenge(labels: &Labels) -> bool {
    labels.0.contains_key(CHALLENGE_LABEL)
}

/// One token is one path, which comes before all others, and whoever asks for it is no user who
/// could be asked who he is. A solver looks at the path.
fn challenge(mapping: &mut crd::Mapping) {
    mapping.prefix_exact = true;
    mapping.precedence = Some(i64::MAX);
    mapping.rewrite = Some(String::new());
    mapping.bypass_auth = Some(true);
}

/// A Host that serves challenges in cleartext and nothing else.
fn challenged_host(hostname: &str) -> crd::Host {
    crd::Host {
        hostname: Some(hostname.to_owned()),
        mapping_selector: Some(Selector {
            match_labels: [(CHALLENGE_LABEL.to_owned(), String::new())].into(),
        }),
        request_policy: Some(RequestPolicy {
            insecure: Some(Insecure { action: Some(InsecureAction::Reject) }),
        }),
        ..crd::Host::default()
    }
}

fn tls_host(hostname: &str, secret: &str, id: &str) -> crd::Host {
    crd::Host {
        hostname: Some(hostname.to_owned()),
        mapping_selector: Some(Selector {
            match_labels: [(LABEL.to_owned(), id.to_owned())].into(),
        }),
        tls_secret: Some(SecretRef { name: Some(secret.to_owned()), namespace: None }),
        request_policy: Some(RequestPolicy {
            insecure: Some(Insecure { action: Some(InsecureAction::Route) }),
        }),
        ..crd::Host::default()
    }
}

/// The Ingresses of a snapshot that are for this gateway.
pub(crate) fn ours<'s>(
    snapshot: &'s Snapshot,
    in_scope: impl Fn(&Meta) -> bool + 's,
) -> impl Iterator<Item = &'s Arc<Object>> {
    let classes = classes(snapshot);
    let id = Arc::clone(&snapshot.settings.ambassador_id);
    snapshot
        .of_kind(Kind::Ingress)
        .filter(move |object| in_scope(&object.meta) && is_ours(object, &classes, &id))
}

#[cfg(test)]
mod tests;
