// SPDX-License-Identifier: Apache-2.0
//! All scenarios of a folder in one page: a table made from their JSON, plots beside it. What is not in
//! the folder is not on the page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::plot::{self, Bar, Line};
use crate::report::{Report, Row};
use crate::sample::{Latency, Percentiles};
use crate::scenario::{self, Measure};
use crate::stats::median;

const COLUMNS: [&str; 6] = ["ringway", "nginx", "nginx-debian", "haproxy", "envoy", "relay"];
const TAKES: &str = "a String takes everything";

/// Writes a scenario's table, samples and plot.
pub(crate) fn write_one(folder: &Path, report: &Report) -> Result<()> {
    fs::create_dir_all(folder).context("creating the results folder")?;
    let name = folder.join(&report.scenario);
    fs::write(name.with_extension("md"), report.markdown()).context("writing the table")?;
    let json = serde_json::to_string_pretty(report)?;
    fs::write(name.with_extension("json"), json + "\n").context("writing the samples")?;
    fs::write(name.with_extension("svg"), plot_of(report)).context("writing the plot")
}

/// Writes the page of what is in the folder, and the plot of all closed loops.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let mut reports = Vec::new();
    for scenario in scenario::all() {
        let file = folder.join(scenario.name).with_extension("json");
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match serde_json::from_str::<Report>(&text) {
            Ok(report) => reports.push(report),
            Err(error) => eprintln!("{} is left out: {error}", file.display()),
        }
    }
    fs::write(folder.join("throughput.svg"), overview(&reports)).context("writing the plot")?;
    fs::write(folder.join("README.md"), page(&reports)).context("writing the page")
}

fn page(reports: &[Report]) -> String {
    let mut text =
        "# Results\n\nWritten by `make bench`; each scenario has its table (`.md`), every \
        sample (`.json`) and a plot (`.svg`) beside this file. One proxy worker on one core, \
        generator and back end on another, rounds interleaved.\n\n"
            .to_owned();
    let mut list = |name: &str, values: BTreeSet<&str>| {
        let values: Vec<_> = values.into_iter().filter(|value| !value.is_empty()).collect();
        if !values.is_empty() {
            writeln!(text, "- {name}: {}", values.join("; ")).expect(TAKES);
        }
    };
    list("Machine", reports.iter().map(|report| report.machine.as_str()).collect());
    let rows = || reports.iter().flat_map(|report| &report.rows);
    list("Proxies", rows().map(|row| row.version.as_str()).collect());
    list("Commit", reports.iter().filter_map(|report| report.commit.as_deref()).collect());
    list("Commands", reports.iter().map(|report| report.command.as_str()).collect());
    let verdicts: Vec<_> = reports.iter().filter_map(Report::verdict).collect();
    let met = verdicts.iter().filter(|verdict| verdict.met).count();
    writeln!(text, "- Targets met: {met} of {}\n", verdicts.len()).expect(TAKES);
    text.push_str(
        "`× best` is Ringway beside the best of the other proxies in the same run: above 1, Ringway \
         is ahead, whether more or less of the unit is better. The relay copies bytes on one \
         io_uring and reads no HTTP: a floor for proxies that do not, and no peer; it opens an \
         upstream connection for every client.\n\n",
    );
    writeln!(
        text,
        "| scenario | unit | {} | × best | target | |\n|---|---|{}--:|---|---|",
        COLUMNS.join(" | "),
        "--:|".repeat(COLUMNS.len())
    )
    .expect(TAKES);
    for report in reports {
        line(report, &mut text);
    }
    text.push_str("\n![requests per CPU-second](throughput.svg)\n");
    let plotted = |report: &&Report| report.measure != Measure::Throughput;
    for Report { title, scenario, .. } in reports.iter().filter(plotted) {
        writeln!(text, "\n![{title}]({scenario}.svg)").expect(TAKES);
    }
    text
}

fn line(report: &Report, text: &mut String) {
    let show = |row: &Row| match (report.figure(row), row.trouble()) {
        (Some(figure), _) => report.show(figure),
        (None, Some(_)) => "failed".to_owned(),
        (None, None) => "–".to_owned(),
    };
    let cells: Vec<_> =
        COLUMNS.iter().map(|peer| report.row(peer).map_or_else(|| "–".to_owned(), show)).collect();
    let times = report.row("ringway").and_then(|row| report.times_best(row));
    let times = times.map_or_else(|| "–".to_owned(), |times| format!("{times:.2}"));
    let (target, met) = match report.verdict() {
        None => ("–".to_owned(), ""),
        Some(verdict) => (
            format!("{}: {}", verdict.target, verdict.found),
            if verdict.met { "met" } else { "**missed**" },
        ),
    };
    let Report { scenario, title, .. } = report;
    let (unit, _) = report.unit();
    let cells = cells.join(" | ");
    writeln!(
        text,
        "| [{scenario}]({scenario}.md): {title} | {unit} | {cells} | {times} | {target} | {met} |"
    )
    .expect(TAKES);
}

/// One scenario's plot.
fn plot_of(report: &Report) -> String {
    let (unit, more) = report.unit();
    let title =
        format!("{}, {unit} ({} is better)", report.title, if more { "more" } else { "less" });
    if !matches!(report.measure, Measure::Latency { .. }) {
        return plot::bars(&title, &bars(report));
    }
    let lines: Vec<_> = report
        .rows
        .iter()
        .filter(|row| row.trouble().is_none() && !row.samples.is_empty())
        .map(|row| {
            let of = |index| {
                let values = row.all::<Latency>().map(|sample| sample.latency.values()[index]);
                median(&values.collect::<Vec<f64>>()).unwrap_or_default()
            };
            Line { name: row.peer.clone(), values: (0..Percentiles::NAMES.len()).map(of).collect() }
        })
        .collect();
    let title = format!("{}: latency from due to answered", report.title);
    plot::percentiles(&title, "µs", &Percentiles::NAMES, &lines)
}

fn bars(report: &Report) -> Vec<Bar> {
    let bar = |row: &Row| {
        let value = report.figure(row)?;
        Some(Bar { name: row.peer.clone(), value, text: report.show(value) })
    };
    report.rows.iter().filter_map(bar).collect()
}

/// All closed loops below each other.
fn overview(reports: &[Report]) -> String {
    let closed = reports.iter().filter(|report| report.measure == Measure::Throughput);
    let groups: Vec<_> = closed
        .map(|report| (format!("{}: {}", report.scenario, report.title), bars(report)))
        .collect();
    plot::groups("Requests per second of the proxy's processor time (more is better)", &groups)
}

#[cfg(test)]
mod tests;
