// SPDX-License-Identifier: Apache-2.0
//! What the gateway keeps in memory: for a connection at rest, and for itself after work.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::{self, Backend, Plan, Stopping};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{Client, PATIENCE};

use super::{DRIVERS, heavy, raise_descriptors};

fn start(driver: &'static str, manifests: &str, args: &[&str]) -> Gateway {
    let args = ["--access-log=off"].iter().chain(args).map(ToString::to_string).collect();
    let options = Options { args, workers: 1, ..Options::driver(driver) };
    let gateway = Gateway::start(manifests, &options).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// Looks until a measurement is within its bound or patience ends: memory goes back in its time.
fn settled(max: u64, measure: impl Fn() -> u64) -> u64 {
    let end = Instant::now() + PATIENCE;
    while measure() > max && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    measure()
}

/// What a resting connection without TLS may cost, everything included: 730 to 750 B were seen.
const RESTING_BYTES_MAX: u64 = 1_000;

/// The same at the worst moment, while others ask their first: buffers and bursts of those are in it.
const STORM_BYTES_MAX: u64 = 2_000;

#[test]
fn nine_thousand_resting_connections_cost_little() {
    let _alone = heavy();
    raise_descriptors();
    const CONNECTIONS: usize = 9_000;
    const AT_ONCE: usize = 64;
    let backend = Backend::start().unwrap();
    let service = backend.address();
    let manifests = listener(8080) + &mapping("a", &format!("prefix: /, service: \"{service}\""));
    for driver in DRIVERS {
        let gateway = start(
            driver,
            &manifests,
            &["--max-connections=9500", "--max-listener-connections=9500"],
        );
        let connect = |n: usize| -> Vec<Client> {
            let mut clients: Vec<_> = (0..n).map(|_| gateway.client(8080).unwrap()).collect();
            for client in &mut clients {
                client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            }
            for client in &mut clients {
                assert_eq!(client.response("GET").unwrap().status, 200);
            }
            clients
        };
        // Warm: pools and counters have been there.
        let warm = connect(AT_ONCE);
        let (before, all_before) = (gateway.anonymous().unwrap(), gateway.memory("VmRSS").unwrap());
        let each = |more: u64| more / CONNECTIONS as u64;
        let storms = (0..CONNECTIONS).step_by(AT_ONCE);
        let clients: Vec<_> =
            storms.flat_map(|at| connect(AT_ONCE.min(CONNECTIONS - at))).collect();
        let peak = each(gateway.memory("VmHWM").unwrap().saturating_sub(all_before));
        let rest = settled(RESTING_BYTES_MAX, || {
            each(gateway.anonymous().unwrap().saturating_sub(before))
        });
        println!("{driver}: {rest} B per resting connection, {peak} B while they came");
        assert!(rest <= RESTING_BYTES_MAX, "{driver}: {rest} B per resting connection");
        assert!(peak <= STORM_BYTES_MAX, "{driver}: {peak} B per connection while they came");
        drop((warm, clients));
    }
}

/// Memory that is not the binary's or a library's, after work for 64 connections has ended.
const ANONYMOUS_BYTES_MAX: u64 = 5 * 1024 * 1024;

#[test]
fn a_gateway_of_ten_routes_is_small_after_work() {
    let _alone = heavy();
    let backend = Backend::start().unwrap();
    let routes = (0..10).map(|n| {
        let service = backend.address();
        mapping(&format!("r{n}"), &format!("prefix: /r{n}/, service: \"{service}\""))
    });
    let manifests = listener(8080) + &routes.collect::<String>();
    for driver in DRIVERS {
        let gateway = start(driver, &manifests, &[]);
        let stop = AtomicBool::new(false);
        let plan = Plan {
            to: gateway.address(8080),
            connections: 64,
            request: b"GET /r7/ HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            note: "server",
        };
        let outcome = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&plan, &stop));
            let stopping = Stopping(&stop);
            std::thread::sleep(Duration::from_secs(2));
            drop(stopping);
            load.join().unwrap()
        });
        assert_eq!(outcome.errors, Vec::<String>::new(), "{driver}");
        assert!(outcome.answers > 5_000, "{driver}: {} answers", outcome.answers);
        let memory = |name| gateway.memory(name).unwrap();
        let bytes = settled(ANONYMOUS_BYTES_MAX, || memory("RssAnon"));
        println!("{driver}: {bytes} B of its own, {} B of files", memory("RssFile"));
        assert!(bytes <= ANONYMOUS_BYTES_MAX, "{driver}: {bytes} B");
    }
}

/// The same for 10,000 routes, each of which took requests: 36 to 45 MiB were seen.
const ANONYMOUS_BYTES_OF_ROUTES_MAX: u64 = 50 * 1024 * 1024;

#[test]
fn ten_thousand_routes_fit_into_memory() {
    let _alone = heavy();
    const ROUTES: usize = 10_000;
    let upstream = Upstream::echo("a").unwrap();
    let service = upstream.address();
    let route = |n: usize| {
        mapping(&format!("r-{n:05}"), &format!("prefix: /r-{n:05}/, service: \"{service}\""))
    };
    let manifests = listener(8080) + &(0..ROUTES).map(route).collect::<String>();
    let gateway = start(DRIVERS[0], &manifests, &[]);
    let mut client = gateway.client(8080).unwrap();
    for n in 0..ROUTES {
        assert_eq!(client.get(&format!("/r-{n:05}/"), "a").unwrap().status, 200);
    }
    let bytes = settled(ANONYMOUS_BYTES_OF_ROUTES_MAX, || gateway.memory("RssAnon").unwrap());
    println!("{} KiB with {ROUTES} routes", bytes >> 10);
    assert!(bytes <= ANONYMOUS_BYTES_OF_ROUTES_MAX, "{} KiB", bytes >> 10);
}
