// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ringway_core::link::{Ack, Bind, Command, Fleet, WorkerStatus};
use ringway_core::name::Generation;
use ringway_core::observe::metric::Slab;
use ringway_core::snapshot::Settings;
use serde_json::Value;

use super::*;
use crate::gateway::{Options, Report, load};
use crate::scratch::Scratch;
use crate::watch::Place;

/// One worker that does nothing.
#[derive(Default)]
struct Fake(Slab);

impl Fleet for Fake {
    fn workers(&self) -> usize {
        1
    }

    fn listen(&self, binds: &[Bind]) -> Vec<io::Result<()>> {
        binds.iter().map(|_| Ok(())).collect()
    }

    fn send(&self, _: usize, _: Command) -> bool {
        true
    }

    fn ack(&self, _: Duration) -> Option<Ack> {
        None
    }

    fn slab(&self, _: usize) -> &Slab {
        &self.0
    }

    fn status(&self) -> Vec<WorkerStatus> {
        vec![WorkerStatus {
            worker: 0,
            cpu: None,
            generation: Generation(1),
            io_backend: "epoll",
            io_reason: "asked for".into(),
            connections: 3,
            draining: false,
        }]
    }

    fn close_listeners(&self) {}

    fn is_drained(&self) -> bool {
        false
    }

    fn connections(&self) -> u64 {
        3
    }
}

const MANIFESTS: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: any}
spec: {hostname: '*', requestPolicy: {insecure: {action: Route}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: quote}
spec: {hostname: '*', prefix: /backend/, service: 127.0.0.1:9}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: broken}
spec: {hostname: '*', prefix: [], service: 127.0.0.1:9}
";

/// An admin port whose gateway has built these manifests.
fn admin(manifests: &str) -> Admin {
    let scratch = Scratch::new();
    scratch.write("a.yaml", manifests);
    let loaded = load(scratch.path(), Settings::default(), BTreeMap::new()).unwrap();
    let options = Options {
        place: Place::Folder(scratch.path().to_owned()),
        settings: Settings::default(),
        environment: BTreeMap::new(),
        admin: ([127, 0, 0, 1], 8877).into(),
        resolv_conf: "/etc/resolv.conf".into(),
        drain_time: Duration::ZERO,
        shutdown_delay: Duration::ZERO,
        memory_limit: None,
        version: "0.0.0",
    };
    let state = State::new(options, Arc::new(Fake::default()));
    state.set_report(Report {
        table: Some(loaded.table),
        ir: loaded.ir,
        snapshot: loaded.snapshot,
        diagnostics: loaded.diagnostics,
        ..Report::default()
    });
    Admin::new(Arc::new(state))
}

impl Admin {
    fn ask(&self, target: &str, peer: &str) -> Response {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let request = Request {
            path: path.to_owned(),
            query: pairs.map(|(n, v)| (n.to_owned(), http::percent_decode(v))).collect(),
            peer: SocketAddr::new(peer.parse().unwrap(), 1),
        };
        self.quick(&request).unwrap_or_else(|| self.slow(&request))
    }

    fn get(&self, target: &str) -> Response {
        self.ask(target, "127.0.0.1")
    }

    fn json(&self, target: &str) -> Value {
        let response = self.get(target);
        assert_eq!(response.status, 200, "{target}");
        serde_json::from_slice(&response.body).unwrap()
    }
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

#[test]
fn health_says_emissarys_words() {
    let admin = admin(MANIFESTS);
    let alive = admin.get("/ambassador/v0/check_alive");
    assert_eq!((alive.status, text(&alive)), (200, "Ambassador is alive and well\n"));
    let ready = admin.get("/ambassador/v0/check_ready");
    assert_eq!((ready.status, text(&ready)), (503, "Ambassador is not ready\n"));
    admin.state.progress.set_ready();
    let ready = admin.get("/ambassador/v0/check_ready");
    assert_eq!((ready.status, text(&ready)), (200, "Ambassador is ready and waiting\n"));
    assert_eq!(admin.get("/readyz").status, 200);
    admin.state.progress.set_draining();
    assert_eq!(admin.get("/readyz").status, 503);
    assert_eq!(admin.get("/livez").status, 200);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(31));
    admin.state.progress.set_slowest(long_ago);
    assert_eq!(admin.get("/healthz").status, 503);
}

#[test]
fn strangers_see_health_and_metrics_only() {
    let here = admin(MANIFESTS);
    assert_eq!(here.ask("/livez", "192.0.2.1").status, 200);
    assert_eq!(here.ask("/metrics", "192.0.2.1").status, 200);
    for target in ["/", "/ambassador/v0/diag/?json=true", "/api/v1/workers", "/api/v1/problems"] {
        assert_eq!(here.ask(target, "192.0.2.1").status, 404, "{target}");
        assert_eq!(here.ask(target, "::ffff:127.0.0.1").status, 200, "{target}");
    }
    let module = "---\napiVersion: getambassador.io/v3alpha1\nkind: Module\n\
                  metadata: {name: ambassador}\n\
                  spec: {config: {diagnostics: {allow_non_local: true}}}\n";
    let open = admin(&format!("{MANIFESTS}{module}"));
    assert_eq!(open.ask("/api/v1/workers", "192.0.2.1").status, 200);
}

