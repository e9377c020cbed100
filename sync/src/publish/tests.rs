// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;

use ringway_core::ir;
use ringway_core::link::{Ack, WorkerStatus};
use ringway_core::name::{Kind, ListenerSlot, Ref};
use ringway_core::observe::metric::Slab;
use ringway_core::sorted::Sorted;
use ringway_core::table;

use super::*;

/// Workers that only write down what they are sent.
#[derive(Default)]
struct Fake {
    log: Mutex<Vec<String>>,
    acks: Mutex<VecDeque<Ack>>,
    /// Acknowledge tables as soon as they are sent.
    eager: Mutex<bool>,
    full: Mutex<bool>,
    taken: Mutex<Vec<SocketAddr>>,
    tables: Mutex<[Option<Arc<Table>>; 2]>,
}

impl Fake {
    fn acknowledge(&self, worker: usize, generation: u64) {
        self.acks.lock().unwrap().push_back(Ack { worker, generation: Generation(generation) });
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Fleet for Fake {
    fn workers(&self) -> usize {
        2
    }

    fn listen(&self, binds: &[Bind]) -> Vec<io::Result<()>> {
        let taken = self.taken.lock().unwrap();
        let ports: Vec<u16> = binds.iter().map(|b| b.address.port()).collect();
        self.log.lock().unwrap().push(format!("listen {ports:?}"));
        let outcome = |bind: &Bind| match taken.contains(&bind.address) {
            true => Err(io::ErrorKind::AddrInUse.into()),
            false => Ok(()),
        };
        binds.iter().map(outcome).collect()
    }

    fn send(&self, worker: usize, command: Command) -> bool {
        if *self.full.lock().unwrap() {
            return false;
        }
        let line = match command {
            Command::Table(table) => {
                if *self.eager.lock().unwrap() {
                    self.acknowledge(worker, table.generation.0);
                }
                let line = format!("{worker}: table {}", table.generation);
                self.tables.lock().unwrap()[worker] = Some(table);
                line
            }
            Command::Feed(feed) => {
                let addresses: Vec<String> =
                    feed.endpoints.iter().map(|e| e.address.to_string()).collect();
                format!("{worker}: feed {}v{} {addresses:?}", feed.cluster.0, feed.version)
            }
            Command::Drain { .. } => format!("{worker}: drain"),
            Command::Overload(pressure) => format!("{worker}: {pressure:?}"),
        };
        self.log.lock().unwrap().push(line);
        true
    }

    fn ack(&self, _: Duration) -> Option<Ack> {
        self.acks.lock().unwrap().pop_front()
    }

    fn slab(&self, _: usize) -> &Slab {
        unimplemented!("the publisher reads no counters")
    }

    fn status(&self) -> Vec<WorkerStatus> {
        Vec::new()
    }

    fn close_listeners(&self) {}

    fn is_drained(&self) -> bool {
        false
    }

    fn connections(&self) -> u64 {
        0
    }
}

struct Bench {
    fleet: Arc<Fake>,
    progress: Arc<Progress>,
    publisher: Publisher,
    wanted: tokio::sync::watch::Receiver<Arc<BTreeSet<Lookup>>>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let (lookups, wanted) = tokio::sync::watch::channel(Arc::default());
        let fleet = Arc::new(Fake::default());
        let progress = Arc::new(Progress::default());
        let publisher = Publisher::new(Arc::<Fake>::clone(&fleet), Arc::clone(&progress), lookups);
        Self { fleet, progress, publisher, wanted, now: Instant::now() }
    }

    fn eager() -> Self {
        let bench = Self::new();
        *bench.fleet.eager.lock().unwrap() = true;
        bench
    }

    /// Publishes and does what can be done at once.
    fn publish(&mut self, table: Table) {
        let table = Arc::new(table);
        let publication = Publication { table, since: self.now, summary: String::new() };
        self.publisher.take(Message::Publish(publication));
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            self.publisher.step(self.now);
            self.publisher.take_acks(Duration::ZERO);
        }
        self.publisher.step(self.now);
    }
}

fn cluster(name: &str, source: EndpointSource) -> (Arc<str>, EndpointSource) {
    (name.into(), source)
}

fn fixed(name: &str, addresses: &[&str]) -> (Arc<str>, EndpointSource) {
    cluster(name, EndpointSource::Static(addresses.iter().map(|a| a.parse().unwrap()).collect()))
}

fn named(name: &str) -> (Arc<str>, EndpointSource) {
    let source = EndpointSource::Dns {
        name: name.into(),
        port: 80,
        ipv4: true,
        ipv6: false,
        respect_ttl: false,
        logical: false,
    };
    cluster(name, source)
}

