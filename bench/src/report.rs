// SPDX-License-Identifier: Apache-2.0
//! One scenario's comparison as a Markdown table and as JSON. Of a closed loop the figure is answers
//! per second of the proxy's own processor time: it holds when the machine is noisy and the load
//! generator is busy, where answers per second do not. Everything is computed from the samples, so that
//! a report read back from JSON says the same.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::sample::{Change, Changed, Latency, Memory, Percentiles, Sample, Throughput};
use crate::scenario::{DIRECT, IDLE_REST, Measure, ONE_ROUTE, OTHER, Target};
use crate::stats::{median, quantile, range, thousands};

/// One proxy in one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) samples: Vec<Sample>,
    /// Resident memory after the last sample.
    pub(crate) resident_bytes: u64,
    /// Requests per proxy-CPU-second under wrk, as a cross-check.
    pub(crate) wrk_per_cpu_second: Option<f64>,
    /// Latencies that wrk2 found at the same rate, as a cross-check.
    pub(crate) wrk2: Option<Percentiles>,
    /// Why there is no figure.
    pub(crate) failure: Option<String>,
}

impl Row {
    /// Whether this is something to be measured against, and neither ourselves nor a floor.
    fn is_peer(&self) -> bool {
        !matches!(self.peer.as_str(), "ringway" | "relay" | DIRECT | ONE_ROUTE | OTHER)
    }

    /// The samples of one kind.
    pub(crate) fn all<'a, T: 'a>(&'a self) -> impl Iterator<Item = &'a T>
    where
        &'a T: TryFrom<&'a Sample>,
    {
        self.samples.iter().filter_map(|sample| sample.try_into().ok())
    }

    /// Of every change of every sample.
    fn changed(&self, which: impl Fn(&Changed) -> f64) -> Vec<f64> {
        self.all::<Change>().flat_map(|sample| &sample.changes).map(which).collect()
    }

    /// What went wrong, if anything did. A request that a changed configuration lost is a figure.
    pub(crate) fn trouble(&self) -> Option<String> {
        let wrong = |sample: &Sample| match sample {
            Sample::Throughput(Throughput { errors, first_error, .. })
            | Sample::Latency(Latency { errors, first_error, .. }) => {
                first_error.clone().map(|first| (*errors, first))
            }
            Sample::Change(_) | Sample::Memory(_) => None,
        };
        let wrongs: Vec<_> = self.samples.iter().filter_map(wrong).collect();
        let errors: u64 = wrongs.iter().map(|(errors, _)| errors).sum();
        match (&self.failure, wrongs.first()) {
            (Some(failure), _) => Some(failure.clone()),
            (None, Some((_, first))) => Some(format!("{errors} errors: {first}")),
            (None, None) => None,
        }
    }
}

/// One scenario, all proxies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) title: String,
    pub(crate) measure: Measure,
    pub(crate) target: Option<Target>,
    pub(crate) machine: String,
    /// The commit that the bench was run in, if it was in one.
    pub(crate) commit: Option<String>,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
}

/// Whether Ringway's target is met, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) met: bool,
    pub(crate) target: String,
    pub(crate) found: String,
}

