// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;
use crate::sample::{Latency, Sample, Throughput};
use crate::scenario::{DIRECT, Target};

fn row(peer: &str, sample: Sample) -> Row {
    Row {
        peer: peer.to_owned(),
        version: format!("{peer} 1"),
        samples: vec![sample],
        ..Row::default()
    }
}

fn report(name: &str, measure: Measure, target: Target, rows: Vec<Row>) -> Report {
    Report {
        scenario: name.to_owned(),
        title: format!("the {name} one"),
        measure,
        target: Some(target),
        machine: "a machine".to_owned(),
        commit: Some("abc".to_owned()),
        command: "compare".to_owned(),
        rounds: 1,
        seconds: 1.0,
        connections: 1,
        rows,
    }
}

fn throughput(answers: u64) -> Sample {
    Sample::Throughput(Throughput { answers, cpu_s: 1.0, window_s: 1.0, ..Throughput::default() })
}

fn latency(p50: f64) -> Sample {
    let latency = Percentiles { count: 1, p50, p90: p50, p99: p50, p999: p50, max: p50 };
    Sample::Latency(Latency { latency, window_s: 1.0, ..Latency::default() })
}

#[test]
fn the_page_is_made_from_the_folders_json() {
    let folder = std::env::temp_dir().join(format!("ringway-bench-summary-{}", std::process::id()));
    let rows = vec![row("ringway", throughput(3_000)), row("nginx", throughput(2_000))];
    write_one(&folder, &report("tiny", Measure::Throughput, Target::Best(1.35), rows)).unwrap();
    let rows = vec![
        row(DIRECT, latency(30.0)),
        row("ringway", latency(90.0)),
        row("envoy", latency(80.0)),
    ];
    let measure = Measure::Latency { per_second: 10_000 };
    write_one(&folder, &report("rate-10k", measure, Target::LeastLatency, rows)).unwrap();
    fs::write(folder.join("churn.json"), "{}").unwrap();
    write(&folder).unwrap();
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    let plots: Vec<_> = ["tiny", "rate-10k", "throughput"]
        .map(|name| fs::read_to_string(folder.join(name).with_extension("svg")).unwrap())
        .to_vec();
    fs::remove_dir_all(&folder).unwrap();
    let tiny = page.lines().find(|line| line.starts_with("| [tiny](tiny.md)")).unwrap();
    assert!(tiny.contains("| 3,000 | 2,000 | – | – | – | – | 1.50 |"), "{tiny}");
    assert!(tiny.ends_with("| ≥ 1.35 × best: 1.50 × | met |"), "{tiny}");
    let rate = page.lines().find(|line| line.starts_with("| [rate-10k]")).unwrap();
    assert!(rate.ends_with("p50 +60 µs, p99 +60 µs | **missed** |"), "{rate}");
    assert!(page.contains("Targets met: 1 of 2"), "{page}");
    assert!(page.contains("![the rate-10k one](rate-10k.svg)"), "{page}");
    assert!(!page.contains("churn"), "{page}");
    assert!(plots.iter().all(|plot| plot.contains(">ringway<")));
}
