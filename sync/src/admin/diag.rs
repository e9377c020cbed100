// SPDX-License-Identifier: Apache-2.0
//! Emissary's diagnostics: the same keys, filled from what is known here. What mirrors Envoy's
//! inside there is present and empty here.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, SystemTime};

use ringway_core::crd::source::Diagnostic;
use ringway_core::ir;
use ringway_core::name::Ref;
use ringway_core::policy::rewrite::PathRewrite;
use ringway_core::problem::Severity;
use serde_json::{Map, Value, json};

use super::http::{Request, Response};
use super::page;
use crate::gateway::{Report, State};
use crate::log::{self, Timestamp};

/// `/ambassador/v0/diag/`: JSON with `?json=true` (one key of it with `&filter=`), else a page.
/// `?loglevel=` first changes how much is said.
pub(super) fn overview(state: &State, request: &Request) -> Response {
    let report = state.report();
    if let Some(wanted) = request.parameter("loglevel") {
        if request.is_foreign {
            return Response::text(403, "not for pages of other sites\n");
        }
        match log::Level::parse(wanted) {
            Some(level) => log::set_level(level),
            None => return Response::text(400, "loglevel is one of debug, info, warn, error\n"),
        }
    }
    if request.parameter("json") != Some("true") {
        return Response::html(page::overview(state, &report));
    }
    let mut all = document(state, &report);
    match request.parameter("filter") {
        None => Response::json(200, &all),
        Some(key) => match all.get_mut(key) {
            Some(value) => Response::json(200, &value.take()),
            None => Response::text(404, "no such key\n"),
        },
    }
}

/// `/ambassador/v0/diag/<key>`: what there is about one object, `name.namespace` or
/// `Kind/namespace/name`.
pub(super) fn detail(state: &State, key: &str, request: &Request) -> Response {
    let report = state.report();
    let is_it = |name: &Ref| {
        key == source_key(name) || key == format!("{}/{}/{}", name.kind, name.namespace, name.name)
    };
    let objects: Vec<Value> = (report.snapshot.objects())
        .filter(|object| is_it(&object.meta.object))
        .map(|object| {
            let place = object.origin.document.as_ref();
            json!({
                "object": object.meta.object.to_string(),
                "source": place.map(|d| format!("{}:{}", d.file, d.first_line() + 1)),
            })
        })
        .collect();
    let problems: Vec<&Diagnostic> =
        (report.diagnostics.iter()).filter(|d| d.object.as_ref().is_some_and(is_it)).collect();
    if objects.is_empty() && problems.is_empty() {
        return Response::text(404, "no such object\n");
    }
    let routes: Vec<Value> = route_info(&report.ir)
        .into_iter()
        .filter(|route| objects.iter().any(|o| o["object"] == route["_object"]))
        .collect();
    if request.parameter("json") != Some("true") {
        let objects = objects.iter().filter_map(|object| object["object"].as_str());
        return Response::html(page::detail(objects, &problems, &routes));
    }
    Response::json(200, &json!({"objects": objects, "problems": problems, "route_info": routes}))
}

fn source_key(name: &Ref) -> String {
    format!("{}.{}", name.name, name.namespace)
}

fn document(state: &State, report: &Report) -> Value {
    let progress = &state.progress;
    let settings = &state.options.settings;
    let uptime = state.started.elapsed();
    let since_update = report.last_success.and_then(|at| at.elapsed().ok()).unwrap_or(uptime);
    let routes = route_info(&report.ir);
    let mut groups = Map::new();
    for route in &routes {
        let id = route["_group_id"].as_str().unwrap_or_default().to_owned();
        groups.entry(id).or_insert_with(|| route.clone());
    }
    for group in tcp_groups(&report.ir) {
        let id = group["_group_id"].as_str().unwrap_or_default().to_owned();
        groups.insert(id, group);
    }
    let mut sources: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut resources = Map::new();
    for object in report.snapshot.objects() {
        let key = source_key(&object.meta.object);
        if let Some(document) = &object.origin.document {
            sources.entry(document.file.to_string()).or_default().push(key.clone());
        }
        let kinds = resources.entry(object.meta.object.kind.as_str()).or_insert_with(|| json!([]));
        if let Value::Array(keys) = kinds {
            keys.push(key.into());
        }
    }
    json!({
        "active_elements": [],
        "ambassador_elements": {},
        "ambassador_resolvers": resources.get("KubernetesEndpointResolver").cloned()
            .unwrap_or_else(|| json!([])),
        "ambassador_resources": resources,
        "ambassador_services": services(&report.ir),
        "banner_content": null,
        "cluster_info": cluster_info(state, report),
        "cluster_stats": {},
        "envoy_elements": {},
        "envoy_resources": {},
        "envoy_status": {
            "alive": progress.is_alive(std::time::Instant::now()),
            "ready": progress.is_ready(),
            "since_update": format!("{} ago", words(since_update)),
            "uptime": words(uptime),
        },
        "errors": errors(report),
        "groups": groups,
        "loginfo": {"all": log::level().as_str()},
        "notices": notices(report),
        "route_info": routes,
        "source_map": sources,
        "system": {
            "ambassador_id": &*settings.ambassador_id,
            "ambassador_namespace": &*settings.namespace,
            "boot_time": Timestamp(state.boot_time).to_string(),
            "cluster_id": "",
            "debug_mode": log::level() == log::Level::Debug,
            "endpoints_enabled": true,
            "env_failures": [],
            "env_good": true,
            "env_status": {},
            "hostname": hostname(),
            "hr_uptime": words(uptime),
            "knative_enabled": false,
            "latest_snapshot": progress.served().to_string(),
            "single_namespace": settings.single_namespace,
            "statsd_enabled": false,
            "version": state.options.version,
        },
        "tlscontexts": tls_contexts(&report.ir),
    })
}

