// SPDX-License-Identifier: Apache-2.0
//! Where a body's bytes lie in what was received. Says which bytes are data and copies none of
//! them; the trailers that may pass are kept, the rest of the framing is forgotten.
//!
//! ```text
//!  Size ─▶ Extension ─┐
//!   ▲ └──── CR ───────┴▶ SizeEnd ─▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size
//!   │                       └ 0 ─▶ Trailers ─▶ Done
//! ```

use super::parse::{self, ParseError};
use crate::limits;
use crate::wire::{Framing, Known};

/// What the input starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `input[skip..skip + len]` is body, `len` at least 1; consume `skip + len`.
    Data { skip: usize, len: usize },
    /// Consume `skip`, which is all of the input; more bytes are needed.
    More { skip: usize },
    /// Consume `skip`; the body is complete and what follows is not its own.
    End { skip: usize },
}

/// Follows one body from its first byte to its end.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of the chunk-size line so far.
    line_len: usize,
    /// Only for bodies that have a trailer section.
    trailers: Option<Box<Trailers>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    UntilClose,
    Size { size: u64, digits: u8 },
    Extension { size: u64, quote: Quote },
    SizeEnd { size: u64 },
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
    Done,
    Failed(ParseError),
}

/// Where in an extension's quoted string (RFC 9110 §5.6.4) we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    Outside,
    Inside,
    Escaped,
}

const CHUNK_START: State = State::Size { size: 0, digits: 0 };

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => CHUNK_START,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, line_len: 0, trailers: None }
    }

    /// Looks at received bytes that were not consumed before. An error is final.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, ParseError> {
        let step = self.advance(input);
        if let Err(error) = step {
            self.state = State::Failed(error);
        }
        step
    }

    /// The connection ended. Fine for [`Framing::UntilClose`] and for a body that is complete.
    pub fn finish(&mut self) -> Result<(), ParseError> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Failed(error) => Err(error),
            _ => {
                self.state = State::Failed(ParseError::Truncated);
                Err(ParseError::Truncated)
            }
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Once the body is complete: the trailer lines that may pass, as `name: value` with CRLF
    /// after each. What bears on framing, routing, authentication or this hop alone is gone.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.as_ref().map_or(&[], |trailers| &trailers.passed)
    }

    fn advance(&mut self, input: &[u8]) -> Result<Step, ParseError> {
        let mut at = 0;
        // Each turn consumes a byte, or leaves.
        loop {
            match self.state {
                State::Length(left) => return Ok(self.data(input, at, left, State::Length)),
                State::Data(left) => return Ok(self.data(input, at, left, State::Data)),
                State::UntilClose if input.is_empty() => return Ok(Step::More { skip: 0 }),
                State::UntilClose => return Ok(Step::Data { skip: 0, len: input.len() }),
                State::Done => return Ok(Step::End { skip: at }),
                State::Failed(error) => return Err(error),
                _ => {}
            }
            let Some(&byte) = input.get(at) else { return Ok(Step::More { skip: at }) };
            at += 1;
            self.state = self.framing(byte)?;
        }
    }

    fn data(&mut self, input: &[u8], skip: usize, left: u64, state: fn(u64) -> State) -> Step {
        let here = input.len() - skip;
        if here == 0 {
            return Step::More { skip };
        }
        let len = usize::try_from(left).map_or(here, |left| left.min(here));
        self.state = match left - len as u64 {
            0 if matches!(self.state, State::Length(_)) => State::Done,
            0 => State::DataCr,
            left => state(left),
        };
        Step::Data { skip, len }
    }

    /// Takes one byte that is not data.
    fn framing(&mut self, byte: u8) -> Result<State, ParseError> {
        match self.state {
            State::Size { size, digits } => self.size(byte, size, digits),
            State::Extension { size, quote } => self.extension(byte, size, quote),
            State::SizeEnd { size } => match byte {
                b'\n' if size == 0 => Ok(State::Trailers),
                b'\n' => Ok(State::Data(size)),
                _ => Err(ParseError::LineEnd),
            },
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(CHUNK_START),
            State::DataCr | State::DataLf => Err(ParseError::ChunkEnd),
            State::Trailers => {
                let trailers = self.trailers.get_or_insert_default();
                Ok(if trailers.push(byte)? { State::Done } else { State::Trailers })
            }
            state => Ok(state),
        }
    }

    /// RFC 9112 §7.1: `1*HEXDIG`, here at most 16.
    fn size(&mut self, byte: u8, size: u64, digits: u8) -> Result<State, ParseError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeEnd { size }),
            b';' if digits > 0 => {
                self.line_len = usize::from(digits) + 1;
                return Ok(State::Extension { size, quote: Quote::Outside });
            }
            b'\n' => return Err(ParseError::LineEnd),
            _ => return Err(ParseError::ChunkSize),
        };
        if digits == 16 {
            return Err(ParseError::ChunkSize);
        }
        Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
    }

    /// RFC 9112 §7.1.1: unknown extensions are ignored, so only where they end matters.
    fn extension(&mut self, byte: u8, size: u64, quote: Quote) -> Result<State, ParseError> {
        if byte == b'\r' {
            return match quote {
                Quote::Outside => Ok(State::SizeEnd { size }),
                Quote::Inside | Quote::Escaped => Err(ParseError::ChunkExtension),
            };
        }
        self.line_len += 1;
        if self.line_len > limits::CHUNK_LINE_BYTES_MAX {
            return Err(ParseError::ChunkLineTooLong);
        }
        let quote = match (byte, quote) {
            (b'\n', _) => return Err(ParseError::LineEnd),
            (0..=8 | 10..=31 | 127, _) | (128.., Quote::Outside) => {
                return Err(ParseError::ChunkExtension);
            }
            (b'"', Quote::Outside) | (_, Quote::Escaped) => Quote::Inside,
            (b'"', Quote::Inside) => Quote::Outside,
            (b'\\', Quote::Inside) => Quote::Escaped,
            (_, quote) => quote,
        };
        Ok(State::Extension { size, quote })
    }
}

