// SPDX-License-Identifier: Apache-2.0
//! Certificates made when a test asks for them (P-256), each once per process: equal words are the
//! same certificate and key everywhere. Manifests of golden cases name them in double braces:
//!
//! | written | becomes |
//! |---|---|
//! | `{{crt foo.com *.foo.com}}` | a server's chain for these names, by the authority `test` |
//! | `{{key foo.com *.foo.com}}` | its key |
//! | `{{client-crt alice}}`, `{{client-key alice}}` | a client's, by the authority `clients` |
//! | `{{ca clients}}` | an authority's own certificate |
//! | `{{crl clients revoking alice bob}}` | its revocation list |
//!
//! After names come `by ROOT/INTERMEDIATE` (the chain then has the intermediate), `expired`,
//! `x509v1` (of the version that has no extensions), `edition 2` (another certificate of these
//! names). A word `base64` before all that gives the
//! text as a Secret's `data` has it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use anyhow::{Context, Result, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, SigningKey, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    /// Certificates between a leaf and the root, nearest first; the root is not among them.
    chain: Vec<rcgen::Certificate>,
}

/// A server's or a client's certificate with what belongs to it.
#[derive(Debug)]
pub struct Leaf {
    /// Names and origin, as in the braces.
    pub words: String,
    serial: SerialNumber,
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub chain_pem: String,
    key: KeyPair,
}

impl Leaf {
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// A Secret of type `kubernetes.io/tls` with this certificate.
    pub fn secret(&self, name: &str) -> String {
        format!(
            "---
apiVersion: v1
kind: Secret
metadata: {{name: {name}}}
type: kubernetes.io/tls
stringData:
  tls.crt: {}
  tls.key: {}
",
            quoted(&self.chain_pem),
            quoted(&self.key_pem())
        )
    }
}

impl Authority {
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }
}

/// What was made so far. A certificate is made with the lock held, so that none is made twice.
#[derive(Default)]
struct Made {
    authorities: BTreeMap<String, Arc<Authority>>,
    leaves: BTreeMap<String, Arc<Leaf>>,
    serial: u64,
}

static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);

fn made() -> std::sync::MutexGuard<'static, Made> {
    MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An authority by its path: `test`, `root/intermediate`.
pub fn authority(path: &str) -> Result<Arc<Authority>> {
    made().authority(path)
}

/// A server's certificate: `foo.com www.foo.com by root/intermediate`.
pub fn server(words: &str) -> Result<Arc<Leaf>> {
    made().leaf(words, false)
}

/// A client's certificate: `alice`, `alice by others expired`.
pub fn client(words: &str) -> Result<Arc<Leaf>> {
    made().leaf(words, true)
}

/// The words of a certificate made here.
pub fn words_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let made = made();
    let found = made.leaves.values().find(|leaf| leaf.chain[0] == *certificate);
    found.map(|leaf| leaf.words.clone())
}

/// A text with everything in double braces replaced by a quoted PEM on the same line.
pub fn expand(text: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").context("braces are not closed")?;
        out += before;
        match inside.trim().strip_prefix("base64 ") {
            Some(what) => out += &base64(pem(what)?.as_bytes()),
            None => out += &quoted(&pem(inside)?),
        }
        rest = after;
    }
    Ok(out + rest)
}

/// As YAML reads it back, on one line.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn pem(what: &str) -> Result<String> {
    let what = what.trim();
    let (kind, words) = what.split_once(' ').unwrap_or((what, ""));
    Ok(match kind {
        "crt" => server(words)?.chain_pem.clone(),
        "key" => server(words)?.key_pem(),
        "client-crt" => client(words)?.chain_pem.clone(),
        "client-key" => client(words)?.key_pem(),
        "ca" => authority(words)?.pem(),
        "crl" => revocations(words)?,
        _ => bail!("{{{{{what}}}}}: no such kind"),
    })
}

/// `AUTHORITY [revoking CLIENT…]`
fn revocations(words: &str) -> Result<String> {
    let (path, revoked) = words.split_once(" revoking ").unwrap_or((words, ""));
    let mut made = made();
    let authority = made.authority(path)?;
    let mut serials = Vec::new();
    for name in revoked.split_whitespace() {
        serials.push(made.leaf(&format!("{name} by {path}"), true)?.serial.clone());
    }
    let entry = |serial_number| RevokedCertParams {
        serial_number,
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2096, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: serials.into_iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(&authority.issuer)?.pem()?)
}

impl Made {
    fn next_serial(&mut self) -> SerialNumber {
        self.serial += 1;
        (0x1000 + self.serial).into()
    }

    fn authority(&mut self, path: &str) -> Result<Arc<Authority>> {
        let path = path.trim();
        ensure!(!path.is_empty(), "an authority without a name");
        if let Some(authority) = self.authorities.get(path) {
            return Ok(authority.clone());
        }
        let (parent, name) = match path.rsplit_once('/') {
            Some((parent, name)) => (Some(self.authority(parent)?), name),
            None => (None, path),
        };
        let mut params = parameters(name, self.next_serial());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let (certificate, chain) = match parent {
            None => (params.self_signed(&key)?, Vec::new()),
            Some(parent) => {
                params.use_authority_key_identifier_extension = true;
                let certificate = params.signed_by(&key, &parent.issuer)?;
                let mut chain = vec![certificate.clone()];
                chain.extend(parent.chain.iter().cloned());
                (certificate, chain)
            }
        };
        let issuer = Issuer::new(params, key);
        let authority = Arc::new(Authority { issuer, certificate, chain });
        self.authorities.insert(path.to_owned(), authority.clone());
        Ok(authority)
    }

