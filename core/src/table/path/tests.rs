// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::super::More;
use super::*;
use crate::ir;

fn group(path: PathMatch) -> Arc<Group> {
    let literals = match &path {
        PathMatch::Regex(pattern) => literals(pattern),
        _ => Box::default(),
    };
    let matcher =
        ir::Matcher { path, authority: None, method: None, headers: Vec::new(), query: Vec::new() };
    let source = ir::Group { matcher: matcher.into(), rank: Arc::default(), members: Vec::new() };
    let more = Some(Box::new(More { members: Vec::new(), literals }));
    Arc::new(Group { source: source.into(), bare: true, first: None, more })
}

/// `=` exact, `~` regular expression, `i` in any case, else a prefix.
fn index(paths: &[&str]) -> PathIndex {
    let parse = |path: &&str| {
        let (insensitive, path) = path.strip_prefix('i').map_or((false, *path), |p| (true, p));
        let case_sensitive = !insensitive;
        group(if let Some(text) = path.strip_prefix('=') {
            PathMatch::Exact { text: text.into(), case_sensitive }
        } else if let Some(text) = path.strip_prefix('~') {
            PathMatch::Regex(Pattern::parse(text).unwrap())
        } else {
            PathMatch::Prefix { text: path.into(), case_sensitive }
        })
    };
    let groups: Vec<_> = paths.iter().map(parse).collect();
    let mut index = PathIndex::default();
    (0..groups.len()).for_each(|rank| index.push(rank as u32));
    index.build(&groups);
    index
}

#[track_caller]
fn check(index: &PathIndex, path: &str, expected: &[usize]) {
    let mut lists = Lists::new();
    index.collect(path.as_bytes(), &mut lists);
    assert!(lists.iter().all(|list| !list.is_empty() && list.is_sorted()));
    let mut ranks: Vec<_> = lists.iter().flat_map(|list| list.iter()).map(|c| c.rank()).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, expected, "{path}");
}

#[test]
fn few_groups_are_all_candidates() {
    check(&index(&["/a", "/b", "=/c"]), "/x", &[0, 1, 2]);
    check(&index(&[]), "/x", &[]);
}

#[test]
fn prefixes_and_exact_paths() {
    let index = index(&["/abc", "/ab", "=/ab", "/a", "/", "/b/c", "=/b", "", "/ab", "=/"]);
    check(&index, "/", &[4, 7, 9]);
    check(&index, "/a", &[3, 4, 7]);
    check(&index, "/ab", &[1, 2, 3, 4, 7, 8]);
    check(&index, "/abx", &[1, 3, 4, 7, 8]);
    check(&index, "/abcd", &[0, 1, 3, 4, 7, 8]);
    check(&index, "/b", &[4, 6, 7]);
    check(&index, "/b/", &[4, 7]);
    check(&index, "/b/cd", &[4, 5, 7]);
    check(&index, "/AB", &[4, 7]);
    check(&index, "*", &[7]);
    check(&index, "", &[7]);
}

#[test]
fn any_case() {
    let index = index(&["i/Ab", "i=/AB", "/ab", "i/", "=/aB", "i=/é"]);
    check(&index, "/aB", &[0, 1, 3, 4]);
    check(&index, "/ab", &[0, 1, 2, 3]);
    check(&index, "/ABc", &[0, 3]);
    check(&index, "/É", &[3]);
    check(&index, "/é", &[3, 5]);
}

#[test]
fn regexes_stand_where_they_can_begin() {
    let index = index(&["~/a/[0-9]+", "~/(b|c)/.*", "~.*", "~(?i)/d", "/a", "~/a.*|/z"]);
    check(&index, "/a/1", &[0, 2, 4, 5]);
    check(&index, "/b/", &[1, 2]);
    check(&index, "/c/x", &[1, 2]);
    check(&index, "/D", &[2, 3]);
    check(&index, "/z", &[2, 5]);
    check(&index, "/q", &[2]);
}

#[test]
fn literals_of_regexes() {
    let check = |text: &str, expected: &[&str]| {
        let literals = literals(&Pattern::parse(text).unwrap());
        let mut literals: Vec<_> =
            literals.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        literals.sort_unstable();
        assert_eq!(literals, expected, "{text}");
    };
    check("/a/b", &["/a/b"]);
    check("^/a/.*$", &["/a/"]);
    check("/a|/b", &["/a", "/b"]);
    check(".*", &[""]);
    check("/?x", &["/x", "x"]);
    check("(/a)?", &["", "/a"]);
    check("/[a-z]+/b", &["/"]);
    check("[^/]*", &[""]);
    // Nothing matches.
    check("[^\\s\\S]", &[]);
}

#[test]
fn ten_thousand_nested_prefixes_need_no_deep_stack() {
    let text = "a".repeat(10_000);
    let prefixes: Vec<_> = (0..10_000).map(|len| &text[..len]).collect();
    let index = index(&prefixes);
    let mut lists = Lists::new();
    index.collect(text.as_bytes(), &mut lists);
    assert_eq!(lists.len(), 10_000);
}
