// SPDX-License-Identifier: Apache-2.0
//! From a spanned tree to typed fields. Every mistake is recorded with its field path and the rest
//! is decoded all the same, so that one reading finds them all.
//!
//! A type says by itself whether it may be absent: `Option`, `Vec`, maps and `bool` may, the others
//! are required. As on an API server, an explicit null counts as absent.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::node::{Node, Value};
use super::schema::{Form, Record};
use crate::limits::OBJECT_PROBLEMS_MAX;
use crate::name::Ref;
use crate::problem::Problems;

/// Where the decoder stands: a chain of borrowed segments, turned into text only for a problem.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a Self>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root,
    Field(&'a str),
    Key(&'a str),
    Item(usize),
}

impl<'a> At<'a> {
    pub(crate) const ROOT: At<'static> = At { parent: None, segment: Segment::Root };

    /// A declared field: `spec.prefix`.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Field(name) }
    }

    /// A key that the user chose: `spec.headers["x-user"]`.
    pub(crate) fn key(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Key(name) }
    }

    pub(crate) fn item(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Item(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let first = self.parent.is_none_or(|p| matches!(p.segment, Segment::Root));
        match self.segment {
            Segment::Root => Ok(()),
            Segment::Field(name) => write!(f, "{}{name}", if first { "" } else { "." }),
            // A plain word reads as a field; everything else is quoted.
            Segment::Key(name) => match serde_json::to_string(name) {
                Ok(quoted) if !is_plain_word(name) => write!(f, "[{quoted}]"),
                _ => write!(f, "{}{name}", if first { "" } else { "." }),
            },
            Segment::Item(index) => write!(f, "[{index}]"),
        }
    }
}

fn is_plain_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The object being decoded and what was found wrong with it.
pub(crate) struct Context {
    pub(crate) object: Ref,
    pub(crate) problems: Problems,
    /// Whether messages may quote values; a Secret's never do.
    pub(crate) quotes_values: bool,
}

impl Context {
    pub(crate) fn wrong_type(&mut self, at: &At<'_>, expected: &str, node: &Node<'_>) {
        let found = if self.quotes_values { node.describe() } else { node.type_name().into() };
        let quote = matches!(node.value, Value::Bool(_) | Value::Int(_) | Value::Float(_))
            && expected == "a string"
            && self.quotes_values;
        let help = quote.then(|| format!("put it in quotes: \"{}\"", node.scalar_text()));
        self.problems.wrong_type(&self.object, at.to_string(), expected, &found, help);
    }

    /// Reports each key of a map that no field claims.
    pub(crate) fn unclaimed(&mut self, node: &Node<'_>, at: &At<'_>, shape: &Shape) {
        let Value::Map(entries) = &node.value else { return };
        for (key, value) in entries {
            let name: &str = &key.text;
            // Looking for near names takes time, and nobody reads on.
            if self.problems.len() >= OBJECT_PROBLEMS_MAX {
                return;
            }
            if shape.keys().any(|keys| keys.contains(&name)) {
                continue;
            }
            match shape.dead.iter().find(|(dead, _)| *dead == name) {
                Some((_, "")) => {}
                Some((_, why)) if !value.is_null() => {
                    self.problems.dead_field(&self.object, at.key(name).to_string(), name, why);
                }
                Some(_) => {}
                None if shape.open => {}
                None => {
                    let near = nearest(name, shape.keys().map(|keys| keys[0]));
                    self.problems.unknown_field(&self.object, at.key(name).to_string(), name, near);
                }
            }
        }
    }
}

