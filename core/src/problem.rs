// SPDX-License-Identifier: Apache-2.0
//! What is wrong with an object, where, and what to write instead.
//!
//! A problem names an object and a field path; file, line and caret are found from the object's
//! origin only when somebody looks ([`crate::crd::source`]). One mistake, one method on
//! [`Problems`], so that the wording of every message lives in this module.

use std::fmt;

use serde::Serialize;

use crate::name::Ref;

/// How much a problem matters, most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The object (or the named part of it) is refused.
    Error,
    /// A guard that cannot be enforced: the requests that it would have guarded get a 500.
    FailsClosed,
    /// Accepted, but something in it has no effect or not the effect that it seems to have.
    Warning,
    /// Worth knowing, nothing to do.
    Notice,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::FailsClosed => "fails-closed",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    /// The object that has to change.
    pub object: Ref,
    /// Where in the object, as `spec.headers["x-user"]` or `spec.labels.ambassador[0]`; empty for
    /// the object as a whole.
    pub path: String,
    pub severity: Severity,
    /// Stable CamelCase identifier of the mistake, fit for a status condition's `reason`.
    pub reason: &'static str,
    /// One sentence that says what is wrong, with the offending value.
    pub message: String,
    /// What to write instead, when that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.object)?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// The problems found so far, in the order found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}
