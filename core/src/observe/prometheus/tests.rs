// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::limits::GRPC_METHODS_MAX;
use crate::name::{Generation, Kind};

/// A page read back by the rules of the text format.
struct Parsed {
    /// `name{labels}` → value.
    samples: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
}

impl Parsed {
    /// Panics at whatever a scraper would refuse or a linter would mention.
    fn of(page: &str) -> Self {
        let mut parsed = Self { samples: BTreeMap::new(), kinds: BTreeMap::new() };
        let mut helped = BTreeSet::new();
        let mut current = String::new();
        assert!(page.ends_with('\n'));
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty());
                assert!(helped.insert(name.to_owned()), "{name} has two HELP lines");
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind));
                assert!(helped.contains(name));
                current = name.to_owned();
                assert!(parsed.kinds.insert(current.clone(), kind.to_owned()).is_none());
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = match parsed.kinds[&current].as_str() {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap(),
                _ => name,
            };
            assert_eq!(family, current, "{series} is outside its family");
            check_labels(series);
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite());
            assert!(value >= 0.0);
            assert!(parsed.samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
        parsed.check_histograms();
        parsed
    }

    fn check_histograms(&self) {
        for (series, count) in &self.samples {
            let Some((name, labels)) = series.split_once("_count{") else { continue };
            // A counter's name may end so, too.
            if self.kinds.get(name).is_none_or(|kind| kind != "histogram") {
                continue;
            }
            let labels = labels.strip_suffix('}').unwrap();
            let prefix = format!("{name}_bucket{{{labels},le=\"");
            let mut buckets: Vec<(f64, f64)> = self
                .samples
                .iter()
                .filter_map(|(series, value)| {
                    let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                    Some((bound.replace("+Inf", "inf").parse().unwrap(), *value))
                })
                .collect();
            buckets.sort_by(|a, b| a.partial_cmp(b).unwrap());
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{series} is not cumulative");
            assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, *count));
            assert!(self.samples.contains_key(&format!("{name}_sum{{{labels}}}")));
        }
    }

    #[track_caller]
    fn check(&self, series: &str, expected: f64) {
        let found = self.samples.get(series);
        assert_eq!(found, Some(&expected), "{series}");
    }

    fn count_of(&self, family: &str) -> usize {
        self.samples.keys().filter(|series| series.starts_with(family)).count()
    }
}

/// `name{a="…",b="…"}` with escapes where they must be.
fn check_labels(series: &str) {
    let Some((_, rest)) = series.split_once('{') else { return };
    let mut rest = rest.strip_suffix('}').unwrap();
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{series}");
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => assert!(matches!(chars.next().unwrap().1, '\\' | '"' | 'n')),
                (at, '"') => break at,
                _ => {}
            }
        };
        match &value[end + 1..] {
            "" => return,
            more => rest = more.strip_prefix(',').unwrap(),
        }
    }
}

fn mapping(name: &str) -> Ref {
    Ref::new(Kind::Mapping, "default", name)
}

fn listener(slot: u32, stats_prefix: &str, port: u16) -> ListenerName<'_> {
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    ListenerName { slot: ListenerSlot(slot), stats_prefix, address }
}

fn page(scrape: &Scrape<'_>) -> Parsed {
    let mut out = Vec::new();
    write(scrape, &mut out);
    Parsed::of(std::str::from_utf8(&out).unwrap())
}

const PROCESS: Process<'static> = Process {
    version: "1.2.3\"\\\n",
    ambassador_id: "default",
    cluster_id: "c",
    single_namespace: false,
    log_level: "info",
    ready: true,
    draining: false,
    uptime_s: 5,
    now_s: 1_795_553_045,
    start_time_s: 1_795_553_040,
    cpu_ms: 1_234,
    resident_bytes: 1 << 30,
    memory_limit_bytes: 1 << 31,
    pressure: 1,
    virtual_bytes: 1 << 31,
    open_fds: 9,
    max_fds: 20_000,
    generation: 7,
    updates_applied: 7,
    updates_rejected: 1,
    last_success_s: 1_795_553_041,
    fetch_us: 1,
    resolve_us: 2,
    compile_us: 3,
    apply_us: 1_000_001,
    errors: 1,
    notices: 2,
    watch: Some(Watch { events: 9, relists: 2, failures: 4, leads: true }),
    objects: &[("Mapping", "accepted", 3), ("Mapping", "refused", 1)],
};