/// The fields of a record: names (each with its synonyms), those that are accepted without effect
/// (with what to use instead; an empty text is silent), and whether others are ours to judge.
pub(crate) struct Shape {
    pub(crate) keys: &'static [&'static [&'static str]],
    pub(crate) dead: &'static [(&'static str, &'static str)],
    pub(crate) open: bool,
    /// The names of fields that stand apart: see [`Rest`].
    pub(crate) rest: &'static [&'static [&'static str]],
}

impl Shape {
    fn keys(&self) -> impl Iterator<Item = &'static &'static [&'static str]> {
        self.keys.iter().chain(self.rest)
    }
}

/// Fields of a record that are rarely written: they take memory only where one of them is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest<T>(Option<Box<T>>);

/// What a record of which no field is written is.
pub trait Unwritten: Default + PartialEq + 'static {
    fn unwritten() -> &'static Self;
}

impl<T: Unwritten> Rest<T> {
    pub(crate) fn of(fields: T) -> Self {
        Self((fields != *T::unwritten()).then(|| Box::new(fields)))
    }
}

impl<T: Unwritten> Deref for Rest<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(fields) => fields,
            None => T::unwritten(),
        }
    }
}

impl<T: Unwritten> DerefMut for Rest<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

/// The candidate within two edits (one for short names) of a misspelt name; case and separators
/// do not count.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let fold = |text: &str| -> Vec<u8> {
        let kept = text.bytes().filter(|b| b.is_ascii_alphanumeric()).take(64);
        kept.map(|b| b.to_ascii_lowercase()).collect()
    };
    let wanted = fold(name);
    let limit = if wanted.len() < 5 { 1 } else { 2 };
    let scored = candidates.map(|c| (distance(&wanted, &fold(c)), c));
    scored.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// Levenshtein distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A type that can be read from a tree.
pub(crate) trait Decode: Sized {
    /// The value, or `None` with a problem recorded.
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self>;

    /// What the field is when it is not written; `None` where it must be.
    fn absent() -> Option<Self> {
        None
    }

    /// What an API server is told of the type, so that it refuses what `decode` would.
    fn form() -> Form;
}

/// Tells of one declared field.
pub(crate) fn declare<T: Decode>(
    record: &mut Record,
    names: &[&'static str],
    description: &[&str],
) {
    record.declare(names, description, T::form(), T::absent().is_none());
}

/// Reads one declared field of a map; the first of its names that is present counts.
pub(crate) fn field<T: Decode>(
    node: &Node<'_>,
    names: &'static [&'static str],
    at: &At<'_>,
    cx: &mut Context,
) -> Option<T> {
    let written = names.iter().find_map(|name| Some((*name, node.get(name)?)));
    let decoded = match written {
        Some((name, value)) if !value.is_null() => T::decode(value, &at.field(name), cx),
        _ => match T::absent() {
            Some(value) => return Some(value),
            None => {
                cx.problems.missing_field(&cx.object, at.field(names[0]).to_string(), names[0]);
                None
            }
        },
    };
    // The error is recorded; the rest of the record is read on.
    decoded.or_else(T::absent)
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        T::decode(node, at, cx).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn form() -> Form {
        T::form()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let Value::Seq(items) = &node.value else {
            cx.wrong_type(at, "a list", node);
            return None;
        };
        let decoded = items.iter().enumerate().map(|(i, item)| T::decode(item, &at.item(i), cx));
        Some(decoded.collect::<Vec<_>>().into_iter().flatten().collect())
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn form() -> Form {
        Form::List(Box::new(T::form()))
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            cx.wrong_type(at, "a map", node);
            return None;
        };
        let mut map = Self::new();
        for (key, value) in entries {
            if let Some(value) = T::decode(value, &at.key(&key.text), cx) {
                map.insert(key.text.clone().into_owned(), value);
            }
        }
        Some(map)
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn form() -> Form {
        Form::Map(Box::new(T::form()))
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        T::decode(node, at, cx).map(Self::new)
    }

    fn absent() -> Option<Self> {
        T::absent().map(Self::new)
    }

    fn form() -> Form {
        T::form()
    }
}

impl Decode for String {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let text = node.as_str();
        if text.is_none() {
            cx.wrong_type(at, "a string", node);
        }
        text.map(Self::from)
    }

    fn form() -> Form {
        Form::TEXT
    }
}

