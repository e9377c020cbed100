// SPDX-License-Identifier: Apache-2.0
//! A folder of manifests as texts: what is in it, and what changed since the last look.
//!
//! A look goes to the files that notifications name, or walks the whole folder: where they name
//! something else than a file, and every [`limits::FOLDER_RESCAN_INTERVAL`], so that a lost
//! notification costs nothing but time. Only files whose time, size or inode changed are read. A file that is being written in place is read
//! when its writer closes it, or when it has been left alone for [`limits::FILE_SETTLE_TIME`]: a
//! half-written file is never taken for an edit. What cannot be read keeps its last text.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher as _};
use ringway_core::limits;

/// The files of a folder as last read.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// Files that look different but may still be being written: since when they look so.
    unsettled: HashMap<PathBuf, (Stamp, Instant)>,
    faults: BTreeMap<PathBuf, String>,
    /// When the whole folder was walked for the last time.
    walked: Option<Instant>,
    /// The root as notifications name it.
    absolute: Option<PathBuf>,
    /// Keyed at random, so that nobody can make two texts look the same.
    hasher: RandomState,
}

#[derive(Debug)]
struct File {
    stamp: Stamp,
    /// Of the text as last read.
    digest: u64,
    /// That text, until it is taken.
    text: Option<String>,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    mtime: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

/// What is known to have happened in a folder; paths are absolute.
#[derive(Debug, Default)]
pub struct News {
    /// Files whose writers are done.
    pub complete: HashSet<PathBuf>,
    /// Whatever else changed in some way.
    pub touched: HashSet<PathBuf>,
    /// Something happened that no path tells.
    pub unclear: bool,
}

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Files with a new text, in path order.
    pub changed: Vec<PathBuf>,
    pub removed: Vec<PathBuf>,
    /// Faults are others than at the last look.
    pub faults_changed: bool,
    /// Look again after this time: a file is being written.
    pub again_in: Option<Duration>,
}

impl Scan {
    /// Nothing is different.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty() && !self.faults_changed
    }
}

