// SPDX-License-Identifier: Apache-2.0
//! Golden cases against the running gateway: one process per case, on both drivers. In the files
//! `192.0.2.N` is back end number N; here it becomes a loopback address that listens: on ports
//! 8000 and 8001 for HTTP, on 8443 for HTTP over TLS (a certificate for `a.upstream` and so on, by
//! the authority `upstreams`), on 8444 for the same with client certificates by `clients`, on 9000
//! for lines over TCP.
//!
//! An entry of a `.http.yaml` file is one connection. It may say `proxy_protocol`, `tls` and `http2`
//! (true, or the `max_concurrent_streams` that the gateway has to tell; false: never); then come a `request` (or
//! `raw`) and what is expected of its answer, or `tcp`, steps on the bare connection; and
//! `handshake`: what TLS came to, or how it `fails`.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ringway_tests::address::Block;
use ringway_tests::client::Response;
use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::h2::frame::{Frame, MAX_CONCURRENT_STREAMS, data, headers};
use ringway_tests::outside::Folder;
use ringway_tests::tls::{self, ClientOptions, Handshake};
use ringway_tests::upstream::{Hole, Upstream, echo, lines, told};
use ringway_tests::{Client, PATIENCE, h2, pki, proxy_protocol, yaml};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup, ServerConfig};
use serde_json::Value;

use super::{cases, chosen, environment, files, folder, read};

/// The documentation addresses of the files.
const WRITTEN: &str = "192.0.2.";

/// The back ends that all cases share.
struct Backends {
    block: Block,
    _echoes: Vec<Upstream>,
    _hole: Hole,
}

impl Backends {
    fn start() -> Result<Self> {
        let block = Block::claim();
        let mut echoes = Vec::new();
        for (n, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
            for port in [8000, 8001] {
                let address = SocketAddr::from((block.address(n as u8 + 1), port));
                echoes.push(Upstream::start(address, move |stream| either(name, stream))?);
            }
            let at = |port| SocketAddr::from((block.address(n as u8 + 1), port));
            let leaf = pki::server(&format!("{name}.upstream by upstreams"))?;
            for (port, clients) in [(8443, None), (8444, Some("clients"))] {
                let mut config = (*tls::server(&leaf, clients)?).clone();
                // For those that can speak nothing else.
                config.alpn_protocols.push(b"h2".to_vec());
                let config = Arc::new(config);
                let serve = move |socket| either_tls(name, socket, config.clone());
                echoes.push(Upstream::start(at(port), serve)?);
            }
            echoes.push(Upstream::start(at(9000), move |socket| lines(name, socket))?);
        }
        let hole = Hole::start(block.address(30), 8000)?;
        Ok(Self { block, _echoes: echoes, _hole: hole })
    }
}

/// How a run speaks where a case leaves it open.
#[derive(Clone, Copy)]
struct Way {
    io_backend: &'static str,
    /// Requests go over HTTP/2 that could.
    client: bool,
    /// All Mappings speak HTTP/2 with their back ends.
    upstream: bool,
}

/// Cases that are another matter where clients speak HTTP/2, each with the reason.
const OF_HTTP_1_CLIENTS: [(&str, &str); 4] = [
    ("forwarded/names-keep-their-case", "names are in lower case"),
    ("header-edits/format-strings", "one of them is the protocol"),
    ("listener/no-proxy-header-where-none-is-declared", "what is no preface is a request"),
    ("tcpmapping/originates-tls", "what is carried is what the back end speaks without ALPN"),
];

/// The same of back ends.
const OF_HTTP_1_UPSTREAMS: [(&str, &str); 9] = [
    ("forwarded/hop-by-hop-headers-are-stripped", "an answer with one is malformed"),
    ("forwarded/names-keep-their-case", "names are in lower case"),
    ("origination/an-end-without-close-notify-is-no-end", "a stream says itself where it ends"),
    ("origination/versions-suites-and-alpn", "the protocol that is asked for is h2"),
    (
        "repeats/a-post-does-not-take-a-connection-that-ended",
        "the end may come behind the answer, and only a GOAWAY says it in time",
    ),
    ("upgrade/is-the-groups", "a 200 opens the tunnel"),
    ("upgrade/not-allowed-is-403", "a 200 opens the tunnel"),
    ("upgrade/passes-both-headers", "a 200 opens the tunnel"),
    ("upgrade/use-websocket-counts-when-written", "a 200 opens the tunnel"),
];

