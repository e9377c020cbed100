// SPDX-License-Identifier: Apache-2.0
//! Runs every golden case under `tests/golden`: `<case>.in.yaml` is resolved and compiled and must
//! give `<case>.out.yaml` (rewritten with `UPDATE_GOLDEN=1`), then it is served by the running
//! gateway, which must answer `<case>.http.yaml`. Also holds `docs/compatibility.md` to the cases.

mod live;
mod resolved;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use ringway_tests::gateway::repository;

fn folder() -> PathBuf {
    repository().join("tests/golden")
}

/// All cases as `topic/name`, in order.
pub(crate) fn cases() -> Vec<String> {
    let mut names = Vec::new();
    for topic in children(&folder()) {
        for file in children(&topic) {
            let name = file.strip_prefix(folder()).unwrap().to_str().unwrap();
            if let Some(case) = name.strip_suffix(".in.yaml") {
                names.push(case.to_owned());
            }
        }
    }
    names.sort();
    assert!(names.len() > 150, "only {} golden cases found", names.len());
    names
}

/// Whether a case is to be run: `GOLDEN=tls/,listener/http` chooses those that contain one of the
/// texts.
fn chosen(case: &str) -> bool {
    let only = std::env::var("GOLDEN").unwrap_or_default();
    only.split(',').any(|text| case.contains(text))
}

fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// A case's settings (its first document, if that is of `ringway.test/v1`) and its manifests, with
/// the certificates that they name in braces.
fn read(case: &str) -> (serde_json::Value, String) {
    let text = fs::read_to_string(folder().join(format!("{case}.in.yaml"))).unwrap();
    let text = ringway_tests::pki::expand(&text).expect(case);
    if !text.starts_with("apiVersion: ringway.test/v1\n") {
        return (serde_json::Value::Null, text);
    }
    let (settings, manifests) = text.split_once("\n---\n").expect("settings come before manifests");
    let settings = ringway_tests::yaml::parse(settings).unwrap().remove(0);
    (settings, manifests.to_owned())
}

/// The environment that a case asks for.
fn environment(settings: &serde_json::Value) -> Vec<(String, String)> {
    strings(settings, "env")
}

/// Files that a case asks for, in the folder that `${FILES}` says.
fn files(settings: &serde_json::Value) -> Vec<(String, String)> {
    strings(settings, "files")
}

fn strings(settings: &serde_json::Value, key: &str) -> Vec<(String, String)> {
    let map = settings.get(key).and_then(serde_json::Value::as_object);
    let pairs = map.into_iter().flatten();
    pairs.map(|(k, v)| (k.clone(), v.as_str().expect("a string").to_owned())).collect()
}
