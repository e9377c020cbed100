// SPDX-License-Identifier: Apache-2.0
//! The CustomResourceDefinitions: they are what is printed, they take what the gateway takes, and
//! refuse what it refuses.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use ringway_core::crd::schema::{DEFINITIONS, Definition, emit};
use ringway_core::crd::{Options, Parsed, parse};
use ringway_core::problem::{Problems, Severity};
use ringway_tests::gateway::{binary, repository};
use ringway_tests::{structural, yaml};
use serde_json::{Value, json};

use super::expect_folder;

#[test]
fn the_folder_holds_what_the_gateway_reads() {
    let files = DEFINITIONS.iter().map(|definition| {
        let licence = "# SPDX-License-Identifier: Apache-2.0\n";
        let text = format!("{licence}# Made by `ringway crds`.\n{}", emit(&definition.to_json()));
        (definition.file(), text)
    });
    expect_folder("deploy/crds", &files.collect::<Vec<_>>());
}

#[test]
fn they_are_printed() {
    let output = Command::new(binary().unwrap()).arg("crds").output().unwrap();
    let printed = yaml::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let expected: Vec<Value> = DEFINITIONS.iter().map(Definition::to_json).collect();
    assert_eq!(printed, expected);
    let output = Command::new(binary().unwrap()).args(["crds", "--repair"]).output().unwrap();
    let script = String::from_utf8(output.stdout).unwrap();
    let named = DEFINITIONS.iter().filter(|definition| script.contains(&definition.name()));
    assert_eq!(named.count(), DEFINITIONS.len(), "{script}");
    assert!(script.contains(r#"'{"spec":{"conversion":{"strategy":"None","webhook":null}}}'"#));
}

/// The schema of an object's version; `None` where it is not of a kind that we define.
pub(crate) fn schema(object: &Value) -> Option<Value> {
    let version = object["apiVersion"].as_str()?.strip_prefix("getambassador.io/")?;
    let definition = DEFINITIONS.iter().find(|d| object["kind"] == d.kind.as_str())?;
    let json = definition.to_json();
    let versions = json["spec"]["versions"].as_array()?;
    let served = versions.iter().find(|served| served["name"] == version)?;
    Some(served["schema"]["openAPIV3Schema"].clone())
}

/// Objects of a stream that an API server would be sent. Some documents of the corpus are no YAML.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").filter_map(|document| yaml::parse(document).ok());
    let documents = documents.flatten();
    let items = documents.flat_map(|document| match document["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![document],
    });
    items.filter(|object| object["metadata"]["name"].is_string()).collect()
}

/// What the gateway says of each object of a stream, by kind and name: whether it is refused.
pub(crate) fn read(text: &str) -> HashMap<(String, String), (bool, Problems)> {
    let mut said = HashMap::new();
    for parsed in parse("corpus", text, &Options::default()) {
        let (name, refused, problems) = match parsed {
            Parsed::Object { object, problems } => (object.meta.object.clone(), false, problems),
            Parsed::Refused { meta, problems, .. } => (meta.object.clone(), true, problems),
            _ => continue,
        };
        said.insert((name.kind.to_string(), name.name.to_string()), (refused, problems));
    }
    said
}

/// Puts a word where a case has a certificate made, as `{{crt foo.com}}`.
fn without_certificates(text: &str) -> String {
    let mut parts = text.split("{{");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| match part.split_once("}}") {
        Some((_, rest)) => out + "certificate" + rest,
        None => out + "{{" + part,
    })
}

/// Every text that manifests of ours are in, with where it is.
pub(crate) fn corpus() -> Vec<(String, String)> {
    let cases = crate::golden::cases().into_iter();
    let cases = cases.map(|case| format!("tests/golden/{case}.in.yaml"));
    let examples = fs::read_dir(repository().join("deploy/examples/quickstart")).unwrap();
    let examples = examples.map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        format!("deploy/examples/quickstart/{name}")
    });
    let read = |path: String| {
        let text = fs::read_to_string(repository().join(&path)).unwrap();
        (path, without_certificates(&text))
    };
    cases.chain(examples.filter(|path| path.ends_with(".yaml"))).map(read).collect()
}

