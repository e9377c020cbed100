// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};

use super::{Limits, ParseError, Parsed, request, response};
use crate::limits;
use crate::wire::h1::encode;
use crate::wire::{Head, HeadView, Known};

type Parser = fn(&[u8], &mut Head, &Limits, &mut usize) -> Result<Parsed, ParseError>;

/// What a parser makes of pieces that end at these positions.
fn outcome(parser: Parser, input: &[u8], limits: &Limits, ends: &[usize]) -> String {
    let (mut head, mut scanned) = (Head::default(), 0);
    for &end in ends {
        match parser(&input[..end], &mut head, limits, &mut scanned) {
            Err(error) => return format!("{} {error:?}", error.status()),
            Ok(Parsed::Partial) => assert_eq!(scanned, end),
            Ok(Parsed::Complete) => {
                assert_eq!(scanned, 0);
                let view = HeadView::new(&head, input);
                let start = match head.status {
                    0 => format!("{} {}", text(view.method()), text(view.target())),
                    status => format!("{status} {}", text(view.target())),
                };
                let fields: Vec<_> =
                    view.fields().map(|(_, n, v)| format!("{}={}", text(n), text(v))).collect();
                let version = &head.version.as_str()[5..];
                return format!("{start} {version} [{}] {}", fields.join("|"), head.len);
            }
        }
    }
    "partial".to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check(parser: Parser, input: &[u8], limits: &Limits, expected: &str) {
    let whole = input.len();
    assert_eq!(outcome(parser, input, limits, &[whole]), expected, "{:?}", text(input));
    let bytes: Vec<_> = (1..=whole).collect();
    assert_eq!(outcome(parser, input, limits, &bytes), expected, "by bytes: {:?}", text(input));
    for cut in 1..whole {
        let split = outcome(parser, input, limits, &[cut, whole]);
        assert_eq!(split, expected, "cut at {cut}: {:?}", text(input));
    }
}

#[track_caller]
fn req(input: impl AsRef<[u8]>, expected: &str) {
    check(request, input.as_ref(), &Limits::default(), expected);
}

#[track_caller]
fn resp(input: impl AsRef<[u8]>, expected: &str) {
    check(response, input.as_ref(), &Limits::default(), expected);
}

/// A field line in an otherwise good request.
#[track_caller]
fn field(line: impl AsRef<[u8]>, expected: &str) {
    req([b"GET / HTTP/1.1\r\n", line.as_ref(), b"\r\n\r\n"].concat(), expected);
}

#[test]
fn request_lines() {
    req("GET / HTTP/1.1\r\n\r\n", "GET / 1.1 [] 18");
    req("GET / HTTP/1.0\r\n\r\n", "GET / 1.0 [] 18");
    req("OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS * 1.1 [] 22");
    req("M-SEARCH! /a?b=c|\"{d}\" HTTP/1.1\r\n\r\n", "M-SEARCH! /a?b=c|\"{d}\" 1.1 [] 35");
    req("GET /ü HTTP/1.1\r\n\r\n", "GET /ü 1.1 [] 20");
    req(b"GET /\xff HTTP/1.1\r\n\r\n", "GET /\u{fffd} 1.1 [] 19");
    req("GET / HTTP/1.1\r\n\r\nGET /next", "GET / 1.1 [] 18");
    req("GET / HTTP/1.1\r\n\r", "partial");
    req("GET / HTTP/1.1\r\n", "partial");
    req("GET /", "partial");
    req("", "partial");

    req("GET  / HTTP/1.1\r\n\r\n", "400 Target");
    req("GET /  HTTP/1.1\r\n\r\n", "400 RequestLine");
    req("GET / HTTP/1.1 \r\n\r\n", "400 RequestLine");
    req("GET\t/ HTTP/1.1\r\n\r\n", "400 Method");
    req("GET /\tHTTP/1.1\r\n\r\n", "400 Target");
    req("GET /a b HTTP/1.1\r\n\r\n", "400 RequestLine");
    req("GET /\0 HTTP/1.1\r\n\r\n", "400 Target");
    req("GET /\x7f HTTP/1.1\r\n\r\n", "400 Target");
    req("GET /\rx HTTP/1.1\r\n\r\n", "400 RequestLine");
    req(" GET / HTTP/1.1\r\n\r\n", "400 Method");
    req("(GET) / HTTP/1.1\r\n\r\n", "400 Method");
    req("GE(T / HTTP/1.1\r\n\r\n", "400 Method");
    req("GET\r\n\r\n", "400 Method");
    req("GET \r\n\r\n", "400 RequestLine");
    req("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", "400 Method");
    // An error waits for its line's end.
    req("GET  /", "partial");
}

#[test]
fn versions() {
    req("GET / HTTP/1.2\r\n\r\n", "505 Version");
    req("GET / HTTP/2.0\r\n\r\n", "505 Version");
    req("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 Version");
    req("GET /\r\n", "400 RequestLine");
    req("GET / HTTP/0.9\r\n\r\n", "400 RequestLine");
    req("GET / http/1.1\r\n\r\n", "400 RequestLine");
    req("GET / HTTP/1.10\r\n\r\n", "400 RequestLine");
    req("GET / HTTP/1\r\n\r\n", "400 RequestLine");
    req("GET / HTTP/ 1.1\r\n\r\n", "400 RequestLine");
    req("GET / HTTPS/1.1\r\n\r\n", "400 RequestLine");
}

#[test]
fn empty_lines_before_a_request() {
    req("\r\nGET / HTTP/1.1\r\n\r\n", "GET / 1.1 [] 20");
    req("\r\n\r\nGET / HTTP/1.1\r\n\r\n", "400 LineEnd");
    req("\nGET / HTTP/1.1\r\n\r\n", "400 LineEnd");
    req("\rGET / HTTP/1.1\r\n\r\n", "400 LineEnd");
    req("\r\n", "partial");
    req("\r", "partial");
}

#[test]
fn line_ends() {
    req("GET / HTTP/1.1\nHost: a\n\n", "400 LineEnd");
    req("GET / HTTP/1.1\r\nHost: a\n\r\n", "400 LineEnd");
    req("GET / HTTP/1.1\r\nHost: a\r\n\n", "400 LineEnd");
    req("GET / HTTP/1.1\r\n\n", "400 LineEnd");
    req("GET / HTTP/1.1\r\rHost: a\r\n\r\n", "400 RequestLine");
    field("X: a\rb", "400 LineEnd");
    field("X: a\nY: b", "400 LineEnd");
    field("X: a\r\rY: b", "400 LineEnd");
    field("\rX: a", "400 LineEnd");
    field("X\r: a", "400 FieldName");
}

#[test]
fn field_lines() {
    field("Host: a", "GET / 1.1 [Host=a] 27");
    field("hOsT:a", "GET / 1.1 [hOsT=a] 26");
    field("X: \t a b\t c \t ", "GET / 1.1 [X=a b\t c] 34");
    field("X:", "GET / 1.1 [X=] 22");
    field("X: \t", "GET / 1.1 [X=] 24");
    field("X: a:b", "GET / 1.1 [X=a:b] 26");
    field("!#$%&'*+-.^_`|~09azAZ: a", "GET / 1.1 [!#$%&'*+-.^_`|~09azAZ=a] 44");
    field("X: ü", "GET / 1.1 [X=ü] 25");
    field(b"X: 01234567\xff", "GET / 1.1 [X=01234567\u{fffd}] 32");
    field(
        "X-0123456789-0123456789-0123456789-0123: a",
        "GET / 1.1 [X-0123456789-0123456789-0123456789-0123=a] 62",
    );
    field("A: 1\r\nB: 2\r\nA: 3", "GET / 1.1 [A=1|B=2|A=3] 36");

    field(": a", "400 FieldName");
    field("X : a", "400 FieldName");
    field("X\t: a", "400 FieldName");
    field("X", "400 FieldName");
    field("X Y: a", "400 FieldName");
    field("Host : a", "400 FieldName");
    field("Host\r\nX: a", "400 FieldName");
    field("Content-Length\0: 1", "400 FieldName");
    field("X-0123456789-0123456789-0123456789-0123\0: a", "400 FieldName");
    field("X(Y): a", "400 FieldName");
    field("\u{fc}: a", "400 FieldName");
    field("\0: a", "400 FieldName");
    field(" X: a", "400 Folded");
    field("X: a\r\n b", "400 Folded");
    field("X: a\r\n\tb", "400 Folded");
    for control in (0..=8).chain(11..=31).filter(|&b| b != b'\r').chain([127]) {
        for before in ["", "a", "1234567", "12345678", "123456789"] {
            let line = [b"X: ", before.as_bytes(), &[control], b"12345678901"].concat();
            field(line, "400 FieldValue");
        }
    }
}

#[test]
fn responses() {
    resp("HTTP/1.1 200 OK\r\n\r\n", "200 OK 1.1 [] 19");
    resp("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n", "404 Not Found 1.0 [A=b] 32");
    resp("HTTP/1.1 200 \r\n\r\n", "200  1.1 [] 17");
    resp("HTTP/1.1 200\r\n\r\n", "200  1.1 [] 16");
    resp("HTTP/1.1 101 Ü\t!\r\n\r\nraw", "101 Ü\t! 1.1 [] 21");
    resp("HTTP/1.1 599 \r\n\r\n", "599  1.1 [] 17");
    resp("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200", "100 C 1.1 [] 18");
    resp("HTTP/1.1 200 OK\r\n", "partial");
    resp("HTTP/1.1 2", "partial");

    resp("HTTP/1.1 099 X\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 600 X\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 20 OK\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 2000 OK\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1  200 OK\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 +20 OK\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 200\tOK\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 200 O\0K\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 200 O\rK\r\n\r\n", "400 StatusLine");
    resp("HTTP/1.1 200 OK\n\n", "400 StatusLine");
    resp("HTTP/1.1 200\n", "400 StatusLine");
    resp("HTTP/1.1\r\n\r\n", "400 StatusLine");
    resp("HTTP/2.0 200 OK\r\n\r\n", "400 StatusLine");
    resp("http/1.1 200 OK\r\n\r\n", "400 StatusLine");
    resp("\r\nHTTP/1.1 200 OK\r\n\r\n", "400 StatusLine");
    resp("<html>", "400 StatusLine");
    resp("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "400 FieldName");
    resp("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "400 Folded");
}

const TIGHT: Limits = Limits { head_bytes_max: 64, fields_max: 2, request_line_bytes_max: 20 };

#[track_caller]
fn tight(input: &str, expected: &str) {
    check(request, input.as_bytes(), &TIGHT, expected);
}

#[test]
fn bounds() {
    tight("GET /345678 HTTP/1.1\r\n\r\n", "GET /345678 1.1 [] 24");
    tight("GET /3456789 HTTP/1.1\r\n\r\n", "414 RequestLineTooLong");
    tight("GET /345678901234567890", "414 RequestLineTooLong");
    tight("GET /345678901234567890\r\n", "414 RequestLineTooLong");
    tight("G\0T /345678901234567890\r\n", "414 RequestLineTooLong");
    tight("GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n", "GET / 1.1 [A=b|C=d] 30");
    tight("GET / HTTP/1.1\r\nA: b\r\nC: d\r\nE: f\r\n\r\n", "431 TooManyFields");
    let filled = |n: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(n));
    tight(&filled(41), &format!("GET / 1.1 [A={}] 64", "x".repeat(41)));
    tight(&filled(42), "431 HeadTooLarge");
    tight(&filled(420), "431 HeadTooLarge");
    tight(&format!("GET / HTTP/1.1\r\n{}", "x".repeat(48)), "431 HeadTooLarge");
    tight(&format!("GET / HTTP/1.1\r\n{}", "x".repeat(47)), "partial");

    let reason = format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(48));
    check(response, reason.as_bytes(), &TIGHT, "431 HeadTooLarge");
    let method = |n| format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(n));
    let longest = limits::METHOD_BYTES_MAX;
    req(method(longest), &format!("{} / 1.1 [] 47", "M".repeat(longest)));
    req(method(longest + 1), "501 MethodTooLong");
}

