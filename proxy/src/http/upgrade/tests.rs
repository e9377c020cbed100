// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_core::ir;
use ringway_core::name::ListenerSlot;
use ringway_core::observe::metric::ListenerCell;

use ringway_core::link::Fleet;

use crate::IoBackend;
use crate::fleet::Workers;
use crate::tests::{both, connect, read_until, scripted, start_with};

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
    Connection: Upgrade\r\nContent-Length: 4\r\nSec-WebSocket-Accept: s\r\n\r\n";

/// A gateway whose one route allows these upgrades, in front of `script`.
fn gateway(
    backend: IoBackend,
    upgrades: &[&str],
    script: impl Fn(TcpStream) + Send + Sync + 'static,
) -> (Workers, SocketAddr) {
    start_with(backend, &[scripted(script)], |ir| {
        forward(ir).upgrades = upgrades.iter().map(|&name| name.into()).collect();
    })
}

/// The one route's action.
fn forward(ir: &mut ir::Ir) -> &mut ir::Forward {
    let host = Arc::make_mut(&mut ir.listeners[0].virtual_hosts[0]);
    let route = &mut Arc::make_mut(&mut host.groups[0]).members[0].route;
    match &mut Arc::make_mut(route).action {
        ir::Action::Forward(forward) => Arc::make_mut(forward),
        ir::Action::Redirect(_) => panic!("the route forwards"),
    }
}

/// Answers the request with `answer`, then sends back what it receives, and its end.
fn switching(answer: &'static str) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| {
        let head = read_until(&mut stream, "\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
        let early = &head[head.find("\r\n\r\n").unwrap() + 4..];
        stream.write_all(early.as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(n) = stream.read(&mut buffer) {
            if n == 0 || stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    }
}

fn count(workers: &Workers, cell: ListenerCell) -> u64 {
    workers.slab(0).listener(ListenerSlot(0), cell)
}

/// Waits for the counter: a tunnel's end is counted a moment after its client saw it.
fn await_count(workers: &Workers, cell: ListenerCell, expected: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while count(workers, cell) != expected {
        assert!(Instant::now() < deadline, "{cell:?} is {}", count(workers, cell));
        std::thread::yield_now();
    }
}

#[test]
fn a_matching_101_opens_the_tunnel() {
    both(|backend| {
        let (workers, address) = gateway(backend, &["websocket"], |mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n");
            assert!(head.contains("\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n"), "{head}");
            assert!(head.contains("\r\nSec-WebSocket-Key: k\r\n"), "{head}");
            assert!(head.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{head}");
            // What comes right behind the head belongs to the tunnel, on both sides.
            stream.write_all(format!("{SWITCH}greeting").as_bytes()).unwrap();
            let mut early = head[head.find("\r\n\r\n").unwrap() + 4..].to_owned();
            if !early.contains("early") {
                early += &read_until(&mut stream, "early");
            }
            stream.write_all(early.as_bytes()).unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            stream.write_all(rest.as_bytes()).unwrap();
        });
        let mut client = connect(address);
        client.write_all(format!("{WEBSOCKET}early").as_bytes()).unwrap();
        let answer = read_until(&mut client, "greetingearly");
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n"), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s\r\n"), "{answer}");
        assert!(!answer.to_lowercase().contains("content-length"), "{answer}");
        // Counted at its head, not at its end.
        assert_eq!(count(&workers, ListenerCell::Requests1xx), 1);
        assert_eq!(count(&workers, ListenerCell::UpgradesActive), 1);
        assert_eq!(count(&workers, ListenerCell::RequestsActive), 1);
        // One side's end leaves the other open.
        client.write_all(b"late").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "late");
        await_count(&workers, ListenerCell::RequestsActive, 0);
        assert_eq!(count(&workers, ListenerCell::UpgradesActive), 0);
        assert_eq!(count(&workers, ListenerCell::UpgradesTotal), 1);
        assert_eq!(count(&workers, ListenerCell::Requests1xx), 1);
        assert_eq!(count(&workers, ListenerCell::BytesReceived), 9);
        assert_eq!(count(&workers, ListenerCell::BytesSent), 17);
    });
}

#[track_caller]
fn check(upgrades: &[&str], answer: &'static str, request: &str, expected: &str) {
    both(|backend| {
        let (workers, address) = gateway(backend, upgrades, switching(answer));
        let mut client = connect(address);
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut seen = Vec::new();
        let _ = client.read_to_end(&mut seen);
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.starts_with(expected), "{backend:?} {request:?}: {seen:?}");
        await_count(&workers, ListenerCell::UpgradesActive, 0);
    });
}

