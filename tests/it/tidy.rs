// SPDX-License-Identifier: Apache-2.0
//! The layering rules of ARCHITECTURE.md as tests: only what the architecture needs to stay true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringway_tests::gateway::repository;

/// Files of the repository: tracked, or new and not ignored.
fn files() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .expect("git runs");
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let exist = text.lines().filter(|path| repository().join(path).exists());
    let files: Vec<String> = exist.map(str::to_owned).collect();
    assert!(files.len() > 100, "git lists only {} files", files.len());
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rust_files() -> Vec<String> {
    files().into_iter().filter(|path| path.ends_with(".rs")).collect()
}

/// Source text without comments, so that rules speak of code.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("//") {
        Some(at) => &line[..at],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// Names in the `[dependencies]` table of a crate.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = read(&format!("{folder}/Cargo.toml"));
    let table = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = table.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("core", &[][..]),
        // The binary, behind the feature `bin`, knows both; the library does not.
        ("proxy", &["ringway-core", "ringway-sync"]),
        ("sync", &["ringway-core"]),
        ("fuzz", &["ringway-core", "ringway-proxy"]),
        ("tests", &["ringway-core"]),
    ]);
    let mut wrong = Vec::new();
    for (folder, allowed) in allowed {
        let own = dependencies(folder).into_iter().filter(|name| name.starts_with("ringway-"));
        for name in own.filter(|name| !allowed.contains(&name.as_str())) {
            wrong.push(format!("{folder} depends on {name}"));
        }
    }
    assert_none("the crate graph", &wrong);
}

#[test]
fn the_core_knows_no_world() {
    let banned = [
        "std::env",
        "std::fs",
        "std::thread",
        "Instant::now",
        "SystemTime::now",
        "TcpStream",
        "TcpListener",
        "async fn",
        "unsafe {",
    ];
    let mut wrong = Vec::new();
    for path in rust_files().iter().filter(|path| path.starts_with("core/src")) {
        let text = code(&read(path));
        // Test modules may: they are compiled for tests only.
        if path.ends_with("/tests.rs") {
            continue;
        }
        for word in banned.iter().filter(|word| text.contains(**word)) {
            wrong.push(format!("{path}: {word}"));
        }
    }
    assert_none("core does no I/O and reads no clock, no environment", &wrong);
}

/// Modules that only `main.rs` names: the binary, not the library.
fn is_command_line(path: &str) -> bool {
    let main = code(&read("proxy/src/main.rs"));
    let file = path.strip_prefix("proxy/src/").unwrap_or(path);
    let top = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    top == "main" || main.lines().any(|line| line.trim() == format!("mod {top};"))
}

#[test]
fn the_data_plane_does_not_see_resources() {
    let mut wrong = Vec::new();
    for path in rust_files().iter().filter(|path| path.starts_with("proxy/src")) {
        // The command line is no part of the data plane, and tests build tables from an `Ir`.
        let command_line = path.starts_with("proxy/src/cli") || is_command_line(path);
        if command_line || path.ends_with("tests.rs") {
            continue;
        }
        let text = code(&read(path));
        for word in ["crd::", "resolve::", "snapshot::", "ringway_sync"] {
            if text.contains(word) {
                wrong.push(format!("{path}: {word}"));
            }
        }
        // What a table re-exports by value is all of `ir` that a worker may name.
        for (at, _) in text.match_indices("ir::") {
            let before = text[..at].chars().next_back();
            let name: String =
                text[at + 4..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let word = before.is_none_or(|c| !c.is_alphanumeric() && c != '_');
            let allowed = [
                "settings",
                "Settings",
                "AccessLog",
                "Underscores",
                "SecurityModel",
                "Protocol",
                "Refusal",
                "Transport",
                "UpstreamProtocol",
                "",
            ];
            if word && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{path}: ir::{name}"));
            }
        }
    }
    assert_none("the proxy sees tables and policies, not resources", &wrong);
}

