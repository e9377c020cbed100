// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[track_caller]
fn check_duration(text: &str, ms: Option<u64>) {
    assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
}

#[test]
fn durations_have_units() {
    check_duration("500ms", Some(500));
    check_duration("10s", Some(10_000));
    check_duration("5m", Some(300_000));
    check_duration("1h", Some(3_600_000));
    check_duration("7", Some(7_000));
    check_duration("0s", Some(0));
    check_duration("ten", None);
    check_duration("10d", None);
    check_duration("-1s", None);
    check_duration("99999999999999999999h", None);
    check_duration("9999999999999999999s", None);
}

#[test]
fn sizes_have_suffixes() {
    for (text, n) in [
        ("1000000", Some(1_000_000)),
        ("5k", Some(5_000)),
        ("512Mi", Some(512 << 20)),
        ("2G", Some(2_000_000_000)),
        ("1Gi", Some(1 << 30)),
        ("off", Some(0)),
        ("0", None),
        ("much", None),
        ("-1", None),
        ("1.5Gi", None),
        ("1Ti", None),
        ("99999999999Gi", None),
    ] {
        assert_eq!(bytes(text).ok(), n, "{text}");
    }
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let get =
        |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    Environment::read(get)
}

#[test]
fn an_empty_environment_is_emissarys_defaults() {
    let read = environment(&[("AMBASSADOR_ID", "")]);
    assert_eq!(read.settings, Settings::default());
    assert_eq!(read.admin.to_string(), "127.0.0.1:8877");
    assert_eq!(read.drain_time, Duration::from_secs(600));
    assert_eq!(read.workers, None);
    assert_eq!(read.log, (Style::Text, Level::Info));
    assert!(read.remarks.is_empty());
}

#[test]
fn emissarys_variables_are_read() {
    let read = environment(&[
        ("AMBASSADOR_ID", "blue"),
        ("AMBASSADOR_NAMESPACE", "edge"),
        ("AMBASSADOR_SINGLE_NAMESPACE", "YES"),
        ("AMBASSADOR_ENVOY_BIND_ADDRESS", "::1"),
        ("AMBASSADOR_HEALTHCHECK_BIND_ADDRESS", "0.0.0.0"),
        ("AMBASSADOR_HEALTHCHECK_BIND_PORT", "9000"),
        ("AMBASSADOR_DRAIN_TIME", "30"),
        ("AMBASSADOR_JSON_LOGGING", "1"),
        ("AES_LOG_LEVEL", "warning"),
        ("ENVOY_CONCURRENCY", "3"),
        ("DISABLE_STRICT_LABEL_SELECTORS", "true"),
    ]);
    assert_eq!(&*read.settings.ambassador_id, "blue");
    assert_eq!(&*read.settings.namespace, "edge");
    assert!(read.settings.single_namespace);
    assert!(!read.settings.strict_selectors);
    assert_eq!(read.settings.bind_address.to_string(), "::1");
    assert_eq!(read.admin.to_string(), "0.0.0.0:9000");
    assert_eq!(read.drain_time, Duration::from_secs(30));
    assert_eq!(read.workers, Some(3));
    assert_eq!(read.log, (Style::Json, Level::Warn));
    assert!(read.remarks.is_empty(), "{:?}", read.remarks);
}

#[test]
fn what_cannot_be_read_or_has_no_effect_is_said() {
    let read = environment(&[
        ("AMBASSADOR_DRAIN_TIME", "soon"),
        ("AES_LOG_LEVEL", "loud"),
        ("SCOUT_DISABLE", "1"),
        ("AMBASSADOR_SINGLE_NAMESPACE", "false"),
    ]);
    assert!(!read.settings.single_namespace);
    assert_eq!(
        read.remarks,
        [
            "SCOUT_DISABLE has no effect: nothing here needs it",
            "AMBASSADOR_DRAIN_TIME=soon cannot be read: using 600",
            "AES_LOG_LEVEL=loud is not a log level: using info",
        ]
    );
}

#[test]
fn flags_read_as_documented() {
    let args = Args::parse_from([
        "ringway",
        "run",
        "-f",
        "dir",
        "--no-pin",
        "--helpful-404",
        "--access-log=json",
        "--io-backend=io_uring",
        "--drain-time",
        "90s",
        "--default-listeners=false",
    ]);
    let Verb::Run(run) = args.verb else { panic!("not run") };
    assert!(run.process.no_pin);
    assert!(run.helpful_404);
    assert!(!run.meaning.default_listeners);
    assert_eq!(run.process.access_log, Some(AccessLog::Json));
    assert_eq!(run.process.io_backend, IoBackend::IoUring);
    assert_eq!(run.process.drain_time, Some(Duration::from_secs(90)));
}
