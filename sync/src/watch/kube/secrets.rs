// SPDX-License-Identifier: Apache-2.0
//! Secrets that objects name, each asked for and watched by its name: no right to list is needed,
//! and none is known that nobody named.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ringway_core::limits;
use ringway_core::name::Ref;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::api::{Api, Event, Failure, Head, failure};
use super::follow::unreadable;
use super::inbox::Inbox;
use super::resource;
use crate::watch::backoff::{Backoff, jittered};

/// Keeps to what is wanted, for ever.
pub(super) async fn follow(
    api: Api,
    inbox: Arc<Inbox>,
    mut wanted: watch::Receiver<BTreeSet<Ref>>,
) {
    let mut followed: HashMap<Ref, AbortHandle> = HashMap::new();
    let turns = Arc::new(Semaphore::new(limits::KUBE_SECRET_REQUESTS_MAX));
    loop {
        let now = wanted.borrow_and_update().clone();
        followed.retain(|secret, task| {
            let stays = now.contains(secret);
            if !stays {
                task.abort();
                inbox.remove(secret.to_string());
            }
            stays
        });
        for secret in now {
            if followed.contains_key(&secret) {
                continue;
            }
            if followed.len() >= limits::KUBE_SECRETS_MAX {
                let most = limits::KUBE_SECRETS_MAX;
                crate::log::warn(format!(
                    "more than {most} Secrets are named: {secret} is not read"
                ));
                inbox.answered(&secret);
                continue;
            }
            let follower = Follower {
                api: api.clone(),
                inbox: Arc::clone(&inbox),
                turns: Arc::clone(&turns),
                secret: secret.clone(),
            };
            followed.insert(secret, tokio::spawn(follower.run()).abort_handle());
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

struct Follower {
    api: Api,
    inbox: Arc<Inbox>,
    /// All at once would be a burst of connections.
    turns: Arc<Semaphore>,
    secret: Ref,
}

impl Follower {
    async fn run(self) {
        let mut backoff = Backoff::new(limits::KUBE_BACKOFF_MIN, limits::KUBE_BACKOFF_MAX);
        let mut said = None;
        loop {
            match self.once().await {
                Ok(()) | Err(Failure::Gone) => {
                    backoff.reset();
                    said = None;
                    tokio::time::sleep(jittered(limits::KUBE_BACKOFF_MIN)).await;
                }
                Err(failure) => {
                    super::say(&self.secret.to_string(), &failure, &mut said);
                    // Without an answer there is nothing to wait for.
                    self.inbox.answered(&self.secret);
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Reads it, and watches until the stream ends. One that is not there yet is told of when it
    /// comes: a watch from no version begins with what there is.
    async fn once(&self) -> Result<(), Failure> {
        let (object, collection) = resource::secret(&self.secret.namespace, &self.secret.name);
        let turn = self.turns.acquire().await;
        let version = match self.api.get(&object, false).await {
            Ok(json) => {
                let head: Head<'_> = serde_json::from_str(&json).map_err(unreadable)?;
                let version = format!("&resourceVersion={}", head.metadata.version);
                self.inbox.set(self.secret.to_string(), &json, "v1", "Secret");
                version
            }
            Err(Failure::Absent) => {
                self.inbox.remove(self.secret.to_string());
                String::new()
            }
            Err(failure) => return Err(failure),
        };
        self.inbox.answered(&self.secret);
        drop(turn);
        let seconds = jittered(limits::KUBE_WATCH_TIME).as_secs();
        let name = &self.secret.name;
        let target = format!(
            "{collection}?watch=1&timeoutSeconds={seconds}&fieldSelector=metadata.name%3D{name}{version}"
        );
        let mut lines = self.api.watch(&target, false).await?;
        while let Some(line) = lines.next().await? {
            let event: Event<'_> = serde_json::from_slice(line).map_err(unreadable)?;
            let name = self.secret.to_string();
            match &*event.r#type {
                "ADDED" | "MODIFIED" => {
                    self.inbox.set(name, event.object.get(), "v1", "Secret");
                }
                "DELETED" => self.inbox.remove(name),
                "ERROR" => return Err(failure(event.object)),
                _ => {}
            }
        }
        Ok(())
    }
}