/// A trailer section (RFC 9112 §7.1.2) as it comes in.
#[derive(Clone, Debug, Default)]
struct Trailers {
    passed: Vec<u8>,
    line: Vec<u8>,
    /// Of the section, its empty line included.
    bytes: usize,
    lines: usize,
}

impl Trailers {
    /// Whether the section is complete.
    fn push(&mut self, byte: u8) -> Result<bool, ParseError> {
        self.bytes += 1;
        if self.bytes > limits::TRAILER_BYTES_MAX {
            return Err(ParseError::TrailersTooLarge);
        }
        self.line.push(byte);
        if byte != b'\n' {
            return Ok(false);
        }
        if self.line == b"\r\n" {
            return Ok(true);
        }
        let Some(line) = parse::field_line(&self.line, 0)? else {
            // The line ends with LF, so its parser never runs out of bytes.
            return Err(ParseError::LineEnd);
        };
        self.lines += 1;
        if self.lines > limits::HEAD_FIELDS_MAX {
            return Err(ParseError::TooManyFields);
        }
        let (name, value) = (line.field.name.of(&self.line), line.field.value.of(&self.line));
        if may_trail(name) {
            super::encode::field(&mut self.passed, name, value);
        }
        self.line.clear();
        Ok(false)
    }
}

/// RFC 9110 §6.5.1: a trailer may not say anything that had to be known before the body. Names
/// that some servers take for these, `_` for `-`, do not pass either.
pub(in crate::wire) fn may_trail(name: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 8] = [
        b"accept-",
        b"access-control-",
        b"content-",
        b"if-",
        b"proxy-",
        b"x-ambassador-",
        b"x-envoy-",
        b"x-forwarded-",
    ];
    const NAMES: [&[u8]; 16] = [
        b"age",
        b"cache-control",
        b"expires",
        b"forwarded",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"sec-websocket-key",
        b"set-cookie2",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
        b"x-http-method-override",
        b"x-real-ip",
    ];
    // The longest name that matters, beside those that a prefix finds.
    let mut canonical = [0; 24];
    let len = name.len().min(canonical.len());
    for (to, &from) in canonical.iter_mut().zip(name) {
        *to = if from == b'_' { b'-' } else { from.to_ascii_lowercase() };
    }
    let start = &canonical[..len];
    let whole = name.len() == len;
    !PREFIXES.iter().any(|prefix| start.starts_with(prefix))
        && !(whole && (Known::of(start) != Known::Other || NAMES.contains(&start)))
}

#[cfg(test)]
mod tests;
