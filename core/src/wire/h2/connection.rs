// SPDX-License-Identifier: Apache-2.0
//! One HTTP/2 connection without its socket (RFC 9113): bytes to events, and messages to bytes.
//!
//! ```text
//!   bytes ──▶ next ──▶ Event ──▶ the stream's user (T)
//!   out ◀── send_head, send_data, send_end, release, close ◀──┘
//! ```
//!
//! Heads that are sent are written as HTTP/1.1 writes them; received ones are [`Fields`], which
//! [`message`] checks. What a peer must not do ends its stream or the connection with the code that
//! the RFC gives it, here and at once. Bounds: streams by what was announced, received bytes by the
//! windows, a head's block by [`BLOCK_TIMES_MAX`], everything sent for nothing by the
//! [`meter`](super::meter).

use std::collections::VecDeque;

use super::frame::{self, Code, FrameHeader};
use super::hpack::{Decoder, Encoder, Fields, Unreadable};
use super::message;
use super::meter::Role;
use crate::limits::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

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
    peer_frame_max: usize,
    leaving: Leaving,
    /// The peer takes no more streams.
    peer_leaves: bool,
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
        let common = [
            (frame::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
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
        frame::write_window_update(&mut out, 0, CONNECTION_WINDOW_BYTES - frame::WINDOW_DEFAULT);
        Self {
            role,
            head_bytes_max,
            out,
            over: None,
            preface: if role == Role::Server { frame::PREFACE } else { b"" },
            greeted: false,
            partial: Vec::new(),
            payload: None,
            block: None,
            decoder: Decoder::default(),
            fields: Fields::new(head_bytes_max),
            receive_window: CONNECTION_WINDOW_BYTES.into(),
            unreleased: 0,
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
            peer_frame_max: frame::PAYLOAD_BYTES_MAX,
            leaving: Leaving::No,
            peer_leaves: false,
            asked: false,
        }
    }

    /// The code with which the connection ended: what `out` holds is the last.
    pub fn over(&self) -> Option<Code> {
        self.over
    }

    /// Streams in use.
    pub fn live(&self) -> usize {
        self.live as usize
    }

    /// Clients: streams that the server takes at a time.
    pub fn streams_max(&self) -> usize {
        self.streams_max as usize
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

/// Receiving.
impl<T> Connection<T> {
    fn step<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Step<'i>>, Fault> {
        if !self.preface.is_empty() {
            let (said, rest) = input.split_at(input.len().min(self.preface.len()));
            let (expected, left) = self.preface.split_at(said.len());
            if said != expected {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            self.preface = left;
            *input = rest;
        }
        if let Some(payload) = self.payload {
            return Ok(self.data(payload, input));
        }
        // A whole frame at hand is looked at where it is.
        if self.partial.is_empty()
            && let Some((header, rest)) = input.split_first_chunk()
        {
            let header = FrameHeader::parse(header);
            self.check(header)?;
            if header.kind == frame::DATA
                && let Some(first) = rest.get(..usize::from(header.has(frame::PADDED)))
            {
                *input = &rest[first.len()..];
                return self.begin_data(header, first.first().copied()).map(Some);
            }
            if header.kind != frame::DATA
                && let Some((payload, rest)) = rest.split_at_checked(header.len as usize)
            {
                *input = rest;
                return self.frame(header, payload).map(Some);
            }
        }
        if input.is_empty() {
            return Ok(None);
        }
        // Else as much of it as is wanted is put together.
        let wanted = match self.partial.first_chunk() {
            None => frame::HEADER_BYTES,
            Some(header) => {
                let header = FrameHeader::parse(header);
                frame::HEADER_BYTES
                    + match header.kind {
                        frame::DATA => usize::from(header.has(frame::PADDED)),
                        _ => header.len as usize,
                    }
            }
        };
        let missing = wanted - self.partial.len();
        let (more, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(more);
        *input = rest;
        if self.partial.len() < wanted {
            return Ok(None);
        }
        let Some(header) = self.partial.first_chunk().map(FrameHeader::parse) else {
            return Ok(None);
        };
        if wanted == frame::HEADER_BYTES {
            self.check(header)?;
            let padded = header.kind == frame::DATA && header.has(frame::PADDED);
            if padded || (header.kind != frame::DATA && header.len > 0) {
                return Ok(Some(Step::Nothing));
            }
        }
        let frame = std::mem::take(&mut self.partial);
        let payload = &frame[frame::HEADER_BYTES..];
        let step = match header.kind {
            frame::DATA => self.begin_data(header, payload.first().copied()),
            _ => self.frame(header, payload),
        };
        // A small one is likely to be cut again.
        if frame.capacity() <= 1024 {
            self.partial = frame;
            self.partial.clear();
        }
        step.map(Some)
    }

    /// What every frame must be.
    fn check(&mut self, header: FrameHeader) -> Result<(), Fault> {
        if header.len as usize > frame::PAYLOAD_BYTES_MAX {
            return Err(Fatal(Code::FRAME_SIZE_ERROR));
        }
        if !self.greeted {
            if header.kind != frame::SETTINGS || header.has(frame::ACK) {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            self.greeted = true;
        }
        // RFC 9113 §6.10: nothing comes between a head's frames.
        let expected = self.block.as_ref().map(|block| block.head.stream);
        let continues = (header.kind == frame::CONTINUATION).then_some(header.stream);
        if expected != continues {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        let of_stream = match header.kind {
            frame::DATA
            | frame::HEADERS
            | frame::PRIORITY
            | frame::RST_STREAM
            | frame::CONTINUATION => true,
            frame::SETTINGS | frame::PING | frame::GOAWAY => false,
            frame::PUSH_PROMISE => return Err(Fatal(Code::PROTOCOL_ERROR)),
            _ => return Ok(()),
        };
        if of_stream == (header.stream == 0) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        Ok(())
    }

    fn frame<'i>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Step<'i>, Fault> {
        let exactly = |len| match payload.len() == len {
            true => Ok(()),
            false => Err(Fatal(Code::FRAME_SIZE_ERROR)),
        };
        let number = |at: usize| {
            let bytes = payload.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        match header.kind {
            frame::HEADERS => return self.headers(header, payload),
            frame::CONTINUATION => return self.continuation(header, payload),
            frame::PRIORITY if payload.len() != 5 => {
                return match self.find(header.stream) {
                    Some(_) => Err(Fault::Stream(header.stream, Code::FRAME_SIZE_ERROR)),
                    None => Err(Fatal(Code::FRAME_SIZE_ERROR)),
                };
            }
            frame::PRIORITY if number(0) & LAST_STREAM == header.stream => {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            frame::RST_STREAM => {
                exactly(4)?;
                self.reset_by_peer(header.stream, Code(number(0)))?;
            }
            frame::SETTINGS if header.has(frame::ACK) => exactly(0)?,
            frame::SETTINGS if !payload.len().is_multiple_of(6) => {
                return Err(Fatal(Code::FRAME_SIZE_ERROR));
            }
            frame::SETTINGS => self.settings(payload)?,
            frame::PING => {
                exactly(8)?;
                let payload = payload.first_chunk().copied().unwrap_or_default();
                self.ping(header.has(frame::ACK), payload);
            }
            frame::GOAWAY if payload.len() < 8 => return Err(Fatal(Code::FRAME_SIZE_ERROR)),
            frame::GOAWAY => self.left_by_peer(number(0) & LAST_STREAM),
            frame::WINDOW_UPDATE => {
                exactly(4)?;
                return self.window_update(header.stream, number(0) & LAST_STREAM);
            }
            // RFC 9113 §5.5: unknown types mean nothing.
            _ => {}
        }
        Ok(Step::Nothing)
    }

    /// Whether a stream of this number could not have been used by now.
    fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || self.last == u32::MAX || stream > self.last
    }

    fn find(&self, stream: u32) -> Option<u32> {
        let at = self.index.binary_search_by_key(&stream, |(number, _)| *number).ok()?;
        Some(self.index[at].1)
    }

    fn at(&mut self, key: Key) -> Option<&mut Stream<T>> {
        let stream = self.streams.get_mut(key.place as usize)?.as_mut()?;
        (stream.number == key.stream).then_some(stream)
    }

    fn headers<'i>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Step<'i>, Fault> {
        let mut block = payload;
        if header.has(frame::PADDED) {
            let (&padding, rest) = block.split_first().ok_or(Fatal(Code::FRAME_SIZE_ERROR))?;
            let len = rest.len().checked_sub(padding.into());
            block = &rest[..len.ok_or(Fatal(Code::PROTOCOL_ERROR))?];
        }
        let mut absurd = false;
        if header.has(frame::WITH_PRIORITY) {
            let (priority, rest) =
                block.split_first_chunk::<5>().ok_or(Fatal(Code::FRAME_SIZE_ERROR))?;
            let [a, b, c, d, _] = *priority;
            absurd = u32::from_be_bytes([a, b, c, d]) & LAST_STREAM == header.stream;
            block = rest;
        }
        // What may not begin at all is no matter of its stream.
        let known = self.find(header.stream).is_some();
        match self.role {
            _ if known => {}
            Role::Server if header.stream.is_multiple_of(2) => {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            Role::Server if !self.is_idle(header.stream) => {
                return Err(Fatal(Code::STREAM_CLOSED));
            }
            Role::Client if self.is_idle(header.stream) => {
                return Err(Fatal(Code::PROTOCOL_ERROR));
            }
            Role::Server | Role::Client => {}
        }
        let head = Heading { stream: header.stream, ends: header.has(frame::END_STREAM), absurd };
        if header.has(frame::END_HEADERS) {
            return self.head(head, block);
        }
        self.block = Some(Block { head, bytes: block.to_vec() });
        Ok(Step::Nothing)
    }

    fn continuation<'i>(&mut self, header: FrameHeader, payload: &[u8]) -> Result<Step<'i>, Fault> {
        let Some(block) = &mut self.block else { return Err(Fatal(Code::PROTOCOL_ERROR)) };
        block.bytes.extend_from_slice(payload);
        if block.bytes.len() > BLOCK_TIMES_MAX * self.head_bytes_max {
            return Err(Fatal(Code::ENHANCE_YOUR_CALM));
        }
        if !header.has(frame::END_HEADERS) {
            return Ok(Step::Nothing);
        }
        match self.block.take() {
            Some(Block { head, bytes }) => self.head(head, &bytes),
            None => Ok(Step::Nothing),
        }
    }

    /// A head is complete.
    fn head<'i>(&mut self, head: Heading, block: &[u8]) -> Result<Step<'i>, Fault> {
        let Heading { stream: number, ends, absurd } = head;
        self.fields.shrink();
        // Whatever becomes of it: the table must follow.
        self.decoder.decode(block, &mut self.fields).map_err(|error| match error {
            Unreadable::Invalid => Fatal(Code::COMPRESSION_ERROR),
            Unreadable::TooMuch => Fatal(Code::ENHANCE_YOUR_CALM),
        })?;
        let known = self.find(number);
        let place = match known {
            Some(place) => place,
            None if self.role == Role::Client => return Ok(Step::Nothing),
            None => {
                self.last = number;
                if self.live >= self.streams_max || self.leaving == Leaving::Final {
                    return Err(Fault::Stream(number, Code::REFUSED_STREAM));
                }
                self.open(number, None)
            }
        };
        if absurd {
            return Err(Fault::Stream(number, Code::PROTOCOL_ERROR));
        }
        let Some(stream) = &mut self.streams[place as usize] else { return Ok(Step::Nothing) };
        if stream.user.is_none() && known.is_some() {
            if ends {
                self.remove(place);
            }
            return Ok(Step::Nothing);
        }
        let is_new = stream.receives == Half::Head;
        match stream.receives {
            Half::Ended => return Err(Fault::Stream(number, Code::STREAM_CLOSED)),
            // RFC 9113 §8.1: behind a body there is one head, which ends the message.
            Half::Body if !ends => return Err(Fault::Stream(number, Code::PROTOCOL_ERROR)),
            Half::Head | Half::Body => {}
        }
        if self.role == Role::Server && is_new {
            stream.receives = Half::Body;
            if ends {
                stream.receives = Half::Ended;
            }
            return Ok(Step::Request { place, ended: ends });
        }
        if is_new {
            let interim = message::status(&self.fields).is_some_and(|status| status / 100 == 1);
            if interim && ends {
                return Err(Fault::Stream(number, Code::PROTOCOL_ERROR));
            }
            if !interim {
                stream.receives = Half::Body;
            }
        }
        if ends {
            self.end_received(place)?;
        }
        Ok(match is_new {
            true => Step::Answer { place, ended: ends },
            false => Step::Trailers { place },
        })
    }

    /// What comes of the stream is complete.
    fn end_received(&mut self, place: u32) -> Result<(), Fault> {
        let Some(stream) = &mut self.streams[place as usize] else { return Ok(()) };
        if stream.length.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(stream.number, Code::PROTOCOL_ERROR));
        }
        stream.receives = Half::Ended;
        if stream.user.is_none() {
            self.remove(place);
        }
        Ok(())
    }

    /// A DATA frame, of which nothing but the header and the length of its padding was seen.
    fn begin_data<'i>(
        &mut self,
        header: FrameHeader,
        padding: Option<u8>,
    ) -> Result<Step<'i>, Fault> {
        let said = padding.map_or(0, |n| 1 + u32::from(n));
        let data = header.len.checked_sub(said).ok_or(Fatal(Code::PROTOCOL_ERROR))?;
        if self.is_idle(header.stream) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        self.receive_window -= i64::from(header.len);
        if self.receive_window < 0 {
            return Err(Fatal(Code::FLOW_CONTROL_ERROR));
        }
        // Padding counts, and nobody will take it.
        self.give_back(said);
        let key = match self.find(header.stream) {
            Some(place) => Key { place, stream: header.stream },
            None => Key { place: u32::MAX, stream: header.stream },
        };
        let ends = header.has(frame::END_STREAM);
        self.payload = Some(Payload { key, data, padding: padding.map_or(0, u32::from), ends });
        let role = self.role;
        let Some(stream) = self.at(key) else {
            // RFC 9113 §5.1: a server's answer may be on its way to a client that has lost interest.
            return match role {
                Role::Server => Err(Fault::Stream(header.stream, Code::STREAM_CLOSED)),
                Role::Client => Ok(Step::Nothing),
            };
        };
        if stream.user.is_none() {
            return Ok(Step::Nothing);
        }
        let code = match stream.receives {
            Half::Ended => Some(Code::STREAM_CLOSED),
            Half::Head => Some(Code::PROTOCOL_ERROR),
            Half::Body => None,
        };
        if let Some(code) = code {
            return Err(Fault::Stream(header.stream, code));
        }
        stream.receive_window -= i64::from(header.len);
        if stream.receive_window < 0 {
            return Err(Fault::Stream(header.stream, Code::FLOW_CONTROL_ERROR));
        }
        if let Some(left) = &mut stream.length {
            match left.checked_sub(data.into()) {
                Some(less) => *left = less,
                None => return Err(Fault::Stream(header.stream, Code::PROTOCOL_ERROR)),
            }
        }
        stream.unreleased += said;
        Ok(Step::Nothing)
    }

    /// The next bytes of a DATA frame.
    fn data<'i>(&mut self, payload: Payload, input: &mut &'i [u8]) -> Option<Step<'i>> {
        let Payload { key, mut data, mut padding, ends } = payload;
        let (now, rest) = input.split_at(input.len().min(data as usize));
        data -= now.len() as u32;
        let skipped = if data == 0 { rest.len().min(padding as usize) } else { 0 };
        padding -= skipped as u32;
        *input = &rest[skipped..];
        let over = data == 0 && padding == 0;
        self.payload = (!over).then_some(Payload { key, data, padding, ends });
        let ended = over && ends;
        let used = self.at(key).is_some_and(|stream| stream.user.is_some());
        if !used {
            self.give_back(now.len() as u32);
            if ended && self.at(key).is_some() {
                self.remove(key.place);
            }
        }
        if ended
            && used
            && let Err(fault) = self.end_received(key.place)
        {
            if let Fault::Stream(stream, code) = fault {
                self.give_back(now.len() as u32);
                self.fault(stream, code);
            }
            return Some(Step::Nothing);
        }
        match used && (ended || !now.is_empty()) {
            true => Some(Step::Data { place: key.place, data: now, ended }),
            false if over => Some(Step::Nothing),
            false => None,
        }
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), Fault> {
        for setting in payload.chunks_exact(6) {
            let &[a, b, c, d, e, f] = setting else { continue };
            let (id, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            match id {
                frame::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
                frame::ENABLE_PUSH if value > u32::from(self.role == Role::Server) => {
                    return Err(Fatal(Code::PROTOCOL_ERROR));
                }
                frame::MAX_CONCURRENT_STREAMS if self.role == Role::Client => {
                    self.streams_max = value;
                }
                frame::INITIAL_WINDOW_SIZE => {
                    if i64::from(value) > frame::WINDOW_MAX {
                        return Err(Fatal(Code::FLOW_CONTROL_ERROR));
                    }
                    let more = i64::from(value) - i64::from(self.peer_window);
                    self.peer_window = value;
                    for stream in self.streams.iter_mut().flatten() {
                        stream.send_window += more;
                        if stream.send_window > frame::WINDOW_MAX {
                            return Err(Fatal(Code::FLOW_CONTROL_ERROR));
                        }
                    }
                }
                frame::MAX_FRAME_SIZE => match value as usize {
                    // Larger frames would only hold up others.
                    frame::PAYLOAD_BYTES_MAX..=0xff_ffff => {}
                    _ => return Err(Fatal(Code::PROTOCOL_ERROR)),
                },
                frame::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Fatal(Code::PROTOCOL_ERROR));
                }
                _ => {}
            }
        }
        frame::write_settings_ack(&mut self.out);
        Ok(())
    }

    fn ping(&mut self, answers: bool, payload: [u8; 8]) {
        match payload {
            _ if !answers => frame::write_ping(&mut self.out, frame::ACK, payload),
            LEAVING if self.leaving == Leaving::Told => {
                self.leaving = Leaving::Final;
                frame::write_go_away(&mut self.out, self.last, Code::NO_ERROR);
            }
            ALIVE => self.asked = false,
            _ => {}
        }
    }

    fn window_update<'i>(&mut self, number: u32, more: u32) -> Result<Step<'i>, Fault> {
        if number == 0 {
            self.send_window += i64::from(more);
            return match more {
                0 => Err(Fatal(Code::PROTOCOL_ERROR)),
                _ if self.send_window > frame::WINDOW_MAX => Err(Fatal(Code::FLOW_CONTROL_ERROR)),
                _ => Ok(Step::Nothing),
            };
        }
        if self.is_idle(number) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        let Some(place) = self.find(number) else { return Ok(Step::Nothing) };
        let Some(stream) = &mut self.streams[place as usize] else { return Ok(Step::Nothing) };
        if stream.user.is_none() {
            return Ok(Step::Nothing);
        }
        stream.send_window += i64::from(more);
        match more {
            0 => Err(Fault::Stream(number, Code::PROTOCOL_ERROR)),
            _ if stream.send_window > frame::WINDOW_MAX => {
                Err(Fault::Stream(number, Code::FLOW_CONTROL_ERROR))
            }
            _ => Ok(Step::Room { place }),
        }
    }

    fn reset_by_peer(&mut self, number: u32, code: Code) -> Result<(), Fault> {
        if self.is_idle(number) {
            return Err(Fatal(Code::PROTOCOL_ERROR));
        }
        if let Some(place) = self.find(number) {
            let failure = match code {
                Code::REFUSED_STREAM => Failure::Unprocessed,
                code => Failure::Reset(code),
            };
            self.fail(place, failure);
        }
        Ok(())
    }

    fn left_by_peer(&mut self, last: u32) {
        self.peer_leaves = true;
        if self.role == Role::Server {
            return;
        }
        let beyond = self.index.partition_point(|(number, _)| *number <= last);
        while let Some(&(_, place)) = self.index.get(beyond) {
            self.fail(place, Failure::Unprocessed);
        }
    }

    /// Ends a stream for what the peer did on it.
    fn fault(&mut self, number: u32, code: Code) {
        frame::write_reset(&mut self.out, number, code);
        if let Some(place) = self.find(number) {
            self.end(place, Some(Failure::Malformed));
        }
    }

    /// The stream is over for both sides.
    fn fail(&mut self, place: u32, failure: Failure) {
        if let Some(user) = self.remove(place) {
            self.failed.push((user, failure));
        }
    }

    /// The stream is over for us; what the peer has sent before it knows is dropped.
    fn end(&mut self, place: u32, failure: Option<Failure>) {
        let Some(stream) = &mut self.streams[place as usize] else { return };
        if let Some(user) = stream.user.take() {
            self.live -= 1;
            self.failed.extend(failure.map(|failure| (user, failure)));
        }
        stream.sends = Half::Ended;
        let (number, ended) = (stream.number, stream.receives == Half::Ended);
        if ended {
            self.remove(place);
            return;
        }
        self.ended.push_back(number);
        if self.ended.len() > ENDED_STREAMS_MAX
            && let Some(oldest) = self.ended.pop_front()
            && let Some(place) = self.find(oldest)
        {
            self.remove(place);
        }
    }

    fn open(&mut self, number: u32, user: Option<T>) -> u32 {
        let stream = Stream {
            number,
            user,
            receives: Half::Head,
            sends: Half::Head,
            send_window: self.peer_window.into(),
            receive_window: STREAM_WINDOW_BYTES.into(),
            unreleased: 0,
            length: None,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.streams[place as usize] = Some(stream);
                place
            }
            None => {
                self.streams.push(Some(stream));
                self.streams.len() as u32 - 1
            }
        };
        // Numbers only grow.
        self.index.push((number, place));
        place
    }

    /// Forgets a stream; gives its user, if it has one.
    fn remove(&mut self, place: u32) -> Option<T> {
        let stream = self.streams[place as usize].take()?;
        self.free.push(place);
        if let Ok(at) = self.index.binary_search_by_key(&stream.number, |(number, _)| *number) {
            self.index.remove(at);
        }
        self.live -= u32::from(stream.user.is_some());
        stream.user
    }

    /// The peer may send so many more bytes on the connection.
    fn give_back(&mut self, bytes: u32) {
        self.unreleased += bytes;
        if self.unreleased >= CONNECTION_WINDOW_BYTES / 2 {
            frame::write_window_update(&mut self.out, 0, self.unreleased);
            self.receive_window += i64::from(self.unreleased);
            self.unreleased = 0;
        }
    }
}

