// SPDX-License-Identifier: Apache-2.0
//! gRPC-Web (gRPC's `PROTOCOL-WEB.md`): what browsers can send and read of gRPC. Its messages are
//! gRPC's, the trailers come as a last one, and where a body must be text it is base64.
//!
//! ```text
//!  request body ─ Decoder ─▶ gRPC's messages
//!  gRPC's messages, trailers ─ Encoder ─▶ response body
//! ```

use super::grpc::{Messages, PREFIX_BYTES};
use super::h2::message;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/grpc-web`: messages as they are.
    Binary,
    /// `application/grpc-web-text`: base64.
    Text,
}

const GRPC: &[u8] = b"application/grpc";
const WEB: &[u8] = b"-web";
const TEXT: &[u8] = b"-text";

/// What a media type is, if it is gRPC-Web's: its form, and how its messages are encoded, which
/// gRPC's type ends with too (`+proto`, or nothing). As in Envoy parameters make it another type.
pub fn parse(content_type: &[u8]) -> Option<(Form, &[u8])> {
    let after = |text: &'_ [u8], prefix: &[u8]| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let rest = content_type.get(GRPC.len() + WEB.len()..)?;
    if !after(content_type, GRPC) || !after(&content_type[GRPC.len()..], WEB) {
        return None;
    }
    let (form, encoding) = match after(rest, TEXT) {
        true => (Form::Text, &rest[TEXT.len()..]),
        false => (Form::Binary, rest),
    };
    let named = encoding.is_empty() || (encoding[0] == b'+' && !encoding.contains(&b';'));
    named.then_some((form, encoding))
}

/// The form that an answer is wanted in: text where Accept has that type, whatever else it has.
pub fn wanted(accept: &[u8]) -> Form {
    let mut types = accept.split(|&b| b == b',').map(|range| {
        let end = memchr::memchr(b';', range).unwrap_or(range.len());
        range[..end].trim_ascii()
    });
    let text = types.any(|media_type| matches!(parse(media_type), Some((Form::Text, _))));
    if text { Form::Text } else { Form::Binary }
}

/// Appends gRPC's type of messages that are encoded so: see [`parse`].
pub fn push_grpc_type(encoding: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(GRPC);
    out.extend_from_slice(encoding);
}

/// Appends the type that answers gRPC's: the encoding stays, and Protocol Buffers are named where
/// nothing is, as in Envoy.
pub fn push_web_type(form: Form, grpc_type: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(GRPC);
    out.extend_from_slice(WEB);
    if form == Form::Text {
        out.extend_from_slice(TEXT);
    }
    let encoding = grpc_type.get(GRPC.len()..).unwrap_or_default();
    out.extend_from_slice(if encoding.is_empty() { b"+proto" } else { encoding });
}

/// A body that should be base64 is not: RFC 4648 §4 with its padding, nothing between, and no bits
/// that padding hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBase64;

/// Reads a request body that is [`Form::Text`]. Base64 may end, padded, and begin anew anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    /// Less than four characters, which more are to follow.
    held: [u8; 4],
    held_len: u8,
}

impl Decoder {
    /// Appends what the next characters stand for, at most three bytes for four of them. An error
    /// is final.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        while self.held_len > 0 {
            let [byte, rest @ ..] = input else { return Ok(()) };
            self.hold(*byte);
            input = rest;
            if self.held_len == 4 {
                self.held_len = 0;
                quad(self.held, out)?;
            }
        }
        let (quads, rest) = input.as_chunks::<4>();
        out.reserve(quads.len() * 3);
        for &characters in quads {
            quad(characters, out)?;
        }
        rest.iter().for_each(|&byte| self.hold(byte));
        Ok(())
    }

    /// The body ended.
    pub fn finish(&self) -> Result<(), NotBase64> {
        if self.held_len == 0 { Ok(()) } else { Err(NotBase64) }
    }

    fn hold(&mut self, byte: u8) {
        self.held[usize::from(self.held_len)] = byte;
        self.held_len += 1;
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// No value of a character: those have six bits.
const NONE: u8 = 0xff;
static VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
};

fn quad(characters: [u8; 4], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    let padding = match characters {
        [.., b'=', b'='] => 2,
        [.., b'='] => 1,
        _ => 0,
    };
    let mut bits = 0u32;
    for (at, character) in characters.into_iter().enumerate() {
        let value = if at < 4 - padding { VALUES[character as usize] } else { 0 };
        if value == NONE {
            return Err(NotBase64);
        }
        bits = bits << 6 | u32::from(value);
    }
    let [_, bytes @ ..] = bits.to_be_bytes();
    let (bytes, hidden) = bytes.split_at(3 - padding);
    if hidden.iter().any(|&byte| byte != 0) {
        return Err(NotBase64);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

/// Writes an answer's body.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    form: Form,
    messages: Messages,
    /// Less than three bytes, which more are to follow.
    held: [u8; 3],
    held_len: u8,
}

impl Encoder {
    pub fn new(form: Form) -> Self {
        Self { form, messages: Messages::default(), held: [0; 3], held_len: 0 }
    }

    /// Whether [`Encoder::data`] would append its input as it is.
    pub fn is_identity(&self) -> bool {
        self.form == Form::Binary
    }

    /// Appends what stands for the next bytes. Where they end with a message nothing is held back.
    pub fn data(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self.form {
            Form::Binary => out.extend_from_slice(bytes),
            Form::Text => {
                self.messages.push(bytes);
                self.text(bytes, out);
                if self.messages.is_between() {
                    self.pad(out);
                }
            }
        }
    }

    /// Appends the last message: the call's trailers, given as lines. Names become lower case.
    pub fn trailers(&mut self, lines: &[u8], out: &mut Vec<u8>) {
        const IS_TRAILERS: u8 = 0x80;
        let mut frame = vec![IS_TRAILERS, 0, 0, 0, 0];
        for (name, value) in message::fields(lines) {
            frame.extend(name.iter().map(u8::to_ascii_lowercase));
            frame.extend_from_slice(b": ");
            frame.extend_from_slice(value);
            frame.extend_from_slice(b"\r\n");
        }
        let len = (frame.len() - PREFIX_BYTES) as u32;
        frame[1..PREFIX_BYTES].copy_from_slice(&len.to_be_bytes());
        match self.form {
            Form::Binary => out.extend_from_slice(&frame),
            Form::Text => {
                self.text(&frame, out);
                self.pad(out);
            }
        }
    }

    /// The body ends without trailers: appends what is held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.pad(out);
    }

    fn text(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while self.held_len > 0 {
            let [byte, rest @ ..] = bytes else { return };
            self.hold(*byte);
            bytes = rest;
            if self.held_len == 3 {
                self.held_len = 0;
                out.extend_from_slice(&characters(self.held));
            }
        }
        let (triples, rest) = bytes.as_chunks::<3>();
        out.reserve(triples.len() * 4);
        for &triple in triples {
            out.extend_from_slice(&characters(triple));
        }
        rest.iter().for_each(|&byte| self.hold(byte));
    }

    fn pad(&mut self, out: &mut Vec<u8>) {
        let len = usize::from(self.held_len);
        if len > 0 {
            self.held[len..].fill(0);
            out.extend_from_slice(&characters(self.held)[..=len]);
            out.extend_from_slice(&b"=="[..3 - len]);
            self.held_len = 0;
        }
    }

    fn hold(&mut self, byte: u8) {
        self.held[usize::from(self.held_len)] = byte;
        self.held_len += 1;
    }
}

/// Bytes as base64, padded.
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(Form::Text), Vec::new());
    encoder.text(bytes, &mut out);
    encoder.pad(&mut out);
    out
}

fn characters([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
}

#[cfg(test)]
mod tests;
