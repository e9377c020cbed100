// SPDX-License-Identifier: Apache-2.0
//! One HTTP/2 connection without its socket (RFC 9113): bytes to events, and messages to bytes.
//!
//! ```text
//!   bytes ──▶ next ──▶ Event ──▶ the stream's user (T)
//!   out ◀── send_head, send_data, send_trailers, release, close ◀──┘
//! ```
//!
//! Heads that are sent are written as HTTP/1.1 writes them; received ones are [`Fields`], which
//! [`message`] checks. What a peer must not do ends its stream or the connection with the code that
//! the RFC gives it, here and at once. Bounds: streams by what was announced, received bytes by the
//! windows, a head's block by [`BLOCK_TIMES_MAX`], everything sent for nothing by what
//! [`meter`](super::meter) allows.

mod receive;
mod send;

use std::collections::VecDeque;

use super::frame::{self, Code, FrameHeader};
use super::hpack::{Decoder, Encoder, Fields};
use super::meter::{Flood, Meter, Role};
use crate::limits::{CONNECTION_WINDOW_BYTES, OWN_WINDOW_BYTES, UPSTREAM_STREAMS_MAX};

/// A block as it is sent may be so many times as large as the section that it may come to.
const BLOCK_TIMES_MAX: usize = 2;

/// Streams that we ended and the peer may not know about yet: what comes on them is dropped.
/// Beyond, it is an error of the peer's.
const ENDED_STREAMS_MAX: usize = 256;

/// The connection's last number: no stream follows.
const LAST_STREAM: u32 = 0x7fff_ffff;

/// Of a PING whose answer says that the peer has heard of our leaving.
const LEAVING: [u8; 8] = *b"leaving!";
/// Of a PING that asks whether the peer is there.
const ALIVE: [u8; 8] = *b"present?";

/// Names a stream as long as its connection knows it, and nothing from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    place: u32,
    stream: u32,
}

/// The stream is over: nothing more can be sent on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// What ended a stream before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer says that it has done nothing with it (RFC 9113 §8.7).
    Unprocessed,
    /// The peer reset it.
    Reset(Code),
    /// What the peer sent is no message.
    Malformed,
    /// Its connection ended.
    Connection,
}

/// What came.
#[derive(Debug)]
pub enum Event<'e, 'i, T> {
    /// A client's request: [`Connection::attach`] gives it a user. `ended`: it has no body.
    Request { key: Key, fields: &'e Fields, ended: bool },
    /// An answer's head, an interim one's included.
    Answer { key: Key, user: &'e T, fields: &'e Fields, ended: bool },
    /// Part of a body, or with `ended` and no data its end. The peer may send as much again once it
    /// is [released](Connection::release).
    Data { user: &'e T, data: &'i [u8], ended: bool },
    /// The end of a message, with what stands behind its body.
    Trailers { key: Key, user: &'e T, fields: &'e Fields },
    /// The stream is gone.
    Failed { user: T, failure: Failure },
    /// More may be sent on the stream.
    Room { user: &'e T },
}

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub role: Role,
    /// Servers: streams that the client may have open. Clients: those that the server is believed
    /// to take until it says so.
    pub streams_max: u32,
    /// Bytes of a head, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub head_bytes_max: usize,
}

/// A connection whose streams have users of type `T`.
#[derive(Debug)]
pub struct Connection<T> {
    role: Role,
    head_bytes_max: usize,
    /// To be sent, in order. Whoever sends it takes it.
    pub out: Vec<u8>,
    over: Option<Code>,
    meter: Meter,
    flood: Option<Flood>,

    /// Bytes of the preface that are still to come.
    preface: &'static [u8],
    /// The first frame was SETTINGS.
    greeted: bool,
    /// A frame as far as it is there.
    partial: Vec<u8>,
    payload: Option<Payload>,
    block: Option<Block>,
    decoder: Decoder,
    fields: Fields,
    /// What the peer may still send, and what of it was not yet given back.
    receive_window: i64,
    unreleased: u32,
    /// What may be given to streams beyond what each has for itself.
    spare: u32,

    streams: Vec<Option<Stream<T>>>,
    free: Vec<u32>,
    /// Numbers and places, by number.
    index: Vec<(u32, u32)>,
    /// Streams with a user.
    live: u32,
    /// Of those that we ended: the oldest first.
    ended: VecDeque<u32>,
    /// Users to be told that their stream is gone.
    failed: Vec<(T, Failure)>,
    /// The highest number that a client used.
    last: u32,
    streams_max: u32,

