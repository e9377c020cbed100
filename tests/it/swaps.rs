// SPDX-License-Identifier: Apache-2.0
//! A thousand changes of a table of ten thousand routes under load: no request fails, a download
//! begun in each generation lives on, and old tables are freed.

use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::{self, Backend, Plan, Stopping};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::{Client, PATIENCE, wait_until};

use super::{DRIVERS, heavy, raise_descriptors};

const SWAPS: u64 = 1_000;
const ROUTES: usize = 10_000;
const MIB: u64 = 1024 * 1024;

/// The one Mapping that changes.
fn edition(backend: &Backend, n: u64) -> String {
    let spec = format!(
        "prefix: /, service: \"{}\", timeout_ms: 0, idle_timeout_ms: 0, \
         add_response_headers: {{x-edition: {{value: \"{n}\"}}}}",
        backend.address()
    );
    mapping("changing", &spec)
}

#[test]
fn a_thousand_swaps_fail_no_request_and_keep_no_table() {
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        swaps(driver);
    }
}

fn swaps(driver: &'static str) {
    let backend = Backend::start().unwrap();
    let service = backend.address();
    let routes: String = (0..ROUTES)
        .map(|n| mapping(&format!("m{n}"), &format!("prefix: /r{n}/, service: \"{service}\"")))
        .collect();
    let manifests = listener(8080) + &routes;
    let options = Options { args: vec!["--access-log=off".into()], ..Options::driver(driver) };
    let gateway = Gateway::start(&manifests, &options).unwrap();
    gateway.assert_driver(driver).unwrap();
    let generation = gateway.generation().unwrap();
    gateway.write("changing.yaml", &edition(&backend, 0)).unwrap();
    wait_until("the first edition", PATIENCE, || gateway.generation().unwrap() > generation);
    let plan = Plan::get(gateway.address(8080), 64, "/", "x-edition");
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let mut before = 0;
    let mut downloads: Vec<Client> = Vec::new();
    let (outcome, after) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&plan, &stop));
        let stopping = Stopping(&stop);
        for n in 1..=SWAPS {
            let generation = gateway.generation().unwrap();
            gateway.write("changing.yaml", &edition(&backend, n)).unwrap();
            wait_until("the next edition", PATIENCE, || gateway.generation().unwrap() > generation);
            downloads.push(begin_download(&gateway));
            if n == 20 {
                // Warm: two tables, pools and buffers have been there.
                before = gateway.anonymous().unwrap();
            }
        }
        drop(stopping);
        let outcome = load.join().unwrap();
        (outcome, gateway.anonymous().unwrap())
    });
    let taken = begin.elapsed();
    println!(
        "{driver}: {SWAPS} swaps in {taken:?}, {} answers, {} editions seen, {} MiB more",
        outcome.answers,
        outcome.noted.len(),
        after.saturating_sub(before) / MIB
    );
    assert!(outcome.errors.is_empty(), "on {driver}: {:?}", outcome.errors);
    assert!(outcome.is_a_load_for(SWAPS), "only {} answers on {driver}", outcome.answers);
    assert!(outcome.noted.len() > 100, "only {} editions seen", outcome.noted.len());
    wait_until("every download is held", PATIENCE, || backend.held() == SWAPS);
    backend.release();
    for (n, download) in downloads.iter_mut().enumerate() {
        let mut got = 0;
        let response = download.response_to("GET", &mut |bytes| got += bytes.len()).unwrap();
        assert_eq!((response.status, response.broken, got), (200, None, 2000), "download {n}");
    }
    assert!(
        after < before + 64 * MIB,
        "{} MiB more on {driver}",
        after.saturating_sub(before) / MIB
    );
    assert!(taken < Duration::from_secs(120), "{taken:?} on {driver}");
}

fn begin_download(gateway: &Gateway) -> Client {
    let client = gateway.client(8080).unwrap();
    client.stream().write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client
}
