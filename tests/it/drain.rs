// SPDX-License-Identifier: Apache-2.0
//! SIGTERM: readiness goes first, requests in flight are answered, then the process ends with 0.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::{self, Backend, Plan};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};

use super::{DRIVERS, heavy};

fn start(service: std::net::SocketAddr, driver: &'static str, args: &[&str]) -> Gateway {
    let manifests = listener(8080)
        + &mapping("all", &format!("prefix: /, service: \"{service}\", timeout_ms: 0"));
    let args = args.iter().map(ToString::to_string).collect();
    let gateway = Gateway::start(&manifests, &Options { args, ..Options::driver(driver) }).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

#[test]
fn a_drain_under_load_fails_no_request() {
    let _alone = heavy();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let mut gateway =
            start(backend.address(), driver, &["--access-log=off", "--drain-time=20s"]);
        let plan = Plan {
            to: gateway.address(8080),
            connections: 64,
            request: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            note: "x-none",
        };
        let stop = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&plan, &stop));
            std::thread::sleep(Duration::from_secs(3));
            gateway.signal(libc::SIGTERM);
            // Ends by itself: each connection is told to close, and connecting is refused.
            let outcome = load.join().unwrap();
            stop.store(true, Relaxed);
            outcome
        });
        println!("{driver}: {} answers, {} closed", outcome.answers, outcome.closed);
        assert!(outcome.errors.is_empty(), "on {driver}: {:?}", outcome.errors);
        assert!(outcome.answers > 5_000, "only {} answers on {driver}", outcome.answers);
        assert!(outcome.closed >= 64, "only {} connections told to close", outcome.closed);
        assert!(gateway.wait().success(), "on {driver}");
    }
}

#[test]
fn requests_in_flight_finish_and_readiness_goes_first() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let mut gateway = start(upstream.address(), driver, &["--drain-time=20s"]);
        let mut idle = gateway.client(8080).unwrap();
        assert_eq!(idle.get("/", "a").unwrap().status, 200);
        let mut slow = gateway.client(8080).unwrap();
        slow.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-delay-ms: 1500\r\n\r\n").unwrap();
        let mut upload = gateway.client(8080).unwrap();
        upload.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").unwrap();
        wait_until("the slow request is upstream", PATIENCE, || upstream.connections() >= 2);
        gateway.signal(libc::SIGTERM);
        wait_until("readiness goes", PATIENCE, || {
            gateway.admin("/ambassador/v0/check_ready").is_ok_and(|r| r.status == 503)
        });
        assert_eq!(gateway.admin("/ambassador/v0/check_alive").unwrap().status, 200);
        wait_until("no new connection is taken", PATIENCE, || gateway.client(8080).is_err());
        upload.send(b"world").unwrap();
        let response = upload.response("POST").unwrap();
        assert_eq!(response.seen().unwrap()["body"], "helloworld", "on {driver}");
        let response = slow.response("GET").unwrap();
        assert_eq!(response.status, 200, "on {driver}");
        assert_eq!(response.header("connection").as_deref(), Some("close"));
        assert!(idle.is_closed().unwrap(), "idle connections end, on {driver}");
        assert!(gateway.wait().success(), "on {driver}");
    }
}

#[test]
fn during_the_shutdown_delay_everything_is_served_but_readiness() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let mut gateway = start(upstream.address(), driver, &["--shutdown-delay=2s"]);
        let mut kept = gateway.client(8080).unwrap();
        assert_eq!(kept.get("/", "a").unwrap().status, 200);
        let begin = Instant::now();
        gateway.signal(libc::SIGTERM);
        wait_until("readiness goes", PATIENCE, || {
            gateway.admin("/ambassador/v0/check_ready").unwrap().status == 503
        });
        let mut answers = 0;
        while begin.elapsed() < Duration::from_millis(1500) {
            assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
            assert_eq!(kept.get("/", "a").unwrap().header("connection"), None, "on {driver}");
            answers += 1;
        }
        assert!(answers > 50, "only {answers} answers");
        wait_until("no new connection is taken", PATIENCE, || gateway.client(8080).is_err());
        assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
        let last = kept.get("/", "a").unwrap();
        assert_eq!(last.header("connection").as_deref(), Some("close"), "on {driver}");
        assert!(gateway.wait().success(), "on {driver}");
    }
}

#[test]
fn the_drain_time_is_a_bound() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let mut gateway = start(upstream.address(), driver, &["--drain-time=1s"]);
        let mut never = gateway.client(8080).unwrap();
        never.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-never: 1\r\n\r\n").unwrap();
        wait_until("the request is upstream", PATIENCE, || upstream.connections() >= 1);
        let begin = Instant::now();
        gateway.signal(libc::SIGTERM);
        assert!(gateway.wait().success(), "on {driver}");
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?} on {driver}", begin.elapsed());
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let upstream = Upstream::echo("a").unwrap();
    let mut gateway = start(upstream.address(), "io_uring", &["--drain-time=600s"]);
    let mut never = gateway.client(8080).unwrap();
    never.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-never: 1\r\n\r\n").unwrap();
    wait_until("the request is upstream", PATIENCE, || upstream.connections() >= 1);
    gateway.signal(libc::SIGTERM);
    wait_until("it drains", PATIENCE, || {
        gateway.admin("/ambassador/v0/check_ready").is_ok_and(|r| r.status == 503)
    });
    gateway.signal(libc::SIGTERM);
    gateway.wait();
}
