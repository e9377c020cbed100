// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::policy::format::Flags;
use crate::policy::sample::{Sample, facts};

fn sample() -> Sample {
    Sample::get("/quote/?q=1").with("user-agent", b"curl/8.5 \"x\"\\")
}

#[track_caller]
fn check(log: &AccessLog, facts: &Facts<'_>, expected: &str) {
    let mut out = b"earlier\n".to_vec();
    log.write(facts, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("earlier\n{expected}\n"));
}

fn nothing_found(facts: Facts<'_>) -> Facts<'_> {
    Facts {
        status: 404,
        flags: Flags::NR,
        rewritten_path: None,
        upstream: None,
        upstream_local: None,
        upstream_us: None,
        cluster: "",
        ..facts
    }
}

#[test]
fn text() {
    let log = AccessLog::Text(Format::access_log_text());
    let sample = sample();
    let facts = facts(sample.view());
    check(
        &log,
        &facts,
        "ACCESS [2026-11-24T20:44:00.123Z] \"GET /quote/?q=1 HTTP/1.1\" 200 - 7 1234 12 11 \
         \"203.0.113.9,10.0.0.1\" \"curl/8.5 \"x\"\\\" \"6b8f4e1c-0c4e-4a7b-9d55-5e0a7f3d2c11\" \
         \"example.com\" \"10.1.2.3:80\"",
    );
    check(
        &log,
        &nothing_found(facts),
        "ACCESS [2026-11-24T20:44:00.123Z] \"GET /quote/?q=1 HTTP/1.1\" 404 NR 7 1234 12 - \
         \"203.0.113.9,10.0.0.1\" \"curl/8.5 \"x\"\\\" \"6b8f4e1c-0c4e-4a7b-9d55-5e0a7f3d2c11\" \
         \"example.com\" \"-\"",
    );
}

#[test]
fn json() {
    let sample = sample();
    check(
        &AccessLog::json(),
        &nothing_found(facts(sample.view())),
        r#"{"start_time":"2026-11-24T20:44:00.123Z","method":"GET","path":"/quote/?q=1","protocol":"HTTP/1.1","response_code":"404","response_flags":"NR","bytes_received":"7","bytes_sent":"1234","duration":"12","upstream_service_time":"-","x_forwarded_for":"203.0.113.9,10.0.0.1","user_agent":"curl/8.5 \"x\"\\","request_id":"6b8f4e1c-0c4e-4a7b-9d55-5e0a7f3d2c11","authority":"example.com","upstream_host":"-","upstream_cluster":"-","upstream_local_address":"-","downstream_local_address":"10.0.0.2:8080","downstream_remote_address":"203.0.113.9:0","requested_server_name":"-","istio_policy_status":"-","upstream_transport_failure_reason":"-"}"#,
    );
}

#[test]
fn typed_json() {
    let sample = sample();
    check(
        &AccessLog::typed_json(),
        &facts(sample.view()),
        r#"{"start_time":"2026-11-24T20:44:00.123Z","method":"GET","path":"/quote/?q=1","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","bytes_received":7,"bytes_sent":1234,"duration":12,"upstream_service_time":"11","x_forwarded_for":"203.0.113.9,10.0.0.1","user_agent":"curl/8.5 \"x\"\\","request_id":"6b8f4e1c-0c4e-4a7b-9d55-5e0a7f3d2c11","authority":"example.com","upstream_host":"10.1.2.3:80","upstream_cluster":"cluster_quote_default","upstream_local_address":"10.0.0.2:50001","downstream_local_address":"10.0.0.2:8080","downstream_remote_address":"203.0.113.9:0","requested_server_name":null,"istio_policy_status":null,"upstream_transport_failure_reason":null}"#,
    );
}

#[test]
fn formats_of_the_module() {
    let sample = sample();
    let facts = facts(sample.view());
    let format = |text: &str| Format::parse(text).unwrap();
    check(&AccessLog::Text(format("%PROTOCOL% %%")), &facts, "HTTP/1.1 %");
    let keys = vec![("a\"b".into(), format("%DURATION%ms")), ("c".into(), format("x"))];
    check(&AccessLog::Json(keys.clone()), &facts, r#"{"a\"b":"12ms","c":"x"}"#);
    check(&AccessLog::TypedJson(keys), &facts, r#"{"a\"b":"12ms","c":"x"}"#);
    check(&AccessLog::Json(Vec::new()), &facts, "{}");
}

proptest! {
    #[test]
    fn any_bytes_make_one_line_of_json(value in proptest::collection::vec(any::<u8>(), 0..24)) {
        let sample = Sample::get("/").with("user-agent", &value);
        let facts = facts(sample.view());
        for log in [AccessLog::json(), AccessLog::typed_json()] {
            let mut out = Vec::new();
            log.write(&facts, &mut out);
            prop_assert_eq!(out.iter().filter(|b| **b < b' ').count(), 1);
            let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
            // CR, LF and NUL became spaces before they were escaped.
            let expected: Vec<u8> = value
                .iter()
                .map(|b| if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { *b })
                .collect();
            if value.is_empty() {
                prop_assert!(parsed["user_agent"].is_null() || parsed["user_agent"] == "-");
            } else {
                prop_assert_eq!(
                    parsed["user_agent"].as_str().unwrap(),
                    String::from_utf8_lossy(&expected)
                );
            }
        }
        let mut out = Vec::new();
        AccessLog::Text(Format::access_log_text()).write(&facts, &mut out);
        prop_assert_eq!(out.iter().filter(|b| matches!(b, b'\r' | b'\n' | 0)).count(), 1);
    }
}
