// SPDX-License-Identifier: Apache-2.0
//! What is remembered from one resolve to the next: results of pure functions, by the pointers
//! that went in. It holds those pointers, so that an address is never another object's.
//!
//! Invariant: with any memo, [`super::resolve`] gives what it gives with an empty one.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::crd::{self, Object};
use crate::ir::{Cluster, Refusal, Settings, VirtualHost};
use crate::problem::Problems;

use super::endpoints::NoSuchPort;
use super::facts::Facts;
use super::group::{self, Built};
use super::host::Host;
use super::ingress::Expanded;
use super::mapping::{Labels, Mapping, Role, Upstream};
use super::service;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Results of earlier resolves. Start with an empty one and always give back the same.
#[derive(Debug, Default)]
pub struct Memo {
    round: u64,
    pub(super) settings: Option<Arc<Settings>>,
    pub(super) facts: Option<Arc<Facts>>,
    auth: Option<Arc<Refusal>>,
    /// By address of the object.
    mappings: Map<usize, Remembered>,
    pub(super) ingresses: Map<usize, (Arc<Object>, Arc<Expanded>)>,
    pub(super) paths: Map<String, RememberedPath>,
    /// All accepted Mappings in load order.
    loaded: Vec<Arc<Mapping>>,
    groups: Map<Arc<str>, Grouped>,
    /// All groups in decision order.
    order: Vec<Arc<Built>>,
    /// Cluster names that different upstreams claim.
    disputed: HashSet<Arc<str>, RandomState>,
    pub(super) clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    pub(super) sources: Map<Arc<str>, Source>,
    pub(super) virtual_hosts: Map<Arc<str>, Vec<(Host, Arc<VirtualHost>)>>,
}

/// One object's result.
#[derive(Debug)]
struct Remembered {
    object: Arc<Object>,
    resolved: Arc<Resolved>,
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
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) mapping: Option<Arc<Mapping>>,
    pub(super) problems: Problems,
}

/// A cluster's endpoints with what they were found from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) upstream: Arc<Upstream>,
    pub(super) inputs: Vec<Arc<Object>>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) missing: Option<NoSuchPort>,
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
    added: Vec<Arc<Mapping>>,
    removed: Vec<Arc<Mapping>>,
}

/// A cluster that some Mapping forwards to, under its final name.
pub(super) struct Claim {
    pub(super) name: Arc<str>,
    pub(super) upstream: Arc<Upstream>,
    /// The first to ask for it, in load order.
    pub(super) mapping: Arc<Mapping>,
}

impl Memo {
    /// Begins a round. Other facts than before: nothing is remembered.
    pub(super) fn begin(&mut self, facts: Facts) -> (Arc<Facts>, Round<'_>) {
        self.round += 1;
        let facts = match &self.facts {
            Some(known) if **known == facts => Arc::clone(known),
            _ => {
                *self = Self {
                    round: self.round,
                    settings: self.settings.take(),
                    ingresses: std::mem::take(&mut self.ingresses),
                    ..Self::default()
                };
                Arc::clone(self.facts.insert(Arc::new(facts)))
            }
        };
        (facts, Round { memo: self, added: Vec::new(), removed: Vec::new() })
    }
}

impl Round<'_> {
    /// The result for an object, computed where it is not remembered.
    pub(super) fn object(
        &mut self,
        object: &Arc<Object>,
        compute: impl FnOnce() -> Resolved,
    ) -> Arc<Resolved> {
        let round = self.memo.round;
        let at = Arc::as_ptr(object).addr();
        if let Some(known) = self.memo.mappings.get_mut(&at) {
            debug_assert!(
                Arc::ptr_eq(&known.object, object),
                "the object is held, its address too"
            );
            known.round = round;
            return Arc::clone(&known.resolved);
        }
        let resolved = Arc::new(compute());
        self.added.extend(resolved.mapping.clone());
        let object = Arc::clone(object);
        let remembered = Remembered { object, resolved: Arc::clone(&resolved), round };
        self.memo.mappings.insert(at, remembered);
        resolved
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

    /// Ends the round: forgets what is gone, brings groups and their order up to date, and gives
    /// the clusters that are forwarded to.
    pub(super) fn finish(self, auth: Option<&Arc<Refusal>>) -> Vec<Claim> {
        let Round { memo, added, mut removed } = self;
        let round = memo.round;
        memo.mappings.retain(|_, known| {
            let stays = known.round == round;
            removed.extend(known.resolved.mapping.clone().filter(|_| !stays));
            stays
        });
        memo.paths.retain(|_, known| {
            let stays = known.round == round;
            removed.extend(known.resolved.mapping.clone().filter(|_| !stays));
            stays
        });
        memo.load(&added, &removed);
        let (claims, disputed) = memo.claims();
        let all = memo.auth.as_ref() != auth || memo.disputed != disputed;
        memo.auth = auth.cloned();
        memo.disputed = disputed;
        memo.regroup(&added, &removed, all);
        claims
    }
}

