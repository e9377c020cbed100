// SPDX-License-Identifier: Apache-2.0
//! Finds the documents of a stream without parsing them, so that only changed ones are parsed.
//!
//! YAML 1.2 §9.1: `---` and `...` at the start of a line are markers wherever they stand, in
//! quotes and block scalars too. JSON objects may also follow each other without a marker.

/// One document: its text and the line of the stream that it begins in, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    pub text: &'a str,
    pub first_line: u32,
}

/// The documents that hold more than white space and comments.
pub fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut open = Open { start: 0, first_line: 0, prologue: true };
    let (mut at, mut line) = (0, 0);
    loop {
        let rest = &text[at..];
        match marker(rest.as_bytes()) {
            Some(Marker::Start) => {
                // Directives before the marker belong to the document that it begins.
                let before = &text[open.start..at];
                let prologue = open.prologue && is_prologue(before);
                if !prologue {
                    chunks.push(Chunk { text: before, first_line: open.first_line });
                }
                if !(prologue && has_directive(before)) {
                    open = Open { start: at, first_line: line, prologue: false };
                }
                open.prologue = false;
            }
            Some(Marker::End) => {
                push(&mut chunks, &text[open.start..at], open.first_line);
                let after = at + rest.find('\n').map_or(rest.len(), |i| i + 1);
                open = Open { start: after, first_line: line + 1, prologue: true };
            }
            None => {}
        }
        // Bounded: each turn ends behind a further line break.
        match memchr::memchr(b'\n', rest.as_bytes()) {
            Some(i) => at += i + 1,
            None => break,
        }
        line += 1;
    }
    push(&mut chunks, &text[open.start.min(text.len())..], open.first_line);
    if chunks.iter().any(|chunk| chunk.text.trim_start().starts_with('{')) {
        chunks = chunks.into_iter().flat_map(split_json).collect();
    }
    chunks
}

struct Open {
    start: usize,
    first_line: u32,
    /// Nothing but directives can precede the next `---`.
    prologue: bool,
}

enum Marker {
    Start,
    End,
}

fn marker(line: &[u8]) -> Option<Marker> {
    if !matches!(line.get(3), None | Some(b' ' | b'\t' | b'\r' | b'\n')) {
        return None;
    }
    match line.get(..3)? {
        b"---" => Some(Marker::Start),
        b"..." => Some(Marker::End),
        _ => None,
    }
}

fn push<'a>(chunks: &mut Vec<Chunk<'a>>, text: &'a str, first_line: u32) {
    if !text.lines().all(is_blank) {
        chunks.push(Chunk { text, first_line });
    }
}

/// A line without content, as seen at the start of a document.
fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

fn has_directive(text: &str) -> bool {
    text.lines().any(|line| line.starts_with('%'))
}

fn is_prologue(text: &str) -> bool {
    text.lines().all(|line| is_blank(line) || line.starts_with('%'))
}

/// The objects of a JSON stream; the chunk as it is if it is anything else.
fn split_json(chunk: Chunk<'_>) -> Vec<Chunk<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    // Bounded: each turn takes one object off the front.
    loop {
        let rest = &chunk.text[at..];
        let body = rest.trim_start();
        if body.is_empty() {
            return found;
        }
        let Some(len) = object_len(body.as_bytes()) else { return vec![chunk] };
        let start = at + (rest.len() - body.len());
        let lines = chunk.text[..start].bytes().filter(|b| *b == b'\n').count();
        let first_line = chunk.first_line + u32::try_from(lines).unwrap_or(u32::MAX);
        at = start + len;
        // The indentation of the first line is kept, so that columns are true.
        let line_start = chunk.text[..start].rfind('\n').map_or(0, |i| i + 1);
        let indent = &chunk.text[line_start..start];
        let from = if indent.trim().is_empty() { line_start } else { start };
        found.push(Chunk { text: &chunk.text[from..at], first_line });
    }
}

/// Bytes of the brace-balanced object at the front.
fn object_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (i, b) in text.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
