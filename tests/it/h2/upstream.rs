// SPDX-License-Identifier: Apache-2.0
//! Back ends of HTTP/2 that answer as no back end may, or that leave: what clients get of it, over
//! either protocol, and that no request is lost that may be asked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::h2::frame::{
    self, Code, Frame, PREFACE, data, goaway, headers, ping, raw, reset,
};
use ringway_tests::h2::{Event, Peer, echo};
use ringway_tests::manifest::mapping;
use ringway_tests::upstream::{Upstream, echo_tls, told};
use ringway_tests::{Gateway, PATIENCE, pki, tls, wait_until};

use super::super::DRIVERS;
use super::{CLEARTEXT, HOST, manifests, manifests_to, start};

/// Answers the first request of each connection with these bytes, at once or in two parts, and
/// then reads until the gateway leaves.
fn scripted(bytes: Vec<u8>, split: Option<usize>) -> Upstream {
    let upstream = Upstream::custom(move |socket| {
        let _ = socket.set_nodelay(true);
        let Ok(mut peer) = Peer::server(socket, &[]) else { return };
        let Ok(Some(_)) = peer.request(Instant::now() + PATIENCE) else { return };
        let (one, other) = bytes.split_at(split.unwrap_or(bytes.len()));
        let _ = peer.send_bytes(one).and_then(|()| peer.send_bytes(other));
        // Whoever asks again does so on a connection of its own.
        let _ = peer.request(Instant::now() + PATIENCE);
    });
    upstream.unwrap()
}

