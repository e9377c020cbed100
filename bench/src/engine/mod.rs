// SPDX-License-Identifier: Apache-2.0
//! Load generator and null back end in one thread, so that together they cost less than the proxy
//! between them. Clients run a closed loop (each connection sends when it has its answer) or an open
//! one (at a fixed rate, latency from the instant a request was due). The back end answers a path whose
//! last segment is N with N bytes. Every answer's status and length are checked, and now and then a
//! body, in both directions. `http2.rs` is the same over HTTP/2, which the back end takes from whoever
//! begins with its preface.
//! Invariant: what one end sends (`http::body`) is what the other end compares with.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use crate::h2;
use crate::http::{self, Hash};
use crate::ring::{Completion, Op, Ring};
use crate::sample;
use crate::scenario::HOST;
use crate::schedule::Schedule;

mod http2;

/// A head longer than this is an error.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long the last answers may take once nothing more is sent.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// The longest wait without a look at the clock.
const TICK: Duration = Duration::from_millis(5);
/// Below this the clock is watched instead: timers of the kernel are not that exact.
const SPIN: Duration = Duration::from_micros(80);
const LISTENER: u32 = u32::MAX;
/// Configurations in one run.
const GENERATIONS_MAX: usize = 10_000;

/// How requests are paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as answers come.
    Closed,
    /// At a fixed rate, whatever the answers do.
    Open { per_second: u64 },
}

/// When a run ends.
#[derive(Clone, Debug)]
pub(crate) enum Until {
    /// Counts what is answered in `window`, after `warm_up`.
    Time { warm_up: Duration, window: Duration },
    /// After this many answers.
    Answers(u64),
    /// When someone else says so.
    Told(Arc<AtomicBool>),
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) target: SocketAddr,
    /// Whole requests, sent in turn; see [`keep`].
    pub(crate) requests: Vec<&'static [u8]>,
    pub(crate) status: u16,
    /// Bytes of every answer's body; `None` accepts any length.
    pub(crate) answer_bytes: Option<u64>,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) until: Until,
    /// One body in this many is compared byte for byte (by hash); 1 compares all.
    pub(crate) compare_every: u64,
    /// What clients speak TLS with.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Every request on a connection of its own.
    pub(crate) reconnect: bool,
    /// Clients begin with this request, are answered 101, and from then on `requests` are messages
    /// that come back as they are.
    pub(crate) upgrade: Option<&'static [u8]>,
    /// Watches the proxy's configuration change.
    pub(crate) changes: Option<Changes>,
    /// Clients speak HTTP/2.
    pub(crate) http2: Option<Streams>,
}

/// How clients use HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streams {
    /// Requests that a connection has under way at a time.
    pub(crate) at_once: usize,
    /// Bodies are one gRPC message each, [`Load::answer_bytes`] being what is in it, and answers end
    /// with a status.
    pub(crate) grpc: bool,
}

/// A load under which the configuration changes. Requests whose target begins with `/g-N/` at the
/// back end were routed by the N-th configuration; connections that the proxy ends between two
/// requests are made again, and every answer is timed.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    /// Told each number, once, when the first of its requests arrives.
    pub(crate) seen: mpsc::Sender<usize>,
}

/// When requests of one configuration arrived at the back end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

/// One answer of a load under which the configuration changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    /// When its request was due.
    pub(crate) due: Instant,
    pub(crate) latency: Duration,
}

/// An edge of the measured window, told to the caller the moment it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    Start,
    End,
}

/// What a run found.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) window: Duration,
    /// Checked answers inside the window.
    pub(crate) answers: u64,
    /// Bodies compared over the whole run, in both directions.
    pub(crate) compared: u64,
    /// Failures over the whole run, warm-up included.
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// TLS handshakes inside the window, and how many of them resumed a session.
    pub(crate) handshakes: u64,
    pub(crate) resumed: u64,
    /// Nanoseconds from due to answered; filled by open loops only.
    pub(crate) latency: Histogram<u64>,
    /// With [`Load::changes`]: by number of configuration, and every answer of the whole run.
    pub(crate) seen: Vec<Option<Seen>>,
    pub(crate) timed: Vec<Timed>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            answers: 0,
            compared: 0,
            errors: 0,
            first_error: None,
            handshakes: 0,
            resumed: 0,
            latency: sample::histogram(),
            seen: Vec::new(),
            timed: Vec::new(),
        }
    }
}

