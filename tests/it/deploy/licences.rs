// SPDX-License-Identifier: Apache-2.0
//! What is linked may be passed on: each dependency's licence is one that `deny.toml` allows, which
//! `cargo deny check` reads, too.

use std::fs;
use std::iter::Peekable;
use std::process::Command;
use std::vec::IntoIter;

use ringway_tests::gateway::repository;
use serde_json::Value;

/// Whether an SPDX expression can be satisfied by allowed licences.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // Cargo's older form of OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens: Vec<String> = Vec::new();
    let mut words = spaced.split_whitespace();
    while let Some(word) = words.next() {
        match (word, tokens.last_mut()) {
            ("WITH", Some(licence)) => {
                *licence += " WITH ";
                *licence += words.next().unwrap_or_default();
            }
            _ => tokens.push(word.to_owned()),
        }
    }
    let mut tokens = tokens.into_iter().peekable();
    let satisfied = any(&mut tokens, allowed);
    satisfied && tokens.next().is_none()
}

fn any(tokens: &mut Peekable<IntoIter<String>>, allowed: &[String]) -> bool {
    let mut satisfied = all(tokens, allowed);
    while tokens.next_if(|token| token == "OR").is_some() {
        satisfied |= all(tokens, allowed);
    }
    satisfied
}

fn all(tokens: &mut Peekable<IntoIter<String>>, allowed: &[String]) -> bool {
    let mut satisfied = one(tokens, allowed);
    while tokens.next_if(|token| token == "AND").is_some() {
        satisfied &= one(tokens, allowed);
    }
    satisfied
}

fn one(tokens: &mut Peekable<IntoIter<String>>, allowed: &[String]) -> bool {
    match tokens.next() {
        Some(open) if open == "(" => {
            let satisfied = any(tokens, allowed);
            tokens.next_if(|token| token == ")").is_some() && satisfied
        }
        Some(licence) => allowed.contains(&licence),
        None => false,
    }
}

#[test]
fn expressions_are_read() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    #[track_caller]
    fn check(expected: bool, expression: &str, allowed: &[String]) {
        assert_eq!(is_allowed(expression, allowed), expected, "{expression}");
    }
    check(true, "MIT", &allowed);
    check(true, "GPL-3.0 OR MIT", &allowed);
    check(true, "GPL-3.0/MIT", &allowed);
    check(true, "ISC AND (GPL-3.0 OR MIT)", &allowed);
    check(true, "Apache-2.0 WITH LLVM-exception", &allowed);
    check(false, "Apache-2.0", &allowed);
    check(false, "ISC AND GPL-3.0", &allowed);
    check(false, "(MIT OR ISC) AND GPL-3.0", &allowed);
    check(false, "", &allowed);
    check(false, "MIT ISC", &allowed);
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let deny = fs::read_to_string(repository().join("deny.toml")).unwrap();
    let (_, list) = deny.split_once("\nallow = [\n").unwrap();
    let (list, _) = list.split_once("\n]").unwrap();
    let names = list.lines().filter_map(|line| line.split('"').nth(1));
    let allowed: Vec<String> = names.map(str::to_owned).collect();

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform=x86_64-unknown-linux-gnu"])
        .args(["--filter-platform=aarch64-unknown-linux-gnu"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let used = packages.iter().filter(|package| nodes.iter().any(|n| n["id"] == package["id"]));
    let (mut n_used, mut wrong, mut met) = (0, Vec::new(), Vec::new());
    for package in used {
        n_used += 1;
        let licence = package["license"].as_str().unwrap_or_default();
        met.push(licence);
        if !is_allowed(licence, &allowed) {
            wrong.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    assert!(n_used > 200, "only {n_used} packages");
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A licence that nothing has any more is allowed for nothing.
    let unused: Vec<&String> =
        allowed.iter().filter(|name| !met.iter().any(|licence| licence.contains(*name))).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
