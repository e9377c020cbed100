// SPDX-License-Identifier: Apache-2.0
//! What requests did to the counters of their routes, counted together when a worker has run all
//! else that was ready. Among thousands of routes each has counters that come from memory: of many
//! at a time the processor fetches several at once, of one after its request it waits for each.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use ringway_core::limits::COUNTS_PENDING_MAX;
use ringway_core::name::RouteSlot;
use ringway_core::observe::metric::{RouteCell, Slab};

/// What one worker has yet to count.
#[derive(Default)]
pub(crate) struct Tally {
    pending: RefCell<Vec<(RouteSlot, Count)>>,
    /// Of [`Tally::serve`], while nothing is pending.
    waiting: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Answer(RouteCell),
    Microseconds(u64),
}

impl Tally {
    pub(crate) fn add(&self, slab: &Slab, route: RouteSlot, count: Count) {
        let mut pending = self.pending.borrow_mut();
        if pending.len() == COUNTS_PENDING_MAX {
            return apply(slab, route, count);
        }
        pending.push((route, count));
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Counts what is pending whenever this task gets its turn: behind those that are ready.
    pub(super) async fn serve(&self, slab: &Slab) {
        loop {
            poll_fn(|cx| match self.pending.borrow().is_empty() {
                true => {
                    self.waiting.set(Some(cx.waker().clone()));
                    Poll::Pending
                }
                false => Poll::Ready(()),
            })
            .await;
            for (route, count) in self.pending.borrow_mut().drain(..) {
                apply(slab, route, count);
            }
        }
    }
}

fn apply(slab: &Slab, route: RouteSlot, count: Count) {
    match count {
        Count::Answer(class) => slab.route_add(route, class, 1),
        Count::Microseconds(us) => slab.route_time(route).record(us),
    }
}

#[cfg(test)]
mod tests;