    encoder: Encoder,
    send_window: i64,
    peer_window: u32,
    leaving: Leaving,
    /// The peer takes no more streams.
    peer_leaves: bool,
    /// Whether the peer takes extended CONNECT, once it has said what it takes.
    takes_tunnels: Option<bool>,
    /// The peer made the windows of all streams larger, and nobody has asked since.
    windows_grew: bool,
    /// A PING asks whether the peer is there.
    asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client was told, and may not have heard.
    Told,
    Final,
}

/// A stream that somebody uses, or that we ended and the peer has not.
#[derive(Debug)]
struct Stream<T> {
    number: u32,
    /// None: what comes is dropped.
    user: Option<T>,
    receives: Half,
    sends: Half,
    send_window: i64,
    receive_window: i64,
    /// As large as it is once everything was released.
    window: u32,
    unreleased: u32,
    /// Bytes of content that are to come, where that was said.
    length: Option<u64>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Head,
    Body,
    Ended,
}

/// What is to come of a DATA frame.
#[derive(Clone, Copy, Debug)]
struct Payload {
    key: Key,
    data: u32,
    padding: u32,
    ends: bool,
}

/// A head whose end is to come.
#[derive(Debug)]
struct Block {
    head: Heading,
    bytes: Vec<u8>,
}

/// What a HEADERS frame says beside its block.
#[derive(Clone, Copy, Debug)]
struct Heading {
    stream: u32,
    ends: bool,
    /// RFC 9113 §5.3.1: it depends on itself.
    absurd: bool,
}

/// What the peer did wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Connection(Code),
    Stream(u32, Code),
    Flood(Flood),
}

use Fault::Connection as Fatal;

/// What a frame came to.
enum Step<'i> {
    Nothing,
    Request { place: u32, ended: bool },
    Answer { place: u32, ended: bool },
    Data { place: u32, data: &'i [u8], ended: bool },
    Trailers { place: u32 },
    Room { place: u32 },
}

impl<T> Connection<T> {
    /// Begins with what either side says first.
    pub fn new(config: Config) -> Self {
        let Config { role, streams_max, head_bytes_max } = config;
        let mut out = Vec::new();
        let (receive_window, spare) = match role {
            Role::Server => (CONNECTION_WINDOW_BYTES, CONNECTION_WINDOW_BYTES / 2),
            Role::Client => (
                OWN_WINDOW_BYTES * UPSTREAM_STREAMS_MAX as u32 + CONNECTION_WINDOW_BYTES,
                CONNECTION_WINDOW_BYTES,
            ),
        };
        let common = [
            (frame::INITIAL_WINDOW_SIZE, OWN_WINDOW_BYTES),
            (frame::MAX_HEADER_LIST_SIZE, head_bytes_max as u32),
        ];
        let own = match role {
            Role::Server => {
                [(frame::MAX_CONCURRENT_STREAMS, streams_max), (frame::ENABLE_CONNECT_PROTOCOL, 1)]
            }
            Role::Client => {
                out.extend_from_slice(frame::PREFACE);
                [(frame::ENABLE_PUSH, 0), (frame::MAX_CONCURRENT_STREAMS, 0)]
            }
        };
        frame::write_settings(&mut out, &[common, own].concat());
        frame::write_window_update(&mut out, 0, receive_window - frame::WINDOW_DEFAULT);
        Self {
            role,
            head_bytes_max,
            out,
            over: None,
            meter: Meter::new(role),
            flood: None,
            preface: if role == Role::Server { frame::PREFACE } else { b"" },
            greeted: false,
            partial: Vec::new(),
            payload: None,
            block: None,
            decoder: Decoder::default(),
            fields: Fields::new(head_bytes_max),
            receive_window: receive_window.into(),
            unreleased: 0,
            spare,
            streams: Vec::new(),
            free: Vec::new(),
            index: Vec::new(),
            live: 0,
            ended: VecDeque::new(),
            failed: Vec::new(),
            last: match role {
                Role::Server => 0,
                // One below the first of ours.
                Role::Client => u32::MAX,
            },
            streams_max,
            encoder: Encoder::default(),
            send_window: frame::WINDOW_DEFAULT.into(),
            peer_window: frame::WINDOW_DEFAULT,
            leaving: Leaving::No,
            peer_leaves: false,
            takes_tunnels: None,
            windows_grew: false,
            asked: false,
        }
    }

    /// The code with which the connection ended: what `out` holds is the last.
    pub fn over(&self) -> Option<Code> {
        self.over
    }

    /// What the peer sent too much of, if that ended the connection.
    pub fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Says what time it is, in milliseconds by any clock: what may be sent for nothing grows with
    /// it.
    pub fn tick(&mut self, now_ms: u64) {
        self.meter.tick(now_ms);
    }

