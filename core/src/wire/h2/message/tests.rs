// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::{Malformed, Pseudo, Tunnel, check_field, fields, lines};
use crate::wire::h1::framing::{RequestRules, request_meta, response_meta, switches_to};
use crate::wire::h1::parse::{self, Limits, Parsed};
use crate::wire::h2::hpack::{Decoder, Encoder, Fields};
use crate::wire::{Framing, Head, HeadView, Known, Version};

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn bytes<'a>(
    pairs: &'a [(&'a str, &'a str)],
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
    pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

const GET: Pseudo<'static> = Pseudo {
    method: b"GET",
    scheme: Some(b"https"),
    authority: Some(b"a"),
    path: Some(b"/p?q"),
    protocol: None,
};
const CONNECT: Pseudo<'static> = Pseudo {
    method: b"CONNECT",
    scheme: None,
    authority: Some(b"a:1"),
    path: None,
    protocol: None,
};
const WEBSOCKET: Pseudo<'static> =
    Pseudo { method: b"CONNECT", protocol: Some(b"websocket"), ..GET };

/// The block, which the parser of HTTP/1.1 reads as the head that was made with it.
#[track_caller]
fn made(pseudo: Pseudo<'_>, pairs: Pairs<'_>) -> Result<String, Malformed> {
    let (mut block, mut head) = (b"old".to_vec(), Head { status: 200, ..Head::EMPTY });
    let limits = Limits::default();
    super::request(&mut block, &mut head, &limits, pseudo, b"key", bytes(pairs))?;
    let mut parsed = Head::default();
    let outcome = parse::request(&block, &mut parsed, &limits, &mut 0);
    assert_eq!(outcome, Ok(Parsed::Complete));
    parsed.version = Version::Http2;
    assert_eq!(head, parsed);
    assert_eq!(head.len, block.len());
    Ok(String::from_utf8(block).unwrap())
}

#[track_caller]
fn request(pseudo: Pseudo<'_>, pairs: Pairs<'_>, expected: &str) {
    assert_eq!(made(pseudo, pairs).as_deref(), Ok(expected));
}

#[track_caller]
fn refused(pseudo: Pseudo<'_>, pairs: Pairs<'_>, expected: Malformed) {
    assert_eq!(made(pseudo, pairs), Err(expected), "{pseudo:?} {pairs:?}");
}

