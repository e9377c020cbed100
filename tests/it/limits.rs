// SPDX-License-Identifier: Apache-2.0
//! Too much of something: connections, descriptors, memory, patience. What is within the limits
//! goes on, and health always answers.

use std::io::Write;
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::Backend;
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{Client, PATIENCE, wait_until};

use super::{DRIVERS, heavy, median, p99, raise_descriptors};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const NEVER: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-never: 1\r\n\r\n";

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

/// Whether something comes within this time.
fn is_answered(client: &Client, within: Duration) -> bool {
    client.stream().set_read_timeout(Some(within)).unwrap();
    let answered = client.stream().peek(&mut [0]).is_ok();
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    answered
}

#[test]
fn a_full_listener_leaves_the_others_and_goes_on_when_there_is_room() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        // 80 % of 25: twenty for each Listener.
        let gateway = start(upstream.address(), &options(driver, &["--max-connections=25"]));
        let mut busy = clients(&gateway, 20);
        for client in &mut busy {
            client.send(NEVER).unwrap();
        }
        wait_until("all are upstream", PATIENCE, || upstream.connections() >= 20);
        let mut waits = gateway.client(8080).unwrap();
        waits.send(REQUEST).unwrap();
        wait_until("the limit is met", PATIENCE, || {
            metric(&gateway, "ringway_worker_accept_paused") == 1
        });
        assert!(!is_answered(&waits, Duration::from_millis(300)), "beyond the limit, on {driver}");
        assert_eq!(gateway.get(8081, "/", "a").unwrap().status, 200, "on {driver}");
        assert_eq!(gateway.admin("/ambassador/v0/check_ready").unwrap().status, 200);
        wait_until("it is said", PATIENCE, || gateway.log().contains("limit of connections"));
        // One goes, one comes.
        busy.pop().unwrap().reset();
        assert_eq!(waits.response("GET").unwrap().status, 200, "on {driver}");
        assert!(metric(&gateway, "ringway_worker_accept_pauses_total") >= 1);
    }
}

#[test]
fn resting_connections_make_room() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(upstream.address(), &options(driver, &["--max-connections=25"]));
        let mut resting = clients(&gateway, 20);
        for client in &mut resting {
            client.send(REQUEST).unwrap();
            assert_eq!(client.response("GET").unwrap().status, 200);
        }
        // More than there is room for; each answered, however long the others stay.
        let mut more = clients(&gateway, 15);
        for client in &mut more {
            client.send(REQUEST).unwrap();
        }
        for client in &mut more {
            assert_eq!(client.response("GET").unwrap().status, 200, "on {driver}");
        }
        assert!(metric(&gateway, "ringway_overload_idle_closed_total") >= 15);
    }
}

#[test]
fn few_descriptors_are_enough_for_the_admin_port() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let options = Options { descriptors: Some(300), ..options(driver, &[]) };
        let gateway = start(upstream.address(), &options);
        // (300 − 256) ÷ 2 connections, 80 % of them for this Listener.
        let mut busy = clients(&gateway, 100);
        for client in &mut busy {
            client.send(NEVER).unwrap();
        }
        wait_until("the limit is met", PATIENCE, || {
            metric(&gateway, "ringway_worker_accept_paused") == 1
        });
        assert_eq!(metric(&gateway, "ringway_worker_connections"), 18, "on {driver}");
        assert_eq!(metric(&gateway, "ringway_worker_accept_errors_total"), 0);
        assert_eq!(gateway.get(8081, "/", "a").unwrap().status, 200, "on {driver}");
        busy.into_iter().for_each(Client::reset);
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
    }
}