const EMPTY: Scrape<'static> = Scrape {
    slabs: &[],
    workers: &[],
    listeners: &[],
    clusters: &[],
    routes: &[],
    certificates: &[],
    process: &PROCESS,
};

#[test]
fn the_process() {
    let page = page(&EMPTY);
    page.check("envoy_server_live", 1.0);
    page.check("envoy_server_state", 0.0);
    page.check("envoy_server_uptime", 5.0);
    page.check("envoy_server_version", 1_002_000.0);
    page.check("ambassador_process_cpu_seconds_total", 1.234);
    page.check("ambassador_reconfiguration_time_seconds", 1.000_001);
    page.check("ringway_config_objects{kind=\"Mapping\",state=\"refused\"}", 1.0);
    page.check("ringway_watch_events_total", 9.0);
    page.check("ringway_watch_relists_total", 2.0);
    page.check("ringway_watch_errors_total", 4.0);
    page.check("ringway_leader", 1.0);
    page.check("ringway_build_info{version=\"1.2.3\\\"\\\\\\n\"}", 1.0);
    page.check("ambassador_log_level{level=\"info\"}", 1.0);
}

#[test]
fn workers_and_listeners_are_summed() {
    let (a, b) = (Slab::default(), Slab::default());
    a.listener_add(ListenerSlot(0), ListenerCell::RequestsTotal, 3);
    b.listener_add(ListenerSlot(0), ListenerCell::RequestsTotal, 4);
    b.listener_add(ListenerSlot(1), ListenerCell::RequestsTotal, 5);
    a.listener_add(ListenerSlot(0), ListenerCell::Requests2xx, 2);
    a.listener_add(ListenerSlot(0), ListenerCell::Requests5xx, 1);
    b.listener_add(ListenerSlot(2), ListenerCell::ConnectionsTotal, 6);
    a.listener_time(ListenerSlot(0)).record(400);
    b.listener_time(ListenerSlot(1)).record(2_000);
    let scrape = Scrape {
        slabs: &[&a, &b],
        listeners: &[
            listener(0, "ingress_http", 8080),
            listener(1, "ingress_http", 8081),
            listener(2, "ingress_https", 8443),
        ],
        ..EMPTY
    };
    let page = page(&scrape);
    let http = "{envoy_http_conn_manager_prefix=\"ingress_http\"}";
    page.check(&format!("envoy_http_downstream_rq_total{http}"), 12.0);
    page.check(&format!("envoy_http_downstream_rq_completed{http}"), 3.0);
    page.check(
        "envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix=\"ingress_http\",\
         envoy_response_code_class=\"5\"}",
        1.0,
    );
    page.check(
        "envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=\"ingress_https\"}",
        0.0,
    );
    page.check(&format!("envoy_http_downstream_rq_time_count{http}"), 2.0);
    page.check(&format!("envoy_http_downstream_rq_time_sum{http}"), 2.4);
    let bucket = |le: &str| {
        format!(
            "envoy_http_downstream_rq_time_bucket{{envoy_http_conn_manager_prefix=\
             \"ingress_http\",le=\"{le}\"}}"
        )
    };
    page.check(&bucket("0.5"), 1.0);
    page.check(&bucket("1"), 1.0);
    page.check(&bucket("5"), 2.0);
    page.check(&bucket("+Inf"), 2.0);
    let address = "{envoy_listener_address=\"0.0.0.0_8443\"}";
    page.check(&format!("envoy_listener_downstream_cx_total{address}"), 6.0);
}

