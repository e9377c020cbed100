// SPDX-License-Identifier: Apache-2.0
//! One stream of an HTTP/2 connection as if it were a connection of its own: a head, then whole
//! owned buffers, then an end with trailers, each way. Whatever passes heads to and fro writes them
//! as HTTP/1.1 does.
//!
//! Invariants: what was received is given back to the peer's window only when more is asked for,
//! which is when the other side has taken it. Nothing is sent that the peer's window does not
//! allow. Waiting can be given up at any time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ringway_core::limits::{BUFFER_BYTES, LARGE_BUFFER_BYTES, STREAMS_BUFFERED_MAX};
use ringway_core::wire::h2::connection::{Failure, Gone, Key};
use ringway_core::wire::h2::frame::Code;
use ringway_core::wire::h2::hpack::Fields;
use ringway_core::wire::h2::message::{self, Malformed, Tunnel};
use ringway_core::wire::{Head, HeadView};

use super::{H2Connection, OUT_BYTES_MAX, room_for};
use crate::net::timer::Timer;

/// Less than that takes a buffer of its own size.
const SMALL_BYTES: usize = 1024;

/// One stream, shared by its two halves and its connection.
#[derive(Debug)]
pub(crate) struct H2Stream {
    connection: Rc<H2Connection>,
    /// None before a request is sent, and after the stream was closed.
    key: Cell<Option<Key>>,
    /// Heads of answers that nobody has taken.
    answers: RefCell<VecDeque<Answer>>,
    inbound: RefCell<Inbound>,
    /// Bytes that were taken and count against the peer's window.
    held: Cell<usize>,
    /// It is among those that wait for room.
    queued: Cell<bool>,
    failure: Cell<Option<Failure>>,
    /// The request is a HEAD: no body comes, whatever its answer says.
    is_head: Cell<bool>,
    /// What the request asks for, where it asks for more than an answer.
    tunnel: RefCell<Option<Box<Tunnel>>>,
    timer: Rc<Timer>,
}

/// What was received of a message behind its head.
#[derive(Debug, Default)]
struct Inbound {
    bytes: Vec<u8>,
    taken: usize,
    ended: bool,
    /// As field lines.
    trailers: Vec<u8>,
}

/// An answer's head; it is interim by its status (RFC 9110 §15.2).
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) block: Vec<u8>,
    /// Nothing follows.
    pub(crate) complete: bool,
}

impl H2Stream {
    /// A client's request. `ended`: it has no body.
    pub(super) fn of_client(
        connection: Rc<H2Connection>,
        key: Key,
        timer: Rc<Timer>,
        ended: bool,
    ) -> Rc<Self> {
        Self::new(connection, Some(key), timer, ended)
    }

    /// A request to come, on a connection to an upstream.
    pub(crate) fn of_upstream(connection: Rc<H2Connection>, timer: Rc<Timer>) -> Rc<Self> {
        Self::new(connection, None, timer, false)
    }

    fn new(
        connection: Rc<H2Connection>,
        key: Option<Key>,
        timer: Rc<Timer>,
        ended: bool,
    ) -> Rc<Self> {
        Rc::new(Self {
            connection,
            key: Cell::new(key),
            answers: RefCell::default(),
            inbound: RefCell::new(Inbound { ended, ..Inbound::default() }),
            held: Cell::default(),
            queued: Cell::default(),
            failure: Cell::default(),
            is_head: Cell::default(),
            tunnel: RefCell::default(),
            timer,
        })
    }

    pub(crate) fn timer(&self) -> &Rc<Timer> {
        &self.timer
    }

    pub(in crate::net) fn local_addr(&self) -> Option<SocketAddr> {
        self.connection.local
    }

    /// Why the last operation failed, if the stream did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }

    /// Whether its connection has so many that each takes little while it waits.
    pub(in crate::net) fn is_one_of_many(&self) -> bool {
        self.connection.streams() > STREAMS_BUFFERED_MAX
    }

