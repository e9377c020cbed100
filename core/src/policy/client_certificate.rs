// SPDX-License-Identifier: Apache-2.0
//! What a client's certificate says, and how upstreams hear of it: `x-forwarded-client-cert` as
//! Envoy writes it (Emissary: Module `forward_client_cert_details`,
//! `set_current_client_cert_details`).
//!
//! Invariant: what a client itself sends under that name passes only where the Module says so, and
//! on connections without a client certificate only with `ALWAYS_FORWARD_ONLY`.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// What becomes of `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Forwarding {
    /// What comes is kept, whatever the connection.
    AlwaysForwardOnly,
    /// What comes is kept and ours appended.
    AppendForward,
    ForwardOnly,
    /// Nothing goes upstream.
    #[default]
    Sanitize,
    /// Ours replaces what comes.
    SanitizeSet,
}

impl Forwarding {
    /// Whether what the client sends passes; `mutual`: it showed a certificate.
    pub fn keeps(self, mutual: bool) -> bool {
        match self {
            Self::AlwaysForwardOnly => true,
            Self::AppendForward | Self::ForwardOnly => mutual,
            Self::Sanitize | Self::SanitizeSet => false,
        }
    }

    /// Whether we say something of a client that showed a certificate.
    pub fn adds(self) -> bool {
        matches!(self, Self::AppendForward | Self::SanitizeSet)
    }
}

/// What we say of a client's certificate beside its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Details {
    pub subject: bool,
    pub cert: bool,
    pub chain: bool,
    pub dns: bool,
    pub uri: bool,
}

/// A certificate that a handshake showed, as people and upstreams read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of the leaf, lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// RFC 2253.
    pub subject: Box<str>,
    pub issuer: Box<str>,
    /// Lower-case hexadecimal.
    pub serial: Box<str>,
    pub uris: Vec<Box<str>>,
    pub dns: Vec<Box<str>>,
    /// DER, leaf first.
    chain: Vec<Box<[u8]>>,
}

impl Certificate {
    /// Reads a chain in DER, leaf first. What cannot be read is empty.
    pub fn new<'c>(chain: impl IntoIterator<Item = &'c [u8]>) -> Self {
        let chain: Vec<Box<[u8]>> = chain.into_iter().map(Into::into).collect();
        let mut read = Self::default();
        if let Some(leaf) = chain.first() {
            read.fingerprint = hex(&Sha256::digest(leaf)).into();
            if let Ok((_, leaf)) = X509Certificate::from_der(leaf) {
                read.subject = distinguished_name(leaf.subject()).into();
                read.issuer = distinguished_name(leaf.issuer()).into();
                let serial = leaf.raw_serial();
                let zeros = serial.iter().take_while(|byte| **byte == 0).count();
                read.serial = hex(&serial[zeros.min(serial.len().saturating_sub(1))..]).into();
                for name in alternative_names(&leaf) {
                    match name {
                        GeneralName::URI(uri) => read.uris.push((*uri).into()),
                        GeneralName::DNSName(dns) => read.dns.push((*dns).into()),
                        _ => {}
                    }
                }
            }
        }
        read.chain = chain;
        read
    }

    /// One element of `x-forwarded-client-cert`. `by`: the URI names of our own certificate.
    pub fn element(&self, details: Details, by: &[Box<str>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut pair = |key: &str, value: &[u8], quoted: bool| {
            if !out.is_empty() {
                out.push(b';');
            }
            out.extend_from_slice(key.as_bytes());
            out.push(b'=');
            // A value cannot end its line; Envoy quotes where a value may hold separators.
            let quote: &[u8] = if quoted { b"\"" } else { b"" };
            out.extend_from_slice(quote);
            out.extend(value.iter().filter(|byte| !byte.is_ascii_control()));
            out.extend_from_slice(quote);
        };
        for uri in by {
            pair("By", uri.as_bytes(), false);
        }
        pair("Hash", self.fingerprint.as_bytes(), false);
        if details.cert {
            pair("Cert", &pem(self.chain.iter().take(1)), true);
        }
        if details.chain {
            pair("Chain", &pem(self.chain.iter()), true);
        }
        if details.subject {
            pair("Subject", self.subject.as_bytes(), true);
        }
        if details.uri {
            // Envoy: the key is there also where the certificate has none.
            match &*self.uris {
                [] => pair("URI", b"", false),
                uris => uris.iter().for_each(|uri| pair("URI", uri.as_bytes(), false)),
            }
        }
        if details.dns {
            self.dns.iter().for_each(|dns| pair("DNS", dns.as_bytes(), false));
        }
        out
    }
}

fn alternative_names<'c>(certificate: &'c X509Certificate<'_>) -> &'c [GeneralName<'c>] {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        _ => &[],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// PEM of certificates, percent-encoded as Envoy does: line ends, spaces, `+`, `/` and `=`.
fn pem<'c>(chain: impl Iterator<Item = &'c Box<[u8]>>) -> Vec<u8> {
    let mut out = Vec::new();
    for der in chain {
        out.extend_from_slice(b"-----BEGIN%20CERTIFICATE-----%0A");
        // 48 bytes make a line of 64 characters.
        for line in der.chunks(48) {
            for three in line.chunks(3) {
                base64(three, &mut out);
            }
            out.extend_from_slice(b"%0A");
        }
        out.extend_from_slice(b"-----END%20CERTIFICATE-----%0A");
    }
    out
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    let byte = |at: usize| u32::from(bytes.get(at).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    for at in 0..4 {
        match (bits >> (18 - 6 * at)) as u8 & 63 {
            _ if at > bytes.len() => out.extend_from_slice(b"%3D"),
            digit @ 0..26 => out.push(b'A' + digit),
            digit @ 26..52 => out.push(b'a' + digit - 26),
            digit @ 52..62 => out.push(b'0' + digit - 52),
            62 => out.extend_from_slice(b"%2B"),
            _ => out.extend_from_slice(b"%2F"),
        }
    }
}

/// OpenSSL's short names, as far as certificates use them.
const ATTRIBUTES: [(&str, &str); 17] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// RFC 2253 as OpenSSL prints it: the last part first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for part in parts.into_iter().rev() {
        let mut separator = ",";
        for attribute in part.iter() {
            if !text.is_empty() {
                text.push_str(separator);
            }
            separator = "+";
            match (short_name(attribute.attr_type()), attribute.as_str()) {
                (Some(short), Ok(value)) => {
                    text.push_str(short);
                    text.push('=');
                    escape(value, &mut text);
                }
                // What has no name is shown as it stands.
                (short, _) => {
                    match short {
                        Some(short) => text.push_str(short),
                        None => text.push_str(&attribute.attr_type().to_id_string()),
                    }
                    text.push_str("=#");
                    text.push_str(&hex(attribute.as_slice()).to_ascii_uppercase());
                }
            }
        }
    }
    text
}

fn short_name(oid: &Oid<'_>) -> Option<&'static str> {
    let id = oid.to_id_string();
    ATTRIBUTES.iter().find(|(known, _)| *known == id).map(|(_, short)| *short)
}

/// RFC 2253 §2.4; control characters and everything beyond ASCII as `\XX` per byte of UTF-8.
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
