// SPDX-License-Identifier: Apache-2.0
//! Every bound and default in one place; `tuning.md` explains each by name.

use std::time::Duration;

/// Bytes of a request or response head, request line included. Emissary: `max_request_headers_kb`.
pub const HEAD_BYTES_MAX: usize = 60 * 1024;
/// Field lines in a head or a trailer section.
pub const HEAD_FIELDS_MAX: usize = 100;
/// Bytes of a request line without its CRLF; beyond: 414.
pub const REQUEST_LINE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a request method.
pub const METHOD_BYTES_MAX: usize = 32;
/// Options in the Connection lines of one head.
pub const CONNECTION_OPTIONS_MAX: usize = 32;
/// Bytes of a chunk-size line, extensions included, CRLF excluded.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Interim (1xx) responses forwarded for one request.
pub const INTERIM_RESPONSES_MAX: usize = 16;

/// Frames of one kind on an HTTP/2 connection that bring nothing; beyond: GOAWAY with
/// ENHANCE_YOUR_CALM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// At once.
    pub burst: u32,
    /// As time passes, up to `burst`.
    pub per_second: u32,
    /// For each HEADERS frame, and each DATA frame with content, of either side.
    pub earned: u32,
}

const fn allowance(burst: u32, per_second: u32, earned: u32) -> Allowance {
    Allowance { burst, per_second, earned }
}

/// A head of 60 KiB needs three.
pub const H2_CONTINUATIONS: Allowance = allowance(32, 8, 8);
/// DATA without content that does not end its stream.
pub const H2_EMPTY_DATA: Allowance = allowance(64, 16, 1);
/// Frames of unknown type: browsers send priorities (RFC 9218) and types made up on purpose.
pub const H2_OTHER_FRAMES: Allowance = allowance(64, 16, 4);
/// A gRPC client that measures its bandwidth sends one for each DATA frame it is sent.
pub const H2_PINGS: Allowance = allowance(64, 16, 1);
/// Priorities of RFC 7540.
pub const H2_PRIORITIES: Allowance = allowance(128, 16, 4);
/// Streams that the peer resets, or has us reset for what it did on them; earned by answers that
/// were completed, not by frames: clients may give up as many requests as they let us answer.
pub const H2_RESETS: Allowance = allowance(200, 50, 1);
/// A client that measures its bandwidth sends them as its window grows.
pub const H2_SETTINGS: Allowance = allowance(32, 4, 0);
/// Clients send two for each DATA frame they are sent, of stream and connection, and those with
/// small buffers several times as many.
pub const H2_WINDOW_UPDATES: Allowance = allowance(256, 64, 20);
/// Frames that an allowance can grow to by what is earned: a peer's answers lag behind.
pub const H2_EARNED_MAX: u32 = 16 * 1024;

/// Bytes of a PROXY header of version 2, its TLVs included: one receive buffer.
pub const PROXY_HEADER_BYTES_MAX: usize = BUFFER_BYTES;

/// A connection's receive buffer, and the most of a body held per direction at a time.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// Free buffers that a worker keeps for reuse.
pub const BUFFER_POOL_MAX: usize = 4096;
/// Free buffers that it keeps although nobody needed them for a second.
pub const BUFFER_POOL_MIN: usize = 4;
/// Connections of a worker between two requests that keep what serving one takes beside buffers, in
/// case the next comes soon.
pub const BURSTS_WAITING_MAX: usize = 256;
/// Counts of routes that a worker leaves for the end of what is ready.
pub const COUNTS_PENDING_MAX: usize = 1024;
/// A buffer for the rest of an answer's body, taken only when bytes are there: a 64 KiB answer and its
/// head leave in one send.
pub const LARGE_BUFFER_BYTES: usize = 68 * 1024;
/// Streams of one HTTP/2 connection from which on each waits with small buffers.
pub const STREAMS_BUFFERED_MAX: usize = 16;
/// A small buffer: most heads, and most answers to calls, fit.
pub const SMALL_BUFFER_BYTES: usize = 2 * 1024;
/// Free large buffers that a worker keeps for reuse.
pub const LARGE_BUFFER_POOL_MAX: usize = 64;
/// What TLS adds to the bytes of one large buffer, alerts and tickets on their way included.
pub const SEALED_EXTRA_BYTES: usize = 4096;

