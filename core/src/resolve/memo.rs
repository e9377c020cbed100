// SPDX-License-Identifier: Apache-2.0
//! What is remembered from one resolve to the next: the last snapshot, and results of pure functions
//! of what does not differ from it, or by the pointers that went in. It holds those pointers, so
//! that an address is never another object's.
//!
//! Invariant: with any memo, [`super::resolve`] gives what it gives with an empty one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::crd::{self, Object};
use crate::ir::{Cluster, Ir, Refusal, Settings};
use crate::name::Ref;
use crate::problem::{Problem, Problems};
use crate::snapshot::{Difference, Snapshot};
use crate::sorted::Sorted;
use crate::tls::{Client, Shared};

use super::attach::{Attachments, Regrouped};
use super::endpoints::{Name, NoSuchPort, Services, service_of};
use super::facts::Facts;
use super::group::{self, Built};
use super::ingress::Expanded;
use super::mapping::{GroupKey, Labels, Mapping, Role, Upstream};
use super::service;
use super::tcp_mapping::TcpMapping;
use super::tls::{Contexts, Unusable};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Results of earlier resolves. Start with an empty one and always give back the same.
#[derive(Debug, Default)]
pub struct Memo {
    round: u64,
    pub(super) settings: Option<Arc<Settings>>,
    pub(super) facts: Option<Arc<Facts>>,
    auth: Option<Arc<Refusal>>,
    /// All accepted Mapping resources by name.
    mappings: Vec<Arc<Mapping>>,
    /// What is said about Mapping resources; as a rule nothing is.
    said: BTreeMap<Ref, Problems>,
    /// By address of the object.
    tcp: Map<usize, RememberedTcp>,
    pub(super) ingresses: Map<usize, (Arc<Object>, Arc<Expanded>)>,
    pub(super) paths: Map<String, RememberedPath>,
    /// All accepted Mappings in load order.
    loaded: Vec<Arc<Mapping>>,
    /// All accepted TCPMappings in load order.
    loaded_tcp: Vec<Arc<TcpMapping>>,
    groups: Map<GroupKey, Grouped>,
    /// All groups in decision order.
    pub(super) order: Vec<Arc<Built>>,
    /// What this round changed of them.
    pub(super) regrouped: Regrouped,
    /// Those of them of which something is said.
    troubled: Vec<Arc<Built>>,
    /// By Emissary's name of the cluster.
    claims: Map<Arc<str>, Vec<Claimant>>,
    /// Names that different upstreams claim: `a-b` and `a.b` have one name.
    disputed: HashSet<Arc<str>, RandomState>,
    pub(super) services: Services,
    /// TLSContexts as last read.
    pub(super) contexts: Contexts,
    pub(super) tls: Shared,
    pub(super) clusters: Sorted<Cluster>,
    sources: Map<Arc<str>, Source>,
    /// Names of Services, whether or not they are there, each with a cluster of its endpoints.
    users: BTreeSet<(Name, Arc<str>)>,
    pub(super) last: Option<Last>,
    pub(super) attachments: Attachments,
}

/// What was resolved last.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) snapshot: Snapshot,
    pub(super) ir: Ir,
    pub(super) problems: Problems,
}

/// One TCPMapping's result.
#[derive(Debug)]
struct RememberedTcp {
    object: Arc<Object>,
    mapping: Option<Arc<TcpMapping>>,
    problems: Arc<Problems>,
    round: u64,
}

/// One path of an Ingress, or a probe.
#[derive(Debug)]
pub(super) struct RememberedPath {
    mapping: crd::Mapping,
    labels: Labels,
    resolved: Arc<Resolved>,
    round: u64,
}

/// A Mapping, unless it was refused, and what was said about it.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) mapping: Option<Arc<Mapping>>,
    pub(super) problems: Problems,
}

/// What a cluster's endpoints were found from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) upstream: Arc<Upstream>,
    pub(super) missing: Option<NoSuchPort>,
    /// Where TLS is originated.
    pub(super) client: Option<Result<Arc<Client>, Unusable>>,
}

/// A group with all who wanted to be in it, in load order.
#[derive(Debug)]
struct Grouped {
    candidates: Vec<Arc<Mapping>>,
    built: Arc<Built>,
}

