// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::tests::{LISTENER, mapping, reasons, resolved, routes};
use crate::ir::{self, Ir};
use crate::problem::{Problems, Severity};

/// Mappings by name, all of prefix /a/ on every host unless they say otherwise.
fn group(members: &[(&str, &str)]) -> (Ir, Problems) {
    let yaml = members.iter().map(|(name, fields)| {
        mapping(name, &format!("hostname: '*', prefix: /a/, service: {name}{fields}"))
    });
    resolved(&(LISTENER.to_owned() + &yaml.collect::<String>()))
}

/// `name from-to` of each member.
#[track_caller]
fn shares(members: &[(&str, &str)], expected: &[&str]) -> Problems {
    let (ir, problems) = group(members);
    let groups = ir.listeners[0].virtual_hosts[0].groups.iter();
    let groups: Vec<_> = groups.filter(|g| !g.members[0].route.unguarded).collect();
    assert_eq!(groups.len(), 1, "{problems:?}");
    let share = |m: &ir::Member| format!("{} {}-{}", m.route.object.name, m.from, m.to);
    let shares: Vec<String> = groups[0].members.iter().map(share).collect();
    assert_eq!(shares, expected);
    problems
}

#[test]
fn weights() {
    shares(&[("a", ", weight: 0")], &["a 0-100"]);
    shares(&[("a", ""), ("b", ", weight: 30")], &["b 0-30", "a 30-100"]);
    shares(&[("a", ", weight: 30"), ("b", ", weight: 30")], &["a 0-30", "b 30-60"]);
    // Load order is `name.namespace`: a dash comes before the dot.
    shares(&[("a", ", weight: 10"), ("a-b", ", weight: 20")], &["a-b 0-20", "a 20-30"]);
    let problems = shares(&[("a", ", weight: 60"), ("b", ", weight: 50")], &["a 0-60", "b 60-100"]);
    assert_eq!(reasons(&problems), [("b", Severity::Error, "BadWeight")]);
    let problems = shares(&[("a", ", weight: 120"), ("b", "")], &["a 0-100", "b 100-100"]);
    assert_eq!(reasons(&problems), [("a", Severity::Error, "BadWeight")]);
}

#[track_caller]
fn groups_of(a: &str, b: &str, expected: usize) {
    let yaml = LISTENER.to_owned() + &mapping("a", a) + &mapping("b", b);
    let (ir, problems) = resolved(&yaml);
    let groups = ir.listeners[0].virtual_hosts[0].groups.iter();
    let groups = groups.filter(|g| !g.members[0].route.unguarded).count();
    assert_eq!(groups, expected, "{a} and {b}: {problems:?}");
}

#[test]
fn what_makes_one_group() {
    let base = "hostname: '*', prefix: /a/, service: q";
    let with = |fields: &str| format!("{base}, {fields}");
    groups_of(base, base, 1);
    groups_of(base, &with("timeout_ms: 7, bypass_auth: true, rewrite: /x/"), 1);
    groups_of(base, &with("prefix_exact: true"), 2);
    groups_of(base, &with("prefix_regex: true"), 2);
    groups_of(base, &with("case_sensitive: false"), 2);
    groups_of(base, &with("precedence: 1"), 2);
    groups_of(base, &with("method: GET"), 2);
    groups_of(base, &with("headers: {x: y}"), 2);
    groups_of(&with("headers: {x: y}"), &with("regex_headers: {x: y}"), 2);
    groups_of(&with("headers: {X: y}"), &with("headers: {x: y}"), 1);
    groups_of(base, &with("query_parameters: {x: y}"), 2);
    groups_of(&with("query_parameters: {x: y}"), &with("regex_query_parameters: {x: y}"), 2);
    groups_of(base, "hostname: foo.com, prefix: /a/, service: q", 2);
}

#[test]
fn redirects_share_no_group() {
    let redirect = ", host_redirect: true";
    let (ir, problems) = group(&[("a", ""), ("b", redirect)]);
    assert_eq!(routes(&ir), ["* /a/ -> a"]);
    assert_eq!(reasons(&problems), [("b", Severity::Error, "Conflict")]);
    let (ir, problems) = group(&[("a", redirect), ("b", "")]);
    assert_eq!(routes(&ir), ["* /a/ -> a"]);
    assert_eq!(reasons(&problems), [("b", Severity::Error, "Conflict")]);
    let (ir, problems) = group(&[("a", redirect), ("b", redirect)]);
    assert_eq!(routes(&ir), ["* /a/ -> a"]);
    assert_eq!(reasons(&problems), [("b", Severity::Error, "Conflict")]);
}

#[test]
fn one_shadow_and_it_takes_no_share() {
    let shadow = ", shadow: true";
    let problems = shares(&[("a", ""), ("b", shadow), ("c", shadow)], &["a 0-100"]);
    assert!(reasons(&problems).contains(&("c", Severity::Error, "Conflict")), "{problems:?}");
    assert!(!reasons(&problems).contains(&("b", Severity::Error, "Conflict")), "{problems:?}");
}

/// `name -> cluster percent` of each member's shadow.
#[track_caller]
fn copies(members: &[(&str, &str)], expected: &[&str]) -> Problems {
    let (ir, problems) = group(members);
    let groups = ir.listeners[0].virtual_hosts[0].groups.iter();
    let members = groups.filter(|g| !g.members[0].route.unguarded).flat_map(|g| &g.members);
    let copies: Vec<String> = members
        .filter_map(|member| match &member.route.action {
            ir::Action::Forward(forward) => forward.shadow.as_ref().map(|shadow| {
                let (name, shadowed) = (&member.route.object.name, &shadow.object.name);
                format!("{name} -> {shadowed} {} {}", shadow.cluster, shadow.percent)
            }),
            ir::Action::Redirect(_) => None,
        })
        .collect();
    assert_eq!(copies, expected);
    assert!(copies.iter().all(|copy| {
        let cluster = copy.split(' ').nth(3).unwrap();
        ir.clusters.contains(cluster)
    }));
    problems
}

