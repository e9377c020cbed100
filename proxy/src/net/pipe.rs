// SPDX-License-Identifier: Apache-2.0
//! A connection for a protocol that polls for bytes (the `h2` crate) where the runtime completes
//! whole operations.
//!
//! ```text
//!   socket ──▶ receive ──▶ inbox ──▶ poll_read ─┐
//!                                               protocol
//!   socket ◀── send ◀── outbox ◀── poll_write ──┘
//! ```
//!
//! Protocol and pumps are one task. What the protocol writes while a send is in flight leaves with
//! the next one; a connection at rest holds no buffer. Bounds: one receive buffer, and
//! [`OUTBOX_BYTES_MAX`] beyond what is being sent.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use ringway_core::limits::{LARGE_BUFFER_BYTES, LINGER, LINGER_BYTES_MAX};
use ringway_core::wire::h2::meter::{Flood, FrameMeter, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Direction;
use super::stream::{Reader, Stream, Writer};
use crate::worker::Worker;

/// The protocol waits once this much of what it wrote waits to be sent.
const OUTBOX_BYTES_MAX: usize = LARGE_BUFFER_BYTES;

/// A peer that sends without a pause lets others have their turn after so many receives.
const RECEIVES_PER_TURN: usize = 16;

/// The protocol's end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Pipe(Rc<State>);

#[derive(Debug)]
struct State {
    meter: RefCell<FrameMeter>,
    flood: Cell<Option<Flood>>,
    inbox: RefCell<Inbox>,
    outbox: RefCell<Vec<u8>>,
    /// A send failed.
    broken: Cell<Option<io::ErrorKind>>,
    /// The protocol is done: what still comes is thrown away.
    over: Cell<bool>,
    /// Something moved since the task's last turn.
    moved: Cell<bool>,
}

#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
    end: Option<io::Result<()>>,
}

impl Pipe {
    /// Of a connection to come; `now` is the worker's milliseconds.
    pub(crate) fn new(role: Role, now: u64) -> Self {
        Self(Rc::new(State {
            meter: RefCell::new(FrameMeter::new(role, now)),
            flood: Cell::default(),
            inbox: RefCell::default(),
            outbox: RefCell::default(),
            broken: Cell::default(),
            over: Cell::default(),
            moved: Cell::default(),
        }))
    }