impl Way {
    /// Whether a case is another one this way than over HTTP/1.1: some request of it can go over
    /// HTTP/2, and comes to a back end over HTTP/2 where that is asked for.
    fn concerns(self, case: &str) -> Result<bool> {
        if !self.client && !self.upstream {
            return Ok(true);
        }
        let names = |cases: &[(&str, &str)]| cases.iter().any(|(name, _)| *name == case);
        if self.client && names(&OF_HTTP_1_CLIENTS) || self.upstream && names(&OF_HTTP_1_UPSTREAMS)
        {
            return Ok(false);
        }
        let exchanges = exchanges(case, WRITTEN)?;
        // What is about the protocol of back ends is about the one that it says.
        if self.upstream && exchanges.iter().any(|e| e.pointer("/sees/version").is_some()) {
            return Ok(false);
        }
        let mut requests = Vec::new();
        for entry in &exchanges {
            let exchange = Exchange::read(entry)?;
            if !self.client || exchange.over_h2()?.is_some() {
                requests.push(exchange);
            }
        }
        let arrives = |exchange: &Exchange<'_>| {
            ["from", "shares", "same"].iter().any(|key| exchange.entry.get(key).is_some())
        };
        let manifests = read(case).1;
        Ok(match self.upstream {
            false => !requests.is_empty(),
            true => over_h2(&manifests) != manifests && requests.iter().any(arrives),
        })
    }
}

/// The entries of a case's `.http.yaml`, with addresses that begin so.
fn exchanges(case: &str, prefix: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(folder().join(format!("{case}.http.yaml")));
    let text = text.context("no .http.yaml")?.replace(WRITTEN, prefix);
    match yaml::parse(&text)?.pop() {
        Some(Value::Array(exchanges)) => Ok(exchanges),
        _ => bail!("no list of exchanges"),
    }
}

/// An echo of whichever protocol the gateway speaks.
fn either(name: &str, socket: TcpStream) {
    let mut first = [0; 4];
    // Until so many are there, or the end.
    while matches!(socket.peek(&mut first), Ok(1..4)) {
        std::thread::sleep(Duration::from_millis(1));
    }
    match &first {
        b"PRI " => h2::echo::echo(name, socket),
        _ => echo(name, socket),
    }
}

fn either_tls(name: &str, socket: TcpStream, config: Arc<ServerConfig>) {
    // A client that this configuration refuses gets nothing more.
    let Ok(stream) = tls::accept(socket, config) else { return };
    match stream.handshake().and_then(|handshake| handshake.alpn).as_deref() {
        Some("h2") => h2::echo::echo(name, stream),
        _ => echo(name, stream),
    }
}

#[test]
fn cases_on_io_uring() {
    run(Way { io_backend: "io_uring", client: false, upstream: false });
}

#[test]
fn cases_on_epoll() {
    run(Way { io_backend: "epoll", client: false, upstream: false });
}

#[test]
fn cases_with_http_2_clients() {
    run(Way { io_backend: "io_uring", client: true, upstream: false });
}

#[test]
fn cases_with_http_2_upstreams() {
    run(Way { io_backend: "epoll", client: false, upstream: true });
}

#[test]
fn cases_with_http_2_on_both_sides() {
    run(Way { io_backend: "io_uring", client: true, upstream: true });
}

