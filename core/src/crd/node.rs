// SPDX-License-Identifier: Apache-2.0
//! A document as a tree with positions, from YAML or JSON: scalars carry their YAML 1.2 core type.
//!
//! Any bytes give a tree or one [`SyntaxError`]. Size, depth and the number of nodes after alias
//! expansion are bounded; duplicate keys are an error, since readers disagree on which one counts.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan};

use crate::limits::{OBJECT_BYTES_MAX, OBJECT_DEPTH_MAX, OBJECT_NODES_MAX};

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    pub span: Span,
    /// A scalar without quotes (YAML).
    pub plain: bool,
    pub value: Value<'a>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(Cow<'a, str>),
    Seq(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Key<'a> {
    pub text: Cow<'a, str>,
    pub span: Span,
}

/// From the first character to behind the last: lines and columns from 0, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    pub end_column: u32,
}

/// Why a document is not a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub span: Span,
    pub message: String,
}

impl<'a> Node<'a> {
    pub(crate) fn new(span: Span, value: Value<'a>) -> Self {
        Self { span, plain: false, value }
    }

    pub(crate) fn empty_map() -> Self {
        Self::new(Span::default(), Value::Map(Vec::new()))
    }

    /// The value of a key of a map.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Self> {
        let Value::Map(entries) = &mut self.value else { return None };
        entries.iter_mut().find(|(key, _)| key.text == name).map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Self> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|(key, _)| key.text == name)?;
        Some(entries.remove(index).1)
    }

    /// Adds an entry to a map; it counts as written where the map was.
    pub(crate) fn insert(&mut self, name: &'static str, value: Value<'a>) {
        let span = self.span;
        if let Value::Map(entries) = &mut self.value {
            entries.push((Key { text: Cow::Borrowed(name), span }, Self::new(span, value)));
        }
    }

    /// The values of a map.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Self> {
        let entries = match &mut self.value {
            Value::Map(entries) => entries.as_mut_slice(),
            _ => &mut [],
        };
        entries.iter_mut().map(|(_, value)| value)
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::Seq(items) => items,
            _ => &[],
        }
    }

    /// The items of a list.
    pub(crate) fn items_mut(&mut self) -> &mut [Self] {
        match &mut self.value {
            Value::Seq(items) => items,
            _ => &mut [],
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::String(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The type, with the value of a short scalar.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                format!("{} ({})", self.type_name(), self.scalar_text())
            }
            Value::String(text) if text.chars().count() <= 40 => format!("the string {text:?}"),
            _ => self.type_name().into(),
        }
    }

    pub(crate) fn scalar_text(&self) -> String {
        match &self.value {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::String(text) => text.clone().into_owned(),
            Value::Null | Value::Seq(_) | Value::Map(_) => String::new(),
        }
    }

    /// This node and all nodes below it.
    fn size(&self) -> usize {
        match &self.value {
            Value::Seq(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|(_, v)| v.size()).sum::<usize>(),
            _ => 1,
        }
    }

    fn depth(&self) -> usize {
        match &self.value {
            Value::Seq(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
            _ => 1,
        }
    }
}

/// Reads one document. `None` for one without content. A document that begins with a brace is read
/// as JSON first, as kubectl does.
pub fn parse(text: &str) -> Result<Option<Node<'_>>, SyntaxError> {
    if text.len() > OBJECT_BYTES_MAX {
        let message = format!("the document is larger than {OBJECT_BYTES_MAX} bytes");
        return Err(SyntaxError { span: Span::default(), message });
    }
    if text.trim_start().starts_with('{')
        && let Ok(node) = super::json::parse(text)
    {
        return Ok(Some(node));
    }
    parse_yaml(text)
}

/// A collection that is not closed yet.
struct Open<'a> {
    span: Span,
    anchor: usize,
    content: Content<'a>,
}

enum Content<'a> {
    Seq(Vec<Node<'a>>),
    Map { entries: Vec<(Key<'a>, Node<'a>)>, key: Option<Key<'a>> },
}

struct Builder<'a> {
    open: Vec<Open<'a>>,
    anchors: BTreeMap<usize, Node<'a>>,
    nodes: usize,
    root: Option<Node<'a>>,
}

