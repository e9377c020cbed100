// SPDX-License-Identifier: Apache-2.0
//! What is measured: the requests, and the work that every proxy must do for them. A scenario says
//! nothing of any proxy; `peer/` translates [`Work`] into each one's own configuration, and
//! [`Scenario::verify`] looks at both ends so that nobody wins by doing less.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::browser;
use crate::engine::{Engine, Exchange, Load, Pace, Streams, Until, keep};
use crate::h2;
use crate::http;
use crate::tls::{self, Sessions};

/// The host that clients ask for; it must arrive unchanged.
pub(crate) const HOST: &str = "bench.example";

/// Rows that are no peers: the generator straight to the back end, Ringway with one route, and
/// another build of Ringway.
pub(crate) const DIRECT: &str = "direct";
pub(crate) const OTHER: &str = "ringway-other";
pub(crate) const ONE_ROUTE: &str = "ringway-1-route";

/// What a proxy does with each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Passes it on as it is.
    Forward,
    /// What gateways are for: strips the prefix `/api`, appends to `x-forwarded-for`, sets
    /// `x-forwarded-proto` and `x-request-id`; on the request sets `x-tenant: bench` and removes
    /// `x-debug`; on the answer adds `x-frame-options: DENY`, replaces `x-version` with 2 and removes
    /// `x-powered-by`.
    Gateway,
    /// Finds the request's prefix among so many, `/r-00000/` …; others are answered 404.
    Routes(usize),
    /// Finds one of so many hosts (see [`host_name`]) and then one of its ten prefixes; others are
    /// answered 404.
    Hosts(usize),
    /// The same as [`Work::Routes`], and `/probe/` becomes `/g-N/`, N being the number of the
    /// configuration, which changes.
    Changing(usize),
    /// Copies bytes between the client and an upstream connection of its own; reads no HTTP.
    Tunnel,
    /// Passes a WebSocket upgrade on, then copies bytes.
    WebSocket,
}

/// Over what clients connect. TLS is 1.3 with AES-128-GCM and X25519, which every proxy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Cleartext,
    /// Handshakes before the window.
    Tls,
    /// A full handshake for every request.
    TlsHandshakes,
    /// A resumed handshake for every request.
    TlsResumptions,
}

/// What clients and the back end speak; the proxy translates where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1 both.
    Http1,
    /// Clients HTTP/2, by ALPN over TLS and by prior knowledge in cleartext; the back end HTTP/1.1.
    Http2,
    /// gRPC, HTTP/2 both.
    Grpc,
}

/// Requests that a connection over HTTP/2 has under way.
pub(crate) const STREAMS: usize = 16;

/// Before the memory of idle connections is read: by then nobody has any left of answering them, which is
/// not what being idle takes.
pub(crate) const IDLE_REST: Duration = Duration::from_secs(5);

/// What is read off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// Answers per second of the proxy's processor time.
    Throughput,
    /// Resident memory per idle connection; every one had an answer.
    Idle,
    /// Resident memory at rest.
    Resident,
    /// Latency at a fixed rate, added over a direct run.
    Latency { per_second: u64 },
    /// Time until a changed configuration serves, and what that does to the requests meanwhile.
    Change,
}

/// What Ringway is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// So many times the best other proxy's figure.
    Best(f64),
    /// So many times its own figure with one route.
    OneRoute(f64),
    /// At most so many bytes.
    Bytes(f64),
    /// Less than every other proxy adds, p50 and p99.
    LeastLatency,
    /// The 99th percentile of changes is served within `ms`, none fails a request, none slows one
    /// by more than `slower_ms`.
    Change { ms: f64, slower_ms: f64 },
}

/// One row of the comparison.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) measure: Measure,
    pub(crate) target: Option<Target>,
    pub(crate) work: Work,
    pub(crate) wire: Wire,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    /// Part of `--quick`.
    pub(crate) quick: bool,
    /// Every request on a connection of its own, even without TLS.
    churn: bool,
    answer_bytes: usize,
    browser: bool,
    post_bytes: usize,
}

