// SPDX-License-Identifier: Apache-2.0
use std::sync::Arc;

use super::*;
use crate::table::sample::Sent;

#[test]
fn globs() {
    let check = |pattern: &str, text: &str, expected| {
        assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    };
    check("", "", true);
    check("", "a", false);
    check("*", "", true);
    check("*", "/a/b", true);
    check("/a", "/a", true);
    check("/a", "/ab", false);
    check("/a*", "/ab/c", true);
    check("/*/c", "/a/b/c", true);
    check("/*/c", "/a/b/cd", false);
    check("*b*b*", "abab", true);
    check("*b*b*b", "abab", false);
    check("a*a", "a", false);
    check("**a", "ba", true);
    // In time, where trying every split would never end.
    check(&("*a".repeat(50) + "b"), &"a".repeat(10_000), false);
}

#[test]
fn ports_do_not_count() {
    let check = |authority: &str, expected: &str| {
        assert_eq!(without_port(authority.as_bytes()), expected.as_bytes());
    };
    check("a.com", "a.com");
    check("a.com:80", "a.com");
    check("[::1]:80", "[::1]");
    check("[::1]", "[::1]");
    check("", "");
}

#[test]
fn first_guard_of_its_scope_decides() {
    let guard = |host: &str, path: &str, scope, message: Option<&str>| Guard {
        host: host.into(),
        path: path.into(),
        scope,
        refusal: message.map(|message| Arc::new(Refusal { message: message.into() })),
    };
    let guards = [
        guard("*", "/ip", GuardScope::Everything, Some("ip")),
        guard("*", "/open/*", GuardScope::NotRedirects, None),
        guard("*.a.com", "*", GuardScope::NotRedirects, Some("suffix")),
        guard("b.*", "*", GuardScope::NotRedirects, Some("prefix")),
        guard("c.com", "*", GuardScope::NotRedirects, Some("exact")),
    ];
    let check = |authority: &str, path: &str, scope, expected: Option<&str>| {
        let sent = Sent::new("GET", authority, path, None, &[], false);
        let found = refusal(&guards, scope, &sent.request()).map(|refusal| &*refusal.message);
        assert_eq!(found, expected, "{authority}{path}");
    };
    check("x.a.com:80", "/", GuardScope::NotRedirects, Some("suffix"));
    check("x.a.com", "/open/x", GuardScope::NotRedirects, None);
    check("b.org", "/", GuardScope::NotRedirects, Some("prefix"));
    check("c.com", "/ip", GuardScope::NotRedirects, Some("exact"));
    check("d.com", "/", GuardScope::NotRedirects, None);
    check("c.com", "/ip", GuardScope::Everything, Some("ip"));
    check("c.com", "/ip", GuardScope::Unrouted, None);
}
