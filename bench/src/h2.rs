// SPDX-License-Identifier: Apache-2.0
//! Just enough HTTP/2 (RFC 9113) to be both ends of a proxy cheaply: one connection's frames, windows and
//! header blocks, without I/O. Every message of the bench fits one DATA frame, and every head one HEADERS
//! frame; a peer that splits a header block is an error here.

use std::collections::VecDeque;

use crate::hpack::{Decoder, Encoder};
use crate::http;

/// What a client sends first, up to where an HTTP/1.1 head would end, and the rest.
pub(crate) const PREFACE: (&[u8], &[u8]) = (b"PRI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n");
/// What everybody takes in one frame, and so the most that a body here has.
const FRAME_BYTES_MAX: usize = 16_384;
pub(crate) const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Windows before anybody says otherwise.
const WINDOW: i64 = 65_535;
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// What each stream of a peer may send, and how many there may be at a time.
const STREAM_WINDOW: u32 = 1 << 24;
const STREAMS_MAX: u32 = 1_000;
/// The connection's window is opened again in bulk: when so much of it is used.
const WINDOW_USED_MAX: i64 = 1 << 30;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// DATA and HEADERS: nothing follows on this stream. SETTINGS and PING: this is the answer.
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const SETTINGS_HEADER_TABLE_SIZE: u16 = 1;
const SETTINGS_ENABLE_PUSH: u16 = 2;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

/// One end of a connection.
pub(crate) struct Link {
    decoder: Decoder,
    encoder: Encoder,
    /// Clients speak TLS.
    secure: bool,
    /// What is still to come of the client's preface.
    preface: &'static [u8],
    /// What the peer lets us send on the connection. A stream has one message, which fits its window.
    window: i64,
    /// Received of the connection's window since it was opened last.
    used: i64,
    /// Messages that wait for the window.
    waiting: VecDeque<(u32, Message)>,
    /// How many streams the peer allows at a time.
    pub(crate) streams_max: u32,
}

/// A request or an answer, all of it: heads as HTTP/1.1 writes them (see `hpack`), kept for the life of
/// the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) head: &'static [u8],
    pub(crate) body: &'static [u8],
    pub(crate) trailers: Option<&'static [u8]>,
}

/// A gRPC message of `length` bytes behind its prefix: not compressed, and how long it is.
pub(crate) fn grpc_message(length: usize) -> Vec<u8> {
    let prefix = u32::try_from(length).expect("messages are short").to_be_bytes();
    [&[0][..], &prefix, &http::body(length)].concat()
}

/// What arrived on a stream. `ends`: nothing follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    Head {
        stream: u32,
        head: &'a [u8],
        ends: bool,
    },
    Body {
        stream: u32,
        bytes: &'a [u8],
        ends: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    /// The peer takes no more streams.
    Goodbye {
        code: u32,
    },
}

impl Link {
    /// A client, which begins.
    pub(crate) fn client(secure: bool, out: &mut Vec<u8>) -> Self {
        out.extend([PREFACE.0, PREFACE.1].concat());
        let settings = [(SETTINGS_ENABLE_PUSH, 0), (SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW)];
        Self::begin(secure, b"", &settings, out)
    }

