// SPDX-License-Identifier: Apache-2.0
//! The request's body on its way upstream, as far as it was not at hand with the head.

use std::time::Duration;

use ringway_core::limits::{BODY_PROGRESS_TIMEOUT, BUFFER_BYTES, STREAM_IDLE_TIMEOUT};
use ringway_core::wire::Framing;
use ringway_core::wire::grpc_web;
use ringway_core::wire::h1::body::{Decoder, Step};
use ringway_core::wire::h1::encode;
use ringway_core::wire::h1::parse::ParseError;

use super::call::Counter;
use super::flow::{Shared, append};
use super::shadow::Tee;
use crate::net::buffer::Buffers;
use crate::net::socket::Direction;
use crate::net::stream::{Reader, Writer};

/// What is thrown away of a request's body after its answer was complete; beyond, the connection
/// is cut.
const DISCARD_BYTES_MAX: usize = 256 * 1024;
pub(super) const DISCARD: Duration = Duration::from_millis(1000);

/// A request's body on its way: decoded as it came, framed anew.
pub(super) struct Body {
    pub(super) decoder: Decoder,
    /// Towards the upstream.
    pub(super) framing: Framing,
    pub(super) max: u64,
    /// Bytes of content so far.
    pub(super) seen: u64,
    /// Field lines, once the body is complete.
    pub(super) trailers: Vec<u8>,
    /// Of gRPC-Web: what it stands for goes upstream.
    pub(super) text: Option<Text>,
    /// Counts a gRPC call's messages.
    pub(super) counter: Option<Counter>,
    /// Who gets a copy.
    pub(super) tee: Option<Tee>,
}

/// A body in base64.
#[derive(Debug, Default)]
pub(super) struct Text {
    decoder: grpc_web::Decoder,
    decoded: Vec<u8>,
}

impl Text {
    fn decode(&mut self, text: &[u8]) -> Result<&[u8], BodyError> {
        self.decoded.clear();
        self.decoder.push(text, &mut self.decoded).map_err(|_| BodyError::NotBase64)?;
        Ok(&self.decoded)
    }
}

/// How far some received bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) taken: usize,
    pub(super) complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    Framing(ParseError),
    TooLarge,
    /// A body of gRPC-Web's text form is none.
    NotBase64,
}

impl Body {
    /// Appends what these bytes hold of the body, framed for the upstream.
    pub(super) fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Taken, BodyError> {
        let mut at = 0;
        loop {
            match self.decoder.step(&input[at..]).map_err(BodyError::Framing)? {
                Step::Data { skip, len } => {
                    let data = &input[at + skip..][..len];
                    at += skip + len;
                    self.seen += len as u64;
                    if self.seen > self.max {
                        return Err(BodyError::TooLarge);
                    }
                    let data = match &mut self.text {
                        Some(text) => text.decode(data)?,
                        None => data,
                    };
                    if data.is_empty() {
                        continue;
                    }
                    append(out, self.framing, data);
                    if let Some(counter) = &mut self.counter {
                        counter.push(data);
                    }
                    if let Some(tee) = &self.tee {
                        tee.offer(data);
                    }
                }
                Step::More { skip } => return Ok(Taken { taken: at + skip, complete: false }),
                Step::End { skip } => {
                    self.trailers.extend_from_slice(self.decoder.trailers());
                    self.complete(out)?;
                    return Ok(Taken { taken: at + skip, complete: true });
                }
            }
        }
    }

    /// The same for what a message has at hand, as far as a buffer holds it: whether that is all.
    pub(super) fn encode_at_hand(
        &mut self,
        message: &mut Reader,
        buffers: &Buffers,
        out: &mut Vec<u8>,
    ) -> Result<bool, BodyError> {
        let mut chunk = buffers.take();
        let mut result = Ok(false);
        while out.len() < BUFFER_BYTES && result == Ok(false) {
            chunk.clear();
            result = match message.recv_at_hand(&mut chunk) {
                Some(Ok(0)) => self.end(message, out).map(|()| true),
                Some(Ok(_)) => self.encode(&chunk, out).map(|_| false),
                // Whoever waits for more hears of an error.
                Some(Err(_)) | None => break,
            };
        }
        buffers.put(chunk);
        result
    }