/// Every scenario, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    let plain = Scenario {
        name: "tiny",
        title: "keep-alive, 13 B answer",
        measure: Measure::Throughput,
        target: None,
        work: Work::Forward,
        wire: Wire::Cleartext,
        protocol: Protocol::Http1,
        connections: 64,
        quick: false,
        churn: false,
        answer_bytes: 13,
        browser: false,
        post_bytes: 0,
    };
    let best = |ratio| Some(Target::Best(ratio));
    let gateway = Scenario { work: Work::Gateway, browser: true, ..plain.clone() };
    let tls = Scenario { wire: Wire::Tls, ..plain.clone() };
    let http2 =
        Scenario { target: best(1.2), protocol: Protocol::Http2, connections: 16, ..plain.clone() };
    let grpc = Scenario { protocol: Protocol::Grpc, answer_bytes: 16, ..http2.clone() };
    let idle = Scenario { measure: Measure::Idle, ..plain.clone() };
    let resident = Scenario { measure: Measure::Resident, ..plain.clone() };
    let rate = Scenario { target: Some(Target::LeastLatency), ..plain.clone() };
    vec![
        Scenario { target: best(1.35), quick: true, ..plain.clone() },
        Scenario {
            name: "gateway",
            title: "browser request 0.9 KB, gateway work, 128 B answer",
            target: best(1.35),
            answer_bytes: 128,
            quick: true,
            ..gateway.clone()
        },
        Scenario {
            name: "gateway-1k",
            title: "browser request 0.9 KB, gateway work, 1 KiB answer",
            target: best(1.35),
            answer_bytes: 1024,
            ..gateway
        },
        Scenario {
            name: "answer-64k",
            title: "64 KiB answer",
            target: best(1.15),
            answer_bytes: 64 << 10,
            quick: true,
            ..plain.clone()
        },
        Scenario {
            name: "answer-1m",
            title: "1 MiB answer",
            target: best(1.15),
            connections: 16,
            answer_bytes: 1 << 20,
            ..plain.clone()
        },
        Scenario {
            name: "post-16k",
            title: "POST of 16 KiB, the same back",
            target: best(1.15),
            answer_bytes: 16 << 10,
            post_bytes: 16 << 10,
            ..plain.clone()
        },
        Scenario {
            name: "churn",
            title: "a connection per request, 13 B answer",
            target: best(1.0),
            churn: true,
            quick: true,
            ..plain.clone()
        },
        Scenario {
            name: "routes-1k",
            title: "1,000 prefix routes, 13 B answer",
            work: Work::Routes(1_000),
            ..plain.clone()
        },
        Scenario {
            name: "routes-10k",
            title: "10,000 prefix routes, 13 B answer",
            target: Some(Target::OneRoute(0.95)),
            work: Work::Routes(10_000),
            quick: true,
            ..plain.clone()
        },
        Scenario {
            name: "hosts-1k",
            title: "1,000 hosts with 10 prefixes each, 13 B answer",
            work: Work::Hosts(1_000),
            ..plain.clone()
        },
        Scenario {
            name: "tls",
            title: "TLS 1.3, 13 B answer",
            target: best(1.2),
            quick: true,
            ..tls.clone()
        },
        Scenario {
            name: "tls-64k",
            title: "TLS 1.3, 64 KiB answer",
            target: best(1.1),
            answer_bytes: 64 << 10,
            ..tls.clone()
        },
        Scenario {
            name: "tls-handshakes",
            title: "TLS 1.3, a full handshake (P-256) per request",
            target: best(1.1),
            wire: Wire::TlsHandshakes,
            connections: 32,
            quick: true,
            ..tls.clone()
        },
        Scenario {
            name: "tls-resumptions",
            title: "TLS 1.3, a resumed handshake per request",
            wire: Wire::TlsResumptions,
            connections: 32,
            ..tls
        },
        Scenario {
            name: "h2-tls",
            title: "HTTP/2 over TLS 1.3, 16 streams per connection, HTTP/1.1 back end, 13 B answer",
            wire: Wire::Tls,
            ..http2.clone()
        },
        Scenario {
            name: "h2c",
            title: "HTTP/2 in cleartext, 16 streams per connection, HTTP/1.1 back end, 13 B answer",
            ..http2
        },
        Scenario {
            name: "grpc",
            title: "unary gRPC in cleartext, 16 streams per connection, 16 B messages",
            ..grpc.clone()
        },
        Scenario {
            name: "grpc-tls",
            title: "unary gRPC over TLS 1.3, 16 streams per connection, 16 B messages",
            wire: Wire::Tls,
            ..grpc
        },
        Scenario {
            name: "tunnel",
            title: "TCP tunnel, 13 B answer",
            work: Work::Tunnel,
            ..plain.clone()
        },
        Scenario {
            name: "tunnel-64k",
            title: "TCP tunnel, 64 KiB answer",
            work: Work::Tunnel,
            answer_bytes: 64 << 10,
            ..plain.clone()
        },
        Scenario {
            name: "websocket",
            title: "WebSocket, a 128 B message echoed",
            work: Work::WebSocket,
            ..plain.clone()
        },
        Scenario {
            name: "idle-1k",
            title: "memory per idle keep-alive connection, 1,000 of them",
            connections: 1_000,
            quick: true,
            ..idle.clone()
        },
        Scenario {
            name: "idle-10k",
            title: "memory per idle keep-alive connection, 10,000 if descriptors allow",
            target: Some(Target::Bytes(1_000.0)),
            connections: 10_000,
            ..idle.clone()
        },
        Scenario {
            name: "idle-tls",
            title: "memory per idle TLS connection, 5,000 of them",
            target: Some(Target::Bytes(12_000.0)),
            wire: Wire::Tls,
            connections: 5_000,
            ..idle
        },
        Scenario {
            name: "rss-10",
            title: "memory at rest with 10 routes",
            target: Some(Target::Bytes(12.0 * MIB)),
            work: Work::Routes(10),
            ..resident.clone()
        },
        Scenario {
            name: "rss-10k",
            title: "memory at rest with 10,000 routes",
            target: Some(Target::Bytes(48.0 * MIB)),
            work: Work::Routes(10_000),
            ..resident
        },
        Scenario {
            name: "rate-5k",
            title: "latency added at 5,000 requests/s, 13 B answer",
            measure: Measure::Latency { per_second: 5_000 },
            ..rate.clone()
        },
        Scenario {
            name: "rate-10k",
            title: "latency added at 10,000 requests/s, 13 B answer",
            measure: Measure::Latency { per_second: 10_000 },
            quick: true,
            ..rate
        },
        Scenario {
            name: "change-10k",
            title: "one of 10,000 routes changed under 5,000 requests/s",
            measure: Measure::Change,
            target: Some(Target::Change { ms: 5.0, slower_ms: 2.0 }),
            work: Work::Changing(10_000),
            quick: true,
            ..plain
        },
    ]
}