#[test]
fn clusters_that_share_a_name_are_one_series() {
    let slab = Slab::default();
    slab.cluster_add(ClusterSlot(3), ClusterCell::RequestsTotal, 2);
    slab.cluster_add(ClusterSlot(9), ClusterCell::RequestsTotal, 5);
    slab.cluster_add(ClusterSlot(9), ClusterCell::RequestsActive, 1);
    slab.cluster_add(ClusterSlot(9), ClusterCell::Requests2xx, 4);
    slab.cluster_time(ClusterSlot(3)).record(30_000);
    for (slot, status) in [(3, 200), (9, 200), (9, 404), (9, 200)] {
        slab.cluster_statuses(ClusterSlot(slot)).count(status);
    }
    let cluster = |slot, stats_name, endpoints| ClusterName {
        slot: ClusterSlot(slot),
        stats_name,
        endpoints,
        changes: 2,
    };
    let scrape = Scrape {
        slabs: &[&slab],
        clusters: &[cluster(9, "quote", 2), cluster(4, "idle", 1), cluster(3, "quote", 3)],
        ..EMPTY
    };
    let page = page(&scrape);
    page.check("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"quote\"}", 7.0);
    page.check("envoy_cluster_upstream_rq_active{envoy_cluster_name=\"quote\"}", 1.0);
    page.check(
        "envoy_cluster_upstream_rq_xx{envoy_cluster_name=\"quote\",envoy_response_code_class=\"2\"}",
        4.0,
    );
    page.check("envoy_cluster_membership_healthy{envoy_cluster_name=\"quote\"}", 5.0);
    page.check("envoy_cluster_membership_total{envoy_cluster_name=\"idle\"}", 1.0);
    page.check("envoy_cluster_membership_degraded{envoy_cluster_name=\"idle\"}", 0.0);
    page.check("envoy_cluster_membership_change{envoy_cluster_name=\"quote\"}", 4.0);
    let of = |status| {
        format!(
            "envoy_cluster_upstream_rq{{envoy_cluster_name=\"quote\",envoy_response_code=\"{status}\"}}"
        )
    };
    page.check(&of(200), 3.0);
    page.check(&of(404), 1.0);
    assert_eq!(page.count_of("envoy_cluster_upstream_rq{"), 2);
    page.check(
        "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"quote\",le=\"50\"}",
        1.0,
    );
    assert!(!page.samples.keys().any(|s| s.contains("_rq_total") && s.contains("\"idle\"")));
}

#[test]
fn calls_are_told_by_method_and_status() {
    use crate::policy::grpc::Status;
    let [shop, other, gone] = [3, 4, 5].map(ClusterSlot);
    let path = "/shop.v1.Cart/Add";
    let (a, b) = (Slab::default(), Slab::default());
    for (slab, number, cluster) in [(&a, 0, shop), (&b, 0, gone), (&b, 1, other)] {
        let slot = slab.add_method(number, cluster, path).unwrap();
        assert_eq!(slot, CallSlot::Method(number as u16));
        assert_eq!(slab.method(number as u16), Some((cluster, path)));
        let calls = slab.calls(slot);
        for status in [Some(Status::Ok), Some(Status::NotFound), None] {
            calls.end(status);
        }
        calls.add_requests(3);
        calls.add_responses(4);
        slab.calls_time(calls).record(30_000);
    }
    assert_eq!(a.add_method(GRPC_METHODS_MAX, shop, "/one.Too/Many"), None);
    a.calls(CallSlot::Cluster(shop)).end(Some(Status::Unavailable));
    let cluster = |slot, stats_name| ClusterName { slot, stats_name, endpoints: 1, changes: 0 };
    let scrape = Scrape {
        slabs: &[&a, &b],
        // The two share a name; one is no longer there.
        clusters: &[cluster(shop, "shop"), cluster(other, "shop")],
        ..EMPTY
    };
    let told = page(&scrape);
    let of = |what: &str| {
        format!(
            "envoy_cluster_grpc_{what}{{envoy_cluster_name=\"shop\",\
             envoy_grpc_bridge_service=\"shop.v1.Cart\",envoy_grpc_bridge_method=\"Add\"}}"
        )
    };
    for (what, value) in [
        ("0", 2.0),
        ("5", 2.0),
        ("success", 2.0),
        ("failure", 4.0),
        ("total", 6.0),
        ("request_message_count", 6.0),
        ("response_message_count", 8.0),
        ("upstream_rq_time_count", 2.0),
        ("upstream_rq_time_sum", 60.0),
    ] {
        told.check(&of(what), value);
    }
    let unnamed = |what: &str| format!("envoy_cluster_grpc_{what}{{envoy_cluster_name=\"shop\"}}");
    told.check(&unnamed("14"), 1.0);
    told.check(&unnamed("success"), 0.0);
    told.check(&unnamed("failure"), 1.0);
    // No word of statuses that nobody had.
    assert_eq!(told.count_of("envoy_cluster_grpc_1"), 1);
    assert_eq!(page(&EMPTY).count_of("envoy_cluster_grpc"), 0);
}