/// A request head must arrive whole within this time of its first byte; beyond: 408.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A PROXY header must arrive whole within this time of the connection; beyond: closed. Envoy has
/// no such bound.
pub const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A TLS handshake must be complete within this time of its first byte.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// TLS handshakes of clients in flight per worker; beyond, one of the listener that has most makes
/// room: the oldest whose ClientHello is not whole, else the oldest.
pub const HANDSHAKES_MAX: usize = 1024;
/// TLS handshakes of one listener that may wait for their turn before it takes new connections.
pub const HANDSHAKES_WAITING_MAX: usize = 256;
/// What handshakes of clients may take of one turn of a worker's event loop before others get
/// theirs. One that began goes on to where it waits for its client.
pub const HANDSHAKE_TURN: Duration = Duration::from_micros(50);
/// An HTTP/1 request body must make progress at least this often; beyond: 408.
pub const BODY_PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read and thrown away after a closing answer, so that the client can read it: closing a
/// socket with unread bytes resets it.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;
/// For how long that is done.
pub const LINGER: Duration = Duration::from_millis(1000);
/// A keep-alive connection without a request is closed after this time.
pub const KEEP_ALIVE_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Neither side of an exchange moves for this time: it ends. Emissary (Envoy): stream idle timeout.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// While an upstream is silent, this is how often its client is looked at: one that has reset its
/// connection waits for nothing.
pub const CLIENT_WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Emissary: `connect_timeout_ms`.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(3000);
/// Emissary: `timeout_ms`.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(3000);
/// Emissary: `AMBASSADOR_DRAIN_TIME`.
pub const DRAIN_TIME: Duration = Duration::from_secs(600);

/// Streams that a client may have open on one HTTP/2 connection: SETTINGS_MAX_CONCURRENT_STREAMS.
pub const STREAMS_MAX: u32 = 256;
/// The same of ours towards one connection of an upstream; beyond, another one is made.
pub const UPSTREAM_STREAMS_MAX: usize = 100;
/// Requests of one HTTP/2 connection that begin in one turn of a worker: with more at hand, others
/// have their turn first.
pub const STREAMS_BEGUN_PER_TURN: usize = 32;
/// Bytes that a peer may send on a new HTTP/2 stream before they were passed on, and what each stream
/// has for itself: one that is not passed on holds up no other.
pub const OWN_WINDOW_BYTES: u32 = 64 * 1024;
/// The same on a stream that is passed on as fast as it comes: it grows from the connection's spare
/// window.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same on all streams of a client's connection together, of which half is spare. To an upstream,
/// where the streams of a connection are of many clients: all of it is spare, beyond what each stream
/// has for itself.
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// An upstream that owes answers by HTTP/2 and has been silent for this long is asked whether it is
/// there, by PING. Servers of gRPC take one that is asked more often than every 5 minutes for an
/// attacker's.
pub const H2_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(330);
/// It must answer within this time; beyond, its connection ends.
pub const H2_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of an answer that the gRPC HTTP/1.1 bridge holds until its trailers come; beyond: 502.
/// Envoy: its connection's buffer limit, 1 MiB.
pub const GRPC_BRIDGE_BYTES_MAX: usize = 1024 * 1024;

/// Connections that the kernel holds per listening socket until they are accepted (bounded by
/// `net.core.somaxconn`).
pub const LISTEN_BACKLOG_MAX: u16 = 4096;
/// Connections accepted from one socket before others get their turn.
pub const ACCEPT_BATCH_MAX: usize = 4;
/// Pause after accepting failed for want of descriptors or memory; doubles while it goes on.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// The longest such pause.
pub const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A listening socket that ends waits this long for handshakes that it has begun.
pub const ACCEPT_SETTLE_TIME: Duration = Duration::from_millis(100);
/// Clients' connections of a process whatever its descriptors allow.
pub const CONNECTIONS_MAX: usize = 1 << 20;
/// Descriptors that are not for connections: listening sockets, files, the admin port.
pub const DESCRIPTORS_RESERVED: usize = 256;
/// Of all connections, those that one listener may have, in percent, unless told otherwise: a
/// storm on one leaves room for the others.
pub const LISTENER_CONNECTIONS_PERCENT: usize = 80;

/// Resident memory, in percent of its limit, from which no connection is taken on and idle ones
/// are closed.
pub const MEMORY_SHED_PERCENT: u64 = 80;
/// The same from which requests are refused.
pub const MEMORY_REFUSE_PERCENT: u64 = 95;
/// As many percent below, things are as they were before.
pub const MEMORY_HYSTERESIS_PERCENT: u64 = 5;
/// How often memory is measured.
pub const MEMORY_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// A shortage that goes on is said in the log this often.
pub const OVERLOAD_SAY_INTERVAL: Duration = Duration::from_secs(10);

