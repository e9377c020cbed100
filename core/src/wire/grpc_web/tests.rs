// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::{Decoder, Encoder, Form, NotBase64, parse, push_grpc_type, push_web_type, wanted};

#[track_caller]
fn content_type(web: &str, form: Form, grpc: &str, back: &str) {
    let (parsed, encoding) = parse(web.as_bytes()).unwrap();
    let (mut onward, mut answer) = (Vec::new(), Vec::new());
    push_grpc_type(encoding, &mut onward);
    push_web_type(form, &onward, &mut answer);
    assert_eq!((parsed, &*String::from_utf8(onward).unwrap()), (form, grpc));
    assert_eq!(String::from_utf8(answer).unwrap(), back);
}

#[test]
fn content_types() {
    use Form::{Binary, Text};
    let proto = "application/grpc-web+proto";
    content_type("application/grpc-web", Binary, "application/grpc", proto);
    content_type(proto, Binary, "application/grpc+proto", proto);
    content_type(
        "Application/gRPC-Web+json",
        Binary,
        "application/grpc+json",
        "application/grpc-web+json",
    );
    let text = "application/grpc-web-text+proto";
    content_type("application/grpc-web-text", Text, "application/grpc", text);
    content_type(text, Text, "application/grpc+proto", text);
    for no in [
        "",
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-webx",
        "application/grpc-web-textx",
        "application/grpc-web; charset=utf-8",
        "application/grpc-web+proto; charset=utf-8",
        "text/plain",
    ] {
        assert_eq!(parse(no.as_bytes()), None, "{no}");
    }
    for (accept, expected) in [
        ("", Binary),
        ("*/*", Binary),
        (proto, Binary),
        (text, Text),
        ("application/grpc-web-text", Text),
        ("text/plain, application/grpc-web-text;q=0.5", Text),
    ] {
        assert_eq!(wanted(accept.as_bytes()), expected, "{accept}");
    }
}

/// The characters in one piece, one by one, and cut in two everywhere.
#[track_caller]
fn decoded(text: &str, expected: Result<&[u8], NotBase64>) {
    let decode = |pieces: &[&[u8]]| {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        pieces.iter().try_for_each(|piece| decoder.push(piece, &mut out))?;
        decoder.finish()?;
        Ok(out)
    };
    let expected = expected.map(<[u8]>::to_vec);
    let text = text.as_bytes();
    assert_eq!(decode(&[text]), expected, "{text:?}");
    assert_eq!(decode(&text.chunks(1).collect::<Vec<_>>()), expected, "{text:?} by bytes");
    for cut in 0..=text.len() {
        assert_eq!(decode(&[&text[..cut], &text[cut..]]), expected, "{text:?} cut at {cut}");
    }
}

#[test]
fn text_decodes() {
    decoded("", Ok(b""));
    // RFC 4648 §10.
    decoded("Zg==", Ok(b"f"));
    decoded("Zm8=", Ok(b"fo"));
    decoded("Zm9v", Ok(b"foo"));
    decoded("Zm9vYmFy", Ok(b"foobar"));
    decoded("+/+/", Ok(b"\xfb\xff\xbf"));
    // It may begin anew.
    decoded("Zg==Zm8=Zm9vZg==", Ok(b"ffofoof"));
    for bad in [
        "Z", "Zg", "Zg=", "Zm9vY", "Zg== ", "Zm9v\n", "====", "Z===", "=g==", "Z=g=", "Zg=v",
        "Zh==", "Zm9=", "-_-_", "Zm\0v", "Zmäv",
    ] {
        decoded(bad, Err(NotBase64));
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    [&[0][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
}

#[test]
fn trailers_are_the_last_message() {
    let lines = b"Grpc-Status: 0\r\ngrpc-message:a%20b\r\n";
    let mut out = Vec::new();
    let mut encoder = Encoder::new(Form::Binary);
    assert!(encoder.is_identity());
    encoder.data(&message(b"m"), &mut out);
    encoder.trailers(lines, &mut out);
    let written = b"grpc-status: 0\r\ngrpc-message: a%20b\r\n";
    let expected = [&message(b"m")[..], b"\x80\0\0\0\x25", written].concat();
    assert_eq!(out, expected);
    let mut out = Vec::new();
    Encoder::new(Form::Binary).trailers(b"", &mut out);
    assert_eq!(out, b"\x80\0\0\0\0");
}

#[test]
fn whole_messages_are_not_held_back() {
    let (mut encoder, mut out) = (Encoder::new(Form::Text), Vec::new());
    assert!(!encoder.is_identity());
    encoder.data(&message(b"m"), &mut out);
    assert_eq!(out, b"AAAAAAFt");
    out.clear();
    encoder.data(&message(b"mm"), &mut out);
    assert_eq!(out, b"AAAAAAJtbQ==");
    out.clear();
    // What is not whole waits for its rest without padding.
    encoder.data(&message(b"mm")[..6], &mut out);
    encoder.data(b"m", &mut out);
    assert_eq!(out, b"AAAAAAJtbQ==");
    out.clear();
    encoder.data(b"\0", &mut out);
    assert_eq!(out, b"");
    encoder.finish(&mut out);
    assert_eq!(out, b"AA==");
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8),
        cut in 1usize..30,
        cut_text in 1usize..30,
        lost in 0usize..4,
    ) {
        let mut body: Vec<u8> = payloads.iter().flat_map(|payload| message(payload)).collect();
        body.truncate(body.len().saturating_sub(lost));
        let (mut encoder, mut text) = (Encoder::new(Form::Text), Vec::new());
        for piece in body.chunks(cut) {
            encoder.data(piece, &mut text);
            prop_assert!(encoder.held_len < 3);
            if encoder.messages.is_between() {
                prop_assert_eq!(encoder.held_len, 0);
            }
        }
        encoder.trailers(b"grpc-status: 0\r\n", &mut text);
        prop_assert!(text.iter().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b)));
        let (mut decoder, mut back) = (Decoder::default(), Vec::new());
        for piece in text.chunks(cut_text) {
            decoder.push(piece, &mut back).unwrap();
        }
        prop_assert_eq!(decoder.finish(), Ok(()));
        let mut expected = body.clone();
        Encoder::new(Form::Binary).trailers(b"grpc-status: 0\r\n", &mut expected);
        prop_assert_eq!(back, expected);
    }

    /// Whatever is cut where: the same bytes, or refused alike; never more than three for four.
    #[test]
    fn any_text_has_one_meaning(
        text in "[A-Da-d/+=]{0,40}|[\\x00-\\x7f]{0,9}",
        cut in 1usize..10,
    ) {
        let decode = |cut: usize| {
            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            for piece in text.as_bytes().chunks(cut) {
                let before = out.len();
                decoder.push(piece, &mut out)?;
                assert!(out.len() - before <= piece.len().div_ceil(4) * 3);
            }
            decoder.finish().map(|()| out)
        };
        prop_assert_eq!(decode(cut), decode(text.len().max(1)));
    }
}
