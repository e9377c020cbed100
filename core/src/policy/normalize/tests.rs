// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::policy::sample::Sample;

/// Authority, path and query, as text.
fn normal(sample: &Sample, rules: Rules) -> Result<(String, String, Option<String>), TargetError> {
    let mut scratch = b"left over".to_vec();
    let target = target(sample.view(), &rules, &mut scratch)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all = target.path.to_vec();
    if let Some(query) = target.query {
        all.push(b'?');
        all.extend_from_slice(query);
    }
    if sample.view().method() == b"CONNECT" {
        all.clear();
    }
    assert_eq!(target.path_and_query, all);
    Ok((text(target.authority), text(target.path), target.query.map(text)))
}

#[track_caller]
fn check_path(path: &str, expected: Result<&str, TargetError>) {
    check_ruled(path, Rules::default(), expected);
}

#[track_caller]
fn check_ruled(path: &str, rules: Rules, expected: Result<&str, TargetError>) {
    let sample = Sample::get(path).with("host", b"a");
    let (path, query) = match expected {
        Ok(text) => match text.split_once('?') {
            Some((path, query)) => (Ok(path.to_owned()), Some(query.to_owned())),
            None => (Ok(text.to_owned()), None),
        },
        Err(error) => (Err(error), None),
    };
    assert_eq!(normal(&sample, rules), path.map(|path| ("a".to_owned(), path, query)));
}

#[test]
fn paths() {
    check_path("/", Ok("/"));
    check_path("/a/b.c/d-e_f~", Ok("/a/b.c/d-e_f~"));
    check_path("/a;v=1/b,c;d=..", Ok("/a;v=1/b,c;d=.."));
    check_path("/!$&'()*+,;=:@[]", Ok("/!$&'()*+,;=:@[]"));
    check_path("/%61%2D%2e%5F%7e", Ok("/a-._~"));
    check_path("/%2f%5c%3f%23%20", Ok("/%2F%5C%3F%23%20"));
    check_path("/a\\b", Ok("/a/b"));
    check_path("/a\\..\\b", Ok("/b"));
    check_path("/\"<>^`{|}", Ok("/%22%3C%3E%5E%60%7B%7C%7D"));
    check_path("/é", Ok("/%C3%A9"));
    check_path("//a//b/", Ok("//a//b/"));
}

#[test]
fn dot_segments() {
    check_path("/.", Ok("/"));
    check_path("/..", Ok("/"));
    check_path("/./a", Ok("/a"));
    check_path("/../../a", Ok("/a"));
    check_path("/a/b/c/./../../g", Ok("/a/g"));
    check_path("/a/.", Ok("/a/"));
    check_path("/a/..", Ok("/"));
    check_path("/a/b/..", Ok("/a/"));
    check_path("/a//../b", Ok("/a/b"));
    check_path("/a/...", Ok("/a/..."));
    check_path("/.well-known/x", Ok("/.well-known/x"));
    check_path("/a/%2e%2E/b", Ok("/b"));
    check_path("/a/.%2e/b", Ok("/b"));
    check_path("/a/..%2fb", Ok("/a/..%2Fb"));
    check_path("/a/..;x/b", Ok("/a/..;x/b"));
    check_path("/a%2f../b", Ok("/a%2F../b"));
    check_path("/a?/../b", Ok("/a?/../b"));
}

#[test]
fn nothing_is_decoded_twice() {
    check_path("/%252e%252e/a", Ok("/%252e%252e/a"));
    check_path("/%25%32%65", Ok("/%252e"));
    check_path("/%2561", Ok("/%2561"));
}

#[test]
fn refused_paths() {
    use TargetError as E;
    check_path("/%00", Err(E::BadEscape));
    check_path("/a%", Err(E::BadEscape));
    check_path("/a%2", Err(E::BadEscape));
    check_path("/a%2g", Err(E::BadEscape));
    check_path("/%4%31", Err(E::BadEscape));
    check_path("/%+1", Err(E::BadEscape));
    check_path("/a#b", Err(E::Fragment));
    check_path("/a?b#c", Err(E::Fragment));
    check_path("/a b", Err(E::ControlByte));
    check_path("/a\tb", Err(E::ControlByte));
    check_path("/a\x7f", Err(E::ControlByte));
    check_path("/a?b c", Err(E::ControlByte));
    check_path("/a?b\r\nc", Err(E::ControlByte));
    check_path("/a?\0", Err(E::ControlByte));
    check_path("a", Err(E::BadTarget));
    check_path("", Err(E::BadTarget));
    check_path("\\a", Err(E::BadTarget));
    check_path("*", Err(E::BadTarget));
    check_path("a:80", Err(E::BadTarget));
    check_path("ftp://a/", Err(E::BadTarget));
    check_path("http:/a", Err(E::BadTarget));
}