fn run(way: Way) {
    let io_backend = way.io_backend;
    let backends = Backends::start().expect("the back ends start");
    let mut cases = cases();
    cases.retain(|case| chosen(case) && way.concerns(case).expect(case));
    let over_h2 = AtomicUsize::new(0);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    if let Err(error) = serve(case, &backends, way, &over_h2) {
                        let text = format!("{case} on {io_backend}: {error:#}");
                        failures.lock().expect("nobody panics holding it").push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("all threads are done");
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
    let over_h2 = over_h2.into_inner();
    println!("{} cases, {over_h2} requests over HTTP/2", cases.len());
    // Unless some were chosen: as many as there must be.
    if std::env::var_os("GOLDEN").is_none() {
        let least = match (way.client, way.upstream) {
            (false, false) => (500, 0),
            (true, false) => (430, 430),
            (false, true) => (410, 0),
            (true, true) => (340, 340),
        };
        assert!(cases.len() >= least.0 && over_h2 >= least.1, "{least:?} are the least");
    }
}

/// Manifests whose Mappings speak HTTP/2 with their back ends.
fn over_h2(manifests: &str) -> String {
    let documents = manifests.split("\n---\n").map(|document| {
        match document.contains("kind: Mapping\n") && !document.contains("  grpc:") {
            true => document.replacen("\nspec:\n", "\nspec:\n  grpc: true\n", 1),
            false => document.to_owned(),
        }
    });
    documents.collect::<Vec<_>>().join("\n---\n")
}

fn serve(case: &str, backends: &Backends, way: Way, counter: &AtomicUsize) -> Result<()> {
    let io_backend = way.io_backend;
    let prefix = backends.block.prefix();
    let real = |text: &str| text.replace(WRITTEN, &prefix);
    let exchanges = exchanges(case, &prefix)?;
    let (settings, mut manifests) = read(case);
    if way.upstream {
        manifests = over_h2(&manifests);
    }
    let folder = Folder::new()?;
    for (name, text) in files(&settings) {
        folder.file(&name, &text)?;
    }
    let mut env = environment(&settings);
    env.iter_mut().for_each(|(_, value)| *value = real(value));
    env.push(("FILES".into(), folder.path().display().to_string()));
    let options = Options { env, ..Options::driver(io_backend) };
    let gateway = Gateway::start(&real(&manifests), &options)?;
    gateway.assert_driver(io_backend)?;
    let mut memory = Memory::default();
    for (n, exchange) in exchanges.iter().enumerate() {
        let title = exchange.get("request").and_then(Value::as_str).unwrap_or("raw");
        Exchange::read(exchange)
            .and_then(|exchange| {
                let h2 = way.client || exchange.is_h2();
                match h2.then(|| exchange.over_h2()).transpose()?.flatten() {
                    None if exchange.is_h2() => bail!("this request cannot go over HTTP/2"),
                    None => exchange.run(&gateway, &mut memory),
                    Some(request) => {
                        counter.fetch_add(1, Relaxed);
                        exchange.run_over_h2(&gateway, request, &mut memory)
                    }
                }
            })
            .with_context(|| format!("exchange {} ({title})", n + 1))
            .map_err(|error| {
                let log = gateway.log();
                error.context(format!(
                    "{}\n",
                    log.lines()
                        .filter(|l| !l.contains(" info "))
                        .take(3)
                        .collect::<Vec<_>>()
                        .join("\n")
                ))
            })?;
    }
    Ok(())
}

/// Client configurations that keep their sessions from one connection to the next, by name.
type Sessions = BTreeMap<String, Arc<ClientConfig>>;

/// What a case remembers from one exchange to the next.
#[derive(Default)]
struct Memory {
    sessions: Sessions,
    /// Back ends that answered, by the name that the case has for them.
    same: BTreeMap<String, String>,
}

/// One entry of a `.http.yaml` file.
struct Exchange<'a> {
    entry: &'a Value,
    method: String,
    /// What is sent; empty where the entry has no request.
    bytes: Vec<u8>,
    /// By which the back ends tell what they saw, where a copy is expected.
    token: Option<String>,
}

fn token() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("copy-{}", NUMBER.fetch_add(1, Relaxed))
}

const KEYS: [&str; 26] = [
    "address",
    "same",
    "proxy_protocol",
    "tls",
    "http2",
    "handshake",
    "tcp",
    "request",
    "raw",
    "host",
    "port",
    "headers",
    "body",
    "padding",
    "times",
    "tolerance",
    "status",
    "from",
    "sees",
    "answer",
    "shares",
    "copy",
    "refused",
    "broken",
    "within_ms",
    "then_closes_within_ms",
];

