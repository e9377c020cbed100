// SPDX-License-Identifier: Apache-2.0
//! Finding a request's route, in tables of the shapes that installations have. Requests come in an
//! order that no prefetcher follows.

use std::cell::Cell;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::Criterion;
use ringway_core::table::Hit;

use crate::sample::{self, Request};

/// A shape: the manifests of so many routes, and a request that the `i`-th takes.
struct Shape {
    name: &'static str,
    counts: &'static [usize],
    manifests: fn(usize) -> String,
    request: fn(usize) -> Request,
}

const SHAPES: [Shape; 4] = [
    Shape {
        name: "one host",
        counts: &[10, 1_000, 10_000],
        manifests: sample::plains,
        request: |i| Request::new("bench.example", &format!("/r-{i:05}/users/42"), ""),
    },
    Shape {
        name: "10 per host",
        counts: &[10, 1_000, 10_000],
        manifests: |count| {
            let mut text = String::new();
            for i in 0..count {
                let (name, at) = (authority(i / 10), i % 10);
                if at == 0 {
                    text += &sample::host(&format!("h-{i:05}"), &name);
                }
                let spec = format!("  prefix: /p{at}/\n  service: svc-{i:05}:8080\n");
                text += &sample::mapping(&format!("r-{i:05}"), &name, &spec);
            }
            text
        },
        request: |i| Request::new(&authority(i / 10), &format!("/p{}/users/42", i % 10), ""),
    },
    Shape {
        name: "regular expressions",
        counts: &[10, 1_000],
        manifests: |count| {
            let mut text = sample::host("h", "*");
            for i in 0..count {
                let spec = format!(
                    "  prefix: \"/svc-{i}/v[0-9]+/.*\"\n  prefix_regex: true\n  service: svc-{i:05}:8080\n"
                );
                text += &sample::mapping(&format!("r-{i:05}"), "*", &spec);
            }
            text
        },
        request: |i| Request::new("bench.example", &format!("/svc-{i}/v2/users/42"), ""),
    },
    Shape {
        name: "canaries by header",
        counts: &[10, 1_000, 10_000],
        // Each prefix with nine canaries beside it.
        manifests: |count| {
            let mut text = sample::host("h", "*");
            for i in 0..count {
                let (prefix, canary) = (i / 10, i % 10);
                let mut spec = format!("  prefix: /r-{prefix:05}/\n  service: svc-{i:05}:8080\n");
                if canary > 0 {
                    writeln!(spec, "  headers: {{x-canary: c{canary}}}").unwrap();
                }
                text += &sample::mapping(&format!("r-{i:05}"), "*", &spec);
            }
            text
        },
        request: |i| {
            let canary = format!("x-canary: c{}\r\n", i % 10);
            Request::new("bench.example", &format!("/r-{:05}/users/42", i / 10), &canary)
        },
    },
];

fn authority(i: usize) -> String {
    format!("h{i}.example.com")
}

pub(crate) fn bench(criterion: &mut Criterion) {
    for Shape { name, counts, manifests, request } in SHAPES {
        let mut group = criterion.benchmark_group(format!("route: {name}"));
        for &count in counts {
            group.bench_function(count.to_string(), |bencher| {
                let table = sample::table(&manifests(count));
                let order = (0..1024).map(|i: usize| (i * 2_654_435_761) % count);
                let requests: Vec<Request> = order.map(request).collect();
                let at = Cell::new(0);
                bencher.iter(|| {
                    at.set((at.get() + 1) % requests.len());
                    let hit =
                        table.listeners[0].route(&requests[at.get()].request(), black_box(50));
                    assert!(matches!(hit, Hit::Forward { .. }));
                });
            });
        }
        group.finish();
    }
}
