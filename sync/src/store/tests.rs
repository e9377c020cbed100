// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use ringway_core::crd::Spec;

use super::*;

fn fresh_store() -> Store {
    Store::new(Settings::default(), BTreeMap::new())
}

fn mapping(name: &str, prefix: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata:\n  name: {name}\n\
         spec:\n  hostname: '*'\n  prefix: {prefix}\n  service: s\n"
    )
}

impl Store {
    fn read(&mut self, path: &str, text: &str) {
        self.set_file(Path::new(path), text);
    }

    /// `name=prefix` of all Mappings.
    fn mappings(&self) -> Vec<String> {
        let prefix = |object: &Arc<Object>| match &object.spec {
            Spec::Mapping(mapping) => mapping.prefix.clone(),
            _ => unreachable!("they are Mappings"),
        };
        let line = |object: &Arc<Object>| format!("{}={}", object.meta.name(), prefix(object));
        self.snapshot().of_kind(Kind::Mapping).map(line).collect()
    }

    fn reasons(&self) -> Vec<String> {
        let diagnostics = self.diagnostics(&Problems::default());
        let line = |d: &Diagnostic| {
            let at =
                d.location.as_ref().map_or_else(String::new, |l| format!("{}:{}", l.file, l.line));
            format!("{at} {}", d.reason)
        };
        diagnostics.iter().map(line).collect()
    }
}

fn named(name: &str) -> Ref {
    Ref::new(Kind::Mapping, "default", name)
}

#[test]
fn an_edit_changes_one_object_and_leaves_the_others() {
    let mut store = fresh_store();
    store.read("a.yaml", &(mapping("one", "/1/") + &mapping("two", "/2/")));
    assert_eq!(store.mappings(), ["one=/1/", "two=/2/"]);
    assert_eq!(store.take_changes().len(), 2);
    let before = store.snapshot().object(&named("one")).unwrap().clone();
    store.read("a.yaml", &(mapping("one", "/1/") + &mapping("two", "/two/")));
    assert_eq!(store.mappings(), ["one=/1/", "two=/two/"]);
    let after = store.snapshot().object(&named("one")).unwrap();
    assert!(Arc::ptr_eq(&before, after));
    assert_eq!(store.take_changes(), BTreeMap::from([(named("two"), Change::Changed)]));
    store.read("a.yaml", &mapping("two", "/two/"));
    assert_eq!(store.take_changes(), BTreeMap::from([(named("one"), Change::Removed)]));
    store.remove_file(Path::new("a.yaml"));
    assert!(store.snapshot().is_empty());
    assert_eq!(store.take_changes(), BTreeMap::from([(named("two"), Change::Removed)]));
}

#[test]
fn a_document_that_breaks_keeps_its_objects_and_its_neighbours_change() {
    let mut store = fresh_store();
    store.read("a.yaml", &(mapping("one", "/1/") + &mapping("two", "/2/")));
    let broken = mapping("one", "\"/1/") + &mapping("two", "/two/");
    store.read("a.yaml", &broken);
    assert_eq!(store.mappings(), ["one=/1/", "two=/two/"]);
    assert_eq!(store.kept_files().collect::<Vec<_>>(), [Path::new("a.yaml")]);
    assert!(store.reasons()[0].ends_with("Syntax"), "{:?}", store.reasons());
    // Still broken in another way.
    store.read("a.yaml", &(mapping("one", "'/1/") + &mapping("two", "/two/")));
    assert_eq!(store.mappings(), ["one=/1/", "two=/two/"]);
    // Mended.
    store.read("a.yaml", &(mapping("one", "/one/") + &mapping("two", "/two/")));
    assert_eq!(store.mappings(), ["one=/one/", "two=/two/"]);
    assert_eq!(store.kept_files().count(), 0);
    assert!(store.reasons().is_empty());
}

#[test]
fn a_broken_document_does_not_bring_back_what_moved() {
    let mut store = fresh_store();
    store.read("a.yaml", &(mapping("one", "/1/") + &mapping("two", "/2/")));
    store.read("a.yaml", &format!("{}---\n: [\n", mapping("two", "/two/")));
    assert_eq!(store.mappings(), ["one=/1/", "two=/two/"]);
    store.read("a.yaml", &mapping("two", "/two/"));
    assert_eq!(store.mappings(), ["two=/two/"]);
}

