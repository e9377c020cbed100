// SPDX-License-Identifier: Apache-2.0
//! Files in, or objects of an API server, each as if it were a file; a snapshot out: which object of
//! which file counts.
//!
//! A document that does not parse keeps the objects last read from it, and an object that is
//! refused keeps its last version, except that a refused guard is known to be refused. Of several
//! objects with one kind, namespace and name the first by path counts; the others are errors.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway_core::crd::parse::{File, Options, Parsed, ParsedDocument, parse_object};
use ringway_core::crd::source::{self, Diagnostic, Document, Location, Origin, Part};
use ringway_core::crd::{Meta, Object};
use ringway_core::limits;
use ringway_core::name::{Kind, Ref};
use ringway_core::problem::{Problems, Severity};
use ringway_core::snapshot::{self, Settings, Snapshot};

/// What was read, file by file.
pub struct Store {
    options: Options,
    files: BTreeMap<PathBuf, Entry>,
    /// Those of them of which something is to be said: as a rule few.
    notable: BTreeSet<PathBuf>,
    /// Who writes each object, first by place.
    claims: HashMap<Ref, Vec<Claim>>,
    /// Objects that are written more than once.
    disputed: BTreeSet<Ref>,
    /// Objects in the snapshot of which a part could not be read.
    doubtful: HashSet<Ref>,
    /// Objects that are refused as they are written now.
    refused: BTreeSet<Ref>,
    snapshot: Snapshot,
    changes: BTreeMap<Ref, Change>,
}

/// One file.
#[derive(Default)]
struct Entry {
    parsed: File,
    /// Objects of documents that do not parse any more.
    kept: Vec<Arc<Object>>,
}

struct Claim {
    /// File, and position in it.
    place: (Arc<str>, usize),
    written: Written,
}

enum Written {
    Object { object: Arc<Object>, has_errors: bool },
    Refused { meta: Arc<Meta>, origin: Box<Origin> },
}

impl Claim {
    fn origin(&self) -> &Origin {
        match &self.written {
            Written::Object { object, .. } => &object.origin,
            Written::Refused { origin, .. } => origin,
        }
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Added,
    Changed,
    Removed,
}

impl Store {
    /// `environment` is what `$NAME` in manifests stands for.
    pub fn new(settings: Settings, environment: BTreeMap<String, String>) -> Self {
        let options = Options { namespace: Arc::clone(&settings.namespace), environment };
        Self {
            options,
            files: BTreeMap::new(),
            notable: BTreeSet::new(),
            claims: HashMap::new(),
            disputed: BTreeSet::new(),
            doubtful: HashSet::new(),
            refused: BTreeSet::new(),
            snapshot: Snapshot::new(settings),
            changes: BTreeMap::new(),
        }
    }

    /// Reads a file's text; only documents that were not read before are parsed, and only their
    /// objects looked at.
    pub fn set_file(&mut self, path: &Path, text: &str) {
        let before = self.files.remove(path).unwrap_or_default();
        let parsed =
            File::parse(&path.to_string_lossy(), text, &self.options, Some(&before.parsed));
        self.replace(path, &before, parsed);
    }

    /// Reads an object of an API server, which `at` names as a path names a file; without a kind
    /// of its own it is of this one. One that means what it meant before keeps its identity, and
    /// the answer is false.
    pub fn set_object(&mut self, at: &Path, json: &str, api_version: &str, kind: &str) -> bool {
        let found = parse_object(json, api_version, kind, &self.options);
        let before = self.files.remove(at).unwrap_or_default();
        if before.kept.is_empty() && same_meaning(&before.parsed, &found) {
            self.files.insert(at.to_owned(), before);
            return false;
        }
        let document = Arc::new(Document::new("".into(), "", 0));
        let document = Arc::new(ParsedDocument { document, found });
        self.replace(at, &before, File { documents: vec![document] });
        true
    }

