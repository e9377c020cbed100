// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::{Hop, RequestRules, protocol, request_meta, response_meta, switches_to};
use crate::wire::h1::parse::{self, Limits, Parsed};
use crate::wire::{Head, HeadView};

const STRICT: RequestRules = RequestRules { http10: false, allow_chunked_length: false };
const LENIENT: RequestRules = RequestRules { http10: true, allow_chunked_length: true };

/// `HTTP/1.1` and lines, as a request.
fn described(version: &str, lines: &str, rules: &RequestRules) -> String {
    let block = format!("POST / {version}\r\n{lines}\r\n");
    let mut head = Head::default();
    let parsed = parse::request(block.as_bytes(), &mut head, &Limits::default(), &mut 0);
    assert_eq!(parsed, Ok(Parsed::Complete), "{block}");
    match request_meta(HeadView::new(&head, block.as_bytes()), rules) {
        Err(error) => format!("{} {error:?}", error.status()),
        Ok(meta) => {
            let mut words = vec![format!("{:?}", meta.framing)];
            let flags = [
                (meta.keep_alive, "alive"),
                (meta.expect_continue, "expects"),
                (meta.upgrade, "upgrade"),
                (meta.te_trailers, "trailers"),
                (meta.drop_length, "drop"),
            ];
            words.extend(flags.iter().filter(|(on, _)| *on).map(|(_, word)| word.to_string()));
            words.join(" ")
        }
    }
}

/// Lines beside Host in a 1.1 request.
#[track_caller]
fn req(lines: &str, expected: &str) {
    assert_eq!(described("HTTP/1.1", &format!("Host: a\r\n{lines}"), &STRICT), expected);
}

#[track_caller]
fn lenient(version: &str, lines: &str, expected: &str) {
    assert_eq!(described(version, lines, &LENIENT), expected);
}

#[test]
fn content_length() {
    req("", "None alive");
    req("Content-Length: 0\r\n", "Length(0) alive");
    req("content-LENGTH: 0012\r\n", "Length(12) alive");
    req("Content-Length: 9223372036854775807\r\n", "Length(9223372036854775807) alive");
    for bad in [
        "",
        "+5",
        "-5",
        "5 5",
        "5, 5",
        "5,",
        "0x5",
        "5.0",
        "5a",
        "٥",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999999999",
    ] {
        req(&format!("Content-Length: {bad}\r\n"), "400 ContentLength");
    }
    req("Content-Length: 5\r\nContent-Length: 5\r\n", "400 ContentLength");
    req("Content-Length: 5\r\nContent-Length: 6\r\n", "400 ContentLength");
}

#[test]
fn transfer_encoding() {
    req("Transfer-Encoding: chunked\r\n", "Chunked alive");
    req("transfer-encoding: CHUNKED\r\n", "Chunked alive");
    for unknown in ["gzip", "identity", "gzip, chunked", "xchunked", "chunked-x", "'chunked'"] {
        req(&format!("Transfer-Encoding: {unknown}\r\n"), "501 UnknownCoding");
    }
    for bad in [
        "",
        "chunked, chunked",
        "chunked, gzip",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked chunked",
        "gzip, , chunked",
    ] {
        req(&format!("Transfer-Encoding: {bad}\r\n"), "400 TransferEncoding");
    }
    let two = |a, b| format!("Transfer-Encoding: {a}\r\nTransfer-Encoding: {b}\r\n");
    req(&two("chunked", "chunked"), "400 TransferEncoding");
    req(&two("chunked", "identity"), "400 TransferEncoding");
    req(&two("identity", "chunked"), "501 UnknownCoding");
    lenient("HTTP/1.0", "Transfer-Encoding: chunked\r\n", "400 TransferEncodingInHttp10");
}

#[test]
fn length_beside_chunked() {
    let both = "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(described("HTTP/1.1", both, &STRICT), "400 ContentLengthWithChunked");
    lenient("HTTP/1.1", both, "Chunked alive drop");
    let bad = "Host: a\r\nContent-Length: +5\r\nTransfer-Encoding: chunked\r\n";
    lenient("HTTP/1.1", bad, "400 ContentLength");
}

#[test]
fn hosts() {
    let strict = |lines| described("HTTP/1.1", lines, &STRICT);
    assert_eq!(strict("Host: a\r\n"), "None alive");
    assert_eq!(strict(""), "400 HostMissing");
    assert_eq!(strict("Host: a\r\nhost: a\r\n"), "400 HostRepeated");
    lenient("HTTP/1.0", "", "None");
    lenient("HTTP/1.0", "Host: a\r\nHost: b\r\n", "400 HostRepeated");
}

