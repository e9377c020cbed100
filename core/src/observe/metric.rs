// SPDX-License-Identifier: Apache-2.0
//! Counters: a slab per worker with exactly one writer, read by the admin side at any time.
//!
//! A counter is an `AtomicU64` written by a relaxed load and store (a plain `mov`, no lock
//! prefix) because only its worker writes it. Rows (one per cluster, route, listener) live in
//! chunks that the writer allocates at first use, so that a slab of 2^20 rows costs nothing until
//! it is used. Histograms are log-linear, 8 steps per octave of microseconds, allocated at the
//! first hit.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::{SLOTS_MAX, STATUSES_MAX};
use crate::name::{ClusterSlot, ListenerSlot, RouteSlot};

macro_rules! cells {
    ($(#[$doc:meta])* $name:ident { $($(#[$cell_doc:meta])* $cell:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum $name { $($(#[$cell_doc])* $cell),* }

        impl $name {
            pub const COUNT: usize = [$(Self::$cell),*].len();
            pub const ALL: [Self; Self::COUNT] = [$(Self::$cell),*];
        }
    };
}

cells! {
    /// Per listener: `envoy_http_downstream_*`, `envoy_listener_*`.
    ListenerCell {
        ConnectionsTotal,
        ConnectionsActive,
        /// A TLS ClientHello on a listener that serves cleartext only.
        ClientHelloClosed,
        /// Connections over TLS whose handshake is complete.
        TlsActive,
        TlsHandshakes,
        TlsResumed,
        TlsVersion12,
        TlsVersion13,
        /// Complete handshakes in which the client showed no certificate.
        TlsNoCertificate,
        /// Handshakes that failed, other than for the client's certificate.
        TlsErrors,
        /// The client showed no certificate where one is required.
        TlsMissingCertificate,
        /// The client's certificate is not believed.
        TlsBadCertificate,
        /// No certificate is served for the name that the client asked for.
        TlsUnknownName,
        HandshakeTimeouts,
        /// Handshakes ended to make room for newer ones.
        HandshakesShed,
        RequestsTotal,
        RequestsActive,
        Requests1xx,
        Requests2xx,
        Requests3xx,
        Requests4xx,
        Requests5xx,
        /// Requests cut by a time-out of ours.
        RequestTimeouts,
        /// The client went away before its answer was complete.
        ResetByClient,
        /// We cut a client's connection in the middle of an answer.
        ResetByUs,
        BytesReceived,
        BytesSent,
        HeadTooLarge,
        BadRequest,
        /// Connections without the PROXY header that the listener declares, or with a bad one.
        ProxyHeaderErrors,
        /// Connections that none of the listener's filter chains takes.
        NoFilterChain,
        /// Connections that a TCPMapping took: `envoy_tcp_downstream_*`.
        TcpConnectionsTotal,
        TcpConnectionsActive,
        TcpIdleTimeouts,
        TcpBytesReceived,
        TcpBytesSent,
        /// Requests that asked for another protocol, and may have it.
        UpgradesTotal,
        UpgradesActive,
        /// Those that may not.
        UpgradesRefused,
    }
}

cells! {
    /// Per cluster: `envoy_cluster_upstream_*`.
    ClusterCell {
        RequestsTotal,
        RequestsActive,
        RequestsCompleted,
        Requests1xx,
        Requests2xx,
        Requests3xx,
        Requests4xx,
        Requests5xx,
        RequestTimeouts,
        Retries,
        RetrySuccess,
        /// The upstream reset before or during its answer.
        ResetByUpstream,
        /// We reset toward the upstream.
        ResetByUs,
        ConnectionsTotal,
        ConnectionsActive,
        ConnectFailures,
        ConnectTimeouts,
        TlsHandshakes,
        TlsResumed,
        TlsErrors,
        /// The upstream's certificate is not believed.
        TlsBadCertificate,
        BytesReceived,
        BytesSent,
        /// No endpoint was there: 503 `UH`.
        NoEndpoint,
        /// Copies for this shadow that were given up or not begun, so that no original waits.
        ShadowDropped,
    }
}

cells! {
    /// Per route: `ringway_http_requests_total`.
    RouteCell {
        Requests1xx,
        Requests2xx,
        Requests3xx,
        Requests4xx,
        Requests5xx,
    }
}

cells! {
    /// Per worker.
    WorkerCell {
        ConnectionsTotal,
        ConnectionsActive,
        NoRoute,
        Panics,
        AccessLogDropped,
        /// Accepting failed for want of descriptors or memory.
        AcceptErrors,
        /// A listening socket reached a limit of connections, or memory was short.
        AcceptPauses,
        /// Listening sockets that wait for room now.
        AcceptPaused,
        /// Idle connections closed to make room.
        IdleClosed,
        /// Requests refused while memory was short.
        RequestsRefused,
    }
}

const CHUNK_ROWS: usize = 256;
const CHUNKS: usize = SLOTS_MAX / CHUNK_ROWS;

/// Rows of `cells` counters each, allocated by chunks.
#[derive(Debug)]
struct Rows {
    cells: usize,
    chunks: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Rows {
    fn new(cells: usize) -> Self {
        Self { cells, chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }

    /// The counter, allocated if need be: for the writer.
    fn cell(&self, row: usize, cell: usize) -> &AtomicU64 {
        let chunk = self.chunks[row / CHUNK_ROWS]
            .get_or_init(|| (0..CHUNK_ROWS * self.cells).map(|_| AtomicU64::new(0)).collect());
        &chunk[(row % CHUNK_ROWS) * self.cells + cell]
    }

    /// The counter's value, 0 if it was never written: for readers.
    fn read(&self, row: usize, cell: usize) -> u64 {
        match self.chunks[row / CHUNK_ROWS].get() {
            Some(chunk) => chunk[(row % CHUNK_ROWS) * self.cells + cell].load(Relaxed),
            None => 0,
        }
    }
}

/// Adds to a counter that only the calling thread writes.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Buckets of a [`Histogram`]: 8 steps per octave from 1 µs to about 70 minutes.
pub const HISTOGRAM_BUCKETS: usize = 8 * 30;

/// Log-linear histogram of microseconds, one writer.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64; HISTOGRAM_BUCKETS]>,
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([const { AtomicU64::new(0) }; HISTOGRAM_BUCKETS]),
            sum_us: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Which bucket a value falls into. Values up to 8 have a bucket each.
    pub fn bucket(us: u64) -> usize {
        if us < 8 {
            return us as usize;
        }
        let octave = 63 - us.leading_zeros() as usize;
        let step = (us >> (octave - 3)) as usize & 7;
        ((octave - 2) * 8 + step).min(HISTOGRAM_BUCKETS - 1)
    }

    /// The largest value that falls into a bucket.
    pub fn bucket_max(bucket: usize) -> u64 {
        if bucket < 8 {
            return bucket as u64;
        }
        let octave = bucket / 8 + 2;
        let step = (bucket % 8) as u64;
        ((8 + step + 1) << (octave - 3)) - 1
    }

    /// The value that stands for all those of a bucket.
    pub fn bucket_middle(bucket: usize) -> u64 {
        let low = bucket.checked_sub(1).map_or(0, |below| Self::bucket_max(below) + 1);
        low + (Self::bucket_max(bucket) - low) / 2
    }

    pub fn record(&self, us: u64) {
        add(&self.buckets[Self::bucket(us)], 1);
        add(&self.sum_us, us);
    }

    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().map(|b| b.load(Relaxed))
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }
}

/// Values by slot, allocated at the first hit.
#[derive(Debug)]
struct BySlot<T> {
    chunks: Box<[OnceLock<SlotChunk<T>>]>,
}

type SlotChunk<T> = Box<[OnceLock<T>]>;

impl<T: Default> BySlot<T> {
    fn new() -> Self {
        Self { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }

    fn at(&self, row: usize) -> &T {
        let chunk = self.chunks[row / CHUNK_ROWS]
            .get_or_init(|| (0..CHUNK_ROWS).map(|_| OnceLock::new()).collect());
        chunk[row % CHUNK_ROWS].get_or_init(T::default)
    }

    fn read(&self, row: usize) -> Option<&T> {
        self.chunks[row / CHUNK_ROWS].get().and_then(|chunk| chunk[row % CHUNK_ROWS].get())
    }
}

/// Answers of one cluster by status, in the order in which statuses were first seen; one writer.
#[derive(Debug, Default)]
pub struct Statuses([(AtomicU64, AtomicU64); STATUSES_MAX]);

impl Statuses {
    /// Counts an answer; one more status than there is room for is not counted.
    pub fn count(&self, status: u16) {
        for (known, count) in &self.0 {
            match known.load(Relaxed) {
                0 => known.store(status.into(), Relaxed),
                other if other != u64::from(status) => continue,
                _ => {}
            }
            return add(count, 1);
        }
    }

    /// Statuses and how often they came.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counts = self.0.iter().map(|(known, n)| (known.load(Relaxed) as u16, n.load(Relaxed)));
        counts.take_while(|(status, _)| *status != 0)
    }
}

/// One worker's counters. The worker writes, anybody reads.
#[derive(Debug)]
pub struct Slab {
    worker: [AtomicU64; WorkerCell::COUNT],
    listeners: Rows,
    clusters: Rows,
    routes: Rows,
    /// Whole requests, from the first byte of the head to the last byte of the answer.
    route_time: BySlot<Histogram>,
    /// From the request written to the upstream's answer complete.
    cluster_time: BySlot<Histogram>,
    listener_time: BySlot<Histogram>,
    cluster_statuses: BySlot<Box<Statuses>>,
}

impl Default for Slab {
    fn default() -> Self {
        Self {
            worker: [const { AtomicU64::new(0) }; WorkerCell::COUNT],
            listeners: Rows::new(ListenerCell::COUNT),
            clusters: Rows::new(ClusterCell::COUNT),
            routes: Rows::new(RouteCell::COUNT),
            route_time: BySlot::new(),
            cluster_time: BySlot::new(),
            listener_time: BySlot::new(),
            cluster_statuses: BySlot::new(),
        }
    }
}

macro_rules! family {
    ($slot:ty, $cell:ty, $rows:ident, $add:ident, $sub:ident, $read:ident) => {
        pub fn $add(&self, slot: $slot, cell: $cell, n: u64) {
            add(self.$rows.cell(slot.index(), cell as usize), n);
        }

        pub fn $sub(&self, slot: $slot, cell: $cell, n: u64) {
            add(self.$rows.cell(slot.index(), cell as usize), n.wrapping_neg());
        }

        pub fn $read(&self, slot: $slot, cell: $cell) -> u64 {
            self.$rows.read(slot.index(), cell as usize)
        }
    };
}

impl Slab {
    family!(ListenerSlot, ListenerCell, listeners, listener_add, listener_sub, listener);
    family!(ClusterSlot, ClusterCell, clusters, cluster_add, cluster_sub, cluster);
    family!(RouteSlot, RouteCell, routes, route_add, route_sub, route);

    pub fn worker_add(&self, cell: WorkerCell, n: u64) {
        add(&self.worker[cell as usize], n);
    }

    pub fn worker_sub(&self, cell: WorkerCell, n: u64) {
        add(&self.worker[cell as usize], n.wrapping_neg());
    }

    pub fn worker(&self, cell: WorkerCell) -> u64 {
        self.worker[cell as usize].load(Relaxed)
    }

    pub fn route_time(&self, slot: RouteSlot) -> &Histogram {
        self.route_time.at(slot.index())
    }

    pub fn cluster_time(&self, slot: ClusterSlot) -> &Histogram {
        self.cluster_time.at(slot.index())
    }

    pub fn listener_time(&self, slot: ListenerSlot) -> &Histogram {
        self.listener_time.at(slot.index())
    }

    pub fn cluster_statuses(&self, slot: ClusterSlot) -> &Statuses {
        self.cluster_statuses.at(slot.index())
    }

    pub fn read_cluster_statuses(&self, slot: ClusterSlot) -> Option<&Statuses> {
        self.cluster_statuses.read(slot.index()).map(|statuses| &**statuses)
    }

    pub fn read_route_time(&self, slot: RouteSlot) -> Option<&Histogram> {
        self.route_time.read(slot.index())
    }

    pub fn read_cluster_time(&self, slot: ClusterSlot) -> Option<&Histogram> {
        self.cluster_time.read(slot.index())
    }

    pub fn read_listener_time(&self, slot: ListenerSlot) -> Option<&Histogram> {
        self.listener_time.read(slot.index())
    }
}
