// SPDX-License-Identifier: Apache-2.0
//! TLS to upstreams over loopback, on both drivers, against rustls servers that are plain threads.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use ringway_core::ir;
use ringway_core::tls::{Client, ClientSpec};
use rustls::{ClientConfig, HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::IoBackend;
use crate::fleet::Workers;
use crate::terminate::tests::Certificate;
use crate::tests::{both, connect, read_until, scripted, start_with};

type Server = StreamOwned<ServerConnection, TcpStream>;

/// A back end whose TLS connections each run `script`.
fn secured(config: ServerConfig, script: impl Fn(Server) + Send + Sync + 'static) -> SocketAddr {
    let config = Arc::new(config);
    scripted(move |stream| {
        script(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream));
    })
}

fn origination(config: ClientConfig, sni: Option<&str>) -> ir::Transport {
    let spec = ClientSpec { sni: sni.map(Into::into), ..ClientSpec::default() };
    ir::Transport::Tls(Some(Arc::new(Client { spec, config: Arc::new(config) })))
}

/// A gateway whose only cluster is reached this way, within 500 ms.
fn start(
    backend: IoBackend,
    upstream: SocketAddr,
    transport: ir::Transport,
) -> (Workers, SocketAddr) {
    start_with(backend, &[upstream], |ir| {
        for cluster in ir.clusters.clone().iter() {
            let mut cluster = ir::Cluster::clone(cluster);
            cluster.transport = transport.clone();
            cluster.host = "a.example:8443".into();
            cluster.connect_timeout = Some(Duration::from_millis(500));
            ir.clusters.insert(Arc::new(cluster));
        }
    })
}

/// Answers every request with its head, until the peer ends.
fn echo(mut stream: Server) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            return;
        }
        seen.extend_from_slice(&buffer[..n]);
        if seen.ends_with(b"\r\n\r\n") {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", seen.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&seen).unwrap();
            seen.clear();
        }
    }
}

const GET: &[u8] = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n";

fn ask(client: &mut TcpStream) -> String {
    client.write_all(GET).unwrap();
    read_until(client, "timeout-ms: 3000\r\n\r\n")
}

#[test]
fn pooled_tls_connections_outlive_the_tickets_that_come_on_them() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
        CONNECTIONS.store(0, SeqCst);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let before = CONNECTIONS.load(SeqCst);
            let upstream = secured(certificate.server(), |mut stream| {
                stream.conn.complete_io(&mut stream.sock).unwrap();
                assert_eq!(stream.conn.server_name(), Some("a.example"));
                CONNECTIONS.fetch_add(1, SeqCst);
                echo(stream);
            });
            let transport = origination(certificate.client(&[version]), None);
            let (_workers, address) = start(backend, upstream, transport);
            let mut client = connect(address);
            for _ in 0..3 {
                assert!(ask(&mut client).starts_with("HTTP/1.1 200 OK"));
                // Longer than a pooled connection is taken without a look.
                std::thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(CONNECTIONS.load(SeqCst) - before, 1, "{backend:?} {version:?}");
        }
    });
}

#[test]
fn a_new_connection_resumes_the_session_of_an_old_one() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let upstream = secured(certificate.server(), |mut stream| {
            read_until(&mut stream, "\r\n\r\n");
            let kind = match stream.conn.handshake_kind() {
                Some(HandshakeKind::Resumed) => "resumed",
                _ => "full",
            };
            write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\nx-kind: {kind}\r\n\r\nok")
                .unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        });
        let transport = origination(certificate.client(rustls::ALL_VERSIONS), None);
        let (_workers, address) = start(backend, upstream, transport);
        let mut client = connect(address);
        for kind in ["full", "resumed", "resumed"] {
            client.write_all(GET).unwrap();
            let answer = read_until(&mut client, "\r\n\r\nok");
            assert!(answer.contains(&format!("x-kind: {kind}\r\n")), "{backend:?}: {answer}");
        }
    });
}

#[track_caller]
fn check_failure(upstream: SocketAddr, config: ClientConfig, text: &str) {
    both(|backend| {
        let transport = origination(config.clone(), None);
        let (_workers, address) = start(backend, upstream, transport);
        let mut client = connect(address);
        client.write_all(GET).unwrap();
        let answer = read_until(&mut client, text);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{backend:?}: {answer}");
    });
}

#[test]
fn upstreams_that_cannot_be_trusted_or_speak_no_tls_get_no_request() {
    let certificate = Certificate::new(&["a.example"]);
    let stranger = Certificate::new(&["a.example"]);
    let never = |mut stream: Server| assert!(stream.read(&mut [0; 64]).unwrap_or(0) == 0);
    let client = certificate.client(rustls::ALL_VERSIONS);
    check_failure(secured(stranger.server(), never), client.clone(), "CERTIFICATE_VERIFY_FAILED");
    let other = Certificate::new(&["b.example"]);
    let client_of_other = other.client(rustls::ALL_VERSIONS);
    check_failure(secured(other.server(), never), client_of_other, "CERTIFICATE_VERIFY_FAILED");
    let cleartext = scripted(|mut stream| {
        let mut hello = [0; 64];
        let n = stream.read(&mut hello).unwrap();
        assert!(!hello[..n].starts_with(b"GET"));
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    check_failure(cleartext, client.clone(), "WRONG_VERSION_NUMBER");
    let silent = scripted(|mut stream| while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {});
    check_failure(silent, client.clone(), "reset reason: connection timeout");
    let gone = scripted(|mut stream| drop(stream.read(&mut [0; 64])));
    check_failure(gone, client, "reset reason: remote connection failure");
}

#[test]
fn an_answer_that_ends_without_close_notify_is_broken() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        for (closes, whole) in [(true, true), (false, false)] {
            let upstream = secured(certificate.server(), move |mut stream| {
                read_until(&mut stream, "\r\n\r\n");
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
                if closes {
                    stream.conn.send_close_notify();
                }
                stream.flush().unwrap();
            });
            let transport = origination(certificate.client(rustls::ALL_VERSIONS), None);
            let (_workers, address) = start(backend, upstream, transport);
            let mut client = connect(address);
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(answer.ends_with("0\r\n\r\n"), whole, "{backend:?}: {answer}");
        }
    });
}
