// SPDX-License-Identifier: Apache-2.0
//! Counters: a slab per worker with exactly one writer, read by the admin side at any time.
//!
//! A counter is an `AtomicU64` written by a relaxed load and store (a plain `mov`, no lock
//! prefix) because only its worker writes it. Rows (one per cluster, route, listener) live in
//! chunks that the writer allocates at first use, so that a slab of 2^20 rows costs nothing until
//! it is used. Histograms are log-linear, 8 steps per octave of microseconds; each allocates the
//! octaves that it has seen values of.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::limits::{GRPC_METHODS_MAX, SLOTS_MAX, STATUSES_MAX};
use crate::name::{ClusterSlot, ListenerSlot, RouteSlot};
use crate::policy::grpc;

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
        /// HTTP/2 connections that ended because their client sent too much of what brings nothing.
        Http2Floods,
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

/// Something per number below `CHUNKS * CHUNKS * ROWS`, allocated by chunks of `ROWS` at first use:
/// the one writer allocates, anybody reads.
#[derive(Debug)]
struct Chunked<T, const ROWS: usize, const CHUNKS: usize>(
    [OnceLock<Chunks<T, ROWS, CHUNKS>>; CHUNKS],
);

type Chunks<T, const ROWS: usize, const CHUNKS: usize> = Box<[OnceLock<Box<[T; ROWS]>>; CHUNKS]>;

/// Something per slot.
type BySlot<T> = Chunked<T, 256, 64>;

const _: () = assert!(256 * 64 * 64 == SLOTS_MAX);

impl<T, const ROWS: usize, const CHUNKS: usize> Default for Chunked<T, ROWS, CHUNKS> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; CHUNKS])
    }
}

impl<T: Default, const ROWS: usize, const CHUNKS: usize> Chunked<T, ROWS, CHUNKS> {
    /// What is there, allocated if need be: for the writer.
    fn at(&self, number: usize) -> &T {
        let chunk = number / ROWS;
        let chunks =
            self.0[chunk / CHUNKS].get_or_init(|| Box::new([const { OnceLock::new() }; CHUNKS]));
        let chunk = chunks[chunk % CHUNKS].get_or_init(|| {
            let rows: Box<[T]> = (0..ROWS).map(|_| T::default()).collect();
            rows.try_into().unwrap_or_else(|_| unreachable!("as many as were made"))
        });
        &chunk[number % ROWS]
    }
}

impl<T, const ROWS: usize, const CHUNKS: usize> Chunked<T, ROWS, CHUNKS> {
    /// What is there, if its chunk is: for readers.
    fn read(&self, number: usize) -> Option<&T> {
        let chunk = number / ROWS;
        let chunk = self.0[chunk / CHUNKS].get()?[chunk % CHUNKS].get()?;
        Some(&chunk[number % ROWS])
    }
}

/// Rows by slot, so many counters each.
type Rows<const CELLS: usize> = BySlot<Row<CELLS>>;

/// What is counted of one listener, cluster or route. A request writes to one cache line of a
/// route's row and to one of its buckets, and among thousands of routes each comes from memory.
#[derive(Debug)]
#[repr(C, align(128))]
struct Row<const CELLS: usize> {
    cells: [AtomicU64; CELLS],
    time: Times,
}

type RouteRow = Row<{ RouteCell::COUNT }>;

// Groups of up to 16 ms.
const _: () = assert!(std::mem::offset_of!(RouteRow, time.groups) + 4 * 4 <= 64);

impl<const CELLS: usize> Default for Row<CELLS> {
    fn default() -> Self {
        Self { cells: [const { AtomicU64::new(0) }; CELLS], time: Times::default() }
    }
}

/// Adds to a counter that only the calling thread writes.
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Buckets of a [`Histogram`]: 8 steps per octave from 1 µs to about 70 minutes.
pub const HISTOGRAM_BUCKETS: usize = 8 * 30;

/// Buckets that are allocated together: most routes answer within three octaves or six.
const GROUP_BUCKETS: usize = 8 * 3;
const GROUPS: usize = HISTOGRAM_BUCKETS / GROUP_BUCKETS;

/// What a histogram has counted: the sum, and for each group of buckets its number in [`Buckets`]
/// plus one, 0 where nothing fell into it.
#[derive(Debug, Default)]
#[repr(C)]
struct Times {
    sum_us: AtomicU64,
    groups: [AtomicU32; GROUPS],
}

#[derive(Debug)]
struct Group([AtomicU64; GROUP_BUCKETS]);

impl Default for Group {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; GROUP_BUCKETS])
    }
}

/// The buckets of all histograms of a slab, group by group in the order in which they were needed.
#[derive(Debug, Default)]
struct Buckets {
    groups: Chunked<Group, 128, 640>,
    used: AtomicU32,
}

// Routes, listeners, clusters, and calls of these.
const _: () = assert!(128 * 640 * 640 >= (4 * SLOTS_MAX + GRPC_METHODS_MAX) * GROUPS);

/// Log-linear histogram of microseconds, one writer.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'s> {
    times: &'s Times,
    buckets: &'s Buckets,
}

impl<'s> Histogram<'s> {
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

