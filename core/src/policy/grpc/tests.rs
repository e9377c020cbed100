// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::time::Duration;

use proptest::prelude::*;

use super::{
    Outcome, Status, decode_message, encode_message, is_grpc, method, parse_timeout, speaks,
};
use crate::policy::sample::Sample;
use crate::wire::h2::message::fields;

#[test]
fn who_speaks_grpc() {
    for yes in ["application/grpc", "application/grpc+proto", "Application/gRPC+json"] {
        assert!(is_grpc(yes.as_bytes()), "{yes}");
        assert!(speaks(Sample::get("/a.B/C").with("content-type", yes.as_bytes()).view()));
    }
    for no in [
        "",
        "application/grp",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpc; charset=utf-8",
        "application/grpcx",
        "application/json",
    ] {
        assert!(!is_grpc(no.as_bytes()), "{no}");
        assert!(!speaks(Sample::get("/a.B/C").with("content-type", no.as_bytes()).view()));
    }
    assert!(!speaks(Sample::get("/a.B/C").view()));
}

#[test]
fn statuses() {
    for (at, status) in Status::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(status.code()), at);
        assert_eq!(Status::parse(at.to_string().as_bytes()), Some(status));
    }
    assert_eq!(Status::ALL[16], Status::Unauthenticated);
    for bad in ["", "17", "-1", "00", "01", "1 ", "100", "x"] {
        assert_eq!(Status::parse(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn failures_of_http() {
    use Status::*;
    for (status, expected) in [
        (400, Internal),
        (401, Unauthenticated),
        (403, PermissionDenied),
        (404, Unimplemented),
        (429, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (200, Unknown),
        (408, Unknown),
        (413, Unknown),
        (500, Unknown),
        (505, Unknown),
    ] {
        assert_eq!(Status::of_http(status), expected, "{status}");
    }
}

#[track_caller]
fn message(text: &str, expected: &str) {
    let mut out = Vec::new();
    encode_message(text.as_bytes(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn messages() {
    message("", "");
    message("upstream request timeout", "upstream request timeout");
    message("100 %~", "100 %25~");
    message("a\r\nb: c", "a%0D%0Ab: c");
    message(" ", "%20");
    message(" a b ", "%20a b%20");
    message("ä\x7f\0", "%C3%A4%7F%00");
    let decoded = |value: &str| {
        let mut out = Vec::new();
        decode_message(value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(decoded("%c3%A4%"), "ä%");
    assert_eq!(decoded("%2%20%zz%1"), "%2 %zz%1");
    assert_eq!(decoded("%+1"), "%+1");
}

#[test]
fn timeouts() {
    for (text, expected) in [
        ("1H", Duration::from_secs(3600)),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ("2M", Duration::from_secs(120)),
        ("3S", Duration::from_secs(3)),
        ("0S", Duration::ZERO),
        ("00000004m", Duration::from_millis(4)),
        ("5u", Duration::from_micros(5)),
        ("6n", Duration::from_nanos(6)),
    ] {
        assert_eq!(parse_timeout(text.as_bytes()), Some(expected), "{text}");
    }
    for bad in [
        "",
        "S",
        "1",
        "1s",
        "1h",
        "100000000S",
        "+1S",
        "-1S",
        "1.5S",
        " 1S",
        "1S ",
        "1 S",
        "1mS",
        "٣S",
    ] {
        assert_eq!(parse_timeout(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn outcomes() {
    let of = |lines: &'static str| Outcome::of(fields(lines.as_bytes()));
    let ok = of("x: y\r\ngrpc-status: 0\r\n");
    assert_eq!(ok, Outcome { status: Some(b"0"), message: None });
    assert_eq!((ok.bridged(200), ok.bridged(404)), (200, 404));
    let failed = of("Grpc-Message: a%20b\r\nGrpc-Status: 5\r\ngrpc-status: 0\r\n");
    assert_eq!(failed, Outcome { status: Some(b"5"), message: Some(b"a%20b") });
    assert_eq!(failed.bridged(200), 503);
    assert_eq!(of("grpc-status: x\r\n").bridged(200), 503);
    assert_eq!(of("").bridged(200), 200);
    let mut out = Vec::new();
    failed.write(&mut out);
    assert_eq!(out, b"grpc-status: 5\r\ngrpc-message: a%20b\r\n");
}

#[test]
fn methods() {
    assert_eq!(method("/a.B/C"), Some(("a.B", "C")));
    for bad in ["", "/", "/a", "/a/", "//a", "/a/b/c", "a/b"] {
        assert_eq!(method(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn a_message_is_one_visible_line_and_comes_back(text in any::<Vec<u8>>()) {
        let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
        encode_message(&text, &mut encoded);
        prop_assert!(encoded.iter().all(|b| matches!(b, b' '..=b'~')));
        prop_assert_eq!(encoded.trim_ascii(), &encoded[..]);
        decode_message(&encoded, &mut decoded);
        prop_assert_eq!(decoded, text);
    }

    #[test]
    fn any_bytes_decode(value in any::<Vec<u8>>()) {
        let mut out = Vec::new();
        decode_message(&value, &mut out);
        prop_assert!(out.len() <= value.len());
    }

    #[test]
    fn a_timeout_is_what_it_says(n in 0u64..100_000_000, unit in 0usize..6, width in 0usize..9) {
        let nanos = [3_600_000_000_000u128, 60_000_000_000, 1_000_000_000, 1_000_000, 1_000, 1];
        let text = format!("{n:0width$}{}", &"HMSmun"[unit..=unit]);
        let parsed = parse_timeout(text.as_bytes()).unwrap();
        prop_assert_eq!(parsed.as_nanos(), u128::from(n) * nanos[unit]);
    }

    #[test]
    fn no_bytes_are_a_timeout_beyond_its_bounds(value in any::<Vec<u8>>()) {
        if let Some(timeout) = parse_timeout(&value) {
            prop_assert!(value.len() <= 9 && timeout.as_secs() <= 99_999_999 * 3600);
        }
    }
}