#[test]
fn diagnostics_have_emissarys_keys() {
    let diag = admin(MANIFESTS).json("/ambassador/v0/diag/?json=true");
    let keys = [
        "active_elements",
        "ambassador_elements",
        "ambassador_resolvers",
        "ambassador_resources",
        "ambassador_services",
        "banner_content",
        "cluster_info",
        "cluster_stats",
        "envoy_elements",
        "envoy_resources",
        "envoy_status",
        "errors",
        "groups",
        "loginfo",
        "notices",
        "route_info",
        "source_map",
        "system",
        "tlscontexts",
    ];
    for key in keys {
        assert!(diag.get(key).is_some(), "{key}");
    }
    assert_eq!(diag["errors"][0][0], "broken.default");
    let routes = diag["route_info"].as_array().unwrap();
    let quote = routes.iter().find(|r| r["key"] == "quote.default").unwrap();
    assert_eq!(quote["prefix"], "/backend/");
    assert_eq!(quote["clusters"][0]["weight"], 100);
    assert!(diag["groups"].get(quote["_group_id"].as_str().unwrap()).is_some());
    assert_eq!(diag["system"]["ambassador_id"], "default");
    assert_eq!(diag["envoy_status"]["alive"], true);
}

#[test]
fn one_key_one_object_and_the_page() {
    let admin = admin(MANIFESTS);
    assert_eq!(admin.json("/ambassador/v0/diag/?json=true&filter=errors")[0][0], "broken.default");
    assert_eq!(admin.get("/ambassador/v0/diag/?json=true&filter=nothing").status, 404);
    let quote = admin.json("/ambassador/v0/diag/quote.default");
    assert_eq!(quote["objects"][0]["object"], "Mapping default/quote");
    assert_eq!(admin.get("/ambassador/v0/diag/none.default").status, 404);
    let page = admin.get("/ambassador/v0/diag/");
    assert!(page.content_type.starts_with("text/html"));
    assert!(text(&page).contains("/backend/"));
}

#[test]
fn problems_workers_explanations_and_metrics_are_there() {
    let admin = admin(MANIFESTS);
    assert_eq!(admin.json("/api/v1/problems")["errors"], 1);
    let workers = admin.json("/api/v1/workers");
    assert_eq!(workers["workers"][0]["io_backend"], "epoll");
    assert_eq!(workers["workers"][0]["connections"], 3);
    let clusters = admin.json("/api/v1/clusters");
    let upstream =
        clusters["clusters"].as_array().unwrap().iter().find(|c| c["stats_name"] == "127_0_0_1_9");
    let name = upstream.unwrap()["name"].as_str().unwrap();
    let one = admin.json(&format!("/api/v1/clusters?name={name}"));
    assert_eq!(one["clusters"].as_array().unwrap().len(), 1);
    assert_eq!(one["clusters"][0]["balancer"], "round_robin");
    assert_eq!(admin.get("/api/v1/clusters?name=nobody").status, 404);
    let target = "/api/v1/explain?method=GET&url=http%3A%2F%2Fa%3A8080%2Fbackend%2F";
    assert_eq!(admin.json(target)["outcome"]["mapping"]["name"], "quote");
    let told = admin.get(&format!("{target}&format=text"));
    assert!(text(&told).contains("Mapping default/quote"));
    assert_eq!(admin.get("/api/v1/explain").status, 400);
    let metrics = admin.get("/metrics");
    assert!(text(&metrics).contains("envoy_http_downstream_rq_total"));
    assert_eq!(admin.get("/nonsense").status, 404);
}

#[test]
fn listings_are_tables_for_people_and_lists_for_programs() {
    let admin = admin(MANIFESTS);
    let routes = admin.get("/api/v1/routes?format=text");
    let lines: Vec<Vec<&str>> =
        text(&routes).lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["HOST", "PATH", "METHOD", "MORE", "SHARE", "TO", "MAPPING"]);
    let quote = lines.iter().find(|line| line[1] == "/backend/*").unwrap();
    assert_eq!((quote[0], quote[4], *quote.last().unwrap()), ("*", "100%", "default/quote"));
    // Columns stand below each other.
    let at = |line: &str| line.find("100%").or_else(|| line.find("SHARE"));
    let places: HashSet<_> = text(&routes).lines().map(at).collect();
    assert_eq!(places.len(), 1);

    assert_eq!(admin.json("/api/v1/routes").as_array().unwrap().len(), lines.len() - 1);
    let hosts = admin.json("/api/v1/hosts");
    let host = (&hosts[0]["host"], &hosts[0]["insecure"], &hosts[0]["object"]);
    assert_eq!(host, (&"*".into(), &"Route".into(), &"Host default/any".into()));
    // Nobody has bound anything in this test.
    assert_eq!(admin.json("/api/v1/listeners")[0]["state"], "not yet");
    let problems = admin.get("/api/v1/problems?format=text");
    let broken = text(&problems).lines().find(|line| line.contains("default/broken")).unwrap();
    assert!(broken.starts_with("error  ") && broken.contains("a.yaml:"), "{broken}");
    assert!(text(&admin.get("/api/v1/clusters?format=text")).contains("127.0.0.1"));
    assert_eq!(admin.get("/api/v1/nothing").status, 404);
    assert_eq!(admin.ask("/api/v1/routes", "10.0.0.1").status, 404, "not for everybody");
}

#[test]
fn status_says_how_the_gateway_is() {
    let admin = admin(MANIFESTS);
    let status = admin.json("/api/v1/status");
    assert_eq!((&status["state"], &status["workers"]), (&"not ready".into(), &1.into()));
    assert_eq!((&status["errors"], &status["connections"]), (&1.into(), &3.into()));
    let response = admin.get("/api/v1/status?format=text");
    assert!(text(&response).starts_with("state        not ready\n"), "{}", text(&response));
    assert!(text(&response).contains("problems     1 errors, 0 warnings\n"));
}
