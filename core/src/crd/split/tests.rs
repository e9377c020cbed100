// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use saphyr_parser::{Event, Parser};

use super::*;

#[track_caller]
fn check(text: &str, expected: &[(u32, &str)]) {
    let found: Vec<_> = split(text).iter().map(|chunk| (chunk.first_line, chunk.text)).collect();
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn documents_end_at_markers() {
    check("", &[]);
    check("\n# x\n", &[]);
    check("a: 1\n", &[(0, "a: 1\n")]);
    check("\u{feff}a: 1", &[(0, "a: 1")]);
    check("---\na: 1\n---\nb: 2\n", &[(0, "---\na: 1\n"), (2, "---\nb: 2\n")]);
    check("# x\n---\na: 1\n", &[(1, "---\na: 1\n")]);
    check("a: 1\n---\nb: 2", &[(0, "a: 1\n"), (1, "---\nb: 2")]);
    check("--- {a: 1}\n--- {b: 2}\n", &[(0, "--- {a: 1}\n"), (1, "--- {b: 2}\n")]);
    check("---\r\na: 1\r\n---\r\nb: 2\r\n", &[(0, "---\r\na: 1\r\n"), (2, "---\r\nb: 2\r\n")]);
    check("a: 1\n...\nb: 2\n...\n", &[(0, "a: 1\n"), (2, "b: 2\n")]);
    check("a: 1\n...\n# x\n---\nb: 2\n", &[(0, "a: 1\n"), (3, "---\nb: 2\n")]);
    check("%YAML 1.2\n---\na: 1\n", &[(0, "%YAML 1.2\n---\na: 1\n")]);
    check("a: 1\n...\n%YAML 1.2\n---\nb: 2\n", &[(0, "a: 1\n"), (2, "%YAML 1.2\n---\nb: 2\n")]);
}

#[test]
fn what_only_looks_like_a_marker_is_none() {
    for text in [
        "a: |\n  ---\n  x\n",
        "a: x ---\n",
        "----\n",
        "---x\n",
        "....\n",
        "a:\n ---\n",
        "a: '\n  ---'\n",
    ] {
        check(text, &[(0, text)]);
    }
}

#[test]
fn a_marker_at_the_start_of_a_line_is_one_even_in_quotes_and_blocks() {
    check("a: |\n  x\n---\nb: 2\n", &[(0, "a: |\n  x\n"), (2, "---\nb: 2\n")]);
    check("a: '\n---\n'", &[(0, "a: '\n"), (1, "---\n'")]);
}

#[test]
fn json_objects_follow_each_other() {
    check("{\"a\": 1}\n{\"b\": \"}{\\\"\"}\n", &[(0, "{\"a\": 1}"), (1, "{\"b\": \"}{\\\"\"}")]);
    check("{\"a\": [{}]} {\"b\": 2}", &[(0, "{\"a\": [{}]}"), (0, "{\"b\": 2}")]);
    check("\n  {\"a\":\n 1}\n\n{}", &[(1, "  {\"a\":\n 1}"), (4, "{}")]);
    check("{\"a\": 1}\n---\n{\"b\": 2}\n", &[(0, "{\"a\": 1}"), (1, "---\n{\"b\": 2}\n")]);
    // Anything else is left for the parser to name.
    check("{\"a\": 1} x", &[(0, "{\"a\": 1} x")]);
    check("{\"a\": 1", &[(0, "{\"a\": 1")]);
}

/// Documents as a full parse sees them: the line of the first event in each that has content.
fn documents(text: &str) -> Option<usize> {
    let mut count = 0;
    let mut content = false;
    for event in Parser::new_from_str(text) {
        match event.ok()?.0 {
            Event::DocumentStart(_) => content = false,
            Event::Scalar(text, ..) if text.is_empty() => {}
            Event::DocumentEnd => count += usize::from(content),
            Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
            _ => content = true,
        }
    }
    Some(count)
}

fn stream() -> impl Strategy<Value = String> {
    let lines = [
        "---",
        "...",
        "--- # x",
        "# x",
        "",
        "a: 1",
        "b: |",
        "  ---",
        "  ...",
        "  text",
        "- x",
        "%YAML 1.2",
        "c: 'x",
        "  y'",
        "--- a",
        "d: {",
        "}",
        "---- x",
    ];
    let line = proptest::sample::select(lines.to_vec());
    proptest::collection::vec(line, 0..16).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn a_full_parse_finds_the_same_documents(text in stream()) {
        let Some(expected) = documents(&text) else { return Ok(()) };
        let found: Vec<_> = split(&text).iter().map(|chunk| documents(chunk.text)).collect();
        prop_assert!(found.iter().all(|n| matches!(n, Some(0 | 1))), "{found:?}");
        prop_assert_eq!(found.iter().flatten().sum::<usize>(), expected);
    }

    #[test]
    fn chunks_are_parts_of_the_text_in_order(text in prop_oneof![stream(), any::<String>()]) {
        let body = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut from = 0;
        for chunk in split(&text) {
            let at = from + body[from..].find(chunk.text).unwrap();
            from = at + chunk.text.len();
            prop_assert!(!chunk.text.is_empty());
            let line = body[..chunk.text.as_ptr() as usize - body.as_ptr() as usize].matches('\n').count();
            prop_assert_eq!(chunk.first_line as usize, line);
        }
    }
}
