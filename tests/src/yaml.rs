// SPDX-License-Identifier: Apache-2.0
//! YAML to and from [`serde_json::Value`]: the core schema, no anchors, no tags. Golden files need
//! no more, and it shares nothing with the gateway's own reader.

use anyhow::{Result, anyhow, bail};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

enum Open {
    Seq(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// All documents of a stream.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let mut open: Vec<Open> = Vec::new();
    let mut documents = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| anyhow!("{error}"))?;
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => scalar(&text),
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => {
                open.push(Open::Seq(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::Seq(items)) => Value::Array(items),
                Some(Open::Map(entries, None)) => Value::Object(entries),
                _ => bail!("unbalanced"),
            },
            Event::Alias(_) => bail!("anchors are not read here"),
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(value),
            Some(Open::Seq(items)) => items.push(value),
            Some(Open::Map(entries, key)) => match key.take() {
                Some(name) => {
                    if entries.insert(name.clone(), value).is_some() {
                        bail!("{name} is given twice");
                    }
                }
                None => {
                    *key = Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                }
            },
        }
    }
    Ok(documents)
}

fn scalar(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| number(text))
            .unwrap_or_else(|()| Value::String(text.to_owned())),
    }
}

fn number(text: &str) -> Result<Value, ()> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse::<f64>().ok().filter(|_| plain);
    number.and_then(serde_json::Number::from_f64).map(Value::Number).ok_or(())
}

/// Block style, keys as they are ordered in the value; short scalars and empty collections inline.
pub fn emit(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        Value::Object(entries) if !entries.is_empty() => mapping(entries, 0, &mut out),
        _ => {
            out += &inline(value);
            out.push('\n');
        }
    }
    out
}

fn sequence(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        *out += &"  ".repeat(depth);
        out.push('-');
        match item {
            Value::Object(entries) if !entries.is_empty() => {
                let mut nested = String::new();
                mapping(entries, depth + 1, &mut nested);
                out.push(' ');
                *out += nested.trim_start();
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, depth + 1, out);
            }
            _ => {
                out.push(' ');
                *out += &inline(item);
                out.push('\n');
            }
        }
    }
}

fn mapping(entries: &Map<String, Value>, depth: usize, out: &mut String) {
    for (key, value) in entries {
        *out += &"  ".repeat(depth);
        *out += &string(key);
        out.push(':');
        match value {
            Value::Object(entries) if !entries.is_empty() => {
                out.push('\n');
                mapping(entries, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, depth, out);
            }
            _ => {
                out.push(' ');
                *out += &inline(value);
                out.push('\n');
            }
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
        Value::String(text) => string(text),
        other => other.to_string(),
    }
}

/// Plain where that reads back as the same string, else in JSON's double quotes.
fn string(text: &str) -> String {
    let first = text.bytes().next();
    let plain = first.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'/' || b == b'_')
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && matches!(scalar(text), Value::String(_));
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}
