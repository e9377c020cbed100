// SPDX-License-Identifier: Apache-2.0
//! What `/metrics` says, in the Prometheus text format 0.0.4: the families that dashboards made
//! for Emissary and Envoy read (names theirs, times in milliseconds), `ambassador_*`, and our own
//! `ringway_*` in base units.
//!
//! Slots that share a statistics name are one series. What never had traffic says nothing,
//! listeners excepted, so that ten thousand routes cost what the busy ones cost.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;

use super::metric::{
    CallSlot, ClusterCell, HISTOGRAM_BUCKETS, Histogram, ListenerCell, RouteCell, Slab, Statuses,
    WorkerCell,
};
use crate::link::WorkerStatus;
use crate::name::{ClusterSlot, ListenerSlot, Ref, RouteSlot};
use crate::policy::grpc;

/// The media type of what [`write`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that one scrape reads.
#[derive(Clone, Copy, Debug)]
pub struct Scrape<'a> {
    /// One per worker.
    pub slabs: &'a [&'a Slab],
    pub workers: &'a [WorkerStatus],
    pub listeners: &'a [ListenerName<'a>],
    pub clusters: &'a [ClusterName<'a>],
    pub routes: &'a [RouteName<'a>],
    pub certificates: &'a [CertificateName<'a>],
    pub process: &'a Process<'a>,
}

/// A live listener.
#[derive(Clone, Copy, Debug)]
pub struct ListenerName<'a> {
    pub slot: ListenerSlot,
    pub stats_prefix: &'a str,
    pub address: SocketAddr,
}

/// A live cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterName<'a> {
    pub slot: ClusterSlot,
    pub stats_name: &'a str,
    /// Endpoints known now, and how often they changed.
    pub endpoints: u64,
    pub changes: u64,
}

/// A certificate that is shown to somebody.
#[derive(Clone, Copy, Debug)]
pub struct CertificateName<'a> {
    pub shown: Shown<'a>,
    /// Unix time.
    pub not_after: i64,
}

/// To whom.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// To clients of a listener that ask for this name.
    Clients {
        address: SocketAddr,
        server_name: &'a str,
        host: Option<&'a Ref>,
    },
    Upstream,
}

/// A live route.
#[derive(Clone, Copy, Debug)]
pub struct RouteName<'a> {
    pub slot: RouteSlot,
    pub object: &'a Ref,
}

/// What is known of the process and its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process<'a> {
    pub version: &'a str,
    pub ambassador_id: &'a str,
    pub cluster_id: &'a str,
    pub single_namespace: bool,
    /// `debug`, `info`, `warn`, `error`.
    pub log_level: &'a str,
    pub ready: bool,
    pub draining: bool,
    pub uptime_s: u64,
    /// Seconds since the Unix epoch.
    pub now_s: u64,
    /// Seconds since the Unix epoch; 0 is unknown.
    pub start_time_s: u64,
    pub cpu_ms: u64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_fds: u64,
    pub max_fds: u64,
    /// 0 is none.
    pub memory_limit_bytes: u64,
    /// 0: memory is not short; 1: connections are shed; 2: requests are refused.
    pub pressure: u64,
    /// The newest generation that every worker serves.
    pub generation: u64,
    /// Configurations that were published, and changes that were refused.
    pub updates_applied: u64,
    pub updates_rejected: u64,
    /// Seconds since the Unix epoch; 0 is never.
    pub last_success_s: u64,
    /// How long the last change took, stage by stage.
    pub fetch_us: u64,
    pub resolve_us: u64,
    pub compile_us: u64,
    /// From the change seen to the last worker's acknowledgement.
    pub apply_us: u64,
    /// Problems that refuse something, and all milder ones.
    pub errors: u64,
    pub notices: u64,
    /// `None` where no cluster is followed.
    pub watch: Option<Watch>,
    /// Objects by kind and state (`accepted`, `refused`).
    pub objects: &'a [(&'a str, &'a str, u64)],
}

/// How a cluster is followed, since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    pub events: u64,
    pub relists: u64,
    pub failures: u64,
    /// This process writes statuses.
    pub leads: bool,
}

/// Appends the whole exposition.
pub fn write(scrape: &Scrape<'_>, out: &mut Vec<u8>) {
    let mut page = Page { out };
    http(scrape, &mut page);
    tcp(scrape, &mut page);
    listeners(scrape, &mut page);
    tls_versions(scrape, &mut page);
    certificates(scrape, &mut page);
    clusters(scrape, &mut page);
    calls(scrape, &mut page);
    routes(scrape, &mut page);
    workers(scrape, &mut page);
    process(scrape.process, &mut page);
}

/// Bounds of Envoy's time histograms: text in milliseconds, value in microseconds.
const ENVOY_BOUNDS: [(&str, u64); 19] = [
    ("0.5", 500),
    ("1", 1_000),
    ("5", 5_000),
    ("10", 10_000),
    ("25", 25_000),
    ("50", 50_000),
    ("100", 100_000),
    ("250", 250_000),
    ("500", 500_000),
    ("1000", 1_000_000),
    ("2500", 2_500_000),
    ("5000", 5_000_000),
    ("10000", 10_000_000),
    ("30000", 30_000_000),
    ("60000", 60_000_000),
    ("300000", 300_000_000),
    ("600000", 600_000_000),
    ("1800000", 1_800_000_000),
    ("3600000", 3_600_000_000),
];

