// SPDX-License-Identifier: Apache-2.0
//! Frames written out by clients, RFC 9113: what is answered, what ends the stream and what ends
//! the connection, and with which code. Every script also comes in two parts, split at every
//! boundary.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ringway_tests::h2::Outcome::{self, Answered, GoneAway, Reset};
use ringway_tests::h2::frame::{self, Code, Frame, PREFACE, continuation, data, headers, raw};
use ringway_tests::h2::{Event, Peer};
use ringway_tests::head::{Reader, joined};
use ringway_tests::upstream::{Upstream, pattern, request};
use ringway_tests::{Gateway, PATIENCE};

use super::super::DRIVERS;
use super::{CLEARTEXT, Counting, HOST, TLS, manifests, start};

/// What a script may come to.
type Outcomes = &'static [Outcome];

/// A request that may not be: the stream ends, or the client is told, RFC 9113 §8.1.1; or the
/// connection ends, as it always may, §5.4.1.
const MALFORMED: Outcomes =
    &[Reset(Code::PROTOCOL_ERROR), Answered(400), GoneAway(Code::PROTOCOL_ERROR)];
/// The connection ends, RFC 9113 §5.4.1.
const PROTOCOL: Outcomes = &[GoneAway(Code::PROTOCOL_ERROR)];
const SIZE: Outcomes = &[GoneAway(Code::FRAME_SIZE_ERROR)];
const FLOW: Outcomes = &[GoneAway(Code::FLOW_CONTROL_ERROR)];
const COMPRESSION: Outcomes = &[GoneAway(Code::COMPRESSION_ERROR)];
/// What lies behind a stream's end: it may be seen before the answer, or after.
const CLOSED: Outcomes = &[
    Reset(Code::STREAM_CLOSED),
    GoneAway(Code::STREAM_CLOSED),
    GoneAway(Code::PROTOCOL_ERROR),
    Answered(200),
];
const FINE: Outcomes = &[Answered(200)];

fn get() -> Frame {
    headers(1).request("GET", "/x")
}

fn post() -> Frame {
    headers(1).request("POST", "/x")
}

/// A GET whose pseudo fields are these.
fn pseudo(fields: [(&str, &str); 4]) -> Frame {
    headers(1).fields(fields.into_iter().filter(|(name, _)| !name.is_empty())).end_stream()
}

