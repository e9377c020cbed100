// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 connections to upstreams: each carries many requests at a time, and has a task of its own
//! for as long as somebody may use it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use ringway_core::limits::{H2_KEEPALIVE_INTERVAL, H2_KEEPALIVE_TIMEOUT, UPSTREAM_STREAMS_MAX};
use ringway_core::observe::metric::WorkerCell;
use ringway_core::tls;
use ringway_core::wire::h1::parse::Limits;
use ringway_core::wire::h2::frame::Code;
use ringway_core::wire::h2::meter::Role;

use super::NoUpstream;
use crate::net::h2::{H2Connection, H2Stream};
use crate::net::socket::{self, Direction};
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::net::tls::Pace;
use crate::rt;
use crate::worker::Worker;
use crate::worker::state::{OpenUpstream, PoolLimits};

/// The HTTP/2 connections to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Multiplexed {
    open: RefCell<Vec<Rc<Shared>>>,
    /// One is being made: whoever needs one, too, waits for it.
    attempt: RefCell<Option<Rc<Attempt>>>,
    /// The endpoint chose HTTP/1.1 last: connections to it are each one request's.
    alone: Cell<bool>,
    /// How many streams the last one to answer takes: what a new one is believed to, before it says
    /// so itself.
    streams: Rc<Cell<Option<usize>>>,
}

/// One connection.
#[derive(Debug)]
struct Shared {
    connection: Rc<H2Connection>,
    /// Requests on it.
    streams: Cell<usize>,
    /// It has served a request before.
    used: Cell<bool>,
    tls: Option<Arc<tls::Client>>,
    /// The socket's.
    timer: Rc<Timer>,
    born: u64,
    /// When it was last used, in the worker's milliseconds.
    since: Cell<u64>,
    /// See [`Multiplexed::streams`].
    allowed: Rc<Cell<Option<usize>>>,
}

/// A request's place on a connection.
#[derive(Debug)]
pub(crate) struct Lease(Rc<Shared>);