/// Bounds of our own: OpenTelemetry's, text in seconds, value in microseconds.
const NATIVE_BOUNDS: [(&str, u64); 14] = [
    ("0.005", 5_000),
    ("0.01", 10_000),
    ("0.025", 25_000),
    ("0.05", 50_000),
    ("0.075", 75_000),
    ("0.1", 100_000),
    ("0.25", 250_000),
    ("0.5", 500_000),
    ("0.75", 750_000),
    ("1", 1_000_000),
    ("2.5", 2_500_000),
    ("5", 5_000_000),
    ("7.5", 7_500_000),
    ("10", 10_000_000),
];

/// The unit that a histogram's sum is told in.
#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    Seconds,
}

/// Live slots that share labels, with their counters over all slots and workers.
struct Row<S, const N: usize> {
    /// `name="value"`, comma-joined, escaped.
    labels: String,
    slots: Vec<S>,
    cells: [u64; N],
}

/// Groups `(labels, slot)` by labels and sums what `read` gives.
fn rows<S: Copy, const N: usize>(
    mut named: Vec<(String, S)>,
    slabs: &[&Slab],
    read: impl Fn(&Slab, S, usize) -> u64,
) -> Vec<Row<S, N>> {
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut rows: Vec<Row<S, N>> = Vec::new();
    for (labels, slot) in named {
        if rows.last().is_none_or(|row| row.labels != labels) {
            rows.push(Row { labels, slots: Vec::new(), cells: [0; N] });
        }
        let row = rows.last_mut().expect("a row was just pushed");
        row.slots.push(slot);
        for slab in slabs {
            for (cell, sum) in row.cells.iter_mut().enumerate() {
                *sum = sum.wrapping_add(read(slab, slot, cell));
            }
        }
    }
    rows
}

const CLASSES: [&str; 5] = ["1", "2", "3", "4", "5"];

fn http(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    use ListenerCell as L;
    let named = scrape.listeners.iter().map(|listener| {
        (label("envoy_http_conn_manager_prefix", listener.stats_prefix), listener.slot)
    });
    let rows: Vec<Row<ListenerSlot, { L::COUNT }>> =
        rows(named.collect(), scrape.slabs, |slab, slot, cell| slab.listener(slot, L::ALL[cell]));
    for (name, kind, help, cell) in [
        ("envoy_http_downstream_rq_total", COUNTER, "Requests", L::RequestsTotal),
        ("envoy_http_downstream_rq_http1_total", COUNTER, "HTTP/1 requests", L::RequestsTotal),
        ("envoy_http_downstream_rq_active", GAUGE, "Requests in flight", L::RequestsActive),
        ("envoy_http_downstream_rq_timeout", COUNTER, "Requests timed out", L::RequestTimeouts),
        ("envoy_http_downstream_rq_rx_reset", COUNTER, "Requests left", L::ResetByClient),
        ("envoy_http_downstream_rq_tx_reset", COUNTER, "Requests cut", L::ResetByUs),
        ("envoy_http_downstream_cx_total", COUNTER, "Connections", L::ConnectionsTotal),
        ("envoy_http_downstream_cx_active", GAUGE, "Connections open", L::ConnectionsActive),
        ("envoy_http_downstream_cx_ssl_total", COUNTER, "TLS connections", L::TlsHandshakes),
        ("envoy_http_downstream_cx_ssl_active", GAUGE, "TLS connections open", L::TlsActive),
        ("envoy_http_downstream_cx_upgrades_total", COUNTER, "Upgrades", L::UpgradesTotal),
        ("envoy_http_downstream_cx_upgrades_active", GAUGE, "Upgrades open", L::UpgradesActive),
        (
            "envoy_http_downstream_rq_ws_on_non_ws_route",
            COUNTER,
            "Upgrades refused",
            L::UpgradesRefused,
        ),
        ("envoy_http_downstream_cx_rx_bytes_total", COUNTER, "Bytes received", L::BytesReceived),
        ("envoy_http_downstream_cx_tx_bytes_total", COUNTER, "Bytes sent", L::BytesSent),
        ("envoy_http_downstream_cx_protocol_error", COUNTER, "Bad requests", L::BadRequest),
        ("ringway_http_heads_too_large_total", COUNTER, "Heads refused by size", L::HeadTooLarge),
        ("ringway_tls_hellos_closed_total", COUNTER, "TLS where none is", L::ClientHelloClosed),
        ("ringway_http2_floods_total", COUNTER, "HTTP/2 floods closed", L::Http2Floods),
    ] {
        page.family(name, kind, help);
        for row in &rows {
            page.sample(name, &row.labels, row.cells[cell as usize]);
        }
    }
    const NAME: &str = "envoy_http_downstream_rq";
    let classes = [L::Requests1xx, L::Requests2xx, L::Requests3xx, L::Requests4xx, L::Requests5xx];
    page.family_of(NAME, "_completed", COUNTER, "Requests answered");
    for row in &rows {
        let completed = classes.iter().map(|class| row.cells[*class as usize]).sum();
        page.sample_of(NAME, "_completed", &row.labels, completed);
    }
    page.family_of(NAME, "_xx", COUNTER, "Requests answered, by class of status");
    for row in &rows {
        for (class, cell) in CLASSES.into_iter().zip(classes) {
            page.class(NAME, &row.labels, class, row.cells[cell as usize]);
        }
    }
    page.family_of(NAME, "_time", HISTOGRAM, "Time of requests in milliseconds");
    for row in &rows {
        let times = times(&row.slots, scrape.slabs, Slab::read_listener_time);
        page.histogram(
            "envoy_http_downstream_rq_time",
            &row.labels,
            (&ENVOY_BOUNDS, Unit::Milliseconds),
            times,
        );
    }
}

