// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::sample::Sent;
use super::*;
use crate::ir::{
    FieldMatch, Guard, InsecureAction, Matcher, PathMatch, Refusal, SecurityModel, ValueMatch,
};
use crate::policy::redirect::{Redirect, RedirectPath};

fn refusal(message: &str) -> Option<Arc<Refusal>> {
    Some(Arc::new(Refusal { message: message.into() }))
}

fn prefix(text: &str) -> Matcher {
    Matcher {
        path: PathMatch::Prefix { text: text.into(), case_sensitive: true },
        authority: None,
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    }
}

fn group(matcher: Matcher, members: Vec<(u32, u32, ir::Route)>) -> Arc<ir::Group> {
    let member = |(from, to, route)| ir::Member { from, to, route: Arc::new(route) };
    Arc::new(ir::Group {
        matcher: matcher.into(),
        rank: Arc::default(),
        members: members.into_iter().map(member).collect(),
    })
}

fn host(insecure: InsecureAction, groups: Vec<Arc<ir::Group>>) -> ir::VirtualHost {
    ir::VirtualHost { domain: "*".into(), host: None, insecure, refusal: None, groups }
}

fn redirect(name: &str) -> ir::Route {
    let mut route = sample::route(name);
    route.action = ir::Action::Redirect(Arc::new(Redirect {
        host: Some("b.com".into()),
        scheme: None,
        path: RedirectPath::Keep,
        status: 301,
    }));
    route
}

fn always(name: &str) -> ir::Route {
    let mut route = sample::route(name);
    route.always = true;
    route
}

/// `/acme` always routed, `/r` a redirect, `/a` forwarded, everything else unknown.
fn usual(insecure: InsecureAction) -> ir::VirtualHost {
    let whole = |path: &str, route| group(prefix(path), vec![(0, 100, route)]);
    host(
        insecure,
        vec![
            whole("/acme", always("acme")),
            whole("/r", redirect("r")),
            whole("/a", sample::route("a")),
        ],
    )
}

fn table(security: SecurityModel, host: ir::VirtualHost, guards: Vec<Guard>) -> Table {
    let mut ir = sample::ir(security, vec![host]);
    ir.guards = guards;
    compile(&ir, Generation(1), &mut Slots::new(), None).unwrap()
}

fn ask(table: &Table, path: &str, secure: bool, roll: u32) -> String {
    let sent = Sent::new("GET", "a.com", path, None, &[], secure);
    match table.listeners[0].route(&sent.request(), roll) {
        Hit::Forward { route, .. } => format!("forward {}", route.spec().object.name),
        Hit::Redirect { route, .. } => format!("redirect {}", route.spec().object.name),
        Hit::ToHttps { route } => format!("https {}", route.spec().object.name),
        Hit::Refuse { route, refusal } => {
            let name = route.map_or("-", |route| &route.spec().object.name);
            format!("refuse {name} {}", refusal.message)
        }
        Hit::NotFound => "404".to_owned(),
    }
}

/// What `/acme`, `/a`, `/r` and `/x` get.
#[track_caller]
fn check(table: &Table, secure: bool, expected: [&str; 4]) {
    let got = ["/acme", "/a", "/r", "/x"].map(|path| ask(table, path, secure, 50));
    assert_eq!(got, expected);
}

#[test]
fn security_model_and_insecure_action() {
    use InsecureAction::{Redirect, Reject, Route};
    use SecurityModel::{Insecure, Secure, Xfp};
    const ROUTED: [&str; 4] = ["forward acme", "forward a", "redirect r", "404"];
    // The https redirect goes before the Mapping's own.
    const TO_HTTPS: [&str; 4] = ["forward acme", "https a", "https r", "404"];
    const REJECTED: [&str; 4] = ["forward acme", "404", "404", "404"];
    for (model, action, insecure, secure) in [
        (Xfp, Redirect, TO_HTTPS, ROUTED),
        (Xfp, Route, ROUTED, ROUTED),
        (Xfp, Reject, REJECTED, ROUTED),
        (Secure, Redirect, ROUTED, ROUTED),
        (Secure, Route, ROUTED, ROUTED),
        (Secure, Reject, ROUTED, ROUTED),
        (Insecure, Redirect, TO_HTTPS, TO_HTTPS),
        (Insecure, Route, ROUTED, ROUTED),
        (Insecure, Reject, REJECTED, REJECTED),
    ] {
        let table = table(model, usual(action), Vec::new());
        check(&table, false, insecure);
        check(&table, true, secure);
    }
}

#[test]
fn rejected_groups_do_not_hide_what_is_always_routed() {
    let everything = group(prefix("/"), vec![(0, 100, sample::route("a"))]);
    let acme = group(prefix("/acme"), vec![(0, 100, always("acme"))]);
    let host = host(InsecureAction::Reject, vec![everything, acme]);
    let table = table(SecurityModel::Xfp, host, Vec::new());
    assert_eq!(ask(&table, "/acme", false, 0), "forward acme");
    assert_eq!(ask(&table, "/acme", true, 0), "forward a");
}