#[test]
fn a_request_looks_as_http1_would_have_it() {
    request(GET, &[], "GET /p?q HTTP/1.1\r\nhost: a\r\n\r\n");
    request(
        Pseudo { method: b"POST", ..GET },
        &[("content-length", "3"), ("x-a", ""), ("x-a", "b c"), ("te", "trailers")],
        "POST /p?q HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nx-a: \r\nx-a: b c\r\nte: trailers\r\n\r\n",
    );
    let options = Pseudo { method: b"OPTIONS", path: Some(b"*"), ..GET };
    request(options, &[], "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    let obs_text = Pseudo { path: Some("/ä".as_bytes()), ..GET };
    request(obs_text, &[("x", "ä")], "GET /ä HTTP/1.1\r\nhost: a\r\nx: ä\r\n\r\n");
}

#[test]
fn crumbs_become_one_cookie() {
    request(
        GET,
        &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")],
        "GET /p?q HTTP/1.1\r\nhost: a\r\ncookie: a=1; b=2; c=3\r\nx: y\r\n\r\n",
    );
    for (crumbs, cookie) in
        [(["a", "", "b"], "a; b"), (["", "a", ""], "a"), (["a", "", ""], "a"), (["", "", ""], "")]
    {
        let expected = format!("GET /p?q HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\n\r\n");
        request(GET, &crumbs.map(|crumb| ("cookie", crumb)), &expected);
    }
    let bad = [("cookie", "a=1"), ("cookie", "b\r\nx: y")];
    refused(GET, &bad, Malformed::FieldValue);
}

#[test]
fn one_host() {
    let without = Pseudo { authority: None, ..GET };
    request(without, &[("x", "y"), ("host", "b")], "GET /p?q HTTP/1.1\r\nx: y\r\nhost: b\r\n\r\n");
    request(without, &[], "GET /p?q HTTP/1.1\r\n\r\n");
    request(GET, &[("host", "A:443")], "GET /p?q HTTP/1.1\r\nhost: a\r\n\r\n");
    refused(GET, &[("host", "b")], Malformed::HostDiffers);
    refused(GET, &[("host", "")], Malformed::HostDiffers);
    refused(GET, &[("host", "a"), ("host", "a")], Malformed::HostRepeated);
    refused(without, &[("host", "a"), ("host", "a")], Malformed::HostRepeated);
    refused(without, &[("host", "u@a")], Malformed::Authority);
    for bad in ["", "u@a", "a b", "a/b", "a:x", "a\r\nx: y"] {
        refused(Pseudo { authority: Some(bad.as_bytes()), ..GET }, &[], Malformed::Authority);
    }
}

#[test]
fn pseudo_header_fields() {
    for bad in ["", "G T", "GET\r\n", "a/b"] {
        refused(Pseudo { method: bad.as_bytes(), ..GET }, &[], Malformed::Method);
    }
    refused(Pseudo { method: &[b'A'; 33], ..GET }, &[], Malformed::MethodTooLong);
    for bad in [None, Some(&b""[..]), Some(b"ftp"), Some(b"http ")] {
        refused(Pseudo { scheme: bad, ..GET }, &[], Malformed::Scheme);
    }
    for bad in ["", "p", "*", "http://a/p", "/a b", "/\r\nx: y", "/\0", "/\x7f"] {
        refused(Pseudo { path: Some(bad.as_bytes()), ..GET }, &[], Malformed::Path);
    }
    refused(Pseudo { path: None, ..GET }, &[], Malformed::Path);
    refused(Pseudo { protocol: Some(b"websocket"), ..GET }, &[], Malformed::Protocol);
}

#[test]
fn connect() {
    request(CONNECT, &[], "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
    refused(Pseudo { authority: None, ..CONNECT }, &[], Malformed::Authority);
    refused(Pseudo { authority: Some(b"a"), ..CONNECT }, &[], Malformed::Authority);
    refused(Pseudo { scheme: Some(b"https"), ..CONNECT }, &[], Malformed::Scheme);
    refused(Pseudo { path: Some(b"/"), ..CONNECT }, &[], Malformed::Path);
}

#[test]
fn an_extended_connect_is_an_upgrade() {
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    request(
        WEBSOCKET,
        &[("sec-websocket-version", "13")],
        &format!(
            "GET /p?q HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\n\
             {upgrade}sec-websocket-key: key\r\n\r\n"
        ),
    );
    request(
        WEBSOCKET,
        &[("sec-websocket-key", "own")],
        &format!("GET /p?q HTTP/1.1\r\nhost: a\r\nsec-websocket-key: own\r\n{upgrade}\r\n"),
    );
    let udp = Pseudo { protocol: Some(b"connect-udp"), ..WEBSOCKET };
    let expected = "GET /p?q HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
                    upgrade: connect-udp\r\n\r\n";
    request(udp, &[], expected);
    for bad in ["", "a b", "websocket\r\nx: y", "a, b"] {
        let bad = Pseudo { protocol: Some(bad.as_bytes()), ..WEBSOCKET };
        refused(bad, &[], Malformed::Protocol);
    }
    refused(Pseudo { scheme: None, ..WEBSOCKET }, &[], Malformed::Scheme);
    refused(Pseudo { path: None, ..WEBSOCKET }, &[], Malformed::Path);
    refused(Pseudo { authority: None, ..WEBSOCKET }, &[], Malformed::Authority);
}

#[track_caller]
fn field(name: &str, value: &str, expected: Result<Known, Malformed>) {
    assert_eq!(check_field(name.as_bytes(), value.as_bytes()), expected, "{name:?}: {value:?}");
    if let Err(error) = expected {
        refused(GET, &[(name, value)], error);
        let mut out = Vec::new();
        assert_eq!(super::trailers(&mut out, bytes(&[(name, value)])), Err(error));
        let (mut block, mut head) = (Vec::new(), Head::default());
        let limits = Limits::default();
        let answer = super::response(&mut block, &mut head, &limits, 200, bytes(&[(name, value)]));
        assert_eq!(answer, Err(error));
    }
}

#[test]
fn fields_one_by_one() {
    field("x-a", "a\tb c", Ok(Known::Other));
    field("x-envoy-a", "", Ok(Known::XEnvoyOther));
    field("cookie", "ä", Ok(Known::Cookie));
    field("te", "Trailers", Ok(Known::Te));
    for bad in ["", "X", "a:", ":path", "a b", "a\r\n", "ä", "a\0"] {
        field(bad, "v", Err(Malformed::FieldName));
    }
    for bad in [" a", "a ", "\ta", "a\t", " ", "a\rb", "a\nb", "a\r\nb: c", "\0", "\x7f", "\x1b"] {
        field("a", bad, Err(Malformed::FieldValue));
    }
    for bad in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        field(bad, "x", Err(Malformed::ConnectionField));
    }
    for bad in ["", "gzip", "trailers, gzip"] {
        field("te", bad, Err(Malformed::Te));
    }
}

#[test]
fn bounds() {
    let limits = Limits { head_bytes_max: 60, fields_max: 3, request_line_bytes_max: 20 };
    let made = |path: &str, pairs: Pairs<'_>| {
        let (mut block, mut head) = (Vec::new(), Head::default());
        let pseudo = Pseudo { path: Some(path.as_bytes()), ..GET };
        let made = super::request(&mut block, &mut head, &limits, pseudo, b"", bytes(pairs));
        made.map(|()| block.len())
    };
    assert_eq!(made("/345678", &[]), Ok(33));
    assert_eq!(made("/3456789", &[]), Err(Malformed::PathTooLong));
    assert_eq!(made("/", &[("a", "b"), ("c", "d")]), Ok(39));
    assert_eq!(made("/", &[("a", "b"), ("c", "d"), ("e", "f")]), Err(Malformed::TooManyFields));
    let crumb = ("cookie", "a");
    assert_eq!(made("/", &[crumb, crumb, crumb, crumb]), Ok(27 + 11 + 9));
    assert_eq!(made("/", &[("a", &"b".repeat(28))]), Ok(60));
    assert_eq!(made("/", &[("a", &"b".repeat(29))]), Err(Malformed::HeadTooLarge));
    let crumbs = [("cookie", "a"), ("cookie", &"b".repeat(20)[..])];
    assert_eq!(made("/", &crumbs), Ok(60));
    let crumbs = [("cookie", "a"), ("cookie", &"b".repeat(21)[..])];
    assert_eq!(made("/", &crumbs), Err(Malformed::HeadTooLarge));
    for (error, status) in [
        (Malformed::PathTooLong, 414),
        (Malformed::HeadTooLarge, 431),
        (Malformed::TooManyFields, 431),
        (Malformed::MethodTooLong, 501),
        (Malformed::Te, 400),
    ] {
        assert_eq!(error.status(), status);
    }
}

