// SPDX-License-Identifier: Apache-2.0
//! Which CRDs are installed, so that kinds that are installed later are picked up at once and
//! objects go with their definition.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::api::{Failure, Head};
use super::follow::Sink;

/// What is known of them; every copy hears of changes.
#[derive(Clone)]
pub(super) struct Installed {
    names: Arc<Mutex<Names>>,
    news: watch::Receiver<()>,
    /// Whether a webhook that has to convert objects does not: see [`super::conversion`].
    is_dead: watch::Receiver<bool>,
}

#[derive(Default)]
struct Names {
    names: BTreeSet<String>,
    is_complete: bool,
}

impl Installed {
    /// With who has to be told of definitions, and whether their webhook is dead.
    pub(super) fn new() -> (Self, Definitions, watch::Sender<bool>) {
        let (tell, news) = watch::channel(());
        let (conversion, is_dead) = watch::channel(false);
        let names = Arc::<Mutex<Names>>::default();
        let installed = Self { names: Arc::clone(&names), news, is_dead };
        (installed, Definitions { names, tell }, conversion)
    }

    /// Whether there is one of that name; `None` where that is not known.
    pub(super) fn has(&self, name: &str) -> Option<bool> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        known.is_complete.then(|| known.names.contains(name))
    }

    /// Waits for news since the last call.
    pub(super) async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // Nobody tells any more.
            std::future::pending().await
        }
    }

    /// Whether there is news since the last call.
    pub(super) fn take_news(&mut self) -> bool {
        let has_news = self.news.has_changed().unwrap_or(false);
        self.news.mark_unchanged();
        has_news
    }

    /// Waits until another version than the one at this place of several may be the one to follow: a
    /// better one may be served now, objects may be converted again, or not be any more.
    pub(super) async fn moved(&mut self, at: usize, of: usize) {
        tokio::select! {
            Ok(()) = self.news.changed(), if at > 0 => {}
            Ok(()) = self.is_dead.changed(), if of > 1 => {}
            else => std::future::pending().await,
        }
    }
}

/// Hears of CRDs.
pub(super) struct Definitions {
    names: Arc<Mutex<Names>>,
    tell: watch::Sender<()>,
}

impl Definitions {
    fn change(&self, name: &str, change: impl FnOnce(&mut Names)) {
        if name.ends_with("getambassador.io") {
            change(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner));
            self.tell.send_replace(());
        }
    }
}

impl Sink for Definitions {
    fn set(&mut self, head: &Head<'_>, _: &str, _: &'static str) {
        let name = &head.metadata.name;
        // Every change counts: one that is new is served some time after it is there.
        self.change(name, |known| {
            known.names.insert(name.to_string());
        });
    }

    fn remove(&mut self, _: &str, name: &str) {
        self.change(name, |known| {
            known.names.remove(name);
        });
    }

    fn listed(&mut self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).is_complete = true;
    }

    // Without them, kinds that are absent are looked for now and then.
    fn given_up(&mut self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).is_complete = false;
    }

    fn failed(&mut self, _: &Failure) {}
}
