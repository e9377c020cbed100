// SPDX-License-Identifier: Apache-2.0
//! Copies of requests for a route's shadow: sent on a task of their own, answered to nobody.
//!
//! The original offers what it sends anyway and goes on; it never waits, and knows nothing of what
//! becomes of the copy. A shadow that does not keep up loses its copy: the connection is closed and
//! the loss is counted. What copies hold is bounded, each and all of a worker together.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ringway_core::ir::UpstreamProtocol;
use ringway_core::limits::{
    BUFFER_BYTES, INTERIM_RESPONSES_MAX, SHADOW_ANSWER_BYTES_MAX, SHADOW_BYTES_MAX,
    SHADOWS_BYTES_MAX, SHADOWS_MAX, STREAM_IDLE_TIMEOUT,
};
use ringway_core::link::Pressure;
use ringway_core::observe::metric::{ClusterCell, WorkerCell};
use ringway_core::policy::rewrite;
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::table::{Action, Forward, Route, Shadow};
use ringway_core::wire::h1::body::{Decoder, Step};
use ringway_core::wire::h1::encode;
use ringway_core::wire::h1::framing::{self, ResponseMeta};
use ringway_core::wire::h1::parse::{self, Limits, Parsed};
use ringway_core::wire::{Framing, Head, HeadView};

use super::exchange::Request;
use super::flow::append;
use super::forward;
use super::record::{Record, cluster_class};
use crate::net::h2::H2Stream;
use crate::net::socket::Direction;
use crate::net::stream::{Reader, Stream, Writer};
use crate::net::timer::Timer;
use crate::rt;
use crate::upstream::{self, Wanted};
use crate::worker::state::{Preference, Upstream};
use crate::worker::{Local, Worker};

/// What all copies of one worker hold together.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    active: Cell<usize>,
    bytes: Cell<usize>,
}

/// The original's end of a copy. Dropped before it is complete, it gives the copy up.
#[derive(Debug)]
pub(super) struct Tee {
    queue: Rc<Queue>,
    framing: Framing,
}

impl Tee {
    /// Offers bytes of the body.
    pub(super) fn offer(&self, data: &[u8]) {
        self.queue.push(data.len(), |waiting| append(waiting, self.framing, data));
    }

    /// All of the body was offered; it ends with these trailers.
    pub(super) fn complete(&self, trailers: &[u8]) {
        if self.framing == Framing::Chunked {
            self.queue.push(trailers.len(), |waiting| encode::last_chunk(waiting, trailers));
        }
        self.queue.trailers.borrow_mut().extend_from_slice(trailers);
        self.queue.close();
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.queue.give_up();
    }
}

/// Begins the copy of a request about to be forwarded, if its route has a shadow and the dice say
/// so.
pub(super) fn tee(
    request: &Request<'_>,
    route: &Local<Route>,
    action: &Forward,
    record: &Record,
) -> Option<Tee> {
    let shadow = action.shadow.as_ref()?;
    let worker = request.cx.worker;
    // A tunnel has one upstream.
    if request.asked.is_some() {
        return None;
    }
    // A draw of its own: the request's decided which member took it.
    if shadow.percent < 100 && worker.random() % 100 >= u64::from(shadow.percent) {
        return None;
    }
    let copies = &worker.copies;
    // Copies are the first thing that a crowded worker does without.
    if copies.active.get() >= SHADOWS_MAX || worker.pressure.get() != Pressure::None {
        worker.slab.cluster_add(shadow.cluster.slot, ClusterCell::ShadowDropped, 1);
        return None;
    }
    copies.active.set(copies.active.get() + 1);
    let queue = Rc::new(Queue {
        worker: worker.clone(),
        route: route.clone(),
        waiting: RefCell::new(worker.buffers.take()),
        head: Cell::new(0),
        framing: request.meta.framing,
        trailers: RefCell::default(),
        held: Cell::new(0),
        state: Cell::new(State::Open),
        sender: Cell::new(None),
        socket: RefCell::new(None),
    });
    let mut host = Vec::new();
    rewrite::shadow_host(forward::host(request, action), &mut host);
    let mut head = worker.buffers.take();
    forward::write_head(request, route, action, &host, record, &mut head);
    queue.head.set(head.len());
    queue.push(head.len(), |waiting| waiting.extend_from_slice(&head));
    worker.buffers.put(head);
    let panicked = worker.clone();
    let (sender, is_head) = (queue.clone(), request.is_head());
    rt::spawn(async move { send(&sender, is_head).await }, move || {
        panicked.slab.worker_add(WorkerCell::Panics, 1)
    });
    let framing = match shadow.cluster.spec.protocol {
        UpstreamProtocol::Http1 => request.meta.framing,
        UpstreamProtocol::Http2 | UpstreamProtocol::Negotiated => Framing::UntilClose,
    };
    Some(Tee { queue, framing })
}