#[test]
fn certificates_and_their_ends() {
    let end = PROCESS.now_s as i64 + 10 * 86_400;
    let host = Ref::new(Kind::Host, "default", "shop");
    let clients = |port, server_name, host, not_after| CertificateName {
        shown: Shown::Clients {
            address: SocketAddr::from(([0, 0, 0, 0], port)),
            server_name,
            host,
        },
        not_after,
    };
    let upstream = CertificateName { shown: Shown::Upstream, not_after: end - 86_400 };
    let certificates = [
        clients(8443, "shop.example", Some(&host), end),
        clients(8444, "shop.example", Some(&host), end + 5),
        clients(8443, "*", None, end + 9),
        upstream,
    ];
    let told = page(&Scrape { certificates: &certificates, ..EMPTY });
    let family = "envoy_listener_ssl_certificate_expiration_unix_time_seconds";
    let of = |address: &str, name: &str| {
        format!("{family}{{envoy_listener_address=\"{address}\",envoy_tls_certificate=\"{name}\"}}")
    };
    told.check(&of("0.0.0.0_8443", "shop.example"), end as f64);
    told.check(&of("0.0.0.0_8444", "shop.example"), (end + 5) as f64);
    told.check(&of("0.0.0.0_8443", "*"), (end + 9) as f64);
    assert_eq!(told.count_of(family), 3);
    let family = "ringway_certificate_expiry_timestamp_seconds";
    told.check(&format!("{family}{{host=\"default/shop\"}}"), end as f64);
    told.check(&format!("{family}{{host=\"*\"}}"), (end + 9) as f64);
    told.check("envoy_server_days_until_first_cert_expiring", 9.0);
    let expired = [clients(8443, "old", None, 5)];
    let told = page(&Scrape { certificates: &expired, ..EMPTY });
    told.check("envoy_server_days_until_first_cert_expiring", 0.0);
    assert_eq!(page(&EMPTY).count_of("envoy_server_days"), 0);
}

#[test]
fn routes_speak_once_they_are_hit() {
    let slab = Slab::default();
    let objects = [mapping("quote"), mapping("idle")];
    slab.route_add(RouteSlot(0), RouteCell::Requests2xx, 9);
    slab.route_add(RouteSlot(0), RouteCell::Requests4xx, 1);
    slab.route_time(RouteSlot(0)).record(9_000);
    let routes = [0, 1].map(|n| RouteName { slot: RouteSlot(n), object: &objects[n as usize] });
    let page = page(&Scrape { slabs: &[&slab], routes: &routes, ..EMPTY });
    let labels = "route_kind=\"Mapping\",route_namespace=\"default\",route_name=\"quote\"";
    let total = |class| format!("ringway_http_requests_total{{{labels},code_class=\"{class}\"}}");
    page.check(&total("2xx"), 9.0);
    page.check(&total("4xx"), 1.0);
    page.check(&format!("ringway_http_request_duration_seconds_sum{{{labels}}}"), 0.009);
    page.check(
        &format!("ringway_http_request_duration_seconds_bucket{{{labels},le=\"0.01\"}}"),
        1.0,
    );
    page.check(
        &format!("ringway_http_request_duration_seconds_bucket{{{labels},le=\"0.005\"}}"),
        0.0,
    );
    assert!(!page.samples.keys().any(|series| series.contains("\"idle\"")));
}