    pub fn record(self, us: u64) {
        let bucket = Self::bucket(us);
        let group = &self.times.groups[bucket / GROUP_BUCKETS];
        let number = match group.load(Relaxed) {
            0 => {
                let used = self.buckets.used.load(Relaxed) + 1;
                self.buckets.used.store(used, Relaxed);
                group.store(used, Relaxed);
                used
            }
            number => number,
        };
        let group = self.buckets.groups.at(number as usize - 1);
        add(&group.0[bucket % GROUP_BUCKETS], 1);
        add(&self.times.sum_us, us);
    }

    /// How many values each bucket has.
    pub fn counts(self) -> impl Iterator<Item = u64> + use<'s> {
        self.times.groups.iter().flat_map(move |number| {
            let number = (number.load(Relaxed) as usize).checked_sub(1);
            let group = number.and_then(|number| self.buckets.groups.read(number));
            (0..GROUP_BUCKETS).map(move |at| group.map_or(0, |group| group.0[at].load(Relaxed)))
        })
    }

    pub fn sum_us(self) -> u64 {
        self.times.sum_us.load(Relaxed)
    }
}

/// Answers of one cluster by status, in the order in which statuses were first seen; one writer.
/// Each entry is a status, in its lowest ten bits, and above it how often it came.
#[derive(Debug, Default)]
pub struct Statuses([AtomicU64; STATUSES_MAX]);

/// A status is below 1000: RFC 9110 §15.
const STATUS_BITS: u32 = 10;

impl Statuses {
    /// Counts an answer; one more status than there is room for is not counted.
    pub fn count(&self, status: u16) {
        let status = u64::from(status) & ((1 << STATUS_BITS) - 1);
        for entry in &self.0 {
            match entry.load(Relaxed) {
                0 => return entry.store(status | 1 << STATUS_BITS, Relaxed),
                known if known & ((1 << STATUS_BITS) - 1) == status => {
                    return add(entry, 1 << STATUS_BITS);
                }
                _ => {}
            }
        }
    }

    /// Statuses and how often they came.
    pub fn counts(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let entries = self.0.iter().map(|entry| entry.load(Relaxed)).take_while(|e| *e != 0);
        entries.map(|e| ((e & ((1 << STATUS_BITS) - 1)) as u16, e >> STATUS_BITS))
    }
}

/// gRPC calls that are counted together, one writer: `envoy_cluster_grpc_*`.
#[derive(Debug, Default)]
pub struct Calls {
    /// By the code of their status; at the end those whose status is none of gRPC's.
    statuses: [AtomicU64; grpc::Status::ALL.len() + 1],
    requests: AtomicU64,
    responses: AtomicU64,
    time: Times,
}

impl Calls {
    fn ended(&self, status: Option<grpc::Status>) -> &AtomicU64 {
        let other = self.statuses.len() - 1;
        &self.statuses[status.map_or(other, |status| usize::from(status.code()))]
    }

    /// Counts a call that ended with this status, or with one that gRPC does not know.
    pub fn end(&self, status: Option<grpc::Status>) {
        add(self.ended(status), 1);
    }

    /// Counts messages from clients.
    pub fn add_requests(&self, n: u64) {
        add(&self.requests, n);
    }

    /// Counts messages to clients.
    pub fn add_responses(&self, n: u64) {
        add(&self.responses, n);
    }

    /// Calls that ended with this status, or with one that gRPC does not know.
    pub fn count(&self, status: Option<grpc::Status>) -> u64 {
        self.ended(status).load(Relaxed)
    }

    /// Messages from clients.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Messages to clients.
    pub fn responses(&self) -> u64 {
        self.responses.load(Relaxed)
    }
}

/// Where a gRPC call counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallSlot {
    /// With all others of a cluster that are not counted by name.
    Cluster(ClusterSlot),
    /// By name: a number that [`Slab::add_method`] gave.
    Method(u16),
}

/// A method of a cluster's services that is counted by name.
#[derive(Debug)]
struct Method {
    cluster: ClusterSlot,
    path: Box<str>,
    calls: Calls,
}

/// By number, in the order in which they were first called.
type Methods = Chunked<OnceLock<Box<Method>>, 64, 8>;

const _: () = assert!(64 * 8 * 8 == GRPC_METHODS_MAX && GRPC_METHODS_MAX <= 1 << 16);

/// One worker's counters. The worker writes, anybody reads.
#[derive(Debug)]
pub struct Slab {
    worker: [AtomicU64; WorkerCell::COUNT],
    listeners: Rows<{ ListenerCell::COUNT }>,
    clusters: Rows<{ ClusterCell::COUNT }>,
    routes: Rows<{ RouteCell::COUNT }>,
    buckets: Buckets,
    cluster_statuses: BySlot<OnceLock<Box<Statuses>>>,
    cluster_calls: BySlot<OnceLock<Box<Calls>>>,
    methods: Methods,
}

impl Default for Slab {
    fn default() -> Self {
        Self {
            worker: [const { AtomicU64::new(0) }; WorkerCell::COUNT],
            listeners: Rows::default(),
            clusters: Rows::default(),
            routes: Rows::default(),
            buckets: Buckets::default(),
            cluster_statuses: BySlot::default(),
            cluster_calls: BySlot::default(),
            methods: Methods::default(),
        }
    }
}

