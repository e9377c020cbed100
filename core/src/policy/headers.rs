// SPDX-License-Identifier: Apache-2.0
//! Header edits of a route: what is removed, overwritten and added, compiled once.
//!
//! Emissary (Envoy): removals come first, then additions in order. `append: false` overwrites
//! every line of that name; `append: true` (the default) adds a line.

use serde::Serialize;

use super::format::{Facts, Format};

/// Edits of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderEdits {
    /// Lower-case names whose incoming lines do not pass: `remove_*_headers`, and those that an
    /// `append: false` replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderAdd>,
}

/// One line to add.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderAdd {
    /// As written.
    pub name: Box<str>,
    pub value: Format,
}

impl HeaderEdits {
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.add.is_empty()
    }

    /// Whether lines of this name (any case) do not pass.
    pub fn drops(&self, name: &[u8]) -> bool {
        self.drop.iter().any(|d| name.eq_ignore_ascii_case(d.as_bytes()))
    }

    /// Whether every value is the same for all requests, so that no [`Facts`] are needed.
    pub fn is_literal(&self) -> bool {
        self.add.iter().all(|add| add.value.literal().is_some())
    }

    /// Appends the added lines, `name: value CRLF` each. Envoy: a line whose value comes out
    /// empty is left out. Control bytes in a value become spaces.
    pub fn write_added(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        for add in &self.add {
            write_line(&add.name, |out| add.value.write_value(facts, out), out);
        }
    }

    /// As [`HeaderEdits::write_added`], for edits that are literal; the others are left out.
    pub fn write_literals(&self, out: &mut Vec<u8>) {
        for add in &self.add {
            if let Some(value) = add.value.literal() {
                write_line(&add.name, |out| out.extend_from_slice(value), out);
            }
        }
    }
}

fn write_line(name: &str, value: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let from = out.len();
    value(out);
    let mut empty = true;
    for byte in &mut out[from..] {
        if matches!(byte, 0..=0x1f | 0x7f) {
            *byte = b' ';
        }
        empty &= *byte == b' ';
    }
    match empty {
        true => out.truncate(start),
        false => out.extend_from_slice(b"\r\n"),
    }
}

#[cfg(test)]
mod tests;
