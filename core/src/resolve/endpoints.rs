// SPDX-License-Identifier: Apache-2.0
//! Where a cluster's endpoints come from: a known Service's EndpointSlices (or Endpoints), its
//! cluster address, an address as written, or DNS.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::crd::kube::{EndpointPort, IntOrString, ServicePort, SliceEndpoint};
use crate::crd::{self, Meta, Object, Spec};
use crate::ir::EndpointSource;
use crate::snapshot::Difference;

use super::mapping::{Lookup, Upstream};

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What a Service's port says of itself where it speaks HTTP/2 over cleartext.
const H2C: &str = "kubernetes.io/h2c";

/// Services with their endpoints, as last seen.
#[derive(Debug, Default)]
pub(crate) struct Services {
    /// By namespace and name.
    entries: Map<Arc<str>, Map<Arc<str>, Entry>>,
    /// The gateway's own.
    zone: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Entry {
    service: Option<Arc<Object>>,
    endpoints: Option<Arc<Object>>,
    /// By name.
    slices: Vec<Arc<Object>>,
}

/// A Service's namespace and name.
pub(crate) type Name = (Arc<str>, Arc<str>);

type Map<K, V> = HashMap<K, V, RandomState>;

/// Why a known Service has no endpoints for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoSuchPort {
    pub(crate) port: u16,
    /// Those that the Service has, as `80 (http)`.
    pub(crate) ports: String,
}

impl Services {
    /// None yet.
    pub(crate) fn new(zone: Option<Arc<str>>) -> Self {
        Self { entries: Map::default(), zone }
    }

    /// Takes in what differs; of the Services those that `in_scope` keeps. Gives those whose
    /// endpoints may be others now.
    pub(crate) fn update(
        &mut self,
        differences: &[Difference<'_>],
        in_scope: impl Fn(&Meta) -> bool,
    ) -> HashSet<Name, RandomState> {
        let mut touched = HashSet::default();
        for difference in differences {
            let gone = difference.before.map(|object| (object, false));
            let come = difference.now.map(|object| (object, true));
            for (object, is_there) in gone.into_iter().chain(come) {
                let meta = &object.meta;
                let name = match object.spec {
                    Spec::Service(_) if in_scope(meta) => &**meta.name(),
                    Spec::Endpoints(_) => meta.name(),
                    Spec::EndpointSlice(_) => match meta.labels.get(SERVICE_NAME) {
                        Some(name) => name,
                        None => continue,
                    },
                    _ => continue,
                };
                let name = (Arc::clone(meta.namespace()), Arc::from(name));
                self.set(&name, object, is_there);
                touched.insert(name);
            }
        }
        touched
    }

    /// An object of a Service is there now, or is there no more.
    fn set(&mut self, (namespace, name): &Name, object: &Arc<Object>, is_there: bool) {
        let names = self.entries.entry(Arc::clone(namespace)).or_default();
        let entry = names.entry(Arc::clone(name)).or_default();
        entry.set(object, is_there);
        if entry.is_empty() {
            names.remove(name);
            if names.is_empty() {
                self.entries.remove(namespace);
            }
        }
    }

    /// The port that a Service gives a name, as an Ingress may use it.
    pub(crate) fn named_port(&self, namespace: &str, service: &str, port: &str) -> Option<u16> {
        let (_, service) = self.entry((namespace, service))?;
        let ports = &service.ports;
        ports.iter().find(|p| p.name.as_deref() == Some(port)).map(|p| p.port)
    }

    /// Whether an upstream is the port of a Service that says that it speaks HTTP/2 by prior
    /// knowledge.
    pub(crate) fn is_h2c(&self, upstream: &Upstream) -> bool {
        let known = service_of(upstream).and_then(|at| self.entry(at));
        let port = known.and_then(|(_, service)| port_of(service, upstream));
        port.and_then(|port| port.app_protocol.as_deref()) == Some(H2C)
    }

    /// A Service that is there, and what belongs to it.
    fn entry(&self, (namespace, name): (&str, &str)) -> Option<(&Entry, &crd::Service)> {
        let entry = self.entries.get(namespace)?.get(name)?;
        match &entry.service.as_ref()?.spec {
            Spec::Service(service) => Some((entry, service)),
            _ => None,
        }
    }

    /// The source of one upstream's endpoints.
    pub(crate) fn source(&self, upstream: &Upstream) -> (EndpointSource, Option<NoSuchPort>) {
        if upstream.lookup == Lookup::Consul {
            return (EndpointSource::Static(Vec::new()), None);
        }
        if let Some(ip) = literal(upstream) {
            return (EndpointSource::Static(vec![SocketAddr::new(ip, upstream.port)]), None);
        }
        let known = service_of(upstream).and_then(|at| Some((at, self.entry(at)?)));
        let Some(((namespace, name), (entry, service))) = known else {
            return (dns(upstream, &upstream.host), None);
        };
        if service.r#type.as_deref() == Some("ExternalName") {
            let name = service.external_name.as_deref().unwrap_or(&upstream.host);
            return (dns(upstream, name.trim_end_matches('.')), None);
        }
        if upstream.lookup == Lookup::ClusterIp {
            let ip = service.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
            return match ip {
                Some(ip) => {
                    (EndpointSource::Static(vec![SocketAddr::new(ip, upstream.port)]), None)
                }
                None => (dns(upstream, &upstream.host), None),
            };
        }
        let (found, missing) = match port_of(service, upstream) {
            Some(port) => (entry.addresses(port, self.zone.as_deref(), upstream), None),
            None => (Vec::new(), Some(no_such_port(service, upstream))),
        };
        let source = EndpointSource::Service {
            namespace: namespace.into(),
            name: name.into(),
            endpoints: found.iter().map(|(address, _)| *address).collect(),
            near: found.iter().filter(|(_, near)| *near).map(|(address, _)| *address).collect(),
        };
        (source, missing)
    }
}

