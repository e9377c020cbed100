// SPDX-License-Identifier: Apache-2.0
//! Whom we believe: clients that show a certificate, upstreams that we connect to.
//!
//! As with Envoy, a certificate that stands among the authorities itself is believed, and without
//! authorities any upstream is.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};

use super::parameters::PROVIDER;
use super::{ClientPolicy, ClientSpec, Error, Pem, pem};

type Verdict<T> = Result<T, rustls::Error>;

/// Trust anchors, and the certificates that they are made of.
#[derive(Debug)]
struct Authorities {
    /// None where there are revocation lists: those hold for chains only.
    certificates: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

impl Authorities {
    fn parse(pem: &Pem) -> Result<Self, Error> {
        let certificates = pem.certificates()?;
        let mut roots = RootCertStore::empty();
        for (at, certificate) in certificates.iter().enumerate() {
            roots.add(certificate.clone()).map_err(|_| Error::BadCertificate(at + 1))?;
        }
        Ok(Self { certificates, roots: Arc::new(roots) })
    }

    /// Whether a certificate is one of them and valid now: `openssl req -x509` makes certificates
    /// that are their own authority, which no chain is built from.
    fn contain(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        self.certificates.iter().any(|known| known == certificate)
            && pem::is_current(certificate, now)
    }
}

/// A verifier of clients' certificates. As with Envoy, where there are revocation lists every
/// authority of a chain must have one, and one that has expired counts as none.
pub(super) fn of_clients(policy: &ClientPolicy) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut authorities = Authorities::parse(&policy.authorities)?;
    let roots = Arc::clone(&authorities.roots);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER));
    if !policy.required {
        builder = builder.allow_unauthenticated();
    }
    if let Some(revocations) = &policy.revocations {
        builder = builder.with_crls(revocations.revocations()?).enforce_revocation_expiration();
        authorities.certificates.clear();
    }
    let chains = builder.build().map_err(|_| Error::BadRevocations)?;
    Ok(Arc::new(Clients { authorities, chains }))
}

/// # Errors
/// None of them can be believed by: there is none, or one cannot be read.
pub(super) fn check_authorities(pem: &Pem) -> Result<(), Error> {
    Authorities::parse(pem).map(|_| ())
}

/// Clients by chain, or by being among the authorities.
#[derive(Debug)]
struct Clients {
    authorities: Authorities,
    chains: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Verdict<ClientCertVerified> {
        match self.authorities.contain(end_entity, now) {
            true => Ok(ClientCertVerified::assertion()),
            false => self.chains.verify_client_cert(end_entity, intermediates, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// A verifier of upstreams' certificates: anybody's without authorities; with them those of a
/// chain, whose name is looked at only where `checks_name`.
pub(super) fn of_upstreams(spec: &ClientSpec) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let Some(authorities) = &spec.authorities else {
        let algorithms = PROVIDER.signature_verification_algorithms;
        return Ok(Arc::new(Anybody { algorithms }));
    };
    let mut authorities = Authorities::parse(authorities)?;
    let roots = Arc::clone(&authorities.roots);
    let mut builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER));
    if let Some(revocations) = &spec.revocations {
        builder = builder.with_crls(revocations.revocations()?).enforce_revocation_expiration();
        authorities.certificates.clear();
    }
    let chains = builder.build().map_err(|_| Error::BadRevocations)?;
    Ok(Arc::new(Upstreams { authorities, chains, checks_name: spec.checks_name }))
}

/// Upstreams by chain, or by being among the authorities.
#[derive(Debug)]
struct Upstreams {
    authorities: Authorities,
    chains: Arc<WebPkiServerVerifier>,
    checks_name: bool,
}

impl ServerCertVerifier for Upstreams {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Verdict<ServerCertVerified> {
        if self.authorities.contain(end_entity, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let verdict = self.chains.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        // The name is what is looked at last: the chain is good.
        let other_name = matches!(
            verdict,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            ))
        );
        let excused = other_name && !(self.checks_name && pem::has_dns_names(end_entity));
        if excused { Ok(ServerCertVerified::assertion()) } else { verdict }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Any upstream that has the key of the certificate that it shows.
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Verdict<ServerCertVerified> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        readable(verify_tls12_signature(message, certificate, signature, &self.algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Verdict<HandshakeSignatureValid> {
        readable(verify_tls13_signature(message, certificate, signature, &self.algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// X.509 v1, which webpki does not read, is what `openssl x509 -req` makes without extensions.
/// Whoever believes anybody loses nothing by it.
fn readable(verdict: Verdict<HandshakeSignatureValid>) -> Verdict<HandshakeSignatureValid> {
    match verdict {
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) => {
            Ok(HandshakeSignatureValid::assertion())
        }
        verdict => verdict,
    }
}
