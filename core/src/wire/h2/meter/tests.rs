// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::{Flood, FrameMeter, Kind, Role};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// Past the preface.
fn server() -> FrameMeter {
    let mut meter = FrameMeter::new(Role::Server, 0);
    assert_eq!(meter.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0), Ok(()));
    assert_eq!(meter.frames(), 0);
    meter
}

/// How many of these frames are taken at once; the one too many is taken back.
fn taken(meter: &mut FrameMeter, frame: &[u8], now_ms: u64) -> (u32, Option<Kind>) {
    for n in 0..100_000 {
        let before = meter.clone();
        if let Err(Flood(kind)) = meter.received(frame, now_ms) {
            *meter = before;
            return (n, Some(kind));
        }
    }
    (100_000, None)
}

fn empty_kinds() -> Vec<(Vec<u8>, Kind)> {
    vec![
        (frame(DATA, 0, b""), Kind::EmptyData),
        (frame(DATA, 8, b"\x03\0\0\0"), Kind::EmptyData),
        (frame(DATA, 8, b"\0"), Kind::EmptyData),
        (frame(DATA, 8, b""), Kind::EmptyData),
        (frame(2, 0, b"\0\0\0\0\x10"), Kind::Priority),
        (frame(RST_STREAM, 0, b"\0\0\0\x08"), Kind::Reset),
        (frame(4, 0, b""), Kind::Settings),
        (frame(4, 1, b""), Kind::Settings),
        (frame(4, 0, b"\0\x04\0\0\xff\xff"), Kind::Settings),
        (frame(5, 0, b"\0\0\0\x02"), Kind::Other),
        (frame(PING, 0, b"01234567"), Kind::Ping),
        (frame(PING, 1, b"01234567"), Kind::Ping),
        (frame(7, 0, b"\0\0\0\0\0\0\0\0"), Kind::Other),
        (frame(WINDOW_UPDATE, 0, b"\0\0\0\x01"), Kind::WindowUpdate),
        (frame(9, 0, b""), Kind::Continuation),
        (frame(9, 4, b"abc"), Kind::Continuation),
        (frame(10, 0, b"abc"), Kind::Other),
        (frame(0x10, 0, b"abc"), Kind::Other),
        (frame(0xff, 0, b""), Kind::Other),
    ]
}

#[test]
fn each_kind_has_its_allowance() {
    for (frame, kind) in empty_kinds() {
        let allowance = kind.allowance();
        let mut meter = server();
        assert_eq!(taken(&mut meter, &frame, 0), (allowance.burst, Some(kind)), "{frame:?}");
        let second = allowance.per_second;
        assert_eq!(taken(&mut meter, &frame, 1000), (second, Some(kind)), "{frame:?}");
        // However long nothing comes, no more than a burst is saved.
        let hour = 3_600_000;
        assert_eq!(taken(&mut meter, &frame, hour), (allowance.burst, Some(kind)), "{frame:?}");
        // A clock that goes back gives nothing.
        assert_eq!(taken(&mut meter, &frame, 0), (0, Some(kind)), "{frame:?}");
        assert_eq!(taken(&mut meter, &frame, u64::MAX).1, Some(kind), "{frame:?}");
    }
    let kinds: std::collections::HashSet<_> = empty_kinds().into_iter().map(|(_, k)| k).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at);
        assert!(kind.allowance().burst <= crate::limits::H2_EARNED_MAX);
    }
}

#[test]
fn one_kind_costs_no_other() {
    let mut meter = server();
    for (frame, kind) in empty_kinds() {
        let before = taken(&mut meter, &frame, 0).0;
        assert!(before == kind.allowance().burst || before == 0);
    }
}

#[test]
fn frames_that_bring_something_are_free_and_pay_for_others() {
    for useful in [
        frame(HEADERS, 4, b"block"),
        frame(HEADERS, 5, b""),
        frame(DATA, 0, b"x"),
        frame(DATA, 8, b"\x01x\0"),
    ] {
        for (empty, kind) in empty_kinds() {
            let mut meter = server();
            assert_eq!(taken(&mut meter, &empty, 0).1, Some(kind));
            assert_eq!(meter.received(&useful, 0), Ok(()));
            let earned = if kind == Kind::Reset { 0 } else { kind.allowance().earned };
            assert_eq!(taken(&mut meter, &empty, 0), (earned, Some(kind)), "{empty:?}");
        }
        assert_eq!(taken(&mut server(), &useful, 0), (100_000, None));
    }
    // An end is no flood: there is one per stream.
    assert_eq!(taken(&mut server(), &frame(DATA, 1, b""), 0), (100_000, None));
}

#[test]
fn what_is_earned_is_bounded() {
    let ping = frame(PING, 0, b"01234567");
    let mut meter = server();
    assert_eq!(taken(&mut meter, &frame(DATA, 0, b"x"), 0).1, None);
    assert_eq!(taken(&mut meter, &ping, 0).0, crate::limits::H2_EARNED_MAX);
}

