// SPDX-License-Identifier: Apache-2.0
//! Snapshot → table, with what was remembered of the one before.
//!
//! An object that does not mean anything sensible as it is written now goes on as it was last
//! accepted; a table that does not compile is not published, and the last good one stays.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_core::crd::{Object, Spec};
use ringway_core::ir::Ir;
use ringway_core::name::{Generation, Ref};
use ringway_core::problem::{Problems, Severity};
use ringway_core::resolve::{Files, Memo, files as files_of, resolve};
use ringway_core::snapshot::Snapshot;
use ringway_core::table::{CompileError, Slots, Table, compile};

use crate::store::is_guard;

/// Builds one table after the other.
#[derive(Default)]
pub struct Builder {
    memo: Memo,
    slots: Slots,
    last: Option<Last>,
    outdated: BTreeSet<Ref>,
}

struct Last {
    table: Arc<Table>,
    ir: Arc<Ir>,
    /// What was resolved in the end.
    snapshot: Snapshot,
    /// Objects in it that had errors all the same.
    in_error: HashSet<Ref>,
}

/// What a build gave.
pub struct Built {
    /// The newest table; its generation says whether it is a new one.
    pub table: Arc<Table>,
    pub ir: Arc<Ir>,
    /// Problems of the objects as they are written now.
    pub problems: Problems,
    /// Objects whose last accepted version is served instead of what is written.
    pub outdated: BTreeSet<Ref>,
    /// The table is not the one before.
    pub is_new: bool,
    pub resolve_time: Duration,
    pub compile_time: Duration,
}

impl Builder {
    /// Builds what a snapshot means. `doubtful` are objects of which a part could not be read;
    /// `oldest` is the oldest generation that anybody may still hold.
    ///
    /// # Errors
    /// The meaning does not compile. What was built last stays what is built next upon.
    pub fn build(
        &mut self,
        snapshot: &Snapshot,
        doubtful: &HashSet<Ref>,
        oldest: Generation,
    ) -> Result<Built, CompileError> {
        let start = Instant::now();
        let (mut ir, problems) = resolve(snapshot, &mut self.memo);
        let mut in_error: HashSet<Ref> = (problems.iter())
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| problem.object.clone())
            .chain(doubtful.iter().cloned())
            .collect();
        let mut snapshot = snapshot.clone();
        let mut outdated = self.find_outdated(&snapshot, &in_error, &problems);
        if let Some(last) = &self.last {
            for name in &outdated {
                if let Some(object) = last.snapshot.object(name) {
                    snapshot.insert(Arc::clone(object));
                }
            }
            outdated.extend(last.keep_certificates(&mut snapshot, &problems));
        }
        if !outdated.is_empty() {
            in_error.retain(|name| !outdated.contains(name));
            ir = resolve(&snapshot, &mut self.memo).0;
        }
        let resolve_time = start.elapsed();
        self.outdated.clone_from(&outdated);

        if let Some(last) = self.last.as_mut().filter(|last| *last.ir == ir) {
            last.snapshot = snapshot;
            last.in_error = in_error;
            return Ok(Built {
                table: Arc::clone(&last.table),
                ir: Arc::clone(&last.ir),
                problems,
                outdated,
                is_new: false,
                resolve_time,
                compile_time: Duration::ZERO,
            });
        }
        let start = Instant::now();
        self.slots.release(oldest);
        let previous = self.last.as_ref().map(|last| &*last.table);
        let generation = Generation(previous.map_or(0, |table| table.generation.0) + 1);
        let table = Arc::new(compile(&ir, generation, &mut self.slots, previous)?);
        let compile_time = start.elapsed();
        let ir = Arc::new(ir);
        self.last =
            Some(Last { table: Arc::clone(&table), ir: Arc::clone(&ir), snapshot, in_error });
        Ok(Built { table, ir, problems, outdated, is_new: true, resolve_time, compile_time })
    }

    /// Generation of the newest table; 0 before the first.
    pub fn generation(&self) -> Generation {
        self.last.as_ref().map_or(Generation(0), |last| last.table.generation)
    }

    /// Objects whose last accepted version was used for the last build.
    pub fn outdated(&self) -> impl Iterator<Item = &Ref> {
        self.outdated.iter()
    }

    /// Objects in error that have an accepted version other than what is written. What guards
    /// something has none: it fails closed.
    fn find_outdated(
        &self,
        snapshot: &Snapshot,
        in_error: &HashSet<Ref>,
        problems: &Problems,
    ) -> BTreeSet<Ref> {
        let Some(last) = &self.last else { return BTreeSet::new() };
        let closed: HashSet<&Ref> = (problems.iter())
            .filter(|problem| problem.severity == Severity::FailsClosed)
            .map(|problem| &problem.object)
            .collect();
        let has_accepted = |name: &&Ref| {
            let (Some(now), Some(before)) = (snapshot.object(name), last.snapshot.object(name))
            else {
                return false;
            };
            !is_guard(name.kind)
                && !closed.contains(*name)
                && !has_broken_ip_rules(now, problems)
                && !last.in_error.contains(*name)
                && !Arc::ptr_eq(now, before)
        };
        in_error.iter().filter(has_accepted).cloned().collect()
    }
}

impl Last {
    /// Puts the last good certificate and key back where the files that an object names cannot be
    /// used: two files do not change at one instant. Gives the objects.
    fn keep_certificates(&self, snapshot: &mut Snapshot, problems: &Problems) -> Vec<Ref> {
        let of_files = problems.iter().filter(|problem| problem.reason == Problems::BAD_FILE);
        let objects: BTreeSet<&Ref> = of_files.map(|problem| &problem.object).collect();
        let mut files = snapshot.files().clone();
        let mut kept = Vec::new();
        for name in objects.into_iter().filter(|name| !self.in_error.contains(*name)) {
            let Some(object) = snapshot.object(name) else { continue };
            let Files { chain: Some(chain), key: Some(key), .. } = files_of(object) else {
                continue;
            };
            let (Some(Ok(old_chain)), Some(Ok(old_key))) =
                (self.snapshot.file(chain), self.snapshot.file(key))
            else {
                continue;
            };
            files.insert(chain.into(), Ok(old_chain.clone()));
            files.insert(key.into(), Ok(old_key.clone()));
            kept.push(name.clone());
        }
        snapshot.set_files(files);
        kept
    }
}

/// The guard among a Module's keys.
fn has_broken_ip_rules(object: &Object, problems: &Problems) -> bool {
    let is_rule = |key: &str| key == "ip_allow" || key == "ip_deny";
    let Spec::Module(module) = &object.spec else { return false };
    module.refused_keys.iter().any(|key| is_rule(key))
        || problems.iter().any(|problem| {
            problem.object == object.meta.object
                && problem.severity == Severity::Error
                && problem.path.split(['.', '[']).any(is_rule)
        })
}

#[cfg(test)]
mod tests;
