// SPDX-License-Identifier: Apache-2.0
//! The admin port: health, metrics, diagnostics, explanations; and the ports beside it.
//!
//! Peers that are not loopback get health and metrics; the rest only if the Module says
//! `diagnostics.allow_non_local`. What changes something (the log level, a drain) is not for pages of
//! other sites.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ringway_core::crd::Spec;
use ringway_core::ir::Ir;
use ringway_core::limits;
use ringway_core::name::Kind;
use ringway_core::problem::Severity;
use ringway_core::snapshot::Snapshot;
use ringway_core::tls::Identity;
use serde_json::json;
use tokio::task::JoinSet;

use crate::explain::{Question, explain};
use crate::gateway::State;
use crate::log;

mod diag;
mod envoy;
pub mod http;
mod listing;
mod metrics;
mod page;
mod snapshot;

use http::{Request, Response, Service};

/// Addresses of Emissary's other ports; none: nobody answers there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// 8005: `/snapshot-external`.
    pub snapshot: Option<SocketAddr>,
    /// 8006: `/ready`.
    pub ready: Option<SocketAddr>,
    /// 8001: Envoy's admin port, as far as scripts ask it.
    pub envoy: Option<SocketAddr>,
}

impl Sides {
    /// Answers there until the set is dropped, once the gateway serves: a port that a Listener wants is
    /// the Listener's. One that somebody else has is waited for; it may be that of the process before
    /// this one, and the gateway does without.
    pub(crate) fn serve(&self, state: &Arc<State>) -> JoinSet<()> {
        let mut sides = JoinSet::new();
        let state = || Arc::clone(state);
        if let Some(address) = self.snapshot {
            sides.spawn(side(address, state(), Arc::new(snapshot::External(state()))));
        }
        if let Some(address) = self.ready {
            sides.spawn(side(address, state(), Arc::new(envoy::Ready(state()))));
        }
        if let Some(address) = self.envoy {
            sides.spawn(side(address, state(), Arc::new(envoy::Envoy(state()))));
        }
        sides
    }
}

async fn side(address: SocketAddr, state: Arc<State>, service: Arc<impl Service>) {
    let is_wanted = || {
        let listeners = &state.report().ir.listeners;
        listeners.iter().any(|listener| listener.address.port() == address.port())
    };
    let mut is_said = false;
    loop {
        if state.progress.is_serving() && !is_wanted() {
            let wanted = async {
                while !is_wanted() {
                    tokio::time::sleep(limits::SIDE_PORT_RETRY).await;
                }
            };
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => tokio::select! {
                    () = http::serve(listener, Arc::clone(&service)) => {}
                    () = wanted => {}
                },
                Err(error) if !is_said => {
                    log::info(format!("nobody is answered on {address} for now: {error}"));
                    is_said = true;
                }
                Err(_) => {}
            }
        }
        let pause = if state.progress.is_serving() { limits::SIDE_PORT_RETRY } else { START_POLL };
        tokio::time::sleep(pause).await;
    }
}

/// How often to look whether the gateway serves by now.
const START_POLL: std::time::Duration = std::time::Duration::from_millis(10);

/// Certificates that are shown to clients, each once.
fn tls_identities(ir: &Ir) -> impl Iterator<Item = &Identity> {
    let mut seen = Vec::new();
    let chains = ir.listeners.iter().flat_map(|listener| &listener.tls);
    let identities = chains.filter_map(|chain| Some(&chain.termination.as_ref()?.spec.identity));
    identities.filter(move |identity| {
        let is_new = !seen.contains(identity);
        seen.push(*identity);
        is_new
    })
}

/// Answers requests to the admin port.
pub struct Admin {
    state: Arc<State>,
}

impl Admin {
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    fn alive(&self) -> Response {
        if self.state.progress.is_alive(Instant::now()) {
            Response::text(200, "Ambassador is alive and well\n")
        } else {
            Response::text(503, "Ambassador is not alive\n")
        }
    }

    fn ready(&self) -> Response {
        if self.state.progress.is_ready() {
            Response::text(200, "Ambassador is ready and waiting\n")
        } else {
            Response::text(503, "Ambassador is not ready\n")
        }
    }

    /// Begins to drain, as SIGTERM does; only SIGTERM ends the process. With `in=` only if it runs in
    /// that mount namespace: on a node's network the port may be another process's by now.
    fn drain(&self, request: &Request) -> Response {
        if request.is_foreign {
            return Response::text(403, "not for pages of other sites\n");
        }
        if request.parameter("in").is_some_and(|namespace| namespace != mount_namespace()) {
            return Response::text(200, "nothing to drain: another process answers here\n");
        }
        self.state.wishes.drain(false);
        Response::text(200, "draining\n")
    }

    fn explain(&self, request: &Request) -> Response {
        let report = self.state.report();
        let Some(table) = &report.table else {
            return Response::text(503, "no configuration is served yet\n");
        };
        let Some(url) = request.parameter("url") else {
            let usage = "usage: /api/v1/explain?method=GET&url=http://host/path&header=name:%20v";
            return Response::text(400, format!("{usage}\n"));
        };
        let headers = request.query.iter().filter(|(name, _)| name == "header");
        let question = Question {
            method: request.parameter("method").unwrap_or("GET").to_owned(),
            url: url.to_owned(),
            headers: headers.map(|(_, value)| value.clone()).collect(),
            port: request.parameter("port").and_then(|port| port.parse().ok()),
        };
        match explain(table, &question, &|cluster| self.state.progress.feed(cluster.slot)) {
            Err(error) => Response::text(400, format!("{error}\n")),
            Ok(story) if request.parameter("format") == Some("text") => {
                Response::text(200, format!("{story}\n"))
            }
            Ok(story) => Response::json(200, &story),
        }
    }

