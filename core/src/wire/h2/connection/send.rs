// SPDX-License-Identifier: Apache-2.0
//! What users do with their streams.

use super::{Connection, Gone, Half, Key};
use crate::limits::STREAM_WINDOW_BYTES;
use crate::wire::h2::frame::{self, Code, FrameHeader};
use crate::wire::h2::hpack::Encoder;
use crate::wire::h2::message;
use crate::wire::h2::meter::Role;

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

    /// The users of all streams, where SETTINGS have given each of them room since the last call.
    pub fn take_grown(&mut self) -> impl Iterator<Item = &T> {
        let grew = std::mem::take(&mut self.windows_grew);
        let streams = if grew { &self.streams[..] } else { &[] };
        streams.iter().flatten().filter_map(|stream| stream.user.as_ref())
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
            let (now, later) = data.split_at(data.len().min(frame::PAYLOAD_BYTES_MAX));
            let last = later.is_empty();
            let ends = ends && last;
            let flags = if ends { frame::END_STREAM } else { 0 };
            let (len, stream) = (now.len() as u32, key.stream);
            self.meter.sent(len > 0, ends);
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
        let spare = self.spare;
        let Some(stream) = self.at(key).filter(|stream| stream.receives == Half::Body) else {
            return;
        };
        stream.unreleased += bytes as u32;
        if stream.unreleased >= stream.window / 2 {
            let grown = (STREAM_WINDOW_BYTES - stream.window).min(spare);
            stream.window += grown;
            let more = std::mem::take(&mut stream.unreleased) + grown;
            stream.receive_window += i64::from(more);
            frame::write_window_update(&mut self.out, key.stream, more);
            self.spare -= grown;
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
        self.end(key.place, None);
        if let Some(code) = code {
            self.reset(key.stream, code);
        }
    }

    /// Says that a stream is over. What makes us say so for nothing is a flood, too.
    pub(super) fn reset(&mut self, stream: u32, code: Code) {
        frame::write_reset(&mut self.out, stream, code);
        if let Err(flood) = self.meter.reset(code) {
            self.calm(flood);
        }
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
        self.meter.sent(true, ends);
        let start = self.out.len();
        let flags = if ends { frame::END_STREAM } else { 0 };
        let mut header = FrameHeader { len: 0, kind: frame::HEADERS, flags, stream };
        header.write(&mut self.out);
        self.encoder.begin(&mut self.out);
        encode(&mut self.encoder, &mut self.out);
        let block = start + frame::HEADER_BYTES;
        // Everybody takes so much, and larger frames would only hold up others.
        let max = frame::PAYLOAD_BYTES_MAX;
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
