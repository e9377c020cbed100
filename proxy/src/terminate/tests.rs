// SPDX-License-Identifier: Apache-2.0
//! TLS of clients over loopback, on both drivers, with a rustls client that reads and writes as
//! slowly, or as brokenly, as a test wants.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_core::ir;
use ringway_core::limits::HANDSHAKES_MAX;
use ringway_core::link::Fleet;
use ringway_core::name::ListenerSlot;
use ringway_core::observe::metric::{ListenerCell, WorkerCell};
use ringway_core::tls::{Identity, Parameters, Pem, Server, ServerSpec};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use crate::IoBackend;
use crate::fleet::Workers;
use crate::tests::{both, connect, echo, read_until, scripted, start_with};

/// The only one there is.
const LISTENER: ListenerSlot = ListenerSlot(0);

type Client = StreamOwned<ClientConnection, TcpStream>;

/// A certificate for these names, and the configuration of a client that trusts it alone.
pub(crate) struct Certificate {
    pub(crate) chain: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Certificate {
    pub(crate) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        Self { chain: made.cert.der().clone(), key }
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], self.key.clone_key())
            .unwrap();
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        config
    }

    pub(crate) fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.chain.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }
}

fn termination(config: ServerConfig) -> Arc<Server> {
    let pem = || Pem(Arc::from(&b""[..]));
    let identity = Identity { chain: pem(), key: pem(), names: Arc::default(), not_after: 0 };
    let spec =
        ServerSpec { identity, alpn: Vec::new(), parameters: Parameters::default(), clients: None };
    Arc::new(Server { spec, config: Arc::new(config) })
}

fn chain(server_name: &str, termination: Option<Arc<Server>>) -> Arc<ir::TlsChain> {
    Arc::new(ir::TlsChain { server_name: server_name.into(), object: None, termination, tcp: None })
}

/// A gateway whose listener terminates TLS by these chains.
fn start(
    backend: IoBackend,
    endpoints: &[SocketAddr],
    chains: Vec<Arc<ir::TlsChain>>,
) -> (Workers, SocketAddr) {
    start_with(backend, endpoints, |ir| {
        ir.listeners[0].stack = vec![ir::Protocol::Tls, ir::Protocol::Http, ir::Protocol::Tcp];
        ir.listeners[0].tls = chains;
    })
}

fn client(config: &Arc<ClientConfig>, name: &str, address: SocketAddr) -> Client {
    let connection =
        ClientConnection::new(config.clone(), name.to_owned().try_into().unwrap()).unwrap();
    StreamOwned::new(connection, connect(address))
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

fn ask(client: &mut Client) -> String {
    client.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\nX-Own: 1\r\n\r\n").unwrap();
    read_until(client, "x-envoy-expected-rq-timeout-ms: 3000\r\n\r\n")
}

#[test]
fn requests_over_tls_are_secure_requests() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let (_workers, address) =
            start(backend, &[echo()], vec![chain("*", Some(termination(certificate.server())))]);
        for version in VERSIONS {
            let config = Arc::new(certificate.client(&[version]));
            let mut client = client(&config, "a.example", address);
            for _ in 0..3 {
                let answer = ask(&mut client);
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                assert!(answer.contains("x-forwarded-proto: https\r\n"), "{answer}");
            }
        }
        // Cleartext on the same port goes on as HTTP.
        let mut client = connect(address);
        client.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let answer = read_until(&mut client, "timeout-ms: 3000\r\n\r\n");
        assert!(answer.contains("x-forwarded-proto: http\r\n"), "{answer}");
    });
}

