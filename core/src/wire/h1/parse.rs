// SPDX-License-Identifier: Apache-2.0
//! Request and response heads, in place.
//!
//! A line is judged once it is there whole, so an error never depends on how the bytes arrived.
//! Between two calls for one head the finished lines stay in the [`Head`], and only the bytes
//! that are new are searched for the end of the line in progress: a head that arrives byte by
//! byte costs twice the work of one that arrives at once, not its square.

use crate::limits;
use crate::wire::{Field, Head, Known, Span, Version};

/// Bounds of a head, in bytes and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head, its empty line included.
    pub head_bytes_max: usize,
    /// Field lines.
    pub fields_max: usize,
    /// The request line without its CRLF.
    pub request_line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: limits::HEAD_BYTES_MAX,
            fields_max: limits::HEAD_FIELDS_MAX,
            request_line_bytes_max: limits::REQUEST_LINE_BYTES_MAX,
        }
    }
}

/// What a look at the bytes at hand gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is whole; `Head::len` says how many bytes it takes.
    Complete,
    /// More bytes are needed.
    Partial,
}

/// Why a message is refused. After any of these the framing is in doubt: the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// The data after a chunk is not followed by CRLF.
    ChunkEnd,
    /// A control byte or an open quoted string in a chunk extension.
    ChunkExtension,
    ChunkLineTooLong,
    /// Not 1 to 16 hexadecimal digits.
    ChunkSize,
    /// CONNECT with a body.
    ConnectBody,
    /// More connection options than [`limits::CONNECTION_OPTIONS_MAX`].
    ConnectionOptions,
    /// Not `1*DIGIT`, beyond 2^63 - 1, or more than one.
    ContentLength,
    /// Both Content-Length and Transfer-Encoding.
    ContentLengthWithChunked,
    /// Anything but `100-continue`.
    Expectation,
    /// An empty name, one that is no token, or white space before the colon.
    FieldName,
    /// A control byte.
    FieldValue,
    /// A line that starts with white space (obs-fold).
    Folded,
    HeadTooLarge,
    /// HTTP/1.1 without Host.
    HostMissing,
    /// More than one Host, even if equal.
    HostRepeated,
    /// HTTP/1.0, which is switched off.
    Http10,
    /// CR without LF or LF without CR.
    LineEnd,
    Method,
    MethodTooLong,
    RequestLine,
    RequestLineTooLong,
    StatusLine,
    /// A control byte, or nothing.
    Target,
    /// The head did not arrive in time.
    TimedOut,
    TooManyFields,
    TrailersTooLarge,
    /// Transfer-Encoding that is malformed, repeats `chunked` or does not end with it.
    TransferEncoding,
    TransferEncodingInHttp10,
    /// The connection ended inside the body.
    Truncated,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
    /// A version other than 1.0 and 1.1.
    Version,
}

