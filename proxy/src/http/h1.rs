// SPDX-License-Identifier: Apache-2.0
//! A client's HTTP/1 connection.
//!
//! ```text
//!            bytes                        head complete
//!   resting ───────▶ burst: receive head ──────────────▶ exchange ──▶ answered
//!      ▲                 ▲       │ refused                              │ │
//!      │ quiet for REST  │       ▼                                      │ │ close
//!      └─────────────────┴── next request ◀─────────────────────────────┘ ▼
//!                                                                      linger ──▶ closed
//! ```
//!
//! An exchange may also end in a tunnel, and the tunnel in the end of the connection.
//!
//! Between requests a connection holds no buffer: it waits to become readable. A burst keeps what
//! else serving takes until the connection was quiet for [`REST`], or others do so already: after a
//! storm of first requests that is most of what the worker would hold.

use std::cell::Cell;
use std::time::Duration;

use ringway_core::limits::{
    BUFFER_BYTES, BURSTS_WAITING_MAX, HEAD_TIMEOUT, LINGER, LINGER_BYTES_MAX,
};
use ringway_core::observe::metric::ListenerCell;
use ringway_core::wire::Head;
use ringway_core::wire::h1::parse::{self, ParseError, Parsed};

use super::exchange::{self, Connection, Scratch};
use super::h2;
use super::upgrade::Upgraded;
use crate::connection::{Client, TLS_HANDSHAKE};
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::net::timer::Moment;
use crate::rt::Part;
use crate::worker::Open;

/// A connection quiet for this long gives back what serving a request takes.
const REST: Duration = Duration::from_millis(1000);

/// A client whose request follows its last answer within so many milliseconds is received from
/// without waiting first: one operation less per request, for a buffer that waits for 200 ms at most
/// if no more comes.
const QUICK: u64 = 10;

enum After {
    /// Nothing of a next request came for a while.
    Rest,
    Close,
    /// The connection is no longer HTTP's.
    Tunnel(Box<Upgraded>),
    /// The client speaks HTTP/2.
    Http2,
}

/// Serves a connection until it ends.
pub(crate) fn serve(mut client: Client) -> Part {
    // A block: an async function has room for its arguments twice.
    Part::new(async move {
        loop {
            client.idle.set(true);
            let (worker, timer) = (&client.open.worker, &client.stream.timer);
            let patience = worker.view(&client.open.listener).settings.idle_timeout;
            worker.timers.arm(timer, worker.timers.now(), patience, Direction::Read);
            if client.stream.reader.readable().await.is_err() {
                return None;
            }
            // Boxed: a connection at rest is small, whatever serving a request takes.
            match Box::pin(burst(&mut client)).await {
                After::Rest => client.stream.rest(),
                After::Close => return None,
                After::Tunnel(upgraded) => return Some(tunnel(client, upgraded)),
                After::Http2 => return Some(h2::serve(client)),
            }
        }
    })
}

/// The burst and its buffers are gone by then.
fn tunnel(mut client: Client, upgraded: Box<Upgraded>) -> Part {
    Part::new(async move {
        let Open { worker, listener, .. } = &client.open;
        upgraded.run(worker, listener, &mut client.stream).await;
        None
    })
}

async fn burst(client: &mut Client) -> After {
    let Client { stream, origin, idle, open } = client;
    let cx = &Connection { worker: &open.worker, listener: &open.listener, origin };
    let buffers = &cx.worker.buffers;
    let mut buffer = Vec::new();
    let mut head = Head::default();
    let mut scratch = Scratch::default();
    let mut pace = Pace { since: cx.worker.timers.now(), answered: false, quick: false };
    let after = loop {
        let received;
        (received, buffer) = receive_head(cx, stream, buffer, &mut head, idle, pace).await;
        let started = match received {
            Received::Head(started) => started,
            Received::Refused(error, started) => {
                exchange::refuse(cx, stream, exchange::refusal_of(error), started).await;
                buffer = linger(cx, stream, buffer).await;
                break After::Close;
            }
            Received::Http2 if !pace.answered => {
                stream.reader.unread(&buffer);
                break After::Http2;
            }
            Received::Http2 => {
                let error = exchange::refusal_of(ParseError::RequestLine);
                exchange::refuse(cx, stream, error, cx.worker.timers.look()).await;
                break After::Close;
            }
            Received::Rest => break After::Rest,
            Received::End => break After::Close,
        };
        let outcome =
            exchange::exchange(cx, stream, &buffer, &mut head, &mut scratch, started).await;
        buffers.put(std::mem::take(&mut scratch.received.block));
        if let Some(upgraded) = outcome.upgraded {
            stream.reader.unread(&buffer[outcome.consumed..]);
            break After::Tunnel(upgraded);
        }
        if outcome.close {
            if outcome.linger || outcome.consumed < buffer.len() {
                buffer = linger(cx, stream, buffer).await;
            }
            break After::Close;
        }
        match outcome.leftover {
            Some(leftover) => {
                buffers.put(std::mem::replace(&mut buffer, leftover));
            }
            None if outcome.consumed == buffer.len() => buffer.clear(),
            None => drop(buffer.drain(..outcome.consumed)),
        }
        let since = cx.worker.timers.recent();
        let waited = started.ms().saturating_sub(pace.since);
        pace = Pace { since, answered: true, quick: pace.answered && waited <= QUICK };
    };
    buffers.put(buffer);
    after
}