/// Requests that may not be; none of them may reach a back end. RFC 9113 §8.
fn malformed() -> Vec<(&'static str, Vec<Frame>, Outcomes)> {
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/x"));
    let none = ("", "");
    let mut cases: Vec<(&'static str, Vec<Frame>)> = Vec::new();
    let mut case = |name, frames: Vec<Frame>| cases.push((name, frames));
    let field = |name: &str, value: &[u8]| vec![get().field(name, value).end_stream()];
    case("a name in upper case", field("X-Upper", b"1"));
    case("connection", field("connection", b"close"));
    case("connection: upgrade", field("connection", b"upgrade"));
    case("keep-alive", field("keep-alive", b"timeout=5"));
    case("proxy-connection", field("proxy-connection", b"keep-alive"));
    case("transfer-encoding", field("transfer-encoding", b"chunked"));
    case("upgrade", field("upgrade", b"websocket"));
    case("te that is not trailers", field("te", b"gzip"));
    case("an empty name", field("", b"1"));
    case("a name with a space", field("x y", b"1"));
    case("a name with a colon", field("x:y", b"1"));
    case("a name with a line break", field("x\r\ny", b"1"));
    case("a name with a NUL", field("x\0y", b"1"));
    case("a value with a CR", field("x", b"a\rb"));
    case("a value with a LF", field("x", b"a\nb"));
    case("a value with a NUL", field("x", b"a\0b"));
    case(
        "a value with a whole head",
        field("x", b"1\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n"),
    );
    case("a value that begins with a space", field("x", b" a"));
    case("a value that ends with a tab", field("x", b"a\t"));
    case("an unknown pseudo field", vec![get().field(":x", "1").end_stream()]);
    case("a pseudo field of answers", vec![get().field(":status", "200").end_stream()]);
    case(
        "a pseudo field behind others",
        vec![headers(1).fields([method, scheme, authority, ("x", "1"), path]).end_stream()],
    );
    case("two paths", vec![get().field(":path", "/y").end_stream()]);
    case("two equal paths", vec![get().field(":path", "/x").end_stream()]);
    case("two methods", vec![get().field(":method", "POST").end_stream()]);
    case("two schemes", vec![get().field(":scheme", "http").end_stream()]);
    case("two authorities", vec![get().field(":authority", "b").end_stream()]);
    case("no method", vec![pseudo([none, scheme, authority, path])]);
    case("no scheme", vec![pseudo([method, none, authority, path])]);
    case("no path", vec![pseudo([method, scheme, authority, none])]);
    case("no host at all", vec![pseudo([method, scheme, none, path])]);
    case("an empty path", vec![pseudo([method, scheme, authority, (":path", "")])]);
    case("an empty method", vec![pseudo([(":method", ""), scheme, authority, path])]);
    for bad in ["x", "x/", "*", "/a b", "/\r\nx: y", "/a\0", "/a\u{7f}", "http://a/x", "//\t"] {
        case("a path that is none", vec![pseudo([method, scheme, authority, (":path", bad)])]);
    }
    for bad in ["G T", "GET /x HTTP/1.1\r\n", "G(T", "GET\0", "G\u{e4}T"] {
        case("a method that is none", vec![pseudo([(":method", bad), scheme, authority, path])]);
    }
    for bad in ["a b", "a\r\nx: y", "u@a", "a/b", "a:65536", "a:x", "a\0", "a?b"] {
        case(
            "an authority that is none",
            vec![pseudo([method, scheme, (":authority", bad), path])],
        );
    }
    for bad in ["http\r\n", "", "ht tp", "1http"] {
        case("a scheme that is none", vec![pseudo([method, (":scheme", bad), authority, path])]);
    }
    case("a host against the authority", field("host", b"b"));
    case("two hosts", vec![get().fields([("host", "a"), ("host", "a")]).end_stream()]);
    let lengths: [(&str, &[u8], bool); 10] = [
        ("less than its length", b"6", true),
        ("more than its length", b"4", true),
        ("nothing of its length", b"5", false),
        ("a signed length", b"+5", true),
        ("a list of lengths", b"5, 5", true),
        ("a negative length", b"-5", true),
        ("a hexadecimal length", b"0x5", true),
        ("an empty length", b"", true),
        ("an overflowing length", b"99999999999999999999", true),
        ("a length of letters", b"five", true),
    ];
    for (name, length, body) in lengths {
        let head = post().field("content-length", length);
        case(
            name,
            match body {
                true => vec![head, data(1, "hello").end_stream()],
                false => vec![head.end_stream()],
            },
        );
    }
    case(
        "two lengths",
        vec![
            post().fields([("content-length", "5"), ("content-length", "6")]),
            data(1, "hello").end_stream(),
        ],
    );
    case(
        "less than its length, and trailers",
        vec![
            post().field("content-length", "6"),
            data(1, "hello"),
            headers(1).field("x", "1").end_stream(),
        ],
    );
    let trailers = |frame: Frame| vec![post(), data(1, "hello"), frame];
    case("trailers that do not end", trailers(headers(1).field("x", "1")));
    case("upper case in trailers", trailers(headers(1).field("X", "1").end_stream()));
    case("a line break in trailers", trailers(headers(1).field("x", "1\r\ny: 2").end_stream()));
    case("connection in trailers", trailers(headers(1).field("connection", "x").end_stream()));
    case("CONNECT with a path", vec![pseudo([(":method", "CONNECT"), scheme, authority, path])]);
    cases.into_iter().map(|(name, frames)| (name, frames, MALFORMED)).collect()
}

/// What else may not be, and what may.
fn frames() -> Vec<(&'static str, Vec<Frame>, Outcomes)> {
    use frame::{
        CONTINUATION, DATA, ENABLE_PUSH, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE,
        PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, WITH_PRIORITY,
    };
    let ended = || get().end_stream();
    let block = |bytes: &[u8]| vec![get().block(bytes).end_stream()];
    vec![
        ("a request", vec![ended()], FINE),
        (
            "a body in pieces",
            vec![post(), data(1, "hel"), data(1, ""), data(1, "lo").end_stream()],
            FINE,
        ),
        ("padding", vec![post(), data(1, "hello").padded(200).end_stream()], FINE),
        ("padding and nothing else", vec![post(), data(1, "").padded(0).end_stream()], FINE),
        ("an ended head with an empty DATA behind", vec![post(), data(1, "").end_stream()], FINE),
        ("trailers", vec![post(), data(1, "hello"), headers(1).field("x", "1").end_stream()], FINE),
        ("a head with padding", vec![get().padded(9).end_stream()], FINE),
        (
            "a head with a priority",
            vec![raw(
                HEADERS,
                WITH_PRIORITY | 5,
                1,
                &[&[0, 0, 0, 3, 9][..], &get().payload].concat(),
            )],
            FINE,
        ),
        (
            "a head in three frames",
            vec![
                get().unfinished().end_stream(),
                continuation(1, &headers(1).field("x", "1").payload),
                continuation(1, b"").end_headers(),
            ],
            FINE,
        ),
        ("an unknown frame", vec![raw(0xfa, 0xff, 7, b"?"), ended()], FINE),
        ("an unknown setting", vec![frame::settings(&[(0xfafa, 1)]), ended()], FINE),
        ("unknown flags", vec![raw(PING, 0xfe, 0, b"12345678"), ended()], FINE),
        ("the reserved bit", vec![raw(HEADERS, 5, 0x8000_0001, &get().payload)], FINE),
        ("priorities", vec![frame::priority(1, 0, 3), frame::priority(5, 1, 3), ended()], FINE),
        ("a PING before", vec![frame::ping(*b"12345678"), ended()], FINE),
        ("the setting of a smaller table", vec![frame::settings(&[(1, 0)]), ended()], FINE),
        (
            "a smaller table of ours",
            vec![headers(1).block(&[0x20]).block(&get().payload).end_stream()],
            FINE,
        ),
        (
            "the largest window",
            vec![frame::settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]), ended()],
            FINE,
        ),
        ("host and authority that agree", vec![get().field("host", "a").end_stream()], FINE),
        ("te: trailers", vec![get().field("te", "trailers").end_stream()], FINE),
        (
            "no authority but a host",
            vec![
                headers(1)
                    .fields([
                        (":method", "GET"),
                        (":scheme", "http"),
                        (":path", "/x"),
                        ("host", "a"),
                    ])
                    .end_stream(),
            ],
            FINE,
        ),
        (
            "an OPTIONS of everything",
            vec![headers(1).request("OPTIONS", "*").end_stream()],
            &[Answered(200), Answered(404)],
        ),
        (
            "a fragment",
            vec![pseudo([
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/a#b"),
            ])],
            MALFORMED,
        ),
        (
            "a pseudo field in trailers",
            vec![post(), data(1, "hello"), headers(1).field(":path", "/y").end_stream()],
            MALFORMED,
        ),
        // RFC 9113 §6.1 to §6.10.
        ("DATA of no stream", vec![data(0, "x")], PROTOCOL),
        ("HEADERS of no stream", vec![raw(HEADERS, 5, 0, &get().payload)], PROTOCOL),
        ("PRIORITY of no stream", vec![frame::priority(0, 1, 1)], PROTOCOL),
        ("RST_STREAM of no stream", vec![frame::reset(0, Code::CANCEL)], PROTOCOL),
        ("CONTINUATION of no stream", vec![raw(CONTINUATION, 4, 0, b"")], PROTOCOL),
        ("SETTINGS of a stream", vec![raw(SETTINGS, 0, 1, b"")], PROTOCOL),
        ("PING of a stream", vec![raw(PING, 0, 1, b"12345678")], PROTOCOL),
        ("GOAWAY of a stream", vec![raw(GOAWAY, 0, 1, &[0; 8])], PROTOCOL),
        ("a push", vec![raw(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])], PROTOCOL),
        (
            "a short PRIORITY",
            vec![raw(PRIORITY, 0, 1, &[0; 4]), ended()],
            &[GoneAway(Code::FRAME_SIZE_ERROR), Reset(Code::FRAME_SIZE_ERROR)],
        ),
        ("a short RST_STREAM", vec![get(), raw(RST_STREAM, 0, 1, &[0; 3])], SIZE),
        ("a long RST_STREAM", vec![get(), raw(RST_STREAM, 0, 1, &[0; 5])], SIZE),
        ("a short PING", vec![raw(PING, 0, 0, b"1234567")], SIZE),
        ("a long PING", vec![raw(PING, 0, 0, b"123456789")], SIZE),
        ("a short WINDOW_UPDATE", vec![raw(WINDOW_UPDATE, 0, 0, &[0, 0, 1])], SIZE),
        ("SETTINGS cut short", vec![raw(SETTINGS, 0, 0, &[0; 5])], SIZE),
        ("SETTINGS that acknowledge with values", vec![raw(SETTINGS, 1, 0, &[0; 6])], SIZE),
        ("a short GOAWAY", vec![raw(GOAWAY, 0, 0, &[0; 7])], SIZE),
        ("DATA too large", vec![post(), data(1, [0; 16_385])], SIZE),
        ("HEADERS too large", vec![raw(HEADERS, 0, 1, &[0; 16_385])], SIZE),
        ("an unknown frame too large", vec![raw(0xfa, 0, 0, &[0; 16_385])], SIZE),
        ("ENABLE_PUSH of 2", vec![frame::settings(&[(ENABLE_PUSH, 2)])], PROTOCOL),
        ("a window too large", vec![frame::settings(&[(INITIAL_WINDOW_SIZE, 0x8000_0000)])], FLOW),
        ("frames too small", vec![frame::settings(&[(MAX_FRAME_SIZE, 16_383)])], PROTOCOL),
        ("frames too large", vec![frame::settings(&[(MAX_FRAME_SIZE, 1 << 24)])], PROTOCOL),
        ("a window that grows by nothing", vec![frame::window_update(0, 0)], PROTOCOL),
        ("a window that overflows", vec![frame::window_update(0, 0x7fff_ffff)], FLOW),
        (
            "a stream's window that grows by nothing",
            vec![get(), frame::window_update(1, 0)],
            &[Reset(Code::PROTOCOL_ERROR), GoneAway(Code::PROTOCOL_ERROR)],
        ),
        (
            "a stream's window that overflows",
            vec![get(), frame::window_update(1, 0x7fff_ffff)],
            &[Reset(Code::FLOW_CONTROL_ERROR), GoneAway(Code::FLOW_CONTROL_ERROR)],
        ),
        ("more padding than frame", vec![post(), raw(DATA, PADDED, 1, &[9, 0, 0])], PROTOCOL),
        ("more padding than head", vec![raw(HEADERS, PADDED | 5, 1, &[200, 0, 0])], PROTOCOL),
        // RFC 9113 §5.1, §5.1.1.
        ("a stream of a server", vec![raw(HEADERS, 5, 2, &get().payload)], PROTOCOL),
        ("DATA of an idle stream", vec![data(1, "x")], PROTOCOL),
        ("RST_STREAM of an idle stream", vec![frame::reset(1, Code::CANCEL)], PROTOCOL),
        ("WINDOW_UPDATE of an idle stream", vec![frame::window_update(1, 1)], PROTOCOL),
        (
            "a number behind",
            vec![raw(HEADERS, 5, 5, &get().payload), raw(HEADERS, 5, 3, &get().payload)],
            &[GoneAway(Code::PROTOCOL_ERROR), GoneAway(Code::STREAM_CLOSED)],
        ),
        ("DATA behind the end", vec![ended(), data(1, "x")], CLOSED),
        ("a head behind the end", vec![ended(), ended()], CLOSED),
        // RFC 9113 §6.10.
        ("CONTINUATION without a head", vec![continuation(1, b"").end_headers()], PROTOCOL),
        ("CONTINUATION behind the end", vec![get(), continuation(1, b"").end_headers()], PROTOCOL),
        ("another frame within a head", vec![get().unfinished(), frame::ping([0; 8])], PROTOCOL),
        (
            "an unknown frame within a head",
            vec![get().unfinished(), raw(0xfa, 0, 0, b"")],
            PROTOCOL,
        ),
        (
            "another stream within a head",
            vec![get().unfinished(), continuation(3, b"").end_headers()],
            PROTOCOL,
        ),
        // RFC 7541.
        ("an entry that is not", block(&[0xff, 0x80, 0x01]), COMPRESSION),
        ("entry 0", block(&[0x80]), COMPRESSION),
        ("a table too large", block(&[0x3f, 0xff, 0xff, 0xff, 0x07]), COMPRESSION),
        ("a table's size behind a field", block(&[0x20]), COMPRESSION),
        ("a string cut short", block(&[0, 5, b'x']), COMPRESSION),
        (
            "an integer without end",
            block(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            COMPRESSION,
        ),
        ("padding of zeros", block(&[0, 1, b'x', 0x81, 0x00]), COMPRESSION),
        ("padding of a whole byte", block(&[0, 1, b'x', 0x82, 0x1f, 0xff]), COMPRESSION),
        ("an end inside a string", block(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), COMPRESSION),
    ]
}

