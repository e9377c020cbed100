// SPDX-License-Identifier: Apache-2.0
//! Load and its back end, each one thread around `poll`, so that a test on two cores measures the
//! gateway and not its own threads. Every answer is checked.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Waits until one of these sockets is readable, 10 ms at most.
fn poll(sockets: &mut [libc::pollfd]) {
    // SAFETY: the slice outlives the call and its length is given.
    unsafe { libc::poll(sockets.as_mut_ptr(), sockets.len() as libc::nfds_t, 10) };
}

fn interest(socket: &impl AsRawFd) -> libc::pollfd {
    libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Bytes up to and including the empty line, if they are all there.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Connections that a back end serves at a time: others wait in the listener's queue, so that one
/// that falls behind leaves the test its descriptors.
const SERVED_MAX: usize = 8192;

/// Half of a held download.
const HALF: usize = 1000;

/// Answers `ok` to every request without a body, or as many bytes as it asks for in
/// `x-backend-length`; a request for `/hold` gets half of its answer at once and the rest after
/// [`Backend::release`]; one with `x-backend-never` or a body of chunks gets nothing, nor what comes
/// behind it.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    release: Arc<AtomicBool>,
    held: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    listener: TcpListener,
}

impl Backend {
    pub fn start() -> std::io::Result<Self> {
        Self::start_at(SocketAddr::from((crate::address::fresh(), 8000)))
    }