#[test]
fn they_take_the_corpus_and_refuse_what_the_gateway_refuses() {
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    for (path, text) in corpus() {
        let said = read(&text);
        for object in objects(&text) {
            let Some(schema) = schema(&object) else { continue };
            let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (kind, name) = (name(&object["kind"]), name(&object["metadata"]["name"]));
            let Some((is_refused, problems)) = said.get(&(kind.clone(), name.clone())) else {
                continue;
            };
            // Unknown fields are warnings of the gateway's, and of kubectl's where it is told so.
            let found = structural::problems(&schema, &object).into_iter();
            let found: Vec<String> =
                found.filter(|problem| !problem.ends_with(": unknown field")).collect();
            // A Module is never refused as a whole.
            if !is_refused {
                taken += 1;
                if !found.is_empty() {
                    wrong.push(format!("{path}: {kind} {name} is refused: {found:?}"));
                }
                continue;
            }
            let mut errors = problems.iter().filter(|p| p.severity == Severity::Error);
            let ours_alone = errors.all(|p| structural::is_free(&schema, &p.path));
            refused += usize::from(!found.is_empty());
            if found.is_empty() && !ours_alone {
                wrong.push(format!("{path}: {kind} {name} is taken: {problems:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(taken > 800 && refused > 5, "taken {taken}, refused {refused}");
}

#[track_caller]
fn refuses(kind: &str, spec: &Value, expected: &str) {
    let object = json!({
        "apiVersion": "getambassador.io/v3alpha1",
        "kind": kind,
        "metadata": {"name": "wrong"},
        "spec": spec,
    });
    let found = structural::problems(&schema(&object).unwrap(), &object);
    assert_eq!(found, [expected], "{object}");
}

#[test]
fn mistakes_are_refused_where_they_are() {
    let late = json!({"prefix": "/", "service": "s", "timeout_ms": "soon"});
    refuses("Mapping", &late, "spec.timeout_ms: must be of type \"integer\", not \"soon\"");
    let typo = json!({"prefix": "/", "service": "s", "prefx_exact": true});
    refuses("Mapping", &typo, "spec.prefx_exact: unknown field");
    refuses("Mapping", &json!({"prefix": "/"}), "spec.service: is required");
    let port = json!({"port": 70000, "service": "s"});
    refuses("TCPMapping", &port, "spec.port: 70000 is out of bounds");
    let action = json!({"requestPolicy": {"insecure": {"action": "Drop"}}});
    let choices = r#"["Redirect","redirect","Reject","reject","Route","route"]"#;
    let place = "spec.requestPolicy.insecure.action";
    refuses("Host", &action, &format!("{place}: must be one of {choices}, not \"Drop\""));
}

/// Both dialects are taken in every version, since one is what the other is stored as.
#[test]
fn older_shapes_are_taken_in_every_version() {
    let spec = json!({
        "ambassador_id": "one", "prefix": "/", "service": "s", "host": "a.example", "tls": true,
        "headers": {"x-debug": true, "x-user": "a"}, "add_request_headers": {"x-a": "b"},
        "remove_request_headers": "x-secret", "cors": {"origins": "https://a.example"},
        "labels": {"ambassador": [{"group": ["remote_address", {"x": {"header": "x"}}]}]},
        "v3StatsName": "stats",
    });
    for version in ["v1", "v2", "v3alpha1"] {
        let object = json!({
            "apiVersion": format!("getambassador.io/{version}"),
            "kind": "Mapping",
            "metadata": {"name": "old"},
            "spec": spec,
        });
        let found = structural::problems(&schema(&object).unwrap(), &object);
        assert!(found.is_empty(), "{version}: {found:?}");
    }
}

/// Columns of a kind: name and path.
fn columns(definition: &Definition) -> Vec<(String, String)> {
    let json = definition.to_json();
    let columns = json["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    columns.iter().map(|column| (text(&column["name"]), text(&column["jsonPath"]))).collect()
}

/// The fields that a path names, `.spec.port` or `.spec['hostname','host']`: the first that is
/// there is printed.
fn fields(path: &str) -> Vec<Vec<&str>> {
    let (parent, last) = match path.split_once("['") {
        Some((parent, union)) => (parent, union.trim_end_matches("']").split("','").collect()),
        None => {
            let (parent, last) = path.rsplit_once('.').unwrap();
            (parent, vec![last])
        }
    };
    let parent: Vec<&str> = parent.split('.').filter(|part| !part.is_empty()).collect();
    last.into_iter().map(|last| [&parent[..], &[last]].concat()).collect()
}

#[test]
fn columns_are_of_fields_that_exist() {
    for definition in DEFINITIONS {
        let schema = &definition.to_json()["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for (name, path) in columns(definition) {
            for field in fields(&path).iter().filter(|field| field[0] != "metadata") {
                let found = field.iter().fold(schema, |at, part| &at["properties"][part]);
                assert!(found["description"].is_string(), "{}: {name}", definition.plural);
            }
        }
    }
}

/// What people look for in `kubectl get` is there, in whichever dialect an object is written.
#[test]
fn columns_have_something_to_print() {
    let objects: Vec<Value> = corpus().iter().flat_map(|(_, text)| objects(text)).collect();
    let wanted = ["Mapping", "Host", "Listener", "TCPMapping", "TLSContext"];
    for definition in DEFINITIONS.iter().filter(|d| wanted.contains(&d.kind.as_str())) {
        let of_kind: Vec<&Value> =
            objects.iter().filter(|object| object["kind"] == definition.kind.as_str()).collect();
        for (name, path) in columns(definition).iter().filter(|(_, path)| path.starts_with(".spec"))
        {
            let cell = |object: &Value| {
                let mut values = fields(path)
                    .into_iter()
                    .map(|field| field.iter().fold(object, |at, part| &at[part]).clone());
                values.find(|value| !value.is_null())
            };
            let printed = of_kind.iter().filter(|object| cell(object).is_some()).count();
            assert!(printed > 0, "{}: {name} of {} objects", definition.plural, of_kind.len());
            // Emissary's is empty for all that is written in v3alpha1.
            if name == "Source Host" {
                let with = |field: &str| {
                    of_kind.iter().filter(|object| object["spec"][field].is_string()).count()
                };
                assert!(with("hostname") > 100 && with("host") > 5 && printed > with("hostname"));
            }
        }
    }
}
