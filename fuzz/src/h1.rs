// SPDX-License-Identifier: Apache-2.0
//! The HTTP/1 codec: against itself under other segmentations, against what RFC 9112 says in the
//! plainest words that code can say it, and against httparse.

use std::borrow::Cow;

use ringway_core::limits;
use ringway_core::wire::h1::body::{Decoder, Step};
use ringway_core::wire::h1::encode;
use ringway_core::wire::h1::framing::{self, Hop, RequestRules};
use ringway_core::wire::h1::parse::{self, Limits, ParseError, Parsed};
use ringway_core::wire::{Framing, Head, HeadView, Known};

use crate::segments::{Cuts, Random};

type Parser = fn(&[u8], &mut Head, &Limits, &mut usize) -> Result<Parsed, ParseError>;

/// Whole pieces of messages, for inputs that are choices among them: what lines mean beside each
/// other is found faster so than by writing each letter of them.
const PIECES: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a HTTP/1.1\r\n",
    b"POST /a HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"HTTP/1.1 101 X\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.1 304 X\r\n",
    b"\r\n",
    b"Host: a\r\n",
    b"host: b\r\n",
    b"Content-Length: 5\r\n",
    b"content-length: 0\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 9223372036854775808\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: CHUNKED\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: chunked, \r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: upgrade, x-a\r\n",
    b"Connection: host, content-length, X-A\r\n",
    b"Upgrade: websocket\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: x\r\n",
    b"TE: trailers\r\n",
    b"X-A: b\r\n",
    b"x-envoy-a: b\r\n",
    b"X: a\r\n b\r\n",
    b"X : a\r\n",
    b"X: a\n",
    b"hello",
    b"5\r\nhello\r\n",
    b"5;a=\"b\"\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0\r\nA: b\r\nHost: c\r\n\r\n",
    b"0",
];

/// The bytes themselves, or after a byte that no message starts with, the pieces they choose.
fn composed(data: &[u8]) -> Cow<'_, [u8]> {
    match data {
        [1, choices @ ..] => {
            let pieces = choices.iter().map(|&choice| PIECES[usize::from(choice) % PIECES.len()]);
            pieces.flatten().copied().collect()
        }
        data => Cow::Borrowed(data),
    }
}

const TIGHT: Limits = Limits { head_bytes_max: 96, fields_max: 3, request_line_bytes_max: 32 };

/// Bytes as a request head.
pub fn request_head(data: &[u8]) {
    let data = &composed(data)[..];
    let head = head(data, parse::request);
    let Some(head) = head else { return };
    let view = HeadView::new(&head, data);
    assert!(!view.target().is_empty());
    assert!(view.target().iter().all(|&b| b > b' ' && b != 0x7f));
    assert!(!view.method().is_empty() && view.method().len() <= limits::METHOD_BYTES_MAX);
    for (http10, allow_chunked_length) in
        [(false, false), (false, true), (true, false), (true, true)]
    {
        request_framing(view, &RequestRules { http10, allow_chunked_length });
    }

    // httparse takes UTF-8 in a target and no other obs-text.
    if std::str::from_utf8(view.target()).is_ok() {
        let mut slots = [httparse::EMPTY_HEADER; limits::HEAD_FIELDS_MAX];
        let mut other = httparse::Request::new(&mut slots);
        assert_eq!(other.parse(data), Ok(httparse::Status::Complete(head.len)));
        assert_eq!(other.method.map(str::as_bytes), Some(view.method()));
        assert_eq!(other.path.map(str::as_bytes), Some(view.target()));
        same_fields(view, other.headers);
    }

    let mut again = [view.method(), b" ", view.target(), b" "].concat();
    again.extend_from_slice(head.version.as_str().as_bytes());
    again.extend_from_slice(b"\r\n");
    rewritten(view, again, parse::request);
}