/// One request as it arrived at the back end, and its answer as it arrived at the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) upstream_head: Vec<u8>,
    pub(crate) answer_head: Vec<u8>,
}

/// Keeps bytes for the life of the process: a send in flight needs them, and a bench has few.
pub(crate) fn keep(bytes: Vec<u8>) -> &'static [u8] {
    Vec::leak(bytes)
}

/// The one thread that is both ends.
pub(crate) struct Engine {
    ring: Ring,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    done: Vec<Completion>,
    /// Decrypted bytes on their way to [`Engine::consume`].
    plain: Vec<u8>,
    answers: HashMap<usize, &'static [u8]>,
    bodies: HashMap<u64, Hash>,
    /// Answers over HTTP/2, by size and whether they are gRPC.
    messages: HashMap<(usize, bool), h2::Message>,
    /// Connections with bytes of their own to be sent before the next wait.
    unsent: Vec<u32>,
    /// When the requests were due whose answers have just come.
    whole: Vec<Instant>,
    run: Run,
}

struct Connection {
    socket: OwnedFd,
    side: Side,
    tls: Option<Box<Session>>,
    http2: Option<Box<http2::Http2>>,
    /// Bytes of this connection's own that are being sent, and those that follow.
    out: Vec<u8>,
    next_out: Vec<u8>,
    /// Upgraded: bytes come back as they are.
    raw: bool,
    /// A head or frame that is not whole yet.
    partial: Vec<u8>,
    body_left: u64,
    /// The body's hash so far and the one it must have, when it is compared.
    compare: Option<(Hash, Hash)>,
    receiving: bool,
    sending: bool,
    closing: bool,
}

/// A client's TLS.
struct Session {
    connection: ClientConnection,
    /// Its handshake was counted.
    counted: bool,
}

enum Side {
    Client {
        /// When the request in flight was due.
        due: Option<Instant>,
        in_body: bool,
        /// The server ends the connection after this answer.
        last: bool,
        /// What is still to come back of a message.
        echo: &'static [u8],
    },
    BackEnd {
        /// The answer owed once the request's body is in.
        answer: Option<&'static [u8]>,
        queued: VecDeque<&'static [u8]>,
    },
}

/// State of the run in progress.
struct Run {
    load: Load,
    next: usize,
    bodies_seen: u64,
    in_flight: usize,
    clients: usize,
    idle: Vec<u32>,
    late: VecDeque<Instant>,
    sends: bool,
    counts: bool,
    answered: u64,
    capture: Option<Exchange>,
    /// With [`Load::http2`]: its requests, and the body that answers have.
    messages: Vec<h2::Message>,
    body: &'static [u8],
    outcome: Outcome,
}

impl Run {
    fn new(load: Load, capture: Option<Exchange>) -> Self {
        Self {
            load,
            next: 0,
            bodies_seen: 0,
            in_flight: 0,
            clients: 0,
            idle: Vec::new(),
            late: VecDeque::new(),
            sends: true,
            counts: false,
            answered: 0,
            capture,
            messages: Vec::new(),
            body: b"",
            outcome: Outcome::default(),
        }
    }

    fn fail(&mut self, what: String) {
        self.outcome.errors += 1;
        self.outcome.first_error.get_or_insert(what);
    }

    /// Whether the next body is one of the compared ones.
    fn compares(&mut self) -> bool {
        self.bodies_seen += 1;
        self.bodies_seen.is_multiple_of(self.load.compare_every)
    }
}