#[test]
fn a_switch_that_was_not_asked_for_is_a_bad_answer() {
    let ws = &["websocket"];
    let bad = "HTTP/1.1 502 Bad Gateway\r\n";
    for answer in [
        "HTTP/1.1 101 Go\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Go\r\nUpgrade: websocket, x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Go\r\nConnection: upgrade\r\n\r\n",
    ] {
        check(ws, answer, WEBSOCKET, bad);
    }
    check(ws, SWITCH, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", bad);
    // What waits behind a body is not passed on, and so not asked for.
    let with_body = WEBSOCKET.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nxx");
    check(ws, SWITCH, &with_body, bad);
    check(&["connect"], SWITCH, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", bad);
}

#[test]
fn what_is_not_allowed_is_refused() {
    let refused = "HTTP/1.1 403 Forbidden\r\n";
    let connect = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
    check(&[], SWITCH, WEBSOCKET, refused);
    check(&["spdy/3.1"], SWITCH, WEBSOCKET, refused);
    let list = WEBSOCKET.replace("WebSocket\r", "websocket, h2c\r");
    check(&["websocket"], SWITCH, &list, refused);
    let lines = WEBSOCKET.replace("Upgrade: WebSocket", "Upgrade: websocket\r\nUpgrade: x");
    check(&["websocket"], SWITCH, &lines, refused);
    check(&["websocket"], SWITCH, connect, refused);
    let body = connect.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx");
    check(&["connect"], SWITCH, &body, "HTTP/1.1 400 ");
}

#[test]
fn h2c_is_served_as_if_it_had_not_been_asked_for() {
    both(|backend| {
        let (_workers, address) = gateway(backend, &["h2c"], |mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n");
            assert!(!head.to_lowercase().contains("upgrade"), "{head}");
            assert!(!head.to_lowercase().contains("http2-settings"), "{head}");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        });
        let mut client = connect(address);
        client
            .write_all(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                  Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            )
            .unwrap();
        read_until(&mut client, "HTTP/1.1 200 OK\r\n");
    });
}

#[test]
fn an_upgrade_that_fails_leaves_the_connection_in_order() {
    both(|backend| {
        let (workers, address) = gateway(backend, &["websocket"], |mut stream| {
            for _ in 0..2 {
                read_until(&mut stream, "\r\n\r\n");
                stream.write_all(b"HTTP/1.1 426 No\r\ncontent-length: 2\r\n\r\nno").unwrap();
            }
        });
        let mut client = connect(address);
        // Bytes behind a request that stays one are the next request.
        client
            .write_all(format!("{WEBSOCKET}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .unwrap();
        let mut answers = String::new();
        while answers.matches("\r\n\r\nno").count() < 2 {
            answers += &read_until(&mut client, "\r\n\r\nno");
        }
        assert_eq!(answers.matches("HTTP/1.1 426 No\r\n").count(), 2, "{answers}");
        await_count(&workers, ListenerCell::UpgradesActive, 0);
        assert_eq!(count(&workers, ListenerCell::UpgradesTotal), 1);
    });
}

#[test]
fn connect_opens_a_tunnel_with_any_2xx() {
    both(|backend| {
        let (_workers, address) = gateway(backend, &["connect"], |mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n");
            assert!(
                head.starts_with("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n"),
                "{head}"
            );
            // RFC 9110 §9.3.6: such lengths mean nothing.
            stream.write_all(b"HTTP/1.1 200 Go\r\nContent-Length: 9\r\n\r\nhello").unwrap();
            read_until(&mut stream, "ping");
            stream.write_all(b"pong").unwrap();
        });
        let mut client = connect(address);
        client.write_all(b"CONNECT A.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").unwrap();
        let answer = read_until(&mut client, "hello");
        assert!(answer.starts_with("HTTP/1.1 200 Go\r\n"), "{answer}");
        assert!(!answer.to_lowercase().contains("content-length"), "{answer}");
        assert!(!answer.contains("connection:"), "{answer}");
        client.write_all(b"ping").unwrap();
        read_until(&mut client, "pong");
    });
    // One that fails ends the connection: what follows may have been meant for the tunnel.
    let failed = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(
        &["connect"],
        "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        failed,
        "HTTP/1.1 503 No\r\n",
    );
}

#[test]
fn only_bytes_keep_a_tunnel() {
    both(|backend| {
        let upstream = scripted(switching(SWITCH));
        let (_workers, address) = start_with(backend, &[upstream], |ir| {
            let forward = forward(ir);
            forward.upgrades = vec!["websocket".into()];
            // The time-out of requests is over before the first byte of the tunnel.
            forward.timeouts.request = Some(Duration::from_millis(200));
            forward.timeouts.idle = Some(Duration::from_millis(800));
        });
        let mut client = connect(address);
        client.write_all(WEBSOCKET.as_bytes()).unwrap();
        read_until(&mut client, "\r\n\r\n");
        let opened = Instant::now();
        std::thread::sleep(Duration::from_millis(500));
        client.write_all(b"tick").unwrap();
        read_until(&mut client, "tick");
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert!(opened.elapsed() >= Duration::from_millis(1300), "{:?}", opened.elapsed());
    });
}
