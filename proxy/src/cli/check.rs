// SPDX-License-Identifier: Apache-2.0
//! `ringway check`: reads, resolves and compiles a folder, and says what is wrong with it.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use ringway_core::crd::source::{Diagnostic, Style};
use ringway_core::problem::Severity;
use ringway_core::table::Table;
use ringway_sync::gateway::{Loaded, foreign_line, load, milliseconds};

use super::{environment, expansions, style};
use crate::args::{Check, Output};

pub(crate) fn check(check: &Check) -> anyhow::Result<ExitCode> {
    let settings = check.meaning.settings(&environment());
    let loaded = load(&check.folder, settings, expansions())?;
    let stdout = std::io::stdout();
    let text = match check.output {
        Output::Text => text(&loaded, style(&stdout)),
        Output::Json => json(&loaded),
    };
    stdout.lock().write_all(text.as_bytes())?;
    Ok(ExitCode::from(status(&loaded.diagnostics, check.strict)))
}

/// 0: nothing is refused; 1: an object or a field is, or a guard fails closed, or (strictly)
/// there is a warning; 2: a file cannot be read.
fn status(diagnostics: &[Diagnostic], strict: bool) -> u8 {
    let any = |wanted: fn(&Diagnostic) -> bool| diagnostics.iter().any(wanted);
    if any(|d| d.reason == "Unreadable") {
        return 2;
    }
    let refused = any(|d| matches!(d.severity, Severity::Error | Severity::FailsClosed));
    u8::from(refused || strict && any(|d| d.severity == Severity::Warning))
}

fn count(diagnostics: &[Diagnostic], severity: Severity) -> usize {
    diagnostics.iter().filter(|d| d.severity == severity).count()
}

fn text(loaded: &Loaded, style: Style) -> String {
    let mut out = String::new();
    for diagnostic in &loaded.diagnostics {
        out += &diagnostic.render(style);
        out.push('\n');
    }
    if !loaded.foreign.is_empty() {
        out += &foreign_line(&loaded.foreign);
        out.push('\n');
    }
    let n = |severity, one: &str| {
        let n = count(&loaded.diagnostics, severity);
        format!("{n} {one}{}", if n == 1 { "" } else { "s" })
    };
    out += &serves(&loaded.table).to_string();
    out += &format!(
        "{} objects in {} files: {}, {} failing closed, {}, {} ({})\n",
        loaded.snapshot.len(),
        loaded.n_files,
        n(Severity::Error, "error"),
        count(&loaded.diagnostics, Severity::FailsClosed),
        n(Severity::Warning, "warning"),
        n(Severity::Notice, "notice"),
        milliseconds(loaded.took),
    );
    out
}

/// What would listen, counted.
#[derive(Clone, Copy, Debug)]
struct Serves {
    listeners: usize,
    /// Filter chains of TLS, and those of them that refuse every handshake.
    tls_chains: usize,
    tls_chains_refusing: usize,
    tcp_routes: usize,
    routes: usize,
    clusters: usize,
}

fn serves(table: &Table) -> Serves {
    let chains = || table.listeners.iter().flat_map(|listener| listener.chains());
    let cleartext = table.listeners.iter().filter(|listener| listener.tcp.is_some()).count();
    Serves {
        listeners: table.listeners.len(),
        tls_chains: chains().count(),
        tls_chains_refusing: chains().filter(|chain| chain.termination.is_none()).count(),
        tcp_routes: cleartext + chains().filter(|chain| chain.tcp.is_some()).count(),
        // Not those for our own probes.
        routes: table.routes.iter().flatten().filter(|route| !route.unguarded).count(),
        clusters: table.clusters.iter().flatten().count(),
    }
}

impl fmt::Display for Serves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listeners, tls_chains, tls_chains_refusing, tcp_routes, routes, clusters } =
            self;
        let refusing = match tls_chains_refusing {
            0 => String::new(),
            n => format!(" ({n} refusing every handshake)"),
        };
        writeln!(
            f,
            "listeners: {listeners}, TLS chains: {tls_chains}{refusing}, TCP routes: {tcp_routes}, \
             HTTP routes: {routes}, clusters: {clusters}"
        )
    }
}

fn json(loaded: &Loaded) -> String {
    let serves = serves(&loaded.table);
    let value = serde_json::json!({
        "objects": loaded.snapshot.len(),
        "files": loaded.n_files,
        "errors": count(&loaded.diagnostics, Severity::Error),
        "fails_closed": count(&loaded.diagnostics, Severity::FailsClosed),
        "warnings": count(&loaded.diagnostics, Severity::Warning),
        "notices": count(&loaded.diagnostics, Severity::Notice),
        "ignored": loaded.foreign,
        "serves": {
            "listeners": serves.listeners,
            "tls_chains": serves.tls_chains,
            "tls_chains_refusing": serves.tls_chains_refusing,
            "tcp_routes": serves.tcp_routes,
            "routes": serves.routes,
            "clusters": serves.clusters,
        },
        "problems": loaded.diagnostics,
    });
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests;
