// SPDX-License-Identifier: Apache-2.0
//! How far the gateway is: what is served, bound and ready. Written by the publisher and the
//! drain, read by the admin port at any time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ringway_core::feed::Feed;
use ringway_core::link::Pressure;
use ringway_core::name::{ClusterSlot, Generation};
use tokio::sync::watch;

/// A worker that is silent for longer is taken for dead. Emissary tolerates a silent Envoy for
/// as long.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Progress {
    served: AtomicU64,
    oldest: AtomicU64,
    serving: AtomicBool,
    ready: AtomicBool,
    draining: watch::Sender<bool>,
    succeeded: AtomicBool,
    failed: AtomicBool,
    pressure: AtomicU64,
    followed: OnceLock<Arc<Followed>>,
    rest: Mutex<Rest>,
}

/// How a cluster is followed; counts begin with the process.
#[derive(Debug, Default)]
pub struct Followed {
    /// Objects that were told of: listed, changed or deleted.
    pub events: AtomicU64,
    /// Lists after the first of a resource.
    pub relists: AtomicU64,
    /// Lists and watches that failed.
    pub failures: AtomicU64,
    /// This process holds the Lease of those who write statuses.
    pub leads: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Rest {
    bound: Vec<SocketAddr>,
    bind_failures: Vec<(SocketAddr, String)>,
    /// Since when the slowest worker owes an acknowledgement.
    slowest: Option<Instant>,
    applied: Option<(Generation, Duration)>,
    feeds: HashMap<ClusterSlot, Arc<Feed>>,
}

impl Progress {
    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_served(&self, generation: Generation) {
        self.served.store(generation.0, Ordering::Release);
    }

    pub(crate) fn set_oldest(&self, generation: Generation) {
        self.oldest.store(generation.0, Ordering::Release);
    }

    pub(crate) fn set_feed(&self, feed: Arc<Feed>) {
        self.rest().feeds.insert(feed.cluster, feed);
    }

    /// Forgets the feed of a cluster that is gone.
    pub(crate) fn forget_feed(&self, cluster: ClusterSlot) {
        self.rest().feeds.remove(&cluster);
    }

    pub(crate) fn set_serving(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// Others may know that we serve.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn set_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Another process serves in our place: we drain, and who still asks us is told of it.
    pub(crate) fn set_succeeded(&self) {
        self.succeeded.store(true, Ordering::Release);
        self.set_draining();
    }

    /// Somebody wants it to look unready, or not any more.
    pub(crate) fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Release);
    }

    pub(crate) fn has_been_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn set_pressure(&self, pressure: Pressure) {
        self.pressure.store(pressure as u64, Ordering::Relaxed);
    }

    /// How short memory is: 0 not at all, 1 connections are shed, 2 requests are refused.
    pub fn pressure(&self) -> u64 {
        self.pressure.load(Ordering::Relaxed)
    }

    pub(crate) fn set_slowest(&self, since: Option<Instant>) {
        self.rest().slowest = since;
    }

    pub(crate) fn set_applied(&self, generation: Generation, took: Duration) {
        self.rest().applied = Some((generation, took));
    }

    pub(crate) fn set_bound(&self, bound: Vec<SocketAddr>, failures: Vec<(SocketAddr, String)>) {
        let mut rest = self.rest();
        rest.bound = bound;
        rest.bind_failures = failures;
    }

    /// The newest generation that every worker serves; 0 before the first.
    pub fn served(&self) -> Generation {
        Generation(self.served.load(Ordering::Acquire))
    }

    /// The oldest generation of which somebody may still hold the table.
    pub fn oldest(&self) -> Generation {
        Generation(self.oldest.load(Ordering::Acquire))
    }

    /// A cluster's endpoints as last fed; with them, how often they changed.
    pub fn feed(&self, cluster: ClusterSlot) -> Option<Arc<Feed>> {
        self.rest().feeds.get(&cluster).map(Arc::clone)
    }

    /// Every worker serves a configuration, and its listeners are bound, or one at least is.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// It serves, a successor would find it where it was told to wait for one, nobody wants it to
    /// look otherwise, and no drain has begun; or all of that is true of the process that took over.
    pub fn is_ready(&self) -> bool {
        let goes_on = !self.is_draining() || self.succeeded.load(Ordering::Acquire);
        self.ready.load(Ordering::Acquire) && goes_on && !self.has_been_failed()
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until a drain has begun.
    pub(crate) async fn drains(&self) {
        // An error would be that there is no sender, which is ours.
        let _ = self.draining.subscribe().wait_for(|is_draining| *is_draining).await;
    }

    pub(crate) fn set_followed(&self, followed: Arc<Followed>) {
        // Nobody follows two clusters.
        let _ = self.followed.set(followed);
    }

    /// `None` where no cluster is followed.
    pub fn followed(&self) -> Option<&Followed> {
        self.followed.get().map(Arc::as_ref)
    }

    /// Others wait until the Lease is given back.
    pub(crate) fn leads(&self) -> bool {
        self.followed().is_some_and(|followed| followed.leads.load(Ordering::Acquire))
    }

    /// No worker owes an acknowledgement for too long.
    pub fn is_alive(&self, now: Instant) -> bool {
        self.rest().slowest.is_none_or(|since| now.duration_since(since) < SILENCE_MAX)
    }

    pub fn bound(&self) -> Vec<SocketAddr> {
        self.rest().bound.clone()
    }

    /// Addresses that could not be bound, and why.
    pub fn bind_failures(&self) -> Vec<(SocketAddr, String)> {
        self.rest().bind_failures.clone()
    }

    /// The last generation that was announced and how long it took from the change to the last
    /// worker.
    pub fn applied(&self) -> Option<(Generation, Duration)> {
        self.rest().applied
    }

    /// Every listener of the first configuration was tried, and none could be bound.
    pub fn has_failed(&self) -> bool {
        let rest = self.rest();
        rest.bound.is_empty() && !rest.bind_failures.is_empty()
    }
}