/// The Mappings of one round, as they are found.
pub(super) struct Round<'m> {
    pub(super) memo: &'m mut Memo,
    /// Upstreams that this round is the first to have.
    upstreams: Map<Arc<str>, Arc<Upstream>>,
    added: Vec<Arc<Mapping>>,
    /// Those of them that are resources.
    added_resources: Vec<Arc<Mapping>>,
    removed: Vec<Arc<Mapping>>,
    added_tcp: Vec<Arc<TcpMapping>>,
}

/// One of the upstreams that claim a cluster's name.
#[derive(Debug)]
struct Claimant {
    upstream: Arc<Upstream>,
    mappings: usize,
}

/// Clusters whose endpoints have to be looked at again.
pub(super) enum Touched {
    All,
    Names(HashSet<Arc<str>, RandomState>),
}

impl Memo {
    /// Begins a round; true if there are other facts than before: nothing is remembered then.
    pub(super) fn begin(&mut self, facts: Facts) -> (Arc<Facts>, bool, Round<'_>) {
        self.round += 1;
        let known = self.facts.clone().filter(|known| **known == facts);
        let is_new = known.is_none();
        let facts = match known {
            Some(known) => known,
            None => {
                *self = Self {
                    round: self.round,
                    settings: self.settings.take(),
                    ingresses: std::mem::take(&mut self.ingresses),
                    services: std::mem::take(&mut self.services),
                    tls: std::mem::take(&mut self.tls),
                    ..Self::default()
                };
                Arc::clone(self.facts.insert(Arc::new(facts)))
            }
        };
        let round = Round {
            memo: self,
            upstreams: Map::default(),
            added: Vec::new(),
            added_resources: Vec::new(),
            removed: Vec::new(),
            added_tcp: Vec::new(),
        };
        (facts, is_new, round)
    }
}

