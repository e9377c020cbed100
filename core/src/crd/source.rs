// SPDX-License-Identifier: Apache-2.0
//! Where an object was written, found only when somebody looks: the document is parsed again and
//! the problem's field path followed in it.
//!
//! Documents that hold a Secret show no text, in no message and no debug output.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;

use super::node::{Node, Span, Value};
use super::parse::CONFIG_ANNOTATION;
use crate::name::Ref;
use crate::problem::{Mistake, Problem, Severity};

/// One document of a file.
///
/// Two documents are the same when their text is; where in the file it begins may change while
/// everything that was read from it stays.
pub struct Document {
    pub file: Arc<str>,
    pub text: Box<str>,
    /// Counted from 0.
    first_line: AtomicU32,
}

impl Document {
    pub fn new(file: Arc<str>, text: impl Into<Box<str>>, first_line: u32) -> Self {
        Self { file, text: text.into(), first_line: AtomicU32::new(first_line) }
    }

    /// Line of the file in which the document begins, counted from 0.
    pub fn first_line(&self) -> u32 {
        self.first_line.load(Ordering::Relaxed)
    }

    /// The same document, found at another line of its file.
    pub fn moved_to(&self, first_line: u32) {
        self.first_line.store(first_line, Ordering::Relaxed);
    }

    fn line(&self, line: u32) -> Option<&str> {
        self.text.lines().nth(line as usize)
    }

    /// Whether its text may be shown: not if any object in it looks like a Secret.
    fn is_public(&self) -> bool {
        let kinds = self.text.match_indices("kind").map(|(at, word)| &self.text[at + word.len()..]);
        !kinds.map(|rest| rest.trim_start_matches(['"', '\'', ':', ' '])).any(|rest| {
            rest.strip_prefix("Secret").is_some_and(|rest| {
                !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) || rest.starts_with("List")
            })
        })
    }
}

/// Without the text: it may hold a Secret.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.first_line() + 1)
    }
}

/// Where an object comes from. Objects from an API server have no document.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub document: Option<Arc<Document>>,
    /// The object inside its document: empty, or `items[3]`.
    pub path: Box<str>,
    /// For an object inside a `getambassador.io/config` annotation: the document of the
    /// annotation's text; `document` and `path` are then the annotated object's.
    pub annotation: Option<Arc<Document>>,
}

impl Origin {
    /// The document that the object's own fields stand in.
    pub(crate) fn innermost(&self) -> Option<&Arc<Document>> {
        self.annotation.as_ref().or(self.document.as_ref())
    }
}

/// A document, or an item of one, that is no object.
#[derive(Clone, Debug)]
pub struct Malformed {
    pub origin: Origin,
    /// In the innermost document.
    pub span: Span,
    pub mistake: Mistake,
}

/// A place in a file; line and column count from 1, in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
    /// The line and how many characters of it are meant; absent where the text is not shown.
    #[serde(skip)]
    pub snippet: Option<Snippet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    pub line: Box<str>,
    /// At least 1.
    pub width: u32,
}

/// What of a field is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Key,
    Value,
}

/// Finds a field of an object, as `spec.headers["x-user"]`; where it is absent, its nearest
/// ancestor; with an empty path, the object's name.
pub fn locate(origin: &Origin, path: &str, part: Part) -> Option<Location> {
    let document = origin.innermost()?;
    let node = super::node::parse(&document.text).ok().flatten()?;
    let object = match &origin.annotation {
        Some(_) => &node,
        None => walk(&node, None, &segments(&origin.path)).0,
    };
    let path = if path.is_empty() { "metadata.name" } else { path };
    let mut segments = segments(path);
    // A flat object has neither metadata nor spec of its own.
    if segments.len() > 1
        && let Some(Segment::Name("metadata" | "spec")) = segments.first()
        && object.get("metadata").is_none()
        && object.get("spec").is_none()
    {
        segments.remove(0);
    }
    let (found, key, whole) = walk(object, None, &segments);
    let scalar = !matches!(found.value, Value::Map(_) | Value::Seq(_));
    let empty =
        (found.span.line, found.span.column) == (found.span.end_line, found.span.end_column);
    let span = match key {
        Some(key) if part == Part::Key || !whole || !scalar || empty => key,
        _ => head(found),
    };
    Some(place(origin, span))
}

