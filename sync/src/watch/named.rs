// SPDX-License-Identifier: Apache-2.0
//! Files that objects name: certificates, keys, authorities. Read when an object begins to name
//! them and whenever they look different; one that cannot be read is known with the reason.
//!
//! Invariant: every file that is named has an entry, up to [`limits::TLS_FILES_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::Sender;
use notify::{EventKind, RecursiveMode, Watcher as _};
use ringway_core::limits;
use ringway_core::name::Kind;
use ringway_core::resolve::files;
use ringway_core::snapshot::{File, Snapshot};
use ringway_core::tls::Pem;

use super::file::Stamp;
use crate::store::Store;

/// The files as last read.
#[derive(Debug, Default)]
pub struct NamedFiles {
    files: BTreeMap<Arc<str>, Entry>,
    watch: Option<Watch>,
    again_in: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    /// `None` for one that could not be read: it is tried at every look.
    stamp: Option<Stamp>,
    content: File,
}

/// Notifications about the folders that the files are in.
#[derive(Debug)]
struct Watch {
    watcher: notify::RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
}

impl NamedFiles {
    /// `wake` gets an item when it is time for a look. Where notifications do not work, looks are
    /// periodic only.
    pub fn watched(wake: Sender<()>) -> Self {
        let told = move |event: notify::Result<notify::Event>| {
            // Reading is what we do ourselves.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                // Full means that a look is due already.
                let _ = wake.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(told).ok();
        let watch = watcher.map(|watcher| Watch { watcher, folders: BTreeSet::new() });
        Self { watch, ..Self::default() }
    }

    /// Look again after this time: a file is being written.
    pub fn again_in(&self) -> Option<Duration> {
        self.again_in
    }

    /// Looks at the files that a store's objects name, and gives it what is in them; true if that
    /// is something else than before.
    pub fn read_for(&mut self, store: &mut Store) -> bool {
        let named = named(store.snapshot());
        if let Some(watch) = &mut self.watch {
            watch.follow(&named);
        }
        if !self.look(&named, SystemTime::now()) {
            return false;
        }
        let content =
            |(path, entry): (&Arc<str>, &Entry)| (Arc::clone(path), entry.content.clone());
        store.set_files(self.files.iter().map(content).collect());
        true
    }

    fn look(&mut self, named: &BTreeSet<Arc<str>>, now: SystemTime) -> bool {
        let before = self.files.len();
        self.files.retain(|path, _| named.contains(path));
        let mut changed = self.files.len() != before;
        self.again_in = None;
        for path in named {
            let known = self.files.get(path);
            let stamp = fs::metadata(&**path).as_ref().map(Stamp::of).ok();
            if known.is_some_and(|known| known.stamp.is_some() && known.stamp == stamp) {
                continue;
            }
            let was_good = known.is_some_and(|known| known.content.is_ok());
            if was_good && is_being_written(Path::new(&**path), now) {
                self.again_in = Some(limits::FILE_SETTLE_TIME);
                continue;
            }
            let entry = match read(Path::new(&**path)) {
                Ok((stamp, pem)) => Entry { stamp: Some(stamp), content: Ok(pem) },
                Err(error) => Entry { stamp: None, content: Err(error.to_string().into()) },
            };
            changed |= known.is_none_or(|known| known.content != entry.content);
            self.files.insert(Arc::clone(path), entry);
        }
        changed
    }
}

fn named(snapshot: &Snapshot) -> BTreeSet<Arc<str>> {
    let kinds = [Kind::Host, Kind::TLSContext];
    let named = kinds.into_iter().flat_map(|kind| snapshot.of_kind(kind)).flat_map(|object| {
        let files = files(object);
        [files.chain, files.key, files.authorities].into_iter().flatten()
    });
    named.take(limits::TLS_FILES_MAX).map(Arc::from).collect()
}

/// Whoever writes a file in place may not be done with it.
fn is_being_written(path: &Path, now: SystemTime) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    let since = written.ok().and_then(|written| now.duration_since(written).ok());
    since.is_some_and(|since| since < limits::FILE_SETTLE_TIME)
}

/// Reads a file whole; its stamp is the one before reading, so that a change meanwhile is found by
/// the next look.
fn read(path: &Path) -> io::Result<(Stamp, Pem)> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = fs::File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    let taken = file.take(limits::TLS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if taken as u64 > limits::TLS_FILE_BYTES_MAX {
        let most = limits::TLS_FILE_BYTES_MAX >> 20;
        return Err(io::Error::other(format!("larger than {most} MiB")));
    }
    Ok((stamp, Pem(bytes.into())))
}

impl Watch {
    /// Watches the folders of these files, and no others. One that does not exist yet is tried
    /// again at every look.
    fn follow(&mut self, named: &BTreeSet<Arc<str>>) {
        let parents = named.iter().filter_map(|path| Path::new(&**path).parent());
        let here = |parent: &Path| match parent.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => parent.to_owned(),
        };
        let wanted: BTreeSet<PathBuf> = parents.map(here).collect();
        for folder in self.folders.difference(&wanted) {
            // It may be gone itself.
            let _ = self.watcher.unwatch(folder);
        }
        self.folders.retain(|folder| wanted.contains(folder));
        for folder in wanted {
            let is_new = !self.folders.contains(&folder);
            if is_new && self.watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.folders.insert(folder);
            }
        }
    }
}

#[cfg(test)]
mod tests;
