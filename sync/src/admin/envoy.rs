// SPDX-License-Identifier: Apache-2.0
//! What scripts ask of Envoy's admin port, on loopback: statistics, what is listened on, what leads
//! where, draining. Paths and forms are Envoy's; what has no counterpart here is left out.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use regex::Regex;
use ringway_core::ir::PathMatch;
use serde_json::{Value, json};

use super::http::{Request, Response, Service};
use super::{metrics, tls_identities};
use crate::gateway::State;
use crate::log::{self, Level, Timestamp};

/// Answers on Envoy's admin port. Loopback only, whatever it is bound to.
pub(super) struct Envoy(pub Arc<State>);

/// Paths that change something: as in Envoy they want POST.
const CHANGES: [&str; 5] =
    ["/drain_listeners", "/healthcheck/fail", "/healthcheck/ok", "/logging", "/quitquitquit"];
const SHOWS: [&str; 10] = [
    "/certs",
    "/clusters",
    "/config_dump",
    "/help",
    "/listeners",
    "/memory",
    "/ready",
    "/server_info",
    "/stats",
    "/stats/prometheus",
];

impl Service for Envoy {
    fn quick(&self, request: &Request) -> Option<Response> {
        if !request.peer.ip().to_canonical().is_loopback() {
            return Some(Response::text(404, "not found\n"));
        }
        let path = request.path.as_str();
        if CHANGES.contains(&path) {
            return Some(if !request.is_post {
                Response::text(405, "Method GET not allowed, POST required.")
            } else if request.is_foreign {
                Response::text(403, "not for pages of other sites\n")
            } else {
                self.change(path, request)
            });
        }
        (path == "/ready").then(|| self.ready())
    }

    fn slow(&self, request: &Request) -> Response {
        let as_json = request.parameter("format") == Some("json");
        match request.path.as_str() {
            "/stats/prometheus" => metrics::page(&self.0),
            "/stats" if request.parameter("format") == Some("prometheus") => metrics::page(&self.0),
            "/stats" => self.stats(request.parameter("filter"), as_json),
            "/clusters" => self.clusters(as_json),
            "/listeners" => self.listeners(as_json),
            "/certs" => self.certificates(),
            "/config_dump" => self.config_dump(),
            "/server_info" => self.server_info(),
            "/memory" => self.memory(),
            "/" | "/help" => {
                let mut paths: Vec<&str> = CHANGES.into_iter().chain(SHOWS).collect();
                paths.sort_unstable();
                Response::text(200, format!("admin commands are:\n  {}\n", paths.join("\n  ")))
            }
            _ => Response::text(404, "invalid path. see /help\n"),
        }
    }
}

impl Envoy {
    fn change(&self, path: &str, request: &Request) -> Response {
        let state = &self.0;
        match path {
            // Envoy: gracefully, it goes on accepting while clients learn of it.
            "/drain_listeners" => state.wishes.drain(request.parameter("graceful").is_none()),
            "/healthcheck/fail" => state.progress.set_failed(true),
            "/healthcheck/ok" => state.progress.set_failed(false),
            "/quitquitquit" => state.wishes.quit(),
            _ => return logging(request),
        }
        Response::text(200, "OK\n")
    }