/// Listening sockets that one message of a hand-over carries; the kernel takes 253.
pub const HANDOVER_BATCH_MAX: usize = 128;
/// Listening sockets that a successor takes over.
pub const HANDOVER_SOCKETS_MAX: usize = 1 << 16;
/// A process that was asked for its sockets answers within this time.
pub const HANDOVER_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A successor must serve within this time; beyond, it ends and its predecessor goes on.
pub const HANDOVER_READY_TIMEOUT: Duration = Duration::from_secs(120);

/// Endpoints that one request tries: when connecting fails before any byte was written, and for
/// safe methods also when a connection ends without a byte of an answer.
pub const CONNECT_ATTEMPTS_MAX: usize = 3;
/// Connections of a worker to one cluster, tunnels and those being made included; what needs one more
/// is refused. To one
/// endpoint there are about 14,000 ports that the kernel finds at once, and with all of them in use
/// each attempt takes it milliseconds. Envoy: `max_connections`, 1,024.
pub const CLUSTER_CONNECTIONS_MAX: u64 = 10_000;
/// Connections to upstreams that a worker begins in one turn of its event loop: others have their
/// turn, and those that are over make room, before it begins more.
pub const DIALS_PER_TURN: usize = 32;
/// Idle upstream connections kept per endpoint and process.
pub const IDLE_UPSTREAMS_PER_ENDPOINT_MAX: usize = 1024;
/// No bytes either way for this long end a TCP tunnel. Envoy: `idle_timeout` of its TCP proxy.
pub const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// An idle upstream connection is closed after this time. Envoy: one hour.
pub const UPSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Bytes of a copied request that wait for its shadow; beyond, the copy is given up.
pub const SHADOW_BYTES_MAX: usize = 1024 * 1024;
/// The same for all copies of one worker together.
pub const SHADOWS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Copies that a worker sends at a time; beyond, requests are not copied.
pub const SHADOWS_MAX: usize = 1024;
/// Bytes of a shadow's answer that are read and thrown away; beyond, its connection is closed.
pub const SHADOW_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of one object's document.
pub const OBJECT_BYTES_MAX: usize = 1024 * 1024;
/// Nesting depth of one object's document.
pub const OBJECT_DEPTH_MAX: usize = 64;
/// Values (scalars, lists and maps) in one object's document, each use of a YAML alias counted anew.
pub const OBJECT_NODES_MAX: usize = 100_000;
/// Problems of one object after which its unknown fields are no longer named.
pub const OBJECT_PROBLEMS_MAX: usize = 100;
/// Bytes of a compiled regular expression.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 256 * 1024;
/// Characters of a regular expression as written.
pub const REGEX_TEXT_BYTES_MAX: usize = 4096;

/// Bytes of one certificate, key or authority file that a TLSContext or a Host names.
pub const TLS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Such files that are read.
pub const TLS_FILES_MAX: usize = 4096;
/// TLS sessions towards upstreams that one configuration keeps for resumption; a server name may
/// have 8 of them.
pub const TLS_CLIENT_SESSIONS_MAX: usize = 256;

/// Bytes of one file of manifests.
pub const MANIFEST_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files of manifests in a folder, subfolders included.
pub const MANIFEST_FILES_MAX: usize = 100_000;
/// Depth of subfolders that are read.
pub const MANIFEST_FOLDER_DEPTH_MAX: usize = 16;
/// Documents (objects) in a folder.
pub const OBJECTS_MAX: usize = 500_000;
/// A file being written in place is read when nobody has touched it for this long, unless the
/// writer closes it before.
pub const FILE_SETTLE_TIME: Duration = Duration::from_millis(20);
/// A folder is read again at least this often, in case a notification was lost.
pub const FOLDER_RESCAN_INTERVAL: Duration = Duration::from_secs(5);

/// Objects of one page of a list from an API server.
pub const KUBE_PAGE_OBJECTS: usize = 500;
/// Bytes of one object as an API server sends it; etcd takes 1.5 MiB.
pub const KUBE_OBJECT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of the buffer for objects that stays when a large one has passed.
pub const KUBE_LINE_BYTES_KEPT: usize = 64 * 1024;
/// An API server answers within this time.
pub const KUBE_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A watch is asked for again after this time at most, and half of it at least.
pub const KUBE_WATCH_TIME: Duration = Duration::from_secs(580);
/// How often it is looked whether a webhook still converts objects, where one has to.
pub const KUBE_CONVERSION_CHECK: Duration = Duration::from_secs(10);
/// A watch that is silent for this long is asked for again: API servers send a bookmark a minute.
pub const KUBE_SILENCE_MAX: Duration = Duration::from_secs(90);
/// After a failure an API server is asked again within this time, which doubles.
pub const KUBE_BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Up to this; a resource that is not served, or may not be read, is looked for this often.
pub const KUBE_BACKOFF_MAX: Duration = Duration::from_secs(15);
/// Secrets that are read and watched, each by its name and on a connection of its own.
pub const KUBE_SECRETS_MAX: usize = 4096;
/// Secrets that are asked for at the same time.
pub const KUBE_SECRET_REQUESTS_MAX: usize = 16;
/// A change waits at most this long for Secrets that it is the first to name.
pub const KUBE_SECRET_PATIENCE: Duration = Duration::from_secs(1);