/// Bytes as a response head.
pub fn response_head(data: &[u8]) {
    let data = &composed(data)[..];
    let Some(head) = head(data, parse::response) else { return };
    let view = HeadView::new(&head, data);
    assert!((100..=599).contains(&head.status));
    for head_request in [false, true] {
        response_framing(view, head_request);
    }

    let mut slots = [httparse::EMPTY_HEADER; limits::HEAD_FIELDS_MAX];
    let mut other = httparse::Response::new(&mut slots);
    assert_eq!(other.parse(data), Ok(httparse::Status::Complete(head.len)));
    assert_eq!(other.code, Some(head.status));
    same_fields(view, other.headers);

    let mut again = Vec::new();
    encode::status_line(&mut again, head.status, head.target.of(data));
    let version = head.version.as_str().as_bytes();
    again[..version.len()].copy_from_slice(version);
    rewritten(view, again, parse::response);
}

/// Parses under several segmentations and limits; gives the head if there is a whole one.
fn head(data: &[u8], parser: Parser) -> Option<Head> {
    for limits in [Limits::default(), TIGHT] {
        let whole = cut(data, parser, &limits, Cuts::Whole);
        for cuts in [Cuts::Bytes, Cuts::Random(Random::of(data))] {
            assert_eq!(cut(data, parser, &limits, cuts), whole, "depends on segmentation");
        }
        if let Ok(Some(head)) = &whole {
            assert!(head.len <= limits.head_bytes_max);
            assert!(head.fields.len() <= limits.fields_max);
            well_formed(HeadView::new(head, data));
        }
    }
    cut(data, parser, &Limits::default(), Cuts::Whole).ok().flatten()
}

fn cut(
    data: &[u8],
    parser: Parser,
    limits: &Limits,
    mut cuts: Cuts,
) -> Result<Option<Head>, ParseError> {
    let (mut head, mut scanned, mut seen) = (Head::default(), 0, 0);
    while seen < data.len() {
        seen += cuts.next(data.len() - seen);
        if parser(&data[..seen], &mut head, limits, &mut scanned)? == Parsed::Complete {
            assert_eq!(scanned, 0);
            return Ok(Some(head));
        }
        assert_eq!(scanned, seen);
    }
    Ok(None)
}

/// The bytes of a head are exactly its start line, its fields and an empty line.
fn well_formed(view: HeadView<'_>) {
    let block = &view.block[..view.head.len];
    let text = block.strip_prefix(b"\r\n").unwrap_or(block);
    let text = text.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let mut lines = text.split(|&b| b == b'\n').enumerate().map(|(n, line)| match n {
        // The last line lost its CR with the suffix.
        _ if line.as_ptr_range().end == text.as_ptr_range().end => line,
        _ => line.strip_suffix(b"\r").expect("LF follows CR"),
    });
    assert!(lines.next().is_some());
    let mut fields = view.fields();
    for line in lines {
        let colon = line.iter().position(|&b| b == b':').expect("a field has a colon");
        let (known, name, value) = fields.next().expect("each line is a field");
        assert_eq!(name, &line[..colon]);
        assert_eq!(value, line[colon + 1..].trim_ascii());
        assert!(!name.is_empty() && name.iter().all(|&b| is_token(b)), "{name:?}");
        assert!(value.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f), "{value:?}");
        assert_eq!(known, plainly_known(name));
    }
    assert!(fields.next().is_none());
    assert!(!text.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n'), "bare CR");
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn plainly_known(name: &[u8]) -> Known {
    let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
    let known = Known::of(lower.as_bytes());
    assert!(known == Known::Other || known.as_str() == lower);
    if known == Known::Other && lower.starts_with("x-envoy-") { Known::XEnvoyOther } else { known }
}

fn same_fields(view: HeadView<'_>, others: &[httparse::Header<'_>]) {
    assert_eq!(view.head.fields.len(), others.len());
    for ((_, name, value), other) in view.fields().zip(others) {
        assert_eq!(name, other.name.as_bytes());
        assert_eq!(value, other.value);
    }
}