#[track_caller]
fn answered(status: u16, pairs: Pairs<'_>) -> Result<String, Malformed> {
    let (mut block, mut head) = (b"old".to_vec(), Head::default());
    let limits = Limits::default();
    super::response(&mut block, &mut head, &limits, status, bytes(pairs))?;
    let mut parsed = Head::default();
    assert_eq!(parse::response(&block, &mut parsed, &limits, &mut 0), Ok(Parsed::Complete));
    parsed.version = Version::Http2;
    assert_eq!(head, parsed);
    Ok(String::from_utf8(block).unwrap())
}

#[test]
fn a_response_looks_as_http1_would_have_it() {
    let set = [("set-cookie", "a"), ("set-cookie", "b")];
    let expected = "HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n";
    assert_eq!(answered(200, &set).as_deref(), Ok(expected));
    assert_eq!(answered(103, &[]).as_deref(), Ok("HTTP/1.1 103 Early Hints\r\n\r\n"));
    assert_eq!(answered(599, &[]).as_deref(), Ok("HTTP/1.1 599 Unknown\r\n\r\n"));
    for status in [0, 99, 101, 600, 999] {
        assert_eq!(answered(status, &[]), Err(Malformed::Status));
    }
}

#[test]
fn bodies_end_with_their_stream() {
    use Framing::{Chunked, Length, UntilClose};
    for (said, ended, request, response) in [
        (Framing::None, true, Ok(Framing::None), Ok(Framing::None)),
        (Framing::None, false, Ok(Chunked), Ok(Framing::None)),
        (Length(0), true, Ok(Length(0)), Ok(Length(0))),
        (Length(0), false, Ok(Length(0)), Ok(Length(0))),
        (Length(5), false, Ok(Length(5)), Ok(Length(5))),
        (Length(5), true, Err(Malformed::ContentLength), Err(Malformed::ContentLength)),
    ] {
        assert_eq!(super::request_framing(said, ended), request, "{said:?} {ended}");
        assert_eq!(super::response_framing(said, ended), response, "{said:?} {ended}");
    }
    assert_eq!(super::response_framing(UntilClose, true), Ok(Length(0)));
    assert_eq!(super::response_framing(UntilClose, false), Ok(Chunked));
}

