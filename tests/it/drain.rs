// SPDX-License-Identifier: Apache-2.0
//! SIGTERM: readiness goes first, requests in flight are answered, then the process ends with 0.

use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ringway_tests::gateway::{ADMIN_PORT, Gateway, Options, binary};
use ringway_tests::load::{self, Backend, Plan, Stopping};
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
        let plan = Plan::get(gateway.address(8080), 64, "/", "x-none");
        let stop = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&plan, &stop));
            let stopping = Stopping(&stop);
            std::thread::sleep(Duration::from_secs(3));
            gateway.signal(libc::SIGTERM);
            // Ends by itself: each connection is told to close, and connecting is refused.
            let outcome = load.join().unwrap();
            drop(stopping);
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

/// What a kubelet does before it sends SIGTERM.
#[derive(Clone, Copy, Debug)]
enum PreStop {
    HttpGet(&'static str),
    Sleep,
    Exec,
}

impl PreStop {
    fn run(self, gateway: &Gateway) {
        match self {
            Self::HttpGet(path) => assert_eq!(gateway.admin(path).unwrap().status, 200),
            Self::Sleep => std::thread::sleep(Duration::from_millis(500)),
            Self::Exec => {
                // As in the container: its environment says where the admin port is.
                let output = Command::new(binary().unwrap())
                    .arg("drain")
                    .env_clear()
                    .env("RINGWAY_ADMIN_ADDR", gateway.address(ADMIN_PORT).to_string())
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                assert_eq!(output.stdout, b"draining\n");
            }
        }
    }
}

#[test]
fn each_kind_of_pre_stop_hook_fails_no_request() {
    let _alone = heavy();
    for (driver, hook) in [
        ("io_uring", PreStop::HttpGet("/api/v1/drain")),
        ("epoll", PreStop::HttpGet("/ambassador/v0/check_alive")),
        ("epoll", PreStop::Sleep),
        ("io_uring", PreStop::Exec),
    ] {
        let backend = Backend::start().unwrap();
        let args = ["--access-log=off", "--drain-time=20s", "--shutdown-delay=1s"];
        let mut gateway = start(backend.address(), driver, &args);
        let plan = Plan::get(gateway.address(8080), 16, "/", "x-none");
        let stop = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&plan, &stop));
            let stopping = Stopping(&stop);
            let asked = || {
                gateway
                    .metric("envoy_http_downstream_rq_total", "")
                    .is_ok_and(|total| total > 500.0)
            };
            wait_until("requests flow", PATIENCE, asked);
            hook.run(&gateway);
            if matches!(hook, PreStop::Exec) {
                // It waited until everything was done, and the process is there to be ended.
                let status = gateway.admin("/api/v1/status").unwrap().text();
                assert!(status.contains("\"state\": \"drained\""), "{status}");
            }
            gateway.signal(libc::SIGTERM);
            let outcome = load.join().unwrap();
            drop(stopping);
            outcome
        });
        println!("{driver}, {hook:?}: {} answers, {} closed", outcome.answers, outcome.closed);
        assert!(outcome.errors.is_empty(), "{hook:?} on {driver}: {:?}", outcome.errors);
        assert!(outcome.closed >= 16, "only {} connections told to close", outcome.closed);
        assert!(gateway.wait().success(), "{hook:?} on {driver}");
    }
}

/// On a node's network the admin port of a container that has handed over is its successor's.
#[test]
fn a_drain_is_for_the_process_of_the_same_container() {
    let upstream = Upstream::echo("a").unwrap();
    let gateway = start(upstream.address(), "epoll", &[]);
    let answer = gateway.admin("/api/v1/drain?in=mnt:%5B1%5D").unwrap();
    assert_eq!(answer.text(), "nothing to drain: another process answers here\n");
    assert_eq!(gateway.admin("/readyz").unwrap().status, 200);
    assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);
}

/// Emissary's users have such scripts, run by something beside the gateway.
#[test]
fn scripts_drain_it_as_they_drain_envoy() {
    let upstream = Upstream::echo("a").unwrap();
    let mut gateway = start(upstream.address(), "io_uring", &["--shutdown-delay=1s"]);
    let post = |path: &str| {
        let mut client = gateway.client(8001).unwrap();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        client.response("POST").unwrap().status
    };
    wait_until("the ports are answered", PATIENCE, || {
        [8001, 8006].iter().all(|port| gateway.client(*port).is_ok())
    });
    let ready = || gateway.client(8006).unwrap().get("/ready", "a").unwrap().status;
    assert_eq!(ready(), 200);
    assert_eq!(post("/healthcheck/fail"), 200);
    assert_eq!(ready(), 503);
    assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);
    assert_eq!(post("/drain_listeners?graceful"), 200);
    // It goes on accepting for the delay.
    assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);
    wait_until("no new connection is taken", PATIENCE, || gateway.client(8080).is_err());
    assert_eq!(post("/quitquitquit"), 200);
    assert!(gateway.wait().success());
}
