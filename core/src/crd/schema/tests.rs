// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::crd::node::{self, Node, Value as NodeValue};
use crate::crd::parse::{Options, Parsed, parse};
use crate::name::Kind;

/// Each property of a schema with its path.
fn properties<'v>(schema: &'v Value, path: &str, found: &mut Vec<(String, &'v Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.push((path.clone(), property));
        properties(property, &path, found);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(inner) = schema.get(key) {
            properties(inner, &format!("{path}{mark}"), found);
        }
    }
}

#[test]
fn every_field_of_every_version_is_described() {
    let mut described = 0;
    for definition in DEFINITIONS {
        let json = definition.to_json();
        for version in json["spec"]["versions"].as_array().unwrap() {
            let mut found = Vec::new();
            let schema = &version["schema"]["openAPIV3Schema"];
            properties(schema, definition.plural, &mut found);
            for (path, property) in found.iter().filter(|(path, _)| !path.ends_with(".metadata")) {
                let text = property["description"].as_str().unwrap_or_default();
                assert!(text.ends_with('.') || text.ends_with('`'), "{path}: {text:?}");
                assert!(!text.contains("  "), "{path}: {text:?}");
            }
            described += found.len();
        }
    }
    assert!(described > 1000, "only {described} fields found");
}

/// What the API server asks of a structural schema: each node has a type, or says why not.
#[test]
fn schemas_are_structural() {
    fn check(path: &str, schema: &Value) {
        let object = schema.as_object().unwrap();
        let typed = object.contains_key("type");
        let free =
            object.contains_key(PRESERVE) || object.contains_key("x-kubernetes-int-or-string");
        assert!(typed || free, "{path}: {schema}");
        let both = object.contains_key("properties") && object.contains_key("additionalProperties");
        assert!(!both, "{path}");
        assert_eq!(schema["type"] == "array", object.contains_key("items"), "{path}");
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            check(&format!("{path}.{name}"), inner);
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(key) {
                check(&format!("{path}.{key}"), inner);
            }
        }
    }
    for definition in DEFINITIONS {
        let json = definition.to_json();
        let versions = json["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1);
        for version in versions {
            let schema = &version["schema"]["openAPIV3Schema"];
            // An API server takes no word about it, not even a description.
            assert_eq!(schema["properties"]["metadata"], json!({"type": "object"}));
            check(definition.plural, schema);
        }
    }
}

#[test]
fn every_kind_of_the_group_is_defined_in_the_versions_that_emissary_serves() {
    let served = |kind: &str| {
        let definition = DEFINITIONS.iter().find(|d| d.kind.as_str() == kind).unwrap();
        definition.versions
    };
    assert_eq!(served("Mapping"), ["v3alpha1", "v2", "v1"]);
    assert_eq!(served("Host"), ["v3alpha1", "v2"]);
    assert_eq!(served("Listener"), ["v3alpha1"]);
    let kinds: Vec<&str> = DEFINITIONS.iter().map(|d| d.kind.as_str()).collect();
    assert!(kinds.is_sorted());
    let known: Vec<&str> = crate::crd::parse::EMISSARY_KINDS.iter().map(|k| k.as_str()).collect();
    assert_eq!(kinds, known);
}

/// A value of a form, with every field that it names; `None` where anything may be written.
fn sample(form: &Form) -> Option<Value> {
    Some(match form {
        Form::Any | Form::Loose(_) => return None,
        Form::Boolean => true.into(),
        Form::IntOrString => "5".into(),
        Form::Integer { min, .. } => min.unwrap_or(1).into(),
        Form::Number => 1.5.into(),
        Form::Text { choices } => choices.first().copied().unwrap_or("a").into(),
        Form::List(items) | Form::Keyed { items, .. } => sample(items).into_iter().collect(),
        Form::Map(values) => Value::Object(
            sample(values).map(|value| ("key".to_owned(), value)).into_iter().collect(),
        ),
        Form::Object => json!({}),
        Form::Open(form) => match &**form {
            Form::Loose(form) => sample(form)?,
            form => sample(form)?,
        },
        Form::Record(record) => {
            let fields = record.fields.iter();
            let fields = fields.map(|(name, schema)| {
                ((*name).to_owned(), sample(&schema.form).unwrap_or(Value::Null))
            });
            Value::Object(fields.collect())
        }
    })
}

