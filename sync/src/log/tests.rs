// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

#[track_caller]
fn check_timestamp(ms: u64, expected: &str) {
    assert_eq!(Timestamp(UNIX_EPOCH + Duration::from_millis(ms)).to_string(), expected);
}

#[test]
fn timestamps_are_civil_dates() {
    check_timestamp(0, "1970-01-01T00:00:00.000Z");
    check_timestamp(951_782_400_000, "2000-02-29T00:00:00.000Z");
    check_timestamp(951_868_800_000, "2000-03-01T00:00:00.000Z");
    check_timestamp(1_798_761_599_999, "2026-12-31T23:59:59.999Z");
}

#[test]
fn identical_lines_collapse_with_a_count() {
    let log = Log { style: Style::Text, terminal: false, seen: Mutex::default() };
    let start = Instant::now();
    assert_eq!(log.admit(Level::Warn, "a", start), Some(0));
    assert_eq!(log.admit(Level::Warn, "a", start), None);
    assert_eq!(log.admit(Level::Warn, "b", start), Some(0));
    assert_eq!(log.admit(Level::Warn, "a", start + Duration::from_secs(9)), None);
    assert_eq!(log.admit(Level::Warn, "a", start + QUIET), Some(2));
    assert_eq!(log.admit(Level::Error, "a", start + QUIET), Some(0));
}

#[test]
fn json_lines_hold_anything() {
    let log = Log { style: Style::Json, terminal: false, seen: Mutex::default() };
    let line = log.render(Level::Error, "two\nlines \"quoted\"", 3, UNIX_EPOCH);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["msg"], "two\nlines \"quoted\"");
    assert_eq!(value["level"], "error");
    assert_eq!(value["repeated"], 3);
    assert_eq!(line.matches('\n').count(), 1);
}
