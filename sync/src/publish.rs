// SPDX-License-Identifier: Apache-2.0
//! Tables and feeds to the workers, acknowledgements back, listeners in step with both.
//!
//! Invariants: a worker has at most one unacknowledged table and gets the newest one next, so
//! that nothing piles up behind a slow worker; a cluster's endpoints arrive before the first
//! table that uses them; a new listener is bound when every worker has the table that serves it,
//! and one that is gone is unbound before the table without it goes out. Old tables are freed
//! here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use ringway_core::feed::{Endpoint, Feed};
use ringway_core::ir::EndpointSource;
use ringway_core::limits;
use ringway_core::link::{Bind, Command, Fleet};
use ringway_core::name::{ClusterSlot, Generation};
use ringway_core::table::{Cluster, Table};

use crate::log;
use crate::progress::Progress;

/// A name to resolve, and how.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookup {
    pub name: Arc<str>,
    pub ipv4: bool,
    pub ipv6: bool,
    pub respect_ttl: bool,
}

impl Lookup {
    /// What has to be resolved for a cluster, and the port to connect to.
    fn of(source: &EndpointSource) -> Option<(Self, u16)> {
        let EndpointSource::Dns { name, port, ipv4, ipv6, respect_ttl, .. } = source else {
            return None;
        };
        let name = Arc::clone(name);
        Some((Self { name, ipv4: *ipv4, ipv6: *ipv6, respect_ttl: *respect_ttl }, *port))
    }
}

/// What the publisher is told.
pub enum Message {
    Publish(Publication),
    /// A name's addresses; `None` when it could not be resolved, which keeps the old ones.
    Answer(Lookup, Option<Arc<[IpAddr]>>),
    /// Listeners are about to close for good.
    Stop,
}

/// A table to serve.
pub struct Publication {
    pub table: Arc<Table>,
    /// When the change that led to it was noticed.
    pub since: Instant,
    /// What changed, for the log.
    pub summary: String,
}

/// How long to wait for an acknowledgement before looking for other news.
const ACK_WAIT: Duration = Duration::from_millis(5);
/// How often to look whether an old table can be freed.
const FREE_WAIT: Duration = Duration::from_millis(50);
/// How often to look around when nothing happens.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// A listener that could not be bound is tried again after this time.
const BIND_RETRY: Duration = Duration::from_secs(1);
/// A worker that takes longer over a table is mentioned in the log.
const SLOW_ACK: Duration = Duration::from_secs(5);

/// One worker, as far as it is known here.
#[derive(Default)]
struct Peer {
    sent: Generation,
    acknowledged: Generation,
    /// When the table that it has not acknowledged was sent.
    outstanding: Option<Instant>,
    /// Clusters whose newest feed it does not have.
    stale: BTreeSet<ClusterSlot>,
}

pub struct Publisher {
    fleet: Arc<dyn Fleet>,
    progress: Arc<Progress>,
    /// Which names to resolve, for the resolver.
    lookups: tokio::sync::watch::Sender<Arc<BTreeSet<Lookup>>>,
    peers: Vec<Peer>,
    newest: Option<Publication>,
    /// Tables that somebody may still use; whoever lets go last, they are freed here.
    retired: Vec<Arc<Table>>,
    /// The same for feeds.
    retired_feeds: Vec<Arc<Feed>>,
    /// Feeds by cluster, for the clusters of the newest table.
    feeds: HashMap<ClusterSlot, Arc<Feed>>,
    /// The last feed version per slot: it outlives the cluster, as workers compare it.
    versions: HashMap<ClusterSlot, u64>,
    answers: HashMap<Lookup, Arc<[IpAddr]>>,
    /// Names of the first table that were not heard of yet.
    awaited: HashSet<Lookup>,
    first_published: Option<Instant>,
    bound: Vec<Bind>,
    bind_at: Option<Instant>,
    announced: Generation,
    stopped: bool,
    /// Listen only once names are known, too: another process serves meanwhile.
    patient: bool,
}

