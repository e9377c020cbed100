// SPDX-License-Identifier: Apache-2.0
//! An HTTP/2 peer that says frame by frame what a test writes down, and reads strictly: either
//! side of a connection, over cleartext or TLS, on a blocking socket with a deadline. Written from
//! RFC 9113 on its own; it shares nothing with the gateway's.
//!
//! ```ignore
//! let mut peer = Peer::connect(gateway.address(8080))?;
//! peer.send(headers(1).request("GET", "/x").end_stream())?;
//! assert_eq!(peer.response(1)?.status, 200);
//! peer.send(raw(DATA, 0, 0, b"on no stream"))?;
//! assert_eq!(peer.outcome(1)?, Outcome::GoneAway(Code::PROTOCOL_ERROR));
//! ```

pub mod echo;
pub mod frame;
pub mod hpack;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustls::ServerConfig;

use crate::PATIENCE;
use crate::client::Response;
use crate::head::{Fields, joined, malformed};
use crate::pki::Leaf;
use crate::tls::{self, ClientOptions, Handshake, Stream};
use crate::upstream::Request;

use frame::{Code, FRAME_MAX, Frame, PREFACE};

/// What both sides may send before a word about it, RFC 9113 §6.9.2.
const WINDOW: i64 = 65_535;

/// What a test may want to know of. SETTINGS, PING and WINDOW_UPDATE are seen to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Headers { stream: u32, fields: Fields, end: bool },
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    Reset { stream: u32, code: Code },
    GoAway { last: u32, code: Code },
    Pong([u8; 8]),
    Closed,
}

impl Event {
    fn stream(&self) -> Option<u32> {
        match self {
            Self::Headers { stream, .. }
            | Self::Data { stream, .. }
            | Self::Reset { stream, .. } => Some(*stream),
            _ => None,
        }
    }
}

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer of this status.
    Answered(u16),
    Reset(Code),
    /// The connection ended with a GOAWAY of this code.
    GoneAway(Code),
    /// The connection ended without a word.
    Closed,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Peer {
    stream: Stream,
    is_client: bool,
    buffer: Vec<u8>,
    decoder: hpack::Decoder,
    /// A block whose end has not come: its stream, its flags, its bytes so far.
    block: Option<(u32, u8, Vec<u8>)>,
    /// Seen and not asked for yet.
    events: VecDeque<Event>,
    /// Requests that are not whole yet.
    requests: BTreeMap<u32, Request>,
    /// Streams of CONNECT, which end as they like.
    tunnels: BTreeSet<u32>,
    /// What the other side said of itself.
    pub settings: BTreeMap<u16, u32>,
    may_send: Windows,
    may_come: Windows,
    /// Whether what was read makes room for more at once.
    pub gives_credit: bool,
    /// TLS ended without `close_notify`.
    pub was_cut: bool,
    /// Of everything that waits.
    pub patience: Duration,
}

/// What may still be sent in one direction.
#[derive(Debug)]
struct Windows {
    connection: i64,
    initial: i64,
    streams: BTreeMap<u32, i64>,
}

impl Windows {
    fn new(initial: i64) -> Self {
        Self { connection: WINDOW, initial, streams: BTreeMap::new() }
    }

    fn of(&mut self, stream: u32) -> &mut i64 {
        match stream {
            0 => &mut self.connection,
            _ => self.streams.entry(stream).or_insert(self.initial),
        }
    }

    /// SETTINGS say how large the window of a stream is from now on (RFC 9113 §6.9.2).
    fn resize(&mut self, initial: u32) {
        let change = i64::from(initial) - self.initial;
        self.initial += change;
        self.streams.values_mut().for_each(|window| *window += change);
    }

    /// Takes bytes of a stream and of the connection; whether there was room.
    fn take(&mut self, stream: u32, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.connection -= bytes;
        let window = self.of(stream);
        *window -= bytes;
        *window >= 0 && self.connection >= 0
    }
}

