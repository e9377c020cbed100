// SPDX-License-Identifier: Apache-2.0
//! The walk over one virtual host's groups in decision order, with a verdict on each. Routing
//! stops at the first that takes the request; explaining goes on. Both see the same verdicts.

use std::sync::Arc;

use super::path::{Candidate, Lists};
use super::predicate::{Clause, Subject};
use super::{Group, Listener, Request, Route, VirtualHost};
use crate::ir::{InsecureAction, SecurityModel};

/// How one group answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict<'t> {
    /// The member that has the roll serves it.
    Serves(&'t Arc<Route>),
    /// It would, but the request is insecure: 301 to https.
    ToHttps(&'t Arc<Route>),
    /// A clause does not hold.
    Unmet(Clause),
    /// No member has the roll.
    NoShare,
    /// The request is insecure and this Host rejects such: as if the group was not there.
    Insecure,
}

/// What the listener and the Host make of a request that is about to be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Route,
    ToHttps,
    Reject,
}

impl Admission {
    pub(super) fn of(listener: &Listener, host: &VirtualHost, request: &Request<'_>) -> Self {
        let secure = match listener.security {
            SecurityModel::Secure => true,
            SecurityModel::Insecure => false,
            SecurityModel::Xfp => request.secure,
        };
        match host.source.insecure {
            _ if secure => Self::Route,
            InsecureAction::Route => Self::Route,
            InsecureAction::Redirect => Self::ToHttps,
            InsecureAction::Reject => Self::Reject,
        }
    }
}

/// Groups that the indexes yield for a request, most important first.
#[derive(Debug)]
pub(super) struct Walk<'t, 'r> {
    host: &'t VirtualHost,
    admission: Admission,
    /// Which member of a group to take; `None`: the first with a share.
    roll: Option<u32>,
    subject: Subject<'t, 'r>,
    /// Candidates yet to be seen: none is empty, the one with the least head is last.
    lists: Lists<'t>,
    /// One more than the rank seen last: a group may be in several lists.
    next: usize,
}

impl<'t, 'r> Walk<'t, 'r> {
    pub(super) fn new(
        host: &'t VirtualHost,
        admission: Admission,
        request: &Request<'r>,
        roll: Option<u32>,
    ) -> Self {
        let mut lists = Lists::new();
        for index in host.sections.covering(request.authority) {
            index.collect(request.path, &mut lists);
        }
        lists.sort_unstable_by(|a, b| b[0].cmp(&a[0]));
        Self { host, admission, roll, subject: Subject::new(*request), lists, next: 0 }
    }

    pub(super) fn roll(&self) -> Option<u32> {
        self.roll
    }

    pub(super) fn subject(&mut self) -> &mut Subject<'t, 'r> {
        &mut self.subject
    }

    fn candidate(&mut self) -> Option<Candidate> {
        loop {
            let last = self.lists.last_mut()?;
            let (&candidate, rest) = last.split_first().expect("no list is empty");
            if rest.is_empty() {
                self.lists.pop();
            } else {
                *last = rest;
                let mut at = self.lists.len() - 1;
                while at > 0 && self.lists[at - 1][0] < self.lists[at][0] {
                    self.lists.swap(at - 1, at);
                    at -= 1;
                }
            }
            if candidate.rank() >= self.next {
                self.next = candidate.rank() + 1;
                return Some(candidate);
            }
        }
    }

    fn verdict(&mut self, group: &'t Group, path_holds: bool) -> Verdict<'t> {
        // The section has shown that the authority clause holds.
        if !(path_holds && group.bare)
            && let Some(clause) = self.subject.unmet(&group.source.matcher)
        {
            return Verdict::Unmet(clause);
        }
        let member = group.members().find(|member| match self.roll {
            Some(roll) => (member.from..member.to).contains(&roll),
            None => member.from < member.to,
        });
        let Some(member) = member else { return Verdict::NoShare };
        match self.admission {
            _ if member.route.always => Verdict::Serves(&member.route),
            Admission::Route => Verdict::Serves(&member.route),
            Admission::ToHttps => Verdict::ToHttps(&member.route),
            Admission::Reject => Verdict::Insecure,
        }
    }
}

impl<'t> Iterator for Walk<'t, '_> {
    type Item = (&'t Group, Verdict<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        let candidate = self.candidate()?;
        let host = self.host;
        let group = &*host.groups[candidate.rank()];
        Some((group, self.verdict(group, candidate.is_certain())))
    }
}
