// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{Decoder, Step};
use crate::limits;
use crate::wire::Framing;
use crate::wire::h1::encode;
use crate::wire::h1::parse::ParseError;

/// What a decoder makes of pieces that end at these positions: data, trailers, bytes taken; then
/// the connection ends.
fn outcome(framing: Framing, wire: &[u8], ends: &[usize]) -> String {
    let mut decoder = Decoder::new(framing);
    let (mut data, mut at) = (Vec::new(), 0);
    for &end in ends {
        loop {
            match decoder.step(&wire[at..end]) {
                Ok(Step::Data { skip, len }) => {
                    assert!(len > 0);
                    data.extend_from_slice(&wire[at + skip..at + skip + len]);
                    at += skip + len;
                }
                Ok(Step::More { skip }) => {
                    at += skip;
                    assert_eq!(at, end);
                    break;
                }
                Ok(Step::End { skip }) => {
                    at += skip;
                    assert!(decoder.is_done());
                    assert_eq!(decoder.finish(), Ok(()));
                    let trailers = text(decoder.trailers()).replace("\r\n", "|");
                    return format!("{:?} [{trailers}] {at}", text(&data));
                }
                Err(error) => {
                    assert_eq!(decoder.step(b"0\r\n\r\n"), Err(error), "an error is final");
                    assert_eq!(decoder.finish(), Err(error));
                    return format!("{:?} {error:?}", text(&data));
                }
            }
        }
    }
    assert!(!decoder.is_done());
    match decoder.finish() {
        Ok(()) => format!("{:?} closed", text(&data)),
        Err(error) => format!("{:?} {error:?}", text(&data)),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check(framing: Framing, wire: &[u8], expected: &str) {
    let whole = wire.len();
    assert_eq!(outcome(framing, wire, &[whole]), expected, "{:?}", text(wire));
    let bytes: Vec<_> = (0..=whole).collect();
    assert_eq!(outcome(framing, wire, &bytes), expected, "by bytes: {:?}", text(wire));
    for cut in 0..whole {
        let split = outcome(framing, wire, &[cut, whole]);
        assert_eq!(split, expected, "cut at {cut}: {:?}", text(wire));
    }
}

#[track_caller]
fn chunked(wire: impl AsRef<[u8]>, expected: &str) {
    check(Framing::Chunked, wire.as_ref(), expected);
}

/// A trailer section after an empty body.
#[track_caller]
fn trailers(lines: impl AsRef<[u8]>, expected: &str) {
    chunked([b"0\r\n", lines.as_ref(), b"\r\n"].concat(), expected);
}

#[test]
fn bodies_without_chunks() {
    check(Framing::None, b"next", "\"\" [] 0");
    check(Framing::Length(0), b"next", "\"\" [] 0");
    check(Framing::Length(5), b"hello", "\"hello\" [] 5");
    check(Framing::Length(5), b"hello, next", "\"hello\" [] 5");
    check(Framing::Length(5), b"hell", "\"hell\" Truncated");
    check(Framing::Length(u64::MAX), b"hell", "\"hell\" Truncated");
    check(Framing::UntilClose, b"hello\0\r\n", "\"hello\\0\\r\\n\" closed");
    check(Framing::UntilClose, b"", "\"\" closed");
}

#[test]
fn chunks() {
    chunked("0\r\n\r\n", "\"\" [] 5");
    chunked("5\r\nhello\r\n0\r\n\r\nnext", "\"hello\" [] 15");
    chunked("1\r\na\r\n2\r\nbc\r\n00\r\n\r\n", "\"abc\" [] 19");
    chunked("a\r\n0123456789\r\n0\r\n\r\n", "\"0123456789\" [] 20");
    chunked("A\r\n0123456789\r\n0\r\n\r\n", "\"0123456789\" [] 20");
    chunked("0000000000000001\r\n\r\r\n0\r\n\r\n", "\"\\r\" [] 26");
    chunked("FFFFFFFFFFFFFFFF\r\nabc", "\"abc\" Truncated");
    chunked("5\r\nhello\r\n0\r\n", "\"hello\" Truncated");
    chunked("5\r\nhello\r\n0\r\n\r", "\"hello\" Truncated");
    chunked("", "\"\" Truncated");
}

#[test]
fn chunk_sizes() {
    for bad in [
        "",
        " ",
        "g",
        "+1",
        "-1",
        "0x1",
        " 1",
        "1 ",
        "1\t",
        "1 ;a",
        "1,",
        "1.0",
        "1h",
        "٣",
        ";a",
        "00000000000000001",
        "10000000000000000",
    ] {
        chunked(format!("{bad}\r\na\r\n0\r\n\r\n"), "\"\" ChunkSize");
        chunked(format!("1\r\na\r\n{bad}\r\n\r\n"), "\"a\" ChunkSize");
    }
}

#[test]
fn chunk_extensions() {
    let ok = |extension: &str| {
        let wire = format!("1{extension}\r\na\r\n0{extension}\r\n\r\n");
        chunked(&wire, &format!("\"a\" [] {}", wire.len()));
    };
    ok(";");
    ok(";a");
    ok(";a=b;c = d ; e");
    ok(";a=\"b;c \\\" \t\\\\\"");
    ok(";a=\"ü\"");
    let bad = |extension: &[u8], expected: &str| {
        chunked([b"1", extension, b"\r\na\r\n0\r\n\r\n"].concat(), expected);
    };
    bad(b";a=\"b", "\"\" ChunkExtension");
    bad(b";a=\"b\\\"", "\"\" ChunkExtension");
    bad(b";a=\"b\\", "\"\" ChunkExtension");
    bad(b";\0", "\"\" ChunkExtension");
    bad(b";a=\"\x7f\"", "\"\" ChunkExtension");
    bad(b";a=\"\\\x01\"", "\"\" ChunkExtension");
    bad(b";\xff", "\"\" ChunkExtension");
    bad(b";a\nb", "\"\" LineEnd");
    bad(b";a=\"\nb\"", "\"\" LineEnd");
    bad(b";a\rb", "\"\" LineEnd");

    let longest = limits::CHUNK_LINE_BYTES_MAX - 2;
    ok(&format!(";{}", "a".repeat(longest)));
    bad(format!(";{}", "a".repeat(longest + 1)).as_bytes(), "\"\" ChunkLineTooLong");
}

#[test]
fn line_ends() {
    chunked("5\nhello\n0\n\n", "\"\" LineEnd");
    chunked("5\rhello\r0\r\r", "\"\" LineEnd");
    chunked("5\r\nhello\n0\r\n\r\n", "\"hello\" ChunkEnd");
    chunked("5\r\nhello\r0\r\n\r\n", "\"hello\" ChunkEnd");
    chunked("5\r\nhello0\r\n\r\n", "\"hello\" ChunkEnd");
    chunked("5\r\nhello!\r\n0\r\n\r\n", "\"hello\" ChunkEnd");
    chunked("0\n\r\n", "\"\" LineEnd");
    chunked("0\r\n\n", "\"\" LineEnd");
    chunked("0\r\na: b\n\r\n", "\"\" LineEnd");
}

#[test]
fn trailers_pass() {
    trailers("Grpc-Status: 0\r\n", "\"\" [Grpc-Status: 0|] 21");
    trailers("A:b\r\nc:  d \r\nE:\r\n", "\"\" [A: b|c: d|E: |] 22");
    trailers("X: ü\r\n", "\"\" [X: ü|] 12");
}

#[test]
fn trailers_that_do_not_pass() {
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Content-Type",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Connection",
        "Te",
        "Trailer",
        "Upgrade",
        "Expect",
        "X-Forwarded-For",
        "x-forwarded-prefix",
        "X-Request-Id",
        "x-envoy-internal",
        "x-envoy-retry-on",
        "If-Match",
        "Proxy-Status",
        "Cache-Control",
        "Location",
        "Range",
        "Content_Length",
        "x_request_id",
        "TRANSFER_ENCODING",
        "access-control-allow-origin",
        "x-http-method-override",
    ] {
        let lines = format!("A: 1\r\n{name}: 2\r\nB: 3\r\n");
        trailers(&lines, &format!("\"\" [A: 1|B: 3|] {}", lines.len() + 5));
    }
    for name in ["Hosts", "X-Host", "Ranges", "x-http-method-override-it"] {
        let lines = format!("{name}: 2\r\n");
        trailers(&lines, &format!("\"\" [{name}: 2|] {}", lines.len() + 5));
    }
}

#[test]
fn trailers_are_as_strict_as_heads() {
    trailers(": a\r\n", "\"\" FieldName");
    trailers("a\r\n", "\"\" FieldName");
    trailers("a : b\r\n", "\"\" FieldName");
    trailers("a: b\r\n c\r\n", "\"\" Folded");
    trailers("a: b\0\r\n", "\"\" FieldValue");
    trailers("a: b\rc\r\n", "\"\" LineEnd");
    let whole = |wire: String| outcome(Framing::Chunked, wire.as_bytes(), &[wire.len()]);
    let lines = |n| whole(format!("0\r\n{}\r\n", "te: a\r\n".repeat(n)));
    assert_eq!(lines(100), format!("\"\" [] {}", 100 * 7 + 5));
    assert_eq!(lines(101), "\"\" TooManyFields");
    let bytes = |n: usize| whole(format!("0\r\nte: {}\r\n\r\n", "x".repeat(n - 8)));
    let most = limits::TRAILER_BYTES_MAX;
    assert_eq!(bytes(most), format!("\"\" [] {}", most + 3));
    assert_eq!(bytes(most + 1), "\"\" TrailersTooLarge");
    assert_eq!(whole(format!("0\r\n{}", "x".repeat(most + 1))), "\"\" TrailersTooLarge");
}

#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 48);
}