fn bytes(frames: &[Frame]) -> Vec<u8> {
    let frames = frames.iter().flat_map(Frame::bytes);
    PREFACE.iter().copied().chain(frame::settings(&[]).bytes()).chain(frames).collect()
}

/// Sends bytes part by part, and gives what stream 1 came to.
fn outcome(gateway: &Gateway, parts: &[&[u8]]) -> Result<Outcome, String> {
    let mut peer = Peer::bare(gateway.address(CLEARTEXT)).map_err(|error| error.to_string())?;
    peer.patience = Duration::from_secs(10);
    for part in parts {
        // The gateway may have ended it before it has read everything.
        let _ = peer.send_bytes(part);
    }
    peer.outcome(1).map_err(|error| error.to_string())
}

#[test]
fn frames_come_to_what_the_rfc_says() {
    for driver in DRIVERS {
        let back_end = Counting::start();
        let gateway = start(&manifests(&back_end.upstream, ""), driver, &[]);
        let mut wrong = Vec::new();
        let (bad, others) = (malformed(), frames());
        for (name, frames, outcomes) in bad.iter().chain(&others) {
            let got = outcome(&gateway, &[&bytes(frames)]);
            let (whole, strange) = back_end.seen();
            if !got.as_ref().is_ok_and(|got| outcomes.contains(got)) {
                wrong.push(format!("{name}: {got:?}, not {outcomes:?}"));
            }
            if strange > 0 || (*outcomes == MALFORMED && whole > 0) {
                wrong.push(format!(
                    "{name}: the back end saw {whole} requests, {strange} malformed"
                ));
            }
        }
        let get = gateway.get(CLEARTEXT, "/", HOST).unwrap();
        assert_eq!(get.status, 200, "and still serves");
        assert!(wrong.is_empty(), "{} on {driver}:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Where scripts of a few hundred bytes are split: everywhere. The long ones are zeros mostly.
fn boundaries(length: usize) -> impl Iterator<Item = usize> {
    (1..length).step_by(if length > 500 { 499 } else { 1 })
}

#[test]
fn frames_come_to_the_same_wherever_they_are_split() {
    for driver in DRIVERS {
        let back_end = Counting::start();
        let gateway = start(&manifests(&back_end.upstream, ""), driver, &["--access-log=off"]);
        let (mut wrong, mut splits) = (Vec::new(), 0);
        let (bad, others) = (malformed(), frames());
        for (name, frames, outcomes) in bad.iter().chain(&others) {
            let bytes = bytes(frames);
            for at in boundaries(bytes.len()) {
                splits += 1;
                let (one, other) = bytes.split_at(at);
                let got = outcome(&gateway, &[one, other]);
                if !got.as_ref().is_ok_and(|got| outcomes.contains(got)) {
                    wrong.push(format!("{name}, split at {at}: {got:?}, not {outcomes:?}"));
                }
            }
            let (whole, strange) = back_end.seen();
            if strange > 0 || (*outcomes == MALFORMED && whole > 0) {
                wrong.push(format!(
                    "{name}: the back end saw {whole} requests, {strange} malformed"
                ));
            }
        }
        assert!(splits > 10_000, "only {splits} splits");
        wrong.truncate(50);
        assert!(wrong.is_empty(), "on {driver}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn a_conversation_byte_by_byte() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &[]);
        let script = bytes(&[
            headers(1).request("POST", "/x").padded(3),
            data(1, "hel").padded(2),
            data(1, "lo"),
            frame::ping(*b"12345678"),
            headers(1).field("x-end", "1").end_stream(),
        ]);
        let mut peer = Peer::bare(gateway.address(CLEARTEXT)).unwrap();
        for byte in script {
            peer.send_bytes(&[byte]).unwrap();
        }
        let response = peer.response(1).unwrap();
        let seen = response.seen().unwrap();
        assert_eq!((&seen["body"], &seen["method"]), (&"hello".into(), &"POST".into()));
        assert_eq!(seen["trailers"][0][0], "x-end", "on {driver}");
    }
}

#[test]
fn both_protocols_share_the_cleartext_port() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &[]);
        assert_eq!(gateway.get(CLEARTEXT, "/", HOST).unwrap().version, "HTTP/1.1");
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert_eq!(peer.ask(get().end_stream()).unwrap().version, "HTTP/2");
        let mut peer = Peer::connect_tls(gateway.address(TLS), HOST).unwrap();
        let request = pseudo([
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", HOST),
            (":path", "/x"),
        ]);
        let seen = peer.ask(request).unwrap().seen().unwrap();
        let proto = seen["fields"].as_array().unwrap().iter();
        let proto = proto.filter(|line| line[0] == "x-forwarded-proto").map(|line| &line[1]);
        assert_eq!(proto.collect::<Vec<_>>(), ["https"], "on {driver}");
        // What begins like the preface and is none is neither protocol.
        for almost in
            ["PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", "PRI * HTTP/2.0\r\nhost: a\r\n\r\n", "PRI"]
        {
            let mut peer = Peer::bare(gateway.address(CLEARTEXT)).unwrap();
            peer.send_bytes(almost.as_bytes()).unwrap();
            peer.socket().shutdown(std::net::Shutdown::Write).unwrap();
            assert!(!matches!(peer.outcome(1), Ok(Answered(_))), "{almost:?} on {driver}");
        }
    }
}

#[test]
fn what_the_gateway_says_of_itself() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &[]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert!(peer.is_alive().unwrap());
        let setting = |id| peer.settings.get(&id).copied();
        assert!(setting(frame::MAX_CONCURRENT_STREAMS).is_some_and(|n| (100..=1024).contains(&n)));
        assert!(setting(frame::MAX_HEADER_LIST_SIZE).is_some_and(|n| n <= 64 << 10));
        assert!(setting(frame::INITIAL_WINDOW_SIZE).is_none_or(|n| n <= 1 << 20));
        assert_ne!(setting(frame::ENABLE_PUSH), Some(1), "{driver}: {:?}", peer.settings);
    }
}

