// SPDX-License-Identifier: Apache-2.0
//! The engine over HTTP/2: clients with several requests under way on each connection, and the back end
//! for proxies that speak it upstream. What is sent waits until everything received in a turn is
//! looked at, so that it leaves together.

use std::collections::HashMap;
use std::time::Instant;

use super::{Connection, Engine, Run, answer_size, canned, keep};
use crate::h2::{BODY_BYTES_MAX, Event, Link, Message, grpc_message};
use crate::http;

/// One end's streams.
pub(super) enum Http2 {
    Client { link: Link, next: u32, streams: Vec<Asked> },
    BackEnd { link: Link, streams: Vec<Owed> },
}

/// A request under way.
pub(super) struct Asked {
    id: u32,
    due: Instant,
    /// The body of the answer, once its head is here.
    answer: Option<Body>,
    /// Its trailers are here.
    ended: bool,
}

/// A request that is not whole yet, and its answer.
pub(super) struct Owed {
    id: u32,
    answer: Message,
    body: Body,
}

/// What arrived of a body: how much, and what must follow of it when it is compared.
struct Body {
    length: usize,
    rest: Option<&'static [u8]>,
}

impl Body {
    fn new(expected: &'static [u8], run: &mut Run) -> Self {
        Self { length: 0, rest: run.compares().then_some(expected) }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.length += bytes.len();
        if let Some(rest) = self.rest {
            let rest = rest.strip_prefix(bytes).ok_or("a body arrived changed")?;
            self.rest = Some(rest);
        }
        Ok(())
    }

    fn end(&self, length: usize, run: &mut Run) -> Result<(), String> {
        if self.length != length {
            return Err(format!("a body of {} bytes, not {length}", self.length));
        }
        run.outcome.compared += u64::from(self.rest.is_some());
        Ok(())
    }
}

impl Http2 {
    /// Forgets the streams of a client. Gives how many there were.
    pub(super) fn forget(&mut self) -> usize {
        match self {
            Self::Client { streams, .. } => streams.drain(..).count(),
            Self::BackEnd { .. } => 0,
        }
    }
}

impl Engine {
    /// What a run over HTTP/2 sends and expects.
    pub(super) fn prepare_messages(&mut self) {
        let load = &self.run.load;
        let Some(streams) = load.http2 else { return };
        let split = |&request: &&'static [u8]| {
            let (head, body) = request.split_at(http::head_end(request).expect("a whole head"));
            Message { head, body, trailers: None }
        };
        self.run.messages = load.requests.iter().map(split).collect();
        let size = load.answer_bytes.unwrap_or_default() as usize;
        self.run.body = message(&mut self.messages, size, streams.grpc).body;
    }

    pub(super) fn begin_http2(&mut self, slot: u32) {
        let connection = self.connections[slot as usize].as_mut().expect("just added");
        let link = Link::client(connection.tls.is_some(), &mut connection.next_out);
        connection.http2 = Some(Box::new(Http2::Client { link, next: 1, streams: Vec::new() }));
        self.unsent.push(slot);
    }

    pub(super) fn accept_http2(&mut self, slot: u32) {
        let connection = self.connections[slot as usize].as_mut().expect("the caller looked");
        let link = Link::server(&mut connection.next_out);
        connection.http2 = Some(Box::new(Http2::BackEnd { link, streams: Vec::new() }));
        self.unsent.push(slot);
    }

    /// The next of the load's requests, on a stream of its own.
    pub(super) fn send_on_stream(&mut self, slot: u32, due: Instant) {
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        let Some(Http2::Client { link, next, streams }) = connection.http2.as_deref_mut() else {
            return;
        };
        let message = self.run.messages[self.run.next];
        self.run.next = (self.run.next + 1) % self.run.messages.len();
        self.run.in_flight += 1;
        streams.push(Asked { id: *next, due, answer: None, ended: false });
        if connection.next_out.is_empty() {
            self.unsent.push(slot);
        }
        link.send(*next, message, &mut connection.next_out);
        *next += 2;
    }

    pub(super) fn consume_frames(&mut self, slot: u32, bytes: &[u8]) {
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        let Connection { http2, partial, next_out, .. } = connection;
        let Some(http2) = http2.as_deref_mut() else { return };
        let joined = match partial.is_empty() {
            true => None,
            false => Some([&std::mem::take(partial), bytes].concat()),
        };
        let mut bytes = joined.as_deref().unwrap_or(bytes);
        let (run, messages, whole) = (&mut self.run, &mut self.messages, &mut self.whole);
        let taken = match http2 {
            Http2::Client { link, streams, .. } => {
                take_answers(link, streams, &mut bytes, next_out, run, whole)
            }
            Http2::BackEnd { link, streams } => {
                take_requests(link, streams, &mut bytes, next_out, run, messages)
            }
        };
        partial.extend_from_slice(bytes);
        if !next_out.is_empty() {
            self.unsent.push(slot);
        }
        let mut whole = std::mem::take(&mut self.whole);
        for due in whole.drain(..) {
            self.answered(slot, due);
        }
        self.whole = whole;
        if let Err(error) = taken {
            self.run.fail(error);
            self.close(slot);
        }
    }
}