/// The part of a value that is worth pointing at: a collection's first key or item.
fn head(node: &Node<'_>) -> Span {
    match &node.value {
        Value::Map(entries) => entries.first().map_or(node.span, |(key, _)| key.span),
        Value::Seq(items) => items.first().map_or(node.span, head),
        _ => node.span,
    }
}

enum Segment<'p> {
    Name(&'p str),
    Quoted(String),
    Index(usize),
}

fn segments(path: &str) -> Vec<Segment<'_>> {
    let mut out = Vec::new();
    let mut rest = path;
    // Bounded: each turn takes at least one byte.
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('[').filter(|rest| rest.starts_with('"')) {
            let mut text = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
            let Some(Ok(name)) = text.next() else { return out };
            let len = text.byte_offset();
            out.push(Segment::Quoted(name));
            rest = quoted[len..].strip_prefix(']').unwrap_or_default();
        } else if let Some(index) = rest.strip_prefix('[') {
            let Some((index, after)) = index.split_once(']') else { return out };
            let Ok(index) = index.parse() else { return out };
            out.push(Segment::Index(index));
            rest = after;
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let len = name.find(['.', '[']).unwrap_or(name.len());
            if len == 0 {
                return out;
            }
            out.push(Segment::Name(&name[..len]));
            rest = &name[len..];
        }
    }
    out
}

/// Follows a path as far as it goes: the last node, its key, and whether the path ended there.
fn walk<'n, 'a>(
    mut node: &'n Node<'a>,
    mut key: Option<Span>,
    segments: &[Segment<'_>],
) -> (&'n Node<'a>, Option<Span>, bool) {
    for segment in segments {
        let next = match (segment, &node.value) {
            (Segment::Index(index), Value::Seq(items)) => items.get(*index).map(|n| (n, None)),
            (Segment::Name(_) | Segment::Quoted(_), Value::Map(entries)) => {
                let name = match segment {
                    Segment::Quoted(name) => name.as_str(),
                    Segment::Name(name) => name,
                    Segment::Index(_) => "",
                };
                let entry = entries.iter().find(|(key, _)| key.text == name);
                entry.map(|(key, node)| (node, Some(key.span)))
            }
            _ => None,
        };
        let Some((child, child_key)) = next else { return (node, key, false) };
        (node, key) = (child, child_key);
    }
    (node, key, true)
}

/// A span of an object's innermost document as a place in its file.
fn place(origin: &Origin, span: Span) -> Location {
    let Some(document) = &origin.document else {
        return Location { file: "".into(), line: 1, column: 1, snippet: None };
    };
    let (line, column) = match &origin.annotation {
        None => (span.line, span.column),
        Some(annotation) => return place_in_annotation(document, &origin.path, annotation, span),
    };
    location(document, line, column, span)
}

fn location(document: &Document, line: u32, column: u32, span: Span) -> Location {
    let text = document.line(line).unwrap_or_default();
    let len = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let width = if span.end_line > span.line {
        len.saturating_sub(column)
    } else {
        (span.end_column.saturating_sub(span.column)).min(len.saturating_sub(column))
    };
    let snippet = document.is_public().then(|| Snippet { line: text.into(), width: width.max(1) });
    Location {
        file: document.file.clone(),
        line: document.first_line() + line + 1,
        column: column + 1,
        snippet,
    }
}

/// In a literal block (`|`) each line of the annotation is a line of the file, indented: found by
/// comparing them. Written in any other way, the annotation as a whole is the place.
fn place_in_annotation(
    document: &Document,
    path: &str,
    annotation: &Document,
    span: Span,
) -> Location {
    let node = super::node::parse(&document.text).ok().flatten();
    let whole = node.as_ref().map(|node| {
        let object = walk(node, None, &segments(path)).0;
        let field = [
            Segment::Name("metadata"),
            Segment::Name("annotations"),
            Segment::Quoted(CONFIG_ANNOTATION.to_owned()),
        ];
        let (value, key, _) = walk(object, None, &field);
        (key.unwrap_or(value.span), value)
    });
    let Some((key, value)) = whole else {
        return location(document, 0, 0, Span::default());
    };
    let wanted = annotation.first_line() + span.line;
    let written = value.as_str().and_then(|text| text.lines().nth(wanted as usize));
    let line = key.line + 1 + wanted;
    if let (Some(written), Some(text)) = (written, document.line(line))
        && let Some(indent) = text.strip_suffix(written)
        && indent.bytes().all(|b| b == b' ')
    {
        let column = u32::try_from(indent.len()).unwrap_or(0) + span.column;
        return location(document, line, column, span);
    }
    location(document, key.line, key.column, key)
}

/// A problem and its place, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub reason: &'static str,
    /// Absent for text that is no object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Ref>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub path: Box<str>,
    pub message: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<Box<str>>,
    #[serde(flatten)]
    pub location: Option<Location>,
}

