// SPDX-License-Identifier: Apache-2.0
//! Frames, RFC 9113 §§4, 6: their headers, and those that are written whole.

use std::fmt;

/// What begins a client's half of a connection (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const HEADER_BYTES: usize = 9;
/// The largest payload that we take and send: SETTINGS_MAX_FRAME_SIZE as it is unless somebody says
/// otherwise.
pub const PAYLOAD_BYTES_MAX: usize = 16_384;
/// Of every window, RFC 9113 §6.9.1.
pub const WINDOW_MAX: i64 = 0x7fff_ffff;
/// Windows and streams begin with this, RFC 9113 §6.9.2.
pub const WINDOW_DEFAULT: u32 = 65_535;

/// Types.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

/// Settings, RFC 9113 §6.5.2, RFC 8441 §3.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;
pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Why a stream or a connection ends, RFC 9113 §7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($name:ident = $value:literal),* $(,)?) => {
        impl Code {
            $(pub const $name: Self = Self($value);)*
        }

        impl fmt::Debug for Code {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str(stringify!($name)),)*
                    other => write!(f, "{other:#x}"),
                }
            }
        }
    };
}

codes! {
    NO_ERROR = 0,
    PROTOCOL_ERROR = 1,
    INTERNAL_ERROR = 2,
    FLOW_CONTROL_ERROR = 3,
    SETTINGS_TIMEOUT = 4,
    STREAM_CLOSED = 5,
    FRAME_SIZE_ERROR = 6,
    REFUSED_STREAM = 7,
    CANCEL = 8,
    COMPRESSION_ERROR = 9,
    CONNECT_ERROR = 10,
    ENHANCE_YOUR_CALM = 11,
    INADEQUATE_SECURITY = 12,
    HTTP_1_1_REQUIRED = 13,
}

/// A frame's header, RFC 9113 §4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload: 24 bits.
    pub len: u32,
    pub kind: u8,
    pub flags: u8,
    /// Without the reserved bit.
    pub stream: u32,
}

impl FrameHeader {
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Self {
            len: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    /// For a header that was written before its frame's length was known.
    pub fn write_at(self, out: &mut [u8], at: usize) {
        out[at..at + HEADER_BYTES].copy_from_slice(&self.bytes());
    }

    fn bytes(self) -> [u8; HEADER_BYTES] {
        let [_, a, b, c] = self.len.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }
}

fn four_bytes(out: &mut Vec<u8>, kind: u8, stream: u32, value: u32) {
    FrameHeader { len: 4, kind, flags: 0, stream }.write(out);
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn write_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    four_bytes(out, RST_STREAM, stream, code.0);
}

/// `stream` 0 is the connection.
pub fn write_window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    four_bytes(out, WINDOW_UPDATE, stream, more);
}

pub fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    FrameHeader { len: settings.len() as u32 * 6, kind: SETTINGS, flags: 0, stream: 0 }.write(out);
    for (setting, value) in settings {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub fn write_settings_ack(out: &mut Vec<u8>) {
    FrameHeader { len: 0, kind: SETTINGS, flags: ACK, stream: 0 }.write(out);
}

pub fn write_ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    FrameHeader { len: 8, kind: PING, flags, stream: 0 }.write(out);
    out.extend_from_slice(&payload);
}

pub fn write_go_away(out: &mut Vec<u8>, last: u32, code: Code) {
    FrameHeader { len: 8, kind: GOAWAY, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
}
