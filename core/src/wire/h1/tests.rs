// SPDX-License-Identifier: Apache-2.0
//! Whole connections, and the defects that other codecs were found to have: here each is a test
//! of the opposite.
#![allow(clippy::unwrap_used)]

use super::body::{Decoder, Step};
use super::encode;
use super::framing::{Hop, RequestRules, request_meta, response_meta};
use super::parse::{self, Limits, ParseError, Parsed};
use crate::limits;
use crate::wire::{Framing, Head, HeadView, Known};

#[derive(Clone, Copy)]
enum End {
    Client,
    Upstream { head_request: bool },
}

/// What a connection carries: per message its start and its body, then why reading stopped.
/// Pieces end at `ends`, after which the connection does.
fn transcript(from: End, stream: &[u8], ends: &[usize]) -> String {
    let (mut said, mut head) = (Vec::new(), Head::default());
    let mut ends = ends.iter().copied();
    let (mut start, mut seen) = (0, ends.next().unwrap());
    loop {
        let mut scanned = 0;
        let parsed = loop {
            let block = &stream[start..seen];
            let limits = Limits::default();
            let parsed = match from {
                End::Client => parse::request(block, &mut head, &limits, &mut scanned),
                End::Upstream { .. } => parse::response(block, &mut head, &limits, &mut scanned),
            };
            let Ok(Parsed::Partial) = parsed else { break parsed };
            let Some(end) = ends.next() else {
                let left = stream.len() - start;
                said.push(if left == 0 { "end".to_owned() } else { format!("{left} left") });
                return said.join(", ");
            };
            seen = end;
        };
        let view = HeadView::new(&head, &stream[start..]);
        let meta = parsed.and_then(|_| match from {
            End::Client => {
                let rules = RequestRules { http10: true, allow_chunked_length: false };
                request_meta(view, &rules).map(|meta| (meta.framing, meta.keep_alive))
            }
            End::Upstream { head_request } => {
                response_meta(view, head_request).map(|meta| (meta.framing, meta.keep_alive))
            }
        });
        let (framing, keep_alive) = match meta {
            Ok(meta) => meta,
            Err(error) => {
                said.push(format!("{error:?}"));
                return said.join(", ");
            }
        };
        let mut message = match head.status {
            0 => String::from_utf8_lossy(view.target()).into_owned(),
            status => status.to_string(),
        };
        start += head.len;
        let mut decoder = Decoder::new(framing);
        let outcome = loop {
            match decoder.step(&stream[start..seen]) {
                Ok(Step::Data { skip, len }) => {
                    let data = &stream[start + skip..start + skip + len];
                    message += if message.contains('=') { "" } else { "=" };
                    message += std::str::from_utf8(data).unwrap();
                    start += skip + len;
                }
                Ok(Step::More { skip }) => {
                    start += skip;
                    match ends.next() {
                        Some(end) => seen = end,
                        None => break decoder.finish(),
                    }
                }
                Ok(Step::End { skip }) => {
                    start += skip;
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        said.push(message);
        if let Err(error) = outcome {
            said.push(format!("{error:?}"));
            return said.join(", ");
        }
        if !keep_alive {
            said.push("closed".to_owned());
            return said.join(", ");
        }
    }
}

#[track_caller]
fn check(from: End, stream: impl AsRef<[u8]>, expected: &str) {
    let stream = stream.as_ref();
    let whole = stream.len();
    assert_eq!(transcript(from, stream, &[whole]), expected);
    let bytes: Vec<_> = (0..=whole).collect();
    assert_eq!(transcript(from, stream, &bytes), expected, "by bytes");
    for cut in 0..whole {
        assert_eq!(transcript(from, stream, &[cut, whole]), expected, "cut at {cut}");
    }
}

#[track_caller]
fn client(stream: impl AsRef<[u8]>, expected: &str) {
    check(End::Client, stream, expected);
}

#[track_caller]
fn upstream(stream: impl AsRef<[u8]>, expected: &str) {
    check(End::Upstream { head_request: false }, stream, expected);
}

/// A POST with these lines, this body, and a request behind it that must not be seen too early.
fn post(lines: &str, body: &str) -> String {
    format!("POST /1 HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn pipelined_requests_are_told_apart() {
    client(post("", ""), "/1, /2, end");
    client(post("Content-Length: 5\r\n", "hello"), "/1=hello, /2, end");
    let chunked = "Transfer-Encoding: chunked\r\n";
    client(post(chunked, "5\r\nhello\r\n1;x\r\n!\r\n0\r\nA: b\r\n\r\n"), "/1=hello!, /2, end");
    client(post("Connection: close\r\n", ""), "/1, closed");
    client(post("", "\r\n"), "/1, /2, end");
    client(post("", "\r\n\r\n"), "/1, LineEnd");
    client(
        "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
        "/1, /2, closed",
    );
    client("GET /1 HTTP/1.1\r\nHo", "19 left");
}

#[test]
fn length_beside_chunked_is_refused() {
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    client(post(both, "0\r\n\r\n"), "ContentLengthWithChunked");
    let turned = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    client(post(turned, "0\r\n\r\n"), "ContentLengthWithChunked");
}

#[test]
fn several_lengths_are_refused() {
    client(post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), "ContentLength");
    client(post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), "ContentLength");
}

#[test]
fn every_transfer_encoding_line_counts() {
    let lines = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
    client(post(lines, "0\r\n\r\n"), "UnknownCoding");
    let lines = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    client(post(lines, "0\r\n\r\n"), "TransferEncoding");
}

#[test]
fn an_empty_chunk_size_is_no_last_chunk() {
    client(post("Transfer-Encoding: chunked\r\n", "\r\n\r\n"), "/1, ChunkSize");
}

#[test]
fn bare_line_feeds_hide_nothing() {
    let hidden = "GET /1 HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    client(hidden, "LineEnd");
    client("GET /1 HTTP/1.1\r\nHost: a\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "LineEnd");
}

#[test]
fn http10_has_no_transfer_encoding() {
    let stream = "POST /1 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    client(stream, "TransferEncodingInHttp10");
    let answer = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    upstream(answer, "TransferEncodingInHttp10");
}

#[test]
fn a_huge_name_is_refused_and_does_not_panic() {
    let stream = format!("GET / HTTP/1.1\r\n{}: a\r\n\r\n", "x".repeat(70_000));
    let mut head = Head::default();
    let parsed = parse::request(stream.as_bytes(), &mut head, &Limits::default(), &mut 0);
    assert_eq!(parsed, Err(ParseError::HeadTooLarge));
}

/// A parser that starts over at each read looks at these bytes 900 million times.
#[test]
fn a_head_that_drips_in_is_bounded_and_not_searched_again() {
    let mut endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 70_000]].concat();
    let (mut head, mut scanned) = (Head::default(), 0);
    for end in 1..=endless.len() {
        match parse::request(&endless[..end], &mut head, &Limits::default(), &mut scanned) {
            Ok(parsed) => assert_eq!((parsed, scanned), (Parsed::Partial, end)),
            Err(error) => {
                assert_eq!((error, end), (ParseError::HeadTooLarge, limits::HEAD_BYTES_MAX));
                return;
            }
        }
        // A line end among the bytes that were searched is not seen: nobody looks there again.
        if end == 30_000 {
            endless[20_000] = b'\n';
        }
    }
    panic!("an endless head is never refused");
}

#[test]
fn data_is_handed_on_as_it_comes() {
    let mut decoder = Decoder::new(Framing::Length(256 << 20));
    assert_eq!(decoder.step(b"x"), Ok(Step::Data { skip: 0, len: 1 }));
    let mut decoder = Decoder::new(Framing::Chunked);
    assert_eq!(decoder.step(b"10000000\r\nx"), Ok(Step::Data { skip: 10, len: 1 }));
    assert_eq!(decoder.step(b"yz"), Ok(Step::Data { skip: 0, len: 2 }));
}

/// Nothing is queued: a decoder says where data lies and keeps none, so that whoever does not
/// read from it does not read from the socket either.
#[test]
fn a_decoder_keeps_no_data() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let chunk = [b"ffff\r\n".to_vec(), vec![b'x'; 1000]].concat();
    assert_eq!(decoder.step(&chunk), Ok(Step::Data { skip: 6, len: 1000 }));
    assert!(decoder.trailers().is_empty());
    assert_eq!(decoder.step(b""), Ok(Step::More { skip: 0 }));
}