#[test]
fn without_descriptors_accepting_waits_and_does_not_spin() {
    let _alone = heavy();
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(upstream.address(), &options(driver, &["--max-connections=1000"]));
        let before = limit_descriptors(&gateway, open_descriptors(&gateway) + 4);
        let mut held = clients(&gateway, 40);
        for client in &mut held {
            client.send(NEVER).unwrap();
        }
        // Nobody can be told: the admin port is out of descriptors too.
        std::thread::sleep(Duration::from_millis(300));
        let (cpu, begin) = (gateway.cpu().unwrap(), Instant::now());
        while begin.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let used = gateway.cpu().unwrap() - cpu;
        assert!(used < Duration::from_millis(300), "{used:?} in two seconds, on {driver}");
        limit_descriptors(&gateway, before);
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
        // Some were answered that the upstream was out of reach: it had no descriptor either.
        wait_until("all are taken", PATIENCE, || {
            metric(&gateway, "ringway_worker_connections_total") >= 40
        });
        assert!(metric(&gateway, "ringway_worker_accept_errors_total") >= 1);
        wait_until("it is said", PATIENCE, || gateway.log().contains("want of descriptors"));
    }
}

fn open_descriptors(gateway: &Gateway) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count() as u64
}

/// Sets the soft limit of a running gateway; gives the old one.
fn limit_descriptors(gateway: &Gateway, n: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = gateway.pid() as libc::pid_t;
    // SAFETY: our own child's limit, through values that outlive the calls.
    unsafe {
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit), 0);
        let before = limit.rlim_cur;
        limit.rlim_cur = n;
        let none = std::ptr::null_mut();
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, none), 0);
        before
    }
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
            without.push(slowest(&calm));
            with.push(slowest(&crowded));
        }
        let (without, with) = (median(without), median(with));
        println!("{driver}: p99 {without:?} without and {with:?} with");
        assert!(with <= 2 * without + Duration::from_millis(1), "on {driver}");
        assert_eq!(metric(&crowded, "ringway_overload_idle_closed_total"), 0);
        drop(idle);
    }
}

/// Of a thousand requests on four connections, one at a time each.
fn slowest(gateway: &Gateway) -> Duration {
    let mut clients = clients(gateway, 4);
    let times = (0..250)
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
    p99(times)
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

#[test]
fn short_of_memory_connections_are_shed_then_requests_refused_then_all_is_well() {
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let probe = start(upstream.address(), &options(driver, &[]));
        // Far enough from what a gateway has at rest to be calm, near enough to be reached.
        let limit = (probe.memory("VmRSS").unwrap() + 24 * 1024 * 1024) * 10 / 7;
        drop(probe);
        let gateway =
            start(upstream.address(), &options(driver, &[&format!("--memory-limit={limit}")]));
        let state = || metric(&gateway, "ringway_overload_state");
        assert_eq!(state(), 0, "on {driver}");
        let mut resting = gateway.client(8080).unwrap();
        assert_eq!(resting.get("/", "a").unwrap().status, 200);
        let mut asking = clients(&gateway, 50);
        for client in &mut asking {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
        }
        // Heads that never end: each holds what it has sent.
        let heavy = clients(&gateway, 2 * (limit / (50 * 1024)) as usize);
        let line = [b"GET / HTTP/1.1\r\nHost: a\r\nx-long: ".as_slice(), &[b'x'; 50_000]].concat();
        for client in &heavy {
            client.stream().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let _ = client.stream().write_all(&line);
        }
        wait_until("memory is very short", PATIENCE, || state() == 2);
        let mut ask = || {
            let mut client = asking.pop().expect("fifty are enough");
            client.send(b"\r\n").unwrap();
            client.response("GET").unwrap()
        };
        // The worker hears of it a moment after it shows.
        wait_until("requests are refused", PATIENCE, || ask().status == 503);
        let refused = ask();
        assert_eq!(refused.status, 503, "on {driver}");
        assert_eq!(refused.header("x-envoy-overloaded").as_deref(), Some("true"));
        assert_eq!(refused.header("connection").as_deref(), Some("close"));
        let mut new = gateway.client(8080).unwrap();
        new.send(REQUEST).unwrap();
        assert!(!is_answered(&new, Duration::from_millis(300)), "nothing is taken, on {driver}");
        assert_eq!(gateway.admin("/ambassador/v0/check_ready").unwrap().status, 200);
        assert!(resting.is_closed().unwrap(), "on {driver}");
        drop(heavy);
        wait_until("there is memory again", PATIENCE, || state() == 0);
        assert_eq!(new.response("GET").unwrap().status, 200, "on {driver}");
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
        let said = gateway.log();
        assert!(said.contains("requests are refused") && said.contains("as usual again"), "{said}");
        assert!(metric(&gateway, "ringway_overload_requests_refused_total") >= 1);
    }
}