#[test]
fn persistence() {
    req("Connection: close\r\n", "None");
    req("Connection: Keep-Alive, CLOSE\r\n", "None");
    req("Connection: x\r\nConnection: , close ,\r\n", "None");
    req("Connection: closed\r\n", "None alive");
    assert_eq!(described("HTTP/1.0", "Host: a\r\n", &STRICT), "426 Http10");
    lenient("HTTP/1.0", "Host: a\r\n", "None");
    lenient("HTTP/1.0", "Connection: keep-alive\r\n", "None alive");
    lenient("HTTP/1.0", "Connection: keep-alive, close\r\n", "None");
    req(&format!("Connection: {}\r\n", "a,".repeat(32)), "None alive");
    req(&format!("Connection: {}\r\n", "a,".repeat(33)), "400 ConnectionOptions");
}

#[test]
fn expectations() {
    req("Content-Length: 5\r\nExpect: 100-Continue\r\n", "Length(5) alive expects");
    req("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "Chunked alive expects");
    req("Content-Length: 0\r\nExpect: 100-continue\r\n", "Length(0) alive");
    req("Expect: 100-continue\r\n", "None alive");
    req("Expect: 200-ok\r\n", "417 Expectation");
    req("Expect: \r\n", "417 Expectation");
    req("Expect: 100-continue, x\r\n", "417 Expectation");
    req("Expect: 100-continue\r\nExpect: x\r\n", "417 Expectation");
    lenient("HTTP/1.0", "Content-Length: 5\r\nExpect: 100-continue\r\n", "Length(5)");
}

#[test]
fn upgrades_and_trailers() {
    req("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", "None alive upgrade");
    req("Upgrade: websocket\r\n", "None alive");
    req("Connection: upgrade\r\n", "None alive");
    req("Connection: upgrade\r\nUpgrade: \r\n", "None alive");
    req("Connection: upgrade\r\nUpgrade: h2c\r\n", "None alive");
    req("Connection: upgrade\r\nUpgrade: H2C\r\n", "None alive");
    req("Connection: upgrade\r\nUpgrade: websocket, H2C\r\n", "None alive upgrade");
    req("Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: x\r\n", "None alive upgrade");
    lenient("HTTP/1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", "None");
    for (lines, expected) in [
        ("Upgrade: WebSocket\r\n", "WebSocket"),
        ("Upgrade: , x ,\r\n", "x"),
        ("Upgrade: x, y\r\n", ""),
        ("Upgrade: x\r\nUpgrade: x\r\n", ""),
        ("Upgrade: ,\r\n", ""),
    ] {
        let block = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let mut head = Head::default();
        parse::request(block.as_bytes(), &mut head, &Limits::default(), &mut 0).unwrap();
        let view = HeadView::new(&head, block.as_bytes());
        assert_eq!(String::from_utf8_lossy(protocol(view)), expected, "{lines}");
    }
    for (lines, expected) in [
        ("Connection: Upgrade\r\nUpgrade: WebSocket\r\n", true),
        ("Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n", true),
        ("Upgrade: websocket\r\n", false),
        ("Connection: upgrade\r\n", false),
        ("Connection: upgrade\r\nUpgrade: h2c\r\n", false),
        ("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n", false),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: x\r\n", false),
    ] {
        let block = format!("HTTP/1.1 101 Go\r\n{lines}\r\n");
        let mut head = Head::default();
        parse::response(block.as_bytes(), &mut head, &Limits::default(), &mut 0).unwrap();
        let view = HeadView::new(&head, block.as_bytes());
        assert_eq!(switches_to(view, b"websocket"), expected, "{lines}");
        assert!(!switches_to(view, b""), "{lines}");
    }
    req("TE: gzip;q=0.5, Trailers\r\n", "None alive trailers");
    req("TE: xtrailers\r\n", "None alive");
}

#[track_caller]
fn resp_to(head_request: bool, start: &str, lines: &str, expected: &str) {
    let block = format!("{start}\r\n{lines}\r\n");
    let mut head = Head::default();
    let parsed = parse::response(block.as_bytes(), &mut head, &Limits::default(), &mut 0);
    assert_eq!(parsed, Ok(Parsed::Complete), "{block}");
    let got = match response_meta(HeadView::new(&head, block.as_bytes()), head_request) {
        Err(error) => format!("{error:?}"),
        Ok(meta) => {
            format!("{:?}{}", meta.framing, if meta.keep_alive { " alive" } else { "" })
        }
    };
    assert_eq!(got, expected, "{block}");
}

#[track_caller]
fn resp(status: u16, lines: &str, expected: &str) {
    resp_to(false, &format!("HTTP/1.1 {status} X"), lines, expected);
}

#[test]
fn responses() {
    resp(200, "Content-Length: 5\r\n", "Length(5) alive");
    resp(200, "Content-Length: 5\r\nConnection: close\r\n", "Length(5)");
    resp(200, "Transfer-Encoding: chunked\r\n", "Chunked alive");
    resp(200, "", "UntilClose");
    resp_to(false, "HTTP/1.0 200 OK", "Content-Length: 5\r\n", "Length(5)");
    let alive = "Content-Length: 5\r\nConnection: keep-alive\r\n";
    resp_to(false, "HTTP/1.0 200 OK", alive, "Length(5) alive");

    let coded = "Transfer-Encoding: chunked\r\n";
    resp_to(false, "HTTP/1.0 200 OK", coded, "TransferEncodingInHttp10");
    resp(200, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "ContentLengthWithChunked");
    resp(200, "Content-Length: 5\r\nContent-Length: 5\r\n", "ContentLength");
    resp(200, "Content-Length: 5, 5\r\n", "ContentLength");
    resp(200, "Transfer-Encoding: gzip, chunked\r\n", "UnknownCoding");
    resp(304, "Content-Length: x\r\n", "ContentLength");
}

#[test]
fn responses_without_a_body() {
    for status in [100, 103, 204, 304] {
        resp(status, "", "None alive");
    }
    resp(304, "Content-Length: 500\r\n", "None alive");
    resp(304, "Transfer-Encoding: chunked\r\n", "None alive");
    resp_to(true, "HTTP/1.1 200 OK", "Content-Length: 500\r\n", "None alive");
    resp_to(true, "HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", "None alive");
    resp_to(true, "HTTP/1.1 200 OK", "", "None alive");
    resp(204, "Content-Length: 0\r\n", "None alive");
    // It announces what it may not have: the connection is not used again.
    resp(204, "Content-Length: 5\r\n", "None");
    resp(204, "Transfer-Encoding: chunked\r\n", "None");
    resp(101, "Connection: upgrade\r\nUpgrade: websocket\r\n", "None");
}

/// Names that pass, of all in these lines.
#[track_caller]
fn passing(lines: &str, expected: &str) {
    let block = format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let mut head = Head::default();
    let parsed = parse::request(block.as_bytes(), &mut head, &Limits::default(), &mut 0);
    assert_eq!(parsed, Ok(Parsed::Complete), "{block}");
    let view = HeadView::new(&head, block.as_bytes());
    let hop = Hop::of(view);
    let names: Vec<_> = view
        .fields()
        .filter(|(known, name, _)| hop.passes(*known, name))
        .map(|(_, name, _)| std::str::from_utf8(name).unwrap())
        .collect();
    assert_eq!(names.join(" "), expected);
}

#[test]
fn fields_of_one_hop() {
    passing("Host: a\r\nAccept: b\r\nX: c\r\n", "Host Accept X");
    passing(
        "Connection: close\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\nTE: trailers\r\n\
         Transfer-Encoding: chunked\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n\
         Proxy-Authorization: a\r\nProxy-Authenticate: a\r\nTrailer: a\r\nContent-Length: 5\r\n",
        "Trailer Content-Length",
    );
    passing("Connection: keep-alive\r\nKeep: a\r\n", "Keep");
}

#[test]
fn fields_that_connection_lists() {
    passing("Connection: close, X-Foo\r\nx-foo: 1\r\nX-Foo: 2\r\nX-Food: 3\r\n", "X-Food");
    passing("Connection: a\r\nConnection: b , c\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n", "D");
    passing("A: 1\r\nConnection: a\r\n", "");
    for name in [
        "Host",
        "Content-Length",
        "Content-Type",
        "X-Forwarded-For",
        "X-Forwarded-Prefix",
        "X-Request-Id",
        "Authorization",
        "Cookie",
        "Expect",
        "x-envoy-retry-on",
        "x-envoy-original-path",
        "x-ambassador-a",
        "Cache-Control",
        "Forwarded",
    ] {
        passing(&format!("Connection: {name}, Close\r\n{name}: 1\r\n"), name);
    }
}
