// SPDX-License-Identifier: Apache-2.0
//! One stream of an HTTP/2 connection as if it were a connection of its own: a head, then whole
//! owned buffers, then an end with trailers, each way. Whatever passes heads to and fro writes them
//! as HTTP/1.1 does; here they become fields and back.
//!
//! Invariants: what was received is given back to the peer's window only when more is asked for,
//! which is when the other side has taken it. Nothing is sent that the peer's window does not
//! allow. Waiting can be given up at any time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream, client, server};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ringway_core::wire::h2::message;

use super::timer::Timer;

/// What ended a stream before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The peer says that it has done nothing with it (RFC 9113 §8.7).
    Unprocessed,
    /// The peer reset it.
    Reset(Reason),
    /// What the peer sent is no message.
    Malformed,
    /// Its connection ended.
    Connection,
}

/// One stream, shared by its two halves.
#[derive(Debug)]
pub(crate) struct H2Stream {
    outbound: RefCell<Outbound>,
    inbound: RefCell<Inbound>,
    /// Received, not taken by anybody yet.
    rest: RefCell<Bytes>,
    /// Bytes that count against the peer's window.
    held: Cell<usize>,
    failure: Cell<Option<Failure>>,
    timer: Rc<Timer>,
    /// Of its connection.
    local: Option<SocketAddr>,
}

/// What may be sent.
#[derive(Debug)]
enum Outbound {
    Answer(server::SendResponse<Bytes>),
    Request { connection: client::SendRequest<Bytes>, secure: bool },
    Body(SendStream<Bytes>),
}

/// What may be received.
#[derive(Debug)]
enum Inbound {
    /// Of a request that was not sent.
    Nothing,
    Answer(client::ResponseFuture),
    Body(RecvStream),
}

/// An answer's head.
pub(crate) enum Answer {
    /// RFC 9110 §15.2.
    Interim(Response<()>),
    /// `complete`: nothing follows.
    Final { head: Response<()>, complete: bool },
}

impl H2Stream {
    /// A client's request.
    pub(crate) fn of_client(
        body: RecvStream,
        answer: server::SendResponse<Bytes>,
        timer: Rc<Timer>,
    ) -> Rc<Self> {
        Self::new(Outbound::Answer(answer), Inbound::Body(body), timer, None)
    }

    /// A request to come, on a connection to an upstream.
    pub(crate) fn of_upstream(
        connection: client::SendRequest<Bytes>,
        secure: bool,
        timer: Rc<Timer>,
        local: Option<SocketAddr>,
    ) -> Rc<Self> {
        Self::new(Outbound::Request { connection, secure }, Inbound::Nothing, timer, local)
    }

    fn new(
        outbound: Outbound,
        inbound: Inbound,
        timer: Rc<Timer>,
        local: Option<SocketAddr>,
    ) -> Rc<Self> {
        Rc::new(Self {
            outbound: RefCell::new(outbound),
            inbound: RefCell::new(inbound),
            rest: RefCell::default(),
            held: Cell::new(0),
            failure: Cell::new(None),
            timer,
            local,
        })
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Why the last operation failed, if the stream did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }

    /// Whether anything may follow the head of a client's request.
    pub(crate) fn has_more(&self) -> bool {
        matches!(&*self.inbound.borrow(), Inbound::Body(body) if !body.is_end_stream())
    }

