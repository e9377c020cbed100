// SPDX-License-Identifier: Apache-2.0
//! TLS of the tests' own clients and back ends: rustls over a plain socket. What a handshake came
//! to can be looked at; why one failed has a name.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::pki::{self, Leaf};

/// A socket, with or without TLS over it.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Client(stream) => &stream.sock,
            Self::Server(stream) => &stream.sock,
        }
    }

    /// Ends our side; what the other one still says can be read.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => {}
            Self::Client(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
            }
            Self::Server(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
            }
        }
        self.socket().shutdown(std::net::Shutdown::Write)
    }

    /// What the handshake came to; `None` without TLS.
    pub fn handshake(&self) -> Option<Handshake> {
        let (common, server_name): (&rustls::CommonState, _) = match self {
            Self::Plain(_) => return None,
            Self::Client(stream) => (&stream.conn, None),
            Self::Server(stream) => (&stream.conn, stream.conn.server_name()),
        };
        let version = common.protocol_version().map(|version| match version {
            rustls::ProtocolVersion::TLSv1_2 => "v1.2".to_owned(),
            rustls::ProtocolVersion::TLSv1_3 => "v1.3".to_owned(),
            other => format!("{other:?}"),
        });
        let suite = common.negotiated_cipher_suite();
        let group = common.negotiated_key_exchange_group();
        Some(Handshake {
            server_name: server_name.map(str::to_owned),
            version: version.unwrap_or_default(),
            suite: suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
            group: group.map(|group| format!("{:?}", group.name())).unwrap_or_default(),
            alpn: common.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            resumed: common.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            chain: common.peer_certificates().unwrap_or_default().to_vec(),
        })
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Client(stream) => stream.read(buffer),
            Self::Server(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Client(stream) => stream.write(bytes),
            Self::Server(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Client(stream) => stream.flush(),
            Self::Server(stream) => stream.flush(),
        }
    }
}

/// What a handshake came to.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// That the client asked for; known to servers.
    pub server_name: Option<String>,
    /// `v1.2`, `v1.3`.
    pub version: String,
    /// IANA's name.
    pub suite: String,
    /// The key exchange's: `X25519`, `secp256r1`.
    pub group: String,
    pub alpn: Option<String>,
    pub resumed: bool,
    /// The other side's, its leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Handshake {
    /// The words that the other side's certificate was made from.
    pub fn certificate(&self) -> Option<String> {
        pki::words_of(self.chain.first()?)
    }
}

/// How a client speaks TLS.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// `None`: no server name is sent.
    pub server_name: Option<String>,
    /// The authority that the server's certificate must come from, and its name must be the one
    /// asked for; `None`: any certificate whose key the server has.
    pub trust: Option<String>,
    pub certificate: Option<Arc<Leaf>>,
    /// `v1.2`, `v1.3`; empty: both.
    pub versions: Vec<String>,
    pub alpn: Vec<String>,
    /// IANA names; empty: all there are.
    pub suites: Vec<String>,
    /// `X25519`, `secp256r1`, …; empty: all there are.
    pub groups: Vec<String>,
}

impl ClientOptions {
    pub fn name(server_name: &str) -> Self {
        Self { server_name: Some(server_name.to_owned()), ..Self::default() }
    }

    /// To be kept for several connections where sessions shall be resumed.
    pub fn config(&self) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(self.provider()?);
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Some(authority) => {
                WebPkiServerVerifier::builder_with_provider(roots(authority)?, provider.clone())
                    .build()?
            }
            None => Arc::new(Anybody(provider.clone())),
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(&self.versions)?)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.certificate {
            // As it is: rustls itself would not show one of X.509 version 1.
            Some(leaf) => {
                let key = provider.key_provider.load_private_key(leaf.key())?;
                let shown = CertifiedKey::new(leaf.chain.clone(), key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        config.enable_sni = self.server_name.is_some();
        Ok(Arc::new(config))
    }

    fn provider(&self) -> Result<CryptoProvider> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.suites.is_empty() {
            provider.cipher_suites.retain(|s| self.suites.contains(&format!("{:?}", s.suite())));
        }
        if !self.groups.is_empty() {
            provider.kx_groups.retain(|g| self.groups.contains(&format!("{:?}", g.name())));
        }
        if provider.cipher_suites.is_empty() || provider.kx_groups.is_empty() {
            bail!("no such suite or group: {:?} {:?}", self.suites, self.groups);
        }
        Ok(provider)
    }
}

fn versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>> {
    if names.is_empty() {
        return Ok(rustls::ALL_VERSIONS.to_vec());
    }
    let version = |name: &String| match name.as_str() {
        "v1.2" => Ok(&rustls::version::TLS12),
        "v1.3" => Ok(&rustls::version::TLS13),
        other => bail!("no TLS version {other}"),
    };
    names.iter().map(version).collect()
}

