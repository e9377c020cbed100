// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;

#[track_caller]
fn check(text: &str, expected: &str) {
    let environment =
        [("A", "1"), ("A_B", "2"), ("EMPTY", ""), ("NEST", "$A"), ("", "never"), ("a-b", "dash")];
    let environment = environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    assert_eq!(expand(text, &environment), expected, "{text}");
}

/// Each line is what `python3 -c 'import os; print(os.path.expandvars(…))'` gives.
#[test]
fn references_are_those_of_expandvars() {
    check("", "");
    check("plain", "plain");
    check("$A", "1");
    check("${A}", "1");
    check("x$A/y", "x1/y");
    check("$A_B $A-B", "2 1-B");
    check("${A}_B", "1_B");
    check("$EMPTY|${EMPTY}|", "||");
    check("$UNKNOWN ${UNKNOWN}", "$UNKNOWN ${UNKNOWN}");
    check("$", "$");
    check("$$A", "$1");
    check("$ A", "$ A");
    check("${", "${");
    check("${A", "${A");
    check("${${A}}", "${${A}}");
    check("${a-b}", "dash");
    check("$NEST", "$A");
    check("$Aé", "1é");
    check("^/x$", "^/x$");
    check("é$A$A", "é11");
}

#[test]
fn keys_and_values_are_expanded_at_any_depth() {
    let environment = [("A".to_owned(), "1".to_owned())].into();
    let mut node = crate::crd::node::parse("$A: [{x: '${A}'}, 7]").unwrap().unwrap();
    expand_node(&mut node, &environment);
    let Value::Seq(items) = &node.get("1").unwrap().value else { panic!("{node:?}") };
    assert_eq!(items[0].get("x").unwrap().as_str(), Some("1"));
}