/// Connections that TCPMappings took; listeners that had none are left out.
fn tcp(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    use ListenerCell as L;
    let named = scrape
        .listeners
        .iter()
        .map(|listener| (label("envoy_tcp_prefix", listener.stats_prefix), listener.slot));
    let mut rows: Vec<Row<ListenerSlot, { L::COUNT }>> =
        rows(named.collect(), scrape.slabs, |slab, slot, cell| slab.listener(slot, L::ALL[cell]));
    rows.retain(|row| row.cells[L::TcpConnectionsTotal as usize] != 0);
    for (name, kind, help, cell) in [
        ("envoy_tcp_downstream_cx_total", COUNTER, "Tunnels", L::TcpConnectionsTotal),
        ("envoy_tcp_downstream_cx_active", GAUGE, "Tunnels open", L::TcpConnectionsActive),
        ("envoy_tcp_downstream_cx_rx_bytes_total", COUNTER, "From clients", L::TcpBytesReceived),
        ("envoy_tcp_downstream_cx_tx_bytes_total", COUNTER, "To clients", L::TcpBytesSent),
        ("envoy_tcp_idle_timeout", COUNTER, "Tunnels ended for rest", L::TcpIdleTimeouts),
    ] {
        page.family(name, kind, help);
        for row in &rows {
            page.sample(name, &row.labels, row.cells[cell as usize]);
        }
    }
}

fn listeners(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    use ListenerCell as L;
    for (name, kind, help, cell) in [
        ("envoy_listener_downstream_cx_total", COUNTER, "Connections", L::ConnectionsTotal),
        ("envoy_listener_downstream_cx_active", GAUGE, "Connections open", L::ConnectionsActive),
        (
            "envoy_listener_downstream_cx_proxy_proto_error",
            COUNTER,
            "Connections without a good PROXY header",
            L::ProxyHeaderErrors,
        ),
        ("envoy_listener_ssl_handshake", COUNTER, "TLS handshakes", L::TlsHandshakes),
        ("envoy_listener_ssl_session_reused", COUNTER, "Of these resumed", L::TlsResumed),
        ("envoy_listener_ssl_no_certificate", COUNTER, "Of these anonymous", L::TlsNoCertificate),
        ("envoy_listener_ssl_connection_error", COUNTER, "Failed handshakes", L::TlsErrors),
        (
            "envoy_listener_ssl_fail_verify_no_cert",
            COUNTER,
            "Handshakes without a required certificate",
            L::TlsMissingCertificate,
        ),
        (
            "envoy_listener_ssl_fail_verify_error",
            COUNTER,
            "Handshakes with a bad client certificate",
            L::TlsBadCertificate,
        ),
        (
            "ringway_listener_unknown_server_names_total",
            COUNTER,
            "Handshakes for a name without a certificate",
            L::TlsUnknownName,
        ),
        (
            "ringway_listener_handshake_timeouts_total",
            COUNTER,
            "Handshakes that took too long",
            L::HandshakeTimeouts,
        ),
        (
            "ringway_listener_handshakes_shed_total",
            COUNTER,
            "Handshakes ended for newer ones",
            L::HandshakesShed,
        ),
        ("envoy_listener_no_filter_chain_match", COUNTER, "Taken by no chain", L::NoFilterChain),
    ] {
        page.family(name, kind, help);
        for listener in scrape.listeners {
            let sum = scrape.slabs.iter().map(|slab| slab.listener(listener.slot, cell));
            let sum = sum.fold(0, u64::wrapping_add);
            page.sample(name, &address_label(listener.address), sum);
        }
    }
}

/// TLS handshakes by version, under the listener's address.
fn tls_versions(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    const NAME: &str = "envoy_listener_ssl_versions";
    page.family(NAME, COUNTER, "TLS handshakes by version");
    for listener in scrape.listeners {
        for (version, cell) in
            [("TLSv1.2", ListenerCell::TlsVersion12), ("TLSv1.3", ListenerCell::TlsVersion13)]
        {
            let sum = scrape.slabs.iter().map(|slab| slab.listener(listener.slot, cell));
            let labels = format!(
                "{},{}",
                address_label(listener.address),
                label("envoy_ssl_version", version)
            );
            page.sample(NAME, &labels, sum.fold(0, u64::wrapping_add));
        }
    }
}

