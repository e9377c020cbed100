// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::crd::{Options, Parsed, parse};

fn object(kind: &str, namespace: &str, name: &str) -> Arc<Object> {
    let text = format!(
        "{{apiVersion: getambassador.io/v3alpha1, kind: {kind}, metadata: {{name: {name}, \
         namespace: {namespace}}}, spec: {{prefix: /, service: s}}}}"
    );
    match parse("a", &text, &Options::default()).remove(0) {
        Parsed::Object { object, .. } => object,
        other => panic!("{other:?}"),
    }
}

fn names(objects: impl Iterator<Item = impl std::ops::Deref<Target = Object>>) -> Vec<String> {
    objects.map(|object| object.meta.object.to_string()).collect()
}

#[test]
fn objects_come_by_kind_namespace_and_name() {
    let mut snapshot = Snapshot::default();
    for (kind, namespace, name) in
        [("Mapping", "b", "x"), ("TLSContext", "a", "t"), ("Mapping", "a", "y"), ("Host", "z", "h")]
    {
        snapshot.insert(object(kind, namespace, name));
    }
    assert_eq!(names(snapshot.of_kind(Kind::Mapping).cloned()), ["Mapping a/y", "Mapping b/x"]);
    assert_eq!(names(snapshot.of_kind(Kind::Module).cloned()), [""; 0]);
    assert_eq!(snapshot.len(), 4);
}

#[test]
fn a_copy_is_an_instant() {
    let mut snapshot = Snapshot::default();
    snapshot.insert(object("Host", "a", "h"));
    let before = snapshot.clone();
    let name = Ref::new(Kind::Host, "a", "h");
    snapshot.remove(&name);
    assert!(snapshot.is_empty());
    assert!(before.object(&name).is_some());
}

#[test]
fn a_refused_object_is_noted_unless_an_earlier_version_serves() {
    let mut snapshot = Snapshot::default();
    let auth = Arc::new(Meta::of(Ref::new(Kind::AuthService, "a", "auth")));
    let host = object("Host", "a", "h");
    snapshot.insert(host.clone());
    snapshot.refuse(auth.clone());
    snapshot.refuse(Arc::new(host.meta.clone()));
    let refused = |s: &Snapshot, kind| s.refused_of_kind(kind).count();
    assert_eq!((refused(&snapshot, Kind::AuthService), refused(&snapshot, Kind::Host)), (1, 0));
    assert!(snapshot.object(&host.meta.object).is_some());
    snapshot.remove(&auth.object);
    assert_eq!(refused(&snapshot, Kind::AuthService), 0);
}
