// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::io::{Read as _, Write as _};

use super::*;

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