/// Envoy writes addresses with an underscore before the port.
fn address_label(address: SocketAddr) -> String {
    let text = match address {
        SocketAddr::V4(v4) => format!("{}_{}", v4.ip(), v4.port()),
        SocketAddr::V6(v6) => format!("[{}]_{}", v6.ip(), v6.port()),
    };
    label("envoy_listener_address", &text)
}

fn certificates(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    let until = |not_after: i64| u64::try_from(not_after).unwrap_or(0);
    let mut of_listeners: Vec<(String, u64)> = Vec::new();
    let mut of_hosts: Vec<(String, u64)> = Vec::new();
    for certificate in scrape.certificates {
        let Shown::Clients { address, server_name, host } = certificate.shown else { continue };
        let labels = [address_label(address), label("envoy_tls_certificate", server_name)];
        of_listeners.push((labels.join(","), until(certificate.not_after)));
        let host = match host {
            Some(Ref { namespace, name, .. }) => [&**namespace, &**name].join("/"),
            None => server_name.to_owned(),
        };
        of_hosts.push((label("host", &host), until(certificate.not_after)));
    }
    for (name, help, mut samples) in [
        (
            "envoy_listener_ssl_certificate_expiration_unix_time_seconds",
            "When what a server name is shown expires",
            of_listeners,
        ),
        (
            "ringway_certificate_expiry_timestamp_seconds",
            "When the first certificate of a Host expires",
            of_hosts,
        ),
    ] {
        samples.sort_unstable();
        samples.dedup_by(|b, a| a.0 == b.0);
        page.family(name, GAUGE, help);
        for (labels, time) in samples {
            page.sample(name, &labels, time);
        }
    }
    if let Some(first) = scrape.certificates.iter().map(|c| c.not_after).min() {
        let days = (first - scrape.process.now_s as i64).max(0) / 86_400;
        let name = "envoy_server_days_until_first_cert_expiring";
        page.gauge(name, "Days, 0 where one has expired", until(days));
    }
}

fn clusters(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    use ClusterCell as C;
    let named = scrape.clusters.iter().map(|c| (label(CLUSTER, c.stats_name), c.slot));
    let mut rows: Vec<Row<ClusterSlot, { C::COUNT }>> =
        rows(named.collect(), scrape.slabs, |slab, slot, cell| slab.cluster(slot, C::ALL[cell]));
    membership(scrape, page);
    rows.retain(|row| row.cells.iter().any(|cell| *cell != 0));
    for (name, kind, help, cell) in [
        ("envoy_cluster_upstream_rq_total", COUNTER, "Requests", C::RequestsTotal),
        ("envoy_cluster_upstream_rq_active", GAUGE, "Requests in flight", C::RequestsActive),
        ("envoy_cluster_upstream_rq_completed", COUNTER, "Answers", C::RequestsCompleted),
        ("envoy_cluster_upstream_rq_timeout", COUNTER, "Requests timed out", C::RequestTimeouts),
        ("envoy_cluster_upstream_rq_retry", COUNTER, "Retries", C::Retries),
        ("envoy_cluster_upstream_rq_retry_success", COUNTER, "Good retries", C::RetrySuccess),
        ("envoy_cluster_upstream_rq_rx_reset", COUNTER, "Reset by upstream", C::ResetByUpstream),
        ("envoy_cluster_upstream_rq_tx_reset", COUNTER, "Reset by us", C::ResetByUs),
        ("envoy_cluster_upstream_cx_total", COUNTER, "Connections", C::ConnectionsTotal),
        ("envoy_cluster_upstream_cx_active", GAUGE, "Connections open", C::ConnectionsActive),
        ("envoy_cluster_upstream_cx_connect_fail", COUNTER, "Failed", C::ConnectFailures),
        ("envoy_cluster_upstream_cx_connect_timeout", COUNTER, "Timed out", C::ConnectTimeouts),
        ("envoy_cluster_ssl_handshake", COUNTER, "TLS handshakes", C::TlsHandshakes),
        ("envoy_cluster_ssl_session_reused", COUNTER, "Of these resumed", C::TlsResumed),
        ("envoy_cluster_ssl_connection_error", COUNTER, "Failed handshakes", C::TlsErrors),
        ("envoy_cluster_ssl_fail_verify_error", COUNTER, "Not believed", C::TlsBadCertificate),
        ("envoy_cluster_upstream_cx_none_healthy", COUNTER, "No endpoint", C::NoEndpoint),
        ("envoy_cluster_upstream_cx_rx_bytes_total", COUNTER, "Bytes received", C::BytesReceived),
        ("envoy_cluster_upstream_cx_tx_bytes_total", COUNTER, "Bytes sent", C::BytesSent),
        ("ringway_shadow_dropped_total", COUNTER, "Copies given up", C::ShadowDropped),
    ] {
        page.family(name, kind, help);
        for row in &rows {
            page.sample(name, &row.labels, row.cells[cell as usize]);
        }
    }
    const NAME: &str = "envoy_cluster_upstream_rq";
    let classes = [C::Requests1xx, C::Requests2xx, C::Requests3xx, C::Requests4xx, C::Requests5xx];
    page.family_of(NAME, "_xx", COUNTER, "Answers by class of status");
    for row in &rows {
        for (class, cell) in CLASSES.into_iter().zip(classes) {
            page.class(NAME, &row.labels, class, row.cells[cell as usize]);
        }
    }
    page.family(NAME, COUNTER, "Answers by status");
    for row in &rows {
        for (status, count) in statuses(&row.slots, scrape.slabs) {
            let status = label("envoy_response_code", &status.to_string());
            page.sample(NAME, &[&*row.labels, &*status].join(","), count);
        }
    }
    page.family_of(NAME, "_time", HISTOGRAM, "Time of answers in milliseconds");
    for row in &rows {
        let times = times(&row.slots, scrape.slabs, Slab::read_cluster_time);
        page.histogram(
            "envoy_cluster_upstream_rq_time",
            &row.labels,
            (&ENVOY_BOUNDS, Unit::Milliseconds),
            times,
        );
    }
}

