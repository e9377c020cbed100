// SPDX-License-Identifier: Apache-2.0
//! Ir → Table. Virtual hosts, groups and clusters that are the same as in the previous table are
//! taken over by pointer, so that one changed Mapping costs its virtual host's index and no more.
//! A table and everything that it shares with the next is immutable.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::host::{Domain, DomainIndex};
use super::path::{self, Candidate, PathIndex};
use super::slot::Slots;
use super::{
    About, Action, Chains, Cluster, CompileError, Forward, Group, Hosts, Listener, Member, More,
    Route, Shadow, Table, TcpMember, TcpRoute, TlsChain, VirtualHost,
};
use crate::ir::{self, AuthorityMatch, Ir, PathMatch};
use crate::name::{ClusterSlot, Generation};
use crate::share::{self, share};
use crate::sorted::Sorted;
use foldhash::fast::FixedState;

/// By the address of something that lives at least as long as this compilation.
type ByAddress<T, V> = HashMap<*const T, V, FixedState>;

/// Compiles what was resolved. `previous` is the table published last; what it has in common with
/// `ir` is shared. The result is the same without it, only later.
///
/// A cluster whose endpoints alone changed keeps the routes that go there: endpoints travel as
/// feeds, and the `spec` that a [`Forward`] holds may have older ones than [`Table::clusters`].
pub fn compile(
    ir: &Ir,
    generation: Generation,
    slots: &mut Slots,
    previous: Option<&Table>,
) -> Result<Table, CompileError> {
    let (clusters, rebound) = clusters(ir, generation, slots, previous)?;
    let mut compiler = Compiler {
        generation,
        slots,
        clusters: &clusters,
        rebound,
        hosts: HashMap::default(),
        by_domain: HashMap::default(),
        groups: HashMap::default(),
    };
    for host in previous.iter().flat_map(|table| &table.listeners).flat_map(|l| l.hosts.0.values())
    {
        compiler.by_domain.entry(&host.source.domain).or_insert(host);
        if !host.groups.iter().any(|group| goes_to(&compiler.rebound, group)) {
            compiler.hosts.insert(Arc::as_ptr(&host.source), Arc::clone(host));
        }
    }
    let mut listeners = Vec::with_capacity(ir.listeners.len());
    for listener in &ir.listeners {
        listeners.push(compiler.listener(listener, &ir.guards)?);
    }
    listeners.sort_by_key(|listener| listener.slot);
    if let Some(pair) = listeners.windows(2).find(|pair| pair[0].slot == pair[1].slot) {
        return Err(CompileError::DuplicateListener(pair[0].object.to_string()));
    }
    let now = hosts(&listeners);
    let same_hosts = |table: &&Table| {
        let before = hosts(&table.listeners);
        before.len() == now.len() && before.iter().zip(&now).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    let routes = match previous.filter(same_hosts) {
        Some(table) => Arc::clone(&table.routes),
        None => Arc::new(routes(&now, slots.routes_end())),
    };
    slots.keep_routes(&routes, generation);
    let (settings, sources) = (Arc::clone(&ir.settings), ir.clusters.clone());
    Ok(Table { generation, settings, listeners, clusters, sources, routes })
}

type Clusters = Vec<Option<Arc<Cluster>>>;

/// The clusters by slot, and those of the previous table that routes must not go on pointing to.
fn clusters(
    ir: &Ir,
    generation: Generation,
    slots: &mut Slots,
    previous: Option<&Table>,
) -> Result<(Clusters, HashSet<ClusterSlot, FixedState>), CompileError> {
    let nothing = Sorted::default();
    let (before, mut clusters) = match previous {
        Some(table) => (&table.sources, shared(&table.clusters)),
        None => (&nothing, Vec::new()),
    };
    let mut rebound = HashSet::default();
    for difference in ir.clusters.differences(before) {
        let Some(spec) = difference.now else {
            let slot = slots.cluster_slot(difference.name());
            if let Some(gone) = slot.and_then(|slot| clusters.get_mut(slot.index())) {
                *gone = None;
            }
            continue;
        };
        let slot = slots.cluster(&spec.name, generation)?;
        if difference.before.is_some_and(|before| !same_but_endpoints(before, spec)) {
            rebound.insert(slot);
        }
        if clusters.len() <= slot.index() {
            clusters.resize(slots.clusters_end(), None);
        }
        clusters[slot.index()] = Some(Arc::new(Cluster { slot, spec: Arc::clone(spec) }));
    }
    slots.keep_clusters(&clusters, generation);
    Ok((clusters, rebound))
}

fn shared(clusters: &[Option<Arc<Cluster>>]) -> Clusters {
    let mut all = Vec::with_capacity(clusters.len());
    for block in clusters.chunks(share::BLOCK) {
        share::fetch(block.iter().flatten());
        all.extend_from_slice(block);
    }
    all
}

fn same_but_endpoints(a: &ir::Cluster, b: &ir::Cluster) -> bool {
    let bare = |cluster: &ir::Cluster| {
        let mut cluster = cluster.clone();
        if let ir::EndpointSource::Service { endpoints, near, .. } = &mut cluster.source {
            endpoints.clear();
            near.clear();
        }
        cluster
    };
    bare(a) == bare(b)
}

/// The virtual hosts of some listeners, each once.
fn hosts(listeners: &[Listener]) -> Vec<&Arc<VirtualHost>> {
    let mut seen = HashSet::<*const VirtualHost, FixedState>::default();
    let hosts = listeners.iter().flat_map(|listener| listener.hosts.0.values());
    hosts.filter(|host| seen.insert(Arc::as_ptr(host))).collect()
}

/// The routes by slot; the slots end there.
fn routes(hosts: &[&Arc<VirtualHost>], end: usize) -> Vec<Option<Arc<Route>>> {
    let mut routes = vec![None; end];
    for block in hosts.iter().flat_map(|host| host.groups.chunks(share::BLOCK)) {
        let members = || block.iter().flat_map(|group| group.members());
        share::fetch(members().map(|member| &member.route));
        for member in members() {
            routes[member.route.slot.index()].get_or_insert_with(|| Arc::clone(&member.route));
        }
    }
    routes
}

struct Compiler<'c> {
    generation: Generation,
    slots: &'c mut Slots,
    clusters: &'c [Option<Arc<Cluster>>],
    /// Clusters that are not what they were in the previous table.
    rebound: HashSet<ClusterSlot, FixedState>,
    /// Compiled virtual hosts that can be used as they are.
    hosts: ByAddress<ir::VirtualHost, Arc<VirtualHost>>,
    /// The previous table's virtual hosts: most groups of a changed one are unchanged.
    by_domain: HashMap<&'c str, &'c Arc<VirtualHost>, FixedState>,
    groups: ByAddress<ir::Group, Arc<Group>>,
}

