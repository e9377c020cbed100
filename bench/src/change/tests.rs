// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;
use crate::engine::{Seen, Timed};

const MS: Duration = Duration::from_millis(1);

#[test]
fn requests_around_a_change_are_told_from_others() {
    let start = Instant::now() + Duration::from_secs(10);
    let seen =
        |first: u32, last: u32| Some(Seen { first: start + MS * first, last: start + MS * last });
    let timed = |due: u32, latency: u32| Timed { due: start + MS * due, latency: MS * latency };
    let outcome = Outcome {
        // The change is made at 1,000 and serves at 1,003; the last old request arrives at 1,005.
        seen: vec![seen(0, 1_005), seen(1_003, 2_000)],
        timed: vec![
            timed(900, 1),
            timed(999, 4),
            timed(1_100, 3),
            timed(1_200, 2),
            timed(1_300, 2),
        ],
        ..Outcome::default()
    };
    let found = summarise(0, &[start + MS * 1_000], &outcome).unwrap();
    assert_eq!(found.changes, [Changed { first_ms: 3.0, all_ms: 5.0 }]);
    assert_eq!((found.during.count, found.outside.count), (2, 3));
    let (max, _) = found.slower_ms();
    assert!((max - 2.0).abs() < 0.01, "{max}");
}

#[test]
fn a_change_that_never_serves_is_an_error() {
    let outcome = Outcome::default();
    assert!(summarise(0, &[Instant::now()], &outcome).is_err());
}