#[test]
fn streams_of_one_connection_are_answered_as_they_come() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &[]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let late = headers(1).request("GET", "/late").field("x-backend-delay-ms", "300");
        peer.send(late.end_stream()).unwrap();
        let streams = (3..).step_by(2).take(90);
        let asked = streams.clone().map(|n| {
            let body = pattern(n as usize);
            [headers(n).request("POST", &format!("/{n}")), data(n, body).end_stream()]
        });
        peer.send(asked.flatten()).unwrap();
        for n in streams {
            let seen = peer.response(n).unwrap().seen().unwrap();
            assert_eq!(seen["target"], format!("/{n}"), "on {driver}");
            let body = String::from_utf8_lossy(&pattern(n as usize)).into_owned();
            assert_eq!(seen["body"], body);
        }
        assert_eq!(peer.response(1).unwrap().seen().unwrap()["target"], "/late");
    }
}

#[test]
fn no_more_streams_than_allowed() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &[]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert!(peer.is_alive().unwrap());
        let most = peer.settings[&frame::MAX_CONCURRENT_STREAMS];
        let stream = |n: u32| 2 * n + 1;
        let never = |n| {
            let request = headers(stream(n)).request("GET", "/");
            request.field("x-backend-never", "1").end_stream()
        };
        peer.send((0..=most).map(never)).unwrap();
        // RFC 9113 §5.1.2.
        let refused = peer.outcome(stream(most)).unwrap();
        assert_eq!(refused, Reset(Code::REFUSED_STREAM), "on {driver}");
        // What is given up makes room.
        peer.send(frame::reset(1, Code::CANCEL)).unwrap();
        let again = headers(stream(most + 1)).request("GET", "/").end_stream();
        assert_eq!(peer.ask(again).unwrap().status, 200);
    }
}

