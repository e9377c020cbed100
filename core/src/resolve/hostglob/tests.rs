// SPDX-License-Identifier: Apache-2.0
use super::{overlap, specificity};

#[track_caller]
fn check(a: &str, b: &str, expected: bool) {
    assert_eq!(overlap(a, b), expected, "{a} ~ {b}");
    assert_eq!(overlap(b, a), expected, "{b} ~ {a}");
}

/// Emissary's own table.
#[test]
fn emissary_pairs() {
    check("a.example.com", "a.example.com", true);
    check("a.example.com", "b.example.com", false);
    check("*", "foo.example.com", true);
    check("*.example.com", "a.example.com", true);
    check("*example.com", "b.example.com", true);
    check("*example.com", ".example.com", false);
    check("foo.example*", "foo.example.com.", true);
    check("*example.com", "example.com", false);
    check("*ple.com", "b.example.com", true);
    check("*.example.com", "a.example.org", false);
    check("*example.com", "a.example.org", false);
    check("*ple.com", "a.example.org", false);
    check("a.example.*", "a.example.com", true);
    check("a.example*", "a.example.com", true);
    check("a.exa*", "a.example.com", true);
    check("a.example.*", "a.example.org", true);
    check("a.example.*", "b.example.com", false);
    check("a.example*", "b.example.com", false);
    check("a.exa*", "b.example.com", false);
    check("a.*.com", "a.example.com", false);
    check("*.com", "a.example.com", true);
    check("*.com", "a.example.org", false);
    check("*.example.com", "*.example.com", true);
    check("*example.com", "*.example.com", true);
    check("*.example.com", "a.example.*", true);
    check("*.example.com", "a.b.example.*", true);
    check("*.example.baz.com", "a.b.example.*", true);
    check("*.foo.bar", "baz.zing.*", true);
    check("*.local:8500", "quote.local", false);
    check("*.local:8500", "quote.local:8500", true);
    check("*", "quote.local:8500", true);
    check("quote.*", "quote.local:8500", true);
    check("quote.*", "*.local:8500", true);
    check("quote.com:8500", "quote.com:8500", true);
}

#[test]
fn corners() {
    check("", "a.com", false);
    check("*", "", true);
    check("*a.com", "*b.com", false);
    check("a.*", "b.*", false);
    check("a.b.*", "a.*", true);
    check("*.com", "*.a.com", true);
    check("*mid*", "mid", false);
    check("*mid*", "*mid*", true);
    check("*.com", ".com", false);
}

#[test]
fn domains_most_specific_first() {
    let mut domains = ["*", "a.*", "*.com", "b.com", "a.b.*", "*.a.com", "a.com"];
    domains.sort_by_key(|d| specificity(d));
    assert_eq!(domains, ["a.com", "b.com", "*.a.com", "*.com", "a.b.*", "a.*", "*"]);
}
