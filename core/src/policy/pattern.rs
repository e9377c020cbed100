// SPDX-License-Identifier: Apache-2.0
//! Regular expressions that users write: RE2 syntax as far as it is linear-time Rust syntax too,
//! compiled once when the object is resolved, equal when their text is equal.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::limits::{REGEX_PROGRAM_BYTES_MAX, REGEX_TEXT_BYTES_MAX};

/// A compiled pattern over bytes. Cheap to clone.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    text: Box<str>,
    /// Matches the whole input.
    full: regex::bytes::Regex,
    /// Matches anywhere in the input.
    part: regex::bytes::Regex,
}

/// Why a pattern is refused; the text is fit for a problem's message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the regular expression is {0} bytes long, more than {REGEX_TEXT_BYTES_MAX}")]
    TooLong(usize),
    #[error(
        "the regular expression compiles to more than {REGEX_PROGRAM_BYTES_MAX} bytes of program"
    )]
    TooBig,
    #[error("the regular expression does not parse: {0}")]
    Syntax(String),
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > REGEX_TEXT_BYTES_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        let build = |text: &str| {
            regex::bytes::RegexBuilder::new(text)
                .size_limit(REGEX_PROGRAM_BYTES_MAX)
                .build()
                .map_err(|error| match error {
                    regex::Error::CompiledTooBig(_) => PatternError::TooBig,
                    other => PatternError::Syntax(
                        other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
                    ),
                })
        };
        // The part is built first, so that an unbalanced `)` is refused and not closed by ours.
        let part = build(text)?;
        let full = build(&format!(r"\A(?:{text})\z"))?;
        Ok(Self(Arc::new(Compiled { text: text.into(), full, part })))
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// RE2 full match, as Envoy's `safe_regex` does.
    pub fn is_full_match(&self, input: &[u8]) -> bool {
        self.0.full.is_match(input)
    }

    /// Unanchored, for replacing.
    pub fn part(&self) -> &regex::bytes::Regex {
        &self.0.part
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0.text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text)
    }
}
