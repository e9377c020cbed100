// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;

const TEXT: &str = "# first
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata:
  name: quote
spec:
  prefix: /back(end/
  headers:
    x-user: \"é\"
    plain: y
  labels:
    ambassador:
    - group: [{generic_key: {value: a}}]
    - {}
  rewrite:
  docs: {path: |
    long
    }
";

fn origin(text: &str) -> Origin {
    let document = Document::new("dir/a.yaml".into(), text, 10);
    Origin { document: Some(Arc::new(document)), ..Origin::default() }
}

#[track_caller]
fn check(path: &str, part: Part, expected: (u32, u32, u32)) {
    let text = TEXT.replace(": |\n    long\n    }", ": x}");
    let location = locate(&origin(&text), path, part).unwrap();
    let width = location.snippet.as_ref().unwrap().width;
    assert_eq!((location.line - 10, location.column, width), expected, "{path}");
}

#[test]
fn fields_are_found_by_path() {
    use Part::{Key, Value};
    check("", Value, (5, 9, 5));
    check("spec.prefix", Value, (7, 11, 10));
    check("spec.prefix", Key, (7, 3, 6));
    check("spec.headers[\"x-user\"]", Value, (9, 13, 3));
    check("spec.headers.plain", Value, (10, 12, 1));
    check("spec.headers", Value, (8, 3, 7));
    check("spec.labels.ambassador[0]", Value, (13, 7, 5));
    check("spec.labels.ambassador[0].group[0].generic_key.value", Value, (13, 37, 1));
    check("spec.labels.ambassador[1]", Value, (14, 7, 2));
    // An empty value has no text to point at.
    check("spec.rewrite", Value, (15, 3, 7));
    // Absent: the nearest ancestor.
    check("spec.hostname", Value, (6, 1, 4));
    check("spec.docs.nothing.here", Value, (16, 3, 4));
    check("spec.prefix.nothing", Value, (7, 3, 6));
    check("spec.labels.ambassador[7]", Value, (12, 5, 10));
    check("nothing", Value, (2, 1, 10));
    // No path at all.
    check("][", Value, (2, 1, 10));
    check("[\"x", Value, (2, 1, 10));
}

#[test]
fn a_path_reads_back_as_it_is_written() {
    let names = ["a", "x-user", "a.b", "a\"]b", "é\\", "", "[0]"];
    for name in names {
        let at = super::super::decode::At::ROOT;
        let spec = at.field("spec");
        let key = spec.key(name);
        let path = key.item(3).to_string();
        let parts = segments(&path);
        assert_eq!(parts.len(), 3, "{path}");
        match &parts[1] {
            Segment::Name(text) => assert_eq!(*text, name),
            Segment::Quoted(text) => assert_eq!(text, name),
            Segment::Index(_) => panic!("{path}"),
        }
        assert!(matches!(parts[2], Segment::Index(3)));
    }
}

fn diagnostic(line: &str, column: u32, width: u32) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        reason: "Reason",
        object: Some(Ref::new(crate::name::Kind::Host, "ns", "name")),
        path: "spec.x".into(),
        message: "message".into(),
        help: Some("help".into()),
        location: Some(Location {
            file: "f.yaml".into(),
            line: 1234,
            column,
            snippet: Some(Snippet { line: line.into(), width }),
        }),
    }
}

#[test]
fn long_lines_are_cut_around_the_carets() {
    let line = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
    let text = diagnostic(&line, 5001, 4).render(Style::Plain);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[1], "     --> f.yaml:1234:5001");
    let column = lines[3].chars().position(|c| c == 'H').unwrap();
    assert_eq!(lines[4].chars().position(|c| c == '^'), Some(column));
    assert_eq!(lines[4].matches('^').count(), 4);
    assert!(lines[3].chars().count() < 140);
    assert!(lines[3].contains("…a") && lines[3].ends_with("b…"));
}

#[test]
fn terminals_get_text_only() {
    let text = diagnostic("\u{1b}[31m\tx", 7, 1).render(Style::Plain);
    assert!(!text.contains('\u{1b}') && !text.contains('\t'), "{text:?}");
    let text = diagnostic("x", 1, 1).render(Style::Ansi);
    assert!(
        text.starts_with("\u{1b}[1;33mwarning[Reason]\u{1b}[0m: Host ns/name: message\n"),
        "{text:?}"
    );
}

#[test]
fn the_json_form_says_the_same() {
    assert_eq!(
        serde_json::to_value(diagnostic("x", 3, 1)).unwrap(),
        serde_json::json!({
            "severity": "warning", "reason": "Reason",
            "object": {"kind": "Host", "namespace": "ns", "name": "name"},
            "path": "spec.x", "message": "message", "help": "help",
            "file": "f.yaml", "line": 1234, "column": 3,
        })
    );
    let mut diagnostic = diagnostic("x", 3, 1);
    (diagnostic.object, diagnostic.location, diagnostic.help) = (None, None, None);
    diagnostic.path = "".into();
    assert_eq!(
        serde_json::to_value(&diagnostic).unwrap(),
        serde_json::json!({"severity": "warning", "reason": "Reason", "message": "message"})
    );
}

#[test]
fn a_place_moves_with_its_document() {
    let origin = origin(TEXT.split_once("  docs").unwrap().0);
    assert_eq!(locate(&origin, "spec.prefix", Part::Value).unwrap().line, 17);
    origin.document.as_ref().unwrap().moved_to(0);
    assert_eq!(locate(&origin, "spec.prefix", Part::Value).unwrap().line, 7);
}

#[test]
fn objects_without_a_document_have_no_place() {
    assert_eq!(locate(&Origin::default(), "spec", Part::Value), None);
}

#[test]
fn an_annotation_in_quotes_is_one_place() {
    let text = "kind: Service\nmetadata:\n  annotations:\n    getambassador.io/config: \"kind: Mapping\\nname: x\\nservice: 7\\n\"\n";
    let annotation = Document::new("".into(), "kind: Mapping\nname: x\nservice: 7\n", 0);
    let origin = Origin { annotation: Some(Arc::new(annotation)), ..origin(text) };
    let location = locate(&origin, "spec.service", Part::Value).unwrap();
    assert_eq!((location.line, location.column, location.snippet.unwrap().width), (14, 5, 23));
}
