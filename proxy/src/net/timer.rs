// SPDX-License-Identifier: Apache-2.0
//! Deadlines of a worker's sockets, in milliseconds since the worker started.
//!
//! A socket has one [`Timer`]; moving its deadline is one store. The heap holds each timer at the
//! earliest time that it was ever filed for; when that comes, the real deadline is looked at and
//! the timer is filed again if it lies later. Expiry makes the operation in flight end by itself
//! (a shutdown of the socket): no future is ever dropped to time it out.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::os::fd::RawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::socket::{self, Direction};

const OFF: u64 = u64::MAX;

/// Instead of a descriptor: the socket is gone.
const FORGOTTEN: RawFd = -1;
/// The same: what has this deadline is one of many on its socket, which is not its to shut down.
const SHARED: RawFd = -2;

/// Room for entries from the start; the heap grows when there are more.
const HEAP_ENTRIES: usize = 256;

/// A time of one worker, in nanoseconds since it started: times are told apart by a subtraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// In the milliseconds that deadlines are in.
    pub(crate) fn ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Microseconds from `earlier` on; 0 where that is later.
    pub(crate) fn us_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// The moment so much later.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0 + time.as_nanos() as u64)
    }
}

/// One socket's deadline.
pub(crate) struct Timer {
    deadline: Cell<u64>,
    /// When the deadline was set.
    armed: Cell<u64>,
    /// Earliest entry in the heap, [`OFF`] if there is none.
    filed: Cell<u64>,
    /// Entries in the heap, those that came too early included.
    entries: Cell<usize>,
    /// [`FORGOTTEN`] before the socket is dropped.
    fd: Cell<RawFd>,
    direction: Cell<Direction>,
    fired: Cell<bool>,
    /// Both directions were shut down from here.
    stopped: Cell<bool>,
    /// Receiving was shut down from here.
    deaf: Cell<bool>,
    /// Who waits for a deadline that only wakes, or to hear of the stop.
    waiter: Cell<Option<Waker>>,
}

impl Timer {
    /// Wakes this task when a deadline with [`Direction::Wake`] passes, or at [`Timer::stop`].
    pub(crate) fn wait(&self, waker: &Waker) {
        let known = self.waiter.take().filter(|known| known.will_wake(waker));
        self.waiter.set(known.or_else(|| Some(waker.clone())));
    }

    /// Switches the deadline off.
    pub(crate) fn disarm(&self) {
        self.deadline.set(OFF);
    }

    /// Whether the deadline passed since the last call.
    pub(crate) fn take_fired(&self) -> bool {
        self.fired.replace(false)
    }

    /// Since when reading waits, if the deadline is one that ends reading.
    pub(crate) fn rests_since(&self) -> Option<u64> {
        let ends_reading = self.direction.get() == Direction::Read && self.deadline.get() != OFF;
        ends_reading.then(|| self.armed.get())
    }

    /// Ends what is in flight on the socket, now.
    pub(crate) fn stop(&self, direction: Direction) {
        let fd = self.fd.get();
        if fd == FORGOTTEN {
            return;
        }
        self.stopped.set(self.stopped.get() || direction == Direction::Both);
        if matches!(direction, Direction::Read | Direction::Both) {
            self.deaf.set(true);
        }
        if fd != SHARED {
            socket::shutdown(fd, direction);
        }
        self.wake();
    }

    /// Wakes who waits.
    pub(crate) fn wake(&self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Ends what is in flight on the socket with an error, and the connection with a reset.
    pub(crate) fn abort(&self) {
        match self.fd.get() {
            FORGOTTEN => {}
            SHARED => self.stop(Direction::Both),
            fd => socket::abort(fd),
        }
    }

    /// Whether both directions were stopped from here: the end of what is received then says
    /// nothing about the peer.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Whether receiving was stopped from here.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.get()
    }

    /// Not a descriptor where the socket is shared or gone: system calls refuse it.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd.get()
    }

    /// The socket is about to be dropped: nothing may touch its descriptor any more.
    pub(crate) fn forget(&self) {
        self.fd.set(FORGOTTEN);
        self.deadline.set(OFF);
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("fd", &self.fd).field("deadline", &self.deadline).finish()
    }
}

