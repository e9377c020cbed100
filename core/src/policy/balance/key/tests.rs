// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, REQUEST_LINE_BYTES_MAX};
use crate::wire::Head;
use crate::wire::h1::parse::{self, Limits, Parsed};

fn affinity(key: &HashKey, lines: &str, peer: &str) -> Affinity {
    let block = format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n");
    let limits = Limits {
        head_bytes_max: HEAD_BYTES_MAX,
        fields_max: HEAD_FIELDS_MAX,
        request_line_bytes_max: REQUEST_LINE_BYTES_MAX,
    };
    let mut head = Head::default();
    let parsed = parse::request(block.as_bytes(), &mut head, &limits, &mut 0);
    assert!(matches!(parsed, Ok(Parsed::Complete)));
    let head = HeadView::new(&head, block.as_bytes());
    let client = "192.0.2.9".parse().unwrap();
    let local = "192.0.2.1:8080".parse().unwrap();
    key.of(&Caller { head, client, peer: peer.parse().unwrap(), local })
}

fn cookie(ttl: Option<u64>) -> HashCookie {
    let ttl = ttl.map(Duration::from_secs);
    HashCookie { name: "stick".into(), path: Some("/app".into()), ttl }
}

#[track_caller]
fn check(key: &HashKey, lines: &str, hashed: Option<&str>) {
    let affinity = affinity(key, lines, "192.0.2.7:5000");
    assert_eq!(affinity.key, hashed.map(|text| hash(text.as_bytes())), "{lines:?}");
    assert_eq!(affinity.give, None, "{lines:?}");
}

#[test]
fn headers() {
    let key = HashKey::Header("x-user".into());
    check(&key, "X-User: ann\r\n", Some("ann"));
    check(&key, "x-user: \r\n", Some(""));
    check(&key, "x-other: ann\r\n", None);
    let both = affinity(&key, "x-user: ann\r\nx-user: bob\r\n", "192.0.2.7:5000");
    assert_eq!(both.key, Some(seeded(b"bob", hash(b"ann"))));
}

#[test]
fn the_client_s_address() {
    check(&HashKey::SourceIp, "", Some("192.0.2.9"));
}

#[test]
fn cookies_that_are_there() {
    for ttl in [None, Some(0), Some(60)] {
        let key = HashKey::Cookie(cookie(ttl));
        check(&key, "cookie: stick=abc\r\n", Some("abc"));
        check(&key, "Cookie: a=b; stick=\"abc\"; c=d\r\n", Some("abc"));
        check(&key, "cookie: a=b\r\ncookie: c=d;stick=abc=;\r\n", Some("abc="));
    }
    // Names are compared as they are.
    check(&HashKey::Cookie(cookie(None)), "cookie: Stick=abc; xstick=abc; stick\r\n", None);
}

#[test]
fn cookies_that_are_given() {
    check(&HashKey::Cookie(cookie(None)), "", None);
    let key = HashKey::Cookie(cookie(Some(60)));
    let first = affinity(&key, "", "192.0.2.7:5000");
    let value = first.give.unwrap();
    assert_eq!(first.key, Some(hash(&value)), "the next request has the same key");
    assert!(value.iter().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    assert_eq!(affinity(&key, "", "192.0.2.7:5000"), first, "one connection, one value");
    assert_ne!(affinity(&key, "", "192.0.2.7:5001").give, first.give);
    assert!(affinity(&key, "cookie: stick=\r\n", "192.0.2.7:5000").give.is_some());
    let carried = format!("cookie: stick=\"{}\"\r\n", std::str::from_utf8(&value).unwrap());
    assert_eq!(affinity(&key, &carried, "198.51.100.1:1"), Affinity { give: None, ..first });
}

#[test]
fn set_cookie_as_envoy_writes_it() {
    let write = |cookie: HashCookie| {
        let mut out = Vec::new();
        cookie.write_value(b"0123456789abcdef", &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        write(cookie(Some(60))),
        "stick=\"0123456789abcdef\"; Max-Age=60; Path=/app; HttpOnly"
    );
    assert_eq!(
        write(HashCookie { path: None, ..cookie(Some(0)) }),
        "stick=\"0123456789abcdef\"; HttpOnly"
    );
}
