// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::hint::black_box;

use super::*;

#[test]
fn schedstat_is_running_then_waiting() {
    let used = parse_schedstat("1500000000 20 7\n").unwrap();
    assert_eq!(used.running, Duration::from_millis(1500));
    assert_eq!(used.waiting, Duration::from_nanos(20));
    assert_eq!(parse_schedstat(""), None);
    assert_eq!(parse_schedstat("x y z"), None);
}

#[test]
fn a_command_name_with_parentheses_does_not_hide_the_parent() {
    assert_eq!(parse_parent("12 (a) b) (c) S 7 12 12"), Some(7));
    assert_eq!(parse_parent("12"), None);
}

#[test]
fn a_busy_thread_is_seen_in_its_process() {
    let me = [std::process::id()];
    let before = used(&me).unwrap();
    while used(&me).unwrap().since(before).running < Duration::from_millis(5) {
        black_box((0..10_000).fold(0_u64, |sum, i| sum ^ i));
    }
    assert!(resident_bytes(&me) > 100_000);
}

#[test]
fn children_belong_to_the_family_and_stay_on_their_core() {
    let core = *cores().unwrap().last().unwrap();
    let mut command = Command::new("sleep");
    command.arg("60");
    pin_child(&mut command, core);
    let mut child = command.spawn().unwrap();
    let family = family(std::process::id()).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(family.contains(&child.id()));
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    assert_eq!(allowed.unwrap().trim(), core.to_string());
}

#[test]
fn a_cores_idle_ticks_are_those_of_its_own_line() {
    let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 1 5 80 2 1 1 0 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
    assert_eq!(parse_idle(stat, 0), Some((82, 100)));
    assert_eq!(parse_idle(stat, 10), Some((2, 8)));
    assert_eq!(parse_idle(stat, 1), None);
}

#[test]
fn kibibytes_are_read_by_the_fields_name() {
    assert_eq!(parse_kib("Rss:  12 kB\nPss:     34 kB\n", "Pss:"), Some(34));
    assert_eq!(parse_kib("Rss:  12 kB\n", "Pss:"), None);
}
