// SPDX-License-Identifier: Apache-2.0
//! `/api/v1/<what>` as tables, for people (`format=text`, `ringway get`) and for programs: what is
//! served, in columns.

use ringway_core::ir::{self, PathMatch, ValueMatch};
use ringway_core::name::Ref;
use ringway_core::problem::Severity;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::http::{Request, Response};
use crate::gateway::{Report, State};

/// Rows of cells, one for each column.
struct Listing {
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

/// The listing of this name, if there is one.
pub(super) fn listing(state: &State, what: &str, request: &Request) -> Option<Response> {
    let report = state.report();
    let listing = match what {
        "routes" => routes(&report),
        "hosts" => hosts(&report),
        "listeners" => listeners(state, &report),
        "clusters" => clusters(state, &report),
        "endpoints" => endpoints(state, &report),
        "problems" => problems(&report),
        _ => return None,
    };
    Some(match request.parameter("format") {
        Some("text") => Response::text(200, listing.text()),
        _ => Response::json(200, &listing.json()),
    })
}

impl Listing {
    fn json(&self) -> Vec<Map<String, Value>> {
        let row = |cells: &Vec<String>| {
            let keys = self.columns.iter().map(|column| column.to_ascii_lowercase());
            keys.zip(cells.iter().map(|cell| cell.as_str().into())).collect()
        };
        self.rows.iter().map(row).collect()
    }

    /// Columns side by side, two spaces apart; the last one has no end.
    fn text(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|column| column.len()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head: Vec<String> = self.columns.iter().map(|column| (*column).to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
            text += cells.collect::<String>().trim_end();
            text.push('\n');
        }
        text
    }
}

/// Cells are one line each.
fn cell(text: impl ToString) -> String {
    let text = text.to_string();
    match text.as_str() {
        "" => "-".to_owned(),
        line if line.contains(char::is_control) => line.replace(char::is_control, " "),
        _ => text,
    }
}

/// As JSON says it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        other => other.map_or_else(|_| String::new(), |value| value.to_string()),
    }
}

fn object(name: Option<&Ref>) -> String {
    name.map_or_else(|| "-".to_owned(), cell)
}

/// How the gateway is: what `ringway status` prints.
pub(super) fn status(state: &State, request: &Request) -> Response {
    let (progress, report) = (&state.progress, state.report());
    let workers = state.fleet.status();
    let serving = workers.iter().filter(|w| w.generation == progress.served()).count();
    let errors = report.count(Severity::Error) + report.count(Severity::FailsClosed);
    let warnings = report.count(Severity::Warning);
    let routes: usize = report.ir.groups().map(|(_, group)| group.members.len()).sum();
    let connections: u64 = workers.iter().map(|w| w.connections).sum();
    let (bound, failed) = (progress.bound(), progress.bind_failures());
    let condition = match (progress.is_draining(), progress.is_ready()) {
        (true, _) if state.fleet.is_drained() => "drained",
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not ready",
    };
    if request.parameter("format") != Some("text") {
        return Response::json(
            200,
            &json!({
                "state": condition,
                "generation": progress.served(),
                "workers": workers.len(),
                "workers_serving_it": serving,
                "connections": connections,
                "listening": bound,
                "not_listening": failed.iter().map(|(at, _)| at).collect::<Vec<_>>(),
                "routes": routes,
                "errors": errors,
                "warnings": warnings,
                "serving_earlier_version": report.outdated.len(),
            }),
        );
    }
    let addresses: Vec<String> = bound.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "state        {condition}\n\
         serving      generation {}, on {serving} of {} workers, {} routes\n\
         connections  {}\n\
         listening    {}\n",
        progress.served().0,
        workers.len(),
        routes,
        connections,
        cell(addresses.join(", ")),
    );
    for (address, error) in &failed {
        text += &format!("not bound    {address}: {}\n", cell(error));
    }
    text += &format!("problems     {errors} errors, {warnings} warnings\n");
    if !report.outdated.is_empty() {
        text +=
            &format!("outdated     {} objects serve an earlier version\n", report.outdated.len());
    }
    Response::text(200, text)
}

