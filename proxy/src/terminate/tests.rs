//! TLS of clients over loopback, on both drivers, with a rustls client that reads and writes as
//! slowly, or as brokenly, as a test wants.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use ringway_core::ir;
use ringway_core::tls::{Identity, Parameters, Pem, Server, ServerSpec};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use crate::IoBackend;
use crate::fleet::Workers;
use crate::tests::{both, connect, echo, read_until, scripted, start_with};

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
                let n = stream.read(&mut buffer).unwrap();
                assert!(n > 0, "the upload ends early");
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