fn statuses(slots: &[ClusterSlot], slabs: &[&Slab]) -> BTreeMap<u16, u64> {
    let mut sums = BTreeMap::new();
    let each = slabs.iter().flat_map(|slab| slots.iter().map(|slot| (*slab, *slot)));
    for (status, count) in
        each.filter_map(|(slab, slot)| slab.read_cluster_statuses(slot)).flat_map(Statuses::counts)
    {
        *sums.entry(status).or_default() += count;
    }
    sums
}

const CLUSTER: &str = "envoy_cluster_name";

/// gRPC calls of one series: of a method at clusters of one name, or of all their others.
#[derive(Default)]
struct Calls {
    /// By the code of their status.
    statuses: [u64; grpc::Status::ALL.len()],
    failed: u64,
    requests: u64,
    responses: u64,
    times: Times,
}

/// gRPC calls as Module `grpc_stats` has them counted; nothing where there were none.
///
/// Envoy cuts a service's name at its dots, and its pieces end up in labels and in the names of
/// series: here the whole of it is one label, as there for services without a package.
fn calls(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    let mut clusters: Vec<(ClusterSlot, &str)> =
        scrape.clusters.iter().map(|c| (c.slot, c.stats_name)).collect();
    clusters.sort_unstable_by_key(|(slot, _)| slot.index());
    let name = |slot: ClusterSlot| {
        let at = clusters.binary_search_by_key(&slot.index(), |(slot, _)| slot.index());
        at.ok().map(|at| label(CLUSTER, clusters[at].1))
    };
    let mut series: BTreeMap<String, Calls> = BTreeMap::new();
    for slab in scrape.slabs {
        let unnamed = clusters.iter().map(|(slot, _)| (CallSlot::Cluster(*slot), *slot, ""));
        for (slot, cluster, path) in unnamed.chain(slab.methods()) {
            let (Some(counted), Some(mut labels)) = (slab.read_calls(slot), name(cluster)) else {
                continue;
            };
            if let Some((service, method)) = grpc::method(path) {
                labels = [
                    labels,
                    label("envoy_grpc_bridge_service", service),
                    label("envoy_grpc_bridge_method", method),
                ]
                .join(",");
            }
            let calls = series.entry(labels).or_default();
            for status in grpc::Status::ALL {
                let count = counted.count(Some(status));
                calls.statuses[usize::from(status.code())] += count;
                calls.failed += if status == grpc::Status::Ok { 0 } else { count };
            }
            calls.failed += counted.count(None);
            calls.requests += counted.requests();
            calls.responses += counted.responses();
            calls.times.add(slab.calls_time(counted));
        }
    }
    if series.is_empty() {
        return;
    }
    for code in 0..grpc::Status::ALL.len() {
        if series.values().all(|calls| calls.statuses[code] == 0) {
            continue;
        }
        let name = format!("envoy_cluster_grpc_{code}");
        page.family(&name, COUNTER, "Calls that ended with this status");
        for (labels, calls) in series.iter().filter(|(_, calls)| calls.statuses[code] > 0) {
            page.sample(&name, labels, calls.statuses[code]);
        }
    }
    let ok = |calls: &Calls| calls.statuses[usize::from(grpc::Status::Ok.code())];
    type Read<'r> = &'r dyn Fn(&Calls) -> u64;
    let families: [(&str, &str, Read<'_>); 5] = [
        ("envoy_cluster_grpc_success", "Calls that ended well", &ok),
        ("envoy_cluster_grpc_failure", "Calls that failed", &|calls| calls.failed),
        ("envoy_cluster_grpc_total", "Calls that ended", &|calls| ok(calls) + calls.failed),
        ("envoy_cluster_grpc_request_message_count", "From clients", &|calls| calls.requests),
        ("envoy_cluster_grpc_response_message_count", "To clients", &|calls| calls.responses),
    ];
    for (name, help, read) in families {
        page.family(name, COUNTER, help);
        for (labels, calls) in &series {
            page.sample(name, labels, read(calls));
        }
    }
    const TIME: &str = "envoy_cluster_grpc_upstream_rq_time";
    let timed = series.into_iter().filter(|(_, calls)| calls.times.counts.iter().any(|n| *n > 0));
    let mut timed = timed.peekable();
    if timed.peek().is_some() {
        page.family(TIME, HISTOGRAM, "Time of calls in milliseconds");
    }
    for (labels, calls) in timed {
        page.histogram(TIME, &labels, (&ENVOY_BOUNDS, Unit::Milliseconds), calls.times);
    }
}

/// Endpoints per cluster; each is taken for healthy while nothing checks.
fn membership(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    let mut members: Vec<(&str, [u64; 2])> =
        scrape.clusters.iter().map(|c| (c.stats_name, [c.endpoints, c.changes])).collect();
    members.sort_unstable();
    for (name, kind, help, what) in [
        ("envoy_cluster_membership_total", GAUGE, "Endpoints", Some(0)),
        ("envoy_cluster_membership_healthy", GAUGE, "Endpoints that take requests", Some(0)),
        ("envoy_cluster_membership_degraded", GAUGE, "Endpoints that should not", None),
        ("envoy_cluster_membership_excluded", GAUGE, "Endpoints left out", None),
        ("envoy_cluster_membership_change", COUNTER, "Changes of the endpoints", Some(1)),
    ] {
        page.family(name, kind, help);
        for same in members.chunk_by(|a, b| a.0 == b.0) {
            let sum = what.map_or(0, |at: usize| same.iter().map(|(_, of)| of[at]).sum());
            page.sample(name, &label(CLUSTER, same[0].0), sum);
        }
    }
    page.gauge("envoy_cluster_manager_active_clusters", "Clusters", scrape.clusters.len() as u64);
    let listeners = scrape.listeners.len() as u64;
    page.gauge("envoy_listener_manager_total_listeners_active", "Listeners", listeners);
}

fn routes(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    use RouteCell as R;
    // Labels are made for busy routes only.
    let busy = |slot: RouteSlot| {
        let hit = |slab: &&Slab| R::ALL.into_iter().any(|cell| slab.route(slot, cell) != 0);
        scrape.slabs.iter().any(hit)
    };
    let named = scrape.routes.iter().filter(|route| busy(route.slot)).map(|route| {
        let Ref { kind, namespace, name } = route.object;
        let labels = [
            label("route_kind", kind.as_str()),
            label("route_namespace", namespace),
            label("route_name", name),
        ];
        (labels.join(","), route.slot)
    });
    let rows: Vec<Row<RouteSlot, { R::COUNT }>> =
        rows(named.collect(), scrape.slabs, |slab, slot, cell| slab.route(slot, R::ALL[cell]));
    const REQUESTS: &str = "ringway_http_requests_total";
    page.family(REQUESTS, COUNTER, "Requests that a route took, by class of status");
    for row in &rows {
        for (class, count) in CLASSES.into_iter().zip(row.cells).filter(|(_, count)| *count > 0) {
            let labels = format!("{},code_class=\"{class}xx\"", row.labels);
            page.sample(REQUESTS, &labels, count);
        }
    }
    const TIME: &str = "ringway_http_request_duration_seconds";
    page.family(TIME, HISTOGRAM, "Time of requests that a route took");
    for row in &rows {
        let times = times(&row.slots, scrape.slabs, Slab::read_route_time);
        page.histogram(TIME, &row.labels, (&NATIVE_BOUNDS, Unit::Seconds), times);
    }
}

fn workers(scrape: &Scrape<'_>, page: &mut Page<'_>) {
    use WorkerCell as W;
    for (name, kind, help, cell) in [
        ("ringway_worker_connections_total", COUNTER, "Connections", W::ConnectionsTotal),
        ("ringway_worker_connections", GAUGE, "Connections open", W::ConnectionsActive),
        ("ringway_worker_no_route_total", COUNTER, "Requests without route", W::NoRoute),
        ("ringway_worker_panics_total", COUNTER, "Panics caught", W::Panics),
        ("ringway_worker_accept_errors_total", COUNTER, "Failed accepts", W::AcceptErrors),
        ("ringway_worker_accept_pauses_total", COUNTER, "Limits reached", W::AcceptPauses),
        ("ringway_worker_accept_paused", GAUGE, "Sockets waiting for room", W::AcceptPaused),
        ("ringway_overload_idle_closed_total", COUNTER, "Idle closed", W::IdleClosed),
        ("ringway_overload_requests_refused_total", COUNTER, "Refused", W::RequestsRefused),
    ] {
        page.family(name, kind, help);
        for (worker, slab) in scrape.slabs.iter().enumerate() {
            page.sample(name, &label("worker", &worker.to_string()), slab.worker(cell));
        }
    }
    let sum = |cell| scrape.slabs.iter().map(|slab| slab.worker(cell)).fold(0, u64::wrapping_add);
    const DROPPED: &str = "ringway_telemetry_dropped_total";
    page.family(DROPPED, COUNTER, "What was to be said and was not");
    page.sample(DROPPED, &label("signal", "access_log"), sum(W::AccessLogDropped));
    page.gauge("envoy_server_total_connections", "Connections open", sum(W::ConnectionsActive));
    page.gauge("envoy_server_concurrency", "Workers", scrape.slabs.len() as u64);
    const GENERATION: &str = "ringway_worker_generation";
    page.family(GENERATION, GAUGE, "The configuration that a worker serves");
    for status in scrape.workers {
        let worker = label("worker", &status.worker.to_string());
        page.sample(GENERATION, &worker, status.generation.0);
    }
    const BACKEND: &str = "ringway_io_backend";
    page.family(BACKEND, GAUGE, "How workers do input and output, and why");
    let mut backends: Vec<_> =
        scrape.workers.iter().map(|w| (w.io_backend, w.io_reason.as_str())).collect();
    backends.sort_unstable();
    backends.dedup();
    for (backend, reason) in backends {
        let labels = [label("backend", backend), label("reason", reason)];
        page.sample(BACKEND, &labels.join(","), 1);
    }
}

fn process(process: &Process<'_>, page: &mut Page<'_>) {
    let state = if process.draining { 1 } else { u64::from(!process.ready) * 3 };
    for (name, help, value) in [
        ("envoy_server_live", "1 unless it drains", u64::from(!process.draining)),
        ("envoy_server_state", "0 live, 1 draining, 3 starting", state),
        ("envoy_server_uptime", "Seconds", process.uptime_s),
        ("envoy_server_version", "Three digits each part", version_number(process.version)),
        ("envoy_server_memory_allocated", "Resident bytes", process.resident_bytes),
        ("envoy_server_memory_heap_size", "Resident bytes", process.resident_bytes),
        ("envoy_server_memory_physical_size", "Resident bytes", process.resident_bytes),
        ("ambassador_process_resident_memory_bytes", "Resident", process.resident_bytes),
        ("ambassador_process_virtual_memory_bytes", "Virtual", process.virtual_bytes),
        ("ambassador_process_start_time_seconds", "Unix time", process.start_time_s),
        ("ambassador_process_open_fds", "Open file descriptors", process.open_fds),
        ("ambassador_process_max_fds", "File descriptors at most", process.max_fds),
        ("ambassador_diagnostics_errors", "Problems that refuse something", process.errors),
        ("ambassador_diagnostics_notices", "Milder problems", process.notices),
        ("ringway_overload_memory_limit_bytes", "0 is none", process.memory_limit_bytes),
        ("ringway_overload_state", "0 no, 1 sheds connections, 2 refuses", process.pressure),
        (
            "envoy_overload_envoy_overload_actions_stop_accepting_connections_active",
            "1 while memory is short",
            u64::from(process.pressure >= 1),
        ),
        (
            "envoy_overload_envoy_overload_actions_stop_accepting_requests_active",
            "1 while memory is very short",
            u64::from(process.pressure >= 2),
        ),
        ("ringway_config_generation", "What every worker serves", process.generation),
        ("ringway_config_last_success_timestamp_seconds", "Unix time", process.last_success_s),
        ("ringway_drain_state", "1 while it drains", u64::from(process.draining)),
    ] {
        page.gauge(name, help, value);
    }
    for (name, help, value) in [
        ("envoy_listener_manager_lds_update_success", "Applied", process.updates_applied),
        ("envoy_listener_manager_lds_update_rejected", "Refused", process.updates_rejected),
        ("envoy_cluster_manager_cds_update_success", "Applied", process.updates_applied),
        ("envoy_cluster_manager_cds_update_rejected", "Refused", process.updates_rejected),
    ] {
        page.family(name, COUNTER, help);
        page.sample(name, "", value);
    }
    if let Some(watch) = process.watch {
        for (name, kind, help, value) in [
            ("ringway_watch_events_total", COUNTER, "Objects told of", watch.events),
            ("ringway_watch_relists_total", COUNTER, "Lists after the first", watch.relists),
            ("ringway_watch_errors_total", COUNTER, "Failed lists and watches", watch.failures),
            ("ringway_leader", GAUGE, "1 where statuses are written", u64::from(watch.leads)),
        ] {
            page.family(name, kind, help);
            page.sample(name, "", value);
        }
    }
    const CPU: &str = "ambassador_process_cpu_seconds_total";
    page.family(CPU, COUNTER, "Processor time");
    page.micros(CPU, process.cpu_ms.saturating_mul(1000));
    for (name, help, us) in [
        ("ambassador_fetcher_time_seconds", "Reading the last change", process.fetch_us),
        ("ambassador_aconf_time_seconds", "Reading the last change", process.fetch_us),
        ("ambassador_ir_time_seconds", "Resolving the last change", process.resolve_us),
        ("ambassador_econf_time_seconds", "Compiling the last change", process.compile_us),
        ("ambassador_reconfiguration_time_seconds", "The last change", process.apply_us),
        ("ringway_config_apply_seconds", "From change to last worker", process.apply_us),
    ] {
        page.family(name, GAUGE, help);
        page.micros(name, us);
    }
    const INFO: &str = "ambassador_diagnostics_info";
    page.family(INFO, GAUGE, "Who this is");
    let labels = [
        label("version", process.version),
        label("ambassador_id", process.ambassador_id),
        label("cluster_id", process.cluster_id),
        label("single_namespace", if process.single_namespace { "true" } else { "false" }),
    ];
    page.sample(INFO, &labels.join(","), 1);
    const BUILD: &str = "ringway_build_info";
    page.family(BUILD, GAUGE, "Which build this is");
    page.sample(BUILD, &label("version", process.version), 1);
    const LEVEL: &str = "ambassador_log_level";
    page.family(LEVEL, GAUGE, "The level that is on");
    page.sample(LEVEL, &label("level", process.log_level), 1);
    const OBJECTS: &str = "ringway_config_objects";
    page.family(OBJECTS, GAUGE, "Objects by kind and state");
    for (kind, state, count) in process.objects {
        page.sample(OBJECTS, &[label("kind", kind), label("state", state)].join(","), *count);
    }
}

/// `1.2.3-x` as 1002003: Envoy's is a number too.
fn version_number(version: &str) -> u64 {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = plain.split('.').map(|part| part.parse().unwrap_or(0).min(999));
    (0..3).fold(0, |number: u64, _| number * 1000 + parts.next().unwrap_or(0))
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";
const HISTOGRAM: &str = "histogram";

/// One histogram's buckets over slots and workers.
struct Times {
    counts: [u64; HISTOGRAM_BUCKETS],
    sum_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; HISTOGRAM_BUCKETS], sum_us: 0 }
    }
}

