// SPDX-License-Identifier: Apache-2.0
//! The data plane over loopback, on both drivers, against back ends that are plain threads.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_core::feed::{Endpoint, Feed};
use ringway_core::ir;
use ringway_core::link::{Bind, Command, Fleet};
use ringway_core::name::{Generation, Kind, Ref};
use ringway_core::policy::balance::Balancer;
use ringway_core::policy::headers::HeaderEdits;
use ringway_core::policy::rewrite::{HostRewrite, PathRewrite};
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::sorted::Sorted;
use ringway_core::table::{Slots, compile};

use crate::fleet::{Options, Workers};
use crate::net::stream::Stream;
use crate::worker::Worker;
use crate::{IoBackend, LogForm};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Two ends of one connection.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    far.set_write_timeout(Some(PATIENCE)).unwrap();
    far.set_nodelay(true).unwrap();
    (far, listener.accept().unwrap().0)
}

/// A connection of ours, as this driver takes it.
pub(crate) fn stream(backend: IoBackend, tcp: TcpStream, worker: &Worker) -> Stream {
    tcp.set_nonblocking(backend == IoBackend::Epoll).unwrap();
    Stream::new(monoio::net::TcpStream::from_std(tcp).unwrap(), &worker.timers)
}

/// One listener, one `*` host, prefix `/` to the given back ends.
fn start(backend: IoBackend, endpoints: &[SocketAddr]) -> (Workers, SocketAddr) {
    start_with(backend, endpoints, |_| {})
}

/// The same, with a configuration changed by `edit`.
pub(crate) fn start_with(
    backend: IoBackend,
    endpoints: &[SocketAddr],
    edit: impl FnOnce(&mut ir::Ir),
) -> (Workers, SocketAddr) {
    let options = Options {
        workers: 1,
        io_backend: backend,
        pin: false,
        access_log: LogForm::Off,
        helpful_404: false,
        connections_max: 2000,
        listener_connections_max: 2000,
        drain_time: Duration::from_secs(600),
        share_ports: false,
        give_back: || (),
    };
    let workers = Workers::start(&options).unwrap();
    let address = free_port();
    let cluster: Arc<str> = "backend".into();
    let route = ir::Route {
        object: Ref::new(Kind::Mapping, "default", "all"),
        action: ir::Action::Forward(Arc::new(ir::Forward {
            cluster: cluster.clone(),
            path: PathRewrite::Keep,
            host: HostRewrite::Keep,
            timeouts: Timeouts {
                request: Some(Duration::from_secs(3)),
                idle: Some(Duration::from_secs(300)),
            },
            upgrades: Vec::new(),
            hash: None,
            shadow: None,
        })),
        refusal: None,
        always: false,
        unguarded: false,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let group = ir::Group {
        matcher: Arc::new(ir::Matcher {
            path: ir::PathMatch::Prefix { text: "/".into(), case_sensitive: true },
            authority: None,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        }),
        rank: Arc::default(),
        members: vec![ir::Member { from: 0, to: 100, route: Arc::new(route) }],
    };
    let host = ir::VirtualHost {
        domain: "*".into(),
        host: None,
        insecure: ir::InsecureAction::Route,
        refusal: None,
        groups: vec![Arc::new(group)],
    };
    let mut ir = ir::Ir {
        settings: Arc::default(),
        listeners: vec![ir::Listener {
            object: Ref::new(Kind::Listener, "default", "http"),
            address,
            stats_prefix: "ingress_http".into(),
            stack: vec![ir::Protocol::Http, ir::Protocol::Tcp],
            security: ir::SecurityModel::Xfp,
            l7_depth: 0,
            http2_streams_max: None,
            tls: Vec::new(),
            tcp: None,
            virtual_hosts: vec![Arc::new(host)],
        }],
        clusters: Sorted::from_iter([Arc::new(ir::Cluster {
            name: cluster.clone(),
            stats_name: cluster,
            source: ir::EndpointSource::Static(endpoints.to_vec()),
            host: "backend".into(),
            transport: ir::Transport::Cleartext,
            protocol: Default::default(),
            balancer: Default::default(),
            connect_timeout: None,
            idle_timeout: None,
            max_lifetime: None,
            keepalive: None,
        })]),
        guards: Vec::new(),
    };
    edit(&mut ir);
    let mut slots = Slots::new();
    let table = Arc::new(compile(&ir, Generation(1), &mut slots, None).unwrap());
    let slot = table.listeners[0].slot;
    let endpoints = Feed::sorted(endpoints.iter().map(|&address| Endpoint::new(address)).collect());
    let cluster = table.clusters.iter().flatten().next().unwrap().slot;
    let feed = Arc::new(Feed::new(cluster, 1, Balancer::default(), endpoints));
    assert!(workers.send(0, Command::Feed(feed)));
    assert!(workers.send(0, Command::Table(table)));
    workers.ack(PATIENCE).expect("the worker takes its table");
    for bound in workers.listen(&[Bind { listener: slot, address }]) {
        bound.unwrap();
    }
    (workers, address)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
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
pub(crate) fn read_until(stream: &mut impl Read, text: &str) -> String {
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
pub(crate) fn echo() -> SocketAddr {
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
                        let mut answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len())
                                .into_bytes();
                        answer.extend_from_slice(&head);
                        stream.write_all(&answer).unwrap();
                    }
                }
            });
        }
    });
    address
}

