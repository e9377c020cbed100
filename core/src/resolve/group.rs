// SPDX-License-Identifier: Apache-2.0
//! Mappings with equal matches → one group that shares its requests by weight.
//!
//! Emissary's rules, save those that depend on the order of names: settings stay per member. What
//! a group has once (header edits, `regex_rewrite`) is settled here; the last member that sets it
//! wins, additions are merged.

use std::sync::Arc;

use crate::ir::{self, Refusal};
use crate::policy::headers::{HeaderAdd, HeaderEdits};
use crate::policy::rewrite::PathRewrite;
use crate::problem::Problems;

use super::mapping::{Add, Edits, Hostname, Labels, Mapping, Role, Upstream};
use super::weight;

/// A group with what decides where it is attached.
#[derive(Debug)]
pub(crate) struct Built {
    /// `None` where no member takes requests (a lone shadow).
    pub(crate) group: Option<Arc<ir::Group>>,
    /// Of the member loaded first.
    pub(crate) load_key: Arc<str>,
    pub(crate) hostname: Hostname,
    /// On every Host.
    pub(crate) internal: bool,
    /// Of all members, the last loaded wins.
    pub(crate) labels: Labels,
    /// Loaded first to last, those refused here left out.
    pub(crate) members: Vec<Arc<Mapping>>,
    pub(crate) problems: Problems,
}

/// Builds the group of these members (all of one group key, in load order, at least one).
/// `cluster` names each upstream's cluster; `auth` refuses what an AuthService would have guarded.
pub(crate) fn build(
    members: &[Arc<Mapping>],
    cluster: impl Fn(&Arc<Upstream>) -> Arc<str>,
    auth: Option<&Arc<Refusal>>,
) -> Built {
    let mut problems = Problems::default();
    let Admitted { accepted, takers, shadow } = admit(members, &mut problems);
    let first = &accepted[0];
    if let Some(shadow) = &shadow
        && !takers.iter().any(|taker| matches!(taker.role, Role::Forward { .. }))
    {
        problems.nothing_to_copy(&shadow.object);
    }
    if let Some(shadow) = &shadow
        && let Some(weight) = shadow.weight.filter(|weight| !(0..=100).contains(weight))
    {
        problems.weight_out_of_range(&shadow.object, weight);
    }

    let weights: Vec<_> = takers.iter().map(|m| (&m.object, m.weight)).collect();
    let windows = weight::shares(&weights, &mut problems);

    let shared = Shared::of(&takers, shadow.as_deref().and_then(|s| copies(s, &cluster)));
    let mut routes: Vec<(bool, ir::Member)> = takers
        .iter()
        .zip(windows)
        .map(|(mapping, (from, to))| {
            let route = Arc::new(shared.route(mapping, &cluster, auth));
            (mapping.weight.is_none(), ir::Member { from, to, route })
        })
        .collect();
    // Emissary: weighted members in load order, then the weightless.
    routes.sort_by_key(|(weightless, _)| *weightless);

    let group = (!routes.is_empty()).then(|| {
        Arc::new(ir::Group {
            matcher: Arc::clone(&first.matcher),
            rank: Arc::clone(&first.rank),
            members: routes.into_iter().map(|(_, member)| member).collect(),
        })
    });
    Built {
        group,
        load_key: Arc::clone(&first.load_key),
        hostname: first.hostname.clone(),
        internal: first.internal,
        labels: Labels::union(accepted.iter().map(|m| &m.labels)),
        members: accepted,
        problems,
    }
}

/// Who may be in the group.
struct Admitted {
    accepted: Vec<Arc<Mapping>>,
    /// Those that take requests.
    takers: Vec<Arc<Mapping>>,
    /// The one that gets copies of them.
    shadow: Option<Arc<Mapping>>,
}

fn admit(members: &[Arc<Mapping>], problems: &mut Problems) -> Admitted {
    let mut accepted: Vec<Arc<Mapping>> = Vec::with_capacity(members.len());
    let mut takers: Vec<Arc<Mapping>> = Vec::with_capacity(members.len());
    let mut shadow: Option<&Arc<Mapping>> = None;
    for mapping in members {
        match (&mapping.role, takers.first().map(|first| (first, &first.role)), shadow) {
            (Role::Shadow(_), _, Some(other)) => {
                problems.second_shadow(&mapping.object, &other.object);
                continue;
            }
            (Role::Shadow(_), _, None) => shadow = Some(mapping),
            (Role::Redirect(_), Some((other, _)), _) => {
                problems.redirect_in_group(&mapping.object, &other.object);
                continue;
            }
            (Role::Forward { .. }, Some((other, Role::Redirect(_))), _) => {
                problems.route_in_redirect_group(&mapping.object, &other.object);
                continue;
            }
            _ => takers.push(Arc::clone(mapping)),
        }
        accepted.push(Arc::clone(mapping));
    }
    Admitted { shadow: shadow.cloned(), accepted, takers }
}