impl Times {
    fn add(&mut self, histogram: Histogram<'_>) {
        for (sum, count) in self.counts.iter_mut().zip(histogram.counts()) {
            *sum += count;
        }
        self.sum_us = self.sum_us.wrapping_add(histogram.sum_us());
    }
}

fn times<'s, S: Copy>(
    slots: &[S],
    slabs: &[&'s Slab],
    read: impl Fn(&'s Slab, S) -> Option<Histogram<'s>>,
) -> Times {
    let mut times = Times::default();
    for slab in slabs {
        slots.iter().filter_map(|slot| read(slab, *slot)).for_each(|times_of| times.add(times_of));
    }
    times
}

/// `name="value"` with the value escaped as the text format wants it.
fn label(name: &str, value: &str) -> String {
    let mut text = String::with_capacity(name.len() + value.len() + 3);
    text.push_str(name);
    text.push_str("=\"");
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            char => text.push(char),
        }
    }
    text.push('"');
    text
}

/// The page being written.
struct Page<'a> {
    out: &'a mut Vec<u8>,
}

impl Page<'_> {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("a Vec takes every write");
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.family_of(name, "", kind, help);
    }

    fn family_of(&mut self, name: &str, suffix: &str, kind: &str, help: &str) {
        self.put(format_args!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        self.sample_of(name, "", labels, value);
    }

    fn sample_of(&mut self, name: &str, suffix: &str, labels: &str, value: u64) {
        match labels {
            "" => self.put(format_args!("{name}{suffix} {value}\n")),
            labels => self.put(format_args!("{name}{suffix}{{{labels}}} {value}\n")),
        }
    }

    fn class(&mut self, name: &str, labels: &str, class: &str, value: u64) {
        self.put(format_args!(
            "{name}_xx{{{labels},envoy_response_code_class=\"{class}\"}} {value}\n"
        ));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, GAUGE, help);
        self.sample(name, "", value);
    }

    /// A sample without labels, told in seconds.
    fn micros(&mut self, name: &str, us: u64) {
        self.put(format_args!("{name} {}.{:06}\n", us / 1_000_000, us % 1_000_000));
    }

    /// A bucket of the workers' counts under the first bound that is not below its middle:
    /// exact to a sixteenth of an octave.
    fn histogram(
        &mut self,
        name: &str,
        labels: &str,
        (bounds, unit): (&[(&str, u64)], Unit),
        times: Times,
    ) {
        let mut below = 0u64;
        let mut buckets = times.counts.iter().enumerate().peekable();
        for (text, bound) in bounds {
            while let Some((_, count)) =
                buckets.next_if(|(bucket, _)| Histogram::bucket_middle(*bucket) <= *bound)
            {
                below += count;
            }
            self.put(format_args!("{name}_bucket{{{labels},le=\"{text}\"}} {below}\n"));
        }
        let count = buckets.fold(below, |sum, (_, count)| sum + count);
        self.put(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n"));
        let sum = times.sum_us;
        match unit {
            Unit::Milliseconds => {
                self.put(format_args!("{name}_sum{{{labels}}} {}.{:03}\n", sum / 1000, sum % 1000));
            }
            Unit::Seconds => self.put(format_args!(
                "{name}_sum{{{labels}}} {}.{:06}\n",
                sum / 1_000_000,
                sum % 1_000_000
            )),
        }
        self.put(format_args!("{name}_count{{{labels}}} {count}\n"));
    }
}

#[cfg(test)]
mod tests;
