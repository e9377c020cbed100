// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::wire::Head;
use crate::wire::h1::parse::{self, Limits, Parsed};

fn head<'a>(head: &'a mut Head, block: &'a str) -> HeadView<'a> {
    let parse = if block.starts_with("HTTP/") { parse::response } else { parse::request };
    let parsed = parse(block.as_bytes(), head, &Limits::default(), &mut 0).unwrap();
    assert_eq!(parsed, Parsed::Complete);
    HeadView::new(head, block.as_bytes())
}

fn plain(view: HeadView<'_>) -> RequestHead<'_> {
    RequestHead {
        view,
        target: b"/x",
        original_path: None,
        host: b"a.example",
        framing: Framing::None,
        request_id: b"id",
        forwarded_for: b"203.0.113.9",
        secure: false,
        internal: false,
        client: IpAddr::from([203, 0, 113, 9]),
        edge: true,
        timeout_ms: Some(3000),
        suppress_envoy_headers: false,
        te_trailers: false,
        keeps_client_cert: false,
        client_cert: b"",
        upgrade: None,
        grpc_type: None,
    }
}

/// The head that goes upstream for these incoming fields.
fn onward(fields: &str, edits: &HeaderEdits, set: impl FnOnce(&mut RequestHead<'_>)) -> String {
    let block = format!("GET / HTTP/1.1\r\nHost: b\r\n{fields}\r\n");
    let mut spans = Head::default();
    let mut request = plain(head(&mut spans, &block));
    set(&mut request);
    let mut out = Vec::new();
    request_head(&mut out, &request, edits, || unreachable!("no edit asks"));
    String::from_utf8(out).unwrap()
}

const OURS: &str = "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: http\r\nx-request-id: id\r\n\
     x-envoy-external-address: 203.0.113.9\r\nx-envoy-expected-rq-timeout-ms: 3000\r\n\r\n";

#[track_caller]
fn check(fields: &str, passes: &str) {
    let seen = onward(fields, &HeaderEdits::default(), |_| ());
    assert_eq!(seen, format!("GET /x HTTP/1.1\r\nhost: a.example\r\n{passes}{OURS}"));
}

#[test]
fn fields_pass_as_written_or_not_at_all() {
    check("", "");
    check("X-Own: 1\r\nb:2\r\n", "X-Own: 1\r\nb:2\r\n");
    check("a: 1\r\nConnection: close\r\nb: 2\r\n", "a: 1\r\nb: 2\r\n");
    check("Connection: a\r\na: 1\r\nb: 2\r\n", "b: 2\r\n");
    check("Connection: content-type\r\ncontent-type: x\r\n", "content-type: x\r\n");
    check("Upgrade: h2c\r\nTE: gzip\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n", "");
    check("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nx-request-id: mine\r\n", "");
    check("x-envoy-internal: true\r\nx-envoy-retry-on: 5xx\r\nx-envoy-original-path: /\r\n", "");
    check("content-length: 5\r\nexpect: 100-continue\r\n", "");
    // Read with `-` for `_`, these would stand beside fields that upstreams trust from us.
    check(
        "x_forwarded_for: 1.1.1.1\r\nX-Forwarded_Proto: https\r\nauthorization_: x\r\n",
        "authorization_: x\r\n",
    );
    check("my_own: 1\r\n", "my_own: 1\r\n");
}

#[test]
fn what_the_gateway_decides_is_written_anew() {
    let none = HeaderEdits::default();
    let seen = onward("", &none, |r| r.framing = Framing::Length(12));
    assert!(seen.contains("content-length: 12\r\n"), "{seen}");
    let seen = onward("", &none, |r| r.framing = Framing::Chunked);
    assert!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
    let seen = onward("te: trailers\r\n", &none, |r| r.te_trailers = true);
    assert!(seen.contains("\r\nte: trailers\r\n"), "{seen}");
    let seen = onward("x-envoy-retry-on: 5xx\r\n", &none, |r| {
        r.internal = true;
        r.edge = false;
    });
    assert!(seen.contains("x-envoy-retry-on: 5xx\r\n"), "{seen}");
    assert!(seen.contains("x-envoy-internal: true\r\n"), "{seen}");
    assert!(!seen.contains("external-address"), "{seen}");
    let seen = onward("", &none, |r| {
        r.original_path = Some(b"/old");
        r.suppress_envoy_headers = true;
    });
    assert!(!seen.contains("original-path") && !seen.contains("timeout-ms"), "{seen}");
    let seen = onward("", &none, |r| r.original_path = Some(b"/old"));
    assert!(seen.contains("x-envoy-original-path: /old\r\n"), "{seen}");
    let drop = HeaderEdits { drop: vec!["x-own".into(), "x-request-id".into()], add: Vec::new() };
    let seen = onward("X-Own: 1\r\nb: 2\r\n", &drop, |_| ());
    assert!(!seen.contains("X-Own") && !seen.contains("request-id") && seen.contains("b: 2"));
}

#[test]
fn an_upgrade_passes_only_where_it_may() {
    let fields = "Connection: keep-alive, Upgrade, X-Own\r\nUpgrade: WebSocket\r\nX-Own: 1\r\n";
    let seen = onward(fields, &HeaderEdits::default(), |_| ());
    assert!(!seen.contains("pgrade") && !seen.contains("X-Own"), "{seen}");
    let seen = onward(fields, &HeaderEdits::default(), |r| r.upgrade = Some(b"WebSocket"));
    assert!(seen.contains("\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n"), "{seen}");
    assert_eq!(seen.matches("pgrade").count(), 2, "{seen}");
    assert!(!seen.contains("X-Own"), "{seen}");
}

#[track_caller]
fn check_answer(block: &str, set: impl FnOnce(&mut ResponseHead<'_>), expected: &str) {
    let mut spans = Head::default();
    let view = head(&mut spans, block);
    let mut answer = ResponseHead {
        view,
        framing: Framing::Length(5),
        http10: false,
        close: false,
        server: b"envoy",
        date: b"today",
        service_time_ms: Some(7),
        bodyless_length: None,
        upgrade: None,
        set_cookie: None,
        web_type: None,
        outcome: None,
    };
    set(&mut answer);
    let mut out = Vec::new();
    response_head(&mut out, &answer, &HeaderEdits::default(), || unreachable!("no edit asks"));
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn answers_keep_their_fields_and_get_ours() {
    check_answer(
        "HTTP/1.1 200 Fine\r\nServer: x\r\nA: 1\r\nContent-Length: 5\r\nb:2\r\nconnection: x\r\nx: 3\r\n\r\n",
        |_| (),
        "HTTP/1.1 200 Fine\r\nA: 1\r\nb:2\r\ncontent-length: 5\r\ndate: today\r\nserver: envoy\r\n\
         x-envoy-upstream-service-time: 7\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: Upgrade\r\nContent-Length: 5\r\nA: 1\r\n\r\n",
        |a| {
            a.framing = Framing::None;
            a.upgrade = Some(b"x");
            a.close = true;
        },
        "HTTP/1.1 101 Go\r\nA: 1\r\ndate: today\r\nserver: envoy\r\n\
         x-envoy-upstream-service-time: 7\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 304 Not Modified\r\ndate: then\r\ncontent-length: 9\r\n\r\n",
        |a| {
            a.framing = Framing::None;
            a.bodyless_length = Some(9);
            a.close = true;
            a.service_time_ms = None;
        },
        "HTTP/1.1 304 Not Modified\r\ndate: then\r\ncontent-length: 9\r\nserver: envoy\r\n\
         connection: close\r\n\r\n",
    );
    let cookie = HashCookie { name: "stick".into(), path: None, ttl: Some(Duration::ZERO) };
    let cookie: &'static HashCookie = Box::leak(Box::new(cookie));
    check_answer(
        "HTTP/1.1 200 \r\nSet-Cookie: own=1\r\n\r\n",
        |a| a.set_cookie = Some((cookie, b"0123456789abcdef")),
        "HTTP/1.1 200 \r\nSet-Cookie: own=1\r\ncontent-length: 5\r\ndate: today\r\n\
         server: envoy\r\nx-envoy-upstream-service-time: 7\r\n\
         set-cookie: stick=\"0123456789abcdef\"; HttpOnly\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 200 \r\n\r\n",
        |a| {
            a.framing = Framing::Chunked;
            a.http10 = true;
            a.service_time_ms = None;
        },
        "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\ndate: today\r\nserver: envoy\r\n\
         connection: keep-alive\r\n\r\n",
    );
}

#[test]
fn a_field_taken_out_of_the_head_stays_out() {
    let block = "GET / HTTP/1.1\r\nHost: b\r\na: 1\r\nmy_own: 2\r\nc: 3 \r\nd: 4\r\n\r\n";
    let mut spans = Head::default();
    head(&mut spans, block);
    spans.fields.retain(|field| field.name.of(block.as_bytes()) != b"my_own");
    let request = plain(HeadView::new(&spans, block.as_bytes()));
    let mut out = Vec::new();
    request_head(&mut out, &request, &HeaderEdits::default(), || unreachable!("no edit asks"));
    let seen = String::from_utf8(out).unwrap();
    assert_eq!(
        seen,
        format!("GET /x HTTP/1.1\r\nhost: a.example\r\na: 1\r\nc: 3\r\nd: 4\r\n{OURS}")
    );
}

#[test]
fn what_is_said_of_client_certificates() {
    let check = |keeps: bool, ours: &'static [u8], expected: &str| {
        let sent = "X-Forwarded-Client-Cert: Hash=a\r\na: 1\r\nx-forwarded-client-cert: Hash=b\r\n";
        let seen = onward(sent, &HeaderEdits::default(), |head| {
            head.keeps_client_cert = keeps;
            head.client_cert = ours;
        });
        assert_eq!(seen, format!("GET /x HTTP/1.1\r\nhost: a.example\r\n{expected}{OURS}"));
    };
    check(false, b"", "a: 1\r\n");
    check(
        true,
        b"",
        "X-Forwarded-Client-Cert: Hash=a\r\na: 1\r\nx-forwarded-client-cert: Hash=b\r\n",
    );
    check(false, b"Hash=c", "a: 1\r\nx-forwarded-client-cert: Hash=c\r\n");
    check(true, b"Hash=c", "a: 1\r\nx-forwarded-client-cert: Hash=a,Hash=b,Hash=c\r\n");
}

#[test]
fn a_browser_s_call_goes_onward_as_grpc() {
    let web = |fields: &str| {
        onward(fields, &HeaderEdits::default(), |request| {
            request.grpc_type = Some(b"application/grpc+proto");
            request.te_trailers = true;
        })
    };
    let fields = "Content-Type: application/grpc-web+proto\r\nA: 1\r\n";
    let seen = web(fields);
    let expected = "A: 1\r\nte: trailers\r\ncontent-type: application/grpc+proto\r\n\
                    grpc-accept-encoding: identity\r\n";
    assert_eq!(seen, format!("GET /x HTTP/1.1\r\nhost: a.example\r\n{expected}{OURS}"));
    let seen = web("Grpc-Accept-Encoding: gzip\r\n");
    assert_eq!(seen.to_ascii_lowercase().matches("grpc-accept-encoding").count(), 1, "{seen}");
}

#[test]
fn answers_of_calls_say_what_their_trailers_said() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nA: 1\r\n\r\n";
    let ours = "content-length: 5\r\ndate: today\r\nserver: envoy\r\n\
                x-envoy-upstream-service-time: 7\r\n";
    let web_type = "content-type: application/grpc-web+proto\r\n";
    check_answer(
        answer,
        |a| a.web_type = Some(b"application/grpc-web+proto"),
        &format!("HTTP/1.1 200 OK\r\nA: 1\r\n{ours}{web_type}\r\n"),
    );
    let fields = "Content-Type: application/grpc\r\nA: 1\r\n";
    check_answer(
        answer,
        |a| a.outcome = Some(&Outcome { status: Some(b"0"), message: None }),
        &format!("HTTP/1.1 200 OK\r\n{fields}{ours}grpc-status: 0\r\n\r\n"),
    );
    check_answer(
        answer,
        |a| a.outcome = Some(&Outcome { status: Some(b"5"), message: Some(b"gone") }),
        &format!(
            "HTTP/1.1 503 Service Unavailable\r\n{fields}{ours}grpc-status: 5\r\n\
             grpc-message: gone\r\n\r\n"
        ),
    );
}
