// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::crd::{Meta, Object, Origin, Spec};
use crate::name::{Kind, Ref};

fn object(n: u16) -> Arc<Object> {
    // Two kinds, so that a search may begin between them.
    let kind = if n.is_multiple_of(2) { Kind::Mapping } else { Kind::Host };
    let meta = Meta::of(Ref::new(kind, "default", format!("{n:05}")));
    let spec = Spec::Mapping(Box::default());
    Arc::new(Object { meta, spec, origin: Origin::default() })
}

proptest! {
    /// The same as a tree of objects, whatever happens, and copies stay as they were.
    #[test]
    fn a_list_is_a_map(edits in proptest::collection::vec((any::<bool>(), 0..600_u16), 0..2000)) {
        let (mut list, mut map) = (Sorted::default(), BTreeMap::new());
        let mut copies = Vec::new();
        for (at, (adds, n)) in edits.into_iter().enumerate() {
            let object = object(n);
            let name = object.meta.object.clone();
            if adds {
                list.insert(Arc::clone(&object));
                map.insert(name.clone(), object);
            } else {
                list.remove(&name);
                map.remove(&name);
            }
            prop_assert_eq!(list.get(&name).is_some(), adds);
            if at % 500 == 0 {
                copies.push((list.clone(), map.clone()));
            }
        }
        copies.push((list, map));
        for (old, new) in copies.iter().zip(&copies[1..]).chain([(&copies[0], &copies[copies.len() - 1])]) {
            let found = new.0.differences(&old.0);
            let names: BTreeSet<&Ref> = old.1.keys().chain(new.1.keys()).collect();
            let pairs = names.into_iter().map(|name| (old.1.get(name), new.1.get(name)));
            let expected: Vec<_> =
                pairs.filter(|(a, b)| a.map(Arc::as_ptr) != b.map(Arc::as_ptr)).collect();
            prop_assert_eq!(found.len(), expected.len());
            let same = |a: Option<&Arc<Object>>, b: Option<&Arc<Object>>| {
                a.map(Arc::as_ptr) == b.map(Arc::as_ptr)
            };
            prop_assert!((found.iter().zip(&expected))
                .all(|(difference, (a, b))| same(difference.before, *a) && same(difference.now, *b)));
        }
        for (list, map) in copies {
            let same = |a: &Arc<Object>, b: &Arc<Object>| Arc::ptr_eq(a, b);
            prop_assert_eq!(list.len(), map.len());
            prop_assert!(list.iter().zip(map.values()).all(|(a, b)| same(a, b)));
            prop_assert_eq!(list.iter().count(), map.len());
            // Those there are, and some before, between and behind them.
            for kind in [Kind::Filter, Kind::Host, Kind::Listener, Kind::Mapping, Kind::Secret] {
                let found: Vec<_> = list.row(|name| name.kind < kind, |name| name.kind > kind).collect();
                let expected: Vec<_> =
                    map.iter().filter(|(name, _)| name.kind == kind).map(|(_, o)| o).collect();
                prop_assert_eq!(found.len(), expected.len());
                prop_assert!(found.iter().zip(&expected).all(|(a, b)| same(a, b)));
            }
        }
    }
}

#[test]
fn what_comes_in_order_fills_its_chunks() {
    let mut list = Sorted::default();
    (0..1280).map(|n| object(n * 2)).for_each(|object| list.insert(object));
    assert_eq!(list.chunks.len(), 1280 / CHUNK_MAX);
}
