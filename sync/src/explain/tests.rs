// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use ringway_core::snapshot::Settings;
use ringway_core::table::explain::Outcome;

use super::*;
use crate::gateway::load;
use crate::scratch::Scratch;

const MANIFESTS: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: any}
spec: {hostname: '*', requestPolicy: {insecure: {action: Route}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: quote}
spec: {hostname: '*', prefix: /backend/, service: 127.0.0.1:9}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: blue}
spec: {hostname: '*', prefix: /backend/, service: 127.0.0.1:9, headers: {x-user: blue}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: mirror}
spec: {hostname: '*', prefix: /backend/, service: 127.0.0.1:7, shadow: true, weight: 10}
---
apiVersion: getambassador.io/v3alpha1
kind: TCPMapping
metadata: {name: db}
spec: {port: 5432, service: 127.0.0.1:9, weight: 30}
---
apiVersion: getambassador.io/v3alpha1
kind: TCPMapping
metadata: {name: db-canary}
spec: {port: 5432, service: db.example:9}
";

fn ask(url: &str, headers: &[&str], port: Option<u16>) -> Result<Explanation, String> {
    match put("GET", url, headers, port)? {
        Answer::Request(story) => Ok(*story),
        Answer::Connection(story) => panic!("{story}"),
    }
}

fn put(method: &str, url: &str, headers: &[&str], port: Option<u16>) -> Result<Answer, String> {
    let scratch = Scratch::new();
    scratch.write("a.yaml", MANIFESTS);
    let loaded = load(scratch.path(), Settings::default(), BTreeMap::new()).unwrap();
    let headers = headers.iter().map(|line| (*line).to_owned()).collect();
    let question = Question { method: method.into(), url: url.into(), headers, port };
    explain(&loaded.table, &question, &written)
}

#[track_caller]
fn check_mapping(url: &str, headers: &[&str], expected: Option<&str>) {
    let story = ask(url, headers, None).unwrap();
    let found = match &story.outcome {
        Outcome::Forward { mapping, .. } => Some(&*mapping.name),
        _ => None,
    };
    assert_eq!(found, expected, "{story}");
}

#[test]
fn a_question_is_answered_as_a_request_would_be() {
    check_mapping("http://localhost:8080/backend/x?q=1", &[], Some("quote"));
    check_mapping("localhost/backend/./x", &["x-user: blue"], Some("blue"));
    check_mapping("/backend/x", &["Host: shop.example"], Some("quote"));
    check_mapping("https://shop.example/%62ackend/", &[], Some("quote"));
    check_mapping("http://localhost:8080", &[], None);
}

#[test]
fn a_request_that_is_refused_is_said_to_be() {
    assert!(ask("http://h/%00", &[], None).unwrap_err().contains("400"));
    assert!(ask("http://h/", &["no colon"], None).unwrap_err().contains("name: value"));
    assert!(ask("http://h/", &["a: b\r\nc: d"], None).unwrap_err().contains("line break"));
    assert!(ask("http://h/", &[], Some(9)).unwrap_err().contains("no Listener has port 9"));
}

#[test]
fn a_connection_is_explained_too() {
    let text = |method: &str, url: &str| put(method, url, &[], None).unwrap().to_string();
    let tcp = text("TCP", "db.example:5432");
    assert!(tcp.contains("tunnelled by TCPMapping default/db to cluster_127_0_0_1_9"), "{tcp}");
    assert!(tcp.contains("TCPMapping default/db takes rolls 0..30"), "{tcp}");
    assert!(tcp.contains("TCPMapping default/db-canary takes rolls 30..100"), "{tcp}");
    assert!(tcp.contains("endpoint: 127.0.0.1:9: it is the only one"), "{tcp}");
    assert_eq!(tcp, text("TCP", "tcp://db.example:5432"));
    let http = text("TCP", "db.example:8080");
    assert!(http.contains("its bytes are HTTP"), "{http}");
    let tls = text("TLS", "db.example:8080");
    assert!(tls.contains("closed: the protocolStack of Listener default/http has no TLS"), "{tls}");
    let said = put("TCP", "db.example:99", &[], None).unwrap_err();
    assert_eq!(said, "no Listener or TCPMapping has port 99");
    let said = put("TCP", "db.example", &[], None).unwrap_err();
    assert!(said.contains("write host:port"), "{said}");
}

#[test]
fn a_request_has_its_copies_and_its_endpoint_told() {
    let text = ask("http://localhost/backend/", &[], None).unwrap().to_string();
    let copies = "10 % copied by Mapping default/mirror to cluster_shadow_127_0_0_1_7_default, \
                  host localhost-shadow";
    assert!(text.contains(copies), "{text}");
    assert!(text.contains("endpoint: 127.0.0.1:9: it is the only one"), "{text}");
    assert!(text.contains("as written by round_robin: 127.0.0.1:9"), "{text}");
}

#[test]
fn server_names_are_names() {
    let name = |url| Url::parse(url, false).server_name();
    assert_eq!(name("https://Shop.Example.:8443/x").as_deref(), Some("shop.example"));
    assert_eq!(name("https://192.0.2.1/"), None);
    assert_eq!(name("https://[2001:db8::1]:443/"), None);
    assert_eq!(name("https:///x"), None);
}
