// SPDX-License-Identifier: Apache-2.0
//! Header edits of a route: what is removed, overwritten and added, compiled once.
//!
//! Emissary (Envoy): removals come first, then additions in order. `append: false` overwrites
//! every line of that name; `append: true` (the default) adds a line.

use serde::Serialize;

use super::format::Format;

/// Edits of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdits {
    /// Lower-case names whose incoming lines do not pass: `remove_*_headers`, and those that an
    /// `append: false` replaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<Box<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderAdd>,
}

/// One line to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
}
