// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::policy::sample::{Sample, facts};

fn edits(lines: &[(&str, &str)]) -> HeaderEdits {
    let add = lines.iter().map(|(name, value)| HeaderAdd {
        name: (*name).into(),
        value: Format::parse(value).unwrap(),
    });
    HeaderEdits { drop: Vec::new(), add: add.collect() }
}

#[track_caller]
fn check(lines: &[(&str, &str)], expected: &str) {
    let sample = Sample::get("/").with("x-in", b"1");
    let mut out = Vec::new();
    edits(lines).write_added(&facts(sample.view()), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn added_lines() {
    check(&[], "");
    check(&[("X-A", "1"), ("x-a", "100%%")], "X-A: 1\r\nx-a: 100%\r\n");
    check(&[("x-a", "%REQ(x-in)%-%REQ(x-none)%.")], "x-a: 1-.\r\n");
    check(&[("x-client", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")], "x-client: 203.0.113.9\r\n");
}

#[test]
fn empty_values_are_left_out() {
    check(&[("x-a", "%REQ(x-none)%"), ("x-b", "2")], "x-b: 2\r\n");
    check(&[("x-a", ""), ("x-b", " ")], "");
}

#[test]
fn a_value_stays_in_its_line() {
    check(&[("x-a", "1\r\nx-evil: 2\0\u{7f}")], "x-a: 1  x-evil: 2  \r\n");
}

#[test]
fn literals_need_no_facts() {
    let literal = edits(&[("x-a", "1"), ("x-b", "50%%"), ("x-c", "")]);
    assert!(literal.is_literal());
    let mut out = Vec::new();
    literal.write_literals(&mut out);
    assert_eq!(out, b"x-a: 1\r\nx-b: 50%\r\n");
    assert!(!edits(&[("x-a", "%PROTOCOL%")]).is_literal());
}