#[test]
fn the_workers() {
    let (a, b) = (Slab::default(), Slab::default());
    a.worker_add(WorkerCell::ConnectionsActive, 5);
    a.worker_sub(WorkerCell::ConnectionsActive, 2);
    b.worker_add(WorkerCell::ConnectionsActive, 4);
    b.worker_add(WorkerCell::AccessLogDropped, 8);
    let worker = |worker, io_backend: &'static str| WorkerStatus {
        worker,
        cpu: None,
        generation: Generation(3),
        io_backend,
        io_reason: "because".into(),
        connections: 0,
        draining: false,
    };
    let workers = [worker(0, "io_uring"), worker(1, "io_uring")];
    let page = page(&Scrape { slabs: &[&a, &b], workers: &workers, ..EMPTY });
    page.check("ringway_worker_connections{worker=\"0\"}", 3.0);
    page.check("envoy_server_total_connections", 7.0);
    page.check("envoy_server_concurrency", 2.0);
    page.check("ringway_telemetry_dropped_total{signal=\"access_log\"}", 8.0);
    page.check("ringway_worker_generation{worker=\"1\"}", 3.0);
    page.check("ringway_io_backend{backend=\"io_uring\",reason=\"because\"}", 1.0);
}

#[test]
fn ten_thousand_idle_routes_cost_no_output() {
    let slab = Slab::default();
    let objects: Vec<Ref> = (0..10_000).map(|n| mapping(&format!("m{n}"))).collect();
    slab.route_add(RouteSlot(5_000), RouteCell::Requests2xx, 1);
    let routes: Vec<RouteName<'_>> = objects
        .iter()
        .enumerate()
        .map(|(n, object)| RouteName { slot: RouteSlot(n as u32), object })
        .collect();
    let page = page(&Scrape { slabs: &[&slab], routes: &routes, ..EMPTY });
    assert_eq!(page.count_of("ringway_http_requests_total"), 1);
}

#[test]
fn every_counter_is_told() {
    // A cell that nobody writes out would be kept for nothing: each shows up as a number of its
    // own.
    let slab = Slab::default();
    for (n, cell) in ListenerCell::ALL.into_iter().enumerate() {
        slab.listener_add(ListenerSlot(0), cell, 1_000_001 + n as u64);
    }
    for (n, cell) in ClusterCell::ALL.into_iter().enumerate() {
        slab.cluster_add(ClusterSlot(0), cell, 2_000_001 + n as u64);
    }
    for (n, cell) in WorkerCell::ALL.into_iter().enumerate() {
        slab.worker_add(cell, 3_000_001 + n as u64);
    }
    let scrape = Scrape {
        slabs: &[&slab],
        listeners: &[listener(0, "ingress_http", 8080)],
        clusters: &[ClusterName {
            slot: ClusterSlot(0),
            stats_name: "c",
            endpoints: 0,
            changes: 0,
        }],
        ..EMPTY
    };
    let page = page(&scrape);
    let told: BTreeSet<u64> = page.samples.values().map(|value| *value as u64).collect();
    let cells = (1_000_001..1_000_001 + ListenerCell::COUNT as u64)
        .chain(2_000_001..2_000_001 + ClusterCell::COUNT as u64)
        .chain(3_000_001..3_000_001 + WorkerCell::COUNT as u64);
    let untold: Vec<u64> = cells.filter(|value| !told.contains(value)).collect();
    assert_eq!(untold, Vec::<u64>::new());
}