const MIB: f64 = 1_048_576.0;
/// Requests per second while the configuration changes, and how many of them in ten are probes: one
/// every 250 µs, which is what the time until a change serves is exact to.
const CHANGING_RATE: u64 = 5_000;
const PROBES_IN_TEN: usize = 8;

/// The name of one of many hosts.
pub(crate) fn host_name(index: usize) -> String {
    format!("h-{index:04}.{HOST}")
}

/// Prefixes of each of many hosts.
pub(crate) const PREFIXES_PER_HOST: usize = 10;

/// The prefix whose requests tell which configuration routed them.
pub(crate) const PROBE: &str = "/probe/";

/// The prefix of one of many routes.
pub(crate) fn route_prefix(index: usize) -> String {
    format!("/r-{index:05}/")
}

impl Protocol {
    /// How clients speak HTTP/2, if they do.
    pub(crate) fn streams(self) -> Option<Streams> {
        (self != Self::Http1).then_some(Streams { at_once: STREAMS, grpc: self == Self::Grpc })
    }
}

impl Scenario {
    /// The load of this scenario, for any proxy; target, pace and duration are the caller's to set.
    /// Clients that resume sessions show those of `sessions`.
    pub(crate) fn load(&self, sessions: &Arc<Sessions>) -> Load {
        // Strides through all of them, so that no proxy profits from asking for neighbours.
        let stride = |index: usize, count: usize| index * 7_919 % count;
        let protocols = if self.protocol == Protocol::Http1 { &[][..] } else { &["h2"][..] };
        let requests = match self.work {
            Work::Forward | Work::Tunnel => vec![self.request(HOST, "/api/")],
            Work::WebSocket => vec![message()],
            Work::Gateway => vec![self.request(HOST, "/api/")],
            Work::Routes(count) => (0..count)
                .map(|index| self.request(HOST, &route_prefix(stride(index, count))))
                .collect(),
            Work::Hosts(count) => (0..count * PREFIXES_PER_HOST)
                .map(|index| stride(index, count * PREFIXES_PER_HOST))
                .map(|index| {
                    let prefix = route_prefix(index % PREFIXES_PER_HOST);
                    self.request(&host_name(index / PREFIXES_PER_HOST), &prefix)
                })
                .collect(),
            Work::Changing(count) => (0..count)
                .map(|index| match index % 10 < PROBES_IN_TEN {
                    true => self.request(HOST, PROBE),
                    false => self.request(HOST, &route_prefix(stride(index, count))),
                })
                .collect(),
        };
        Load {
            target: ([127, 0, 0, 1], 0).into(),
            requests: requests.into_iter().map(keep).collect(),
            status: 200,
            answer_bytes: Some(self.answer_bytes as u64),
            connections: self.connections,
            pace: match self.measure {
                Measure::Latency { per_second } => Pace::Open { per_second },
                Measure::Change => Pace::Open { per_second: CHANGING_RATE },
                Measure::Throughput | Measure::Idle | Measure::Resident => Pace::Closed,
            },
            until: Until::Answers(1),
            compare_every: 61,
            tls: match self.wire {
                Wire::Cleartext => None,
                Wire::Tls | Wire::TlsHandshakes => Some(tls::client(None, protocols)),
                Wire::TlsResumptions => Some(tls::client(Some(Arc::clone(sessions)), protocols)),
            },
            reconnect: self.churn
                || matches!(self.wire, Wire::TlsHandshakes | Wire::TlsResumptions),
            upgrade: (self.work == Work::WebSocket).then(|| keep(UPGRADE.as_bytes().to_vec())),
            changes: None,
            http2: self.protocol.streams(),
        }
    }

