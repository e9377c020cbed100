// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use super::*;
use crate::ir::{InsecureAction, Matcher, SecurityModel};
use crate::name::{Kind, Ref};
use crate::table::sample;

/// A host with a group per name, each a prefix that forwards to the cluster of that name.
fn host(domain: &str, names: &[&str]) -> ir::VirtualHost {
    let group = |name: &&str| {
        let mut route = sample::route(name);
        if let ir::Action::Forward(forward) = &mut route.action {
            Arc::make_mut(forward).cluster = (*name).into();
        }
        let path = PathMatch::Prefix { text: format!("/{name}").into(), case_sensitive: true };
        Arc::new(ir::Group {
            matcher: Arc::new(Matcher {
                path,
                authority: None,
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
            }),
            rank: Arc::default(),
            members: vec![ir::Member { from: 0, to: 100, route: route.into() }],
        })
    };
    ir::VirtualHost {
        domain: domain.into(),
        host: None,
        insecure: InsecureAction::Route,
        refusal: None,
        groups: names.iter().map(group).collect(),
    }
}

fn sample_ir() -> Ir {
    let hosts = vec![host("a.com", &["a", "b"]), host("b.com", &["c", "d"])];
    let mut ir = sample::ir(SecurityModel::Xfp, hosts);
    for name in ["a", "b", "c", "d"] {
        ir.clusters.insert(Arc::new(sample::cluster(name)));
    }
    ir
}

fn compiled(table: &Table, domain: &str) -> Arc<VirtualHost> {
    Arc::clone(table.listeners[0].hosts.0.covering(domain.as_bytes()).next().unwrap())
}

#[test]
fn what_is_unchanged_is_shared() {
    let mut slots = Slots::new();
    let mut ir = sample_ir();
    let first = compile(&ir, Generation(1), &mut slots, None).unwrap();
    let changed = Arc::make_mut(&mut ir.listeners[0].virtual_hosts[1]);
    let route = &mut Arc::make_mut(&mut changed.groups[0]).members[0].route;
    Arc::make_mut(route).always = true;
    let second = compile(&ir, Generation(2), &mut slots, Some(&first)).unwrap();

    assert!(Arc::ptr_eq(&compiled(&first, "a.com"), &compiled(&second, "a.com")));
    let (before, after) = (compiled(&first, "b.com"), compiled(&second, "b.com"));
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(!Arc::ptr_eq(&before.groups[0], &after.groups[0]));
    assert!(Arc::ptr_eq(&before.groups[1], &after.groups[1]));
    // The changed route has the slot that it had.
    let slot = before.groups[0].first.as_ref().unwrap().route.slot;
    assert_eq!(after.groups[0].first.as_ref().unwrap().route.slot, slot);
    assert!(second.routes[slot.index()].as_ref().unwrap().always);
    assert_eq!(second.routes.iter().flatten().count(), 4);
}

#[test]
fn new_endpoints_rebuild_nothing() {
    let mut slots = Slots::new();
    let mut ir = sample_ir();
    let first = compile(&ir, Generation(1), &mut slots, None).unwrap();
    let mut cluster = ir::Cluster::clone(&ir.clusters["a"]);
    let ir::EndpointSource::Service { endpoints, .. } = &mut cluster.source else { unreachable!() };
    endpoints.push(SocketAddr::from(([10, 0, 0, 1], 80)));
    ir.clusters.insert(Arc::new(cluster));
    let second = compile(&ir, Generation(2), &mut slots, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&compiled(&first, "a.com"), &compiled(&second, "a.com")));
    let slot = slots.cluster_slot("a").unwrap();
    assert!(Arc::ptr_eq(&second.cluster(slot).unwrap().spec, &ir.clusters["a"]));
}

#[test]
fn routes_follow_a_cluster_that_is_reached_otherwise() {
    let mut slots = Slots::new();
    let mut ir = sample_ir();
    let first = compile(&ir, Generation(1), &mut slots, None).unwrap();
    let transport = ir::Transport::Tls(None);
    ir.clusters
        .insert(Arc::new(ir::Cluster { transport, ..ir::Cluster::clone(&ir.clusters["a"]) }));
    let second = compile(&ir, Generation(2), &mut slots, Some(&first)).unwrap();
    let after = compiled(&second, "a.com");
    let Action::Forward(forward) = &after.groups[0].first.as_ref().unwrap().route.action else {
        unreachable!()
    };
    assert_eq!(forward.cluster.spec.transport, ir::Transport::Tls(None));
    assert!(Arc::ptr_eq(&after.groups[1], &compiled(&first, "a.com").groups[1]));
    assert!(Arc::ptr_eq(&compiled(&first, "b.com"), &compiled(&second, "b.com")));
}

#[test]
fn hosts_of_several_listeners_are_compiled_once() {
    let mut ir = sample_ir();
    let mut other = ir.listeners[0].clone();
    other.object = Ref::new(Kind::Listener, "default", "other");
    ir.listeners.insert(0, other);
    let table = compile(&ir, Generation(1), &mut Slots::new(), None).unwrap();
    let of = |at: usize| Arc::clone(table.listeners[at].hosts.0.covering(b"a.com").next().unwrap());
    assert!(Arc::ptr_eq(&of(0), &of(1)));
    assert_eq!(table.listener(table.listeners[1].slot).unwrap().object.name.as_ref(), "l");
}

#[test]
fn slots_of_what_is_gone_are_released() {
    let mut slots = Slots::new();
    let mut ir = sample_ir();
    let first = compile(&ir, Generation(1), &mut slots, None).unwrap();
    let gone = compiled(&first, "b.com").groups[0].first.as_ref().unwrap().route.slot;
    ir.listeners[0].virtual_hosts.pop();
    let second = compile(&ir, Generation(2), &mut slots, Some(&first)).unwrap();
    assert!(second.routes.get(gone.index()).is_none_or(Option::is_none));
    assert_eq!(slots.route_object(gone).map(|object| &*object.name), Some("c"));
    slots.release(Generation(2));
    assert_eq!(slots.route_object(gone), None);
    let third = compile(&ir, Generation(3), &mut slots, Some(&second)).unwrap();
    assert_eq!(third.routes.iter().flatten().count(), 2);
}

#[test]
fn an_ir_that_breaks_its_promises_has_no_table() {
    let mut ir = sample_ir();
    ir.clusters.remove("c");
    let error = compile(&ir, Generation(1), &mut Slots::new(), None).unwrap_err();
    assert_eq!(error, CompileError::UnknownCluster("c".into()));

    let mut ir = sample_ir();
    ir.listeners.push(ir.listeners[0].clone());
    let error = compile(&ir, Generation(1), &mut Slots::new(), None).unwrap_err();
    assert_eq!(error, CompileError::DuplicateListener("Listener default/l".into()));
}

#[test]
fn guards_and_settings_come_along() {
    let mut ir = sample_ir();
    ir.guards.push(ir::Guard {
        host: "*".into(),
        path: "*".into(),
        scope: ir::GuardScope::Unrouted,
        refusal: None,
    });
    ir.listeners[0].stack.insert(0, ir::Protocol::Tls);
    let table = compile(&ir, Generation(7), &mut Slots::new(), None).unwrap();
    assert_eq!(table.generation, Generation(7));
    assert!(Arc::ptr_eq(&table.settings, &ir.settings));
    assert_eq!(table.listeners[0].guards, ir.guards);
    assert!(table.listeners[0].stack.contains(&ir::Protocol::Tls));
}
