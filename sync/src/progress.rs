// SPDX-License-Identifier: Apache-2.0
//! How far the gateway is: what is served, bound and ready. Written by the publisher and the
//! drain, read by the admin port at any time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringway_core::name::Generation;

/// A worker that is silent for longer is taken for dead. Emissary tolerates a silent Envoy for
/// as long.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Progress {
    served: AtomicU64,
    ready: AtomicBool,
    draining: AtomicBool,
    rest: Mutex<Rest>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Rest {
    bound: Vec<SocketAddr>,
    bind_failures: Vec<(SocketAddr, String)>,
    bind_tried: bool,
    /// Since when the slowest worker owes an acknowledgement.
    slowest: Option<Instant>,
    applied: Option<(Generation, Duration)>,
}

impl Progress {
    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_served(&self, generation: Generation) {
        self.served.store(generation.0, Ordering::Release);
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
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
        rest.bind_tried = true;
        self.changed.notify_all();
    }

    /// The newest generation that every worker serves; 0 before the first.
    pub fn served(&self) -> Generation {
        Generation(self.served.load(Ordering::Acquire))
    }

    /// Every worker serves a configuration, its listeners are bound, and no drain has begun.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.is_draining()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
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

    /// Waits until the first listeners were tried or the gateway is ready; false at the
    /// time-out.
    pub fn wait_bound(&self, patience: Duration) -> bool {
        let is_open = |rest: &mut Rest| !rest.bind_tried && !self.ready.load(Ordering::Acquire);
        let waited = self
            .changed
            .wait_timeout_while(self.rest(), patience, is_open)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.1.timed_out()
    }
}
