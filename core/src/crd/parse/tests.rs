// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::crd::source::{Diagnostic, Style};

fn options() -> Options {
    let environment = [("ZONE", "example.com"), ("W", "10")];
    Options {
        environment: environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Options::default()
    }
}

/// One line per thing found: `Mapping default/a`, `refused Host default/b`, `malformed Syntax`,
/// `foreign apps/v1 Deployment`, each with its problems as `severity path reason`.
fn summary(found: &[Parsed]) -> String {
    let mut out = String::new();
    for parsed in found {
        let problems = match parsed {
            Parsed::Object { object, problems } => {
                assert_eq!(object.meta.object.kind, object.spec.kind());
                out += &object.meta.object.to_string();
                problems
            }
            Parsed::Refused { meta, problems, .. } => {
                out += &format!("refused {}", meta.object);
                problems
            }
            Parsed::Malformed(malformed) => {
                out += &format!("malformed {}\n", malformed.mistake.reason);
                continue;
            }
            Parsed::Foreign { api_version, kind } => {
                out += &format!("foreign {api_version} {kind}\n");
                continue;
            }
        };
        out.push('\n');
        for problem in problems.iter() {
            out += &format!("  {} {} {}\n", problem.severity, problem.path, problem.reason);
        }
    }
    out
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let found = parse("test.yaml", text, &options());
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let summary = summary(&found);
    assert_eq!(lines(&summary), lines(expected.trim()), "{summary}");
}

/// Every problem of a text, rendered.
fn rendered(text: &str) -> String {
    let mut out = String::new();
    for parsed in parse("manifests/quote.yaml", text, &options()) {
        match &parsed {
            Parsed::Object { object, problems } => {
                for problem in problems.iter() {
                    out +=
                        &Diagnostic::of_problem(problem, Some(&object.origin)).render(Style::Plain);
                }
            }
            Parsed::Refused { origin, problems, .. } => {
                for problem in problems.iter() {
                    out += &Diagnostic::of_problem(problem, Some(origin)).render(Style::Plain);
                }
            }
            Parsed::Malformed(malformed) => {
                out += &Diagnostic::of_malformed(malformed).render(Style::Plain);
            }
            Parsed::Foreign { .. } => {}
        }
    }
    out
}

#[track_caller]
fn check_rendered(text: &str, expected: &str) {
    let rendered = rendered(text);
    assert_eq!(rendered.trim(), expected.trim(), "\n{rendered}");
}

#[test]
fn objects_of_all_sorts_come_from_one_stream() {
    check(
        r#"
# nothing but a comment
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: a}
spec: {prefix: /a/, service: a}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: b, namespace: other}
spec: {prefix: /b/, service: 8080, prefx: /c/}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
---
}
---
{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
"#,
        "
        Mapping default/a
        refused Mapping other/b
          warning spec.prefx UnknownField
          error spec.service WrongType
        foreign apps/v1 Deployment
        malformed Syntax
        Namespace n
        ",
    );
}

#[test]
fn a_problem_is_shown_with_its_line() {
    check_rendered(
        "apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata:
  name: quote
spec:
  hostname: '*'
  prefx: /back
  service: 8080
  precedence: high
",
        "
warning[UnknownField]: Mapping default/quote: unknown field `prefx` is ignored
  --> manifests/quote.yaml:7:3
   |
 7 |   prefx: /back
   |   ^^^^^
   = help: did you mean `prefix`?
error[MissingField]: Mapping default/quote: the required field `prefix` is missing
  --> manifests/quote.yaml:5:1
   |
 5 | spec:
   | ^^^^
error[WrongType]: Mapping default/quote: expected a string, found a number (8080)
  --> manifests/quote.yaml:8:12
   |
 8 |   service: 8080
   |            ^^^^
   = help: put it in quotes: \"8080\"
error[WrongType]: Mapping default/quote: expected an integer, found the string \"high\"
  --> manifests/quote.yaml:9:15
   |
 9 |   precedence: high
   |               ^^^^
",
    );
}

#[test]
fn text_that_does_not_parse_is_shown_too() {
    check_rendered(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata:\n  name: a\n name: b\n",
        "
error[Syntax]: the document does not parse: while parsing a block mapping, did not find expected key
  --> manifests/quote.yaml:5:2
   |
 5 |  name: b
   |  ^
",
    );
}