fn routes(report: &Report) -> Listing {
    let columns = &["HOST", "PATH", "METHOD", "MORE", "SHARE", "TO", "MAPPING"];
    let mut rows = Vec::new();
    for (domain, group) in report.ir.groups() {
        let matcher = &group.matcher;
        let path = match &matcher.path {
            PathMatch::Prefix { text, .. } => format!("{text}*"),
            PathMatch::Exact { text, .. } => text.to_string(),
            PathMatch::Regex(pattern) => format!("~{}", pattern.as_str()),
        };
        let fields = matcher.headers.iter().map(|field| ("", field));
        let fields = fields.chain(matcher.query.iter().map(|field| ("?", field)));
        let more: Vec<String> = fields
            .map(|(mark, field)| format!("{mark}{}{}", field.name, value(&field.value)))
            .collect();
        let method = matcher.method.as_ref().map_or_else(String::new, value);
        for member in &group.members {
            let to = match &member.route.action {
                ir::Action::Forward(forward) => forward.cluster.to_string(),
                ir::Action::Redirect(_) => "redirect".to_owned(),
            };
            rows.push(vec![
                cell(domain),
                cell(&path),
                cell(method.trim_start_matches('=')),
                cell(more.join(" ")),
                format!("{}%", member.to - member.from),
                cell(to),
                cell(&member.route.object),
            ]);
        }
    }
    Listing { columns, rows }
}

fn value(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::Regex(pattern) => format!("~{}", pattern.as_str()),
        ValueMatch::Present => String::new(),
    }
}

fn hosts(report: &Report) -> Listing {
    let columns = &["HOST", "ON", "TLS", "INSECURE", "ROUTES", "OBJECT"];
    let mut rows = Vec::new();
    for listener in &report.ir.listeners {
        for host in &listener.virtual_hosts {
            let chain = listener.tls.iter().find(|chain| {
                chain.server_name == host.domain
                    || (chain.object == host.host && chain.object.is_some())
            });
            let tls = match chain.map(|chain| chain.termination.is_some()) {
                None => "-",
                Some(true) => "certificate",
                Some(false) => "no certificate",
            };
            rows.push(vec![
                cell(&host.domain),
                cell(listener.address),
                tls.to_owned(),
                match &host.refusal {
                    Some(_) => "refused".to_owned(),
                    None => word(&host.insecure),
                },
                host.groups.len().to_string(),
                object(host.host.as_ref()),
            ]);
        }
    }
    Listing { columns, rows }
}

fn listeners(state: &State, report: &Report) -> Listing {
    let columns = &["ADDRESS", "PROTOCOLS", "SECURITY", "HOSTS", "STATE", "OBJECT"];
    let (bound, failed) = (state.progress.bound(), state.progress.bind_failures());
    let row = |listener: &ir::Listener| {
        let failure = failed.iter().find(|(address, _)| *address == listener.address);
        vec![
            cell(listener.address),
            listener.stack.iter().map(word).collect::<Vec<_>>().join(","),
            word(&listener.security),
            listener.virtual_hosts.len().to_string(),
            match failure {
                Some((_, error)) => cell(error),
                None if bound.contains(&listener.address) => "listening".to_owned(),
                None => "not yet".to_owned(),
            },
            cell(&listener.object),
        ]
    };
    Listing { columns, rows: report.ir.listeners.iter().map(row).collect() }
}

fn clusters(state: &State, report: &Report) -> Listing {
    let columns = &["CLUSTER", "HOST", "PROTOCOL", "ENDPOINTS"];
    let clusters = report.table.iter().flat_map(|table| table.clusters.iter().flatten());
    let rows = clusters.map(|cluster| {
        let feed = state.progress.feed(cluster.slot);
        vec![
            cell(&cluster.spec.name),
            cell(&cluster.spec.host),
            word(&cluster.spec.protocol),
            feed.map_or(0, |feed| feed.endpoints.len()).to_string(),
        ]
    });
    Listing { columns, rows: rows.collect() }
}

fn endpoints(state: &State, report: &Report) -> Listing {
    let columns = &["CLUSTER", "ADDRESS"];
    let mut rows = Vec::new();
    for cluster in report.table.iter().flat_map(|table| table.clusters.iter().flatten()) {
        let feed = state.progress.feed(cluster.slot);
        let endpoints = feed.iter().flat_map(|feed| feed.endpoints.iter());
        rows.extend(endpoints.map(|e| vec![cell(&cluster.spec.name), cell(e.address)]));
    }
    Listing { columns, rows }
}

fn problems(report: &Report) -> Listing {
    let columns = &["SEVERITY", "OBJECT", "FIELD", "WHERE", "PROBLEM"];
    let rows = report.diagnostics.iter().map(|problem| {
        let place = problem.location.as_ref();
        let help = problem.help.as_ref().map_or_else(String::new, |help| format!("; {help}"));
        vec![
            word(&problem.severity),
            object(problem.object.as_ref()),
            cell(&problem.path),
            cell(place.map_or_else(String::new, |at| format!("{}:{}", at.file, at.line))),
            cell(format!("{}{help}", problem.message)),
        ]
    });
    Listing { columns, rows: rows.collect() }
}