proptest! {
    #[test]
    fn chunks_round_trip_under_any_segmentation(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
        trailer in "(x[a-z]{0,8}-[0-9]: [!-~]{0,20}\r\n){0,3}",
        cuts in prop::collection::vec(1usize..40, 1..20),
        after in prop::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut wire = Vec::new();
        for chunk in &chunks {
            encode::chunk_head(&mut wire, chunk.len());
            wire.extend_from_slice(chunk);
            encode::chunk_end(&mut wire);
        }
        encode::last_chunk(&mut wire, trailer.as_bytes());
        let len = wire.len();
        wire.extend_from_slice(&after);

        let mut decoder = Decoder::new(Framing::Chunked);
        let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
        let mut cuts = cuts.iter().cycle();
        loop {
            match decoder.step(&wire[at..end]).unwrap() {
                Step::Data { skip, len } => {
                    data.extend_from_slice(&wire[at + skip..at + skip + len]);
                    at += skip + len;
                }
                Step::More { skip } => {
                    at += skip;
                    end = wire.len().min(end + cuts.next().unwrap());
                }
                Step::End { skip } => {
                    at += skip;
                    break;
                }
            }
        }
        prop_assert_eq!(at, len);
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(decoder.trailers(), trailer.as_bytes());
    }

    #[test]
    fn no_bytes_panic_and_no_segmentation_matters(
        wire in prop::collection::vec(any::<u8>(), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let wire: Vec<u8> = wire.iter().map(|&b| b"0123f\r\n\r\n;:a\"\\\0\xff"[b as usize % 16]).collect();
        let whole = outcome(Framing::Chunked, &wire, &[wire.len()]);
        let split = [cut.index(wire.len() + 1), wire.len()];
        prop_assert_eq!(outcome(Framing::Chunked, &wire, &split), whole);
    }
}

#[test]
fn truncation_is_not_completion() {
    let mut decoder = Decoder::new(Framing::Length(2));
    assert_eq!(decoder.step(b"a"), Ok(Step::Data { skip: 0, len: 1 }));
    assert_eq!(decoder.finish(), Err(ParseError::Truncated));
    assert_eq!(decoder.step(b"b"), Err(ParseError::Truncated));
}
