// SPDX-License-Identifier: Apache-2.0
//! Stable numbers for listeners, routes and clusters: handed out when an object is first compiled,
//! kept while any table that somebody may still serve has them, freed after.
//!
//! A number that was freed is not handed out again before every other number has been: counters,
//! histograms and logs of a new object never continue an old one's, unless the process has seen
//! [`SLOTS_MAX`] objects of that kind; then the number that has been free for longest comes back.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::CompileError;
use super::manner::{Manner, Manners};
use crate::ir;
use crate::limits::SLOTS_MAX;
use crate::name::{ClusterSlot, Generation, ListenerSlot, Ref, RouteSlot};

/// The numbers in use, and what else one table leaves to the next. The sync side owns one for the life of the process.
#[derive(Debug, Default)]
pub struct Slots {
    listeners: Space<Ref>,
    routes: Space<Ref>,
    clusters: Space<Arc<str>>,
    manners: Manners,
}

impl Slots {
    pub fn new() -> Self {
        Self::default()
    }

    /// Frees what no table of generation `oldest` or later has. Call it when every worker has
    /// acknowledged `oldest` and the tables before it are dropped; the table given to the next
    /// [`super::compile`] as `previous` is of generation `oldest` or later.
    pub fn release(&mut self, oldest: Generation) {
        self.listeners.release(oldest);
        self.routes.release(oldest);
        self.clusters.release(oldest);
        self.manners.release();
    }

    /// The object that has a route's slot, if any.
    #[cfg(test)]
    pub(super) fn route_object(&self, slot: RouteSlot) -> Option<&Ref> {
        self.routes.by_key.iter().find(|(_, of)| **of == slot.0).map(|(object, _)| object)
    }

    pub(super) fn listener(
        &mut self,
        object: &Ref,
        now: Generation,
    ) -> Result<ListenerSlot, CompileError> {
        self.listeners.take(object, now).map(ListenerSlot).ok_or(CompileError::Slots("listeners"))
    }

    pub(super) fn route(
        &mut self,
        object: &Ref,
        now: Generation,
    ) -> Result<RouteSlot, CompileError> {
        self.routes.take(object, now).map(RouteSlot).ok_or(CompileError::Slots("routes"))
    }

    pub(super) fn cluster(
        &mut self,
        name: &Arc<str>,
        now: Generation,
    ) -> Result<ClusterSlot, CompileError> {
        self.clusters.take(name, now).map(ClusterSlot).ok_or(CompileError::Slots("clusters"))
    }

    /// The slot of a cluster that has one.
    pub(super) fn cluster_slot(&self, name: &str) -> Option<ClusterSlot> {
        self.clusters.by_key.get(name).copied().map(ClusterSlot)
    }

    /// How a route treats its requests, shared with the routes that do the same.
    pub(super) fn manner(&mut self, route: &ir::Route) -> Arc<Manner> {
        self.manners.of(route)
    }

    /// Keeps the slots of a table's routes, which it may have from the one before.
    pub(super) fn keep_routes<T>(&mut self, by_slot: &[Option<T>], now: Generation) {
        self.routes.keep_all(by_slot, now);
    }

    /// Keeps the slots of a table's clusters, which it may have from the one before.
    pub(super) fn keep_clusters<T>(&mut self, by_slot: &[Option<T>], now: Generation) {
        self.clusters.keep_all(by_slot, now);
    }

    /// One more than the highest route slot ever handed out.
    pub(super) fn routes_end(&self) -> usize {
        self.routes.newest.len()
    }

    /// One more than the highest cluster slot ever handed out.
    pub(super) fn clusters_end(&self) -> usize {
        self.clusters.newest.len()
    }
}

/// One kind of numbers.
#[derive(Debug)]
struct Space<K> {
    by_key: HashMap<K, u32, FixedState>,
    /// By number: the newest generation that has it; `None` where free.
    newest: Vec<Option<Generation>>,
    /// Freed numbers, the longest free first.
    free: VecDeque<u32>,
    max: usize,
}

impl<K> Default for Space<K> {
    fn default() -> Self {
        Self {
            by_key: HashMap::default(),
            newest: Vec::new(),
            free: VecDeque::new(),
            max: SLOTS_MAX,
        }
    }
}

impl<K: Clone + Eq + Hash> Space<K> {
    /// The key's number, a new one where it has none. `None` when all are in use.
    fn take<Q>(&mut self, key: &Q, now: Generation) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K>,
    {
        if let Some(&slot) = self.by_key.get(key) {
            self.keep(slot, now);
            return Some(slot);
        }
        let slot = if self.newest.len() < self.max {
            self.newest.push(None);
            (self.newest.len() - 1) as u32
        } else {
            self.free.pop_front()?
        };
        self.newest[slot as usize] = Some(now);
        self.by_key.insert(key.to_owned(), slot);
        Some(slot)
    }

    fn keep(&mut self, slot: u32, now: Generation) {
        let newest = self.newest[slot as usize].as_mut();
        debug_assert!(newest.is_some(), "a table kept a slot that was released");
        if let Some(newest) = newest {
            *newest = now.max(*newest);
        }
    }

    fn keep_all<T>(&mut self, by_slot: &[Option<T>], now: Generation) {
        for (slot, _) in by_slot.iter().enumerate().filter(|(_, held)| held.is_some()) {
            self.keep(slot as u32, now);
        }
    }

    fn release(&mut self, oldest: Generation) {
        let before = self.free.len();
        for (slot, newest) in self.newest.iter_mut().enumerate() {
            if newest.take_if(|newest| *newest < oldest).is_some() {
                self.free.push_back(slot as u32);
            }
        }
        if self.free.len() > before {
            let newest = &self.newest;
            self.by_key.retain(|_, slot| newest[*slot as usize].is_some());
        }
    }
}

#[cfg(test)]
mod tests;
