// SPDX-License-Identifier: Apache-2.0
//! A small HTTP/1.1 server for the admin ports: GET, HEAD and POST, no bodies in, everything bounded.
//!
//! It runs on the sync side's tokio, never on a worker. Answers marked slow are made on a thread
//! of their own, so that a health check never waits for a scrape.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringway_core::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A request for the admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Percent-decoded.
    pub path: String,
    /// Percent-decoded pairs, in order.
    pub query: Vec<(String, String)>,
    pub peer: SocketAddr,
    pub is_post: bool,
    /// A browser sent it for a page that is not ours. Nothing may change by it.
    pub is_foreign: bool,
}

impl Request {
    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// An answer of the admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let body = body.into().into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }

    pub fn html(body: String) -> Self {
        Self { status: 200, content_type: "text/html; charset=utf-8", body: body.into_bytes() }
    }

    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
        body.push(b'\n');
        Self { status, content_type: "application/json", body }
    }
}

/// Who answers.
pub trait Service: Send + Sync + 'static {
    /// Answers that take microseconds; `None` sends the request to [`Service::slow`].
    fn quick(&self, request: &Request) -> Option<Response>;

    /// Ask on a new connection next time: another process answers there.
    fn is_leaving(&self) -> bool {
        false
    }

    /// All other answers; called on a thread that may block.
    fn slow(&self, request: &Request) -> Response;
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, service: Arc<impl Service>) {
    let connections = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
    loop {
        let (stream, peer, permit) = accept(&listener, &connections).await;
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            // The peer's faults end its connection and concern nobody else.
            let _ = connection(stream, peer, service).await;
            drop(permit);
        });
    }
}

/// The next connection that there is room for; others are closed.
pub(crate) async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, most likely: the next try comes a little later.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
            return (stream, peer, permit);
        }
    }
}

async fn connection(
    mut stream: TcpStream,
    peer: SocketAddr,
    service: Arc<impl Service>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let head = match timeout(limits::ADMIN_TIMEOUT, read_head(&mut stream, &mut buffer)).await {
            Ok(head) => head?,
            Err(_) => return Ok(()),
        };
        let Some(length) = head else { return Ok(()) };
        let parsed = parse(&buffer[..length], peer);
        buffer.drain(..length);
        let (response, head_only, keep_alive) = match parsed {
            Ok(parsed) => {
                let response = match service.quick(&parsed.request) {
                    Some(response) => response,
                    None => slow(&service, parsed.request).await,
                };
                (response, parsed.head_only, parsed.keep_alive)
            }
            Err(status) => (Response::text(status, "bad request\n"), false, false),
        };
        let keep_alive = keep_alive && !service.is_leaving();
        let bytes = encode(&response, head_only, keep_alive);
        match timeout(limits::ADMIN_TIMEOUT, stream.write_all(&bytes)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
        if !keep_alive {
            return stream.shutdown().await;
        }
    }
}

async fn slow(service: &Arc<impl Service>, request: Request) -> Response {
    let service = Arc::clone(service);
    match tokio::task::spawn_blocking(move || service.slow(&request)).await {
        Ok(response) => response,
        Err(_) => Response::text(500, "internal error\n"),
    }
}

/// Reads until a head is complete; gives its length, or `None` at the end of the connection.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if buffer.len() >= limits::ADMIN_HEAD_BYTES_MAX {
            // Too large to be one of ours: what is there will not parse, which answers 400.
            return Ok(Some(buffer.len()));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

#[derive(Debug)]
struct Parsed {
    request: Request,
    head_only: bool,
    keep_alive: bool,
}

/// Parses a head; the error is the status to answer.
fn parse(head: &[u8], peer: SocketAddr) -> Result<Parsed, u16> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(400),
    }
    let (head_only, is_post) = match parsed.method {
        Some("GET") => (false, false),
        Some("HEAD") => (true, false),
        Some("POST") => (false, true),
        _ => return Err(405),
    };
    let mut keep_alive = parsed.version == Some(1);
    let (mut host, mut origin, mut site) = ("", None, None);
    for field in parsed.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") && field.value != b"0" || is("transfer-encoding") {
            return Err(413);
        }
        if is("connection") && field.value.eq_ignore_ascii_case(b"close") {
            keep_alive = false;
        }
        let text = std::str::from_utf8(field.value).unwrap_or_default();
        match () {
            () if is("host") => host = text,
            () if is("origin") => origin = Some(text),
            () if is("sec-fetch-site") => site = Some(text),
            () => {}
        }
    }
    let target = parsed.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(&name.replace('+', " ")), percent_decode(&value.replace('+', " ")))
        })
        .collect();
    let is_foreign = is_foreign(host, origin, site);
    let request = Request { path: percent_decode(path), query, peer, is_post, is_foreign };
    Ok(Parsed { request, head_only, keep_alive })
}

/// Whether a page of another site makes a browser ask this. Browsers name the page's origin, or how
/// it relates to whom they ask (Fetch Metadata); a name that somebody else lets lead here is no name
/// of ours. What is no browser says neither.
fn is_foreign(host: &str, origin: Option<&str>, site: Option<&str>) -> bool {
    if origin.is_none() && site.is_none() {
        return false;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_named_so = name == "localhost" || address.is_ok();
    let is_own_origin = origin.is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    let is_own_site = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    !(is_named_so && is_own_origin && is_own_site)
}

/// Replaces `%xx`; leaves malformed escapes as they are and invalid UTF-8 as U+FFFD.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%'
            && let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2))
        {
            out.push((high * 16 + low) as u8);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(response: &Response, head_only: bool, keep_alive: bool) -> Vec<u8> {
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: \
         no-store\r\nx-content-type-options: nosniff\r\n{}\r\n",
        response.status,
        response.content_type,
        response.body.len(),
        if keep_alive { "" } else { "connection: close\r\n" },
    )
    .into_bytes();
    if !head_only {
        bytes.extend_from_slice(&response.body);
    }
    bytes
}

#[cfg(test)]
mod tests;