/// How far a copy's bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// All of the request was offered.
    Complete,
    /// Given up: the request never became whole, or the shadow was too slow.
    Lost,
    /// The shadow wants no more: it answered, or failed.
    Over,
}

/// What one copy's bytes wait in between the original's task and the copy's.
struct Queue {
    worker: Rc<Worker>,
    route: Local<Route>,
    waiting: RefCell<Vec<u8>>,
    /// Bytes of the request's head, which come first.
    head: Cell<usize>,
    /// The original's.
    framing: Framing,
    /// Field lines, once the request is complete.
    trailers: RefCell<Vec<u8>>,
    /// Bytes waiting or being sent.
    held: Cell<usize>,
    state: Cell<State>,
    /// The copy's task, waiting for bytes.
    sender: Cell<Option<Waker>>,
    /// The copy's connection while it has one.
    socket: RefCell<Option<Rc<Timer>>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("held", &self.held).field("state", &self.state).finish()
    }
}

impl Queue {
    fn shadow(&self) -> (&Shadow, Timeouts) {
        match &self.route.action {
            Action::Forward(forward @ Forward { shadow: Some(shadow), .. }) => {
                (shadow, forward.timeouts)
            }
            _ => unreachable!("only a request of a route with a shadow is copied"),
        }
    }

    /// Lets `write` append to what waits, if there is room for `bytes` and their framing.
    fn push(&self, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if self.state.get() != State::Open {
            return;
        }
        let all = &self.worker.copies.bytes;
        if self.held.get() + bytes > SHADOW_BYTES_MAX || all.get() + bytes > SHADOWS_BYTES_MAX {
            return self.give_up();
        }
        let mut waiting = self.waiting.borrow_mut();
        let before = waiting.len();
        write(&mut waiting);
        let written = waiting.len() - before;
        self.held.set(self.held.get() + written);
        all.set(all.get() + written);
        drop(waiting);
        self.wake();
    }

    /// Bytes that were waiting no longer are.
    fn release(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        let all = &self.worker.copies.bytes;
        all.set(all.get() - bytes);
    }

    fn close(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Complete);
            self.wake();
        }
    }

    fn give_up(&self) {
        if self.state.get() != State::Open {
            return;
        }
        self.state.set(State::Lost);
        let (shadow, _) = self.shadow();
        self.worker.slab.cluster_add(shadow.cluster.slot, ClusterCell::ShadowDropped, 1);
        if let Some(timer) = &*self.socket.borrow() {
            timer.stop(Direction::Both);
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }

    /// Waits for bytes to send and puts them into `chunk`, which is empty; false: there will be
    /// none.
    async fn next(&self, chunk: &mut Vec<u8>) -> bool {
        poll_fn(|cx: &mut Context<'_>| {
            let mut waiting = self.waiting.borrow_mut();
            match self.state.get() {
                State::Lost | State::Over => return Poll::Ready(false),
                _ if !waiting.is_empty() => std::mem::swap(&mut *waiting, chunk),
                State::Complete => return Poll::Ready(false),
                State::Open => {
                    self.sender.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
            }
            Poll::Ready(true)
        })
        .await
    }
}

/// Gives back what a copy holds, whichever way its task ends.
struct Active<'q>(&'q Queue);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let Self(queue) = self;
        queue.state.set(State::Over);
        queue.release(queue.held.get());
        let copies = &queue.worker.copies;
        copies.active.set(copies.active.get() - 1);
        queue.worker.buffers.put(queue.waiting.take());
        let (shadow, _) = queue.shadow();
        queue.worker.slab.cluster_sub(shadow.cluster.slot, ClusterCell::RequestsActive, 1);
    }
}

