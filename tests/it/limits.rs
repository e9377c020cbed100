// SPDX-License-Identifier: Apache-2.0
//! Too much of something that costs nobody else: connections at rest, heads that never end.

use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::Backend;
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{Client, PATIENCE, wait_until};

use super::swaps::raise_descriptors;
use super::{DRIVERS, heavy};

fn options(driver: &'static str, args: &[&str]) -> Options {
    let args = ["--access-log=off"].iter().chain(args).map(ToString::to_string).collect();
    Options { args, ..Options::driver(driver) }
}

fn start(service: std::net::SocketAddr, options: &Options) -> Gateway {
    let all = mapping("all", &format!("prefix: /, service: \"{service}\", timeout_ms: 0"));
    let gateway = Gateway::start(&(listener(8080) + &listener(8081) + &all), options).unwrap();
    gateway.assert_driver(options.io_backend).unwrap();
    gateway
}

fn metric(gateway: &Gateway, series: &str) -> u64 {
    gateway.metric(series, "").unwrap() as u64
}

fn clients(gateway: &Gateway, n: usize) -> Vec<Client> {
    (0..n).map(|_| gateway.client(8080).unwrap()).collect()
}

#[test]
fn five_thousand_idle_connections_slow_nobody_down() {
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let (calm, crowded) = (
            start(backend.address(), &options(driver, &[])),
            start(backend.address(), &options(driver, &[])),
        );
        let idle = clients(&crowded, 5_000);
        wait_until("all are taken", PATIENCE, || {
            metric(&crowded, "ringway_worker_connections") >= 5_000
        });
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            without.push(p99(&calm));
            with.push(p99(&crowded));
        }
        without.sort();
        with.sort();
        println!("{driver}: p99 {:?} without and {:?} with", without[2], with[2]);
        assert!(with[2] <= 2 * without[2] + Duration::from_millis(1), "on {driver}");
        assert_eq!(metric(&crowded, "ringway_overload_idle_closed_total"), 0);
        drop(idle);
    }
}

/// Of a thousand requests on four connections, one at a time each.
fn p99(gateway: &Gateway) -> Duration {
    let mut clients = clients(gateway, 4);
    let mut times: Vec<Duration> = (0..250)
        .flat_map(|_| {
            clients
                .iter_mut()
                .map(|client| {
                    let begin = Instant::now();
                    assert_eq!(client.get("/", "a").unwrap().status, 200);
                    begin.elapsed()
                })
                .collect::<Vec<_>>()
        })
        .collect();
    times.sort();
    times[times.len() * 99 / 100]
}

#[test]
fn heads_that_never_end_time_out_and_hold_nobody_up() {
    let gateways = DRIVERS.map(|driver| {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(upstream.address(), &options(driver, &[]));
        let mut slow = clients(&gateway, 100);
        for client in &mut slow {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-").unwrap();
        }
        (driver, upstream, gateway, slow, Instant::now())
    });
    for (driver, _upstream, gateway, mut slow, begin) in gateways {
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
        for client in &mut slow {
            assert_eq!(client.response("GET").unwrap().status, 408, "on {driver}");
        }
        let taken = begin.elapsed();
        let expected = Duration::from_secs(9)..Duration::from_secs(14);
        assert!(expected.contains(&taken), "{taken:?} on {driver}");
    }
}
