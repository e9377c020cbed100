// SPDX-License-Identifier: Apache-2.0
//! What `openssl` and `curl` make of a gateway: clients that share no code with it.

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::outside::{Folder, curl, s_client};
use ringway_tests::pki;
use ringway_tests::upstream::Upstream;

use super::DRIVERS;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: foo.example\r\nConnection: close\r\n\r\n";

fn start(upstream: &Upstream, driver: &'static str) -> Gateway {
    let manifests = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: balanced}
spec: {port: 8444, protocolStack: [PROXY, TLS, HTTP, TCP], securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: foo}
spec:
  hostname: foo.example
  tlsSecret: {name: foo}
  tls: {alpn_protocols: http/1.1}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: strict}
spec:
  hostname: strict.example
  tlsSecret: {name: strict}
  tls:
    max_tls_version: v1.2
    cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384]
    ecdh_curves: [P-384]
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: mutual}
spec:
  hostname: mutual.example
  tlsSecret: {name: mutual}
  tls: {ca_secret: clients, crl_secret: revoked, cert_required: true}
---
apiVersion: v1
kind: Secret
metadata: {name: foo}
stringData: {tls.crt: {{crt foo.example by root/middle}}, tls.key: {{key foo.example by root/middle}}}
---
apiVersion: v1
kind: Secret
metadata: {name: strict}
stringData: {tls.crt: {{crt strict.example}}, tls.key: {{key strict.example}}}
---
apiVersion: v1
kind: Secret
metadata: {name: mutual}
stringData: {tls.crt: {{crt mutual.example}}, tls.key: {{key mutual.example}}}
---
apiVersion: v1
kind: Secret
metadata: {name: clients}
stringData: {ca.crt: {{ca clients}}}
---
apiVersion: v1
kind: Secret
metadata: {name: revoked}
stringData: {crl.pem: {{crl clients revoking bob}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: all}
spec: {hostname: \"*\", prefix: /, service: \"UPSTREAM\"}
";
    let manifests = pki::expand(manifests).unwrap();
    let manifests = manifests.replace("UPSTREAM", &upstream.address().to_string());
    let gateway = Gateway::start(&manifests, &Options::driver(driver)).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

#[test]
fn openssl_negotiates_as_configured() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, driver);
        let folder = Folder::new().unwrap();
        let root = folder.file("root.pem", &pki::authority("root").unwrap().pem()).unwrap();
        let to = gateway.address(8443);
        let foo = ["-servername", "foo.example", "-verify_hostname", "foo.example"];
        let s_client = |arguments: &[&str], input: &str| {
            s_client(to, arguments, input).expect("openssl runs to its end")
        };
        // Both versions, a chain up to the root, ALPN, and an answer.
        for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let all = [&foo[..], &["-CAfile", &root, "-alpn", "http/1.1", flag]].concat();
            let session = s_client(&all, REQUEST);
            assert_eq!(session.version, version, "{session:?}");
            assert_eq!(session.verify_code, Some(0), "{session:?}");
            assert_eq!(session.alpn.as_deref(), Some("http/1.1"));
            assert_eq!(session.subject.as_deref(), Some("foo.example"));
            assert!(session.output.stdout.contains("HTTP/1.1 200 "), "{session:?}");
        }
        // What rustls has never had is refused, whoever asks for it.
        for flag in ["-tls1", "-tls1_1"] {
            // OpenSSL itself needs to be talked into it.
            let old = [&foo[..], &[flag, "-cipher", "DEFAULT@SECLEVEL=0"]].concat();
            let session = s_client(&old, "");
            assert_eq!(session.version, "", "{session:?}");
            // protocol_version where a version was offered at all, else handshake_failure.
            assert!(matches!(session.alert, Some(70 | 40)), "{session:?}");
        }
        // Suites and curves.
        let strict = ["-servername", "strict.example"];
        let session = s_client(&[&strict[..], &["-curves", "P-256:P-384"]].concat(), "");
        assert_eq!(session.version, "TLSv1.2", "{session:?}");
        assert_eq!(session.suite, "ECDHE-ECDSA-AES256-GCM-SHA384");
        assert!(session.output.stdout.contains("secp384r1, 384 bits"), "{session:?}");
        let other = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
        let session = s_client(&[&strict[..], &other].concat(), "");
        assert_eq!((session.version.as_str(), session.alert), ("", Some(40)), "{session:?}");
        let session = s_client(&[&strict[..], &["-curves", "P-256"]].concat(), "");
        assert_eq!((session.version.as_str(), session.alert), ("", Some(40)), "{session:?}");
        // No such name.
        let session = s_client(&["-servername", "nobody.example"], "");
        assert_eq!((session.version.as_str(), session.alert), ("", Some(112)), "{session:?}");
        let session = s_client(&["-noservername"], "");
        assert!(session.version.is_empty(), "{session:?}");
    }
}

