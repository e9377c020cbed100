// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::ir::{self, Group, Member, SecurityModel};
use crate::name::Generation;
use crate::policy::rewrite::PathRewrite;
use crate::table::sample::{self, Sent};
use crate::table::{Slots, Table, compile};

fn group(name: &str, rank: EmissaryRank, window: (u32, u32), header: Option<&str>) -> Arc<Group> {
    let mut route = sample::route(name);
    if let ir::Action::Forward(forward) = &mut route.action {
        Arc::make_mut(forward).path = PathRewrite::Prefix { len: 3, with: "/".into() };
    }
    let field =
        |value: &str| FieldMatch { name: "x-v".into(), value: ValueMatch::Exact(value.into()) };
    Arc::new(Group {
        matcher: Arc::new(Matcher {
            path: PathMatch::Prefix { text: "/a/".into(), case_sensitive: true },
            authority: None,
            method: None,
            headers: header.map(field).into_iter().collect(),
            query: Vec::new(),
        }),
        rank: rank.into(),
        members: vec![Member { from: window.0, to: window.1, route: route.into() }],
    })
}

fn table(insecure: InsecureAction, groups: Vec<Arc<Group>>) -> Table {
    let host =
        ir::VirtualHost { domain: "*.com".into(), host: None, insecure, refusal: None, groups };
    let ir = sample::ir(SecurityModel::Xfp, vec![host]);
    compile(&ir, Generation(1), &mut Slots::new(), None).unwrap()
}

fn rank(precedence: i64, header_len: usize) -> EmissaryRank {
    EmissaryRank { precedence, header_len, ..EmissaryRank::default() }
}

fn usual(insecure: InsecureAction) -> Table {
    let groups = vec![
        group("first", rank(1, 0), (0, 30), None),
        group("canary", rank(0, 4), (0, 100), Some("2")),
        group("plain", rank(0, 0), (0, 100), None),
        group("shadowed", rank(-1, 0), (0, 100), None),
        group("last", rank(-1, 0), (0, 100), Some("3")),
    ];
    table(insecure, groups)
}

fn explain(table: &Table, sent: &Sent, roll: Option<u32>) -> Explanation {
    table.listeners[0].explain(&sent.request(), &Circumstances::bare(roll))
}

fn sent(authority: &str, path: &str, headers: &[(&str, &str)], secure: bool) -> Sent {
    Sent::new("GET", authority, path, Some("q=1"), headers, secure)
}

#[test]
fn every_candidate_has_its_reason() {
    let story =
        explain(&usual(InsecureAction::Redirect), &sent("b.com", "/a/x", &[], true), Some(57));
    let verdicts: Vec<_> = story.candidates.iter().map(|c| (c.takes, &*c.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            (false, "weights: roll 57 is outside 0..30"),
            (false, "header x-v is \"2\": absent"),
            (true, "takes it"),
            (true, "would take it, but comes later"),
            (false, "header x-v is \"3\": absent"),
        ]
    );
    assert_eq!(story.winner, Some(2));
    assert_eq!(story.decided_by.as_deref(), Some("precedence 0 over -1"));
    let Outcome::Forward { mapping, target, host, cluster, .. } = &story.outcome else {
        panic!("{:?}", story.outcome)
    };
    assert_eq!((&*mapping.name, &**target, &**host, &**cluster), ("plain", "/x?q=1", "b.com", "c"));

    let text = story.to_string();
    assert!(text.contains("->   3. Mapping default/plain: path begins with \"/a/\""), "{text}");
    assert!(text.contains("1. Mapping default/first (rolls 0..30)"), "{text}");
    assert!(text.contains("decided by: precedence 0 over -1"), "{text}");
    assert!(text.contains("target /x?q=1, host b.com"), "{text}");
    let json = serde_json::to_value(&story).unwrap();
    assert_eq!(json["outcome"]["action"], "forward");
    assert_eq!(json["candidates"][1]["mappings"][0]["mapping"]["name"], "canary");
}

#[test]
fn without_a_roll_a_group_with_shares_takes_the_request() {
    let story = explain(&usual(InsecureAction::Redirect), &sent("b.com", "/a/x", &[], true), None);
    assert_eq!(story.winner, Some(0));
    assert_eq!(story.decided_by.as_deref(), Some("precedence 1 over 0"));
}

#[test]
fn a_header_that_differs_is_shown() {
    let sent = sent("b.com", "/a/x", &[("X-V", "4")], true);
    let story = explain(&usual(InsecureAction::Redirect), &sent, Some(99));
    assert_eq!(story.candidates[1].verdict, "header x-v is \"2\": got \"4\"");
}

#[test]
fn insecure_requests() {
    let with_port = sent("b.com:80", "/a/x", &[], false);
    let story = explain(&usual(InsecureAction::Redirect), &with_port, Some(57));
    // A port keeps the authority out of the Host's domain.
    assert!(story.host.is_none());
    assert!(matches!(story.outcome, Outcome::NotFound));

    let sent = sent("b.com", "/a/x", &[], false);
    let story = explain(&usual(InsecureAction::Redirect), &sent, Some(57));
    let Outcome::ToHttps { mapping, location } = &story.outcome else {
        panic!("{:?}", story.outcome)
    };
    assert_eq!((&*mapping.name, &**location), ("plain", "https://b.com/a/x?q=1"));

    let story = explain(&usual(InsecureAction::Reject), &sent, Some(57));
    assert_eq!(story.winner, None);
    assert_eq!(story.candidates[2].verdict, "insecure requests are rejected by the Host");
    assert_eq!(story.host.unwrap().admission, "insecure: rejected with a 404");
}

#[test]
fn each_key_can_decide() {
    let base = EmissaryRank::default();
    let check = |change: fn(&mut EmissaryRank), expected: &str| {
        let mut other = base.clone();
        change(&mut other);
        assert!(decider(&other, &base).starts_with(expected), "{}", decider(&other, &base));
        assert!(other > base);
    };
    check(|rank| rank.precedence = 1, "precedence 1 over 0");
    check(|rank| rank.path_len = 2, "length of the path, 2 over 0");
    check(|rank| rank.header_len = 2, "length of the constraints on headers");
    check(|rank| rank.query_len = 2, "length of the constraints on the query, 2 over 0");
    check(|rank| rank.path = "/".into(), "text of the path");
    check(|rank| rank.method = "PUT".into(), "text of the method");
    check(|rank| rank.header_keys = vec!["a-b".into()], "text of the headers");
    check(|rank| rank.query_keys = vec!["a-b".into()], "text of the query");
    assert!(decider(&base, &base).starts_with("the order of loading"));
}

#[test]
fn candidates_are_bounded_and_the_winner_is_among_them() {
    let mut groups: Vec<_> = (0..300)
        .map(|at| group(&format!("m{at}"), rank(0, 4), (0, 100), Some(&at.to_string())))
        .collect();
    groups.push(group("winner", rank(0, 0), (0, 100), None));
    groups.push(group("next", rank(-1, 0), (0, 100), None));
    let story =
        explain(&table(InsecureAction::Route, groups), &sent("b.com", "/a/x", &[], true), Some(0));
    assert_eq!(story.candidates.len(), CANDIDATES_MAX + 2);
    assert_eq!(story.n_more, 200);
    let winner = &story.candidates[story.winner.unwrap()];
    assert_eq!((winner.place, &*winner.mappings[0].mapping.name), (301, "winner"));
    assert_eq!(story.decided_by.as_deref(), Some("precedence 0 over -1"));
}
