// SPDX-License-Identifier: Apache-2.0
//! Certificates that change while clients come: replaced under a storm of handshakes, broken, and
//! put right again. None of it costs a connection of anybody else.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::Backend;
use ringway_tests::manifest::mapping;
use ringway_tests::tls::{self, ClientOptions};
use ringway_tests::{Client, PATIENCE, pki, wait_until};

use super::{DRIVERS, heavy};

const PORT: u16 = 8443;
const WORKERS: usize = 2;

/// A TLS Listener, a Mapping, and a Host with a Secret of its own name for each of these.
fn manifests(backend: &Backend, hosts: &[&str]) -> String {
    let mut out = format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {{name: https}}
spec: {{port: {PORT}, protocol: HTTPS, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}
"
    );
    for name in hosts {
        out += &format!(
            "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: {name}}}
spec: {{hostname: {name}.example, tlsSecret: {{name: {name}}}}}
"
        );
    }
    out + &mapping("all", &format!("prefix: /, service: \"{}\"", backend.address()))
}

/// The Secret of a Host, with the certificate of this edition.
fn secret(name: &str, edition: u64) -> String {
    leaf(name, edition).secret(name)
}

fn leaf(name: &str, edition: u64) -> std::sync::Arc<pki::Leaf> {
    pki::server(&format!("{name}.example edition {edition}")).unwrap()
}

fn start(manifests: &str, driver: &'static str) -> Gateway {
    let args = vec!["--access-log=off".into()];
    let options = Options { workers: WORKERS, args, ..Options::driver(driver) };
    let gateway = Gateway::start(manifests, &options).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// A connection to a Host, with the edition of the certificate that it was made with.
fn connect(gateway: &Gateway, name: &str) -> Result<(Client, u64)> {
    let name = format!("{name}.example");
    // The server's certificate is checked against the name and the authority each time.
    let options = ClientOptions { trust: Some("test".into()), ..ClientOptions::name(&name) };
    let to = gateway.address(PORT);
    let client = Client::connect_tls(to, PATIENCE, b"", options.config()?, Some(&name))?;
    let words = client.handshake().and_then(|handshake| handshake.certificate());
    let words = words.context("a certificate that nobody made")?;
    let edition = words.rsplit_once("edition ").map_or(Ok(1), |(_, number)| number.parse())?;
    Ok((client, edition))
}

fn ask(client: &mut Client, name: &str) -> Result<()> {
    let answer = client.get("/", &format!("{name}.example"))?;
    anyhow::ensure!(answer.status == 200, "status {}", answer.status);
    Ok(())
}

/// One full handshake and one request on it.
#[derive(Debug)]
struct Visit {
    begun: Instant,
    edition: u64,
}

/// Tells visitors to stop, also where the test fails before it would.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Visits without pause until told to stop; what failed is told in words.
fn visit(gateway: &Gateway, name: &str, stop: &AtomicBool) -> (Vec<Visit>, Vec<String>) {
    let (mut visits, mut failures) = (Vec::new(), Vec::new());
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        let visit = connect(gateway, name).and_then(|(mut client, edition)| {
            ask(&mut client, name)?;
            Ok(Visit { begun, edition })
        });
        match visit {
            Ok(visit) => visits.push(visit),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    (visits, failures)
}

#[test]
fn a_certificate_is_replaced_under_handshakes_and_none_fails() {
    let _alone = heavy();
    for driver in DRIVERS {
        replace(driver);
    }
}

fn replace(driver: &'static str) {
    let backend = Backend::start().unwrap();
    let gateway = start(&manifests(&backend, &["foo"]), driver);
    // Made before the clock runs.
    (1..=40).for_each(|edition| drop(leaf("foo", edition)));
    gateway.write("cert.yaml", &secret("foo", 1)).unwrap();
    wait_until("the first certificate", PATIENCE, || connect(&gateway, "foo").is_ok());
    let mut kept: Vec<Client> = (0..16).map(|_| connect(&gateway, "foo").unwrap().0).collect();
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let mut replaced = Vec::new();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| visit(&gateway, "foo", &stop))).collect();
        let stop = Stop(&stop);
        for edition in 2..=40 {
            let generation = gateway.generation().unwrap();
            let written = Instant::now();
            gateway.write("cert.yaml", &secret("foo", edition)).unwrap();
            wait_until("every worker has the certificate", PATIENCE, || {
                gateway.generation().unwrap() > generation
            });
            replaced.push((edition, written, Instant::now()));
            // Connections from before go on as they are.
            for client in &mut kept {
                ask(client, "foo").unwrap();
            }
            // Some visits between this replacement and the next one.
            std::thread::sleep(Duration::from_millis(500).saturating_sub(written.elapsed()));
            if begin.elapsed() > Duration::from_secs(10) {
                break;
            }
        }
        let took = begin.elapsed();
        drop(stop);
        let results: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        (results, took)
    });
    let (results, took) = results;
    let failures: Vec<&String> = results.iter().flat_map(|(_, failures)| failures).collect();
    assert!(failures.is_empty(), "{} on {driver}: {:?}", failures.len(), failures.first());
    let visits: Vec<&Visit> = results.iter().flat_map(|(visits, _)| visits).collect();
    let rate = visits.len() as f64 / took.as_secs_f64();
    let slowest = replaced.iter().map(|(_, written, served)| *served - *written).max().unwrap();
    println!(
        "{driver}: {} handshakes at {rate:.0}/s, {} replacements, the slowest {slowest:?}",
        visits.len(),
        replaced.len()
    );
    assert!(rate >= 200.0, "only {rate:.0} handshakes per second on {driver}");
    assert!(replaced.len() >= 10, "only {} replacements", replaced.len());
    assert!(slowest < Duration::from_secs(1), "{slowest:?} until every worker served it");
    for (edition, _, served) in &replaced {
        let late: Vec<&&Visit> =
            visits.iter().filter(|v| v.begun > *served && v.edition < *edition).collect();
        assert!(late.is_empty(), "edition {edition} was served, then {:?}", late.first());
    }
    // The clients saw what was said to be served.
    let mut seen: Vec<u64> = visits.iter().map(|visit| visit.edition).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() >= replaced.len(), "only editions {seen:?} were seen");
}

