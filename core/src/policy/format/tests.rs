// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::policy::sample::{Sample, address, facts};

fn sample() -> Sample {
    Sample::get("/quote/?q=1")
        .with("Host", b"EXAMPLE.com")
        .with("User-Agent", b"curl/8")
        .with("x-request-id", b"from-client")
        .with("x-envoy-internal", b"from-client")
        .with("X-Custom", b"first")
        .with("x-custom", b"second")
        .with("x-evil", b"a\r\nb\0c")
}

/// What a format says of the sample request, in a log.
#[track_caller]
fn check(format: &str, expected: &str) {
    let sample = sample();
    let response = Sample::get("").with("X-Up", b"from-upstream");
    let facts = Facts { response: Some(response.view()), ..facts(sample.view()) };
    let mut out = Vec::new();
    Format::parse(format).unwrap().write(&facts, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn literals() {
    check("", "");
    check("plain", "plain");
    check("100%%", "100%");
    check("%%PROTOCOL%%", "%PROTOCOL%");
    assert_eq!(Format::parse("a%%b").unwrap().literal(), Some(&b"a%b"[..]));
    assert_eq!(Format::parse("").unwrap().literal(), Some(&b""[..]));
    assert_eq!(Format::parse("a%PROTOCOL%").unwrap().literal(), None);
}

#[test]
fn request_fields() {
    check("%REQ(:METHOD)% %REQ(:path)%", "GET /?q=1");
    check("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/quote/?q=1");
    check("%REQ(:AUTHORITY)% %REQ(Host)%", "example.com example.com");
    check("%REQ(:SCHEME)% %REQ(X-FORWARDED-PROTO)%", "https https");
    check("%REQ(USER-AGENT)%", "curl/8");
    check("%REQ(X-CUSTOM)%", "first");
    check("%REQ(X-NONE)%|%REQ(X-NONE?X-CUSTOM)%|%REQ(X-NONE?X-NONE)%", "-|first|-");
    check("%REQ(X-CUSTOM):3%|%REQ(X-CUSTOM):0%|%REQ(X-CUSTOM):99999999999999999999%", "fir||first");
    check("%REQ(X-FORWARDED-FOR)%", "203.0.113.9,10.0.0.1");
    check("%REQ(X-REQUEST-ID)%", "6b8f4e1c-0c4e-4a7b-9d55-5e0a7f3d2c11");
}

#[test]
fn what_a_client_claims_as_ours_is_not_told() {
    check("%REQ(X-ENVOY-INTERNAL)%|%REQ(x-envoy-foo)%", "-|-");
}

#[test]
fn the_path_without_a_rewrite() {
    let sample = sample();
    let facts = Facts { rewritten_path: None, ..facts(sample.view()) };
    let mut out = Vec::new();
    let format = "%REQ(:PATH)%|%REQ(X-ENVOY-ORIGINAL-PATH)%|%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%";
    Format::parse(format).unwrap().write(&facts, &mut out);
    assert_eq!(out, b"/quote/?q=1|-|/quote/?q=1");
}

#[test]
fn values_stay_in_their_line() {
    check("%REQ(X-EVIL)%", "a  b c");
}

#[test]
fn responses() {
    check("%RESP(X-UP)%|%RESP(X-NONE)%", "from-upstream|-");
    check("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%|%RESP(:STATUS)%", "11|200");
    check("%TRAILER(X)%", "-");
    check("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%", "200 via_upstream");
    check("%UPSTREAM_TRANSPORT_FAILURE_REASON%", "-");
}

#[test]
fn numbers() {
    check("%BYTES_RECEIVED% %BYTES_SENT%", "7 1234");
    check("%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "12 1 11 1");
}

#[test]
fn addresses() {
    check("%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS%", "10.1.2.3:80 10.1.2.3:80");
    check("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "10.1.2.3 80");
    check("%UPSTREAM_LOCAL_ADDRESS%", "10.0.0.2:50001");
    check("%DOWNSTREAM_REMOTE_ADDRESS%", "203.0.113.9:0");
    check("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "203.0.113.9");
    check("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.0.0.1:40000");
    check("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.1");
    check("%DOWNSTREAM_LOCAL_ADDRESS%", "10.0.0.2:8080");
    check("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "10.0.0.2 8080");
    let mut out = Vec::new();
    push_address(address("[2001:db8::1]:80"), Show::Both, &mut out);
    push_address(address("[2001:db8::1]:80"), Show::Ip, &mut out);
    assert_eq!(out, b"[2001:db8::1]:802001:db8::1");
}

#[test]
fn names() {
    check("%UPSTREAM_CLUSTER% %ROUTE_NAME%", "cluster_quote_default default/quote");
    check("%PROTOCOL% %UPSTREAM_PROTOCOL%", "HTTP/1.1 HTTP/1.1");
}

#[test]
fn operators_without_a_value_here() {
    for name in [
        "HOSTNAME",
        "DYNAMIC_METADATA(istio.mixer:status)",
        "FILTER_STATE(a:b):3",
        "DOWNSTREAM_PEER_CERT",
        "DOWNSTREAM_TLS_SESSION_ID",
        "CONNECTION_ID",
        "GRPC_STATUS",
    ] {
        check(&format!("%{name}%"), "-");
    }
}

#[test]
fn handshakes() {
    let mut shown = Certificate::default();
    shown.fingerprint = "ab12".into();
    shown.subject = "CN=alice,O=a".into();
    shown.issuer = "CN=clients".into();
    shown.serial = "a102".into();
    shown.uris = vec!["spiffe://a".into(), "spiffe://b".into()];
    let check = |certificate, format: &str, expected: &str| {
        let tls = Tls {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            server_name: "a.com",
            certificate,
        };
        let sample = sample();
        let facts = Facts { tls: Some(tls), ..facts(sample.view()) };
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(&facts, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    };
    let handshake = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %REQUESTED_SERVER_NAME%";
    check(None, handshake, "TLSv1.3 TLS_AES_128_GCM_SHA256 a.com");
    let peer = "%DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_PEER_SERIAL% \
         %DOWNSTREAM_PEER_FINGERPRINT_256% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_DNS_SAN%";
    check(None, peer, "- - - - - -");
    check(Some(&shown), peer, "CN=alice,O=a CN=clients a102 ab12 spiffe://a,spiffe://b -");
}

#[track_caller]
fn check_flags(flags: Flags, short: &str, long: &str) {
    let sample = sample();
    let facts = Facts { flags, ..facts(sample.view()) };
    let mut out = Vec::new();
    Format::parse("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%").unwrap().write(&facts, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{short} {long}"));
}

#[test]
fn flags() {
    check_flags(Flags::NONE, "-", "-");
    check_flags(Flags::NR, "NR", "NoRouteFound");
    check_flags(
        Flags::URX.with(Flags::UF),
        "UF,URX",
        "UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
    );
    for bit in 0..17 {
        let mut out = Vec::new();
        Flags(1 << bit).write(&mut out);
        assert!(!out.is_empty(), "flag {bit} has no name");
    }
}

#[track_caller]
fn check_time(us: u64, format: &str, expected: &str) {
    let sample = sample();
    let facts = Facts { start_us: us, ..facts(sample.view()) };
    let mut out = Vec::new();
    Format::parse(format).unwrap().write(&facts, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn times() {
    const US: u64 = 1_795_553_040_123_456;
    check_time(US, "%START_TIME%", "2026-11-24T20:44:00.123Z");
    check_time(0, "%START_TIME%", "1970-01-01T00:00:00.000Z");
    check_time(951_782_400_999_999, "%START_TIME%", "2000-02-29T00:00:00.999Z");
    check_time(1_704_067_199_000_000, "%START_TIME%", "2023-12-31T23:59:59.000Z");
    check_time(US, "%START_TIME(%s.%3f)%", "1795553040.123");
    check_time(
        US,
        "%START_TIME(%Y/%m/%d %H:%M:%S.%6f %9f %f %%)%",
        "2026/11/24 20:44:00.123456 123456000 123456000 %",
    );
    check_time(US, "%START_TIME(%a, %d %b %Y %T %Z %z)%", "Tue, 24 Nov 2026 20:44:00 UTC +0000");
    check_time(
        US,
        "%START_TIME(%F %R %D %j %y %e %I%p %u %A %B)%",
        "2026-11-24 20:44 11/24/26 328 26 24 08PM 2 Tuesday November",
    );
    check_time(1_709_164_800_000_000, "%START_TIME(%F %j %e)%", "2024-02-29 060 29");
    check_time(1_735_603_200_000_000, "%START_TIME(%F %j)%", "2024-12-31 366");
    check_time(1_740_787_200_000_000, "%START_TIME(%F %j %e %I%p)%", "2025-03-01 060  1 12AM");
}

#[track_caller]
fn check_error(format: &str, expected: FormatError) {
    assert_eq!(Format::parse(format), Err(expected));
}

#[test]
fn refused_formats() {
    let bad = |operator: &str, argument: &str| FormatError::BadArgument {
        operator: operator.into(),
        argument: argument.into(),
    };
    check_error("100%", FormatError::Unbalanced(3));
    check_error("a%%%b", FormatError::Unbalanced(3));
    check_error("%PROTOCOL", FormatError::Unbalanced(0));
    check_error("%protocol%", FormatError::Unbalanced(0));
    check_error("%REQ(X%", FormatError::Unbalanced(0));
    check_error("%REQ(X):%", FormatError::Unbalanced(0));
    check_error("%REQ(X):a%", FormatError::Unbalanced(0));
    check_error("%(X)%", FormatError::Unbalanced(0));
    check_error("%NONSENSE%", FormatError::UnknownOperator("NONSENSE".into()));
    check_error("%REQ%", FormatError::NoArgument("REQ".into()));
    check_error("%RESP()%", FormatError::NoArgument("RESP".into()));
    check_error("%REQ(A?B?C)%", bad("REQ", "A?B?C"));
    check_error("%REQ(?B)%", bad("REQ", "?B"));
    check_error("%REQ(A\nB)%", bad("REQ", "A\nB"));
    check_error("%PROTOCOL(X)%", bad("PROTOCOL", "X"));
    check_error("%START_TIME(%Q)%", bad("START_TIME", "%Q"));
    check_error("%START_TIME(%)%", bad("START_TIME", "%"));
}

#[track_caller]
fn check_typed(format: &str, expected: Type, text: &str) {
    let sample = sample();
    let mut out = Vec::new();
    let found = Format::parse(format).unwrap().write_typed(&facts(sample.view()), &mut out);
    assert_eq!((found, String::from_utf8(out).unwrap().as_str()), (expected, text));
}

#[test]
fn types() {
    check_typed("%DURATION%", Type::Number, "12");
    check_typed("%DURATION%ms", Type::Text, "12ms");
    check_typed("%HOSTNAME%", Type::Missing, "");
    check_typed("%HOSTNAME%.", Type::Text, "-.");
    check_typed("%PROTOCOL%", Type::Text, "HTTP/1.1");
    check_typed("1", Type::Text, "1");
}

#[test]
fn header_values_have_no_dash() {
    let sample = sample();
    let mut out = Vec::new();
    Format::parse("a%HOSTNAME%b").unwrap().write_value(&facts(sample.view()), &mut out);
    assert_eq!(out, b"ab");
}

#[test]
fn formats_are_what_is_written() {
    let text = "a%%%PROTOCOL%";
    let format = Format::parse(text).unwrap();
    assert_eq!(format.as_str(), text);
    assert_eq!(format, Format::parse(text).unwrap());
    assert_eq!(serde_json::to_string(&format).unwrap(), "\"a%%%PROTOCOL%\"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_is_too_much(
        text in "([%():?a-z0-9\u{e9}\n ]|%[A-Z_]{1,8}|%REQ\\(|%START_TIME\\(|\\)%|:[0-9]{1,3}%){0,12}",
    ) {
        let sample = sample();
        if let Ok(format) = Format::parse(&text) {
            let mut out = Vec::new();
            format.write(&facts(sample.view()), &mut out);
            format.write_value(&facts(sample.view()), &mut out);
            format.write_typed(&facts(sample.view()), &mut out);
        }
    }

    #[test]
    fn every_second_has_a_date(us in 0u64..8_000_000_000_000_000) {
        let mut out = Vec::new();
        push_time(us, &mut out);
        let text = String::from_utf8(out).unwrap();
        // Back to seconds by counting days the slow way.
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        let leap = |y: u64| {
            y.is_multiple_of(4) && !y.is_multiple_of(100) || y.is_multiple_of(400)
        };
        let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let days = (1970..year).map(|y| 365 + u64::from(leap(y))).sum::<u64>()
            + lengths[..month as usize - 1].iter().sum::<u64>() + day - 1;
        let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
        prop_assert_eq!(seconds * 1000 + number(20..23), us / 1000);
    }
}

proptest! {
    #[test]
    fn integers_and_addresses_are_written_as_the_library_does(
        digits in 0u32..20,
        bits: u64,
        v4: u32,
        v6: u128,
    ) {
        let integer = bits % 10u64.pow(digits);
        for (value, expected) in [
            (integer, integer.to_string()),
            (10u64.pow(digits), 10u64.pow(digits).to_string()),
            (bits, bits.to_string()),
        ] {
            let mut out = Vec::new();
            push_integer(value, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        for ip in [IpAddr::from(v4.to_be_bytes()), IpAddr::from(v6.to_be_bytes())] {
            let mut out = Vec::new();
            push_ip(ip, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), ip.to_string());
        }
    }
}
