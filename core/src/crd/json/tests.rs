// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;

#[track_caller]
fn check(text: &str, expected: &str) {
    let error = parse(text).unwrap_err();
    let shown = format!("{}:{}: {}", error.span.line + 1, error.span.column + 1, error.message);
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn mistakes_are_named_with_their_place() {
    check("", "1:1: expected a JSON value");
    check("{\"a\": 1", "1:8: expected `,` or `}`");
    check("{\"a\" 1}", "1:6: expected `:`");
    check("{a: 1}", "1:2: expected a key in quotes");
    check("{\"a\": 1,}", "1:9: expected a key in quotes");
    check("[1, 2", "1:6: expected `,` or `]`");
    check("{\"a\":\n  tru}", "2:3: expected a JSON value");
    check("{\"a\": 01}", "1:7: not a JSON number");
    check("{\"a\": -}", "1:7: not a JSON number");
    check("{\"a\": 1.2.3}", "1:7: not a JSON number");
    check("\"é\n\"", "1:3: a control character in a string");
    check("\"abc", "1:5: the string does not end");
    check("\"abc\\", "1:6: an unknown escape");
    check(r#""\x""#, "1:3: an unknown escape");
    check(r#""\é""#, "1:3: an unknown escape");
    check(r#""\u12""#, "1:4: expected four hex digits");
    check(r#""\u+123""#, "1:4: expected four hex digits");
    check(r#""\ud83d""#, "1:8: half of a surrogate pair");
    check(r#""\ud83d\n""#, "1:8: half of a surrogate pair");
    check(r#""\ud83dA""#, "1:8: half of a surrogate pair");
    check(r#""\ude00""#, "1:8: half of a surrogate pair");
    check("{} {}", "1:4: something follows the JSON value");
    check("1 x", "1:3: something follows the JSON value");
}