    /// Receives the head of an answer.
    pub(crate) async fn recv_answer(&self) -> io::Result<Answer> {
        poll_fn(|cx| {
            let mut inbound = self.inbound.borrow_mut();
            let Inbound::Answer(answer) = &mut *inbound else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            if let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx) {
                return Poll::Ready(Ok(Answer::Interim(head)));
            }
            match std::pin::Pin::new(answer).poll(cx) {
                Poll::Ready(Ok(response)) => {
                    let (parts, body) = response.into_parts();
                    let complete = body.is_end_stream();
                    *inbound = Inbound::Body(body);
                    let head = Response::from_parts(parts, ());
                    Poll::Ready(Ok(Answer::Final { head, complete }))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(self.failed(&error))),
                Poll::Pending if self.timer.is_deaf() => Poll::Ready(Err(stopped())),
                Poll::Pending => {
                    self.timer.wait(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Receives into the buffer's spare capacity; 0 is the end of the message, behind which
    /// there may be trailers.
    pub(super) async fn recv(&self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let received = poll_fn(|cx| self.poll_recv(cx, &mut buffer)).await;
        (received, buffer)
    }

    /// The same for what is there; `None` where nothing is.
    pub(super) fn recv_at_hand(&self, buffer: &mut Vec<u8>) -> Option<io::Result<usize>> {
        match self.poll_recv(&mut Context::from_waker(Waker::noop()), buffer) {
            Poll::Ready(received) => Some(received),
            Poll::Pending => None,
        }
    }

    /// Waits until there is something to receive, the end or an error included.
    pub(super) async fn readable(&self) {
        poll_fn(|cx| self.poll_data(cx).map(|_| ())).await;
    }

    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        match self.poll_data(cx) {
            Poll::Ready(Ok(true)) => {
                let mut rest = self.rest.borrow_mut();
                let n = rest.len().min(buffer.capacity() - buffer.len());
                buffer.extend_from_slice(&rest[..n]);
                rest.advance(n);
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Ok(false)) => Poll::Ready(Ok(0)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether there is data, once that is known.
    fn poll_data(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut rest = self.rest.borrow_mut();
        if !rest.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.timer.is_deaf() {
            return Poll::Ready(Err(stopped()));
        }
        let mut inbound = self.inbound.borrow_mut();
        let Inbound::Body(body) = &mut *inbound else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let held = self.held.take();
        if held > 0 {
            // Refused only for a stream that ended.
            let _ = body.flow_control().release_capacity(held);
        }
        loop {
            match body.poll_data(cx) {
                // A frame without a byte says nothing.
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    self.held.set(data.len());
                    *rest = data;
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.failed(&error))),
                Poll::Ready(None) => return Poll::Ready(Ok(false)),
                Poll::Pending => {
                    self.timer.wait(cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    /// At the end of what is received: appends the trailers that may pass, as field lines.
    ///
    /// # Errors
    /// The stream failed instead.
    pub(super) fn take_trailers(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut inbound = self.inbound.borrow_mut();
        let Inbound::Body(body) = &mut *inbound else { return Ok(()) };
        match body.poll_trailers(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(trailers))) => {
                let passed = message::trailers(out, field_bytes(&trailers));
                passed.map_err(|_| io::ErrorKind::InvalidData.into())
            }
            Poll::Ready(Ok(None)) | Poll::Pending => Ok(()),
            Poll::Ready(Err(error)) => Err(self.failed(&error)),
        }
    }

    /// Sends part of a message: its first `head` bytes are its head, the others its body; with
    /// `end`, it ends with these trailers.
    pub(super) async fn send(
        &self,
        buffer: Vec<u8>,
        head: usize,
        end: Option<&[u8]>,
    ) -> (io::Result<()>, Vec<u8>) {
        let sent = self.send_bytes(&buffer, head, end).await;
        (sent, buffer)
    }

    async fn send_bytes(&self, bytes: &[u8], head: usize, end: Option<&[u8]>) -> io::Result<()> {
        let trailers = end.filter(|lines| !lines.is_empty());
        let ends = end.is_some() && trailers.is_none();
        if head > 0 {
            self.send_head(&bytes[..head], ends && head == bytes.len())?;
        }
        let mut body = &bytes[head..];
        while !body.is_empty() {
            let n = poll_fn(|cx| self.poll_capacity(cx, body.len())).await?;
            let (now, later) = body.split_at(n.min(body.len()));
            body = later;
            self.with_body(|stream| {
                stream.send_data(Bytes::copy_from_slice(now), ends && later.is_empty())
            })?;
        }
        if let Some(lines) = trailers {
            self.with_body(|stream| stream.send_trailers(trailer_map(lines)))?;
        } else if ends && bytes.is_empty() {
            self.with_body(|stream| stream.send_data(Bytes::new(), true))?;
        }
        Ok(())
    }

    fn with_body(
        &self,
        send: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>,
    ) -> io::Result<()> {
        match &mut *self.outbound.borrow_mut() {
            Outbound::Body(stream) => send(stream).map_err(|error| self.failed(&error)),
            // The whole message went with its head.
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until at least one of `wanted` bytes may be sent.
    fn poll_capacity(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut outbound = self.outbound.borrow_mut();
        let Outbound::Body(stream) = &mut *outbound else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if self.timer.is_stopped() {
            return Poll::Ready(Err(stopped()));
        }
        stream.reserve_capacity(wanted);
        let capacity = stream.capacity();
        if capacity > 0 {
            return Poll::Ready(Ok(capacity));
        }
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(n))) if n > 0 => Poll::Ready(Ok(n)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(self.failed(&error))),
            Poll::Ready(None) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {
                if let Poll::Ready(reset) = stream.poll_reset(cx) {
                    return Poll::Ready(Err(match reset {
                        Ok(reason) => self.failed(&reason.into()),
                        Err(error) => self.failed(&error),
                    }));
                }
                self.timer.wait(cx.waker());
                Poll::Pending
            }
        }
    }

    fn send_head(&self, block: &[u8], ends: bool) -> io::Result<()> {
        let mut outbound = self.outbound.borrow_mut();
        let next = match &mut *outbound {
            Outbound::Answer(answer) => {
                let head = response(block)?;
                answer.send_response(head, ends).map(Outbound::Body)
            }
            Outbound::Request { connection, secure } => {
                let head = request(block, *secure)?;
                connection.send_request(head, ends).map(|(answer, body)| {
                    *self.inbound.borrow_mut() = Inbound::Answer(answer);
                    Outbound::Body(body)
                })
            }
            Outbound::Body(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        *outbound = next.map_err(|error| self.failed(&error))?;
        Ok(())
    }

    /// Sends a client an interim answer, written as HTTP/1.1.
    pub(super) fn send_interim(&self, block: &[u8]) -> io::Result<()> {
        match &mut *self.outbound.borrow_mut() {
            Outbound::Answer(answer) => {
                let head = response(block)?;
                answer.send_informational(head).map_err(|error| self.failed(&error))
            }
            _ => Ok(()),
        }
    }

    /// Whether the peer gave the stream up.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> bool {
        let reset = match &mut *self.outbound.borrow_mut() {
            Outbound::Answer(answer) => answer.poll_reset(cx),
            Outbound::Body(body) => body.poll_reset(cx),
            Outbound::Request { .. } => return false,
        };
        match reset {
            Poll::Pending => false,
            Poll::Ready(Ok(reason)) => {
                self.failed(&reason.into());
                true
            }
            Poll::Ready(Err(error)) => {
                self.failed(&error);
                true
            }
        }
    }

    /// Tells the peer that the message it has is not all of it.
    pub(crate) fn reset(&self, reason: Reason) {
        match &mut *self.outbound.borrow_mut() {
            Outbound::Answer(answer) => answer.send_reset(reason),
            Outbound::Body(body) => body.send_reset(reason),
            Outbound::Request { .. } => {}
        }
    }

    fn failed(&self, error: &h2::Error) -> io::Error {
        let failure = match error.reason() {
            Some(Reason::REFUSED_STREAM) if error.is_reset() && error.is_remote() => {
                Failure::Unprocessed
            }
            Some(Reason::NO_ERROR) if error.is_go_away() && error.is_remote() => {
                Failure::Unprocessed
            }
            Some(reason) if error.is_reset() && error.is_remote() => Failure::Reset(reason),
            Some(_) if error.is_library() => Failure::Malformed,
            _ => Failure::Connection,
        };
        self.failure.set(Some(failure));
        io::ErrorKind::ConnectionReset.into()
    }
}

/// The deadline passed, or somebody stopped the stream.
fn stopped() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// What can never be: our own heads are well-formed.
fn invalid<E>(_: E) -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

/// Names and values in order.
pub(crate) fn field_bytes(fields: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// What is sent of field lines.
fn header_map<'l>(block: &Bytes, lines: impl Iterator<Item = (&'l [u8], &'l [u8])>) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(16);
    for (name, value) in lines {
        if let Ok(name) = HeaderName::from_bytes(name)
            // All values of a message share one allocation.
            && let Ok(value) = HeaderValue::from_maybe_shared(block.slice_ref(value))
        {
            fields.append(name, value);
        }
    }
    fields
}

fn trailer_map(lines: &[u8]) -> HeaderMap {
    let block = Bytes::copy_from_slice(lines);
    header_map(&block, message::fields(&block))
}

fn response(block: &[u8]) -> io::Result<Response<()>> {
    let block = Bytes::copy_from_slice(block);
    let status = block.get(9..12).unwrap_or_default();
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_bytes(status).map_err(invalid)?;
    *head.headers_mut() = header_map(&block, message::lines(&block));
    if head.status() == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 8441 §5: what opens a tunnel here is a success, without a handshake of its own.
        *head.status_mut() = StatusCode::OK;
        head.headers_mut().remove("sec-websocket-accept");
    }
    Ok(head)
}

fn request(block: &[u8], secure: bool) -> io::Result<Request<()>> {
    let block = Bytes::copy_from_slice(block);
    let end = memchr::memchr(b'\n', &block).map_or(block.len(), |end| end + 1);
    let mut words = block[..end].split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let method = Method::from_bytes(method).map_err(invalid)?;
    // Host stands first in every head of ours.
    let host = message::fields(&block[end..]).next().map_or(&b""[..], |(_, host)| host);
    let uri = if method == Method::CONNECT {
        Uri::try_from(host).map_err(invalid)?
    } else {
        let scheme = if secure { "https" } else { "http" };
        let parts = Uri::builder().scheme(scheme).authority(host).path_and_query(target);
        parts.build().map_err(invalid)?
    };
    let mut head = Request::new(());
    *head.method_mut() = method;
    *head.uri_mut() = uri;
    *head.version_mut() = http::Version::HTTP_2;
    *head.headers_mut() = header_map(&block, message::lines(&block));
    Ok(head)
}
