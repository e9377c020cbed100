// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::Authority;

#[track_caller]
fn parsed(text: &str, expected: Option<(&str, Option<u16>, bool)>) {
    let parts = Authority::parse(text.as_bytes())
        .map(|a| (std::str::from_utf8(a.host).unwrap(), a.port, a.normal));
    assert_eq!(parts, expected, "{text}");
}

#[test]
fn one_spelling() {
    parsed("a", Some(("a", None, true)));
    parsed("a:8080", Some(("a", Some(8080), true)));
    parsed("[::1]:1", Some(("[::1]", Some(1), true)));
    parsed("A.", Some(("A", None, false)));
    parsed("a:", Some(("a", None, false)));
    for bad in ["", ".", "a..", "u@a", "a%41", "a:01", "a:65536", "[::1", "[x]", "a/b", "a b", "ä"]
    {
        parsed(bad, None);
    }
}

#[track_caller]
fn agree(one: &str, other: &str, expected: bool) {
    assert_eq!(Authority::agree(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
    assert_eq!(Authority::agree(other.as_bytes(), one.as_bytes()), expected, "{other} {one}");
}

#[test]
fn agreement() {
    agree("a", "A.", true);
    agree("a", "a:80", true);
    agree("a:443", "a:80", false);
    agree("a", "b", false);
    agree("u@a", "u@a", false);
}