impl<'a> Exchange<'a> {
    fn read(entry: &'a Value) -> Result<Self> {
        let known = entry.as_object().context("no map")?;
        for key in known.keys() {
            ensure!(KEYS.contains(&key.as_str()), "unknown key {key}");
        }
        if let Some(raw) = entry.get("raw") {
            let raw = raw.as_str().context("raw is a string")?;
            let method = raw.split(' ').next().unwrap_or_default().to_owned();
            // Raw bytes bring their own token, and say it again.
            let told = entry.pointer("/copy/told").and_then(Value::as_str);
            let token = told.map(|told| told.to_owned() + &token());
            let raw = match (told, &token) {
                (Some(told), Some(token)) => raw.replace(told, token),
                _ => raw.to_owned(),
            };
            return Ok(Self { entry, method, bytes: raw.into(), token });
        }
        if entry.get("request").is_none() {
            let other = ["tcp", "handshake", "refused"].iter().any(|key| entry.get(key).is_some());
            ensure!(other, "an entry that does nothing");
            return Ok(Self { entry, method: String::new(), bytes: Vec::new(), token: None });
        }
        let request = entry["request"].as_str().context("no request")?;
        let (method, target) = request.split_once(' ').context("METHOD TARGET")?;
        let host = entry.get("host").map_or("example.com", |h| h.as_str().unwrap_or_default());
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        match entry.get("headers") {
            None => {}
            Some(Value::Object(fields)) => {
                for (name, value) in fields {
                    let value = value.as_str().with_context(|| format!("{name}: quote it"))?;
                    head += &format!("{name}: {value}\r\n");
                }
            }
            Some(Value::Array(lines)) => {
                for line in lines {
                    head += &format!("{}\r\n", line.as_str().context("a line")?);
                }
            }
            Some(_) => bail!("headers are a map or a list"),
        }
        if let Some(n) = entry.get("padding").and_then(Value::as_u64) {
            head += &format!("x-padding: {}\r\n", "p".repeat(usize::try_from(n)?));
        }
        let token = entry.get("copy").map(|_| token());
        if let Some(token) = &token {
            head += &format!("x-backend-tell: {token}\r\n");
        }
        let body = entry.get("body").map_or("", |b| b.as_str().unwrap_or_default());
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let bytes = format!("{head}\r\n{body}").into_bytes();
        Ok(Self { entry, method: method.to_owned(), bytes, token })
    }