    /// Puts what was read at a place there instead of what was there before.
    fn replace(&mut self, path: &Path, before: &Entry, parsed: File) {
        let name = path.to_string_lossy();
        let kept = kept(before, &parsed);
        let entry = Entry { parsed, kept };
        let (gone, come) = differing(&before.parsed.documents, &entry.parsed.documents);
        let mut touched: BTreeSet<Ref> = before.names_in(gone).cloned().collect();
        touched.extend(entry.names_in(come).cloned());
        // Objects written twice may only have changed places.
        touched.extend(self.disputed.iter().cloned());
        self.claim(&name, &entry, &touched);
        if entry.is_notable() {
            self.notable.insert(path.to_owned());
        } else {
            self.notable.remove(path);
        }
        self.files.insert(path.to_owned(), entry);
    }

    pub fn remove_file(&mut self, path: &Path) {
        if let Some(entry) = self.files.remove(path) {
            self.notable.remove(path);
            let touched = entry.names_in(entry.parsed.documents.iter()).cloned().collect();
            self.claim(&path.to_string_lossy(), &Entry::default(), &touched);
        }
    }

    /// Replaces a file's claims to the touched objects, and settles whose version counts.
    fn claim(&mut self, file: &str, entry: &Entry, touched: &BTreeSet<Ref>) {
        for name in touched {
            if let Some(claims) = self.claims.get_mut(name) {
                claims.retain(|claim| &*claim.place.0 != file);
            }
        }
        let file: Arc<str> = file.into();
        for (position, (name, written)) in entry.written().enumerate() {
            if !touched.contains(name) {
                continue;
            }
            if self.claims.len() >= limits::OBJECTS_MAX && !self.claims.contains_key(name) {
                continue;
            }
            let claim = Claim { place: (Arc::clone(&file), position), written: written() };
            // As a rule there is one.
            let claims = || Vec::with_capacity(1);
            self.claims.entry(name.clone()).or_insert_with(claims).push(claim);
        }
        for name in touched {
            self.disputed.remove(name);
            if let Some(claims) = self.claims.get_mut(name) {
                claims.sort_by(|a, b| a.place.cmp(&b.place));
                if claims.len() > 1 {
                    self.disputed.insert(name.clone());
                }
            }
            self.settle(name);
        }
    }

