// SPDX-License-Identifier: Apache-2.0
//! Versions, cipher suites and curves by the names that Envoy takes → what rustls has. A name that
//! does not exist here is given back, for whoever wrote it.

use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{cipher_suite as suite, default_provider, kx_group as group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use super::{Error, Parameters, Version};

/// Never the process's default: nobody else decides what we encrypt with.
pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(default_provider()));

/// OpenSSL's name, IANA's name.
const SUITES: [(&str, &str, &SupportedCipherSuite); 9] = [
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        &suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        &suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        &suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        &suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        &suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        &suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_AES_128_GCM_SHA256", "TLS13_AES_128_GCM_SHA256", &suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", "TLS13_AES_256_GCM_SHA384", &suite::TLS13_AES_256_GCM_SHA384),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS13_CHACHA20_POLY1305_SHA256",
        &suite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
];

/// Names as Envoy, NIST and SECG write them.
const CURVES: [(&[&str], &dyn SupportedKxGroup); 5] = [
    (&["X25519"], group::X25519),
    (&["P-256", "secp256r1", "prime256v1"], group::SECP256R1),
    (&["P-384", "secp384r1"], group::SECP384R1),
    (&["X25519MLKEM768"], group::X25519MLKEM768),
    (&["SecP256r1MLKEM768"], group::SECP256R1MLKEM768),
];

/// Names as written, apart: those that exist here, and those that do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub known: Vec<Box<str>>,
    pub unknown: Vec<Box<str>>,
}

impl Names {
    fn sort<'a>(names: impl Iterator<Item = &'a str>, exists: impl Fn(&str) -> bool) -> Self {
        let mut sorted = Self::default();
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            let list = if exists(name) { &mut sorted.known } else { &mut sorted.unknown };
            list.push(name.into());
        }
        sorted
    }

    /// Cipher suites; `[A|B]` (equally preferred) counts as both, `A:B` too. Envoy:
    /// `cipher_suites`.
    pub fn suites(written: &[String]) -> Self {
        let names = written.iter().flat_map(|name| name.split(['[', '|', ']', ':']));
        Self::sort(names, |name| find_suite(name).is_some())
    }

    /// Curves (key exchange groups). Envoy: `ecdh_curves`.
    pub fn curves(written: &[String]) -> Self {
        let names = written.iter().flat_map(|name| name.split(':'));
        Self::sort(names, |name| find_curve(name).is_some())
    }
}

/// All names of suites that exist, for advice.
pub fn suite_names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|(name, _, _)| *name)
}

/// All names of curves that exist, for advice.
pub fn curve_names() -> impl Iterator<Item = &'static str> {
    CURVES.iter().map(|(names, _)| names[0])
}

/// OpenSSL's name of a suite that was negotiated.
pub fn suite_name(negotiated: rustls::CipherSuite) -> &'static str {
    let found = SUITES.iter().find(|(_, _, suite)| suite.suite() == negotiated);
    found.map_or("", |(name, _, _)| name)
}

fn find_suite(name: &str) -> Option<SupportedCipherSuite> {
    let named = |(openssl, iana, _): &&(&str, &str, _)| *openssl == name || *iana == name;
    SUITES.iter().find(named).map(|(_, _, suite)| **suite)
}

fn find_curve(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    let named =
        |(names, _): &&(&[&str], _)| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    CURVES.iter().find(named).map(|(_, group)| *group)
}

impl Version {
    const ALL: [(Self, &'static SupportedProtocolVersion); 2] =
        [(Self::V1_2, &version::TLS12), (Self::V1_3, &version::TLS13)];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "v1.2",
            Self::V1_3 => "v1.3",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Parameters {
    /// # Errors
    /// They leave nothing to speak.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let (versions, suites) = (self.versions()?, &self.provider()?.cipher_suites);
        let spoken = |version: &&SupportedProtocolVersion| {
            suites.iter().any(|suite| suite.version() == *version)
        };
        if versions.iter().any(spoken) { Ok(()) } else { Err(Error::NoSuites) }
    }

    /// The versions that are spoken; at least one.
    pub(super) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
        let min = self.min_version.unwrap_or(Version::V1_2);
        let max = self.max_version.unwrap_or(Version::V1_3);
        if min > max {
            return Err(Error::Versions(min, max));
        }
        let spoken = Version::ALL.iter().filter(|(version, _)| (min..=max).contains(version));
        Ok(spoken.map(|(_, version)| *version).collect())
    }

    /// Suites and curves. As with Envoy, suites of TLS 1.3 are only chosen among where any of them
    /// is named.
    pub(super) fn provider(&self) -> Result<Arc<CryptoProvider>, Error> {
        if self.cipher_suites.is_empty() && self.curves.is_empty() {
            return Ok(Arc::clone(&PROVIDER));
        }
        let mut provider = (**PROVIDER).clone();
        if !self.cipher_suites.is_empty() {
            let mut suites: Vec<_> =
                self.cipher_suites.iter().filter_map(|name| find_suite(name)).collect();
            if suites.is_empty() {
                return Err(Error::NoSuites);
            }
            if suites.iter().all(|suite| suite.tls13().is_none()) {
                suites.extend(provider.cipher_suites.iter().filter(|s| s.tls13().is_some()));
            }
            provider.cipher_suites = suites;
        }
        if !self.curves.is_empty() {
            provider.kx_groups = self.curves.iter().filter_map(|name| find_curve(name)).collect();
            if provider.kx_groups.is_empty() {
                return Err(Error::NoCurves);
            }
        }
        Ok(Arc::new(provider))
    }
}