#[test]
fn default_bounds() {
    let outcome = |input: String| {
        let whole = input.len();
        outcome(request, input.as_bytes(), &Limits::default(), &[whole])
    };
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(n - 14));
    assert!(outcome(line(16 * 1024)).starts_with("GET /xxx"));
    assert_eq!(outcome(line(16 * 1024 + 1)), "414 RequestLineTooLong");
    let fields = |n| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
    assert!(outcome(fields(100)).starts_with("GET / "));
    assert_eq!(outcome(fields(101)), "431 TooManyFields");
    let head = |n: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(n - 23));
    assert!(outcome(head(60 * 1024)).starts_with("GET / "));
    assert_eq!(outcome(head(60 * 1024 + 1)), "431 HeadTooLarge");
    let name = format!("GET / HTTP/1.1\r\n{}: b\r\n\r\n", "x".repeat(64 * 1024));
    assert_eq!(outcome(name), "431 HeadTooLarge");
}

#[test]
fn a_head_is_filled_again_without_leftovers() {
    let (mut head, mut scanned, limits) = (Head::default(), 0, Limits::default());
    let first = b"POST /long HTTP/1.0\r\nA: b\r\nC: d\r\n\r\n";
    assert_eq!(request(first, &mut head, &limits, &mut scanned), Ok(Parsed::Complete));
    let second = b"GET / HTTP/1.1\r\nE: f\r\n\r\n";
    assert_eq!(request(second, &mut head, &limits, &mut scanned), Ok(Parsed::Complete));
    assert_eq!(head.fields.len(), 1);
    let mut fresh = Head::default();
    assert_eq!(request(second, &mut fresh, &limits, &mut 0), Ok(Parsed::Complete));
    assert_eq!(head, fresh);
    // One that was given up half-way leaves nothing either.
    assert_eq!(request(&first[..24], &mut head, &limits, &mut scanned), Ok(Parsed::Partial));
    let answer = b"HTTP/1.1 204 \r\n\r\n";
    assert_eq!(response(answer, &mut head, &limits, &mut 0), Ok(Parsed::Complete));
    assert_eq!((head.method.len(), head.fields.len(), head.status), (0, 0, 204));
}

