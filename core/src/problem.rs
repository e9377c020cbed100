// SPDX-License-Identifier: Apache-2.0
//! What is wrong with an object, where, and what to write instead.
//!
//! A problem names an object and a field path; file, line and caret are found from the object's
//! origin only when somebody looks ([`crate::crd::source`]). One mistake, one method on
//! [`Problems`], so that the wording of every message lives in this module.

use std::fmt;

use serde::Serialize;

use crate::name::{Kind, Ref};

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

/// Mistakes in what was written, found while reading it.
impl Problems {
    fn decode(
        &mut self,
        object: &Ref,
        path: String,
        (severity, reason): (Severity, &'static str),
        message: String,
        help: Option<String>,
    ) {
        self.push(Problem { object: object.clone(), path, severity, reason, message, help });
    }

    pub(crate) fn wrong_type(
        &mut self,
        object: &Ref,
        path: String,
        expected: &str,
        found: &str,
        help: Option<String>,
    ) {
        let message = format!("expected {expected}, found {found}");
        self.decode(object, path, (Severity::Error, "WrongType"), message, help);
    }

    pub(crate) fn missing_field(&mut self, object: &Ref, path: String, name: &str) {
        let message = format!("the required field `{name}` is missing");
        self.decode(object, path, (Severity::Error, "MissingField"), message, None);
    }

    pub(crate) fn unknown_field(
        &mut self,
        object: &Ref,
        path: String,
        name: &str,
        near: Option<&str>,
    ) {
        let message = format!("unknown field `{name}` is ignored");
        let help = near.map(|near| format!("did you mean `{near}`?"));
        self.decode(object, path, (Severity::Warning, "UnknownField"), message, help);
    }

    pub(crate) fn dead_field(&mut self, object: &Ref, path: String, name: &str, why: &str) {
        let message = format!("`{name}` has no effect");
        self.decode(object, path, (Severity::Warning, "NoEffect"), message, Some(why.into()));
    }

    pub(crate) fn bad_choice(
        &mut self,
        object: &Ref,
        path: String,
        found: &str,
        choices: &[&str],
        near: Option<&str>,
    ) {
        let message = format!("`{found}` is not one of {}", choices.join(", "));
        let help = near.map(|near| format!("did you mean `{near}`?"));
        self.decode(object, path, (Severity::Error, "BadValue"), message, help);
    }

    pub(crate) fn bad_value(&mut self, object: &Ref, path: String, message: String) {
        self.decode(object, path, (Severity::Error, "BadValue"), message, None);
    }

    pub(crate) fn bad_base64(&mut self, object: &Ref, path: String) {
        self.bad_value(object, path, "the value is not base64".into());
    }

    pub(crate) fn module_without_meaning(&mut self, object: &Ref) {
        let message = format!("a Module named `{}` has no effect", object.name);
        let help = "the only Module that is read is named `ambassador`".to_owned();
        self.decode(object, String::new(), (Severity::Warning, "NoEffect"), message, Some(help));
    }
}

/// Mistakes between objects of a folder.
impl Problems {
    /// A second object of this kind, namespace and name; `first` is the place of the one that
    /// counts.
    pub fn duplicate_object(&mut self, object: &Ref, first: &str) {
        self.push(Problem {
            object: object.clone(),
            path: String::new(),
            severity: Severity::Error,
            reason: "Duplicate",
            message: format!("is written twice: the one at {first} counts, this one does not"),
            help: Some("give it another name, or delete one of them".into()),
        });
    }
}

/// Why a document, or an item of one, is not an object that anybody could name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    pub reason: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Mistake {
    fn new(reason: &'static str, message: String, help: Option<String>) -> Self {
        Self { reason, message, help }
    }

    pub(crate) fn syntax(message: &str) -> Self {
        Self::new("Syntax", format!("the document does not parse: {message}"), None)
    }

    pub(crate) fn not_an_object(found: &str) -> Self {
        let help = "an object begins with `apiVersion:` and `kind:`".to_owned();
        Self::new("NotAnObject", format!("expected an object, found {found}"), Some(help))
    }

    pub(crate) fn no_kind() -> Self {
        let help = "an object begins with `apiVersion:` and `kind:`".to_owned();
        Self::new("NotAnObject", "the object has no `kind`".into(), Some(help))
    }

    pub(crate) fn unknown_kind(api_version: &str, kind: &str, near: Option<&str>) -> Self {
        let help = near.map(|near| {
            if near == kind {
                "the versions are getambassador.io/v3alpha1, v2 and v1".to_owned()
            } else {
                format!("did you mean `{near}`?")
            }
        });
        Self::new("UnknownKind", format!("there is no kind `{kind}` in {api_version}"), help)
    }

    pub(crate) fn not_in_an_annotation(kind: &str) -> Self {
        let message = format!("a {kind} cannot be written in an annotation");
        Self::new("NotInAnAnnotation", message, None)
    }

    pub(crate) fn no_name(kind: Kind) -> Self {
        Self::new("MissingName", format!("the {kind} has no `metadata.name`"), None)
    }

    pub(crate) fn bad_name(kind: Kind, found: &str) -> Self {
        Self::new("BadName", format!("the name of the {kind} is {found}, not a name"), None)
    }

    pub(crate) fn bad_namespace(kind: Kind, found: &str) -> Self {
        Self::new("BadName", format!("the namespace of the {kind} is {found}, not a name"), None)
    }
}
