// SPDX-License-Identifier: Apache-2.0
//! The comparison as a Markdown table and as JSON. The figure is answers per second of the proxy's own
//! processor time: it holds when the machine is noisy and the load generator is busy, where answers per
//! second do not.

use std::fmt::Write as _;

use serde::Serialize;

use crate::stats::{median, range, thousands};

/// One measured window of one proxy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) answers: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) window_s: f64,
    /// User and system time of all the proxy's threads in the window.
    pub(crate) cpu_s: f64,
    /// Time that the proxy was runnable but had no core: a neighbour's doing.
    pub(crate) waited_s: f64,
    pub(crate) bodies_compared: u64,
}

impl Sample {
    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.answers as f64 / self.cpu_s.max(1e-9)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.window_s.max(1e-9)
    }

    /// The share of the window that the proxy wanted its core. Well below one, the load was too weak
    /// and the figure is less than the proxy can do: waking up costs time of its own.
    pub(crate) fn demand(&self) -> f64 {
        (self.cpu_s + self.waited_s) / self.window_s.max(1e-9)
    }

    /// The share of the window that the proxy waited for its core.
    pub(crate) fn disturbance(&self) -> f64 {
        self.waited_s / self.window_s.max(1e-9)
    }
}

/// One proxy in one scenario.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) samples: Vec<Sample>,
    /// Resident memory after the last sample.
    pub(crate) resident_bytes: u64,
    /// Requests per proxy-CPU-second under wrk, as a cross-check.
    pub(crate) wrk_per_cpu_second: Option<f64>,
    /// Why there is no figure.
    pub(crate) failure: Option<String>,
}

impl Row {
    fn figures(&self) -> Vec<f64> {
        let whole = self.samples.iter().filter(|sample| sample.errors == 0);
        whole.map(Sample::per_cpu_second).collect()
    }

    /// The median figure; none if any sample had errors.
    pub(crate) fn figure(&self) -> Option<f64> {
        let figures = self.figures();
        median(&figures).filter(|_| figures.len() == self.samples.len() && self.failure.is_none())
    }

    /// What went wrong, if anything did.
    pub(crate) fn trouble(&self) -> Option<String> {
        let errors: u64 = self.samples.iter().map(|sample| sample.errors).sum();
        let first = self.samples.iter().find_map(|sample| sample.first_error.as_ref());
        match (&self.failure, first) {
            (Some(failure), _) => Some(failure.clone()),
            (None, Some(first)) => Some(format!("{errors} errors: {first}")),
            (None, None) => None,
        }
    }
}

/// One scenario, all proxies.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) title: String,
    pub(crate) machine: String,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) connections: usize,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// The better of nginx's builds.
    fn nginx(&self) -> Option<f64> {
        let builds = self.rows.iter().filter(|row| row.peer.starts_with("nginx"));
        builds.filter_map(Row::figure).max_by(f64::total_cmp)
    }

    /// The best figure of the other proxies; the relay is no proxy.
    fn best_peer(&self, than: &str) -> Option<f64> {
        let others = self.rows.iter().filter(|row| row.peer != than && row.peer != "relay");
        others.filter_map(Row::figure).max_by(f64::total_cmp)
    }

    /// The table, with the machine and the versions above it.
    pub(crate) fn markdown(&self) -> String {
        let versions: Vec<_> =
            self.rows.iter().map(|row| row.version.as_str()).filter(|v| !v.is_empty()).collect();
        let mut text = format!(
            "## {}: {}\n\n{} connections, {} interleaved rounds of {} s, one worker on one core. \
             {}. {}.\n\n\
             | proxy | requests per CPU-second | µs each | × nginx | × best other | min–max | requests/s \
             | busy | waited | RSS MiB | wrk |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.scenario,
            self.title,
            self.connections,
            self.rounds,
            self.seconds,
            self.machine,
            versions.join(", "),
        );
        for row in &self.rows {
            self.line(row, &mut text);
        }
        text
    }

    fn line(&self, row: &Row, text: &mut String) {
        let Some(figure) = row.figure() else {
            let trouble = row.trouble().unwrap_or_else(|| "no samples".to_owned());
            let trouble = trouble.replace(['|', '\n'], " ");
            return writeln!(text, "| {} | failed: {trouble} | | | | | | | | | |", row.peer)
                .expect("a String takes everything");
        };
        let ratio =
            |to: Option<f64>| to.map_or_else(|| "–".to_owned(), |to| format!("{:.2}", figure / to));
        let (least, most) = range(&row.figures()).expect("a figure has samples");
        let rates: Vec<_> = row.samples.iter().map(Sample::per_second).collect();
        let demands: Vec<_> = row.samples.iter().map(Sample::demand).collect();
        let waits: Vec<_> = row.samples.iter().map(Sample::disturbance).collect();
        writeln!(
            text,
            "| {} | {} | {:.2} | {} | {} | {}–{} | {} | {:.0} % | {:.0} % | {:.0} | {} |",
            row.peer,
            thousands(figure),
            1e6 / figure,
            ratio(self.nginx()),
            ratio(self.best_peer(&row.peer)),
            thousands(least),
            thousands(most),
            thousands(median(&rates).unwrap_or_default()),
            median(&demands).unwrap_or_default() * 100.0,
            median(&waits).unwrap_or_default() * 100.0,
            row.resident_bytes as f64 / f64::from(1 << 20),
            row.wrk_per_cpu_second.map_or_else(|| "–".to_owned(), thousands),
        )
        .expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests;
