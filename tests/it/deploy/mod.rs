// SPDX-License-Identifier: Apache-2.0
//! What is installed: definitions, chart, image. Files that are made from something else are
//! rewritten with `UPDATE_DEPLOY=1`.

pub(crate) mod chart;
pub(crate) mod crds;
mod doctor;
mod image;
mod licences;

use std::fs;

use ringway_tests::gateway::repository;

/// Holds a folder of the repository to exactly these files.
#[track_caller]
fn expect_folder(folder: &str, files: &[(String, String)]) {
    let at = repository().join(folder);
    let update = std::env::var_os("UPDATE_DEPLOY").is_some();
    if update {
        fs::create_dir_all(&at).unwrap();
    }
    let there = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name());
    let there: Vec<String> = there.map(|name| name.into_string().unwrap()).collect();
    let mut stale = Vec::new();
    for name in there.iter().filter(|name| !files.iter().any(|(file, _)| file == *name)) {
        if update {
            fs::remove_file(at.join(name)).unwrap();
        } else {
            stale.push(format!("{name} is made from nothing"));
        }
    }
    for (name, text) in files {
        if update {
            fs::write(at.join(name), text).unwrap();
        }
        if fs::read_to_string(at.join(name)).unwrap_or_default() != *text {
            stale.push(format!("{name} is not what it is made from"));
        }
    }
    assert!(stale.is_empty(), "{folder}, see UPDATE_DEPLOY: {stale:#?}");
}
