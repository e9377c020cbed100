// SPDX-License-Identifier: Apache-2.0
//! The running gateway, seen from its slow side.
//!
//! ```text
//!  folder ─ notify ─▶ build thread ─ Publication ─▶ publish thread ─ Command ─▶ workers
//!  or cluster           │ Report                       ▲ Answer        ◀─ Ack ─
//!                       ▼                              │
//!               sync thread: admin port, resolver of names, signals
//! ```
//!
//! The sync thread never waits for the others, so that health is answered whatever they do.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use ringway_core::crd::source::{Diagnostic, Style};
use ringway_core::ir::Ir;
use ringway_core::limits;
use ringway_core::link::{Command, Fleet};
use ringway_core::name::{Generation, Ref};
use ringway_core::problem::{Problem, Problems, Severity};
use ringway_core::snapshot::{Settings, Snapshot};
use ringway_core::table::Table;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::build::{Builder, Built};
use crate::log::{self, Level};
use crate::progress::Progress;
use crate::publish::{Message, Milliseconds, Publication, Publisher};
use crate::store::{self, Change, Store};
use crate::watch::file::Folder;
use crate::watch::named::NamedFiles;
use crate::watch::{Place, Source};
use crate::webhook::Webhook;
use crate::{admin, overload, watch};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the objects are.
    pub place: Place,
    pub settings: Settings,
    /// What `$NAME` in manifests stands for.
    pub environment: BTreeMap<String, String>,
    pub admin: SocketAddr,
    /// Emissary's other ports.
    pub sides: admin::Sides,
    /// Converts objects for the API server.
    pub webhook: Option<Webhook>,
    /// Having handed over, wait for a signal: whoever started the process would start it again.
    pub stays: bool,
    /// In the form of `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Requests in flight may take this long after the listeners are closed.
    pub drain_time: Duration,
    /// How long to go on accepting when the drain begins.
    pub shutdown_delay: Duration,
    /// Bytes of memory beyond which less is taken on; none: never.
    pub memory_limit: Option<u64>,
    pub version: &'static str,
}

/// The processes before and after this one, as far as they concern the gateway.
#[derive(Default)]
pub struct Succession {
    /// This process takes over from another: it listens only once it can answer everything, and
    /// gives up if that takes too long.
    pub takes_over: bool,
    /// The socket of the other's admin port. Answered as soon as this process is ready; until
    /// then the other answers.
    pub admin: Option<std::net::TcpListener>,
    successor: Option<Successors>,
}

/// Processes that serve in our place, each with the sender that tells it that we do not any more.
type Successors = tokio::sync::mpsc::Receiver<Sender<()>>;

/// Tells the gateway that a successor serves.
pub struct Relief(tokio::sync::mpsc::Sender<Sender<()>>);

impl Succession {
    /// Of a process that may be succeeded.
    pub fn with_successor() -> (Self, Relief) {
        let (relief, successor) = tokio::sync::mpsc::channel(1);
        (Self { successor: Some(successor), ..Self::default() }, Relief(relief))
    }
}

impl Relief {
    /// Makes the gateway stop accepting and drain; waits at most this long for the former. Not to
    /// be called on the gateway's own thread.
    pub fn stop_accepting(&self, patience: Duration) {
        let (released, stopped) = bounded(1);
        if self.0.blocking_send(released).is_ok() {
            let _ = stopped.recv_timeout(patience);
        }
    }
}

/// What was asked for over an admin port.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    drain: Notify,
    /// Without going on to accept for a while.
    at_once: AtomicBool,
    quit: Notify,
}

impl Wishes {
    /// Drain, and wait for a signal.
    pub(crate) fn drain(&self, at_once: bool) {
        self.at_once.store(at_once, Ordering::Relaxed);
        self.drain.notify_one();
    }

    /// What SIGTERM asks for.
    pub(crate) fn quit(&self) {
        self.quit.notify_one();
    }
}

/// What the gateway shows of itself.
pub struct State {
    pub options: Options,
    pub fleet: Arc<dyn Fleet>,
    pub progress: Arc<Progress>,
    pub started: Instant,
    pub boot_time: SystemTime,
    pub(crate) wishes: Wishes,
    report: Mutex<Arc<Report>>,
}