#[test]
fn a_broken_secret_hurts_one_host_and_recovers() {
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let gateway = start(&manifests(&backend, &["one", "two"]), driver);
        gateway.write("one.yaml", &secret("one", 1)).unwrap();
        gateway.write("two.yaml", &secret("two", 1)).unwrap();
        let serves = |name: &str, edition: u64| {
            connect(&gateway, name).is_ok_and(|(_, served)| served == edition)
        };
        wait_until("both certificates", PATIENCE, || serves("one", 1) && serves("two", 1));
        let (mut old, _) = connect(&gateway, "one").unwrap();
        ask(&mut old, "one").unwrap();
        let stop = AtomicBool::new(false);
        let (visits, failures) = std::thread::scope(|scope| {
            let other = scope.spawn(|| visit(&gateway, "two", &stop));
            let stop = Stop(&stop);
            // A key of somebody else.
            let swapped = secret("one", 2).replace(
                &serde_json::Value::from(leaf("one", 2).key_pem()).to_string(),
                &serde_json::Value::from(leaf("one", 3).key_pem()).to_string(),
            );
            assert_ne!(swapped, secret("one", 2));
            let garbage = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: one}\n\
                           stringData: {tls.crt: nonsense, tls.key: nonsense}\n";
            let complaints =
                || gateway.log().matches("error[BadSecret]: Secret default/one").count();
            let mut edition = 1;
            for broken in [swapped.as_str(), garbage] {
                let before = complaints();
                gateway.write("one.yaml", broken).unwrap();
                wait_until("what is wrong with it is said", PATIENCE, || complaints() > before);
                // It serves as last accepted, to connections from before and to new ones.
                ask(&mut old, "one").unwrap();
                assert!(serves("one", edition), "on {driver}");
                edition += 3;
                gateway.write("one.yaml", &secret("one", edition)).unwrap();
                wait_until("the repaired certificate", PATIENCE, || serves("one", edition));
            }
            std::fs::remove_file(gateway.folder().join("one.yaml")).unwrap();
            wait_until("without a Secret handshakes for its name are refused", PATIENCE, || {
                connect(&gateway, "one").is_err_and(|e| tls::alert(&e) == "unrecognised_name")
            });
            gateway.write("one.yaml", &secret("one", edition + 1)).unwrap();
            wait_until("the new Secret", PATIENCE, || serves("one", edition + 1));
            drop(stop);
            other.join().unwrap()
        });
        assert!(failures.is_empty(), "{} on {driver}: {:?}", failures.len(), failures.first());
        assert!(!visits.is_empty());
    }
}

/// Session tickets are of no use to anybody once their Host asks for other clients' certificates,
/// and the connections made before are closed.
#[test]
fn a_new_client_authority_ends_old_connections() {
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let mutual = |authority: &str| {
            manifests(&backend, &["foo"]).replace(
                "tlsSecret: {name: foo}",
                "tlsSecret: {name: foo}, tls: {ca_secret: clients, cert_required: true}",
            ) + &secret("foo", 1)
                + &format!(
                    "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: clients}}\n\
                     stringData: {{tls.crt: {}}}\n",
                    serde_json::Value::from(pki::authority(authority).unwrap().pem())
                )
        };
        let gateway = start(&mutual("clients"), driver);
        let options = ClientOptions {
            certificate: Some(pki::client("alice").unwrap()),
            ..ClientOptions::name("foo.example")
        };
        let config = options.config().unwrap();
        let connect = || {
            let to = gateway.address(PORT);
            Client::connect_tls(to, PATIENCE, b"", config.clone(), Some("foo.example"))
        };
        let mut before = connect().unwrap();
        ask(&mut before, "foo").unwrap();
        let mut resumed = connect().unwrap();
        ask(&mut resumed, "foo").unwrap();
        assert!(resumed.handshake().unwrap().resumed, "there is a ticket to be misused");
        gateway.write("all.yaml", &mutual("others")).unwrap();
        wait_until("a client of the old authority is refused", PATIENCE, || {
            connect().and_then(|mut client| ask(&mut client, "foo")).is_err()
        });
        // On the way out it may still be told; no request passes any more.
        let answer = before.get("/", "foo.example");
        match answer {
            Ok(answer) => assert_ne!(answer.status, 200, "on {driver}"),
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::BrokenPipe
                ),
                "{error}"
            ),
        }
    }
}
