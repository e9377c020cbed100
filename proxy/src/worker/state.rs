// SPDX-License-Identifier: Apache-2.0
//! What a worker keeps per cluster: its endpoints, whose turn it is, and idle connections.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use ringway_core::feed::Feed;
use ringway_core::ir::Transport;
use ringway_core::limits::{
    CLUSTER_CONNECTIONS_MAX, CONNECT_ATTEMPTS_MAX, IDLE_UPSTREAMS_PER_ENDPOINT_MAX,
    UPSTREAM_IDLE_TIMEOUT,
};
use ringway_core::name::ClusterSlot;
use ringway_core::observe::metric::{ClusterCell, Slab};
use ringway_core::policy::balance::{Draw, Load, Picker};
use ringway_core::tls;

use smallvec::SmallVec;

use crate::net::stream::Stream;
use crate::upstream::h2::{Lease, Multiplexed};

/// A pooled connection that rested for less than this is taken without a look by requests that are
/// repeated if it fails: it was in use a moment ago.
const FRESH_MS: u64 = 10;

/// One address of a cluster. Requests hold it by `Rc`, so that removing it breaks none.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// In the gateway's own zone.
    near: Cell<bool>,
    /// Requests that this worker has here, connecting included.
    active: Cell<u32>,
    idle: RefCell<Vec<Idle>>,
    /// The last answer's body was longer than a buffer.
    pub(crate) long: Cell<bool>,
    /// Connections of HTTP/2, each with as many requests as it takes.
    pub(crate) shared: Multiplexed,
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
    tls: Option<Arc<tls::Client>>,
}

impl Idle {
    /// Whether it was made the way that the cluster is reached now.
    fn is_of(&self, transport: &Transport) -> bool {
        match (&self.tls, transport) {
            (Some(made), Transport::Tls(Some(wanted))) => Arc::ptr_eq(made, wanted),
            (None, Transport::Cleartext) => true,
            _ => false,
        }
    }
}

/// An endpoint that a request has chosen: counted until dropped.
#[derive(Debug)]
pub(crate) struct Chosen(Rc<Endpoint>);

impl Chosen {
    fn new(endpoint: Rc<Endpoint>) -> Self {
        endpoint.active.set(endpoint.active.get() + 1);
        Self(endpoint)
    }

    /// The connection used last, if it is still good. `look`: however short it rested.
    pub(crate) fn take(
        self,
        now: u64,
        limits: PoolLimits,
        transport: &Transport,
        look: bool,
    ) -> Result<Upstream, Self> {
        match self.0.take(now, limits, transport, look) {
            Some(Idle { stream, born, open, tls, .. }) => {
                let held = Held::Alone { born, open, tls };
                Ok(Upstream { stream, endpoint: self, reused: true, held })
            }
            None => Err(self),
        }
    }
}

impl Deref for Chosen {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

/// An upstream connection in use.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: Stream,
    pub(crate) endpoint: Chosen,
    /// It has served a request before.
    pub(crate) reused: bool,
    pub(crate) held: Held,
}

/// How a request has its connection.
#[derive(Debug)]
pub(crate) enum Held {
    /// For itself.
    Alone {
        born: u64,
        open: OpenUpstream,
        /// What its TLS was made with; a cluster's may have changed since.
        tls: Option<Arc<tls::Client>>,
    },
    /// One stream of many.
    Shared { stream: Lease },
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
    fn new(address: SocketAddr, near: bool) -> Self {
        Self {
            address,
            near: Cell::new(near),
            active: Cell::new(0),
            idle: RefCell::default(),
            long: Cell::default(),
            shared: Multiplexed::default(),
            gone: Cell::new(false),
        }
    }

    /// The connection used last, if it is still good.
    fn take(
        &self,
        now: u64,
        limits: PoolLimits,
        transport: &Transport,
        look: bool,
    ) -> Option<Idle> {
        let unseen = if look { 0 } else { FRESH_MS };
        let mut idle = self.idle.borrow_mut();
        while let Some(found) = idle.pop() {
            let rested = now.saturating_sub(found.since);
            let good = found.is_of(transport)
                && now.saturating_sub(found.born) < limits.lifetime_ms
                && (rested < unseen || (rested < limits.idle_ms && found.stream.is_quiet()));
            if good {
                return Some(found);
            }
        }
        None
    }

    /// Out of the cluster: what rests here is closed, what works goes on.
    fn leave(&self) {
        self.gone.set(true);
        self.idle.borrow_mut().clear();
        self.shared.leave();
    }
}

