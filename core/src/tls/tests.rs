// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, ProtocolVersion};

use super::pem::{has_dns_names, is_current};
use super::*;

fn pem(text: &str) -> Pem {
    Pem::from(text.as_bytes())
}

/// A chain's PEM and its key's.
pub(crate) struct Made {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Made {
    fn identity(&self) -> Identity {
        Identity::parse(pem(&self.chain), pem(&self.key)).unwrap()
    }
}

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(by: &Issuer<'_, KeyPair>, names: &[&str], serial: u64) -> Made {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    Made { chain: certificate.pem(), key: key.serialize_pem() }
}

pub(crate) fn self_signed(name: &str) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    // As `openssl req -x509` does.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    Made { chain: certificate.pem(), key: key.serialize_pem() }
}

pub(crate) fn revocations(by: &Issuer<'_, KeyPair>, serials: &[u64], until: i32) -> Pem {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(until, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    pem(&params.signed_by(by).unwrap().pem().unwrap())
}

fn spec(identity: Identity) -> ServerSpec {
    ServerSpec { identity, alpn: Vec::new(), parameters: Parameters::default(), clients: None }
}

fn server(spec: ServerSpec) -> Server {
    Server::new(spec, &mut Tickets::default()).unwrap()
}

fn client(spec: ClientSpec) -> Client {
    Client::new(spec).unwrap()
}

/// What both sides say about a handshake in memory.
struct Handshake {
    client: rustls::ClientConnection,
    server: rustls::ServerConnection,
}

fn shake(server: &Server, client: &Client, name: &str) -> Result<Handshake, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(&client.config), name)?;
    let mut server = rustls::ServerConnection::new(Arc::clone(&server.config))?;
    // More than any handshake takes, tickets and a first answer included.
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
            // So that TLS 1.3 clients hear a refusal of their certificate.
            server.writer().write_all(b"x").unwrap();
        }
    }
    Ok(Handshake { client, server })
}

#[test]
fn certificates_and_keys_that_cannot_be_used_are_told_apart() {
    let (good, other) = (self_signed("a.com"), self_signed("b.com"));
    let error = |chain: &str, key: &str| Identity::parse(pem(chain), pem(key)).unwrap_err();
    assert_eq!(error("", &good.key), Error::NoCertificate);
    assert_eq!(error(&good.key, &good.key), Error::NoCertificate);
    assert_eq!(error(&good.chain, ""), Error::NoKey);
    assert_eq!(error(&good.chain, &good.chain), Error::NoKey);
    assert_eq!(error(&good.chain, &other.key), Error::KeyMismatch);
    let cut = &good.chain[..good.chain.len() / 2];
    assert_eq!(error(cut, &good.key), Error::Pem("a section has no end"));
    let garbled = good.chain.replacen("\nM", "\n!", 1);
    assert_eq!(error(&garbled, &good.key), Error::Pem("a section is not base64"));
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(error(empty, &good.key), Error::BadCertificate(1));
    assert_eq!(error(&format!("{}{empty}", good.chain), &good.key), Error::BadCertificate(2));
    let bad_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(error(&good.chain, bad_key), Error::BadKey);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(error(&good.chain, encrypted), Error::EncryptedKey);
}