    fn run(&self, gateway: &Gateway, memory: &mut Memory) -> Result<()> {
        let address = self.address(gateway)?;
        if self.flag("refused") {
            return match Client::connect(address, PATIENCE) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error).context("expected a refused connection"),
                Ok(_) => bail!("somebody listens on {address}"),
            };
        }
        if let Some(fails) = self.entry.get("handshake").and_then(|wanted| wanted.get("fails")) {
            let got = match self.connect(address, &mut memory.sessions).and_then(Self::first_read) {
                Ok(()) => bail!("the handshake does not fail"),
                Err(error) => tls::alert(&error),
            };
            let fine = match fails {
                Value::Array(any) => any.contains(&got.as_str().into()),
                one => *one == got.as_str(),
            };
            ensure!(fine, "the handshake fails with {got}, not with {fails}");
            return Ok(());
        }
        let times = self.entry.get("times").map_or(Some(1), Value::as_u64).context("times")?;
        let mut counts = BTreeMap::new();
        if let Some(steps) = self.entry.get("tcp") {
            let steps = steps.as_array().context("tcp is a list of steps")?;
            for _ in 0..times {
                let mut client = self.connect(address, &mut memory.sessions)?;
                let from = converse(&mut client, steps)?;
                if self.entry.get("shares").is_some() {
                    *counts.entry(from.context("no line was answered")?).or_insert(0_u64) += 1;
                } else if let Some(wanted) = self.entry.get("from").and_then(Value::as_str) {
                    ensure!(from.as_deref() == Some(wanted), "answered by {from:?}, not {wanted}");
                }
            }
            return self.check_shares(&counts, times);
        }
        let start = Instant::now();
        let mut client = self.connect(address, &mut memory.sessions)?;
        if let Some(wanted) = self.entry.get("handshake") {
            let handshake = client.handshake().context("no TLS to check")?;
            check_handshake(wanted, &handshake)?;
        }
        if self.bytes.is_empty() {
            return Ok(());
        }
        for _ in 0..times {
            client.send(&self.bytes)?;
            let response = client.response(&self.method)?;
            self.check_one(&response, &mut counts, memory)?;
        }
        if let Some(limit) = self.entry.get("then_closes_within_ms").and_then(Value::as_u64) {
            let start = Instant::now();
            ensure!(client.is_closed()?, "bytes after the answer");
            ensure!(start.elapsed() < Duration::from_millis(limit), "closed late");
        }
        self.check_all(&counts, times, start)
    }

    /// The request's head and body as HTTP/2 says them, where it can.
    fn over_h2(&self) -> Result<Option<(Frame, String)>> {
        // What is about bytes, connections or handshakes is about HTTP/1.1 or none.
        const OF_H1: [&str; 4] = ["raw", "tcp", "then_closes_within_ms", "refused"];
        const UNLESS_ASKED: [&str; 2] = ["tls", "handshake"];
        let has = |keys: &[&str]| keys.iter().any(|key| self.entry.get(key).is_some());
        let text = |key: &str| self.entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let Some((method, target)) = text("request").split_once(' ') else { return Ok(None) };
        let origin = target.starts_with('/') || target == "*";
        // The admin port speaks HTTP/1.1 alone.
        let admin = self.entry.get("port").and_then(Value::as_u64) == Some(8877);
        let never = has(&["http2"]) && !self.is_h2();
        if never || admin || has(&OF_H1) || !origin || (has(&UNLESS_ASKED) && !self.is_h2()) {
            return Ok(None);
        }
        let head = std::str::from_utf8(&self.bytes)?.split("\r\n\r\n").next().unwrap_or_default();
        let mut fields = Vec::new();
        for line in head.split("\r\n").skip(1) {
            let (name, value) = line.split_once(':').context("a line")?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            match name.as_str() {
                "te" if self.is_h2() => fields.push((name, value)),
                "connection" | "upgrade" | "te" | "transfer-encoding" | "keep-alive" => {
                    return Ok(None);
                }
                "host" => fields.insert(0, (":authority".to_owned(), value)),
                _ => fields.push((name, value)),
            }
        }
        let scheme = if has(&["tls"]) { "https" } else { "http" };
        let scheme = [(":method", method), (":scheme", scheme), (":path", target)];
        let fields = fields.iter().map(|(name, value)| (&name[..], *value));
        let frame = headers(1).fields(scheme.into_iter().chain(fields));
        Ok(Some((frame, text("body").to_owned())))
    }

    fn run_over_h2(
        &self,
        gateway: &Gateway,
        (head, body): (Frame, String),
        memory: &mut Memory,
    ) -> Result<()> {
        let address = self.address(gateway)?;
        let times = self.entry.get("times").map_or(Some(1), Value::as_u64).context("times")?;
        let start = Instant::now();
        let client = self.connect(address, &mut memory.sessions)?;
        if let Some(wanted) = self.entry.get("handshake") {
            check_handshake(wanted, &client.handshake().context("no TLS to check")?)?;
        }
        let mut peer = h2::Peer::client(client.into_stream(), &[])?;
        let mut counts = BTreeMap::new();
        for n in 0..times {
            let stream = 2 * u32::try_from(n)? + 1;
            let head = Frame { stream, ..head.clone() };
            match body.is_empty() {
                true => peer.send(head.end_stream())?,
                false => peer.send([head, data(stream, &body).end_stream()])?,
            }
            let response = peer.response(stream)?;
            self.check_one(&response, &mut counts, memory)?;
        }
        if let Some(wanted) = self.entry.pointer("/http2/max_concurrent_streams") {
            let told = peer.settings.get(&MAX_CONCURRENT_STREAMS).copied();
            ensure!(wanted.as_u64() == told.map(u64::from), "{told:?} streams, not {wanted}");
        }
        self.check_all(&counts, times, start)
    }

    /// Whether the entry asks for HTTP/2.
    fn is_h2(&self) -> bool {
        self.entry.get("http2").is_some_and(|http2| *http2 != false)
    }

    fn address(&self, gateway: &Gateway) -> Result<SocketAddr> {
        let port = self.entry.get("port").map_or(Some(8080), Value::as_u64).context("port")?;
        let mut address = gateway.address(u16::try_from(port)?);
        if let Some(ip) = self.entry.get("address").and_then(Value::as_str) {
            address.set_ip(ip.parse().context("address")?);
        }
        Ok(address)
    }

    /// Counts an answer where shares are asked for, and checks it otherwise.
    fn check_one(
        &self,
        response: &Response,
        counts: &mut BTreeMap<String, u64>,
        memory: &mut Memory,
    ) -> Result<()> {
        if self.entry.get("shares").is_some() {
            let from = backend(response).unwrap_or_else(|| response.status.to_string());
            *counts.entry(from).or_insert(0) += 1;
            return Ok(());
        }
        if let Some(name) = self.entry.get("same").and_then(Value::as_str) {
            let from = backend(response).context("no back end answered")?;
            let first = memory.same.entry(name.to_owned()).or_insert_with(|| from.clone());
            ensure!(*first == from, "answered by {from}, before by {first}");
        }
        self.check(response).with_context(|| {
            let text: String = response.text().chars().take(600).collect();
            format!("got {} {:?} {text}", response.status, response.fields)
        })
    }

    /// What is asked of all answers together.
    fn check_all(&self, counts: &BTreeMap<String, u64>, times: u64, start: Instant) -> Result<()> {
        if let Some(limit) = self.entry.get("within_ms").and_then(Value::as_u64) {
            let taken = start.elapsed();
            ensure!(taken < Duration::from_millis(limit), "took {taken:?}");
        }
        self.check_copy()?;
        self.check_shares(counts, times)
    }

    /// Connects as the entry says: a PROXY header, then TLS.
    fn connect(&self, address: SocketAddr, sessions: &mut Sessions) -> Result<Client> {
        let before = self.entry.get("proxy_protocol").map_or(Ok(Vec::new()), proxy_header)?;
        let Some(written) = self.entry.get("tls") else {
            let mut client = Client::connect(address, PATIENCE)?;
            client.send(&before)?;
            return Ok(client);
        };
        let options = tls_options(written)?;
        let config = match written.get("session").and_then(Value::as_str) {
            None => options.config()?,
            Some(name) => match sessions.get(name) {
                Some(config) => config.clone(),
                None => {
                    let mut config = Arc::unwrap_or_clone(options.config()?);
                    config.resumption = Resumption::store(Arc::new(OneDrawer::default()));
                    sessions.entry(name.to_owned()).or_insert_with(|| Arc::new(config)).clone()
                }
            },
        };
        Client::connect_tls(address, PATIENCE, &before, config, options.server_name.as_deref())
    }

    /// With TLS 1.3 a refusal of the client may come behind its own end of the handshake. Whoever
    /// was not refused gets an answer to this.
    fn first_read(mut client: Client) -> Result<()> {
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
        match client.reader().fill()? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Waits until a back end has told of the copy.
    fn check_copy(&self) -> Result<()> {
        let (Some(copy), Some(token)) = (self.entry.get("copy"), &self.token) else {
            return Ok(());
        };
        let from = copy["from"].as_str().context("copy.from")?;
        let end = Instant::now() + PATIENCE;
        let seen = loop {
            if let Some(seen) = told(token).into_iter().find(|seen| seen["backend"] == from) {
                break seen;
            }
            ensure!(Instant::now() < end, "{from} got no copy; told: {:?}", told(token));
            std::thread::sleep(Duration::from_millis(2));
        };
        copy.get("sees").map_or(Ok(()), |sees| check_seen(sees, &seen)).context("the copy")
    }

    fn flag(&self, name: &str) -> bool {
        self.entry.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn check_shares(&self, counts: &BTreeMap<String, u64>, times: u64) -> Result<()> {
        let Some(shares) = self.entry.get("shares").and_then(Value::as_object) else {
            return Ok(());
        };
        let tolerance = self.entry.get("tolerance").map_or(Some(5.0), Value::as_f64);
        let tolerance = tolerance.context("tolerance")?;
        for (name, share) in shares {
            let share = share.as_f64().context("a share is a percentage")?;
            let count = counts.get(name).copied().unwrap_or(0);
            let got = count as f64 * 100.0 / times as f64;
            ensure!((got - share).abs() <= tolerance, "{name}: {got} %, not {share}: {counts:?}");
        }
        for name in counts.keys() {
            ensure!(shares.contains_key(name), "an answer of {name}: {counts:?}");
        }
        Ok(())
    }

    fn check(&self, response: &Response) -> Result<()> {
        let from = self.entry.get("from").and_then(Value::as_str);
        match self.entry.get("status") {
            None => ensure!(response.status == 200, "status {}, not 200", response.status),
            Some(Value::Array(any)) => {
                ensure!(any.contains(&response.status.into()), "status {}", response.status);
            }
            Some(status) => {
                ensure!(
                    status.as_u64() == Some(response.status.into()),
                    "status {}, not {status}",
                    response.status
                );
                ensure!(from.is_some() || response.seen().is_none(), "a back end answered");
            }
        }
        if let Some(from) = from {
            let got = backend(response);
            ensure!(got.as_deref() == Some(from), "answered by {got:?}, not by {from}");
        }
        match &response.broken {
            Some(why) if !self.flag("broken") => bail!("the answer is broken: {why}"),
            None if self.flag("broken") => bail!("the answer is complete"),
            _ => {}
        }
        if let (Some(sees), Some(seen)) = (self.entry.get("sees"), response.seen()) {
            check_seen(sees, &seen)?;
        }
        if let Some(answer) = self.entry.get("answer") {
            check_answer(answer, response)?;
        }
        Ok(())
    }
}

/// `{version: 1, source: …, destination: …}`, or the bytes themselves.
fn proxy_header(written: &Value) -> Result<Vec<u8>> {
    if let Some(bytes) = written.as_str() {
        return Ok(bytes.into());
    }
    if written.get("local").is_some() {
        return Ok(proxy_protocol::v2_local());
    }
    let address = |key: &str| -> Result<SocketAddr> {
        let text = written.get(key).and_then(Value::as_str).with_context(|| key.to_owned())?;
        text.parse().with_context(|| text.to_owned())
    };
    let (source, destination) = (address("source")?, address("destination")?);
    match written.get("version").and_then(Value::as_u64) {
        Some(1) => Ok(proxy_protocol::v1(source, destination)),
        // An unknown type-length-value behind the addresses is to be skipped.
        Some(2) => Ok(proxy_protocol::v2(source, destination, &[0xe0, 0, 2, b'h', b'i'])),
        other => bail!("no version {other:?} of the PROXY protocol"),
    }
}

fn tls_options(written: &Value) -> Result<ClientOptions> {
    let mut options = ClientOptions::default();
    let list = |value: &Value| -> Result<Vec<String>> {
        let items = value.as_array().context("a list")?;
        items.iter().map(|item| Ok(item.as_str().context("a string")?.to_owned())).collect()
    };
    for (key, value) in written.as_object().context("tls is a map")? {
        let text = || value.as_str().map(str::to_owned).context("a string");
        match key.as_str() {
            "server_name" => options.server_name = value.as_str().map(str::to_owned),
            "trust" => options.trust = Some(text()?),
            "client" => options.certificate = Some(pki::client(&text()?)?),
            "versions" => options.versions = list(value)?,
            "alpn" => options.alpn = list(value)?,
            "suites" => options.suites = list(value)?,
            "groups" => options.groups = list(value)?,
            "session" => {}
            _ => bail!("unknown key tls.{key}"),
        }
    }
    Ok(options)
}

fn check_handshake(wanted: &Value, got: &Handshake) -> Result<()> {
    for (key, wanted) in wanted.as_object().context("handshake is a map")? {
        let got: Value = match key.as_str() {
            "certificate" => got.certificate().into(),
            "version" => got.version.as_str().into(),
            "suite" => got.suite.as_str().into(),
            "group" => got.group.as_str().into(),
            "alpn" => got.alpn.as_deref().into(),
            "resumed" => got.resumed.into(),
            _ => bail!("unknown key handshake.{key}"),
        };
        ensure!(got == *wanted, "the handshake's {key} is {got}, not {wanted}");
    }
    Ok(())
}

/// Steps on a bare connection; gives the name that answered the last `line`.
fn converse(client: &mut Client, steps: &[Value]) -> Result<Option<String>> {
    let mut from = None;
    for (n, step) in steps.iter().enumerate() {
        let (key, value) =
            step.as_object().and_then(|step| step.iter().next()).context("a step")?;
        let text = || value.as_str().context("a string");
        let done = match key.as_str() {
            "send" => client.send(text()?.as_bytes()).map_err(Into::into),
            "finish" => client.finish().map_err(Into::into),
            "line" => line(client, text()?).map(|name| from = Some(name)),
            "expect" => expect(client, text()?.as_bytes()),
            // Without TLS the end has no name: closed or reset.
            "closed" => match client.is_closed() {
                Ok(true) => Ok(()),
                Ok(false) => Err(anyhow::anyhow!("bytes instead of the end")),
                Err(error) => Err(error.into()),
            },
            _ => bail!("unknown step {key}"),
        };
        done.with_context(|| format!("step {} ({key})", n + 1))?;
    }
    Ok(from)
}

/// Sends a line, and gives the name of the back end that answered it.
fn line(client: &mut Client, text: &str) -> Result<String> {
    client.send(format!("{text}\n").as_bytes())?;
    let mut got = Vec::new();
    while !got.ends_with(b"\n") {
        client.reader().exactly(1, &mut |bytes| got.extend_from_slice(bytes))?;
    }
    let got = String::from_utf8_lossy(&got).into_owned();
    let (name, rest) = got.trim_end().split_once(": ").with_context(|| got.clone())?;
    ensure!(rest == text, "{got:?} for {text:?}");
    Ok(name.to_owned())
}

fn expect(client: &mut Client, wanted: &[u8]) -> Result<()> {
    let mut got = Vec::new();
    client.reader().exactly(wanted.len() as u64, &mut |bytes| got.extend_from_slice(bytes))?;
    ensure!(got == wanted, "got {:?}", String::from_utf8_lossy(&got));
    Ok(())
}

/// Sessions by nobody's name: a client that offers whatever it got last, to whomever.
#[derive(Debug, Default)]
struct OneDrawer {
    tls12: Mutex<Option<Tls12ClientSessionValue>>,
    tls13: Mutex<VecDeque<Tls13ClientSessionValue>>,
    group: Mutex<Option<NamedGroup>>,
}

impl ClientSessionStore for OneDrawer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.group.lock().unwrap() = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock().unwrap()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.tls12.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.tls12.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        *self.tls12.lock().unwrap() = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.tls13.lock().unwrap().push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tls13.lock().unwrap().pop_back()
    }
}