#[test]
fn queries_are_opaque() {
    check_path("/a?", Ok("/a?"));
    check_path("/a?b=%zz&%2f=\\/../", Ok("/a?b=%zz&%2f=\\/../"));
    check_path("/%61?%61?", Ok("/a?%61?"));
    check_path("/a?é", Ok("/a?é"));
}

#[test]
fn rules() {
    let merge = Rules { merge_slashes: true, ..Rules::default() };
    check_ruled("/a//b///", merge, Ok("/a/b/"));
    check_ruled("//", merge, Ok("/"));
    check_ruled("/a//../b", merge, Ok("/a/b"));
    check_ruled("/a\\/b?c//d", merge, Ok("/a/b?c//d"));
    let reject = Rules { reject_escaped_slashes: true, ..Rules::default() };
    check_ruled("/a%2fb", reject, Err(TargetError::EscapedSlash));
    check_ruled("/a%5Cb", reject, Err(TargetError::EscapedSlash));
    check_ruled("/a%252f?%2f", reject, Ok("/a%252f?%2f"));
}

#[track_caller]
fn check_host(host: &str, expected: Result<&str, TargetError>) {
    check_host_ruled(host, None, expected);
}

#[track_caller]
fn check_host_ruled(host: &str, strip_port: Option<u16>, expected: Result<&str, TargetError>) {
    let sample = Sample::get("/").with("Host", host.as_bytes());
    let rules = Rules { strip_port, ..Rules::default() };
    let authority = normal(&sample, rules).map(|(authority, ..)| authority);
    assert_eq!(authority.as_deref().map_err(|e| *e), expected);
}

#[test]
fn hosts() {
    check_host("example.com", Ok("example.com"));
    check_host("Example.COM", Ok("example.com"));
    check_host("example.com.", Ok("example.com"));
    check_host("EXAMPLE.com.:8080", Ok("example.com:8080"));
    check_host("a_b:0", Ok("a_b:0"));
    check_host("a:65535", Ok("a:65535"));
    check_host("a:", Ok("a"));
    check_host("127.0.0.1:80", Ok("127.0.0.1:80"));
    check_host("[::1]", Ok("[::1]"));
    check_host("[FE80::1]:8080", Ok("[fe80::1]:8080"));
}

#[test]
fn refused_hosts() {
    for host in [
        "",
        ".",
        "a..",
        ":80",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:+1",
        "a:080",
        "a:b",
        "a:1:2",
        "user@a",
        "a/b",
        "a?b",
        "a#b",
        "a b",
        "a\\b",
        "a%41",
        "é",
        "::1",
        "[::1",
        "[::1]x",
        "[::g]",
        "[a]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "a\0",
        "a\"",
    ] {
        check_host(host, Err(TargetError::BadHost));
    }
}

#[test]
fn strip_port() {
    check_host_ruled("a:8080", Some(8080), Ok("a"));
    check_host_ruled("A:8080", Some(8080), Ok("a"));
    check_host_ruled("[::1]:8080", Some(8080), Ok("[::1]"));
    check_host_ruled("a:80", Some(8080), Ok("a:80"));
    check_host_ruled("a", Some(8080), Ok("a"));
}

#[track_caller]
fn check_target(sample: Sample, expected: Result<(&str, &str), TargetError>) {
    let found = normal(&sample, Rules::default()).map(|(authority, path, _)| (authority, path));
    let found = found.as_ref().map(|(a, p)| (a.as_str(), p.as_str())).map_err(|e| *e);
    assert_eq!(found, expected);
}

#[test]
fn one_host_line() {
    check_target(Sample::get("/"), Err(TargetError::MissingHost));
    check_target(Sample::get("/").http10(), Ok(("", "/")));
    check_target(
        Sample::get("/").with("host", b"a").with("Host", b"a"),
        Err(TargetError::RepeatedHost),
    );
    check_target(
        Sample::get("/").http10().with("host", b"a").with("Host", b"a"),
        Err(TargetError::RepeatedHost),
    );
}