fn bytes(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

fn ok() -> Frame {
    headers(1).status(200)
}

/// What a client gets: the status, and whether it can tell that the answer is not whole.
fn ask(gateway: &Gateway) -> Result<(u16, bool), String> {
    let mut peer = Peer::connect(gateway.address(CLEARTEXT)).map_err(|error| error.to_string())?;
    peer.patience = Duration::from_secs(5);
    let response = peer.ask(headers(1).request("GET", "/").end_stream());
    let over_h2 = response.map(|r| (r.status, r.broken.is_some())).map_err(|e| e.to_string());
    let over_h1 = gateway.get(CLEARTEXT, "/", HOST);
    let over_h1 = over_h1.map(|r| (r.status, r.broken.is_some())).map_err(|e| e.to_string());
    match (&over_h1, &over_h2) {
        // An end before the head is as visible.
        (Err(_) | Ok((_, true)), Err(_)) => Ok((0, true)),
        (one, other) if one == other => over_h2,
        _ => Err(format!("{over_h1:?} over HTTP/1.1, {over_h2:?} over HTTP/2")),
    }
}

#[test]
fn malformed_answers_become_502_or_a_visible_end() {
    let field = |name: &str, value: &[u8]| vec![ok().field(name, value).end_stream()];
    let large = "v".repeat(70_000);
    let heads: Vec<(&str, Vec<Frame>)> = vec![
        ("no status", vec![headers(1).field("x", "1").end_stream()]),
        ("two statuses", vec![ok().status(200).end_stream()]),
        ("a status of letters", vec![headers(1).field(":status", "abc").end_stream()]),
        ("a status of four digits", vec![headers(1).field(":status", "2000").end_stream()]),
        ("a status below 100", vec![headers(1).field(":status", "099").end_stream()]),
        ("a status behind a field", vec![headers(1).field("x", "1").status(200).end_stream()]),
        ("an unknown pseudo field", field(":x", b"1")),
        ("upper case", field("X-Upper", b"1")),
        ("connection", field("connection", b"close")),
        ("transfer-encoding", field("transfer-encoding", b"chunked")),
        ("upgrade", field("upgrade", b"websocket")),
        ("a CR in a value", field("x", b"a\rb")),
        ("a whole answer in a value", field("x", b"1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")),
        ("a NUL in a value", field("x", b"a\0b")),
        ("a name with a space", field("x y", b"1")),
        ("a name with a line break", field("x\r\ny", b"1")),
        ("a bad length", field("content-length", b"+5")),
        ("nothing of its length", field("content-length", b"5")),
        ("two lengths", vec![ok().fields([("content-length", "5"), ("content-length", "6")])]),
        ("101", vec![headers(1).status(101).end_stream()]),
        ("an interim answer that ends", vec![headers(1).status(103).end_stream()]),
        ("endless interim answers", vec![headers(1).status(103).field("x", "1"); 200]),
        ("a head too large", vec![ok().field("x", &large).end_stream()]),
        ("DATA before the head", vec![data(1, "hello").end_stream()]),
        ("a reset", vec![reset(1, Code::INTERNAL_ERROR)]),
        ("a cancelled stream", vec![reset(1, Code::CANCEL)]),
        ("a push", vec![raw(frame::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])]),
        ("a head cut by another frame", vec![ok().unfinished(), ping([0; 8])]),
        ("an entry that is not", vec![ok().block(&[0xff, 0x80, 1]).end_stream()]),
        ("a frame too large", vec![raw(frame::HEADERS, 5, 1, &[0; 20_000])]),
        ("DATA of no stream", vec![data(0, "x")]),
        ("a window that overflows", vec![frame::window_update(0, 0x7fff_ffff)]),
        (
            "GOAWAY with an error",
            vec![goaway(1, Code::PROTOCOL_ERROR), reset(1, Code::PROTOCOL_ERROR)],
        ),
    ];
    let length = |n: &str| ok().field("content-length", n);
    let bodies: Vec<(&str, Vec<Frame>)> = vec![
        ("less than its length", vec![length("9"), data(1, "hello").end_stream()]),
        ("more than its length", vec![length("4"), data(1, "hello").end_stream()]),
        ("a reset in its middle", vec![ok(), data(1, "hello"), reset(1, Code::INTERNAL_ERROR)]),
        ("a silent reset in its middle", vec![ok(), data(1, "hello"), reset(1, Code::NO_ERROR)]),
        ("a second head", vec![ok(), data(1, "hello"), ok()]),
        (
            "upper case in trailers",
            vec![ok(), data(1, "x"), headers(1).field("X", "1").end_stream()],
        ),
        ("more padding than frame", vec![ok(), raw(frame::DATA, frame::PADDED, 1, &[9, 0])]),
    ];
    for driver in DRIVERS {
        let mut wrong = Vec::new();
        for (name, frames) in &heads {
            let upstream = scripted(bytes(frames), None);
            let gateway =
                start(&manifests(&upstream, ", grpc: true, timeout_ms: 2000"), driver, &[]);
            match ask(&gateway) {
                Ok((502 | 503, false)) => {}
                got => wrong.push(format!("{name}: {got:?}")),
            }
        }
        for (name, frames) in &bodies {
            let upstream = scripted(bytes(frames), None);
            let gateway =
                start(&manifests(&upstream, ", grpc: true, timeout_ms: 2000"), driver, &[]);
            match ask(&gateway) {
                Ok((502 | 503, false) | (_, true)) => {}
                got => wrong.push(format!("{name}: {got:?}")),
            }
        }
        assert!(wrong.is_empty(), "{} on {driver}:\n{}", wrong.len(), wrong.join("\n"));
    }
}