#[test]
fn a_client_may_measure_and_open_its_windows() {
    let mut meter = server();
    let update = frame(WINDOW_UPDATE, 0, b"\0\0\0\x01");
    let answers = [&update[..], &update, &frame(PING, 0, b"01234567")].concat();
    let lag = 5000;
    for message in 0..50_000 {
        meter.sent(&frame(DATA, 0, b"message"), 1).unwrap();
        if message >= lag {
            meter.received(&answers, 1).unwrap();
        }
    }
    for _ in 0..lag {
        meter.received(&answers, 1).unwrap();
    }
}

#[test]
fn requests_do_not_pay_for_their_resets_and_answers_do() {
    let mut meter = server();
    let rapid = [frame(HEADERS, 5, b"block"), frame(RST_STREAM, 0, b"\0\0\0\x08")].concat();
    let burst = Kind::Reset.allowance().burst;
    assert_eq!(taken(&mut meter, &rapid, 0), (burst, Some(Kind::Reset)));
    // Every second request is given up.
    let mut meter = server();
    for _ in 0..10 * burst {
        meter.received(&frame(HEADERS, 5, b"block"), 0).unwrap();
        meter.sent(&frame(HEADERS, 4, b"block"), 0).unwrap();
        meter.sent(&frame(DATA, 1, b"body"), 0).unwrap();
        meter.received(&rapid, 0).unwrap();
    }
    // A server's answers pay for what it resets.
    let mut meter = FrameMeter::new(Role::Client, 0);
    for _ in 0..10 * burst {
        meter.received(&frame(HEADERS, 5, b"block"), 0).unwrap();
        meter.received(&frame(RST_STREAM, 0, b"\0\0\0\x08"), 0).unwrap();
    }
    let reset = frame(RST_STREAM, 0, b"\0\0\0\x08");
    assert_eq!(taken(&mut meter, &reset, 0), (burst, Some(Kind::Reset)));
}

#[test]
fn resets_that_the_peer_makes_us_send_count() {
    let burst = Kind::Reset.allowance().burst;
    let sent = |code: u8| {
        let (mut meter, frame) = (server(), frame(RST_STREAM, 0, &[0, 0, 0, code]));
        (0..1000).position(|_| meter.sent(&frame, 0).is_err())
    };
    for code in [1, 3, 5, 6, 7, 9, 11] {
        assert_eq!(sent(code), Some(burst as usize), "{code}");
    }
    // Ours: no error, a failure of an upstream, no interest.
    for code in [0, 2, 8] {
        assert_eq!(sent(code), None, "{code}");
    }
}

#[test]
fn a_payload_is_not_looked_at() {
    let mut meter = server();
    let mut long = frame(DATA, 0, &vec![0; 0xff_ffff]);
    long.extend(frame(PING, 0, b"01234567"));
    meter.received(&long, 0).unwrap();
    assert_eq!(meter.frames(), 2);
    // The longest that a header can announce, in pieces.
    let mut meter = server();
    for piece in long.chunks(16 * 1024) {
        meter.received(piece, 0).unwrap();
    }
    assert_eq!(meter.frames(), 2);
}

/// Of bytes cut in pieces: what was said at last, and how many frames that took.
fn verdict(role: Role, pieces: &[&[u8]], sent: bool) -> (Result<(), Flood>, u64) {
    let mut meter = FrameMeter::new(role, 0);
    for piece in pieces {
        let said = if sent { meter.sent(piece, 0) } else { meter.received(piece, 0) };
        if said.is_err() {
            return (said, meter.frames());
        }
    }
    (Ok(()), meter.frames())
}

proptest! {
    #[test]
    fn cuts_make_no_difference(
        kinds in proptest::collection::vec((0u8..12, any::<u8>(), 0usize..20, 1usize..90), 0..30),
        cuts in proptest::collection::vec(1usize..40, 1..60),
        junk in proptest::collection::vec(any::<u8>(), 0..40),
        role in prop_oneof![Just(Role::Client), Just(Role::Server)],
        sent in any::<bool>(),
    ) {
        let mut stream = Vec::new();
        for (kind, flags, len, times) in kinds {
            let one = frame(kind, flags, &vec![flags % 5; len]);
            stream.extend(one.repeat(times));
        }
        stream.extend(junk);
        let whole = verdict(role, &[&stream], sent);
        // Each frame takes the bytes of its header at least.
        prop_assert!(whole.1 <= stream.len() as u64 / 9);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(verdict(role, &bytes, sent), whole);
        let (mut pieces, mut rest) = (Vec::new(), &stream[..]);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(verdict(role, &pieces, sent), whole);
    }
}
