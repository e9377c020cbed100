// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use ringway_core::limits::GRPC_METHODS_MAX;

use super::*;

const SHOP: ClusterSlot = ClusterSlot(3);
const OTHER: ClusterSlot = ClusterSlot(1);

fn stats(methods: GrpcMethods) -> GrpcStats {
    GrpcStats { methods, upstream: false }
}

#[test]
fn the_listed_count_by_name_and_others_for_their_cluster() {
    let (methods, slab) = (Methods::default(), Slab::default());
    let listed = [("a.B".into(), vec!["C".into(), "D".into()])].into();
    let stats = stats(GrpcMethods::Listed(listed));
    let slot = |cluster, path: &str| methods.slot(&slab, &stats, cluster, path.as_bytes());
    let first = slot(SHOP, "/a.B/D").unwrap();
    let others = ["/a.B/C", "/a.B/D"].map(|path| slot(OTHER, path).unwrap());
    let distinct = [first, others[0], others[1]];
    assert!(distinct.iter().all(|slot| matches!(slot, CallSlot::Method(_))), "{distinct:?}");
    assert!(distinct.iter().all(|one| distinct.iter().filter(|other| *other == one).count() == 1));
    assert_eq!(slot(SHOP, "/a.B/D"), Some(first));
    assert_eq!(["/a.B/C", "/a.B/D"].map(|path| slot(OTHER, path).unwrap()), others);
    for path in ["/a.B/E", "/a.C/C", "/a.B", "/", "/a.B/C/D"] {
        assert_eq!(slot(SHOP, path), Some(CallSlot::Cluster(SHOP)), "{path}");
    }
    let named: Vec<_> = slab.methods().map(|(_, cluster, path)| (cluster, path)).collect();
    assert_eq!(named, [(SHOP, "/a.B/D"), (OTHER, "/a.B/C"), (OTHER, "/a.B/D")]);
}

/// Clients can make up names: there is room for so many, and the rest counts for its cluster.
#[test]
fn all_methods_are_bounded() {
    let (methods, slab) = (Methods::default(), Slab::default());
    let stats = stats(GrpcMethods::All);
    let slot = |path: &str| methods.slot(&slab, &stats, SHOP, path.as_bytes());
    let path = |n: usize| format!("/a.B/M{}", n * 7919 % GRPC_METHODS_MAX);
    let slots: Vec<_> = (0..GRPC_METHODS_MAX).map(|n| slot(&path(n)).unwrap()).collect();
    assert!(slots.iter().all(|slot| matches!(slot, CallSlot::Method(_))));
    assert_eq!(slot("/a.B/OneMore"), Some(CallSlot::Cluster(SHOP)));
    assert!((0..GRPC_METHODS_MAX).all(|n| slot(&path(n)) == Some(slots[n])));
    assert_eq!(slab.methods().count(), GRPC_METHODS_MAX);
    assert_eq!(slot("/a.B"), None);
    assert_eq!(methods.slot(&slab, &stats, SHOP, b"/a.B/\xff"), None);
}