    /// Whether anything may follow the head of a client's request.
    pub(crate) fn has_more(&self) -> bool {
        let inbound = self.inbound.borrow();
        !inbound.ended || !inbound.bytes.is_empty() || !inbound.trailers.is_empty()
    }
}

/// What the connection says.
impl H2Stream {
    pub(super) fn wake(&self) {
        self.timer.wake();
    }

    pub(super) fn push(&self, data: &[u8], ended: bool) {
        let mut inbound = self.inbound.borrow_mut();
        if inbound.bytes.capacity() == 0 && data.len() > SMALL_BYTES {
            inbound.bytes = self.connection.buffers.take();
        }
        inbound.bytes.extend_from_slice(data);
        inbound.ended = ended;
        self.wake();
    }

    /// The message ends with these trailers, of which those are kept that may pass.
    pub(super) fn trailers(&self, fields: &Fields) -> Result<(), Malformed> {
        let mut inbound = self.inbound.borrow_mut();
        if fields.is_too_large() {
            return Err(Malformed::TrailersTooLarge);
        }
        message::trailers(&mut inbound.trailers, fields.iter())?;
        inbound.ended = true;
        self.wake();
        Ok(())
    }

    /// Keeps an answer's head; gives the length of the body that follows, where it says one.
    pub(super) fn answer(&self, fields: &Fields, complete: bool) -> Result<Option<u64>, Malformed> {
        let status = message::status(fields).ok_or(Malformed::Status)?;
        if fields.is_too_large() {
            return Err(Malformed::HeadTooLarge);
        }
        let (mut block, mut head) = room_for(fields);
        let (rest, limits) = (fields.iter().skip(1), &self.connection.limits);
        let tunnel = self.tunnel.borrow();
        let tunnel = tunnel.as_ref().filter(|_| status / 100 == 2);
        match tunnel {
            None => message::response(&mut block, &mut head, limits, status, rest)?,
            Some(tunnel) => {
                message::opened(&mut block, &mut head, limits, status, tunnel, rest)?;
            }
        }
        let length = match status {
            _ if complete || status < 200 || tunnel.is_some() => None,
            204 | 304 => Some(0),
            _ if self.is_head.get() => Some(0),
            _ => message::length(HeadView::new(&head, &block)),
        };
        self.inbound.borrow_mut().ended = complete;
        self.answers.borrow_mut().push_back(Answer { head, block, complete });
        self.wake();
        Ok(length)
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.failure.set(Some(failure));
        self.wake();
    }
}

/// Receiving.
impl H2Stream {
    /// Receives the head of an answer.
    pub(crate) async fn recv_answer(&self) -> io::Result<Answer> {
        poll_fn(|cx| {
            if let Some(answer) = self.answers.borrow_mut().pop_front() {
                return Poll::Ready(Ok(answer));
            }
            self.pending(cx)
        })
        .await
    }

    /// Receives into the buffer's spare capacity; 0 is the end of the message, behind which
    /// there may be trailers.
    pub(in crate::net) async fn recv(&self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let received = poll_fn(|cx| self.poll_recv(cx, &mut buffer)).await;
        (received, buffer)
    }

