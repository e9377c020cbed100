// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(rewrite: PathRewrite, path: &str, expected: Option<&str>) {
    let mut out = b">".to_vec();
    let changed = rewrite.apply(path.as_bytes(), &mut out);
    let found = String::from_utf8(out).unwrap();
    assert_eq!(changed.then_some(&found[1..]), expected);
    assert!(changed || found == ">");
}

fn prefix(matched: &str, with: &str) -> PathRewrite {
    PathRewrite::Prefix { len: matched.len(), with: with.into() }
}

fn regex(pattern: &str, substitution: &str) -> PathRewrite {
    PathRewrite::Regex(Substitution::parse(pattern, substitution).unwrap())
}

#[test]
fn prefixes() {
    check(PathRewrite::Keep, "/foo", None);
    check(prefix("/foo/", "/"), "/foo/bar", Some("/bar"));
    check(prefix("/foo", "/"), "/foo/bar", Some("//bar"));
    check(prefix("/foo", "/"), "/foo", Some("/"));
    check(prefix("/foo/", "/v2/"), "/FOO/bar", Some("/v2/bar"));
    check(prefix("/", "/"), "/a", Some("/a"));
    check(prefix("/foo/", "bar/"), "/foo/x", Some("/bar/x"));
    check(prefix("/longer", "/x"), "/a", Some("/x"));
}

#[test]
fn hosts_of_copies() {
    for (host, expected) in [
        ("foo.com", "foo.com-shadow"),
        ("foo.com:8080", "foo.com-shadow:8080"),
        ("192.0.2.1:80", "192.0.2.1-shadow:80"),
        ("[2001:db8::1]", "[2001:db8::1]-shadow"),
        ("[2001:db8::1]:80", "[2001:db8::1]-shadow:80"),
        ("", ""),
    ] {
        let mut out = Vec::new();
        shadow_host(host.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn whole_paths() {
    check(PathRewrite::Whole("/".into()), "/foo/bar", Some("/"));
    check(PathRewrite::Whole("".into()), "/foo", Some("/"));
    check(PathRewrite::Whole("/a b\r\nX: y\u{e9}".into()), "/", Some("/a%20b%0D%0AX:%20y%C3%A9"));
}

#[test]
fn patterns() {
    check(regex("/foo/([0-9]+)/list", r"/bar/\1"), "/foo/123/list", Some("/bar/123"));
    check(regex("foo", "bar"), "/foo/foo", Some("/bar/bar"));
    check(regex("foo", "bar"), "/baz", Some("/baz"));
    check(regex("/(a)(b)?", r"/\2\1\0"), "/a", Some("/a/a"));
    check(regex("a", r"\\1"), "/a", Some(r"/\1"));
    check(regex("a*", "x"), "/baac", Some("/x/xbxcx"));
    check(regex("^.*$", ""), "/a", Some("/"));
    check(regex("^/(.*)$", r"\1"), "/a/b", Some("/a/b"));
}

#[track_caller]
fn check_parse(pattern: &str, substitution: &str, expected: Result<(), &str>) {
    let found = Substitution::parse(pattern, substitution).map(|_| ()).map_err(|e| e.to_string());
    assert_eq!(found.as_ref().map(|_| ()).map_err(String::as_str), expected.map(|_| ()));
}

#[test]
fn refused_substitutions() {
    check_parse("(a)", r"\1\0\\", Ok(()));
    check_parse("(a)", r"\2", Err("the substitution names group \\2, and the pattern has 1"));
    let escape = "a backslash in the substitution is followed by a digit or a backslash, \
                  nothing else";
    check_parse("(a)", r"\x", Err(escape));
    check_parse("(a)", r"a\", Err(escape));
    assert!(matches!(Substitution::parse("(", ""), Err(SubstitutionError::Pattern(_))));
}

proptest! {
    #[test]
    fn a_rewrite_gives_a_path(
        path in "/[a-z/%0-9]{0,12}",
        len in 0usize..20,
        with in any::<String>(),
    ) {
        let unchecked = Substitution {
            pattern: Pattern::parse("([a-m])|/").unwrap(),
            substitution: with.as_str().into(),
        };
        let with: Box<str> = with.into();
        for rewrite in [
            PathRewrite::Prefix { len, with: with.clone() },
            PathRewrite::Whole(with.clone()),
            PathRewrite::Regex(unchecked),
        ] {
            let mut out = Vec::new();
            prop_assert!(rewrite.apply(path.as_bytes(), &mut out));
            prop_assert_eq!(out[0], b'/');
            prop_assert!(out.iter().all(u8::is_ascii_graphic));
        }
    }
}
