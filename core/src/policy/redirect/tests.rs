// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const KEEP: Redirect = Redirect { host: None, scheme: None, path: RedirectPath::Keep, status: 301 };

fn to(host: &str, path: RedirectPath) -> Redirect {
    Redirect { host: Some(host.into()), path, ..KEEP }
}

/// The Location for a request of `http://old:8080/foo/bar?q=1`.
#[track_caller]
fn check(redirect: Redirect, expected: &str) {
    let mut out = b">".to_vec();
    redirect.location(false, b"old:8080", b"/foo/bar", Some(b"q=1"), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!(">{expected}"));
}

#[test]
fn hosts_and_paths() {
    check(KEEP, "http://old:8080/foo/bar?q=1");
    check(to("new", RedirectPath::Keep), "http://new/foo/bar?q=1");
    check(to("new:81", RedirectPath::Whole("/x".into())), "http://new:81/x?q=1");
    check(to("new", RedirectPath::Whole("x".into())), "http://new/x?q=1");
    check(to("new", RedirectPath::Whole("/x?r=2".into())), "http://new/x?r=2");
    let prefix = RedirectPath::Prefix { len: "/foo/".len(), with: "/baz/".into() };
    check(to("new", prefix), "http://new/baz/bar?q=1");
    let regex = RedirectPath::Regex(Substitution::parse("/foo/(.*)", r"/\1/foo").unwrap());
    check(to("new", regex), "http://new/bar/foo?q=1");
}

#[test]
fn what_is_written_stays_within_its_line() {
    check(
        to("new\r\nset-cookie: a=b", RedirectPath::Keep),
        "http://new%0D%0Aset-cookie:%20a=b/foo/bar?q=1",
    );
    check(to("new", RedirectPath::Whole("/\0\n".into())), "http://new/%00%0A?q=1");
}

#[track_caller]
fn check_scheme(scheme: Option<Scheme>, secure: bool, authority: &str, expected: &str) {
    let mut out = Vec::new();
    Redirect { scheme, ..KEEP }.location(secure, authority.as_bytes(), b"/", None, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn schemes() {
    check_scheme(None, true, "a:443", "https://a:443/");
    check_scheme(None, false, "a:80", "http://a:80/");
    check_scheme(Some(Scheme::Https), false, "a:80", "https://a/");
    check_scheme(Some(Scheme::Https), false, "a:8080", "https://a:8080/");
    check_scheme(Some(Scheme::Https), false, "a:443", "https://a:443/");
    check_scheme(Some(Scheme::Https), true, "a:443", "https://a:443/");
    check_scheme(Some(Scheme::Http), true, "a:443", "http://a/");
    check_scheme(Some(Scheme::Http), true, "[::1]:443", "http://[::1]/");
    check_scheme(Some(Scheme::Https), false, "", "/");
}

#[track_caller]
fn check_https(authority: &str, expected: &str) {
    let mut out = Vec::new();
    to_https(authority.as_bytes(), b"/a?b", &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn secure_redirects() {
    check_https("a.com", "https://a.com/a?b");
    check_https("a.com:80", "https://a.com/a?b");
    check_https("a.com:8080", "https://a.com:8080/a?b");
    check_https("a.com:180", "https://a.com:180/a?b");
    check_https("[::1]:80", "https://[::1]/a?b");
    check_https("[::80]", "https://[::80]/a?b");
    check_https("", "/a?b");
}

proptest! {
    #[test]
    fn a_location_is_one_line(
        host in proptest::option::of(any::<String>()),
        with in any::<String>(),
        len in 0usize..9,
    ) {
        for path in [
            RedirectPath::Whole(with.as_str().into()),
            RedirectPath::Prefix { len, with: with.as_str().into() },
        ] {
            let redirect = Redirect { host: host.as_deref().map(Into::into), path, ..KEEP };
            let mut out = Vec::new();
            redirect.location(true, b"a", b"/foo", Some(b"q\xff"), &mut out);
            prop_assert!(out.iter().all(u8::is_ascii_graphic));
        }
    }
}