    /// wrk knows neither this TLS nor HTTP/2 nor WebSockets, and keeps its connections.
    pub(crate) fn suits_wrk(&self) -> bool {
        self.wire == Wire::Cleartext
            && self.protocol == Protocol::Http1
            && self.work != Work::WebSocket
            && !self.churn
    }

    /// Connections at a time that proxies must be ready for: some more than there are, so that no
    /// limit makes room for others by closing these.
    pub(crate) fn connections_max(&self) -> usize {
        self.connections.max(512) + 512
    }

    /// What is wrong with a window's handshakes, if anything is.
    pub(crate) fn judge(&self, handshakes: u64, resumed: u64) -> Option<String> {
        match self.wire {
            Wire::Cleartext | Wire::Tls => None,
            Wire::TlsHandshakes => (resumed > 0).then(|| format!("{resumed} sessions resumed")),
            // A session is used once; a client that finds none makes a new one.
            Wire::TlsResumptions => (resumed * 20 < handshakes * 19)
                .then(|| format!("{resumed} sessions resumed of {handshakes}")),
        }
    }

    /// As HTTP/1.1 writes it, whatever the protocol.
    fn request(&self, host: &str, prefix: &str) -> Vec<u8> {
        if self.protocol == Protocol::Grpc {
            return grpc_request(host, prefix, self.answer_bytes);
        }
        let method = if self.post_bytes > 0 { "POST" } else { "GET" };
        let mut head =
            format!("{method} {prefix}{} HTTP/1.1\r\nhost: {host}\r\n", self.answer_bytes);
        head.push_str(if self.browser { browser::FIELDS } else { CLIENT_FIELDS });
        if self.post_bytes > 0 {
            head.push_str("content-type: application/octet-stream\r\n");
            head.push_str(&format!("content-length: {}\r\n", self.post_bytes));
        }
        head.push_str("\r\n");
        [head.into_bytes(), http::body(self.post_bytes)].concat()
    }

    /// Sends single requests through the proxy at `load.target` and checks what arrives at both ends.
    pub(crate) fn verify(&self, engine: &mut Engine, load: &Load) -> Result<()> {
        let exchange = engine.probe(load)?;
        let tls = self.wire != Wire::Cleartext;
        check(self.work, tls, self.answer_bytes, &exchange)?;
        check_protocol(self.protocol, &exchange)?;
        let (first, last, none) = match self.work {
            Work::Routes(count) | Work::Changing(count) => {
                ((HOST.to_owned(), 0), (HOST.to_owned(), count - 1), (HOST.to_owned(), count))
            }
            Work::Hosts(count) => {
                let last = PREFIXES_PER_HOST - 1;
                ((host_name(0), 0), (host_name(count - 1), last), (host_name(count), 0))
            }
            Work::Forward | Work::Gateway | Work::Tunnel | Work::WebSocket => return Ok(()),
        };
        for (host, index) in [first, last] {
            let requests = vec![keep(self.request(&host, &route_prefix(index)))];
            engine.probe(&Load { requests, ..load.clone() })?;
        }
        let (host, index) = none;
        let requests = vec![keep(self.request(&host, &route_prefix(index)))];
        engine.probe(&Load { requests, status: 404, answer_bytes: None, ..load.clone() })?;
        Ok(())
    }
}