impl Entry {
    fn set(&mut self, object: &Arc<Object>, is_there: bool) {
        let now = is_there.then(|| Arc::clone(object));
        match object.spec {
            Spec::Service(_) => self.service = now,
            Spec::Endpoints(_) => self.endpoints = now,
            _ => {
                let name = &object.meta.object;
                let place = self.slices.binary_search_by(|slice| slice.meta.object.cmp(name));
                let old = match place {
                    Ok(at) => at..at + 1,
                    Err(at) => at..at,
                };
                self.slices.splice(old, now);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.service.is_none() && self.endpoints.is_none() && self.slices.is_empty()
    }

    fn endpoints(&self) -> Option<&crd::Endpoints> {
        match &self.endpoints.as_ref()?.spec {
            Spec::Endpoints(endpoints) => Some(endpoints),
            _ => None,
        }
    }

    fn slices(&self) -> impl Iterator<Item = &crd::EndpointSlice> {
        self.slices.iter().filter_map(|object| match &object.spec {
            Spec::EndpointSlice(slice) => Some(&**slice),
            _ => None,
        })
    }

    /// Addresses that take requests, with the port that serves a Service's port, sorted, each
    /// once, and whether they are in this zone.
    ///
    /// Those that are ready; if none is, those that are on their way out and still serve, as
    /// kube-proxy does. Of a dual-stack Service one family, so that no Pod counts twice.
    fn addresses(
        &self,
        port: &ServicePort,
        zone: Option<&str>,
        upstream: &Upstream,
    ) -> Vec<(SocketAddr, bool)> {
        let mut ready = Vec::new();
        let mut leaving = Vec::new();
        let address = |text: &str, number: u16| {
            text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, number))
        };
        if self.slices.is_empty() {
            for subset in self.endpoints().into_iter().flat_map(|e| &e.subsets) {
                let Some(number) = endpoint_port(&subset.ports, port) else { continue };
                let found = subset.addresses.iter().filter_map(|a| address(&a.ip, number));
                ready.extend(found.map(|address| (address, false)));
            }
        }
        for slice in self.slices() {
            let Some(number) = endpoint_port(&slice.ports, port) else { continue };
            for endpoint in &slice.endpoints {
                let list = match readiness(endpoint) {
                    Readiness::Ready => &mut ready,
                    Readiness::Leaving => &mut leaving,
                    Readiness::Not => continue,
                };
                let near = zone.is_some_and(|zone| is_near(endpoint, zone));
                let found = endpoint.addresses.iter().filter_map(|a| address(a, number));
                list.extend(found.map(|address| (address, near)));
            }
        }
        let mut found = if ready.is_empty() { leaving } else { ready };
        let (v4, v6) = (found.iter().any(|e| e.0.is_ipv4()), found.iter().any(|e| e.0.is_ipv6()));
        if v4 && v6 {
            // As with names: IPv6 where it is switched on.
            found.retain(|(address, _)| address.is_ipv6() == upstream.ipv6);
        }
        found.sort_unstable_by_key(|(address, near)| (*address, !near));
        found.dedup_by_key(|(address, _)| *address);
        found
    }
}