    /// One at a given address: one that comes back.
    pub fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        // SAFETY: raises the backlog of a descriptor that we own: thousands may come at once.
        unsafe { libc::listen(listener.as_raw_fd(), 4096) };
        listener.set_nonblocking(true)?;
        let kept = listener.try_clone()?;
        let address = listener.local_addr()?;
        let (stop, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let held = Arc::new(AtomicU64::new(0));
        let shared = (stop.clone(), release.clone(), held.clone());
        let thread = std::thread::spawn(move || serve(&listener, &shared.0, &shared.1, &shared.2));
        Ok(Self { address, stop, release, held, thread: Some(thread), listener: kept })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Downloads that wait for their second half.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Lets held downloads finish.
    pub fn release(&self) {
        self.release.store(true, Relaxed);
    }
}

/// Ends all connections at once, whatever is under way on them.
impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // SAFETY: shuts down a descriptor that we own, which wakes the thread.
        unsafe { libc::shutdown(self.listener.as_raw_fd(), libc::SHUT_RDWR) };
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Served {
    stream: TcpStream,
    buffer: Vec<u8>,
    held: bool,
    silent: bool,
    unsent: Vec<u8>,
}

fn serve(listener: &TcpListener, stop: &AtomicBool, release: &AtomicBool, held: &AtomicU64) {
    let mut connections: Vec<Served> = Vec::new();
    while !stop.load(Relaxed) {
        let mut sockets = vec![interest(listener)];
        sockets.extend(connections.iter().map(|c| {
            let more = if c.unsent.is_empty() { 0 } else { libc::POLLOUT };
            let socket = interest(&c.stream);
            libc::pollfd { events: socket.events | more, ..socket }
        }));
        poll(&mut sockets);
        if release.load(Relaxed) {
            for connection in connections.iter_mut().filter(|c| c.held) {
                let _ = connection.stream.write_all(&[b'2'; HALF]);
                connection.held = false;
                held.fetch_sub(1, Relaxed);
            }
        }
        let mut ready = sockets[1..].iter().map(|socket| socket.revents != 0);
        connections.retain_mut(|connection| {
            !ready.next().unwrap_or(false) || answer(connection, held).is_ok()
        });
        while connections.len() < SERVED_MAX
            && let Ok((stream, _)) = listener.accept()
        {
            let _ = stream.set_nodelay(true);
            if stream.set_nonblocking(true).is_ok() {
                let (buffer, unsent) = (Vec::new(), Vec::new());
                connections.push(Served { stream, buffer, held: false, silent: false, unsent });
            }
        }
    }
}

/// Answers all whole requests that have come; an error ends the connection.
fn answer(connection: &mut Served, held: &AtomicU64) -> std::io::Result<()> {
    fill(&mut connection.stream, &mut connection.buffer)?;
    if connection.silent {
        connection.buffer.clear();
    }
    while let Some(end) = head_end(&connection.buffer) {
        let head = String::from_utf8_lossy(&connection.buffer[..end]);
        let hold = head.starts_with("GET /hold");
        let never =
            head.contains("\r\nx-backend-never:") || head.contains("\r\ntransfer-encoding:");
        let length = head.split("\r\nx-backend-length: ").nth(1);
        let length = length.and_then(|rest| rest.split('\r').next()?.parse::<usize>().ok());
        connection.buffer.drain(..end);
        if never {
            connection.silent = true;
            connection.buffer.clear();
        } else if let Some(length) = length {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            connection.unsent.extend_from_slice(head.as_bytes());
            connection.unsent.resize(connection.unsent.len() + length, b'x');
        } else if hold {
            let length = 2 * HALF;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            connection.stream.write_all(head.as_bytes())?;
            connection.stream.write_all(&[b'1'; HALF])?;
            connection.held = true;
            held.fetch_add(1, Relaxed);
        } else {
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    }
    while !connection.unsent.is_empty() {
        match connection.stream.write(&connection.unsent) {
            Ok(n) => drop(connection.unsent.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what is there; the end of the stream is an error.
fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut chunk = [0; 8192];
    match stream.read(&mut chunk) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(n) => {
            buffer.extend_from_slice(&chunk[..n]);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// What a load saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Complete 200 answers.
    pub answers: u64,
    /// Everything else, worded; the first hundred.
    pub errors: Vec<String>,
    /// Answers of another status, the error's reason.
    pub failed: u64,
    /// Answers by the value of the noted header.
    pub noted: BTreeMap<String, u64>,
    /// Connections that the gateway ended after an answer that said so.
    pub closed: u64,
    /// Connections that could not be made anew.
    pub refused: u64,
}

impl Outcome {
    /// Whether many requests met each of so many events: a measure that does not know how fast the
    /// machine is.
    pub fn is_a_load_for(&self, events: u64) -> bool {
        self.answers >= 20 * events
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Plan {
    pub to: SocketAddr,
    pub connections: usize,
    /// One request without a body.
    pub request: Vec<u8>,
    /// Response header to count values of.
    pub note: &'static str,
}

impl Plan {
    /// GETs of a path of the host `a`.
    pub fn get(to: SocketAddr, connections: usize, path: &str, note: &'static str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        Self { to, connections, request, note }
    }
}

/// Tells a load, such as [`run`], to stop when it is dropped, so that a test that fails meanwhile ends.
#[derive(Debug)]
pub struct Stopping<'a>(pub &'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Asks on all connections at once, each again as soon as it has its answer, until told to stop;
/// then waits for the answers still out. A connection that says `close` is made anew, until
/// connecting is refused.
pub fn run(plan: &Plan, stop: &AtomicBool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut asking: Vec<Asking> = Vec::new();
    for _ in 0..plan.connections {
        match Asking::connect(plan) {
            Ok(connection) => asking.push(connection),
            Err(error) => outcome.errors.push(format!("connecting: {error}")),
        }
    }
    let mut deadline = None;
    while !asking.is_empty() {
        if stop.load(Relaxed) && deadline.is_none() {
            deadline = Some(Instant::now() + Duration::from_secs(10));
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            outcome.errors.push(format!("{} answers never came", asking.len()));
            return outcome;
        }
        let mut sockets: Vec<libc::pollfd> = asking.iter().map(|a| interest(&a.stream)).collect();
        poll(&mut sockets);
        let mut ready = sockets.iter().map(|socket| socket.revents != 0);
        let mut renew = 0;
        asking.retain_mut(|connection| {
            if !ready.next().unwrap_or(false) {
                return true;
            }
            match connection.progress(plan, &mut outcome) {
                Ok(Progress::Waiting) => true,
                Ok(Progress::Closed) => {
                    renew += 1;
                    false
                }
                Ok(Progress::Answered) => {
                    // Ends a connection between requests, when the load ends.
                    deadline.is_none() && connection.ask(plan, &mut outcome)
                }
                Err(error) => {
                    if outcome.errors.len() < 100 {
                        outcome.errors.push(error);
                    }
                    renew += 1;
                    false
                }
            }
        });
        for _ in 0..renew {
            if deadline.is_some() {
                break;
            }
            match Asking::connect(plan) {
                Ok(connection) => asking.push(connection),
                Err(_) => outcome.refused += 1,
            }
        }
    }
    outcome
}

struct Asking {
    stream: TcpStream,
    buffer: Vec<u8>,
}

enum Progress {
    Waiting,
    Answered,
    Closed,
}

impl Asking {
    fn connect(plan: &Plan) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(plan.to)?;
        stream.set_nodelay(true)?;
        stream.write_all(&plan.request)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    fn ask(&mut self, plan: &Plan, outcome: &mut Outcome) -> bool {
        match self.stream.write_all(&plan.request) {
            Ok(()) => true,
            Err(error) => {
                outcome.errors.push(format!("sending: {error}"));
                false
            }
        }
    }

    fn progress(&mut self, plan: &Plan, outcome: &mut Outcome) -> Result<Progress, String> {
        fill(&mut self.stream, &mut self.buffer)
            .map_err(|error| format!("before an answer: {error}"))?;
        let Some(end) = head_end(&self.buffer) else { return Ok(Progress::Waiting) };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (n, value) = line.split_once(':')?;
                n.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if !head.starts_with("HTTP/1.1 200 ") {
            outcome.failed += 1;
            let status = head.lines().next().unwrap_or_default();
            let body = String::from_utf8_lossy(&self.buffer[end..]);
            return Err(format!("answered {status:?}: {body}"));
        }
        let length: usize = field("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        if self.buffer.len() < end + length {
            return Ok(Progress::Waiting);
        }
        let body = &self.buffer[end..];
        if body != b"ok" {
            return Err(format!("a body of {:?}", String::from_utf8_lossy(body)));
        }
        outcome.answers += 1;
        *outcome.noted.entry(field(plan.note).unwrap_or_default()).or_default() += 1;
        self.buffer.clear();
        if field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            outcome.closed += 1;
            return Ok(Progress::Closed);
        }
        Ok(Progress::Answered)
    }
}
