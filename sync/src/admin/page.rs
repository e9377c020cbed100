// SPDX-License-Identifier: Apache-2.0
//! The diagnostics for people: pages without scripts that need nothing from anywhere else.

use std::fmt::Write as _;
use std::time::SystemTime;

use ringway_core::crd::source::{Diagnostic, Style};
use serde_json::Value;

use super::diag::{hostname, route_info, tls_contexts, words};
use crate::gateway::{Report, State};
use crate::log::{self, Timestamp};

/// Rows of a table.
const ROWS_MAX: usize = 500;

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Ringway</title><style>\
     body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:80em}\
     table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1em .2em 0;\
     vertical-align:top}pre{background:#f4f4f4;padding:.6em;overflow:auto}\
     @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}\
     pre{background:#222}}</style>";

/// What is wrong, what is served.
pub(super) fn overview(state: &State, report: &Report) -> String {
    let progress = &state.progress;
    let settings = &state.options.settings;
    let mut out = HEAD.to_owned();
    let ready = if progress.is_ready() { "ready" } else { "not ready" };
    let _ = write!(
        out,
        "<h1>Ringway {}</h1><p>{ready}; generation {} on {} workers ({}); up {}",
        escaped(state.options.version),
        progress.served(),
        state.fleet.workers(),
        escaped(&io_backends(state)),
        words(state.started.elapsed()),
    );
    let _ = write!(
        out,
        "<br>gateway \"{}\" in namespace {}{}, on {}",
        escaped(&settings.ambassador_id),
        escaped(&settings.namespace),
        if settings.single_namespace { " alone" } else { "" },
        escaped(&hostname()),
    );
    out.push_str("<br>says in its log what is at least: ");
    for level in ["error", "warn", "info", "debug"] {
        let _ = match level == log::level().as_str() {
            true => write!(out, "<b>{level}</b> "),
            false => write!(out, "<a href=\"?loglevel={level}\">{level}</a> "),
        };
    }
    problems(&mut out, &report.diagnostics.iter().collect::<Vec<_>>());
    routes(&mut out, &route_info(&report.ir));
    upstreams(&mut out, state, report);
    certificates(&mut out, &tls_contexts(&report.ir));
    let now = Timestamp(SystemTime::now());
    let _ = write!(
        out,
        "<p><a href=\"/ambassador/v0/diag/?json=true\">JSON</a> · <a href=\"/metrics\">metrics</a> \
         · <a href=\"/api/v1/workers\">workers</a> · <a href=\"/api/v1/problems\">problems</a> · \
         {now}</p></html>"
    );
    out
}

/// What there is about one object.
pub(super) fn detail<'o>(
    objects: impl Iterator<Item = &'o str>,
    diagnostics: &[&Diagnostic],
    of: &[Value],
) -> String {
    let mut out = HEAD.to_owned();
    for object in objects {
        let _ = write!(out, "<h1>{}</h1>", escaped(object));
    }
    problems(&mut out, diagnostics);
    routes(&mut out, of);
    out.push_str("<p><a href=\"/ambassador/v0/diag/\">all</a></html>");
    out
}

fn problems(out: &mut String, diagnostics: &[&Diagnostic]) {
    let _ = write!(out, "<h2>{} problems</h2>", diagnostics.len());
    for diagnostic in diagnostics.iter().take(ROWS_MAX) {
        let _ = write!(out, "<pre>{}</pre>", escaped(&diagnostic.render(Style::Plain)));
    }
    left_out(out, diagnostics.len());
}

fn routes(out: &mut String, routes: &[Value]) {
    let head = "<table><tr><th>host<th>match<th>Mapping<th>goes to</tr>";
    let _ = write!(out, "<h2>{} routes</h2>{head}", routes.len());
    for route in routes.iter().take(ROWS_MAX) {
        let text = |key: &str| escaped(route[key].as_str().unwrap_or_default());
        let clusters = route["clusters"].as_array().map_or(&[][..], Vec::as_slice);
        let cluster = clusters.first().and_then(|c| c["name"].as_str()).unwrap_or("redirect");
        let _ = write!(
            out,
            "<tr><td>{}<td>{} {}<td><a href=\"/ambassador/v0/diag/{key}\">{key}</a><td>{}</tr>",
            text("host"),
            text("match"),
            text("prefix"),
            escaped(cluster),
            key = text("key"),
        );
    }
    out.push_str("</table>");
    left_out(out, routes.len());
}

fn upstreams(out: &mut String, state: &State, report: &Report) {
    let clusters: Vec<_> =
        report.table.iter().flat_map(|table| table.clusters.iter().flatten()).collect();
    let head = "<table><tr><th>upstream<th>host<th>endpoints</tr>";
    let _ = write!(out, "<h2>{} upstreams</h2>{head}", clusters.len());
    for cluster in clusters.iter().take(ROWS_MAX) {
        let endpoints = state.progress.feed(cluster.slot).map_or(0, |feed| feed.endpoints.len());
        let (name, host) = (escaped(&cluster.spec.name), escaped(&cluster.spec.host));
        let _ = write!(out, "<tr><td>{name}<td>{host}<td>{endpoints}</tr>");
    }
    out.push_str("</table>");
    left_out(out, clusters.len());
}

fn certificates(out: &mut String, contexts: &[Value]) {
    if contexts.is_empty() {
        return;
    }
    out.push_str("<h2>TLS</h2><table><tr><th>from<th>hosts<th>certificate expires</tr>");
    for context in contexts.iter().take(ROWS_MAX) {
        let hosts = context["hosts"].as_array().map_or(&[][..], Vec::as_slice);
        let hosts: Vec<&str> = hosts.iter().filter_map(Value::as_str).collect();
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}</tr>",
            escaped(context["_source"].as_str().unwrap_or("a certificate of its own making")),
            escaped(&hosts.join(", ")),
            escaped(context["certificate_expires"].as_str().unwrap_or("there is none")),
        );
    }
    out.push_str("</table>");
    left_out(out, contexts.len());
}

fn left_out(out: &mut String, rows: usize) {
    if rows > ROWS_MAX {
        let _ = write!(out, "<p>Only the first {ROWS_MAX} are shown.</p>");
    }
}

fn io_backends(state: &State) -> String {
    let mut names: Vec<&str> = state.fleet.status().iter().map(|s| s.io_backend).collect();
    names.dedup();
    names.join(", ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
