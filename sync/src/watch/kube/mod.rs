// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes cluster as the place that configuration comes from.
//!
//! ```text
//!  API server ─ list, watch ─▶ thread "kube" ─ inbox ─▶ build thread: store, resolve, compile
//!             ◀─── statuses ──    ▲      ▲                  │   │
//!                                 │      └─ Secrets wanted ─┘   │
//!                                 └─────────── Report ──────────┘
//! ```
//!
//! Invariants: what was heard of once goes on being served whatever becomes of the API server; a
//! Secret is asked for only when an object names it; nothing is published before every resource
//! was listed or is known to be absent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context as _;
use crossbeam_channel::Sender;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use ringway_core::limits;
use ringway_core::name::{Kind, Ref};
use ringway_core::resolve::secrets as secrets_of;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

mod addresses;
mod api;
mod conversion;
mod definitions;
mod follow;
mod inbox;
mod last_good;
mod lease;
mod resource;
mod secrets;
mod status;
mod verdict;

use addresses::Addresses;
pub use addresses::Publish;
pub(crate) use addresses::{addresses_of, node_of};
use api::{Api, Failure, Head};
use definitions::Installed;
use follow::Sink;
use inbox::{Change, Inbox};
use last_good::{LastGood, Restored};
use lease::Lease;
pub use resource::Scope;
pub(crate) use resource::escape;
use status::{Observed, Told, Writer};

use super::Read;
use crate::gateway::State;
use crate::log;
use crate::progress::Followed;
use crate::store::Store;

/// Which cluster, and what of it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A kubeconfig; without it what `KUBECONFIG` names, else the cluster that the process runs
    /// in, else `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one.
    pub context: Option<String>,
    pub scope: Scope,
    /// Whether statuses and events are written.
    pub writes: bool,
    pub publish: Publish,
    /// Where the last good version of every object is kept.
    pub state_dir: Option<PathBuf>,
}

/// A cluster that is being followed.
pub struct Cluster {
    inbox: Arc<Inbox>,
    thread: JoinHandle<()>,
    wanted: watch::Sender<BTreeSet<Ref>>,
    followed: Arc<Followed>,
    /// Something was put into the store since it was last complete.
    has_changed: bool,
    /// When the oldest of it came.
    since: Option<Instant>,
    /// Takes what statuses are written from.
    state: Option<oneshot::Sender<Arc<State>>>,
    kept: Option<Kept>,
    /// All that was there is in the store, as it was last written down.
    is_restored: bool,
    started: Instant,
}

/// The last good versions on disk.
struct Kept {
    file: LastGood,
    heading: String,
    /// What was in it, until it is read.
    restored: Vec<Restored>,
    /// Secrets that were in it and that nobody has named yet.
    secrets: BTreeSet<Ref>,
    /// What was read and not yet built.
    unsaved: HashMap<String, Change>,
}