#[test]
fn a_long_upload_and_its_echo_flow_both_ways_at_once() {
    const LENGTH: usize = 16 << 20;
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let upstream = scripted(|mut stream| {
            let head = read_until(&mut stream, "\r\n\r\n");
            let at = head.find("\r\n\r\n").unwrap() + 4;
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n").unwrap();
            stream.write_all(&head.as_bytes()[at..]).unwrap();
            let mut left = LENGTH - (head.len() - at);
            let mut buffer = vec![0; 65536];
            while left > 0 {
                let Ok(n @ 1..) = stream.read(&mut buffer) else { return };
                stream.write_all(&buffer[..n]).unwrap();
                left -= n;
            }
        });
        let (_workers, address) =
            start(backend, &[upstream], vec![chain("*", Some(termination(certificate.server())))]);
        for version in VERSIONS {
            let config = Arc::new(certificate.client(&[version]));
            let mut client = client(&config, "a.example", address);
            write!(client, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n")
                .unwrap();
            let byte = |at: usize| (at / 7 % 251) as u8;
            let head = read_until(&mut client, "\r\n\r\n");
            let at = head.find("\r\n\r\n").unwrap() + 4;
            assert_eq!(at, head.len(), "nothing was sent yet");
            // One thread on a socket that does not block: both directions are always under way.
            client.sock.set_nonblocking(true).unwrap();
            let (mut sent, mut seen) = (0, 0);
            let mut buffer = vec![0; 65536];
            while seen < LENGTH {
                if sent < LENGTH {
                    let block: Vec<u8> = (sent..LENGTH.min(sent + 50_000)).map(byte).collect();
                    match client.write(&block) {
                        Ok(n) => sent += n,
                        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                    }
                } else {
                    let _ = client.flush();
                }
                match client.read(&mut buffer) {
                    Ok(n) => {
                        assert!(n > 0, "the echo ends after {seen} bytes");
                        for (at, got) in buffer[..n].iter().enumerate() {
                            assert_eq!(*got, byte(seen + at), "at {}", seen + at);
                        }
                        seen += n;
                    }
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
            }
            // The connection lives on.
            client.sock.set_nonblocking(false).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            assert_eq!(client.read(&mut buffer[..8]).unwrap(), 8);
        }
    });
}

/// A certificate of its own per chain.
fn chain_of(name: &str) -> (Certificate, Arc<ir::TlsChain>) {
    let certificate = Certificate::new(&[name]);
    let mut server = termination(certificate.server());
    // What tells configurations apart is what they were made from.
    Arc::get_mut(&mut server).unwrap().spec.alpn = vec![name.into()];
    let chain = chain(name, Some(server));
    (certificate, chain)
}

#[test]
fn the_server_name_picks_the_certificate_and_the_host_must_agree() {
    both(|backend| {
        let (a, chain_a) = chain_of("a.example");
        let (b, chain_b) = chain_of("*.b.example");
        let broken = chain("c.example", None);
        let (workers, address) = start(backend, &[echo()], vec![chain_a, broken, chain_b]);
        let ask = |client: &mut Client, host: &str, expected: &str| {
            write!(client, "GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").unwrap();
            read_until(client, expected);
        };
        const SERVED: &str = "timeout-ms: 3000\r\n\r\n";
        const MISDIRECTED: &str = "\r\n\r\nMisdirected Request";
        let config = Arc::new(a.client(rustls::ALL_VERSIONS));
        let mut on_a = client(&config, "A.example", address);
        ask(&mut on_a, "a.example", SERVED);
        ask(&mut on_a, "a.example:8443", SERVED);
        for host in ["x.b.example", "c.example:443"] {
            ask(&mut on_a, host, MISDIRECTED);
            // The connection is as good as it was.
            ask(&mut on_a, "a.example", SERVED);
        }
        let config = Arc::new(b.client(rustls::ALL_VERSIONS));
        let mut on_b = client(&config, "x.b.example", address);
        // One configuration, two names: connections are shared.
        ask(&mut on_b, "y.b.example", SERVED);

        for name in ["c.example", "d.example"] {
            let error = client(&config, name, address).read(&mut [0]).unwrap_err();
            let alert = format!("{:?}", error.get_ref().unwrap());
            assert!(alert.contains("UnrecognisedName"), "{alert}");
        }
        let slot = workers.slab(0);
        // The alert may overtake its counting.
        let until = Instant::now() + crate::tests::PATIENCE;
        while slot.listener(LISTENER, ListenerCell::TlsUnknownName) < 2 {
            assert!(Instant::now() < until, "two refusals are counted");
            std::thread::yield_now();
        }
        assert_eq!(slot.listener(LISTENER, ListenerCell::TlsUnknownName), 2);
        assert_eq!(slot.worker(WorkerCell::Panics), 0);
    });
}