    /// The same for what is there; `None` where nothing is.
    pub(in crate::net) fn recv_at_hand(&self, buffer: &mut Vec<u8>) -> Option<io::Result<usize>> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop()), buffer) {
            Poll::Ready(received) => Some(received),
            Poll::Pending => None,
        }
    }

    /// Waits until there is something to receive, the end or an error included.
    pub(in crate::net) async fn readable(&self) {
        poll_fn(|cx| self.poll_data(cx).map(|_| ())).await;
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        match self.poll_data(cx) {
            Poll::Ready(Ok(true)) => {}
            Poll::Ready(Ok(false)) => return Poll::Ready(Ok(0)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        let mut inbound = self.inbound.borrow_mut();
        let Inbound { bytes, taken, .. } = &mut *inbound;
        let n = if buffer.is_empty()
            && *taken == 0
            && (BUFFER_BYTES..=2 * LARGE_BUFFER_BYTES).contains(&bytes.capacity())
        {
            // Whole buffers change hands.
            std::mem::swap(buffer, bytes);
            buffer.len()
        } else {
            let n = (bytes.len() - *taken).min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&bytes[*taken..][..n]);
            *taken += n;
            n
        };
        if *taken == bytes.len() {
            self.connection.buffers.put(std::mem::take(bytes));
            *taken = 0;
        }
        self.held.set(self.held.get() + n);
        Poll::Ready(Ok(n))
    }

    /// Whether there is data, once that is known.
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let (empty, ended) = {
            let inbound = self.inbound.borrow();
            (inbound.bytes.is_empty(), inbound.ended)
        };
        if !empty {
            return Poll::Ready(Ok(true));
        }
        if ended {
            return Poll::Ready(Ok(false));
        }
        let held = self.held.take();
        if held > 0
            && let Some(key) = self.key.get()
        {
            self.connection.sending(|codec| codec.release(key, held));
        }
        self.pending(cx)
    }

    fn pending<T>(&self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.failure.get().is_some() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.key.get().is_none() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if self.timer.is_deaf() {
            return Poll::Ready(Err(stopped()));
        }
        self.timer.wait(cx.waker());
        Poll::Pending
    }

    /// At the end of what is received: appends the trailers that may pass, as field lines.
    pub(in crate::net) fn take_trailers(&self, out: &mut Vec<u8>) {
        out.append(&mut self.inbound.borrow_mut().trailers);
    }
}

/// Sending.
impl H2Stream {
    /// Sends part of a message: its first `head` bytes are its head, the others its body; with
    /// `end`, it ends with these trailers.
    pub(in crate::net) async fn send(
        self: &Rc<Self>,
        buffer: Vec<u8>,
        head: usize,
        end: Option<&[u8]>,
    ) -> (io::Result<()>, Vec<u8>) {
        let sent = self.send_bytes(&buffer, head, end).await;
        (sent, buffer)
    }

    async fn send_bytes(
        self: &Rc<Self>,
        bytes: &[u8],
        head: usize,
        end: Option<&[u8]>,
    ) -> io::Result<()> {
        let trailers = end.filter(|lines| !lines.is_empty());
        let ends = end.is_some() && trailers.is_none();
        if head > 0 {
            poll_fn(|cx| self.poll_out(cx)).await?;
            self.send_head(&bytes[..head], ends && head == bytes.len())?;
        }
        let mut body = &bytes[head..];
        while !body.is_empty() {
            let room = self.room().await?;
            self.take_turn();
            let (now, later) = body.split_at(room.min(body.len()));
            body = later;
            let ends = ends && later.is_empty();
            self.with_key(|connection, key| {
                connection.sending(|codec| codec.send_data(key, now, ends))
            })?;
            self.connection.offer_room();
        }
        if let Some(lines) = trailers {
            self.with_key(|connection, key| {
                connection.sending(|codec| codec.send_trailers(key, lines))
            })?;
        } else if ends && bytes.is_empty() {
            self.with_key(|connection, key| {
                connection.sending(|codec| codec.send_data(key, b"", true))
            })?;
        }
        // It may have had room and no use for it.
        self.leave_queue();
        Ok(())
    }

    fn with_key(
        &self,
        send: impl FnOnce(&H2Connection, Key) -> Result<(), Gone>,
    ) -> io::Result<()> {
        let key = self.key.get().ok_or(io::ErrorKind::BrokenPipe)?;
        send(&self.connection, key).map_err(|Gone| io::ErrorKind::BrokenPipe.into())
    }