fn table(generation: u64, ports: &[u16], clusters: &[(Arc<str>, EndpointSource)]) -> Table {
    let listener = |(slot, port): (usize, &u16)| table::Listener {
        hosts: table::Hosts::default(),
        slot: ListenerSlot(slot as u32),
        object: Ref::new(Kind::Listener, "default", format!("port-{port}")),
        address: SocketAddr::from(([127, 0, 0, 1], *port)),
        stats_prefix: "ingress_http".into(),
        stack: vec![ir::Protocol::Http, ir::Protocol::Tcp],
        chains: Default::default(),
        security: ir::SecurityModel::Xfp,
        l7_depth: 0,
        http2_streams_max: None,
        tcp: None,
        guards: Vec::new(),
    };
    let cluster = |(slot, (name, source)): (usize, &(Arc<str>, EndpointSource))| {
        let spec = ir::Cluster {
            name: Arc::clone(name),
            stats_name: Arc::clone(name),
            source: source.clone(),
            host: Arc::clone(name),
            transport: ir::Transport::Cleartext,
            protocol: Default::default(),
            balancer: Default::default(),
            connect_timeout: None,
            idle_timeout: None,
            max_lifetime: None,
            keepalive: None,
        };
        Some(Arc::new(Cluster { slot: ClusterSlot(slot as u32), spec: Arc::new(spec) }))
    };
    Table {
        generation: Generation(generation),
        settings: Arc::default(),
        listeners: ports.iter().enumerate().map(listener).collect(),
        clusters: clusters.iter().enumerate().map(cluster).collect(),
        sources: Sorted::default(),
        routes: Arc::default(),
    }
}

#[test]
fn feeds_come_first_then_the_table_then_the_listener() {
    let mut bench = Bench::eager();
    bench.publish(table(1, &[8080], &[fixed("a", &["10.0.0.1:80"])]));
    let expected = [
        "0: feed 0v1 [\"10.0.0.1:80\"]",
        "0: table 1",
        "1: feed 0v1 [\"10.0.0.1:80\"]",
        "1: table 1",
        "listen [8080]",
    ];
    assert_eq!(bench.fleet.told(), expected);
    assert_eq!(bench.progress.served(), Generation(1));
    assert!(bench.progress.is_serving());
}

#[test]
fn only_what_changed_is_fed_again() {
    let mut bench = Bench::eager();
    bench.publish(table(1, &[], &[fixed("a", &["10.0.0.1:80"]), fixed("b", &["10.0.0.2:80"])]));
    bench.fleet.told();
    bench.publish(table(2, &[], &[fixed("a", &["10.0.0.1:80"]), fixed("b", &["10.0.0.3:80"])]));
    let told = bench.fleet.told();
    assert_eq!(told[..2], ["0: feed 1v2 [\"10.0.0.3:80\"]", "0: table 2"]);
    assert_eq!(told.len(), 4);
}

#[test]
fn a_slow_worker_gets_the_newest_table_next() {
    let mut bench = Bench::new();
    bench.publish(table(1, &[], &[]));
    bench.publish(table(2, &[], &[]));
    bench.publish(table(3, &[], &[]));
    assert_eq!(bench.fleet.told(), ["0: table 1", "1: table 1"]);
    bench.fleet.acknowledge(1, 1);
    bench.settle();
    assert_eq!(bench.fleet.told(), ["1: table 3"]);
    assert_eq!(bench.progress.served(), Generation(0));
    assert!(!bench.progress.is_serving());
    bench.fleet.acknowledge(0, 1);
    bench.fleet.acknowledge(1, 3);
    bench.settle();
    assert_eq!(bench.fleet.told(), ["0: table 3"]);
    assert_eq!(bench.progress.served(), Generation(1));
    bench.fleet.acknowledge(0, 3);
    bench.settle();
    assert_eq!(bench.progress.served(), Generation(3));
}

#[test]
fn an_old_table_is_freed_here_once_no_worker_holds_it() {
    let mut bench = Bench::eager();
    bench.publish(table(1, &[], &[]));
    let held = bench.fleet.tables.lock().unwrap()[0].clone().unwrap();
    let old = Arc::downgrade(&held);
    bench.publish(table(2, &[], &[]));
    assert_eq!(bench.publisher.retired.len(), 1);
    drop(held);
    assert!(old.upgrade().is_some(), "the publisher holds on to it");
    bench.settle();
    assert!(bench.publisher.retired.is_empty());
    assert!(old.upgrade().is_none());
}

