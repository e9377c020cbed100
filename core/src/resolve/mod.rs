// SPDX-License-Identifier: Apache-2.0
//! Snapshot → (Ir, Problems): what was meant. It never fails; a bad object rejects only itself.
//!
//! Each Mapping is judged by itself first ([`mapping`], remembered per object), then grouped and
//! ordered ([`group`]), then attached to Hosts and these to Listeners ([`attach`]).

mod attach;
mod balance;
mod duration;
mod endpoints;
mod facts;
mod group;
mod guard;
mod host;
mod hostglob;
mod ingress;
mod listener;
mod mapping;
mod memo;
mod module;
mod observers;
mod probe;
mod secret;
mod service;
mod tcp_mapping;
mod tls;
mod unenforced;
mod weight;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

pub use memo::Memo;
pub use tls::{Files, files, secrets};

use crate::crd::{Meta, Spec};
use crate::ir::{self, Ir, VirtualHost};
use crate::name::Kind;
use crate::problem::Problems;
use crate::snapshot::{Difference, ServiceResolution, Snapshot};
use crate::sorted::Sorted;

use endpoints::{Name, Services};
use facts::{Facts, Resolver};
use host::Host;
use listener::Listener;
use mapping::{Labels, Lookup};
use memo::{Last, Resolved, Round, Source, Touched};
use tls::{Contexts, Unusable};

/// The certificate that serves when there is no Host.
const FALLBACK_CERTIFICATE: &str = "fallback-self-signed-cert";

/// What a snapshot means, and what is wrong in it. `memo` makes it quick where little has changed
/// since it was last used; the result is the same with any.
pub fn resolve(snapshot: &Snapshot, memo: &mut Memo) -> (Ir, Problems) {
    let settings = &snapshot.settings;
    let in_scope = |meta: &Meta| {
        !settings.single_namespace
            || meta.namespace().is_empty()
            || *meta.namespace() == settings.namespace
    };
    let last = memo.last.take().filter(|last| Arc::ptr_eq(&last.snapshot.settings, settings));
    if last.is_none() {
        *memo = Memo::default();
        memo.services = Services::new(settings.zone.clone());
    }
    let nothing = Snapshot::default();
    let differences = snapshot.differences(last.as_ref().map_or(&nothing, |last| &last.snapshot));
    let services = memo.services.update(&differences, in_scope);
    let is_endpoints =
        |d: &Difference<'_>| matches!(d.kind(), Kind::Endpoints | Kind::EndpointSlice);
    let (ir, problems) = match &last {
        Some(Last { snapshot: before, ir, problems })
            if snapshot.differs_in_objects_alone(before)
                && differences.iter().all(is_endpoints) =>
        {
            (Ir { clusters: with_endpoints(services, memo), ..ir.clone() }, problems.clone())
        }
        _ => resolve_all(snapshot, in_scope, &differences, services, memo),
    };
    memo.last =
        Some(Last { snapshot: snapshot.clone(), ir: ir.clone(), problems: problems.clone() });
    (ir, problems)
}