#[test]
fn an_answer_is_the_same_wherever_it_is_split() {
    let script = bytes(&[
        frame::settings(&[(frame::MAX_CONCURRENT_STREAMS, 10)]),
        headers(1).status(103).field("link", "x"),
        ok().field("x-a", "1").unfinished(),
        frame::continuation(1, &headers(1).field("x-b", "2").payload).end_headers(),
        data(1, "hel").padded(3),
        ping(*b"12345678"),
        data(1, "lo"),
        frame::window_update(0, 10),
        headers(1).field("x-end", "3").end_stream(),
    ]);
    for driver in DRIVERS {
        // A connection each: the script ends the first stream's.
        let at = Arc::new(AtomicU64::new(0));
        let (count, answer) = (at.clone(), script.clone());
        let upstream = Upstream::custom(move |socket| {
            let _ = socket.set_nodelay(true);
            let Ok(mut peer) = Peer::server(socket, &[]) else { return };
            let Ok(Some(_)) = peer.request(Instant::now() + PATIENCE) else { return };
            let (one, other) = answer.split_at(count.fetch_add(1, Relaxed) as usize % answer.len());
            let _ = peer.send_bytes(one).and_then(|()| peer.send_bytes(other));
            let _ = peer.send(goaway(1, Code::NO_ERROR));
            // Closing with bytes unread would reset the connection.
            let _ = peer.request(Instant::now() + PATIENCE);
        })
        .unwrap();
        let gateway = start(&manifests(&upstream, ", grpc: true"), driver, &[]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        for n in 0..script.len() as u32 {
            let request = headers(2 * n + 1).request("GET", "/").field("te", "trailers");
            let response = peer.ask(request.end_stream()).unwrap();
            let text = format!("split at {n} on {driver}: {response:?}");
            assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{text}");
            let [a, b] = ["x-a", "x-b"].map(|name| response.header(name));
            assert_eq!((a.as_deref(), b.as_deref()), (Some("1"), Some("2")), "{text}");
            assert_eq!((response.interim.len(), response.trailers.len()), (1, 1), "{text}");
        }
        assert!(at.load(Relaxed) as usize >= script.len());
    }
}

/// RFC 9113 §8.7: what was refused, or lies behind a GOAWAY's last stream, was not acted on.
#[test]
fn requests_that_were_not_acted_on_are_asked_again() {
    for driver in DRIVERS {
        for way in ["refused", "gone away", "gone away and closed"] {
            let served = Arc::new(AtomicU64::new(0));
            let count = served.clone();
            let upstream = Upstream::custom(move |socket| {
                let Ok(mut peer) = Peer::server(socket, &[]) else { return };
                // The first two requests of each connection are served, the third is not.
                for n in 0.. {
                    let Ok(Some((stream, request))) = peer.request(Instant::now() + PATIENCE)
                    else {
                        return;
                    };
                    if n == 2 {
                        let last = stream - 2;
                        let _ = match way {
                            "refused" => peer.send(reset(stream, Code::REFUSED_STREAM)),
                            _ => peer.send(goaway(last, Code::NO_ERROR)),
                        };
                        if way == "gone away and closed" {
                            return;
                        }
                        continue;
                    }
                    count.fetch_add(1, Relaxed);
                    let body = String::from_utf8_lossy(&request.body).into_owned();
                    let answer = [headers(stream).status(200), data(stream, body).end_stream()];
                    if peer.send(answer).is_err() {
                        return;
                    }
                }
            })
            .unwrap();
            let gateway = start(&manifests(&upstream, ", grpc: true"), driver, &[]);
            let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
            for n in 0..20 {
                let stream = 2 * n + 1;
                let body = format!("body {n}");
                let request = headers(stream).request("POST", "/");
                peer.send([request, data(stream, &body).end_stream()]).unwrap();
                let response = peer.response(stream).unwrap();
                let got = (response.status, response.text());
                assert_eq!(got, (200, body), "{n}, {way} on {driver}");
            }
            assert_eq!(served.load(Relaxed), 20, "each once: {way} on {driver}");
        }
    }
}

/// One that refuses what is beyond, which a gateway that has not heard of the limit may ask.
#[test]
fn a_back_end_s_limit_of_streams_costs_no_request() {
    for driver in DRIVERS {
        let refused = Arc::new(AtomicU64::new(0));
        let count = refused.clone();
        let upstream = Upstream::custom(move |socket| {
            let settings = [(frame::MAX_CONCURRENT_STREAMS, 3)];
            let Ok(mut peer) = Peer::server(socket, &settings) else { return };
            let mut open = Vec::new();
            // Answers once nothing more comes for a while.
            loop {
                let sent = match peer.request(Instant::now() + Duration::from_millis(50)) {
                    Ok(Some((stream, _))) if open.len() == 3 => {
                        count.fetch_add(1, Relaxed);
                        peer.send(reset(stream, Code::REFUSED_STREAM))
                    }
                    Ok(Some((stream, _))) => {
                        open.push(stream);
                        Ok(())
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                        peer.send(open.drain(..).map(|n| headers(n).status(200).end_stream()))
                    }
                    Ok(None) | Err(_) => return,
                };
                if sent.is_err() {
                    return;
                }
            }
        })
        .unwrap();
        let gateway = start(&manifests(&upstream, ", grpc: true"), driver, &[]);
        let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        // The gateway learns of the limit with the first answer.
        assert_eq!(peer.ask(headers(1).request("GET", "/").end_stream()).unwrap().status, 200);
        let streams = (1..21).map(|n| 2 * n + 1);
        peer.send(streams.clone().map(|n| headers(n).request("GET", "/").end_stream())).unwrap();
        for n in streams {
            assert_eq!(peer.response(n).unwrap().status, 200, "{n} on {driver}");
        }
        println!("{driver}: {} streams were refused and asked again", refused.load(Relaxed));
    }
}

/// A back end that does to the gateway what clients may do to it.
#[test]
fn floods_of_a_back_end_end_its_connection() {
    let attacks = [
        ("PING", ping([7; 8])),
        ("SETTINGS", frame::settings(&[])),
        ("empty DATA", data(1, "")),
        ("empty CONTINUATION", frame::continuation(1, b"")),
    ];
    for driver in DRIVERS {
        for (name, frame) in attacks.clone() {
            let ended = Arc::new(AtomicU64::new(0));
            let count = ended.clone();
            let upstream = Upstream::custom(move |socket| {
                let Ok(mut peer) = Peer::server(socket, &[]) else { return };
                let Ok(Some(_)) = peer.request(Instant::now() + PATIENCE) else { return };
                let head = if name == "empty CONTINUATION" { ok().unfinished() } else { ok() };
                let _ = peer.send(head);
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_secs(10) {
                    let frames = vec![frame.clone(); 100];
                    if peer.send(frames).is_err() || peer.has_ended().unwrap_or(true) {
                        count.fetch_add(1, Relaxed);
                        return;
                    }
                }
            })
            .unwrap();
            let gateway = start(&manifests(&upstream, ", grpc: true"), driver, &[]);
            let before = gateway.anonymous().unwrap();
            let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
            peer.send(headers(1).request("GET", "/").end_stream()).unwrap();
            let what = format!("{name} on {driver}");
            wait_until(&what, PATIENCE, || ended.load(Relaxed) > 0);
            assert!(gateway.anonymous().unwrap() < before + (8 << 20), "{what}");
        }
    }
}

/// Bytes of the client's preface, for a back end that speaks HTTP/1.1 only.
#[test]
fn a_back_end_that_knows_no_http_2_is_502() {
    for driver in DRIVERS {
        let upstream = Upstream::custom(|mut socket| {
            use std::io::{Read, Write};
            let mut first = [0; PREFACE.len()];
            let _ = socket.read_exact(&mut first);
            assert_eq!(first, *PREFACE);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
        })
        .unwrap();
        let gateway = start(&manifests(&upstream, ", grpc: true"), driver, &[]);
        let status = gateway.get(CLEARTEXT, "/", HOST).unwrap().status;
        assert!(matches!(status, 502 | 503), "{status} on {driver}");
    }
}

/// What an upstream chooses by ALPN is spoken, on each connection anew, and bodies without a length
/// arrive whole either way, at shadows too.
#[test]
fn an_upstream_chooses_its_protocol() {
    let context = "---
apiVersion: getambassador.io/v3alpha1
kind: TLSContext
metadata: {name: up}
spec: {alpn_protocols: \"h2,http/1.1\"}
";
    for driver in DRIVERS {
        for choices in [&["h2"][..], &["http/1.1"], &["h2", "http/1.1"]] {
            let leaf = pki::server("up.example").unwrap();
            let made = AtomicU64::new(0);
            let upstream = Upstream::custom(move |socket| {
                let choice = choices[made.fetch_add(1, Relaxed) as usize % choices.len()];
                let mut config = (*tls::server(&leaf, None).unwrap()).clone();
                config.alpn_protocols = vec![choice.into()];
                match choice {
                    "h2" => echo::echo_tls("a", socket, config.into()),
                    _ => echo_tls("a", socket, config.into()),
                }
            })
            .unwrap();
            let shadow = mapping(
                "shadow",
                &format!("prefix: /, service: \"{}\", tls: up, shadow: true", upstream.address()),
            );
            let all = manifests(&upstream, ", tls: up") + &shadow + context;
            let gateway = start(&all, driver, &[]);
            let mut peer = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
            // Many at once: those that may share a connection wait for the one that is being made.
            let streams: Vec<u32> = (0..10).map(|n| 2 * n + 1).collect();
            let token = format!("alpn-{}-{}", gateway.pid(), choices.len());
            for n in &streams {
                let head = headers(*n).request("POST", "/").field("x-backend-tell", &token);
                peer.send([head, data(*n, "hel")]).unwrap();
            }
            assert!(peer.is_alive().unwrap());
            for n in &streams {
                peer.send(data(*n, "lo").end_stream()).unwrap();
            }
            for n in &streams {
                let response = peer.response(*n).unwrap();
                let place = format!("{choices:?} on {driver}: {response:?}");
                let seen = response.seen().expect(&place);
                let spoken = if seen["version"] == "HTTP/2" { "h2" } else { "http/1.1" };
                assert!(choices.contains(&spoken) && seen["body"] == "hello", "{place}");
            }
            // The copies, too.
            wait_until("all are told", PATIENCE, || told(&token).len() == 20);
            assert!(told(&token).iter().all(|seen| seen["body"] == "hello"), "{:?}", told(&token));
            let connections = upstream.connections();
            match choices {
                // The shadow is a cluster of its own.
                ["h2"] => assert_eq!(connections, 2, "on {driver}"),
                ["http/1.1"] => assert!(connections >= 10, "{connections} on {driver}"),
                _ => assert!(connections >= 2, "{connections} on {driver}"),
            }
        }
    }
}

/// Requests of many clients share a connection: whoever does not read holds up nobody else.
#[test]
fn clients_that_do_not_read_hold_up_no_other() {
    for driver in DRIVERS {
        let back_end = Upstream::echo("a").unwrap();
        // Another gateway: a server whose streams wait each for itself.
        let server = start(&manifests(&back_end, ""), driver, &["--access-log=off"]);
        let to = manifests_to(server.address(CLEARTEXT), ", grpc: true");
        let gateway = start(&to, driver, &["--access-log=off"]);
        let sized = |stream: u32, length: u32| {
            let head = headers(stream).request("GET", "/");
            head.field("x-backend-length", length.to_string()).end_stream()
        };
        let mut stalled = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        stalled.gives_credit = false;
        stalled.send((0..40).map(|n| sized(2 * n + 1, 4 << 20))).unwrap();
        for n in 0..40 {
            let event = stalled.event_of(2 * n + 1).unwrap();
            assert!(matches!(event, Event::Headers { .. }), "{event:?} on {driver}");
        }
        let mut other = Peer::connect(gateway.address(CLEARTEXT)).unwrap();
        for n in 0..100 {
            let response = other.ask(sized(2 * n + 1, 200_000)).unwrap();
            assert_eq!((response.status, response.body.len()), (200, 200_000), "{n} on {driver}");
        }
    }
}

#[test]
fn one_connection_carries_many_requests() {
    for driver in DRIVERS {
        let upstream = echo::upstream("a").unwrap();
        let gateway = start(&manifests(&upstream, ", grpc: true"), driver, &[]);
        let mut clients: Vec<Peer> =
            (0..20).map(|_| Peer::connect(gateway.address(CLEARTEXT)).unwrap()).collect();
        for turn in 0..10 {
            let stream = 2 * turn + 1;
            for client in &mut clients {
                client.send(headers(stream).request("GET", "/").end_stream()).unwrap();
            }
            for client in &mut clients {
                assert_eq!(client.response(stream).unwrap().status, 200);
            }
        }
        assert!(upstream.connections() <= 2, "{} on {driver}", upstream.connections());
    }
}