#[test]
fn errors_are_plain_values() {
    fn is_copy<T: Copy>(_: T) {}
    is_copy(ParseError::Truncated);
    assert!(size_of::<ParseError>() <= 1);
}

#[test]
fn a_body_that_ends_early_is_an_error_for_its_reader() {
    client(
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nhello",
        "/1=hello, Truncated",
    );
    client(
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "/1=hel, Truncated",
    );
    upstream("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "200=hello, Truncated");
}

/// The parser owns no bytes: who gives up between two reads starts again from the same buffer.
#[test]
fn giving_up_half_way_loses_nothing() {
    let stream = b"GET /1 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    let (mut head, mut scanned) = (Head::default(), 0);
    let limits = Limits::default();
    let parsed = parse::request(&stream[..30], &mut head, &limits, &mut scanned);
    assert_eq!(parsed, Ok(Parsed::Partial));
    let parsed = parse::request(stream, &mut Head::default(), &limits, &mut 0);
    assert_eq!(parsed, Ok(Parsed::Complete));
    let parsed = parse::request(stream, &mut head, &limits, &mut scanned);
    assert_eq!((parsed, head.fields.len()), (Ok(Parsed::Complete), 2));
}

#[test]
fn trailers_and_extensions_are_valid() {
    let body = "5;a=\"b\"\r\nhello\r\n0;c\r\nGrpc-Status: 0\r\nHost: evil\r\n\r\n";
    let mut decoder = Decoder::new(Framing::Chunked);
    assert_eq!(decoder.step(body.as_bytes()), Ok(Step::Data { skip: 9, len: 5 }));
    let rest = &body.as_bytes()[14..];
    assert_eq!(decoder.step(rest), Ok(Step::End { skip: rest.len() }));
    assert_eq!(decoder.trailers(), b"Grpc-Status: 0\r\n");
}

#[test]
fn answers_are_told_apart() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let first = |head: &str| format!("{head}\r\n{ok}");
    upstream(first("HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n"), "304, 200=hi, end");
    upstream(first("HTTP/1.1 204 No Content\r\n"), "204, 200=hi, end");
    upstream(first("HTTP/1.1 100 Continue\r\n"), "100, 200=hi, end");
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    upstream(first(&format!("{interim}{interim}HTTP/1.1 204 \r\n")), "103, 103, 204, 200=hi, end");
    let head_answer = first("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n");
    check(End::Upstream { head_request: true }, head_answer, "200, 200, StatusLine");
    upstream("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK", "200=HTTP/1.1 200 OK, closed");
    upstream("HTTP/1.0 200 OK\r\n\r\nhi", "200=hi, closed");
}

