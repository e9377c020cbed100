// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

fn throughput(answers: u64, errors: u64) -> Sample {
    let first_error = (errors > 0).then(|| "answered 502".to_owned());
    Sample::Throughput(Throughput {
        answers,
        errors,
        first_error,
        window_s: 1.0,
        cpu_s: 0.5,
        waited_s: 0.1,
        bodies_compared: 1,
    })
}

fn row(peer: &str, samples: &[Sample]) -> Row {
    Row { peer: peer.to_owned(), samples: samples.to_vec(), ..Row::default() }
}

fn report(measure: Measure, target: Option<Target>, rows: Vec<Row>) -> Report {
    Report {
        scenario: "tiny".to_owned(),
        title: "t".to_owned(),
        measure,
        target,
        machine: "m".to_owned(),
        commit: None,
        command: "c".to_owned(),
        rounds: 3,
        seconds: 1.0,
        connections: 64,
        rows,
    }
}

fn line<'a>(text: &'a str, peer: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(&format!("| {peer} "))).unwrap()
}

#[test]
fn figures_are_per_processor_second_and_ratios_to_the_same_run() {
    let rows = vec![
        row("ringway", &[throughput(3_000, 0), throughput(1_000, 0), throughput(2_000, 0)]),
        row("nginx", &[throughput(500, 0)]),
        row("nginx-debian", &[throughput(1_000, 0)]),
        row("relay", &[throughput(50_000, 0)]),
        row("direct", &[throughput(80_000, 0)]),
    ];
    let mut report = report(Measure::Throughput, Some(Target::Best(1.35)), rows);
    let text = report.markdown();
    assert!(line(&text, "ringway").starts_with(
        "| ringway | 4,000 | 250.00 | 2.00 | 2.00 | 2,000–6,000 | 2,000 | 60 % | 10 %"
    ));
    assert!(line(&text, "direct").starts_with("| direct | – | – | – | – | – | 80,000 | – |"));
    assert!(text.ends_with("\nTarget ≥ 1.35 × best: met (2.00 ×).\n"), "{text}");
    assert_eq!(report.times_best(report.row("nginx").unwrap()), Some(0.25));
    report.target = Some(Target::Best(2.1));
    assert!(!report.verdict().unwrap().met);
}

#[test]
fn a_sample_with_errors_leaves_no_figure() {
    let rows = vec![row("nginx", &[throughput(9, 0), throughput(9, 2)]), row("envoy", &[])];
    let text = report(Measure::Throughput, None, rows).markdown();
    assert!(text.contains("| nginx | failed: 2 errors: answered 502 |"), "{text}");
    assert!(text.contains("| envoy | failed: no samples |"), "{text}");
}

#[test]
fn ten_thousand_routes_are_compared_with_one() {
    let rows = vec![
        row("ringway", &[throughput(940, 0)]),
        row(ONE_ROUTE, &[throughput(1_000, 0)]),
        row("nginx", &[throughput(10, 0)]),
    ];
    let report = report(Measure::Throughput, Some(Target::OneRoute(0.95)), rows);
    assert_eq!(report.verdict().unwrap().found, "0.94 ×");
    assert!(!report.verdict().unwrap().met);
    // Ringway with one route is no other proxy.
    assert_eq!(report.times_best(report.row("ringway").unwrap()), Some(94.0));
}

#[test]
fn less_memory_is_better() {
    let memory = |connections, before_bytes, after_bytes| {
        Sample::Memory(Memory { connections, before_bytes, after_bytes })
    };
    let rows = vec![
        row("ringway", &[memory(1_000, 5_000_000, 5_900_000)]),
        row("nginx", &[memory(1_000, 9_000_000, 10_800_000)]),
    ];
    let idle = report(Measure::Idle, Some(Target::Bytes(1_000.0)), rows);
    assert!(line(&idle.markdown(), "ringway").starts_with("| ringway | 900 | 2.00 |"));
    assert!(idle.verdict().unwrap().met);
    let rows = vec![row("ringway", &[memory(0, 0, 13 << 20)])];
    let rest = report(Measure::Resident, Some(Target::Bytes(12.0 * MIB)), rows);
    let verdict = rest.verdict().unwrap();
    assert_eq!((verdict.target.as_str(), verdict.found.as_str()), ("≤ 12 MiB", "13.0 MiB"));
    assert!(!verdict.met);
}

#[test]
fn latency_is_what_is_added_in_the_same_round() {
    let latency = |p50, p99| {
        let latency = Percentiles { count: 10, p50, p99, ..Percentiles::default() };
        Sample::Latency(Latency { latency, window_s: 1.0, ..Latency::default() })
    };
    let rows = vec![
        row(DIRECT, &[latency(30.0, 60.0), latency(40.0, 900.0), latency(30.0, 70.0)]),
        row("ringway", &[latency(60.0, 160.0), latency(75.0, 1_000.0), latency(60.0, 500.0)]),
        row("nginx", &[latency(90.0, 300.0), latency(90.0, 1_100.0), latency(95.0, 600.0)]),
    ];
    let mut report = report(Measure::Latency { per_second: 10 }, Some(Target::LeastLatency), rows);
    let text = report.markdown();
    assert!(line(&text, "ringway").starts_with("| ringway | +30 | +100 |"), "{text}");
    assert!(line(&text, "nginx").starts_with("| nginx | +60 | +240 |"), "{text}");
    assert!(report.verdict().unwrap().met);
    report.rows.swap(1, 2);
    report.rows[1].peer = "ringway".to_owned();
    report.rows[2].peer = "nginx".to_owned();
    assert!(!report.verdict().unwrap().met);
}

#[test]
fn a_change_is_judged_by_its_slowest_its_losses_and_the_requests_in_flight() {
    let change = |all_ms: f64, failed, during: f64| {
        let tail = |max| Percentiles { count: 1, max, ..Percentiles::default() };
        Sample::Change(Change {
            changes: vec![Changed { first_ms: 1.0, all_ms }; 10],
            failed,
            during: tail(during),
            outside: tail(1_000.0),
            ..Change::default()
        })
    };
    let judge = |all_ms, failed, during| {
        let rows = vec![row("ringway", &[change(all_ms, failed, during)])];
        let target = Target::Change { ms: 5.0, slower_ms: 2.0 };
        report(Measure::Change, Some(target), rows).verdict().unwrap()
    };
    assert_eq!(judge(4.0, 0, 2_500.0).found, "p99 4.0 ms, 0 failed, +1.5 ms");
    assert!(judge(4.0, 0, 2_500.0).met);
    assert!(!judge(6.0, 0, 2_500.0).met);
    assert!(!judge(4.0, 1, 2_500.0).met);
    assert!(!judge(4.0, 0, 3_500.0).met);
}

#[test]
fn a_report_read_back_says_the_same() {
    let memory = Memory { connections: 10, before_bytes: 100, after_bytes: 300 };
    for (measure, sample) in [
        (Measure::Throughput, throughput(9, 0)),
        (Measure::Idle, Sample::Memory(memory)),
        (Measure::Latency { per_second: 5 }, Sample::Latency(Latency::default())),
        (Measure::Change, Sample::Change(Change::default())),
    ] {
        let report = report(measure, Some(Target::Best(1.0)), vec![row("ringway", &[sample])]);
        let json = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(back.rows[0].samples, report.rows[0].samples);
        assert_eq!(back.markdown(), report.markdown());
    }
}