#[test]
fn every_field_of_a_schema_is_read_and_what_it_allows_is_understood() {
    for definition in DEFINITIONS {
        let spec = sample(&definition.spec()).unwrap();
        let name = if definition.kind == Kind::Module { "ambassador" } else { "sample" };
        let object = json!({
            "apiVersion": format!("{}/v3alpha1", definition::GROUP),
            "kind": definition.kind.as_str(),
            "metadata": {"name": name},
            "spec": spec,
        });
        let found = parse("sample", &object.to_string(), &Options::default());
        let problems = match &found[..] {
            [Parsed::Object { problems, .. } | Parsed::Refused { problems, .. }] => problems,
            other => panic!("{other:?}"),
        };
        let wrong: Vec<String> = problems
            .iter()
            .filter(|p| p.reason == "UnknownField" || p.reason == "WrongType")
            // Names of v2, which nobody writes in v3alpha1.
            .filter(|p| !p.path.starts_with("spec.v3"))
            .map(|p| format!("{}: {}", p.path, p.message))
            .collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", definition.plural);
    }
}

#[test]
fn what_is_required_is_what_cannot_be_read_without() {
    let required = |kind: Kind| -> Vec<&str> {
        let definition = DEFINITIONS.iter().find(|d| d.kind == kind).unwrap();
        let Form::Record(spec) = definition.spec() else { panic!() };
        spec.required.into_iter().collect()
    };
    assert_eq!(required(Kind::AuthService), ["auth_service"]);
    assert_eq!(required(Kind::Host), [""; 0]);
    assert_eq!(required(Kind::Listener), ["hostBinding", "port", "securityModel"]);
    assert_eq!(required(Kind::Mapping), ["prefix", "service"]);
    assert_eq!(required(Kind::Module), ["config"]);
    assert_eq!(required(Kind::TCPMapping), ["port", "service"]);
}

/// Each path of the older shapes leads somewhere.
#[test]
fn older_shapes_are_those_of_fields_that_exist() {
    for definition in DEFINITIONS {
        for path in legacy::paths(definition.kind) {
            let mut spec = definition.spec();
            let form = spec.at(path);
            assert!(matches!(form, Some(Form::Any | Form::Loose(_))), "{path:?}: {form:?}");
        }
    }
}

#[test]
fn yaml_is_read_back_as_it_was() {
    fn json(node: &Node<'_>) -> Value {
        match &node.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => (*value).into(),
            NodeValue::Int(value) => (*value).into(),
            NodeValue::Float(value) => (*value).into(),
            NodeValue::String(text) => text.to_string().into(),
            NodeValue::Seq(items) => items.iter().map(json).collect(),
            NodeValue::Map(entries) => {
                let entries =
                    entries.iter().map(|(key, value)| (key.text.to_string(), json(value)));
                Value::Object(entries.collect())
            }
        }
    }
    let long = "word ".repeat(60);
    let odd = json!({
        "text": ["", "yes", "1e3", "5xx", "- a", "a: b", "a #b", "x:", " x", "é", "{a}", "*", "~",
                 "null", ".spec.a", ".inf", "v1.0", "on", "a\nb", "`a` b", "'", "\"", "%a", "&a"],
        "long": long.trim(), "spaced": long, "list": [[1, [2]], {"a": {"b": []}, "c": {}}],
        "on": true, "": null, "a: b": -1, "deep": {"deep": {"deep": long.trim()}},
    });
    let mut values: Vec<Value> = DEFINITIONS.iter().map(Definition::to_json).collect();
    values.push(odd);
    for value in values {
        let text = emit(&value);
        let node = node::parse(&text).unwrap().unwrap();
        assert_eq!(json(&node), value, "{text}");
        let over = text.lines().find(|line| line.len() > 140 && !line.contains('"'));
        assert_eq!(over, None);
    }
}
