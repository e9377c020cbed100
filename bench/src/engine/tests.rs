// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::io::{Read as _, Write as _};

use super::*;
use crate::tls::Sessions;

fn engine() -> Engine {
    Engine::open(([127, 0, 0, 1], 0).into()).unwrap()
}

/// A load that goes straight to the engine's own back end.
fn load(engine: &Engine, request: String, answer_bytes: u64) -> Load {
    Load {
        target: engine.address().unwrap(),
        requests: vec![keep(request.into_bytes())],
        status: 200,
        answer_bytes: Some(answer_bytes),
        connections: 8,
        pace: Pace::Closed,
        until: Until::Answers(2_000),
        compare_every: 1,
        tls: None,
        reconnect: false,
        upgrade: None,
        changes: None,
        http2: None,
    }
}

fn get(size: usize) -> String {
    format!("GET /api/{size} HTTP/1.1\r\nhost: h\r\n\r\n")
}

fn ignore(_: Edge) -> Result<()> {
    Ok(())
}

#[test]
fn a_closed_loop_gets_every_answer_whole() {
    let mut engine = engine();
    for size in [0, 13, 1_000, 70_000] {
        let load = load(&engine, get(size), size as u64);
        let outcome = engine.run(&load, &mut ignore).unwrap();
        assert_eq!(outcome.first_error, None);
        assert_eq!(outcome.errors, 0);
        assert!(outcome.answers >= 2_000, "{}", outcome.answers);
        assert!(outcome.compared >= 2_000, "{}", outcome.compared);
    }
}

#[test]
fn request_bodies_are_read_and_compared_too() {
    let mut engine = engine();
    let body = String::from_utf8(http::body(16_384)).unwrap();
    let post = |body: &str| format!("POST /5 HTTP/1.1\r\ncontent-length: 16384\r\n\r\n{body}");
    let good = load(&engine, post(&body), 5);
    let outcome = engine.run(&good, &mut ignore).unwrap();
    assert_eq!(outcome.first_error, None);
    assert!(outcome.compared >= 4_000, "{}", outcome.compared);
    let bad = load(&engine, post(&body.replacen('a', "b", 1)), 5);
    let outcome = engine.run(&bad, &mut ignore).unwrap();
    assert!(outcome.first_error.unwrap().contains("changed"));
}

#[test]
fn wrong_answers_are_errors() {
    let mut engine = engine();
    let long = load(&engine, get(14), 13);
    assert!(engine.probe(&long).unwrap_err().to_string().contains("14 bytes"));
    let status = Load { status: 404, ..load(&engine, get(13), 13) };
    assert!(engine.probe(&status).unwrap_err().to_string().contains("answered 200"));
}

#[test]
fn a_probe_shows_both_ends() {
    let mut engine = engine();
    let load = load(&engine, get(13), 13);
    let exchange = engine.probe(&load).unwrap();
    assert_eq!(exchange.upstream_head, load.requests[0]);
    assert_eq!(http::response(&exchange.answer_head), Ok((200, 13)));
}

#[test]
fn an_open_loop_keeps_its_rate_and_times_every_request() {
    let mut engine = engine();
    let load = Load {
        pace: Pace::Open { per_second: 2_000 },
        until: Until::Time {
            warm_up: Duration::from_millis(100),
            window: Duration::from_millis(500),
        },
        ..load(&engine, get(13), 13)
    };
    let mut edges = Vec::new();
    let outcome = engine
        .run(&load, &mut |edge| {
            edges.push(edge);
            Ok(())
        })
        .unwrap();
    assert_eq!(edges, [Edge::Start, Edge::End]);
    assert_eq!(outcome.first_error, None);
    assert_eq!(outcome.latency.len(), outcome.answers);
    let expected = outcome.window.as_secs_f64() * 2_000.0;
    assert!((outcome.answers as f64 - expected).abs() < expected * 0.5, "{}", outcome.answers);
}

/// A server that answers one request and closes the connection in the middle of the second.
#[test]
fn an_answer_cut_short_is_an_error() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let answer = canned(13);
        for part in [&answer[..], &answer[..answer.len() - 1]] {
            let mut request = [0; 1024];
            assert!(client.read(&mut request).unwrap() > 0);
            client.write_all(part).unwrap();
        }
    });
    let mut engine = engine();
    let load = Load { target, connections: 1, ..load(&engine, get(13), 13) };
    let outcome = engine.run(&load, &mut ignore).unwrap();
    serving.join().unwrap();
    assert_eq!(outcome.answers, 1);
    assert_eq!(outcome.first_error.unwrap(), "closed before the answer was whole");
}

