// SPDX-License-Identifier: Apache-2.0
//! Finds the groups whose path clause a path can satisfy, at a cost that depends on the path and
//! not on the number of groups: a radix tree over prefixes and exact paths, another over
//! case-insensitive ones. A regular expression stands at the literal text that each of its
//! matches begins with, at the root where there is none.
//!
//! What it yields is a superset, in lists that are each in rank order; what it has not shown to
//! hold is checked by [`super::predicate`].

use std::sync::Arc;

use regex_syntax::hir::literal::Extractor;
use smallvec::SmallVec;

use super::Group;
use crate::ir::PathMatch;
use crate::policy::pattern::Pattern;

/// Up to this many groups are scanned rather than indexed.
const SCAN_MAX: usize = 4;
/// A regular expression that may begin in more ways than this is filed under what they share.
const LITERALS_MAX: usize = 16;

/// Lists of candidates, each in rank order.
pub(super) type Lists<'t> = SmallVec<[&'t [Candidate]; 8]>;

/// A group that a path may lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate(u32);

impl Candidate {
    /// Ranks are below this.
    pub(super) const RANK_END: usize = 1 << 31;

    fn new(rank: u32, certain: bool) -> Self {
        Self(rank << 1 | u32::from(certain))
    }

    pub(super) fn rank(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// The index has shown that the path clause holds.
    pub(super) fn is_certain(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Groups by path.
#[derive(Debug)]
pub(super) enum PathIndex {
    /// So few that their clauses are checked one by one.
    Scan(SmallVec<[Candidate; SCAN_MAX]>),
    Trees {
        sensitive: Tree,
        /// Keys in lower case.
        insensitive: Tree,
    },
}

impl Default for PathIndex {
    fn default() -> Self {
        Self::Scan(SmallVec::new())
    }
}

impl PathIndex {
    /// Adds a group, after all of lesser rank.
    pub(super) fn push(&mut self, rank: u32) {
        match self {
            Self::Scan(candidates) => candidates.push(Candidate::new(rank, false)),
            Self::Trees { .. } => unreachable!("groups are added before the index is built"),
        }
    }

    /// Builds the index once all groups of the virtual host (by rank) have been added.
    pub(super) fn build(&mut self, groups: &[Arc<Group>]) {
        let Self::Scan(candidates) = self else { return };
        if candidates.len() <= SCAN_MAX {
            return;
        }
        let mut sensitive = Vec::with_capacity(candidates.len());
        let mut folded = Vec::new();
        for candidate in candidates {
            let group = &groups[candidate.rank()];
            let candidate = Candidate(candidate.0 | 1);
            match &group.source.matcher.path {
                PathMatch::Prefix { text, case_sensitive: true } => {
                    sensitive.push(Entry { key: text.as_bytes(), end: false, candidate });
                }
                PathMatch::Exact { text, case_sensitive: true } => {
                    sensitive.push(Entry { key: text.as_bytes(), end: true, candidate });
                }
                PathMatch::Prefix { text, case_sensitive: false } => {
                    folded.push((text.to_ascii_lowercase(), false, candidate));
                }
                PathMatch::Exact { text, case_sensitive: false } => {
                    folded.push((text.to_ascii_lowercase(), true, candidate));
                }
                PathMatch::Regex(_) => {
                    let candidate = Candidate(candidate.0 & !1);
                    let literals = group.more.iter().flat_map(|more| &more.literals);
                    sensitive.extend(literals.map(|key| Entry { key, end: false, candidate }));
                }
            }
        }
        let insensitive = folded
            .iter()
            .map(|(key, end, candidate)| Entry {
                key: key.as_bytes(),
                end: *end,
                candidate: *candidate,
            })
            .collect();
        *self = Self::Trees {
            sensitive: Tree::build(sensitive),
            insensitive: Tree::build(insensitive),
        };
    }

    /// Adds the lists that `path` leads to; none is empty.
    pub(super) fn collect<'t>(&'t self, path: &[u8], lists: &mut Lists<'t>) {
        match self {
            Self::Scan(candidates) if candidates.is_empty() => {}
            Self::Scan(candidates) => lists.push(candidates),
            Self::Trees { sensitive, insensitive } => {
                sensitive.collect::<false>(path, lists);
                insensitive.collect::<true>(path, lists);
            }
        }
    }
}

/// Texts of which one begins every match of a pattern; a single empty one where nothing is known,
/// none where nothing matches.
pub(super) type Literals = Box<[Box<[u8]>]>;

pub(super) fn literals(pattern: &Pattern) -> Literals {
    let unknown = || Box::from([Box::from(&b""[..])]);
    let parsed =
        regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern.part().as_str());
    let Ok(hir) = parsed else { return unknown() };
    let mut seq = Extractor::new().extract(&hir);
    if seq.len().is_some_and(|len| len > LITERALS_MAX) {
        let shared: Box<[u8]> = seq.longest_common_prefix().unwrap_or_default().into();
        return Box::from([shared]);
    }
    seq.dedup();
    match seq.literals() {
        None => unknown(),
        Some(literals) => literals.iter().map(|literal| literal.as_bytes().into()).collect(),
    }
}

struct Entry<'a> {
    key: &'a [u8],
    /// The path ends here: an exact match.
    end: bool,
    candidate: Candidate,
}

