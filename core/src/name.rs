// SPDX-License-Identifier: Apache-2.0
//! Names of things: which object, which generation, which slot.
//!
//! Slots are small integers that the sync side hands out for the life of the process and frees
//! when no worker's table has them any more; workers index plain arrays with them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Every kind of object that Ringway reads. The text form is the Kubernetes `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    AuthService,
    ConfigMap,
    ConsulResolver,
    DevPortal,
    Endpoints,
    EndpointSlice,
    Filter,
    FilterPolicy,
    Host,
    Ingress,
    IngressClass,
    KubernetesEndpointResolver,
    KubernetesServiceResolver,
    Listener,
    LogService,
    Mapping,
    Module,
    Namespace,
    RateLimit,
    RateLimitService,
    Secret,
    Service,
    TCPMapping,
    TLSContext,
    TracingService,
}

impl Kind {
    /// The Kubernetes spelling of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthService => "AuthService",
            Self::ConfigMap => "ConfigMap",
            Self::ConsulResolver => "ConsulResolver",
            Self::DevPortal => "DevPortal",
            Self::Endpoints => "Endpoints",
            Self::EndpointSlice => "EndpointSlice",
            Self::Filter => "Filter",
            Self::FilterPolicy => "FilterPolicy",
            Self::Host => "Host",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::KubernetesEndpointResolver => "KubernetesEndpointResolver",
            Self::KubernetesServiceResolver => "KubernetesServiceResolver",
            Self::Listener => "Listener",
            Self::LogService => "LogService",
            Self::Mapping => "Mapping",
            Self::Module => "Module",
            Self::Namespace => "Namespace",
            Self::RateLimit => "RateLimit",
            Self::RateLimitService => "RateLimitService",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::TCPMapping => "TCPMapping",
            Self::TLSContext => "TLSContext",
            Self::TracingService => "TracingService",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object: kind, namespace, name. Cluster-scoped objects have an empty namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Ref {
    pub kind: Kind,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Ref {
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

/// `Mapping default/quote`, or `IngressClass ambassador` for cluster-scoped objects.
impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Number of a published table, counted from 1 for the life of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! slot {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(pub u32);

        impl $name {
            /// The slot as an array index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

slot! {
    /// A Listener's stable number.
    ListenerSlot
}
slot! {
    /// A route's stable number: one per Mapping (or Ingress path), shared by all virtual hosts.
    RouteSlot
}
slot! {
    /// An upstream cluster's stable number.
    ClusterSlot
}