/// Using streams.
impl<T> Connection<T> {
    /// Gives a request that has just come its user, and says how long its body is, if it does.
    pub fn attach(&mut self, key: Key, user: T, length: Option<u64>) {
        if let Some(stream) = self.at(key) {
            stream.user = Some(user);
            stream.length = length;
            self.live += 1;
        }
    }

    /// Of an answer whose head has just come: how long its body is.
    pub fn expect(&mut self, key: Key, length: u64) {
        if let Some(stream) = self.at(key) {
            stream.length = Some(length);
        }
    }

    /// Ends a stream for a head that is no message's.
    pub fn refuse(&mut self, key: Key, code: Code) {
        if self.at(key).is_some() {
            self.fault(key.stream, code);
        }
    }

    /// Opens a stream with a request. `secure`: its scheme is `https`.
    pub fn request(&mut self, user: T, head: &[u8], secure: bool, ends: bool) -> Result<Key, Gone> {
        if !self.is_open() {
            return Err(Gone);
        }
        self.last = self.last.wrapping_add(2);
        let place = self.open(self.last, Some(user));
        self.live += 1;
        self.send_block(self.last, ends, |encoder, out| {
            message::encode_request(encoder, out, head, secure);
        });
        let key = Key { place, stream: self.last };
        if let Some(stream) = self.at(key) {
            stream.sends = if ends { Half::Ended } else { Half::Body };
        }
        Ok(key)
    }

