// SPDX-License-Identifier: Apache-2.0
//! What the two directions of an exchange share: who may wait for what until when, and how a body
//! is framed on its way.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringway_core::limits::CLIENT_WATCH_INTERVAL;
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::wire::Framing;
use ringway_core::wire::h1::encode;

use crate::net::h2::H2Stream;
use crate::net::socket::{self, Direction};
use crate::net::timer::{Moment, Timer};
use crate::worker::Worker;

/// What upload and download tell each other.
pub(super) struct Shared<'s> {
    pub(super) worker: &'s Rc<Worker>,
    pub(super) client: &'s Rc<Timer>,
    /// The client's stream, where it is one of an HTTP/2 connection.
    pub(super) stream: Option<Rc<H2Stream>>,
    pub(super) upstream: &'s Rc<Timer>,
    pub(super) timeouts: Timeouts,
    /// The whole request went upstream.
    pub(super) uploaded: Cell<bool>,
    /// When the answer must be complete, in the worker's milliseconds.
    pub(super) deadline: Cell<Option<u64>>,
    /// When the client of a gRPC call gives it up: the deadline, or later.
    pub(super) call_deadline: Option<u64>,
    /// The answer is over: what the client still sends is thrown away.
    pub(super) discard: Cell<bool>,
    /// The client reset its connection while the upstream was waited for.
    pub(super) gone: Cell<bool>,
}

impl Shared<'_> {
    /// The request is complete: the time for the answer starts.
    pub(super) fn complete(&self, now: Moment) {
        self.uploaded.set(true);
        let now = now.ms();
        let ours = self.timeouts.request.map(|t| now + t.as_millis() as u64);
        self.deadline.set(ours.into_iter().chain(self.call_deadline).min());
        self.await_upstream(now);
    }

    /// The upstream's turn: see [`Shared::arm_upstream`] and [`Shared::attended`].
    pub(super) fn await_upstream(&self, now: u64) {
        self.arm_upstream(now);
        self.watch_client(now);
    }

    /// The client is looked at next after this time.
    fn watch_client(&self, now: u64) {
        if self.stream.is_some() {
            return self.client.disarm();
        }
        self.worker.timers.arm(self.client, now, CLIENT_WATCH_INTERVAL, Direction::Wake);
    }

    /// Waits for the upstream. If that takes long, the client is looked at now and then: where it
    /// has reset its connection, what is waited for is made to end. Until the request is complete
    /// the upload hears of it. A stream of HTTP/2 tells at once.
    ///
    /// Nothing is asked of the kernel unless the upstream is silent for [`CLIENT_WATCH_INTERVAL`].
    pub(super) async fn attended<T>(&self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = pin!(waiting);
        poll_fn(|cx| {
            if let Poll::Ready(output) = waiting.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if let Some(stream) = &self.stream {
                if self.uploaded.get() && !self.gone.get() && stream.is_reset() {
                    self.gone.set(true);
                    self.upstream.stop(Direction::Both);
                }
            } else if self.uploaded.get() && self.client.take_fired() {
                if socket::is_reset(self.client.fd()) {
                    self.gone.set(true);
                    self.upstream.stop(Direction::Both);
                } else {
                    self.watch_client(self.worker.timers.now());
                }
            }
            self.client.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// The next operation on the upstream ends by the request's deadline or when nothing moves.
    pub(super) fn arm_upstream(&self, now: u64) {
        let left = self.deadline.get().map(|at| Duration::from_millis(at.saturating_sub(now)));
        let patience = match (left, self.timeouts.idle) {
            (Some(left), Some(idle)) => left.min(idle),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return self.upstream.disarm(),
        };
        self.worker.timers.arm(self.upstream, now, patience, Direction::Both);
    }

    /// While the client is waited for, the upstream is not expected to say anything; a call's
    /// deadline holds.
    pub(super) fn rest_upstream(&self, now: u64) {
        let Some(at) = self.deadline.get() else { return self.upstream.disarm() };
        let left = Duration::from_millis(at.saturating_sub(now));
        self.worker.timers.arm(self.upstream, now, left, Direction::Both);
    }

    /// Whether a call's own deadline is what has passed.
    pub(super) fn is_given_up(&self, now: u64) -> bool {
        self.call_deadline.is_some_and(|at| now >= at && self.deadline.get() == Some(at))
    }

    /// The client must take what we send, or send what we wait for.
    pub(super) fn arm_client(&self, now: u64, patience: Option<Duration>, direction: Direction) {
        match patience {
            Some(patience) => self.worker.timers.arm(self.client, now, patience, direction),
            None => self.client.disarm(),
        }
    }
}

/// Appends body bytes in this framing.
pub(super) fn append(out: &mut Vec<u8>, framing: Framing, data: &[u8]) {
    if framing == Framing::Chunked {
        encode::chunk_head(out, data.len());
        out.extend_from_slice(data);
        encode::chunk_end(out);
    } else {
        out.extend_from_slice(data);
    }
}
