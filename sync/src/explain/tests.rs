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
";

fn ask(url: &str, headers: &[&str], port: Option<u16>) -> Result<Explanation, String> {
    let scratch = Scratch::new();
    scratch.write("a.yaml", MANIFESTS);
    let loaded = load(scratch.path(), Settings::default(), BTreeMap::new()).unwrap();
    let headers = headers.iter().map(|line| (*line).to_owned()).collect();
    let question = Question { method: "GET".into(), url: url.into(), headers, port };
    explain(&loaded.table, &question)
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