impl Round<'_> {
    /// A Mapping resource that is not what it was; `compute` gives nothing for one that is not ours.
    pub(super) fn object(
        &mut self,
        difference: &Difference<'_>,
        compute: impl FnOnce(&Object) -> Option<Resolved>,
    ) {
        let name = difference.name();
        self.memo.said.remove(name);
        if let Ok(at) = self.memo.mappings.binary_search_by(|known| known.object.cmp(name)) {
            self.removed.push(Arc::clone(&self.memo.mappings[at]));
        }
        let resolved = difference.now.and_then(|object| compute(object));
        let Resolved { mut mapping, problems } = resolved.unwrap_or_default();
        if let Some(mapping) = mapping.as_mut().and_then(Arc::get_mut) {
            self.share_upstream(mapping);
        }
        self.added.extend(mapping.clone());
        self.added_resources.extend(mapping);
        if !problems.is_empty() {
            self.memo.said.insert(name.clone(), problems);
        }
    }

    /// Mappings that lead to one upstream have it once.
    fn share_upstream(&mut self, mapping: &mut Mapping) {
        let (upstream, alone) = match &mut mapping.role {
            Role::Forward { upstream, alone } => (upstream, Some(alone)),
            Role::Shadow(upstream) => (upstream, None),
            Role::Redirect(_) => return,
        };
        let claimants = self.memo.claims.get(&upstream.name).into_iter().flatten();
        let known = claimants.map(|claimant| &claimant.upstream);
        let known =
            known.chain(self.upstreams.get(&upstream.name)).find(|known| *known == upstream);
        match known {
            Some(known) => *upstream = Arc::clone(known),
            None => {
                self.upstreams.insert(Arc::clone(&upstream.name), Arc::clone(upstream));
            }
        }
        if let Some(alone) = alone.and_then(Arc::get_mut) {
            alone.cluster = Arc::clone(&upstream.name);
        }
    }

    /// What was said about a TCPMapping, computed where it is not remembered.
    pub(super) fn tcp(
        &mut self,
        object: &Arc<Object>,
        compute: impl FnOnce() -> (Option<TcpMapping>, Problems),
    ) -> Arc<Problems> {
        let round = self.memo.round;
        let at = address(object);
        if let Some(known) = self.memo.tcp.get_mut(&at) {
            debug_assert!(Arc::ptr_eq(&known.object, object), "held, its address too");
            known.round = round;
            return Arc::clone(&known.problems);
        }
        let (mapping, problems) = compute();
        let (mapping, problems) = (mapping.map(Arc::new), Arc::new(problems));
        self.added_tcp.extend(mapping.clone());
        let object = Arc::clone(object);
        let said = Arc::clone(&problems);
        self.memo.tcp.insert(at, RememberedTcp { object, mapping, problems, round });
        said
    }

    /// The same for a Mapping that was made up from something else, by a name of its own.
    pub(super) fn made_up(
        &mut self,
        name: &str,
        mapping: &crd::Mapping,
        labels: &Labels,
        compute: impl FnOnce() -> Resolved,
    ) -> Arc<Resolved> {
        let round = self.memo.round;
        if let Some(known) = self.memo.paths.get_mut(name)
            && known.mapping == *mapping
            && known.labels == *labels
        {
            known.round = round;
            return Arc::clone(&known.resolved);
        }
        let resolved = Arc::new(compute());
        self.added.extend(resolved.mapping.clone());
        let remembered = RememberedPath {
            mapping: mapping.clone(),
            labels: labels.clone(),
            resolved: Arc::clone(&resolved),
            round,
        };
        if let Some(old) = self.memo.paths.insert(name.to_owned(), remembered) {
            self.removed.extend(old.resolved.mapping.clone());
        }
        resolved
    }

    /// Ends the round: forgets what is gone, and brings clusters' names, groups and their order up
    /// to date.
    pub(super) fn finish(self, auth: Option<&Arc<Refusal>>) -> Touched {
        let Round { memo, upstreams: _, added, added_resources, mut removed, added_tcp } = self;
        let round = memo.round;
        memo.paths.retain(|_, known| {
            let stays = known.round == round;
            removed.extend(known.resolved.mapping.clone().filter(|_| !stays));
            stays
        });
        let mut removed_tcp = Vec::new();
        memo.tcp.retain(|_, known| {
            let stays = known.round == round;
            removed_tcp.extend(known.mapping.clone().filter(|_| !stays));
            stays
        });
        let gone = addresses(&removed);
        update(&mut memo.mappings, &gone, added_resources, |a, b| a.object.cmp(&b.object));
        update(&mut memo.loaded, &gone, added.clone(), load_order);
        let (new, gone) = (upstreams(&added, &added_tcp), upstreams(&removed, &removed_tcp));
        let (touched, renamed) = memo.claim(new, gone);
        let gone = addresses(&removed_tcp);
        update(&mut memo.loaded_tcp, &gone, added_tcp, |a, b| {
            a.load_key.cmp(&b.load_key).then_with(|| a.object.cmp(&b.object))
        });
        let all = memo.auth.as_ref() != auth || renamed;
        memo.auth = auth.cloned();
        memo.regroup(&added, &removed, all);
        if renamed { Touched::All } else { Touched::Names(touched) }
    }
}

impl Memo {
    /// What is said of Mapping resources, by their names.
    pub(super) fn said_of_mappings(&self) -> impl Iterator<Item = &Problem> {
        self.said.values().flat_map(Problems::iter)
    }

    /// What is said of groups, in decision order.
    pub(super) fn said_of_groups(&self) -> impl Iterator<Item = &Problem> {
        self.troubled.iter().flat_map(|built| &built.problems.0)
    }

    /// All accepted TCPMappings in load order.
    pub(super) fn tcp_mappings(&self) -> &[Arc<TcpMapping>] {
        &self.loaded_tcp
    }

    /// Final name of an upstream's cluster.
    pub(super) fn cluster_name(&self, upstream: &Upstream) -> Arc<str> {
        final_name(upstream, &self.disputed)
    }

    /// The upstream behind a cluster's final name, if any Mapping forwards to it.
    pub(super) fn upstream(&self, name: &Arc<str>) -> Option<&Arc<Upstream>> {
        let plain = self.claims.get(name).filter(|_| !self.disputed.contains(name));
        match plain {
            Some(claimants) => claimants.first().map(|claimant| &claimant.upstream),
            None => self
                .disputed
                .iter()
                .flat_map(|name| &self.claims[name])
                .map(|claimant| &claimant.upstream)
                .find(|upstream| final_name(upstream, &self.disputed) == *name),
        }
    }