/// `[[key, message], …]`
fn errors(report: &Report) -> Vec<Value> {
    let is_error = |d: &&Diagnostic| matches!(d.severity, Severity::Error | Severity::FailsClosed);
    let error = |d: &Diagnostic| {
        let key = match (&d.object, &d.location) {
            (Some(object), _) => source_key(object),
            (None, Some(at)) => at.file.to_string(),
            (None, None) => String::new(),
        };
        json!([key, sentence(d)])
    };
    report.diagnostics.iter().filter(is_error).map(error).collect()
}

/// `[{level, message}, …]`
fn notices(report: &Report) -> Vec<Value> {
    let level = |severity| match severity {
        Severity::Warning => Some("WARNING"),
        Severity::Notice => Some("NOTICE"),
        Severity::Error | Severity::FailsClosed => None,
    };
    (report.diagnostics.iter())
        .filter_map(|d| Some(json!({"level": level(d.severity)?, "message": sentence(d)})))
        .collect()
}

fn sentence(diagnostic: &Diagnostic) -> String {
    let mut out = String::new();
    if let Some(at) = &diagnostic.location {
        let _ = write!(out, "{}:{}:{}: ", at.file, at.line, at.column);
    }
    if let Some(object) = &diagnostic.object {
        let _ = write!(out, "{object}: ");
    }
    if !diagnostic.path.is_empty() {
        let _ = write!(out, "{}: ", diagnostic.path);
    }
    out.push_str(&diagnostic.message);
    out
}

/// One entry per Mapping and virtual host that has it.
pub(super) fn route_info(ir: &ir::Ir) -> Vec<Value> {
    let mut out = Vec::new();
    for (domain, group) in ir.groups() {
        let id = group_id(group);
        out.extend(group.members.iter().map(|m| route(&id, domain, group, m)));
    }
    out
}

fn group_id(group: &ir::Group) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{:?}", group.matcher).hash(&mut hasher);
    format!("grp-{:016x}", hasher.finish())
}

fn route(id: &str, domain: &str, group: &ir::Group, member: &ir::Member) -> Value {
    let matcher = &group.matcher;
    let (prefix, kind) = match &matcher.path {
        ir::PathMatch::Prefix { text, .. } => (text.to_string(), "prefix"),
        ir::PathMatch::Exact { text, .. } => (text.to_string(), "exact"),
        ir::PathMatch::Regex(pattern) => (pattern.as_str().to_owned(), "regex"),
    };
    let field = |field: &ir::FieldMatch| json!({"name": field.name, "value": field.value});
    let (clusters, rewrite) = match &member.route.action {
        ir::Action::Forward(forward) => (
            json!([{
                "name": &*forward.cluster,
                "weight": member.to - member.from,
                "type_label": null,
            }]),
            match &forward.path {
                PathRewrite::Keep => Value::Null,
                PathRewrite::Prefix { with, .. } | PathRewrite::Whole(with) => json!(with),
                PathRewrite::Regex(substitution) => json!(substitution),
            },
        ),
        ir::Action::Redirect(redirect) => (json!([]), json!({"redirect": redirect})),
    };
    let object = &member.route.object;
    json!({
        "_group_id": id,
        "_object": object.to_string(),
        "_route": source_key(object),
        "_source": source_key(object),
        "clusters": clusters,
        "headers": matcher.headers.iter().map(field).collect::<Vec<_>>(),
        "host": domain,
        "key": source_key(object),
        "match": kind,
        "method": matcher.method,
        "precedence": group.rank.precedence,
        "prefix": prefix,
        "query_parameters": matcher.query.iter().map(field).collect::<Vec<_>>(),
        "rewrite": rewrite,
    })
}

