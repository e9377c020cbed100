// SPDX-License-Identifier: Apache-2.0
//! Where configuration and endpoints come from.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, Sender, bounded};
use ringway_core::crd::source::Diagnostic;
use ringway_core::limits;
use ringway_core::name::Ref;

use crate::gateway::{Options, State};
use crate::log;
use crate::store::{self, Store};

mod backoff;
pub mod dns;
pub mod file;
pub mod kube;
pub mod named;

use file::{Folder, Notifier, Scan};

/// Where to look for objects.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder of manifests, or a single file.
    Folder(PathBuf),
    Cluster(kube::Options),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Cluster(_) => f.write_str("the cluster"),
        }
    }
}

/// A place that is being watched.
pub enum Source {
    Folder {
        folder: Folder,
        notifier: Notifier,
        /// What the first look found, until it is read.
        first: Option<Scan>,
    },
    Cluster(kube::Cluster),
}

/// What reading a source once gave.
pub struct Read {
    /// Something was read that may mean something else than before.
    pub changed: bool,
    /// Everything that there is has been read at least once.
    pub is_complete: bool,
    /// Look again after this time.
    pub again_in: Option<Duration>,
    /// When the oldest of the changes was noticed.
    pub since: Instant,
}

impl Source {
    /// Begins to watch. The receiver has an item when it is time to read; the sender makes it have
    /// one.
    ///
    /// # Errors
    /// The folder cannot be read; no cluster is configured.
    pub fn open(
        options: &Options,
        now: Instant,
    ) -> anyhow::Result<(Self, Sender<()>, Receiver<()>)> {
        match &options.place {
            Place::Folder(path) => {
                let mut folder = Folder::new(path);
                // The watch begins before the first look, so that nothing falls between them.
                let (notifier, woken) = Notifier::new(path);
                let first = folder
                    .scan(&HashSet::new(), now)
                    .with_context(|| format!("reading {}", path.display()))?;
                let waker = notifier.waker();
                Ok((Self::Folder { folder, notifier, first: Some(first) }, waker, woken))
            }
            Place::Cluster(cluster) => {
                let own = &options.settings.namespace;
                let (wake, woken) = bounded(1);
                let cluster = kube::Cluster::follow(cluster, own, wake.clone())?;
                Ok((Self::Cluster(cluster), wake, woken))
            }
        }
    }

    /// What becomes of objects is told where they come from, from now on.
    pub fn report(&mut self, state: &Arc<State>) {
        if let Self::Cluster(cluster) = self {
            cluster.report(state);
        }
    }

    /// How long nothing has to be read unless somebody wakes the receiver.
    pub fn read_in(&self, now: Instant) -> Duration {
        match self {
            Self::Folder { first: Some(_), .. } => Duration::ZERO,
            Self::Folder { folder, .. } => folder.walk_in(now),
            Self::Cluster(_) => limits::FOLDER_RESCAN_INTERVAL,
        }
    }

    /// Puts what is new into the store; `told` when the receiver had an item.
    pub fn read(&mut self, store: &mut Store, told: bool, now: Instant) -> Read {
        let (folder, notifier, first) = match self {
            Self::Folder { folder, notifier, first } => (folder, notifier, first),
            Self::Cluster(cluster) => return cluster.read(store, now),
        };
        let scan = first.take().map_or_else(
            || {
                let mut news = notifier.take_news();
                // What is told of comes first: a walk takes its time.
                news.unclear |= !told && folder.walk_in(now).is_zero();
                folder.look(&news, now)
            },
            Ok,
        );
        let scan = scan.unwrap_or_else(|error| {
            let root = folder.root().display();
            log::error(format!("reading {root}: {error}; what was read goes on"));
            Scan::default()
        });
        for path in &scan.removed {
            store.remove_file(path);
        }
        for path in &scan.changed {
            if let Some(text) = folder.take_text(path) {
                store.set_file(path, &text);
            }
        }
        let changed = !scan.is_empty();
        Read { changed, is_complete: true, again_in: scan.again_in, since: now }
    }

    /// What was read has been built; `bad` are objects of which earlier versions serve, or none.
    pub fn built(&mut self, bad: &BTreeSet<Ref>) {
        if let Self::Cluster(cluster) = self {
            cluster.built(bad);
        }
    }

    /// What cannot be read.
    pub fn faults(&self) -> Vec<Diagnostic> {
        let Self::Folder { folder, .. } = self else { return Vec::new() };
        let fault = |(path, error): (&PathBuf, &String)| {
            let message = format!("cannot be read: {error}");
            store::fault(&path.to_string_lossy(), "Unreadable", message)
        };
        folder.faults().iter().map(fault).collect()
    }
}
