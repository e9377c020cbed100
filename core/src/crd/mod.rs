// SPDX-License-Identifier: Apache-2.0
//! What the user wrote: one typed struct per kind, field for field, without meaning.
//!
//! Reading never fails as a whole: each document gives objects, or problems with their place.
//! Older dialects are normalised to v3alpha1 shapes; values are checked for type, not for sense.

pub mod convert;
mod decode;
pub mod dev_portal;
pub mod encode;
pub mod expand;
pub mod filter;
pub mod host;
pub mod ingress;
mod json;
pub mod kube;
mod legacy;
pub mod listener;
pub mod mapping;
pub mod meta;
pub mod module;
pub mod node;
pub mod parse;
pub mod rate_limit;
pub mod resolver;
pub mod schema;
pub mod services;
pub mod source;
pub mod split;
pub mod tcp_mapping;
pub mod tls_context;

pub use decode::Rest;
pub use dev_portal::DevPortal;
pub use filter::{Filter, FilterPolicy};
pub use host::Host;
pub use ingress::{Ingress, IngressClass};
pub use kube::{ConfigMap, EndpointSlice, Endpoints, Namespace, Secret, Service};
pub use listener::Listener;
pub use mapping::Mapping;
pub use meta::{Dialect, Meta};
pub use module::Module;
pub use parse::{File, Options, Parsed, parse, parse_object};
pub use rate_limit::RateLimit;
pub use resolver::{ConsulResolver, KubernetesEndpointResolver, KubernetesServiceResolver};
pub use services::{AuthService, LogService, RateLimitService, TracingService};
pub use source::{Diagnostic, Document, Malformed, Origin};
pub use tcp_mapping::TCPMapping;
pub use tls_context::TLSContext;

use crate::name::{Kind, Ref};
use crate::sorted::Named;

/// One object as written. Immutable: a change is another object.
#[derive(Clone, Debug)]
pub struct Object {
    pub meta: Meta,
    pub spec: Spec,
    pub origin: Origin,
}

/// The typed content of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    AuthService(Box<AuthService>),
    ConfigMap(Box<ConfigMap>),
    ConsulResolver(Box<ConsulResolver>),
    DevPortal(Box<DevPortal>),
    Endpoints(Box<Endpoints>),
    EndpointSlice(Box<EndpointSlice>),
    Filter(Box<Filter>),
    FilterPolicy(Box<FilterPolicy>),
    Host(Box<Host>),
    Ingress(Box<Ingress>),
    IngressClass(Box<IngressClass>),
    KubernetesEndpointResolver(Box<KubernetesEndpointResolver>),
    KubernetesServiceResolver(Box<KubernetesServiceResolver>),
    Listener(Box<Listener>),
    LogService(Box<LogService>),
    Mapping(Box<Mapping>),
    Module(Box<Module>),
    Namespace(Box<Namespace>),
    RateLimit(Box<RateLimit>),
    RateLimitService(Box<RateLimitService>),
    Secret(Box<Secret>),
    Service(Box<Service>),
    TCPMapping(Box<TCPMapping>),
    TLSContext(Box<TLSContext>),
    TracingService(Box<TracingService>),
}

impl Named for Object {
    type Name = Ref;

    fn name(&self) -> &Ref {
        &self.meta.object
    }
}

impl Spec {
    pub fn kind(&self) -> Kind {
        match self {
            Self::AuthService(_) => Kind::AuthService,
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::ConsulResolver(_) => Kind::ConsulResolver,
            Self::DevPortal(_) => Kind::DevPortal,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Filter(_) => Kind::Filter,
            Self::FilterPolicy(_) => Kind::FilterPolicy,
            Self::Host(_) => Kind::Host,
            Self::Ingress(_) => Kind::Ingress,
            Self::IngressClass(_) => Kind::IngressClass,
            Self::KubernetesEndpointResolver(_) => Kind::KubernetesEndpointResolver,
            Self::KubernetesServiceResolver(_) => Kind::KubernetesServiceResolver,
            Self::Listener(_) => Kind::Listener,
            Self::LogService(_) => Kind::LogService,
            Self::Mapping(_) => Kind::Mapping,
            Self::Module(_) => Kind::Module,
            Self::Namespace(_) => Kind::Namespace,
            Self::RateLimit(_) => Kind::RateLimit,
            Self::RateLimitService(_) => Kind::RateLimitService,
            Self::Secret(_) => Kind::Secret,
            Self::Service(_) => Kind::Service,
            Self::TCPMapping(_) => Kind::TCPMapping,
            Self::TLSContext(_) => Kind::TLSContext,
            Self::TracingService(_) => Kind::TracingService,
        }
    }
}
