// SPDX-License-Identifier: Apache-2.0
//! The echoing back end of [`crate::upstream`], over HTTP/2.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::Peer;
use super::frame::{Code, ENABLE_CONNECT_PROTOCOL, Frame, data, goaway, headers, reset};
use crate::PATIENCE;
use crate::tls::{self, Stream};
use crate::upstream::{Answer, Request, Upstream, cork};

/// One on a fresh address, by prior knowledge.
pub fn upstream(name: &str) -> io::Result<Upstream> {
    let name = name.to_owned();
    let address = SocketAddr::from((crate::address::fresh(), 8000));
    Upstream::start(address, move |socket| echo(&name, socket))
}

/// Answers every request with what it saw, steered as [`crate::upstream::echo`] is; its fields
/// have `:scheme` and `:authority` among them. Besides: `x-backend-reset: 8` (the stream ends with
/// this code instead of an answer). `x-backend-close` says GOAWAY behind the answer. Bodies of
/// answers wait for their window; nothing else is served meanwhile. A request for another protocol
/// opens a tunnel in which nothing is said.
pub fn echo(name: &str, stream: impl Into<Stream>) {
    if let Ok(peer) = Peer::server(stream, &[(ENABLE_CONNECT_PROTOCOL, 1)]) {
        // Its end is the connection's, which the gateway sees.
        let _ = serve(name, peer);
    }
}

/// [`echo`] over TLS.
pub fn echo_tls(name: &str, socket: TcpStream, config: Arc<ServerConfig>) {
    if let Ok(stream) = tls::accept(socket, config) {
        echo(name, stream);
    }
}

fn serve(name: &str, mut peer: Peer) -> io::Result<()> {
    let mut later: Vec<(Instant, u32, Request)> = Vec::new();
    let (mut last, mut served) = (0, false);
    // Bounded by the connection: it ends with the client's.
    loop {
        let deadline = later.iter().map(|(due, ..)| *due).min();
        match peer.request(deadline.unwrap_or_else(|| Instant::now() + PATIENCE)) {
            Ok(Some((stream, request))) => {
                last = last.max(stream);
                let delay = request.header("x-backend-delay-ms").and_then(|ms| ms.parse().ok());
                let due = Instant::now() + Duration::from_millis(delay.unwrap_or(0));
                later.push((due, stream, request));
            }
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let (due, rest) = later.into_iter().partition(|(due, ..)| *due <= now);
        later = rest;
        for (_, stream, request) in due {
            let hangs_up = request
                .header("x-backend-hangs-up")
                .is_some_and(|when| when == name || (when == "reused" && served));
            if hangs_up {
                return Ok(());
            }
            served = true;
            let quits = request.header("x-backend-quits").is_some();
            if quits {
                cork(peer.socket());
            }
            // A stream that was reset meanwhile concerns no other.
            match answer(name, &mut peer, stream, &request) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
            if quits {
                return Ok(());
            }
            if request.header("x-backend-close").is_some() {
                peer.send(goaway(last, Code::NO_ERROR))?;
            }
        }
    }
}

fn answer(name: &str, peer: &mut Peer, stream: u32, request: &Request) -> io::Result<()> {
    if request.header("x-backend-never").is_some() {
        return Ok(());
    }
    if let Some(code) = request.header("x-backend-reset").and_then(|code| code.parse().ok()) {
        return peer.send(reset(stream, Code(code)));
    }
    if request.header("x-backend-stall").is_some() {
        let head = headers(stream).status(200).field("content-length", "100");
        return peer.send([head, data(stream, "half")]);
    }
    let port = peer.socket().local_addr().map_or(0, |address| address.port());
    let answer = Answer::to(name, port, request, peer.handshake());
    for status in &answer.interim {
        peer.send(headers(stream).status(*status).field("x-interim", status.to_string()))?;
    }
    if request.header(":protocol").is_some() && answer.status / 100 == 2 {
        return peer.send(headers(stream).status(answer.status));
    }
    let bodiless = request.method == "HEAD" || matches!(answer.status, 204 | 304);
    let head = with(headers(stream).status(answer.status), &answer.fields);
    let head = match answer.sized && !matches!(answer.status, 204 | 304) {
        true => head.field("content-length", answer.body.len().to_string()),
        false => head,
    };
    if bodiless || (answer.body.is_empty() && answer.trailers.is_empty()) {
        return peer.send(head.end_stream());
    }
    peer.send(head)?;
    peer.body(stream, &answer.body)?;
    match answer.trailers.is_empty() {
        true => peer.send(data(stream, "").end_stream()),
        false => peer.send(with(headers(stream), &answer.trailers).end_stream()),
    }
}

fn with(frame: Frame, fields: &[(String, String)]) -> Frame {
    frame.fields(fields.iter().map(|(name, value)| (&name[..], &value[..])))
}