impl State {
    pub(crate) fn new(options: Options, fleet: Arc<dyn Fleet>) -> Self {
        Self {
            options,
            fleet,
            progress: Arc::default(),
            started: Instant::now(),
            boot_time: SystemTime::now(),
            wishes: Wishes::default(),
            report: Mutex::default(),
        }
    }

    /// The last build, with which of its listeners cannot be bound.
    pub fn report(&self) -> Arc<Report> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = self.progress.bind_failures();
        if report.bind_failures != failures {
            Arc::make_mut(&mut report).set_bind_failures(failures);
        }
        Arc::clone(&report)
    }

    pub(crate) fn set_report(&self, report: Report) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }
}

/// What the last build found. Before the first: nothing.
#[derive(Clone, Default)]
pub struct Report {
    pub table: Option<Arc<Table>>,
    pub ir: Arc<Ir>,
    pub snapshot: Snapshot,
    pub diagnostics: Vec<Diagnostic>,
    /// Addresses that cannot be bound, and why: among the diagnostics.
    pub bind_failures: Vec<(SocketAddr, String)>,
    /// Objects whose last accepted version is served instead of what is written.
    pub outdated: BTreeSet<Ref>,
    /// Objects that are refused as they are written.
    pub refused: BTreeSet<Ref>,
    /// Kinds that mean nothing here, counted.
    pub foreign: BTreeMap<String, usize>,
    pub updates_applied: u64,
    pub updates_rejected: u64,
    pub last_success: Option<SystemTime>,
    pub fetch_time: Duration,
    pub resolve_time: Duration,
    pub compile_time: Duration,
}

impl Report {
    /// Problems that weigh this much.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == severity).count()
    }

    fn set_bind_failures(&mut self, failures: Vec<(SocketAddr, String)>) {
        self.diagnostics.retain(|d| d.reason != Problems::ADDRESS_NOT_BOUND);
        let mut problems = Problems::default();
        for listener in &self.ir.listeners {
            let failure = failures.iter().find(|(at, _)| *at == listener.address);
            let Some((at, error)) = failure else { continue };
            match self.snapshot.object(&listener.object) {
                Some(_) => problems.address_not_bound(&listener.object, *at, error),
                // Nobody wrote it: TCPMappings need it.
                None => {
                    for route in listener.tcp_routes() {
                        for member in &route.members {
                            problems.address_not_bound(&member.object, *at, error);
                        }
                    }
                }
            }
        }
        let of_problem = |problem: &Problem| {
            let object = self.snapshot.object(&problem.object);
            Diagnostic::of_problem(problem, object.map(|object| &object.origin))
        };
        self.diagnostics.extend(problems.iter().map(of_problem));
        store::sort(&mut self.diagnostics);
        self.bind_failures = failures;
    }
}

/// How often to look whether the gateway is ready, or drained.
const POLL: Duration = Duration::from_millis(10);