impl Report {
    pub(crate) fn row(&self, peer: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.peer == peer)
    }

    /// The median figure of a row; none if any sample had errors. See [`Report::unit`].
    pub(crate) fn figure(&self, row: &Row) -> Option<f64> {
        if row.trouble().is_some() || row.peer == DIRECT {
            return None;
        }
        match self.measure {
            Measure::Throughput => median(&figures(row)),
            Measure::Idle | Measure::Resident => {
                median(&row.all().map(Memory::bytes).collect::<Vec<_>>())
            }
            Measure::Latency { .. } => self.added(row, |latency| latency.p50),
            Measure::Change => quantile(&row.changed(|changed| changed.all_ms), 0.99),
        }
    }

    /// What figures are, and whether more of it is better.
    pub(crate) fn unit(&self) -> (&'static str, bool) {
        match self.measure {
            Measure::Throughput => ("requests per CPU-second", true),
            Measure::Idle => ("bytes per idle connection", false),
            Measure::Resident => ("MiB resident", false),
            Measure::Latency { .. } => ("µs added at p50", false),
            Measure::Change => ("ms until served, p99", false),
        }
    }

    /// A figure as it is shown, without its unit.
    pub(crate) fn show(&self, figure: f64) -> String {
        match self.measure {
            Measure::Throughput | Measure::Idle => thousands(figure),
            Measure::Resident => format!("{:.1}", figure / MIB),
            Measure::Latency { .. } => format!("{figure:.0}"),
            Measure::Change => format!("{figure:.1}"),
        }
    }

    /// What a proxy adds to a quantile of the direct run of the same round: the median, in µs.
    fn added(&self, row: &Row, of: impl Fn(&Percentiles) -> f64) -> Option<f64> {
        let direct = self.row(DIRECT)?.all::<Latency>();
        let added = row.all::<Latency>().zip(direct);
        let added = added.map(|(with, without)| of(&with.latency) - of(&without.latency));
        median(&added.collect::<Vec<_>>())
    }

    /// How many times better a row's figure is than the best of the other proxies (of which the
    /// relay and direct runs are none), or than nginx's better build.
    fn times(&self, row: &Row, others: impl Fn(&Row) -> bool) -> Option<f64> {
        let others = self.rows.iter().filter(|other| other.peer != row.peer && others(other));
        let figure = self.figure(row)?;
        let (_, more) = self.unit();
        let others = others.filter_map(|other| self.figure(other));
        let times = match more {
            true => figure / others.max_by(f64::total_cmp)?,
            false => others.min_by(f64::total_cmp)? / figure,
        };
        // What is added may be nothing, or less.
        (figure > 0.0 && times > 0.0).then_some(times)
    }

    pub(crate) fn times_best(&self, row: &Row) -> Option<f64> {
        self.times(row, |other| other.is_peer() || other.peer == "ringway")
    }

    /// Whether Ringway reaches its target; none without one, or without its figure.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let row = self.row("ringway")?;
        let figure = self.figure(row)?;
        let verdict = |met, target, found| Some(Verdict { met, target, found });
        match self.target? {
            Target::Best(times) => {
                let found = self.times_best(row)?;
                verdict(found >= times, format!("≥ {times} × best"), format!("{found:.2} ×"))
            }
            Target::OneRoute(times) => {
                let found = figure / self.figure(self.row(ONE_ROUTE)?)?;
                verdict(found >= times, format!("≥ {times} × one route"), format!("{found:.2} ×"))
            }
            Target::Bytes(most) => {
                let (unit, show) = match self.measure {
                    Measure::Resident => (" MiB", format!("{:.0}", most / MIB)),
                    _ => (" B", thousands(most)),
                };
                let found = format!("{}{unit}", self.show(figure));
                verdict(figure <= most, format!("≤ {show}{unit}"), found)
            }
            Target::LeastLatency => {
                let p99 = |row| self.added(row, |latency| latency.p99);
                let own = p99(row)?;
                let peers = || self.rows.iter().filter(|row| row.is_peer());
                let least = peers().filter_map(|row| self.figure(row)).all(|p50| p50 > figure);
                let least_p99 = peers().filter_map(p99).all(|p99| p99 > own);
                let found = format!("p50 {figure:+.0} µs, p99 {own:+.0} µs");
                verdict(least && least_p99, "p50, p99 below every peer".to_owned(), found)
            }
            Target::Change { ms, slower_ms } => {
                let failed: u64 = row.all::<Change>().map(|sample| sample.failed).sum();
                let slower = median(&slower(row, |(max, _)| max))?;
                verdict(
                    figure <= ms && failed == 0 && slower <= slower_ms,
                    format!("p99 ≤ {ms} ms, 0 failed, ≤ {slower_ms} ms slower"),
                    format!("p99 {figure:.1} ms, {failed} failed, {slower:+.1} ms"),
                )
            }
        }
    }

    /// The table, with the machine and the versions above it.
    pub(crate) fn markdown(&self) -> String {
        let versions: Vec<_> =
            self.rows.iter().map(|row| row.version.as_str()).filter(|v| !v.is_empty()).collect();
        let how = match self.measure {
            Measure::Throughput => {
                format!("{} interleaved rounds of {} s", self.rounds, self.seconds)
            }
            Measure::Latency { .. } => format!(
                "{} interleaved rounds of {} s; medians over the rounds; an open loop, latencies \
                 from the instant a request was due",
                self.rounds, self.seconds
            ),
            Measure::Idle => format!(
                "a process of its own for each, warmed up, one answer on every connection; growth of \
                 resident memory after {} s of rest",
                IDLE_REST.as_secs()
            ),
            Measure::Resident => "a process of its own for each, after a few requests; pages that \
                processes share are counted once"
                .to_owned(),
            Measure::Change => format!(
                "{} interleaved rounds; from the rename or signal to the first request that the new \
                 configuration routed, and to the last that the old one did; in flight: requests \
                 until 100 ms after that, beside those at other times",
                self.rounds
            ),
        };
        let mut text = format!(
            "## {}: {}\n\n{} connections, {how}, one worker on one core. {}. {}.\n\n",
            self.scenario,
            self.title,
            thousands(self.connections as f64),
            self.machine,
            versions.join(", "),
        );
        let columns = self.columns();
        let rule = format!("|---{}|", "|--:".repeat(columns.len()));
        writeln!(text, "| proxy | {} |\n{rule}", columns.join(" | ")).expect(TAKES);
        for row in &self.rows {
            let cells = match row.trouble() {
                None if row.samples.is_empty() => vec!["failed: no samples".to_owned()],
                None => self.cells(row),
                Some(trouble) => vec![format!("failed: {}", trouble.replace(['|', '\n'], " "))],
            };
            let empty = " |".repeat(columns.len() - cells.len());
            writeln!(text, "| {} | {} |{empty}", row.peer, cells.join(" | ")).expect(TAKES);
        }
        if let Some(Verdict { met, target, found }) = self.verdict() {
            let met = if met { "met" } else { "missed" };
            writeln!(text, "\nTarget {target}: {met} ({found}).").expect(TAKES);
        }
        text
    }

    fn columns(&self) -> &'static [&'static str] {
        match self.measure {
            Measure::Throughput => &[
                "requests per CPU-second",
                "µs each",
                "× nginx",
                "× best other",
                "min–max",
                "requests/s",
                "busy",
                "waited",
                "RSS MiB",
                "wrk",
            ],
            Measure::Idle => {
                &["bytes per connection", "× best other", "MiB before", "MiB with them"]
            }
            Measure::Resident => &["MiB", "× best other"],
            Measure::Latency { .. } => &[
                "added p50 µs",
                "p99",
                "p99.9",
                "max",
                "whole p50 µs",
                "p99",
                "p99.9",
                "max",
                "requests",
                "CPU",
                "waited",
                "wrk2 p50, p99",
            ],
            Measure::Change => &[
                "first new p50 ms",
                "p99",
                "max",
                "none old p50 ms",
                "p99",
                "max",
                "failed",
                "in flight max ms",
                "others max",
                "slower by",
                "p99.9 slower by",
                "changes",
            ],
        }
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let times = |times: Option<f64>| times.map_or_else(dash, |times| format!("{times:.2}"));
        let best = times(
            self.times_best(row)
                .filter(|_| row.is_peer() || matches!(row.peer.as_str(), "ringway" | OTHER)),
        );
        let mid = |values: Vec<f64>| median(&values).unwrap_or_default();
        let share = |share: f64| format!("{:.0} %", share * 100.0);
        match self.measure {
            Measure::Throughput => {
                let samples = || row.all();
                let rate = thousands(mid(samples().map(Throughput::per_second).collect()));
                let Some(figure) = self.figure(row) else {
                    return [vec![dash(); 5], vec![rate], vec![dash(); 4]].concat();
                };
                let (least, most) = range(&figures(row)).expect("a figure has samples");
                vec![
                    thousands(figure),
                    format!("{:.2}", 1e6 / figure),
                    times(self.times(row, |other| other.peer.starts_with("nginx"))),
                    best,
                    format!("{}–{}", thousands(least), thousands(most)),
                    rate,
                    share(mid(samples().map(Throughput::demand).collect())),
                    share(mid(samples().map(Throughput::disturbance).collect())),
                    format!("{:.0}", row.resident_bytes as f64 / MIB),
                    row.wrk_per_cpu_second.map_or_else(dash, thousands),
                ]
            }
            Measure::Idle => {
                let mib = |of: fn(&Memory) -> u64| {
                    format!("{:.1}", mid(row.all().map(|m| of(m) as f64 / MIB).collect()))
                };
                let figure = self.figure(row).map_or_else(dash, thousands);
                vec![figure, best, mib(|m| m.before_bytes), mib(|m| m.after_bytes)]
            }
            Measure::Resident => {
                vec![self.figure(row).map_or_else(dash, |bytes| self.show(bytes)), best]
            }
            Measure::Latency { .. } => {
                let of: [fn(&Percentiles) -> f64; 4] =
                    [|l| l.p50, |l| l.p99, |l| l.p999, |l| l.max];
                let added = |of| match row.peer.as_str() {
                    DIRECT => dash(),
                    _ => self.added(row, of).map_or_else(dash, |us| format!("{us:+.0}")),
                };
                let all = || row.all::<Latency>();
                let whole = |of: fn(&Percentiles) -> f64| {
                    let all = all().map(|sample| of(&sample.latency)).collect();
                    format!("{:.0}", mid(all))
                };
                let waited = mid(all().map(|s| s.waited_s / s.window_s.max(1e-9)).collect());
                let cpu = mid(all().map(|s| s.cpu_s / s.window_s.max(1e-9)).collect());
                let count = all().map(|sample| sample.latency.count).sum::<u64>();
                let mut cells: Vec<_> = of.map(added).into_iter().chain(of.map(whole)).collect();
                cells.extend([thousands(count as f64), share(cpu), share(waited)]);
                cells.push(
                    row.wrk2
                        .map_or_else(dash, |found| format!("{:.0}, {:.0}", found.p50, found.p99)),
                );
                cells
            }
            Measure::Change => {
                let at = |values: &[f64], q| {
                    quantile(values, q).map_or_else(dash, |ms| format!("{ms:.1}"))
                };
                let (first, all) = (
                    row.changed(|changed| changed.first_ms),
                    row.changed(|changed| changed.all_ms),
                );
                let tail = |of: fn(&Change) -> f64| {
                    format!("{:.1}", mid(row.all().map(of).collect()) / 1e3)
                };
                let signed = |values| format!("{:+.1}", mid(values));
                let failed: u64 = row.all::<Change>().map(|sample| sample.failed).sum();
                vec![
                    at(&first, 0.5),
                    at(&first, 0.99),
                    at(&first, 1.0),
                    at(&all, 0.5),
                    at(&all, 0.99),
                    at(&all, 1.0),
                    failed.to_string(),
                    tail(|sample| sample.during.max),
                    tail(|sample| sample.outside.max),
                    signed(slower(row, |(max, _)| max)),
                    signed(slower(row, |(_, p999)| p999)),
                    all.len().to_string(),
                ]
            }
        }
    }
}

const MIB: f64 = 1_048_576.0;
const TAKES: &str = "a String takes everything";

fn dash() -> String {
    "–".to_owned()
}

fn figures(row: &Row) -> Vec<f64> {
    row.all().map(Throughput::per_cpu_second).collect()
}

fn slower(row: &Row, which: fn((f64, f64)) -> f64) -> Vec<f64> {
    row.all::<Change>().map(|sample| which(sample.slower_ms())).collect()
}

#[cfg(test)]
mod tests;