impl Engine {
    /// Opens the null back end on `address` (port 0: any free one). Must be used on this thread only.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let listener = bind(address).context("binding the null back end")?;
        let mut ring = Ring::open()?;
        ring.accept(listener.as_raw_fd(), LISTENER);
        let nothing = Load {
            target: address,
            requests: Vec::new(),
            status: 200,
            answer_bytes: None,
            connections: 0,
            pace: Pace::Closed,
            until: Until::Answers(0),
            compare_every: 1,
            tls: None,
            reconnect: false,
            upgrade: None,
            changes: None,
            http2: None,
        };
        Ok(Self {
            ring,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            done: Vec::new(),
            plain: Vec::new(),
            answers: HashMap::new(),
            bodies: HashMap::new(),
            messages: HashMap::new(),
            unsent: Vec::new(),
            whole: Vec::new(),
            run: Run::new(nothing, None),
        })
    }

    /// Where the back end listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Sends one request and gives what each end saw. Errors when the answer is not as `load` says.
    pub(crate) fn probe(&mut self, load: &Load) -> Result<Exchange> {
        let load = Load {
            connections: 1,
            pace: Pace::Closed,
            until: Until::Answers(1),
            compare_every: 1,
            ..load.clone()
        };
        let outcome = self.drive(Run::new(load, Some(Exchange::default())), &mut |_| Ok(()))?;
        match outcome.first_error {
            None => Ok(self.run.capture.take().unwrap_or_default()),
            Some(error) => bail!(error),
        }
    }

    /// Runs a load to its end. `at_edge` is called at both edges of the window.
    pub(crate) fn run(
        &mut self,
        load: &Load,
        at_edge: &mut dyn FnMut(Edge) -> Result<()>,
    ) -> Result<Outcome> {
        self.drive(Run::new(load.clone(), None), at_edge)
    }

    /// Opens the load's connections, `at_once` of them at a time, gets one answer on each, leaves them
    /// alone for `rest` and then calls `at_rest`. Errors if any failed.
    pub(crate) fn hold(
        &mut self,
        load: &Load,
        at_once: usize,
        rest: Duration,
        at_rest: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let connections = load.connections;
        let until = Until::Answers(connections as u64);
        self.run = Run::new(Load { until, ..load.clone() }, None);
        self.prepare_messages();
        self.run.sends = false;
        let mut made = 0;
        while made < connections && self.run.outcome.errors == 0 {
            for _ in 0..at_once.min(connections - made) {
                self.connect_one()?;
                made += 1;
                let slot = self.run.idle.pop().expect("just connected");
                self.send_request(slot, Instant::now());
            }
            let until = Instant::now() + SETTLE_TIME;
            while self.run.in_flight > 0 {
                if Instant::now() > until {
                    bail!("{} of {} connections get no answer", self.run.in_flight, connections);
                }
                self.turn(TICK)?;
            }
            self.run.idle.clear();
        }
        self.rest(rest)?;
        let found = match (self.run.outcome.first_error.take(), self.run.clients) {
            (Some(error), _) => Err(anyhow::Error::msg(error)),
            (None, held) if held < connections => {
                Err(anyhow::anyhow!("{held} of {connections} connections were kept"))
            }
            (None, _) => at_rest(),
        };
        self.settle()?;
        found
    }

    /// Is only the back end, for so long.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        self.serve(&mut || Ok(Instant::now() >= until))
    }

    /// Is only the back end, until `ended` says so.
    pub(crate) fn serve(&mut self, ended: &mut dyn FnMut() -> Result<bool>) -> Result<()> {
        while !ended()? {
            self.turn(TICK)?;
        }
        Ok(())
    }

    fn drive(&mut self, run: Run, at_edge: &mut dyn FnMut(Edge) -> Result<()>) -> Result<Outcome> {
        self.run = run;
        self.prepare_messages();
        self.connect()?;
        let began = Instant::now();
        let (warm_up, window) = match self.run.load.until {
            Until::Time { warm_up, window } => (warm_up, window),
            Until::Answers(_) => (Duration::ZERO, Duration::from_secs(30)),
            Until::Told(_) => (Duration::ZERO, Duration::MAX),
        };
        let mut schedule = match self.run.load.pace {
            Pace::Closed => None,
            Pace::Open { per_second } => Some(Schedule::new(per_second)),
        };
        if schedule.is_none() {
            while let Some(slot) = self.run.idle.pop() {
                self.send_request(slot, Instant::now());
            }
        }
        let mut started: Option<Instant> = None;
        loop {
            let now = Instant::now();
            match started {
                None if now - began >= warm_up => {
                    at_edge(Edge::Start)?;
                    started = Some(Instant::now());
                    self.run.counts = true;
                }
                Some(start) if now - start >= window || self.is_over() => {
                    at_edge(Edge::End)?;
                    self.run.outcome.window = start.elapsed();
                    self.run.counts = false;
                    break;
                }
                _ => {}
            }
            let wait = match &mut schedule {
                None => TICK,
                Some(schedule) => self.send_due(schedule, began),
            };
            self.turn(wait)?;
        }
        self.settle()?;
        Ok(self.run.outcome.clone())
    }

    fn is_over(&self) -> bool {
        let enough = match &self.run.load.until {
            Until::Time { .. } => false,
            Until::Answers(count) => self.run.answered >= *count,
            Until::Told(ended) => ended.load(Relaxed),
        };
        enough || self.run.clients == 0
    }

    /// Sends what is due on idle connections, or remembers it as late. Gives the time to the next one.
    fn send_due(&mut self, schedule: &mut Schedule, began: Instant) -> Duration {
        let now_ns = began.elapsed().as_nanos() as u64;
        while let Some(due) = schedule.take_due(now_ns) {
            let due = began + Duration::from_nanos(due);
            match self.run.idle.pop() {
                Some(slot) => self.send_request(slot, due),
                None => self.run.late.push_back(due),
            }
        }
        let wait = Duration::from_nanos(schedule.next_due_ns().saturating_sub(now_ns));
        if wait < SPIN { Duration::ZERO } else { (wait - SPIN / 2).min(TICK) }
    }

    fn connect(&mut self) -> Result<()> {
        for _ in 0..self.run.load.connections {
            self.connect_one()?;
        }
        Ok(())
    }

    /// On loopback the kernel completes this at once, whatever the proxy does.
    fn connect_one(&mut self) -> Result<()> {
        let load = &self.run.load;
        let socket = TcpStream::connect_timeout(&load.target, Duration::from_secs(5))
            .with_context(|| format!("connecting to {}", load.target))?;
        socket.set_nodelay(true)?;
        let tls = match &load.tls {
            None => None,
            Some(config) => {
                let name = HOST.try_into().expect("a DNS name");
                let connection = ClientConnection::new(Arc::clone(config), name)?;
                Some(Box::new(Session { connection, counted: false }))
            }
        };
        let side = Side::Client { due: None, in_body: false, last: false, echo: &[] };
        let slot = self.add(socket.into(), side);
        self.connections[slot as usize].as_mut().expect("just added").tls = tls;
        self.run.clients += 1;
        match self.run.load.http2 {
            None => self.run.idle.push(slot),
            Some(streams) => {
                self.begin_http2(slot);
                self.run.idle.extend(iter::repeat_n(slot, streams.at_once));
            }
        }
        Ok(())
    }

    /// Lets the answers in flight arrive, then closes the clients.
    fn settle(&mut self) -> Result<()> {
        self.run.sends = false;
        let until = Instant::now() + SETTLE_TIME;
        while self.run.in_flight > 0 && Instant::now() < until {
            self.turn(TICK)?;
        }
        if self.run.in_flight > 0 {
            self.run.fail(format!("{} requests without an answer", self.run.in_flight));
        }
        for slot in 0..self.connections.len() as u32 {
            let connection = self.connections[slot as usize].as_mut();
            if let Some(Connection { side: Side::Client { due, .. }, http2, .. }) = connection {
                *due = None;
                if let Some(http2) = http2 {
                    http2.forget();
                }
                self.close(slot);
            }
        }
        let until = Instant::now() + SETTLE_TIME;
        while self.run.clients > 0 {
            if Instant::now() > until {
                bail!("{} connections do not end", self.run.clients);
            }
            self.turn(TICK)?;
        }
        Ok(())
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        while let Some(slot) = self.unsent.pop() {
            self.flush(slot);
        }
        let mut done = std::mem::take(&mut self.done);
        self.ring.turn(wait, &mut done)?;
        for completion in done.drain(..) {
            match completion.op {
                Op::Accept => self.accepted(completion)?,
                Op::Receive => self.received(completion),
                Op::Send => self.sent(completion),
            }
        }
        self.done = done;
        Ok(())
    }

    fn accepted(&mut self, completion: Completion) -> Result<()> {
        if completion.result < 0 {
            return Err(io::Error::from_raw_os_error(-completion.result))
                .context("accepting at the null back end");
        }
        // SAFETY: the kernel just made this descriptor for us and nobody else has it.
        let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(completion.result) });
        socket.set_nodelay(true)?;
        self.add(socket.into(), Side::BackEnd { answer: None, queued: VecDeque::new() });
        if !completion.more {
            self.ring.accept(self.listener.as_raw_fd(), LISTENER);
        }
        Ok(())
    }

    fn add(&mut self, socket: OwnedFd, side: Side) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() as u32 - 1
        });
        self.ring.receive(socket.as_raw_fd(), slot);
        self.connections[slot as usize] = Some(Connection {
            socket,
            side,
            tls: None,
            http2: None,
            out: Vec::new(),
            next_out: Vec::new(),
            raw: false,
            partial: Vec::new(),
            body_left: 0,
            compare: None,
            receiving: true,
            sending: false,
            closing: false,
        });
        slot
    }

    fn received(&mut self, completion: Completion) {
        let slot = completion.slot;
        if let (Some(buffer), Ok(len)) = (completion.buffer, usize::try_from(completion.result)) {
            if len > 0 {
                // The bytes are the kernel's buffer, which nothing else touches until it is given
                // back; a raw view of it lets the connection be changed meanwhile.
                let view: *const [u8] = self.ring.bytes(buffer, len);
                // SAFETY: the pool lives as long as the ring, and `buffer` is given back below.
                let bytes = unsafe { &*view };
                let tls = self.connections[slot as usize].as_ref().is_some_and(|c| c.tls.is_some());
                if tls { self.decrypt(slot, bytes) } else { self.consume(slot, bytes) }
            }
            self.ring.give_back(buffer);
        }
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        if completion.more {
            return;
        }
        if (completion.result > 0 || completion.result == -libc::ENOBUFS) && !connection.closing {
            let socket = connection.socket.as_raw_fd();
            self.ring.receive(socket, slot);
            return;
        }
        connection.receiving = false;
        self.close(slot);
    }

    /// Connects again, and sends the request that was due then, if there is one.
    fn replace(&mut self, due: Option<Instant>) {
        if let Err(error) = self.connect_one() {
            return self.run.fail(format!("{error:#}"));
        }
        if let Some(due) = due {
            let slot = self.run.idle.pop().expect("just connected");
            self.send_request(slot, due);
        }
    }

    /// Takes received records apart and what is in them through [`Engine::consume`].
    fn decrypt(&mut self, slot: u32, mut records: &[u8]) {
        let mut plain = std::mem::take(&mut self.plain);
        while !records.is_empty() {
            let Some(connection) = self.connections[slot as usize].as_mut() else { break };
            let Some(session) = connection.tls.as_mut() else { break };
            plain.clear();
            let opened = session.open(&mut records, &mut plain);
            if !session.counted
                && let Some(kind) = session.connection.handshake_kind()
            {
                session.counted = true;
                if self.run.counts {
                    self.run.outcome.handshakes += 1;
                    self.run.outcome.resumed += u64::from(kind == HandshakeKind::Resumed);
                }
                if connection.http2.is_some() && session.connection.alpn_protocol() != Some(b"h2") {
                    self.run.fail("the handshake did not agree on h2".to_owned());
                    self.close(slot);
                    break;
                }
            }
            self.consume(slot, &plain);
            if let Err(error) = opened {
                self.run.fail(format!("TLS: {error}"));
                self.close(slot);
                break;
            }
            self.flush(slot);
        }
        self.plain = plain;
    }

    /// Sends what waits to be sent of a connection's own bytes, unless a send is in flight.
    fn flush(&mut self, slot: u32) {
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        if connection.sending || connection.closing {
            return;
        }
        connection.out.clear();
        std::mem::swap(&mut connection.out, &mut connection.next_out);
        if let Some(session) = &mut connection.tls {
            let mut writer = session.connection.writer();
            writer.write_all(&connection.out).expect("requests fit its buffer");
            connection.out.clear();
            while session.connection.wants_write() {
                session.connection.write_tls(&mut connection.out).expect("a Vec takes everything");
            }
        }
        if connection.out.is_empty() {
            return;
        }
        connection.sending = true;
        // SAFETY: `out` is touched only while nothing is being sent, and a connection is dropped only
        // then.
        unsafe { self.ring.send_owned(connection.socket.as_raw_fd(), slot, &connection.out) };
    }

    /// Takes received bytes through head and body, as often as whole messages are there.
    fn consume(&mut self, slot: u32, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(connection) = self.connections[slot as usize].as_mut() else { return };
            if connection.closing {
                return;
            }
            if connection.raw {
                return self.consume_raw(slot, bytes);
            }
            if connection.http2.is_some() {
                return self.consume_frames(slot, bytes);
            }
            let stepped = if connection.body_left > 0 {
                let now =
                    bytes.len().min(usize::try_from(connection.body_left).unwrap_or(usize::MAX));
                let (body, rest) = bytes.split_at(now);
                connection.body_left -= now as u64;
                if let Some((hash, _)) = &mut connection.compare {
                    *hash = hash.with(body);
                }
                bytes = rest;
                Ok(true)
            } else {
                self.consume_head(slot, &mut bytes)
            };
            match stepped {
                Err(error) => {
                    self.run.fail(error);
                    self.close(slot);
                }
                Ok(true) => self.message_if_whole(slot),
                Ok(false) => {}
            }
        }
    }

    /// Takes bytes of an upgraded connection: echoes them, or compares them with what was sent.
    fn consume_raw(&mut self, slot: u32, bytes: &[u8]) {
        let connection = self.connections[slot as usize].as_mut().expect("the caller looked");
        match &mut connection.side {
            Side::BackEnd { .. } => {
                connection.next_out.extend_from_slice(bytes);
                self.flush(slot);
            }
            Side::Client { due, echo, .. } => {
                let Some(rest) = echo.strip_prefix(bytes) else {
                    self.run.fail("a message came back changed".to_owned());
                    return self.close(slot);
                };
                *echo = rest;
                if rest.is_empty()
                    && let Some(due) = due.take()
                {
                    self.run.outcome.compared += 1;
                    self.answered(slot, due);
                }
            }
        }
    }

    /// Takes a head off the front of `bytes`, or all of them into the partial one (false).
    fn consume_head(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<bool, String> {
        let connection = self.connections[slot as usize].as_mut().expect("the caller looked");
        if connection.partial.is_empty()
            && let Some(end) = http::head_end(bytes)
        {
            let (head, rest) = bytes.split_at(end);
            *bytes = rest;
            return self.head(slot, head).map(|()| true);
        }
        let had = connection.partial.len();
        connection.partial.extend_from_slice(bytes);
        match http::head_end(&connection.partial) {
            Some(end) => {
                let head = std::mem::take(&mut connection.partial);
                *bytes = &bytes[end - had..];
                self.head(slot, &head[..end]).map(|()| true)
            }
            None if connection.partial.len() > HEAD_BYTES_MAX => Err("an endless head".to_owned()),
            None => {
                *bytes = &[];
                Ok(false)
            }
        }
    }

    fn head(&mut self, slot: u32, head: &[u8]) -> Result<(), String> {
        let connection = self.connections[slot as usize].as_mut().expect("the caller looked");
        let length = match &mut connection.side {
            Side::Client { due: None, .. } => return Err("an answer to no request".to_owned()),
            Side::Client { .. } if self.run.load.upgrade.is_some() => {
                if !head.starts_with(b"HTTP/1.1 101 ") {
                    let line = String::from_utf8_lossy(head.get(..15).unwrap_or(head));
                    return Err(format!("answered {line}, not 101"));
                }
                if let Some(capture) = &mut self.run.capture {
                    capture.answer_head = head.to_vec();
                }
                connection.raw = true;
                self.send_message(slot);
                return Ok(());
            }
            Side::Client { in_body, last, .. } => {
                let (status, length) = http::response(head)?;
                let load = &self.run.load;
                *last = load.changes.is_some()
                    && http::field(head, "connection").is_some_and(|option| option == b"close");
                if status != load.status {
                    return Err(format!("answered {status}, not {}", load.status));
                }
                if load.answer_bytes.is_some_and(|expected| expected != length) {
                    return Err(format!("answered {length} bytes"));
                }
                if let Some(capture) = &mut self.run.capture {
                    capture.answer_head = head.to_vec();
                }
                *in_body = true;
                length
            }
            Side::BackEnd { .. } if head == h2::PREFACE.0 => {
                self.accept_http2(slot);
                return Ok(());
            }
            Side::BackEnd { .. } if http::field(head, "upgrade").is_some() => {
                if let Some(capture) = &mut self.run.capture {
                    capture.upstream_head = head.to_vec();
                }
                connection.raw = true;
                connection.next_out.extend_from_slice(SWITCHING);
                self.flush(slot);
                return Ok(());
            }
            Side::BackEnd { answer, .. } => {
                let (target, length) = http::request(head)?;
                let asked = answer_size(target).ok_or_else(|| {
                    format!("the back end was asked for {}", String::from_utf8_lossy(target))
                })?;
                *answer = Some(*self.answers.entry(asked).or_insert_with(|| keep(canned(asked))));
                if let Some(changes) = &self.run.load.changes
                    && let Some(number) = generation(target)
                {
                    let (now, seen) = (Instant::now(), &mut self.run.outcome.seen);
                    seen.resize(seen.len().max(number + 1), None);
                    if seen[number].is_none() {
                        // Nobody waits for it any more when the run is being ended.
                        let _ = changes.seen.send(number);
                    }
                    seen[number].get_or_insert(Seen { first: now, last: now }).last = now;
                }
                if let Some(capture) = &mut self.run.capture {
                    capture.upstream_head = head.to_vec();
                }
                length
            }
        };
        connection.body_left = length;
        let checked = match connection.side {
            Side::Client { .. } => self.run.load.answer_bytes.is_some(),
            Side::BackEnd { .. } => length > 0,
        };
        connection.compare = (checked && self.run.compares()).then(|| {
            let expected = self.bodies.entry(length);
            let whole = || Hash::EMPTY.with(&http::body(length as usize));
            (Hash::EMPTY, *expected.or_insert_with(whole))
        });
        Ok(())
    }

    fn message_if_whole(&mut self, slot: u32) {
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        if connection.body_left > 0 {
            return;
        }
        if let Some((hash, expected)) = connection.compare.take() {
            self.run.outcome.compared += 1;
            if hash != expected {
                self.run.fail("a body arrived changed".to_owned());
                return self.close(slot);
            }
        }
        match &mut connection.side {
            Side::BackEnd { answer, queued } => {
                let Some(answer) = answer.take() else { return };
                if connection.sending {
                    queued.push_back(answer);
                } else {
                    connection.sending = true;
                    self.ring.send(connection.socket.as_raw_fd(), slot, answer);
                }
            }
            Side::Client { due, in_body, .. } => {
                if !std::mem::take(in_body) {
                    return;
                }
                if let Some(due) = due.take() {
                    self.answered(slot, due);
                }
            }
        }
    }

    fn answered(&mut self, slot: u32, due: Instant) {
        let run = &mut self.run;
        run.in_flight -= 1;
        run.answered += 1;
        if run.counts {
            run.outcome.answers += 1;
        }
        let enough = matches!(run.load.until, Until::Answers(count) if run.answered >= count);
        if run.load.changes.is_some() {
            run.outcome.timed.push(Timed { due, latency: due.elapsed() });
        }
        if run.load.reconnect && run.sends && !enough {
            self.close(slot);
            return self.replace(Some(Instant::now()));
        }
        if let Some(Connection { side: Side::Client { last: true, .. }, .. }) =
            &self.connections[slot as usize]
        {
            return self.close(slot);
        }
        let run = &mut self.run;
        match run.load.pace {
            Pace::Closed if run.sends && !enough => self.send_request(slot, due),
            Pace::Closed => run.idle.push(slot),
            Pace::Open { .. } => {
                if run.counts {
                    run.outcome.latency.saturating_record(due.elapsed().as_nanos() as u64);
                }
                match run.late.pop_front().filter(|_| run.sends) {
                    Some(due) => self.send_request(slot, due),
                    None => run.idle.push(slot),
                }
            }
        }
    }

    fn send_request(&mut self, slot: u32, at: Instant) {
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        let Side::Client { due, .. } = &mut connection.side else { return };
        if connection.closing {
            return;
        }
        if connection.http2.is_some() {
            return self.send_on_stream(slot, at);
        }
        if connection.sending && connection.tls.is_none() {
            // The answer overtook the completion of its own request: that completion is in the
            // queue already, and sending now would only reorder bookkeeping.
            self.run.fail("answered before the request was sent".to_owned());
            return self.close(slot);
        }
        *due = Some(at);
        self.run.in_flight += 1;
        match self.run.load.upgrade {
            Some(upgrade) if !connection.raw => self.transmit(slot, upgrade),
            _ => self.send_message(slot),
        }
    }

    /// The next of the load's requests.
    fn send_message(&mut self, slot: u32) {
        let request = self.run.load.requests[self.run.next];
        self.run.next = (self.run.next + 1) % self.run.load.requests.len();
        if let Some(Connection { side: Side::Client { echo, .. }, raw: true, .. }) =
            self.connections[slot as usize].as_mut()
        {
            *echo = request;
        }
        self.transmit(slot, request);
    }

    fn transmit(&mut self, slot: u32, bytes: &'static [u8]) {
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        match &mut connection.tls {
            None => {
                connection.sending = true;
                self.ring.send(connection.socket.as_raw_fd(), slot, bytes);
            }
            Some(session) => {
                session.connection.writer().write_all(bytes).expect("requests fit its buffer");
                self.flush(slot);
            }
        }
    }

    fn sent(&mut self, completion: Completion) {
        let slot = completion.slot;
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        connection.sending = false;
        if completion.result < 0 || connection.closing {
            return self.close(slot);
        }
        if let Side::BackEnd { queued, .. } = &mut connection.side
            && let Some(answer) = queued.pop_front()
        {
            connection.sending = true;
            self.ring.send(connection.socket.as_raw_fd(), slot, answer);
            return;
        }
        self.flush(slot);
    }

    /// Ends a connection; its slot is free once nothing of it is in flight.
    fn close(&mut self, slot: u32) {
        let Some(connection) = self.connections[slot as usize].as_mut() else { return };
        let open = connection.http2.as_mut().map_or(0, |http2| http2.forget());
        if let Side::Client { due, .. } = &mut connection.side
            && (due.take().is_some() || open > 0)
        {
            self.run.in_flight -= open.max(1);
            self.run.fail("closed before the answer was whole".to_owned());
        }
        let was_open = !std::mem::replace(&mut connection.closing, true);
        if was_open {
            // SAFETY: a plain system call on a descriptor that the connection owns.
            unsafe { libc::shutdown(connection.socket.as_raw_fd(), libc::SHUT_RDWR) };
        }
        let client = matches!(connection.side, Side::Client { .. });
        if !connection.receiving && !connection.sending {
            self.run.clients -= usize::from(client);
            self.connections[slot as usize] = None;
            self.free.push(slot);
        }
        if client {
            self.run.idle.retain(|&idle| idle != slot);
        }
        if was_open && client && self.run.sends && self.run.load.changes.is_some() {
            let due = self.run.late.pop_front();
            self.replace(due);
        }
    }
}

