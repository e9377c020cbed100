// SPDX-License-Identifier: Apache-2.0
//! Frames as values, whether or not they may be sent. RFC 9113 §4 and §6.

use super::hpack;

pub use ringway_core::wire::h2::frame::{
    ACK, CONTINUATION, Code, DATA, ENABLE_CONNECT_PROTOCOL, ENABLE_PUSH, END_HEADERS, END_STREAM,
    GOAWAY, HEADER_TABLE_SIZE, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, PADDED, PAYLOAD_BYTES_MAX as FRAME_MAX, PING, PREFACE,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
};

/// One frame; a block of fields that is too long for one goes on in CONTINUATION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Any frame at all.
pub fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    Frame { kind, flags, stream, payload: payload.to_vec() }
}

/// A head without a field yet.
pub fn headers(stream: u32) -> Frame {
    raw(HEADERS, END_HEADERS, stream, b"")
}

/// The rest of a block.
pub fn continuation(stream: u32, block: &[u8]) -> Frame {
    raw(CONTINUATION, 0, stream, block)
}

pub fn data(stream: u32, bytes: impl AsRef<[u8]>) -> Frame {
    raw(DATA, 0, stream, bytes.as_ref())
}

pub fn priority(stream: u32, on: u32, weight: u8) -> Frame {
    raw(PRIORITY, 0, stream, &[&on.to_be_bytes()[..], &[weight]].concat())
}

pub fn reset(stream: u32, code: Code) -> Frame {
    raw(RST_STREAM, 0, stream, &code.0.to_be_bytes())
}

pub fn settings(values: &[(u16, u32)]) -> Frame {
    let value = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    raw(SETTINGS, 0, 0, &values.iter().flat_map(value).collect::<Vec<u8>>())
}

pub fn settings_ack() -> Frame {
    raw(SETTINGS, ACK, 0, b"")
}

pub fn ping(word: [u8; 8]) -> Frame {
    raw(PING, 0, 0, &word)
}

pub fn goaway(last: u32, code: Code) -> Frame {
    raw(GOAWAY, 0, 0, &[last.to_be_bytes(), code.0.to_be_bytes()].concat())
}

pub fn window_update(stream: u32, more: u32) -> Frame {
    raw(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

impl Frame {
    /// The pseudo fields of a request for host `a` over cleartext.
    pub fn request(self, method: &str, path: &str) -> Self {
        self.field(":method", method)
            .field(":scheme", "http")
            .field(":authority", "a")
            .field(":path", path)
    }

    pub fn status(self, status: u16) -> Self {
        self.field(":status", status.to_string())
    }

    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.payload.extend(hpack::literal(name, value.as_ref()));
        self
    }

    pub fn fields<'a>(self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        fields.into_iter().fold(self, |frame, (name, value)| frame.field(name, value))
    }

    /// Bytes of a block as they are.
    pub fn block(mut self, block: &[u8]) -> Self {
        self.payload.extend_from_slice(block);
        self
    }

    pub fn end_stream(mut self) -> Self {
        self.flags |= END_STREAM;
        self
    }

    pub fn end_headers(mut self) -> Self {
        self.flags |= END_HEADERS;
        self
    }

    /// The block goes on in another frame.
    pub fn unfinished(mut self) -> Self {
        self.flags &= !END_HEADERS;
        self
    }

    /// With zeros behind.
    pub fn padded(mut self, n: u8) -> Self {
        self.flags |= PADDED;
        self.payload.insert(0, n);
        self.payload.resize(self.payload.len() + usize::from(n), 0);
        self
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 9);
        let splits = self.kind == HEADERS && self.flags & END_HEADERS != 0;
        if !splits || self.payload.len() <= FRAME_MAX {
            self.put(&mut bytes, self.kind, self.flags, &self.payload);
            return bytes;
        }
        let mut pieces = self.payload.chunks(FRAME_MAX).peekable();
        let (mut kind, mut flags) = (HEADERS, self.flags & !END_HEADERS);
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= END_HEADERS;
            }
            self.put(&mut bytes, kind, flags, piece);
            (kind, flags) = (CONTINUATION, 0);
        }
        bytes
    }

    fn put(&self, bytes: &mut Vec<u8>, kind: u8, flags: u8, payload: &[u8]) {
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(payload);
    }

    /// The first whole frame of these bytes, and how many it takes.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = rest.get(..length)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some((raw(head[3], head[4], stream, payload), 9 + length))
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Alone where several could stand.
impl IntoIterator for Frame {
    type Item = Self;
    type IntoIter = std::iter::Once<Self>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self)
    }
}