    fn state(&self) -> &'static str {
        let progress = &self.0.progress;
        match (progress.is_ready(), progress.is_draining() || progress.has_been_failed()) {
            (true, _) => "LIVE",
            (false, true) => "DRAINING",
            (false, false) => "INITIALIZING",
        }
    }

    fn ready(&self) -> Response {
        let state = self.state();
        Response::text(if state == "LIVE" { 200 } else { 503 }, format!("{state}\n"))
    }

    fn server_info(&self) -> Response {
        let uptime = format!("{}s", self.0.started.elapsed().as_secs());
        Response::json(
            200,
            &json!({
                "version": self.0.options.version,
                "state": self.state(),
                "hot_restart_version": "disabled",
                "uptime_current_epoch": uptime,
                "uptime_all_epochs": uptime,
                "command_line_options": {"concurrency": self.0.fleet.workers()},
                "node": {"id": "", "cluster": &*self.0.options.settings.ambassador_id},
            }),
        )
    }

    fn memory(&self) -> Response {
        let resident = metrics::Usage::read().unwrap_or_default().resident_bytes.to_string();
        let none = "0";
        Response::json(
            200,
            &json!({
                "allocated": resident,
                "heap_size": resident,
                "pageheap_unmapped": none,
                "pageheap_free": none,
                "total_thread_cache": none,
                "total_physical_bytes": resident,
            }),
        )
    }

    fn stats(&self, filter: Option<&str>, as_json: bool) -> Response {
        let Ok(filter) = filter.map(Regex::new).transpose() else {
            return Response::text(400, "Invalid re2 regex\n");
        };
        let text = String::from_utf8(metrics::page(&self.0).body).unwrap_or_default();
        let mut stats: Vec<(String, &str)> = (text.lines().filter_map(envoy_name))
            .filter(|(name, _)| filter.as_ref().is_none_or(|filter| filter.is_match(name)))
            .collect();
        stats.sort_unstable();
        if as_json {
            let number = |value: &str| value.parse::<f64>().map_or(Value::Null, whole);
            let stats: Vec<Value> = (stats.iter())
                .map(|(name, value)| json!({"name": name, "value": number(value)}))
                .collect();
            return Response::json(200, &json!({ "stats": stats }));
        }
        let lines = stats.iter().map(|(name, value)| format!("{name}: {value}\n"));
        Response::text(200, lines.collect::<String>())
    }

    fn clusters(&self, as_json: bool) -> Response {
        let report = self.0.report();
        let clusters = report.table.iter().flat_map(|table| table.clusters.iter().flatten());
        let (mut text, mut statuses) = (String::new(), Vec::new());
        for cluster in clusters {
            let name = &*cluster.spec.name;
            text += &format!("{name}::observability_name::{}\n", cluster.spec.stats_name);
            text += &format!("{name}::added_via_api::true\n");
            let feed = self.0.progress.feed(cluster.slot);
            let mut hosts = Vec::new();
            for endpoint in feed.iter().flat_map(|feed| feed.endpoints.iter()) {
                let address = endpoint.address;
                text += &format!("{name}::{address}::hostname::{}\n", cluster.spec.host);
                text += &format!("{name}::{address}::health_flags::healthy\n");
                hosts.push(json!({
                    "address": socket(address),
                    "hostname": &*cluster.spec.host,
                    "health_status": {"eds_health_status": "HEALTHY"},
                }));
            }
            statuses.push(json!({
                "name": name,
                "observability_name": &*cluster.spec.stats_name,
                "added_via_api": true,
                "host_statuses": hosts,
            }));
        }
        match as_json {
            true => Response::json(200, &json!({ "cluster_statuses": statuses })),
            false => Response::text(200, text),
        }
    }

    fn listeners(&self, as_json: bool) -> Response {
        let bound = self.0.progress.bound();
        let name =
            |address: &std::net::SocketAddr| format!("ambassador-listener-{}", address.port());
        if as_json {
            let statuses: Vec<Value> = (bound.iter())
                .map(|at| json!({"name": name(at), "local_address": socket(*at)}))
                .collect();
            return Response::json(200, &json!({ "listener_statuses": statuses }));
        }
        let lines = bound.iter().map(|at| format!("{}::{at}\n", name(at)));
        Response::text(200, lines.collect::<String>())
    }

    fn certificates(&self) -> Response {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let report = self.0.report();
        let certificates: Vec<Value> = tls_identities(&report.ir)
            .map(|identity| {
                let until = u64::try_from(identity.not_after).unwrap_or(0);
                let names = identity.names.iter().map(|name| json!({ "dns": name }));
                let expires = Timestamp(UNIX_EPOCH + std::time::Duration::from_secs(until));
                json!({
                    "ca_cert": [],
                    "cert_chain": [{
                        "path": "<inline>",
                        "subject_alt_names": names.collect::<Vec<_>>(),
                        "days_until_expiration": (until.saturating_sub(now) / 86_400).to_string(),
                        "expiration_time": expires.to_string(),
                    }],
                })
            })
            .collect();
        Response::json(200, &json!({ "certificates": certificates }))
    }

    /// Listeners, routes and clusters in the places where Envoy's dump has them.
    fn config_dump(&self) -> Response {
        let report = self.0.report();
        let named = |what: &str| format!("type.googleapis.com/envoy.admin.v3.{what}ConfigDump");
        let listener = |listener: &ringway_core::ir::Listener| {
            let name = format!("ambassador-listener-{}", listener.address.port());
            let state = json!({"name": name, "address": socket(listener.address)});
            json!({"name": name, "active_state": {"listener": state}})
        };
        let cluster = |cluster: &Arc<ringway_core::ir::Cluster>| json!({"cluster": {"name": &*cluster.name, "alt_stat_name": &*cluster.stats_name}});
        let routes = report.ir.groups().map(|(domain, group)| {
            let path = match &group.matcher.path {
                PathMatch::Prefix { text, .. } => json!({ "prefix": text }),
                PathMatch::Exact { text, .. } => json!({ "path": text }),
                PathMatch::Regex(pattern) => json!({"safe_regex": {"regex": pattern.as_str()}}),
            };
            json!({"domains": [domain], "routes": [{"match": path}]})
        });
        Response::json(
            200,
            &json!({"configs": [
                {
                    "@type": named("Clusters"),
                    "dynamic_active_clusters":
                        report.ir.clusters.iter().map(cluster).collect::<Vec<_>>(),
                },
                {
                    "@type": named("Listeners"),
                    "dynamic_listeners":
                        report.ir.listeners.iter().map(listener).collect::<Vec<_>>(),
                },
                {
                    "@type": named("Routes"),
                    "dynamic_route_configs": [{
                        "route_config": {"virtual_hosts": routes.collect::<Vec<_>>()},
                    }],
                },
            ]}),
        )
    }
}