#[test]
fn version_2_is_at_least_1_1() {
    let (mut block, mut head) = (Vec::new(), Head::default());
    let limits = Limits::default();
    let rules = RequestRules::default();
    super::request(&mut block, &mut head, &limits, WEBSOCKET, b"key", bytes(&[])).unwrap();
    let meta = request_meta(HeadView::new(&head, &block), &rules).unwrap();
    assert!(meta.keep_alive && meta.upgrade);
    let expects = [("content-length", "5"), ("expect", "100-continue"), ("te", "trailers")];
    super::request(&mut block, &mut head, &limits, GET, b"", bytes(&expects)).unwrap();
    let meta = request_meta(HeadView::new(&head, &block), &rules).unwrap();
    assert!(meta.keep_alive && meta.expect_continue && meta.te_trailers && !meta.upgrade);
    assert_eq!(meta.framing, Framing::Length(5));
    super::response(&mut block, &mut head, &limits, 204, bytes(&[])).unwrap();
    assert!(response_meta(HeadView::new(&head, &block), false).unwrap().keep_alive);
    assert_eq!(head.version.as_str(), "HTTP/2");
}

#[test]
fn trailers() {
    let mut out = b"before".to_vec();
    let sent = [
        ("grpc-status", "0"),
        ("content-length", "5"),
        ("host", "a"),
        ("authorization", "a"),
        ("grpc-message", "a%20b"),
        ("grpc-status-details-bin", "AA"),
    ];
    assert_eq!(super::trailers(&mut out, bytes(&sent)), Ok(()));
    let expected = "beforegrpc-status: 0\r\ngrpc-message: a%20b\r\ngrpc-status-details-bin: AA\r\n";
    assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
    let back: Vec<_> = fields(&out[6..]).collect();
    let expected: Pairs<'_> = &[sent[0], sent[4], sent[5]];
    assert_eq!(back, bytes(expected).collect::<Vec<_>>());

    let long = "b".repeat(crate::limits::TRAILER_BYTES_MAX - 7);
    assert_eq!(super::trailers(&mut out, bytes(&[("a", &long)])), Ok(()));
    let long = format!("{long}b");
    let error = super::trailers(&mut out, bytes(&[("a", &long)]));
    assert_eq!(error, Err(Malformed::TrailersTooLarge));
    let many = [("a", "b"); 101];
    assert_eq!(super::trailers(&mut out, bytes(&many[..100])), Ok(()));
    assert_eq!(super::trailers(&mut out, bytes(&many)), Err(Malformed::TooManyFields));
}

#[track_caller]
fn sent(block: &str, expected: Pairs<'_>) {
    let expected: Vec<_> = bytes(expected).collect();
    assert_eq!(lines(block.as_bytes()).collect::<Vec<_>>(), expected, "{block}");
}

#[test]
fn what_goes_onward_by_http2() {
    sent(
        "POST / HTTP/1.1\r\nhost: a\r\nX-A:b:c\r\nConnection: upgrade\r\nupgrade: x\r\n\
         Transfer-Encoding: chunked\r\nKeep-Alive: 5\r\nproxy-connection: close\r\n\
         te: trailers\r\nx-b: \r\n\r\nbody: x\r\n",
        &[("X-A", "b:c"), ("te", "trailers"), ("x-b", "")],
    );
    sent("HTTP/1.1 200 OK\r\nte: gzip\r\ncontent-length: 5\r\n\r\n", &[("content-length", "5")]);
    sent("HTTP/1.1 200 OK\r\n\r\n", &[]);
    sent("HTTP/1.1 200 OK", &[]);
    sent("", &[]);
}

