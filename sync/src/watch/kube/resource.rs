// SPDX-License-Identifier: Apache-2.0
//! What is asked of an API server: which resources, in which versions, of which namespace.

use ringway_core::name::Kind;

/// One resource that is listed and watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: &'static str,
    /// Where it may be served, best first: an older version is as good where the newest is not
    /// served, or can only be had by a conversion that nobody does any more.
    pub(super) places: Vec<Place>,
    /// Selectors, as a query.
    pub(super) query: String,
    /// Only names and versions are wanted.
    pub(super) metadata_only: bool,
}

/// One version of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `getambassador.io/v3alpha1`, or `v1`.
    pub(super) api_version: &'static str,
    /// Path of the collection.
    pub(super) path: String,
    /// Name of the CRD behind it; none of Kubernetes' own kinds.
    pub(super) crd: Option<String>,
}

/// Which objects count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only this namespace; all where there is none.
    pub namespace: Option<String>,
    /// `AMBASSADOR_LABEL_SELECTOR`: of the user's objects, only these.
    pub label_selector: Option<String>,
    /// `AMBASSADOR_FIELD_SELECTOR`: the same by fields.
    pub field_selector: Option<String>,
}

const EMISSARY: [&str; 3] =
    ["getambassador.io/v3alpha1", "getambassador.io/v2", "getambassador.io/v1"];
const FILTERS: [&str; 3] =
    ["getambassador.io/v3alpha1", "getambassador.io/v2", "gateway.getambassador.io/v1alpha1"];

/// Every resource that is watched as a whole: Secrets are not among them.
pub(super) fn targets(scope: &Scope) -> Vec<(Kind, Target)> {
    let kinds: [(Kind, &str, &[&str]); 21] = [
        (Kind::AuthService, "authservices", &EMISSARY),
        (Kind::ConsulResolver, "consulresolvers", &EMISSARY),
        (Kind::DevPortal, "devportals", &EMISSARY),
        (Kind::EndpointSlice, "endpointslices", &["discovery.k8s.io/v1"]),
        (Kind::Filter, "filters", &FILTERS),
        (Kind::FilterPolicy, "filterpolicies", &FILTERS),
        (Kind::Host, "hosts", &EMISSARY),
        (Kind::Ingress, "ingresses", &["networking.k8s.io/v1"]),
        (Kind::IngressClass, "ingressclasses", &["networking.k8s.io/v1"]),
        (Kind::KubernetesEndpointResolver, "kubernetesendpointresolvers", &EMISSARY),
        (Kind::KubernetesServiceResolver, "kubernetesserviceresolvers", &EMISSARY),
        (Kind::Listener, "listeners", &EMISSARY),
        (Kind::LogService, "logservices", &EMISSARY),
        (Kind::Mapping, "mappings", &EMISSARY),
        (Kind::Module, "modules", &EMISSARY),
        (Kind::RateLimit, "ratelimits", &EMISSARY),
        (Kind::RateLimitService, "ratelimitservices", &EMISSARY),
        (Kind::Service, "services", &["v1"]),
        (Kind::TCPMapping, "tcpmappings", &EMISSARY),
        (Kind::TLSContext, "tlscontexts", &EMISSARY),
        (Kind::TracingService, "tracingservices", &EMISSARY),
    ];
    let of = |(kind, plural, versions): (Kind, &'static str, &[&'static str])| {
        let namespace = scope.namespace.as_deref().filter(|_| kind != Kind::IngressClass);
        let places = versions.iter().map(|version| place(version, plural, namespace)).collect();
        // Selectors are for what users write for the gateway, not for what it leads to.
        let selects = versions.len() > 1 || kind == Kind::Ingress;
        let query = if selects { selectors(scope) } else { String::new() };
        (kind, Target { kind: kind.as_str(), places, query, metadata_only: false })
    };
    kinds.into_iter().map(of).collect()
}

/// The collection of Mappings in the newest version.
pub(super) fn mappings(scope: &Scope) -> String {
    place(EMISSARY[0], "mappings", scope.namespace.as_deref()).path
}

/// The definitions of the resources themselves.
pub(super) fn definitions() -> Target {
    let place = place("apiextensions.k8s.io/v1", "customresourcedefinitions", None);
    Target {
        kind: "CustomResourceDefinition",
        places: vec![Place { crd: None, ..place }],
        query: String::new(),
        metadata_only: true,
    }
}

/// Pods with these labels.
pub(super) fn pods(namespace: &str, labels: &str) -> Target {
    Target {
        kind: "Pod",
        places: vec![place("v1", "pods", Some(namespace))],
        query: format!("&labelSelector={}", escape(labels)),
        metadata_only: false,
    }
}

/// All nodes.
pub(super) fn nodes() -> Target {
    let places = vec![place("v1", "nodes", None)];
    Target { kind: "Node", places, query: String::new(), metadata_only: false }
}

/// One Secret.
pub(super) fn secret(namespace: &str, name: &str) -> (String, String) {
    let collection = format!("/api/v1/namespaces/{namespace}/secrets");
    (format!("{collection}/{name}"), collection)
}

fn place(api_version: &'static str, plural: &str, namespace: Option<&str>) -> Place {
    let root = if api_version.contains('/') { "/apis" } else { "/api" };
    let path = match namespace {
        Some(namespace) => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{api_version}/{plural}"),
    };
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let crd = group.ends_with("getambassador.io").then(|| format!("{plural}.{group}"));
    Place { api_version, path, crd }
}

fn selectors(scope: &Scope) -> String {
    let parts =
        [("labelSelector", &scope.label_selector), ("fieldSelector", &scope.field_selector)];
    let part = |(name, value): (&str, &Option<String>)| {
        value.as_ref().map(|value| format!("&{name}={}", escape(value)))
    };
    parts.into_iter().filter_map(part).collect()
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3).
pub(crate) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(scope: &Scope, kind: Kind) -> Target {
        let found = targets(scope).into_iter().find(|(of, _)| *of == kind);
        found.expect("every kind has one").1
    }

    #[test]
    fn paths_and_queries() {
        let all = target(&Scope::default(), Kind::Mapping);
        assert_eq!(all.places[0].path, "/apis/getambassador.io/v3alpha1/mappings");
        assert_eq!(all.places[0].crd.as_deref(), Some("mappings.getambassador.io"));
        assert_eq!(all.query, "");
        let scope = Scope {
            namespace: Some("edge".into()),
            label_selector: Some("team in (a, b)".into()),
            field_selector: Some("metadata.name!=x".into()),
        };
        let some = target(&scope, Kind::Mapping);
        assert_eq!(some.places[1].path, "/apis/getambassador.io/v2/namespaces/edge/mappings");
        assert_eq!(
            some.query,
            "&labelSelector=team%20in%20%28a%2C%20b%29&fieldSelector=metadata.name%21%3Dx"
        );
        let services = target(&scope, Kind::Service);
        assert_eq!(services.places[0].path, "/api/v1/namespaces/edge/services");
        assert_eq!((services.query.as_str(), &services.places[0].crd), ("", &None));
        let classes = target(&scope, Kind::IngressClass);
        assert_eq!(classes.places[0].path, "/apis/networking.k8s.io/v1/ingressclasses");
    }
}
