// SPDX-License-Identifier: Apache-2.0
//! What an API server says of an object by a structural schema: types, choices, bounds, required
//! fields, and fields that it does not know (`kubectl` refuses them, others lose them).

use serde_json::Value;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Everything that is wrong with a value, as `path: what`.
pub fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, String::new(), &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: String, found: &mut Vec<String>) {
    let mut say = |what: String| found.push(format!("{path}: {what}"));
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("number") => value.is_number(),
        Some(other) => panic!("{path}: no type {other}"),
        None if schema["x-kubernetes-int-or-string"] == true => {
            value.is_string() || value.as_i64().is_some()
        }
        None => true,
    };
    if !fits {
        return say(format!("must be of type {}, not {value}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|choices| !choices.contains(value)) {
        say(format!("must be one of {}, not {value}", schema["enum"]));
    }
    if let Some(number) = value.as_f64() {
        let beyond = schema["minimum"].as_f64().is_some_and(|min| number < min)
            || schema["maximum"].as_f64().is_some_and(|max| number > max);
        if beyond {
            say(format!("{value} is out of bounds"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(items) = schema.get("items") {
            check(items, item, format!("{path}[{index}]"), found);
        }
    }
    let Some(entries) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        // A null counts as absent: it is taken out first.
        if entries.get(name.as_str().unwrap_or_default()).is_none_or(Value::is_null) {
            found.push(format!("{path}.{}: is required", name.as_str().unwrap_or_default()));
        }
    }
    for (name, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(inner), _) | (None, Some(inner)) => check(inner, value, path, found),
            (None, None) if schema[PRESERVE] == true || !schema["properties"].is_object() => {}
            (None, None) => found.push(format!("{path}: unknown field")),
        }
    }
}

/// Whether a schema leaves it to the gateway what stands at a path, as `spec.cors.origins[0]`.
pub fn is_free(schema: &Value, path: &str) -> bool {
    let mut at = schema;
    for segment in path.split(['.', '[']).filter(|segment| !segment.is_empty()) {
        if at[PRESERVE] == true {
            return true;
        }
        let field = at["properties"].get(segment);
        match field.or_else(|| at.get("additionalProperties")).or_else(|| at.get("items")) {
            Some(inner) => at = inner,
            None => return false,
        }
    }
    at[PRESERVE] == true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn mistakes_are_named_with_their_place() {
        let schema = json!({"type": "object", "required": ["b"], "properties": {
            "a": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 3}},
            "b": {"type": "string", "enum": ["x", "y"]},
            "m": {"type": "object", "additionalProperties": {"type": "boolean"}},
            "i": {"x-kubernetes-int-or-string": true},
            "free": {(PRESERVE): true, "properties": {"known": {"type": "string"}}},
        }});
        #[track_caller]
        fn expect(schema: &Value, value: &Value, expected: &[&str]) {
            assert_eq!(problems(schema, value), expected, "{value}");
        }
        let good = json!({"a": [1, 2.0], "b": "x", "m": {"k": true}, "i": 5, "free": {"any": [1]}});
        expect(&schema, &good, &[]);
        expect(&schema, &json!({"a": null, "b": "y", "free": 7, "i": "5"}), &[]);
        expect(&schema, &json!({"b": null}), &[".b: is required"]);
        let wrong = [
            json!({"a": [1.5, 4], "b": "z", "c": 1}),
            json!({"b": "x", "m": {"k": 1}, "i": true, "free": {"known": 1}}),
        ];
        let said = [
            &[
                "a[0]: must be of type \"integer\", not 1.5",
                "a[1]: 4 is out of bounds",
                "b: must be one of [\"x\",\"y\"], not \"z\"",
                "c: unknown field",
            ][..],
            &[
                "free.known: must be of type \"string\", not 1",
                "i: must be of type null, not true",
                "m.k: must be of type \"boolean\", not 1",
            ],
        ];
        for (value, said) in wrong.iter().zip(said) {
            expect(&schema, value, said);
        }
        assert!(is_free(&schema, "free.known") && is_free(&schema, "free[\"x\"]"));
        assert!(!is_free(&schema, "m.k") && !is_free(&schema, "a[0]") && !is_free(&schema, "c"));
    }
}
