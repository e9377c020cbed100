// SPDX-License-Identifier: Apache-2.0
//! What single parts cost, measured by Criterion: `make criterion`, or
//! `cargo bench -p ringway-bench --bench criterion -- FILTER`.
//!
//! With `CRITERION_TABLE=FILE` the medians of all measurements that are at hand are written there
//! as a Markdown table.
#![allow(clippy::unwrap_used, reason = "what is measured here is made here")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use criterion::Criterion;
use serde::Deserialize;

mod balance;
#[path = "../src/browser.rs"]
mod browser;
mod build;
mod head;
mod observe;
mod route;
mod sample;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    head::bench(&mut criterion);
    route::bench(&mut criterion);
    build::bench(&mut criterion);
    balance::bench(&mut criterion);
    observe::bench(&mut criterion);
    criterion.final_summary();
    if let Some(path) = std::env::var_os("CRITERION_TABLE") {
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/criterion");
        std::fs::write(path, table(&results)).unwrap();
    }
}

#[derive(Deserialize)]
struct Id {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// The newest median of each measurement, by group.
fn table(results: &Path) -> String {
    let mut rows: BTreeMap<(String, Vec<Run>), String> = BTreeMap::new();
    collect(results, &mut rows);
    let mut out =
        String::from("| group | measured | median | 95 % interval |\n|---|---|--:|--:|\n");
    for ((group, _), row) in rows {
        writeln!(out, "| {group} {row}").unwrap();
    }
    out
}

fn collect(folder: &Path, rows: &mut BTreeMap<(String, Vec<Run>), String>) {
    let read = |name: &str| std::fs::read(folder.join("new").join(name)).ok();
    if let (Some(id), Some(estimates)) = (read("benchmark.json"), read("estimates.json")) {
        let id: Id = serde_json::from_slice(&id).unwrap();
        let Estimates { median } = serde_json::from_slice(&estimates).unwrap();
        let name: Vec<String> = id.function_id.into_iter().chain(id.value_str).collect();
        let name = name.join(", ");
        let interval = &median.confidence_interval;
        let row = format!(
            "| {name} | {} | {} – {} |",
            time(median.point_estimate),
            time(interval.lower_bound),
            time(interval.upper_bound)
        );
        rows.insert((id.group_id, runs(&name)), row);
        return;
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        collect(&entry.path(), rows);
    }
}

/// A run of digits or of others, so that 1,000 stands before 10,000.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Run {
    Number(u64),
    Text(String),
}

fn runs(name: &str) -> Vec<Run> {
    let name = name.replace(',', "");
    let chunks = name.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let texts = chunks.map(|chunk| String::from_utf8_lossy(chunk).into_owned());
    texts.map(|text| text.parse().map_or(Run::Text(text), Run::Number)).collect()
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}
