// SPDX-License-Identifier: Apache-2.0
//! What the path and the Host become on their way upstream. Emissary: §Rewrites; the query string
//! is never touched.

use serde::Serialize;

use super::pattern::Pattern;

/// What happens to the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRewrite {
    /// `rewrite: ""`.
    #[default]
    Keep,
    /// Replaces the first `len` bytes (the matched prefix) by `with`.
    Prefix { len: usize, with: Box<str> },
    /// Replaces the whole path: what `rewrite` does with an exact or regex match.
    Whole(Box<str>),
    /// `regex_rewrite`: unanchored, every match, `\1` for groups.
    Regex(Substitution),
}

/// A pattern and what replaces its matches (`\0`…`\9` are groups, `\\` a backslash).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Substitution {
    pub pattern: Pattern,
    pub substitution: Box<str>,
}

/// What happens to the Host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRewrite {
    #[default]
    Keep,
    /// `host_rewrite`.
    Literal(Box<str>),
    /// `auto_host_rewrite`: the upstream's host name.
    Auto,
}
