// SPDX-License-Identifier: Apache-2.0
//! What a running gateway says of TLS, TCP and endpoints: explanations that agree with what
//! happens, series that a scraper takes, diagnostics with Emissary's keys.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::tls::ClientOptions;
use ringway_tests::upstream::Upstream;
use ringway_tests::{Client, PATIENCE, pki, wait_until};
use serde_json::Value;

use super::DRIVERS;

const HTTPS: u16 = 8443;
const DATABASE: u16 = 5432;

fn host(name: &str) -> String {
    format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: {name}}}
spec: {{hostname: {name}.example, tlsSecret: {{name: {name}}}}}
"
    )
}

/// Two Hosts, of which one has no Secret, a Mapping and a TCPMapping.
fn start(web: &Upstream, database: &Upstream, driver: &'static str) -> Gateway {
    let manifests = format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {{name: https}}
spec: {{port: {HTTPS}, protocol: HTTPS, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}
---
apiVersion: getambassador.io/v3alpha1
kind: TCPMapping
metadata: {{name: db}}
spec: {{port: {DATABASE}, service: \"{}\"}}
",
        database.address()
    );
    let manifests = manifests
        + &host("shop")
        + &pki::server("shop.example").unwrap().secret("shop")
        + &host("bare")
        + &mapping("all", &format!("prefix: /, service: \"{}\"", web.address()));
    let gateway = Gateway::start(&manifests, &Options::driver(driver)).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

fn connect(gateway: &Gateway, name: &str) -> anyhow::Result<Client> {
    let options = ClientOptions { trust: Some("test".into()), ..ClientOptions::name(name) };
    Client::connect_tls(gateway.address(HTTPS), PATIENCE, b"", options.config()?, Some(name))
}

fn explain(gateway: &Gateway, query: &str) -> String {
    let answer = gateway.admin(&format!("/api/v1/explain?{query}")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

#[test]
fn explanations_agree_with_what_happens() {
    for driver in DRIVERS {
        let (web, database) = (Upstream::echo("web").unwrap(), echo_bytes());
        let gateway = start(&web, &database, driver);

        let mut shop = connect(&gateway, "shop.example").unwrap();
        assert_eq!(shop.get("/x", "shop.example").unwrap().status, 200);
        let url = format!("url=https://shop.example/x&port={HTTPS}");
        let story: Value = serde_json::from_str(&explain(&gateway, &url)).unwrap();
        assert_eq!(story["outcome"]["action"], "forward", "{story:#}");
        let endpoint = &story["outcome"]["endpoint"]["endpoint"];
        assert_eq!(*endpoint, web.address().to_string());
        assert_eq!(story["tls"]["chain"]["object"]["name"], "shop");
        assert_eq!(story["tls"]["chain"]["certificate"]["names"][0], "shop.example");
        let text = explain(&gateway, &format!("{url}&format=text"));
        assert!(text.contains("certificate for shop.example, valid for "), "{text}");

        // The other Host's name on this connection: its own TLS configuration is another.
        assert_eq!(shop.get("/x", "bare.example").unwrap().status, 421);
        let other = format!("{url}&header=Host:%20bare.example&format=text");
        let text = explain(&gateway, &other);
        assert!(text.contains("421: its connection was made for shop.example"), "{text}");

        // No Secret, no handshake.
        assert!(connect(&gateway, "bare.example").is_err());
        let bare = format!("url=https://bare.example/x&port={HTTPS}&format=text");
        let text = explain(&gateway, &bare);
        assert!(text.contains("Host default/bare has no usable certificate"), "{text}");
        assert!(text.contains("no connection: "), "{text}");

        let mut tunnel = TcpStream::connect(gateway.address(DATABASE)).unwrap();
        tunnel.set_read_timeout(Some(PATIENCE)).unwrap();
        tunnel.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        tunnel.read_exact(&mut back).unwrap();
        let query = format!("method=TCP&url=db.example:{DATABASE}&format=text");
        let text = explain(&gateway, &query);
        assert!(text.contains("tunnelled by TCPMapping default/db"), "{text}");
        assert!(text.contains(&format!("endpoint: {}", database.address())), "{text}");
    }
}

fn echo_bytes() -> Upstream {
    let upstream = Upstream::custom(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    });
    upstream.unwrap()
}

#[test]
fn a_scrape_has_the_series_of_tls_tcp_and_endpoints() {
    for driver in DRIVERS {
        let (web, database) = (Upstream::echo("web").unwrap(), echo_bytes());
        let gateway = start(&web, &database, driver);
        let mut shop = connect(&gateway, "shop.example").unwrap();
        shop.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\nx-backend-status: 418\r\n\r\n")
            .unwrap();
        assert_eq!(shop.response("GET").unwrap().status, 418);
        let tunnel = TcpStream::connect(gateway.address(DATABASE)).unwrap();
        let value = |series: &str, labels: &str| gateway.metric(series, labels).unwrap();
        wait_until("the tunnel is counted", PATIENCE, || {
            value("envoy_tcp_downstream_cx_active", "") == 1.0
        });
        drop(tunnel);
        assert_eq!(value("envoy_listener_ssl_handshake", "_8443"), 1.0);
        assert_eq!(value("envoy_http_downstream_cx_ssl_active", ""), 1.0);
        assert_eq!(value("envoy_cluster_upstream_rq", "envoy_response_code=\"418\""), 1.0);
        assert_eq!(value("envoy_cluster_membership_healthy", "_8000"), 2.0);
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let end = value("ringway_certificate_expiry_timestamp_seconds", "host=\"default/shop\"");
        assert!(end > now, "{end}");
        let of_listener = value(
            "envoy_listener_ssl_certificate_expiration_unix_time_seconds",
            "envoy_tls_certificate=\"shop.example\"",
        );
        assert_eq!(of_listener, end);
        let days = value("envoy_server_days_until_first_cert_expiring", "");
        assert!((days - ((end - now) / 86_400.0).floor()).abs() <= 1.0, "{days}");
        for series in ["envoy_server_live", "envoy_server_version", "envoy_server_concurrency"] {
            assert!(value(series, "") > 0.0, "{series}");
        }

        // What a scraper insists on: one TYPE per family, before its samples; no sample twice.
        let text = gateway.admin("/metrics").unwrap().text();
        let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
        for line in text.lines().filter(|line| !line.starts_with("# HELP ")) {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let name = family.split(' ').next().unwrap();
                assert!(families.insert(name.to_owned()), "{name} has two types");
                continue;
            }
            let (sample, number) = line.rsplit_once(' ').unwrap();
            assert!(number.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(sample.to_owned()), "{sample} twice");
            let name = sample.split('{').next().unwrap();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
            let known = |name: &str| families.contains(name);
            assert!(known(name) || bare.is_some_and(known), "{name} has no type");
        }
    }
}

#[test]
fn diagnostics_show_tls_contexts_and_tcp_groups() {
    let (web, database) = (Upstream::echo("web").unwrap(), echo_bytes());
    let gateway = start(&web, &database, DRIVERS[0]);
    let answer = gateway.admin("/ambassador/v0/diag/?json=true").unwrap();
    let diag: Value = serde_json::from_slice(&answer.body).unwrap();
    let contexts = diag["tlscontexts"].as_array().unwrap();
    let named = |name: &str| contexts.iter().find(|c| c["name"] == name).unwrap();
    assert_eq!(named("shop")["hosts"][0], "shop.example");
    assert_eq!(named("shop")["usable"], true);
    assert_eq!(named("bare")["usable"], false);
    assert!(!answer.text().contains("PRIVATE KEY"));
    let groups = diag["groups"].as_object().unwrap();
    let tcp = groups.values().find(|group| group["kind"] == "IRTCPMappingGroup").unwrap();
    assert_eq!(tcp["port"], DATABASE);
    assert_eq!(tcp["mappings"][0]["_source"], "db.default");
    assert_eq!(tcp["mappings"][0]["weight"], 100);
}

#[test]
fn emissarys_other_ports_are_answered_and_a_taken_one_is_waited_for() {
    let web = Upstream::echo("web").unwrap();
    let taken = std::net::TcpListener::bind((ringway_tests::address::fresh(), 8001)).unwrap();
    let envoy = taken.local_addr().unwrap();
    let manifests = listener(8080)
        + &pki::server("shop.example").unwrap().secret("shop")
        + &mapping("all", &format!("prefix: /, service: \"{}\"", web.address()));
    let args = vec![format!("--envoy-admin-addr={envoy}")];
    let gateway = Gateway::start(&manifests, &Options { args, ..Options::default() }).unwrap();
    assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);

    wait_until("the ports are answered", PATIENCE, || {
        [8005, 8006].iter().all(|port| gateway.client(*port).is_ok())
    });
    let answer = gateway.client(8005).unwrap().get("/snapshot-external", "a").unwrap();
    let snapshot: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(snapshot["Kubernetes"]["Mapping"][0]["metadata"]["name"], "all");
    assert!(!answer.text().contains("PRIVATE KEY"));
    assert_eq!(gateway.client(8006).unwrap().get("/ready", "a").unwrap().status, 200);

    wait_until("it says so", PATIENCE, || {
        gateway.log().contains(&format!("nobody is answered on {envoy} for now"))
    });
    drop(taken);
    let stats = || {
        let mut client = Client::connect(envoy, PATIENCE).ok()?;
        Some(client.get("/stats?filter=ingress_http.downstream_rq_2xx", "a").ok()?.text())
    };
    let line = "http.ingress_http.downstream_rq_2xx: 1\n";
    wait_until("the port is free", PATIENCE, || stats().as_deref() == Some(line));

    // A Listener that wants the port has it.
    gateway.write("more.yaml", &listener(8001)).unwrap();
    wait_until("the Listener has it", PATIENCE, || {
        gateway.get(8001, "/", "a").is_ok_and(|answer| answer.status == 200)
    });
}
