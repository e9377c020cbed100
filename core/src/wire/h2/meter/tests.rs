// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::{Flood, Kind, Meter, Role};
use crate::wire::h2::frame::{self, Code, FrameHeader};

/// A frame of a stream, with so many bytes of content.
fn frame(kind: u8, flags: u8, len: u32, content: u32) -> (FrameHeader, u32) {
    (FrameHeader { len, kind, flags, stream: 1 }, content)
}

fn data(flags: u8, content: u32) -> (FrameHeader, u32) {
    frame(frame::DATA, flags, content, content)
}

fn head(flags: u8) -> (FrameHeader, u32) {
    frame(frame::HEADERS, flags, 5, 0)
}

fn server() -> Meter {
    Meter::new(Role::Server)
}

/// How many of these frames are taken at once; the one too many is taken back.
fn taken(meter: &mut Meter, frame: (FrameHeader, u32), now_ms: u64) -> (u32, Option<Kind>) {
    meter.tick(now_ms);
    for n in 0..100_000 {
        let before = meter.clone();
        if let Err(Flood(kind)) = meter.received(frame.0, frame.1) {
            *meter = before;
            return (n, Some(kind));
        }
    }
    (100_000, None)
}

fn empty_kinds() -> Vec<((FrameHeader, u32), Kind)> {
    vec![
        (data(0, 0), Kind::EmptyData),
        (frame(frame::DATA, frame::PADDED, 4, 0), Kind::EmptyData),
        (frame(frame::PRIORITY, 0, 5, 0), Kind::Priority),
        (frame(frame::RST_STREAM, 0, 4, 0), Kind::Reset),
        (frame(frame::SETTINGS, 0, 6, 0), Kind::Settings),
        (frame(frame::SETTINGS, frame::ACK, 0, 0), Kind::Settings),
        (frame(frame::PUSH_PROMISE, 0, 4, 0), Kind::Other),
        (frame(frame::PING, 0, 8, 0), Kind::Ping),
        (frame(frame::PING, frame::ACK, 8, 0), Kind::Ping),
        (frame(frame::GOAWAY, 0, 8, 0), Kind::Other),
        (frame(frame::WINDOW_UPDATE, 0, 4, 0), Kind::WindowUpdate),
        (frame(frame::CONTINUATION, 0, 0, 0), Kind::Continuation),
        (frame(frame::CONTINUATION, frame::END_HEADERS, 3, 0), Kind::Continuation),
        (frame(0x10, 0, 3, 0), Kind::Other),
        // END_STREAM is a flag of messages alone.
        (frame(0xff, frame::END_STREAM, 0, 0), Kind::Other),
    ]
}

#[test]
fn each_kind_has_its_allowance() {
    for (frame, kind) in empty_kinds() {
        let allowance = kind.allowance();
        let mut meter = server();
        assert_eq!(taken(&mut meter, frame, 0), (allowance.burst, Some(kind)), "{frame:?}");
        let second = allowance.per_second;
        assert_eq!(taken(&mut meter, frame, 1000), (second, Some(kind)), "{frame:?}");
        // However long nothing comes, no more than a burst is saved.
        let hour = 3_600_000;
        assert_eq!(taken(&mut meter, frame, hour), (allowance.burst, Some(kind)), "{frame:?}");
        // A clock that goes back gives nothing.
        assert_eq!(taken(&mut meter, frame, 0), (0, Some(kind)), "{frame:?}");
        assert_eq!(taken(&mut meter, frame, u64::MAX).1, Some(kind), "{frame:?}");
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
        let before = taken(&mut meter, frame, 0).0;
        assert!(before == kind.allowance().burst || before == 0);
    }
}

#[test]
fn frames_that_bring_something_are_free_and_pay_for_others() {
    for useful in
        [head(frame::END_HEADERS), head(frame::END_HEADERS | frame::END_STREAM), data(0, 1)]
    {
        for (empty, kind) in empty_kinds() {
            let mut meter = server();
            assert_eq!(taken(&mut meter, empty, 0).1, Some(kind));
            assert_eq!(meter.received(useful.0, useful.1), Ok(()));
            let earned = if kind == Kind::Reset { 0 } else { kind.allowance().earned };
            assert_eq!(taken(&mut meter, empty, 0), (earned, Some(kind)), "{empty:?}");
        }
        assert_eq!(taken(&mut server(), useful, 0), (100_000, None));
    }
    // An end is no flood: there is one per stream.
    assert_eq!(taken(&mut server(), data(frame::END_STREAM, 0), 0), (100_000, None));
}

const PING: (FrameHeader, u32) =
    (FrameHeader { len: 8, kind: frame::PING, flags: 0, stream: 0 }, 0);

#[test]
fn what_is_earned_is_bounded() {
    let mut meter = server();
    assert_eq!(taken(&mut meter, data(0, 1), 0).1, None);
    assert_eq!(taken(&mut meter, PING, 0).0, crate::limits::H2_EARNED_MAX);
    assert_eq!(meter.frames(), 100_000 + u64::from(crate::limits::H2_EARNED_MAX));
}

#[test]
fn a_client_may_measure_and_open_its_windows() {
    let mut meter = server();
    meter.tick(1);
    let update = frame(frame::WINDOW_UPDATE, 0, 4, 0);
    let answer = |meter: &mut Meter| {
        for (header, content) in [update, update, PING] {
            meter.received(header, content).unwrap();
        }
    };
    let lag = 5000;
    for message in 0..50_000 {
        meter.sent(true, false);
        if message >= lag {
            answer(&mut meter);
        }
    }
    for _ in 0..lag {
        answer(&mut meter);
    }
}

#[test]
fn requests_do_not_pay_for_their_resets_and_answers_do() {
    let (whole, (reset, _)) = (head(frame::END_STREAM), frame(frame::RST_STREAM, 0, 4, 0));
    let burst = Kind::Reset.allowance().burst;
    let mut meter = server();
    for _ in 0..burst {
        meter.received(whole.0, 0).unwrap();
        meter.received(reset, 0).unwrap();
    }
    meter.received(whole.0, 0).unwrap();
    assert_eq!(meter.received(reset, 0), Err(Flood(Kind::Reset)));
    // Every second request is given up.
    let mut meter = server();
    for _ in 0..10 * burst {
        meter.received(whole.0, 0).unwrap();
        meter.sent(true, false);
        meter.sent(true, true);
        meter.received(whole.0, 0).unwrap();
        meter.received(reset, 0).unwrap();
    }
    // A server's answers pay for what it resets.
    let mut meter = Meter::new(Role::Client);
    for _ in 0..10 * burst {
        meter.received(whole.0, 0).unwrap();
        meter.received(reset, 0).unwrap();
    }
    assert_eq!(taken(&mut meter, (reset, 0), 0), (burst, Some(Kind::Reset)));
}

#[test]
fn resets_that_the_peer_makes_us_send_count() {
    let burst = Kind::Reset.allowance().burst;
    let sent = |code: u32| {
        let mut meter = server();
        (0..1000).position(|_| meter.reset(Code(code)).is_err())
    };
    for code in [1, 3, 5, 6, 7, 9, 11] {
        assert_eq!(sent(code), Some(burst as usize), "{code}");
    }
    // Ours: no error, a failure of an upstream, no interest.
    for code in [0, 2, 8] {
        assert_eq!(sent(code), None, "{code}");
    }
}
