// SPDX-License-Identifier: Apache-2.0
//! A client's HTTP/2 connection: one task that carries it, and one for each of its streams, which
//! is an exchange like any other.
//!
//! ```text
//!   bytes ◀──▶ H2Connection ──▶ Incoming ──▶ exchange ◀──▶ H2Stream
//! ```

use std::cell::Cell;
use std::rc::Rc;

use ringway_core::limits::{HEAD_TIMEOUT, STREAMS_BEGUN_PER_TURN, STREAMS_MAX};
use ringway_core::observe::metric::{ListenerCell, WorkerCell};
use ringway_core::wire::h2::frame::Code;
use ringway_core::wire::h2::meter::Role;

use super::exchange::{self, Connection};
use super::reply::Reply;
use crate::connection::{Client, Origin};
use crate::net::h2::{H2Connection, Incoming};
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::net::tls::Pace;
use crate::rt::{self, Part};
use crate::worker::{ListenerState, Worker};

/// What begins every HTTP/2 connection (RFC 9113 §3.4), as far as no HTTP/1 request begins so.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// A connection, as its streams see it.
struct Downstream {
    worker: Rc<Worker>,
    listener: Rc<ListenerState>,
    origin: Origin,
    /// Streams that are open.
    streams: Cell<usize>,
    /// There is none.
    idle: Rc<Cell<bool>>,
    timer: Rc<Timer>,
}

impl Downstream {
    /// Whether the client is to go elsewhere with its next request.
    fn is_closing(&self) -> bool {
        self.worker.draining.get() || self.listener.closed.get()
    }

    /// Without a stream, a connection has this long to open one.
    fn rest(&self) {
        self.idle.set(true);
        let timers = &self.worker.timers;
        let patience = self.worker.view(&self.listener).settings.idle_timeout;
        timers.arm(&self.timer, timers.now(), patience, Direction::Read);
    }

    /// A head that has begun ends within its time, whatever else goes on; `in_head`: one has, else
    /// it has ended.
    fn wait_for_head(&self, in_head: bool) {
        let timers = &self.worker.timers;
        match (in_head, self.streams.get()) {
            (true, _) => timers.arm(&self.timer, timers.now(), HEAD_TIMEOUT, Direction::Read),
            (false, 0) => self.rest(),
            (false, _) => self.timer.disarm(),
        }
    }
}

/// Serves a connection until it ends.
pub(crate) fn serve(client: Client) -> Part {
    Part::new(async move {
        let Client { mut stream, origin, idle, open } = client;
        let downstream = Rc::new(Downstream {
            worker: open.worker.clone(),
            listener: open.listener.clone(),
            origin,
            streams: Cell::new(0),
            idle,
            timer: stream.timer.clone(),
        });
        downstream.rest();
        let worker = &downstream.worker;
        let connection = connection(&downstream);
        let (mut leaving, mut calmed, mut in_head) = (false, false, false);
        let turn = || {
            if in_head != connection.is_in_head() {
                in_head = !in_head;
                downstream.wait_for_head(in_head);
            }
            if !leaving && downstream.is_closing() {
                leaving = true;
                connection.leave();
            }
            if !leaving && downstream.timer.is_deaf() {
                leaving = true;
                connection.abort(Code::NO_ERROR);
            }
            if !calmed && connection.flood().is_some() {
                calmed = true;
                worker.slab.listener_add(downstream.listener.slot, ListenerCell::Http2Floods, 1);
            }
            for _ in 0..STREAMS_BEGUN_PER_TURN {
                let Some(request) = connection.take_request() else { break };
                begin(&downstream, request);
            }
        };
        let waiting = &downstream.listener.handshakes_waiting;
        let pace = Pace { turns: &worker.turns, waiting };
        connection.carry(worker, &mut stream, pace, turn).await;
        None
    })
}

fn connection(downstream: &Downstream) -> Rc<H2Connection> {
    let Downstream { worker, listener, origin, .. } = downstream;
    let limits = Connection { worker, listener, origin }.limits();
    let view = worker.view(listener);
    let streams_max = view.table.listener(listener.slot).and_then(|l| l.http2_streams_max);
    let streams_max = streams_max.unwrap_or(STREAMS_MAX);
    H2Connection::new(worker, Role::Server, streams_max, limits, None, false)
}

/// Gives a stream a task of its own.
fn begin(downstream: &Rc<Downstream>, request: Incoming) {
    downstream.streams.set(downstream.streams.get() + 1);
    downstream.idle.set(false);
    downstream.timer.disarm();
    let open = OpenStream(downstream.clone());
    let panicked = downstream.worker.clone();
    rt::spawn(
        async move {
            exchange(&open.0, request).await;
            drop(open);
        },
        move || panicked.slab.worker_add(WorkerCell::Panics, 1),
    );
}

/// Counts a stream as open until it is dropped.
struct OpenStream(Rc<Downstream>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let streams = self.0.streams.get() - 1;
        self.0.streams.set(streams);
        if streams == 0 {
            self.0.rest();
        }
    }
}

async fn exchange(downstream: &Downstream, request: Incoming) {
    let Downstream { worker, listener, origin, .. } = downstream;
    let started = worker.timers.look();
    let cx = Connection { worker, listener, origin };
    let Incoming { stream, mut head, block, refused } = request;
    let mut stream = Stream::of_h2(stream, &worker.timers);
    if let Some(error) = refused {
        worker.buffers.put(block);
        let reply = Reply::refusal(error.status(), error.details());
        return Box::pin(exchange::refuse(&cx, &mut stream, reply, started)).await;
    }
    let mut scratch = worker.scratches.take();
    // Boxed: what serving a request takes is not part of a tunnel's task.
    let outcome =
        Box::pin(exchange::exchange(&cx, &mut stream, &block, &mut head, &mut scratch, started));
    let outcome = outcome.await;
    worker.buffers.put(std::mem::take(&mut scratch.received.block));
    worker.scratches.put(scratch);
    if let Some(upgraded) = outcome.upgraded {
        Box::pin(upgraded.run(worker, listener, &mut stream)).await;
    }
}