#[test]
fn a_refused_object_keeps_its_last_version() {
    let mut store = fresh_store();
    store.read("a.yaml", &mapping("one", "/1/"));
    store.read("a.yaml", &mapping("one", "[1]"));
    assert_eq!(store.mappings(), ["one=/1/"]);
    assert_eq!(store.refused().iter().collect::<Vec<_>>(), [&named("one")]);
    assert_eq!(store.reasons(), ["a.yaml:8 WrongType"]);
    store.remove_file(Path::new("a.yaml"));
    assert!(store.mappings().is_empty());
}

#[test]
fn a_refused_guard_is_gone_and_known_to_be_refused() {
    let auth = |service: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: AuthService\nmetadata:\n  name: auth\n\
             spec:\n  auth_service: {service}\n"
        )
    };
    let mut store = fresh_store();
    store.read("auth.yaml", &auth("auth:80"));
    assert_eq!(store.snapshot().of_kind(Kind::AuthService).count(), 1);
    store.read("auth.yaml", &auth("[1]"));
    assert_eq!(store.snapshot().of_kind(Kind::AuthService).count(), 0);
    assert_eq!(store.snapshot().refused_of_kind(Kind::AuthService).count(), 1);
    store.read("auth.yaml", &auth("auth:80"));
    assert_eq!(store.snapshot().refused_of_kind(Kind::AuthService).count(), 0);
}

#[test]
fn the_first_of_two_by_path_counts_and_both_places_are_named() {
    let mut store = fresh_store();
    store.read("b.yaml", &mapping("one", "/b/"));
    assert_eq!(store.mappings(), ["one=/b/"]);
    store.read("a.yaml", &mapping("one", "/a/"));
    assert_eq!(store.mappings(), ["one=/a/"]);
    assert_eq!(store.reasons(), ["b.yaml:5 Duplicate"]);
    let said = &store.diagnostics(&Problems::default())[0].message;
    assert!(said.contains("a.yaml:5"), "{said}");
    store.remove_file(Path::new("a.yaml"));
    assert_eq!(store.mappings(), ["one=/b/"]);
    assert!(store.reasons().is_empty());
}

#[test]
fn foreign_kinds_are_counted() {
    let mut store = fresh_store();
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\n";
    store.read("a.yaml", &format!("{deployment}---\n{deployment}---\nkind: Pod\napiVersion: v1\n"));
    let expected = BTreeMap::from([("apps/v1 Deployment".to_owned(), 2), ("v1 Pod".to_owned(), 1)]);
    assert_eq!(store.foreign(), expected);
    assert!(store.snapshot().is_empty());
}

#[test]
fn a_random_history_ends_where_a_fresh_reading_does() {
    // A linear congruential generator: the same history every time.
    let mut seed = 0x5eed_u64;
    let mut random = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let mut store = fresh_store();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..2000 {
        let path = format!("{}.yaml", random(4));
        if random(5) == 0 {
            texts.remove(&path);
            store.remove_file(Path::new(&path));
            continue;
        }
        let text: String = (0..random(5))
            .map(|_| mapping(&format!("m{}", random(6)), &format!("/{}/", random(3))))
            .collect();
        store.read(&path, &text);
        texts.insert(path, text);
        let mut fresh = fresh_store();
        for (path, text) in &texts {
            fresh.read(path, text);
        }
        assert_eq!(store.mappings(), fresh.mappings());
        assert_eq!(store.reasons(), fresh.reasons());
    }
}

/// A Mapping as an API server has it.
fn json(name: &str, prefix: &str, version: u32) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}", "resourceVersion": "{version}"}},
            "spec": {{"hostname": "*", "prefix": "{prefix}", "service": "s"}}}}"#
    )
}

#[test]
fn an_object_that_is_only_renumbered_stays_the_object() {
    let mut store = fresh_store();
    let set = |store: &mut Store, json: &str| {
        let at = Path::new("Mapping default/one");
        store.set_object(at, json, "getambassador.io/v3alpha1", "Mapping")
    };
    assert!(set(&mut store, &json("one", "/1/", 1)));
    assert_eq!(store.take_changes().len(), 1);
    assert!(!set(&mut store, &json("one", "/1/", 2)));
    assert_eq!(store.take_changes().len(), 0);
    assert!(set(&mut store, &json("one", "/one/", 3)));
    assert_eq!(store.mappings(), ["one=/one/"]);
    assert_eq!(store.take_changes(), BTreeMap::from([(named("one"), Change::Changed)]));
    // Refused: what was accepted goes on.
    set(&mut store, r#"{"metadata": {"name": "one"}, "spec": {"prefix": 1, "service": "s"}}"#);
    assert_eq!(store.mappings(), ["one=/one/"]);
    assert_eq!(store.refused().len(), 1);
    store.remove_file(Path::new("Mapping default/one"));
    assert!(store.mappings().is_empty());
}
