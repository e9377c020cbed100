// SPDX-License-Identifier: Apache-2.0
//! What an API server is told of our kinds, so that it refuses what could not be read and
//! `kubectl explain` has an answer: CustomResourceDefinitions, derived from the records that read
//! the objects.
//!
//! All versions of a kind have one schema and are not converted into each other: whoever asks for
//! any of them gets what was written. So each has the shapes of all: see [`legacy`].

mod definition;
mod legacy;
mod status;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

pub use definition::{DEFINITIONS, Definition};
pub use yaml::emit;

/// One field: what it is for, and what may be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub description: String,
    pub form: Form,
}

/// What may be written: a structural schema, as far as we need it.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Anything.
    Any,
    Boolean,
    IntOrString,
    /// Both ends belong to it.
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    Number,
    /// One of these, if there are any.
    Text {
        choices: &'static [&'static str],
    },
    List(Box<Self>),
    /// A list of records that are told apart by one of their fields, so that several writers can
    /// each have their own.
    Keyed {
        key: &'static str,
        items: Box<Self>,
    },
    /// Keys are the user's.
    Map(Box<Self>),
    Record(Record),
    /// A map of which nothing is said.
    Object,
    /// A map with other keys besides; what is in it is explained.
    Open(Box<Self>),
    /// This is what it is as a rule, and is explained; anything may be written.
    Loose(Box<Self>),
}

/// Fields of a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub fields: BTreeMap<&'static str, Schema>,
    pub required: BTreeSet<&'static str>,
}

impl Form {
    pub(crate) const TEXT: Self = Self::Text { choices: &[] };

    /// The form of an element: a field, `*` for any key, `[]` for an item; through what is loose
    /// too.
    fn at(&mut self, path: &[&str]) -> Option<&mut Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let inner = match (self, *first) {
            (Self::List(items), "[]") => items,
            (Self::Map(values), "*") => values,
            (Self::Loose(form) | Self::Open(form), _) => return form.at(path),
            (Self::Record(record), name) => &mut record.fields.get_mut(name)?.form,
            _ => return None,
        };
        inner.at(rest)
    }

    /// Whatever is written here is taken, and the same holds for all that is in it.
    pub(crate) fn loosened(self) -> Self {
        match self {
            Self::Record(mut record) => {
                for schema in record.fields.values_mut() {
                    schema.form = std::mem::replace(&mut schema.form, Self::Any).loosened();
                }
                record.required.clear();
                Self::Loose(Box::new(Self::Record(record)))
            }
            _ => Self::Any,
        }
    }

    /// As OpenAPI v3 has it, in the subset that Kubernetes calls structural.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
        match self {
            Self::Any => {
                put(PRESERVE, true.into());
            }
            Self::Boolean => {
                put("type", "boolean".into());
            }
            Self::IntOrString => {
                put("x-kubernetes-int-or-string", true.into());
            }
            Self::Integer { min, max } => {
                put("type", "integer".into());
                min.map(|min| put("minimum", min.into()));
                max.map(|max| put("maximum", max.into()));
            }
            Self::Number => {
                put("type", "number".into());
            }
            Self::Text { choices } => {
                put("type", "string".into());
                (!choices.is_empty()).then(|| put("enum", json!(choices)));
            }
            Self::List(items) => {
                put("type", "array".into());
                put("items", items.to_json().into());
            }
            Self::Keyed { key, items } => {
                put("type", "array".into());
                put("items", items.to_json().into());
                put("x-kubernetes-list-type", "map".into());
                put("x-kubernetes-list-map-keys", json!([key]));
            }
            Self::Map(values) => {
                put("type", "object".into());
                put("additionalProperties", values.to_json().into());
            }
            Self::Record(record) => {
                put("type", "object".into());
                let fields = record.fields.iter();
                let fields = fields.map(|(name, schema)| ((*name).to_owned(), schema.to_json()));
                put("properties", Value::Object(fields.collect()));
                (!record.required.is_empty()).then(|| put("required", json!(record.required)));
            }
            Self::Object => {
                put("type", "object".into());
            }
            Self::Open(form) => {
                out = form.to_json();
                out.insert("type".into(), "object".into());
            }
            Self::Loose(form) => {
                out = form.to_json();
                out.remove("type");
                out.insert(PRESERVE.into(), true.into());
            }
        }
        out
    }
}

/// All definitions, as one stream of YAML.
pub fn manifests() -> String {
    let documents = DEFINITIONS.iter().map(|definition| emit(&definition.to_json()));
    documents.collect::<Vec<_>>().join("---\n")
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

impl Schema {
    pub(crate) fn new(description: impl Into<String>, form: Form) -> Self {
        Self { description: description.into(), form }
    }

    fn to_json(&self) -> Value {
        let mut out = self.form.to_json();
        if !self.description.is_empty() {
            out.insert("description".into(), self.description.clone().into());
        }
        out.into()
    }
}

impl Record {
    /// Adds a field under each of its names; the description is that of its source, line by line.
    pub(crate) fn declare(
        &mut self,
        names: &[&'static str],
        description: &[&str],
        form: Form,
        required: bool,
    ) {
        let lines: Vec<&str> = description.iter().map(|line| line.trim()).collect();
        self.fields.insert(names[0], Schema::new(lines.join(" "), form.clone()));
        for name in &names[1..] {
            let description = format!("The same as `{}`, which counts where both are.", names[0]);
            self.fields.insert(name, Schema::new(description, form.clone()));
        }
        // Synonyms are of fields that may be absent.
        if required {
            self.required.insert(names[0]);
        }
    }

    /// Adds fields that are accepted without effect.
    pub(crate) fn declare_dead(&mut self, dead: &[(&'static str, &str)]) {
        for (name, why) in dead {
            let description = match *why {
                "" => "Accepted without effect.".to_owned(),
                why => format!("Accepted without effect: {why}."),
            };
            self.fields.insert(name, Schema::new(description, Form::Any));
        }
    }

    /// With one field more, for a table of them.
    fn with(mut self, name: &'static str, description: &str, form: Form) -> Self {
        self.fields.insert(name, Schema::new(description, form));
        self
    }
}

#[cfg(test)]
mod tests;