    fn leaf(&mut self, words: &str, client: bool) -> Result<Arc<Leaf>> {
        let usual = if client { "clients" } else { "test" };
        let mut parsed = words.split_whitespace();
        let (mut names, mut by, mut expired, mut edition) = (Vec::new(), usual, false, "1");
        let mut first_version = false;
        while let Some(word) = parsed.next() {
            match word {
                "by" => by = parsed.next().context("by whom?")?,
                "expired" => expired = true,
                "x509v1" => first_version = true,
                "edition" => edition = parsed.next().context("which edition?")?,
                name => names.push(name.to_owned()),
            }
        }
        ensure!(!names.is_empty(), "{words:?} names nobody");
        // One spelling for one certificate, which is also how it is shown.
        let mut words = names.join(" ");
        if by != usual {
            words += &format!(" by {by}");
        }
        if expired {
            words += " expired";
        }
        if first_version {
            words += " x509v1";
        }
        if edition != "1" {
            words += &format!(" edition {edition}");
        }
        let key = format!("{client} {words}");
        if let Some(leaf) = self.leaves.get(&key) {
            return Ok(leaf.clone());
        }
        let authority = self.authority(by)?;
        let serial = self.next_serial();
        let mut params = parameters(&names[0], serial.clone());
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match client {
            true => ExtendedKeyUsagePurpose::ClientAuth,
            false => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        if expired {
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let own = KeyPair::generate()?;
        let certificate = params.signed_by(&own, &authority.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        if first_version {
            chain = vec![without_extensions(&chain[0], authority.issuer.key())?];
        }
        chain.extend(authority.chain.iter().map(|c| c.der().clone()));
        let chain_pem = chain.iter().map(|c| pem_of(c)).collect();
        let leaf = Arc::new(Leaf { words, serial, chain, chain_pem, key: own });
        self.leaves.insert(key, leaf.clone());
        Ok(leaf)
    }
}

/// RFC 7468.
fn pem_of(certificate: &[u8]) -> String {
    let text = base64(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).expect("base64")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The same certificate as X.509 version 1 (RFC 5280 §4.1: without `[0]` version and `[3]`
/// extensions), signed anew.
fn without_extensions(certificate: &[u8], key: &KeyPair) -> Result<CertificateDer<'static>> {
    let (_, whole, _) = element(certificate)?;
    let (_, signed, rest) = element(whole)?;
    let (_, _, after) = element(rest)?;
    let algorithm = &rest[..rest.len() - after.len()];
    let (mut fields, mut kept) = (signed, Vec::new());
    while !fields.is_empty() {
        let (tag, _, rest) = element(fields)?;
        if ![0xa0, 0xa3].contains(&tag) {
            kept.extend_from_slice(&fields[..fields.len() - rest.len()]);
        }
        fields = rest;
    }
    let mut all = encoded(0x30, &kept);
    // A bit string begins with how many bits of its last byte do not count.
    let signature = encoded(0x03, &[&[0], &key.sign(&all)?[..]].concat());
    all.extend_from_slice(algorithm);
    all.extend_from_slice(&signature);
    Ok(encoded(0x30, &all).into())
}

/// The first DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Result<(u8, &[u8], &[u8])> {
    let [tag, first, rest @ ..] = der else { bail!("no element") };
    let (length, rest) = match usize::from(*first) {
        n @ ..=0x7f => (n, rest),
        n => {
            let (digits, rest) = rest.split_at_checked(n & 0x7f).context("no length")?;
            (digits.iter().fold(0, |n, digit| n << 8 | usize::from(*digit)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length).context("cut short")?;
    Ok((*tag, content, rest))
}

/// A DER element of at most 65,535 bytes.
fn encoded(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let head: &[u8] = match content.len() {
        ..=0x7f => &[tag, low],
        0x80..=0xff => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, content].concat()
}

fn parameters(name: &str, serial: SerialNumber) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2096, 1, 1);
    params
}

/// RFC 4648 §4.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            out.push(if n <= group.len() { digit.into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn equal_words_are_one_certificate() {
        let text =
            expand("a: {{crt a.com}}\nb: {{crt a.com}}\nc: {{crt a.com edition 2}}\n").unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[3..]).collect();
        assert_eq!(lines[0], lines[1]);
        assert_ne!(lines[0], lines[2]);
        assert!(lines[0].starts_with("\"-----BEGIN CERTIFICATE-----\\n"));
    }

    #[test]
    fn a_chain_has_its_intermediates_and_not_its_root() {
        let leaf = server("b.com by root/one/two").unwrap();
        assert_eq!(leaf.chain.len(), 3);
        assert_eq!(words_of(&leaf.chain[0]).unwrap(), "b.com by root/one/two");
        assert!(!leaf.chain.contains(&authority("root").unwrap().certificate()));
    }

    #[test]
    fn base64_is_padded() {
        let encoded = ["", "f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