    /// Notes a cluster; an equal one keeps its pointer.
    pub(super) fn set_cluster(&mut self, cluster: Cluster) {
        if self.clusters.get(&cluster.name).is_none_or(|known| **known != cluster) {
            self.clusters.insert(Arc::new(cluster));
        }
    }

    /// Notes what a cluster is made from; `None`: it is gone.
    pub(super) fn set_source(&mut self, name: &Arc<str>, source: Option<Source>) {
        let user = |source: &Source| {
            let (namespace, service) = service_of(&source.upstream)?;
            Some(((namespace.into(), service.into()), Arc::clone(name)))
        };
        if let Some(user) = self.sources.remove(name).as_ref().and_then(user) {
            self.users.remove(&user);
        }
        if let Some(source) = source {
            self.users.extend(user(&source));
            self.sources.insert(Arc::clone(name), source);
        }
    }

    /// The clusters whose endpoints are those of some Services.
    pub(super) fn users<'m>(
        &'m self,
        services: impl IntoIterator<Item = Name> + 'm,
    ) -> impl Iterator<Item = &'m Arc<str>> + 'm {
        services.into_iter().flat_map(|service| {
            let first = (service.clone(), Arc::from(""));
            let users = self.users.range(first..).take_while(move |(of, _)| *of == service);
            users.map(|(_, cluster)| cluster)
        })
    }

    /// Final names of all clusters.
    pub(super) fn cluster_names(&self) -> HashSet<Arc<str>, RandomState> {
        let claimants = self.claims.values().flatten();
        claimants.map(|claimant| final_name(&claimant.upstream, &self.disputed)).collect()
    }

    /// Says of each cluster whose Service lacks its port, or whose TLSContext cannot be used, so:
    /// on the first Mapping that forwards to it.
    pub(super) fn report_missing(&self, problems: &mut Problems) {
        let lacks =
            |source: &Source| source.missing.is_some() || matches!(source.client, Some(Err(_)));
        let missing = self.sources.iter().filter(|(_, source)| lacks(source));
        let mut missing: Map<&Arc<str>, &Source> = missing.collect();
        if missing.is_empty() {
            return;
        }
        let http = self.loaded.iter().filter_map(|m| Some((&m.object, m.role.upstream()?)));
        let tcp = self.loaded_tcp.iter().map(|m| (&m.object, &m.upstream));
        for (object, upstream) in http.chain(tcp) {
            let source = missing.remove(&final_name(upstream, &self.disputed));
            let Some(Source { upstream, missing: port, client, .. }) = source else { continue };
            if let Some(port) = port {
                problems.no_such_port(object, &upstream.host, port.port, &port.ports);
            }
            if let (Some(Err(_)), Some(tls)) = (client, &upstream.tls) {
                let name = tls.context.as_ref().map_or("", |(_, name)| name);
                problems.context_unusable_for_upstream(object, name);
            }
        }
    }

    /// Counts who claims which cluster name; gives the final names that came or went, and whether
    /// names changed hands, so that every cluster is named anew.
    fn claim(
        &mut self,
        added: Vec<Arc<Upstream>>,
        removed: Vec<Arc<Upstream>>,
    ) -> (HashSet<Arc<str>, RandomState>, bool) {
        let mut touched = HashSet::<Arc<str>, RandomState>::default();
        for upstream in removed {
            touched.insert(Arc::clone(&upstream.name));
            let Some(claimants) = self.claims.get_mut(&upstream.name) else { continue };
            for claimant in claimants.iter_mut().filter(|c| c.upstream == upstream) {
                claimant.mappings -= 1;
            }
            claimants.retain(|claimant| claimant.mappings > 0);
            if claimants.is_empty() {
                self.claims.remove(&upstream.name);
            }
        }
        for upstream in added {
            touched.insert(Arc::clone(&upstream.name));
            let claimants = self.claims.entry(Arc::clone(&upstream.name)).or_default();
            match claimants.iter_mut().find(|c| c.upstream == upstream) {
                Some(claimant) => claimant.mappings += 1,
                None => claimants.push(Claimant { upstream, mappings: 1 }),
            }
        }
        let mut renamed = false;
        for name in &touched {
            let disputed = self.claims.get(name).is_some_and(|claimants| claimants.len() > 1);
            let was = self.disputed.contains(name);
            // All that claim a disputed name get one of their own.
            renamed |= disputed || was;
            if disputed {
                self.disputed.insert(Arc::clone(name));
            } else if was {
                self.disputed.remove(name);
            }
        }
        (touched, renamed)
    }

    fn regroup(&mut self, added: &[Arc<Mapping>], removed: &[Arc<Mapping>], all: bool) {
        let mut dirty: HashSet<GroupKey, RandomState> =
            added.iter().chain(removed).map(|m| m.group_key).collect();
        if all {
            dirty.extend(self.groups.keys());
        }
        if dirty.is_empty() {
            return;
        }
        let gone = addresses(removed);
        let mut candidates: Map<GroupKey, Vec<Arc<Mapping>>> = Map::default();
        let mut replaced: HashSet<usize, RandomState> = HashSet::default();
        for key in &dirty {
            let old = self.groups.remove(key);
            let mut list = Vec::new();
            if let Some(old) = old {
                replaced.insert(address(&old.built));
                list = old.candidates;
                list.retain(|mapping| !gone.contains(&address(mapping)));
            }
            candidates.insert(*key, list);
        }
        for mapping in added {
            if let Some(list) = candidates.get_mut(&mapping.group_key) {
                list.push(Arc::clone(mapping));
            }
        }
        let mut fresh = Vec::new();
        for (key, mut candidates) in candidates {
            if candidates.is_empty() {
                continue;
            }
            candidates.sort_by(|a, b| load_order(a, b));
            let name = |upstream: &Arc<Upstream>| final_name(upstream, &self.disputed);
            let built = Arc::new(group::build(&candidates, name, self.auth.as_ref()));
            fresh.push(Arc::clone(&built));
            self.groups.insert(key, Grouped { candidates, built });
        }
        let troubled = fresh.iter().filter(|built| !built.problems.is_empty()).cloned().collect();
        update(&mut self.troubled, &replaced, troubled, group::decide);
        update(&mut self.order, &replaced, fresh.clone(), group::decide);
        self.regrouped = Regrouped { gone: replaced, fresh };
    }
}