#[test]
fn an_identity_knows_its_names_and_its_end() {
    let mut params =
        CertificateParams::new(vec!["a.com".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2040, 1, 1);
    let key = KeyPair::generate().unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let identity = Identity::parse(pem(&chain), pem(&key.serialize_pem())).unwrap();
    let names: Vec<&str> = identity.names.iter().map(|name| &**name).collect();
    assert_eq!(names, ["a.com", "10.0.0.1"]);
    assert_eq!(identity.not_after, date_time_ymd(2040, 1, 1).unix_timestamp());
    let shown = format!("{identity:?} {}", serde_json::to_string(&identity).unwrap());
    assert!(!shown.contains("BEGIN"), "{shown}");
}

#[test]
fn nothing_of_a_key_is_shown() {
    let made = self_signed("a.com");
    let body = made.key.lines().nth(1).unwrap();
    let server = server(spec(made.identity()));
    let shown = format!("{server:?} {}", serde_json::to_string(&server).unwrap());
    assert!(shown.contains("a.com") && !shown.contains(body), "{shown}");
}

#[test]
fn equal_specifications_are_one_configuration_while_used() {
    let made = self_signed("a.com");
    let mut shared = Shared::default();
    let first = shared.server(&spec(made.identity())).unwrap();
    for _ in 0..3 {
        shared.sweep();
        let again = shared.server(&spec(made.identity())).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }
    let one = shared.client(&ClientSpec::default()).unwrap();
    assert!(Arc::ptr_eq(&one, &shared.client(&ClientSpec::default()).unwrap()));
    for _ in 0..3 {
        shared.sweep();
    }
    // Held by somebody, however long nobody asked.
    assert!(Arc::ptr_eq(&first, &shared.server(&spec(made.identity())).unwrap()));
    assert!(Arc::ptr_eq(&one, &shared.client(&ClientSpec::default()).unwrap()));
    drop((first, one));
    for _ in 0..3 {
        shared.sweep();
    }
    assert_eq!(format!("{shared:?}").matches("Known").count(), 0, "{shared:?}");
}

#[test]
fn versions_suites_and_curves_are_those_of_the_configuration() {
    let made = self_signed("a.com");
    let parameters = |min, max, suites: &[&str], curves: &[&str]| Parameters {
        min_version: min,
        max_version: max,
        cipher_suites: suites.iter().map(|name| (*name).into()).collect(),
        curves: curves.iter().map(|name| (*name).into()).collect(),
    };
    let shake = |parameters: Parameters| {
        let server = server(ServerSpec { parameters, ..spec(made.identity()) });
        shake(&server, &client(ClientSpec::default()), "a.com").unwrap().client
    };
    let plain = shake(Parameters::default());
    assert_eq!(plain.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let suite = "ECDHE-ECDSA-CHACHA20-POLY1305";
    let old = shake(parameters(None, Some(Version::V1_2), &[suite], &["P-384"]));
    assert_eq!(old.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let negotiated = old.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(negotiated, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    let group = old.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::secp384r1);
    // Suites of TLS 1.2 do not switch TLS 1.3 off.
    let new = shake(parameters(None, None, &[suite], &[]));
    assert_eq!(new.protocol_version(), Some(ProtocolVersion::TLSv1_3));

    let error = |parameters| {
        let spec = ServerSpec { parameters, ..spec(made.identity()) };
        Server::new(spec, &mut Tickets::default()).unwrap_err()
    };
    let reversed = parameters(Some(Version::V1_3), Some(Version::V1_2), &[], &[]);
    assert_eq!(error(reversed), Error::Versions(Version::V1_3, Version::V1_2));
    assert_eq!(error(parameters(None, None, &["RC4"], &[])), Error::NoSuites);
    assert_eq!(error(parameters(None, None, &[], &["P-521"])), Error::NoCurves);
    let only_new = parameters(None, Some(Version::V1_2), &["TLS_AES_128_GCM_SHA256"], &[]);
    assert_eq!(error(only_new), Error::NoSuites);
}

#[test]
fn names_are_read_as_envoy_writes_them() {
    let written = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let suites = Names::suites(&written(&[
        "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "AES128-SHA",
    ]));
    let known: Vec<&str> = suites.known.iter().map(|n| &**n).collect();
    assert_eq!(
        known,
        [
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
        ]
    );
    assert_eq!(&*suites.unknown[0], "AES128-SHA");
    let curves = Names::curves(&written(&["X25519", "p-256:P-521", "X25519MLKEM768"]));
    assert_eq!((curves.known.len(), &*curves.unknown), (3, &["P-521".into()][..]));
    assert!(suite_names().count() == 9 && curve_names().count() == 5);
}

#[test]
fn alpn_is_negotiated_and_malformed_protocols_are_errors() {
    let made = self_signed("a.com");
    let alpn = |names: &[&str]| ServerSpec {
        alpn: names.iter().map(|name| (*name).into()).collect(),
        ..spec(made.identity())
    };
    let both = ClientSpec { alpn: vec!["h2".into(), "http/1.1".into()], ..Default::default() };
    let shaken = shake(&server(alpn(&["http/1.1"])), &client(both), "a.com").unwrap();
    assert_eq!(shaken.client.alpn_protocol(), Some(&b"http/1.1"[..]));
    for malformed in ["", &"x".repeat(256)] {
        let error = Server::new(alpn(&[malformed]), &mut Tickets::default()).unwrap_err();
        assert_eq!(error, Error::Alpn);
    }
}

#[test]
fn clients_are_asked_for_certificates_and_believed_by_their_chain() {
    let (ours, theirs) = (authority(), authority());
    let made = self_signed("a.com");
    let policy = |required, revocations| ClientPolicy {
        authorities: pem(&ours.pem()),
        required,
        revocations,
    };
    let server = |policy| server(ServerSpec { clients: Some(policy), ..spec(made.identity()) });
    let with = |identity: Option<&Made>| {
        client(ClientSpec { identity: identity.map(Made::identity), ..Default::default() })
    };
    let (good, bad) = (issued(&ours, &["c"], 7), issued(&theirs, &["c"], 7));
    let required = server(policy(true, None));
    let shaken = shake(&required, &with(Some(&good)), "a.com").unwrap();
    assert_eq!(shaken.server.peer_certificates().unwrap().len(), 1);
    assert!(shake(&required, &with(Some(&bad)), "a.com").is_err());
    assert!(shake(&required, &with(None), "a.com").is_err());
    // Optional: none is fine, a bad one is not.
    let optional = server(policy(false, None));
    assert!(shake(&optional, &with(None), "a.com").unwrap().server.peer_certificates().is_none());
    assert!(shake(&optional, &with(Some(&bad)), "a.com").is_err());
    // Revoked, not revoked, revocations of another authority, or of long ago.
    let crl =
        |by, serials: &[u64], until| server(policy(true, Some(revocations(by, serials, until))));
    assert!(shake(&crl(&ours, &[7], 2900), &with(Some(&good)), "a.com").is_err());
    assert!(shake(&crl(&ours, &[8], 2900), &with(Some(&good)), "a.com").is_ok());
    assert!(shake(&crl(&theirs, &[8], 2900), &with(Some(&good)), "a.com").is_err());
    assert!(shake(&crl(&ours, &[8], 2021), &with(Some(&good)), "a.com").is_err());

    let error = |policy| {
        let spec = ServerSpec { clients: Some(policy), ..spec(made.identity()) };
        Server::new(spec, &mut Tickets::default()).unwrap_err()
    };
    let empty = ClientPolicy { authorities: pem(""), ..policy(true, None) };
    assert_eq!(error(empty), Error::NoCertificate);
    assert_eq!(error(policy(true, Some(pem("")))), Error::NoRevocations);
    let damaged = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    assert_eq!(error(policy(true, Some(pem(damaged)))), Error::BadRevocations);
}

#[test]
fn a_certificate_among_the_authorities_is_believed() {
    let pinned = self_signed("a.com");
    let clients =
        ClientPolicy { authorities: pem(&pinned.chain), required: true, revocations: None };
    let server = server(ServerSpec { clients: Some(clients), ..spec(pinned.identity()) });
    let client = client(ClientSpec {
        identity: Some(pinned.identity()),
        authorities: Some(pem(&pinned.chain)),
        ..Default::default()
    });
    assert!(shake(&server, &client, "a.com").is_ok());
}

#[test]
fn upstreams_are_believed_by_their_chain_and_by_the_name_that_was_asked_for() {
    let (ours, theirs) = (authority(), authority());
    let server = server(spec(issued(&ours, &["a.com"], 1).identity()));
    let with = |authorities: Option<&CertifiedIssuer<'_, KeyPair>>, checks_name| {
        client(ClientSpec {
            authorities: authorities.map(|authority| pem(&authority.pem())),
            checks_name,
            ..Default::default()
        })
    };
    assert!(shake(&server, &with(None, false), "b.com").is_ok());
    assert!(shake(&server, &with(Some(&ours), false), "b.com").is_ok());
    assert!(shake(&server, &with(Some(&theirs), false), "a.com").is_err());
    assert!(shake(&server, &with(Some(&ours), true), "a.com").is_ok());
    assert!(shake(&server, &with(Some(&ours), true), "b.com").is_err());
    // One that names no host cannot be asked for its name.
    let nameless = self::server(spec(issued(&ours, &["10.0.0.1"], 1).identity()));
    assert!(shake(&nameless, &with(Some(&ours), true), "b.com").is_ok());

    let sni = ClientSpec { sni: Some("not a name".into()), ..Default::default() };
    assert_eq!(Client::new(sni).unwrap_err(), Error::ServerName("not a name".into()));
}

/// One ticket resumes anywhere under its policy, and nowhere under another.
#[test]
fn sessions_do_not_cross_client_certificate_policies() {
    let (a, b) = (authority(), authority());
    let made = self_signed("a.com");
    let user = issued(&a, &["c"], 1);
    let policy = |authorities: &[&CertifiedIssuer<'_, KeyPair>], required| ClientPolicy {
        authorities: pem(&authorities.iter().map(|a| a.pem()).collect::<String>()),
        required,
        revocations: None,
    };
    for max_version in [Version::V1_2, Version::V1_3] {
        let mut tickets = Tickets::default();
        let mut server = |clients: Option<ClientPolicy>, alpn: &[&str]| {
            let spec = ServerSpec {
                clients,
                alpn: alpn.iter().map(|name| (*name).into()).collect(),
                parameters: Parameters { max_version: Some(max_version), ..Default::default() },
                ..spec(made.identity())
            };
            Server::new(spec, &mut tickets).unwrap()
        };
        let open = server(None, &[]);
        let open_too = server(None, &["http/1.1"]);
        let optional = server(Some(policy(&[&a], false)), &[]);
        let required = server(Some(policy(&[&a], true)), &[]);
        let wider = server(Some(policy(&[&a, &b], true)), &[]);
        let begin = |server: &Server| {
            let client =
                client(ClientSpec { identity: Some(user.identity()), ..Default::default() });
            let shaken = shake(server, &client, "a.com").unwrap();
            assert_eq!(shaken.server.handshake_kind(), Some(HandshakeKind::Full));
            client
        };
        let resumes = |server: &Server, client: &Client, name: &str| {
            let shaken = shake(server, client, name).unwrap();
            shaken.server.handshake_kind() == Some(HandshakeKind::Resumed)
        };
        assert!(resumes(&open, &begin(&open), "a.com"));
        assert!(resumes(&open_too, &begin(&open), "a.com"));
        assert!(resumes(&required, &begin(&required), "a.com"));
        for (one, other) in [
            (&open, &optional),
            (&open, &required),
            (&optional, &required),
            (&required, &wider),
            (&wider, &required),
            (&required, &open),
        ] {
            assert!(!resumes(other, &begin(one), "a.com"));
        }
    }
}

proptest! {
    /// Whatever a Secret holds, it is an error or it is not; nothing panics.
    #[test]
    fn hostile_pem_is_an_error(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        thread_local! {
            static MADE: Made = self_signed("a.com");
            static CRL: Pem = revocations(&authority(), &[1], 2900);
        }
        let (chain, key) = MADE.with(|made| (made.chain.clone(), made.key.clone()));
        let damage = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if edits.len() % 2 == 1 {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes.extend(&noise);
            Pem(bytes.into())
        };
        let (chain, key) = (damage(chain.as_bytes()), damage(key.as_bytes()));
        let crl = CRL.with(|crl| damage(&crl.0));
        let policy = ClientPolicy {
            authorities: chain.clone(),
            required: true,
            revocations: Some(crl),
        };
        let _ = verify::of_clients(&policy);
        let authorities = Some(chain.clone());
        let _ = verify::of_upstreams(&ClientSpec { authorities, ..Default::default() });
        if let Ok(identity) = Identity::parse(chain, key) {
            let _ = Server::new(spec(identity), &mut Tickets::default());
        }
    }

    /// DER inside intact PEM.
    #[test]
    fn hostile_der_is_an_error(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        thread_local! {
            static DER: (Vec<u8>, String) = {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
                (params.self_signed(&key).unwrap().der().to_vec(), key.serialize_pem())
            };
        }
        let (mut der, key) = DER.with(Clone::clone);
        for (at, byte) in &edits {
            let at = at.index(der.len());
            der[at] = *byte;
        }
        let certificate = rustls::pki_types::CertificateDer::from(der);
        let now = rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        let _ = is_current(&certificate, now);
        let _ = has_dns_names(&certificate);
        let _ = Identity::parse(armour(&certificate), pem(&key));
    }
}

fn armour(der: &[u8]) -> Pem {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for chunk in der.chunks(3) {
        let group = chunk.iter().chain([&0, &0]).take(3).fold(0_u32, |n, b| n << 8 | u32::from(*b));
        for digit in 0..4 {
            let digit_is_there = digit <= chunk.len();
            let index = group >> (18 - 6 * digit) & 63;
            text.push(if digit_is_there { DIGITS[index as usize].into() } else { '=' });
        }
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    pem(&text)
}