#[test]
fn openssl_resumes_sessions() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, driver);
        let folder = Folder::new().unwrap();
        for flag in ["-tls1_2", "-tls1_3"] {
            let file = folder.path().join(format!("session{flag}"));
            let file = file.to_str().unwrap();
            let common = ["-servername", "foo.example", flag];
            let to = gateway.address(8443);
            let first = s_client(to, &[&common[..], &["-sess_out", file]].concat(), REQUEST);
            assert!(!first.unwrap().resumed);
            let second = s_client(to, &[&common[..], &["-sess_in", file]].concat(), REQUEST);
            let second = second.unwrap();
            assert!(second.resumed, "{flag} on {driver}: {second:?}");
            assert!(second.output.stdout.contains("HTTP/1.1 200 "), "{second:?}");
        }
    }
}

#[test]
fn openssl_shows_its_certificate() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, driver);
        let folder = Folder::new().unwrap();
        let to = gateway.address(8443);
        let request = REQUEST.replace("foo.example", "mutual.example");
        // What a client is told: alert 116 is certificate_required, 44 certificate_revoked.
        let clients = [(None, Some(116)), (Some("alice"), None), (Some("bob"), Some(44))];
        for flag in ["-tls1_2", "-tls1_3"] {
            for (name, alert) in clients {
                let mut arguments = vec!["-servername", "mutual.example", flag];
                let files;
                if let Some(name) = name {
                    let leaf = pki::client(name).unwrap();
                    files = [
                        folder.file(&format!("{name}.crt"), &leaf.chain_pem).unwrap(),
                        folder.file(&format!("{name}.key"), &leaf.key_pem()).unwrap(),
                    ];
                    arguments.extend(["-cert", &files[0], "-key", &files[1]]);
                }
                let session = s_client(to, &arguments, &request).unwrap();
                assert_eq!(session.alert, alert, "{name:?} {flag} on {driver}: {session:?}");
                let served = session.output.stdout.contains("HTTP/1.1 200 ");
                assert_eq!(served, alert.is_none(), "{name:?} {flag} on {driver}: {session:?}");
            }
        }
    }
}

#[test]
fn curl_fetches() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let gateway = start(&upstream, driver);
        let folder = Folder::new().unwrap();
        let root = folder.file("root.pem", &pki::authority("root").unwrap().pem()).unwrap();
        let ip = gateway.address(8443).ip();
        let resolve = |port: u16| format!("foo.example:{port}:{ip}");
        let (tls, balanced) = (resolve(8443), resolve(8444));
        let trust = ["--cacert", &root];
        // Two requests on one connection.
        let url = "https://foo.example:8443/x";
        let two = [&trust[..], &["--resolve", &tls, "-H", "Host: foo.example", url, url]].concat();
        let fetched = curl(&two).unwrap();
        assert_eq!(fetched.status, 200, "{fetched:?}");
        assert_eq!(fetched.facts["ssl_verify_result"], 0);
        assert_eq!(fetched.facts["num_connects"], 0, "the second one found a connection");
        assert!(fetched.body.contains("\"target\":\"/x\""));
        // The same port in cleartext.
        let url = "http://foo.example:8443/x";
        let fetched = curl(&["--resolve", &tls, "-H", "Host: foo.example", url]).unwrap();
        assert_eq!(fetched.status, 301, "{fetched:?}");
        assert_eq!(fetched.facts["redirect_url"], "https://foo.example/x");
        // Behind a balancer that speaks the PROXY protocol; and without its header nothing.
        let url = "https://foo.example:8444/x";
        let direct =
            [&trust[..], &["--resolve", &balanced, "-H", "Host: foo.example", url]].concat();
        let fetched = curl(&[&direct[..], &["--haproxy-protocol"]].concat()).unwrap();
        assert_eq!(fetched.status, 200, "{fetched:?}");
        let fetched = curl(&direct).unwrap();
        assert_eq!(fetched.status, 0, "{fetched:?}");
    }
}
