// SPDX-License-Identifier: Apache-2.0
//! YAML that people read: block style, keys in order, prose folded.

use serde_json::Value;

/// Columns that folded prose takes at most.
const WIDTH: usize = 100;

/// One document, without a marker.
pub fn emit(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

/// What follows a key or a dash, with its line's end.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            // Whatever the map's own order is.
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                *out += &format!("{indent}{}:", scalar(key));
                match value {
                    Value::Object(entries) if !entries.is_empty() => {
                        out.push('\n');
                        block(value, depth + 1, out);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        block(value, depth, out);
                    }
                    Value::String(text) => prose(text, key.len(), depth, out),
                    _ => {
                        out.push(' ');
                        block(value, depth, out);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                block(item, depth + 1, &mut inner);
                *out += &format!("{indent}- {}", inner.trim_start());
            }
        }
        Value::Object(_) => *out += "{}\n",
        Value::Array(_) => *out += "[]\n",
        Value::String(text) => *out += &format!("{}\n", scalar(text)),
        other => *out += &format!("{other}\n"),
    }
}

/// A text after its key: on the same line, or folded over several.
fn prose(text: &str, key: usize, depth: usize, out: &mut String) {
    let fits = 2 * depth + key + 2 + text.len() <= WIDTH;
    let words = || text.split(' ');
    let folds = !text.contains('\n') && words().all(|word| !word.is_empty());
    if fits || !folds {
        *out += &format!(" {}\n", scalar(text));
        return;
    }
    let indent = "  ".repeat(depth + 1);
    *out += " >-\n";
    let mut line = indent.clone();
    for word in words() {
        if line.len() > indent.len() {
            if line.len() + 1 + word.len() > WIDTH {
                *out += &format!("{line}\n");
                line.clone_from(&indent);
            } else {
                line.push(' ');
            }
        }
        line += word;
    }
    *out += &format!("{line}\n");
}

/// Plain where every reader takes it for the same text, else in JSON's quotes.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["false", "n", "no", "null", "off", "on", "true", "y", "yes", ".inf"];
    let first = text.trim_start_matches('.').bytes().next();
    let plain = first.is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'_'))
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.ends_with([':', ' '])
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}
