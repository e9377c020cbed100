// SPDX-License-Identifier: Apache-2.0
//! Between the thread that hears of objects and the one that builds of them: what has changed, by
//! object, so that it never holds more than there are objects; whoever is late finds the newest.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::Sender;
use ringway_core::limits;
use ringway_core::name::Ref;

/// What became of one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is so.
    Set {
        json: Box<str>,
        api_version: &'static str,
        kind: &'static str,
    },
    Removed,
}

pub(super) struct Inbox {
    pending: Mutex<Pending>,
    wake: Sender<()>,
}

struct Pending {
    changes: HashMap<String, Change>,
    /// When the oldest of them came.
    since: Option<Instant>,
    /// Resources that have not told all that there is.
    unlisted: usize,
    /// Secrets of which nobody knows yet whether they are there, and since when.
    unanswered: HashSet<Ref>,
    asked: Instant,
}

/// Everything that waited.
pub(super) struct Taken {
    pub(super) changes: HashMap<String, Change>,
    pub(super) since: Option<Instant>,
}

impl Inbox {
    pub(super) fn new(resources: usize, wake: Sender<()>) -> Self {
        let pending = Pending {
            changes: HashMap::new(),
            since: None,
            unlisted: resources,
            unanswered: HashSet::new(),
            asked: Instant::now(),
        };
        Self { pending: Mutex::new(pending), wake }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full means that a look is due already.
        let _ = self.wake.try_send(());
    }

    fn put(&self, name: String, change: Change) {
        let mut pending = self.pending();
        pending.since.get_or_insert_with(Instant::now);
        pending.changes.insert(name, change);
        drop(pending);
        self.wake();
    }

    /// An object, named as a path names a file.
    pub(super) fn set(
        &self,
        name: String,
        json: &str,
        api_version: &'static str,
        kind: &'static str,
    ) {
        self.put(name, Change::Set { json: json.into(), api_version, kind });
    }

    pub(super) fn remove(&self, name: String) {
        self.put(name, Change::Removed);
    }

    /// One more resource has told all that there is.
    pub(super) fn listed(&self) {
        let mut pending = self.pending();
        pending.unlisted = pending.unlisted.saturating_sub(1);
        drop(pending);
        self.wake();
    }

    /// It is known whether a Secret is there.
    pub(super) fn answered(&self, secret: &Ref) {
        if self.pending().unanswered.remove(secret) {
            self.wake();
        }
    }

    pub(super) fn take(&self) -> Taken {
        let mut pending = self.pending();
        let changes = std::mem::take(&mut pending.changes);
        Taken { changes, since: pending.since.take() }
    }

    /// Secrets begin and end to be wanted.
    pub(super) fn want(&self, before: &BTreeSet<Ref>, now: &BTreeSet<Ref>) {
        let mut pending = self.pending();
        pending.unanswered.retain(|secret| now.contains(secret));
        let fresh: Vec<Ref> = now.difference(before).cloned().collect();
        // Counted from the first that is waited for: one after the other must not delay for ever.
        if pending.unanswered.is_empty() {
            pending.asked = Instant::now();
        }
        pending.unanswered.extend(fresh);
    }

    /// Whether every resource has told what there is.
    pub(super) fn is_listed(&self) -> bool {
        self.pending().unlisted == 0
    }

    /// Whether it is known of every wanted Secret whether it is there, or that was waited for long
    /// enough.
    pub(super) fn has_secrets(&self, now: Instant) -> bool {
        let pending = self.pending();
        pending.unanswered.is_empty()
            || now.duration_since(pending.asked) >= limits::KUBE_SECRET_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use ringway_core::name::Kind;

    use super::*;

    #[test]
    fn the_newest_of_each_object_waits() {
        let (wake, woken) = crossbeam_channel::bounded(1);
        let inbox = Inbox::new(1, wake);
        inbox.set("Mapping n/a".into(), "{}", "v1", "Mapping");
        inbox.set("Mapping n/b".into(), "{}", "v1", "Mapping");
        inbox.remove("Mapping n/a".into());
        assert!(woken.try_recv().is_ok() && woken.try_recv().is_err(), "one item for all");
        let taken = inbox.take();
        assert_eq!(taken.changes["Mapping n/a"], Change::Removed);
        assert_eq!(taken.changes.len(), 2);
        assert!(inbox.take().changes.is_empty());
        assert!(!inbox.is_listed());
        inbox.listed();
        assert!(inbox.is_listed());
    }

    #[test]
    fn secrets_are_waited_for_but_not_for_ever() {
        let (wake, _woken) = crossbeam_channel::bounded(1);
        let inbox = Inbox::new(0, wake);
        let secret = |name: &str| Ref::new(Kind::Secret, "n", name);
        let none = BTreeSet::new();
        let two = BTreeSet::from([secret("a"), secret("b")]);
        inbox.want(&none, &two);
        let now = Instant::now();
        assert!(!inbox.has_secrets(now));
        inbox.answered(&secret("a"));
        assert!(!inbox.has_secrets(now));
        assert!(inbox.has_secrets(now + limits::KUBE_SECRET_PATIENCE));
        // Not wanted any more: not waited for.
        inbox.want(&two, &BTreeSet::from([secret("a")]));
        assert!(inbox.has_secrets(now));
    }
}
