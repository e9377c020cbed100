// SPDX-License-Identifier: Apache-2.0
//! From text to a table: nothing that a tenant writes stops the gateway, and what is remembered
//! of an earlier text never shows in the result.

use std::sync::Arc;

use ringway_core::crd::source::Style;
use ringway_core::crd::{Diagnostic, File, Options, Parsed};
use ringway_core::name::Generation;
use ringway_core::resolve::{Memo, resolve};
use ringway_core::snapshot::{Settings, Snapshot};
use ringway_core::table::{Request, Slots, Table, compile, explain};
use ringway_core::wire::h1::parse::{self, Limits};
use ringway_core::wire::{Head, HeadView};

use crate::segments::Random;

/// Bytes as a file of manifests, then as the same file after an edit.
pub fn manifests(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let options = Options::default();
    let before = File::parse("a.yaml", &text, &options, None);
    let (mut memo, mut slots) = (Memo::default(), Slots::new());
    let old = snapshot(&before);
    let (ir, problems) = resolve(&old, &mut memo);
    for problem in problems.iter() {
        let origin = old.object(&problem.object).map(|object| &object.origin);
        let diagnostic = Diagnostic::of_problem(problem, origin);
        assert!(!diagnostic.render(Style::Plain).is_empty());
    }
    let old = compile(&ir, Generation(1), &mut slots, None).ok();

    let edited = edit(&text, &mut Random::of(data));
    let after = File::parse("a.yaml", &edited, &options, Some(&before));
    let cold = File::parse("a.yaml", &edited, &options, None);
    assert_eq!(outline(&after), outline(&cold), "depends on what was read before");
    let (warm_ir, warm_problems) = resolve(&snapshot(&after), &mut memo);
    let (cold_ir, cold_problems) = resolve(&snapshot(&cold), &mut Memo::default());
    assert_eq!(warm_ir, cold_ir, "depends on what was resolved before");
    assert_eq!(warm_problems, cold_problems, "depend on what was resolved before");
    if let Ok(table) = compile(&warm_ir, Generation(2), &mut slots, old.as_ref()) {
        let fresh = compile(&cold_ir, Generation(2), &mut Slots::new(), None);
        let fresh = fresh.expect("slots that suffice beside another table suffice");
        assert_eq!(answers(&table, &edited), answers(&fresh, &edited));
    }
}

/// The accepted objects, the first of each name.
fn snapshot(file: &File) -> Snapshot {
    let mut snapshot = Snapshot::new(Settings { default_listeners: true, ..Settings::default() });
    for found in file.found() {
        match found {
            Parsed::Object { object, .. } if snapshot.object(&object.meta.object).is_none() => {
                snapshot.insert(Arc::clone(object));
            }
            Parsed::Refused { meta, .. } => snapshot.refuse(Arc::clone(meta)),
            _ => {}
        }
    }
    snapshot
}

/// Everything that was found, and how each mistake is shown.
fn outline(file: &File) -> Vec<String> {
    let mut lines = Vec::new();
    for found in file.found() {
        let (origin, problems) = match found {
            Parsed::Object { object, problems } => {
                lines.push(format!("{:?} {:?}", object.meta, object.spec));
                (&object.origin, problems)
            }
            Parsed::Refused { meta, origin, problems } => {
                lines.push(format!("refused {meta:?}"));
                (origin, problems)
            }
            Parsed::Malformed(malformed) => {
                lines.push(Diagnostic::of_malformed(malformed).render(Style::Plain));
                continue;
            }
            Parsed::Foreign { api_version, kind } => {
                lines.push(format!("foreign {api_version} {kind}"));
                continue;
            }
        };
        for problem in problems.iter() {
            lines.push(Diagnostic::of_problem(problem, Some(origin)).render(Style::Ansi));
        }
    }
    lines
}

/// Drops, repeats or moves a line, or takes the file's documents in another order.
fn edit(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    let (from, to) = (random.below(lines.len()), random.below(lines.len() + 1));
    match random.below(4) {
        0 if !lines.is_empty() => drop(lines.remove(from)),
        1 if !lines.is_empty() => lines.insert(to, lines[from]),
        2 if !lines.is_empty() => {
            let line = lines.remove(from);
            lines.insert(to.min(lines.len()), line);
        }
        _ => {
            let mut documents: Vec<_> = text.split("\n---\n").collect();
            documents.reverse();
            return documents.join("\n---\n");
        }
    }
    lines.concat()
}

/// Where some requests go that the text itself suggests; sorted, for listeners stand in the order
/// of their slots, which depends on what was there before.
fn answers(table: &Table, text: &str) -> Vec<String> {
    let block = b"GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-proto: https\r\n\r\n";
    let mut head = Head::default();
    parse::request(block, &mut head, &Limits::default(), &mut 0).expect("a good head");
    let words = || text.split(|c: char| c.is_whitespace() || "\"'{},[]".contains(c));
    let authorities = words().filter(|w| w.contains('.') && !w.contains('/')).take(2);
    let mut answers = Vec::new();
    for authority in authorities.chain(["a"]) {
        for path in words().filter(|word| word.starts_with('/')).take(4).chain(["/"]) {
            let request = Request {
                head: HeadView::new(&head, block),
                authority: authority.as_bytes(),
                path: path.as_bytes(),
                query: None,
                secure: true,
            };
            for listener in &table.listeners {
                let told = listener.explain(&request, &explain::Circumstances::bare(Some(42)));
                answers.push(format!("{:?} {:?}", listener.address, told.outcome));
            }
        }
    }
    answers.sort();
    answers
}