pub(crate) fn both(test: impl Fn(IoBackend)) {
    test(IoBackend::IoUring);
    test(IoBackend::Epoll);
}

/// A back end whose connections each run `script`.
pub(crate) fn scripted(script: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let script = script.clone();
            std::thread::spawn(move || script(stream));
        }
    });
    address
}

/// Sends a request to a gateway in front of `script` and gives all that comes until the end of the
/// connection.
fn talk(
    backend: IoBackend,
    script: impl Fn(TcpStream) + Send + Sync + 'static,
    request: &str,
) -> String {
    let (_workers, address) = start(backend, &[scripted(script)]);
    let mut client = connect(address);
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[track_caller]
fn check_answer(answer_of_upstream: &'static str, request: &str, expected: &[&str], end: &str) {
    both(|backend| {
        let script = move |mut stream: TcpStream| {
            read_until(&mut stream, "\r\n\r\n");
            stream.write_all(answer_of_upstream.as_bytes()).unwrap();
        };
        let answer = talk(backend, script, request);
        for text in expected {
            assert!(answer.contains(text), "{backend:?}: no {text:?} in {answer:?}");
        }
        assert!(answer.ends_with(end), "{backend:?}: {answer:?} does not end with {end:?}");
    });
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn answers_keep_their_framing_or_get_one_that_shows_their_end() {
    check_answer(
        "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-A: 1\r\nx-b:2\r\n\r\nhello",
        GET,
        &[
            "HTTP/1.1 200 Fine\r\n",
            "X-A: 1\r\nx-b:2\r\n",
            "content-length: 5\r\n",
            "connection: close",
        ],
        "\r\n\r\nhello",
    );
    check_answer(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
        GET,
        &["transfer-encoding: chunked\r\n"],
        "\r\n\r\n5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 200 OK\r\n\r\nhello",
        GET,
        &["transfer-encoding: chunked\r\n"],
        "5\r\nhello\r\n0\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        HEAD,
        &["content-length: 5\r\n"],
        "connection: close\r\n\r\n",
    );
    check_answer("HTTP/1.1 204 No Content\r\n\r\n", GET, &["HTTP/1.1 204 "], "\r\n\r\n");
    check_answer(
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
        GET,
        &["content-length: 7\r\n"],
        "\r\n\r\n",
    );
    check_answer(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        GET,
        &["HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n"],
        "\r\n\r\n",
    );
}

#[test]
fn answers_that_cannot_be_trusted_become_502_or_a_visible_abort() {
    let bad = "HTTP/1.1 502 Bad Gateway\r\n";
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\nx: y\n\n",
        "hello\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
    ] {
        check_answer(answer, GET, &[bad], "protocol error");
    }
    check_answer(
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        GET,
        &["content-length: 10\r\n"],
        "\r\n\r\nhello",
    );
    check_answer("", GET, &["HTTP/1.1 503 "], "connection termination");
}

#[test]
fn bodies_go_upstream_in_a_framing_of_ours() {
    both(|backend| {
        let chunked = "POST /u HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: \
             chunked\r\n\r\n5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 6\r\nhost: evil\r\n\r\n";
        let script = |mut stream: TcpStream| {
            let seen = read_until(&mut stream, "x-sum: 6\r\n\r\n");
            assert!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
            assert!(seen.ends_with("5\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 6\r\n\r\n"), "{seen}");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        };
        let answer = talk(backend, script, chunked);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

#[test]
fn a_long_upload_and_its_echo_flow_both_ways_at_once() {
    const LENGTH: usize = 8 << 20;
    both(|backend| {
        let upstream = scripted(|mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n");
            let at_hand = head.len() - head.find("\r\n\r\n").unwrap() - 4;
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n").unwrap();
            let mut buffer = vec![b'x'; 65536];
            stream.write_all(&buffer[..at_hand]).unwrap();
            let mut left = LENGTH - at_hand;
            while left > 0 {
                let n = stream.read(&mut buffer).unwrap();
                assert!(n > 0, "the upload ends early");
                stream.write_all(&buffer[..n]).unwrap();
                left -= n;
            }
        });
        let (_workers, address) = start(backend, &[upstream]);
        let mut client = connect(address);
        let mut sender = client.try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            write!(sender, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n")
                .unwrap();
            let block = vec![b'x'; 65536];
            for _ in 0..LENGTH / block.len() {
                sender.write_all(&block).unwrap();
            }
        });
        let head = read_until(&mut client, "\r\n\r\n");
        let mut seen = head.len() - head.find("\r\n\r\n").unwrap() - 4;
        let mut buffer = vec![0; 65536];
        while seen < LENGTH {
            let n = client.read(&mut buffer).unwrap();
            assert!(n > 0, "the echo ends after {seen} bytes");
            seen += n;
        }
        sending.join().unwrap();
        // The connection lives on.
        client.write_all(GET.as_bytes()).unwrap();
        assert_eq!(client.read(&mut buffer[..8]).unwrap(), 8);
    });
}

#[test]
fn an_early_answer_ends_an_upload_in_order() {
    both(|backend| {
        let script = |mut stream: TcpStream| {
            read_until(&mut stream, "\r\n\r\n");
            stream.write_all(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno").unwrap();
        };
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 900000\r\n\r\n{}",
            "x".repeat(40_000)
        );
        let answer = talk(backend, script, &request);
        assert!(answer.starts_with("HTTP/1.1 413 No\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
    });
}

#[test]
fn a_pooled_connection_that_closed_costs_a_repeatable_request_nothing() {
    both(|backend| {
        let script = |mut stream: TcpStream| {
            read_until(&mut stream, "\r\n\r\n");
            // Closes after one answer without saying so.
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        };
        let (_workers, address) = start(backend, &[scripted(script)]);
        let mut client = connect(address);
        for _ in 0..50 {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let answer = read_until(&mut client, "\r\n\r\n");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    both(|backend| {
        let (_workers, address) = start(backend, &[echo()]);
        let mut client = connect(address);
        client
            .write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        let at =
            |text: &str| answers.find(text).unwrap_or_else(|| panic!("no {text} in {answers}"));
        assert!(at("GET /1 ") < at("GET /2 ") && at("GET /2 ") < at("GET /3 "));
    });
}

#[test]
fn a_client_that_expects_continue_gets_it_before_its_body() {
    both(|backend| {
        let script = |mut stream: TcpStream| {
            let seen = read_until(&mut stream, "body");
            assert!(!seen.contains("100-continue"), "{seen}");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        };
        let (_workers, address) = start(backend, &[scripted(script)]);
        let mut client = connect(address);
        client
            .write_all(
                b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
            )
            .unwrap();
        read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"body").unwrap();
        read_until(&mut client, "HTTP/1.1 200 OK\r\n");
    });
}

#[test]
fn silence_and_refusal_have_their_status() {
    both(|backend| {
        let silent = |mut stream: TcpStream| {
            read_until(&mut stream, "\r\n\r\n");
            let _ = stream.read(&mut [0]);
        };
        let answer = talk(backend, silent, GET);
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(answer.ends_with("upstream request timeout"), "{answer}");

        let (_workers, address) = start(backend, &[free_port()]);
        let mut client = connect(address);
        client.write_all(GET.as_bytes()).unwrap();
        read_until(&mut client, "reset reason: remote connection failure");

        let (_workers, address) = start(backend, &[]);
        let mut client = connect(address);
        client.write_all(GET.as_bytes()).unwrap();
        read_until(&mut client, "no healthy upstream");
    });
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    both(|backend| {
        let (_workers, address) = start(backend, &[echo()]);
        let mut client = connect(address);
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Allocations of the calling thread so far.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.with(std::cell::Cell::get)
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl std::alloc::GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as above.
        unsafe { std::alloc::System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The fewest allocations of the worker's thread in a few rounds: a duration longer than any
/// before takes a piece of a histogram, once.
pub(crate) fn least_allocations(workers: &Workers, mut round: impl FnMut()) -> u64 {
    let mut count = || {
        let before = workers.allocations(0);
        round();
        workers.allocations(0) - before
    };
    (0..5).map(|_| count()).min().unwrap_or_default()
}

#[test]
fn a_keep_alive_request_allocates_nothing() {
    both(|backend| {
        let (workers, address) = start(backend, &[echo()]);
        let mut client = connect(address);
        let mut ask = |n: usize| {
            for _ in 0..n {
                client
                    .write_all(b"GET /x?y=1 HTTP/1.1\r\nHost: A.example\r\nX-Own: 1\r\n\r\n")
                    .unwrap();
                read_until(&mut client, "timeout-ms: 3000\r\n\r\n");
            }
        };
        ask(100);
        let least = least_allocations(&workers, || ask(10_000));
        assert_eq!(least, 0, "{backend:?}");
    });
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