#[test]
fn an_end_of_the_gateway_ends_no_request() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let mut gateway = start(&manifests(&back_end, ""), driver, &["--drain-time=10s"]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        let late = headers(1).request("GET", "/late").field("x-backend-delay-ms", "700");
        peer.send(late.end_stream()).unwrap();
        assert!(peer.is_alive().unwrap());
        gateway.signal(libc::SIGTERM);
        // RFC 9113 §6.8: first a warning, then the last stream that is served.
        let Event::GoAway { last, code } = peer.event().unwrap() else { panic!("no GOAWAY") };
        assert!(last >= 1 && code == Code::NO_ERROR, "{last} {code:?} on {driver}");
        assert_eq!(peer.response(1).unwrap().status, 200);
        let more = peer.farewell().unwrap();
        assert!(more.is_none_or(|code| code == Code::NO_ERROR), "{more:?} on {driver}");
        assert!(gateway.wait().success());
    }
}

/// RFC 8446 §6.1: whoever ends a connection of TLS says so, whyever it ends.
#[test]
fn the_end_of_a_connection_over_tls_is_no_truncation() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let mut gateway = start(&manifests(&back_end, ""), driver, &["--drain-time=10s"]);
        let connect = || {
            let mut peer = Peer::connect_tls(gateway.address(TLS), HOST).unwrap();
            assert_eq!(peer.ask(get().end_stream()).unwrap().status, 200);
            peer
        };
        let [mut blamed, mut leaving, mut drained] = [connect(), connect(), connect()];
        blamed.send(data(0, "of no stream")).unwrap();
        leaving.send(frame::goaway(0, Code::NO_ERROR)).unwrap();
        leaving.finish().unwrap();
        gateway.signal(libc::SIGTERM);
        for (peer, why) in
            [(&mut blamed, "blamed"), (&mut leaving, "leaving"), (&mut drained, "drained")]
        {
            peer.farewell().unwrap();
            assert!(!peer.was_cut, "{why} on {driver}");
        }
        assert!(gateway.wait().success());
    }
}