impl Cluster {
    /// Begins to follow it, on a thread of its own. `own` is the gateway's namespace; `wake` gets an
    /// item when there is something to read.
    ///
    /// # Errors
    /// There is no configuration, or it cannot be used. An API server that cannot be reached is
    /// none: it is tried again.
    pub fn follow(options: &Options, own: &str, wake: Sender<()>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let targets = resource::targets(&options.scope);
        let mappings = resource::mappings(&options.scope);
        let inbox = Arc::new(Inbox::new(targets.len(), wake));
        let (wanted, secrets_wanted) = watch::channel(BTreeSet::new());
        let config = runtime.block_on(configuration(options))?;
        // What was written down of another cluster, or another part of it, is of no use.
        let heading = format!("ringway 1 {} {own} {:?}", config.cluster_url, options.scope);
        // The client's own task begins with it.
        let api = runtime.block_on(async { Client::try_from(config).map(Api::new) })?;
        let kept = options.state_dir.as_ref().and_then(|folder| Kept::open(folder, heading));
        let before = kept.as_ref().map_or_else(HashMap::new, Kept::names);
        let (state, arrives) = oneshot::channel();
        let addresses = Addresses::new(options.publish.clone(), own);
        let observed = Arc::<Observed>::default();
        let followed = Arc::<Followed>::default();
        let counted = Arc::clone(&followed);
        let told = Arc::clone(&inbox);
        let writes = options.writes;
        let thread = std::thread::Builder::new().name("kube".into()).spawn(move || {
            runtime.block_on(async {
                let (installed, definitions, conversion) = Installed::new();
                let mut tasks = JoinSet::new();
                for (kind, target) in targets {
                    let sink = Objects {
                        kind,
                        inbox: Arc::clone(&told),
                        observed: (writes && Observed::wants(kind)).then(|| Arc::clone(&observed)),
                        addresses: (kind == Kind::Service).then(|| addresses.clone()),
                        followed: Arc::clone(&counted),
                        is_listed: false,
                        has_list: false,
                        said: None,
                    };
                    let before = before.get(kind.as_str()).cloned().unwrap_or_default();
                    let installed = installed.clone();
                    tasks.spawn(follow::follow(api.clone(), target, sink, installed, before));
                }
                let changes = installed.clone();
                tasks.spawn(conversion::follow(api.clone(), mappings, changes, conversion));
                tasks.spawn(secrets::follow(api.clone(), told, secrets_wanted));
                if writes {
                    let installed = installed.clone();
                    let api = api.clone();
                    tasks.spawn(write(api, installed, arrives, observed, addresses, counted));
                }
                let target = resource::definitions();
                tasks.spawn(follow::follow(api, target, definitions, installed, Vec::new()));
                // None of them ends by itself.
                tasks.join_next().await;
            });
        })?;
        Ok(Self {
            inbox,
            thread,
            wanted,
            followed,
            has_changed: false,
            since: None,
            state: Some(state),
            kept,
            is_restored: false,
            started: Instant::now(),
        })
    }

    /// Statuses are written from now on, of what this state reports.
    pub(super) fn report(&mut self, state: &Arc<State>) {
        state.progress.set_followed(Arc::clone(&self.followed));
        if let Some(arrives) = self.state.take() {
            let _ = arrives.send(Arc::clone(state));
        }
    }

    /// Puts what has changed into the store, and asks for the Secrets that its objects name now.
    pub(super) fn read(&mut self, store: &mut Store, now: Instant) -> Read {
        for object in self.kept.iter_mut().flat_map(|kept| std::mem::take(&mut kept.restored)) {
            let Restored { name, api_version, kind, json } = object;
            store.set_object(Path::new(&name), &json, &api_version, &kind);
            (self.has_changed, self.is_restored) = (true, true);
        }
        // Asked before what was told is taken: what comes in between is for the next time.
        assert!(!self.thread.is_finished(), "the thread that watches the cluster has died");
        let is_listed = self.inbox.is_listed();
        let taken = self.inbox.take();
        self.since = self.since.or(taken.since);
        for (name, change) in taken.changes {
            self.has_changed |= match &change {
                Change::Set { json, api_version, kind } => {
                    store.set_object(Path::new(&name), json, api_version, kind)
                }
                Change::Removed => {
                    store.remove_file(Path::new(&name));
                    true
                }
            };
            if let Some(kept) = &mut self.kept {
                kept.unsaved.insert(name, change);
            }
        }
        if is_listed && (self.has_changed || self.wanted.borrow().is_empty()) {
            self.want(secrets_of(store.snapshot()), store);
        }
        let is_new = is_listed && self.inbox.has_secrets(now);
        // What was written down is better than nothing, until more is known.
        let waited = now.duration_since(self.started) >= limits::KUBE_STATE_PATIENCE;
        let is_complete = is_new || self.is_restored && waited && !is_listed;
        let again_in = match (is_complete, is_listed) {
            (true, _) => None,
            (false, true) => Some(limits::KUBE_SECRET_PATIENCE),
            (false, false) => Some(limits::KUBE_STATE_PATIENCE),
        };
        let changed = is_complete && std::mem::take(&mut self.has_changed);
        let since = if is_complete { self.since.take() } else { None };
        Read { changed, is_complete, again_in, since: since.unwrap_or(now) }
    }