    fn send_head(self: &Rc<Self>, head: &[u8], ends: bool) -> io::Result<()> {
        if self.key.get().is_some() {
            return self.with_key(|connection, key| {
                connection.sending(|codec| codec.send_head(key, head, ends))
            });
        }
        self.is_head.set(head.starts_with(b"HEAD "));
        *self.tunnel.borrow_mut() = Tunnel::of(head).map(Box::new);
        let secure = self.connection.secure;
        let user = self.clone();
        match self.connection.sending(|codec| codec.request(user, head, secure, ends)) {
            Ok(key) => {
                self.key.set(Some(key));
                Ok(())
            }
            Err(Gone) => {
                // Another connection may take it.
                self.failure.set(Some(Failure::Unprocessed));
                Err(io::ErrorKind::NotConnected.into())
            }
        }
    }

    /// Sends a client an interim answer, written as HTTP/1.1.
    pub(in crate::net) fn send_interim(self: &Rc<Self>, head: &[u8]) -> io::Result<()> {
        self.send_head(head, false)
    }

    /// Waits until not too much waits to be sent.
    fn poll_out(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failure.get().is_some() || self.timer.is_stopped() {
            return Poll::Ready(Err(stopped()));
        }
        if self.connection.codec.borrow().out.len() < OUT_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        let mut with_heads = self.connection.with_heads.borrow_mut();
        if !with_heads.iter().any(|other| Rc::ptr_eq(other, self)) {
            with_heads.push(self.clone());
        }
        self.timer.wait(cx.waker());
        Poll::Pending
    }

    /// Waits until some bytes of a body may be sent, and says how many. It stays this one's turn
    /// until they are sent or it leaves the queue.
    pub(in crate::net) async fn room(self: &Rc<Self>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_room(cx)).await
    }

    fn poll_room(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(key) = self.key.get().filter(|_| !self.timer.is_stopped()) else {
            return Poll::Ready(Err(stopped()));
        };
        let mut codec = self.connection.codec.borrow_mut();
        let Ok(room) = codec.room(key) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let out = OUT_BYTES_MAX.saturating_sub(codec.out.len());
        let stream_has_room = codec.stream_has_room(key);
        drop(codec);
        if room > 0 && out > 0 && self.is_first() {
            return Poll::Ready(Ok(room.min(out)));
        }
        if stream_has_room {
            self.wait_for_room(cx);
        } else {
            // Nobody waits behind one that may not send.
            self.leave_queue();
            self.timer.wait(cx.waker());
        }
        Poll::Pending
    }

    /// Whether nobody else is to send first.
    fn is_first(self: &Rc<Self>) -> bool {
        self.connection.waiting.borrow().front().is_none_or(|first| Rc::ptr_eq(first, self))
    }

    /// The first one sends, and waits no more.
    fn take_turn(&self) {
        if self.queued.replace(false) {
            self.connection.waiting.borrow_mut().pop_front();
        }
    }

    fn wait_for_room(self: &Rc<Self>, cx: &mut Context<'_>) {
        if !self.queued.replace(true) {
            self.connection.waiting.borrow_mut().push_back(self.clone());
        }
        self.timer.wait(cx.waker());
    }

    pub(in crate::net) fn leave_queue(self: &Rc<Self>) {
        if self.queued.replace(false) {
            self.connection.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, self));
            self.connection.offer_room();
        }
    }

    /// Whether the peer gave the stream up.
    pub(crate) fn is_reset(&self) -> bool {
        self.failure.get().is_some()
    }

    /// The stream is used no more. Where a message is not complete, the peer hears this code.
    pub(crate) fn close(self: &Rc<Self>, code: Code) {
        self.leave_queue();
        let held = self.held.take() + {
            let mut inbound = self.inbound.borrow_mut();
            let left = inbound.bytes.len() - inbound.taken;
            self.connection.buffers.put(std::mem::take(&mut inbound.bytes));
            left
        };
        if let Some(key) = self.key.take() {
            self.connection.sending(|codec| {
                codec.release(key, held);
                codec.close(key, code);
            });
        }
    }
}

/// The deadline passed, or somebody stopped the stream.
fn stopped() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