#[test]
fn a_client_that_gives_up_frees_the_back_end() {
    for driver in DRIVERS {
        let (gone, seen) = std::sync::mpsc::channel();
        let back_end = Upstream::custom(move |socket| {
            let mut reader = Reader::new(socket);
            if let Ok(Some(_)) = request(&mut reader) {
                let _ = gone.send("request");
                // Until the gateway gives up.
                let _ = reader.rest(&mut |_| {});
                let _ = gone.send("end");
            }
        })
        .unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &[]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        peer.send(get().end_stream()).unwrap();
        assert_eq!(seen.recv_timeout(PATIENCE), Ok("request"));
        peer.send(frame::reset(1, Code::CANCEL)).unwrap();
        assert_eq!(seen.recv_timeout(Duration::from_secs(3)), Ok("end"), "on {driver}");
        assert!(peer.is_alive().unwrap());
    }
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert!(peer.is_alive().unwrap());
        let before = gateway.anonymous().unwrap();
        peer.gives_credit = false;
        // Ten answers of 16 MiB whose windows stay shut once they are full.
        peer.allow(0, 1 << 28).unwrap();
        let stalled = (0..10).map(|n| {
            let request = headers(2 * n + 1).request("GET", "/");
            request.field("x-backend-length", (16 << 20).to_string()).end_stream()
        });
        peer.send(stalled).unwrap();
        for n in 0..200 {
            let stream = 2 * n + 101;
            let response = peer.ask(headers(stream).request("GET", "/").end_stream()).unwrap();
            assert_eq!(response.status, 200, "{n} on {driver}");
        }
        let after = gateway.anonymous().unwrap();
        assert!(after < before + (16 << 20), "{} KiB more", (after - before) >> 10);
        // One of them goes on when it may.
        peer.gives_credit = true;
        peer.allow(3, 65_535).unwrap();
        let mut length = 0;
        peer.response_to(3, &mut |bytes| length += bytes.len()).unwrap();
        assert_eq!(length, 16 << 20);
    }
}

