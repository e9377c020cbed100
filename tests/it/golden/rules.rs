// SPDX-License-Identifier: Apache-2.0
//! Every rule of `docs/compatibility.md` names cases that exist, and every case is named.

use std::collections::BTreeSet;
use std::fs;

use ringway_tests::gateway::repository;

use super::cases;

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let document = fs::read_to_string(repository().join("docs/compatibility.md")).unwrap();
    let mut named = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut rules = 0;
    for (number, line) in document.lines().enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let is_row = line.starts_with('|') && !line.starts_with("| ---");
        if !is_row || cells.last().is_some_and(|cell| *cell == "Golden cases") {
            continue;
        }
        rules += 1;
        let cell = cells.last().copied().unwrap_or_default();
        // Cases are the odd pieces between back-ticks.
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("line {}: a rule without a case: {line}", number + 1));
        }
        named.extend(names.into_iter().map(str::to_owned));
    }
    let cases: BTreeSet<String> = cases().into_iter().collect();
    wrong.extend(named.difference(&cases).map(|name| format!("no such case: {name}")));
    wrong.extend(cases.difference(&named).map(|name| format!("no rule names the case {name}")));
    assert!(rules > 100, "only {rules} rules found: is the table still read?");
    assert!(wrong.is_empty(), "docs/compatibility.md and tests/golden:\n{}", wrong.join("\n"));
}
