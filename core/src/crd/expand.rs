// SPDX-License-Identifier: Apache-2.0
//! `$VAR` and `${VAR}` in strings, as Emissary's `os.path.expandvars` does it: unknown names stay
//! as they are, and what was put in is not looked at again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::node::{Node, Value};

/// The environment that manifests see.
pub type Environment = BTreeMap<String, String>;

/// Expands one string.
pub fn expand<'a>(text: &'a str, environment: &Environment) -> Cow<'a, str> {
    let mut out: Option<String> = None;
    let (mut copied, mut at) = (0, 0);
    while let Some(offset) = memchr::memchr(b'$', &text.as_bytes()[at..]) {
        let dollar = at + offset;
        at = dollar + 1;
        let rest = &text[at..];
        let (name, len) = match rest.strip_prefix('{') {
            Some(braced) => match braced.find('}') {
                Some(end) => (&braced[..end], end + 2),
                None => continue,
            },
            None => {
                let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                let len = rest.bytes().take_while(word).count();
                (&rest[..len], len)
            }
        };
        let Some(value) = environment.get(name).filter(|_| len > 0) else {
            // Python goes on behind the whole reference.
            at += len;
            continue;
        };
        let out = out.get_or_insert_default();
        out.push_str(&text[copied..dollar]);
        out.push_str(value);
        at += len;
        copied = at;
    }
    match out {
        None => Cow::Borrowed(text),
        Some(mut out) => {
            out.push_str(&text[copied..]);
            Cow::Owned(out)
        }
    }
}

/// Expands every key and every string of a tree.
pub(crate) fn expand_node(node: &mut Node<'_>, environment: &Environment) {
    match &mut node.value {
        Value::String(text) => expand_in_place(text, environment),
        Value::Seq(items) => items.iter_mut().for_each(|item| expand_node(item, environment)),
        Value::Map(entries) => {
            for (key, value) in entries {
                expand_in_place(&mut key.text, environment);
                expand_node(value, environment);
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}

fn expand_in_place(text: &mut Cow<'_, str>, environment: &Environment) {
    let expanded = match expand(text, environment) {
        Cow::Owned(expanded) => expanded,
        Cow::Borrowed(_) => return,
    };
    *text = Cow::Owned(expanded);
}

#[cfg(test)]
mod tests;
