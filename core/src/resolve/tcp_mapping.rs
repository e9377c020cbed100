// SPDX-License-Identifier: Apache-2.0
//! One TCPMapping → its port, server name and upstream, a pure function of it and of [`Facts`];
//! then those of one address, port and host → one route that shares connections by weight.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::crd::{self, Rest};
use crate::ir;
use crate::limits;
use crate::name::Ref;
use crate::problem::Problems;
use crate::snapshot::Settings;

use super::facts::Facts;
use super::host::is_hostname;
use super::mapping::{self, Upstream, one_spelling};
use super::weight;

/// A TCPMapping that is accepted as far as it can be judged by itself.
#[derive(Debug, PartialEq)]
pub(crate) struct TcpMapping {
    pub(crate) object: Ref,
    /// `name.namespace`: Emissary loads in this order.
    pub(crate) load_key: Arc<str>,
    /// `None`: where all Listeners bind.
    address: Option<IpAddr>,
    port: u16,
    host: Option<Arc<str>>,
    weight: Option<i64>,
    pub(crate) upstream: Arc<Upstream>,
    idle_timeout: Option<Duration>,
}

/// TCPMappings of one address, port and host.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) address: SocketAddr,
    /// Server name that it takes, a glob perhaps; `None`: everything in cleartext.
    pub(crate) host: Option<Arc<str>>,
    /// Loaded first to last, at least one.
    pub(crate) members: Vec<Ref>,
    pub(crate) route: Arc<ir::TcpRoute>,
}

/// Resolves one TCPMapping; `None` with problems where it is refused.
pub(crate) fn resolve(
    object: &Ref,
    tcp: &crd::TCPMapping,
    facts: &Facts,
) -> (Option<TcpMapping>, Problems) {
    let mut problems = Problems::default();
    let upstream = upstream(object, tcp, facts, &mut problems);
    let mut refused = false;
    if tcp.port == 0 {
        problems.out_of_bounds(object, "spec.port", 0, 1, 65535);
        refused = true;
    }
    let written = |text: &'_ Option<String>| text.clone().filter(|text| !text.is_empty());
    let address = written(&tcp.address).and_then(|text| {
        let address = text.parse();
        if address.is_err() {
            problems.bad_address(object, "spec.address", &text);
            refused = true;
        }
        address.ok()
    });
    let host = written(&tcp.host).map(|host| one_spelling(&host));
    if let Some(host) = host.as_deref().filter(|h| !is_hostname(h) || h.contains([':', '['])) {
        problems.bad_server_name(object, "spec.host", host);
        refused = true;
    }
    if tcp.circuit_breakers.is_some() {
        problems.not_enforced_yet(object, "spec.circuit_breakers", "circuit breakers");
    }
    let idle_timeout = match tcp.idle_timeout_ms.as_ref().map(|text| (text, text.0.parse())) {
        None => Some(limits::TUNNEL_IDLE_TIMEOUT),
        Some((_, Ok(0))) => None,
        Some((_, Ok(ms))) => Some(Duration::from_millis(ms)),
        // Emissary does not look at it: no reason to refuse the rest.
        Some((text, Err(_))) => {
            problems.bad_milliseconds(object, "spec.idle_timeout_ms", &text.0);
            Some(limits::TUNNEL_IDLE_TIMEOUT)
        }
    };
    let resolved = upstream.filter(|_| !refused).map(|upstream| TcpMapping {
        object: object.clone(),
        load_key: format!("{}.{}", object.name, object.namespace).into(),
        address,
        port: tcp.port,
        host: host.map(Arc::from),
        weight: tcp.weight,
        upstream,
        idle_timeout,
    });
    (resolved, problems)
}

/// What it shares with a Mapping is read as a Mapping's: the same service is the same cluster.
fn upstream(
    object: &Ref,
    tcp: &crd::TCPMapping,
    facts: &Facts,
    problems: &mut Problems,
) -> Option<Arc<Upstream>> {
    let rest = crd::mapping::MappingRest {
        enable_ipv4: tcp.enable_ipv4,
        enable_ipv6: tcp.enable_ipv6,
        resolver: tcp.resolver.clone(),
        tls: tcp.tls.clone(),
        cluster_tag: tcp.cluster_tag.clone(),
        stats_name: tcp.stats_name.clone(),
        ..Default::default()
    };
    let service = tcp.service.clone();
    let mapping = crd::Mapping { service, rest: Rest::of(rest), ..crd::Mapping::default() };
    let (upstream, found) = mapping::upstream(object, &mapping, facts);
    problems.extend(found);
    upstream.map(Arc::new)
}

/// The groups of these TCPMappings (in load order), by address, port and host. `cluster` names
/// each upstream's cluster.
pub(crate) fn group(
    mappings: &[Arc<TcpMapping>],
    settings: &Settings,
    cluster: impl Fn(&Arc<Upstream>) -> Arc<str>,
    problems: &mut Problems,
) -> Vec<Group> {
    let key = |mapping: &TcpMapping| {
        let address = mapping.address.unwrap_or(settings.bind_address);
        (SocketAddr::new(address, mapping.port), mapping.host.clone())
    };
    let mut sorted: Vec<&Arc<TcpMapping>> = mappings.iter().collect();
    sorted.sort_by_cached_key(|mapping| key(mapping));
    let mut groups = Vec::new();
    for members in sorted.chunk_by(|a, b| key(a) == key(b)) {
        let (address, host) = key(members[0]);
        let route = Arc::new(route(members, &cluster, problems));
        let members = members.iter().map(|mapping| mapping.object.clone()).collect();
        groups.push(Group { address, host, members, route });
    }
    groups
}

/// Emissary hands the cumulative thresholds of the weights to Envoy as if they were weights, so
/// that 30 and 70 become 30 and 100. Here they are what was written.
fn route(
    members: &[&Arc<TcpMapping>],
    cluster: impl Fn(&Arc<Upstream>) -> Arc<str>,
    problems: &mut Problems,
) -> ir::TcpRoute {
    let weights: Vec<_> = members.iter().map(|m| (&m.object, m.weight)).collect();
    let windows = weight::shares(&weights, problems);
    let mut shares: Vec<(bool, ir::TcpMember)> = members
        .iter()
        .zip(windows)
        .map(|(mapping, (from, to))| {
            let member = ir::TcpMember {
                from,
                to,
                object: mapping.object.clone(),
                cluster: cluster(&mapping.upstream),
                idle_timeout: mapping.idle_timeout,
            };
            (mapping.weight.is_none(), member)
        })
        .collect();
    // Weighted members in load order, then the weightless.
    shares.sort_by_key(|(weightless, _)| *weightless);
    ir::TcpRoute { members: shares.into_iter().map(|(_, member)| member).collect() }
}

#[cfg(test)]
mod tests;