impl Compiler<'_> {
    fn listener(
        &mut self,
        listener: &ir::Listener,
        guards: &[ir::Guard],
    ) -> Result<Listener, CompileError> {
        let mut chains = Chains::default();
        for source in &listener.tls {
            let chain = Arc::new(TlsChain {
                server_name: Arc::clone(&source.server_name),
                object: source.object.clone(),
                termination: source.termination.clone(),
                tcp: source.tcp.as_deref().map(|tcp| self.tcp(tcp)).transpose()?,
            });
            chains.0.or_insert_with(Domain::parse(&source.server_name), || chain);
        }
        let mut hosts = Hosts::default();
        for source in &listener.virtual_hosts {
            let host = self.host(source)?;
            // Domains are distinct within a listener; were they not, the first would serve.
            hosts.0.or_insert_with(Domain::parse(&source.domain), || host);
        }
        Ok(Listener {
            slot: self.slots.listener(&listener.object, self.generation)?,
            object: listener.object.clone(),
            address: listener.address,
            stats_prefix: Arc::clone(&listener.stats_prefix),
            stack: listener.stack.clone(),
            chains,
            tcp: listener.tcp.as_deref().map(|tcp| self.tcp(tcp)).transpose()?,
            security: listener.security,
            l7_depth: listener.l7_depth,
            http2_streams_max: listener.http2_streams_max,
            guards: guards.to_vec(),
            hosts,
        })
    }

    fn tcp(&self, source: &ir::TcpRoute) -> Result<Arc<TcpRoute>, CompileError> {
        let member = |member: &ir::TcpMember| {
            Ok(TcpMember {
                from: member.from,
                to: member.to,
                object: member.object.clone(),
                cluster: self.cluster(&member.cluster)?,
                idle_timeout: member.idle_timeout,
            })
        };
        let members = source.members.iter().map(member).collect::<Result<_, _>>()?;
        Ok(Arc::new(TcpRoute { members }))
    }

    fn host(&mut self, source: &Arc<ir::VirtualHost>) -> Result<Arc<VirtualHost>, CompileError> {
        if let Some(host) = self.hosts.get(&Arc::as_ptr(source)) {
            return Ok(Arc::clone(host));
        }
        if source.groups.len() > Candidate::RANK_END {
            return Err(CompileError::Groups(source.domain.to_string()));
        }
        let before = self.by_domain.remove(&*source.domain);
        let (old, new) = (before.map_or(&[][..], |before| &before.groups), &source.groups[..]);
        let sources = before.map_or(&[][..], |before| &before.source.groups);
        let stays = |((old, source), new): &((&Arc<Group>, &Arc<ir::Group>), &Arc<ir::Group>)| {
            Arc::ptr_eq(source, new) && !goes_to(&self.rebound, old)
        };
        // As a rule one group differs: what stands before it and behind it stays as it is, and is
        // not looked at, each being elsewhere in memory.
        let pairs = old.iter().zip(sources);
        let head = pairs.clone().zip(new).take_while(stays).count();
        let rest = pairs.skip(head).rev().zip(new[head..].iter().rev());
        let tail = rest.take_while(stays).count();
        let (changed, tail) = (&old[head..old.len() - tail], &old[old.len() - tail..]);
        for group in changed.iter().filter(|group| !goes_to(&self.rebound, group)) {
            self.groups.insert(Arc::as_ptr(&group.source), Arc::clone(group));
        }
        let mut groups = Vec::with_capacity(new.len());
        share(&old[..head], &mut groups);
        for group in &new[head..new.len() - tail.len()] {
            groups.push(self.group(group)?);
        }
        share(tail, &mut groups);
        // The index knows groups by their place, and of each its clauses.
        let same =
            |(old, new): (&Arc<Group>, &Arc<Group>)| old.source.matcher == new.source.matcher;
        let sections = match before {
            Some(before)
                if old.len() == new.len() && changed.iter().zip(&groups[head..]).all(same) =>
            {
                Arc::clone(&before.sections)
            }
            _ => Arc::new(sections(&groups)),
        };
        let host = Arc::new(VirtualHost { source: Arc::clone(source), groups, sections });
        self.hosts.insert(Arc::as_ptr(source), Arc::clone(&host));
        Ok(host)
    }

    fn group(&mut self, source: &Arc<ir::Group>) -> Result<Arc<Group>, CompileError> {
        if let Some(group) = self.groups.get(&Arc::as_ptr(source)) {
            return Ok(Arc::clone(group));
        }
        let mut members = source.members.iter().map(|member| {
            let route = Arc::new(self.route(&member.route)?);
            Ok(Member { from: member.from, to: member.to, route })
        });
        let first = members.next().transpose()?;
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let literals = match &source.matcher.path {
            PathMatch::Regex(pattern) => path::literals(pattern),
            _ => Box::default(),
        };
        let more = (!members.is_empty() || !literals.is_empty())
            .then(|| Box::new(More { members, literals }));
        let matcher = &source.matcher;
        let bare = matcher.method.is_none()
            && matcher.headers.is_empty()
            && matcher.query.is_empty()
            && !matches!(matcher.authority, Some(AuthorityMatch::Regex(_)));
        let group = Arc::new(Group { source: Arc::clone(source), bare, first, more });
        self.groups.insert(Arc::as_ptr(source), Arc::clone(&group));
        Ok(group)
    }

    fn route(&mut self, spec: &Arc<ir::Route>) -> Result<Route, CompileError> {
        let object = &spec.object;
        let manner = self.slots.manner(spec);
        Ok(Route {
            slot: self.slots.route(object, self.generation)?,
            always: spec.always,
            unguarded: spec.unguarded,
            refused: spec.refusal.is_some(),
            action: match &spec.action {
                ir::Action::Redirect(redirect) => Action::Redirect(Arc::clone(redirect)),
                ir::Action::Forward(forward) => Action::Forward(Forward {
                    cluster: self.cluster(&forward.cluster)?,
                    shadow: match &forward.shadow {
                        None => None,
                        Some(shadow) => Some(Box::new(Shadow {
                            object: shadow.object.clone(),
                            cluster: self.cluster(&shadow.cluster)?,
                            percent: shadow.percent,
                        })),
                    },
                    manner: Arc::clone(&manner),
                }),
            },
            manner,
            about: Box::new(About {
                label: [&*object.namespace, &*object.name].join("/").into(),
                spec: Arc::clone(spec),
            }),
        })
    }

    fn cluster(&self, name: &str) -> Result<Arc<Cluster>, CompileError> {
        let slot = self.slots.cluster_slot(name);
        let cluster = slot.and_then(|slot| self.clusters.get(slot.index())?.as_ref());
        cluster.cloned().ok_or_else(|| CompileError::UnknownCluster(name.to_string()))
    }
}

