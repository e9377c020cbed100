// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::name::RouteSlot;
use crate::observe::metric::Slab;

#[track_caller]
fn check_near(found: u64, exact: u64) {
    // A bucket is an eighth of an octave wide; hdrhistogram adds a hundredth.
    let slack = exact as f64 * (1.0 / 8.0 + 0.01) + 1.0;
    assert!((found as f64 - exact as f64).abs() <= slack, "{found} is not near {exact}");
}

#[test]
fn nothing_has_no_quantiles() {
    assert_eq!(Merger::default().quantiles(std::iter::empty()), None);
    let slab = Slab::default();
    let empty = slab.route_time(RouteSlot(0));
    assert_eq!(Merger::default().quantiles([empty].into_iter()), None);
}

#[test]
fn rows_do_not_mix() {
    let slab = Slab::default();
    let (fast, slow) = (slab.route_time(RouteSlot(0)), slab.route_time(RouteSlot(1)));
    fast.record(10);
    slow.record(1_000_000);
    let mut merger = Merger::default();
    check_near(merger.quantiles([slow].into_iter()).unwrap().p50_us, 1_000_000);
    let found = merger.quantiles([fast].into_iter()).unwrap();
    assert_eq!((found.count, found.mean_us), (1, 10));
    check_near(found.p999_us, 10);
}

#[test]
fn what_is_too_long_is_the_longest() {
    let slab = Slab::default();
    let histogram = slab.route_time(RouteSlot(0));
    histogram.record(u64::MAX / 2);
    let found = Merger::default().quantiles([histogram].into_iter()).unwrap();
    check_near(found.p50_us, Histogram::bucket_max(HISTOGRAM_BUCKETS - 1));
}

#[test]
fn json_keys() {
    let quantiles = Quantiles { count: 1, mean_us: 2, p50_us: 3, p99_us: 4, p999_us: 5 };
    assert_eq!(
        serde_json::to_string(&quantiles).unwrap(),
        r#"{"count":1,"mean_us":2,"p50_us":3,"p99_us":4,"p99.9_us":5}"#
    );
}

proptest! {
    #[test]
    fn quantiles_are_within_an_eighth_of_an_octave(
        mut values in proptest::collection::vec((0u32..32, any::<u64>()), 1..300),
        workers in 1usize..5,
    ) {
        // Every octave is as likely as another.
        let mut values: Vec<u64> = values
            .drain(..)
            .map(|(octave, bits)| (1 << octave | bits & ((1 << octave) - 1)).min(4_000_000_000))
            .collect();
        let slabs: Vec<Slab> = (0..workers).map(|_| Slab::default()).collect();
        let times = slabs.iter().map(|slab| slab.route_time(RouteSlot(0)));
        for (at, value) in values.iter().enumerate() {
            slabs[at % workers].route_time(RouteSlot(0)).record(*value);
        }
        values.sort_unstable();
        let found = Merger::default().quantiles(times).unwrap();
        prop_assert_eq!(found.count, values.len() as u64);
        prop_assert_eq!(found.mean_us, values.iter().sum::<u64>() / values.len() as u64);
        for (quantile, found) in [(0.5, found.p50_us), (0.99, found.p99_us), (0.999, found.p999_us)] {
            let rank = ((quantile * values.len() as f64).ceil() as usize).max(1);
            check_near(found, values[rank - 1]);
        }
    }

    #[test]
    fn buckets_cover_what_falls_into_them(us in any::<u64>()) {
        let bucket = Histogram::bucket(us);
        prop_assert!(bucket < HISTOGRAM_BUCKETS);
        if bucket < HISTOGRAM_BUCKETS - 1 {
            prop_assert!(us <= Histogram::bucket_max(bucket));
        }
        prop_assert!(bucket == 0 || us > Histogram::bucket_max(bucket - 1));
        prop_assert_eq!(Histogram::bucket(Histogram::bucket_middle(bucket)), bucket);
    }
}