impl ParseError {
    /// The status that a request is answered with.
    pub fn status(self) -> u16 {
        match self {
            Self::TimedOut => 408,
            Self::RequestLineTooLong => 414,
            Self::Expectation => 417,
            Self::Http10 => 426,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            // RFC 9112 §3: a method longer than any that is implemented; §6.1: an unknown coding.
            Self::MethodTooLong | Self::UnknownCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// For `%RESPONSE_CODE_DETAILS%`: Envoy's words where it has them, `http1.` and what is wrong
    /// otherwise.
    pub fn details(self) -> &'static str {
        match self {
            Self::ChunkEnd => "http1.invalid_chunk_end",
            Self::ChunkExtension => "http1.invalid_chunk_extension",
            Self::ChunkLineTooLong => "http1.chunk_line_too_long",
            Self::ChunkSize => "http1.invalid_chunk_size",
            Self::ConnectBody => "http1.body_disallowed",
            Self::ConnectionOptions => "http1.connection_header_rejected",
            Self::ContentLength => "http1.invalid_content_length",
            Self::ContentLengthWithChunked => "http1.content_length_and_chunked_not_allowed",
            Self::Expectation => "http1.unknown_expectation",
            Self::FieldName => "http1.invalid_header_name",
            Self::FieldValue => "http1.invalid_characters",
            Self::Folded => "http1.folded_header",
            Self::HeadTooLarge => "http1.headers_too_large",
            Self::HostMissing => "missing_host_header",
            Self::HostRepeated => "http1.duplicate_host",
            Self::Http10 => "low_version",
            Self::LineEnd => "http1.invalid_line_end",
            Self::Method => "http1.invalid_method",
            Self::MethodTooLong => "http1.method_too_long",
            Self::RequestLine => "http1.codec_error",
            Self::RequestLineTooLong => "http1.request_line_too_long",
            Self::StatusLine => "http1.invalid_status_line",
            Self::Target => "http1.invalid_url",
            Self::TimedOut => "request_header_timeout",
            Self::TooManyFields => "http1.too_many_headers",
            Self::TrailersTooLarge => "http1.trailers_too_large",
            Self::TransferEncoding => "http1.invalid_transfer_encoding",
            Self::TransferEncodingInHttp10 => "http1.transfer_encoding_not_allowed",
            Self::Truncated => "http1.truncated_body",
            Self::UnknownCoding => "http1.unknown_transfer_coding",
            Self::Version => "http1.unsupported_version",
        }
    }
}

/// Parses a request head at the start of `block`.
///
/// A new head starts with `scanned` 0, which clears `head`. On [`Parsed::Partial`] call again
/// with the same `head` and `scanned` and a `block` that has grown at its end; the start of the
/// block may have moved in memory. On [`Parsed::Complete`] `scanned` is 0 again.
///
/// At most one empty line before the request line is skipped (RFC 9112 §2.2).
pub fn request(
    block: &[u8],
    head: &mut Head,
    limits: &Limits,
    scanned: &mut usize,
) -> Result<Parsed, ParseError> {
    let window = &block[..block.len().min(limits.head_bytes_max)];
    let mut at = resume(head, scanned);
    if head.method.is_empty() {
        if at == 0 && window.starts_with(b"\r\n") {
            at = 2;
            head.len = 2;
        }
        // What cannot become a request, a TLS ClientHello say, is refused before its first LF.
        match window.get(at) {
            Some(&b) if TOKEN[b as usize] => {}
            Some(b'\r') if window.len() == at + 1 => {}
            Some(b'\r' | b'\n') => return Err(ParseError::LineEnd),
            Some(_) => return Err(ParseError::Method),
            None => {}
        }
        let line_max = limits.request_line_bytes_max.min(limits.head_bytes_max.saturating_sub(2));
        let Some(next) = start_line(window, at, head, scanned, line_max, request_line)? else {
            return Ok(Parsed::Partial);
        };
        at = next;
    }
    fields(window, at, head, limits, scanned)
}

/// Parses a response head at the start of `block`; `head` and `scanned` as in [`request`].
/// Whatever the error's own status, a response that is refused is the upstream's fault: 502.
pub fn response(
    block: &[u8],
    head: &mut Head,
    limits: &Limits,
    scanned: &mut usize,
) -> Result<Parsed, ParseError> {
    let window = &block[..block.len().min(limits.head_bytes_max)];
    let mut at = resume(head, scanned);
    if head.status == 0 {
        if window.first().is_some_and(|&b| b != b'H') {
            return Err(ParseError::StatusLine);
        }
        let line_max = limits.head_bytes_max.saturating_sub(2);
        let next = match start_line(window, at, head, scanned, line_max, status_line) {
            Err(ParseError::RequestLineTooLong) => return Err(ParseError::HeadTooLarge),
            other => other?,
        };
        let Some(next) = next else { return Ok(Parsed::Partial) };
        at = next;
    }
    fields(window, at, head, limits, scanned)
}

/// Start of the line in progress.
fn resume(head: &mut Head, scanned: &usize) -> usize {
    if *scanned == 0 {
        head.method = Span::default();
        head.target = Span::default();
        head.version = Version::default();
        head.status = 0;
        head.fields.clear();
        head.len = 0;
    }
    debug_assert!(head.len <= *scanned);
    head.len
}

/// One line's parser: where the next line starts, or nothing if the window ends before it.
type LineParser = fn(&[u8], usize, &mut Head) -> Result<Option<usize>, ParseError>;

fn start_line(
    window: &[u8],
    at: usize,
    head: &mut Head,
    scanned: &mut usize,
    line_max: usize,
    parser: LineParser,
) -> Result<Option<usize>, ParseError> {
    // With its CRLF a line of the greatest length ends here.
    let reach = line_max.saturating_add(2);
    let line = &window[at..window.len().min(at.saturating_add(reach))];
    let searched = scanned.saturating_sub(at).min(line.len());
    if searched > 0 && !has_line_feed(&line[searched..]) {
        return unfinished(window, line.len() >= reach, scanned);
    }
    match parser(window, at, head) {
        Ok(Some(next)) if next - at <= reach => {
            head.len = next;
            Ok(Some(next))
        }
        Ok(None) => unfinished(window, line.len() >= reach, scanned),
        // Too long is too long whatever else is wrong with it.
        _ if !has_line_feed(line) => unfinished(window, line.len() >= reach, scanned),
        Ok(Some(_)) => Err(ParseError::RequestLineTooLong),
        Err(error) => Err(error),
    }
}

fn unfinished(
    window: &[u8],
    too_long: bool,
    scanned: &mut usize,
) -> Result<Option<usize>, ParseError> {
    if too_long {
        return Err(ParseError::RequestLineTooLong);
    }
    *scanned = window.len();
    Ok(None)
}

fn fields(
    window: &[u8],
    mut at: usize,
    head: &mut Head,
    limits: &Limits,
    scanned: &mut usize,
) -> Result<Parsed, ParseError> {
    let mut whole = *scanned <= at || has_line_feed(&window[(*scanned).min(window.len())..]);
    // Bounded by `fields_max`, and each turn consumes a line.
    while whole {
        if window[at..].starts_with(b"\r\n") {
            head.len = at + 2;
            *scanned = 0;
            return Ok(Parsed::Complete);
        }
        match field_line(window, at) {
            Ok(Some(line)) => {
                if head.fields.len() >= limits.fields_max {
                    return Err(ParseError::TooManyFields);
                }
                head.fields.push(line.field);
                at = line.next;
            }
            Err(error) if has_line_feed(&window[at..]) => return Err(error),
            Ok(None) | Err(_) => whole = false,
        }
    }
    if window.len() >= limits.head_bytes_max {
        return Err(ParseError::HeadTooLarge);
    }
    head.len = at;
    *scanned = window.len();
    Ok(Parsed::Partial)
}

/// RFC 9112 §3: method SP request-target SP HTTP-version CRLF, single spaces.
fn request_line(window: &[u8], at: usize, head: &mut Head) -> Result<Option<usize>, ParseError> {
    let method_end = token_end(window, at);
    match window.get(method_end) {
        None => return Ok(None),
        Some(b' ') if method_end > at => {}
        Some(_) => return Err(ParseError::Method),
    }
    if method_end - at > limits::METHOD_BYTES_MAX {
        return Err(ParseError::MethodTooLong);
    }
    let target = method_end + 1;
    let target_end = graphic_end(window, target);
    match window.get(target_end) {
        None => return Ok(None),
        Some(b' ') if target_end > target => {}
        // HTTP/0.9 has no version.
        Some(b'\r' | b'\n') => return Err(ParseError::RequestLine),
        Some(_) => return Err(ParseError::Target),
    }
    let rest = &window[target_end + 1..];
    let version = match rest.get(..10) {
        Some(b"HTTP/1.1\r\n") => Version::Http11,
        Some(b"HTTP/1.0\r\n") => Version::Http10,
        _ => match memchr::memchr(b'\n', rest) {
            None => return Ok(None),
            Some(end) => return Err(version_error(&rest[..end])),
        },
    };
    head.method = Span::new(at, method_end);
    head.target = Span::new(target, target_end);
    head.version = version;
    Ok(Some(target_end + 11))
}

/// What is wrong with a version and what follows it, LF excluded.
#[cold]
fn version_error(line: &[u8]) -> ParseError {
    match line {
        [b'H', b'T', b'T', b'P', b'/', b'1'..=b'9', b'.', b'0'..=b'9', b'\r'] => {
            ParseError::Version
        }
        [.., b'\r'] => ParseError::RequestLine,
        _ => ParseError::LineEnd,
    }
}

/// RFC 9112 §4: HTTP-version SP status-code SP [ reason-phrase ] CRLF; the second space may be
/// missing with the reason.
fn status_line(window: &[u8], at: usize, head: &mut Head) -> Result<Option<usize>, ParseError> {
    let line = &window[at..];
    let Some(start) = line.get(..13) else {
        return if has_line_feed(line) { Err(ParseError::StatusLine) } else { Ok(None) };
    };
    let version = match &start[..9] {
        b"HTTP/1.1 " => Version::Http11,
        b"HTTP/1.0 " => Version::Http10,
        _ => return Err(ParseError::StatusLine),
    };
    let &[hundreds @ b'1'..=b'5', tens @ b'0'..=b'9', units @ b'0'..=b'9', after] = &start[9..]
    else {
        return Err(ParseError::StatusLine);
    };
    let reason = match after {
        b' ' => at + 13,
        b'\r' => at + 12,
        _ => return Err(ParseError::StatusLine),
    };
    let reason_end = value_end(window, reason);
    match window.get(reason_end..reason_end + 2) {
        None if window.get(reason_end).is_none_or(|&b| b == b'\r') => return Ok(None),
        Some(b"\r\n") => {}
        _ => return Err(ParseError::StatusLine),
    }
    head.status = [hundreds, tens, units].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    head.target = Span::new(reason, reason_end);
    head.version = version;
    Ok(Some(reason_end + 2))
}

pub(super) struct FieldLine {
    pub(super) field: Field,
    pub(super) next: usize,
}

/// RFC 9112 §5: field-name ":" OWS field-value OWS CRLF. Nothing if the window ends before the
/// line does.
pub(super) fn field_line(window: &[u8], at: usize) -> Result<Option<FieldLine>, ParseError> {
    let (name_end, known) = field_name(window, at);
    match window.get(name_end) {
        None => return Ok(None),
        Some(b':') if name_end > at => {}
        Some(_) => return Err(name_error(window, at, name_end)),
    }
    let mut value = name_end + 1;
    while matches!(window.get(value), Some(b' ' | b'\t')) {
        value += 1;
    }
    let line_end = value_end(window, value);
    match window.get(line_end..line_end + 2) {
        Some(b"\r\n") => {}
        None if window.get(line_end).is_none_or(|&b| b == b'\r') => return Ok(None),
        _ => {
            let ends = matches!(window.get(line_end), Some(b'\r' | b'\n'));
            return Err(if ends { ParseError::LineEnd } else { ParseError::FieldValue });
        }
    }
    let mut value_end = line_end;
    while value_end > value && matches!(window[value_end - 1], b' ' | b'\t') {
        value_end -= 1;
    }
    let field = Field { name: Span::new(at, name_end), value: Span::new(value, value_end), known };
    Ok(Some(FieldLine { field, next: line_end + 2 }))
}

/// End of the token at `at`, and which name it is. A name that is known is a token: its bytes are not
/// looked at one by one.
fn field_name(window: &[u8], at: usize) -> (usize, Known) {
    if let Some(end) = near_colon(window, at) {
        let known = Known::of_field(&window[at..end]);
        if known.is_exact() || token_end(window, at) == end {
            return (end, known);
        }
    }
    let end = token_end(window, at);
    (end, Known::of_field(&window[at..end]))
}

/// The first colon of the next few words.
fn near_colon(window: &[u8], at: usize) -> Option<usize> {
    let near = window.get(at..)?;
    let (words, _) = near[..near.len().min(NAME_BYTES_NEAR)].as_chunks();
    words.iter().enumerate().find_map(|(index, word)| {
        let found = equals(u64::from_le_bytes(*word), b':');
        (found != 0).then(|| at + index * 8 + found.trailing_zeros() as usize / 8)
    })
}

/// Most names are shorter.
const NAME_BYTES_NEAR: usize = 32;

#[cold]
fn name_error(window: &[u8], at: usize, end: usize) -> ParseError {
    match window.get(end) {
        Some(b' ' | b'\t') if end == at => ParseError::Folded,
        Some(b'\r' | b'\n') if end == at => ParseError::LineEnd,
        _ => ParseError::FieldName,
    }
}

fn has_line_feed(bytes: &[u8]) -> bool {
    memchr::memchr(b'\n', bytes).is_some()
}

/// RFC 9110 §5.6.2.
pub(in crate::wire) const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0x21;
    while b < 0x7f {
        table[b] = !matches!(
            b as u8,
            b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'['..=b']' | b'{' | b'}'
        );
        b += 1;
    }
    table
};