    /// Sends the head of an answer; nothing may follow an interim one that ends.
    pub fn send_head(&mut self, key: Key, head: &[u8], ends: bool) -> Result<(), Gone> {
        let stream = self.at(key).filter(|stream| stream.sends == Half::Head).ok_or(Gone)?;
        let interim = head.get(9) == Some(&b'1') && head.get(9..12) != Some(b"101");
        if !interim {
            stream.sends = Half::Body;
        }
        self.send_block(key.stream, ends, |encoder, out| {
            message::encode_response(encoder, out, head);
        });
        if ends {
            self.end_sent(key);
        }
        Ok(())
    }

    /// How many bytes of a body may be sent now.
    pub fn room(&mut self, key: Key) -> Result<usize, Gone> {
        let window = self.send_window;
        let stream = self.at(key).filter(|stream| stream.sends == Half::Body).ok_or(Gone)?;
        Ok(usize::try_from(stream.send_window.min(window)).unwrap_or(0))
    }

    /// Whether the stream itself has room, so that it waits for the connection's only.
    pub fn stream_has_room(&mut self, key: Key) -> bool {
        self.at(key).is_some_and(|stream| stream.send_window > 0)
    }

    /// Whether the connection has room for somebody's.
    pub fn has_room(&self) -> bool {
        self.send_window > 0
    }