/// A radix tree over bytes, in flat arrays. Node 0 is the root; the children of a node lie side by
/// side.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// First byte of each node's label.
    first: Vec<u8>,
    labels: Vec<u8>,
    candidates: Vec<Candidate>,
}

/// One cache line, with what is short in it: among thousands of nodes each step comes from memory.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Node {
    label: Range,
    children: Range,
    /// Into `candidates`: groups whose prefix ends here.
    prefix: Range,
    /// Into `candidates`, from where `prefix` ends: groups whose exact path ends here.
    exact_end: u32,
    /// The candidate, where there is one.
    only: Candidate,
    short_label: [u8; 16],
    /// First bytes of the children's labels.
    few_first: [u8; 16],
}

const _: () = assert!(size_of::<Node>() == 64);

#[derive(Clone, Copy, Debug, Default)]
struct Range {
    start: u32,
    end: u32,
}

impl Range {
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    fn of<T>(self, items: &[T]) -> &[T] {
        &items[self.start as usize..self.end as usize]
    }

    /// The same from a copy that begins with `items[start]`, where all are in it.
    fn of_copy<'t, T, const N: usize>(self, copy: &'t [T; N], items: &'t [T]) -> &'t [T] {
        copy.get(..(self.end - self.start) as usize).unwrap_or_else(|| self.of(items))
    }
}

/// The beginning of `items`, as much as there is room for.
fn copy_of<const N: usize>(items: &[u8]) -> [u8; N] {
    let mut copy = [0; N];
    let len = items.len().min(N);
    copy[..len].copy_from_slice(&items[..len]);
    copy
}

impl Tree {
    fn build(mut entries: Vec<Entry<'_>>) -> Self {
        // Stable: entries of one key stay in rank order.
        entries.sort_by(|a, b| (a.key, a.end).cmp(&(b.key, b.end)));
        let mut tree = Self::default();
        if entries.is_empty() {
            return tree;
        }
        tree.nodes.push(Node::default());
        tree.first.push(0);
        // Breadth first: (node, its entries, bytes of the key up to and including its label).
        let mut at = 0;
        let mut pending = vec![(0, entries.len(), 0)];
        while at < pending.len() {
            let (mut low, high, depth) = pending[at];
            let mut take = |end: bool| {
                let from = tree.candidates.len();
                while low < high && entries[low].key.len() == depth && entries[low].end == end {
                    tree.candidates.push(entries[low].candidate);
                    low += 1;
                }
                Range::new(from, tree.candidates.len())
            };
            let (prefix, exact) = (take(false), take(true));
            let children = tree.nodes.len();
            while low < high {
                let byte = entries[low].key[depth];
                let next =
                    low + entries[low..high].partition_point(|entry| entry.key[depth] == byte);
                let end =
                    depth + shared(&entries[low].key[depth..], &entries[next - 1].key[depth..]);
                let label = tree.labels.len();
                tree.labels.extend_from_slice(&entries[low].key[depth..end]);
                let label = Range::new(label, tree.labels.len());
                let short_label = copy_of(label.of(&tree.labels));
                tree.nodes.push(Node { label, short_label, ..Node::default() });
                tree.first.push(byte);
                pending.push((low, next, end));
                low = next;
            }
            let children = Range::new(children, tree.nodes.len());
            let few_first = copy_of(children.of(&tree.first));
            let only = tree.candidates.get(prefix.start as usize).copied().unwrap_or_default();
            let exact_end = exact.end;
            let node = tree.nodes[at];
            tree.nodes[at] = Node { prefix, exact_end, only, children, few_first, ..node };
            at += 1;
        }
        tree
    }

    /// Candidates of a node, by their range.
    fn candidates<'t>(&'t self, node: &'t Node, range: Range) -> &'t [Candidate] {
        match range.end - range.start {
            1 if node.exact_end - node.prefix.start == 1 => std::slice::from_ref(&node.only),
            _ => range.of(&self.candidates),
        }
    }

    fn collect<'t, const FOLD: bool>(&'t self, path: &[u8], lists: &mut Lists<'t>) {
        let Some(mut node) = self.nodes.first() else { return };
        let mut rest = path;
        loop {
            let prefix = self.candidates(node, node.prefix);
            if !prefix.is_empty() {
                lists.push(prefix);
            }
            let Some(&byte) = rest.first() else {
                let exact = Range { start: node.prefix.end, end: node.exact_end };
                let exact = self.candidates(node, exact);
                if !exact.is_empty() {
                    lists.push(exact);
                }
                return;
            };
            let byte = if FOLD { byte.to_ascii_lowercase() } else { byte };
            let children = node.children.of_copy(&node.few_first, &self.first);
            let Some(child) = memchr::memchr(byte, children) else { return };
            node = &self.nodes[node.children.start as usize + child];
            let label = node.label.of_copy(&node.short_label, &self.labels);
            let Some((begin, after)) = rest.split_at_checked(label.len()) else { return };
            let same = if FOLD { begin.eq_ignore_ascii_case(label) } else { begin == label };
            if !same {
                return;
            }
            rest = after;
        }
    }
}

/// How many bytes two texts have in common at their start.
fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
