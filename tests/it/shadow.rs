// SPDX-License-Identifier: Apache-2.0
//! Copies of requests: whole where the shadow keeps up, given up and counted where it does not, and
//! never felt by the original.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::head::{Reader, joined};
use ringway_tests::load::Backend;
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::{Upstream, request_to};
use ringway_tests::{Client, PATIENCE, wait_until};

use super::{DRIVERS, heavy, median, p99};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Where `live` and its shadow are; `fields` are further ones of each.
fn manifests(live: (SocketAddr, &str), shadow: (SocketAddr, &str)) -> String {
    let (service, fields) = live;
    let live = mapping("live", &format!("prefix: /, service: \"{service}\"{fields}"));
    let (service, fields) = shadow;
    let shadow = format!("prefix: /, service: \"{service}\", shadow: true{fields}");
    listener(8080) + &live + &mapping("shadow", &shadow)
}

fn start(live: SocketAddr, shadow: (SocketAddr, &str), driver: &'static str) -> Gateway {
    let gateway = Gateway::start(&manifests((live, ""), shadow), &Options::driver(driver)).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// The label of an upstream's cluster.
fn cluster(address: SocketAddr) -> String {
    let name = address.to_string().replace(['.', ':'], "_");
    format!("envoy_cluster_name=\"{name}\"")
}

/// What a back end got.
#[derive(Debug, Default)]
struct Seen {
    bytes: AtomicU64,
    /// Position-dependent, so that bytes out of order show.
    sum: AtomicU64,
    /// Whole requests, by Host.
    whole: Mutex<Vec<String>>,
    broken: AtomicU64,
}

impl Seen {
    fn add(&self, bytes: &[u8]) {
        let mut at = self.bytes.load(Relaxed);
        for byte in bytes {
            at += 1;
            self.sum.fetch_add(at.wrapping_mul(u64::from(*byte)), Relaxed);
        }
        self.bytes.store(at, Relaxed);
    }

    fn whole(&self) -> usize {
        self.whole.lock().unwrap().len()
    }
}

/// Answers `ok` to whole requests and notes them.
fn noting() -> (Upstream, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let noted = seen.clone();
    let upstream = Upstream::custom(move |stream| {
        let mut reader = Reader::new(stream);
        loop {
            match request_to(&mut reader, &mut |bytes| noted.add(bytes)) {
                Ok(Some(request)) => {
                    let host = joined(&request.fields, "host").unwrap_or_default();
                    noted.whole.lock().unwrap().push(host);
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if reader.stream.write_all(answer).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    noted.broken.fetch_add(1, Relaxed);
                    return;
                }
            }
        }
    });
    (upstream.unwrap(), seen)
}

/// Accepts and never reads.
struct Silent {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind((ringway_tests::address::fresh(), 8000)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Relaxed) {
                    return;
                }
                held.push(stream);
                // Their other ends are gone long before.
                if held.len() > 4096 {
                    held.drain(..1024);
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a body in pieces, each once the shadow is close behind, so that it is the gateway's
/// keeping up that is tested and not this machine's.
fn upload(client: &mut Client, chunked: bool, total: usize, shadow: &Seen) {
    let framing = match chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {total}"),
    };
    client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes()).unwrap();
    let piece: Vec<u8> = (0..64 * KIB).map(|at| (at % 251) as u8).collect();
    let before = shadow.bytes.load(Relaxed);
    let mut sent = 0;
    while sent < total {
        if chunked {
            client.send(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
        }
        client.send(&piece).unwrap();
        if chunked {
            client.send(b"\r\n").unwrap();
        }
        sent += piece.len();
        wait_until("the shadow follows", PATIENCE, || {
            let behind = sent as u64 - (shadow.bytes.load(Relaxed) - before);
            behind <= 512 * KIB as u64
        });
    }
    if chunked {
        client.send(b"0\r\n\r\n").unwrap();
    }
    let response = client.response("POST").unwrap();
    assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
}

#[test]
fn bodies_stream_to_the_shadow() {
    let _alone = heavy();
    for driver in DRIVERS {
        let (live, original) = noting();
        let (shadow, copy) = noting();
        let gateway = start(live.address(), (shadow.address(), ""), driver);
        let mut client = gateway.client(8080).unwrap();
        for (n, chunked) in [(1, false), (2, true)] {
            upload(&mut client, chunked, 10 * MIB, &copy);
            wait_until("the copy is whole", PATIENCE, || copy.whole() == n);
            assert_eq!(copy.bytes.load(Relaxed), (n * 10 * MIB) as u64);
            assert_eq!(copy.sum.load(Relaxed), original.sum.load(Relaxed));
        }
        assert_eq!(*copy.whole.lock().unwrap(), ["a-shadow", "a-shadow"]);
        let of = cluster(shadow.address());
        wait_until("both answers are counted", PATIENCE, || {
            gateway.metric("envoy_cluster_upstream_rq_completed", &of).unwrap() == 2.0
        });
        assert_eq!(gateway.metric("ringway_shadow_dropped_total", &of).unwrap(), 0.0);
        assert_eq!(gateway.metric("envoy_cluster_upstream_rq_active", &of).unwrap(), 0.0);
        // The connection served both.
        assert_eq!(shadow.connections(), 1, "on {driver}");
    }
}

#[test]
fn an_upload_past_a_silent_shadow_is_whole() {
    for driver in DRIVERS {
        let (live, original) = noting();
        let shadow = Silent::start();
        let gateway = start(live.address(), (shadow.address, ""), driver);
        let mut client = gateway.client(8080).unwrap();
        let body = vec![b'x'; 32 * MIB];
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send(head.as_bytes()).unwrap();
        client.send(&body).unwrap();
        assert_eq!(client.response("POST").unwrap().status, 200);
        assert_eq!(original.bytes.load(Relaxed), body.len() as u64);
        let of = cluster(shadow.address);
        wait_until("the copy is given up", PATIENCE, || {
            gateway.metric("envoy_cluster_upstream_cx_active", &of).unwrap() == 0.0
        });
        assert_eq!(gateway.metric("ringway_shadow_dropped_total", &of).unwrap(), 1.0);
    }
}

/// Requests per second and the 99th percentile of one client.
fn measure(gateway: &Gateway) -> (f64, Duration) {
    let mut client = gateway.client(8080).unwrap();
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < Duration::from_millis(700) {
        let asked = Instant::now();
        assert_eq!(client.get("/", "a").unwrap().status, 200);
        times.push(asked.elapsed());
    }
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    (rate, p99(times))
}

#[test]
fn a_silent_shadow_slows_nobody() {
    let _alone = heavy();
    for driver in DRIVERS {
        let live = Backend::start().unwrap();
        let shadow = Silent::start();
        let shadowed = start(live.address(), (shadow.address, ", weight: 100"), driver);
        let plain = start(live.address(), (shadow.address, ", weight: 0"), driver);
        // Again where the machine had other work: what a shadow costs would show each time.
        let unfelt = (0..3).any(|_| {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                with.push(measure(&shadowed));
                without.push(measure(&plain));
            }
            let p99 = |runs: &[(f64, Duration)]| median(runs.iter().map(|(_, p)| *p).collect());
            let rate = |runs: &[(f64, Duration)]| median(runs.iter().map(|(r, _)| *r).collect());
            let (slow, fast) = (p99(&with), p99(&without));
            println!(
                "{driver}: p99 {slow:?} with a silent shadow, {fast:?} without; \
                 {:.0} and {:.0} rq/s",
                rate(&with),
                rate(&without)
            );
            slow <= 2 * fast + Duration::from_millis(1) && rate(&with) >= 0.5 * rate(&without)
        });
        assert!(unfelt, "{driver}");
        // What the shadow could not take is counted, and what it holds is bounded.
        let of = cluster(shadow.address);
        assert!(shadowed.metric("ringway_shadow_dropped_total", &of).unwrap() > 0.0);
        assert!(shadowed.metric("envoy_cluster_upstream_rq_active", &of).unwrap() <= 1024.0);
        assert_eq!(plain.metric("envoy_cluster_upstream_rq_total", &of).unwrap(), 0.0);
    }
}

#[test]
fn a_dead_shadow_is_counted_and_not_felt() {
    for driver in DRIVERS {
        let (live, _) = noting();
        let nobody = SocketAddr::from((ringway_tests::address::fresh(), 8000));
        let gateway = start(live.address(), (nobody, ""), driver);
        let mut client = gateway.client(8080).unwrap();
        for _ in 0..100 {
            assert_eq!(client.get("/", "a").unwrap().text(), "ok");
        }
        let of = cluster(nobody);
        let count = |series: &str| gateway.metric(series, &of).unwrap();
        // A copy may fail to connect more than once.
        wait_until("all copies failed", PATIENCE, || {
            count("envoy_cluster_upstream_rq_total") >= 100.0
                && count("envoy_cluster_upstream_cx_connect_fail") >= 100.0
                && count("envoy_cluster_upstream_rq_active") == 0.0
        });
        assert_eq!(gateway.metric("envoy_cluster_upstream_rq_total", &of).unwrap(), 100.0);
        assert_eq!(gateway.metric("envoy_cluster_upstream_rq_completed", &of).unwrap(), 0.0);
    }
}

#[test]
fn the_weight_is_the_share_that_is_copied() {
    const ASKED: usize = 4000;
    for driver in DRIVERS {
        let (live, _) = noting();
        let (shadow, copy) = noting();
        let gateway = start(live.address(), (shadow.address(), ", weight: 25"), driver);
        let mut client = gateway.client(8080).unwrap();
        for _ in 0..ASKED {
            assert_eq!(client.get("/", "a").unwrap().status, 200);
        }
        let of = cluster(shadow.address());
        let count = |series: &str| gateway.metric(series, &of).unwrap();
        wait_until("all copies are answered", PATIENCE, || {
            count("envoy_cluster_upstream_rq_total") == count("envoy_cluster_upstream_rq_completed")
        });
        assert_eq!(count("envoy_cluster_upstream_rq_completed"), copy.whole() as f64);
        assert_eq!(count("ringway_shadow_dropped_total"), 0.0);
        let share = copy.whole() as f64 * 100.0 / ASKED as f64;
        // Five standard deviations.
        assert!((share - 25.0).abs() < 3.5, "{share} % on {driver}");
    }
}

#[test]
fn an_upload_cut_short_never_completes_its_copy() {
    for driver in DRIVERS {
        let (live, original) = noting();
        let (shadow, copy) = noting();
        let gateway = start(live.address(), (shadow.address(), ""), driver);
        let mut client = gateway.client(8080).unwrap();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        client.send(b"5\r\nhello\r\n").unwrap();
        wait_until("both have its beginning", PATIENCE, || {
            original.bytes.load(Relaxed) == 5 && copy.bytes.load(Relaxed) == 5
        });
        client.reset();
        wait_until("both were cut", PATIENCE, || {
            original.broken.load(Relaxed) == 1 && copy.broken.load(Relaxed) == 1
        });
        assert_eq!((original.whole(), copy.whole()), (0, 0));
        let of = cluster(shadow.address());
        wait_until("it is counted", PATIENCE, || {
            gateway.metric("ringway_shadow_dropped_total", &of).unwrap() == 1.0
        });
    }
}

#[test]
fn a_copy_times_out_as_its_route_does() {
    for driver in DRIVERS {
        let (live, _) = noting();
        let shadow = Silent::start();
        let gateway = Gateway::start(
            &manifests((live.address(), ", timeout_ms: 100"), (shadow.address, "")),
            &Options::driver(driver),
        )
        .unwrap();
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);
        let of = cluster(shadow.address);
        wait_until("the copy times out", Duration::from_secs(2), || {
            gateway.metric("envoy_cluster_upstream_rq_timeout", &of).unwrap() == 1.0
        });
        assert_eq!(gateway.metric("envoy_cluster_upstream_cx_active", &of).unwrap(), 0.0);
    }
}