impl Publisher {
    pub fn new(
        fleet: Arc<dyn Fleet>,
        progress: Arc<Progress>,
        lookups: tokio::sync::watch::Sender<Arc<BTreeSet<Lookup>>>,
    ) -> Self {
        let peers = (0..fleet.workers()).map(|_| Peer::default()).collect();
        Self {
            fleet,
            progress,
            lookups,
            peers,
            newest: None,
            retired: Vec::new(),
            retired_feeds: Vec::new(),
            feeds: HashMap::new(),
            versions: HashMap::new(),
            answers: HashMap::new(),
            awaited: HashSet::new(),
            first_published: None,
            bound: Vec::new(),
            bind_at: None,
            announced: Generation(0),
            stopped: false,
            patient: false,
        }
    }

    /// Listens only once everything can be answered.
    pub fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// Works until the senders are gone.
    pub fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let waiting = self.peers.iter().any(|p| p.outstanding.is_some());
            if waiting {
                self.take_acks(ACK_WAIT);
            } else {
                match messages.recv_timeout(self.patience()) {
                    Ok(message) => self.take(message),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            for message in messages.try_iter() {
                self.take(message);
            }
            self.step(Instant::now());
        }
    }

    fn patience(&self) -> Duration {
        let unsent = self.peers.iter().any(|p| !p.stale.is_empty());
        match (unsent, self.retired.is_empty() && self.retired_feeds.is_empty()) {
            (true, _) => ACK_WAIT,
            (false, false) => FREE_WAIT,
            (false, true) => IDLE_WAIT,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Publish(publication) => self.publish(publication),
            Message::Answer(lookup, addresses) => self.answer(&lookup, addresses),
            Message::Stop => self.stopped = true,
        }
    }

    /// Takes what the workers acknowledged, waiting at most this long for the first of it.
    fn take_acks(&mut self, wait: Duration) {
        let mut wait = wait;
        while let Some(ack) = self.fleet.ack(wait) {
            wait = Duration::ZERO;
            let Some(peer) = self.peers.get_mut(ack.worker) else { continue };
            peer.acknowledged = peer.acknowledged.max(ack.generation);
            if peer.acknowledged >= peer.sent {
                peer.outstanding = None;
            }
        }
    }

    fn publish(&mut self, publication: Publication) {
        if self.stopped {
            return;
        }
        let table = Arc::clone(&publication.table);
        let before = self.newest.as_ref().map(|newest| Arc::clone(&newest.table));
        self.take_clusters(before.as_deref(), &table, publication.since);

        let wanted = binds(&table);
        // An address stays bound, whichever listener it belongs to next.
        let is_wanted = |bound: &Bind| wanted.iter().any(|b| b.address == bound.address);
        let kept: Vec<Bind> = self.bound.iter().filter(|b| is_wanted(b)).cloned().collect();
        if kept.len() < self.bound.len() {
            self.fleet.listen(&kept);
            self.bound = kept;
        }
        if wanted.iter().any(|bind| !self.bound.contains(bind)) {
            self.bind_at = Some(publication.since);
        }
        if let Some(old) = self.newest.replace(publication) {
            self.retired.push(old.table);
        }
    }