    /// Puts the version that counts into the snapshot.
    fn settle(&mut self, name: &Ref) {
        let before = self.snapshot.object(name).cloned();
        self.doubtful.remove(name);
        self.refused.remove(name);
        let Some(first) = self.claims.get(name).and_then(|claims| claims.first()) else {
            self.claims.remove(name);
            self.snapshot.remove(name);
            if before.is_some() {
                self.note(name, Change::Removed);
            }
            return;
        };
        match &first.written {
            Written::Object { object, has_errors } => {
                if *has_errors {
                    self.doubtful.insert(name.clone());
                }
                if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, object)) {
                    return;
                }
                self.snapshot.insert(Arc::clone(object));
                let change = if before.is_some() { Change::Changed } else { Change::Added };
                self.note(name, change);
            }
            Written::Refused { meta, .. } => {
                let meta = Arc::clone(meta);
                self.refused.insert(name.clone());
                if is_guard(name.kind) && before.is_some() {
                    self.snapshot.remove(name);
                    self.note(name, Change::Changed);
                }
                self.snapshot.refuse(meta);
            }
        }
    }

    fn note(&mut self, name: &Ref, change: Change) {
        let change = match (self.changes.remove(name), change) {
            (Some(Change::Added), Change::Removed) => return,
            (Some(Change::Added), _) => Change::Added,
            (Some(Change::Removed), Change::Added) => Change::Changed,
            (_, change) => change,
        };
        self.changes.insert(name.clone(), change);
    }

    /// What is in the files that objects name.
    pub fn set_files(&mut self, files: BTreeMap<Arc<str>, snapshot::File>) {
        self.snapshot.set_files(files);
    }

    /// What happened since the last call.
    pub fn take_changes(&mut self) -> BTreeMap<Ref, Change> {
        std::mem::take(&mut self.changes)
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Objects in the snapshot of which a part could not be read.
    pub fn with_errors(&self) -> &HashSet<Ref> {
        &self.doubtful
    }

    /// Objects that are refused as they are written now.
    pub fn refused(&self) -> &BTreeSet<Ref> {
        &self.refused
    }

    /// Files with documents that do not parse and whose objects go on as last read.
    pub fn kept_files(&self) -> impl Iterator<Item = &Path> {
        let is_kept = |path: &&PathBuf| !self.files[*path].kept.is_empty();
        self.notable.iter().filter(is_kept).map(PathBuf::as_path)
    }

    /// Objects of kinds that mean nothing to a gateway, counted by kind.
    pub fn foreign(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for found in self.notable.iter().flat_map(|path| self.files[path].parsed.found()) {
            if let Parsed::Foreign { api_version, kind } = found {
                let name = if api_version.is_empty() {
                    kind.to_string()
                } else {
                    format!("{api_version} {kind}")
                };
                *counts.entry(name).or_default() += 1;
            }
        }
        counts
    }

    /// Everything that is wrong, with what resolving found, in the order of files and lines.
    pub fn diagnostics(&self, resolved: &Problems) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        for path in &self.notable {
            for found in self.files[path].parsed.found() {
                match found {
                    Parsed::Object { object, problems } => {
                        let origin = Some(&object.origin);
                        out.extend(problems.iter().map(|p| Diagnostic::of_problem(p, origin)));
                    }
                    Parsed::Refused { origin, problems, .. } => {
                        let origin = Some(origin);
                        out.extend(problems.iter().map(|p| Diagnostic::of_problem(p, origin)));
                    }
                    Parsed::Malformed(malformed) => out.push(Diagnostic::of_malformed(malformed)),
                    Parsed::Foreign { .. } => {}
                }
            }
        }
        let mut duplicates = Problems::default();
        for name in &self.disputed {
            let claims = self.claims.get(name).and_then(|claims| claims.split_first());
            let Some((first, others)) = claims else { continue };
            for other in others {
                duplicates.duplicate_object(name, &place_of(first));
                let problem = duplicates.0.last().expect("one was just added");
                out.push(Diagnostic::of_problem(problem, Some(other.origin())));
            }
        }
        if self.claims.len() >= limits::OBJECTS_MAX {
            let most = limits::OBJECTS_MAX;
            out.push(fault("", "TooManyObjects", format!("objects beyond {most} are not read")));
        }
        for problem in resolved.iter() {
            let claim = self.claims.get(&problem.object).and_then(|claims| claims.first());
            out.push(Diagnostic::of_problem(problem, claim.map(Claim::origin)));
        }
        sort(&mut out);
        out
    }
}

impl Entry {
    /// Whether diagnostics, or counts of what is ignored, have to look at it.
    fn is_notable(&self) -> bool {
        self.parsed.found().any(|found| match found {
            Parsed::Object { problems, .. } => !problems.is_empty(),
            Parsed::Refused { .. } | Parsed::Malformed(_) | Parsed::Foreign { .. } => true,
        })
    }

    /// What the file writes, in order, kept objects last; how it is written is made on demand.
    fn written(&self) -> impl Iterator<Item = (&Ref, impl Fn() -> Written)> {
        let found =
            self.parsed.found().filter_map(|found| Some((name_of(found)?, Some(found), None)));
        let kept = self.kept.iter().map(|object| (&object.meta.object, None, Some(object)));
        found.chain(kept).map(|(name, found, kept)| {
            let written = move || match (found, kept) {
                (Some(Parsed::Refused { meta, origin, .. }), _) => {
                    Written::Refused { meta: Arc::clone(meta), origin: Box::new(origin.clone()) }
                }
                (Some(Parsed::Object { object, problems }), _) => {
                    let has_errors = problems.iter().any(|p| p.severity == Severity::Error);
                    Written::Object { object: Arc::clone(object), has_errors }
                }
                (_, Some(object)) => {
                    Written::Object { object: Arc::clone(object), has_errors: false }
                }
                _ => unreachable!("only what has a name is written"),
            };
            (name, written)
        })
    }

    /// Names of the objects in some of its documents, and of all that are kept.
    fn names_in<'e>(
        &'e self,
        documents: impl IntoIterator<Item = &'e Arc<ParsedDocument>>,
    ) -> impl Iterator<Item = &'e Ref> {
        let found = documents.into_iter().flat_map(|document| &document.found).filter_map(name_of);
        found.chain(self.kept.iter().map(|object| &object.meta.object))
    }
}

