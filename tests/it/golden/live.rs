// SPDX-License-Identifier: Apache-2.0
//! Golden cases against the running gateway: one process per case, on both drivers. In the files
//! `192.0.2.N` is back end number N; here it becomes a loopback address that listens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ringway_tests::address::Block;
use ringway_tests::client::Response;
use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::upstream::{Hole, Upstream, echo};
use ringway_tests::{Client, PATIENCE, yaml};
use serde_json::Value;

use super::{cases, environment, folder, read};

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
                echoes.push(Upstream::start(address, move |stream| echo(name, stream))?);
            }
        }
        let hole = Hole::start(block.address(30), 8000)?;
        Ok(Self { block, _echoes: echoes, _hole: hole })
    }
}

#[test]
fn cases_on_io_uring() {
    run("io_uring");
}

#[test]
fn cases_on_epoll() {
    run("epoll");
}

fn run(io_backend: &'static str) {
    let backends = Backends::start().expect("the back ends start");
    let only = std::env::var("GOLDEN").unwrap_or_default();
    let cases: Vec<String> = cases().into_iter().filter(|case| case.contains(&only)).collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    if let Err(error) = serve(case, &backends, io_backend) {
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
}

fn serve(case: &str, backends: &Backends, io_backend: &'static str) -> Result<()> {
    let file = folder().join(format!("{case}.http.yaml"));
    let expected = std::fs::read_to_string(&file).context("no .http.yaml")?;
    let real = |text: &str| text.replace(WRITTEN, &backends.block.prefix());
    let expected = yaml::parse(&real(&expected))?;
    let [Value::Array(exchanges)] = &expected[..] else { bail!("no list of exchanges") };
    let (settings, manifests) = read(case);
    let options = Options { env: environment(&settings), ..Options::driver(io_backend) };
    let gateway = Gateway::start(&real(&manifests), &options)?;
    gateway.assert_driver(io_backend)?;
    for (n, exchange) in exchanges.iter().enumerate() {
        let title = exchange.get("request").and_then(Value::as_str).unwrap_or("raw");
        Exchange::read(exchange)
            .and_then(|exchange| exchange.run(&gateway))
            .with_context(|| format!("exchange {} ({title})", n + 1))
            .map_err(|error| {
                let log = gateway.log();
                error.context(format!(
                    "{}\n",
                    log.lines().rev().take(3).collect::<Vec<_>>().join("\n")
                ))
            })?;
    }
    Ok(())
}

/// One entry of a `.http.yaml` file.
struct Exchange<'a> {
    entry: &'a Value,
    method: String,
    bytes: Vec<u8>,
}

const KEYS: [&str; 18] = [
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
            return Ok(Self { entry, method, bytes: raw.into() });
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
        let body = entry.get("body").map_or("", |b| b.as_str().unwrap_or_default());
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let bytes = format!("{head}\r\n{body}").into_bytes();
        Ok(Self { entry, method: method.to_owned(), bytes })
    }

    fn run(&self, gateway: &Gateway) -> Result<()> {
        let port = self.entry.get("port").map_or(Some(8080), Value::as_u64).context("port")?;
        let address = gateway.address(u16::try_from(port)?);
        if self.flag("refused") {
            return match Client::connect(address, PATIENCE) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error).context("expected a refused connection"),
                Ok(_) => bail!("somebody listens on port {port}"),
            };
        }
        let start = Instant::now();
        let mut client = Client::connect(address, PATIENCE)?;
        let times = self.entry.get("times").map_or(Some(1), Value::as_u64).context("times")?;
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            client.send(&self.bytes)?;
            let response = client.response(&self.method)?;
            if self.entry.get("shares").is_some() {
                let from = backend(&response).unwrap_or_else(|| response.status.to_string());
                *counts.entry(from).or_insert(0_u64) += 1;
            } else {
                self.check(&response).with_context(|| {
                    let text: String = response.text().chars().take(600).collect();
                    format!("got {} {:?} {text}", response.status, response.fields)
                })?;
            }
        }
        if let Some(limit) = self.entry.get("within_ms").and_then(Value::as_u64) {
            let taken = start.elapsed();
            ensure!(taken < Duration::from_millis(limit), "took {taken:?}");
        }
        if let Some(limit) = self.entry.get("then_closes_within_ms").and_then(Value::as_u64) {
            let start = Instant::now();
            ensure!(client.is_closed()?, "bytes after the answer");
            ensure!(start.elapsed() < Duration::from_millis(limit), "closed late");
        }
        self.check_shares(&counts, times)
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
            "host" => check_field("host", wanted, &lines)?,
            "headers" => {
                for (name, wanted) in wanted.as_object().context("headers is a map")? {
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
            _ => bail!("unknown key answer.{key}"),
        }
    }
    Ok(())
}

/// `null`: absent; `true`: there, whatever its value; `{not: x}`: there with another value; else
/// the value of all lines joined by commas, whose white space does not matter.
fn check_field(name: &str, wanted: &Value, fields: &[(String, String)]) -> Result<()> {
    let fields = fields.to_vec();
    let got = ringway_tests::head::joined(&fields, name);
    let squeeze = |text: &str| text.replace(", ", ",");
    let fine = match (wanted, &got) {
        (Value::Null, got) => got.is_none(),
        (Value::Bool(true), got) => got.as_ref().is_some_and(|value| !value.is_empty()),
        (Value::Object(not), Some(got)) => text(&not["not"]) != *got,
        (wanted, Some(got)) => squeeze(&text(wanted)) == squeeze(got),
        (_, None) => false,
    };
    ensure!(fine, "{name} is {got:?}, not {wanted}");
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
