// SPDX-License-Identifier: Apache-2.0
//! What a worker keeps per cluster: its endpoints, whose turn it is, and idle connections.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ringway_core::feed::Feed;
use ringway_core::limits::{IDLE_UPSTREAMS_PER_ENDPOINT_MAX, UPSTREAM_IDLE_TIMEOUT};
use ringway_core::name::ClusterSlot;
use ringway_core::observe::metric::{ClusterCell, Slab};

use crate::net::socket::{Peek, peek};
use crate::net::stream::Stream;

/// A pooled connection that rested for less than this is taken without a look: it was in use a
/// moment ago, and what can be repeated is repeated if it fails.
const FRESH_MS: u64 = 10;

/// One address of a cluster. Requests hold it by `Rc`, so that removing it breaks none.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    idle: RefCell<Vec<Idle>>,
    /// No longer in the cluster: connections end after their request.
    gone: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: u64,
    /// When the connection was made.
    born: u64,
    open: OpenUpstream,
}

/// An upstream connection in use.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: Stream,
    pub(crate) endpoint: Rc<Endpoint>,
    /// It has served a request before.
    pub(crate) reused: bool,
    pub(crate) born: u64,
    pub(crate) open: OpenUpstream,
}

/// Counts an upstream connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenUpstream {
    slab: Arc<Slab>,
    cluster: ClusterSlot,
}

impl OpenUpstream {
    pub(crate) fn new(slab: Arc<Slab>, cluster: ClusterSlot) -> Self {
        slab.cluster_add(cluster, ClusterCell::ConnectionsTotal, 1);
        slab.cluster_add(cluster, ClusterCell::ConnectionsActive, 1);
        Self { slab, cluster }
    }
}

impl Drop for OpenUpstream {
    fn drop(&mut self) {
        self.slab.cluster_sub(self.cluster, ClusterCell::ConnectionsActive, 1);
    }
}

/// How long idle connections of a cluster live, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    pub(crate) idle_ms: u64,
    pub(crate) lifetime_ms: u64,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_ms: UPSTREAM_IDLE_TIMEOUT.as_millis() as u64, lifetime_ms: u64::MAX }
    }
}

impl Endpoint {
    /// The connection used last, if it is still good.
    pub(crate) fn take(self: &Rc<Self>, now: u64, limits: PoolLimits) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { stream, since, born, open }) = idle.pop() {
            let rested = now.saturating_sub(since);
            let good = now.saturating_sub(born) < limits.lifetime_ms
                && (rested < FRESH_MS
                    || (rested < limits.idle_ms && peek(stream.timer.fd()) == Peek::Open));
            if good {
                let endpoint = self.clone();
                return Some(Upstream { stream, endpoint, reused: true, born, open });
            }
        }
        None
    }
}

impl Upstream {
    /// Returns the connection for the next request.
    pub(crate) fn rest(self, now: u64) {
        let Self { stream, endpoint, born, open, .. } = self;
        let mut idle = endpoint.idle.borrow_mut();
        if !endpoint.gone.get() && idle.len() < IDLE_UPSTREAMS_PER_ENDPOINT_MAX {
            stream.timer.disarm();
            idle.push(Idle { stream, since: now, born, open });
        }
    }
}

/// A cluster as one worker sees it.
#[derive(Debug)]
pub(crate) struct ClusterState {
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    version: Cell<u64>,
    turn: Cell<usize>,
    limits: Cell<PoolLimits>,
}

impl ClusterState {
    /// Workers start their turns at different endpoints.
    pub(crate) fn new(offset: usize) -> Self {
        Self {
            endpoints: RefCell::default(),
            version: Cell::new(0),
            turn: Cell::new(offset),
            limits: Cell::default(),
        }
    }

    /// Takes the endpoints of a feed; those that stay keep their connections.
    pub(crate) fn update(&self, feed: &Feed) {
        if feed.version <= self.version.get() {
            return;
        }
        self.version.set(feed.version);
        let mut endpoints = self.endpoints.borrow_mut();
        let mut old = std::mem::take(&mut *endpoints);
        for endpoint in feed.endpoints.iter() {
            let kept = old.iter().position(|e| e.address == endpoint.address);
            endpoints.push(match kept {
                Some(at) => old.swap_remove(at),
                None => Rc::new(Endpoint {
                    address: endpoint.address,
                    idle: RefCell::default(),
                    gone: Cell::new(false),
                }),
            });
        }
        for endpoint in old {
            endpoint.gone.set(true);
            endpoint.idle.borrow_mut().clear();
        }
    }

    /// Round robin.
    pub(crate) fn pick(&self) -> Option<Rc<Endpoint>> {
        let endpoints = self.endpoints.borrow();
        if endpoints.len() <= 1 {
            return endpoints.first().cloned();
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        Some(endpoints[turn % endpoints.len()].clone())
    }

    pub(crate) fn limits(&self) -> PoolLimits {
        self.limits.get()
    }

    pub(crate) fn set_limits(&self, limits: PoolLimits) {
        self.limits.set(limits);
    }

    /// Closes idle connections that ended or are too old.
    pub(crate) fn reap(&self, now: u64) {
        let limits = self.limits.get();
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.idle.borrow_mut().retain(|idle| {
                let rested = now.saturating_sub(idle.since);
                rested < 1000
                    || (rested < limits.idle_ms
                        && now.saturating_sub(idle.born) < limits.lifetime_ms
                        && peek(idle.stream.timer.fd()) == Peek::Open)
            });
        }
    }
}