    /// Frames that came.
    pub fn frames(&self) -> u64 {
        self.meter.frames()
    }

    /// Whether the peer has begun a head and not ended it.
    pub fn is_in_head(&self) -> bool {
        let partial = self.partial.first_chunk().map(FrameHeader::parse);
        let is_head =
            |header: FrameHeader| matches!(header.kind, frame::HEADERS | frame::CONTINUATION);
        self.block.is_some() || partial.is_some_and(is_head)
    }

    /// Streams in use.
    pub fn live(&self) -> usize {
        self.live as usize
    }

    /// Clients: streams that the server takes at a time.
    pub fn streams_max(&self) -> usize {
        self.streams_max as usize
    }

    /// Whether the peer takes requests for other protocols (RFC 8441 §3), once it has said so or not.
    pub fn takes_tunnels(&self) -> Option<bool> {
        self.takes_tunnels
    }

    /// Clients: whether another stream may be opened.
    pub fn is_open(&self) -> bool {
        self.over.is_none()
            && !self.peer_leaves
            && self.leaving == Leaving::No
            && self.last.wrapping_add(2) < LAST_STREAM
    }

    /// Whether the last stream has ended of a connection that is being left.
    pub fn is_done(&self) -> bool {
        self.live == 0 && self.leaving == Leaving::Final
    }

    /// Takes the next bytes from the peer, up to an event or their end; where they are cut makes no
    /// difference.
    pub fn next<'e, 'i>(&'e mut self, input: &mut &'i [u8]) -> Option<Event<'e, 'i, T>> {
        let step = loop {
            if let Some((user, failure)) = self.failed.pop() {
                return Some(Event::Failed { user, failure });
            }
            if self.over.is_some() {
                *input = &[];
                return None;
            }
            match self.step(input) {
                Ok(None) => return None,
                Ok(Some(Step::Nothing)) => {}
                Ok(Some(step)) => break step,
                Err(Fault::Connection(code)) => self.abort(code),
                Err(Fault::Stream(stream, code)) => self.fault(stream, code),
                Err(Fault::Flood(flood)) => self.calm(flood),
            }
        };
        let fields = &self.fields;
        let at = |place: u32| {
            let stream = self.streams[place as usize].as_ref()?;
            Some((Key { place, stream: stream.number }, stream.user.as_ref()))
        };
        Some(match step {
            Step::Nothing => return None,
            Step::Request { place, ended } => Event::Request { key: at(place)?.0, fields, ended },
            Step::Answer { place, ended } => {
                let (key, user) = at(place)?;
                Event::Answer { key, user: user?, fields, ended }
            }
            Step::Data { place, data, ended } => Event::Data { user: at(place)?.1?, data, ended },
            Step::Trailers { place } => {
                let (key, user) = at(place)?;
                Event::Trailers { key, user: user?, fields }
            }
            Step::Room { place } => Event::Room { user: at(place)?.1? },
        })
    }

    /// The peer has sent too much for nothing.
    fn calm(&mut self, flood: Flood) {
        self.flood = Some(flood);
        self.abort(Code::ENHANCE_YOUR_CALM);
    }

    /// The connection ends: with GOAWAY of this code, or because the peer is gone.
    pub fn abort(&mut self, code: Code) {
        if self.over.is_some() {
            return;
        }
        let last = if self.role == Role::Server { self.last } else { 0 };
        frame::write_go_away(&mut self.out, last, code);
        self.over = Some(code);
        self.index.clear();
        self.free.clear();
        for stream in self.streams.drain(..).flatten() {
            self.failed.extend(stream.user.map(|user| (user, Failure::Connection)));
        }
        self.live = 0;
    }

    /// No more streams: those that are open go on. A client hears of it in time for what it has
    /// sent by then to be served (RFC 9113 §6.8).
    pub fn leave(&mut self) {
        if self.over.is_some() || self.leaving != Leaving::No {
            return;
        }
        match self.role {
            Role::Server => {
                self.leaving = Leaving::Told;
                frame::write_go_away(&mut self.out, LAST_STREAM, Code::NO_ERROR);
                frame::write_ping(&mut self.out, 0, LEAVING);
            }
            Role::Client => {
                self.leaving = Leaving::Final;
                frame::write_go_away(&mut self.out, 0, Code::NO_ERROR);
            }
        }
    }

    /// Asks whether the peer is there; false: the last time it was asked, it did not answer.
    pub fn ask(&mut self) -> bool {
        if !self.asked {
            frame::write_ping(&mut self.out, 0, ALIVE);
        }
        !std::mem::replace(&mut self.asked, true)
    }
}

#[cfg(test)]
mod tests;
