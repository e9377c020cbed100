// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

fn sample(answers: u64, errors: u64) -> Sample {
    let first_error = (errors > 0).then(|| "answered 502".to_owned());
    Sample {
        answers,
        errors,
        first_error,
        window_s: 1.0,
        cpu_s: 0.5,
        waited_s: 0.1,
        bodies_compared: 1,
    }
}

fn row(peer: &str, samples: &[Sample]) -> Row {
    Row { peer: peer.to_owned(), samples: samples.to_vec(), ..Row::default() }
}

fn report(rows: Vec<Row>) -> Report {
    Report {
        scenario: "tiny".to_owned(),
        title: "t".to_owned(),
        machine: "m".to_owned(),
        command: "c".to_owned(),
        rounds: 3,
        seconds: 1.0,
        connections: 64,
        rows,
    }
}

#[test]
fn figures_are_per_processor_second_and_ratios_to_the_same_run() {
    let report = report(vec![
        row("ringway", &[sample(3_000, 0), sample(1_000, 0), sample(2_000, 0)]),
        row("nginx", &[sample(500, 0)]),
        row("nginx-debian", &[sample(1_000, 0)]),
        row("relay", &[sample(50_000, 0)]),
    ]);
    let text = report.markdown();
    let line = text.lines().find(|line| line.starts_with("| ringway")).unwrap();
    assert!(line.starts_with(
        "| ringway | 4,000 | 250.00 | 2.00 | 2.00 | 2,000–6,000 | 2,000 | 60 % | 10 %"
    ));
    assert_eq!(report.best_peer("nginx"), Some(4_000.0));
}

#[test]
fn a_sample_with_errors_leaves_no_figure() {
    let report = report(vec![row("nginx", &[sample(9, 0), sample(9, 2)]), row("envoy", &[])]);
    let text = report.markdown();
    assert!(text.contains("| nginx | failed: 2 errors: answered 502 |"), "{text}");
    assert!(text.contains("| envoy | failed: no samples |"), "{text}");
}