#[test]
fn at_the_first_step_of_a_memory_shortage_only_connections_are_shed() {
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let probe = start(backend.address(), &options(driver, &[]));
        let limit = (probe.memory("VmRSS").unwrap() + 48 * 1024 * 1024) * 10 / 7;
        drop(probe);
        let gateway =
            start(backend.address(), &options(driver, &[&format!("--memory-limit={limit}")]));
        let state = || metric(&gateway, "ringway_overload_state");
        let percent = || gateway.memory("VmRSS").unwrap() * 100 / limit;
        let mut resting = gateway.client(8080).unwrap();
        assert_eq!(resting.get("/", "a").unwrap().status, 200);
        let mut begun = gateway.client(8080).unwrap();
        begun.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        wait_until("it is served", PATIENCE, || backend.held() == 1);
        let mut asking = gateway.client(8080).unwrap();
        asking.send(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
        // Heads that never end, a few at a time and each read before the next, so that the second
        // step is not reached.
        let line = [b"GET / HTTP/1.1\r\nHost: a\r\nx-long: ".as_slice(), &[b'x'; 50_000]].concat();
        let mut heavy = Vec::new();
        let mut pace = gateway.client(8080).unwrap();
        while state() == 0 {
            if percent() >= 82 {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            for client in clients(&gateway, 5) {
                client.stream().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                let _ = client.stream().write_all(&line);
                heavy.push(client);
            }
            for _ in 0..2 {
                let _ = pace.get("/", "a");
            }
            assert!(heavy.len() < 10_000, "memory does not grow, on {driver}");
        }
        assert_eq!(state(), 1, "{} % on {driver}", percent());
        wait_until("it is said", PATIENCE, || gateway.log().contains("no new connections"));

        let mut new = gateway.client(8080).unwrap();
        new.send(REQUEST).unwrap();
        assert!(!is_answered(&new, Duration::from_millis(300)), "nothing is taken, on {driver}");
        assert!(metric(&gateway, "ringway_worker_accept_paused") >= 1, "on {driver}");
        assert_eq!(resting.reader().fill().unwrap(), 0, "what rests ends in order, on {driver}");
        assert!(metric(&gateway, "ringway_overload_idle_closed_total") >= 1, "on {driver}");
        // What is under way goes on, and so does who asks.
        asking.send(b"\r\n").unwrap();
        let response = asking.response("GET").unwrap();
        assert_eq!((response.status, response.header("connection")), (200, None), "on {driver}");
        backend.release();
        let response = begun.response("GET").unwrap();
        assert_eq!((response.status, response.broken), (200, None), "on {driver}");
        assert_eq!(begun.get("/", "a").unwrap().status, 200, "on {driver}");
        assert_eq!(gateway.admin("/ambassador/v0/check_ready").unwrap().status, 200);
        assert_eq!(state(), 1, "{} % on {driver}", percent());
        assert_eq!(metric(&gateway, "ringway_overload_requests_refused_total"), 0, "on {driver}");

        // It is undone five per cent below, not before.
        while percent() >= 75 {
            assert_eq!(state(), 1, "{} % on {driver}", percent());
            let most = heavy.len().saturating_sub(10);
            assert!(!heavy.is_empty(), "memory does not shrink, on {driver}");
            heavy.truncate(most);
            std::thread::sleep(Duration::from_millis(20));
        }
        wait_until("there is memory again", PATIENCE, || state() == 0);
        assert_eq!(new.response("GET").unwrap().status, 200, "on {driver}");
        assert!(gateway.log().contains("as usual again"), "on {driver}");
        assert!(!gateway.log().contains("requests are refused"), "on {driver}");
    }
}