type Documents<'d> = Vec<&'d Arc<ParsedDocument>>;

/// The documents that only the first has, and those that only the second has.
fn differing<'d>(
    a: &'d [Arc<ParsedDocument>],
    b: &'d [Arc<ParsedDocument>],
) -> (Documents<'d>, Documents<'d>) {
    let same = |(a, b): &(&Arc<ParsedDocument>, &Arc<ParsedDocument>)| Arc::ptr_eq(a, b);
    let head = a.iter().zip(b).take_while(same).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(same).count();
    let (a, b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let set = |of: &[Arc<ParsedDocument>]| of.iter().map(Arc::as_ptr).collect::<HashSet<_>>();
    let (in_a, in_b) = (set(a), set(b));
    let only_a = a.iter().filter(|document| !in_b.contains(&Arc::as_ptr(document)));
    let only_b = b.iter().filter(|document| !in_a.contains(&Arc::as_ptr(document)));
    (only_a.collect(), only_b.collect())
}

/// Whether something else was read, its numbering by the API server apart.
fn same_meaning(before: &File, now: &[Parsed]) -> bool {
    let [document] = &before.documents[..] else { return false };
    let same = |pair: (&Parsed, &Parsed)| match pair {
        (
            Parsed::Object { object: a, problems: in_a },
            Parsed::Object { object: b, problems: in_b },
        ) => a.spec == b.spec && a.meta == b.meta && in_a.0 == in_b.0,
        _ => false,
    };
    document.found.len() == now.len() && document.found.iter().zip(now).all(same)
}

fn name_of(found: &Parsed) -> Option<&Ref> {
    match found {
        Parsed::Object { object, .. } => Some(&object.meta.object),
        Parsed::Refused { meta, .. } => Some(&meta.object),
        Parsed::Malformed(_) | Parsed::Foreign { .. } => None,
    }
}

/// The objects that a new reading of a file leaves as they were: where documents do not parse, all
/// that the old reading had in documents that are gone and that nobody in the file writes now.
fn kept(before: &Entry, now: &File) -> Vec<Arc<Object>> {
    if !now.found().any(|found| matches!(found, Parsed::Malformed(_))) {
        return Vec::new();
    }
    let still_there: HashSet<*const ParsedDocument> =
        now.documents.iter().map(Arc::as_ptr).collect();
    let written: HashSet<&Ref> = now.found().filter_map(name_of).collect();
    let gone = before.parsed.documents.iter().filter(|d| !still_there.contains(&Arc::as_ptr(d)));
    let objects = gone.flat_map(|document| &document.found).filter_map(|found| match found {
        Parsed::Object { object, .. } => Some(object),
        _ => None,
    });
    objects
        .chain(&before.kept)
        .filter(|object| !written.contains(&object.meta.object))
        .cloned()
        .collect()
}

/// Kinds that guard access: a refused one is never replaced by what it was before.
pub(crate) fn is_guard(kind: Kind) -> bool {
    matches!(kind, Kind::AuthService | Kind::Filter | Kind::FilterPolicy)
}

fn place_of(claim: &Claim) -> String {
    let place = source::locate(claim.origin(), "", Part::Value);
    place.map_or_else(|| claim.place.0.to_string(), |p| format!("{}:{}", p.file, p.line))
}

/// A fault of a file, as a diagnostic.
pub(crate) fn fault(file: &str, reason: &'static str, message: String) -> Diagnostic {
    let location = Location { file: file.into(), line: 1, column: 1, snippet: None };
    Diagnostic {
        severity: Severity::Error,
        reason,
        object: None,
        path: "".into(),
        message: message.into(),
        help: None,
        location: (!file.is_empty()).then_some(location),
    }
}

/// By file, line and column; what has no place comes last.
pub(crate) fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| {
        let place = |d: &Diagnostic| {
            let at = d.location.as_ref();
            (at.is_none(), at.map(|l| (Arc::clone(&l.file), l.line, l.column)), d.severity)
        };
        place(a).cmp(&place(b)).then_with(|| a.object.cmp(&b.object))
    });
}

#[cfg(test)]
mod tests;