/// Writes the fields after `start` and parses the result: nothing is lost or added.
fn rewritten(view: HeadView<'_>, start: Vec<u8>, parser: Parser) {
    let mut block = start;
    for (_, name, value) in view.fields() {
        encode::field(&mut block, name, value);
    }
    block.extend_from_slice(b"\r\n");
    if block.len() > limits::HEAD_BYTES_MAX {
        return;
    }
    let mut head = Head::default();
    assert_eq!(parser(&block, &mut head, &Limits::default(), &mut 0), Ok(Parsed::Complete));
    let again = HeadView::new(&head, &block);
    assert_eq!(head.len, block.len());
    assert_eq!(again.method(), view.method());
    assert_eq!(again.target(), view.target());
    assert_eq!((head.version, head.status), (view.head.version, view.head.status));
    assert!(again.fields().eq(view.fields()));
}

fn lines_of<'a>(view: HeadView<'a>, name: &'a str) -> Vec<&'a [u8]> {
    view.fields()
        .filter(|(_, n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, _, v)| v)
        .collect()
}

/// Content-Length as everybody reads it, or nothing if some do not.
fn plain_length(values: &[&[u8]]) -> Option<u64> {
    let [value] = values else { return None };
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(value).ok()?.parse().ok()?;
    (digits && length <= i64::MAX as u64).then_some(length)
}

fn request_framing(view: HeadView<'_>, rules: &RequestRules) {
    let (lengths, codings) =
        (lines_of(view, "content-length"), lines_of(view, "transfer-encoding"));
    let meta = framing::request_meta(view, rules);
    if let Err(error) = meta {
        assert!((400..=505).contains(&error.status()));
        assert!(!error.details().is_empty());
    }
    let Ok(meta) = meta else { return };
    let chunked = matches!(&codings[..], [c] if c.eq_ignore_ascii_case(b"chunked"));
    let expected = match (lengths.is_empty(), codings.is_empty()) {
        (true, true) => Some(Framing::None),
        (false, true) => plain_length(&lengths).map(Framing::Length),
        (true, false) => chunked.then_some(Framing::Chunked),
        (false, false) => {
            assert!(rules.allow_chunked_length && meta.drop_length);
            (chunked && plain_length(&lengths).is_some()).then_some(Framing::Chunked)
        }
    };
    assert_eq!(Some(meta.framing), expected);
    assert!(rules.http10 || view.head.version.as_str() == "HTTP/1.1");
    assert!(codings.is_empty() || view.head.version.as_str() == "HTTP/1.1");
    let hosts = lines_of(view, "host").len();
    assert!(hosts == 1 || hosts == 0 && view.head.version.as_str() == "HTTP/1.0");
    assert!(lines_of(view, "expect").iter().all(|e| e.eq_ignore_ascii_case(b"100-continue")));
    hop(view);
}

fn response_framing(view: HeadView<'_>, head_request: bool) {
    let (lengths, codings) =
        (lines_of(view, "content-length"), lines_of(view, "transfer-encoding"));
    let Ok(meta) = framing::response_meta(view, head_request) else { return };
    assert!(lengths.is_empty() || codings.is_empty());
    let bodiless = head_request || matches!(view.head.status, 100..=199 | 204 | 304);
    let expected = if bodiless {
        Some(Framing::None)
    } else if !codings.is_empty() {
        let chunked = matches!(&codings[..], [c] if c.eq_ignore_ascii_case(b"chunked"));
        chunked.then_some(Framing::Chunked)
    } else if lengths.is_empty() {
        Some(Framing::UntilClose)
    } else {
        plain_length(&lengths).map(Framing::Length)
    };
    assert_eq!(Some(meta.framing), expected);
    assert!(!meta.keep_alive || meta.framing != Framing::UntilClose);
    hop(view);
}