/// A head as the other side of HTTP/2 reads it.
fn encoded(head: &str) -> Vec<(String, String)> {
    let mut block = Vec::new();
    super::encode_request(&mut Encoder::default(), &mut block, head.as_bytes(), false);
    let mut fields = Fields::new(1 << 16);
    Decoder::default().decode(&block, &mut fields).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn an_upgrade_is_an_extended_connect() {
    let head = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-a: b\r\n\r\n";
    let expected = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a"),
        ("x-a", "b"),
    ];
    assert_eq!(encoded(head), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // Anywhere else the two say nothing.
    let elsewhere =
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\nconnection: upgrade\r\nupgrade: z\r\n\r\n";
    assert_eq!(encoded(elsewhere)[0].1, "GET");
    assert_eq!(Tunnel::of(elsewhere.as_bytes()), None);
    assert_eq!(Tunnel::of(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"), Some(Tunnel::Connect));

    // RFC 6455 §1.3 has this key and its answer.
    let tunnel = Tunnel::of(head.as_bytes()).unwrap();
    let (mut block, mut head) = (Vec::new(), Head::default());
    let fields = [("sec-websocket-protocol", "chat"), ("sec-websocket-accept", "forged")];
    let limits = Limits::default();
    super::opened(&mut block, &mut head, &limits, 200, &tunnel, bytes(&fields)).unwrap();
    assert_eq!(
        String::from_utf8(block.clone()).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\n"
    );
    assert!(switches_to(HeadView::new(&head, &block), b"websocket"));
    super::opened(&mut block, &mut head, &limits, 200, &Tunnel::Connect, bytes(&fields)).unwrap();
    assert_eq!((head.status, head.fields.len()), (200, 2));
}

/// Text that is mostly harmless, and now and then anything.
fn text(common: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => proptest::string::string_regex(common).unwrap().prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    /// Whatever is let through is one message for the parser of HTTP/1.1, the same one.
    #[test]
    fn nothing_becomes_a_line_of_its_own(
        method in text("GET|POST|CONNECT|OPTIONS"),
        scheme in proptest::option::of(text("https?")),
        authority in proptest::option::of(text("a(:80)?")),
        path in proptest::option::of(text("/[a-z]{0,3}|\\*")),
        protocol in proptest::option::weighted(0.2, text("websocket")),
        pairs in proptest::collection::vec(
            (text("x|host|cookie|te|connection|content-length|x-envoy-a"), text("a|trailers|5|b c")),
            0..6,
        ),
    ) {
        let pseudo = Pseudo {
            method: &method,
            scheme: scheme.as_deref(),
            authority: authority.as_deref(),
            path: path.as_deref(),
            protocol: protocol.as_deref(),
        };
        let fields = pairs.iter().map(|(name, value)| (&name[..], &value[..]));
        let (mut block, mut head) = (Vec::new(), Head::default());
        let limits = Limits::default();
        if super::request(&mut block, &mut head, &limits, pseudo, b"key", fields.clone()).is_ok() {
            let mut parsed = Head::default();
            let outcome = parse::request(&block, &mut parsed, &limits, &mut 0);
            prop_assert_eq!(outcome, Ok(Parsed::Complete));
            parsed.version = Version::Http2;
            prop_assert_eq!(&head, &parsed);
            let upgrade = if protocol.is_some() { 3 } else { 0 };
            prop_assert!(head.fields.len() <= pairs.len() + 1 + upgrade);
        }
        if super::response(&mut block, &mut head, &limits, 200, fields).is_ok() {
            let mut parsed = Head::default();
            let outcome = parse::response(&block, &mut parsed, &limits, &mut 0);
            prop_assert_eq!(outcome, Ok(Parsed::Complete));
            prop_assert_eq!(parsed.fields.len(), pairs.len());
        }
    }
}