    /// What was read has been built: what of it is good is written down.
    pub(super) fn built(&mut self, bad: &BTreeSet<Ref>) {
        if let Some(kept) = &mut self.kept
            && let Err(error) = kept.save(bad)
        {
            log::warn(format!("the last good versions cannot be written down: {error}"));
        }
    }

    fn want(&mut self, now: BTreeSet<Ref>, store: &mut Store) {
        if let Some(kept) = &mut self.kept {
            for secret in std::mem::take(&mut kept.secrets).difference(&now) {
                store.remove_file(Path::new(&secret.to_string()));
                kept.unsaved.insert(secret.to_string(), Change::Removed);
            }
        }
        if *self.wanted.borrow() != now {
            self.inbox.want(&self.wanted.borrow(), &now);
            self.wanted.send_replace(now);
        }
    }
}

impl Kept {
    /// A folder that cannot be used is said to be, and done without.
    fn open(folder: &Path, heading: String) -> Option<Self> {
        match LastGood::open(folder, &heading) {
            Ok((file, restored)) => {
                let mut kept = Self {
                    file,
                    heading,
                    restored,
                    secrets: BTreeSet::new(),
                    unsaved: HashMap::new(),
                };
                let secrets = kept.names().remove(Kind::Secret.as_str()).unwrap_or_default();
                let name = |secret: Box<str>| {
                    let (namespace, name) = secret.split_once('/')?;
                    Some(Ref::new(Kind::Secret, namespace, name))
                };
                kept.secrets = secrets.into_iter().filter_map(name).collect();
                Some(kept)
            }
            Err(error) => {
                log::warn(format!("{}: {error}: nothing is written down there", folder.display()));
                None
            }
        }
    }

    /// `namespace/name` of all that was restored, by kind.
    fn names(&self) -> HashMap<String, Vec<Box<str>>> {
        let mut names: HashMap<String, Vec<Box<str>>> = HashMap::new();
        for object in &self.restored {
            let name = object.name.split_once(' ').map_or("", |(_, name)| name);
            // Of objects without a namespace only the name is written.
            let name = if name.contains('/') { name.into() } else { format!("/{name}").into() };
            names.entry(object.kind.clone()).or_default().push(name);
        }
        names
    }

    fn save(&mut self, bad: &BTreeSet<Ref>) -> std::io::Result<()> {
        let bad: HashSet<String> = bad.iter().map(ToString::to_string).collect();
        for (name, change) in std::mem::take(&mut self.unsaved) {
            match change {
                Change::Removed => self.file.remove(&name)?,
                // What it was before stays.
                Change::Set { .. } if bad.contains(&name) => {}
                Change::Set { json, api_version, kind } => {
                    self.file.set(&name, api_version, kind, &json)?;
                }
            }
        }
        self.file.flush(&self.heading)
    }
}

/// Writes statuses and events while it holds the Lease.
async fn write(
    api: Api,
    installed: Installed,
    state: oneshot::Receiver<Arc<State>>,
    observed: Arc<Observed>,
    addresses: Addresses,
    followed: Arc<Followed>,
) {
    let Ok(state) = state.await else { return };
    let settings = &state.options.settings;
    let identity = identity();
    let lease = Lease {
        api: api.clone(),
        namespace: settings.namespace.to_string(),
        name: format!("ringway-{}", settings.ambassador_id),
        identity: identity.clone(),
        followed,
    };
    let (hold, held) = watch::channel(false);
    let progress = Arc::clone(&state.progress);
    tokio::spawn(async move { lease.keep(hold, &progress).await });
    tokio::spawn(addresses.clone().follow_nodes(api.clone(), installed.clone(), held.clone()));
    let told = Told::default();
    Writer { api, state, observed, addresses, installed, identity, told }.run(held).await;
}