fn hop(view: HeadView<'_>) {
    let hop = Hop::of(view);
    let listed: Vec<_> = lines_of(view, "connection")
        .iter()
        .flat_map(|value| value.split(|&b| b == b','))
        .map(|e| e.trim_ascii().to_ascii_lowercase())
        .collect();
    for (known, name, _) in view.fields() {
        let lower = name.to_ascii_lowercase();
        let passes = hop.passes(known, name);
        match &lower[..] {
            b"connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" | b"te" => {
                assert!(!passes);
            }
            b"host" | b"content-length" | b"content-type" | b"x-forwarded-for"
            | b"x-request-id" | b"authorization" | b"cookie" => assert!(passes),
            lower if known == Known::Other && !listed.iter().any(|l| l == lower) => {
                assert!(passes);
            }
            _ => {}
        }
    }
}

/// What a body came to: its data, its trailers, where it ended.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<u8>,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Complete { len: usize },
    Partial,
    Refused(ParseError),
}

/// Bytes as a chunked body; and as the data of one that we write ourselves.
pub fn chunked_body(data: &[u8]) {
    let whole = decode(data, Cuts::Whole);
    for cuts in [Cuts::Bytes, Cuts::Random(Random::of(data))] {
        assert_eq!(decode(data, cuts), whole, "depends on segmentation");
    }
    let plain = plainly(data);
    match (whole.outcome, plain.outcome) {
        (Outcome::Refused(_), Outcome::Refused(_)) => {}
        (ours, theirs) => assert_eq!(ours, theirs),
    }
    assert_eq!(whole.data, plain.data);
    let trailers = String::from_utf8_lossy(&whole.trailers).to_ascii_lowercase();
    for forbidden in ["content-length:", "transfer-encoding:", "host:", "authorization:", "te:"] {
        assert!(!trailers.lines().any(|line| line.starts_with(forbidden)));
    }

    let mut random = Random::of(data);
    let (mut wire, mut left) = (Vec::new(), data);
    while !left.is_empty() {
        let (chunk, rest) = left.split_at(1 + random.below(left.len()));
        encode::chunk_head(&mut wire, chunk.len());
        wire.extend_from_slice(chunk);
        encode::chunk_end(&mut wire);
        left = rest;
    }
    encode::last_chunk(&mut wire, &whole.trailers);
    let again = decode(&wire, Cuts::Random(random));
    assert_eq!(again.outcome, Outcome::Complete { len: wire.len() });
    assert_eq!(again.data, data);
    assert_eq!(again.trailers, whole.trailers);
}

fn decode(wire: &[u8], mut cuts: Cuts) -> Body {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut data, mut at, mut seen) = (Vec::new(), 0, 0);
    let outcome = loop {
        match decoder.step(&wire[at..seen]) {
            Ok(Step::Data { skip, len }) => {
                assert!(len > 0);
                data.extend_from_slice(&wire[at + skip..at + skip + len]);
                at += skip + len;
            }
            Ok(Step::More { skip }) => {
                at += skip;
                assert_eq!(at, seen, "bytes left over");
                if seen == wire.len() {
                    assert!(decoder.finish().is_err() && !decoder.is_done());
                    break Outcome::Partial;
                }
                seen += cuts.next(wire.len() - seen);
            }
            Ok(Step::End { skip }) => {
                assert!(decoder.is_done() && decoder.finish().is_ok());
                break Outcome::Complete { len: at + skip };
            }
            Err(error) => {
                assert_eq!(decoder.step(b"0\r\n\r\n"), Err(error), "an error is final");
                break Outcome::Refused(error);
            }
        }
    };
    let trailers = if decoder.is_done() { decoder.trailers().to_vec() } else { Vec::new() };
    Body { data, trailers, outcome }
}