#[test]
fn an_upgraded_connection_gets_its_messages_back() {
    let mut engine = engine();
    let upgrade = keep(b"GET /ws HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\n\r\n".to_vec());
    let load = Load { upgrade: Some(upgrade), ..load(&engine, "a message".to_owned(), 0) };
    let outcome = engine.run(&load, &mut ignore).unwrap();
    assert_eq!(outcome.first_error, None);
    assert!(outcome.compared >= 2_000, "{}", outcome.compared);
}

#[test]
fn every_request_may_have_a_connection_of_its_own() {
    let mut engine = engine();
    let load = Load { reconnect: true, ..load(&engine, get(13), 13) };
    let outcome = engine.run(&load, &mut ignore).unwrap();
    assert_eq!(outcome.first_error, None);
    assert!(outcome.answers >= 2_000, "{}", outcome.answers);
}

/// Terminates TLS in front of `back_end` until the test ends.
fn terminate(back_end: SocketAddr) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut client = rustls::StreamOwned::new(connection, client.unwrap());
            thread::spawn(move || {
                let mut upstream = TcpStream::connect(back_end).unwrap();
                let (mut request, mut answer) = ([0; 4096], vec![0; 100_000]);
                while let Ok(n @ 1..) = client.read(&mut request) {
                    upstream.write_all(&request[..n]).unwrap();
                    let n = upstream.read(&mut answer).unwrap();
                    client.write_all(&answer[..n]).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn tls_clients_keep_or_resume_their_sessions() {
    let mut engine = engine();
    let target = terminate(engine.address().unwrap());
    let plain = Load { target, until: Until::Answers(200), ..load(&engine, get(13), 13) };
    for (resume, reconnect) in [(false, false), (false, true), (true, true)] {
        let sessions = Arc::<Sessions>::default();
        let tls = Some(crate::tls::client(resume.then(|| sessions.clone()), &[]));
        sessions.gather();
        if resume {
            engine
                .run(&Load { tls: tls.clone(), reconnect, ..plain.clone() }, &mut ignore)
                .unwrap();
            assert!(sessions.show() >= 400);
        }
        let load = Load { tls, reconnect, ..plain.clone() };
        let outcome = engine.run(&load, &mut ignore).unwrap();
        assert_eq!(outcome.first_error, None);
        assert!(outcome.answers >= 200, "{}", outcome.answers);
        let resumed = outcome.resumed * 10 > outcome.handshakes * 9;
        assert_eq!(resumed, resume, "{} of {}", outcome.resumed, outcome.handshakes);
        assert_eq!(outcome.handshakes >= 200, reconnect, "{}", outcome.handshakes);
    }
}

#[test]
fn connections_are_held_at_rest_with_one_answer_each() {
    let mut engine = engine();
    let load = Load { connections: 300, ..load(&engine, get(13), 13) };
    let mut held = 0;
    let address = engine.address().unwrap();
    engine
        .hold(&load, 64, Duration::from_millis(20), &mut || {
            held += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(held, 1);
    // Nobody is left: the same engine runs another load.
    let load = Load { target: address, connections: 2, ..load };
    assert_eq!(engine.run(&load, &mut ignore).unwrap().first_error, None);
}

/// A server that answers twice per connection, the second time with `connection: close`.
#[test]
fn a_connection_that_the_server_ends_is_made_again() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap();
    thread::spawn(move || {
        for client in server.incoming() {
            let mut client = client.unwrap();
            for head in ["", "connection: close\r\n"] {
                let mut request = [0; 1024];
                if client.read(&mut request).unwrap_or(0) == 0 {
                    break;
                }
                let answer = format!("HTTP/1.1 200 OK\r\n{head}content-length: 0\r\n\r\n");
                client.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    let mut engine = engine();
    let (seen, _unused) = mpsc::channel();
    let load = Load {
        target,
        connections: 1,
        pace: Pace::Open { per_second: 500 },
        until: Until::Answers(100),
        changes: Some(Changes { seen }),
        ..load(&engine, get(0), 0)
    };
    let outcome = engine.run(&load, &mut ignore).unwrap();
    assert_eq!(outcome.first_error, None);
    assert!(outcome.timed.len() >= 100, "{}", outcome.timed.len());
}

#[test]
fn the_first_and_last_request_of_each_configuration_are_seen() {
    let mut engine = engine();
    let get = |number: usize| keep(format!("GET /g-{number}/1 HTTP/1.1\r\n\r\n").into_bytes());
    let (seen, told) = mpsc::channel();
    let load = Load {
        requests: vec![get(0), get(2)],
        pace: Pace::Open { per_second: 1_000 },
        until: Until::Answers(20),
        changes: Some(Changes { seen }),
        ..load(&engine, String::new(), 1)
    };
    let outcome = engine.run(&load, &mut ignore).unwrap();
    assert_eq!(outcome.first_error, None);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(outcome.seen[1], None);
    assert!(outcome.seen[0].unwrap().first < outcome.seen[2].unwrap().first);
    assert!(outcome.seen[2].unwrap().first < outcome.seen[0].unwrap().last);
}

/// The same over HTTP/2; `grpc` sends and expects messages.
fn http2(engine: &Engine, grpc: bool, size: usize) -> Load {
    let request = match grpc {
        true => crate::scenario::grpc_request("h", "/api/", size),
        false => get(size).into_bytes(),
    };
    Load {
        requests: vec![keep(request)],
        http2: Some(Streams { at_once: 16, grpc }),
        ..load(engine, String::new(), size as u64)
    }
}

#[test]
fn streams_get_every_answer_whole() {
    let mut engine = engine();
    for (grpc, size) in [(false, 0), (false, 13), (false, 16_000), (true, 0), (true, 16)] {
        let outcome = engine.run(&http2(&engine, grpc, size), &mut ignore).unwrap();
        assert_eq!(outcome.first_error, None);
        assert!(outcome.answers >= 2_000, "{}", outcome.answers);
        // Of gRPC the requests' bodies too.
        let compared = if grpc { 4_000 } else { 2_000 };
        assert!(outcome.compared >= compared, "{}", outcome.compared);
    }
}

#[test]
fn streams_wait_for_requests_that_are_due() {
    let mut engine = engine();
    let load = Load {
        connections: 2,
        pace: Pace::Open { per_second: 2_000 },
        until: Until::Answers(500),
        ..http2(&engine, false, 13)
    };
    let outcome = engine.run(&load, &mut ignore).unwrap();
    assert_eq!(outcome.first_error, None);
    assert_eq!(outcome.latency.len(), outcome.answers);
}

#[test]
fn a_probe_over_http2_shows_both_ends() {
    let mut engine = engine();
    let exchange = engine.probe(&http2(&engine, true, 16)).unwrap();
    let show = |head: &[u8]| String::from_utf8(head.to_vec()).unwrap();
    let request = "POST /api/16 HTTP/2\r\nhost: h\r\nuser-agent: ringway-bench\r\naccept: */*\r\n\
        content-type: application/grpc\r\nte: trailers\r\n\r\n";
    assert_eq!(show(&exchange.upstream_head), request);
    let answer = "HTTP/2 200\r\ncontent-type: application/grpc\r\n\r\n";
    assert_eq!(show(&exchange.answer_head), answer);
}

#[test]
fn wrong_answers_on_streams_are_errors() {
    let mut engine = engine();
    let wrong = |load: Load, engine: &mut Engine| engine.probe(&load).unwrap_err().to_string();
    let load = http2(&engine, false, 14);
    let long = Load { answer_bytes: Some(13), ..load.clone() };
    assert_eq!(wrong(long, &mut engine), "a body arrived changed");
    let unseen = Load { answer_bytes: Some(13), compare_every: 1_000, ..load.clone() };
    let outcome = engine.run(&unseen, &mut ignore).unwrap();
    assert_eq!(outcome.first_error.unwrap(), "a body of 14 bytes, not 13");
    let status = Load { status: 404, ..load.clone() };
    assert_eq!(wrong(status, &mut engine), "answered 200, not 404");
    let plain = Load { http2: Some(Streams { at_once: 1, grpc: true }), ..load };
    assert!(wrong(plain, &mut engine).contains("a body"));
}

/// An HTTP/2 server that sends these frames after its settings.
fn scripted(frames: &'static [u8]) -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut request = [0; 4096];
        assert!(client.read(&mut request).unwrap() > 0);
        client.write_all(&[b"\0\0\0\x04\0\0\0\0\0", frames].concat()).unwrap();
        while client.read(&mut request).unwrap_or(0) > 0 {}
    });
    target
}

#[test]
fn calls_that_fail_are_errors() {
    for (frames, error) in [
        (&b"\0\0\x11\x01\x05\0\0\0\x01\x88\0\x0bgrpc-status\x0214"[..], "gRPC status 14 ''"),
        (b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x10\x01\x05\0\0\0\x01\0\x0bgrpc-status\x0213", "13"),
        (b"\0\0\x01\x01\x05\0\0\0\x01\x88", "without its trailers"),
        (b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08", "reset: 8"),
        (b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b", "GOAWAY 11"),
        (b"\0\0\x01\x01\x05\0\0\0\x09\x88", "an answer to no request"),
        (b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x02", "2 streams at a time"),
    ] {
        let mut engine = engine();
        let load = Load { target: scripted(frames), connections: 1, ..http2(&engine, true, 16) };
        let load = Load { http2: Some(Streams { at_once: 3, grpc: true }), ..load };
        let found = engine.run(&load, &mut ignore).unwrap().first_error.unwrap();
        assert!(found.contains(error), "{found}");
    }
}
