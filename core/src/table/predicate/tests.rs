// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::policy::pattern::Pattern;
use crate::table::sample::Sent;

fn exact(text: &str) -> ValueMatch {
    ValueMatch::Exact(text.into())
}

fn regex(text: &str) -> ValueMatch {
    ValueMatch::Regex(Pattern::parse(text).unwrap())
}

fn everything() -> Matcher {
    Matcher {
        path: PathMatch::Prefix { text: "/".into(), case_sensitive: true },
        authority: None,
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

#[track_caller]
fn check_header(sent: &[(&str, &str)], name: &str, value: ValueMatch, holds: bool) {
    let mut matcher = everything();
    matcher.headers.push(FieldMatch { name: name.into(), value });
    let sent = Sent::new("GET", "a", "/", None, sent, false);
    let expected = (!holds).then_some(Clause::Header(0));
    assert_eq!(Subject::new(sent.request()).unmet(&matcher), expected);
}

#[test]
fn headers() {
    check_header(&[("X-A", "1")], "x-a", exact("1"), true);
    check_header(&[("X-A", "1")], "x-a", exact("2"), false);
    check_header(&[("X-A", "V")], "x-a", exact("v"), false);
    check_header(&[("User-Agent", "curl")], "user-agent", exact("curl"), true);
    check_header(&[("X-A", "12")], "x-a", regex("1"), false);
    check_header(&[("X-A", "12")], "x-a", regex("1."), true);
    check_header(&[("X-A", "")], "x-a", ValueMatch::Present, true);
    check_header(&[("X-A", "")], "x-a", exact(""), true);
}

#[test]
fn absent_header_satisfies_nothing() {
    for value in [ValueMatch::Present, exact(""), regex(".*")] {
        check_header(&[("X-B", "1")], "x-a", value, false);
    }
}

#[test]
fn lines_of_one_header_are_joined_by_commas() {
    let sent = [("x-a", "1"), ("x-b", "9"), ("X-A", "2"), ("x-A", "3")];
    check_header(&sent, "x-a", exact("1,2,3"), true);
    check_header(&sent, "x-a", exact("1"), false);
    check_header(&sent, "x-a", regex("1,.*"), true);
}

#[test]
fn forwarded_proto_is_what_the_gateway_says() {
    check_header(&[("X-Forwarded-Proto", "https")], "x-forwarded-proto", exact("https"), false);
    check_header(&[], "x-forwarded-proto", exact("http"), true);
}

#[test]
fn query_parameters() {
    let check = |query: Option<&str>, name: &str, expected: Option<&str>| {
        let query = query.map(str::as_bytes);
        assert_eq!(parameter(query, name), expected.map(str::as_bytes), "{query:?} {name}");
    };
    check(None, "a", None);
    check(Some(""), "a", None);
    check(Some("a"), "a", Some(""));
    check(Some("a="), "a", Some(""));
    check(Some("ab=1&a=2"), "a", Some("2"));
    check(Some("a=1&a=2"), "a", Some("1"));
    check(Some("A=1"), "a", None);
    check(Some("a=1=2"), "a", Some("1=2"));
    check(Some("a=%31"), "a", Some("%31"));
    check(Some("%61=1"), "a", None);
    check(Some("&&b&a=1"), "a", Some("1"));
}

#[test]
fn clauses_in_order_of_cost() {
    let mut matcher = everything();
    matcher.authority = Some(AuthorityMatch::Exact("a".into()));
    matcher.path = PathMatch::Exact { text: "/x".into(), case_sensitive: false };
    matcher.method = Some(exact("GET"));
    matcher.headers = vec![
        FieldMatch { name: "a".into(), value: exact("1") },
        FieldMatch { name: "b".into(), value: ValueMatch::Present },
    ];
    matcher.query = vec![FieldMatch { name: "q".into(), value: regex("1|2") }];
    let a = ("a", "1");
    let check = |method, authority, path, query, headers: &[_], expected| {
        let sent = Sent::new(method, authority, path, query, headers, false);
        assert_eq!(Subject::new(sent.request()).unmet(&matcher), expected);
    };
    check("PUT", "b", "/", None, &[], Some(Clause::Authority));
    check("PUT", "a", "/", None, &[], Some(Clause::Path));
    check("get", "a", "/X", None, &[], Some(Clause::Method));
    check("GET", "a", "/X", None, &[], Some(Clause::Header(0)));
    check("GET", "a", "/X", None, &[a], Some(Clause::Header(1)));
    check("GET", "a", "/X", None, &[a, ("B", "")], Some(Clause::Query(0)));
    check("GET", "a", "/X", Some("q=2"), &[a, ("B", "")], None);
}
