// SPDX-License-Identifier: Apache-2.0
//! The CustomResourceDefinitions as a real API server has them: `deploy/crds.rs` asks the same of
//! its own reading of structural schemas.

use ringway_core::problem::{Problems, Severity};
use ringway_tests::kube::{Cluster, api, request};
use ringway_tests::structural::is_free;
use serde_json::{Value, json};

use crate::deploy::crds::{corpus, objects, read, schema};

/// The collection of an object's kind in a namespace, in a version.
fn collection(cluster: &Cluster, version: &str, kind: &str) -> String {
    let plural = match kind {
        "FilterPolicy" => "filterpolicies".to_owned(),
        kind => format!("{}s", kind.to_ascii_lowercase()),
    };
    format!("/apis/getambassador.io/{version}/namespaces/{}/{plural}", cluster.namespace)
}

/// What the API server made of the corpus.
#[derive(Debug, Default)]
struct Outcome {
    /// Kind, name and spec as it was sent.
    stored: Vec<(String, String, Value)>,
    refused: usize,
    /// What has a field that nobody knows.
    typos: usize,
    wrong: Vec<String>,
}

/// Whether the gateway's problems leave it open whether the API server refuses an object too.
fn is_ours_alone(schema: &Value, problems: &Problems) -> bool {
    let mut errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.all(|problem| is_free(schema, &problem.path))
}

/// A null is as good as nothing.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(entries) => {
            let entries = entries.iter().filter(|(_, value)| !value.is_null());
            entries.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Creates every object of the corpus that is of our kinds, each under a name of its own.
fn store(cluster: &Cluster) -> Outcome {
    let mut outcome = Outcome::default();
    let mut api = api();
    for (path, text) in corpus() {
        let said = read(&text);
        for mut object in objects(&text) {
            let Some(schema) = schema(&object) else { continue };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
            let Some((is_refused, problems)) = said.get(&(kind.clone(), name.clone())) else {
                continue;
            };
            let number = outcome.stored.len() + outcome.refused + outcome.typos;
            let own = format!("corpus-{number}");
            object["metadata"]["name"] = own.clone().into();
            object["metadata"]["namespace"] = cluster.namespace.clone().into();
            let version = text(&object["apiVersion"]);
            let version = version.rsplit('/').next().unwrap();
            let place = collection(cluster, version, &kind) + "?fieldValidation=Strict";
            let request = request("POST", &place, "application/json", &object.to_string());
            api.send(request.as_bytes()).unwrap();
            let answer = api.response("POST").unwrap();
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            let message = body["message"].as_str().unwrap_or_default();
            let has_typo = problems.iter().any(|problem| problem.reason == "UnknownField");
            match answer.status {
                201 if *is_refused && !is_ours_alone(&schema, problems) => {
                    outcome.wrong.push(format!("{path}: {kind} {name} is taken: {problems:?}"));
                }
                201 => outcome.stored.push((kind, own, without_nulls(&object["spec"]))),
                400 if has_typo && message.contains("unknown field \"") => outcome.typos += 1,
                400 | 422 if *is_refused && message.contains("spec.") => outcome.refused += 1,
                _ => outcome.wrong.push(format!("{path}: {kind} {name} is refused: {message}")),
            }
        }
    }
    outcome
}

/// In whichever version it was written, an object is there in all of them, as it was written: the
/// API server has taken nothing out of it and asked nobody.
#[test]
fn the_corpus_is_stored_as_it_was_written() {
    let Some(cluster) = Cluster::begin("definitions") else { return };
    let outcome = store(&cluster);
    assert!(outcome.wrong.is_empty(), "{:#?}", outcome.wrong);
    let Outcome { stored, refused, typos, .. } = outcome;
    println!("stored {}, refused {refused}, with unknown fields {typos}", stored.len());
    assert!(stored.len() > 800 && refused > 5 && typos > 0);
    for version in ["v3alpha1", "v2"] {
        for kind in ["Mapping", "Host", "TLSContext", "AuthService", "Module", "TCPMapping"] {
            let list = cluster.get(&collection(&cluster, version, kind)).unwrap();
            let items = list["items"].as_array().unwrap();
            let sent: Vec<_> = stored.iter().filter(|(of, ..)| of == kind).collect();
            assert!(items.len() == sent.len() && !sent.is_empty(), "{version}: {kind}");
            for (_, name, spec) in sent {
                let item = items.iter().find(|item| item["metadata"]["name"] == name[..]).unwrap();
                assert_eq!(without_nulls(&item["spec"]), *spec, "{version}: {kind} {name}");
                assert_eq!(item["apiVersion"], format!("getambassador.io/{version}"));
            }
        }
    }
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mapping = cluster.get(&format!("{definitions}/mappings.getambassador.io")).unwrap();
    assert_eq!(mapping["spec"]["conversion"], json!({"strategy": "None"}));
}

/// What `kubectl` prints of a mistake names the field, and says what may be written.
#[test]
fn mistakes_are_refused_with_their_place() {
    let Some(cluster) = Cluster::begin("mistakes") else { return };
    #[track_caller]
    fn refuses(cluster: &Cluster, kind: &str, spec: &str, expected: &[&str]) {
        let manifest = format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata: {{name: wrong}}\n\
             spec: {{{spec}}}\n"
        );
        let arguments = ["-n", &cluster.namespace, "apply", "-f", "-"];
        let error = cluster.rig().kubectl(&arguments, &manifest).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} of {error}");
        }
    }
    let refuses = |kind: &str, spec: &str, expected: &[&str]| {
        refuses(&cluster, kind, spec, expected);
    };
    let route = "prefix: /, service: s";
    refuses("Mapping", &format!("{route}, timeout_ms: soon"), &["spec.timeout_ms", "integer"]);
    refuses(
        "Mapping",
        &format!("{route}, prefx_exact: true"),
        &["unknown field \"spec.prefx_exact\""],
    );
    refuses("Mapping", "prefix: /", &["spec.service: Required value"]);
    refuses("TCPMapping", "port: 70000, service: s", &["spec.port", "less than or equal to 65535"]);
    let action = "requestPolicy: {insecure: {action: Drop}}";
    let choices = "supported values: \"Redirect\"";
    refuses("Host", action, &["spec.requestPolicy.insecure.action", "\"Drop\"", choices]);
    refuses(
        "Listener",
        "port: 8080",
        &["spec.hostBinding: Required", "spec.securityModel: Required"],
    );
}