#[test]
fn http2_is_spoken_with_those_that_negotiate_it() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let mut server = certificate.server();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (_workers, address) =
            start(backend, &[echo()], vec![chain("*", Some(termination(server)))]);
        let mut config = certificate.client(rustls::ALL_VERSIONS);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut chosen = client(&Arc::new(config.clone()), "a.example", address);
        ask(&mut chosen);
        assert_eq!(chosen.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut chosen = client(&Arc::new(config), "a.example", address);
        chosen.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        let mut frame = [0; 9];
        chosen.read_exact(&mut frame).unwrap();
        assert_eq!(chosen.conn.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(frame[3], 4, "SETTINGS come first");
    });
}

/// Everything that a client sends in its handshake and with its first request, and its connection.
fn recorded(config: &Arc<ClientConfig>, address: SocketAddr) -> Vec<Vec<u8>> {
    let name = "a.example".try_into().unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    let mut socket = connect(address);
    let mut flights = Vec::new();
    while connection.is_handshaking() {
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight).unwrap();
        }
        socket.write_all(&flight).unwrap();
        flights.push(flight);
        connection.read_tls(&mut socket).unwrap();
        connection.process_new_packets().unwrap();
    }
    flights
}

/// A client that hands its bytes to the socket in pieces of this size, each in a segment of its
/// own.
struct Slow {
    socket: TcpStream,
    piece: usize,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for piece in bytes.chunks(self.piece) {
            self.socket.write_all(piece)?;
            // Lets the gateway take it: an own read for each piece, as far as it is fast enough.
            std::thread::yield_now();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_may_come_in_any_pieces() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let (_workers, address) =
            start(backend, &[echo()], vec![chain("*", Some(termination(certificate.server())))]);
        for version in VERSIONS {
            let config = Arc::new(certificate.client(&[version]));
            for piece in [1, 2, 3, 5, 7, 64, 517, 1400] {
                let socket = connect(address);
                socket.set_nodelay(true).unwrap();
                let name = "a.example".try_into().unwrap();
                let connection = ClientConnection::new(config.clone(), name).unwrap();
                let mut client = StreamOwned::new(connection, Slow { socket, piece });
                for _ in 0..2 {
                    client.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
                    let answer = read_until(&mut client, "timeout-ms: 3000\r\n\r\n");
                    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{piece}: {answer}");
                }
            }
        }
    });
}

#[test]
fn garbage_ends_a_handshake_and_nothing_else() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let (workers, address) =
            start(backend, &[echo()], vec![chain("*", Some(termination(certificate.server())))]);
        let config = Arc::new(certificate.client(rustls::ALL_VERSIONS));
        let hello = recorded(&config, address).remove(0);
        let mut lengthy = vec![0x16, 3, 1, 0x40, 1];
        lengthy.resize(70_000, 1);
        let behind = [&hello[..], &[0x17, 3, 3, 0, 40], &[0x55; 40]].concat();
        for bytes in [&b"\x16garbage that is no record"[..], &lengthy, &behind, &hello[..40]] {
            let mut socket = connect(address);
            let _ = socket.write_all(bytes);
            if bytes.len() == 40 {
                socket.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut seen = Vec::new();
            // It ends; whatever came before is an alert or a server's flight.
            let _ = socket.read_to_end(&mut seen);
            assert!(!seen.windows(5).any(|w| w == b"HTTP/"), "{seen:?}");
        }
        ask(&mut client(&config, "a.example", address));
        assert_eq!(workers.slab(0).worker(WorkerCell::Panics), 0);
    });
}