#[test]
fn a_full_inbox_loses_nothing() {
    let mut bench = Bench::eager();
    *bench.fleet.full.lock().unwrap() = true;
    bench.publish(table(1, &[], &[fixed("a", &["10.0.0.1:80"])]));
    assert!(bench.fleet.told().is_empty());
    *bench.fleet.full.lock().unwrap() = false;
    bench.settle();
    assert_eq!(bench.fleet.told().len(), 4);
}

#[test]
fn a_listener_goes_before_the_table_without_it_and_comes_after_the_table_with_it() {
    let mut bench = Bench::eager();
    bench.publish(table(1, &[8080], &[]));
    bench.fleet.told();
    bench.publish(table(2, &[8081], &[]));
    let expected = ["listen []", "0: table 2", "1: table 2", "listen [8081]"];
    assert_eq!(bench.fleet.told(), expected);
}

#[test]
fn an_address_in_use_is_reported_and_tried_again() {
    let mut bench = Bench::eager();
    let taken = SocketAddr::from(([127, 0, 0, 1], 8080));
    bench.fleet.taken.lock().unwrap().push(taken);
    bench.publish(table(1, &[8080, 8081], &[]));
    assert!(bench.progress.is_serving(), "the others are not held back");
    assert_eq!(bench.progress.bound(), [SocketAddr::from(([127, 0, 0, 1], 8081))]);
    assert_eq!(bench.progress.bind_failures()[0].0, taken);
    bench.fleet.taken.lock().unwrap().clear();
    bench.settle();
    assert!(!bench.progress.bind_failures().is_empty(), "not before its time");
    bench.now += BIND_RETRY;
    bench.settle();
    assert!(bench.progress.bind_failures().is_empty());
}

#[test]
fn a_gateway_that_listens_nowhere_does_not_serve() {
    let mut bench = Bench::eager();
    let taken = SocketAddr::from(([127, 0, 0, 1], 8080));
    bench.fleet.taken.lock().unwrap().push(taken);
    bench.publish(table(1, &[8080], &[]));
    assert!(bench.progress.has_failed() && !bench.progress.is_serving());
    bench.fleet.taken.lock().unwrap().clear();
    bench.now += BIND_RETRY;
    bench.settle();
    assert!(bench.progress.is_serving() && !bench.progress.has_failed());
}

#[test]
fn names_are_asked_for_and_their_answers_fed() {
    let mut bench = Bench::eager();
    bench.publish(table(1, &[], &[named("quote"), named("auth")]));
    let wanted = Arc::clone(&bench.wanted.borrow_and_update());
    assert_eq!(wanted.iter().map(|l| &*l.name).collect::<Vec<_>>(), ["auth", "quote"]);
    assert!(!bench.progress.is_serving(), "names are waited for");
    bench.fleet.told();

    let quote = wanted.iter().find(|l| &*l.name == "quote").unwrap();
    let auth = wanted.iter().find(|l| &*l.name == "auth").unwrap();
    let addresses: Arc<[IpAddr]> = [[10, 0, 0, 1].into()].into();
    bench.publisher.take(Message::Answer(quote.clone(), Some(Arc::clone(&addresses))));
    bench.settle();
    assert_eq!(
        bench.fleet.told(),
        ["0: feed 0v2 [\"10.0.0.1:80\"]", "1: feed 0v2 [\"10.0.0.1:80\"]"]
    );
    // The same again, and then a failure: nothing new.
    bench.publisher.take(Message::Answer(quote.clone(), Some(addresses)));
    bench.publisher.take(Message::Answer(quote.clone(), None));
    bench.settle();
    assert!(bench.fleet.told().is_empty());
    assert!(!bench.progress.is_serving());
    bench.publisher.take(Message::Answer(auth.clone(), None));
    bench.settle();
    assert!(bench.progress.is_serving(), "a failure is an answer");
}

#[test]
fn readiness_does_not_wait_for_names_for_ever() {
    let mut bench = Bench::eager();
    bench.publish(table(1, &[], &[named("quote")]));
    assert!(!bench.progress.is_serving());
    bench.now += limits::DNS_FIRST_ANSWER_TIMEOUT;
    bench.settle();
    assert!(bench.progress.is_serving());
}

#[test]
fn a_name_that_a_new_cluster_shares_is_known_at_once() {
    let mut bench = Bench::eager();
    bench.publish(table(1, &[], &[named("quote")]));
    let lookup = bench.wanted.borrow().first().unwrap().clone();
    bench.publisher.take(Message::Answer(lookup, Some([[10, 0, 0, 1].into()].into())));
    bench.settle();
    bench.fleet.told();
    let (_, source) = named("quote");
    bench.publish(table(2, &[], &[named("quote"), cluster("tagged", source)]));
    assert_eq!(bench.fleet.told()[..2], ["0: feed 1v1 [\"10.0.0.1:80\"]", "0: table 2"]);
}