#[test]
fn fields_are_tagged() {
    let block =
        b"GET / HTTP/1.1\r\nHOST: a\r\nX-Envoy-Retry-On: 5xx\r\nx-request-id: 1\r\nA: b\r\n\r\n";
    let mut head = Head::default();
    assert_eq!(request(block, &mut head, &Limits::default(), &mut 0), Ok(Parsed::Complete));
    let tags: Vec<_> = head.fields.iter().map(|f| f.known).collect();
    assert_eq!(tags, [Known::Host, Known::XEnvoyOther, Known::XRequestId, Known::Other]);
}

#[test]
fn every_error_has_a_status_and_details() {
    let request_line = ParseError::RequestLineTooLong;
    assert_eq!((request_line.status(), ParseError::HeadTooLarge.status()), (414, 431));
    assert_eq!((ParseError::Expectation.status(), ParseError::Http10.status()), (417, 426));
    assert_eq!((ParseError::UnknownCoding.status(), ParseError::Version.status()), (501, 505));
    assert_eq!(ParseError::ContentLength.status(), 400);
    assert_eq!(ParseError::Http10.details(), "low_version");
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,20}"
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        method in token(),
        target in "/[!-~]{0,60}",
        fields in prop::collection::vec((token(), "([!-~\u{80}-\u{ff}]([ -~\t]{0,40}[!-~])?)?"), 0..12),
        cuts in prop::collection::vec(1usize..40, 1..40),
    ) {
        let mut block = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &fields {
            encode::field(&mut block, name.as_bytes(), value.as_bytes());
        }
        block.extend_from_slice(b"\r\n");
        let (mut head, mut scanned, mut end) = (Head::default(), 0, 0);
        for cut in cuts.iter().cycle() {
            end = block.len().min(end + cut);
            if request(&block[..end], &mut head, &Limits::default(), &mut scanned)? == Parsed::Complete {
                break;
            }
        }
        let view = HeadView::new(&head, &block);
        prop_assert_eq!(head.len, block.len());
        prop_assert_eq!(view.method(), method.as_bytes());
        prop_assert_eq!(view.target(), target.as_bytes());
        let read: Vec<_> = view.fields().map(|(_, n, v)| (text(n), text(v))).collect();
        prop_assert_eq!(read, fields);
    }

    #[test]
    fn no_bytes_panic_and_no_segmentation_matters(
        input in prop::collection::vec(any::<u8>().prop_map(|b| b"GET / HTTP/1.1\r\n:a \t\0"[b as usize % 21]), 0..80),
        cut in any::<prop::sample::Index>(),
    ) {
        for parser in [request as Parser, response] {
            let whole = outcome(parser, &input, &Limits::default(), &[input.len()]);
            let split = [cut.index(input.len() + 1), input.len()];
            prop_assert_eq!(outcome(parser, &input, &Limits::default(), &split), whole);
        }
    }
}

impl From<ParseError> for proptest::test_runner::TestCaseError {
    fn from(error: ParseError) -> Self {
        Self::fail(format!("{error:?}"))
    }
}