/// Takes frames; when the requests were due whose answers are whole goes into `whole`.
fn take_answers(
    link: &mut Link,
    streams: &mut Vec<Asked>,
    bytes: &mut &[u8],
    out: &mut Vec<u8>,
    run: &mut Run,
    whole: &mut Vec<Instant>,
) -> Result<(), String> {
    while let Some(event) = link.receive(bytes, out)? {
        whole.extend(run.answer(streams, event)?);
    }
    run.allows(link)
}

/// Takes frames, and answers the requests that are whole.
fn take_requests(
    link: &mut Link,
    streams: &mut Vec<Owed>,
    bytes: &mut &[u8],
    out: &mut Vec<u8>,
    run: &mut Run,
    messages: &mut HashMap<(usize, bool), Message>,
) -> Result<(), String> {
    while let Some(event) = link.receive(bytes, out)? {
        if let Some((id, message)) = run.request(streams, messages, event)? {
            link.send(id, message, out);
        }
    }
    Ok(())
}

impl Run {
    /// Whether the proxy takes as many streams as the load has.
    fn allows(&self, link: &Link) -> Result<(), String> {
        let wanted = self.load.http2.map_or(0, |streams| streams.at_once);
        match link.streams_max as usize {
            most if most < wanted => Err(format!("{most} streams at a time are allowed")),
            _ => Ok(()),
        }
    }

    /// Takes what arrived at a client. Gives when its request was due, if the answer is whole.
    fn answer(
        &mut self,
        streams: &mut Vec<Asked>,
        event: Event<'_>,
    ) -> Result<Option<Instant>, String> {
        let stream = |id| streams.iter().position(|asked: &Asked| asked.id == id);
        let grpc = self.load.http2.is_some_and(|streams| streams.grpc);
        let (index, ends) = match event {
            Event::Head { stream: id, head, ends } => {
                let index = stream(id).ok_or("an answer to no request")?;
                let asked = &mut streams[index];
                let first = asked.answer.is_none();
                if first {
                    self.answer_head(head)?;
                    asked.answer = Some(Body::new(self.body, self));
                }
                if grpc && let Some(status) = http::field(head, "grpc-status") {
                    if first || status != b"0" {
                        return Err(failed(status, head));
                    }
                    asked.ended = true;
                }
                (index, ends)
            }
            Event::Body { stream: id, bytes, ends } => {
                let index = stream(id).ok_or("a body of no request")?;
                streams[index].answer.as_mut().ok_or("a body without a head")?.take(bytes)?;
                (index, ends)
            }
            // RFC 9113 §8.1: a server may say so when it has answered.
            Event::Reset { stream: id, .. } if stream(id).is_none() => return Ok(None),
            Event::Reset { code, .. } => return Err(format!("a stream was reset: {code}")),
            Event::Goodbye { .. } if streams.is_empty() && !self.sends => return Ok(None),
            Event::Goodbye { code } => return Err(format!("GOAWAY {code}")),
        };
        if !ends {
            return Ok(None);
        }
        if grpc && !streams[index].ended {
            return Err("an answer without its trailers".to_owned());
        }
        if self.load.answer_bytes.is_some()
            && let Some(body) = &streams[index].answer
        {
            body.end(self.body.len(), self)?;
        }
        Ok(Some(streams.swap_remove(index).due))
    }

