// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 connections: one task carries each, and its streams look like connections of their own
//! ([`H2Stream`]).
//!
//! ```text
//!   socket ──▶ receive ──▶ codec ──▶ inbound of a stream ──▶ its task
//!   socket ◀── send ◀── codec.out ◀── send of a stream ◀── its task
//! ```
//!
//! What streams send while a send is in flight leaves with the next one; a connection at rest holds
//! no buffer. Bounds: [`OUT_BYTES_MAX`] beyond what is being sent, and what the windows allow of
//! what was received.

mod stream;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ringway_core::limits::{
    HEAD_BYTES_MAX, LARGE_BUFFER_BYTES, LINGER, LINGER_BYTES_MAX, STREAMS_BEGUN_PER_TURN,
};
use ringway_core::wire::h1::parse::Limits;
use ringway_core::wire::h2::connection::{Config, Connection, Event, Key};
use ringway_core::wire::h2::frame::Code;
use ringway_core::wire::h2::hpack::Fields;
use ringway_core::wire::h2::message::{self, Malformed, Pseudo};
use ringway_core::wire::h2::meter::{Flood, Role};
use ringway_core::wire::{Head, HeadView};

pub(crate) use self::stream::H2Stream;
use super::buffer::Buffers;
use super::socket::Direction;
use super::stream::{Reader, Stream, Writer};
use super::timer::Timers;
use super::tls::Pace;
use crate::worker::Worker;

/// Streams wait once so much waits to be sent.
const OUT_BYTES_MAX: usize = LARGE_BUFFER_BYTES;

/// On epoll, a peer that sends without a pause lets others have their turn after so many receives. On
/// io_uring each receive is a turn.
const RECEIVES_PER_TURN: usize = 2;

/// A peer that sent more frames at once has its next ones read when it is its turn.
const FRAMES_PER_TURN: u64 = 128;

/// For upstreams that speak HTTP/1.1: in HTTP/2 a WebSocket has no key (RFC 8441 §5), and the answer
/// to this one is looked at by nobody.
const WEBSOCKET_KEY: &[u8] = b"UmluZ3dheSBzcGVha3MgaA==";

/// A connection, shared by its task and its streams.
pub(crate) struct H2Connection {
    codec: RefCell<Connection<Rc<H2Stream>>>,
    /// Of the heads that the peer may send.
    limits: Limits,
    buffers: Rc<Buffers>,
    timers: Rc<Timers>,
    /// Requests that came and nobody has taken yet.
    requests: RefCell<VecDeque<Incoming>>,
    /// Streams that wait for room in the peer's window: whose turn it is comes first.
    waiting: RefCell<VecDeque<Rc<H2Stream>>>,
    /// Streams that wait with a head, which needs no window: until less waits to be sent.
    with_heads: RefCell<Vec<Rc<H2Stream>>>,
    /// Who waits to hear what the peer takes.
    curious: RefCell<Vec<Waker>>,
    /// Who carries the connection, while it has nothing to do.
    carrier: Cell<Option<Waker>>,
    /// Something is to be sent, or the connection is over.
    moved: Cell<bool>,
    /// When something came last, in the worker's milliseconds.
    heard: Cell<u64>,
    local: Option<SocketAddr>,
    secure: bool,
}

impl fmt::Debug for H2Connection {
    /// Without its streams, which would say their connection.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Connection").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A client's request.
pub(crate) struct Incoming {
    pub(crate) stream: Rc<H2Stream>,
    pub(crate) head: Head,
    pub(crate) block: Vec<u8>,
    /// What is wrong with it, if anything is.
    pub(crate) refused: Option<Malformed>,
}

impl H2Connection {
    /// On a socket that has sent and received nothing of HTTP/2 yet. `streams_max`: see
    /// [`Config::streams_max`]. `limits`: of the heads that the peer may send. `secure`: requests
    /// that go out are for `https`.
    pub(crate) fn new(
        worker: &Worker,
        role: Role,
        streams_max: u32,
        limits: Limits,
        local: Option<SocketAddr>,
        secure: bool,
    ) -> Rc<Self> {
        let now = worker.timers.now();
        let config = Config { role, streams_max, head_bytes_max: limits.head_bytes_max };
        Rc::new(Self {
            codec: RefCell::new(Connection::new(config)),
            limits,
            buffers: worker.buffers.clone(),
            timers: worker.timers.clone(),
            requests: RefCell::default(),
            waiting: RefCell::default(),
            with_heads: RefCell::default(),
            curious: RefCell::default(),
            carrier: Cell::default(),
            moved: Cell::default(),
            heard: Cell::new(now),
            local,
            secure,
        })
    }

    /// The next request that came and was not given up since.
    pub(crate) fn take_request(&self) -> Option<Incoming> {
        let mut requests = self.requests.borrow_mut();
        loop {
            let request = requests.pop_front()?;
            if request.stream.failure().is_none() {
                return Some(request);
            }
            request.stream.close(Code::CANCEL);
        }
    }

    /// What the peer sent too much of: the connection is over.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.codec.borrow().flood()
    }