impl Memo {
    /// All groups in decision order.
    pub(super) fn order(&self) -> &[Arc<Built>] {
        &self.order
    }

    fn load(&mut self, added: &[Arc<Mapping>], removed: &[Arc<Mapping>]) {
        if !removed.is_empty() {
            let gone: HashSet<usize, RandomState> = removed.iter().map(address).collect();
            self.loaded.retain(|mapping| !gone.contains(&address(mapping)));
        }
        if !added.is_empty() {
            self.loaded.extend(added.iter().cloned());
            // The sort takes one run of old ones and one of new ones: it is a merge.
            self.loaded.sort_by(|a, b| load_order(a, b));
        }
    }

    /// Every upstream under its final name. Emissary's names of different upstreams may be the
    /// same (`a-b` and `a.b`); all that claim such a name get one of their own.
    fn claims(&self) -> (Vec<Claim>, HashSet<Arc<str>, RandomState>) {
        let mut first: Map<&str, (&Arc<Upstream>, &Arc<Mapping>)> =
            Map::with_capacity_and_hasher(self.loaded.len(), RandomState::default());
        let mut disputed = HashSet::default();
        for mapping in &self.loaded {
            let Role::Forward { upstream, .. } = &mapping.role else { continue };
            match first.entry(&upstream.name) {
                Entry::Vacant(entry) => {
                    entry.insert((upstream, mapping));
                }
                Entry::Occupied(entry) if entry.get().0 != upstream => {
                    disputed.insert(Arc::clone(&upstream.name));
                }
                Entry::Occupied(_) => {}
            }
        }
        let claim = |(upstream, mapping): (&Arc<Upstream>, &Arc<Mapping>)| Claim {
            name: final_name(upstream, &disputed),
            upstream: Arc::clone(upstream),
            mapping: Arc::clone(mapping),
        };
        let undisputed = first.into_values().filter(|(u, _)| !disputed.contains(&u.name));
        let mut claims: Vec<Claim> = undisputed.map(claim).collect();
        if !disputed.is_empty() {
            let mut named = HashSet::<Arc<str>, RandomState>::default();
            for mapping in &self.loaded {
                let Role::Forward { upstream, .. } = &mapping.role else { continue };
                if disputed.contains(&upstream.name)
                    && named.insert(final_name(upstream, &disputed))
                {
                    claims.push(claim((upstream, mapping)));
                }
            }
        }
        (claims, disputed)
    }

    fn regroup(&mut self, added: &[Arc<Mapping>], removed: &[Arc<Mapping>], all: bool) {
        let mut dirty: HashSet<Arc<str>, RandomState> =
            added.iter().chain(removed).map(|m| Arc::clone(&m.group_key)).collect();
        if all {
            dirty.extend(self.groups.keys().cloned());
        }
        if dirty.is_empty() {
            return;
        }
        let gone: HashSet<usize, RandomState> = removed.iter().map(address).collect();
        let mut candidates: Map<Arc<str>, Vec<Arc<Mapping>>> = Map::default();
        let mut replaced: HashSet<usize, RandomState> = HashSet::default();
        for key in &dirty {
            let old = self.groups.remove(key);
            let mut list = Vec::new();
            if let Some(old) = old {
                replaced.insert(Arc::as_ptr(&old.built).addr());
                list = old.candidates;
                list.retain(|mapping| !gone.contains(&address(mapping)));
            }
            candidates.insert(Arc::clone(key), list);
        }
        for mapping in added {
            if let Some(list) = candidates.get_mut(&mapping.group_key) {
                list.push(Arc::clone(mapping));
            }
        }
        self.order.retain(|built| !replaced.contains(&Arc::as_ptr(built).addr()));
        for (key, mut candidates) in candidates {
            if candidates.is_empty() {
                continue;
            }
            candidates.sort_by(|a, b| load_order(a, b));
            let name = |upstream: &Arc<Upstream>| final_name(upstream, &self.disputed);
            let built = Arc::new(group::build(&candidates, name, self.auth.as_ref()));
            self.order.push(Arc::clone(&built));
            self.groups.insert(key, Grouped { candidates, built });
        }
        self.order.sort_by(|a, b| group::decide(a, b));
    }
}

fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).addr()
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
