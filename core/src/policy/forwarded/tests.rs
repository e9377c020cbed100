// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::policy::sample::{Sample, address};

const PEER: &str = "198.51.100.7:1234";

struct Case {
    lines: &'static [&'static str],
    proto: &'static [&'static str],
    peer: &'static str,
    tls: bool,
    use_remote_address: bool,
    l7_depth: u32,
}

const EDGE: Case =
    Case { lines: &[], proto: &[], peer: PEER, tls: false, use_remote_address: true, l7_depth: 0 };

impl Case {
    fn sample(&self) -> Sample {
        let sample = self
            .lines
            .iter()
            .fold(Sample::get("/"), |sample, line| sample.with("X-Forwarded-For", line.as_bytes()));
        self.proto
            .iter()
            .fold(sample, |sample, line| sample.with("x-forwarded-proto", line.as_bytes()))
    }

    fn judge(&self) -> Forwarded {
        let sample = self.sample();
        let peer = address(self.peer);
        forwarded(sample.view(), peer, self.tls, self.use_remote_address, self.l7_depth)
    }
}

#[track_caller]
fn check_client(case: Case, expected: &str) {
    assert_eq!(case.judge().client.to_string(), expected);
}

#[test]
fn clients_at_the_edge() {
    check_client(EDGE, "198.51.100.7");
    check_client(Case { lines: &["1.2.3.4"], ..EDGE }, "198.51.100.7");
    check_client(Case { peer: "[::ffff:192.0.2.1]:1", ..EDGE }, "192.0.2.1");
}

#[test]
fn clients_behind_trusted_proxies() {
    let one = Case { l7_depth: 1, ..EDGE };
    check_client(Case { lines: &["1.1.1.1, 2.2.2.2"], ..one }, "2.2.2.2");
    check_client(Case { lines: &["1.1.1.1", "2.2.2.2"], ..one }, "2.2.2.2");
    check_client(Case { lines: &["1.1.1.1,2.2.2.2", "3.3.3.3"], l7_depth: 2, ..EDGE }, "2.2.2.2");
    check_client(Case { lines: &["1.1.1.1,2.2.2.2", "3.3.3.3"], l7_depth: 3, ..EDGE }, "1.1.1.1");
    check_client(Case { lines: &["2001:db8::1"], ..one }, "2001:db8::1");
    check_client(Case { lines: &["[2001:db8::1]"], ..one }, "2001:db8::1");
    check_client(Case { lines: &["[2001:db8::1]:443"], ..one }, "2001:db8::1");
    check_client(Case { lines: &["1.1.1.1:5000"], ..one }, "1.1.1.1");
}

#[test]
fn a_list_that_is_too_short_or_malformed_names_the_peer() {
    let one = Case { l7_depth: 1, ..EDGE };
    check_client(Case { ..one }, "198.51.100.7");
    check_client(Case { lines: &["1.1.1.1"], l7_depth: 2, ..EDGE }, "198.51.100.7");
    check_client(Case { lines: &[""], ..one }, "198.51.100.7");
    check_client(Case { lines: &["1.1.1.1,"], ..one }, "198.51.100.7");
    check_client(Case { lines: &["1.1.1.1,unknown"], ..one }, "198.51.100.7");
    check_client(Case { lines: &["1.1.1"], ..one }, "198.51.100.7");
    check_client(Case { lines: &["1.1.1.1 2.2.2.2"], ..one }, "198.51.100.7");
    check_client(Case { lines: &["1.1.1.1"], l7_depth: u32::MAX, ..EDGE }, "198.51.100.7");
}

#[test]
fn clients_without_remote_address() {
    let trusting = Case { use_remote_address: false, ..EDGE };
    check_client(Case { lines: &["1.1.1.1,2.2.2.2"], ..trusting }, "2.2.2.2");
    check_client(Case { lines: &["1.1.1.1,2.2.2.2"], l7_depth: 1, ..trusting }, "1.1.1.1");
    check_client(Case { ..trusting }, "198.51.100.7");
}

#[track_caller]
fn check_secure(case: Case, expected: bool) {
    assert_eq!(case.judge().secure, expected);
}