#[test]
fn the_encoder_writes_no_length_of_its_own() {
    for (status, lines) in [(304, "Content-Length: 40\r\n"), (204, ""), (100, "")] {
        let block = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        let mut head = Head::default();
        parse::response(block.as_bytes(), &mut head, &Limits::default(), &mut 0).unwrap();
        let view = HeadView::new(&head, block.as_bytes());
        let (hop, mut out) = (Hop::of(view), Vec::new());
        encode::status_line(&mut out, head.status, b"X");
        for (known, name, value) in view.fields().filter(|(k, n, _)| hop.passes(*k, n)) {
            assert_eq!(known, Known::ContentLength);
            encode::field(&mut out, name, value);
        }
        out.extend_from_slice(b"\r\n");
        assert_eq!(out, block.as_bytes());
    }
}

#[test]
fn targets_stay_as_sent() {
    for target in ["example.com:443", "http://example.com/a", "*", "/a/../b%2f?c#", "/\u{fc}"] {
        client(format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n"), &format!("{target}, end"));
    }
}

#[test]
fn upgrades_leave_the_bytes_after_the_head() {
    let stream =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n\x81\0";
    let mut head = Head::default();
    let parsed = parse::response(stream, &mut head, &Limits::default(), &mut 0);
    assert_eq!((parsed, head.status), (Ok(Parsed::Complete), 101));
    assert_eq!(&stream[head.len..], b"\x81\0");
    let meta = response_meta(HeadView::new(&head, stream), false).unwrap();
    assert_eq!((meta.framing, meta.keep_alive), (Framing::None, false));
}

#[test]
fn names_keep_their_case() {
    let block = b"GET / HTTP/1.1\r\nhOsT: a\r\nx-ODD: b\r\n\r\n";
    let mut head = Head::default();
    parse::request(block, &mut head, &Limits::default(), &mut 0).unwrap();
    let names: Vec<_> = HeadView::new(&head, block).fields().map(|(_, name, _)| name).collect();
    assert_eq!(names, [&b"hOsT"[..], b"x-ODD"]);
}

#[test]
fn expectations_and_hosts_are_checked() {
    client(post("Expect: tea\r\n", ""), "Expectation");
    client("GET / HTTP/1.1\r\n\r\n", "HostMissing");
    client("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HostRepeated");
}