/// RFC 9113 §6.9.2: SETTINGS change the windows of streams that are open.
#[test]
fn a_body_that_waits_goes_on_when_settings_open_its_window() {
    let back_end = Upstream::echo("a").unwrap();
    for driver in DRIVERS {
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let socket = TcpStream::connect(gateway.address(CLEARTEXT)).unwrap();
        let mut peer = Peer::client(socket, &[(frame::INITIAL_WINDOW_SIZE, 0)]).unwrap();
        peer.send([get().end_stream()]).unwrap();
        let head = peer.event_of(1).unwrap();
        assert!(matches!(head, Event::Headers { end: false, .. }), "{head:?} on {driver}");
        peer.resize(1).unwrap();
        let body = peer.event_of(1).unwrap();
        let Event::Data { bytes, .. } = body else { panic!("{body:?} on {driver}") };
        assert_eq!(bytes.len(), 1, "on {driver}");
    }
}

#[test]
fn a_back_end_that_does_not_read_holds_the_client_back() {
    for driver in DRIVERS {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let gate = std::sync::Mutex::new(gate);
        let back_end = Upstream::custom(move |socket| {
            let mut reader = Reader::new(socket);
            let Ok(Some((start, _))) = reader.head() else { return };
            let mut length = 0;
            if start.contains("/slow") {
                let _ = gate.lock().unwrap().recv();
            }
            let _ = match start.contains("POST") {
                true => reader.chunked(&mut |bytes| length += bytes.len()).map(|_| ()),
                false => Ok(()),
            };
            let body = length.to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = reader.stream.write_all((head + &body).as_bytes());
        })
        .unwrap();
        let gateway = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert!(peer.is_alive().unwrap());
        let before = gateway.anonymous().unwrap();
        peer.send(headers(1).request("POST", "/slow")).unwrap();
        peer.patience = Duration::from_millis(700);
        let chunk = pattern(1 << 20);
        let mut sent = 0;
        // As much as is taken; then nothing more is.
        while sent < 64 << 20 && peer.body(1, &chunk).is_ok() {
            sent += chunk.len();
        }
        assert!(sent < 32 << 20, "{sent} B were taken on {driver}");
        let after = gateway.anonymous().unwrap();
        assert!(after < before + (8 << 20), "{} KiB more", (after - before) >> 10);
        peer.patience = PATIENCE;
        let other = headers(3).request("GET", "/other").end_stream();
        assert_eq!(peer.ask(other).unwrap().status, 200, "another stream on {driver}");
        // Nor do several: another one's body comes through.
        let slow = [5, 7, 9, 11, 13, 15];
        peer.patience = Duration::from_millis(300);
        for stream in slow {
            peer.send(headers(stream).request("POST", "/slow")).unwrap();
            let taken = (0..32).take_while(|_| peer.body(stream, &chunk).is_ok()).count();
            assert!(taken < 32, "{taken} MiB were taken of {stream} on {driver}");
        }
        peer.patience = PATIENCE;
        peer.send(headers(17).request("POST", "/other")).unwrap();
        peer.body(17, &chunk).unwrap();
        peer.send(data(17, "").end_stream()).unwrap();
        let through = peer.response(17).unwrap();
        assert_eq!(through.text(), chunk.len().to_string(), "on {driver}");
        for stream in [1].into_iter().chain(slow) {
            go.send(()).unwrap();
            peer.send(data(stream, "").end_stream()).unwrap();
        }
        for stream in [1].into_iter().chain(slow) {
            assert_eq!(peer.response(stream).unwrap().status, 200, "{stream} on {driver}");
        }
    }
}