macro_rules! family {
    (
        $slot:ty, $cell:ty, $rows:ident, $add:ident, $sub:ident, $read:ident,
        $(#[$doc:meta])* $time:ident, $read_time:ident
    ) => {
        pub fn $add(&self, slot: $slot, cell: $cell, n: u64) {
            add(&self.$rows.at(slot.index()).cells[cell as usize], n);
        }

        pub fn $sub(&self, slot: $slot, cell: $cell, n: u64) {
            add(&self.$rows.at(slot.index()).cells[cell as usize], n.wrapping_neg());
        }

        pub fn $read(&self, slot: $slot, cell: $cell) -> u64 {
            let row = self.$rows.read(slot.index());
            row.map_or(0, |row| row.cells[cell as usize].load(Relaxed))
        }

        $(#[$doc])*
        pub fn $time(&self, slot: $slot) -> Histogram<'_> {
            Histogram { times: &self.$rows.at(slot.index()).time, buckets: &self.buckets }
        }

        /// The same for readers: `None` where nothing was counted yet.
        pub fn $read_time(&self, slot: $slot) -> Option<Histogram<'_>> {
            let times = &self.$rows.read(slot.index())?.time;
            Some(Histogram { times, buckets: &self.buckets })
        }
    };
}

impl Slab {
    family!(
        ListenerSlot, ListenerCell, listeners, listener_add, listener_sub, listener,
        /// Whole requests, from the first byte of the head to the last byte of the answer.
        listener_time, read_listener_time
    );
    family!(
        ClusterSlot, ClusterCell, clusters, cluster_add, cluster_sub, cluster,
        /// From the request written to the upstream's answer complete.
        cluster_time, read_cluster_time
    );
    family!(
        RouteSlot, RouteCell, routes, route_add, route_sub, route,
        /// Whole requests, as for listeners.
        route_time, read_route_time
    );

    pub fn worker_add(&self, cell: WorkerCell, n: u64) {
        add(&self.worker[cell as usize], n);
    }

    pub fn worker_sub(&self, cell: WorkerCell, n: u64) {
        add(&self.worker[cell as usize], n.wrapping_neg());
    }

    pub fn worker(&self, cell: WorkerCell) -> u64 {
        self.worker[cell as usize].load(Relaxed)
    }

    pub fn cluster_statuses(&self, slot: ClusterSlot) -> &Statuses {
        self.cluster_statuses.at(slot.index()).get_or_init(Box::default)
    }

    pub fn read_cluster_statuses(&self, slot: ClusterSlot) -> Option<&Statuses> {
        self.cluster_statuses.read(slot.index())?.get().map(|statuses| &**statuses)
    }

    /// Counts a method by name from here on: for the writer, at its first call, with the number of
    /// methods so far. Nothing where there are [`GRPC_METHODS_MAX`].
    pub fn add_method(&self, number: usize, cluster: ClusterSlot, path: &str) -> Option<CallSlot> {
        let slot = u16::try_from(number).ok().filter(|_| number < GRPC_METHODS_MAX)?;
        let method = || Box::new(Method { cluster, path: path.into(), calls: Calls::default() });
        self.methods.at(number).get_or_init(method);
        Some(CallSlot::Method(slot))
    }

    /// The cluster and the path of a method that is counted by name.
    pub fn method(&self, number: u16) -> Option<(ClusterSlot, &str)> {
        let method = self.methods.read(usize::from(number))?.get()?;
        Some((method.cluster, &method.path))
    }

    /// Methods that are counted by name: their places, clusters and paths.
    pub fn methods(&self) -> impl Iterator<Item = (CallSlot, ClusterSlot, &str)> {
        let numbers = 0..GRPC_METHODS_MAX as u16;
        numbers.map_while(move |number| {
            let (cluster, path) = self.method(number)?;
            Some((CallSlot::Method(number), cluster, path))
        })
    }

    /// The counters of a place, allocated if need be: for the writer.
    pub fn calls(&self, slot: CallSlot) -> &Calls {
        match slot {
            CallSlot::Cluster(cluster) => {
                self.cluster_calls.at(cluster.index()).get_or_init(Box::default)
            }
            CallSlot::Method(number) => {
                let method = self.methods.at(usize::from(number)).get();
                &method.expect("a slot is of a method that was added").calls
            }
        }
    }

    /// The same for readers: `None` where nothing was counted yet.
    pub fn read_calls(&self, slot: CallSlot) -> Option<&Calls> {
        match slot {
            CallSlot::Cluster(cluster) => {
                self.cluster_calls.read(cluster.index())?.get().map(|calls| &**calls)
            }
            CallSlot::Method(number) => {
                self.methods.read(usize::from(number))?.get().map(|method| &method.calls)
            }
        }
    }

    /// From the request written to the upstream's answer complete.
    pub fn calls_time<'s>(&'s self, calls: &'s Calls) -> Histogram<'s> {
        Histogram { times: &calls.time, buckets: &self.buckets }
    }
}
