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
use crate::tls::{self, Stream};

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
    match (joined(&fields, "transfer-encoding"), joined(&fields, "content-length")) {
        (Some(_), Some(_)) => return Err(malformed("two framings")),
        (Some(coding), None) if coding == "chunked" => {
            reader.chunked(sink)?;
        }
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
    }))
}

static TOLD: Mutex<Vec<(String, Value)>> = Mutex::new(Vec::new());

/// What echoing back ends saw of requests with `x-backend-tell: token`: for those whose answers
/// nobody gets.
pub fn told(token: &str) -> Vec<Value> {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.iter().filter(|(t, _)| t == token).map(|(_, seen)| seen.clone()).collect()
}

/// Answers every request with what it saw, as JSON. Request headers steer it:
/// `x-backend-status: 503`, `x-backend-header: name=value` (any number), `x-backend-delay-ms: 50`,
/// `x-backend-never` (no answer at all), `x-backend-stall` (an answer that stops in its middle),
/// `x-backend-close` (closes after the answer), `x-backend-quits` (the same without a word),
/// `x-backend-hangs-up: reused` (no answer on a connection that has served before; with a back
/// end's name: on none of its connections), `x-backend-unframed: ends` (an answer up to the end of
/// the connection; with `breaks` TLS does not say that this is the end), `x-backend-tell: token`
/// (see [`told`]).
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
    let status = request.header("x-backend-status").unwrap_or_else(|| "200".into());
    let fields: Vec<Value> = request.fields.iter().map(|(n, v)| json!([n, v])).collect();
    let seen = json!({
        "backend": name, "port": port, "method": request.method, "target": request.target,
        "version": request.version, "fields": fields,
        "body": String::from_utf8_lossy(&request.body),
        "tls": reader.stream.handshake().map(|tls| json!({
            "server_name": tls.server_name, "version": tls.version, "suite": tls.suite,
            "alpn": tls.alpn, "client": tls.certificate(),
        })),
    });
    if let Some(token) = request.header("x-backend-tell") {
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        told.push((token, seen.clone()));
    }
    let body = seen.to_string();
    let mut head = format!("HTTP/1.1 {status} Echo\r\ncontent-type: application/json\r\n");
    for (_, line) in request.fields.iter().filter(|(n, _)| n == "x-backend-header") {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
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
    let bodiless = matches!(status.as_str(), "204" | "304");
    if !bodiless && unframed.is_none() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    if !bodiless && request.method != "HEAD" {
        bytes.extend_from_slice(body.as_bytes());
    }
    reader.stream.write_all(&bytes)?;
    if unframed.is_some_and(|how| how == "ends") {
        reader.stream.finish()?;
    }
    Ok(!close)
}

/// What is written next leaves together with the end.
fn cork(socket: &TcpStream) {
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
