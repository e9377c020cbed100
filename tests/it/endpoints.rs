// SPDX-License-Identifier: Apache-2.0
//! Many endpoints behind one service: who gets which request, and what their coming and going
//! costs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::client::Response;
use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::{self, Backend, Outcome, Plan, Stopping};
use ringway_tests::manifest::{listener, mapping, service, slice};
use ringway_tests::upstream::Upstream;
use ringway_tests::{Client, PATIENCE, wait_until};

use super::{DRIVERS, heavy};

fn start(manifests: &str, driver: &'static str, workers: usize) -> Gateway {
    let args = vec!["--access-log=off".into()];
    let options = Options { args, workers, ..Options::driver(driver) };
    let gateway = Gateway::start(manifests, &options).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// Rounds of churn per second.
const ROUNDS_PER_SECOND: u32 = 50;

/// Two of four endpoints come and go: every second time they leave, they stop before their slice
/// says so, with all that is under way on them; else a round after it.
fn churn(gateway: &Gateway, stable: &[SocketAddr], stop: &AtomicBool) -> u32 {
    let addresses: Vec<SocketAddr> =
        (0..2).map(|_| SocketAddr::from((ringway_tests::address::fresh(), 8000))).collect();
    let all: Vec<SocketAddr> = stable.iter().chain(&addresses).copied().collect();
    let begin = Instant::now();
    let mut running: Vec<Backend> = Vec::new();
    let mut round = 0;
    while !stop.load(Relaxed) {
        match round % 4 {
            // They come, and are named once they listen.
            0 | 2 => {
                running.clear();
                let start = |address: &SocketAddr| Backend::start_at(*address).unwrap();
                running.extend(addresses.iter().map(start));
                gateway.write("slice.yaml", &slice("q", &all)).unwrap();
            }
            1 => {
                running.clear();
                gateway.write("slice.yaml", &slice("q", stable)).unwrap();
            }
            _ => gateway.write("slice.yaml", &slice("q", stable)).unwrap(),
        }
        round += 1;
        let next = begin + Duration::from_secs(1) / ROUNDS_PER_SECOND * round;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    round
}

#[test]
fn endpoints_that_come_and_go_cost_no_get() {
    let _alone = heavy();
    for driver in DRIVERS {
        let stable = [Backend::start().unwrap(), Backend::start().unwrap()];
        let stable = [stable[0].address(), stable[1].address()].map(|a| (a, &stable));
        let stable: Vec<SocketAddr> = stable.iter().map(|(address, _)| *address).collect();
        let route = "prefix: /, service: q, timeout_ms: 10000, \
             add_response_headers: {x-from: {value: \"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"}}";
        let gateway = start(&(listener(8080) + &mapping("all", route) + &service("q")), driver, 1);
        gateway.write("slice.yaml", &slice("q", &stable)).unwrap();
        wait_until("the first endpoints are served", PATIENCE, || {
            gateway.get(8080, "/", "a").unwrap().status == 200
        });
        let plan = |connections, request: &str| Plan {
            to: gateway.address(8080),
            connections,
            request: request.as_bytes().to_vec(),
            note: "x-from",
        };
        let gets = plan(64, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let posts = plan(4, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let stop = AtomicBool::new(false);
        let begin = Instant::now();
        let (got, posted, rounds) = std::thread::scope(|scope| {
            let gets = scope.spawn(|| load::run(&gets, &stop));
            let posts = scope.spawn(|| load::run(&posts, &stop));
            let stopping = Stopping(&stop);
            let churn = scope.spawn(|| churn(&gateway, &stable, &stop));
            std::thread::sleep(Duration::from_secs(10));
            drop(stopping);
            (gets.join().unwrap(), posts.join().unwrap(), churn.join().unwrap())
        });
        let rate = f64::from(rounds) / begin.elapsed().as_secs_f64();
        println!(
            "{driver}: {} GETs, {} POSTs and {} that reached a dying endpoint, {rounds} rounds, \
             {rate:.0}/s, {:?}",
            got.answers, posted.answers, posted.failed, got.noted
        );
        assert!(got.errors.is_empty(), "on {driver}: {:?}\n{}", got.errors, gateway.log());
        assert!(got.is_a_load_for(rounds.into()), "only {} answers on {driver}", got.answers);
        assert!(rate >= 0.9 * f64::from(ROUNDS_PER_SECOND), "only {rate:.0} rounds a second");
        assert_eq!(got.noted.len(), 4, "all four served: {:?}", got.noted);
        check_posts(&posted);
    }
}

/// A POST may fail only where it had reached a dying endpoint, and then visibly.
fn check_posts(posted: &Outcome) {
    let visible = "answered \"HTTP/1.1 503 ";
    assert!(posted.errors.iter().all(|e| e.starts_with(visible)), "{:?}", posted.errors);
    assert!(posted.answers > 10 * posted.failed, "{} failed", posted.failed);
}

/// Four echoing back ends, and a gateway that balances over them.
struct Affine {
    backends: Vec<Upstream>,
    gateway: Gateway,
}

impl Affine {
    fn start(balancer: &str, driver: &'static str, workers: usize) -> Self {
        let backends: Vec<Upstream> =
            ["a", "b", "c", "d"].map(|name| Upstream::echo(name).unwrap()).into();
        let spec = format!("prefix: /, service: q, load_balancer: {balancer}");
        let addresses: Vec<SocketAddr> = backends.iter().map(Upstream::address).collect();
        let manifests = listener(8080) + &mapping("all", &spec) + &service("q");
        let gateway = start(&manifests, driver, workers);
        let affine = Self { backends, gateway };
        affine.serve(&addresses);
        affine
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.backends.iter().map(Upstream::address).collect()
    }

    /// Makes these the endpoints, and waits until every worker has them.
    fn serve(&self, endpoints: &[SocketAddr]) {
        let before = self.gateway.generation().unwrap();
        self.gateway.write("slice.yaml", &slice("q", endpoints)).unwrap();
        wait_until("the endpoints are served", PATIENCE, || {
            self.gateway.generation().unwrap() > before
        });
    }

    /// Asks on a new connection, which any worker may take.
    fn ask(&self, from: Ipv4Addr, lines: &str) -> Response {
        let mut client = Client::connect_from(from, self.gateway.address(8080), PATIENCE).unwrap();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes()).unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        response
    }
}

fn backend(response: &Response) -> String {
    response.seen().unwrap()["backend"].as_str().unwrap().to_owned()
}

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Keys and sources that are asked for.
const KEYS: u8 = 40;
/// Times that each is asked for, over three workers.
const TIMES: usize = 6;

#[test]
fn a_header_keeps_requests_together_and_few_move() {
    for (driver, policy) in [("io_uring", "ring_hash"), ("epoll", "maglev")] {
        let affine = Affine::start(&format!("{{policy: {policy}, header: X-User}}"), driver, 3);
        let places = |times| {
            let mut places = BTreeMap::new();
            for user in 0..KEYS {
                let line = format!("x-user: {user}\r\n");
                let seen: BTreeSet<String> =
                    (0..times).map(|_| backend(&affine.ask(HERE, &line))).collect();
                assert_eq!(seen.len(), 1, "user {user} was served by {seen:?}");
                places.insert(user, seen.into_iter().next().unwrap());
            }
            places
        };
        let before = places(TIMES);
        let used: BTreeSet<&String> = before.values().collect();
        assert!(used.len() >= 3, "{KEYS} users on {used:?} only");
        // One leaves: its users move, and nobody else.
        affine.serve(&affine.addresses()[1..]);
        let after = places(2);
        let moved: Vec<&u8> = (before.iter())
            .filter(|(user, place)| after[user] != **place)
            .map(|(user, _)| user)
            .collect();
        assert!(moved.iter().all(|user| before[user] == "a"), "{policy}: {moved:?} moved");
        assert!(after.values().all(|place| place != "a"));
        // It comes back: all is as it was.
        affine.serve(&affine.addresses());
        assert_eq!(places(1), before, "{policy}");
        // Without the header nothing decides.
        let seen: BTreeSet<String> = (0..60).map(|_| backend(&affine.ask(HERE, ""))).collect();
        assert!(seen.len() >= 3, "{seen:?}");
    }
}

#[test]
fn a_cookie_is_given_once_and_keeps_its_client() {
    for driver in DRIVERS {
        let cookie = "{policy: ring_hash, cookie: {name: stick, path: /, ttl: 90s}}";
        let affine = Affine::start(cookie, driver, 3);
        let mut used = BTreeSet::new();
        for _ in 0..20 {
            let first = affine.ask(HERE, "");
            let given = first.header("set-cookie").expect("a cookie is given");
            let (pair, rest) = given.split_once(';').unwrap();
            assert_eq!(rest, " Max-Age=90; Path=/; HttpOnly");
            assert!(pair.starts_with("stick=\"") && pair.len() == 24, "{pair}");
            used.insert(backend(&first));
            for _ in 0..TIMES {
                let next = affine.ask(HERE, &format!("cookie: other=1; {pair}\r\n"));
                assert_eq!(backend(&next), backend(&first), "{pair}");
                assert_eq!(next.header("set-cookie"), None, "the cookie is kept");
            }
        }
        assert!(used.len() >= 3, "20 clients on {used:?} only");
    }
}

#[test]
fn a_source_address_keeps_its_endpoint() {
    for driver in DRIVERS {
        let affine = Affine::start("{policy: maglev, source_ip: true}", driver, 3);
        let mut used = BTreeSet::new();
        for n in 1..=KEYS {
            let from = Ipv4Addr::new(127, 0, 0, n);
            let seen: BTreeSet<String> =
                (0..TIMES).map(|_| backend(&affine.ask(from, ""))).collect();
            assert_eq!(seen.len(), 1, "{from} was served by {seen:?}");
            used.extend(seen);
        }
        assert!(used.len() >= 3, "{KEYS} addresses on {used:?} only");
    }
}

#[test]
fn the_plain_policies_spread_requests() {
    for driver in DRIVERS {
        for policy in ["round_robin", "least_request"] {
            let affine = Affine::start(&format!("{{policy: {policy}}}"), driver, 2);
            let mut counts = BTreeMap::<String, usize>::new();
            for _ in 0..200 {
                *counts.entry(backend(&affine.ask(HERE, ""))).or_default() += 1;
            }
            // Of 200 draws over four, fewer than 20 for one have odds of one in a million.
            assert_eq!(counts.len(), 4, "{policy}: {counts:?}");
            assert!(counts.values().all(|n| *n >= 20), "{policy}: {counts:?}");
        }
    }
}

#[test]
fn least_request_avoids_the_slow_one() {
    for driver in DRIVERS {
        let affine = Affine::start("{policy: least_request}", driver, 1);
        // Hold one endpoint with requests that take their time.
        let busy = affine.ask(HERE, "");
        drop(busy);
        let slow: Vec<Client> = (0..8)
            .map(|_| {
                let mut client = affine.gateway.client(8080).unwrap();
                let request = "GET / HTTP/1.1\r\nHost: a\r\nx-backend-never: 1\r\n\r\n";
                client.send(request.as_bytes()).unwrap();
                client
            })
            .collect();
        wait_until("eight requests are under way", PATIENCE, || {
            affine.backends.iter().map(Upstream::connections).sum::<u64>() >= 8
        });
        // The power of two choices spreads held requests: no endpoint has more than half of them.
        let held: Vec<u64> = affine.backends.iter().map(Upstream::connections).collect();
        assert!(held.iter().all(|n| *n <= 5), "{held:?}");
        drop(slow);
    }
}