/// `/logging?level=`: one level for everything, as there is one log.
fn logging(request: &Request) -> Response {
    // Envoy also takes `?<logger>=<level>`.
    let first = || request.query.first().map(|(_, value)| value.as_str());
    let wanted = request.parameter("level").or_else(first);
    if let Some(wanted) = wanted {
        match Level::parse(wanted) {
            Some(level) => log::set_level(level),
            None => return Response::text(400, format!("error: invalid log level {wanted}\n")),
        }
    }
    Response::text(200, format!("active loggers:\n  ringway: {}\n", log::level().as_str()))
}

fn socket(address: std::net::SocketAddr) -> Value {
    let (ip, port) = (address.ip().to_string(), address.port());
    json!({"socket_address": {"address": ip, "port_value": port}})
}

/// Counts are whole numbers.
fn whole(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 { json!(value as i64) } else { json!(value) }
}

/// A sample of Envoy's in Prometheus' form under the name that it has in Envoy: the labels are parts
/// of it. Histograms have no such form.
fn envoy_name(line: &str) -> Option<(String, &str)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let name = name.strip_prefix("envoy_")?;
    let is_part = ["_bucket", "_sum", "_count"].iter().any(|part| name.ends_with(part));
    if is_part || labels.contains("envoy_grpc_bridge_") {
        return None;
    }
    let label = |wanted: &str| {
        let (_, rest) = labels.split_once(&format!("{wanted}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let (head, rest) = name.split_once('_')?;
    let rest = match (label("envoy_response_code_class"), label("envoy_response_code")) {
        (Some(class), _) => rest.replace("_xx", &format!("_{class}xx")),
        (None, Some(code)) => format!("{rest}_{code}"),
        (None, None) => rest.to_owned(),
    };
    if let Some(manager) = rest.strip_prefix("manager_") {
        return Some((format!("{head}_manager.{manager}"), value));
    }
    let of = match head {
        "cluster" => label("envoy_cluster_name"),
        "http" => label("envoy_http_conn_manager_prefix"),
        "listener" => label("envoy_listener_address"),
        "tcp" => label("envoy_tcp_prefix"),
        _ => return Some((format!("{head}.{rest}"), value)),
    };
    Some((format!("{head}.{}.{rest}", of?), value))
}

/// Emissary's ready port: `/ready`.
pub(super) struct Ready(pub Arc<State>);

impl Service for Ready {
    fn quick(&self, request: &Request) -> Option<Response> {
        let progress = &self.0.progress;
        Some(match request.path.as_str() {
            "/ready" if progress.is_ready() && progress.is_alive(Instant::now()) => {
                Response::text(200, "")
            }
            "/ready" => Response::text(503, ""),
            _ => Response::text(404, "not found\n"),
        })
    }

    fn slow(&self, _: &Request) -> Response {
        Response::text(404, "not found\n")
    }
}

#[cfg(test)]
mod tests;