/// Files of the data plane that may hold `unsafe`.
const UNSAFE_ALLOWED: [&str; 3] =
    ["proxy/src/net/socket.rs", "proxy/src/net/stream.rs", "proxy/src/main.rs"];

#[test]
fn unsafe_stays_where_it_is_allowed() {
    let mut wrong = Vec::new();
    for path in rust_files() {
        let checked = path.starts_with("proxy/") || path.starts_with("sync/");
        let test = path.ends_with("tests.rs");
        if checked && !test && !UNSAFE_ALLOWED.contains(&path.as_str()) {
            let text = code(&read(&path));
            if text.contains("unsafe {") || text.contains("unsafe impl") {
                wrong.push(path);
            }
        }
    }
    assert_none("unsafe outside the files that may hold it", &wrong);
}

#[test]
fn every_limit_is_explained() {
    let limits = read("core/src/limits.rs");
    let tuning = read("tuning.md");
    let names =
        limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 20, "only {} limits found", names.len());
    let missing = names.iter().filter(|name| !tuning.contains(&format!("`{name}`")));
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    assert_none("limits that tuning.md does not explain", &missing);
}

#[test]
fn every_path_of_the_codemap_exists() {
    let text = read("ARCHITECTURE.md");
    let mut wrong = Vec::new();
    let mut paths = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let tops = ["core/", "proxy/", "sync/", "bench/", "fuzz/", "tests/", "deploy/", "docs/"];
        let is_path = tops.iter().any(|top| word.starts_with(top))
            && !word.contains([' ', '*', '<', '{', '…']);
        if is_path {
            paths += 1;
            if !repository().join(word).exists() {
                wrong.push(word.to_owned());
            }
        }
    }
    assert!(paths > 5, "only {paths} paths found in ARCHITECTURE.md");
    assert_none("paths in ARCHITECTURE.md that do not exist", &wrong);
}

#[test]
fn every_source_file_states_its_licence() {
    let line = "// SPDX-License-Identifier: Apache-2.0\n";
    let without = rust_files().into_iter().filter(|path| !read(path).starts_with(line));
    assert_none("files without the SPDX line", &without.collect::<Vec<_>>());
}

#[test]
fn every_source_file_is_in_a_module_tree() {
    let all: BTreeSet<PathBuf> = rust_files().into_iter().map(PathBuf::from).collect();
    let mut reached = BTreeSet::new();
    let roots = all.iter().filter(|path| {
        let text = path.to_str().expect("UTF-8");
        let depth = path.components().count();
        text.ends_with("src/lib.rs")
            || text.ends_with("src/main.rs")
            || text == "tests/it/main.rs"
            || (text.contains("/src/bin/") && depth == 4)
            || (["benches", "targets", "fuzz_targets", "tests", "examples"]
                .iter()
                .any(|folder| path.parent().is_some_and(|p| p.ends_with(folder)))
                && depth == 3)
            || text.ends_with("build.rs")
    });
    let mut queue: Vec<PathBuf> = roots.cloned().collect();
    while let Some(path) = queue.pop() {
        if !all.contains(&path) || !reached.insert(path.clone()) {
            continue;
        }
        let text = code(&read(path.to_str().expect("UTF-8")));
        queue.extend(children(&path, &text));
    }
    let orphans = all.difference(&reached).map(|path| path.display().to_string());
    assert_none("files that no module names", &orphans.collect::<Vec<_>>());
}

/// Where the modules that a file declares may lie.
fn children(path: &Path, text: &str) -> Vec<PathBuf> {
    let parent = path.parent().expect("a file has a folder");
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8");
    let is_root = matches!(stem, "lib" | "main" | "mod") || parent.ends_with("bin");
    let folder = if is_root { parent.to_owned() } else { parent.join(stem) };
    let mut found = Vec::new();
    for line in text.lines() {
        let declared = line.trim().strip_suffix(';').and_then(|l| l.split("mod ").nth(1));
        if let Some(name) = declared.filter(|name| !name.contains(' ')) {
            found.push(folder.join(format!("{name}.rs")));
            found.push(folder.join(name).join("mod.rs"));
        }
    }
    found
}