/// Runs until a signal or a successor ends it. `ready` is called once, when the gateway is, with
/// the socket of the admin port; it may block, and its error ends the gateway.
///
/// # Errors
/// The folder cannot be read, no cluster is configured, the admin port or every listener cannot be
/// bound, a thread died.
pub fn run(
    options: Options,
    fleet: Arc<dyn Fleet>,
    succession: Succession,
    ready: impl FnOnce(&State, std::net::TcpListener) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let since = Instant::now();
    let (mut source, waker, woken) = Source::open(&options, since)?;
    let named_files = NamedFiles::watched(waker);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let inherited =
        succession.admin.filter(|socket| socket.local_addr().is_ok_and(|at| at == options.admin));
    let admin_waits = inherited.is_some();
    let admin = match inherited {
        Some(socket) => socket,
        None => std::net::TcpListener::bind(options.admin)
            .with_context(|| format!("cannot listen on {} for the admin port", options.admin))?,
    };
    admin.set_nonblocking(true)?;
    let admin_socket = admin.try_clone()?;
    let state = Arc::new(State::new(options, fleet));
    source.report(&state);

    let (messages, inbox) = bounded(limits::COMMANDS_MAX);
    let (lookups, wanted) = tokio::sync::watch::channel(Arc::default());
    let fleet = Arc::clone(&state.fleet);
    let mut publisher = Publisher::new(fleet, Arc::clone(&state.progress), lookups);
    if succession.takes_over {
        publisher = publisher.patient();
    }
    let publish =
        std::thread::Builder::new().name("publish".into()).spawn(move || publisher.run(&inbox))?;
    let worker = Work {
        state: Arc::clone(&state),
        store: Store::new(state.options.settings.clone(), state.options.environment.clone()),
        source,
        named: named_files,
        builder: Builder::default(),
        messages: messages.clone(),
        known: HashSet::new(),
        said_foreign: BTreeMap::new(),
    };
    let build = std::thread::Builder::new().name("build".into()).spawn(move || {
        worker.run(&woken, since);
    })?;

    let resolver = match watch::dns::resolver(&state.options.resolv_conf) {
        Ok(resolver) => resolver,
        Err(error) => {
            log::warn(format!("{error:#}: only localhost and the hosts file resolve"));
            watch::dns::local_resolver()?
        }
    };
    let answers = messages.clone();
    tokio::spawn(watch::dns::watch(resolver, wanted, move |lookup, addresses| {
        let message = Message::Answer(lookup.clone(), addresses);
        !matches!(answers.try_send(message), Err(TrySendError::Full(_)))
    }));
    tokio::spawn(overload::watch(Arc::clone(&state)));
    let service = Arc::new(admin::Admin::new(Arc::clone(&state)));
    let mut successor = succession.successor;

    runtime.block_on(async {
        let admin = tokio::net::TcpListener::from_std(admin)?;
        let (open, opened) = tokio::sync::oneshot::channel::<()>();
        let admin = tokio::spawn(async move {
            if !admin_waits || opened.await.is_ok() {
                admin::http::serve(admin, service).await;
            }
        });
        let mut sides = state.options.sides.serve(&state);
        if let Some(webhook) = state.options.webhook.clone() {
            sides.spawn(webhook.serve());
        }
        let mut signals = Signals::new(Arc::clone(&state))?;
        let served = async {
            // A thread that ends has panicked: nothing ends them while this runs.
            while !publish.is_finished() && !build.is_finished() {
                if state.progress.is_serving() || state.progress.has_failed() {
                    break;
                }
                if succession.takes_over && since.elapsed() > limits::HANDOVER_READY_TIMEOUT {
                    let limit = limits::HANDOVER_READY_TIMEOUT.as_secs();
                    anyhow::bail!("not ready within {limit} s: the process before this goes on");
                }
                tokio::time::sleep(POLL).await;
            }
            if state.progress.has_failed() {
                let failures = state.progress.bind_failures();
                let said: Vec<String> =
                    failures.iter().map(|(at, error)| format!("{at}: {error}")).collect();
                anyhow::bail!("cannot listen on {}", said.join(", "));
            }
            if state.progress.is_serving() {
                if succession.takes_over {
                    // Who asks next may be answered by the process before this or by this one.
                    state.progress.set_ready();
                }
                let _ = open.send(());
                let served = Arc::clone(&state);
                tokio::task::spawn_blocking(move || ready(&served, admin_socket)).await??;
                state.progress.set_ready();
            }
            while !publish.is_finished() && !build.is_finished() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            anyhow::bail!("a thread of the gateway has died")
        };
        let end = tokio::select! {
            outcome = served => return outcome,
            () = signals.next() => End::Signal,
            () = state.wishes.drain.notified() => End::Wish,
            // A sender that is gone means that nobody can succeed us any more.
            Some(released) = next(&mut successor) => End::Succession(released),
        };
        let (is_told, stays) = match end {
            End::Signal => (true, false),
            End::Wish => (false, true),
            End::Succession(_) => (false, state.options.stays),
        };
        let leaving = async {
            let at_once = state.wishes.at_once.load(Ordering::Relaxed);
            let delay = if at_once { Duration::ZERO } else { state.options.shutdown_delay };
            let released = match end {
                End::Succession(released) => Some(released),
                End::Signal | End::Wish => let_go(&state, delay, &mut successor).await,
            };
            if released.is_some() {
                state.progress.set_succeeded();
                // The ports are the successor's.
                sides.shutdown().await;
                admin.abort();
                // The descriptor is closed when the task is gone.
                let _ = admin.await;
            }
            stop_accepting(&state, &messages).await;
            if let Some(released) = released {
                let _ = released.try_send(());
            }
            finish(&state).await;
        };
        tokio::pin!(leaving);
        if !is_told {
            tokio::select! {
                () = &mut leaving => {
                    if stays {
                        signals.next().await;
                    }
                    return Ok(());
                }
                // That is what it does.
                () = signals.next() => {}
            }
        }
        tokio::select! {
            () = leaving => Ok(()),
            () = signals.next() => anyhow::bail!("a second signal: ending at once"),
        }
    })
}

