// SPDX-License-Identifier: Apache-2.0
//! What floods cost others: each misuse of a connection at full speed, on connection after
//! connection, beside a client that minds its own business.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::h2::Peer;
use ringway_tests::h2::frame::{self, Frame, PREFACE, data, headers};
use ringway_tests::load::{Backend, Stopping};
use ringway_tests::manifest::mapping;
use ringway_tests::{Gateway, PATIENCE, wait_until};

use super::super::{DRIVERS, be_nice, heavy, median, p99, raise_descriptors};
use super::hostile::{ATTACKS, Attack, bomb, get, post, stream};
use super::{CLEARTEXT, manifests_to, start};

/// Floods beside those that end with a code of their own.
const MORE: [(&str, Attack); 5] = [
    ("heads that unpack to too much", |n| {
        vec![headers(stream(n)).request("GET", "/").block(&bomb()).end_stream()]
    }),
    ("heads too large", |n| vec![get(n).field("x-large", [b'v'; 70_000])]),
    ("DATA beyond the window", |n| vec![if n == 0 { post() } else { data(1, [0; 16_384]) }]),
    ("frames that are none", |_| vec![frame::raw(0xfa, 0xff, 0, &[0; 100])]),
    ("requests whose answers nobody reads", |n| {
        let request = headers(stream(n)).request("GET", "/");
        vec![request.field("x-backend-length", "60000").end_stream()]
    }),
];

/// Connections at a time.
const CONNECTIONS: usize = 16;

/// Turns per connection, where the gateway bears so many.
const TURNS: u32 = 3_000;

/// What the p99 of others may be more than twice what it was: beside other tests, or alone.
const MORE_BESIDE_TESTS: Duration = Duration::from_millis(25);
const MORE_ALONE: Duration = Duration::from_millis(1);

/// Memory that may be more than before.
const GROWTH_MAX: u64 = 64 << 20;

/// What is sent on every connection, and where its frames end.
struct Script {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Script {
    fn new(frames: Attack) -> Self {
        let mut bytes = PREFACE.to_vec();
        // Answers wait for windows that never open.
        bytes.extend(frame::settings(&[]).bytes());
        let mut ends = Vec::new();
        for frame in (0..TURNS).flat_map(frames) {
            bytes.extend(Frame::bytes(&frame));
            ends.push(bytes.len());
            if bytes.len() > 8 << 20 {
                break;
            }
        }
        Self { bytes, ends }
    }
}

#[derive(Default)]
struct Flood {
    stop: AtomicBool,
    connections: AtomicU64,
    frames: AtomicU64,
}

impl Flood {
    fn connect(&self, gateway: &Gateway) -> (TcpStream, usize) {
        let socket = TcpStream::connect(gateway.address(CLEARTEXT)).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.connections.fetch_add(1, Relaxed);
        (socket, 0)
    }