impl Decode for bool {
    /// kubectl reads YAML 1.1, where a bare `yes` is true: accepted where a boolean is expected.
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let value = match &node.value {
            Value::Bool(value) => Some(*value),
            Value::String(text) if node.plain => match &**text {
                "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
                "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            cx.wrong_type(at, "true or false", node);
        }
        value
    }

    fn absent() -> Option<Self> {
        Some(false)
    }

    fn form() -> Form {
        Form::Boolean
    }
}

/// An integer; a float without a fraction counts, as on an API server.
fn integer(node: &Node<'_>) -> Option<i64> {
    match node.value {
        Value::Int(value) => Some(value),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(value as i64),
        _ => None,
    }
}

macro_rules! decode_integer {
    ($($type:ty: $what:literal)*) => {$(
        impl Decode for $type {
            fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
                let value = integer(node).and_then(|value| Self::try_from(value).ok());
                if value.is_none() {
                    cx.wrong_type(at, $what, node);
                }
                value
            }

            fn form() -> Form {
                // Bounds of the type itself bound nothing more.
                let bound = |value: Self| {
                    i64::try_from(value).ok().filter(|v| ![i64::MIN, i64::MAX].contains(v))
                };
                Form::Integer { min: bound(Self::MIN), max: bound(Self::MAX) }
            }
        }
    )*};
}

decode_integer! {
    i64: "an integer"
    u64: "a whole number, 0 or more"
    u32: "a whole number from 0 to 4294967295"
    u16: "a whole number from 0 to 65535"
}

impl Decode for f64 {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        match node.value {
            Value::Int(value) => Some(value as Self),
            Value::Float(value) => Some(value),
            _ => {
                cx.wrong_type(at, "a number", node);
                None
            }
        }
    }

    fn form() -> Form {
        Form::Number
    }
}

/// Anything at all: the field is known, its value is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untyped;

impl Decode for Untyped {
    fn decode(_: &Node<'_>, _: &At<'_>, _: &mut Context) -> Option<Self> {
        Some(Self)
    }

    fn form() -> Form {
        Form::Any
    }
}

/// A string, or a number as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl Decode for Text {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let text = match node.value {
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            _ => node.as_str().map(str::to_owned),
        };
        if text.is_none() {
            cx.wrong_type(at, "a string or a number", node);
        }
        text.map(Self)
    }

    fn form() -> Form {
        Form::IntOrString
    }
}

