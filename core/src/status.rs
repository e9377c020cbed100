// SPDX-License-Identifier: Apache-2.0
//! What became of each object, from what it means and what is wrong with it. Returned, never
//! written into the objects.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::ir::Ir;
use crate::name::Ref;
use crate::problem::{Problem, Problems, Severity};
use crate::snapshot::Snapshot;

/// One object's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub object: Ref,
    pub state: State,
    /// The most serious problem with it, as `Reason: message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Requests reach it: a route, a virtual host or a listener is made of it.
    Serving,
    /// Read and understood; no request is served by it as such.
    Accepted,
    /// An error keeps it from having an effect.
    Refused,
}

/// A row for every object of the snapshot, by kind, namespace and name.
pub fn rows(snapshot: &Snapshot, ir: &Ir, problems: &Problems) -> Vec<Row> {
    let serving = serving(ir);
    let mut worst: HashMap<&Ref, &Problem> = HashMap::new();
    for problem in problems.iter() {
        let known = worst.entry(&problem.object).or_insert(problem);
        if problem.severity < known.severity {
            *known = problem;
        }
    }
    snapshot
        .objects()
        .map(|object| {
            let name = &object.meta.object;
            let problem = worst.get(name);
            let refused = problem.is_some_and(|p| p.severity == Severity::Error);
            let state = match (serving.contains(name), refused) {
                (true, _) => State::Serving,
                (false, true) => State::Refused,
                (false, false) => State::Accepted,
            };
            let reason = problem.map(|p| format!("{}: {}", p.reason, p.message));
            Row { object: name.clone(), state, reason }
        })
        .collect()
}

fn serving(ir: &Ir) -> HashSet<&Ref> {
    let mut serving = HashSet::new();
    let mut seen = HashSet::new();
    for listener in &ir.listeners {
        serving.insert(&listener.object);
        for host in &listener.virtual_hosts {
            serving.extend(&host.host);
            for group in &host.groups {
                if seen.insert(std::sync::Arc::as_ptr(group)) {
                    serving.extend(group.members.iter().map(|member| &member.route.object));
                }
            }
        }
    }
    serving
}

#[cfg(test)]
mod tests;