/// Whether both ends saw what `work` promises.
fn check(work: Work, tls: bool, answer_bytes: usize, exchange: &Exchange) -> Result<()> {
    let (up, down) = (&exchange.upstream_head, &exchange.answer_head);
    match work {
        Work::Hosts(_) => exactly("the back end", up, "host", &[&host_name(0)])?,
        _ => exactly("the back end", up, "host", &[HOST])?,
    }
    if work == Work::WebSocket {
        exactly("the back end", up, "upgrade", &["websocket"])?;
    }
    if work != Work::Gateway {
        return Ok(());
    }
    let (target, _) = http::request(up).map_err(anyhow::Error::msg)?;
    let stripped = format!("/{answer_bytes}");
    ensure!(target == stripped.as_bytes(), "the prefix was not stripped: {}", show(target));
    exactly("the back end", up, "x-tenant", &["bench"])?;
    exactly("the back end", up, "x-debug", &[])?;
    exactly("the back end", up, "x-forwarded-proto", &[if tls { "https" } else { "http" }])?;
    // An address, not which one: for a client on loopback Envoy gives an address of the machine.
    let hops = http::field(up, "x-forwarded-for").map(show).unwrap_or_default();
    let last = hops.rsplit(", ").next().and_then(|hop| hop.parse::<IpAddr>().ok());
    ensure!(last.is_some(), "x-forwarded-for is '{hops}'");
    let id = http::field(up, "x-request-id").unwrap_or_default();
    ensure!(id.len() >= 16, "x-request-id is '{}'", show(id));
    exactly("the client", down, "x-frame-options", &["DENY"])?;
    exactly("the client", down, "x-version", &["2"])?;
    exactly("the client", down, "x-powered-by", &[])
}

/// Whether the back end was spoken to in its own protocol.
fn check_protocol(protocol: Protocol, exchange: &Exchange) -> Result<()> {
    let (up, down) = (&exchange.upstream_head, &exchange.answer_head);
    let line = up.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let version: &[u8] = if protocol == Protocol::Grpc { b"HTTP/2" } else { b"HTTP/1.1" };
    ensure!(line.ends_with(version), "the back end was asked for {}", show(line));
    if protocol == Protocol::Grpc {
        exactly("the back end", up, "content-type", &["application/grpc"])?;
        exactly("the back end", up, "te", &["trailers"])?;
        exactly("the client", down, "content-type", &["application/grpc"])?;
    }
    Ok(())
}

fn exactly(end: &str, head: &[u8], name: &str, expected: &[&str]) -> Result<()> {
    let found: Vec<_> = http::fields(head, name).map(show).collect();
    if found != expected {
        bail!("{end} saw {name}: {found:?}, not {expected:?}");
    }
    Ok(())
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The upgrade of RFC 6455 §1.3.
const UPGRADE: &str = "GET /api/ws HTTP/1.1\r\nhost: bench.example\r\nupgrade: websocket\r\n\
connection: Upgrade\r\nsec-websocket-version: 13\r\n\
sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// One masked binary frame, 128 bytes in all (RFC 6455 §5.2). What comes back is the same frame: no
/// proxy here looks into it.
fn message() -> Vec<u8> {
    [&[0x82, 0x80 | 122, 1, 2, 3, 4][..], &http::body(122)].concat()
}

/// A unary call whose message is as long as its answer's.
pub(crate) fn grpc_request(host: &str, prefix: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "POST {prefix}{length} HTTP/2\r\nhost: {host}\r\n{CLIENT_FIELDS}\
         content-type: application/grpc\r\nte: trailers\r\n\r\n"
    );
    [head.into_bytes(), h2::grpc_message(length)].concat()
}

const CLIENT_FIELDS: &str = "user-agent: ringway-bench\r\naccept: */*\r\n";

#[cfg(test)]
mod tests;