    /// Sends part of a body: no more than there is [room](Connection::room) for.
    pub fn send_data(&mut self, key: Key, mut data: &[u8], ends: bool) -> Result<(), Gone> {
        let stream = self.at(key).filter(|stream| stream.sends == Half::Body).ok_or(Gone)?;
        stream.send_window -= data.len() as i64;
        self.send_window -= data.len() as i64;
        loop {
            let (now, later) = data.split_at(data.len().min(self.peer_frame_max));
            let last = later.is_empty();
            let flags = if ends && last { frame::END_STREAM } else { 0 };
            let (len, stream) = (now.len() as u32, key.stream);
            FrameHeader { len, kind: frame::DATA, flags, stream }.write(&mut self.out);
            self.out.extend_from_slice(now);
            data = later;
            if last {
                break;
            }
        }
        if ends {
            self.end_sent(key);
        }
        Ok(())
    }

    /// Ends a message with trailers, which are field lines.
    pub fn send_trailers(&mut self, key: Key, lines: &[u8]) -> Result<(), Gone> {
        self.at(key).filter(|stream| stream.sends == Half::Body).ok_or(Gone)?;
        self.send_block(key.stream, true, |encoder, out| {
            for (name, value) in message::fields(lines) {
                encoder.field(out, name, value);
            }
        });
        self.end_sent(key);
        Ok(())
    }