/// Whether a member of the group forwards to one of these clusters.
fn goes_to(clusters: &HashSet<ClusterSlot, FixedState>, group: &Group) -> bool {
    !clusters.is_empty()
        && group.members().any(|member| match &member.route.action {
            Action::Forward(forward) => {
                let shadow = forward.shadow.as_ref().map(|shadow| shadow.cluster.slot);
                clusters.contains(&forward.cluster.slot)
                    || shadow.is_some_and(|slot| clusters.contains(&slot))
            }
            Action::Redirect(_) => false,
        })
}

/// Files the groups by the authority that they ask for, then by path.
fn sections(groups: &[Arc<Group>]) -> DomainIndex<PathIndex> {
    let mut sections = DomainIndex::<PathIndex>::new(0);
    for (rank, group) in groups.iter().enumerate() {
        let domain = match &group.source.matcher.authority {
            Some(AuthorityMatch::Exact(text)) => Domain::Exact(text),
            Some(AuthorityMatch::Suffix(text)) => Domain::Suffix(text),
            Some(AuthorityMatch::Prefix(text)) => Domain::Prefix(text),
            Some(AuthorityMatch::Regex(_)) | None => Domain::Any,
        };
        sections.or_insert_with(domain, PathIndex::default).push(rank as u32);
    }
    for index in sections.values_mut() {
        index.build(groups);
    }
    sections
}

#[cfg(test)]
mod tests;
