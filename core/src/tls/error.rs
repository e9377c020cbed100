// SPDX-License-Identifier: Apache-2.0
//! Why PEM or a TLS configuration cannot be used. No message holds a part of what was read: it may
//! be a key.

use super::Version;

/// What is wrong, as the end of a sentence about the thing that was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("there is no private key in it")]
    NoKey,
    #[error("the private key is encrypted, and nobody is here to type its password")]
    EncryptedKey,
    #[error("it is no PEM: {0}")]
    Pem(&'static str),
    /// Counted from 1.
    #[error("certificate {0} in it cannot be read")]
    BadCertificate(usize),
    #[error(
        "the private key cannot be used: it is neither RSA (2048 bits or more), ECDSA nor Ed25519, or it is damaged"
    )]
    BadKey,
    #[error("the private key does not fit the certificate")]
    KeyMismatch,
    #[error("there is no revocation list in it")]
    NoRevocations,
    #[error("a revocation list in it cannot be read")]
    BadRevocations,
    #[error("no TLS version is at least {0} and at most {1}")]
    Versions(Version, Version),
    #[error("none of its cipher suites exists")]
    NoSuites,
    #[error("none of its curves exists")]
    NoCurves,
    #[error("an ALPN protocol has 1 to 255 bytes")]
    Alpn,
    #[error("{0:?} is no host name")]
    ServerName(Box<str>),
    #[error("there is no randomness for session tickets")]
    NoRandomness,
}
