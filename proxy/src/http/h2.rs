// SPDX-License-Identifier: Apache-2.0
//! A client's HTTP/2 connection: one task that carries it, and one for each of its streams, which
//! is an exchange like any other.
//!
//! ```text
//!   bytes ◀──▶ pipe ◀──▶ h2 crate ──▶ stream ──▶ head ──▶ exchange
//! ```

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use ringway_core::limits::{
    CONNECTION_WINDOW_BYTES, HEAD_TIMEOUT, STREAM_UNSENT_BYTES_MAX, STREAM_WINDOW_BYTES,
    STREAMS_MAX,
};
use ringway_core::observe::metric::{ListenerCell, WorkerCell};
use ringway_core::wire::Head;
use ringway_core::wire::h2::message::{self, Pseudo};
use ringway_core::wire::h2::meter::Role;
use smallvec::SmallVec;

use super::exchange::{self, Connection, Scratch};
use super::reply::Reply;
use crate::connection::{Client, Origin};
use crate::net::h2::{H2Stream, field_bytes};
use crate::net::pipe::Pipe;
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::rt::{self, Part};
use crate::worker::{ListenerState, Worker};

/// What begins every HTTP/2 connection (RFC 9113 §3.4), as far as no HTTP/1 request begins so.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// For upstreams that speak HTTP/1.1: in HTTP/2 a WebSocket has no key (RFC 8441 §5), and the answer
/// to this one is looked at by nobody.
const WEBSOCKET_KEY: &[u8] = b"UmluZ3dheSBzcGVha3MgaA==";

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
        let pipe = Pipe::new(Role::Server, downstream.worker.timers.now());
        let streams = Box::pin(accept(&downstream, pipe.clone()));
        pipe.carry(&downstream.worker, &mut stream, streams).await;
        None
    })
}

/// Takes the client's streams until there will be no more.
async fn accept(downstream: &Rc<Downstream>, pipe: Pipe) {
    let view = downstream.worker.view(&downstream.listener);
    let head_bytes_max = view.settings.head_bytes_max;
    let listener = view.table.listener(downstream.listener.slot);
    let streams = listener.and_then(|listener| listener.http2_streams_max).unwrap_or(STREAMS_MAX);
    drop(view);
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(streams)
        // A tab that is closed gives up all that it has open; floods are counted elsewhere.
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(head_bytes_max as u32)
        .max_send_buffer_size(STREAM_UNSENT_BYTES_MAX)
        .enable_connect_protocol();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(pipe.clone()).await else { return };
    let (mut leaving, mut calmed, mut in_head) = (false, false, false);
    loop {
        let next = poll_fn(|cx| {
            if in_head != pipe.is_in_head() {
                in_head = !in_head;
                downstream.wait_for_head(in_head);
            }
            if !leaving && downstream.is_closing() {
                leaving = true;
                connection.graceful_shutdown();
            }
            if !leaving && downstream.timer.is_deaf() {
                leaving = true;
                connection.abrupt_shutdown(Reason::NO_ERROR);
            }
            if !calmed && pipe.flood().is_some() {
                (leaving, calmed) = (true, true);
                let slot = downstream.listener.slot;
                downstream.worker.slab.listener_add(slot, ListenerCell::Http2Floods, 1);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            connection.poll_accept(cx)
        });
        match next.await {
            Some(Ok((request, answer))) => begin(downstream, request, answer),
            Some(Err(_)) | None => return,
        }
    }
}

/// Gives a stream a task of its own.
fn begin(downstream: &Rc<Downstream>, request: Request<RecvStream>, answer: SendResponse<Bytes>) {
    downstream.streams.set(downstream.streams.get() + 1);
    downstream.idle.set(false);
    downstream.timer.disarm();
    let open = OpenStream(downstream.clone());
    let panicked = downstream.worker.clone();
    rt::spawn(
        async move {
            exchange(&open.0, request, answer).await;
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

async fn exchange(
    downstream: &Downstream,
    request: Request<RecvStream>,
    answer: SendResponse<Bytes>,
) {
    let Downstream { worker, listener, origin, .. } = downstream;
    let started = worker.timers.look();
    let cx = Connection { worker, listener, origin };
    let limits = cx.limits();
    let (parts, body) = request.into_parts();
    let uri = &parts.uri;
    let pseudo = Pseudo {
        method: parts.method.as_str().as_bytes(),
        // Without an authority the h2 crate keeps no scheme, though it has asked for one.
        scheme: (uri.scheme_str().or_else(|| uri.authority().is_none().then_some("http")))
            .map(str::as_bytes),
        authority: uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: uri.path_and_query().map(|path| path.as_str().as_bytes()),
        protocol: parts.extensions.get::<Protocol>().map(|protocol| protocol.as_str().as_bytes()),
    };
    let fields: SmallVec<[(&[u8], &[u8]); 32]> = field_bytes(&parts.headers).collect();
    let mut block = worker.buffers.take();
    let mut head = Head::default();
    let built = message::request(
        &mut block,
        &mut head,
        &limits,
        pseudo,
        WEBSOCKET_KEY,
        fields.iter().copied(),
    );
    drop(fields);
    drop(parts);

    let timer = worker.timers.shared_timer();
    let h2 = H2Stream::of_client(body, answer, timer.clone());
    let mut stream = Stream::of_h2(h2, timer, &worker.timers);
    if let Err(error) = built {
        worker.buffers.put(block);
        let reply = Reply::refusal(error.status(), error.details());
        return exchange::refuse(&cx, &mut stream, reply, started).await;
    }
    let mut scratch = Scratch::default();
    // Boxed: what serving a request takes is not part of a stream's task for ever.
    let outcome =
        Box::pin(exchange::exchange(&cx, &mut stream, &block, &mut head, &mut scratch, started));
    let outcome = outcome.await;
    worker.buffers.put(block);
    worker.buffers.put(std::mem::take(&mut scratch.received.block));
    if let Some(upgraded) = outcome.upgraded {
        upgraded.run(worker, listener, &mut stream).await;
    }
}
