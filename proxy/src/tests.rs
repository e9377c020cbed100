// SPDX-License-Identifier: Apache-2.0
//! The data plane over loopback, on both drivers, against back ends that are plain threads.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_core::feed::{Endpoint, Feed};
use ringway_core::ir;
use ringway_core::link::{Bind, Command, Fleet};
use ringway_core::name::{Generation, Kind, Ref};
use ringway_core::policy::headers::HeaderEdits;
use ringway_core::policy::rewrite::{HostRewrite, PathRewrite};
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::table::{Slots, compile};

use crate::fleet::{Options, Workers};
use crate::{IoBackend, LogForm};

const PATIENCE: Duration = Duration::from_secs(10);

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One listener, one `*` host, prefix `/` to the given back ends.
fn start(backend: IoBackend, endpoints: &[SocketAddr]) -> (Workers, SocketAddr) {
    let options = Options {
        workers: 1,
        io_backend: backend,
        pin: false,
        access_log: LogForm::Off,
        helpful_404: false,
    };
    let workers = Workers::start(&options).unwrap();
    let address = free_port();
    let cluster: Arc<str> = "backend".into();
    let route = ir::Route {
        object: Ref::new(Kind::Mapping, "default", "all"),
        action: ir::Action::Forward(ir::Forward {
            cluster: cluster.clone(),
            path: PathRewrite::Keep,
            host: HostRewrite::Keep,
            timeouts: Timeouts {
                request: Some(Duration::from_secs(3)),
                idle: Some(Duration::from_secs(300)),
            },
        }),
        refusal: None,
        always: false,
        unguarded: false,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let group = ir::Group {
        matcher: ir::Matcher {
            path: ir::PathMatch::Prefix { text: "/".into(), case_sensitive: true },
            authority: None,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        },
        rank: ir::EmissaryRank::default(),
        members: vec![ir::Member { from: 0, to: 100, route: Arc::new(route) }],
    };
    let host = ir::VirtualHost {
        domain: "*".into(),
        host: None,
        insecure: ir::InsecureAction::Route,
        refusal: None,
        groups: vec![Arc::new(group)],
    };
    let ir = ir::Ir {
        settings: Arc::default(),
        listeners: vec![ir::Listener {
            object: Ref::new(Kind::Listener, "default", "http"),
            address,
            stats_prefix: "ingress_http".into(),
            stack: vec![ir::Protocol::Http, ir::Protocol::Tcp],
            security: ir::SecurityModel::Xfp,
            l7_depth: 0,
            virtual_hosts: vec![Arc::new(host)],
        }],
        clusters: BTreeMap::from([(
            cluster.clone(),
            Arc::new(ir::Cluster {
                name: cluster.clone(),
                stats_name: cluster,
                source: ir::EndpointSource::Static(endpoints.to_vec()),
                host: "backend".into(),
                transport: ir::Transport::Cleartext,
                connect_timeout: None,
                idle_timeout: None,
                max_lifetime: None,
                keepalive: None,
            }),
        )]),
        guards: Vec::new(),
    };
    let mut slots = Slots::new();
    let table = Arc::new(compile(&ir, Generation(1), &mut slots, None).unwrap());
    let slot = table.listeners[0].slot;
    let endpoints: Vec<_> = endpoints.iter().map(|&address| Endpoint { address }).collect();
    let cluster = table.clusters.iter().flatten().next().unwrap().slot;
    let feed = Arc::new(Feed { cluster, version: 1, endpoints: endpoints.into() });
    assert!(workers.send(0, Command::Feed(feed)));
    assert!(workers.send(0, Command::Table(table)));
    workers.ack(PATIENCE).expect("the worker takes its table");
    for bound in workers.listen(&[Bind { listener: slot, address }]) {
        bound.unwrap();
    }
    (workers, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(_) if Instant::now() < deadline => std::thread::yield_now(),
            Err(error) => panic!("no connection: {error}"),
        }
    }
}

/// Reads until the text occurs, or fails.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(text) {
        let n = stream.read(&mut buffer).expect("bytes in time");
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8(seen).unwrap()
}

/// A back end that answers every request with its head as the body.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut buffer = [0; 65536];
                while let Ok(n) = stream.read(&mut buffer) {
                    if n == 0 {
                        return;
                    }
                    seen.extend_from_slice(&buffer[..n]);
                    while let Some(end) = memchr::memmem::find(&seen, b"\r\n\r\n") {
                        let head: Vec<u8> = seen.drain(..end + 4).collect();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
                        stream.write_all(answer.as_bytes()).unwrap();
                        stream.write_all(&head).unwrap();
                    }
                }
            });
        }
    });
    address
}

fn both(test: impl Fn(IoBackend)) {
    test(IoBackend::IoUring);
    test(IoBackend::Epoll);
}

#[test]
fn requests_reach_the_back_end_and_answers_come_back() {
    both(|backend| {
        let (workers, address) = start(backend, &[echo()]);
        let mut client = connect(address);
        for _ in 0..3 {
            client
                .write_all(b"GET /x?y=1 HTTP/1.1\r\nHost: A.example\r\nX-Own: 1\r\n\r\n")
                .unwrap();
            let answer = read_until(&mut client, "x-envoy-expected-rq-timeout-ms: 3000\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("GET /x?y=1 HTTP/1.1\r\nhost: a.example\r\nX-Own: 1\r\n"));
            assert!(answer.contains("\r\nserver: envoy\r\n"));
            assert!(answer.contains("x-forwarded-proto: http\r\n"));
        }
        let name = if backend == IoBackend::Epoll { "epoll" } else { "io_uring" };
        assert_eq!(workers.status()[0].io_backend, name);
        assert_eq!(workers.connections(), 1);
    });
}
