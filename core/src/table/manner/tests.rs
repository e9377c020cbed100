// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::table::sample;

fn rewriting(len: usize) -> ir::Route {
    let mut route = sample::route("r");
    let ir::Action::Forward(forward) = &mut route.action else { unreachable!("a sample forwards") };
    Arc::make_mut(forward).path = PathRewrite::Prefix { len, with: "/".into() };
    route
}

#[test]
fn equal_manners_are_one() {
    let mut manners = Manners::default();
    let (one, other) = (manners.of(&rewriting(1)), manners.of(&rewriting(2)));
    assert!(!Arc::ptr_eq(&one, &other));
    // Neither its name nor its cluster is part of it.
    let mut route = rewriting(1);
    route.object.name = "s".into();
    if let ir::Action::Forward(forward) = &mut route.action {
        Arc::make_mut(forward).cluster = "d".into();
    }
    assert!(Arc::ptr_eq(&one, &manners.of(&route)));
    assert_eq!(one.path, PathRewrite::Prefix { len: 1, with: "/".into() });
}

#[test]
fn manners_of_nobody_are_forgotten() {
    let mut manners = Manners::default();
    let held: Vec<_> = (0..10).map(|len| manners.of(&rewriting(len))).collect();
    for len in 10..1_000 {
        manners.of(&rewriting(len));
        manners.release();
        assert!(manners.known.len() <= 2 * held.len() + 1);
    }
    assert!(held.iter().enumerate().all(|(len, of)| Arc::ptr_eq(of, &manners.of(&rewriting(len)))));
}
