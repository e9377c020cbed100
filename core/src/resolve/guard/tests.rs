// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{LISTENER, mapping, resolved};
use super::{host_glob, path_glob};
use crate::ir::{GuardScope, Ir};
use crate::problem::Severity;

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

fn guarded(objects: &str) -> (Ir, Vec<(String, Severity)>) {
    let yaml = [
        LISTENER,
        objects,
        &mapping("m", "hostname: '*', prefix: /m/, service: q"),
        &mapping("open", "hostname: '*', prefix: /open/, service: q, bypass_auth: true"),
        &mapping("moved", "hostname: '*', prefix: /moved/, service: q, host_redirect: true"),
    ];
    let (ir, problems) = resolved(&yaml.concat());
    let problems = problems.iter().map(|p| (p.object.to_string(), p.severity)).collect();
    (ir, problems)
}

/// Routes with a refusal.
fn refused(ir: &Ir) -> Vec<&str> {
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let routes = groups.iter().map(|g| &g.members[0].route);
    routes.filter(|r| r.refusal.is_some()).map(|r| &*r.object.name).collect()
}

#[test]
fn nothing_guards_by_itself() {
    let (ir, problems) = guarded("");
    assert_eq!((refused(&ir).len(), ir.guards.len(), problems.len()), (0, 0, 0));
}

#[test]
fn auth_service() {
    let service = object("AuthService", "auth", "auth_service: auth");
    // One that could not be read guards as well.
    let broken = object("AuthService", "auth", "auth_service: auth, proto: nonsense");
    for yaml in [service, broken] {
        let (ir, problems) = guarded(&yaml);
        assert_eq!(refused(&ir), ["m"], "neither redirects, nor bypass_auth, nor probes");
        assert_eq!(ir.guards.len(), 1);
        assert_eq!(ir.guards[0].scope, GuardScope::Unrouted);
        let message = &ir.guards[0].refusal.as_ref().unwrap().message;
        let text =
            "the auth.default.1 AuthService is misconfigured; see the logs for more information";
        assert_eq!(&**message, text);
        assert!(problems.contains(&("AuthService default/auth".to_owned(), Severity::FailsClosed)));
    }
    let foreign = object("AuthService", "auth", "auth_service: auth, ambassador_id: [other]");
    assert_eq!(refused(&guarded(&foreign).0).len(), 0);
}

#[test]
fn ip_rules() {
    for config in ["ip_allow: [{peer: 10.0.0.0/8}]", "ip_deny: [{remote: 1.2.3.4}]", "ip_allow: 7"]
    {
        let module = object("Module", "ambassador", &format!("config: {{{config}}}"));
        let (ir, problems) = guarded(&module);
        assert_eq!(ir.guards.len(), 1, "{config}");
        assert_eq!(ir.guards[0].scope, GuardScope::Everything);
        assert!(problems.iter().any(|(_, severity)| *severity == Severity::FailsClosed));
    }
    let bad = object("Module", "ambassador", "config: {ip_allow: [{peer: 10.0.0.0/99}]}");
    assert!(guarded(&bad).1.iter().any(|(_, severity)| *severity == Severity::Error));
}

#[test]
fn filter_policies_in_order_of_their_names() {
    let yaml =
        object("FilterPolicy", "b", "rules: [{host: '*', path: /x/*, filters: [{name: f}]}]")
            + &object(
                "FilterPolicy",
                "a",
                "rules: [{host: Foo.com, path: /x/open, filters: []}, {filters: [{name: f}]}]",
            );
    let (ir, problems) = guarded(&yaml);
    let rules: Vec<(&str, &str, bool)> =
        ir.guards.iter().map(|g| (&*g.host, &*g.path, g.refusal.is_some())).collect();
    assert_eq!(rules, [("foo.com", "/x/open", false), ("*", "*", true), ("*", "/x/*", true)]);
    assert!(ir.guards.iter().all(|g| g.scope == GuardScope::NotRedirects));
    assert!(problems.contains(&("FilterPolicy default/a".to_owned(), Severity::FailsClosed)));
    let broken = object("FilterPolicy", "a", "rules: 7");
    let (ir, _) = guarded(&broken);
    assert_eq!((&*ir.guards[0].host, &*ir.guards[0].path), ("*", "*"));
    let empty = object("FilterPolicy", "a", "rules: [{host: '*', path: '*', filters: []}]");
    assert_eq!(guarded(&empty).1, []);
}

#[test]
fn globs_are_widened_where_they_guard_and_dropped_where_they_open() {
    let host = |text: &str, guards| host_glob(text, guards).map(String::from);
    let both = |text: &str, wide: &str| {
        assert_eq!(host(text, true).as_deref(), Some(wide), "{text}");
        assert_eq!(host(text, false), None, "{text}");
    };
    for plain in ["*", "foo.com", "*.com", "foo.*"] {
        assert_eq!(host(plain, true).as_deref(), Some(plain));
        assert_eq!(host(plain, false).as_deref(), Some(plain));
    }
    both("foo.com:8080", "foo.com");
    both("*:8080", "*");
    both("a.*.com", "*");
    both("{a,b}.com", "*");
    both("*.foo.*", "*");
    assert_eq!(path_glob("/a/*/b", false).as_deref(), Some("/a/*/b"));
    assert_eq!(path_glob("/a/{b,c}/d", true).as_deref(), Some("/a/*"));
    assert_eq!(path_glob("/a/?", false), None);
}

#[test]
fn observers_warn_and_open_nothing() {
    let yaml = object("RateLimitService", "r", "service: r, protocol_version: v3")
        + &object("TracingService", "t", "service: t, driver: zipkin")
        + &object("LogService", "l", "service: l, driver: http, protocol_version: v3, grpc: true");
    let (ir, problems) = guarded(&yaml);
    assert_eq!((refused(&ir).len(), ir.guards.len()), (0, 0));
    assert_eq!(problems.len(), 3);
    assert!(problems.iter().all(|(_, severity)| *severity == Severity::Warning), "{problems:?}");
}
