// SPDX-License-Identifier: Apache-2.0
//! Clients that misuse one connection: each kind ends with the right code after a bounded number
//! of frames, nothing of it is left in memory, and the connection beside it is served.

use std::time::{Duration, Instant};

use ringway_tests::Gateway;
use ringway_tests::h2::frame::{self, Code, Frame, continuation, data, headers, ping, reset};
use ringway_tests::h2::{Peer, hpack};
use ringway_tests::upstream::Upstream;

use super::super::DRIVERS;
use super::{CLEARTEXT, manifests, start};

/// Frames of a kind, by the number of the turn.
pub(super) type Attack = fn(u32) -> Vec<Frame>;

/// A stream of a client by its number.
pub(super) fn stream(n: u32) -> u32 {
    2 * n + 1
}

pub(super) fn get(n: u32) -> Frame {
    headers(stream(n)).request("GET", "/x").field("x-backend-never", "1").end_stream()
}

/// What is done, at what latest frame it must have ended, and how.
pub(super) const ATTACKS: [(&str, Attack, u32, &[Code]); 11] = [
    // CVE-2023-44487.
    ("rapid reset", |n| vec![get(n), reset(stream(n), Code::CANCEL)], 20_000, CALM),
    // CVE-2025-8671: frames that make the gateway itself reset the stream.
    (
        "resets that the gateway is made to send, by windows",
        |n| vec![get(n), frame::window_update(stream(n), 0)],
        20_000,
        CALM_OR_PROTOCOL,
    ),
    (
        "resets that the gateway is made to send, by overflows",
        |n| vec![get(n), frame::window_update(stream(n), 0x7fff_ffff)],
        20_000,
        CALM_OR_FLOW,
    ),
    (
        "resets that the gateway is made to send, by heads",
        |n| vec![headers(stream(n)).request("GET", "/").field("connection", "x").end_stream()],
        20_000,
        CALM_OR_PROTOCOL,
    ),
    // CVE-2024-27316 and others.
    ("CONTINUATION without end", |n| vec![endless(n)], 20_000, CALM_OR_PROTOCOL_OR_COMPRESSION),
    ("empty CONTINUATION without end", |n| vec![empty(n)], 20_000, CALM_OR_PROTOCOL_OR_COMPRESSION),
    // CVE-2019-9518.
    ("empty DATA", |n| vec![if n == 0 { post() } else { data(1, "") }], 100_000, CALM),
    // CVE-2019-9512, CVE-2019-9515.
    ("PING", |n| vec![ping(u64::from(n).to_be_bytes())], 100_000, CALM),
    ("SETTINGS", |_| vec![frame::settings(&[(frame::MAX_FRAME_SIZE, 16_384)])], 100_000, CALM),
    ("PRIORITY", |n| vec![frame::priority(stream(n), 0, 1)], 100_000, CALM),
    (
        "WINDOW_UPDATE",
        |n| vec![if n == 0 { post() } else { frame::window_update(n % 2, 1) }],
        200_000,
        CALM,
    ),
];

const CALM: &[Code] = &[Code::ENHANCE_YOUR_CALM];
const CALM_OR_PROTOCOL: &[Code] = &[Code::ENHANCE_YOUR_CALM, Code::PROTOCOL_ERROR];
const CALM_OR_FLOW: &[Code] = &[Code::ENHANCE_YOUR_CALM, Code::FLOW_CONTROL_ERROR];
const CALM_OR_PROTOCOL_OR_COMPRESSION: &[Code] =
    &[Code::ENHANCE_YOUR_CALM, Code::PROTOCOL_ERROR, Code::COMPRESSION_ERROR];

pub(super) fn post() -> Frame {
    headers(1).request("POST", "/x")
}

fn endless(n: u32) -> Frame {
    match n {
        0 => post().unfinished(),
        _ => continuation(1, &hpack::literal(&format!("x-{n}"), &[b'v'; 1000])),
    }
}

fn empty(n: u32) -> Frame {
    if n == 0 { post().unfinished() } else { continuation(1, b"") }
}

/// Sends frames as fast as it can until the connection ends, at most so many (that many are enough:
/// how many the gateway took by then, the kernel's buffers hide); how many, and with which code.
fn attack(gateway: &Gateway, frames: Attack, most: u32) -> (u32, Option<Code>) {
    let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
    peer.socket().set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut sent = 0;
    while sent < most {
        let next: Vec<Frame> = (sent..sent + 50).flat_map(frames).collect();
        if peer.send(next).is_err() {
            break;
        }
        sent += 50;
        if peer.has_ended().unwrap() {
            break;
        }
    }
    peer.patience = Duration::from_secs(5);
    (sent, peer.farewell().ok().flatten())
}