    fn answer_head(&mut self, head: &[u8]) -> Result<(), String> {
        let status = head.strip_prefix(b"HTTP/2 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let status: u16 = status.ok_or("an answer without a status")?;
        if status != self.load.status {
            return Err(format!("answered {status}, not {}", self.load.status));
        }
        if let Some(capture) = &mut self.capture {
            capture.answer_head = head.to_vec();
        }
        Ok(())
    }

    /// Takes what arrived at the back end. Gives the answer, if the request is whole.
    fn request(
        &mut self,
        streams: &mut Vec<Owed>,
        messages: &mut HashMap<(usize, bool), Message>,
        event: Event<'_>,
    ) -> Result<Option<(u32, Message)>, String> {
        // The latest is looked at first: a request tends to arrive in one piece.
        let stream = |id| streams.iter().rposition(|owed: &Owed| owed.id == id);
        let expected = self.messages.first().map_or(&b""[..], |message| message.body);
        let (index, ends) = match event {
            Event::Head { stream: id, head, ends } => {
                let (target, _) = http::request(head)?;
                let size = answer_size(target).filter(|&size| size < BODY_BYTES_MAX - 5);
                let size = size.ok_or_else(|| {
                    format!("the back end was asked for {}", String::from_utf8_lossy(target))
                })?;
                let kind = http::field(head, "content-type");
                let grpc = kind.is_some_and(|kind| kind == b"application/grpc");
                if let Some(capture) = &mut self.capture {
                    capture.upstream_head = head.to_vec();
                }
                let answer = message(messages, size, grpc);
                let body = match expected {
                    [] => Body { length: 0, rest: None },
                    _ => Body::new(expected, self),
                };
                streams.push(Owed { id, answer, body });
                (streams.len() - 1, ends)
            }
            Event::Body { stream: id, bytes, ends } => {
                let index = stream(id).ok_or("a body of no request")?;
                streams[index].body.take(bytes)?;
                (index, ends)
            }
            Event::Reset { stream: id, .. } => {
                streams.retain(|owed| owed.id != id);
                return Ok(None);
            }
            Event::Goodbye { .. } => return Ok(None),
        };
        if !ends {
            return Ok(None);
        }
        let owed = streams.swap_remove(index);
        owed.body.end(expected.len(), self)?;
        Ok(Some((owed.id, owed.answer)))
    }
}

fn failed(status: &[u8], head: &[u8]) -> String {
    let show = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let message = http::field(head, "grpc-message").unwrap_or_default();
    format!("gRPC status {} '{}'", show(status), show(message))
}

/// The back end's answer over HTTP/2, made once.
fn message(kept: &mut HashMap<(usize, bool), Message>, size: usize, grpc: bool) -> Message {
    *kept.entry((size, grpc)).or_insert_with(|| match grpc {
        true => Message {
            head: b"HTTP/2 200\r\ncontent-type: application/grpc\r\n\r\n",
            body: keep(grpc_message(size)),
            trailers: Some(b"trailers\r\ngrpc-status: 0\r\n\r\n"),
        },
        false => {
            let answer = keep(canned(size));
            let (head, body) = answer.split_at(answer.len() - size);
            Message { head, body, trailers: None }
        }
    })
}