/// Whether to colour a text with ANSI escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Ansi,
    Plain,
}

impl Diagnostic {
    /// A problem of an object; its place is found if the origin is known.
    pub fn of_problem(problem: &Problem, origin: Option<&Origin>) -> Self {
        // What is wrong with these is that they are there.
        let part = match problem.reason {
            "UnknownField" | "NoEffect" => Part::Key,
            _ => Part::Value,
        };
        Self {
            severity: problem.severity,
            reason: problem.reason,
            object: Some(problem.object.clone()),
            path: problem.path.as_str().into(),
            message: problem.message.as_str().into(),
            help: problem.help.as_deref().map(Into::into),
            location: origin.and_then(|origin| locate(origin, &problem.path, part)),
        }
    }

    pub fn of_malformed(malformed: &Malformed) -> Self {
        let Malformed { origin, span, mistake } = malformed;
        Self {
            severity: Severity::Error,
            reason: mistake.reason,
            object: None,
            path: "".into(),
            message: mistake.message.as_str().into(),
            help: mistake.help.as_deref().map(Into::into),
            location: origin.document.is_some().then(|| place(origin, *span)),
        }
    }

    /// The text form, in the manner of a compiler; ends with a line break.
    pub fn render(&self, style: Style) -> String {
        let paint = |code: &str, text: &str| match style {
            Style::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
            Style::Plain => text.to_owned(),
        };
        let colour = match self.severity {
            Severity::Error | Severity::FailsClosed => "1;31",
            Severity::Warning => "1;33",
            Severity::Notice => "1;36",
        };
        let title = paint(colour, &format!("{}[{}]", self.severity, self.reason));
        let object = self.object.as_ref().map_or_else(String::new, |o| format!("{o}: "));
        let mut out = format!("{title}: {}\n", printable(&format!("{object}{}", self.message)));
        let mut gutter = 1;
        if let Some(Location { file, line, column, snippet }) = &self.location {
            let number = line.to_string();
            gutter = number.len();
            let (arrow, bar) = (paint("1;34", "-->"), paint("1;34", "|"));
            out += &format!("{:gutter$} {arrow} {}:{line}:{column}\n", "", printable(file));
            if let Some(snippet) = snippet {
                let (text, before, width) = window(snippet, *column as usize - 1);
                let carets = paint(colour, &"^".repeat(width));
                let number = paint("1;34", &number);
                out += &format!("{:gutter$}  {bar}\n {number} {bar} {text}\n", "");
                out += &format!("{:gutter$}  {bar} {:before$}{carets}\n", "", "");
            }
        }
        if let Some(help) = &self.help {
            out += &format!("{:gutter$}  = help: {}\n", "", printable(help));
        }
        out
    }
}

/// Characters of a line that are shown, most of all.
const WINDOW: usize = 120;

/// The part of a line that is shown, the columns before the carets, and how many carets.
fn window(snippet: &Snippet, column: usize) -> (String, usize, usize) {
    let chars: Vec<char> = snippet.line.chars().collect();
    let column = column.min(chars.len());
    let from = if chars.len() > WINDOW { column.saturating_sub(WINDOW / 3) } else { 0 };
    let to = (from + WINDOW).min(chars.len());
    let (head, tail) = (if from > 0 { "…" } else { "" }, if to < chars.len() { "…" } else { "" });
    let shown: String = chars[from..to].iter().collect();
    let before = column - from + head.chars().count();
    let width = (snippet.width as usize).min(to.saturating_sub(column)).max(1);
    (format!("{head}{}{tail}", printable(&shown)), before, width)
}

/// Text that a terminal takes for text: control characters give way to a space.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