/// A copy's whole life.
async fn send(queue: &Rc<Queue>, is_head: bool) {
    let worker = &queue.worker;
    let (shadow, timeouts) = queue.shadow();
    let (slab, slot) = (&worker.slab, shadow.cluster.slot);
    slab.cluster_add(slot, ClusterCell::RequestsTotal, 1);
    slab.cluster_add(slot, ClusterCell::RequestsActive, 1);
    let _active = Active(queue);
    let state = worker.cluster(slot);
    let mut preference = Preference::default();
    let Ok(mut upstream) =
        upstream::acquire(worker, &shadow.cluster, &state, &mut preference, Wanted::Open, None)
            .await
    else {
        return;
    };
    let chunks = shadow.cluster.spec.protocol == UpstreamProtocol::Negotiated
        && queue.framing == Framing::Chunked
        && !upstream.is_h2();
    let Upstream { stream: Stream { reader, writer, timer, .. }, .. } = &mut upstream;
    if queue.state.get() == State::Lost {
        return;
    }
    *queue.socket.borrow_mut() = Some(timer.clone());
    let (sent, whole) = (Cell::new(0), Cell::new(false));
    let exchange = Exchange { queue, timeouts, timer, chunks, sent, whole };
    let began = worker.timers.look();
    let upload = exchange.upload(writer);
    let download = async {
        let answer = exchange.download(reader, is_head).await;
        if !exchange.whole.get() {
            // Nobody reads the rest of a request that is answered, or whose reader is gone.
            if queue.state.get() != State::Lost {
                queue.state.set(State::Over);
            }
            queue.wake();
            timer.stop(Direction::Both);
        }
        answer
    };
    let ((), answer) = rt::join(upload, download).await;
    let (sent, whole) = (exchange.sent.get(), exchange.whole.get());
    *queue.socket.borrow_mut() = None;
    match answer {
        Ok(answer) => {
            slab.cluster_add(slot, ClusterCell::RequestsCompleted, 1);
            slab.cluster_add(slot, cluster_class(answer.status), 1);
            slab.cluster_statuses(slot).count(answer.status);
            slab.cluster_add(slot, ClusterCell::BytesSent, sent);
            slab.cluster_add(slot, ClusterCell::BytesReceived, answer.bytes);
            slab.cluster_time(slot).record(worker.timers.look().us_since(began));
            if whole && answer.reusable {
                upstream.rest(worker.timers.now());
            }
        }
        Err(_) if queue.state.get() == State::Lost => {
            slab.cluster_add(slot, ClusterCell::ResetByUs, 1);
        }
        Err(Failure::TimedOut) => slab.cluster_add(slot, ClusterCell::RequestTimeouts, 1),
        Err(Failure::Reset) => slab.cluster_add(slot, ClusterCell::ResetByUpstream, 1),
        Err(Failure::TooLong) => slab.cluster_add(slot, ClusterCell::ResetByUs, 1),
    }
}

/// An answer that was thrown away.
#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u16,
    bytes: u64,
    reusable: bool,
}

/// Why there is no whole answer.
#[derive(Clone, Copy, Debug)]
enum Failure {
    TimedOut,
    /// The connection ended early, or what came is no answer.
    Reset,
    TooLong,
}

/// A copy on its connection.
struct Exchange<'e> {
    queue: &'e Queue,
    timeouts: Timeouts,
    timer: &'e Rc<Timer>,
    /// The shadow turned out to want its body in chunks.
    chunks: bool,
    /// Bytes sent.
    sent: Cell<u64>,
    /// The whole request was sent.
    whole: Cell<bool>,
}