/// Whoever holds the Lease of statuses is taken for gone when it is silent for this long.
pub const KUBE_LEASE_TIME: Duration = Duration::from_secs(15);
/// A holder that could not renew the Lease for this long stops writing.
pub const KUBE_LEASE_RENEW_TIMEOUT: Duration = Duration::from_secs(10);
/// The Lease is renewed, or tried for, this often at least.
pub const KUBE_LEASE_RETRY: Duration = Duration::from_secs(3);
/// A process that ends waits this long for the Lease to be given back.
pub const KUBE_LEASE_RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Statuses are written at most this often; an object's changes in between are one.
pub const KUBE_STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// Statuses that are written at the same time.
pub const KUBE_STATUS_WRITES_MAX: usize = 8;
/// A kind without a status is looked at again after this time.
pub const KUBE_STATUS_RETRY: Duration = Duration::from_secs(60);
/// Events that one round of statuses may bring.
pub const KUBE_EVENTS_MAX: usize = 100;

/// Without an answer of the API server for this long, what was last written down is served.
pub const KUBE_STATE_PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of the file of last good versions beyond twice what is in it; then it is rewritten.
pub const KUBE_STATE_BYTES_SPARE: u64 = 1024 * 1024;

/// Problems that one change may say in the log; the admin port has them all.
pub const PROBLEMS_SAID_MAX: usize = 20;

/// Connections to the admin port at a time; more are closed at once.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Bytes of an admin request's head.
pub const ADMIN_HEAD_BYTES_MAX: usize = 16 * 1024;
/// An admin request must arrive, and its answer be taken, within this time.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A port beside the admin port that is taken is tried again after this time.
pub const SIDE_PORT_RETRY: Duration = Duration::from_secs(1);

/// Reviews of an API server that the conversion webhook reads and answers at a time; more wait.
pub const CONVERSIONS_MAX: usize = 2;
/// Bytes of one review: some ten thousand objects.
pub const CONVERSION_BYTES_MAX: usize = 16 << 20;
/// The next review on a connection must begin within this time. Longer than an API server keeps a
/// connection for it (90 s): it is who closes, and loses no review.
pub const CONVERSION_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Names that are resolved at the same time.
pub const DNS_LOOKUPS_MAX: usize = 64;
/// A name is resolved again after this time unless its TTL is respected. Envoy:
/// `dns_refresh_rate`.
pub const DNS_REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// A TTL shorter than this counts as this long.
pub const DNS_TTL_MIN: Duration = Duration::from_secs(1);
/// A name that does not resolve is tried again after a time that doubles up to this.
pub const DNS_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Readiness waits at most this long for the first answers about names.
pub const DNS_FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Endpoints of one cluster.
pub const ENDPOINTS_MAX: usize = 16 * 1024;
/// Places of one endpoint on a hash ring: two endpoints give Envoy's smallest ring of 1,024.
pub const RING_PLACES_PER_ENDPOINT: usize = 512;
/// Places on one hash ring; beyond, endpoints have fewer each.
pub const RING_PLACES_MAX: usize = 1 << 20;
/// Entries of a Maglev table: a prime. Envoy: `table_size`.
pub const MAGLEV_TABLE_SIZE: u32 = 65_537;

/// Different statuses of one cluster's answers that are counted apart; others only by class.
pub const STATUSES_MAX: usize = 24;
/// Methods of gRPC services that a worker counts by name, as Module `grpc_stats` asks; calls of more
/// count for their cluster alone.
pub const GRPC_METHODS_MAX: usize = 4096;
/// Slots of each kind alive at a time: clusters, routes, listeners.
pub const SLOTS_MAX: usize = 1 << 20;
/// Commands waiting for one worker.
pub const COMMANDS_MAX: usize = 1024;
/// Bytes of access log a worker may have waiting for the log thread; beyond, lines are dropped
/// and counted.
pub const ACCESS_LOG_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(REQUEST_LINE_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(TRAILER_BYTES_MAX <= BUFFER_BYTES);
const _: () = assert!(2 * BUFFER_BYTES < LARGE_BUFFER_BYTES);
const _: () = assert!(CHUNK_LINE_BYTES_MAX < BUFFER_BYTES);
const _: () = assert!(ENDPOINTS_MAX <= u16::MAX as usize + 1);
