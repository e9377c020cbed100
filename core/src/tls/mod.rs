// SPDX-License-Identifier: Apache-2.0
//! TLS configurations, compiled: what a handshake is done with. Built while resolving, so that a
//! key that does not fit its certificate is a problem of an object and not of a connection.
//!
//! Invariants: two configurations of equal specification are one `Arc`, so that session tickets
//! survive a change elsewhere; keys are never printed.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::DnsName;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use serde::Serialize;
use serde::ser::Serializer;

use crate::limits;
use crate::policy::client_certificate::Certificate;

mod error;
mod parameters;
mod pem;
mod shared;
mod verify;

pub use error::Error;
pub use parameters::{Names, curve_names, suite_name, suite_names};
pub(crate) use shared::Shared;
pub use shared::Tickets;

/// What TLS connections to a listener are terminated with.
pub struct Server {
    pub spec: ServerSpec,
    pub config: Arc<rustls::ServerConfig>,
}

/// What TLS connections to an upstream are made with.
pub struct Client {
    pub spec: ClientSpec,
    pub config: Arc<rustls::ClientConfig>,
}

/// Termination as written: Host.tls, TLSContext.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ServerSpec {
    pub identity: Identity,
    /// In order of preference; empty: none is negotiated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<Box<str>>,
    #[serde(flatten)]
    pub parameters: Parameters,
    /// Who may connect; `None`: anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientPolicy>,
}

/// Origination as written: `https://`, `tls: <context>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct ClientSpec {
    /// What we show to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Whom we believe; `None`: anybody (Emissary verifies nothing unless the context says so).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<Pem>,
    /// Revocation lists of the authorities; as [`ClientPolicy::revocations`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocations: Option<Pem>,
    /// Server name to send; `None`: the upstream's host name if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<Box<str>>,
    /// An upstream whose certificate has DNS names must have `sni` among them. Emissary looks at
    /// the chain only; it is asked for where the context names `sni`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub checks_name: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<Box<str>>,
    #[serde(flatten)]
    pub parameters: Parameters,
}

/// Versions, suites, curves; what is empty is rustls' default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Parameters {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_version: Option<Version>,
    /// Names as written (OpenSSL or IANA), those that exist here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Box<str>>,
}

/// The versions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Version {
    #[serde(rename = "v1.2")]
    V1_2,
    #[serde(rename = "v1.3")]
    V1_3,
}

/// Client certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ClientPolicy {
    pub authorities: Pem,
    /// `cert_required`: no certificate, no handshake.
    pub required: bool,
    /// Every authority of a chain must have a list here, and one that has expired counts as none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocations: Option<Pem>,
}

/// A certificate chain with its key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub chain: Pem,
    pub key: Pem,
    /// DNS names and addresses of the leaf, for people.
    pub names: Arc<[Box<str>]>,
    /// Unix time.
    pub not_after: i64,
}

/// PEM as it stood in a Secret or a file. Shown by its length only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pem(pub Arc<[u8]>);

impl Identity {
    /// The URI names of the leaf, as upstreams hear them.
    pub fn uris(&self) -> Vec<Box<str>> {
        let leaf = self.chain.certificates().unwrap_or_default().into_iter().next();
        leaf.map(|leaf| Certificate::new([&*leaf]).uris).unwrap_or_default()
    }
}

impl Server {
    /// Compiles a termination. `tickets` decides which sessions it resumes.
    ///
    /// # Errors
    /// The PEM of its authorities or revocation lists cannot be used, no version, suite or curve
    /// is left, or a protocol of its ALPN is no protocol.
    pub fn new(spec: ServerSpec, tickets: &mut Tickets) -> Result<Self, Error> {
        let builder = rustls::ServerConfig::builder_with_provider(spec.parameters.provider()?)
            .with_protocol_versions(&spec.parameters.versions()?)
            .map_err(|_| Error::NoSuites)?;
        let builder = match &spec.clients {
            Some(policy) => builder.with_client_cert_verifier(verify::of_clients(policy)?),
            None => builder.with_no_client_auth(),
        };
        let key = SingleCertAndKey::from(spec.identity.certified()?);
        let mut config = builder.with_cert_resolver(Arc::new(key));
        config.alpn_protocols = protocols(&spec.alpn)?;
        // Whoever names suites names them in order; as Envoy, ours counts then.
        config.ignore_client_order = !spec.parameters.cipher_suites.is_empty();
        config.ticketer = tickets.of(spec.clients.as_ref())?;
        // Tickets hold the sessions: no worker asks another.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { spec, config: Arc::new(config) })
    }
}

impl Client {
    /// Compiles an origination, with sessions of its own to resume.
    ///
    /// # Errors
    /// As [`Server::new`], or `sni` is no host name.
    pub fn new(spec: ClientSpec) -> Result<Self, Error> {
        if let Some(name) = spec.sni.as_ref().filter(|name| !is_server_name(name)) {
            return Err(Error::ServerName(name.clone()));
        }
        let verifier = verify::of_upstreams(&spec)?;
        let builder = rustls::ClientConfig::builder_with_provider(spec.parameters.provider()?)
            .with_protocol_versions(&spec.parameters.versions()?)
            .map_err(|_| Error::NoSuites)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &spec.identity {
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()?))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols(&spec.alpn)?;
        config.resumption = Resumption::in_memory_sessions(limits::TLS_CLIENT_SESSIONS_MAX);
        Ok(Self { spec, config: Arc::new(config) })
    }
}

fn protocols(names: &[Box<str>]) -> Result<Vec<Vec<u8>>, Error> {
    check_protocols(names)?;
    Ok(names.iter().map(|name| name.as_bytes().to_vec()).collect())
}

/// RFC 7301 §3.1.
///
/// # Errors
/// One of them cannot be written.
pub(crate) fn check_protocols(names: &[Box<str>]) -> Result<(), Error> {
    let mut lengths = names.iter().map(|name| name.len());
    if lengths.all(|length| (1..=255).contains(&length)) { Ok(()) } else { Err(Error::Alpn) }
}

/// Whether a text can be sent as a server name (RFC 6066 §3).
pub(crate) fn is_server_name(text: &str) -> bool {
    DnsName::try_from(text).is_ok()
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Server {}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl Serialize for Server {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.spec.serialize(s)
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.spec.serialize(s)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.names).finish()
    }
}

impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.names.serialize(s)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({} bytes)", self.0.len())
    }
}

/// Whether it is there; what is in it stays out of dumps.
impl Serialize for Pem {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("present")
    }
}

#[cfg(test)]
pub(crate) mod tests;