fn parse_yaml(text: &str) -> Result<Option<Node<'_>>, SyntaxError> {
    let mut builder = Builder { open: Vec::new(), anchors: BTreeMap::new(), nodes: 0, root: None };
    let mut documents = 0;
    // Bounded: the parser ends with the text, or at the first error.
    for event in Parser::new_from_str(text) {
        let (event, yaml_span) = event.map_err(|error| {
            let at = error.marker();
            let (line, column) = (narrow(at.line().saturating_sub(1)), narrow(at.col()));
            let span = Span { line, column, end_line: line, end_column: column + 1 };
            SyntaxError { span, message: error.info().to_owned() }
        })?;
        let span = span_of(yaml_span);
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(fail(span, "a second document begins without `---`"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let tag = tag.as_ref().filter(|tag| tag.is_yaml_core_schema());
                let value = match tag.map(|tag| tag.suffix.as_str()) {
                    Some("str") => Value::String(text),
                    _ if plain => core_type(text),
                    _ => Value::String(text),
                };
                builder.add(Node { span, plain, value }, anchor)?;
            }
            Event::SequenceStart(anchor, _) => {
                builder.begin(span, anchor, Content::Seq(Vec::new()))?;
            }
            Event::MappingStart(anchor, _) => {
                builder.begin(span, anchor, Content::Map { entries: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end(span)?,
            Event::Alias(anchor) => {
                let Some(node) = builder.anchors.get(&anchor).cloned() else {
                    return Err(fail(span, "the alias refers to a value that contains it"));
                };
                if builder.open.len() + node.depth() > OBJECT_DEPTH_MAX {
                    return Err(too_deep(span));
                }
                builder.count(node.size(), span)?;
                builder.add(node, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
    Ok(builder.root.filter(|root| !(root.is_null() && root.plain)))
}

fn fail(span: Span, message: &str) -> SyntaxError {
    SyntaxError { span, message: message.into() }
}

fn too_deep(span: Span) -> SyntaxError {
    fail(span, &format!("nested deeper than {OBJECT_DEPTH_MAX} levels"))
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX - 1)
}

fn span_of(span: YamlSpan) -> Span {
    Span {
        line: narrow(span.start.line().saturating_sub(1)),
        column: narrow(span.start.col()),
        end_line: narrow(span.end.line().saturating_sub(1)),
        end_column: narrow(span.end.col()),
    }
}

impl<'a> Builder<'a> {
    fn count(&mut self, nodes: usize, span: Span) -> Result<(), SyntaxError> {
        self.nodes += nodes;
        if self.nodes > OBJECT_NODES_MAX {
            return Err(fail(span, &format!("more than {OBJECT_NODES_MAX} values")));
        }
        Ok(())
    }

    fn begin(
        &mut self,
        span: Span,
        anchor: usize,
        content: Content<'a>,
    ) -> Result<(), SyntaxError> {
        if self.open.len() >= OBJECT_DEPTH_MAX {
            return Err(too_deep(span));
        }
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(fail(span, "a map or a list cannot be a key"));
        }
        self.open.push(Open { span, anchor, content });
        Ok(())
    }

    fn end(&mut self, end: Span) -> Result<(), SyntaxError> {
        let Some(Open { mut span, anchor, content }) = self.open.pop() else { return Ok(()) };
        (span.end_line, span.end_column) = (end.end_line, end.end_column);
        let value = match content {
            Content::Seq(items) => Value::Seq(items),
            Content::Map { entries, .. } => {
                refuse_duplicates(&entries)?;
                Value::Map(merged(entries)?)
            }
        };
        self.add(Node { span, plain: false, value }, anchor)
    }

    fn add(&mut self, node: Node<'a>, anchor: usize) -> Result<(), SyntaxError> {
        self.count(1, node.span)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
            self.count(node.size(), node.span)?;
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::Seq(items)) => items.push(node),
            Some(Content::Map { entries, key }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let text = match node.value {
                        Value::String(text) => text,
                        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                            Cow::Owned(node.scalar_text())
                        }
                        Value::Null => return Err(fail(node.span, "a key is missing")),
                        Value::Seq(_) | Value::Map(_) => {
                            return Err(fail(node.span, "a map or a list cannot be a key"));
                        }
                    };
                    *key = Some(Key { text, span: node.span });
                }
            },
        }
        Ok(())
    }
}

/// Fails at the second of two equal keys.
pub(super) fn refuse_duplicates(entries: &[(Key<'_>, Node<'_>)]) -> Result<(), SyntaxError> {
    let mut seen = BTreeSet::new();
    match entries.iter().find(|(key, _)| !seen.insert(&*key.text)) {
        Some((key, _)) => Err(fail(key.span, &format!("the key `{}` is there twice", key.text))),
        None => Ok(()),
    }
}

/// Applies `<<`: the entries of the map (or maps) that it names, where the map has none itself.
fn merged<'a>(
    mut entries: Vec<(Key<'a>, Node<'a>)>,
) -> Result<Vec<(Key<'a>, Node<'a>)>, SyntaxError> {
    let Some(index) = entries.iter().position(|(key, _)| key.text == "<<") else {
        return Ok(entries);
    };
    let (key, merged) = entries.remove(index);
    let sources = match merged.value {
        Value::Map(_) => vec![merged],
        Value::Seq(items) => items,
        _ => return Err(fail(key.span, "`<<` takes a map or a list of maps")),
    };
    let mut own: BTreeSet<Cow<'a, str>> = entries.iter().map(|(k, _)| k.text.clone()).collect();
    for source in sources {
        let Value::Map(source) = source.value else {
            return Err(fail(key.span, "`<<` takes a map or a list of maps"));
        };
        entries.extend(source.into_iter().filter(|(key, _)| own.insert(key.text.clone())));
    }
    Ok(entries)
}

/// YAML 1.2 §10.3.2, the core schema.
fn core_type(text: Cow<'_, str>) -> Value<'_> {
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text);
    }
    let int = if let Some(hex) = text.strip_prefix("0x") {
        radix(hex, 16)
    } else if let Some(octal) = text.strip_prefix("0o") {
        radix(octal, 8)
    } else if digits.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    };
    if let Some(value) = int {
        return Value::Int(value);
    }
    let number = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if digits.bytes().all(number)
        && digits.bytes().any(|b| b.is_ascii_digit())
        && let Ok(value) = text.parse()
    {
        return Value::Float(value);
    }
    Value::String(text)
}

fn radix(digits: &str, radix: u32) -> Option<i64> {
    let clean = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    if clean { i64::from_str_radix(digits, radix).ok() } else { None }
}

#[cfg(test)]
mod tests;