#[test]
fn weights_that_do_not_sum_up_fall_through() {
    let partial = |path: &str, from, to, name: &str| {
        group(prefix(path), vec![(from, to, sample::route(name))])
    };
    let mut canary = prefix("/a");
    canary.headers.push(FieldMatch { name: "x".into(), value: ValueMatch::Present });
    let groups = vec![
        group(canary, vec![(0, 100, sample::route("canary"))]),
        group(prefix("/a"), vec![(0, 30, sample::route("a1")), (30, 60, sample::route("a2"))]),
        partial("/", 0, 0, "none"),
        partial("/", 0, 90, "rest"),
    ];
    let routed = table(SecurityModel::Secure, host(InsecureAction::Route, groups.clone()), vec![]);
    for (roll, expected) in [
        (0, "forward a1"),
        (29, "forward a1"),
        (30, "forward a2"),
        (59, "forward a2"),
        (60, "forward rest"),
        (89, "forward rest"),
        (90, "404"),
        (99, "404"),
    ] {
        assert_eq!(ask(&routed, "/a", false, roll), expected, "{roll}");
    }
    // A request that no weight takes is not redirected to https either.
    let host = host(InsecureAction::Redirect, groups);
    let redirected = table(SecurityModel::Insecure, host, vec![]);
    assert_eq!(ask(&redirected, "/a", false, 89), "https rest");
    assert_eq!(ask(&redirected, "/a", false, 90), "404");
}

#[test]
fn most_specific_host_decides_even_without_a_route() {
    let group = |name: &str| vec![group(prefix("/"), vec![(0, 100, sample::route(name))])];
    let mut exact = host(InsecureAction::Route, Vec::new());
    exact.domain = "a.com".into();
    let mut suffix = host(InsecureAction::Route, group("suffix"));
    suffix.domain = "*.com".into();
    let any = host(InsecureAction::Route, group("any"));
    let ir = sample::ir(SecurityModel::Secure, vec![any, suffix, exact]);
    let table = compile(&ir, Generation(1), &mut Slots::new(), None).unwrap();
    let ask = |authority| {
        let sent = Sent::new("GET", authority, "/", None, &[], false);
        match table.listeners[0].route(&sent.request(), 0) {
            Hit::Forward { route, .. } => route.label().to_owned(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(ask("a.com"), "NotFound");
    assert_eq!(ask("b.com"), "default/suffix");
    assert_eq!(ask("a.com:8080"), "default/any");
}

#[test]
fn host_refusal_holds_for_all_but_what_is_always_routed() {
    for action in [InsecureAction::Redirect, InsecureAction::Route, InsecureAction::Reject] {
        let mut host = usual(action);
        host.refusal = refusal("no certificate");
        let table = table(SecurityModel::Xfp, host, Vec::new());
        let expected = [
            "forward acme",
            "refuse a no certificate",
            "refuse r no certificate",
            "refuse - no certificate",
        ];
        check(&table, true, expected);
        if action != InsecureAction::Reject {
            check(&table, false, expected);
        }
    }
}

#[test]
fn external_auth_guards_routes_and_404s_but_no_redirects() {
    let auth = || refusal("auth");
    let mut guarded = usual(InsecureAction::Redirect);
    for group in &mut guarded.groups {
        let member = &mut Arc::make_mut(group).members[0];
        Arc::make_mut(&mut member.route).refusal = auth();
    }
    let unrouted =
        Guard { host: "*".into(), path: "*".into(), scope: GuardScope::Unrouted, refusal: auth() };
    let table = table(SecurityModel::Xfp, guarded, vec![unrouted]);
    check(&table, true, ["refuse acme auth", "refuse a auth", "redirect r", "refuse - auth"]);
    check(&table, false, ["refuse acme auth", "https a", "https r", "refuse - auth"]);
}

#[test]
fn scopes_of_guards() {
    let guard =
        |scope| Guard { host: "a.com".into(), path: "*".into(), scope, refusal: refusal("no") };
    let everything = ["refuse - no"; 4];
    let but_redirects = ["refuse acme no", "refuse a no", "redirect r", "refuse - no"];
    let unrouted = ["forward acme", "forward a", "redirect r", "refuse - no"];
    for (scope, secure) in [
        (GuardScope::Everything, everything),
        (GuardScope::NotRedirects, but_redirects),
        (GuardScope::Unrouted, unrouted),
    ] {
        let table = table(SecurityModel::Xfp, usual(InsecureAction::Redirect), vec![guard(scope)]);
        check(&table, true, secure);
        if scope != GuardScope::Everything {
            assert_eq!(ask(&table, "/a", false, 0), "https a");
        }
    }
    // A host that nobody serves is guarded, too.
    let mut host = usual(InsecureAction::Route);
    host.domain = "b.com".into();
    let table = table(SecurityModel::Xfp, host, vec![guard(GuardScope::NotRedirects)]);
    assert_eq!(ask(&table, "/a", true, 0), "refuse - no");
}

#[test]
fn probes_pass_filters_but_no_ip_rules() {
    let mut host = usual(InsecureAction::Route);
    let member = &mut Arc::make_mut(&mut host.groups[2]).members[0];
    Arc::make_mut(&mut member.route).unguarded = true;
    let guard = |scope, message| Guard {
        host: "*".into(),
        path: "*".into(),
        scope,
        refusal: refusal(message),
    };
    let filters = guard(GuardScope::NotRedirects, "filter");
    let with_filters = table(SecurityModel::Xfp, host.clone(), vec![filters.clone()]);
    assert_eq!(ask(&with_filters, "/a", true, 0), "forward a");
    assert_eq!(ask(&with_filters, "/acme", true, 0), "refuse acme filter");
    let ip = guard(GuardScope::Everything, "ip");
    let with_both = table(SecurityModel::Xfp, host, vec![filters, ip]);
    assert_eq!(ask(&with_both, "/a", true, 0), "refuse - ip");
}