#[test]
fn secure_requests() {
    let one = Case { l7_depth: 1, ..EDGE };
    check_secure(EDGE, false);
    check_secure(Case { tls: true, ..EDGE }, true);
    check_secure(Case { proto: &["https"], ..EDGE }, false);
    check_secure(Case { proto: &["http"], tls: true, ..EDGE }, true);
    check_secure(Case { proto: &["https"], ..one }, true);
    check_secure(Case { proto: &["HTTPS"], ..one }, true);
    check_secure(Case { proto: &["http"], tls: true, ..one }, false);
    check_secure(Case { proto: &["ftp"], tls: true, ..one }, true);
    check_secure(Case { proto: &["https,http"], ..one }, false);
    check_secure(Case { proto: &["https", "https"], ..one }, false);
    check_secure(Case { proto: &["http", "https"], ..one }, false);
    check_secure(Case { ..one }, false);
    check_secure(Case { proto: &["https"], use_remote_address: false, ..EDGE }, true);
}

#[track_caller]
fn check_origin(case: Case, internal: bool, edge: bool) {
    let found = case.judge();
    assert_eq!((found.internal, found.edge), (internal, edge));
    assert_eq!(found.append_peer, case.use_remote_address);
}

#[test]
fn internal_requests() {
    for peer in
        ["10.0.0.1:1", "172.31.0.1:1", "192.168.1.1:1", "127.0.0.1:1", "[fd00::1]:1", "[::1]:1"]
    {
        check_origin(Case { peer, ..EDGE }, true, false);
        check_origin(Case { peer, lines: &["10.0.0.9"], ..EDGE }, false, true);
    }
    for peer in ["172.32.0.1:1", "8.8.8.8:1", "[fe80::1]:1", "[fc00::1]:1"] {
        check_origin(Case { peer, ..EDGE }, false, true);
    }
    check_origin(Case { lines: &["10.0.0.9"], l7_depth: 1, ..EDGE }, false, true);
    let trusting = Case { use_remote_address: false, ..EDGE };
    check_origin(Case { lines: &["10.0.0.9"], ..trusting }, true, false);
    check_origin(Case { lines: &["10.0.0.9,10.0.0.8"], ..trusting }, false, false);
    check_origin(Case { lines: &["8.8.8.8"], ..trusting }, false, false);
    check_origin(Case { lines: &["x"], peer: "10.0.0.1:1", ..trusting }, false, false);
}

#[track_caller]
fn check_list(case: Case, expected: &str) {
    let sample = case.sample();
    let mut out = b">".to_vec();
    write_forwarded_for(sample.view(), address(case.peer), &case.judge(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!(">{expected}"));
}

#[test]
fn the_list_that_goes_upstream() {
    check_list(EDGE, "198.51.100.7");
    check_list(Case { lines: &["1.1.1.1"], ..EDGE }, "1.1.1.1,198.51.100.7");
    check_list(Case { lines: &["a, b", "", "c"], ..EDGE }, "a, b,c,198.51.100.7");
    check_list(Case { peer: "[2001:db8::1]:1", ..EDGE }, "2001:db8::1");
    check_list(Case { lines: &["1.1.1.1"], use_remote_address: false, ..EDGE }, "1.1.1.1");
    check_list(Case { use_remote_address: false, ..EDGE }, "");
}

#[track_caller]
fn check_id(random: u128, expected: &str) {
    assert_eq!(request_id(random), *expected.as_bytes());
}

#[test]
fn request_ids() {
    check_id(0, "00000000-0000-4000-8000-000000000000");
    check_id(u128::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    check_id(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, "01234567-89ab-4def-8123-456789abcdef");
}

proptest! {
    #[test]
    fn a_client_only_adds_to_the_left(lines in proptest::collection::vec("[0-9a-f.:, ]{0,20}", 0..4)) {
        // One trusted proxy appends the address that it saw: no claim before it matters.
        let sample = lines
            .iter()
            .fold(Sample::get("/"), |s, line| s.with("x-forwarded-for", line.as_bytes()))
            .with("x-forwarded-for", b"9.9.9.9");
        let found = forwarded(sample.view(), address(PEER), false, true, 1);
        prop_assert_eq!(found.client.to_string(), "9.9.9.9");
        let edge = forwarded(sample.view(), address(PEER), false, true, 0);
        prop_assert_eq!(edge.client.to_string(), "198.51.100.7");
    }
}