/// Why a gateway stops serving.
enum End {
    Signal,
    /// Somebody asked for it, and will send a signal.
    Wish,
    /// Another process serves; the sender tells it that this one does not any more.
    Succession(Sender<()>),
}

/// SIGTERM and SIGINT, and who asks for the same over an admin port.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    state: Arc<State>,
}

impl Signals {
    fn new(state: Arc<State>) -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            state,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.state.wishes.quit.notified() => {}
        }
    }
}

/// The next process that serves in our place; waits for ever where there can be none.
async fn next(successor: &mut Option<Successors>) -> Option<Sender<()>> {
    match successor {
        Some(successor) => successor.recv().await,
        None => std::future::pending().await,
    }
}

/// Not ready any more, but accepting for a while yet, while others learn of it; or until a successor
/// does, which is then given.
async fn let_go(
    state: &State,
    delay: Duration,
    successor: &mut Option<Successors>,
) -> Option<Sender<()>> {
    state.progress.set_draining();
    if delay.is_zero() {
        return None;
    }
    log::info(format!("not ready any more; accepting for another {} s", delay.as_secs()));
    tokio::select! {
        () = tokio::time::sleep(delay) => None,
        Some(released) = next(successor) => Some(released),
    }
}

/// Closes the listeners and tells clients to go.
async fn stop_accepting(state: &State, messages: &Sender<Message>) {
    let drain_time = state.options.drain_time;
    // Not waiting for room: the listeners are closed here whether or not the publisher knows.
    let _ = messages.try_send(Message::Stop);
    state.fleet.close_listeners();
    for worker in 0..state.fleet.workers() {
        while !state.fleet.send(worker, Command::Drain { deadline: drain_time }) {
            tokio::time::sleep(POLL).await;
        }
    }
    log::info(format!(
        "draining: {} connections have {} s to finish",
        state.fleet.connections(),
        drain_time.as_secs()
    ));
}