    fn workers(&self) -> Response {
        let progress = &self.state.progress;
        let (applied, took) = progress.applied().unzip();
        Response::json(
            200,
            &json!({
                "generation": progress.served(),
                "applied": applied,
                "apply_ms": took.map(|took| took.as_secs_f64() * 1e3),
                "ready": progress.is_ready(),
                "draining": progress.is_draining(),
                "listening": progress.bound(),
                "not_listening": progress
                    .bind_failures()
                    .iter()
                    .map(|(address, error)| json!({"address": address, "error": error}))
                    .collect::<Vec<_>>(),
                "workers": self.state.fleet.status(),
            }),
        )
    }

    /// Clusters with their endpoints as workers have them, or are about to; `name=` asks for one.
    fn clusters(&self, request: &Request) -> Response {
        let report = self.state.report();
        let wanted = request.parameter("name");
        let clusters: Vec<_> = (report.table.iter())
            .flat_map(|table| table.clusters.iter().flatten())
            .filter(|cluster| wanted.is_none_or(|name| *cluster.spec.name == *name))
            .map(|cluster| {
                let feed = self.state.progress.feed(cluster.slot);
                let endpoints = feed.iter().flat_map(|feed| feed.endpoints.iter());
                json!({
                    "name": cluster.spec.name,
                    "stats_name": cluster.spec.stats_name,
                    "balancer": cluster.spec.balancer,
                    "version": feed.as_ref().map_or(0, |feed| feed.version),
                    "endpoints": endpoints
                        .map(|e| json!({"address": e.address, "near": e.near}))
                        .collect::<Vec<_>>(),
                })
            })
            .collect();
        if wanted.is_some() && clusters.is_empty() {
            return Response::text(404, "no such cluster\n");
        }
        Response::json(200, &json!({ "clusters": clusters }))
    }

    fn problems(&self) -> Response {
        let report = self.state.report();
        let outdated: Vec<String> = report.outdated.iter().map(ToString::to_string).collect();
        let refused: Vec<String> = report.refused.iter().map(ToString::to_string).collect();
        Response::json(
            200,
            &json!({
                "errors": report.count(Severity::Error) + report.count(Severity::FailsClosed),
                "warnings": report.count(Severity::Warning),
                "notices": report.count(Severity::Notice),
                "problems": report.diagnostics,
                "serving_earlier_version": outdated,
                "refused": refused,
                "ignored": report.foreign,
            }),
        )
    }
}

impl Service for Admin {
    fn quick(&self, request: &Request) -> Option<Response> {
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        match path {
            "/ambassador/v0/check_alive" | "/livez" | "/healthz" => Some(self.alive()),
            "/ambassador/v0/check_ready" | "/readyz" => Some(self.ready()),
            "/api/v1/drain" if may_see_all(request, &self.state) => Some(self.drain(request)),
            _ if request.is_post => Some(Response::text(405, "only GET\n")),
            "/metrics" => None,
            _ if may_see_all(request, &self.state) => None,
            _ => Some(Response::text(404, "not found\n")),
        }
    }

    fn is_leaving(&self) -> bool {
        self.state.progress.is_draining()
    }

    fn slow(&self, request: &Request) -> Response {
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        let as_text = request.parameter("format") == Some("text");
        match path {
            "/metrics" => metrics::page(&self.state),
            "/ambassador/v0/diag" => diag::overview(&self.state, request),
            "/api/v1/explain" => self.explain(request),
            "/api/v1/workers" => self.workers(),
            "/api/v1/clusters" if !as_text => self.clusters(request),
            "/api/v1/problems" if !as_text => self.problems(),
            "/api/v1/status" => listing::status(&self.state, request),
            "" => diag::overview(&self.state, request),
            _ => match path.strip_prefix("/ambassador/v0/diag/") {
                Some(key) => diag::detail(&self.state, key, request),
                None => (path.strip_prefix("/api/v1/"))
                    .and_then(|what| listing::listing(&self.state, what, request))
                    .unwrap_or_else(|| Response::text(404, "not found\n")),
            },
        }
    }
}

fn may_see_all(request: &Request, state: &State) -> bool {
    request.peer.ip().to_canonical().is_loopback() || allows_non_local(&state.report().snapshot)
}

/// What tells the processes of one container from those of others.
pub fn mount_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// Module: `diagnostics.allow_non_local`, where diagnostics are enabled.
fn allows_non_local(snapshot: &Snapshot) -> bool {
    let modules = snapshot
        .of_kind(Kind::Module)
        .filter(|o| &**o.meta.name() == "ambassador")
        .filter(|o| o.meta.is_for(&snapshot.settings.ambassador_id));
    modules.into_iter().next().is_some_and(|object| match &object.spec {
        Spec::Module(module) => module.config.diagnostics.as_ref().is_some_and(|diagnostics| {
            diagnostics.allow_non_local == Some(true) && diagnostics.enabled != Some(false)
        }),
        _ => false,
    })
}

#[cfg(test)]
mod tests;