/// Declares a struct whose fields are read from a map.
///
/// A field's name in the manifest is its Rust name, or what follows `as` (synonyms separated by
/// `|`). `dead` lists fields that are accepted without effect, each with what to use instead (an
/// empty text: say nothing). `open` records ignore unknown fields: they belong to somebody else.
/// `rest` names a record whose fields are written in the same map: see [`Rest`].
/// What is written above a field is what `kubectl explain` says of it.
macro_rules! record {
    (@keys $field:ident) => { &[stringify!($field)] };
    (@keys $field:ident $($key:literal)+) => { &[$($key),+] };
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[doc = $doc:literal])* pub $field:ident: $type:ty $(as $($key:literal)|+)? ),*
            $(,)?
        }
        $(dead { $($dead:literal => $why:literal),* $(,)? })?
        $(open $open:ident)?
        $(rest $rest:ident)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )*
            $(
                /// All other fields.
                pub rest: $crate::crd::decode::Rest<$rest>,
            )?
        }

        impl $name {
            pub(crate) const SHAPE: $crate::crd::decode::Shape = $crate::crd::decode::Shape {
                keys: &[$( $crate::crd::decode::record!(@keys $field $($($key)+)?) ),*],
                dead: &[$($(($dead, $why)),*)?],
                open: $crate::crd::decode::record!(@open $($open)?),
                rest: $crate::crd::decode::record!(@rest $($rest)?),
            };

            /// Reads the fields of a map.
            #[allow(unused_variables, reason = "some records have no fields")]
            pub(crate) fn fields(
                node: &$crate::crd::node::Node<'_>,
                at: &$crate::crd::decode::At<'_>,
                cx: &mut $crate::crd::decode::Context,
            ) -> Option<Self> {
                $(
                    let $field = $crate::crd::decode::field::<$type>(
                        node,
                        $crate::crd::decode::record!(@keys $field $($($key)+)?),
                        at,
                        cx,
                    );
                )*
                $( let rest = $rest::fields(node, at, cx); )?
                Some(Self {
                    $( $field: $field?, )*
                    $( rest: $crate::crd::decode::Rest::<$rest>::of(rest?), )?
                })
            }

            /// Tells of each field.
            pub(crate) fn declare(record: &mut $crate::crd::schema::Record) {
                $(
                    $crate::crd::decode::declare::<$type>(
                        record,
                        $crate::crd::decode::record!(@keys $field $($($key)+)?),
                        &[$($doc),*],
                    );
                )*
                record.declare_dead(Self::SHAPE.dead);
                $( $rest::declare(record); )?
            }

            /// Writes each field.
            #[allow(unused_variables, reason = "some records have no fields")]
            pub(crate) fn encode_into(
                &self,
                map: &mut serde_json::Map<String, serde_json::Value>,
            ) {
                $(
                    $crate::crd::encode::put(
                        map,
                        $crate::crd::decode::record!(@keys $field $($($key)+)?)[0],
                        &self.$field,
                    );
                )*
                $( $rest::encode_into(&self.rest, map); )?
            }
        }

        impl $crate::crd::encode::Encode for $name {
            fn encode(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                self.encode_into(&mut map);
                map.into()
            }
        }

        impl $crate::crd::decode::Decode for $name {
            fn decode(
                node: &$crate::crd::node::Node<'_>,
                at: &$crate::crd::decode::At<'_>,
                cx: &mut $crate::crd::decode::Context,
            ) -> Option<Self> {
                if !matches!(node.value, $crate::crd::node::Value::Map(_)) {
                    cx.wrong_type(at, "a map", node);
                    return None;
                }
                cx.unclaimed(node, at, &Self::SHAPE);
                Self::fields(node, at, cx)
            }

            fn form() -> $crate::crd::schema::Form {
                let mut record = $crate::crd::schema::Record::default();
                Self::declare(&mut record);
                $crate::crd::schema::Form::Record(record)
            }
        }
    };
    (@rest) => { &[] };
    (@rest $rest:ident) => { $rest::SHAPE.keys };
    (@open) => { false };
    (@open $open:ident) => { true };
}

/// Declares an enum that is written as one of a few words; further spellings stand behind a bar.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$doc:meta])* $variant:ident = $text:literal $(| $also:literal)* ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$doc])* $variant ),+ }

        impl $name {
            /// As written in a manifest.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text ),+ }
            }
        }

        impl $crate::crd::encode::Encode for $name {
            fn encode(&self) -> serde_json::Value {
                self.as_str().into()
            }
        }

        impl $crate::crd::decode::Decode for $name {
            fn decode(
                node: &$crate::crd::node::Node<'_>,
                at: &$crate::crd::decode::At<'_>,
                cx: &mut $crate::crd::decode::Context,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($text),+];
                let Some(text) = node.as_str() else {
                    cx.wrong_type(at, "a string", node);
                    return None;
                };
                match text {
                    $( $text $(| $also)* => Some(Self::$variant), )+
                    _ => {
                        let near = $crate::crd::decode::nearest(text, WORDS.iter().copied());
                        cx.problems.bad_choice(&cx.object, at.to_string(), text, WORDS, near);
                        None
                    }
                }
            }

            fn form() -> $crate::crd::schema::Form {
                $crate::crd::schema::Form::Text { choices: &[$( $text $(, $also)* ),+] }
            }
        }
    };
}

pub(crate) use {choice, record};