    /// Brings names and feeds into line with a table's clusters.
    fn take_clusters(&mut self, before: Option<&Table>, table: &Table, since: Instant) {
        let lookup = |cluster: Option<&Arc<Cluster>>| Some(Lookup::of(&cluster?.spec.source)?.0);
        let end = before.map_or(0, |before| before.clusters.len()).max(table.clusters.len());
        let slots = (0..end).map(|slot| ClusterSlot(slot as u32));
        let pairs =
            slots.map(|slot| (before.and_then(|before| before.cluster(slot)), table.cluster(slot)));
        // As a rule one of thousands.
        let changed: Vec<_> =
            pairs.filter(|(old, new)| old.map(Arc::as_ptr) != new.map(Arc::as_ptr)).collect();
        let is_first = self.first_published.is_none();
        if is_first || changed.iter().any(|(old, new)| lookup(*old) != lookup(*new)) {
            let clusters = table.clusters.iter().flatten();
            let lookups: BTreeSet<Lookup> =
                clusters.filter_map(|cluster| lookup(Some(cluster))).collect();
            self.answers.retain(|lookup, _| lookups.contains(lookup));
            if is_first {
                self.first_published = Some(since);
                self.awaited = lookups.iter().cloned().collect();
            }
            if **self.lookups.borrow() != lookups {
                self.lookups.send_replace(Arc::new(lookups));
            }
        }
        for (old, new) in changed {
            if let Some(old) = old
                && new.is_none_or(|new| new.spec.name != old.spec.name)
            {
                self.feeds.remove(&old.slot);
                self.progress.forget_feed(old.slot);
            }
            if let Some(new) = new {
                self.decide(new);
            }
        }
    }

    /// Works out a cluster's endpoints; a change makes a new feed, due at every worker.
    fn decide(&mut self, cluster: &Cluster) {
        let (slot, spec) = (cluster.slot, &cluster.spec);
        let source = &spec.source;
        let endpoints = known(source).unwrap_or_else(|| {
            let EndpointSource::Dns { logical, .. } = source else { return Vec::new() };
            let (lookup, port) = Lookup::of(source).expect("the source is a name");
            let addresses = self.answers.get(&lookup);
            let endpoint = |ip: &IpAddr| Endpoint::new(SocketAddr::new(*ip, port));
            let count = if *logical { 1 } else { usize::MAX };
            addresses.map_or_else(Vec::new, |a| a.iter().take(count).map(endpoint).collect())
        });
        let endpoints = Feed::sorted(endpoints);
        if let Some(known) = self.feeds.get(&slot)
            && *known.endpoints == *endpoints
            && known.picker.balancer() == spec.balancer
        {
            return;
        }
        let version = self.versions.entry(slot).or_insert(0);
        *version += 1;
        let feed = Arc::new(Feed::new(slot, *version, spec.balancer, endpoints));
        self.progress.set_feed(Arc::clone(&feed));
        if let Some(old) = self.feeds.insert(slot, feed) {
            self.retired_feeds.push(old);
        }
        for peer in &mut self.peers {
            peer.stale.insert(slot);
        }
    }

    fn answer(&mut self, lookup: &Lookup, addresses: Option<Arc<[IpAddr]>>) {
        self.awaited.remove(lookup);
        let Some(addresses) = addresses else { return };
        if !self.lookups.borrow().contains(lookup) {
            return;
        }
        self.answers.insert(lookup.clone(), addresses);
        let Some(newest) = &self.newest else { return };
        let table = Arc::clone(&newest.table);
        for cluster in table.clusters.iter().flatten() {
            if Lookup::of(&cluster.spec.source).is_some_and(|(l, _)| l == *lookup) {
                self.decide(cluster);
            }
        }
    }

    /// Sends what can be sent, binds what can be bound, says what is done.
    fn step(&mut self, now: Instant) {
        // A count of one is final: nobody else is left to clone from.
        self.retired.retain(|table| Arc::strong_count(table) > 1);
        let used =
            |feed: &Arc<Feed>| Arc::strong_count(feed) > 1 || Arc::strong_count(&feed.picker) > 1;
        self.retired_feeds.retain(used);
        let Some(newest) = &self.newest else { return };
        let table = Arc::clone(&newest.table);
        for (worker, peer) in self.peers.iter_mut().enumerate() {
            let mut open = true;
            while open && let Some(slot) = peer.stale.first().copied() {
                open = match self.feeds.get(&slot) {
                    Some(feed) => self.fleet.send(worker, Command::Feed(Arc::clone(feed))),
                    None => true,
                };
                if open {
                    peer.stale.remove(&slot);
                }
            }
            if open
                && peer.outstanding.is_none()
                && peer.sent < table.generation
                && self.fleet.send(worker, Command::Table(Arc::clone(&table)))
            {
                peer.sent = table.generation;
                peer.outstanding = Some(now);
            }
            if let Some(sent) = peer.outstanding
                && now.duration_since(sent) > SLOW_ACK
            {
                log::warn(format!(
                    "worker {worker} has not taken generation {} for more than {} s",
                    peer.sent,
                    SLOW_ACK.as_secs()
                ));
            }
        }
        let served = self.peers.iter().map(|p| p.acknowledged).min().unwrap_or_default();
        self.progress.set_served(served);
        let oldest = self.retired.iter().map(|table| table.generation).min();
        self.progress.set_oldest(oldest.map_or(served, |oldest| oldest.min(served)));
        self.progress.set_slowest(self.peers.iter().filter_map(|p| p.outstanding).min());
        if served >= table.generation {
            self.bind(&table, now);
            self.announce(served, now);
        }
    }

