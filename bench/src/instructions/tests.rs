// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn counts_are_read_from_either_tool() {
    let perf = "# started on Wed Nov 25\n\n123456,,instructions:u,1000,100.00,,\n";
    assert_eq!(parse_perf(perf), Some(123_456));
    assert_eq!(parse_perf("<not supported>,,instructions:u,0,100.00,,\n"), None);
    let callgrind = "version: 1\nevents: Ir\nfn=(1) main\n1 5\n\ntotals: 987654\n";
    assert_eq!(parse_callgrind(callgrind), Some(987_654));
    assert_eq!(parse_callgrind("summary: 42\n"), Some(42));
    assert_eq!(parse_callgrind("events: Ir\n"), None);
}

#[test]
fn changes_are_in_percent_of_the_old() {
    assert!((change(200.0, 190.0) + 5.0).abs() < 1e-9);
    assert!((change(200.0, 210.0) - 5.0).abs() < 1e-9);
}
