// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::proto::rr::Name;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::*;

/// Answers by name and record type, with a TTL in seconds; a missing name is NXDOMAIN.
type Zone = Arc<Mutex<HashMap<(String, u16), (u32, Vec<IpAddr>)>>>;

/// Serves a zone over UDP on a loopback port.
async fn name_server(zone: Zone) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut query = [0; 512];
        loop {
            let (_, peer) = socket.recv_from(&mut query).await.unwrap();
            socket.send_to(&reply(&query, &zone), peer).await.unwrap();
        }
    });
    port
}

/// RFC 1035 §4: the question back, with its answers.
fn reply(query: &[u8], zone: &Zone) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let label = usize::from(query[at]);
        name.push(String::from_utf8_lossy(&query[at + 1..=at + label]).to_lowercase());
        at += label + 1;
    }
    let record = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let answers = zone.lock().unwrap().get(&(name.join("."), record)).cloned();
    let mut out = query[..2].to_vec();
    let (flags, count) = match &answers {
        Some((_, addresses)) => (0x8180u16, addresses.len() as u16),
        None => (0x8183, 0),
    };
    for field in [flags, 1, count, 0, 0] {
        out.extend(field.to_be_bytes());
    }
    out.extend(&query[12..at + 5]);
    for (ttl, address) in answers.iter().flat_map(|(ttl, a)| a.iter().map(move |a| (ttl, a))) {
        out.extend([0xc0, 12]);
        out.extend(record.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        match address {
            IpAddr::V4(v4) => {
                out.extend([0, 4]);
                out.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                out.extend([0, 16]);
                out.extend(v6.octets());
            }
        }
    }
    out
}

const A: u16 = 1;
const AAAA: u16 = 28;

fn lookup(name: &str) -> Lookup {
    Lookup { name: name.into(), ipv4: true, ipv6: false, respect_ttl: true }
}

type Answers = mpsc::UnboundedReceiver<(Lookup, Option<Arc<[IpAddr]>>)>;

/// A zone, what to resolve in it, and the answers; paused time, so that no test waits.
struct Bench {
    zone: Zone,
    wanted: watch::Sender<Arc<BTreeSet<Lookup>>>,
    answers: Answers,
}

impl Bench {
    async fn new() -> Self {
        let zone = Zone::default();
        let port = name_server(Arc::clone(&zone)).await;
        let mut server = NameServerConfig::udp(Ipv4Addr::LOCALHOST.into());
        for connection in &mut server.connections {
            connection.port = port;
        }
        let search = vec![Name::from_ascii("svc.cluster.local.").unwrap()];
        let config = ResolverConfig::from_parts(None, search, vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().cache_size = 0;
        let resolver = builder.build().unwrap();
        let (wanted, receiver) = watch::channel(Arc::default());
        let (sender, answers) = mpsc::unbounded_channel();
        tokio::spawn(watch(resolver, receiver, move |lookup, addresses| {
            sender.send((lookup.clone(), addresses)).is_ok()
        }));
        Self { zone, wanted, answers }
    }

    fn set(&self, name: &str, record: u16, ttl: u32, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.zone.lock().unwrap().insert((name.into(), record), (ttl, addresses));
    }

    fn want(&self, lookups: &[Lookup]) {
        self.wanted.send_replace(Arc::new(lookups.iter().cloned().collect()));
    }

    async fn next(&mut self) -> Option<Vec<String>> {
        let (_, addresses) = self.answers.recv().await.unwrap();
        addresses.map(|a| a.iter().map(ToString::to_string).collect())
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_changed_answer_is_seen_when_its_ttl_ends() {
    run(async {
        let mut bench = Bench::new().await;
        bench.set("quote.test", A, 1, &["10.0.0.1", "10.0.0.2"]);
        bench.want(&[lookup("quote.test.")]);
        assert_eq!(bench.next().await.unwrap(), ["10.0.0.1", "10.0.0.2"]);
        bench.set("quote.test", A, 60, &["10.0.0.3"]);
        assert_eq!(bench.next().await.unwrap(), ["10.0.0.3"]);
    });
}

#[test]
fn a_failure_reports_nothing_new_and_is_tried_again() {
    run(async {
        let mut bench = Bench::new().await;
        bench.want(&[lookup("late.test.")]);
        assert_eq!(bench.next().await, None);
        bench.set("late.test", A, 60, &["10.0.0.9"]);
        // One more failure may have been under way.
        loop {
            if let Some(addresses) = bench.next().await {
                assert_eq!(addresses, ["10.0.0.9"]);
                break;
            }
        }
    });
}

#[test]
fn search_domains_complete_a_service_name() {
    run(async {
        let mut bench = Bench::new().await;
        bench.set("quote.default.svc.cluster.local", A, 60, &["10.96.0.1"]);
        bench.want(&[lookup("quote.default")]);
        assert_eq!(bench.next().await.unwrap(), ["10.96.0.1"]);
    });
}

#[test]
fn families_follow_the_settings() {
    run(async {
        let mut bench = Bench::new().await;
        bench.set("dual.test", A, 60, &["10.0.0.1"]);
        bench.set("dual.test", AAAA, 60, &["2001:db8::1"]);
        bench.set("four.test", A, 60, &["10.0.0.4"]);
        let both = |name: &str| Lookup { ipv6: true, ..lookup(name) };
        bench.want(&[both("dual.test.")]);
        assert_eq!(bench.next().await.unwrap(), ["2001:db8::1"]);
        bench.want(&[both("four.test.")]);
        assert_eq!(bench.next().await.unwrap(), ["10.0.0.4"]);
        bench.want(&[lookup("dual.test.")]);
        assert_eq!(bench.next().await.unwrap(), ["10.0.0.1"]);
        bench.want(&[Lookup { ipv4: false, ..both("dual.test.") }]);
        assert_eq!(bench.next().await.unwrap(), ["2001:db8::1"]);
    });
}

#[test]
fn localhost_needs_no_server() {
    run(async {
        let mut bench = Bench::new().await;
        bench.want(&[lookup("localhost")]);
        assert_eq!(bench.next().await.unwrap(), ["127.0.0.1"]);
        bench.want(&[Lookup { ipv4: false, ipv6: true, ..lookup("localhost") }]);
        assert_eq!(bench.next().await.unwrap(), [Ipv6Addr::LOCALHOST.to_string()]);
    });
}
