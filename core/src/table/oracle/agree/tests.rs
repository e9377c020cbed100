// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use serde_json::json;

use super::*;
use crate::crd::parse::{self, Parsed, parse};
use crate::resolve::{Memo, resolve};
use crate::snapshot::{self, Snapshot};

/// 100,000 requests on about a thousand tables and their successors.
#[test]
fn table_and_oracle_agree() {
    let compared = AtomicUsize::new(0);
    let config = ProptestConfig { cases: 700, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&vec(any::<u8>(), 1000..1400), |data| {
            compared.fetch_add(fuzz(&data), Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    let compared = compared.into_inner();
    assert!(compared >= 100_000, "only {compared}");
}

/// The same through the whole way: documents, objects, resolution, compilation.
#[test]
fn manifests_are_served_as_the_oracle_says() {
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&vec(any::<u8>(), 600..900), |data| {
            let mut bytes = Bytes(&data);
            let mut manifests = manifests(&mut bytes);
            manifests.mappings.iter_mut().for_each(writable);
            let table = served(&manifests);
            let oracle = Oracle::new(&manifests);
            while !bytes.0.is_empty() {
                let request = request(&mut bytes);
                let (actual, expected) = (ask(&table, &request), oracle.decide(&request));
                prop_assert_eq!(actual, expected, "{:#?}\n{:#?}", request, manifests);
            }
            Ok(())
        })
        .unwrap();
}

/// Takes out what v3alpha1 cannot say, and redirects, which join no group of routes.
fn writable(mapping: &mut Mapping) {
    mapping.redirects = false;
    if mapping.prefix.is_empty() {
        mapping.prefix = "/q".into();
    }
    for (_, want) in mapping.headers.iter_mut().chain(&mut mapping.query) {
        match want {
            Want::Present => *want = Want::Regex(".*".into()),
            Want::Exact(text) if text.is_empty() => *text = "0".into(),
            Want::Exact(_) | Want::Regex(_) => {}
        }
    }
}

fn served(manifests: &Manifests) -> table::Table {
    let mut snapshot = Snapshot::new(snapshot::Settings::default());
    for parsed in parse("test.yaml", &documents(manifests), &parse::Options::default()) {
        match parsed {
            Parsed::Object { object, .. } => snapshot.insert(object),
            other => panic!("{other:#?}"),
        }
    }
    let (ir, _) = resolve(&snapshot, &mut Memo::default());
    compile(&ir, Generation(1), &mut Slots::new(), None).unwrap()
}

fn documents(manifests: &Manifests) -> String {
    let document = |kind: &str, name: &str, spec: serde_json::Value| {
        let metadata = json!({ "name": name, "namespace": "default" });
        let api = "getambassador.io/v3alpha1";
        format!(
            "---\n{}\n",
            json!({ "apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec })
        )
    };
    let model = match manifests.security {
        Security::Xfp => "XFP",
        Security::Secure => "SECURE",
        Security::Insecure => "INSECURE",
    };
    let binding = json!({ "namespace": { "from": "ALL" } });
    let listener = json!({
        "port": 8080, "protocol": "HTTP", "securityModel": model, "hostBinding": binding,
    });
    let mut text = document("Listener", "l", listener);
    for (at, host) in manifests.hosts.iter().enumerate() {
        let action = match host.insecure {
            Insecure::Redirect => "Redirect",
            Insecure::Route => "Route",
            Insecure::Reject => "Reject",
        };
        let policy = json!({ "insecure": { "action": action } });
        let spec = json!({ "hostname": host.hostname, "requestPolicy": policy });
        text += &document("Host", &format!("h{at}"), spec);
    }
    for mapping in &manifests.mappings {
        text += &document("Mapping", &mapping.name, spec(mapping));
    }
    text
}

fn spec(mapping: &Mapping) -> serde_json::Value {
    let mut spec = json!({
        "prefix": mapping.prefix,
        "prefix_exact": mapping.kind == PathKind::Exact,
        "prefix_regex": mapping.kind == PathKind::Regex,
        "case_sensitive": mapping.case_sensitive,
        "precedence": mapping.precedence,
        "service": "a",
    });
    if mapping.host_regex {
        spec["host"] = json!(mapping.hostname);
        spec["host_regex"] = json!(true);
    } else {
        spec["hostname"] = json!(mapping.hostname);
    }
    if let Some(method) = &mapping.method {
        spec["method"] = json!(method);
        spec["method_regex"] = json!(mapping.method_regex);
    }
    if let Some(weight) = mapping.weight {
        spec["weight"] = json!(weight);
    }
    for (wants, exact, regex) in [
        (&mapping.headers, "headers", "regex_headers"),
        (&mapping.query, "query_parameters", "regex_query_parameters"),
    ] {
        for (name, want) in wants {
            match want {
                Want::Exact(text) => spec[exact][name] = json!(text),
                Want::Regex(text) => spec[regex][name] = json!(text),
                Want::Present => unreachable!("cannot be written"),
            }
        }
    }
    spec
}