    /// A server that has read the first part of the preface.
    pub(crate) fn server(out: &mut Vec<u8>) -> Self {
        let settings = [
            (SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX),
            (SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        ];
        Self::begin(false, PREFACE.1, &settings, out)
    }

    fn begin(
        secure: bool,
        preface: &'static [u8],
        settings: &[(u16, u32)],
        out: &mut Vec<u8>,
    ) -> Self {
        put_frame(out, SETTINGS, 0, 0, |out| {
            for (name, value) in settings {
                out.extend(name.to_be_bytes());
                out.extend(value.to_be_bytes());
            }
        });
        open_window(out, WINDOW_MAX - WINDOW);
        Self {
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            secure,
            preface,
            window: WINDOW,
            used: 0,
            waiting: VecDeque::new(),
            streams_max: u32::MAX,
        }
    }

    /// Sends a message once the window has room for it.
    pub(crate) fn send(&mut self, stream: u32, message: Message, out: &mut Vec<u8>) {
        assert!(message.body.len() <= BODY_BYTES_MAX);
        self.waiting.push_back((stream, message));
        self.send_waiting(out);
    }

    fn send_waiting(&mut self, out: &mut Vec<u8>) {
        while let Some(&(stream, Message { head, body, trailers })) = self.waiting.front() {
            let length = body.len() as i64;
            if length > self.window {
                return;
            }
            self.waiting.pop_front();
            self.window -= length;
            let last = |is: bool| if is { END_STREAM } else { 0 };
            let flags = END_HEADERS | last(body.is_empty() && trailers.is_none());
            put_frame(out, HEADERS, flags, stream, |out| {
                self.encoder.block(head, self.secure, out);
            });
            if !body.is_empty() {
                put_frame(out, DATA, last(trailers.is_none()), stream, |out| {
                    out.extend_from_slice(body);
                });
            }
            if let Some(trailers) = trailers {
                put_frame(out, HEADERS, END_HEADERS | END_STREAM, stream, |out| {
                    self.encoder.block(trailers, self.secure, out);
                });
            }
        }
    }

    /// Takes whole frames off the front of `bytes` up to the first one that means something to a stream;
    /// answers the others. `None`: none is whole.
    pub(crate) fn receive<'a, 'b: 'a>(
        &'a mut self,
        bytes: &mut &'b [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, String> {
        if !self.preface.is_empty() {
            let now = bytes.len().min(self.preface.len());
            let (ours, rest) = bytes.split_at(now);
            *bytes = rest;
            self.preface = self.preface.strip_prefix(ours).ok_or("a wrong preface")?;
        }
        while let Some(frame) = Frame::take(bytes)? {
            match frame.kind {
                HEADERS => {
                    if frame.flags & END_HEADERS == 0 {
                        return Err("a header block in several frames".to_owned());
                    }
                    let head = self.decoder.head(frame.content()?)?;
                    let Frame { stream, .. } = frame;
                    return Ok(Some(Event::Head { stream, head, ends: frame.ends() }));
                }
                DATA => {
                    self.used += frame.payload.len() as i64;
                    if self.used > WINDOW_USED_MAX {
                        open_window(out, std::mem::take(&mut self.used));
                    }
                    let Frame { stream, .. } = frame;
                    let bytes = frame.content()?;
                    return Ok(Some(Event::Body { stream, bytes, ends: frame.ends() }));
                }
                SETTINGS if frame.flags & ACK == 0 => {
                    self.settings(frame.payload)?;
                    put_frame(out, SETTINGS, ACK, 0, |_| {});
                    self.send_waiting(out);
                }
                PING if frame.flags & ACK == 0 => {
                    put_frame(out, PING, ACK, 0, |out| out.extend_from_slice(frame.payload));
                }
                WINDOW_UPDATE if frame.stream == 0 => {
                    self.window += i64::from(frame.number(0)?);
                    self.send_waiting(out);
                }
                RST_STREAM => {
                    let code = frame.number(0)?;
                    return Ok(Some(Event::Reset { stream: frame.stream, code }));
                }
                GOAWAY => return Ok(Some(Event::Goodbye { code: frame.number(4)? })),
                PUSH_PROMISE | CONTINUATION => {
                    return Err(format!("a frame of type {}", frame.kind));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), String> {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = number(&setting[2..]).expect("four bytes");
            match name {
                SETTINGS_HEADER_TABLE_SIZE => self.encoder.limit(value as usize),
                SETTINGS_MAX_CONCURRENT_STREAMS => self.streams_max = value,
                SETTINGS_INITIAL_WINDOW_SIZE if (value as usize) < BODY_BYTES_MAX => {
                    return Err(format!("a window of {value} bytes for a stream"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame, if it is whole.
    fn take(bytes: &mut &'a [u8]) -> Result<Option<Self>, String> {
        let Some((head, rest)) = bytes.split_at_checked(9) else { return Ok(None) };
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        *bytes = rest;
        let stream = number(&head[5..]).expect("four bytes") & (u32::MAX >> 1);
        Ok(Some(Self { kind: head[3], flags: head[4], stream, payload }))
    }

    fn ends(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// What is between priority and padding.
    fn content(&self) -> Result<&'a [u8], String> {
        let (mut content, mut padding) = (self.payload, 0);
        if self.flags & PADDED != 0 {
            let (&first, rest) = content.split_first().ok_or("a padded frame without length")?;
            (content, padding) = (rest, usize::from(first));
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            content = content.get(5..).ok_or("a priority cut short")?;
        }
        let length = content.len().checked_sub(padding).ok_or("more padding than frame")?;
        Ok(&content[..length])
    }

    /// The number that is so far in the payload.
    fn number(&self, at: usize) -> Result<u32, String> {
        let bytes = self.payload.get(at..).unwrap_or_default();
        number(bytes).ok_or_else(|| format!("a frame of type {} cut short", self.kind))
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn open_window(out: &mut Vec<u8>, by: i64) {
    let by = u32::try_from(by).expect("windows are below 2^31");
    put_frame(out, WINDOW_UPDATE, 0, 0, |out| out.extend(by.to_be_bytes()));
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, put: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    out.extend([0, 0, 0, kind, flags]);
    out.extend(stream.to_be_bytes());
    put(out);
    let length = (out.len() - from - 9) as u32;
    out[from..from + 3].copy_from_slice(&length.to_be_bytes()[1..]);
}

#[cfg(test)]
mod tests;
