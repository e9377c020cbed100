// SPDX-License-Identifier: Apache-2.0
//! Back ends: one that answers what it saw, and any other that a test writes as a function of a
//! socket.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;
use serde_json::{Value, json};

use crate::head::{Fields, Reader, joined, malformed};
use crate::tls::{self, Handshake, Stream};

/// A listening socket with a thread per connection. Stops accepting when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    listener: TcpListener,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
}

impl Upstream {
    /// Serves every connection with `serve`, each on its own thread.
    pub fn start(
        address: impl Into<SocketAddr>,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address.into())?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicU64::new(0));
        let accept = listener.try_clone()?;
        let (stopped, counted) = (stop.clone(), connections.clone());
        let serve = Arc::new(serve);
        thread::spawn(move || {
            while let Ok((stream, _)) = accept.accept() {
                if stopped.load(Relaxed) {
                    return;
                }
                counted.fetch_add(1, Relaxed);
                // What is written in two pieces is not held back for the first one's acknowledgement.
                let _ = stream.set_nodelay(true);
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { address, listener, stop, connections })
    }

    /// An echoing back end on a fresh address.
    pub fn echo(name: &str) -> io::Result<Self> {
        let name = name.to_owned();
        let address = SocketAddr::from((crate::address::fresh(), 8000));
        Self::start(address, move |stream| echo(&name, stream))
    }

    /// One on a fresh address, written as a function of its socket.
    pub fn custom(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> io::Result<Self> {
        Self::start(SocketAddr::from((crate::address::fresh(), 8000)), serve)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // SAFETY: shuts down a descriptor that we own, which ends the accept.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RD) };
    }
}

/// A request as a back end saw it.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<String> {
        joined(&self.fields, name)
    }
}

/// Reads one request strictly; `None` at a clean end.
pub fn request(reader: &mut Reader) -> io::Result<Option<Request>> {
    let mut body = Vec::new();
    let request = request_to(reader, &mut |bytes| body.extend_from_slice(bytes))?;
    Ok(request.map(|request| Request { body, ..request }))
}

/// Reads one request strictly; its body goes to `sink` as it comes.
pub fn request_to(reader: &mut Reader, sink: &mut dyn FnMut(&[u8])) -> io::Result<Option<Request>> {
    let Some((start, fields)) = reader.head()? else { return Ok(None) };
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, version] = parts[..] else {
        return Err(malformed(format!("a bad request line: {start:?}")));
    };
    if joined(&fields, "expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue")) {
        reader.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut trailers = Fields::new();
    match (joined(&fields, "transfer-encoding"), joined(&fields, "content-length")) {
        (Some(_), Some(_)) => return Err(malformed("two framings")),
        (Some(coding), None) if coding == "chunked" => trailers = reader.chunked(sink)?,
        (Some(coding), None) => return Err(malformed(format!("Transfer-Encoding: {coding}"))),
        (None, Some(length)) => {
            let n = length.parse().map_err(|_| malformed(format!("length {length:?}")))?;
            reader.exactly(n, sink)?;
        }
        (None, None) => {}
    }
    Ok(Some(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        fields,
        body: Vec::new(),
        trailers,
    }))
}

static TOLD: Mutex<Vec<(String, Value)>> = Mutex::new(Vec::new());

/// What echoing back ends saw of requests with `x-backend-tell: token`: for those whose answers
/// nobody gets.
pub fn told(token: &str) -> Vec<Value> {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.iter().filter(|(t, _)| t == token).map(|(_, seen)| seen.clone()).collect()
}