#[test]
fn an_endless_answer_of_a_shadow_ends() {
    for driver in DRIVERS {
        let (live, _) = noting();
        let shadow = Upstream::custom(|stream| {
            let mut reader = Reader::new(stream);
            if request_to(&mut reader, &mut |_| {}).is_ok() {
                let _ = reader.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let block = vec![b'x'; 64 * KIB];
                // Until the gateway closes.
                while reader.stream.write_all(&block).is_ok() {}
            }
        })
        .unwrap();
        let gateway = Gateway::start(
            &manifests((live.address(), ", timeout_ms: 0"), (shadow.address(), "")),
            &Options::driver(driver),
        )
        .unwrap();
        assert_eq!(gateway.get(8080, "/", "a").unwrap().text(), "ok");
        let of = cluster(shadow.address());
        wait_until("the gateway closes", PATIENCE, || {
            gateway.metric("envoy_cluster_upstream_rq_tx_reset", &of).unwrap() == 1.0
        });
    }
}

#[test]
fn a_drain_does_not_wait_for_copies() {
    for driver in DRIVERS {
        let (live, _) = noting();
        let shadow = Silent::start();
        let mut gateway = Gateway::start(
            &manifests((live.address(), ", timeout_ms: 0"), (shadow.address, "")),
            &Options::driver(driver),
        )
        .unwrap();
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);
        let of = cluster(shadow.address);
        assert_eq!(gateway.metric("envoy_cluster_upstream_rq_active", &of).unwrap(), 1.0);
        gateway.signal(libc::SIGTERM);
        // The copy would wait for five minutes.
        assert!(gateway.wait().success());
    }
}