enum Readiness {
    Ready,
    /// Being stopped, still answering.
    Leaving,
    Not,
}

/// Kubernetes: an absent `ready` counts as ready.
fn readiness(endpoint: &SliceEndpoint) -> Readiness {
    let Some(conditions) = &endpoint.conditions else { return Readiness::Ready };
    let leaving = conditions.serving == Some(true) && conditions.terminating == Some(true);
    match conditions.ready {
        None | Some(true) => Readiness::Ready,
        Some(false) if leaving => Readiness::Leaving,
        Some(false) => Readiness::Not,
    }
}

/// What the topology hints say, else the endpoint's own zone.
fn is_near(endpoint: &SliceEndpoint, zone: &str) -> bool {
    match endpoint.hints.as_ref().filter(|hints| !hints.for_zones.is_empty()) {
        Some(hints) => hints.for_zones.iter().any(|z| z.name == zone),
        None => endpoint.zone.as_deref() == Some(zone),
    }
}

fn dns(upstream: &Upstream, name: &str) -> EndpointSource {
    EndpointSource::Dns {
        name: name.into(),
        port: upstream.port,
        ipv4: upstream.ipv4,
        ipv6: upstream.ipv6,
        respect_ttl: upstream.respect_ttl,
        logical: upstream.logical,
    }
}

fn literal(upstream: &Upstream) -> Option<IpAddr> {
    if &*upstream.host == "localhost" {
        return Some(match upstream.ipv4 || !upstream.ipv6 {
            true => IpAddr::V4(Ipv4Addr::LOCALHOST),
            false => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    upstream.host.parse().ok()
}

/// Namespace and name of the Service that an upstream's host name may stand for: `name`,
/// `name.namespace`, `name.namespace.svc` and what follows it.
pub(crate) fn service_of(upstream: &Upstream) -> Option<(&str, &str)> {
    let mut labels = upstream.host.trim_end_matches('.').split('.');
    let name = labels.next()?;
    match (labels.next(), labels.next()) {
        (None, _) => Some((&upstream.namespace, name)),
        (Some(namespace), None | Some("svc")) => Some((namespace, name)),
        _ => None,
    }
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|p| p.eq_ignore_ascii_case("TCP"))
}

/// The Service's port of that number; a Service of a single port also answers for a service
/// without one.
fn port_of<'a>(service: &'a crd::Service, upstream: &Upstream) -> Option<&'a ServicePort> {
    let mut tcp = service.ports.iter().filter(|p| is_tcp(p.protocol.as_deref()));
    let numbered = tcp.clone().find(|p| p.port == upstream.port);
    numbered.or_else(|| {
        let only = tcp.next().filter(|_| !upstream.port_written)?;
        tcp.next().is_none().then_some(only)
    })
}

/// The number behind a Service's port. Kubernetes: both sides carry the Service port's name;
/// slices written by hand may not.
fn endpoint_port(ports: &[EndpointPort], wanted: &ServicePort) -> Option<u16> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let tcp = || ports.iter().filter(|p| is_tcp(p.protocol.as_deref()));
    let by_name = tcp().find(|p| name(&p.name) == name(&wanted.name));
    let by_number = || {
        let number = match &wanted.target_port {
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(name)) => {
                return tcp().find(|p| p.name.as_deref() == Some(name));
            }
            None => Some(wanted.port),
        };
        tcp().find(|p| p.port.is_some() && p.port == number)
    };
    // A port without a name was written by hand: the only one there is meant.
    let only = || {
        let mut all = tcp();
        let first = all.next()?;
        (all.next().is_none() && name(&first.name).is_empty()).then_some(first)
    };
    by_name.or_else(by_number).or_else(only)?.port
}

fn no_such_port(service: &crd::Service, upstream: &Upstream) -> NoSuchPort {
    let ports = service.ports.iter().map(|p| match &p.name {
        Some(name) => format!("{} ({name})", p.port),
        None => p.port.to_string(),
    });
    NoSuchPort { port: upstream.port, ports: ports.collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests;