    /// So many received bytes were taken: the peer may send as many more.
    pub fn release(&mut self, key: Key, bytes: usize) {
        if self.over.is_some() {
            return;
        }
        self.give_back(bytes as u32);
        let Some(stream) = self.at(key).filter(|stream| stream.receives == Half::Body) else {
            return;
        };
        stream.unreleased += bytes as u32;
        if stream.unreleased >= STREAM_WINDOW_BYTES / 2 {
            let more = std::mem::take(&mut stream.unreleased);
            stream.receive_window += i64::from(more);
            frame::write_window_update(&mut self.out, key.stream, more);
        }
    }

    /// The user is done with its stream. What is not complete is reset with this code; a request of
    /// which nobody wants more than was answered, with NO_ERROR (RFC 9113 §8.1).
    pub fn close(&mut self, key: Key, code: Code) {
        let role = self.role;
        let Some(stream) = self.at(key) else { return };
        let code = match (stream.sends, stream.receives) {
            (Half::Ended, Half::Ended) => None,
            (Half::Ended, _) if role == Role::Server => Some(Code::NO_ERROR),
            _ => Some(code),
        };
        if let Some(code) = code {
            frame::write_reset(&mut self.out, key.stream, code);
        }
        self.end(key.place, None);
    }

    /// What is sent on the stream is complete.
    fn end_sent(&mut self, key: Key) {
        if let Some(stream) = self.at(key) {
            stream.sends = Half::Ended;
        }
    }