/// Waits until the connections are finished, or cut.
async fn finish(state: &State) {
    // The workers cut what is left at the deadline; a moment more lets them.
    let deadline = Instant::now() + state.options.drain_time + Duration::from_secs(1);
    while !state.fleet.is_drained() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    log::info(match state.fleet.connections() {
        0 => "drained".to_owned(),
        left => format!("drain time is over: {left} connections are cut"),
    });
    // It was given back when the drain began; an API server that does not answer is not waited for.
    let deadline = Instant::now() + limits::KUBE_LEASE_RELEASE_TIMEOUT;
    while state.progress.leads() && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// The build thread: looks, builds, publishes, reports.
struct Work {
    state: Arc<State>,
    source: Source,
    store: Store,
    /// Certificates, keys and authorities outside of the folder.
    named: NamedFiles,
    builder: Builder,
    messages: Sender<Message>,
    /// Problems that were said, so that each is said once.
    known: HashSet<String>,
    said_foreign: BTreeMap<String, usize>,
}

impl Work {
    fn run(mut self, woken: &Receiver<()>, started: Instant) {
        let mut is_first = true;
        let mut told = false;
        loop {
            let now = Instant::now();
            let read = self.source.read(&mut self.store, told, now);
            if read.is_complete {
                let named_changed = self.named.read_for(&mut self.store);
                if is_first || read.changed || named_changed {
                    let since = if is_first { started } else { read.since };
                    self.apply(since, std::mem::take(&mut is_first));
                }
            }
            let again_in = [read.again_in, self.named.again_in()].into_iter().flatten();
            let wait = again_in.fold(self.source.read_in(Instant::now()), Duration::min);
            told = match woken.recv_timeout(wait) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                // The source is ours and holds the sender.
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    }

    fn apply(&mut self, since: Instant, is_first: bool) {
        let fetch_time = since.elapsed();
        let oldest = self.state.progress.oldest();
        let built = self.builder.build(self.store.snapshot(), self.store.with_errors(), oldest);
        let changes = self.store.take_changes();
        match built {
            Ok(built) => {
                if built.is_new {
                    let summary =
                        if is_first { contents(self.store.snapshot()) } else { summary(&changes) };
                    let table = Arc::clone(&built.table);
                    self.publish(Publication { table, since, summary });
                }
                let bad = &built.outdated | self.store.refused();
                self.source.built(&bad);
                self.report(built, fetch_time, !changes.is_empty());
            }
            Err(error) => {
                log::error(format!("the configuration does not compile: {error}"));
                let mut report = (*self.state.report()).clone();
                report.updates_rejected += 1;
                report.diagnostics = self.diagnostics(&Problems::default());
                report.bind_failures.clear();
                self.state.set_report(report);
                self.say_served();
            }
        }
    }

    fn publish(&self, publication: Publication) {
        // The publisher takes messages within milliseconds; it is gone only when the process ends.
        let _ = self.messages.send(Message::Publish(publication));
    }

    fn diagnostics(&self, problems: &Problems) -> Vec<Diagnostic> {
        let mut diagnostics = self.store.diagnostics(problems);
        diagnostics.extend(self.source.faults());
        store::sort(&mut diagnostics);
        diagnostics
    }

    fn report(&mut self, built: Built, fetch_time: Duration, has_changes: bool) {
        let before = self.state.report();
        let diagnostics = self.diagnostics(&built.problems);
        let refused = self.store.refused().clone();
        let holds_back = !built.outdated.is_empty()
            || self.store.kept_files().next().is_some()
            || !refused.is_empty();
        let news = self.say(&diagnostics);
        if news && holds_back {
            self.say_served();
        } else if has_changes && !built.is_new && !news {
            let generation = built.table.generation;
            let line = format!("nothing changes: generation {generation} means the same");
            log::event(Level::Info, &line);
        }
        let foreign = self.store.foreign();
        if foreign != self.said_foreign {
            self.said_foreign.clone_from(&foreign);
            log::info(foreign_line(&foreign));
        }
        let has_errors = diagnostics.iter().any(|d| d.severity == Severity::Error);
        self.state.set_report(Report {
            table: Some(built.table),
            ir: built.ir,
            snapshot: self.store.snapshot().clone(),
            diagnostics,
            bind_failures: Vec::new(),
            outdated: built.outdated,
            refused,
            foreign,
            updates_applied: before.updates_applied + u64::from(built.is_new),
            updates_rejected: before.updates_rejected + u64::from(news && has_errors),
            last_success: if built.is_new { Some(SystemTime::now()) } else { before.last_success },
            fetch_time,
            resolve_time: built.resolve_time,
            compile_time: built.compile_time,
        });
    }

    /// Says the problems that were not there before; true if there were any.
    fn say(&mut self, diagnostics: &[Diagnostic]) -> bool {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let style = if colour { Style::Ansi } else { Style::Plain };
        // By what is wrong and not by line: an edit above is no news.
        let key = |d: &Diagnostic| {
            let file = d.location.as_ref().map(|l| &*l.file);
            format!("{file:?} {:?} {} {} {}", d.object, d.path, d.reason, d.message)
        };
        let now: HashSet<String> = diagnostics.iter().map(key).collect();
        let news: Vec<&Diagnostic> =
            diagnostics.iter().filter(|d| !self.known.contains(&key(d))).collect();
        self.known = now;
        for diagnostic in news.iter().take(limits::PROBLEMS_SAID_MAX) {
            let level = match diagnostic.severity {
                Severity::Error | Severity::FailsClosed => Level::Error,
                Severity::Warning => Level::Warn,
                Severity::Notice => Level::Info,
            };
            log::event(level, diagnostic.render(style).trim_end());
        }
        if news.len() > limits::PROBLEMS_SAID_MAX {
            let more = news.len() - limits::PROBLEMS_SAID_MAX;
            let admin = self.state.options.admin;
            log::warn(format!("and {more} more problems: http://{admin}/api/v1/problems"));
        }
        news.iter().any(|d| d.severity != Severity::Notice)
    }

    /// What goes on being served although something else is written.
    fn say_served(&self) {
        let generation = self.builder.generation();
        if generation == Generation(0) {
            return;
        }
        let mut what: Vec<String> =
            self.store.kept_files().map(|path| path.display().to_string()).collect();
        let refused =
            self.store.refused().iter().filter(|r| self.store.snapshot().object(r).is_some());
        what.extend(refused.map(ToString::to_string));
        what.extend(self.builder.outdated().map(ToString::to_string));
        if what.is_empty() {
            return;
        }
        what.sort();
        let n_more = what.len().saturating_sub(NAMES_MAX);
        what.truncate(NAMES_MAX);
        let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
        let what = what.join(", ");
        let line = format!("still serving generation {generation} for {what}{more}");
        log::event(Level::Warn, &line);
    }
}

/// Names that a line lists, at most.
const NAMES_MAX: usize = 4;

/// `+Mapping default/a, ~Host default/b`, or counts where there are many.
fn summary(changes: &BTreeMap<Ref, Change>) -> String {
    let sign = |change: Change| match change {
        Change::Added => '+',
        Change::Changed => '~',
        Change::Removed => '-',
    };
    if changes.is_empty() {
        return "what others refer to has changed".into();
    }
    if changes.len() <= NAMES_MAX {
        let named: Vec<String> =
            changes.iter().map(|(name, change)| format!("{}{name}", sign(*change))).collect();
        return named.join(", ");
    }
    let mut counts: BTreeMap<(Change, &str), usize> = BTreeMap::new();
    for (name, change) in changes {
        *counts.entry((*change, name.kind.as_str())).or_default() += 1;
    }
    let counted: Vec<String> =
        counts.iter().map(|((change, kind), n)| format!("{}{n} {kind}", sign(*change))).collect();
    counted.join(", ")
}

/// `12 objects: 3 Mapping, 9 Service`.
fn contents(snapshot: &Snapshot) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for object in snapshot.objects() {
        *counts.entry(object.meta.object.kind.as_str()).or_default() += 1;
    }
    let counted: Vec<String> = counts.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    match snapshot.len() {
        0 => "no objects".into(),
        1 => format!("1 object: {}", counted.join(", ")),
        n => format!("{n} objects: {}", counted.join(", ")),
    }
}

/// One line about kinds that mean nothing to a gateway.
pub fn foreign_line(foreign: &BTreeMap<String, usize>) -> String {
    let n: usize = foreign.values().sum();
    let kinds: Vec<String> = foreign.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let objects = if n == 1 { "object" } else { "objects" };
    let of = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    format!("{n} {objects} of other kinds ignored{of}")
}

/// What loading a folder once gave.
pub struct Loaded {
    pub snapshot: Snapshot,
    pub ir: Arc<Ir>,
    pub table: Arc<Table>,
    /// By file and line.
    pub diagnostics: Vec<Diagnostic>,
    pub foreign: BTreeMap<String, usize>,
    pub n_files: usize,
    pub took: Duration,
}

/// Reads, resolves and compiles a folder (or a file), as a gateway that starts would.
///
/// # Errors
/// The folder cannot be read, or (never seen) its meaning does not compile.
pub fn load(
    folder: &std::path::Path,
    settings: Settings,
    environment: BTreeMap<String, String>,
) -> anyhow::Result<Loaded> {
    let since = Instant::now();
    let mut folder = Folder::new(folder);
    let scan = folder
        .scan(&HashSet::new(), since)
        .with_context(|| format!("reading {}", folder.root().display()))?;
    let mut store = Store::new(settings, environment);
    for path in &scan.changed {
        if let Some(text) = folder.take_text(path) {
            store.set_file(path, &text);
        }
    }
    NamedFiles::default().read_for(&mut store);
    let mut builder = Builder::default();
    let built = builder.build(store.snapshot(), store.with_errors(), Generation(0))?;
    let mut diagnostics = store.diagnostics(&built.problems);
    for (path, error) in folder.faults() {
        let message = format!("cannot be read: {error}");
        diagnostics.push(store::fault(&path.to_string_lossy(), "Unreadable", message));
    }
    store::sort(&mut diagnostics);
    Ok(Loaded {
        snapshot: store.snapshot().clone(),
        ir: built.ir,
        table: built.table,
        diagnostics,
        foreign: store.foreign(),
        n_files: scan.changed.len(),
        took: since.elapsed(),
    })
}

/// `3 ms`.
pub fn milliseconds(duration: Duration) -> String {
    Milliseconds(duration).to_string()
}