impl Exchange<'_> {
    /// What is waited for comes within the route's time-out or, where it has none, something
    /// moves: no copy lasts for ever.
    fn arm(&self) {
        let Timeouts { request, idle } = self.timeouts;
        let patience = request.or(idle).unwrap_or(STREAM_IDLE_TIMEOUT);
        let timers = &self.queue.worker.timers;
        timers.arm(self.timer, timers.now(), patience, Direction::Both);
    }

    async fn upload(&self, upstream: &mut Writer) {
        let mut chunk = Vec::new();
        while self.queue.next(&mut chunk).await {
            self.arm();
            let (taken, head) = (chunk.len(), self.queue.head.take());
            if self.chunks && taken > head {
                let body = chunk.split_off(head);
                append(&mut chunk, Framing::Chunked, &body);
            }
            let sent;
            (sent, chunk) = upstream.send_message(chunk, head, None).await;
            self.queue.release(taken);
            if sent.is_err() {
                break;
            }
            self.sent.set(self.sent.get() + chunk.len() as u64);
            chunk.clear();
            // While the original's client is waited for, the shadow need not say anything.
            self.timer.disarm();
        }
        let queue = self.queue;
        queue.worker.buffers.put(chunk);
        if queue.state.get() == State::Complete && queue.held.get() == 0 {
            let (trailers, mut last) = (queue.trailers.take(), Vec::new());
            if self.chunks {
                encode::last_chunk(&mut last, &trailers);
            }
            let (ended, _) = upstream.send_message(last, 0, Some(&trailers)).await;
            self.whole.set(ended.is_ok());
            self.arm();
        }
    }

    async fn download(&self, upstream: &mut Reader, is_head: bool) -> Result<Answer, Failure> {
        let buffers = &self.queue.worker.buffers;
        if let Some(stream) = upstream.h2().cloned() {
            return self.receive_message(upstream, &stream).await;
        }
        // Nothing is held until the shadow says something.
        let _ = upstream.readable().await;
        let mut buffer = buffers.take();
        let answer = self.receive(upstream, is_head, &mut buffer).await;
        buffers.put(buffer);
        answer
    }

    async fn receive_message(
        &self,
        upstream: &mut Reader,
        stream: &H2Stream,
    ) -> Result<Answer, Failure> {
        let mut interim = 0;
        let buffers = &self.queue.worker.buffers;
        let status = loop {
            match stream.recv_answer().await {
                Ok(answer) => {
                    buffers.put(answer.block);
                    match answer.head.status {
                        200.. => break answer.head.status,
                        _ if interim < INTERIM_RESPONSES_MAX => interim += 1,
                        _ => return Err(Failure::Reset),
                    }
                }
                Err(_) if self.timer.take_fired() => return Err(Failure::TimedOut),
                Err(_) => return Err(Failure::Reset),
            }
        };
        let mut answer = Answer { status, bytes: 0, reusable: false };
        loop {
            let _ = upstream.readable().await;
            let mut buffer = buffers.take();
            let received = self.recv(upstream, &mut buffer).await;
            buffers.put(buffer);
            match received {
                Ok(0) => return Ok(answer),
                Ok(n) => answer.bytes += n as u64,
                Err(failure) => return Err(failure),
            }
            if answer.bytes > SHADOW_ANSWER_BYTES_MAX as u64 {
                return Err(Failure::TooLong);
            }
        }
    }

    async fn receive(
        &self,
        upstream: &mut Reader,
        is_head: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<Answer, Failure> {
        let mut head = Head::default();
        let meta = self.receive_head(upstream, is_head, buffer, &mut head).await?;
        let mut answer = Answer { status: head.status, bytes: 0, reusable: false };
        let mut decoder = Decoder::new(meta.framing);
        let (mut at, mut read) = (head.len, buffer.len());
        loop {
            match decoder.step(&buffer[at..]).map_err(|_| Failure::Reset)? {
                Step::Data { skip, len } => {
                    at += skip + len;
                    answer.bytes += len as u64;
                }
                Step::End { skip } => {
                    answer.reusable = meta.keep_alive && at + skip == buffer.len();
                    return Ok(answer);
                }
                Step::More { .. } => {
                    buffer.clear();
                    at = 0;
                    if read > SHADOW_ANSWER_BYTES_MAX {
                        return Err(Failure::TooLong);
                    }
                    match self.recv(upstream, buffer).await {
                        Ok(n) => read += n,
                        Err(Failure::Reset) if decoder.finish().is_ok() => return Ok(answer),
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
    }

    /// Receives until a final head is at the start of `buffer`.
    async fn receive_head(
        &self,
        upstream: &mut Reader,
        is_head: bool,
        buffer: &mut Vec<u8>,
        head: &mut Head,
    ) -> Result<ResponseMeta, Failure> {
        let limits = Limits::default();
        let (mut scanned, mut interim) = (0, 0);
        loop {
            match parse::response(buffer, head, &limits, &mut scanned) {
                Ok(Parsed::Complete) if (100..200).contains(&head.status) => {
                    interim += 1;
                    if head.status == 101 || interim > INTERIM_RESPONSES_MAX {
                        return Err(Failure::Reset);
                    }
                    buffer.drain(..head.len);
                    scanned = 0;
                    continue;
                }
                Ok(Parsed::Complete) => {
                    let meta = framing::response_meta(HeadView::new(head, buffer), is_head);
                    return meta.map_err(|_| Failure::Reset);
                }
                Ok(Parsed::Partial) => {}
                Err(_) => return Err(Failure::Reset),
            }
            if buffer.len() == buffer.capacity() {
                buffer.reserve(BUFFER_BYTES);
            }
            self.recv(upstream, buffer).await?;
        }
    }

    async fn recv(&self, upstream: &mut Reader, buffer: &mut Vec<u8>) -> Result<usize, Failure> {
        if self.whole.get() && self.timeouts.request.is_none() {
            self.arm();
        }
        let received;
        (received, *buffer) = upstream.recv(std::mem::take(buffer)).await;
        match received {
            Ok(n) if n > 0 || upstream.is_message() => Ok(n),
            _ if self.timer.take_fired() => Err(Failure::TimedOut),
            _ => Err(Failure::Reset),
        }
    }
}