#[test]
fn key_updates_are_answered_and_sessions_resume() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let (_workers, address) =
            start(backend, &[echo()], vec![chain("*", Some(termination(certificate.server())))]);
        for version in VERSIONS {
            let config = Arc::new(certificate.client(&[version]));
            let mut first = client(&config, "a.example", address);
            ask(&mut first);
            let kind = |client: &Client| client.conn.handshake_kind();
            assert_eq!(kind(&first), Some(rustls::HandshakeKind::Full));
            if version.version == rustls::ProtocolVersion::TLSv1_3 {
                for _ in 0..5 {
                    first.conn.refresh_traffic_keys().unwrap();
                    ask(&mut first);
                }
                // On a connection at rest, too.
                first.conn.refresh_traffic_keys().unwrap();
                first.flush().unwrap();
                std::thread::sleep(Duration::from_millis(20));
                ask(&mut first);
            }
            let mut second = client(&config, "a.example", address);
            ask(&mut second);
            assert_eq!(kind(&second), Some(rustls::HandshakeKind::Resumed), "{version:?}");
        }
    });
}

#[test]
fn ends_are_said_in_order() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let chains = || vec![chain("*", Some(termination(certificate.server())))];
        let (_workers, address) = start(backend, &[echo()], chains());
        for version in VERSIONS {
            let config = Arc::new(certificate.client(&[version]));
            // Half-closed by the client: it still gets its answer, then our `close_notify`.
            let mut half = client(&config, "a.example", address);
            half.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            half.conn.send_close_notify();
            half.flush().unwrap();
            let mut answer = String::new();
            half.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

            let mut closed = client(&config, "a.example", address);
            closed.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
            answer.clear();
            closed.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
        // An answer that broke off does not end as if it were whole.
        let broken = scripted(|mut stream| {
            read_until(&mut stream, "\r\n\r\n");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").unwrap();
        });
        let (_workers, address) = start(backend, &[broken], chains());
        let config = Arc::new(certificate.client(rustls::ALL_VERSIONS));
        let mut client = client(&config, "a.example", address);
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let error = client.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_flood_of_handshakes_makes_room_at_its_own_cost() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let (workers, address) =
            start(backend, &[echo()], vec![chain("*", Some(termination(certificate.server())))]);
        crate::raise_descriptors();
        // Each has begun and says no more.
        let flood: Vec<TcpStream> = (0..HANDSHAKES_MAX + 50)
            .map(|_| {
                let mut socket = connect(address);
                socket.write_all(&[0x16, 3, 1]).unwrap();
                socket
            })
            .collect();
        let config = Arc::new(certificate.client(rustls::ALL_VERSIONS));
        ask(&mut client(&config, "a.example", address));
        let shed = || workers.slab(0).listener(LISTENER, ListenerCell::HandshakesShed);
        let deadline = Instant::now() + crate::tests::PATIENCE;
        while shed() < 50 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!((50..=51).contains(&shed()), "{}", shed());
        // The oldest are gone, the newest wait.
        let mut oldest = &flood[0];
        assert!(matches!(oldest.read(&mut [0]), Ok(0) | Err(_)));
        let newest = &flood[flood.len() - 1];
        newest.set_nonblocking(true).unwrap();
        let mut newest = newest;
        let error = newest.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_keep_alive_request_costs_what_rustls_allocates() {
    both(|backend| {
        let certificate = Certificate::new(&["a.example"]);
        let (workers, address) =
            start(backend, &[echo()], vec![chain("*", Some(termination(certificate.server())))]);
        let config = Arc::new(certificate.client(rustls::ALL_VERSIONS));
        let mut client = client(&config, "a.example", address);
        let mut ask = |n: usize| (0..n).for_each(|_| drop(ask(&mut client)));
        ask(100);
        let least = crate::tests::least_allocations(&workers, || ask(1_000));
        let per_request = least as f64 / 1_000.0;
        eprintln!("{backend:?}: {per_request} allocations per request");
        assert!(per_request <= RUSTLS_ALLOCATIONS, "{backend:?}: {per_request}");
    });
}

/// Per record received its plaintext, per record sent the record: rustls hands both over in
/// buffers of their own.
const RUSTLS_ALLOCATIONS: f64 = 2.0;