    fn run(&self, gateway: &Gateway, script: &Script) {
        // Floods come from machines of their own: this one leaves the others theirs.
        be_nice();
        let mut sockets: Vec<(TcpStream, usize)> =
            (0..CONNECTIONS).map(|_| self.connect(gateway)).collect();
        while !self.stop.load(Relaxed) {
            let mut moved = false;
            for (socket, sent) in &mut sockets {
                let rest = &script.bytes[*sent..];
                let mut ended = false;
                match socket.write(&rest[..rest.len().min(64 << 10)]) {
                    Ok(n) => {
                        let frames = |at| script.ends.partition_point(|end| *end <= at);
                        let more = frames(*sent + n) - frames(*sent);
                        self.frames.fetch_add(more as u64, Relaxed);
                        *sent += n;
                        moved |= n > 0;
                    }
                    Err(error) => ended = error.kind() != ErrorKind::WouldBlock,
                }
                // All of it was borne: once more from the start.
                ended |= *sent == script.bytes.len();
                while !ended {
                    match socket.read(&mut [0; 16 << 10]) {
                        Ok(1..) => moved = true,
                        Ok(0) => ended = true,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(_) => ended = true,
                    }
                }
                if ended {
                    (*socket, *sent) = self.connect(gateway);
                    moved = true;
                }
            }
            if !moved {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

/// Rounds per flood, of which the median counts.
const ROUNDS: u32 = 5;

/// Where the client that minds its own business asks: the gateway answers by itself, so that what
/// it takes is the gateway's time alone.
const FREE: &str = "/free";

/// The p99 of a client's requests, on a connection that it keeps.
fn ask(peer: &mut Peer, n: &mut u32, at_least: Duration) -> Duration {
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 200 || begin.elapsed() < at_least {
        let request = headers(stream(*n)).request("GET", FREE).end_stream();
        *n += 1;
        let begin = Instant::now();
        assert_eq!(peer.ask(request).unwrap().status, 301);
        times.push(begin.elapsed());
    }
    p99(times)
}

/// The ratio of what was to what may be, and what happened.
fn flood(gateway: &Gateway, frames: Attack, lasts: Duration, more: Duration) -> (f64, String) {
    let script = Script::new(frames);
    let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
    let mut n = 0;
    ask(&mut peer, &mut n, Duration::ZERO);
    let (mut ratios, mut told) = (Vec::new(), Vec::new());
    let (mut frames, mut connections) = (0, 0);
    for _ in 0..ROUNDS {
        let alone = ask(&mut peer, &mut n, Duration::ZERO);
        let flood = Flood::default();
        let among = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| flood.run(gateway, &script));
            let stopping = Stopping(&flood.stop);
            wait_until("the flood", PATIENCE, || flood.frames.load(Relaxed) > 100);
            let among = ask(&mut peer, &mut n, lasts / ROUNDS);
            drop(stopping);
            flooding.join().unwrap();
            among
        });
        // The slower of before and after: the machine may have other work, too.
        let alone = alone.max(ask(&mut peer, &mut n, Duration::ZERO));
        let allowed = alone * 2 + more;
        ratios.push(among.as_secs_f64() / allowed.as_secs_f64());
        told.push(format!("{alone:?} → {among:?}"));
        frames += flood.frames.into_inner();
        connections += flood.connections.into_inner();
    }
    let told = told.join(", ");
    (median(ratios), format!("{frames} frames on {connections} connections: p99 {told}"))
}

/// A second of each.
#[test]
fn floods_slow_nobody_down() {
    floods(&DRIVERS[..1], Duration::from_secs(1), MORE_BESIDE_TESTS);
}

/// Ten seconds of each, on a machine that does nothing else:
/// `cargo test --release -p ringway-tests --test it -- --ignored floods_of_ten_seconds --nocapture`.
/// `FLOODS=answers` chooses those whose names have this word.
#[test]
#[ignore = "takes ten minutes"]
fn floods_of_ten_seconds() {
    floods(&DRIVERS, Duration::from_secs(10), MORE_ALONE);
}

fn floods(drivers: &[&'static str], lasts: Duration, more: Duration) {
    let _alone = heavy();
    raise_descriptors();
    // Its thread is as nice as the one that starts it.
    let back_end = std::thread::spawn(|| {
        be_nice();
        Backend::start().unwrap()
    });
    let back_end = back_end.join().unwrap();
    let kinds = ATTACKS.iter().map(|(name, attack, ..)| (*name, *attack)).chain(MORE);
    let only = std::env::var("FLOODS").unwrap_or_default();
    let kinds: Vec<(&str, Attack)> = kinds.filter(|(name, _)| name.contains(&only)).collect();
    let free = mapping("free", &format!("prefix: {FREE}, host_redirect: true, service: elsewhere"));
    let manifests = manifests_to(back_end.address(), "") + &free;
    let mut wrong = Vec::new();
    for &driver in drivers {
        let gateway = start(&manifests, driver, &["--access-log=off"]);
        for (name, attack) in &kinds {
            let before = gateway.memory("VmRSS").unwrap();
            // Again where the machine had other work: what a flood costs would show each time.
            let unfelt = (0..3).any(|_| {
                let (ratio, told) = flood(&gateway, *attack, lasts, more);
                println!("{driver}: {name}: {ratio:.2} of what may be; {told}");
                ratio <= 1.0
            });
            if !unfelt {
                wrong.push(format!("{driver}: {name} slows others down"));
            }
            let grown = gateway.memory("VmRSS").unwrap().saturating_sub(before);
            println!("{driver}: {name}: {} KiB more", grown >> 10);
            if grown > GROWTH_MAX {
                wrong.push(format!("{driver}: {name}: {} KiB more", grown >> 10));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