impl Session {
    /// Takes records off the front, as many as there is room for, and appends what is in them.
    fn open(&mut self, records: &mut &[u8], plain: &mut Vec<u8>) -> Result<()> {
        self.connection.read_tls(records)?;
        let state = self.connection.process_new_packets()?;
        let from = plain.len();
        plain.resize(from + state.plaintext_bytes_to_read(), 0);
        Ok(self.connection.reader().read_exact(&mut plain[from..])?)
    }
}

/// The answer to the upgrade of RFC 6455 §1.3, whose key scenarios send.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
    connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Binds once the address is free: the kernel closes the listener of a process that just ended only
/// when it has taken its ring apart, a moment later.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let until = Instant::now() + SETTLE_TIME;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(Duration::from_millis(20));
            }
            bound => return bound,
        }
    }
}

/// The answer's size that a path asks for: its last segment, the query left out.
fn answer_size(target: &[u8]) -> Option<usize> {
    let path = target.split(|&byte| byte == b'?').next()?;
    let last = path.rsplit(|&byte| byte == b'/').next()?;
    std::str::from_utf8(last).ok()?.parse().ok().filter(|&size| size <= 64 << 20)
}

/// The number of the configuration that routed a request to this target.
fn generation(target: &[u8]) -> Option<usize> {
    let number = target.strip_prefix(b"/g-")?.split(|&byte| byte == b'/').next()?;
    std::str::from_utf8(number).ok()?.parse().ok().filter(|&number| number < GENERATIONS_MAX)
}

/// A whole answer. `x-powered-by` and `x-version` are there for proxies to remove and replace.
fn canned(size: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\nserver: null\r\n\
         content-type: application/json\r\ncache-control: no-cache\r\nx-version: 1\r\n\
         x-powered-by: null\r\ncontent-length: {size}\r\n\r\n"
    );
    [head.into_bytes(), http::body(size)].concat()
}

#[cfg(test)]
mod tests;
