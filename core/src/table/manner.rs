// SPDX-License-Identifier: Apache-2.0
//! How routes treat their requests, wherever they go: one value for all routes of which it is true,
//! so that it is in the cache whichever of thousands of routes a request takes. As a rule Mappings
//! differ in little but their prefix and their service.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::FixedState;

use crate::ir;
use crate::policy::balance::HashKey;
use crate::policy::headers::HeaderEdits;
use crate::policy::rewrite::{HostRewrite, PathRewrite};
use crate::policy::timeouts::Timeouts;

/// What is done to requests and their answers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Manner {
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub path: PathRewrite,
    pub host: HostRewrite,
    pub timeouts: Timeouts,
    /// Protocols that a client may upgrade to, lower case.
    pub upgrades: Vec<Box<str>>,
    /// What a hashing balancer goes by.
    pub hash: Option<Box<HashKey>>,
}

impl Manner {
    fn of(route: &ir::Route) -> Self {
        let forward = match &route.action {
            ir::Action::Forward(forward) => Some(&**forward),
            ir::Action::Redirect(_) => None,
        };
        Self {
            request_headers: route.request_headers.clone(),
            response_headers: route.response_headers.clone(),
            path: forward.map(|of| of.path.clone()).unwrap_or_default(),
            host: forward.map(|of| of.host.clone()).unwrap_or_default(),
            timeouts: forward.map_or(Timeouts { request: None, idle: None }, |of| of.timeouts),
            upgrades: forward.map(|of| of.upgrades.clone()).unwrap_or_default(),
            hash: forward.and_then(|of| of.hash.clone()),
        }
    }
}

/// The manners in use.
#[derive(Debug, Default)]
pub(super) struct Manners {
    known: HashSet<Arc<Manner>, FixedState>,
    /// How many there were when those that nobody had were last forgotten.
    kept: usize,
}

impl Manners {
    /// The manner of a route, which equal ones share.
    pub(super) fn of(&mut self, route: &ir::Route) -> Arc<Manner> {
        let manner = Manner::of(route);
        if let Some(known) = self.known.get(&manner) {
            return Arc::clone(known);
        }
        let manner = Arc::new(manner);
        self.known.insert(Arc::clone(&manner));
        manner
    }

    /// Forgets those that no table has any more, once there are twice as many.
    pub(super) fn release(&mut self) {
        if self.known.len() > 2 * self.kept {
            self.known.retain(|manner| Arc::strong_count(manner) > 1);
            self.kept = self.known.len();
        }
    }
}

#[cfg(test)]
mod tests;