/// RFC 9112 §7.1 over bytes that are all there, as a person would read it aloud.
fn plainly(wire: &[u8]) -> Body {
    let mut body = Body { data: Vec::new(), trailers: Vec::new(), outcome: Outcome::Partial };
    let refused = |error| Outcome::Refused(error);
    let mut rest = wire;
    loop {
        let Some((line, after)) = plain_line(rest, limits::CHUNK_LINE_BYTES_MAX) else {
            if plain_prefix(rest) {
                return body;
            }
            body.outcome = refused(ParseError::ChunkSize);
            return body;
        };
        let digits = line.split(|&b| b == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits).ok().filter(|_| digits.len() <= 16);
        let size = size.filter(|_| digits.iter().all(u8::is_ascii_hexdigit));
        let Some(size) = size.and_then(|size| u64::from_str_radix(size, 16).ok()) else {
            body.outcome = refused(ParseError::ChunkSize);
            return body;
        };
        if !plain_extension(&line[digits.len()..], true) {
            body.outcome = refused(ParseError::ChunkExtension);
            return body;
        }
        rest = after;
        if size == 0 {
            break;
        }
        let here = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
        body.data.extend_from_slice(&rest[..here]);
        rest = &rest[here..];
        if (here as u64) < size || rest.is_empty() || rest == b"\r" {
            return body;
        }
        let Some(after) = rest.strip_prefix(b"\r\n") else {
            body.outcome = refused(ParseError::ChunkEnd);
            return body;
        };
        rest = after;
    }
    body.outcome = plain_trailers(rest, wire.len() - rest.len());
    body
}

/// A line without control bytes and what follows its CRLF; nothing if it is unfinished or bad.
fn plain_line(rest: &[u8], max: usize) -> Option<(&[u8], &[u8])> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    let clean = line.len() <= max && !line.iter().any(|&b| b != b'\t' && b.is_ascii_control());
    clean.then_some((line, &rest[end + 2..]))
}

/// Whether this could be the start of a chunk-size line.
fn plain_prefix(rest: &[u8]) -> bool {
    let line = rest.strip_suffix(b"\r").unwrap_or(rest);
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let finished = line.len() < rest.len();
    digits <= 16
        && line.len() <= limits::CHUNK_LINE_BYTES_MAX
        && (digits > 0 || rest.is_empty())
        && (digits == line.len() || line[digits] == b';')
        && plain_extension(&line[digits..], finished)
}

fn plain_extension(extension: &[u8], finished: bool) -> bool {
    let (mut quoted, mut bytes) = (false, extension.iter());
    while let Some(&b) = bytes.next() {
        if b != b'\t' && b.is_ascii_control() || b >= 0x80 && !quoted {
            return false;
        }
        if b == b'"' {
            quoted = !quoted;
        } else if b == b'\\' && quoted {
            match bytes.next() {
                Some(&b) if b != b'\t' && b.is_ascii_control() => return false,
                Some(_) => {}
                None => return !finished,
            }
        }
    }
    !(quoted && finished)
}

/// A trailer section is empty, or it is what a head's fields are.
fn plain_trailers(rest: &[u8], before: usize) -> Outcome {
    let (mut at, mut lines) = (0, 0);
    loop {
        let Some(end) = rest[at..].iter().position(|&b| b == b'\n').map(|n| at + n + 1) else {
            let too_long = rest.len() > limits::TRAILER_BYTES_MAX;
            return if too_long {
                Outcome::Refused(ParseError::TrailersTooLarge)
            } else {
                Outcome::Partial
            };
        };
        if end > limits::TRAILER_BYTES_MAX {
            return Outcome::Refused(ParseError::TrailersTooLarge);
        }
        if &rest[at..end] == b"\r\n" {
            return Outcome::Complete { len: before + end };
        }
        let line = [&rest[at..end], b"\r\n"].concat();
        let mut slots = [httparse::EMPTY_HEADER; 2];
        match httparse::parse_headers(&line, &mut slots) {
            Ok(httparse::Status::Complete((len, [_]))) if len == line.len() => lines += 1,
            _ => return Outcome::Refused(ParseError::FieldName),
        }
        if !rest[at..end].ends_with(b"\r\n") {
            return Outcome::Refused(ParseError::LineEnd);
        }
        if lines > limits::HEAD_FIELDS_MAX {
            return Outcome::Refused(ParseError::TooManyFields);
        }
        at = end;
    }
}

