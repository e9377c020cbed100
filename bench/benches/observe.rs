// SPDX-License-Identifier: Apache-2.0
//! Lines of the access log, and a scrape of the counters of 10,000 routes that all had traffic.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::Criterion;
use ringway_core::ir::settings::AccessLog;
use ringway_core::name::{ClusterSlot, Kind, ListenerSlot, Ref, RouteSlot};
use ringway_core::observe::metric::{ClusterCell, ListenerCell, RouteCell, Slab};
use ringway_core::observe::prometheus::{
    self, ClusterName, ListenerName, Process, RouteName, Scrape,
};
use ringway_core::policy::format::{Facts, Flags, Format};
use ringway_core::wire::Version;

use crate::sample::Request;

pub(crate) fn bench(criterion: &mut Criterion) {
    lines(criterion);
    scrape(criterion);
}

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access-log line");
    let request = Request::new("bench.example", "/catalog/items?page=4", "");
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let facts = Facts {
        request: request.view(),
        path: b"/catalog/items?page=4",
        authority: b"bench.example",
        request_id: b"6b8f4e1c-0c4e-4a7b-9d55-5e0a7f3d2c11",
        forwarded_for: b"203.0.113.9,10.0.0.1",
        rewritten_path: Some(b"/items?page=4"),
        peer: address("10.0.0.1:40000"),
        client: address("203.0.113.9:0").ip(),
        local: address("10.0.0.2:8080"),
        secure: false,
        version: Some(Version::Http11),
        start_us: 1_795_553_040_123_456,
        response: None,
        status: 200,
        flags: Flags::NONE,
        details: "via_upstream",
        bytes_received: 7,
        bytes_sent: 1234,
        duration_us: 12_900,
        request_us: Some(1_500),
        upstream_us: Some(11_200),
        upstream: Some(address("10.1.2.3:80")),
        upstream_local: Some(address("10.0.0.2:50001")),
        cluster: "cluster_quote_default",
        route: "default/quote",
        transport_failure: "",
        tls: None,
    };
    let text = AccessLog::Text(Format::access_log_text());
    for (name, log) in [("text", text), ("json", AccessLog::json())] {
        let mut out = Vec::with_capacity(4096);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                log.write(black_box(&facts), &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

fn scrape(criterion: &mut Criterion) {
    const ROUTES: usize = 10_000;
    let slab = Slab::default();
    let listener = ListenerSlot(0);
    let objects: Vec<Ref> = (0..ROUTES)
        .map(|i| Ref::new(Kind::Mapping, "default", format!("r-{i:05}").as_str()))
        .collect();
    let names: Vec<String> = (0..ROUTES).map(|i| format!("svc_{i:05}_8080")).collect();
    for at in 0..ROUTES as u32 {
        let (route, cluster) = (RouteSlot(at), ClusterSlot(at));
        slab.listener_add(listener, ListenerCell::RequestsTotal, 1);
        slab.route_add(route, RouteCell::Requests2xx, 1);
        slab.route_time(route).record(300 + u64::from(at));
        slab.cluster_add(cluster, ClusterCell::RequestsTotal, 1);
        slab.cluster_add(cluster, ClusterCell::Requests2xx, 1);
        slab.cluster_time(cluster).record(200 + u64::from(at));
        slab.cluster_statuses(cluster).count(200);
    }
    let routes: Vec<RouteName<'_>> = (objects.iter().enumerate())
        .map(|(at, object)| RouteName { slot: RouteSlot(at as u32), object })
        .collect();
    let clusters: Vec<ClusterName<'_>> = (names.iter().enumerate())
        .map(|(at, stats_name)| ClusterName {
            slot: ClusterSlot(at as u32),
            stats_name,
            endpoints: 1,
            changes: 1,
        })
        .collect();
    let address = ([127, 0, 0, 1], 8080).into();
    let listeners = [ListenerName { slot: listener, stats_prefix: "ingress_http", address }];
    let scrape = Scrape {
        slabs: &[&slab],
        workers: &[],
        listeners: &listeners,
        clusters: &clusters,
        routes: &routes,
        certificates: &[],
        process: &Process::default(),
    };
    let mut out = Vec::new();
    let mut group = criterion.benchmark_group("metrics scrape");
    group.sample_size(20);
    group.bench_function("10,000 routes and clusters, all with traffic", |bencher| {
        bencher.iter(|| {
            out.clear();
            prometheus::write(black_box(&scrape), &mut out);
            out.len()
        });
    });
    group.finish();
}