/// RFC 8441: a WebSocket is one stream; a back end of HTTP/1.1 sees the upgrade that it knows.
#[test]
fn a_websocket_is_a_stream() {
    for driver in DRIVERS {
        let back_end = Upstream::custom(|socket| {
            let mut reader = Reader::new(socket);
            let Ok(Some((start, fields))) = reader.head() else { return };
            let field = |name| joined(&fields, name).unwrap_or_default().to_ascii_lowercase();
            let fine = start == "GET /chat HTTP/1.1"
                && field("upgrade") == "websocket"
                && field("connection").contains("upgrade")
                && field("sec-websocket-version") == "13"
                && field("sec-websocket-key").len() == 24;
            let answer = match fine {
                true => {
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                     connection: upgrade\r\nsec-websocket-accept: x\r\n\r\n"
                }
                false => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            };
            let _ = reader.stream.write_all(answer.as_bytes());
            // What comes goes back, until the end.
            let mut buffered = reader.buffered().to_vec();
            loop {
                if reader.stream.write_all(&buffered).is_err() {
                    return;
                }
                let mut chunk = [0; 4096];
                match reader.stream.read(&mut chunk) {
                    Ok(n @ 1..) => buffered = chunk[..n].to_vec(),
                    _ => return,
                }
            }
        })
        .unwrap();
        let spec = ", allow_upgrade: [websocket]";
        let gateway = start(&manifests(&back_end, spec), driver, &[]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        assert!(peer.is_alive().unwrap());
        assert_eq!(peer.settings.get(&frame::ENABLE_CONNECT_PROTOCOL), Some(&1), "{driver}");
        let connect = headers(1).fields([
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/chat"),
            ("sec-websocket-version", "13"),
        ]);
        peer.send(connect).unwrap();
        let event = peer.event_of(1).unwrap();
        let Event::Headers { fields, end: false, .. } = event else { panic!("{event:?}") };
        assert_eq!(joined(&fields, ":status").as_deref(), Some("200"), "{driver}");
        for n in [1, 100, 10_000] {
            peer.send(data(1, pattern(n))).unwrap();
            let mut came = Vec::new();
            while came.len() < n {
                let event = peer.event_of(1).unwrap();
                let Event::Data { bytes, end: false, .. } = event else { panic!("{event:?}") };
                came.extend(bytes);
            }
            assert_eq!(came, pattern(n), "{driver}");
        }
        // The other streams do not notice.
        let other = headers(3).request("GET", "/").end_stream();
        assert_eq!(peer.ask(other).unwrap().status, 400);
        peer.send(data(1, "").end_stream()).unwrap();
        assert!(matches!(peer.event_of(1).unwrap(), Event::Data { end: true, .. }), "{driver}");
    }
}