/// One entry per TCPMapping route: of a port in cleartext, or of a server name.
fn tcp_groups(ir: &ir::Ir) -> Vec<Value> {
    let group = |listener: &ir::Listener, host: Option<&str>, route: &ir::TcpRoute| {
        let address = listener.address;
        let first = route.members.first().map(|member| &member.object);
        let member = |member: &ir::TcpMember| {
            json!({
                "_object": member.object.to_string(),
                "_source": source_key(&member.object),
                "cluster": &*member.cluster,
                "weight": member.to - member.from,
            })
        };
        json!({
            "_group_id": format!("tcp-{address}-{}", host.unwrap_or("cleartext")),
            "_source": first.map(source_key),
            "kind": "IRTCPMappingGroup",
            "address": address.ip(),
            "port": address.port(),
            "host": host,
            "mappings": route.members.iter().map(member).collect::<Vec<_>>(),
        })
    };
    let mut out = Vec::new();
    for listener in &ir.listeners {
        out.extend(listener.tcp.as_deref().map(|route| group(listener, None, route)));
        for chain in &listener.tls {
            let route = chain.tcp.as_deref();
            out.extend(route.map(|route| group(listener, Some(&chain.server_name), route)));
        }
    }
    out
}

/// What TLS is terminated with, each once: for which names, and until when.
pub(super) fn tls_contexts(ir: &ir::Ir) -> Vec<Value> {
    let mut contexts: Vec<(&ir::TlsChain, Vec<&str>)> = Vec::new();
    for chain in ir.listeners.iter().flat_map(|listener| &listener.tls) {
        let known = contexts.iter_mut().find(|(known, _)| {
            known.object == chain.object && known.termination == chain.termination
        });
        match known {
            Some((_, names)) if names.contains(&&*chain.server_name) => {}
            Some((_, names)) => names.push(&chain.server_name),
            None => contexts.push((chain, vec![&chain.server_name])),
        }
    }
    let context = |(chain, hosts): &(&ir::TlsChain, Vec<&str>)| {
        let spec = chain.termination.as_ref().map(|termination| &termination.spec);
        let clients = spec.and_then(|spec| spec.clients.as_ref());
        json!({
            "_source": chain.object.as_ref().map(source_key),
            "name": chain.object.as_ref().map_or_else(
                || "fallback-self-signed-cert".to_owned(),
                |object| object.name.to_string(),
            ),
            "namespace": chain.object.as_ref().map(|object| object.namespace.to_string()),
            "hosts": hosts,
            "certificate_names": spec.map(|spec| &spec.identity.names),
            "certificate_expires": spec.map(|spec| expiry(spec.identity.not_after)),
            "cert_required": clients.is_some_and(|clients| clients.required),
            "ca_secret": clients.is_some(),
            "alpn_protocols": spec.map(|spec| spec.alpn.join(",")),
            "min_tls_version": spec.and_then(|spec| spec.parameters.min_version),
            "max_tls_version": spec.and_then(|spec| spec.parameters.max_version),
            "usable": spec.is_some(),
        })
    };
    contexts.iter().map(context).collect()
}

fn expiry(not_after: i64) -> String {
    let seconds = u64::try_from(not_after).unwrap_or(0);
    Timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

fn services(ir: &ir::Ir) -> Vec<Value> {
    let service = |cluster: &std::sync::Arc<ir::Cluster>| json!({"name": &*cluster.name, "stats_name": &*cluster.stats_name, "source": cluster.source});
    ir.clusters.iter().map(service).collect()
}

fn cluster_info(state: &State, report: &Report) -> Map<String, Value> {
    let clusters = report.table.iter().flat_map(|table| table.clusters.iter().flatten());
    let info = |cluster: &std::sync::Arc<ringway_core::table::Cluster>| {
        let spec = &cluster.spec;
        let endpoints = state.progress.feed(cluster.slot).map_or(0, |feed| feed.endpoints.len());
        let value = json!({"host": &*spec.host, "endpoints": endpoints, "source": spec.source});
        (spec.name.to_string(), value)
    };
    clusters.map(info).collect()
}

pub(super) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// `2 days, 3 hours, 4 minutes, 5 seconds`, without what is zero in front.
pub(super) fn words(duration: Duration) -> String {
    let s = duration.as_secs();
    let parts = [(s / 86_400, "day"), (s / 3600 % 24, "hour"), (s / 60 % 60, "minute")];
    let mut out = String::new();
    for (n, unit) in parts {
        if n > 0 || !out.is_empty() {
            let _ = write!(out, "{n} {unit}{}, ", if n == 1 { "" } else { "s" });
        }
    }
    let _ = write!(out, "{} second{}", s % 60, if s % 60 == 1 { "" } else { "s" });
    out
}