#[derive(Debug)]
struct Entry {
    at: u64,
    timer: Rc<Timer>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// All deadlines of one worker.
#[derive(Debug)]
pub(crate) struct Timers {
    start: Instant,
    heap: RefCell<BinaryHeap<Reverse<Entry>>>,
    /// Entries in the heap whose socket is gone.
    dead: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    /// When the driver task will wake, [`OFF`] while it has nothing to wait for.
    wakes: Cell<u64>,
    /// The last [`Timers::look`].
    recent: Cell<u64>,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            heap: RefCell::new(BinaryHeap::with_capacity(HEAP_ENTRIES)),
            dead: Cell::new(0),
            waker: RefCell::default(),
            wakes: Cell::new(OFF),
            recent: Cell::new(0),
        }
    }

    /// Milliseconds since the worker started.
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Looks at the clock, for [`Timers::recent`] too.
    pub(crate) fn look(&self) -> Moment {
        let now = Moment(self.start.elapsed().as_nanos() as u64);
        self.recent.set(now.ms());
        now
    }

    /// The time of the last [`Timers::look`]: for whoever has looked, or called somebody who has,
    /// and has not waited since. Looking at the clock takes as long as writing a field line.
    pub(crate) fn recent(&self) -> u64 {
        self.recent.get()
    }

    pub(crate) fn timer(&self, fd: RawFd) -> Rc<Timer> {
        Rc::new(Timer {
            deadline: Cell::new(OFF),
            armed: Cell::new(0),
            filed: Cell::new(OFF),
            entries: Cell::new(0),
            fd: Cell::new(fd),
            direction: Cell::new(Direction::Both),
            fired: Cell::new(false),
            stopped: Cell::new(false),
            deaf: Cell::new(false),
            waiter: Cell::new(None),
        })
    }

    /// A deadline for one of many on a socket: passing it, or stopping, wakes who waits.
    pub(crate) fn shared_timer(&self) -> Rc<Timer> {
        self.timer(SHARED)
    }

    /// Sets the timer's deadline; at that time the socket is shut down in `direction`.
    pub(crate) fn arm(&self, timer: &Rc<Timer>, now: u64, after: Duration, direction: Direction) {
        // Rounded up: a deadline never passes early.
        let at = now.saturating_add(after.as_millis() as u64).saturating_add(1);
        timer.deadline.set(at);
        timer.armed.set(now);
        timer.direction.set(direction);
        timer.fired.set(false);
        if at < timer.filed.get() {
            self.file(timer, at);
        }
    }

    fn file(&self, timer: &Rc<Timer>, at: u64) {
        self.push(timer.clone(), at);
        if at < self.wakes.get()
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn push(&self, timer: Rc<Timer>, at: u64) {
        timer.filed.set(at);
        timer.entries.set(timer.entries.get() + 1);
        self.heap.borrow_mut().push(Reverse(Entry { at, timer }));
    }

    /// A socket's timer is no longer needed. Once most of the heap is such timers, it is rebuilt
    /// without them: a storm of short connections leaves nothing behind.
    pub(crate) fn release(&self, timer: &Timer) {
        timer.forget();
        if timer.entries.get() == 0 {
            return;
        }
        self.dead.set(self.dead.get() + timer.entries.get());
        let mut heap = self.heap.borrow_mut();
        if self.dead.get() > 64 && self.dead.get() * 2 > heap.len() {
            heap.retain(|Reverse(entry)| entry.timer.fd.get() != FORGOTTEN);
            self.dead.set(0);
        }
    }

    /// Fires what is due and gives the time of the next entry.
    fn turn(&self, now: u64) -> u64 {
        loop {
            let entry = {
                let mut heap = self.heap.borrow_mut();
                match heap.peek() {
                    None => return OFF,
                    Some(Reverse(entry)) if entry.at > now => return entry.at,
                    Some(_) => heap.pop(),
                }
            };
            let Some(Reverse(Entry { at, timer })) = entry else { return OFF };
            timer.entries.set(timer.entries.get() - 1);
            if timer.fd.get() == FORGOTTEN {
                self.dead.set(self.dead.get().saturating_sub(1));
                continue;
            }
            if timer.filed.get() != at {
                continue; // An earlier entry of the same timer has been filed since.
            }
            timer.filed.set(OFF);
            let deadline = timer.deadline.get();
            if deadline <= now {
                timer.deadline.set(OFF);
                timer.fired.set(true);
                timer.stop(timer.direction.get());
            } else if deadline != OFF {
                self.push(timer, deadline);
            }
        }
    }

    /// The task that fires deadlines; one per worker, never ends.
    pub(crate) async fn drive(&self) {
        let mut sleep = pin!(monoio::time::sleep(Duration::ZERO));
        loop {
            let next = self.turn(self.now());
            self.wakes.set(next);
            if next != OFF {
                let at = self.start + Duration::from_millis(next);
                sleep.as_mut().reset(monoio::time::Instant::from_std(at));
            }
            let mut first = true;
            poll_fn(|cx| {
                if next != OFF && sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                // Woken by `file`: an earlier deadline came in.
                if !first && self.waker.borrow().is_none() {
                    return Poll::Ready(());
                }
                first = false;
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}

#[cfg(test)]
mod tests;