    /// Binds the listeners of a table that every worker serves.
    fn bind(&mut self, table: &Table, now: Instant) {
        let must_wait = self.patient && !self.has_answers(now);
        if self.stopped || must_wait || self.bind_at.is_none_or(|at| at > now) {
            return;
        }
        let wanted = binds(table);
        let outcomes = self.fleet.listen(&wanted);
        self.bound.clear();
        let mut failures = Vec::new();
        for (bind, outcome) in wanted.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.bound.push(bind),
                Err(error) => failures.push((bind.address, error.to_string())),
            }
        }
        let known = self.progress.bind_failures();
        for (address, error) in failures.iter().filter(|failure| !known.contains(failure)) {
            log::error(format!("cannot listen on {address}: {error}"));
        }
        self.bind_at = (!failures.is_empty()).then(|| now + BIND_RETRY);
        self.progress.set_bound(self.bound.iter().map(|b| b.address).collect(), failures);
    }

    /// Says once that a generation is served everywhere, and whether the gateway is ready.
    fn announce(&mut self, served: Generation, now: Instant) {
        let Some(newest) = &self.newest else { return };
        if self.announced < served {
            self.announced = served;
            let took = now.duration_since(newest.since);
            self.progress.set_applied(served, took);
            log::info(format!(
                "generation {served} applied in {}: {}",
                Milliseconds(took),
                newest.summary
            ));
        }
        // One address that somebody else has does not hold the others back.
        let listens = self.bind_at.is_none() || !self.bound.is_empty();
        if self.has_answers(now) && listens && !self.stopped {
            self.progress.set_serving();
        }
    }

    /// The names of the first table are known, or have been waited for long enough.
    fn has_answers(&self, now: Instant) -> bool {
        let patience = limits::DNS_FIRST_ANSWER_TIMEOUT;
        let waited = |at| now.duration_since(at) >= patience;
        self.awaited.is_empty() || self.first_published.is_some_and(waited)
    }
}

/// `3 ms`, or `0.4 ms` below one.
pub struct Milliseconds(pub Duration);

impl std::fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_secs_f64() * 1e3;
        if ms < 1.0 { write!(f, "{ms:.1} ms") } else { write!(f, "{ms:.0} ms") }
    }
}

/// The endpoints that a source says itself; `None`: they are found out by and by.
pub(crate) fn known(source: &EndpointSource) -> Option<Vec<Endpoint>> {
    match source {
        EndpointSource::Static(addresses) => {
            Some(addresses.iter().map(|&address| Endpoint::new(address)).collect())
        }
        EndpointSource::Service { endpoints, near, .. } => {
            let near = |address| near.binary_search(&address).is_ok();
            let endpoint = |&address| Endpoint { address, near: near(address) };
            Some(endpoints.iter().map(endpoint).collect())
        }
        EndpointSource::Dns { .. } => None,
    }
}

fn binds(table: &Table) -> Vec<Bind> {
    table.listeners.iter().map(|l| Bind { listener: l.slot, address: l.address }).collect()
}

#[cfg(test)]
mod tests;