impl Folder {
    /// A folder, or a single file, that was not looked at yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            absolute: std::path::absolute(&root).ok(),
            root,
            files: BTreeMap::new(),
            unsettled: HashMap::new(),
            faults: BTreeMap::new(),
            walked: None,
            hasher: RandomState::new(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Hands over the text of a file that a look found changed: once, as it is not kept.
    pub fn take_text(&mut self, path: &Path) -> Option<String> {
        self.files.get_mut(path)?.text.take()
    }

    /// What could not be read, and why.
    pub fn faults(&self) -> &BTreeMap<PathBuf, String> {
        &self.faults
    }

    /// Looks at everything. `complete` are files (absolute paths) whose writers are known to be
    /// done. The first look takes every file as it is.
    ///
    /// # Errors
    /// The folder itself cannot be read: nothing is taken for removed then.
    pub fn scan(&mut self, complete: &HashSet<PathBuf>, now: Instant) -> io::Result<Scan> {
        let mut found = Found { files: BTreeMap::new(), faults: BTreeMap::new() };
        found.walk(&self.root, 0, &mut Vec::new())?;
        let mut scan = Scan::default();
        for (path, stamp) in &found.files {
            self.look_at(path, *stamp, complete, now, &mut scan, &mut found.faults);
        }
        // A folder that could not be listed says nothing about what was in it.
        let unlisted = |path: &Path| found.faults.keys().any(|fault| path.starts_with(fault));
        let gone = |path: &PathBuf| !found.files.contains_key(path) && !unlisted(path);
        scan.removed = self.files.keys().filter(|path| gone(path)).cloned().collect();
        self.files.retain(|path, _| !scan.removed.contains(path));
        self.unsettled.retain(|path, _| found.files.contains_key(path));
        if !self.unsettled.is_empty() {
            scan.again_in = Some(limits::FILE_SETTLE_TIME);
        }
        scan.faults_changed = self.faults != found.faults;
        self.faults = found.faults;
        self.walked = Some(now);
        Ok(scan)
    }

    /// How long until the whole folder is due to be walked again.
    pub fn walk_in(&self, now: Instant) -> Duration {
        let since = self.walked.map(|walked| now.duration_since(walked));
        since.map_or(Duration::ZERO, |since| limits::FOLDER_RESCAN_INTERVAL.saturating_sub(since))
    }

    /// Looks at what the news name, or at everything where they do not say enough.
    ///
    /// # Errors
    /// As [`Folder::scan`].
    pub fn look(&mut self, news: &News, now: Instant) -> io::Result<Scan> {
        let Some(sights) = self.sights(news) else { return self.scan(&news.complete, now) };
        let mut scan = Scan::default();
        let mut faults = BTreeMap::new();
        for (path, stamp) in sights {
            match stamp {
                Some(stamp) => {
                    self.look_at(&path, stamp, &news.complete, now, &mut scan, &mut faults);
                }
                None => {
                    self.unsettled.remove(&path);
                    if self.files.remove(&path).is_some() {
                        scan.removed.push(path);
                    }
                }
            }
        }
        if !self.unsettled.is_empty() {
            scan.again_in = Some(limits::FILE_SETTLE_TIME);
        }
        scan.faults_changed = !faults.is_empty();
        self.faults = faults;
        Ok(scan)
    }

    /// The files that the news are about, `None` for one that is gone; `None` where only a walk
    /// finds out.
    fn sights(&self, news: &News) -> Option<BTreeMap<PathBuf, Option<Stamp>>> {
        let unclear = news.unclear
            || self.walked.is_none()
            || !self.faults.is_empty()
            || self.files.len() >= limits::MANIFEST_FILES_MAX;
        if unclear {
            return None;
        }
        let root = self.absolute.as_ref()?;
        let mut sights = BTreeMap::new();
        let unsettled = self.unsettled.keys().filter_map(|path| std::path::absolute(path).ok());
        let named = news.touched.iter().chain(&news.complete).cloned().chain(unsettled);
        for absolute in named {
            let rest = absolute.strip_prefix(root).ok()?;
            let parts = || rest.components().map(|part| part.as_os_str().as_encoded_bytes());
            // What links through dot files, as Kubernetes' `..data`, changes when they do.
            let hidden = parts().any(|part| part.starts_with(b"."));
            if hidden || !(1..=limits::MANIFEST_FOLDER_DEPTH_MAX).contains(&parts().count()) {
                return None;
            }
            let path = self.root.join(rest);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if !metadata.is_file() => return None,
                Ok(metadata) => {
                    if is_manifest(&path) {
                        sights.insert(path, Some(Stamp::of(&metadata)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mut from_here = self.files.range(path.clone()..).map(|(known, _)| known);
                    match from_here.next() {
                        Some(known) if *known == path => {
                            sights.insert(path, None);
                        }
                        // A folder that is gone.
                        Some(known) if known.starts_with(&path) => return None,
                        _ => {}
                    }
                }
                Err(_) => return None,
            }
        }
        Some(sights)
    }

    fn look_at(
        &mut self,
        path: &Path,
        stamp: Stamp,
        complete: &HashSet<PathBuf>,
        now: Instant,
        scan: &mut Scan,
        faults: &mut BTreeMap<PathBuf, String>,
    ) {
        let known = self.files.get(path);
        let is_complete = !complete.is_empty()
            && std::path::absolute(path).is_ok_and(|path| complete.contains(&path));
        if known.is_some_and(|file| file.stamp == stamp) && !is_complete {
            self.unsettled.remove(path);
            return;
        }
        // Another inode behind a link is a link that was swapped, which is atomic.
        let swapped = known.is_some_and(|file| file.stamp.inode != stamp.inode) && is_link(path);
        // What could not be read last time is simply tried again.
        let failed = self.faults.contains_key(path);
        if self.walked.is_some() && !is_complete && !swapped && !failed {
            let entry = self.unsettled.entry(path.to_owned()).or_insert((stamp, now));
            if entry.0 != stamp {
                *entry = (stamp, now);
            }
            if now.duration_since(entry.1) < limits::FILE_SETTLE_TIME {
                return;
            }
        }
        match read(path) {
            Ok((stamp, text)) => {
                self.unsettled.remove(path);
                let digest = self.hasher.hash_one(&text);
                if let Some(known) = self.files.get_mut(path).filter(|k| k.digest == digest) {
                    known.stamp = stamp;
                    return;
                }
                scan.changed.push(path.to_owned());
                self.files.insert(path.to_owned(), File { stamp, digest, text: Some(text) });
            }
            Err(error) => {
                self.unsettled.remove(path);
                // Deleted while we looked: the next look sees that.
                if error.kind() != io::ErrorKind::NotFound {
                    faults.insert(path.to_owned(), error.to_string());
                }
            }
        }
    }
}

fn is_link(path: &Path) -> bool {
    // The link may also be a folder on the way, as in a mounted ConfigMap.
    path.ancestors().any(|p| fs::symlink_metadata(p).is_ok_and(|m| m.file_type().is_symlink()))
}

/// Reads a file whole; its stamp is the one before reading, so that a change meanwhile is found
/// by the next look.
fn read(path: &Path) -> io::Result<(Stamp, String)> {
    let file = fs::File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut text = String::new();
    let taken = file.take(limits::MANIFEST_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if taken as u64 > limits::MANIFEST_FILE_BYTES_MAX {
        let most = limits::MANIFEST_FILE_BYTES_MAX >> 20;
        return Err(io::Error::other(format!("larger than {most} MiB")));
    }
    Ok((stamp, text))
}

/// What a walk over the folder found.
struct Found {
    files: BTreeMap<PathBuf, Stamp>,
    faults: BTreeMap<PathBuf, String>,
}

impl Found {
    /// Walks a folder (or takes a file); `above` are the folders on the way, against loops of
    /// links.
    fn walk(&mut self, path: &Path, depth: usize, above: &mut Vec<(u64, u64)>) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if metadata.is_file() {
            self.files.insert(path.to_owned(), Stamp::of(&metadata));
            return Ok(());
        }
        let identity = (metadata.dev(), metadata.ino());
        if above.contains(&identity) {
            return Ok(());
        }
        if depth > limits::MANIFEST_FOLDER_DEPTH_MAX {
            return Err(io::Error::other("too many levels of subfolders"));
        }
        above.push(identity);
        for entry in fs::read_dir(path)? {
            self.entry(&entry?, depth, above);
        }
        above.pop();
        Ok(())
    }

    /// Takes one entry of a folder; dot files are none of ours. What links through them, as
    /// Kubernetes' `..data`, is read at its visible name.
    fn entry(&mut self, entry: &fs::DirEntry, depth: usize, above: &mut Vec<(u64, u64)>) {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            return;
        }
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => match fs::metadata(&path) {
                Ok(metadata) => metadata.file_type(),
                // Dangling: as good as absent.
                Err(_) => return,
            },
            Ok(kind) => kind,
            Err(_) => return,
        };
        let wanted = kind.is_dir() || kind.is_file() && is_manifest(&path);
        if !wanted {
            return;
        }
        if self.files.len() >= limits::MANIFEST_FILES_MAX {
            let most = limits::MANIFEST_FILES_MAX;
            self.faults.insert(path, format!("not read: more than {most} files"));
            return;
        }
        if let Err(error) = self.walk(&path, depth + 1, above)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.faults.insert(path, error.to_string());
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    extension.is_some_and(|e| ["yaml", "yml", "json"].iter().any(|m| e.eq_ignore_ascii_case(m)))
}

/// Tells when something in a folder may have changed.
pub struct Notifier {
    root: PathBuf,
    /// The folder as it was when the watch began.
    identity: Option<(u64, u64)>,
    watcher: Option<notify::RecommendedWatcher>,
    news: Arc<Mutex<News>>,
    wake: Sender<()>,
}

impl Notifier {
    /// Watches a folder (or a file, by its folder). The receiver has an item when it is time for
    /// a look. Where notifications do not work, looks are periodic only: see
    /// [`limits::FOLDER_RESCAN_INTERVAL`].
    pub fn new(root: impl Into<PathBuf>) -> (Self, Receiver<()>) {
        let (wake, woken) = bounded(1);
        let root = root.into();
        let news = Arc::default();
        let mut notifier = Self { root, identity: None, watcher: None, news, wake };
        notifier.renew();
        (notifier, woken)
    }

    /// What makes the receiver have an item.
    pub fn waker(&self) -> Sender<()> {
        self.wake.clone()
    }

    /// Takes what happened since the last call. Watches anew if the folder is not the one it was.
    pub fn take_news(&mut self) -> News {
        let renewed = self.renew();
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = std::mem::take(&mut *news);
        news.unclear |= renewed || self.watcher.is_none();
        news
    }

    /// True where the watch is a new one.
    fn renew(&mut self) -> bool {
        let identity = fs::metadata(&self.root).ok().map(|m| (m.dev(), m.ino()));
        if identity.is_none() || identity == self.identity && self.watcher.is_some() {
            return identity.is_none();
        }
        match self.watch() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.identity = identity;
            }
            Err(error) => {
                self.watcher = None;
                crate::log::warn(format!(
                    "no notifications for {} ({error}): looking every {} s",
                    self.root.display(),
                    limits::FOLDER_RESCAN_INTERVAL.as_secs()
                ));
            }
        }
        true
    }

    fn watch(&self) -> notify::Result<notify::RecommendedWatcher> {
        let news = Arc::clone(&self.news);
        let wake = self.wake.clone();
        let mut watcher = notify::recommended_watcher(move |event| {
            if note(event, &news) {
                // Full means that a look is due already.
                let _ = wake.try_send(());
            }
        })?;
        let root = std::path::absolute(&self.root)?;
        if self.root.is_dir() {
            watcher.watch(&root, RecursiveMode::Recursive)?;
        } else if let Some(folder) = root.parent() {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}

/// Remembers what happened; false for what is no reason to look.
fn note(event: notify::Result<notify::Event>, news: &Mutex<News>) -> bool {
    let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(event) = event else {
        news.unclear = true;
        return true;
    };
    news.unclear |= event.need_rescan() || event.paths.is_empty();
    let paths = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => &mut news.complete,
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            &mut news.complete
        }
        // Reading is what we do ourselves.
        EventKind::Access(_) => return false,
        _ => &mut news.touched,
    };
    if paths.len() < limits::MANIFEST_FILES_MAX {
        paths.extend(event.paths);
    } else {
        news.unclear = true;
    }
    true
}

#[cfg(test)]
mod tests;
