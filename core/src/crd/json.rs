// SPDX-License-Identifier: Apache-2.0
//! JSON (RFC 8259) into the same tree as YAML, with positions.

use std::borrow::Cow;

use super::node::{Key, Node, Span, SyntaxError, Value, refuse_duplicates};
use crate::limits::{OBJECT_DEPTH_MAX, OBJECT_NODES_MAX};

/// Reads one JSON value that fills the text.
pub(crate) fn parse(text: &str) -> Result<Node<'_>, SyntaxError> {
    let mut reader = Reader { text, at: 0, line: 0, line_start: 0, counted: (0, 0), nodes: 0 };
    let node = reader.value(1)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.fail("something follows the JSON value"));
    }
    Ok(node)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// Byte offset of the current line.
    line_start: usize,
    /// A byte offset and its column.
    counted: (usize, u32),
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The current column. Counted on from the last time that somebody asked, since a stream is
    /// often a single line.
    fn column(&mut self) -> u32 {
        let (at, column) = self.counted;
        let (from, before) = if at < self.line_start { (self.line_start, 0) } else { (at, column) };
        // Characters: bytes that do not continue one.
        let new = self.text.as_bytes()[from..self.at].iter().filter(|b| **b & 0xC0 != 0x80).count();
        let column = before + u32::try_from(new).unwrap_or(u32::MAX / 2);
        self.counted = (self.at, column);
        column
    }

    fn span_from(&mut self, line: u32, column: u32) -> Span {
        Span { line, column, end_line: self.line, end_column: self.column() }
    }

    fn fail(&mut self, message: &str) -> SyntaxError {
        let (line, column) = (self.line, self.column());
        let span = Span { line, column, end_line: line, end_column: column + 1 };
        SyntaxError { span, message: message.into() }
    }

    fn space(&mut self) {
        while let Some(b) = self.peek() {
            match b {
                b'\n' => {
                    self.line += 1;
                    self.line_start = self.at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        if depth > OBJECT_DEPTH_MAX {
            return Err(self.fail(&format!("nested deeper than {OBJECT_DEPTH_MAX} levels")));
        }
        self.nodes += 1;
        if self.nodes > OBJECT_NODES_MAX {
            return Err(self.fail(&format!("more than {OBJECT_NODES_MAX} values")));
        }
        self.space();
        let (line, column) = (self.line, self.column());
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::String(self.string()?),
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(self.fail("expected a JSON value")),
        };
        Ok(Node::new(self.span_from(line, column), value))
    }

    fn map(&mut self, depth: usize) -> Result<Value<'a>, SyntaxError> {
        self.at += 1;
        let mut entries: Vec<(Key<'a>, Node<'a>)> = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.fail("expected a key in quotes"));
            }
            let (line, column) = (self.line, self.column());
            let text = self.string()?;
            let span = self.span_from(line, column);
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.fail("expected `:`"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            entries.push((Key { text, span }, value));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    refuse_duplicates(&entries)?;
                    return Ok(Value::Map(entries));
                }
                _ => return Err(self.fail("expected `,` or `}`")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Seq(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Seq(items));
                }
                _ => return Err(self.fail("expected `,` or `]`")),
            }
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, SyntaxError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.fail("expected a JSON value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value<'a>, SyntaxError> {
        let rest = &self.text.as_bytes()[self.at..];
        let part = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest.iter().take_while(|b| part(b)).count();
        let text = &self.text[self.at..self.at + len];
        let digits = text.strip_prefix('-').unwrap_or(text);
        let leading_zero =
            digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        if leading_zero || !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.fail("not a JSON number"));
        }
        let value = match (text.parse(), text.parse()) {
            (Ok(int), _) => Value::Int(int),
            (_, Ok(float)) => Value::Float(float),
            _ => return Err(self.fail("not a JSON number")),
        };
        self.at += len;
        Ok(value)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut run = start;
        loop {
            match self.peek() {
                None => return Err(self.fail("the string does not end")),
                Some(b'"') => {
                    let tail = &self.text[run..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(tail),
                        Some(mut text) => {
                            text.push_str(tail);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[run..self.at]);
                    self.at += 1;
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    run = self.at;
                }
                Some(0..0x20) => return Err(self.fail("a control character in a string")),
                Some(_) => self.at += 1,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, SyntaxError> {
        let b = self.peek();
        self.at += 1;
        Ok(match b {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.hex4()?;
                let code = if (0xD800..0xDC00).contains(&high) {
                    if !self.text[self.at..].starts_with("\\u") {
                        return Err(self.fail("half of a surrogate pair"));
                    }
                    self.at += 2;
                    let low = self.hex4()?;
                    if !(0xDC00..0xE000).contains(&low) {
                        return Err(self.fail("half of a surrogate pair"));
                    }
                    0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
                } else {
                    high
                };
                match char::from_u32(code) {
                    Some(c) => c,
                    None => return Err(self.fail("half of a surrogate pair")),
                }
            }
            _ => {
                self.at -= 1;
                return Err(self.fail("an unknown escape"));
            }
        })
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|d| u32::from_str_radix(str::from_utf8(d).ok()?, 16).ok());
        let Some(code) = code else { return Err(self.fail("expected four hex digits")) };
        self.at += 4;
        Ok(code)
    }
}

#[cfg(test)]
mod tests;
