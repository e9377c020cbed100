// SPDX-License-Identifier: Apache-2.0
//! One resource: listed once, then watched from there on.
//!
//! ```text
//!  list ─ version ─▶ watch ─ end ─▶ watch from where it ended
//!   ▲                  │
//!   └── 410 Gone ──────┘        404: the next version of the resource, or wait for its CRD
//! ```
//!
//! What was told once stays until an API server says that it is gone: no failure, however long,
//! takes anything away.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

use ringway_core::limits;
use serde_json::value::RawValue;

use super::api::{Api, Event, Failure, Head, Page, failure};
use super::definitions::Installed;
use super::resource::{Place, Target};
use crate::watch::backoff::{Backoff, jittered};

/// Who is told.
pub(super) trait Sink {
    /// An object as it is now.
    fn set(&mut self, head: &Head<'_>, json: &str, api_version: &'static str);
    /// An object that is not there any more.
    fn remove(&mut self, namespace: &str, name: &str);
    /// All that there is has been told.
    fn listed(&mut self);
    /// Nobody has to wait for that: it may never be.
    fn given_up(&mut self);
    /// It could not be asked, and is tried again.
    fn failed(&mut self, failure: &Failure);
}

/// Follows a resource for ever. `before` are objects (`namespace/name`) that the sink has from
/// elsewhere and is to be told of if they are not there.
pub(super) async fn follow(
    api: Api,
    target: Target,
    sink: impl Sink,
    installed: Installed,
    before: Vec<Box<str>>,
) {
    let hasher = RandomState::new();
    // In no version that there is.
    let known = before.into_iter().map(|name| (name, 0)).collect();
    let follower = Follower { api, target, sink, at: 0, known, hasher, version: None };
    follower.run(installed).await;
}

struct Follower<S> {
    api: Api,
    target: Target,
    sink: S,
    /// Which of the target's places.
    at: usize,
    /// Every object there is, as `namespace/name`, with a hash of its version.
    known: HashMap<Box<str>, u64>,
    hasher: RandomState,
    /// Where to go on watching; `None`: list first.
    version: Option<String>,
}

