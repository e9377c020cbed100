// SPDX-License-Identifier: Apache-2.0
//! HTTP/1.1 over loopback: what is refused and never forwarded, what an upstream may not answer,
//! and the life of connections. Written from RFC 9110 and RFC 9112; on both drivers.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::client::Response;
use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::head::Reader;
use ringway_tests::manifest::{listener, mapping, module};
use ringway_tests::upstream::{Upstream, request, request_to};

use super::DRIVERS;

/// A Listener on 8080 and a Mapping of everything to one address, without a rewrite.
fn manifests(upstream: &Upstream, config: &str) -> String {
    let spec = format!("prefix: /, service: \"{}\", timeout_ms: 15000", upstream.address());
    listener(8080) + &mapping("all", &spec) + &module(config)
}

fn start(upstream: &Upstream, module: &str, driver: &'static str) -> Gateway {
    let gateway = Gateway::start(&manifests(upstream, module), &Options::driver(driver)).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// A back end that counts the requests that reached it whole.
fn counting() -> (Upstream, Arc<AtomicU64>) {
    let whole = Arc::new(AtomicU64::new(0));
    let counter = whole.clone();
    let upstream = Upstream::custom(move |stream| {
        let mut reader = Reader::new(stream);
        while let Ok(Some(_)) = request(&mut reader) {
            counter.fetch_add(1, Relaxed);
            if reader.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    (upstream.unwrap(), whole)
}

/// Sends bytes on a connection of their own and gives the answer, which must end the connection.
fn refused(gateway: &Gateway, bytes: &[u8]) -> Result<u16, String> {
    let mut client = gateway.client(8080).map_err(|e| e.to_string())?;
    // The gateway may answer and close before it has read everything.
    let _ = client.send(bytes);
    let response = client.response("GET").map_err(|e| e.to_string())?;
    match client.is_closed() {
        Ok(true) => Ok(response.status),
        Ok(false) => Err(format!("{} and then more bytes", response.status)),
        Err(error) => Err(format!("{} but not closed: {error}", response.status)),
    }
}

fn long_line(n: usize) -> Vec<u8> {
    format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(n)).into_bytes()
}

fn many_fields(n: usize, size: usize) -> Vec<u8> {
    let lines: String = (0..n).map(|i| format!("x-{i}: {}\r\n", "v".repeat(size))).collect();
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

#[test]
fn malformed_requests_are_refused_and_not_forwarded() {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello");
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let text: Vec<(&str, String, &[u16])> = vec![
        ("bare line feeds", "GET / HTTP/1.1\nHost: a\n\n".into(), &[400]),
        ("one bare line feed", "GET / HTTP/1.1\r\nHost: a\nx: y\r\n\r\n".into(), &[400]),
        ("a bare CR in a value", get("x: a\rb"), &[400]),
        ("a bare CR at a line's end", "GET / HTTP/1.1\r\nHost: a\rx: y\r\n\r\n".into(), &[400]),
        ("a folded line", get("x: a\r\n b"), &[400]),
        ("a folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), &[400]),
        ("a space before the colon", get("x : y"), &[400]),
        ("a tab before the colon", get("x\t: y"), &[400]),
        ("an empty name", get(": y"), &[400]),
        ("a name that is no token", get("x(y): z"), &[400]),
        ("a line without a colon", get("xyz"), &[400]),
        ("a NUL in a value", get("x: a\0b"), &[400]),
        ("a control byte in a value", get("x: a\u{1}b"), &[400]),
        ("DEL in a value", get("x: a\u{7f}b"), &[400]),
        ("white space first", format!(" {}", get("x: y")), &[400]),
        ("two empty lines first", format!("\r\n\r\n{}", get("x: y")), &[400]),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("a tab in the request line", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("a space at the line's end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into(), &[400]),
        ("no version", "GET /\r\n\r\n".into(), &[400]),
        ("a lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("no target", "GET HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("a relative target", "GET x HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("a star with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("a control byte in the target", "GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("a method that is no token", "G@T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("no Host", "GET / HTTP/1.1\r\nx: y\r\n\r\n".into(), &[400]),
        ("two Hosts", get("Host: b"), &[400]),
        ("two equal Hosts", get("Host: a"), &[400]),
        ("a Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), &[400]),
        ("a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), &[400]),
        ("a Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), &[400]),
        ("a Host with a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), &[400]),
        ("a port too large", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n".into(), &[400]),
        ("a port of letters", "GET / HTTP/1.1\r\nHost: a:http\r\n\r\n".into(), &[400]),
        ("Host against the target", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("a user in the target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), &[400]),
        ("two framings", post("Content-Length: 5\r\nTransfer-Encoding: chunked"), &[400]),
        ("two framings, reversed", post("Transfer-Encoding: chunked\r\nContent-Length: 5"), &[400]),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6"), &[400]),
        ("two equal lengths", post("Content-Length: 5\r\nContent-Length: 5"), &[400]),
        ("a list of lengths", post("Content-Length: 5, 5"), &[400]),
        ("a signed length", post("Content-Length: +5"), &[400]),
        ("a negative length", post("Content-Length: -5"), &[400]),
        ("a hexadecimal length", post("Content-Length: 0x5"), &[400]),
        ("a length with a space", post("Content-Length: 5 5"), &[400]),
        ("an empty length", post("Content-Length:"), &[400]),
        ("an overflowing length", post("Content-Length: 99999999999999999999"), &[400]),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked"), &[400]),
        (
            "chunked on two lines",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            &[400],
        ),
        ("chunked not last", post("Transfer-Encoding: chunked, gzip"), &[400, 501]),
        ("an unknown coding", post("Transfer-Encoding: gzip"), &[501]),
        ("a coding before chunked", post("Transfer-Encoding: gzip, chunked"), &[501]),
        ("identity", post("Transfer-Encoding: identity"), &[400, 501]),
        ("a coding with a vertical tab", post("Transfer-Encoding: \u{b}chunked"), &[400]),
        ("an unknown expectation", get("Expect: a-miracle"), &[417]),
        ("version 2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(), &[505]),
        ("version 0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n".into(), &[400, 505]),
        ("version 1.0 while it is off", "GET / HTTP/1.0\r\nHost: a\r\n\r\n".into(), &[426]),
        (
            "CONNECT",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(),
            &[400, 403, 404, 405, 501],
        ),
    ];
    let mut cases: Vec<(&str, Vec<u8>, &[u16])> =
        text.into_iter().map(|(name, text, status)| (name, text.into_bytes(), status)).collect();
    cases.push((
        "a method too long",
        format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33)).into_bytes(),
        &[400, 501],
    ));
    cases.push(("a request line too long", long_line(17 * 1024), &[414]));
    cases.push(("a request line without end", long_line(200 * 1024), &[414]));
    cases.push(("too many fields", many_fields(101, 1), &[431]));
    cases.push(("a head too large", many_fields(90, 800), &[431]));
    cases.push(("a field too large", many_fields(1, 61 * 1024), &[431]));
    for driver in DRIVERS {
        let (upstream, whole) = counting();
        let gateway = start(&upstream, "", driver);
        let mut wrong = Vec::new();
        for (name, bytes, statuses) in &cases {
            let before = upstream.connections();
            match refused(&gateway, bytes) {
                Ok(status) if statuses.contains(&status) => {}
                got => wrong.push(format!("{name}: {got:?}, not {statuses:?}")),
            }
            if whole.swap(0, Relaxed) > 0 || upstream.connections() > before {
                wrong.push(format!("{name}: it reached the back end"));
            }
        }
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "and still serves");
        assert!(wrong.is_empty(), "on {driver}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn malformed_chunks_never_complete_a_request() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(300));
    let long_trailer = format!("0\r\nx: {}\r\n\r\n", "t".repeat(9 * 1024));
    let bodies = [
        ("no hexadecimal digit", "g\r\na\r\n0\r\n\r\n"),
        ("a sign", "+1\r\na\r\n0\r\n\r\n"),
        ("a prefix", "0x1\r\na\r\n0\r\n\r\n"),
        ("an empty size", "\r\na\r\n0\r\n\r\n"),
        ("white space before the size", " 1\r\na\r\n0\r\n\r\n"),
        ("a bare line feed", "1\na\r\n0\r\n\r\n"),
        ("an overflow", "fffffffffffffffff\r\na\r\n0\r\n\r\n"),
        ("no line end after the data", "1\r\nab\r\n0\r\n\r\n"),
        ("a bare line feed after the data", "1\r\na\n0\r\n\r\n"),
        ("a bare line feed at the end", "1\r\na\r\n0\r\n\n"),
        ("an extension too long", &long_extension),
        ("trailers too long", &long_trailer),
        ("a trailer that is no field", "0\r\nnonsense\r\n\r\n"),
        ("a negative size", "-1\r\na\r\n0\r\n\r\n"),
    ];
    for driver in DRIVERS {
        let (upstream, whole) = counting();
        let gateway = start(&upstream, "", driver);
        let mut wrong = Vec::new();
        for (name, body) in bodies {
            match refused(&gateway, format!("{head}{body}").as_bytes()) {
                Ok(400 | 413 | 431) => {}
                got => wrong.push(format!("{name}: {got:?}")),
            }
            if whole.swap(0, Relaxed) > 0 {
                wrong.push(format!("{name}: the back end saw a whole request"));
            }
        }
        assert!(wrong.is_empty(), "on {driver}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn a_smuggled_request_is_not_seen() {
    for driver in DRIVERS {
        let (upstream, whole) = counting();
        let gateway = start(&upstream, "", driver);
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        for fields in [
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
            "Content-Length: 0\r\nContent-Length: 37",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding : chunked",
            "Content-Length : 0",
        ] {
            let bytes =
                format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n{smuggled}");
            let got = refused(&gateway, bytes.as_bytes());
            assert!(matches!(got, Ok(400 | 501)), "{fields}: {got:?} on {driver}");
        }
        assert_eq!(whole.load(Relaxed), 0);
    }
}

/// A back end that reads a request's head and answers with bytes, then closes or waits.
fn scripted(answer: Vec<u8>, close: bool) -> Upstream {
    let upstream = Upstream::custom(move |stream| {
        let mut reader = Reader::new(stream);
        while let Ok(Some(_)) = request(&mut reader) {
            if reader.stream.write_all(&answer).is_err() || close {
                return;
            }
        }
    });
    upstream.unwrap()
}

fn ask(gateway: &Gateway, target: &str) -> Result<Response, String> {
    gateway.get(8080, target, "a").map_err(|error| format!("{error:#}"))
}

#[test]
fn malformed_answers_become_502_or_a_visible_abort() {
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "v".repeat(61 * 1024));
    let many: String = (0..101).map(|i| format!("x-{i}: v\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n");
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(100);
    let heads: Vec<(&str, &str)> = vec![
        ("no HTTP at all", "hello\r\n\r\n"),
        ("HTTP/0.9", "<html></html>"),
        ("a status of letters", "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
        ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
        ("a status below 100", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
        ("version 2.0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        (
            "two framings",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
        ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello"),
        ("chunked not last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nhello"),
        ("a folded line", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nx : a\r\nContent-Length: 0\r\n\r\n"),
        ("a NUL in a value", "HTTP/1.1 200 OK\r\nx: a\0\r\nContent-Length: 0\r\n\r\n"),
        ("a bare CR in a value", "HTTP/1.1 200 OK\r\nx: a\rb\r\nContent-Length: 0\r\n\r\n"),
        ("a name that is no token", "HTTP/1.1 200 OK\r\nx y: a\r\nContent-Length: 0\r\n\r\n"),
        (
            "101 that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ),
        ("a head too large", &large),
        ("too many fields", &many),
        ("endless interim answers", &interim),
    ];
    let bodies: Vec<(&str, &str)> = vec![
        ("a short body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        ("an unfinished chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        ("no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        (
            "a bad chunk size",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n\r\n",
        ),
    ];
    for driver in DRIVERS {
        let mut wrong = Vec::new();
        for (name, answer) in &heads {
            let upstream = scripted(answer.as_bytes().to_vec(), true);
            let gateway = start(&upstream, "", driver);
            match ask(&gateway, "/") {
                Ok(response) if response.status == 502 && response.broken.is_none() => {}
                Ok(response) => wrong.push(format!("{name}: {}", response.status)),
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
        for (name, answer) in &bodies {
            let upstream = scripted(answer.as_bytes().to_vec(), true);
            let gateway = start(&upstream, "", driver);
            match ask(&gateway, "/") {
                Ok(response) if response.status == 502 || response.broken.is_some() => {}
                Ok(response) => wrong.push(format!("{name}: a clean {}", response.status)),
                // Closed before the head could be sent: visible too.
                Err(_) => {}
            }
        }
        assert!(wrong.is_empty(), "on {driver}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_5xx() {
    for driver in DRIVERS {
        let upstream = scripted(Vec::new(), true);
        let gateway = start(&upstream, "", driver);
        let status = ask(&gateway, "/").unwrap().status;
        assert!(matches!(status, 502 | 503), "{status} on {driver}");
    }
}

#[test]
fn a_connection_with_stray_bytes_is_not_used_again() {
    for driver in DRIVERS {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\
            Content-Length: 6\r\n\r\npoison";
        let upstream = scripted(answer.to_vec(), false);
        let gateway = start(&upstream, "", driver);
        for _ in 0..5 {
            assert_eq!(ask(&gateway, "/").unwrap().text(), "ok", "on {driver}");
        }
    }
}

#[test]
fn a_pooled_connection_that_the_upstream_closed_costs_no_request() {
    for driver in DRIVERS {
        // Says keep-alive, and closes all the same.
        let upstream = scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(), true);
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        for n in 0..200 {
            let response = client.get("/", "a").unwrap();
            assert_eq!(response.status, 200, "request {n} on {driver}");
        }
    }
}

#[test]
fn connections_are_kept_and_pipelined_requests_answered_in_order() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        for n in 0..3 {
            let seen = client.get(&format!("/{n}"), "a").unwrap().seen().unwrap();
            assert_eq!(seen["target"], format!("/{n}"));
        }
        let mut bytes = Vec::new();
        for n in 0..50 {
            let body = "b".repeat(n);
            bytes.extend(
                format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{body}")
                    .bytes(),
            );
        }
        client.send(&bytes).unwrap();
        for n in 0..50 {
            let seen = client.response("POST").unwrap().seen().unwrap();
            assert_eq!(seen["target"], format!("/{n}"), "on {driver}");
            assert_eq!(seen["body"], "b".repeat(n));
        }
        assert!(upstream.connections() <= 2, "{} upstream connections", upstream.connections());
    }
}

#[test]
fn every_segmentation_gives_the_same_answer() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        let bytes = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nx-trailer: 1\r\n\r\n";
        let mut client = gateway.client(8080).unwrap();
        for at in 1..bytes.len() {
            client.send(&bytes[..at]).unwrap();
            client.send(&bytes[at..]).unwrap();
            let seen = client.response("POST").unwrap().seen().unwrap();
            assert_eq!(seen["body"], "hello!", "split at {at} on {driver}");
        }
        for byte in bytes {
            client.send(&[*byte]).unwrap();
        }
        assert_eq!(client.response("POST").unwrap().seen().unwrap()["body"], "hello!");
    }
}

#[test]
fn connection_close_is_honoured() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("connection").as_deref(), Some("close"));
        assert!(client.is_closed().unwrap(), "on {driver}");
    }
}

#[test]
fn heads_without_bodies() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let response = client.response("HEAD").unwrap();
        assert!(response.header("content-length").is_some_and(|n| n != "0"), "on {driver}");
        assert!(response.body.is_empty());
        for status in ["204", "304"] {
            client
                .send(
                    format!("GET / HTTP/1.1\r\nHost: a\r\nx-backend-status: {status}\r\n\r\n")
                        .as_bytes(),
                )
                .unwrap();
            let response = client.response("GET").unwrap();
            assert_eq!(response.status.to_string(), status);
            assert!(response.body.is_empty());
        }
        // In step: nothing of a body was left on the connection.
        assert_eq!(client.get("/after", "a").unwrap().seen().unwrap()["target"], "/after");
    }
}

#[test]
fn expect_100_continue() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        let head =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        client.send(head).unwrap();
        // The body is sent only after the interim answer.
        let (start, _) = client.reader().head().unwrap().unwrap();
        assert!(start.starts_with("HTTP/1.1 100 "), "{start} on {driver}");
        client.send(b"hello").unwrap();
        let response = client.response("POST").unwrap();
        assert_eq!(response.seen().unwrap()["body"], "hello");
        assert_eq!(response.interim, Vec::<u16>::new(), "one 100 is enough");
    }
}

#[test]
fn trailers_pass_both_ways_without_framing_fields() {
    for driver in DRIVERS {
        let upstream = Upstream::custom(|stream| {
            let mut reader = Reader::new(stream);
            while let Ok(Some((_, fields))) = reader.head() {
                assert!(fields.iter().any(|(n, _)| n.eq_ignore_ascii_case("transfer-encoding")));
                let trailers = reader.chunked(&mut |_| {}).unwrap();
                let text = format!("{trailers:?}");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{text}\r\n0\r\n\
                     x-checksum: abc\r\ncontent-length: 7\r\n\r\n",
                    text.len()
                );
                if reader.stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        })
        .unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            1\r\na\r\n0\r\nx-sum: 1\r\nhost: evil\r\ncontent-length: 9\r\n\r\n";
        client.send(bytes).unwrap();
        let response = client.response("POST").unwrap();
        assert_eq!(response.broken, None);
        assert!(!response.text().contains("evil"), "{} on {driver}", response.text());
        assert!(!response.text().contains("content-length"), "{}", response.text());
        assert!(!response.trailers.iter().any(|(n, _)| n == "content-length"));
    }
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-delay-ms: 300\r\n\r\n").unwrap();
        client.finish().unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!(response.status, 200, "on {driver}");
        assert_eq!(response.broken, None);
    }
}

#[test]
fn an_early_answer_ends_the_upload() {
    for driver in DRIVERS {
        let upstream = Upstream::custom(|stream| {
            let mut reader = Reader::new(stream);
            if let Ok(Some(_)) = reader.head() {
                let answer =
                    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
                let _ = reader.stream.write_all(answer);
                // Reads on for a while, so that the answer is not lost to a reset.
                let _ = reader.rest(&mut |_| {});
            }
        })
        .unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        client
            .send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nstart")
            .unwrap();
        let response = client.response("POST").unwrap();
        assert_eq!(response.status, 403, "on {driver}");
        assert_eq!(response.text(), "no");
    }
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let runs = DRIVERS.map(|driver| {
        std::thread::spawn(move || {
            let upstream = Upstream::echo("a").unwrap();
            let gateway = start(&upstream, "", driver);
            let mut client = gateway.client(8080).unwrap();
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap();
            let begin = Instant::now();
            let response = client.response("GET").unwrap();
            assert_eq!(response.status, 408, "on {driver}");
            assert!(begin.elapsed() > Duration::from_secs(8), "{:?}", begin.elapsed());
            assert!(client.is_closed().unwrap());
        })
    });
    for run in runs {
        run.join().unwrap();
    }
}

#[test]
fn http10_closes_unless_asked() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "enable_http10: true", driver);
        let mut client = gateway.client(8080).unwrap();
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
        assert!(client.is_closed().unwrap(), "on {driver}");
        // RFC 9112 §6.1: no chunked coding toward 1.0, whatever the upstream sends.
        let upstream = scripted(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .to_vec(),
            true,
        );
        let gateway = start(&upstream, "enable_http10: true", driver);
        let mut client = gateway.client(8080).unwrap();
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!(response.header("transfer-encoding"), None, "on {driver}");
        assert_eq!(response.text(), "hello");
    }
}

#[test]
fn a_body_until_close_is_framed_anew() {
    for driver in DRIVERS {
        let upstream = scripted(b"HTTP/1.1 200 OK\r\n\r\nuntil the end".to_vec(), true);
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        for _ in 0..2 {
            let response = client.get("/", "a").unwrap();
            assert_eq!(response.text(), "until the end", "on {driver}");
            assert_eq!(response.broken, None);
        }
    }
}

#[test]
fn a_client_that_leaves_frees_the_upstream() {
    for (driver, begun) in DRIVERS.into_iter().flat_map(|driver| [(driver, false), (driver, true)])
    {
        let (gone, left) = std::sync::mpsc::channel();
        let gone = std::sync::Mutex::new(gone);
        let upstream = Upstream::custom(move |stream: TcpStream| {
            let mut reader = Reader::new(stream);
            if let Ok(Some(_)) = request_to(&mut reader, &mut |_| {}) {
                // No answer, or only its beginning: the gateway's giving up ends this.
                if begun {
                    let part = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
                    reader.stream.write_all(part).unwrap();
                }
                let _ = reader.rest(&mut |_| {});
                let _ = gone.lock().unwrap().send(());
            }
        })
        .unwrap();
        let spec = format!("prefix: /, service: \"{}\", timeout_ms: 60000", upstream.address());
        let manifests = listener(8080) + &mapping("all", &spec);
        let gateway = Gateway::start(&manifests, &Options::driver(driver)).unwrap();
        gateway.assert_driver(driver).unwrap();
        let mut client = gateway.client(8080).unwrap();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        ringway_tests::wait_until(
            "the request reaches the back end",
            Duration::from_secs(5),
            || upstream.connections() > 0,
        );
        if begun {
            while !client.reader().buffered().ends_with(b"part") {
                assert_ne!(client.reader().fill().unwrap(), 0);
            }
        }
        // A reset: a mere end of the stream would be a half-close, and still owed its answer.
        client.reset();
        left.recv_timeout(Duration::from_secs(3))
            .unwrap_or_else(|_| panic!("still held on {driver}, begun: {begun}"));
    }
}

#[test]
fn a_client_that_only_stops_sending_is_waited_for() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        let mut client = gateway.client(8080).unwrap();
        // Longer than the gateway looks away.
        let slow = b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-delay-ms: 1200\r\n\r\n";
        client.send(slow).unwrap();
        client.finish().unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200, "on {driver}");
    }
}

#[test]
fn a_flood_of_connections_is_served() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, "", driver);
        for n in 0..500 {
            let response = gateway.get(8080, "/", "a").unwrap();
            assert_eq!(response.status, 200, "connection {n} on {driver}");
        }
    }
}