fn upstreams(http: &[Arc<Mapping>], tcp: &[Arc<TcpMapping>]) -> Vec<Arc<Upstream>> {
    let http = http.iter().filter_map(|mapping| mapping.role.upstream().cloned());
    http.chain(tcp.iter().map(|mapping| Arc::clone(&mapping.upstream))).collect()
}

pub(super) fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).addr()
}

fn addresses<T>(shared: &[Arc<T>]) -> HashSet<usize, RandomState> {
    shared.iter().map(address).collect()
}

/// More than these are sorted in together.
pub(super) const FEW: usize = 64;

/// Takes what is gone out of a sorted list and puts what is new into its place.
pub(super) fn update<T>(
    list: &mut Vec<Arc<T>>,
    gone: &HashSet<usize, RandomState>,
    new: Vec<Arc<T>>,
    order: impl Fn(&T, &T) -> Ordering,
) {
    if !gone.is_empty() {
        list.retain(|item| !gone.contains(&address(item)));
    }
    if new.len() > FEW {
        list.extend(new);
        list.sort_by(|a, b| order(a, b));
        return;
    }
    for item in new {
        let at = list.partition_point(|other| order(other, &item) == Ordering::Less);
        list.insert(at, item);
    }
}

fn load_order(a: &Mapping, b: &Mapping) -> Ordering {
    a.load_key.cmp(&b.load_key).then_with(|| a.object.cmp(&b.object))
}

fn final_name(upstream: &Upstream, disputed: &HashSet<Arc<str>, RandomState>) -> Arc<str> {
    if !disputed.contains(&upstream.name) {
        return Arc::clone(&upstream.name);
    }
    let whole = format!("{upstream:?}");
    format!("{}-{}", upstream.name, &service::hex_sha1(&whole)[..8]).into()
}

#[cfg(test)]
mod tests;
