// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use ringway_sync::gateway::load;

use super::*;

#[test]
fn the_sample_manifests_have_no_problems() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/quickstart");
    let loaded = load(&folder, Default::default(), Default::default()).unwrap();
    assert!(loaded.diagnostics.is_empty(), "{:#?}", loaded.diagnostics);
    assert_eq!(loaded.n_files, MANIFESTS.len(), "all are embedded");
    assert_eq!(loaded.table.listeners.len(), 1);
}

#[test]
fn files_that_are_there_are_left_alone() {
    let dir = std::env::temp_dir().join(format!("ringway-demo-{}", std::process::id()));
    let ports = [(PORT, "1".to_owned()), (QUOTE_PORT, "2".to_owned()), (ECHO_PORT, "3".to_owned())];
    assert_eq!(write(&dir, &ports).unwrap(), 0);
    let quote = std::fs::read_to_string(dir.join("quote.yaml")).unwrap();
    assert!(quote.contains("port: 2\n") && quote.contains("localhost:1/"), "{quote}");
    std::fs::write(dir.join("quote.yaml"), "mine").unwrap();
    assert_eq!(write(&dir, &ports).unwrap(), 3);
    assert_eq!(std::fs::read_to_string(dir.join("quote.yaml")).unwrap(), "mine");
    std::fs::remove_dir_all(&dir).unwrap();
}