    /// What the peer sent too much of. Nothing that comes after it reaches the protocol.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.0.flood.get()
    }

    /// Whether the peer has begun a head and not ended it.
    pub(crate) fn is_in_head(&self) -> bool {
        self.0.meter.borrow().is_in_head()
    }

    /// Moves bytes between `stream` and the protocol until `protocol`, which owns a clone of this
    /// pipe, is over and all that it wrote is sent. Ends the connection.
    pub(crate) async fn carry<T>(
        &self,
        worker: &Worker,
        stream: &mut Stream,
        protocol: impl Future<Output = T>,
    ) -> T {
        let timer = stream.timer.clone();
        let Stream { reader, writer, .. } = stream;
        let mut protocol = pin!(protocol);
        let mut receive = pin!(self.receive(worker, reader));
        let mut send = pin!(self.send(worker, writer));
        let (mut output, mut received, mut sent) = (None, false, false);
        poll_fn(|cx| {
            loop {
                self.0.moved.set(false);
                if output.is_none()
                    && let Poll::Ready(value) = protocol.as_mut().poll(cx)
                {
                    output = Some(value);
                    self.0.over.set(true);
                }
                received = received || receive.as_mut().poll(cx).is_ready();
                if !sent && send.as_mut().poll(cx).is_ready() {
                    sent = true;
                    // A socket closed with unread bytes would be reset, and our last words lost.
                    timer.stop(Direction::Write);
                    worker.timers.arm(&timer, worker.timers.now(), LINGER, Direction::Read);
                }
                if received && sent {
                    return Poll::Ready(());
                }
                if output.is_none() {
                    timer.wait(cx.waker());
                }
                if !self.0.moved.get() {
                    return Poll::Pending;
                }
            }
        })
        .await;
        match output {
            Some(output) => output,
            None => protocol.await,
        }
    }

    async fn receive(&self, worker: &Worker, reader: &mut Reader) {
        let State { meter, flood, inbox, over, .. } = &*self.0;
        let (mut quick, mut thrown, mut turns) = (false, 0, 0);
        loop {
            turns += 1;
            if turns % RECEIVES_PER_TURN == 0 {
                worker.turns.next().await;
            }
            // Not more than one buffer ahead of the protocol.
            poll_fn(|_| match over.get() || inbox.borrow().is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
            if !quick || !reader.is_recallable() {
                let _ = reader.readable().await;
            }
            let (received, buffer) =
                reader.recv_recallable(worker.buffers.take(), &worker.recalls).await;
            let end = match received {
                None => {
                    worker.buffers.put(buffer);
                    quick = false;
                    continue;
                }
                Some(Ok(n)) if n > 0 && (over.get() || flood.get().is_some()) => {
                    worker.buffers.put(buffer);
                    thrown += n;
                    if thrown > LINGER_BYTES_MAX {
                        return;
                    }
                    continue;
                }
                Some(Ok(n)) if n > 0 => {
                    quick = true;
                    self.0.moved.set(true);
                    // A last buffer is heard to its end: the preface may be in it.
                    if let Err(kind) = meter.borrow_mut().received(&buffer, worker.timers.now()) {
                        flood.set(Some(kind));
                    }
                    let used = std::mem::replace(&mut inbox.borrow_mut().bytes, buffer);
                    worker.buffers.put(used);
                    continue;
                }
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(error),
            };
            worker.buffers.put(buffer);
            inbox.borrow_mut().end = Some(end);
            self.0.moved.set(true);
            return;
        }
    }

    async fn send(&self, worker: &Worker, writer: &mut Writer) {
        let State { meter, flood, outbox, over, broken, moved, .. } = &*self.0;
        loop {
            let waits = poll_fn(|_| match (outbox.borrow().is_empty(), over.get()) {
                (false, _) => Poll::Ready(true),
                (true, true) => Poll::Ready(false),
                (true, false) => Poll::Pending,
            });
            if !waits.await {
                return;
            }
            let out = std::mem::take(&mut *outbox.borrow_mut());
            moved.set(true);
            let said = meter.borrow_mut().sent(&out, worker.timers.now());
            if let Err(kind) = said {
                flood.set(Some(kind));
            }
            let (sent, out) = writer.send(out).await;
            worker.buffers.put(out);
            if let Err(error) = sent {
                broken.set(Some(error.kind()));
                moved.set(true);
                return;
            }
        }
    }
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inbox = self.0.inbox.borrow_mut();
        let Inbox { bytes, taken, end } = &mut *inbox;
        let waiting = &bytes[*taken..];
        if waiting.is_empty() {
            return match end {
                Some(Ok(())) => Poll::Ready(Ok(())),
                Some(Err(error)) => Poll::Ready(Err(error.kind().into())),
                None => Poll::Pending,
            };
        }
        let n = waiting.len().min(to.remaining());
        to.put_slice(&waiting[..n]);
        *taken += n;
        if *taken == bytes.len() {
            bytes.clear();
            *taken = 0;
            self.0.moved.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.put(&[bytes])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.put(bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.broken.get() {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The pumps send what is written, then say that it was the last.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Pipe {
    fn put(&self, pieces: &[impl std::ops::Deref<Target = [u8]>]) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.0.broken.get() {
            return Poll::Ready(Err(kind.into()));
        }
        let mut outbox = self.0.outbox.borrow_mut();
        if outbox.len() >= OUTBOX_BYTES_MAX {
            return Poll::Pending;
        }
        let before = outbox.len();
        for piece in pieces {
            outbox.extend_from_slice(piece);
        }
        self.0.moved.set(true);
        Poll::Ready(Ok(outbox.len() - before))
    }
}
