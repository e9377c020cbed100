// SPDX-License-Identifier: Apache-2.0
//! Turns of a worker's event loop, for work that comes in floods.
//!
//! The runtime runs all that the driver reported before it asks the driver again. What every
//! connection of a flood brings with it (being accepted, a handshake) would so keep everybody else
//! waiting for as long as the flood is wide. Such work takes a bounded time of each turn; the rest
//! waits, first come first served, until the driver has been asked.
//!
//! A turn's end is known by a byte that the worker sends itself: it comes with what the driver
//! reports next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use ringway_core::limits::{DIALS_PER_TURN, HANDSHAKE_TURN};

/// One worker's turns.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Leads to the worker's own inbox.
    bell: Arc<UnixStream>,
    rung: Cell<bool>,
    /// Turns so far, as far as anybody waited for one.
    number: Cell<u64>,
    /// What handshakes took of this turn.
    spent: Cell<Duration>,
    /// Connections to upstreams that began since a turn was last waited for.
    dials: Cell<usize>,
    /// Handshakes that wait for a turn: no more than are in flight.
    waiting: RefCell<VecDeque<Waker>>,
    /// How many of those that ever waited may work.
    called: Cell<u64>,
    /// Who waits for the next turn whatever it has to spend: one per listening socket, per client that
    /// sends much, and per connection to an upstream that is to begin.
    resting: RefCell<Vec<Waker>>,
}

/// Part of a handshake, measured until it is dropped. Not to be held while anything is awaited.
#[derive(Debug)]
pub(crate) struct Turn<'t> {
    turns: &'t Turns,
    begin: Instant,
}

impl Turns {
    pub(super) fn new(bell: Arc<UnixStream>) -> Self {
        Self {
            bell,
            rung: Cell::default(),
            number: Cell::default(),
            spent: Cell::default(),
            dials: Cell::default(),
            waiting: RefCell::default(),
            called: Cell::default(),
            resting: RefCell::default(),
        }
    }

    /// Waits until there is time for part of a handshake; `counted` counts it while it waits.
    pub(crate) async fn turn(&self, counted: &Cell<usize>) -> Turn<'_> {
        let mut place = None;
        poll_fn(|cx| {
            if let Some(place) = place {
                if place >= self.called.get() {
                    return Poll::Pending;
                }
                counted.set(counted.get() - 1);
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if waiting.is_empty() && self.spent.get() < HANDSHAKE_TURN {
                return Poll::Ready(());
            }
            place = Some(self.called.get() + waiting.len() as u64);
            waiting.push_back(cx.waker().clone());
            counted.set(counted.get() + 1);
            self.ring();
            Poll::Pending
        })
        .await;
        Turn { turns: self, begin: Instant::now() }
    }

    /// Waits until the driver has been asked.
    pub(crate) async fn next(&self) {
        let now = self.number.get();
        poll_fn(|cx| {
            if self.number.get() != now {
                return Poll::Ready(());
            }
            self.resting.borrow_mut().push(cx.waker().clone());
            self.ring();
            Poll::Pending
        })
        .await;
    }

    /// Waits until another connection to an upstream may begin.
    pub(crate) async fn dial(&self) {
        while self.dials.get() == DIALS_PER_TURN {
            self.next().await;
        }
        self.dials.set(self.dials.get() + 1);
    }

    /// A turn begins: to be called whenever the inbox was heard of. Does not ring: before the inbox
    /// has waited again, epoll's driver would hear of it without having been asked.
    pub(super) fn begin(&self) {
        self.rung.set(false);
        self.number.set(self.number.get().wrapping_add(1));
        self.spent.set(Duration::ZERO);
        self.dials.set(0);
        for waker in self.resting.take() {
            waker.wake();
        }
        self.call();
    }

    /// Lets the next one work.
    fn call(&self) {
        if let Some(waker) = self.waiting.borrow_mut().pop_front() {
            self.called.set(self.called.get() + 1);
            waker.wake();
        }
    }

    fn ring(&self) {
        if !self.rung.replace(true) {
            // Where no byte fits, some are there to be heard.
            let _ = (&*self.bell).write(&[0]);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let turns = self.turns;
        turns.spent.set(turns.spent.get() + self.begin.elapsed());
        if turns.spent.get() < HANDSHAKE_TURN {
            turns.call();
        } else if !turns.waiting.borrow().is_empty() {
            turns.ring();
        }
    }
}

#[cfg(test)]
mod tests;
