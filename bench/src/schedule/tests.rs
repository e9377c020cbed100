// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use hdrhistogram::Histogram;

use super::*;

#[test]
fn instants_do_not_drift() {
    let mut schedule = Schedule::new(3);
    let due: Vec<_> = std::iter::from_fn(|| schedule.take_due(2_000_000_000)).collect();
    assert_eq!(due.len(), 7);
    assert_eq!(due[1], 333_333_333);
    assert_eq!(due[3], 1_000_000_000);
    assert_eq!(due[6], 2_000_000_000);
    assert_eq!(schedule.take_due(2_000_000_000), None);
}

/// A server that answers in 1 ms but stalls once for a second, behind one connection at 100 requests a
/// second: a closed loop would record a single slow answer, the open loop all hundred that were due.
#[test]
fn a_stall_is_charged_to_every_request_that_was_due() {
    const MS: u64 = 1_000_000;
    let mut schedule = Schedule::new(100);
    let mut latency = Histogram::<u64>::new(3).unwrap();
    let mut free_at = 0;
    while let Some(due) = schedule.take_due(2_000 * MS) {
        let started = free_at.max(due);
        let service = if due == 500 * MS { 1_000 * MS } else { MS };
        free_at = started + service;
        latency.record((free_at - due) / MS).unwrap();
    }
    let slow = latency.count_between(100, 2_000);
    assert!((95..=105).contains(&slow), "{slow} of {} were slow", latency.len());
    assert!(latency.value_at_quantile(0.5) > 20, "the median saw the stall too");
}
