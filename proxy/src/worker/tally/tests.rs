// SPDX-License-Identifier: Apache-2.0

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake};

use super::*;

const ROUTE: RouteSlot = RouteSlot(7);
const ANSWER: Count = Count::Answer(RouteCell::Requests2xx);

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn what_is_pending_is_counted_with_one_wake() {
    let (tally, slab, wakes) = (Tally::default(), Slab::default(), Arc::<Wakes>::default());
    let waker = wakes.clone().into();
    let mut cx = Context::from_waker(&waker);
    let mut serving = pin!(tally.serve(&slab));
    assert!(serving.as_mut().poll(&mut cx).is_pending());
    for round in 1..=3 {
        for _ in 0..10 {
            tally.add(&slab, ROUTE, ANSWER);
            tally.add(&slab, ROUTE, Count::Microseconds(900));
        }
        assert_eq!(wakes.0.load(Relaxed), round);
        assert!(serving.as_mut().poll(&mut cx).is_pending());
        assert_eq!(slab.route(ROUTE, RouteCell::Requests2xx), 10 * round as u64);
        assert_eq!(slab.route_time(ROUTE).sum_us(), 9_000 * round as u64);
    }
}

#[test]
fn nothing_is_lost_beyond_the_bound() {
    let (tally, slab) = (Tally::default(), Slab::default());
    let many = COUNTS_PENDING_MAX as u64 + 5;
    for _ in 0..many {
        tally.add(&slab, ROUTE, ANSWER);
    }
    assert_eq!(slab.route(ROUTE, RouteCell::Requests2xx), 5);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(tally.serve(&slab)).poll(&mut cx).is_pending());
    assert_eq!(slab.route(ROUTE, RouteCell::Requests2xx), many);
}