fn resolve_all(
    snapshot: &Snapshot,
    in_scope: impl Fn(&Meta) -> bool + Copy,
    differences: &[Difference<'_>],
    touched_services: HashSet<Name, RandomState>,
    memo: &mut Memo,
) -> (Ir, Problems) {
    let settings = &snapshot.settings;
    let ours = |meta: &Meta| in_scope(meta) && meta.is_for(&settings.ambassador_id);

    let modules = snapshot.of_kind(Kind::Module).filter(|o| ours(&o.meta));
    let mut module = module::resolve(modules);
    let mut problems = std::mem::take(&mut module.problems);
    let ingresses = expand(snapshot, in_scope, memo);
    let mut shared = std::mem::take(&mut memo.tls);
    let dotted = !module.plain_secret_names;
    let contexts = Contexts::of(snapshot, ours, dotted, &mut shared, &mut problems);
    let mut cx = tls::Cx { snapshot, contexts: &contexts, dotted, shared: &mut shared };
    let hosts = hosts(snapshot, ours, &ingresses, &mut cx, &mut problems);
    memo.tls = shared;
    let guards = guard::resolve(snapshot, ours, module.ip_rules.as_ref(), &mut problems);

    let facts = facts(snapshot, ours, std::mem::take(&mut module.defaults), &hosts, &mut problems);
    let (facts, is_new, mut round) = memo.begin(facts);
    let all: Vec<Difference<'_>>;
    let mappings = if is_new {
        all = snapshot.of_kind(Kind::Mapping).map(Difference::added).collect();
        &all[..]
    } else {
        differences
    };
    for difference in mappings.iter().filter(|d| d.kind() == Kind::Mapping) {
        round.object(difference, |object| {
            let Spec::Mapping(spec) = &object.spec else { return None };
            // Whether it is ours depends on itself and the facts, as everything else does.
            let labels = Labels(Arc::new(object.meta.labels.clone()));
            let resolve = || mapping::resolve(&object.meta.object, &labels, spec, &facts);
            let (mapping, problems) = ours(&object.meta).then(resolve)?;
            Some(Resolved { mapping: mapping.map(Arc::new), problems })
        });
    }
    problems.0.extend(round.memo.said_of_mappings().cloned());
    for (object, expanded) in &ingresses {
        problems.0.extend_from_slice(&expanded.problems.0);
        for path in &expanded.mappings {
            ingress_path(&object.meta, path, &facts, &mut round, &mut problems);
        }
    }
    for object in snapshot.of_kind(Kind::TCPMapping).filter(|o| ours(&o.meta)) {
        let Spec::TCPMapping(spec) = &object.spec else { continue };
        let said = round.tcp(object, || tcp_mapping::resolve(&object.meta.object, spec, &facts));
        problems.0.extend_from_slice(&said.0);
    }
    problems.extend(probe::resolve(&module.probes, settings, &facts, &mut round));
    let touched = round.finish(guards.auth.as_ref());

    let clusters = clusters(touched, touched_services, contexts, memo);
    memo.report_missing(&mut problems);
    problems.0.extend(memo.said_of_groups().cloned());
    let strict = settings.strict_selectors;
    memo.attachments.update(&hosts, &memo.order, std::mem::take(&mut memo.regrouped), strict);
    attach::explain_unattached(&memo.attachments, &hosts, strict, &mut problems);
    let virtual_hosts = memo.attachments.virtual_hosts();
    let cluster = |upstream: &Arc<mapping::Upstream>| memo.cluster_name(upstream);
    let tcp = tcp_mapping::group(memo.tcp_mappings(), settings, cluster, &mut problems);
    let (contexts, shared) = (&memo.contexts, &mut memo.tls);
    let mut termination = |host: &str| contexts.terminate_tcp(host, &hosts, shared);
    let listeners =
        listeners(snapshot, ours, &hosts, &virtual_hosts, &tcp, &mut termination, &mut problems);
    observers::resolve(snapshot, ours, &mut problems);
    memo.tls.sweep();

    let settings = match &memo.settings {
        Some(known) if **known == module.settings => Arc::clone(known),
        _ => Arc::clone(memo.settings.insert(Arc::new(module.settings))),
    };
    (Ir { settings, listeners, clusters, guards: guards.guards }, problems)
}

type Ingresses = Vec<(Arc<crate::crd::Object>, Arc<ingress::Expanded>)>;

fn expand(snapshot: &Snapshot, in_scope: impl Fn(&Meta) -> bool, memo: &mut Memo) -> Ingresses {
    let mut known = std::mem::take(&mut memo.ingresses);
    let mut all = Ingresses::new();
    for object in ingress::ours(snapshot, in_scope) {
        let Spec::Ingress(spec) = &object.spec else { continue };
        let at = memo::address(object);
        // Named ports come from Services, so that it is made anew and compared.
        let expanded = ingress::expand(&object.meta, spec, &memo.services);
        let expanded = match known.remove(&at) {
            Some((_, old)) if *old == expanded => old,
            _ => Arc::new(expanded),
        };
        memo.ingresses.insert(at, (Arc::clone(object), Arc::clone(&expanded)));
        all.push((Arc::clone(object), expanded));
    }
    all
}

fn ingress_path(
    meta: &Meta,
    path: &ingress::Path,
    facts: &Facts,
    round: &mut Round<'_>,
    problems: &mut Problems,
) {
    let mut labels = meta.labels.clone();
    labels.extend(path.labels.iter().cloned());
    let labels = Labels(Arc::new(labels));
    let name = format!("{}/{}", meta.namespace(), path.name);
    let resolved = round.made_up(&name, &path.mapping, &labels, || {
        let (mapping, mut problems) = mapping::resolve(&meta.object, &labels, &path.mapping, facts);
        for problem in &mut problems.0 {
            problem.path.clone_from(&path.at);
        }
        let load_key = format!("{}.{}", path.name, meta.namespace()).into();
        let mapping = mapping.map(|mapping| {
            let always = mapping.always || path.is_challenge;
            Arc::new(mapping::Mapping { load_key, always, ..mapping })
        });
        Resolved { mapping, problems }
    });
    problems.0.extend_from_slice(&resolved.problems.0);
}

fn hosts(
    snapshot: &Snapshot,
    ours: impl Fn(&Meta) -> bool,
    ingresses: &Ingresses,
    cx: &mut tls::Cx<'_>,
    problems: &mut Problems,
) -> Vec<Host> {
    let mut written = snapshot.refused_of_kind(Kind::Host).any(|meta| ours(meta));
    let mut hosts = Vec::new();
    for object in snapshot.of_kind(Kind::Host).filter(|o| ours(&o.meta)) {
        written = true;
        if let Spec::Host(spec) = &object.spec {
            hosts.extend(host::resolve(&object.meta, spec, cx, problems));
        }
    }
    for (object, expanded) in ingresses {
        written |= !expanded.hosts.is_empty();
        for spec in &expanded.hosts {
            let said = problems.len();
            hosts.extend(host::resolve(&object.meta, spec, cx, problems));
            // The Host stands for what is written there.
            for problem in problems.0[said..].iter_mut().filter(|p| p.path == "spec.tlsSecret") {
                problem.path = "spec.tls".to_owned();
            }
        }
    }
    // A Host that was written but is refused does not open everything.
    if !written {
        let namespace = &snapshot.settings.namespace;
        hosts.push(Host::built_in(namespace, cx.fallback(FALLBACK_CERTIFICATE, problems)));
    }
    for (object, expanded) in ingresses {
        for spec in &expanded.challenged {
            let name = spec.hostname.as_deref().unwrap_or_default();
            if !hosts.iter().any(|host| hostglob::overlap(&host.hostname, name)) {
                hosts.extend(host::resolve(&object.meta, spec, cx, problems));
            }
        }
    }
    hosts
}

fn facts(
    snapshot: &Snapshot,
    ours: impl Fn(&Meta) -> bool,
    defaults: facts::Defaults,
    hosts: &[Host],
    problems: &mut Problems,
) -> Facts {
    let mut facts = Facts {
        settings: Arc::clone(&snapshot.settings),
        namespace: Arc::clone(&snapshot.settings.namespace),
        default_lookup: match snapshot.settings.service_resolution {
            ServiceResolution::Dns => Lookup::ClusterIp,
            ServiceResolution::Endpoints => Lookup::Endpoints,
        },
        defaults,
        resolvers: Default::default(),
        tls_contexts: Default::default(),
        host_selectors: hosts.iter().filter_map(|host| host.selector.clone()).collect(),
    };
    for (kind, resolver) in [
        (Kind::KubernetesServiceResolver, Resolver::Service),
        (Kind::KubernetesEndpointResolver, Resolver::Endpoint),
        (Kind::ConsulResolver, Resolver::Consul),
    ] {
        for object in snapshot.of_kind(kind).filter(|o| ours(&o.meta)) {
            facts.resolvers.entry(Arc::clone(object.meta.name())).or_insert(resolver);
        }
    }
    facts.tls_contexts = tls::names(snapshot, &ours);
    // A resolver that the Module names and nobody knows would refuse every Mapping: it is told
    // once and not used.
    if let Some(name) = facts.defaults.resolver.clone()
        && facts.resolver(&name).is_none()
    {
        let module = snapshot.of_kind(Kind::Module).find(|o| ours(&o.meta));
        if let Some(module) = module {
            problems.unknown_resolver(&module.meta.object, "spec.config.resolver", &name);
        }
        facts.defaults.resolver = None;
    }
    facts
}

/// Clusters by name; equal ones keep their pointers.
fn clusters(
    touched: Touched,
    touched_services: HashSet<Name, RandomState>,
    contexts: Contexts,
    memo: &mut Memo,
) -> Sorted<ir::Cluster> {
    let same_contexts = memo.contexts == contexts;
    memo.contexts = contexts;
    let mut touched = match touched {
        Touched::Names(names) if same_contexts => names,
        // Names that are gone are looked at too.
        _ => {
            let known = memo.clusters.iter().map(|cluster| Arc::clone(&cluster.name));
            memo.cluster_names().into_iter().chain(known).collect()
        }
    };
    touched.extend(memo.users(touched_services).cloned());
    for name in touched {
        let Some(upstream) = memo.upstream(&name).cloned() else {
            memo.set_source(&name, None);
            memo.clusters.remove(&name);
            continue;
        };
        let client = upstream.tls.as_ref().map(|tls| memo.contexts.originate(tls, &mut memo.tls));
        let (source, missing) = memo.services.source(&upstream);
        let mut cluster = cluster(&name, &upstream, source, client.as_ref());
        if !upstream.protocol_written && client.is_none() && memo.services.is_h2c(&upstream) {
            cluster.protocol = ir::UpstreamProtocol::Http2;
        }
        let offers_h2 = |client: &Arc<crate::tls::Client>| {
            client.spec.alpn.iter().any(|protocol| &**protocol == tls::HTTP2)
        };
        if !upstream.protocol_written && matches!(&client, Some(Ok(client)) if offers_h2(client)) {
            cluster.protocol = ir::UpstreamProtocol::Negotiated;
        }
        memo.set_cluster(cluster);
        memo.set_source(&name, Some(Source { upstream, missing, client }));
    }
    memo.clusters.clone()
}

/// The clusters where nothing is new but endpoints of these Services.
fn with_endpoints(services: HashSet<Name, RandomState>, memo: &mut Memo) -> Sorted<ir::Cluster> {
    let touched: Vec<Arc<str>> = memo.users(services).cloned().collect();
    for name in touched {
        let known = memo.clusters.get(&name).zip(memo.upstream(&name));
        let Some((cluster, upstream)) = known else { continue };
        let (source, _) = memo.services.source(upstream);
        let cluster = ir::Cluster { source, ..ir::Cluster::clone(cluster) };
        memo.set_cluster(cluster);
    }
    memo.clusters.clone()
}

fn cluster(
    name: &Arc<str>,
    upstream: &mapping::Upstream,
    source: ir::EndpointSource,
    client: Option<&Result<Arc<crate::tls::Client>, Unusable>>,
) -> ir::Cluster {
    ir::Cluster {
        name: Arc::clone(name),
        stats_name: Arc::clone(&upstream.stats_name),
        source,
        host: Arc::clone(&upstream.host),
        transport: match client {
            Some(client) => ir::Transport::Tls(client.clone().ok()),
            None => ir::Transport::Cleartext,
        },
        protocol: upstream.protocol,
        balancer: upstream.balancer,
        connect_timeout: upstream.connect_timeout,
        idle_timeout: upstream.idle_timeout,
        max_lifetime: upstream.max_lifetime,
        keepalive: upstream.keepalive,
    }
}

fn listeners(
    snapshot: &Snapshot,
    ours: impl Fn(&Meta) -> bool,
    hosts: &[Host],
    virtual_hosts: &[Arc<VirtualHost>],
    tcp: &[tcp_mapping::Group],
    termination: &mut dyn FnMut(&str) -> Option<Arc<crate::tls::Server>>,
    problems: &mut Problems,
) -> Vec<ir::Listener> {
    let settings = &snapshot.settings;
    let mut objects: Vec<_> = snapshot.of_kind(Kind::Listener).filter(|o| ours(&o.meta)).collect();
    let key =
        |object: &crate::crd::Object| format!("{}.{}", object.meta.name(), object.meta.namespace());
    objects.sort_by_cached_key(|object| key(object));
    let mut accepted: Vec<Listener> = Vec::new();
    for object in &objects {
        let Spec::Listener(spec) = &object.spec else { continue };
        let name = &object.meta.object;
        let Some(listener) = listener::resolve(name, spec, settings, problems) else { continue };
        let taken: Option<&Listener> = accepted.iter().find(|l| l.socket() == listener.socket());
        match taken {
            Some(other) => problems.address_taken(name, listener.address, &other.object),
            None => accepted.push(listener),
        }
    }
    let refused = snapshot.refused_of_kind(Kind::Listener).any(|meta| ours(meta));
    if objects.is_empty() && !refused {
        if settings.default_listeners {
            accepted.extend(Listener::built_in(settings));
        } else {
            problems.no_listener(&settings.namespace, tcp.is_empty());
        }
    }
    for here in tcp.chunk_by(|a, b| a.address == b.address) {
        let address = here[0].address;
        if !accepted.iter().any(|listener| listener.socket() == (false, address)) {
            let named = here.iter().any(|group| group.host.is_some());
            accepted.push(Listener::for_tcp(settings, address, named));
        }
    }
    let strict = settings.strict_selectors;
    attach::listeners(&accepted, hosts, virtual_hosts, strict, tcp, termination, problems)
}

/// Where probes lead: an admin server that listens everywhere is reached by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    let ip = if address.ip().is_unspecified() { loopback } else { address.ip() };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests;
