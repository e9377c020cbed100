// SPDX-License-Identifier: Apache-2.0
//! PEM (RFC 7468) → certificates, keys, revocation lists. Text between sections is skipped, as
//! OpenSSL does; a section that is damaged spoils the whole.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::{Error, Identity, Pem};

impl Pem {
    /// The certificates, in their order; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        match sections(&self.0)? {
            none if none.is_empty() => Err(Error::NoCertificate),
            some => Ok(some),
        }
    }

    /// The first private key.
    fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        match PrivateKeyDer::from_pem_slice(&self.0) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => {
                let encrypted = memchr::memmem::find(&self.0, b"ENCRYPTED PRIVATE KEY").is_some();
                Err(if encrypted { Error::EncryptedKey } else { Error::NoKey })
            }
            Err(error) => Err(damage(&error)),
        }
    }

    /// The revocation lists; at least one.
    pub(super) fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        match sections(&self.0)? {
            none if none.is_empty() => Err(Error::NoRevocations),
            some => Ok(some),
        }
    }
}

impl From<&[u8]> for Pem {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

fn sections<T: PemObject>(bytes: &[u8]) -> Result<Vec<T>, Error> {
    T::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|error| damage(&error))
}

fn damage(error: &pem::Error) -> Error {
    Error::Pem(match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins with a malformed line",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "a section cannot be read",
    })
}

impl Identity {
    /// Reads a chain (leaf first) and the key of its leaf.
    ///
    /// # Errors
    /// There is none, it is damaged, or the two do not fit.
    pub fn parse(chain: Pem, key: Pem) -> Result<Self, Error> {
        let certificates = chain.certificates()?;
        for (at, certificate) in certificates.iter().enumerate() {
            X509Certificate::from_der(certificate).map_err(|_| Error::BadCertificate(at + 1))?;
        }
        let (_, leaf) =
            X509Certificate::from_der(&certificates[0]).map_err(|_| Error::BadCertificate(1))?;
        let signer = signer(&key)?;
        let fits = |public: &[u8]| public == leaf.tbs_certificate.subject_pki.raw;
        if signer.public_key().is_some_and(|public| !fits(&public)) {
            return Err(Error::KeyMismatch);
        }
        let (names, not_after) = (names(&leaf), leaf.validity().not_after.timestamp());
        Ok(Self { chain, key, names, not_after })
    }

    pub(super) fn certified(&self) -> Result<CertifiedKey, Error> {
        Ok(CertifiedKey::new(self.chain.certificates()?, signer(&self.key)?))
    }
}

fn signer(key: &Pem) -> Result<Arc<dyn SigningKey>, Error> {
    let provider = &super::parameters::PROVIDER.key_provider;
    provider.load_private_key(key.key()?).map_err(|_| Error::BadKey)
}

/// DNS names and addresses, else the common name.
fn names(leaf: &X509Certificate<'_>) -> Arc<[Box<str>]> {
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let mut names: Vec<Box<str>> = alternative
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).into()),
            GeneralName::IPAddress(bytes) => {
                let ip = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let ip = ip.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()?;
                Some(ip.to_string().into())
            }
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(Into::into));
    }
    names.into()
}

/// Whether a certificate is valid at an instant, by its own dates alone.
pub(super) fn is_current(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let (from, to) = (certificate.validity().not_before, certificate.validity().not_after);
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    (from.timestamp()..=to.timestamp()).contains(&now)
}

/// Whether a certificate names DNS hosts at all.
pub(super) fn has_dns_names(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let is_dns = |name: &GeneralName<'_>| matches!(name, GeneralName::DNSName(_));
    alternative.is_some_and(|extension| extension.value.general_names.iter().any(is_dns))
}