    /// Sends HEADERS, and CONTINUATION for what one frame does not hold.
    fn send_block(
        &mut self,
        stream: u32,
        ends: bool,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        let start = self.out.len();
        let flags = if ends { frame::END_STREAM } else { 0 };
        let mut header = FrameHeader { len: 0, kind: frame::HEADERS, flags, stream };
        header.write(&mut self.out);
        self.encoder.begin(&mut self.out);
        encode(&mut self.encoder, &mut self.out);
        let block = start + frame::HEADER_BYTES;
        let max = self.peer_frame_max;
        if self.out.len() - block <= max {
            header.len = (self.out.len() - block) as u32;
            header.flags |= frame::END_HEADERS;
            header.write_at(&mut self.out, start);
            return;
        }
        let bytes = self.out.split_off(block);
        self.out.truncate(start);
        let mut pieces = bytes.chunks(max).peekable();
        while let Some(piece) = pieces.next() {
            header.len = piece.len() as u32;
            if pieces.peek().is_none() {
                header.flags |= frame::END_HEADERS;
            }
            header.write(&mut self.out);
            self.out.extend_from_slice(piece);
            header = FrameHeader { kind: frame::CONTINUATION, flags: 0, ..header };
        }
    }
}

#[cfg(test)]
mod tests;