fn backend(response: &Response) -> Option<String> {
    Some(response.seen()?["backend"].as_str()?.to_owned())
}

fn check_seen(sees: &Value, seen: &Value) -> Result<()> {
    let lines: Vec<(String, String)> = seen["fields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|line| (text(&line[0]), text(&line[1])))
        .collect();
    for (key, wanted) in sees.as_object().context("sees is a map")? {
        match key.as_str() {
            "target" | "method" | "body" | "version" | "port" => {
                ensure!(seen[key] == *wanted, "the back end saw {key} {}, not {wanted}", seen[key]);
            }
            "tls" => match wanted.as_object() {
                None => ensure!(seen["tls"] == *wanted, "TLS to the back end: {}", seen["tls"]),
                Some(wanted) => {
                    for (key, wanted) in wanted {
                        let got = &seen["tls"][key];
                        ensure!(got == wanted, "the back end's tls.{key} is {got}, not {wanted}");
                    }
                }
            },
            "host" => {
                // RFC 9113 §8.3.1: one of the two, as the protocol has it.
                let h2 = lines.iter().any(|(name, _)| name == ":authority");
                check_field(if h2 { ":authority" } else { "host" }, wanted, &lines)?;
            }
            "headers" => {
                for (name, wanted) in wanted.as_object().context("headers is a map")? {
                    // RFC 9113 §8.2.2: HTTP/2 has none of these.
                    let none = name == "transfer-encoding" && seen["version"] == "HTTP/2";
                    let wanted = if none { &Value::Null } else { wanted };
                    check_field(name, wanted, &lines).context("at the back end")?;
                }
            }
            "raw" => {
                let found = lines.iter().any(|(n, v)| format!("{n}: {v}") == text(wanted));
                ensure!(found, "no line {wanted} in {lines:?}");
            }
            _ => bail!("unknown key sees.{key}"),
        }
    }
    Ok(())
}

fn check_answer(answer: &Value, response: &Response) -> Result<()> {
    for (key, wanted) in answer.as_object().context("answer is a map")? {
        match key.as_str() {
            "body" => {
                ensure!(response.text() == text(wanted), "body {:?}", response.text());
            }
            "contains" => {
                ensure!(response.text().contains(&text(wanted)), "the body lacks {wanted}");
            }
            "headers" => {
                for (name, wanted) in wanted.as_object().context("headers is a map")? {
                    check_field(name, wanted, &response.fields)?;
                }
            }
            "trailers" => {
                for (name, wanted) in wanted.as_object().context("trailers is a map")? {
                    check_field(name, wanted, &response.trailers).context("in the trailers")?;
                }
            }
            _ => bail!("unknown key answer.{key}"),
        }
    }
    Ok(())
}

/// `null`: absent; `true`: there, whatever its value; `{not: x}`: there with another value;
/// `{like: a*b}`: there with a value that begins with `a` and ends with `b`; else the value of all lines joined by commas, whose white space does not matter.
fn check_field(name: &str, wanted: &Value, fields: &[(String, String)]) -> Result<()> {
    let fields = fields.to_vec();
    let got = ringway_tests::head::joined(&fields, name);
    let squeeze = |text: &str| text.replace(", ", ",");
    let fine = match (wanted, &got) {
        (Value::Null, got) => got.is_none(),
        (Value::Bool(true), got) => got.as_ref().is_some_and(|value| !value.is_empty()),
        (Value::Object(how), Some(got)) => match how.get("like").map(text) {
            Some(like) => {
                let (start, end) = like.split_once('*').context("a star")?;
                got.len() >= start.len() + end.len() && got.starts_with(start) && got.ends_with(end)
            }
            None => text(&how["not"]) != *got,
        },
        (wanted, Some(got)) => squeeze(&text(wanted)) == squeeze(got),
        (_, None) => false,
    };
    ensure!(fine, "{name} is {got:?}, not {wanted}");
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
