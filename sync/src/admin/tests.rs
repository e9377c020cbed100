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
        sides: Sides::default(),
        webhook: None,
        stays: false,
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

fn request(target: &str, peer: &str) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    Request {
        path: path.to_owned(),
        query: pairs.map(|(n, v)| (n.to_owned(), http::percent_decode(v))).collect(),
        peer: SocketAddr::new(peer.parse().unwrap(), 1),
        is_post: false,
        is_foreign: false,
    }
}

fn answer(service: &impl Service, request: &Request) -> Response {
    service.quick(request).unwrap_or_else(|| service.slow(request))
}

impl Admin {
    fn ask(&self, target: &str, peer: &str) -> Response {
        answer(self, &request(target, peer))
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
    let quote = admin.json("/ambassador/v0/diag/quote.default?json=true");
    assert_eq!(quote["objects"][0]["object"], "Mapping default/quote");
    assert_eq!(admin.get("/ambassador/v0/diag/none.default").status, 404);
    for target in ["/ambassador/v0/diag/", "/ambassador/v0/diag/quote.default", "/"] {
        let page = admin.get(target);
        assert!(page.content_type.starts_with("text/html"));
        assert!(text(&page).contains("/backend/"), "{target}");
        // It needs nothing from elsewhere.
        assert!(!text(&page).contains("http") && !text(&page).contains("<script"), "{target}");
    }
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

#[test]
fn the_log_level_is_changed_by_who_may() {
    let admin = admin(MANIFESTS);
    let level = || admin.json("/ambassador/v0/diag/?json=true&filter=loginfo")["all"].clone();
    let before = level();
    assert_eq!(admin.get("/ambassador/v0/diag/?loglevel=debug").status, 200);
    assert_eq!(level(), "debug");
    assert_eq!(admin.get("/ambassador/v0/diag/?loglevel=loud").status, 400);
    let mut foreign = request("/ambassador/v0/diag/?loglevel=error", "127.0.0.1");
    foreign.is_foreign = true;
    assert_eq!(answer(&admin, &foreign).status, 403);
    assert_eq!(admin.ask("/ambassador/v0/diag/?loglevel=error", "192.0.2.1").status, 404);
    assert_eq!(level(), "debug");
    log::set_level(log::Level::parse(before.as_str().unwrap()).unwrap());
}

#[test]
fn the_snapshot_has_everything_but_secrets() {
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: tls}\n\
                  stringData: {tls.key: hunter2-hunter2}\n\
                  ---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\n\
                  metadata: {name: token}\nspec: {hostname: '*', prefix: /t/, service: 'a:1', \
                  add_request_headers: {x-token: {value: 'Bearer of-the-environment'}}}\n";
    let mut admin = admin(&format!("{MANIFESTS}{secret}"));
    let state = Arc::get_mut(&mut admin.state).unwrap();
    state.options.environment = [("TOKEN", "of-the-environment"), ("AMBASSADOR_ID", "default")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let external = snapshot::External(Arc::clone(&admin.state));
    let page = answer(&external, &request("/snapshot-external", "192.0.2.1"));
    assert_eq!(page.status, 200);
    assert!(!text(&page).contains("hunter2") && !text(&page).contains("of-the-env"));
    let all: Value = serde_json::from_slice(&page.body).unwrap();
    let kubernetes = &all["Kubernetes"];
    assert_eq!(kubernetes["secret"][0]["data"]["tls.key"], "PFJFREFDVEVEPg==");
    assert_eq!(kubernetes["Mapping"][0]["spec"]["prefix"], "/backend/");
    assert_eq!(kubernetes["Mapping"][0]["metadata"]["namespace"], "default");
    let header = &kubernetes["Mapping"][1]["spec"]["add_request_headers"]["x-token"];
    assert_eq!(header["value"], "Bearer ${TOKEN}");
    assert_eq!(kubernetes["Host"][0]["spec"]["hostname"], "*");
    assert_eq!(kubernetes["Listener"].as_array().unwrap().len(), 1);
    assert_eq!(kubernetes["Endpoints"], serde_json::json!([]));
    assert_eq!(all["AmbassadorMeta"]["ambassador_id"], "default");
    assert_eq!(answer(&external, &request("/snapshot", "127.0.0.1")).status, 404);
}

#[test]
fn scripts_ask_as_they_ask_envoy() {
    let admin = admin(MANIFESTS);
    let envoy = envoy::Envoy(Arc::clone(&admin.state));
    let get = |target: &str| answer(&envoy, &request(target, "127.0.0.1"));
    let post = |target: &str| {
        let mut request = request(target, "127.0.0.1");
        request.is_post = true;
        answer(&envoy, &request)
    };
    let json = |target: &str| serde_json::from_slice::<Value>(&get(target).body).unwrap();
    assert_eq!((get("/ready").status, text(&get("/ready"))), (503, "INITIALIZING\n"));
    admin.state.progress.set_ready();
    assert_eq!((get("/ready").status, text(&get("/ready"))), (200, "LIVE\n"));
    assert_eq!(json("/server_info")["state"], "LIVE");
    assert_eq!(post("/healthcheck/fail").status, 200);
    assert_eq!((get("/ready").status, text(&get("/ready"))), (503, "DRAINING\n"));
    assert_eq!(admin.get("/ambassador/v0/check_ready").status, 503);
    assert_eq!(post("/healthcheck/ok").status, 200);
    assert_eq!(admin.get("/ambassador/v0/check_ready").status, 200);

    let stats = get("/stats?filter=downstream_rq_total");
    assert_eq!(text(&stats), "http.ingress_http.downstream_rq_total: 0\n");
    let stats = json("/stats?format=json&filter=^cluster.127_0_0_1_9.membership_total$");
    assert_eq!(stats["stats"][0]["value"], 0);
    assert_eq!(get("/stats?filter=(").status, 400);
    assert!(text(&get("/stats/prometheus")).contains("envoy_http_downstream_rq_total{"));
    assert!(text(&get("/clusters")).contains("::observability_name::127_0_0_1_9\n"));
    assert!(json("/clusters?format=json")["cluster_statuses"][0]["name"].is_string());
    assert_eq!(json("/listeners?format=json")["listener_statuses"], serde_json::json!([]));
    assert_eq!(json("/certs")["certificates"], serde_json::json!([]));
    assert!(json("/memory")["allocated"].is_string());
    let dump = json("/config_dump");
    assert_eq!(dump["configs"][1]["dynamic_listeners"][0]["name"], "ambassador-listener-8080");

    // Changes want POST, and nobody from elsewhere.
    for path in ["/drain_listeners", "/quitquitquit", "/healthcheck/fail", "/logging?level=debug"] {
        assert_eq!(get(path).status, 405, "{path}");
        let mut foreign = request(path, "127.0.0.1");
        (foreign.is_post, foreign.is_foreign) = (true, true);
        assert_eq!(answer(&envoy, &foreign).status, 403, "{path}");
        assert_eq!(answer(&envoy, &request(path, "192.0.2.1")).status, 404, "{path}");
    }
    assert_eq!(post("/logging?level=nonsense").status, 400);
    assert!(text(&post("/logging")).starts_with("active loggers:"));
    assert_eq!(get("/nothing").status, 404);

    let ready = envoy::Ready(Arc::clone(&admin.state));
    assert_eq!(answer(&ready, &request("/ready", "127.0.0.1")).status, 200);
    admin.state.progress.set_draining();
    assert_eq!(answer(&ready, &request("/ready", "127.0.0.1")).status, 503);
    assert_eq!(text(&get("/ready")), "DRAINING\n");
}
