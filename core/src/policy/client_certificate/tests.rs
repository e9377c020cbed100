// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::{Certificate, Details, Forwarding, base64, escape};

fn made(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(vec![0, 0xa1, 2].into());
    edit(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn frontend() -> Vec<u8> {
    made(|params| {
        let name = &mut params.distinguished_name;
        name.push(DnType::CountryName, "US");
        name.push(DnType::StateOrProvinceName, "California");
        name.push(DnType::OrganizationName, "Lyft, \"Inc\"");
        name.push(DnType::CommonName, "Test Frontend");
        params.subject_alt_names = vec![
            SanType::URI("spiffe://lyft.com/frontend".try_into().unwrap()),
            SanType::URI("spiffe://lyft.com/other".try_into().unwrap()),
            SanType::DnsName("lyft.com".try_into().unwrap()),
            SanType::DnsName("www.lyft.com".try_into().unwrap()),
        ];
    })
}

const SUBJECT: &str = r#"CN=Test Frontend,O=Lyft\, \"Inc\",ST=California,C=US"#;

#[test]
fn a_certificate_is_read_as_openssl_prints_it() {
    let read = Certificate::new([&*frontend()]);
    assert_eq!(&*read.subject, SUBJECT);
    assert_eq!(&*read.issuer, SUBJECT);
    assert_eq!(&*read.serial, "a102");
    assert_eq!(read.fingerprint.len(), 64);
    assert_eq!(*read.uris, ["spiffe://lyft.com/frontend".into(), "spiffe://lyft.com/other".into()]);
    assert_eq!(*read.dns, ["lyft.com".into(), "www.lyft.com".into()]);
}

#[test]
fn what_is_no_certificate_still_has_a_hash() {
    let read = Certificate::new([&b"abc"[..]]);
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(&*read.fingerprint, hash);
    let all = Details { subject: true, uri: true, dns: true, ..Details::default() };
    let text = String::from_utf8(read.element(all, &[])).unwrap();
    assert_eq!(text, format!("Hash={hash};Subject=\"\";URI="));
}

#[track_caller]
fn check_element(details: Details, by: &[&str], expected: &str) {
    let read = Certificate::new([&*frontend()]);
    let by: Vec<Box<str>> = by.iter().map(|uri| (*uri).into()).collect();
    let text = String::from_utf8(read.element(details, &by)).unwrap();
    assert_eq!(text, expected.replace("HASH", &read.fingerprint));
}

#[test]
fn an_element_has_its_parts_in_envoys_order() {
    let none = Details::default();
    check_element(none, &[], "Hash=HASH");
    check_element(none, &["spiffe://gateway"], "By=spiffe://gateway;Hash=HASH");
    check_element(none, &["a://b", "c://d"], "By=a://b;By=c://d;Hash=HASH");
    check_element(
        Details { subject: true, dns: true, uri: true, ..none },
        &[],
        &format!(
            "Hash=HASH;Subject=\"{SUBJECT}\";URI=spiffe://lyft.com/frontend;\
             URI=spiffe://lyft.com/other;DNS=lyft.com;DNS=www.lyft.com"
        ),
    );
}

#[test]
fn certificates_are_percent_encoded_pem() {
    let leaf = frontend();
    let read = Certificate::new([&*leaf, &b"\xfb\xff\xfe"[..]]);
    let details = Details { cert: true, chain: true, ..Details::default() };
    let text = String::from_utf8(read.element(details, &[])).unwrap();
    let parts: Vec<&str> = text.split(';').collect();
    assert!(parts[1].starts_with("Cert=\"-----BEGIN%20CERTIFICATE-----%0AMII"), "{text}");
    assert!(parts[1].ends_with("%0A-----END%20CERTIFICATE-----%0A\""), "{text}");
    let cert = parts[1].strip_prefix("Cert=").unwrap().trim_end_matches('"');
    let chain = parts[2].strip_prefix("Chain=").unwrap();
    let second = "-----BEGIN%20CERTIFICATE-----%0A%2B%2F%2F%2B%0A-----END%20CERTIFICATE-----%0A\"";
    assert_eq!(chain, format!("{cert}{second}"));
    for part in &parts[1..] {
        assert!(!part.contains(['\n', '+', '/', ' ']), "{part}");
    }
}

#[test]
fn base64_pads() {
    let check = |bytes: &[u8], expected: &str| {
        let mut out = Vec::new();
        base64(bytes, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    check(b"M", "TQ%3D%3D");
    check(b"Ma", "TWE%3D");
    check(b"Man", "TWFu");
    check(&[0xff; 3], "%2F%2F%2F%2F");
}

#[test]
fn names_are_escaped_as_rfc_2253_says() {
    let check = |value: &str, expected: &str| {
        let mut text = String::new();
        escape(value, &mut text);
        assert_eq!(text, expected);
    };
    check("plain text", "plain text");
    check("#a#", "\\#a#");
    check(" a ", "\\ a\\ ");
    check("a,b+c\"d\\e<f>g;h", r#"a\,b\+c\"d\\e\<f\>g\;h"#);
    check("\u{fc}\n", "\\C3\\BC\\0A");
}

#[test]
fn what_a_client_sends_passes_only_where_the_module_says_so() {
    use Forwarding as F;
    let kept = |f: F| (f.keeps(false), f.keeps(true), f.adds());
    assert_eq!(kept(F::AlwaysForwardOnly), (true, true, false));
    assert_eq!(kept(F::AppendForward), (false, true, true));
    assert_eq!(kept(F::ForwardOnly), (false, true, false));
    assert_eq!(kept(F::Sanitize), (false, false, false));
    assert_eq!(kept(F::SanitizeSet), (false, false, true));
    assert_eq!(F::default(), F::Sanitize);
}