#[test]
fn a_shadow_gets_copies_of_every_member() {
    let shadow = ", shadow: true";
    let problems = copies(
        &[("a", ", weight: 30"), ("b", shadow), ("c", "")],
        &["a -> b cluster_shadow_b_default 100", "c -> b cluster_shadow_b_default 100"],
    );
    assert!(problems.is_empty(), "{problems:?}");
    // The first of two, whatever its place.
    copies(&[("b", shadow), ("c", shadow), ("d", "")], &["d -> b cluster_shadow_b_default 100"]);
    copies(
        &[("a", ""), ("b", ", shadow: true, weight: 20")],
        &["a -> b cluster_shadow_b_default 20"],
    );
    copies(
        &[("a", ""), ("b", ", shadow: true, weight: 0")],
        &["a -> b cluster_shadow_b_default 0"],
    );
    let problems = copies(
        &[("a", ""), ("b", ", shadow: true, weight: 120")],
        &["a -> b cluster_shadow_b_default 100"],
    );
    assert_eq!(reasons(&problems), [("b", Severity::Error, "BadWeight")]);
    // Emissary: `shadow` wins over `host_redirect`, and redirects are not copied.
    copies(
        &[("a", ""), ("b", ", shadow: true, host_redirect: true")],
        &["a -> b cluster_shadow_b_default 100"],
    );
    copies(&[("a", ", host_redirect: true"), ("b", shadow)], &[]);
    copies(&[("b", shadow)], &[]);
}

#[test]
fn what_a_group_has_once() {
    let (ir, _) = group(&[
        (
            "a",
            ", weight: 50, add_request_headers: {x: {value: '1'}, y: {value: '2'}}, remove_request_headers: [p]",
        ),
        (
            "b",
            ", weight: 50, add_request_headers: {x: {value: '3', append: false}}, remove_request_headers: [q], regex_rewrite: {pattern: a, substitution: b}, timeout_ms: 7",
        ),
    ]);
    let groups = &ir.listeners[0].virtual_hosts[0].groups;
    let group = groups.iter().find(|g| g.members.len() == 2).unwrap();
    let timeouts = group.members.iter().map(|member| {
        let edits = &member.route.request_headers;
        let add: Vec<_> = edits.add.iter().map(|a| (&*a.name, a.value.as_str())).collect();
        assert_eq!(add, [("x", "3"), ("y", "2")]);
        let drop: Vec<&str> = edits.drop.iter().map(|d| &**d).collect();
        assert_eq!(drop, ["q", "x"]);
        let ir::Action::Forward(forward) = &member.route.action else { panic!() };
        assert!(matches!(forward.path, crate::policy::rewrite::PathRewrite::Regex(_)));
        forward.timeouts.request.unwrap().as_millis()
    });
    assert_eq!(timeouts.collect::<Vec<_>>(), [3000, 7]);
}

#[test]
fn decision_order() {
    let fields = [
        ("short", "hostname: '*', prefix: /a"),
        ("long", "hostname: '*', prefix: /a/b/"),
        ("first", "hostname: '*', prefix: /, precedence: 1"),
        ("last", "hostname: '*', prefix: /a/b/c/, precedence: -1"),
        ("header", "hostname: '*', prefix: /a, headers: {x: y}"),
        ("query", "hostname: '*', prefix: /a, query_parameters: {x: y}"),
        ("text", "hostname: '*', prefix: /b"),
        ("put", "hostname: '*', prefix: /a, method: PUT"),
    ];
    let yaml = fields.iter().map(|(name, f)| mapping(name, &format!("{f}, service: q")));
    let (ir, _) = resolved(&(LISTENER.to_owned() + &yaml.collect::<String>()));
    let names: Vec<String> =
        routes(&ir).iter().map(|r| r.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["first", "long", "put", "header", "query", "text", "short", "last"]);
}

/// A regex of the text of a literal has the same rank.
#[test]
fn equal_ranks_go_in_reverse_load_order() {
    let exact = "hostname: '*', prefix: /a, prefix_exact: true, service: q";
    let prefix = "hostname: '*', prefix: /a, service: q";
    for (a, b) in [(exact, prefix), (prefix, exact)] {
        let (ir, _) = resolved(&(LISTENER.to_owned() + &mapping("a", a) + &mapping("b", b)));
        assert_eq!(routes(&ir), ["* /a -> b", "* /a -> a"]);
    }
}

#[test]
fn groups_span_namespaces_and_selector_labels_tell_apart() {
    let other = mapping("m", "hostname: '*', prefix: /a/, service: q")
        .replace("{name: m}", "{name: m, namespace: other}");
    let here = mapping("m", "hostname: '*', prefix: /a/, service: q");
    let (ir, _) = resolved(&[LISTENER, &here, &other].concat());
    assert_eq!(ir.listeners[0].virtual_hosts[0].groups[2].members.len(), 2);

    let host = |name: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: {name}}}\n\
             spec: {{hostname: {name}.com, mappingSelector: {{matchLabels: {{host: {name}}}}}}}\n---\n"
        )
    };
    let bound = |name: &str| {
        mapping(name, "prefix: /a/, service: q").replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, labels: {{host: {name}}}}}"),
        )
    };
    let yaml = [LISTENER, &host("x"), &host("y"), &bound("x"), &bound("y")].concat();
    assert_eq!(routes(&resolved(&yaml).0), ["x.com /a/ -> x", "y.com /a/ -> y"]);
}