impl<S: Sink> Follower<S> {
    async fn run(mut self, mut installed: Installed) {
        let mut backoff = Backoff::new(limits::KUBE_BACKOFF_MIN, limits::KUBE_BACKOFF_MAX);
        let mut unconverted = None;
        loop {
            let place = self.target.places[self.at].clone();
            let (at, places) = (self.at, self.target.places.len());
            let outcome = match self.version.clone() {
                None => self.list(&place).await,
                Some(version) => tokio::select! {
                    outcome = self.watch(&place, &version) => outcome,
                    () = installed.moved(at, places) => Err(Failure::Gone),
                },
            };
            match outcome {
                Ok(()) => {
                    backoff.reset();
                    continue;
                }
                Err(Failure::Gone) => {
                    (self.version, self.at) = (None, 0);
                    // An API server that forgets at once must not be asked all the time.
                    tokio::time::sleep(jittered(limits::KUBE_BACKOFF_MIN)).await;
                    continue;
                }
                Err(failure @ (Failure::Absent | Failure::Unconverted(_))) => {
                    self.version = None;
                    if matches!(failure, Failure::Unconverted(_)) {
                        unconverted = Some(failure);
                    }
                    self.at += 1;
                    if self.at < self.target.places.len() {
                        continue;
                    }
                    self.at = 0;
                    match unconverted.take() {
                        Some(failure) => self.sink.failed(&failure),
                        None => self.absent(&installed),
                    }
                    tokio::select! {
                        () = installed.changed() => {}
                        () = tokio::time::sleep(jittered(limits::KUBE_BACKOFF_MAX)) => {}
                    }
                }
                Err(failure) => {
                    if matches!(failure, Failure::Forbidden(_)) {
                        // It may stay so for good, and nobody waits for it.
                        self.sink.given_up();
                    }
                    self.sink.failed(&failure);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Nobody serves the resource. Its objects are gone with its definition; where that cannot be
    /// known (an API server that starts answers 404 for a while), they stay.
    fn absent(&mut self, installed: &Installed) {
        let defined = |place: &Place| place.crd.as_deref().map(|name| installed.has(name));
        let is_gone = self.target.places.iter().all(|place| defined(place) == Some(Some(false)));
        if is_gone {
            for key in std::mem::take(&mut self.known).into_keys() {
                self.remove(&key);
            }
        }
        self.sink.given_up();
    }

    /// Tells all that there is, page by page, and what is there no more.
    async fn list(&mut self, place: &Place) -> Result<(), Failure> {
        let mut seen = HashMap::with_capacity(self.known.len());
        let mut next = String::new();
        let version = loop {
            let page = limits::KUBE_PAGE_OBJECTS;
            let mut target = format!("{}?limit={page}{}", place.path, self.target.query);
            if !next.is_empty() {
                target = format!("{target}&continue={}", super::resource::escape(&next));
            }
            let text = self.api.get(&target, self.target.metadata_only).await?;
            let page: Page<'_> = serde_json::from_str(&text).map_err(unreadable)?;
            for item in page.items.iter().flatten() {
                let (key, version) = self.object(item, place)?;
                seen.insert(key, version);
            }
            next = page.metadata.next.into_owned();
            if next.is_empty() {
                break page.metadata.version.into_owned();
            }
        };
        let gone: Vec<Box<str>> =
            self.known.keys().filter(|key| !seen.contains_key(*key)).cloned().collect();
        for key in gone {
            self.remove(&key);
        }
        self.known = seen;
        self.version = Some(version);
        self.sink.listed();
        Ok(())
    }

    /// Tells what changes, until the stream ends.
    async fn watch(&mut self, place: &Place, version: &str) -> Result<(), Failure> {
        let seconds = jittered(limits::KUBE_WATCH_TIME).as_secs();
        let target = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}{}",
            place.path, self.target.query
        );
        let began = Instant::now();
        let mut lines = self.api.watch(&target, self.target.metadata_only).await?;
        let outcome = loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            if let Err(failure) = self.event(line, place) {
                break Err(failure);
            }
        };
        if outcome.is_ok() && began.elapsed() < limits::KUBE_BACKOFF_MIN {
            return Err(Failure::Passing("it ends watches at once".into()));
        }
        outcome
    }

    fn event(&mut self, line: &[u8], place: &Place) -> Result<(), Failure> {
        let event: Event<'_> = serde_json::from_slice(line).map_err(unreadable)?;
        match &*event.r#type {
            "ADDED" | "MODIFIED" => {
                let (key, version) = self.object(event.object, place)?;
                self.known.insert(key, version);
            }
            "DELETED" => self.deleted(event.object)?,
            "BOOKMARK" => self.bookmark(event.object)?,
            "ERROR" => return Err(failure(event.object)),
            _ => {}
        }
        Ok(())
    }

    /// Tells of an object unless it is known as it is; gives what it is known by.
    fn object(&mut self, json: &RawValue, place: &Place) -> Result<(Box<str>, u64), Failure> {
        let head: Head<'_> = serde_json::from_str(json.get()).map_err(unreadable)?;
        let key = format!("{}/{}", head.metadata.namespace, head.metadata.name);
        let version = self.hasher.hash_one(&head.metadata.version);
        self.advance(&head);
        // A list after an outage repeats what is known.
        if self.known.get(&*key) != Some(&version) {
            self.sink.set(&head, json.get(), place.api_version);
        }
        Ok((key.into(), version))
    }

    fn deleted(&mut self, json: &RawValue) -> Result<(), Failure> {
        let head: Head<'_> = serde_json::from_str(json.get()).map_err(unreadable)?;
        self.advance(&head);
        self.known.remove(&*format!("{}/{}", head.metadata.namespace, head.metadata.name));
        self.sink.remove(&head.metadata.namespace, &head.metadata.name);
        Ok(())
    }

    fn bookmark(&mut self, json: &RawValue) -> Result<(), Failure> {
        let head: Head<'_> = serde_json::from_str(json.get()).map_err(unreadable)?;
        self.advance(&head);
        Ok(())
    }

    /// While watching: goes on from here the next time.
    fn advance(&mut self, head: &Head<'_>) {
        if let Some(version) = &mut self.version {
            version.clear();
            version.push_str(&head.metadata.version);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some((namespace, name)) = key.split_once('/') {
            self.sink.remove(namespace, name);
        }
    }
}

pub(super) fn unreadable(error: serde_json::Error) -> Failure {
    Failure::Passing(format!("its answer cannot be read: {error}"))
}