    /// Whether the peer has begun a head and not ended it.
    pub(crate) fn is_in_head(&self) -> bool {
        self.codec.borrow().is_in_head()
    }

    /// Whether another request may be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.codec.borrow().is_open()
    }

    /// How many requests the peer takes at a time.
    pub(crate) fn streams_max(&self) -> usize {
        self.codec.borrow().streams_max()
    }

    /// Whether the peer takes requests for other protocols, once it has said what it takes; true where
    /// the connection is over, as its streams will say.
    pub(crate) async fn takes_tunnels(&self) -> bool {
        poll_fn(|cx| {
            let codec = self.codec.borrow();
            match codec.takes_tunnels() {
                _ if codec.over().is_some() => Poll::Ready(true),
                Some(takes) => Poll::Ready(takes),
                None => {
                    self.curious.borrow_mut().push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes no more requests, and ends with the last one.
    pub(crate) fn leave(&self) {
        self.sending(Connection::leave);
    }

    /// Ends, with everything on it.
    pub(crate) fn abort(self: &Rc<Self>, code: Code) {
        self.codec.borrow_mut().abort(code);
        self.deliver(&[]);
        self.with_heads.take().iter().for_each(|stream| stream.wake());
        self.wake();
    }

    /// When the peer said something last, in the worker's milliseconds.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// Asks whether the peer is there; false: the last time it was asked, it did not answer.
    pub(crate) fn ask(&self) -> bool {
        self.sending(Connection::ask)
    }

    /// Streams in use.
    pub(crate) fn streams(&self) -> usize {
        self.codec.borrow().live()
    }

    /// The carrier has something to do.
    fn wake(&self) {
        self.moved.set(true);
        if let Some(carrier) = self.carrier.take() {
            carrier.wake();
        }
    }

    /// The codec, with a buffer for what it says.
    fn codec_with_room(&self) -> RefMut<'_, Connection<Rc<H2Stream>>> {
        let mut codec = self.codec.borrow_mut();
        if codec.out.capacity() == 0 {
            codec.out = self.buffers.take();
        }
        codec
    }

    /// Does something that sends.
    fn sending<R>(&self, send: impl FnOnce(&mut Connection<Rc<H2Stream>>) -> R) -> R {
        let result = send(&mut self.codec_with_room());
        self.wake();
        result
    }

    /// Tells those that wait with a head, and who is first among those that wait for room, that there
    /// is some.
    fn offer_room(&self) {
        if self.codec.borrow().out.len() < OUT_BYTES_MAX {
            self.with_heads.take().iter().for_each(|stream| stream.wake());
        }
        if let Some(first) = self.waiting.borrow().front()
            && self.codec.borrow().has_room()
        {
            first.wake();
        }
    }

    /// Moves bytes between `stream` and the connection's streams until it is over and all that it
    /// said is sent. Ends the socket's connection. `turn` is called whenever something may have
    /// happened.
    pub(crate) async fn carry(
        self: &Rc<Self>,
        worker: &Worker,
        stream: &mut Stream,
        pace: Pace<'_>,
        mut turn: impl FnMut(),
    ) {
        let timer = stream.timer.clone();
        let Stream { reader, writer, .. } = stream;
        let mut receive = pin!(self.receive(worker, reader, pace));
        let mut send = pin!(self.send(worker, writer));
        let (mut received, mut sent) = (false, false);
        poll_fn(|cx| {
            loop {
                self.moved.set(false);
                received = received || receive.as_mut().poll(cx).is_ready();
                turn();
                if !sent && send.as_mut().poll(cx).is_ready() {
                    sent = true;
                    // A socket closed with unread bytes would be reset, and our last words lost.
                    worker.timers.arm(&timer, worker.timers.now(), LINGER, Direction::Read);
                }
                if received && sent {
                    return Poll::Ready(());
                }
                if !self.moved.get() {
                    timer.wait(cx.waker());
                    self.carrier.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    async fn receive(self: &Rc<Self>, worker: &Worker, reader: &mut Reader, pace: Pace<'_>) {
        let (mut quick, mut thrown, mut turns) = (false, 0, 0);
        // Nothing is known yet of a new client.
        let mut heavy = true;
        loop {
            turns += 1;
            if worker.epoll && turns % RECEIVES_PER_TURN == 0 {
                worker.turns.next().await;
            }
            // Of whom many requests wait to begin is not heard meanwhile.
            while self.requests.borrow().len() >= STREAMS_BEGUN_PER_TURN {
                worker.turns.next().await;
            }
            // Who does not take our answers is not heard.
            poll_fn(|_| match self.codec.borrow().out.len() < OUT_BYTES_MAX {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            if !quick || !reader.is_recallable() {
                let _ = reader.readable().await;
            }
            let (received, buffer) =
                reader.recv_recallable(worker.buffers.take(), &worker.recalls).await;
            let Some(received) = received else {
                worker.buffers.put(buffer);
                quick = false;
                continue;
            };
            // What asks for much work has its time of a turn together with all others of the kind.
            let _turn = match (&received, heavy) {
                (Ok(1..), true) => Some(pace.turn().await),
                _ => None,
            };
            let over = self.codec.borrow().over().is_some();
            match received {
                Ok(n) if n > 0 && over => {
                    worker.buffers.put(buffer);
                    thrown += n;
                    if thrown > LINGER_BYTES_MAX {
                        return;
                    }
                }
                Ok(n) if n > 0 => {
                    quick = true;
                    self.heard.set(worker.timers.now());
                    let frames = self.codec.borrow().frames();
                    self.deliver(&buffer);
                    heavy = self.codec.borrow().frames() - frames > FRAMES_PER_TURN;
                    worker.buffers.put(buffer);
                    self.offer_room();
                }
                Ok(_) | Err(_) => {
                    worker.buffers.put(buffer);
                    self.abort(Code::NO_ERROR);
                    return;
                }
            }
        }
    }

    async fn send(self: &Rc<Self>, worker: &Worker, writer: &mut Writer) {
        loop {
            let wait = poll_fn(|_| {
                let mut codec = self.codec.borrow_mut();
                if codec.out.is_empty() && codec.is_done() {
                    codec.abort(Code::NO_ERROR);
                }
                match (codec.out.is_empty(), codec.over()) {
                    (false, _) => Poll::Ready(Some(std::mem::take(&mut codec.out))),
                    (true, Some(_)) => Poll::Ready(None),
                    (true, None) => Poll::Pending,
                }
            });
            let Some(out) = wait.await else { break };
            self.moved.set(true);
            if self.codec.borrow().over().is_some() {
                // It may have ended by what was to be sent: its streams are told.
                self.abort(Code::NO_ERROR);
            }
            // What comes meanwhile leaves with the next send.
            self.offer_room();
            let (sent, out) = writer.send(out).await;
            worker.buffers.put(out);
            if sent.is_err() {
                self.abort(Code::NO_ERROR);
                return;
            }
        }
        let _ = writer.finish().await;
    }

    /// Gives streams what came for them.
    fn deliver(self: &Rc<Self>, mut bytes: &[u8]) {
        let mut codec = self.codec_with_room();
        codec.tick(self.heard.get());
        while let Some(event) = codec.next(&mut bytes) {
            // What the codec is to hear of an event, once the event is over.
            let (key, told) = match event {
                Event::Data { user, data, ended } => {
                    user.push(data, ended);
                    continue;
                }
                Event::Room { user } => {
                    user.wake();
                    continue;
                }
                Event::Failed { user, failure } => {
                    user.fail(failure);
                    continue;
                }
                Event::Request { key, fields, ended } => {
                    (key, self.request(key, fields, ended).map(Told::Request))
                }
                Event::Answer { key, user, fields, ended } => {
                    (key, user.answer(fields, ended).map(Told::Length))
                }
                Event::Trailers { key, user, fields } => {
                    (key, user.trailers(fields).map(|()| Told::Length(None)))
                }
            };
            match told {
                Ok(Told::Length(None)) => {}
                Ok(Told::Length(Some(length))) => codec.expect(key, length),
                Ok(Told::Request(incoming)) => {
                    let length = message::length(HeadView::new(&incoming.head, &incoming.block));
                    codec.attach(key, incoming.stream.clone(), length);
                    self.requests.borrow_mut().push_back(incoming);
                }
                Err(_) => codec.refuse(key, Code::PROTOCOL_ERROR),
            }
        }
        if codec.takes_tunnels().is_some() || codec.over().is_some() {
            self.curious.take().into_iter().for_each(Waker::wake);
        }
        codec.take_grown().for_each(|stream| stream.wake());
        if !codec.out.is_empty() || codec.over().is_some() {
            self.moved.set(true);
        } else {
            self.buffers.put(std::mem::take(&mut codec.out));
        }
    }

    fn request(
        self: &Rc<Self>,
        key: Key,
        fields: &Fields,
        ended: bool,
    ) -> Result<Incoming, Malformed> {
        let (mut block, mut head) = room_for(fields);
        let made = match fields.is_too_large() {
            true => Err(Malformed::HeadTooLarge),
            false => Pseudo::of(fields.iter()).and_then(|(pseudo, count)| {
                let fields = fields.iter().skip(count);
                message::request(&mut block, &mut head, &self.limits, pseudo, WEBSOCKET_KEY, fields)
            }),
        };
        let refused = made.err();
        if let Some(error) = refused.filter(|error| error.is_no_message()) {
            return Err(error);
        }
        let stream = H2Stream::of_client(self.clone(), key, self.timers.shared_timer(), ended);
        Ok(Incoming { stream, head, block, refused })
    }
}

/// For a head of these fields. It may wait with many others: it takes no more than it needs.
fn room_for(fields: &Fields) -> (Vec<u8>, Head) {
    let head = Head { fields: Vec::with_capacity(fields.len()), ..Head::EMPTY };
    (Vec::with_capacity(fields.bytes().min(HEAD_BYTES_MAX)), head)
}

/// What the codec is to hear of an event.
enum Told {
    /// How long a body is, where that is known.
    Length(Option<u64>),
    Request(Incoming),
}