fn roots(authority: &str) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(pki::authority(authority)?.certificate())?;
    Ok(Arc::new(roots))
}

/// Handshakes on a connected socket. An alert of the server is an error that [`alert`] names.
/// With TLS 1.3 a server may refuse a client's certificate only after this returned: its alert is
/// then what the first read gives.
pub fn connect(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    server_name: Option<&str>,
) -> Result<Stream> {
    // Not sent where there is none, but rustls wants one.
    let name = ServerName::try_from(server_name.unwrap_or("nobody.invalid").to_owned())
        .context("a server name")?;
    let connection = ClientConnection::new(config, name)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Stream::Client(Box::new(stream)))
}

/// What a client says first, to be sent by something that is none.
pub fn client_hello(options: &ClientOptions) -> Result<Vec<u8>> {
    let name = options.server_name.as_deref().unwrap_or("nobody.invalid").to_owned();
    let mut connection = ClientConnection::new(options.config()?, name.try_into()?)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

/// How a back end speaks TLS: with this certificate, and with clients of this authority only, if
/// one is named.
pub fn server(leaf: &Leaf, clients: Option<&str>) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(rustls::ALL_VERSIONS)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider).build()?,
        ),
    };
    let mut config = builder.with_single_cert(leaf.chain.clone(), leaf.key())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Handshakes on an accepted socket.
pub fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Stream> {
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Stream::Server(Box::new(stream)))
}

/// Why a connection failed, in one word: the alert that came (`certificate_required`), `untrusted`
/// for a certificate that we did not believe, `closed`, `reset`, or the whole error.
pub fn alert(error: &anyhow::Error) -> String {
    for cause in error.chain() {
        let io = cause.downcast_ref::<io::Error>();
        let tls = io
            .and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>())
            .or_else(|| cause.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => return snake(&format!("{alert:?}")),
            Some(rustls::Error::InvalidCertificate(_)) => return "untrusted".into(),
            _ => {}
        }
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::UnexpectedEof) => return "closed".into(),
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                return "reset".into();
            }
            _ => {}
        }
    }
    format!("{error:#}")
}

/// `UnknownCA` → `unknown_ca`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut small = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && small {
            out.push('_');
        }
        small = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Believes every certificate; that the server has its key is checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    /// A handshake over loopback: what the client and the server make of it.
    fn handshake(options: &ClientOptions, clients: Option<&str>) -> Result<Handshake> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let leaf = pki::server("a.com by root/mid").unwrap();
        let config = server(&leaf, clients).unwrap();
        let address = listener.local_addr().unwrap();
        let other = std::thread::spawn(move || {
            let mut stream = accept(listener.accept().unwrap().0, config)?;
            stream.write_all(b"!")?;
            Ok::<_, anyhow::Error>(())
        });
        let socket = TcpStream::connect(address).unwrap();
        let result = connect(socket, options.config()?, options.server_name.as_deref());
        let result = result.and_then(|mut stream| {
            stream.read_exact(&mut [0])?;
            Ok(stream.handshake().unwrap())
        });
        let _ = other.join().unwrap();
        result
    }

    #[test]
    fn a_chain_is_trusted_by_its_root_and_by_no_other() {
        let mut options =
            ClientOptions { trust: Some("root".into()), ..ClientOptions::name("a.com") };
        options.versions = vec!["v1.2".into()];
        let done = handshake(&options, None).unwrap();
        assert_eq!(done.version, "v1.2");
        assert_eq!(done.certificate().unwrap(), "a.com by root/mid");
        options.trust = Some("test".into());
        assert_eq!(alert(&handshake(&options, None).unwrap_err()), "untrusted");
        options.trust = Some("root".into());
        options.server_name = Some("b.com".into());
        assert_eq!(alert(&handshake(&options, None).unwrap_err()), "untrusted");
    }

    #[test]
    fn a_refused_client_learns_why() {
        let mut options = ClientOptions::name("a.com");
        for version in ["v1.2", "v1.3"] {
            options.versions = vec![version.into()];
            let error = handshake(&options, Some("clients")).unwrap_err();
            assert_eq!(alert(&error), "certificate_required", "{version}");
        }
        options.certificate = Some(pki::client("alice by others").unwrap());
        let refused = alert(&handshake(&options, Some("clients")).unwrap_err());
        assert!(
            ["unknown_ca", "decrypt_error", "bad_certificate"].contains(&refused.as_str()),
            "{refused}"
        );
        options.certificate = Some(pki::client("alice").unwrap());
        assert_eq!(handshake(&options, Some("clients")).unwrap().version, "v1.3");
    }
}
