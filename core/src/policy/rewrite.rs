// SPDX-License-Identifier: Apache-2.0
//! What the path and the Host become on their way upstream. Emissary: §Rewrites; the query string
//! is never touched.

use serde::Serialize;

use super::normalize::push_escaped;
use super::pattern::{Pattern, PatternError};

/// What happens to the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
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

impl PathRewrite {
    /// Appends what the path (without query) becomes; false, and nothing appended, where no
    /// rewrite is asked for. As in Envoy a rewrite to the same path is a rewrite: the original is
    /// told to the upstream. Never gives anything but a path: it begins with `/`, and what would
    /// break a request line is escaped.
    pub fn apply(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        match self {
            Self::Keep => return false,
            Self::Prefix { len, with } => {
                out.extend_from_slice(with.as_bytes());
                out.extend_from_slice(path.get(*len..).unwrap_or_default());
            }
            Self::Whole(with) => out.extend_from_slice(with.as_bytes()),
            Self::Regex(substitution) => substitution.apply(path, out),
        }
        if out.get(start) != Some(&b'/') {
            out.insert(start, b'/');
        }
        escape(out, start);
        true
    }
}

/// Appends the Host of a request's copy. Envoy: `-shadow` before the port, so that the upstream's
/// logs tell copies from originals.
pub fn shadow_host(host: &[u8], out: &mut Vec<u8>) {
    let colon = host.iter().rposition(|b| *b == b':');
    let port = colon.filter(|at| host[at + 1..].iter().all(u8::is_ascii_digit));
    let (name, port) = host.split_at(port.unwrap_or(host.len()));
    out.extend_from_slice(name);
    if !name.is_empty() {
        out.extend_from_slice(b"-shadow");
    }
    out.extend_from_slice(port);
}

/// A pattern and what replaces its matches (`\0`…`\9` are groups, `\\` a backslash).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Substitution {
    pub pattern: Pattern,
    pub substitution: Box<str>,
}

/// Why a pattern with its substitution is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstitutionError {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("the substitution names group \\{group}, and the pattern has {groups}")]
    NoSuchGroup { group: usize, groups: usize },
    #[error("a backslash in the substitution is followed by a digit or a backslash, nothing else")]
    BadEscape,
}

impl Substitution {
    /// Compiles the pattern and checks that the substitution fits it.
    pub fn parse(pattern: &str, substitution: &str) -> Result<Self, SubstitutionError> {
        let pattern = Pattern::parse(pattern)?;
        let groups = pattern.part().captures_len() - 1;
        let mut bytes = substitution.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                continue;
            }
            match bytes.next() {
                Some(b'\\') => {}
                Some(digit @ b'0'..=b'9') => {
                    let group = usize::from(digit - b'0');
                    if group > groups {
                        return Err(SubstitutionError::NoSuchGroup { group, groups });
                    }
                }
                _ => return Err(SubstitutionError::BadEscape),
            }
        }
        Ok(Self { pattern, substitution: substitution.into() })
    }

    /// Appends the input with every match replaced, as RE2's `GlobalReplace` does.
    pub fn apply(&self, input: &[u8], out: &mut Vec<u8>) {
        let mut copied = 0;
        for captures in self.pattern.part().captures_iter(input) {
            let whole = captures.get_match();
            out.extend_from_slice(&input[copied..whole.start()]);
            copied = whole.end();
            let mut bytes = self.substitution.bytes();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' => match bytes.next() {
                        Some(digit @ b'0'..=b'9') => {
                            if let Some(group) = captures.get(usize::from(digit - b'0')) {
                                out.extend_from_slice(group.as_bytes());
                            }
                        }
                        Some(other) => out.push(other),
                        None => {}
                    },
                    byte => out.push(byte),
                }
            }
        }
        out.extend_from_slice(&input[copied..]);
    }
}

/// What happens to the Host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRewrite {
    #[default]
    Keep,
    /// `host_rewrite`.
    Literal(Box<str>),
    /// `auto_host_rewrite`: the upstream's host name.
    Auto,
}

/// Percent-encodes, from `start` on, what cannot stand in a request line or a Location: control
/// bytes, spaces, everything that is not ASCII. Configuration can hold these, requests cannot.
pub(super) fn escape(out: &mut Vec<u8>, start: usize) {
    if out[start..].iter().all(u8::is_ascii_graphic) {
        return;
    }
    for byte in out.split_off(start) {
        match byte.is_ascii_graphic() {
            true => out.push(byte),
            false => push_escaped(byte, out),
        }
    }
}

#[cfg(test)]
mod tests;
