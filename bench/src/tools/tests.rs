// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

/// What wrk2 prints with `--latency`.
const SAID: &str = "Running 13s test @ http://127.0.0.1:80/13
  1 threads and 64 connections
  Thread calibration: mean lat.: 0.845ms, rate sampling interval: 10ms
  Latency Distribution (HdrHistogram - Recorded Latency)
 50.000%  812.00us
 75.000%    1.10ms
 90.000%    1.38ms
 99.000%    2.04ms
 99.900%    3.29ms
 99.990%    7.35ms
 99.999%    8.12ms
100.000%    1.02s

  130011 requests in 13.00s, 22.32MB read
Requests/sec:  10000.84
";

#[test]
fn wrk2s_latencies_are_read_in_their_units() {
    let requests = wrk_requests(SAID).unwrap();
    assert_eq!(requests, 130_011);
    let found = wrk2_latency(SAID, requests).unwrap();
    assert_eq!((found.p50, found.p90, found.p99), (812.0, 1_380.0, 2_040.0));
    assert_eq!((found.p999, found.max, found.count), (3_290.0, 1_020_000.0, 130_011));
    assert!(wrk2_latency("wrk: unknown option --latency", 1).is_none());
}