/// The Pod's name, with something that tells its processes apart.
fn identity() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), RandomState::new().hash_one(0))
}

/// Puts objects of one kind into the inbox.
struct Objects {
    kind: Kind,
    inbox: Arc<Inbox>,
    /// For kinds that something may be said of.
    observed: Option<Arc<Observed>>,
    /// For Services.
    addresses: Option<Addresses>,
    followed: Arc<Followed>,
    /// It was listed, or nobody waits for that.
    is_listed: bool,
    has_list: bool,
    said: Option<Failure>,
}

impl Sink for Objects {
    fn set(&mut self, head: &Head<'_>, json: &str, api_version: &'static str) {
        self.followed.events.fetch_add(1, Relaxed);
        let name = Ref::new(self.kind, &*head.metadata.namespace, &*head.metadata.name);
        if let Some(addresses) = &self.addresses {
            addresses.set(head, json);
        }
        let key = name.to_string();
        if let Some(observed) = &self.observed {
            observed.set(name, head, api_version);
        }
        self.inbox.set(key, json, api_version, self.kind.as_str());
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        self.followed.events.fetch_add(1, Relaxed);
        if let Some(addresses) = &self.addresses {
            addresses.remove(&format!("{namespace}/{name}"));
        }
        let name = Ref::new(self.kind, namespace, name);
        if let Some(observed) = &self.observed {
            observed.remove(&name);
        }
        self.inbox.remove(name.to_string());
    }

    fn listed(&mut self) {
        self.said = None;
        if std::mem::replace(&mut self.has_list, true) {
            self.followed.relists.fetch_add(1, Relaxed);
        }
        self.given_up();
    }

    fn given_up(&mut self) {
        if !std::mem::replace(&mut self.is_listed, true) {
            self.inbox.listed();
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.followed.failures.fetch_add(1, Relaxed);
        say(self.kind.as_str(), failure, &mut self.said);
    }
}

/// Says what went wrong, unless it was the last thing said.
fn say(what: &str, failure: &Failure, said: &mut Option<Failure>) {
    let is_forbidden = |failure: &Failure| matches!(failure, Failure::Forbidden(_));
    // An API server that starts words a lack of rights in ever new ways.
    let is_old = |said: &Failure| said == failure || is_forbidden(said) && is_forbidden(failure);
    if said.as_ref().is_some_and(is_old) {
        return;
    }
    *said = Some(failure.clone());
    match failure {
        // The same for all of them, which the log says once.
        Failure::Passing(why) => log::warn(format!("the API server: {why}; what is known goes on")),
        Failure::Forbidden(_) => log::warn(format!("{what} is not read: {failure}")),
        _ => log::warn(format!("{what}: the API server: {failure}")),
    }
}

/// A client of the cluster, for questions.
pub(crate) async fn client(options: &Options) -> anyhow::Result<Client> {
    Ok(Client::try_from(configuration(options).await?)?)
}

/// Where the API server is and who asks.
async fn configuration(options: &Options) -> anyhow::Result<Config> {
    let choice = KubeConfigOptions { context: options.context.clone(), ..Default::default() };
    let mut config = if let Some(path) = &options.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(path)
            .with_context(|| format!("reading the kubeconfig {}", path.display()))?;
        Config::from_custom_kubeconfig(kubeconfig, &choice).await?
    } else if std::env::var_os("KUBECONFIG").is_none()
        && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    {
        Config::incluster().context("this looks like a Pod without a service account's token")?
    } else {
        Config::from_kubeconfig(&choice).await.context(
            "no folder is named with -f, and there is no cluster to watch: it runs in none and \
             finds no usable kubeconfig",
        )?
    };
    // Failures are tried again here, where it is known what for.
    config.default_retry = false;
    Ok(config)
}

#[cfg(test)]
mod tests;
