// SPDX-License-Identifier: Apache-2.0
//! Bytes both ways between a client and an upstream until both are done: TCP routes, and requests
//! that were upgraded to another protocol.
//!
//! Each direction has at most one buffer in flight, and none while it rests. The end of one
//! direction is carried over and leaves the other alone; a reset of one connection resets the
//! other, so that nobody takes a torso for the whole.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ringway_core::limits::{BUFFER_BYTES, LARGE_BUFFER_BYTES};

use crate::net::socket::Direction;
use crate::net::stream::{Reader, Stream, Writer};
use crate::net::timer::Timer;
use crate::rt;
use crate::worker::Worker;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    Upstream,
    Client,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Both sides said that they are done.
    Finished,
    /// The client reset its connection, or takes nothing any more.
    Client,
    /// The same of the upstream.
    Upstream,
    /// No byte went either way for as long as is allowed.
    Idle,
    /// Draining is over.
    Stopped,
}

/// What a tunnel carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Bytes of the client that the upstream's socket took.
    pub(crate) received: u64,
    /// Bytes of the upstream that the client's socket took.
    pub(crate) sent: u64,
    pub(crate) why: Why,
}

/// Carries bytes until both sides are done, one is gone, nothing moved for `idle`, or the client's
/// timer is stopped. What was received before and given back to the readers goes first.
///
/// `moved` hears of every piece as soon as the other side's socket has it. The connections are of
/// no further use afterwards.
pub(crate) async fn relay(
    worker: &Worker,
    client: &mut Stream,
    upstream: &mut Stream,
    idle: Option<Duration>,
    moved: impl Fn(Toward, usize),
) -> Ended {
    let tunnel = Tunnel {
        worker,
        client: &client.timer,
        upstream: &upstream.timer,
        idle,
        moved,
        why: Cell::new(None),
    };
    upstream.timer.disarm();
    tunnel.touch();
    let up = pin!(tunnel.pump(&mut client.reader, &mut upstream.writer, Toward::Upstream));
    let down = pin!(tunnel.pump(&mut upstream.reader, &mut client.writer, Toward::Client));
    let mut both = pin!(rt::join(up, down));
    // A side that has said its last word has no operation left that a stop could end.
    let (received, sent) = poll_fn(|cx| {
        if client.timer.is_stopped() {
            let idle = client.timer.take_fired();
            tunnel.end(if idle { Why::Idle } else { Why::Stopped });
        }
        client.timer.wait(cx.waker());
        both.as_mut().poll(cx)
    })
    .await;
    Ended { received, sent, why: tunnel.why.get().unwrap_or(Why::Finished) }
}

struct Tunnel<'t, F> {
    worker: &'t Worker,
    client: &'t Rc<Timer>,
    upstream: &'t Rc<Timer>,
    idle: Option<Duration>,
    moved: F,
    /// Set where the tunnel was cut short.
    why: Cell<Option<Why>>,
}

impl<F: Fn(Toward, usize)> Tunnel<'_, F> {
    /// One direction; gives the bytes that went through.
    async fn pump(&self, from: &mut Reader, to: &mut Writer, toward: Toward) -> u64 {
        let mut total = 0;
        loop {
            let _ = from.readable().await;
            // Boxed: a tunnel at rest is small, whatever it takes to pass bytes on.
            let (passed, goes_on) = Box::pin(self.pass(from, to, toward)).await;
            total += passed;
            if !goes_on {
                return total;
            }
        }
    }

    /// Passes on what comes until the wait for more is recalled: how much, and whether it was not
    /// the end. While bytes come, a receive that waits for the next ones is one operation less than
    /// waiting first and receiving then.
    async fn pass(&self, from: &mut Reader, to: &mut Writer, toward: Toward) -> (u64, bool) {
        let buffers = &self.worker.buffers;
        let (source, sink) = match toward {
            Toward::Upstream => (Why::Client, Why::Upstream),
            Toward::Client => (Why::Upstream, Why::Client),
        };
        let mut buffer = buffers.take();
        let mut total = 0;
        loop {
            let received;
            (received, buffer) = from.recv_recallable(buffer, &self.worker.recalls).await;
            let n = match received {
                Some(Ok(n)) if n > 0 && self.why.get().is_none() => n,
                None => {
                    buffers.put(buffer);
                    return (total, true);
                }
                Some(ended) if is_end(&ended) => {
                    buffers.put(buffer);
                    if self.why.get().is_none() && to.finish().await.is_err() {
                        self.end(sink);
                    }
                    return (total, false);
                }
                Some(_) => {
                    buffers.put(buffer);
                    self.end(source);
                    return (total, false);
                }
            };
            self.touch();
            let sent;
            (sent, buffer) = to.send(buffer).await;
            if sent.is_err() {
                buffers.put(buffer);
                self.end(sink);
                return (total, false);
            }
            total += n as u64;
            (self.moved)(toward, n);
            self.touch();
            // One that was filled is followed by a larger one, which waits for nobody.
            let large = n >= BUFFER_BYTES;
            if !large && from.is_recallable() && buffer.capacity() < LARGE_BUFFER_BYTES {
                buffer.clear();
                continue;
            }
            buffers.put(buffer);
            if !from.is_recallable() && !large {
                return (total, true);
            }
            let _ = from.readable().await;
            buffer = if large { buffers.take_large() } else { buffers.take() };
        }
    }

    /// Bytes moved: the time without any begins anew.
    fn touch(&self) {
        let timers = &self.worker.timers;
        match self.idle {
            Some(idle) => timers.arm(self.client, timers.now(), idle, Direction::Both),
            None => self.client.disarm(),
        }
    }

    /// Ends both directions, whatever they wait for. The first reason stays.
    fn end(&self, why: Why) {
        if self.why.get().is_some() {
            return;
        }
        self.why.set(Some(why));
        match why {
            Why::Client | Why::Upstream => {
                self.client.abort();
                self.upstream.abort();
            }
            Why::Idle | Why::Stopped | Why::Finished => {
                self.client.stop(Direction::Both);
                self.upstream.stop(Direction::Both);
            }
        }
    }
}

/// Many peers end a tunnel over TLS without `close_notify`, in the middle of saying goodbye to each
/// other. To Envoy, too, that is an end like others: what is whole is the protocol's matter.
fn is_end(received: &io::Result<usize>) -> bool {
    match received {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

#[cfg(test)]
mod tests;