    /// The message is over: its trailers are there.
    fn end(&mut self, message: &Reader, out: &mut Vec<u8>) -> Result<(), BodyError> {
        message.take_trailers(&mut self.trailers);
        self.complete(out)
    }

    fn complete(&self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        if let Some(text) = &self.text {
            text.decoder.finish().map_err(|_| BodyError::NotBase64)?;
        }
        if self.framing == Framing::Chunked {
            encode::last_chunk(out, &self.trailers);
        }
        if let Some(tee) = &self.tee {
            tee.complete(&self.trailers);
        }
        Ok(())
    }
}

/// How sending the request's body ended.
pub(super) enum Uploaded {
    /// All of it went upstream; these bytes came after it.
    Complete {
        leftover: Vec<u8>,
    },
    /// The answer was over first; the rest of the body was thrown away.
    Discarded {
        leftover: Vec<u8>,
    },
    Refused(BodyError),
    TimedOut,
    /// The client went away.
    Client,
    /// The upstream takes no more.
    Upstream,
    /// The answer was over first, and the client did not stop.
    Endless,
}

/// Sends what is at hand, of which the first `head` bytes are the request's head, then the rest of
/// the body as it comes.
pub(super) async fn upload(
    shared: &Shared<'_>,
    client: &mut Reader,
    upstream: &mut Writer,
    body: &mut Body,
    mut out: Vec<u8>,
    mut head: usize,
) -> (Uploaded, Vec<u8>) {
    let worker = shared.worker;
    // `timeout_ms: 0` is for streams, which may rest; a Mapping's own idle time-out says how long.
    // One stream of many holds up nobody else.
    let progress = match (shared.timeouts.request, shared.timeouts.idle) {
        (Some(_), Some(STREAM_IDLE_TIMEOUT)) if !client.is_message() => Some(BODY_PROGRESS_TIMEOUT),
        (_, idle) => idle,
    };
    let mut chunk = worker.buffers.take();
    let (mut discarded, mut complete) = (0, false);
    let uploaded = loop {
        if !shared.discard.get() {
            shared.arm_upstream(worker.timers.now());
            let sent;
            let end = complete.then_some(&*body.trailers);
            (sent, out) = upstream.send_message(out, head, end).await;
            head = 0;
            if sent.is_err() && !shared.discard.get() {
                break Uploaded::Upstream;
            }
        }
        out.clear();
        if complete {
            // What is left in `chunk` came after the body.
            let leftover = std::mem::take(&mut chunk);
            if shared.discard.get() {
                break Uploaded::Discarded { leftover };
            }
            shared.complete(worker.timers.look());
            break Uploaded::Complete { leftover };
        }
        if discarded > DISCARD_BYTES_MAX {
            break Uploaded::Endless;
        }
        if !shared.discard.get() {
            shared.rest_upstream(worker.timers.now());
            shared.arm_client(worker.timers.now(), progress, Direction::Read);
        }
        chunk.clear();
        let received;
        (received, chunk) = client.recv(chunk).await;
        match received {
            Ok(n) if n > 0 => {}
            Ok(_) if client.is_message() => match body.end(client, &mut out) {
                Ok(()) => {
                    complete = true;
                    continue;
                }
                Err(error) => break Uploaded::Refused(error),
            },
            _ if shared.discard.get() => break Uploaded::Endless,
            _ if shared.client.take_fired() => break Uploaded::TimedOut,
            _ => break Uploaded::Client,
        }
        if shared.discard.get() {
            discarded += chunk.len();
        } else {
            shared.client.disarm();
        }
        match body.encode(&chunk, &mut out) {
            Ok(taken) => {
                complete = taken.complete;
                chunk.drain(..taken.taken);
            }
            Err(error) => break Uploaded::Refused(error),
        }
    };
    if chunk.capacity() > 0 {
        worker.buffers.put(chunk);
    }
    (uploaded, out)
}