/// How a burst's client asks.
#[derive(Clone, Copy)]
struct Pace {
    /// When the last answer was over, or the burst began, in the worker's milliseconds.
    since: u64,
    /// There was one: a burst that has not seen a request yet has been told of one.
    answered: bool,
    /// Its last request followed within [`QUICK`].
    quick: bool,
}

enum Received {
    /// The head is parsed; its first byte was there at this time.
    Head(Moment),
    Refused(ParseError, Moment),
    /// What begins an HTTP/2 connection.
    Http2,
    /// Quiet for [`REST`].
    Rest,
    /// The client is done, or gone.
    End,
}

/// Receives until a whole head is there.
async fn receive_head(
    cx: &Connection<'_>,
    stream: &mut Stream,
    mut buffer: Vec<u8>,
    head: &mut Head,
    idle: &Cell<bool>,
    mut pace: Pace,
) -> (Received, Vec<u8>) {
    let worker = cx.worker;
    let limits = cx.limits();
    let mut scanned = 0;
    let mut started = None;
    loop {
        if !buffer.is_empty() {
            let started = *started.get_or_insert_with(|| worker.timers.look());
            idle.set(false);
            if buffer[0] == TLS_HANDSHAKE {
                let slot = cx.listener.slot;
                worker.slab.listener_add(slot, ListenerCell::ClientHelloClosed, 1);
                return (Received::End, buffer);
            }
            if buffer.starts_with(h2::PREFACE) {
                return (Received::Http2, buffer);
            }
            match parse::request(&buffer, head, &limits, &mut scanned) {
                Ok(Parsed::Complete) => return (Received::Head(started), buffer),
                Err(error) => return (Received::Refused(error, started), buffer),
                Ok(Parsed::Partial) => {
                    // The head's own deadline, from its first byte on.
                    let now = started.ms();
                    worker.timers.arm(&stream.timer, now, HEAD_TIMEOUT, Direction::Read);
                }
            }
            if buffer.len() == buffer.capacity() {
                buffer.reserve(BUFFER_BYTES);
            }
        } else {
            idle.set(true);
            if pace.quick && stream.reader.is_recallable() {
                stream.timer.disarm();
                if buffer.capacity() == 0 {
                    buffer = worker.buffers.take();
                }
                let received;
                (received, buffer) = stream.reader.recv_recallable(buffer, &worker.recalls).await;
                match received {
                    Some(Ok(n)) if n > 0 => continue,
                    Some(_) => return (Received::End, buffer),
                    None => pace = Pace { since: worker.timers.now(), quick: false, ..pace },
                }
            }
            // Whoever is at work uses it meanwhile, while it is in the cache.
            worker.buffers.put(buffer);
            // What a burst begins with was waited for.
            if pace.answered {
                let waiting = &worker.bursts_waiting;
                if waiting.get() >= BURSTS_WAITING_MAX {
                    return (Received::Rest, Vec::new());
                }
                worker.timers.arm(&stream.timer, pace.since, REST, Direction::Wake);
                waiting.set(waiting.get() + 1);
                let readable = stream.readable().await;
                waiting.set(waiting.get() - 1);
                if !readable {
                    return (Received::Rest, Vec::new());
                }
            }
            buffer = worker.buffers.take();
            // What is there takes a system call: an operation would take a turn of its own.
            match stream.reader.recv_at_hand(&mut buffer) {
                Some(Ok(n)) if n > 0 => continue,
                Some(_) => return (Received::End, buffer),
                None => {}
            }
        }
        let result;
        (result, buffer) = stream.reader.recv(buffer).await;
        match (result, started) {
            (Ok(n), _) if n > 0 => {}
            (_, Some(started)) if stream.timer.take_fired() => {
                return (Received::Refused(ParseError::TimedOut, started), buffer);
            }
            _ => return (Received::End, buffer),
        }
    }
}

/// Reads and throws away what the client still sends, for a while.
async fn linger(cx: &Connection<'_>, stream: &mut Stream, mut buffer: Vec<u8>) -> Vec<u8> {
    stream.half_close();
    let timers = &cx.worker.timers;
    timers.arm(&stream.timer, timers.now(), LINGER, Direction::Read);
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        buffer.clear();
        let result;
        (result, buffer) = stream.reader.recv(buffer).await;
        match result {
            Ok(n) if n > 0 => left = left.saturating_sub(n),
            _ => break,
        }
    }
    buffer
}