impl Peer {
    /// A client by prior knowledge, RFC 9113 §3.3.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Self::client(stream, &[])
    }

    /// A client that says nothing of itself first, the preface included.
    pub fn bare(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        Self::new(stream.into(), true, &[])
    }

    /// A client over TLS; the server must choose `h2`.
    pub fn connect_tls(to: SocketAddr, name: &str) -> Result<Self> {
        let options = ClientOptions { alpn: vec!["h2".into()], ..ClientOptions::name(name) };
        let socket = TcpStream::connect(to)?;
        socket.set_nodelay(true)?;
        let stream = tls::connect(socket, options.config()?, Some(name))?;
        let alpn = stream.handshake().and_then(|handshake| handshake.alpn);
        ensure!(alpn.as_deref() == Some("h2"), "the protocol is {alpn:?}");
        Ok(Self::client(stream, &[])?)
    }

    /// A client that says these settings.
    pub fn client(stream: impl Into<Stream>, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut peer = Self::new(stream.into(), true, settings)?;
        peer.send_bytes(&[&PREFACE[..], &frame::settings(settings).bytes()].concat())?;
        Ok(peer)
    }

    /// A server that says these settings, once the client's preface has come.
    pub fn server(stream: impl Into<Stream>, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut peer = Self::new(stream.into(), false, settings)?;
        let deadline = Instant::now() + peer.patience;
        while peer.buffer.len() < PREFACE.len() {
            if !peer.fill(deadline)? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        if !peer.buffer.starts_with(PREFACE) {
            return Err(malformed("no preface"));
        }
        peer.buffer.drain(..PREFACE.len());
        peer.send(frame::settings(settings))?;
        Ok(peer)
    }

    fn new(stream: Stream, is_client: bool, settings: &[(u16, u32)]) -> io::Result<Self> {
        stream.socket().set_write_timeout(Some(PATIENCE))?;
        let chosen = settings.iter().find(|(id, _)| *id == frame::INITIAL_WINDOW_SIZE);
        let initial = chosen.map_or(WINDOW, |(_, window)| i64::from(*window));
        // A client may speak before it has heard what the server wants.
        let initial = if is_client { initial } else { initial.max(WINDOW) };
        Ok(Self {
            stream,
            is_client,
            buffer: Vec::new(),
            decoder: hpack::Decoder::default(),
            block: None,
            events: VecDeque::new(),
            requests: BTreeMap::new(),
            tunnels: BTreeSet::new(),
            settings: BTreeMap::new(),
            may_send: Windows::new(WINDOW),
            may_come: Windows::new(initial),
            gives_credit: true,
            was_cut: false,
            patience: PATIENCE,
        })
    }

    /// The socket, below TLS if there is any.
    pub fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// What the TLS handshake came to.
    pub fn handshake(&self) -> Option<Handshake> {
        self.stream.handshake()
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.finish()
    }

    /// Sends frames as they are, in one write.
    pub fn send(&mut self, frames: impl IntoIterator<Item = Frame>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for frame in frames {
            if frame.kind == frame::DATA {
                self.may_send.take(frame.stream, frame.payload.len());
            }
            bytes.extend(frame.bytes());
        }
        self.send_bytes(&bytes)
    }

    /// Sends bytes of a body as the other side's windows allow.
    pub fn body(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.may_send.connection.min(*self.may_send.of(stream));
            let n = rest.len().min(FRAME_MAX).min(usize::try_from(room).unwrap_or(0));
            if n > 0 {
                let (now, later) = rest.split_at(n);
                self.send(frame::data(stream, now))?;
                rest = later;
                continue;
            }
            let event = self.read(Instant::now() + self.patience)?;
            let Some(event) = event else { continue };
            let ends = match &event {
                Event::Reset { stream: other, .. } => *other == stream,
                Event::GoAway { last, .. } => *last < stream,
                event => *event == Event::Closed,
            };
            self.events.push_back(event);
            if ends {
                return Err(ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }

    /// Lets the other side send more: on a stream and on the connection; of stream 0, on that only.
    pub fn allow(&mut self, stream: u32, more: u32) -> io::Result<()> {
        let ids = if stream == 0 { &[0][..] } else { &[stream, 0] };
        for id in ids {
            *self.may_come.of(*id) += i64::from(more);
        }
        self.send(ids.iter().map(|id| frame::window_update(*id, more)))
    }

    /// Lets the other side send so much on each stream, by SETTINGS.
    pub fn resize(&mut self, initial: u32) -> io::Result<()> {
        self.may_come.resize(initial);
        self.send([frame::settings(&[(frame::INITIAL_WINDOW_SIZE, initial)])])
    }

    /// The next event.
    pub fn event(&mut self) -> io::Result<Event> {
        self.event_until(Instant::now() + self.patience)
    }

    /// The same; `TimedOut` where there is none until then, and nothing is lost.
    pub fn event_until(&mut self, deadline: Instant) -> io::Result<Event> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        loop {
            if let Some(event) = self.read(deadline)? {
                return Ok(event);
            }
        }
    }

    /// The next event of a stream, or of a connection that gives it up.
    pub fn event_of(&mut self, stream: u32) -> io::Result<Event> {
        let deadline = Instant::now() + self.patience;
        let mut at = 0;
        loop {
            while let Some(event) = self.events.get(at) {
                match event {
                    event if event.stream() == Some(stream) => {
                        return Ok(self.events.remove(at).expect("just seen"));
                    }
                    Event::GoAway { last, code } if *last < stream || *code != Code::NO_ERROR => {
                        return Ok(event.clone());
                    }
                    Event::Closed => return Ok(Event::Closed),
                    _ => at += 1,
                }
            }
            if let Some(event) = self.read(deadline)? {
                self.events.push_back(event);
            }
        }
    }

    /// The whole answer to a request.
    pub fn response(&mut self, stream: u32) -> io::Result<Response> {
        let mut body = Vec::new();
        let mut response = self.response_to(stream, &mut |bytes| body.extend_from_slice(bytes))?;
        response.body = body;
        Ok(response)
    }

    /// Sends a request, and gives its whole answer.
    pub fn ask(&mut self, request: Frame) -> io::Result<Response> {
        let stream = request.stream;
        self.send(request)?;
        self.response(stream)
    }

    /// The whole answer; its body goes to `sink` as it comes.
    pub fn response_to(
        &mut self,
        stream: u32,
        sink: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Response> {
        let mut interim = Vec::new();
        let (mut response, mut ended) = loop {
            match self.event_of(stream)? {
                Event::Headers { fields, end, .. } => {
                    let status = joined(&fields, ":status").and_then(|text| text.parse().ok());
                    let status: u16 = status.ok_or_else(|| malformed("no status"))?;
                    if status < 200 {
                        interim.push(status);
                        continue;
                    }
                    break (head(status, fields, interim), end);
                }
                Event::Data { .. } => return Err(malformed("a body before a head")),
                other => return Err(io::Error::other(format!("stream {stream}: {other:?}"))),
            }
        };
        let mut length = 0;
        while !ended {
            match self.event_of(stream)? {
                Event::Data { bytes, end, .. } => {
                    length += bytes.len();
                    sink(&bytes);
                    ended = end;
                }
                Event::Headers { fields, end, .. } => {
                    if !end || fields.iter().any(|(name, _)| name.starts_with(':')) {
                        return Err(malformed("trailers that are none"));
                    }
                    response.trailers = fields;
                    ended = end;
                }
                other => {
                    response.broken = Some(format!("{other:?}"));
                    return Ok(response);
                }
            }
        }
        let said = response.header("content-length");
        if length > 0 && said.as_ref().is_some_and(|said| *said != length.to_string()) {
            return Err(malformed(format!("{length} bytes, not {said:?}")));
        }
        Ok(response)
    }

    /// What a request came to.
    pub fn outcome(&mut self, stream: u32) -> io::Result<Outcome> {
        let mut status = None;
        loop {
            let end = match self.event_of(stream)? {
                Event::Headers { fields, end, .. } => {
                    let said = joined(&fields, ":status").and_then(|text| text.parse().ok());
                    status = status.or_else(|| said.filter(|status| *status >= 200));
                    end
                }
                Event::Data { end, .. } => end,
                Event::Reset { code, .. } => return Ok(Outcome::Reset(code)),
                Event::GoAway { code, .. } => return Ok(Outcome::GoneAway(code)),
                Event::Closed => return Ok(Outcome::Closed),
                Event::Pong(_) => false,
            };
            if let (true, Some(status)) = (end, status) {
                return Ok(Outcome::Answered(status));
            }
        }
    }

    /// The code of the GOAWAY that ends the connection: the first that is an error, `NO_ERROR` if
    /// there was none, nothing if the connection ended without.
    pub fn farewell(&mut self) -> io::Result<Option<Code>> {
        let deadline = Instant::now() + self.patience;
        let mut said = None;
        loop {
            match self.event_until(deadline)? {
                Event::GoAway { code, .. } if code != Code::NO_ERROR => return Ok(Some(code)),
                Event::GoAway { code, .. } => said = Some(code),
                Event::Closed => return Ok(said),
                _ => {}
            }
        }
    }

    /// Whether the other side answers a PING: the connection goes on, and it has read so far.
    pub fn is_alive(&mut self) -> io::Result<bool> {
        let word = *b"alive ?!";
        if self.send(frame::ping(word)).is_err() {
            return Ok(false);
        }
        let deadline = Instant::now() + self.patience;
        loop {
            match self.read(deadline)? {
                Some(Event::Pong(answer)) if answer == word => return Ok(true),
                Some(event @ (Event::Closed | Event::GoAway { .. })) => {
                    self.events.push_back(event);
                    return Ok(false);
                }
                Some(event) => self.events.push_back(event),
                None => {}
            }
        }
    }

    /// Whether the other side has ended the connection, as far as it is known without waiting.
    pub fn has_ended(&mut self) -> io::Result<bool> {
        self.socket().set_nonblocking(true)?;
        let ended = loop {
            match self.read(Instant::now()) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    self.events.push_back(event.clone());
                    if let Event::Closed | Event::GoAway { .. } = event {
                        break Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.socket().set_nonblocking(false)?;
        ended
    }

    /// The next whole request and its stream, or the head of a CONNECT, of whose tunnel nothing more
    /// is told; nothing once the connection has ended.
    pub fn request(&mut self, deadline: Instant) -> io::Result<Option<(u32, Request)>> {
        loop {
            let (stream, end) = match self.event_until(deadline)? {
                Event::Headers { stream, fields, .. } if field(&fields, ":method") == "CONNECT" => {
                    self.tunnels.insert(stream);
                    return Ok(Some((stream, request(fields)?)));
                }
                Event::Data { stream, .. } if self.tunnels.contains(&stream) => continue,
                Event::Headers { stream, fields, end } => {
                    match self.requests.get_mut(&stream) {
                        Some(request) => request.trailers = fields,
                        None => {
                            self.requests.insert(stream, request(fields)?);
                        }
                    }
                    (stream, end)
                }
                Event::Data { stream, bytes, end } => {
                    let request = self.requests.get_mut(&stream);
                    let request = request.ok_or_else(|| malformed("a body before a head"))?;
                    request.body.extend_from_slice(&bytes);
                    (stream, end)
                }
                Event::Reset { stream, .. } => {
                    self.requests.remove(&stream);
                    continue;
                }
                Event::Closed => return Ok(None),
                Event::GoAway { .. } | Event::Pong(_) => continue,
            };
            if !end {
                continue;
            }
            let Some(request) = self.requests.remove(&stream) else { continue };
            let length = request.body.len().to_string();
            match request.header("content-length") {
                Some(said) if said != length => {
                    return Err(malformed(format!("{length} bytes, not {said}")));
                }
                _ => return Ok(Some((stream, request))),
            }
        }
    }

    /// Reads more; false at the end.
    fn fill(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Zero would mean forever.
        self.socket().set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut chunk = [0; 32 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(n > 0)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(ErrorKind::TimedOut.into()),
                kind @ (ErrorKind::ConnectionReset
                | ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe) => {
                    self.was_cut |= kind == ErrorKind::UnexpectedEof;
                    Ok(false)
                }
                ErrorKind::Interrupted => Ok(true),
                _ => Err(error),
            },
        }
    }

    /// Takes in one frame, after waiting for it; what it was to the test, if anything.
    fn read(&mut self, deadline: Instant) -> io::Result<Option<Event>> {
        loop {
            if let Some((frame, length)) = Frame::parse(&self.buffer) {
                self.buffer.drain(..length);
                return self.take_in(frame);
            }
            if !self.fill(deadline)? {
                return Ok(Some(Event::Closed));
            }
        }
    }

    fn take_in(&mut self, frame: Frame) -> io::Result<Option<Event>> {
        let stream = frame.stream;
        let goes_on = self.block.as_ref().map(|(stream, ..)| *stream);
        let is_block = frame.kind == frame::CONTINUATION;
        if goes_on.is_some() != is_block || (is_block && goes_on != Some(stream)) {
            return Err(malformed(format!("{frame:?} within a block of {goes_on:?}")));
        }
        if frame.payload.len() > FRAME_MAX {
            return Err(malformed(format!("a frame of {} bytes", frame.payload.len())));
        }
        let word = |at: usize| {
            let bytes = frame.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or_else(|| malformed(format!("short: {frame:?}")))
        };
        match frame.kind {
            frame::DATA => {
                if !self.may_come.take(stream, frame.payload.len()) {
                    return Err(malformed(format!("beyond the window of stream {stream}")));
                }
                let end = frame.has(frame::END_STREAM);
                if self.gives_credit && !frame.payload.is_empty() {
                    let more = frame.payload.len() as u32;
                    let ids = if end { &[0][..] } else { &[stream, 0] };
                    for id in ids {
                        *self.may_come.of(*id) += i64::from(more);
                    }
                    let updates = ids.iter().map(|id| frame::window_update(*id, more));
                    self.answer(updates.collect());
                }
                Ok(Some(Event::Data { stream, bytes: unpadded(&frame)?, end }))
            }
            frame::HEADERS => {
                let mut block = unpadded(&frame)?;
                if frame.has(frame::WITH_PRIORITY) {
                    block.drain(..block.len().min(5));
                }
                self.block = Some((stream, frame.flags, block));
                self.end_of_block(&frame)
            }
            frame::CONTINUATION => {
                if let Some((.., block)) = &mut self.block {
                    block.extend_from_slice(&frame.payload);
                }
                self.end_of_block(&frame)
            }
            frame::RST_STREAM => Ok(Some(Event::Reset { stream, code: Code(word(0)?) })),
            frame::GOAWAY => Ok(Some(Event::GoAway { last: word(0)?, code: Code(word(4)?) })),
            frame::SETTINGS if !frame.has(frame::ACK) => {
                for value in frame.payload.chunks_exact(6) {
                    let id = u16::from_be_bytes([value[0], value[1]]);
                    let value = u32::from_be_bytes([value[2], value[3], value[4], value[5]]);
                    self.settings.insert(id, value);
                    if id == frame::INITIAL_WINDOW_SIZE {
                        self.may_send.resize(value);
                    }
                }
                self.answer(vec![frame::settings_ack()]);
                Ok(None)
            }
            frame::PING => {
                let word = frame.payload.try_into().map_err(|_| malformed("a short PING"))?;
                if frame.flags & frame::ACK != 0 {
                    return Ok(Some(Event::Pong(word)));
                }
                self.answer(vec![frame::raw(frame::PING, frame::ACK, 0, &word)]);
                Ok(None)
            }
            frame::WINDOW_UPDATE => {
                *self.may_send.of(stream) += i64::from(word(0)?);
                Ok(None)
            }
            frame::PUSH_PROMISE => Err(malformed("a push")),
            // RFC 9113 §4.1: what is not known is passed over.
            _ => Ok(None),
        }
    }

    /// Says what nobody asked for. Where the other side has gone, reading says so.
    fn answer(&mut self, frames: Vec<Frame>) {
        let _ = self.send(frames);
    }

    fn end_of_block(&mut self, frame: &Frame) -> io::Result<Option<Event>> {
        if !frame.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let Some((stream, flags, block)) = self.block.take() else { return Ok(None) };
        let fields = self.decoder.fields(&block)?;
        well_formed(&fields)?;
        let own = stream % 2 == 1;
        if stream == 0 || !own {
            return Err(malformed(format!("stream {stream} of a client: {}", !self.is_client)));
        }
        Ok(Some(Event::Headers { stream, fields, end: flags & frame::END_STREAM != 0 }))
    }
}

/// RFC 9113 §8.2: as every head and every trailers must be.
fn well_formed(fields: &Fields) -> io::Result<()> {
    const OF_CONNECTIONS: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let mut regular = false;
    for (name, value) in fields {
        let pseudo = name.starts_with(':');
        let bad = (pseudo && regular)
            || name.is_empty()
            || name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ')
            || OF_CONNECTIONS.contains(&name.as_str())
            || (name == "te" && value != "trailers")
            || value.trim_matches([' ', '\t']) != value
            || value.contains(['\r', '\n', '\0']);
        if bad {
            return Err(malformed(format!("{name}: {value:?} may not be in {fields:?}")));
        }
        regular |= !pseudo;
    }
    Ok(())
}

fn unpadded(frame: &Frame) -> io::Result<Vec<u8>> {
    if !frame.has(frame::PADDED) {
        return Ok(frame.payload.clone());
    }
    let short = || malformed("more padding than frame");
    let (&padding, rest) = frame.payload.split_first().ok_or_else(short)?;
    let length = rest.len().checked_sub(usize::from(padding)).ok_or_else(short)?;
    Ok(rest[..length].to_vec())
}

fn head(status: u16, mut fields: Fields, interim: Vec<u16>) -> Response {
    fields.retain(|(name, _)| name != ":status");
    Response {
        version: "HTTP/2".into(),
        status,
        reason: String::new(),
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
        broken: None,
        interim,
    }
}

fn field<'f>(fields: &'f Fields, name: &str) -> &'f str {
    fields.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
}

/// A request without its body yet. Its fields keep the pseudo ones.
fn request(fields: Fields) -> io::Result<Request> {
    let pseudo = |name: &str| {
        let mut values = fields.iter().filter(|(n, _)| n == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) if !value.is_empty() => Ok(value.clone()),
            _ => Err(malformed(format!("not one {name}: {fields:?}"))),
        }
    };
    let method = pseudo(":method")?;
    // Only an extended CONNECT has a path, RFC 9113 §8.5, RFC 8441 §4.
    let extended = method != "CONNECT" || fields.iter().any(|(name, _)| name == ":protocol");
    Ok(Request {
        method,
        target: pseudo(if extended { ":path" } else { ":authority" })?,
        version: "HTTP/2".into(),
        body: Vec::new(),
        trailers: Vec::new(),
        fields,
    })
}

/// How a back end speaks HTTP/2 over TLS.
pub fn tls_server(leaf: &Leaf) -> Result<Arc<ServerConfig>> {
    let mut config = (*tls::server(leaf, None)?).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