#[test]
fn each_misuse_ends_the_connection_with_its_code() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let mut beside = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let (mut wrong, mut n) = (Vec::new(), 0);
        for (name, frames, most, codes) in ATTACKS {
            let before = gateway.anonymous().unwrap();
            let begin = Instant::now();
            let (sent, code) = attack(&gateway, frames, most);
            let taken = begin.elapsed();
            println!("{driver}: {name}: {code:?} after {sent} turns in {taken:?}");
            if !code.is_some_and(|code| codes.contains(&code)) {
                wrong.push(format!("{name}: {code:?} after {sent} turns, not {codes:?}"));
            }
            let grown = gateway.anonymous().unwrap().saturating_sub(before);
            if grown > 8 << 20 {
                wrong.push(format!("{name}: {} KiB more", grown >> 10));
            }
            n += 1;
            let request = headers(stream(n)).request("GET", "/").end_stream();
            match beside.ask(request) {
                Ok(response) if response.status == 200 => {}
                other => wrong.push(format!("{name}: the connection beside: {other:?}")),
            }
        }
        assert!(wrong.is_empty(), "on {driver}:\n{}", wrong.join("\n"));
    }
}

/// Ordinary use is no misuse: many requests, resets, pings, updates and empty ends over time. (Of
/// empty DATA that ends nothing the h2 crate takes a hundred in a connection's life.)
#[test]
fn busy_clients_are_not_sent_away() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        for n in 0..2_000 {
            let at = stream(n);
            peer.send([headers(at).request("POST", "/x"), data(at, "hel"), data(at, "lo")])
                .unwrap();
            peer.send(data(at, "").end_stream()).unwrap();
            assert_eq!(peer.response(at).unwrap().status, 200, "{n} on {driver}");
            if n % 20 == 0 {
                assert!(peer.is_alive().unwrap(), "{n} on {driver}");
            }
        }
        // A tab that is closed gives up what it has open.
        for turn in 0..5 {
            let open = (0..80).map(|n| 5_000 + 100 * turn + n);
            peer.send(open.clone().map(get)).unwrap();
            peer.send(open.map(|n| reset(stream(n), Code::CANCEL))).unwrap();
            assert!(peer.is_alive().unwrap(), "turn {turn} on {driver}");
        }
        let last = headers(20_001).request("GET", "/").end_stream();
        assert_eq!(peer.ask(last).unwrap().status, 200, "{driver}");
    }
}

/// One entry of nearly the whole table, then named 12,000 times: 47 MB in one frame, RFC 7541 §7.3.
pub(super) fn bomb() -> Vec<u8> {
    let mut block = vec![0x40];
    for text in [&b"x-bomb"[..], &[b'v'; 3_900]] {
        hpack::put_integer(&mut block, 0, 7, text.len());
        block.extend_from_slice(text);
    }
    block.resize(block.len() + 12_000, 0x80 | 62);
    block
}

#[test]
fn a_head_that_unpacks_to_too_much_is_refused() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert!(peer.is_alive().unwrap());
        let before = gateway.anonymous().unwrap();
        for n in 0..20 {
            let bomb = headers(stream(n)).request("GET", "/").block(&bomb()).end_stream();
            if peer.send(bomb).is_err() || peer.has_ended().unwrap() {
                break;
            }
        }
        peer.patience = Duration::from_secs(5);
        use ringway_tests::h2::Outcome::{Answered, GoneAway, Reset};
        let outcome = peer.outcome(1).unwrap();
        let fine = matches!(
            outcome,
            Answered(431)
                | Reset(Code::ENHANCE_YOUR_CALM | Code::PROTOCOL_ERROR | Code::REFUSED_STREAM)
                | GoneAway(Code::ENHANCE_YOUR_CALM | Code::COMPRESSION_ERROR)
        );
        assert!(fine, "{outcome:?} on {driver}");
        let grown = gateway.anonymous().unwrap().saturating_sub(before);
        assert!(grown < 8 << 20, "{} KiB more on {driver}", grown >> 10);
    }
}

/// DATA beyond the windows, RFC 9113 §6.9.1.
#[test]
fn more_than_the_window_is_an_error() {
    for driver in DRIVERS {
        let back_end = Upstream::custom(|socket| {
            // Takes nothing, and leaves when the gateway does.
            let mut reader = ringway_tests::head::Reader::new(socket);
            let _ = reader.head();
            std::thread::sleep(Duration::from_secs(3));
        })
        .unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert!(peer.is_alive().unwrap());
        peer.send(post()).unwrap();
        let frames: Vec<Frame> = (0..64).map(|_| data(1, [0; 16_384])).collect();
        // 32 MiB at least, as far as they are taken.
        for _ in 0..32 {
            if peer.send(frames.clone()).is_err() {
                break;
            }
        }
        use ringway_tests::h2::Outcome::{GoneAway, Reset};
        let outcome = peer.outcome(1).unwrap();
        let fine = [Reset(Code::FLOW_CONTROL_ERROR), GoneAway(Code::FLOW_CONTROL_ERROR)];
        assert!(fine.contains(&outcome), "{outcome:?} on {driver}");
    }
}

/// The rest of a head may come within 10 s, and the connection ends otherwise.
#[test]
fn half_a_head_has_its_time() {
    std::thread::scope(|scope| {
        for driver in DRIVERS {
            scope.spawn(move || {
                let back_end = Upstream::echo("a").unwrap();
                let gateway = start(&manifests(&back_end, ""), driver, &[]);
                let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
                assert!(peer.is_alive().unwrap());
                let begin = Instant::now();
                peer.send(post().unfinished()).unwrap();
                // Its end, however it is worded.
                peer.farewell().unwrap();
                let taken = begin.elapsed();
                assert!((5..15).contains(&taken.as_secs()), "{taken:?} on {driver}");
            });
        }
    });
}