/// Answers every request with what it saw, as JSON. Request headers steer it, as [`Answer`] says,
/// and: `x-backend-delay-ms: 50`, `x-backend-never` (no answer at all), `x-backend-stall` (an answer
/// that stops in its middle), `x-backend-close` (closes after the answer), `x-backend-quits` (the
/// same without a word), `x-backend-hangs-up: reused` (no answer on a connection that has served
/// before; with a back end's name: on none of its connections), `x-backend-unframed: ends` (an
/// answer up to the end of the connection; with `breaks` TLS does not say that this is the end).
pub fn echo(name: &str, stream: impl Into<Stream>) {
    let mut reader = Reader::new(stream);
    let port = reader.stream.socket().local_addr().map_or(0, |address| address.port());
    let mut served = false;
    // Bounded by the connection: it ends with the client's.
    while let Ok(Some(request)) = request(&mut reader) {
        match request.header("x-backend-hangs-up") {
            Some(when) if when == name || (when == "reused" && served) => return,
            _ => served = true,
        }
        match answer(name, port, &request, &mut reader) {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

/// [`echo`] over TLS. A client that this configuration refuses gets nothing more.
pub fn echo_tls(name: &str, socket: TcpStream, config: Arc<ServerConfig>) {
    if let Ok(stream) = tls::accept(socket, config) {
        echo(name, stream);
    }
}

/// Answers every line with `name: line`, and the end of the client's side with `name: end`.
pub fn lines(name: &str, stream: impl Into<Stream>) {
    let mut stream = BufReader::new(stream.into());
    let mut line = Vec::new();
    // Bounded by the connection: it ends with the client's.
    loop {
        line.clear();
        match stream.read_until(b'\n', &mut line) {
            Ok(0) => {
                let _ = stream.get_mut().write_all(format!("{name}: end\n").as_bytes());
                let _ = stream.get_mut().finish();
                return;
            }
            Ok(_) => {
                let answer = [name.as_bytes(), b": ", &line].concat();
                if stream.get_mut().write_all(&answer).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Whether the connection goes on.
fn answer(name: &str, port: u16, request: &Request, reader: &mut Reader) -> io::Result<bool> {
    if request.header("x-backend-never").is_some() {
        // Until the gateway gives up.
        reader.rest(&mut |_| {})?;
        return Ok(false);
    }
    if let Some(delay) = request.header("x-backend-delay-ms") {
        thread::sleep(Duration::from_millis(delay.parse().unwrap_or(0)));
    }
    if request.header("x-backend-stall").is_some() {
        reader.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")?;
        reader.rest(&mut |_| {})?;
        return Ok(false);
    }
    let answer = Answer::to(name, port, request, reader.stream.handshake());
    for status in &answer.interim {
        let head = format!("HTTP/1.1 {status} Interim\r\nx-interim: {status}\r\n\r\n");
        reader.stream.write_all(head.as_bytes())?;
    }
    let mut head = format!("HTTP/1.1 {} Echo\r\n", answer.status);
    for (name, value) in &answer.fields {
        head += &format!("{name}: {value}\r\n");
    }
    let mut close = request.header("x-backend-close").is_some();
    if close {
        head += "connection: close\r\n";
    }
    let unframed = request.header("x-backend-unframed");
    let quits = request.header("x-backend-quits").is_some();
    if quits {
        cork(reader.stream.socket());
    }
    close |= unframed.is_some() || quits;
    let bodiless = matches!(answer.status, 204 | 304);
    let chunked = !answer.sized && !bodiless;
    if chunked {
        head += "transfer-encoding: chunked\r\n";
    } else if !bodiless && unframed.is_none() {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    if request.method != "HEAD" && chunked {
        for chunk in answer.body.chunks(8_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n");
        for (name, value) in &answer.trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
    } else if request.method != "HEAD" && !bodiless {
        bytes.extend_from_slice(&answer.body);
    }
    reader.stream.write_all(&bytes)?;
    if unframed.is_some_and(|how| how == "ends") {
        reader.stream.finish()?;
    }
    Ok(!close)
}

/// What an echoing back end answers, whatever it speaks. Request headers steer it:
/// `x-backend-status: 503`, `x-backend-header: name=value` (any number), `x-backend-trailer:
/// name=value` (any number), `x-backend-interim: 103` (an answer of that status first),
/// `x-backend-length: 1000` (so many bytes of [`pattern`] for a body), `x-backend-unsized` (a body
/// whose length is not said first), `x-backend-tell: token` (see [`told`]).
#[derive(Debug)]
pub struct Answer {
    pub interim: Vec<u16>,
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// Whether the body's length is said first.
    pub sized: bool,
}

impl Answer {
    pub fn to(name: &str, port: u16, request: &Request, tls: Option<Handshake>) -> Self {
        let pairs = |fields: &Fields| -> Vec<Value> {
            fields.iter().map(|(name, value)| json!([name, value])).collect()
        };
        let mut seen = json!({
            "backend": name, "port": port, "method": request.method, "target": request.target,
            "version": request.version, "fields": pairs(&request.fields),
            "trailers": pairs(&request.trailers),
            "body": String::from_utf8_lossy(&request.body),
            "tls": tls.map(|tls| json!({
                "server_name": tls.server_name, "version": tls.version, "suite": tls.suite,
                "alpn": tls.alpn, "client": tls.certificate(),
            })),
        });
        if request.body.len() > BODY_ECHO_MAX {
            seen["body"] = json!(digest(&request.body));
        }
        if let Some(token) = request.header("x-backend-tell") {
            let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
            told.push((token, seen.clone()));
        }
        let steered = |wanted: &'static str| {
            let lines = request.fields.iter().filter(move |(name, _)| name == wanted);
            lines.map(|(_, line)| line.split_once('=').unwrap_or((line, "")))
        };
        let own = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        let mut fields: Fields = steered("x-backend-header").map(own).collect();
        if joined(&fields, "content-type").is_none() {
            fields.insert(0, own(("content-type", "application/json")));
        }
        let trailers: Fields = steered("x-backend-trailer").map(own).collect();
        let number = |name: &str| request.header(name).and_then(|text| text.parse().ok());
        let status = number("x-backend-status").unwrap_or(200);
        Self {
            interim: number("x-backend-interim").into_iter().map(|n| n as u16).collect(),
            status: status as u16,
            fields,
            body: match number("x-backend-length") {
                Some(length) => pattern(length),
                None => seen.to_string().into_bytes(),
            },
            sized: trailers.is_empty() && request.header("x-backend-unsized").is_none(),
            trailers,
        }
    }
}

/// Longer bodies are told by their [`digest`].
const BODY_ECHO_MAX: usize = 1 << 20;

/// Bytes that differ wherever they are.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// A body's length and FNV-1a, as text.
pub fn digest(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{} bytes, {sum:016x}", bytes.len())
}

/// What is written next leaves together with the end.
pub(crate) fn cork(socket: &TcpStream) {
    let on: libc::c_int = 1;
    // SAFETY: an option of a descriptor that we own, from a value that outlives the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CORK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// A socket that never completes a connection: its backlog is full. Connects to it hang.
#[derive(Debug)]
pub struct Hole {
    _listener: TcpListener,
    _clients: Vec<TcpStream>,
}

impl Hole {
    pub fn start(ip: Ipv4Addr, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, port))?;
        // SAFETY: lowers the backlog of a descriptor that we own.
        unsafe { libc::listen(listener.as_raw_fd(), 0) };
        let address = listener.local_addr()?;
        let mut clients = Vec::new();
        // A backlog of 0 holds one connection, some kernels two; beyond, connects time out.
        while clients.len() < 8 {
            match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(client) => clients.push(client),
                Err(_) => return Ok(Self { _listener: listener, _clients: clients }),
            }
        }
        Err(io::Error::other("the backlog does not fill"))
    }
}