/// What a shadow gets of its group's requests. Emissary: its weight is the share, all without one.
fn copies(
    shadow: &Mapping,
    cluster: impl Fn(&Arc<Upstream>) -> Arc<str>,
) -> Option<Box<ir::Shadow>> {
    let Role::Shadow(upstream) = &shadow.role else { return None };
    Some(Box::new(ir::Shadow {
        object: shadow.object.clone(),
        cluster: cluster(upstream),
        percent: shadow.weight.unwrap_or(100).clamp(0, 100) as u32,
    }))
}

/// What a group has once.
struct Shared<'a> {
    request: HeaderEdits,
    response: HeaderEdits,
    regex_rewrite: Option<&'a PathRewrite>,
    shadow: Option<Box<ir::Shadow>>,
    upgrades: &'a [Box<str>],
}

impl<'a> Shared<'a> {
    fn of(takers: &'a [Arc<Mapping>], shadow: Option<Box<ir::Shadow>>) -> Self {
        Self {
            shadow,
            request: merge(takers.iter().map(|m| &m.request)),
            response: merge(takers.iter().map(|m| &m.response)),
            regex_rewrite: takers.iter().rev().find_map(|m| match &m.role {
                Role::Forward { alone, .. } if matches!(alone.path, PathRewrite::Regex(_)) => {
                    Some(&alone.path)
                }
                _ => None,
            }),
            // Emissary: those of the last loaded that allows any.
            upgrades: takers
                .iter()
                .rev()
                .find_map(|m| match &m.role {
                    Role::Forward { alone, .. } if !alone.upgrades.is_empty() => {
                        Some(&alone.upgrades[..])
                    }
                    _ => None,
                })
                .unwrap_or_default(),
        }
    }

    fn forward(&self, alone: &Arc<ir::Forward>, cluster: Arc<str>) -> Arc<ir::Forward> {
        let path = self.regex_rewrite.unwrap_or(&alone.path);
        let same = alone.cluster == cluster
            && alone.path == *path
            && alone.upgrades == self.upgrades
            && self.shadow.is_none();
        if same {
            return Arc::clone(alone);
        }
        Arc::new(ir::Forward {
            cluster,
            path: path.clone(),
            host: alone.host.clone(),
            timeouts: alone.timeouts,
            upgrades: self.upgrades.to_vec(),
            hash: alone.hash.clone(),
            shadow: self.shadow.clone(),
        })
    }

    fn route(
        &self,
        mapping: &Mapping,
        cluster: impl Fn(&Arc<Upstream>) -> Arc<str>,
        auth: Option<&Arc<Refusal>>,
    ) -> ir::Route {
        let (action, edits) = match &mapping.role {
            Role::Forward { upstream, alone } => {
                let forward = self.forward(alone, cluster(upstream));
                let edits = (self.request.clone(), self.response.clone());
                (ir::Action::Forward(forward), edits)
            }
            Role::Redirect(redirect) => {
                let edits = (HeaderEdits::default(), self.response.clone());
                (ir::Action::Redirect(Arc::clone(redirect)), edits)
            }
            Role::Shadow(_) => unreachable!("shadows take no requests"),
        };
        // Emissary: neither redirects nor `bypass_auth` routes ask the AuthService.
        let guarded = matches!(action, ir::Action::Forward(_)) && !mapping.bypass_auth;
        ir::Route {
            object: mapping.object.clone(),
            action,
            refusal: auth.filter(|_| guarded).cloned(),
            always: mapping.always,
            unguarded: mapping.internal,
            request_headers: edits.0,
            response_headers: edits.1,
        }
    }
}

/// Merges additions by name, the last loaded wins; removals are those of the last that has some.
fn merge<'a>(edits: impl DoubleEndedIterator<Item = &'a Edits> + Clone) -> HeaderEdits {
    let mut adds: Vec<&Add> = Vec::new();
    for add in edits.clone().flat_map(|e| &e.add) {
        match adds.iter_mut().find(|other| other.name == add.name) {
            Some(other) => *other = add,
            None => adds.push(add),
        }
    }
    let removed = edits.rev().find_map(|e| e.remove.as_ref());
    let mut drop: Vec<Box<str>> = Vec::new();
    let replaced = adds.iter().filter(|add| !add.append).map(|add| &add.name);
    for name in removed.into_iter().flatten().chain(replaced) {
        let name = name.to_ascii_lowercase().into_boxed_str();
        if !drop.contains(&name) {
            drop.push(name);
        }
    }
    let add = adds
        .into_iter()
        .map(|add| HeaderAdd { name: add.name.clone(), value: add.value.clone() })
        .collect();
    HeaderEdits { drop, add }
}

/// Decision order: the greatest rank first, of equal ranks the last loaded.
pub(crate) fn decide(a: &Built, b: &Built) -> std::cmp::Ordering {
    match (&a.group, &b.group) {
        (Some(x), Some(y)) => y.rank.cmp(&x.rank).then_with(|| b.load_key.cmp(&a.load_key)),
        // Those that take no requests stand last.
        (x, y) => y.is_some().cmp(&x.is_some()).then_with(|| b.load_key.cmp(&a.load_key)),
    }
}

#[cfg(test)]
mod tests;