/// A connection being made.
#[derive(Debug, Default)]
struct Attempt {
    ended: Cell<Option<Result<(), NoUpstream>>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Attempt {
    fn end(&self, how: Result<(), NoUpstream>) {
        self.ended.set(Some(how));
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    async fn ended(&self) -> Result<(), NoUpstream> {
        poll_fn(|cx| match self.ended.get() {
            Some(how) => Poll::Ready(how),
            None => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// The right, and the duty, to make a connection.
pub(crate) struct Connecting<'m> {
    pool: &'m Multiplexed,
    attempt: Rc<Attempt>,
}

impl Drop for Connecting<'_> {
    /// Given up: whoever waits makes one.
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl Connecting<'_> {
    /// Tells those that wait how it went.
    pub(crate) fn end(&self, how: Result<(), NoUpstream>) {
        if self.attempt.ended.get().is_none() {
            self.pool.attempt.take();
            self.attempt.end(how);
        }
    }
}

/// What a request gets that asks for a connection.
pub(crate) enum Found<'m> {
    Place(Lease),
    /// There is none with room: make one, for which others wait unless each has its own.
    None(Option<Connecting<'m>>),
}

impl Multiplexed {
    /// A place on a connection that is open and made this way; waits for one that is being made.
    /// `look`: one that nobody uses is looked at first, for it may just have ended.
    pub(crate) async fn find(
        &self,
        now: u64,
        limits: PoolLimits,
        tls: Option<&Arc<tls::Client>>,
        look: bool,
    ) -> Result<Found<'_>, NoUpstream> {
        loop {
            if let Some(place) = self.take(now, limits, tls, look) {
                return Ok(Found::Place(place));
            }
            if self.alone.get() {
                return Ok(Found::None(None));
            }
            let attempt = self.attempt.borrow().clone();
            match attempt {
                Some(attempt) => match attempt.ended().await {
                    // Whose client could not wait for it. Others can.
                    Ok(()) | Err(NoUpstream::GivenUp) => {}
                    Err(error) => return Err(error),
                },
                None => {
                    let attempt = Rc::<Attempt>::default();
                    *self.attempt.borrow_mut() = Some(attempt.clone());
                    return Ok(Found::None(Some(Connecting { pool: self, attempt })));
                }
            }
        }
    }

    fn take(
        &self,
        now: u64,
        limits: PoolLimits,
        tls: Option<&Arc<tls::Client>>,
        look: bool,
    ) -> Option<Lease> {
        let mut open = self.open.borrow_mut();
        // Those that say goodbye keep what they have, and get nothing more.
        open.retain(|shared| shared.connection.is_open());
        open.iter()
            .find(|shared| {
                shared.is_of(tls)
                    && now.saturating_sub(shared.born) < limits.lifetime_ms
                    && shared.has_room()
                    && !(look && shared.streams.get() == 0 && shared.has_ended())
            })
            .map(|shared| Lease::new(shared.clone(), now))
    }

    /// What the endpoint chose to speak.
    pub(crate) fn negotiated(&self, is_h2: bool) {
        self.alone.set(!is_h2);
    }

    /// Adds a connection and runs it.
    pub(crate) fn add(
        &self,
        worker: &Rc<Worker>,
        mut stream: Stream,
        tls: Option<Arc<tls::Client>>,
        open: OpenUpstream,
    ) -> Lease {
        let streams_max = self.streams.get().unwrap_or(UPSTREAM_STREAMS_MAX) as u32;
        let (local, limits) = (stream.local_addr(), Limits::default());
        let secure = tls.is_some();
        let connection =
            H2Connection::new(worker, Role::Client, streams_max, limits, local, secure);
        let now = worker.timers.now();
        let shared = Rc::new(Shared {
            connection: connection.clone(),
            streams: Cell::new(0),
            used: Cell::new(false),
            tls,
            timer: stream.timer.clone(),
            born: now,
            since: Cell::new(now),
            allowed: self.streams.clone(),
        });
        self.open.borrow_mut().push(shared.clone());
        let (carrier, panicked) = (worker.clone(), (worker.clone(), connection.clone()));
        rt::spawn(
            async move {
                let (timer, timers) = (stream.timer.clone(), carrier.timers.clone());
                let mut looked = timers.now();
                timers.arm(&timer, looked, H2_KEEPALIVE_INTERVAL, Direction::Wake);
                let turn = || {
                    if !timer.take_fired() {
                        return;
                    }
                    let mut patience = H2_KEEPALIVE_INTERVAL;
                    // Who owes nothing may be silent.
                    if connection.streams() > 0 && connection.heard() < looked {
                        if !connection.ask() {
                            return connection.abort(Code::NO_ERROR);
                        }
                        patience = H2_KEEPALIVE_TIMEOUT;
                    }
                    looked = timers.now();
                    timers.arm(&timer, looked, patience, Direction::Wake);
                };
                let pace = Pace { turns: &carrier.turns, waiting: &Cell::default() };
                connection.carry(&carrier, &mut stream, pace, turn).await;
                drop(open);
            },
            move || {
                let (worker, connection) = panicked;
                connection.abort(Code::INTERNAL_ERROR);
                worker.slab.worker_add(WorkerCell::Panics, 1);
            },
        );
        Lease::new(shared, now)
    }

    /// Lets go of connections that nobody has used for long, or that are too old. They end when
    /// their last request does.
    pub(crate) fn reap(&self, now: u64, limits: PoolLimits) {
        self.open.borrow_mut().retain(|shared| {
            let idle = shared.streams.get() == 0
                && now.saturating_sub(shared.since.get()) >= limits.idle_ms;
            shared.connection.is_open()
                && !idle
                && now.saturating_sub(shared.born) < limits.lifetime_ms
        });
    }

    /// The endpoint is gone.
    pub(crate) fn leave(&self) {
        self.open.borrow_mut().clear();
    }
}

impl Shared {
    fn is_of(&self, tls: Option<&Arc<tls::Client>>) -> bool {
        match (&self.tls, tls) {
            (Some(made), Some(wanted)) => Arc::ptr_eq(made, wanted),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether the peer has ended it, and its task has not heard yet.
    fn has_ended(&self) -> bool {
        socket::has_ended(self.timer.fd())
    }

    fn has_room(&self) -> bool {
        let allowed = self.connection.streams_max().min(UPSTREAM_STREAMS_MAX);
        self.streams.get() < allowed.max(1)
    }
}

impl Drop for Shared {
    /// Nobody will ask anything more on the connection.
    fn drop(&mut self) {
        self.connection.leave();
    }
}

impl Lease {
    fn new(shared: Rc<Shared>, now: u64) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        shared.since.set(now);
        Self(shared)
    }

    /// Whether the connection has served a request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.0.used.replace(true)
    }

    /// Whether the connection takes requests for other protocols, once that is known.
    pub(crate) async fn takes_tunnels(&self) -> bool {
        self.0.connection.takes_tunnels().await
    }

    /// A stream for the request.
    pub(crate) fn stream(&self, worker: &Worker) -> Stream {
        let timer = worker.timers.shared_timer();
        let stream = H2Stream::of_upstream(self.0.connection.clone(), timer);
        Stream::of_h2(stream, &worker.timers)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.allowed.set(Some(self.0.connection.streams_max()));
    }
}
