// SPDX-License-Identifier: Apache-2.0
use super::parse;

#[track_caller]
fn check(text: &str, millis: Option<u128>) {
    assert_eq!(parse(text).map(|d| d.as_millis()), millis, "{text:?}");
}

#[test]
fn go_durations() {
    check("0", Some(0));
    check("300ms", Some(300));
    check("1.5h", Some(5_400_000));
    check("2h45m", Some(9_900_000));
    check("0.5s", Some(500));
    check("+1s", Some(1000));
    check("", None);
    check("+", None);
    check("1", None);
    check("s", None);
    check("-1s", None);
    check("1d", None);
    check("1.2.3s", None);
    check("1s ", None);
}