/// What a connection carried, segmentation forgotten.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Head {
        len: usize,
        fields: usize,
        framing: Framing,
        keep_alive: bool,
    },
    Body {
        data: Vec<u8>,
        trailers: Vec<u8>,
        complete: bool,
    },
    Refused(ParseError),
    /// Bytes that belong to no message, because the connection is not used again.
    Left(usize),
}

/// The first byte says which end this is and what is allowed, the others are what it receives.
pub fn connection(data: &[u8]) {
    let Some((&control, stream)) = data.split_first() else { return };
    let stream = &composed(stream)[..];
    let whole = receive(control, stream, Cuts::Whole);
    for cuts in [Cuts::Bytes, Cuts::Random(Random::of(data))] {
        assert_eq!(receive(control, stream, cuts), whole, "depends on segmentation");
    }
}

/// Reads messages until the bytes end, the connection may not go on, or something is refused.
fn receive(control: u8, stream: &[u8], mut cuts: Cuts) -> Vec<Event> {
    let mut events = Vec::new();
    let (mut head, limits) = (Head::default(), Limits::default());
    let (mut start, mut seen) = (0, 0);
    loop {
        let mut scanned = 0;
        // The buffer moves as in a connection: what was consumed is gone from its front.
        let parsed = loop {
            let block = &stream[start..seen];
            let parsed = if control & 1 == 0 {
                parse::request(block, &mut head, &limits, &mut scanned)
            } else {
                parse::response(block, &mut head, &limits, &mut scanned)
            };
            match parsed {
                Ok(Parsed::Partial) if seen < stream.len() => {
                    seen += cuts.next(stream.len() - seen);
                }
                other => break other,
            }
        };
        let meta = parsed.and_then(|parsed| match parsed {
            Parsed::Partial => Ok(None),
            Parsed::Complete => meta(control, HeadView::new(&head, &stream[start..])).map(Some),
        });
        let (framing, keep_alive) = match meta {
            Err(error) => {
                events.push(Event::Refused(error));
                return events;
            }
            Ok(None) => {
                events.push(Event::Left(stream.len() - start));
                return events;
            }
            Ok(Some(meta)) => meta,
        };
        let fields = head.fields.len();
        events.push(Event::Head { len: head.len, fields, framing, keep_alive });
        start += head.len;

        let mut decoder = Decoder::new(framing);
        let mut body = Vec::new();
        let outcome = loop {
            match decoder.step(&stream[start..seen]) {
                Ok(Step::Data { skip, len }) => {
                    body.extend_from_slice(&stream[start + skip..start + skip + len]);
                    start += skip + len;
                }
                Ok(Step::More { skip }) => {
                    start += skip;
                    if seen == stream.len() {
                        break decoder.finish().map(|()| true);
                    }
                    seen += cuts.next(stream.len() - seen);
                }
                Ok(Step::End { skip }) => {
                    start += skip;
                    break Ok(true);
                }
                Err(error) => break Err(error),
            }
        };
        let complete = outcome.is_ok();
        let trailers = if complete { decoder.trailers().to_vec() } else { Vec::new() };
        events.push(Event::Body { data: body, trailers, complete });
        if let Err(error) = outcome {
            events.push(Event::Refused(error));
            return events;
        }
        if !keep_alive {
            events.push(Event::Left(stream.len() - start));
            return events;
        }
    }
}

fn meta(control: u8, view: HeadView<'_>) -> Result<(Framing, bool), ParseError> {
    if control & 1 == 0 {
        let rules =
            RequestRules { http10: control & 2 != 0, allow_chunked_length: control & 4 != 0 };
        framing::request_meta(view, &rules).map(|meta| (meta.framing, meta.keep_alive))
    } else {
        framing::response_meta(view, control & 2 != 0).map(|meta| (meta.framing, meta.keep_alive))
    }
}