fn token_end(window: &[u8], mut at: usize) -> usize {
    while let Some(&b) = window.get(at)
        && TOKEN[b as usize]
    {
        at += 1;
    }
    at
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;

/// The high bit of each byte below `bound` (at most 128) or equal to DEL. Bytes above the lowest
/// one found may be marked wrongly.
fn controls(word: u64, bound: u8) -> u64 {
    let below = word.wrapping_sub(ONES * u64::from(bound)) & !word;
    (below & HIGHS) | equals(word, 0x7f)
}

/// The high bit of each byte equal to `byte`. Bytes above the lowest one found may be marked wrongly.
fn equals(word: u64, byte: u8) -> u64 {
    let other = word ^ (ONES * u64::from(byte));
    other.wrapping_sub(ONES) & !other & HIGHS
}

/// First byte at or after `at` that is below `bound` or DEL; the window's end if there is none.
#[inline]
fn control(window: &[u8], mut at: usize, bound: u8) -> usize {
    while let Some(chunk) = window.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let found = controls(u64::from_le_bytes(*chunk), bound);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(&b) = window.get(at)
        && b >= bound
        && b != 0x7f
    {
        at += 1;
    }
    at
}

/// End of a request target: neither white space nor control bytes; obs-text passes.
pub(in crate::wire) fn graphic_end(window: &[u8], at: usize) -> usize {
    control(window, at, 0x21)
}

/// End of a field value or reason phrase: HTAB, SP, VCHAR and obs-text (RFC 9110 §5.5).
pub(in crate::wire) fn value_end(window: &[u8], at: usize) -> usize {
    let mut end = control(window, at, 0x20);
    while window.get(end) == Some(&b'\t') {
        end = control(window, end + 1, 0x20);
    }
    end
}

#[cfg(test)]
mod tests;
