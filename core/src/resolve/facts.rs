// SPDX-License-Identifier: Apache-2.0
//! What all Mappings depend on besides themselves. Equal facts → every remembered Mapping stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crd::mapping::{AddedHeader, Keepalive};
use crate::snapshot::Settings;

use super::balance::Balancing;
use super::mapping::Lookup;

#[derive(Debug, PartialEq)]
pub(crate) struct Facts {
    pub(crate) settings: Arc<Settings>,
    /// The gateway's own namespace.
    pub(crate) namespace: Arc<str>,
    /// For Mappings that name no resolver.
    pub(crate) default_lookup: Lookup,
    pub(crate) defaults: Defaults,
    /// Resolver objects by name; Emissary does not tell namespaces apart.
    pub(crate) resolvers: BTreeMap<Arc<str>, Resolver>,
    /// Names and namespaces of TLSContexts.
    pub(crate) tls_contexts: BTreeSet<(Arc<str>, Arc<str>)>,
    /// `matchLabels` of every Host that has a selector.
    pub(crate) host_selectors: Vec<BTreeMap<String, String>>,
}

/// What the Module sets for all Mappings.
#[derive(Debug, PartialEq)]
pub(crate) struct Defaults {
    pub(crate) add_linkerd_headers: bool,
    pub(crate) add_request_headers: Option<BTreeMap<String, AddedHeader>>,
    pub(crate) add_response_headers: Option<BTreeMap<String, AddedHeader>>,
    pub(crate) remove_request_headers: Option<Vec<String>>,
    pub(crate) remove_response_headers: Option<Vec<String>>,
    pub(crate) stats_name: Option<String>,
    pub(crate) request_timeout_ms: Option<u64>,
    pub(crate) cluster_idle_timeout_ms: Option<u64>,
    pub(crate) cluster_max_connection_lifetime_ms: Option<u64>,
    /// Module `load_balancer`.
    pub(crate) balancing: Option<Balancing>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) enable_ipv4: bool,
    pub(crate) enable_ipv6: bool,
    /// Module `resolver`.
    pub(crate) resolver: Option<String>,
    pub(crate) use_own_namespace: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            add_linkerd_headers: false,
            add_request_headers: None,
            add_response_headers: None,
            remove_request_headers: None,
            remove_response_headers: None,
            stats_name: None,
            request_timeout_ms: None,
            cluster_idle_timeout_ms: None,
            cluster_max_connection_lifetime_ms: None,
            balancing: None,
            keepalive: None,
            enable_ipv4: true,
            enable_ipv6: false,
            resolver: None,
            use_own_namespace: false,
        }
    }
}

/// Kinds of resolvers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    Consul,
    Endpoint,
    Service,
}

impl Facts {
    /// A resolver object, or one of those that are always there.
    pub(crate) fn resolver(&self, name: &str) -> Option<Resolver> {
        let built_in = match name {
            "kubernetes-service" => Some(Resolver::Service),
            "kubernetes-endpoint" | "endpoint" => Some(Resolver::Endpoint),
            "consul" | "consul-endpoint" => Some(Resolver::Consul),
            _ => None,
        };
        self.resolvers.get(name).copied().or(built_in)
    }

    /// Namespace and name of the TLSContext that an object means: see
    /// [`super::tls::Contexts::find`].
    pub(crate) fn tls_context(&self, name: &str, own: &str) -> Option<(Arc<str>, Arc<str>)> {
        let first = (Arc::from(name), Arc::from(""));
        let mut of_name = self.tls_contexts.range(first..).take_while(|(n, _)| &**n == name);
        let mut others = of_name.clone();
        let found = of_name.find(|(_, namespace)| &**namespace == own).or_else(|| others.next());
        found.map(|(name, namespace)| (Arc::clone(namespace), Arc::clone(name)))
    }
}