#[test]
fn absolute_form() {
    let get = |target: &str| Sample::get(target).with("host", b"a.com");
    check_target(get("http://A.com/b"), Ok(("a.com", "/b")));
    check_target(get("HTTPS://a.com:443/b/../c"), Ok(("a.com:443", "/c")));
    check_target(get("http://a.com"), Ok(("a.com", "/")));
    check_target(get("http://a.com?q"), Ok(("a.com", "/")));
    check_target(get("http://a.com\\b"), Ok(("a.com", "/b")));
    check_target(get("http://a.com#f"), Err(TargetError::Fragment));
    check_target(get("http://"), Err(TargetError::BadHost));
    check_target(get("http:///a"), Err(TargetError::BadHost));
    check_target(get("http://u:p@a.com/"), Err(TargetError::BadHost));
    check_target(get("http://b.com/"), Err(TargetError::BadHost));
    let port = Sample::get("http://a.com:81/").with("host", b"a.com:82");
    check_target(port, Err(TargetError::BadHost));
    check_target(Sample::get("http://a.com/"), Err(TargetError::MissingHost));
    check_target(Sample::get("http://a/").with("host", b"@"), Err(TargetError::BadHost));
    check_target(Sample::get("http://a/").http10(), Ok(("a", "/")));
}

#[test]
fn methods() {
    let with =
        |method: &str, target: &str| Sample::new(method, target.as_bytes()).with("host", b"other");
    check_target(with("OPTIONS", "*"), Ok(("other", "*")));
    check_target(with("OPTIONS", "http://other"), Ok(("other", "*")));
    check_target(with("OPTIONS", "http://other/"), Ok(("other", "/")));
    check_target(with("OPTIONS", "*?q"), Err(TargetError::BadTarget));
    check_target(with("GET", "*"), Err(TargetError::BadTarget));
    let connect = |target: &str| Sample::new("CONNECT", target.as_bytes()).with("host", b"a:443");
    check_target(connect("A:443"), Ok(("a:443", "/")));
    check_target(connect("[::1]:443"), Err(TargetError::BadHost));
    check_target(with("CONNECT", "a:443"), Err(TargetError::BadHost));
    for target in ["/", "a", "a:", "a:443/", "http://a:443/", "u@a:443", "*", "a:70000"] {
        check_target(connect(target), Err(TargetError::BadTarget));
    }
}

#[test]
fn normal_targets_are_not_copied() {
    let sample = Sample::get("/a/b.html?c=d").with("host", b"example.com:8080");
    let mut scratch = Vec::new();
    let found = target(sample.view(), &Rules::default(), &mut scratch).unwrap();
    assert!(!found.absolute);
    assert_eq!(found.path_and_query, b"/a/b.html?c=d");
    assert_eq!(scratch.capacity(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn normal_forms_are_stable_and_clean(
        path in "[/.\\\\%a2EeFf5cC0;?]{0,24}",
        merge_slashes: bool,
    ) {
        let rules = Rules { merge_slashes, ..Rules::default() };
        let sample = Sample::get(&format!("/{path}")).with("host", b"a");
        let mut scratch = Vec::new();
        let Ok(first) = target(sample.view(), &rules, &mut scratch) else { return Ok(()) };
        let again = Sample::new("GET", first.path_and_query).with("host", first.authority);
        let mut scratch = Vec::new();
        let second = target(again.view(), &rules, &mut scratch).unwrap();
        prop_assert_eq!(first, second);
        for segment in first.path.split(|&b| b == b'/') {
            prop_assert!(segment != b"." && segment != b"..");
        }
    }

    #[test]
    fn whatever_comes_nothing_unclean_passes(
        method in "GET|OPTIONS",
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
        host in proptest::collection::vec(any::<u8>(), 0..12),
        lead in "|/|http://a/",
    ) {
        let sample = Sample::new(&method, &[lead.as_bytes(), &bytes].concat()).with("host", &host);
        let mut scratch = Vec::new();
        if let Ok(found) = target(sample.view(), &Rules::default(), &mut scratch) {
            prop_assert!(found.path == b"*" || found.path.starts_with(b"/"));
            prop_assert!(found.path.iter().all(u8::is_ascii_graphic));
            prop_assert!(found.authority.iter().all(u8::is_ascii_graphic));
            prop_assert!(!found.path_and_query.iter().any(|b| *b <= b' ' || *b == 0x7f));
        }
    }

    #[test]
    fn hosts_have_one_spelling(host in "[a-cA-C.:0-9\\[\\]-]{1,10}") {
        let sample = Sample::get("/").with("host", host.as_bytes());
        if let Ok((authority, ..)) = normal(&sample, Rules::default()) {
            let again = Sample::get("/").with("host", authority.as_bytes());
            prop_assert_eq!(normal(&again, Rules::default()).unwrap().0, authority);
        }
    }
}