impl Upstream {
    /// Whether it speaks HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        self.stream.h2().is_some()
    }

    /// Returns the connection for the next request.
    pub(crate) fn rest(self, now: u64) {
        let Self { stream, endpoint, held, .. } = self;
        let Held::Alone { born, open, tls } = held else { return };
        let mut idle = endpoint.idle.borrow_mut();
        if !endpoint.gone.get() && idle.len() < IDLE_UPSTREAMS_PER_ENDPOINT_MAX {
            stream.timer.disarm();
            stream.rest();
            idle.push(Idle { stream, since: now, born, open, tls });
        }
    }
}

/// A cluster as one worker sees it.
#[derive(Debug)]
pub(crate) struct ClusterState {
    /// Sorted by address.
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    picker: RefCell<Arc<Picker>>,
    version: Cell<u64>,
    turn: Cell<usize>,
    limits: Cell<PoolLimits>,
    /// Connections being made.
    connecting: Cell<usize>,
}

/// A connection being made, until it is dropped.
#[derive(Debug)]
pub(crate) struct Making<'s>(&'s Cell<usize>);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What one request knows about where it should go: its key, and where it failed.
#[derive(Debug, Default)]
pub(crate) struct Preference {
    /// Hash of the request's key, where it has one.
    pub(crate) key: Option<u64>,
    /// Endpoints that failed this request.
    pub(crate) tried: SmallVec<[SocketAddr; CONNECT_ATTEMPTS_MAX]>,
}

impl ClusterState {
    /// Workers start their turns at different endpoints.
    pub(crate) fn new(offset: usize) -> Self {
        Self {
            endpoints: RefCell::default(),
            picker: RefCell::new(Arc::new(Picker::RoundRobin)),
            version: Cell::new(0),
            turn: Cell::new(offset),
            limits: Cell::default(),
            connecting: Cell::default(),
        }
    }

    /// One more connection is being made, beside those that are `open`; `None`: that are enough.
    pub(crate) fn make(&self, open: u64) -> Option<Making<'_>> {
        let connecting = self.connecting.get();
        (open + (connecting as u64) < CLUSTER_CONNECTIONS_MAX).then(|| {
            self.connecting.set(connecting + 1);
            Making(&self.connecting)
        })
    }

    /// Takes the endpoints of a feed; those that stay keep their connections.
    pub(crate) fn update(&self, feed: &Feed) {
        if feed.version <= self.version.get() {
            return;
        }
        self.version.set(feed.version);
        *self.picker.borrow_mut() = feed.picker.clone();
        let mut endpoints = self.endpoints.borrow_mut();
        let mut old = std::mem::take(&mut *endpoints).into_iter().peekable();
        endpoints.reserve_exact(feed.endpoints.len());
        // Both are sorted.
        for endpoint in feed.endpoints.iter() {
            while let Some(gone) = old.next_if(|e| e.address < endpoint.address) {
                gone.leave();
            }
            endpoints.push(match old.next_if(|e| e.address == endpoint.address) {
                Some(kept) => {
                    kept.near.set(endpoint.near);
                    kept
                }
                None => Rc::new(Endpoint::new(endpoint.address, endpoint.near)),
            });
        }
        old.for_each(|gone| gone.leave());
    }

    /// Chooses an endpoint; `roll` is random.
    pub(crate) fn pick(&self, preference: &Preference, roll: u64) -> Option<Chosen> {
        let endpoints = self.endpoints.borrow();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let draw = Draw { key: preference.key, roll, turn };
        let load = |at: usize| {
            let endpoint = &endpoints[at];
            Load { active: endpoint.active.get(), far: !endpoint.near.get() }
        };
        let tried = |at: usize| preference.tried.contains(&endpoints[at].address);
        let at = self.picker.borrow().pick(endpoints.len(), draw, load, tried)?;
        Some(Chosen::new(endpoints[at].clone()))
    }

    /// Whether there is an endpoint besides this one and those tried.
    pub(crate) fn has_other(&self, preference: &Preference, this: &Endpoint) -> bool {
        let endpoints = self.endpoints.borrow();
        let mut others = endpoints.iter().filter(|e| e.address != this.address);
        others.any(|e| !preference.tried.contains(&e.address))
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
            endpoint.shared.reap(now, limits);
            endpoint.idle.borrow_mut().retain(|idle| {
                let rested = now.saturating_sub(idle.since);
                rested < 1000
                    || (rested < limits.idle_ms
                        && now.saturating_sub(idle.born) < limits.lifetime_ms
                        && idle.stream.is_quiet())
            });
        }
    }
}
