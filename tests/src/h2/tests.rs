// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpListener};

use super::frame::{self, Code, data, headers, ping, raw, window_update};
use super::*;
use crate::upstream::{Upstream, digest, pattern};
use crate::{outside, pki};

fn pair(settings: &[(u16, u32)]) -> (Peer, Peer) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let client = Peer::client(client, settings).unwrap();
    (client, Peer::server(listener.accept().unwrap().0, &[]).unwrap())
}

fn request(server: &mut Peer) -> (u32, Request) {
    server.request(Instant::now() + PATIENCE).unwrap().unwrap()
}

#[test]
fn an_exchange_reads_as_it_is_written() {
    let (mut client, mut server) = pair(&[]);
    client.send([headers(1).request("POST", "/x"), data(1, "hel").padded(7)]).unwrap();
    client.send([data(1, "lo"), headers(1).field("x-end", "1").end_stream()]).unwrap();
    let (stream, request) = request(&mut server);
    assert_eq!((stream, &request.method[..], &request.target[..]), (1, "POST", "/x"));
    assert_eq!(request.body, b"hello");
    assert_eq!(request.trailers, [("x-end".to_owned(), "1".to_owned())]);
    server.send([headers(1).status(103), headers(1).status(200), data(1, "ok")]).unwrap();
    server.send(headers(1).field("x-last", "2").end_stream()).unwrap();
    let response = client.response(1).unwrap();
    assert_eq!((response.status, &response.interim[..]), (200, &[103][..]));
    assert_eq!((response.text().as_str(), response.trailers.len()), ("ok", 1));
}

#[test]
fn long_heads_and_bodies_go_in_several_frames() {
    let (mut client, mut server) = pair(&[]);
    let long = "v".repeat(40_000);
    let body = pattern(300_000);
    client.send(headers(1).request("PUT", "/").field("x-long", &long)).unwrap();
    let other = std::thread::spawn(move || (request(&mut server), server));
    client.body(1, &body).unwrap();
    client.send(data(1, "").end_stream()).unwrap();
    let ((_, request), _server) = other.join().unwrap();
    assert_eq!(request.header("x-long"), Some(long));
    assert_eq!(digest(&request.body), digest(&body));
}

#[test]
fn ends_have_names() {
    let (mut client, mut server) = pair(&[]);
    for stream in [1, 3, 5, 7] {
        client.send(headers(stream).request("GET", "/").end_stream()).unwrap();
        request(&mut server);
    }
    server.send(frame::reset(3, Code::CANCEL)).unwrap();
    server.send(headers(1).status(404).end_stream()).unwrap();
    server.send(frame::goaway(5, Code::ENHANCE_YOUR_CALM)).unwrap();
    assert_eq!(client.outcome(1).unwrap(), Outcome::Answered(404));
    assert_eq!(client.outcome(3).unwrap(), Outcome::Reset(Code::CANCEL));
    assert_eq!(client.outcome(7).unwrap(), Outcome::GoneAway(Code::ENHANCE_YOUR_CALM));
    assert_eq!(client.farewell().unwrap(), Some(Code::ENHANCE_YOUR_CALM));
    let (mut client, server) = pair(&[]);
    drop(server);
    assert_eq!(client.outcome(1).unwrap(), Outcome::Closed);
}

#[test]
fn what_may_not_be_is_an_error() {
    let bad: [Vec<Frame>; 8] = [
        vec![headers(1).status(200).field("X-Upper", "1")],
        vec![headers(1).status(200).field("connection", "close")],
        vec![headers(1).field("x", "1").status(200)],
        vec![headers(1).status(200).field("x", "1\r\nx-more: 2")],
        vec![headers(1).status(200).unfinished(), ping([0; 8])],
        vec![frame::continuation(1, b"").end_headers()],
        vec![headers(1).status(200), raw(frame::DATA, frame::PADDED, 1, &[9, 0])],
        // More than the window of 10.
        vec![headers(1).status(200), data(1, "eleven byte")],
    ];
    for frames in bad {
        let (mut client, mut server) = pair(&[(frame::INITIAL_WINDOW_SIZE, 10)]);
        client.send(headers(1).request("GET", "/").end_stream()).unwrap();
        request(&mut server);
        server.send(frames.clone()).unwrap();
        let error = client.outcome(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{frames:?}: {error}");
    }
}

#[test]
fn bodies_wait_for_their_windows() {
    let (mut client, mut server) = pair(&[(frame::INITIAL_WINDOW_SIZE, 5)]);
    client.gives_credit = false;
    client.send(headers(1).request("GET", "/").end_stream()).unwrap();
    request(&mut server);
    server.send(headers(1).status(200)).unwrap();
    let other = std::thread::spawn(move || server.body(1, b"hello, world").map(|()| server));
    assert!(matches!(client.event().unwrap(), Event::Headers { .. }));
    let Event::Data { bytes, .. } = client.event().unwrap() else { panic!("no data") };
    assert_eq!(bytes, b"hello");
    client.allow(1, 7).unwrap();
    let Event::Data { bytes, .. } = client.event().unwrap() else { panic!("no data") };
    assert_eq!(bytes, b", world");
    let mut server = other.join().unwrap().unwrap();
    // The end of the connection ends the wait.
    let other = std::thread::spawn(move || server.body(1, &[0; 70_000]));
    client.send(window_update(0, 1)).unwrap();
    drop(client);
    assert!(other.join().unwrap().is_err());
}

#[test]
fn curl_talks_with_the_echo_over_both() {
    let cleartext = echo::upstream("a").unwrap();
    let config = tls_server(&pki::server("h2.example").unwrap()).unwrap();
    let secure =
        Upstream::custom(move |socket| echo::echo_tls("b", socket, config.clone())).unwrap();
    let fetch = |arguments: &[&str], url: &str| {
        let fetched = outside::curl(&[arguments, &["--data", "hello", url]].concat()).unwrap();
        assert_eq!(fetched.facts["http_version"], "2", "{fetched:?}");
        let seen: serde_json::Value = serde_json::from_str(&fetched.body).unwrap();
        assert_eq!((&seen["body"], &seen["target"]), (&"hello".into(), &"/x".into()));
        seen["backend"].as_str().unwrap().to_owned()
    };
    let url = format!("http://{}/x", cleartext.address());
    assert_eq!(fetch(&["--http2-prior-knowledge"], &url), "a");
    let url = format!("https://{}/x", secure.address());
    assert_eq!(fetch(&["--http2", "--insecure"], &url), "b");
    let mut client = Peer::connect_tls(secure.address(), "h2.example").unwrap();
    let request = headers(1).request("GET", "/y").field("x-backend-length", "200000").end_stream();
    assert_eq!(client.ask(request).unwrap().body, pattern(200_000));
    let interim = headers(3)
        .request("GET", "/")
        .fields([("x-backend-interim", "103"), ("x-backend-trailer", "x-end=1")])
        .end_stream();
    let response = client.ask(interim).unwrap();
    assert_eq!((response.interim.len(), response.trailers.len()), (1, 1));
    let reset = headers(5).request("GET", "/").field("x-backend-reset", "8").end_stream();
    client.send(reset).unwrap();
    assert_eq!(client.outcome(5).unwrap(), Outcome::Reset(Code::CANCEL));
    assert!(client.is_alive().unwrap());
    assert!(!client.has_ended().unwrap());
}
