// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::super::tests::{LISTENER, mapping, only, resolved};
use crate::ir::{self, AuthorityMatch, PathMatch, Transport, UpstreamProtocol, ValueMatch};
use crate::policy::redirect::{RedirectPath, Scheme};
use crate::policy::rewrite::{HostRewrite, PathRewrite};
use crate::problem::{Problems, Severity};

/// The only Mapping of these fields, on a `*` Host.
fn one(fields: &str) -> (Option<Arc<ir::Group>>, ir::Ir, Problems) {
    let (ir, problems) = resolved(&(LISTENER.to_owned() + &mapping("m", fields)));
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let group = groups.iter().find(|g| &*g.members[0].route.object.name == "m").cloned();
    (group, ir, problems)
}

#[track_caller]
fn group(fields: &str) -> Arc<ir::Group> {
    let (group, _, problems) = one(&format!("hostname: '*', {fields}"));
    group.unwrap_or_else(|| panic!("{fields}: {problems:?}"))
}

#[track_caller]
fn forward(fields: &str) -> ir::Forward {
    match &group(fields).members[0].route.action {
        ir::Action::Forward(forward) => (**forward).clone(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn cluster(fields: &str) -> ir::Cluster {
    let (_, ir, _) = one(&format!("hostname: '*', {fields}"));
    let name = forward(fields).cluster;
    ir::Cluster::clone(&ir.clusters[&*name])
}

#[track_caller]
fn refused(fields: &str, path: &str, reason: &str) {
    let (group, _, problems) = one(fields);
    assert!(group.is_none(), "{fields}");
    let problem = problems.iter().find(|p| p.severity == Severity::Error);
    let problem = problem.unwrap_or_else(|| panic!("{fields}: {problems:?}"));
    assert_eq!((problem.path.as_str(), problem.reason), (path, reason), "{problems:?}");
}

#[track_caller]
fn told(fields: &str, severity: Severity, path: &str, reason: &str) {
    let (group, _, problems) = one(&format!("hostname: '*', prefix: /, {fields}"));
    assert!(group.is_some(), "{fields}: {problems:?}");
    let said =
        problems.iter().any(|p| (p.severity, &*p.path, p.reason) == (severity, path, reason));
    assert!(said, "{fields}: {problems:?}");
}

#[test]
fn paths() {
    let path = |fields: &str| group(&format!("service: q, {fields}")).matcher.path.clone();
    let prefix =
        |text: &str, case_sensitive| PathMatch::Prefix { text: text.into(), case_sensitive };
    assert_eq!(path("prefix: /a"), prefix("/a", true));
    assert_eq!(path("prefix: /a, case_sensitive: false"), prefix("/a", false));
    assert_eq!(
        path("prefix: /a, prefix_exact: true"),
        PathMatch::Exact { text: "/a".into(), case_sensitive: true }
    );
    let regex = path("prefix: '/a.*', prefix_exact: true, prefix_regex: true");
    assert!(matches!(regex, PathMatch::Regex(pattern) if pattern.as_str() == "/a.*"));
    refused("prefix: '/a(', prefix_regex: true, service: q", "spec.prefix", "BadRegex");
    let (_, _, problems) = one("hostname: '*', prefix: a, service: q");
    assert_eq!(only(&problems).reason, "NeverMatches");
}

#[test]
fn hosts() {
    let authority = |fields: &str| {
        one(&format!("prefix: /, service: q, {fields}")).0.unwrap().matcher.authority.clone()
    };
    assert_eq!(authority("hostname: '*'"), None);
    assert_eq!(authority("hostname: Foo.com."), Some(AuthorityMatch::Exact("foo.com".into())));
    assert_eq!(authority("hostname: '*.foo.com'"), Some(AuthorityMatch::Suffix(".foo.com".into())));
    assert_eq!(authority("hostname: 'foo.*'"), Some(AuthorityMatch::Prefix("foo.".into())));
    assert_eq!(authority("host: foo.com"), Some(AuthorityMatch::Exact("foo.com".into())));
    assert_eq!(
        authority("headers: {':authority': foo.com}"),
        Some(AuthorityMatch::Exact("foo.com".into()))
    );
    assert_eq!(
        authority("host: bar.com, hostname: foo.com"),
        Some(AuthorityMatch::Exact("foo.com".into()))
    );
    let regex = authority("host: '[a-z]+', host_regex: true");
    assert!(matches!(regex, Some(AuthorityMatch::Regex(_))));
    refused("prefix: /, service: q, host: '*.com'", "spec.host", "BadHostname");
    let header = "prefix: /, service: q, headers: {':authority': '*'}";
    refused(header, "spec.headers[\":authority\"]", "BadHostname");
}

#[test]
fn other_predicates() {
    let matcher = group(
        "prefix: /, service: q, method: GET, headers: {X-A: '1'}, regex_headers: {x-b: '.+'}, \
         v2BoolHeaders: [x-c], query_parameters: {P: v}, regex_query_parameters: {q: '.*'}, \
         v2BoolQueryParameters: [r]",
    )
    .matcher
    .clone();
    assert_eq!(matcher.method, Some(ValueMatch::Exact("GET".into())));
    let names = |fields: &[ir::FieldMatch]| -> Vec<String> {
        let kind = |value: &ValueMatch| match value {
            ValueMatch::Exact(text) => format!("={text}"),
            ValueMatch::Regex(pattern) => format!("~{}", pattern.as_str()),
            ValueMatch::Present => String::new(),
        };
        fields.iter().map(|f| format!("{}{}", f.name, kind(&f.value))).collect()
    };
    assert_eq!(names(&matcher.headers), ["x-a=1", "x-c", "x-b~.+"]);
    assert_eq!(names(&matcher.query), ["P=v", "r", "q~.*"]);
    let regex =
        group("prefix: /, service: q, method: 'GET|PUT', method_regex: true").matcher.clone();
    assert!(matches!(regex.method, Some(ValueMatch::Regex(_))));
    refused(
        "prefix: /, service: q, regex_headers: {x: '('}",
        "spec.regex_headers[\"x\"]",
        "BadRegex",
    );
}

#[test]
fn ranks() {
    let rank = |fields: &str| one(&format!("service: q, {fields}")).0.unwrap().rank.clone();
    let rank_of =
        rank("hostname: foo.com, prefix: /abc/, precedence: 3, method: PUT, headers: {x: '12'}");
    assert_eq!((rank_of.precedence, rank_of.path_len), (3, 5));
    let authority = ":authority".len() + "foo.com".len();
    assert_eq!(rank_of.header_len, authority + ":method".len() + 3 + 3);
    assert_eq!(&*rank_of.method, "PUT");
    let keys: Vec<&str> = rank_of.header_keys.iter().map(|k| &**k).collect();
    assert_eq!(keys, ["x-12", ":authority-foo.com", ":method-PUT"]);
    let plain = rank("hostname: '*', prefix: /");
    assert_eq!(plain.header_len, ":authority".len() + 1);
    assert_eq!(&*plain.method, "GET");
    let regex = rank("hostname: '*', prefix: /, regex_headers: {x: a}, v2BoolHeaders: [y]");
    assert_eq!(regex.header_len, ":authority".len() + 1 + 3 + 2);
    let query =
        rank("hostname: '*', prefix: /, query_parameters: {a: bc}, regex_query_parameters: {d: e}");
    assert_eq!(query.query_len, 3 + 3);
    assert!(rank("hostname: '*', prefix: /, precedence: -1") < plain);
}

#[test]
fn rewrites() {
    let path = |fields: &str| forward(&format!("service: q, {fields}")).path;
    assert_eq!(path("prefix: /a/"), PathRewrite::Prefix { len: 3, with: "/".into() });
    assert_eq!(path("prefix: /a/, rewrite: ''"), PathRewrite::Keep);
    assert_eq!(path("prefix: /a/, rewrite: /b"), PathRewrite::Prefix { len: 3, with: "/b".into() });
    assert_eq!(path("prefix: /a, prefix_exact: true"), PathRewrite::Whole("/".into()));
    assert_eq!(
        path("prefix: /a, prefix_regex: true, rewrite: /b"),
        PathRewrite::Whole("/b".into())
    );
    let regex = "regex_rewrite: {pattern: '/(.*)/', substitution: '/\\1'}";
    assert!(matches!(path(&format!("prefix: /, {regex}")), PathRewrite::Regex(_)));
    told(
        &format!("service: q, rewrite: /b/, {regex}"),
        Severity::Notice,
        "spec.rewrite",
        "Conflict",
    );
    let bad = "prefix: /, service: q, regex_rewrite: {pattern: '(', substitution: x}";
    refused(bad, "spec.regex_rewrite", "BadRegex");
    let group = "prefix: /, service: q, regex_rewrite: {pattern: 'a', substitution: '\\2'}";
    refused(group, "spec.regex_rewrite", "BadRegex");
    refused("prefix: /, service: q, rewrite: \"/\\r\\n\"", "spec.rewrite", "BadValue");

    let host = |fields: &str| forward(&format!("prefix: /, service: q, {fields}")).host;
    assert_eq!(host("rewrite: ''"), HostRewrite::Keep);
    assert_eq!(host("host_rewrite: x.com"), HostRewrite::Literal("x.com".into()));
    assert_eq!(host("auto_host_rewrite: true"), HostRewrite::Auto);
    told(
        "service: q, host_rewrite: x, auto_host_rewrite: true",
        Severity::Warning,
        "spec.auto_host_rewrite",
        "Conflict",
    );
}

#[test]
fn redirects() {
    let redirect = |fields: &str| match &group(&format!("host_redirect: true, {fields}")).members[0]
        .route
        .action
    {
        ir::Action::Redirect(redirect) => (**redirect).clone(),
        other => panic!("{other:?}"),
    };
    let plain = redirect("prefix: /a/, service: foo");
    assert_eq!((plain.host.as_deref(), plain.scheme, plain.status), (Some("foo"), None, 301));
    assert_eq!(plain.path, RedirectPath::Keep);
    let full =
        redirect("prefix: /a/, service: 'https://foo.com:8443', redirect_response_code: 308");
    assert_eq!(full.host.as_deref(), Some("foo.com:8443"));
    assert_eq!((full.scheme, full.status), (Some(Scheme::Https), 308));
    let path = |fields: &str| redirect(&format!("prefix: /a/, service: foo, {fields}")).path;
    assert_eq!(path("path_redirect: /b"), RedirectPath::Whole("/b".into()));
    assert_eq!(path("prefix_redirect: /b/"), RedirectPath::Prefix { len: 3, with: "/b/".into() });
    assert_eq!(path("prefix_exact: true, prefix_redirect: /b/"), RedirectPath::Whole("/b/".into()));
    assert!(matches!(
        path("regex_redirect: {pattern: a, substitution: b}"),
        RedirectPath::Regex(_)
    ));
    let base = "hostname: '*', prefix: /, service: foo, host_redirect: true";
    refused(&format!("{base}, path_redirect: /a, prefix_redirect: /b"), "spec", "Conflict");
    refused(
        &format!("{base}, redirect_response_code: 304"),
        "spec.redirect_response_code",
        "BadValue",
    );
    refused(&format!("{base}, path_redirect: \"/a\\nb\""), "spec.path_redirect", "BadValue");
    told("service: q, path_redirect: /a", Severity::Warning, "spec.path_redirect", "NoEffect");
    let answer = group(
        &format!("{base}, add_response_headers: {{x: {{value: y}}}}")
            .replace("hostname: '*', ", ""),
    );
    assert_eq!(answer.members[0].route.response_headers.add.len(), 1);
}

#[test]
fn header_edits() {
    let route = |fields: &str| {
        Arc::clone(&group(&format!("prefix: /, service: q, {fields}")).members[0].route)
    };
    let edits = route(
        "add_request_headers: {X-A: {value: '1'}, X-B: {value: '2', append: false}}, \
         remove_request_headers: [X-C]",
    )
    .request_headers
    .clone();
    let drop: Vec<&str> = edits.drop.iter().map(|d| &**d).collect();
    assert_eq!(drop, ["x-c", "x-b"]);
    let add: Vec<(&str, &str)> = edits.add.iter().map(|a| (&*a.name, a.value.as_str())).collect();
    assert_eq!(add, [("X-A", "1"), ("X-B", "2")]);
    let linkerd = route("add_linkerd_headers: true").request_headers.clone();
    assert_eq!(linkerd.add[0].value.as_str(), "q:80");
    let base = "hostname: '*', prefix: /, service: q";
    let at = "spec.add_request_headers[\"x\"]";
    refused(&format!("{base}, add_request_headers: {{x: {{value: '%NOPE%'}}}}"), at, "BadFormat");
    refused(&format!("{base}, add_request_headers: {{x: {{value: \"a\\nb\"}}}}"), at, "BadValue");
    for name in ["Host", ":path", "a b"] {
        let fields = format!("{base}, add_response_headers: {{'{name}': {{value: x}}}}");
        refused(&fields, &format!("spec.add_response_headers[{name:?}]"), "BadHeaderName");
    }
    told(
        "service: q, remove_response_headers: [Connection]",
        Severity::Warning,
        "spec.remove_response_headers[0]",
        "NoEffect",
    );
}

#[test]
fn timeouts() {
    let ms = |fields: &str| {
        let t = forward(&format!("prefix: /, service: q, {fields}")).timeouts;
        (t.request.map(|d| d.as_millis()), t.idle.map(|d| d.as_millis()))
    };
    assert_eq!(ms("rewrite: /"), (Some(3000), Some(300_000)));
    assert_eq!(ms("timeout_ms: 0, idle_timeout_ms: 0"), (None, None));
    assert_eq!(ms("timeout_ms: 5, idle_timeout_ms: 6"), (Some(5), Some(6)));
    refused(
        "hostname: '*', prefix: /, service: q, connect_timeout_ms: 0",
        "spec.connect_timeout_ms",
        "BadValue",
    );
}

#[test]
fn clusters() {
    let plain = cluster("prefix: /, service: q");
    assert_eq!(&*plain.name, "cluster_q_default");
    assert_eq!(&*plain.stats_name, "q");
    assert_eq!(plain.transport, Transport::Cleartext);
    assert_eq!(plain.connect_timeout.unwrap().as_millis(), 3000);
    let name = |fields: &str| cluster(&format!("prefix: /, {fields}")).name.to_string();
    assert_eq!(name("service: 'q.ns:8080', cluster_tag: blue"), "cluster_blue_q_ns_8080_default");
    assert_eq!(name("service: 'https://q'"), "cluster_https___q_otls_default");
    assert_eq!(name("service: q, connect_timeout_ms: 7"), "cluster_q_default_ct7");
    assert_eq!(name("service: q, grpc: true"), "cluster_q_default_grpc");
    assert_ne!(name("service: q, enable_ipv6: true"), name("service: q"));
    assert_ne!(
        name("service: q, keepalive: {idle_time: 1}"),
        name("service: q, keepalive: {probes: 1}")
    );
    let tls = cluster("prefix: /, service: 'https://q'");
    assert!(matches!(tls.transport, Transport::Tls(Some(_))));
    assert_eq!((plain.protocol, tls.protocol), (UpstreamProtocol::Http1, UpstreamProtocol::Http1));
    assert!(matches!(tls.source, ir::EndpointSource::Dns { port: 443, .. }));
    let grpc = cluster("prefix: /, service: 'https://q', grpc: true");
    assert_eq!(&*grpc.name, "cluster_https___q_otls_default_grpc");
    assert_eq!(grpc.protocol, UpstreamProtocol::Http2);
    let Transport::Tls(Some(client)) = &grpc.transport else { unreachable!() };
    assert_eq!(client.spec.alpn, ["h2".into()]);
    assert_eq!(cluster("prefix: /, service: q, stats_name: mine").stats_name.as_ref(), "mine");
    let keepalive = cluster("prefix: /, service: q, keepalive: {idle_time: 9}").keepalive.unwrap();
    assert_eq!(keepalive.idle_s, Some(9));
    refused("hostname: '*', prefix: /, service: q, tls: nope", "spec.tls", "UnknownTLSContext");
    refused(
        "hostname: '*', prefix: /, service: q, resolver: nope",
        "spec.resolver",
        "UnknownResolver",
    );
    refused("hostname: '*', prefix: /, service: 'q:99999'", "spec.service", "BadService");
    refused(
        "hostname: '*', prefix: /, service: q.ns, resolver: consul",
        "spec.service",
        "BadService",
    );
    told("service: 'ftp://q'", Severity::Error, "spec.service", "BadService");
    told("service: 'q/path'", Severity::Error, "spec.service", "BadService");
    told("service: q, resolver: consul", Severity::Warning, "spec.resolver", "NotServedYet");
}

/// `a-b` and `a.b` have one name in Emissary; here each gets its own.
#[test]
fn different_upstreams_never_share_a_cluster() {
    let yaml = LISTENER.to_owned()
        + &mapping("one", "hostname: '*', prefix: /1/, service: a-b")
        + &mapping("two", "hostname: '*', prefix: /2/, service: a.b")
        + &mapping("three", "hostname: '*', prefix: /3/, service: a.b");
    let (ir, _) = resolved(&yaml);
    assert_eq!(ir.clusters.len(), 3, "{:?}", ir.clusters);
    for group in &ir.listeners[0].virtual_hosts[0].groups {
        let ir::Action::Forward(forward) = &group.members[0].route.action else { panic!() };
        let host = &*ir.clusters[&*forward.cluster].host;
        let expected = match &*group.rank.path {
            "/1/" => "a-b",
            "/2/" | "/3/" => "a.b",
            _ => "127.0.0.1",
        };
        assert_eq!(host, expected);
    }
}

#[test]
fn namespaces() {
    let yaml = |fields: &str| {
        LISTENER.to_owned()
            + &mapping("m", fields).replace("{name: m}", "{name: m, namespace: other}")
    };
    let (ir, _) = resolved(&yaml("hostname: '*', prefix: /, service: q"));
    assert!(ir.clusters.contains("cluster_q_other_other"), "{:?}", ir.clusters);
    assert_eq!(&*ir.clusters["cluster_q_other_other"].host, "q.other");
    let redirect = "hostname: '*', prefix: /, service: q, host_redirect: true";
    let (ir, _) = resolved(&yaml(redirect));
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let group = groups.iter().find(|g| &*g.members[0].route.object.name == "m").unwrap();
    let ir::Action::Redirect(redirect) = &group.members[0].route.action else { panic!() };
    assert_eq!(redirect.host.as_deref(), Some("q"), "a Location is for browsers");
}

#[test]
fn policies_are_checked() {
    let base = "hostname: '*', prefix: /, service: q";
    refused(
        &format!("{base}, retry_policy: {{num_retries: 1}}"),
        "spec.retry_policy",
        "MissingField",
    );
    refused(
        &format!("{base}, retry_policy: {{retry_on: 5xx, per_try_timeout: soon}}"),
        "spec.retry_policy.per_try_timeout",
        "BadValue",
    );
    for balancer in [
        "{policy: ring_hash}",
        "{policy: round_robin, header: x}",
        "{policy: maglev, header: x, source_ip: true}",
    ] {
        refused(&format!("{base}, load_balancer: {balancer}"), "spec.load_balancer", "BadValue");
    }
    refused(&format!("{base}, dns_type: nope"), "spec.dns_type", "BadValue");
    for (fields, path) in [
        ("retry_policy: {retry_on: 5xx}", "spec.retry_policy"),
        ("circuit_breakers: [{max_connections: 1}]", "spec.circuit_breakers"),
        ("cors: {origins: [a]}", "spec.cors"),
        ("labels: {a: [{b: [{generic_key: {value: c}}]}]}", "spec.labels"),
        ("outlier_detection: x", "spec.outlier_detection"),
        (
            "error_response_overrides: [{on_status_code: 404, body: {text_format: x}}]",
            "spec.error_response_overrides",
        ),
    ] {
        told(&format!("service: q, {fields}"), Severity::Warning, path, "NotEnforcedYet");
    }
    told(
        "service: q, health_checks: [{health_check: {}}]",
        Severity::Error,
        "spec.health_checks[0]",
        "BadValue",
    );
}

#[test]
fn a_lone_shadow_takes_nothing() {
    let (group, ir, problems) = one("hostname: '*', prefix: /, service: q, shadow: true");
    assert!(group.is_none());
    assert!(ir.clusters.contains("cluster_shadow_q_default"));
    assert_eq!(only(&problems).path, "spec.shadow");
}

#[test]
fn acme_challenges_are_always_routed() {
    let always =
        |prefix: &str| group(&format!("prefix: {prefix}, service: q")).members[0].route.always;
    assert!(always("/.well-known/acme-challenge/"));
    assert!(!always("/.well-known/acme-challenge/token"));
    assert!(!always("/"));
}
