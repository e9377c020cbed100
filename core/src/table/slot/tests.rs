// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::name::Kind;

fn mapping(name: &str) -> Ref {
    Ref::new(Kind::Mapping, "default", name)
}

#[test]
fn a_slot_stays_as_long_as_a_table_has_it() {
    let mut slots = Slots::new();
    let a = slots.route(&mapping("a"), Generation(1)).unwrap();
    let b = slots.route(&mapping("b"), Generation(1)).unwrap();
    assert_ne!(a, b);
    assert_eq!(slots.route(&mapping("a"), Generation(2)).unwrap(), a);
    let mut held = vec![None; slots.routes_end()];
    held[b.index()] = Some(());
    slots.keep_routes(&held, Generation(3));
    slots.release(Generation(2));
    assert_eq!(slots.route_object(a), Some(&mapping("a")));
    slots.release(Generation(3));
    assert_eq!(slots.route_object(a), None);
    assert_eq!(slots.route(&mapping("b"), Generation(4)).unwrap(), b);
}

#[test]
fn freed_slots_rest_until_all_others_are_used() {
    let mut space = Space::<Arc<str>> { max: 3, ..Space::default() };
    let take = |space: &mut Space<Arc<str>>, key: &str, generation| {
        space.take(&Arc::<str>::from(key), Generation(generation))
    };
    assert_eq!(take(&mut space, "a", 1), Some(0));
    assert_eq!(take(&mut space, "b", 2), Some(1));
    space.release(Generation(2));
    space.release(Generation(3));
    // Both are free, a new object gets neither.
    assert_eq!(take(&mut space, "c", 3), Some(2));
    // Even the same object starts afresh: its counters were given up with its slot.
    assert_eq!(take(&mut space, "b", 3), Some(0));
    assert_eq!(take(&mut space, "d", 3), Some(1));
    assert_eq!(take(&mut space, "e", 3), None);
    assert_eq!(space.by_key.get("d"), Some(&1));
    assert_eq!(space.by_key.len(), 3);
}

#[test]
fn kinds_count_apart() {
    let mut slots = Slots::new();
    let listener = slots.listener(&Ref::new(Kind::Listener, "default", "a"), Generation(1));
    let cluster = slots.cluster(&"a".into(), Generation(1)).unwrap();
    assert_eq!(listener.unwrap().0, 0);
    assert_eq!(cluster.0, 0);
    assert_eq!(slots.cluster_slot("a"), Some(cluster));
}
