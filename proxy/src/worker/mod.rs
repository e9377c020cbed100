// SPDX-License-Identifier: Apache-2.0
//! One worker: its own sockets, pools, counters, timers and its view of the table. Shares nothing
//! that it writes on the request path, except its counters, which only it writes.

mod inbox;
pub(crate) mod state;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use monoio::net::{TcpListener, TcpStream};
use ringway_core::ir::Settings;
use ringway_core::link::Ack;
use ringway_core::name::{ClusterSlot, ListenerSlot};
use ringway_core::observe::metric::{ListenerCell, Slab, WorkerCell};
use ringway_core::table::{Route, Table};

use crate::fleet::{Message, Options, Shown};
use crate::net::buffer::Buffers;
use crate::net::socket::{self, Direction};
use crate::net::timer::{Timer, Timers};
use crate::observe::clock::Clock;
use crate::observe::log::{LogQueue, LogWriter};
use crate::rt;
use crate::terminate::Handshakes;
use state::ClusterState;

/// How long a connection without a request is kept once draining began: what the client has sent
/// before it heard of it still gets its answer, also from a client on a crowded machine.
const DRAIN_IDLE_GRACE: Duration = Duration::from_millis(2000);

/// Pause after an accept failed for want of descriptors or memory.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// What a worker is started with.
pub(crate) struct Start {
    pub(crate) index: usize,
    pub(crate) options: Options,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) woken: UnixStream,
    pub(crate) acks: Sender<Ack>,
    pub(crate) slab: Arc<Slab>,
    pub(crate) shown: Arc<Shown>,
    pub(crate) log: Arc<LogQueue>,
}

#[cfg(test)]
impl Worker {
    /// A worker that takes no messages, for tests of what runs on one.
    pub(crate) fn alone() -> Rc<Self> {
        let options = Options {
            workers: 1,
            io_backend: crate::IoBackend::Auto,
            pin: false,
            access_log: crate::LogForm::Off,
            helpful_404: false,
        };
        let worker = Rc::new(Self::new(&Start {
            index: 0,
            options,
            inbox: crossbeam_channel::never(),
            woken: UnixStream::pair().expect("a socket pair").0,
            acks: crossbeam_channel::bounded(1).0,
            slab: Arc::default(),
            shown: Arc::default(),
            log: Arc::default(),
        }));
        let timers = worker.timers.clone();
        rt::spawn(async move { timers.drive().await }, || ());
        worker
    }
}

/// The table that a worker serves now. Requests hold the `Rc`: no shared cache line is touched.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) table: Arc<Table>,
    /// Requests hold these after they let go of the table.
    pub(crate) settings: Local<Settings>,
    routes: RefCell<Vec<Option<Local<Route>>>>,
}

/// This worker's handle of something that all workers share read-only: cloning it touches no
/// count that others touch.
#[derive(Debug)]
pub(crate) struct Local<T>(
    #[allow(clippy::redundant_allocation, reason = "see the type")] Rc<Arc<T>>,
);

impl<T> Clone for Local<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> std::ops::Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl View {
    fn new(table: Arc<Table>) -> Self {
        let settings = Local(Rc::new(table.settings.clone()));
        Self { table, settings, routes: RefCell::default() }
    }

    /// This worker's handle of a route: the shared count is touched once per worker and table.
    pub(crate) fn route(&self, route: &Arc<Route>) -> Local<Route> {
        let mut routes = self.routes.borrow_mut();
        let at = route.slot.index();
        if routes.len() <= at {
            routes.resize(at + 1, None);
        }
        match &routes[at] {
            // Two routes of one slot are two variants of one Mapping: only the same one is reused.
            Some(known) if Arc::ptr_eq(&known.0, route) => known.clone(),
            _ => {
                let handle = Local(Rc::new(route.clone()));
                routes[at] = Some(handle.clone());
                handle
            }
        }
    }
}

/// One listening address of this worker.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) slot: ListenerSlot,
    /// The last table that had this listener, once it is gone: its connections finish on it.
    last: RefCell<Option<Rc<View>>>,
    pub(crate) closed: Cell<bool>,
    fd: Cell<std::os::fd::RawFd>,
}

/// A connection at rest or at work, as draining and closing see it.
#[derive(Debug)]
struct Connection {
    timer: Rc<Timer>,
    listener: ListenerSlot,
    /// Waits for a request; nothing of one has come.
    idle: Rc<Cell<bool>>,
}

/// One worker's state; tasks share it by `Rc`.
pub(crate) struct Worker {
    pub(crate) options: Options,
    pub(crate) slab: Arc<Slab>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) handshakes: Handshakes,
    pub(crate) clock: Clock,
    pub(crate) log: LogWriter,
    pub(crate) draining: Cell<bool>,
    shown: Arc<Shown>,
    view: RefCell<Rc<View>>,
    clusters: RefCell<Vec<Option<Rc<ClusterState>>>>,
    listeners: RefCell<HashMap<ListenerSlot, Rc<ListenerState>>>,
    connections: RefCell<Connections>,
    random: Cell<u64>,
    index: usize,
}

/// Connections by number; numbers are used again.
#[derive(Debug, Default)]
struct Connections {
    entries: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Worker {
    fn new(start: &Start) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let mut seed = std::hash::RandomState::new().build_hasher();
        seed.write_usize(start.index);
        let timers = Rc::new(Timers::new());
        Self {
            options: start.options.clone(),
            slab: start.slab.clone(),
            clock: Clock::new(),
            log: LogWriter::new(start.log.clone(), start.options.access_log),
            buffers: Rc::default(),
            handshakes: Handshakes::default(),
            draining: Cell::new(false),
            shown: start.shown.clone(),
            view: RefCell::new(Rc::new(View::new(Arc::new(Table::empty())))),
            clusters: RefCell::default(),
            listeners: RefCell::default(),
            connections: RefCell::default(),
            random: Cell::new(seed.finish()),
            index: start.index,
            timers,
        }
    }

    /// The table for a connection of this listener: the current one, or the last that had the
    /// listener.
    pub(crate) fn view(&self, listener: &ListenerState) -> Rc<View> {
        match &*listener.last.borrow() {
            Some(last) => last.clone(),
            None => self.view.borrow().clone(),
        }
    }

    /// The worker's state of a cluster, made at first use.
    pub(crate) fn cluster(&self, slot: ClusterSlot) -> Rc<ClusterState> {
        let mut clusters = self.clusters.borrow_mut();
        if clusters.len() <= slot.index() {
            clusters.resize_with(slot.index() + 1, || None);
        }
        clusters[slot.index()].get_or_insert_with(|| Rc::new(ClusterState::new(self.index))).clone()
    }

    /// A number from a small fast generator (SplitMix64): for weights and request ids, not for
    /// secrets.
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn install(&self, table: Arc<Table>) {
        let view = Rc::new(View::new(table));
        let old = self.view.replace(view.clone());
        for listener in self.listeners.borrow().values() {
            let mut last = listener.last.borrow_mut();
            if view.table.listener(listener.slot).is_none() && last.is_none() {
                *last = Some(old.clone());
            }
        }
        self.shown.generation.store(view.table.generation.0, Relaxed);
    }

    fn register(&self, connection: Connection) -> usize {
        let mut connections = self.connections.borrow_mut();
        match connections.free.pop() {
            Some(at) => {
                connections.entries[at] = Some(connection);
                at
            }
            None => {
                connections.entries.push(Some(connection));
                connections.entries.len() - 1
            }
        }
    }

    fn unregister(&self, at: usize) {
        let mut connections = self.connections.borrow_mut();
        connections.entries[at] = None;
        connections.free.push(at);
    }

    /// Lets the idle connections that `of` names go after a grace period.
    fn close_idle(self: &Rc<Self>, of: impl Fn(ListenerSlot) -> bool + 'static) {
        let worker = self.clone();
        rt::spawn(
            async move {
                monoio::time::sleep(DRAIN_IDLE_GRACE).await;
                for connection in worker.connections.borrow().entries.iter().flatten() {
                    if connection.idle.get() && of(connection.listener) {
                        connection.timer.stop(Direction::Read);
                    }
                }
            },
            || (),
        );
    }

    fn drain(self: &Rc<Self>, deadline: Duration) {
        if self.draining.replace(true) {
            return;
        }
        self.shown.draining.store(true, Relaxed);
        self.close_idle(|_| true);
        let worker = self.clone();
        rt::spawn(
            async move {
                monoio::time::sleep(deadline).await;
                for connection in worker.connections.borrow().entries.iter().flatten() {
                    connection.timer.stop(Direction::Both);
                }
            },
            || (),
        );
    }

    fn listen(self: &Rc<Self>, slot: ListenerSlot, socket: std::net::TcpListener) {
        use std::os::fd::AsRawFd;
        let fd = socket.as_raw_fd();
        let Ok(listener) = TcpListener::from_std(socket) else { return };
        let state = Rc::new(ListenerState {
            slot,
            last: RefCell::new(None),
            closed: Cell::new(false),
            fd: Cell::new(fd),
        });
        self.listeners.borrow_mut().insert(slot, state.clone());
        let worker = self.clone();
        rt::spawn(async move { accept(worker, state, listener).await }, || ());
    }

    fn close(self: &Rc<Self>, slot: ListenerSlot) {
        let Some(state) = self.listeners.borrow_mut().remove(&slot) else { return };
        state.closed.set(true);
        if state.last.borrow().is_none() && self.view.borrow().table.listener(slot).is_some() {
            *state.last.borrow_mut() = Some(self.view.borrow().clone());
        }
        // The accept in flight ends with EINVAL; dropping it could lose a connection.
        socket::shutdown(state.fd.get(), Direction::Both);
        self.close_idle(move |of| of == slot);
    }
}

/// Accepts until the listener is shut down. Never dropped: an accept in flight may already hold a
/// connection.
async fn accept(worker: Rc<Worker>, state: Rc<ListenerState>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => connected(&worker, &state, stream, peer),
            Err(_) if state.closed.get() => return,
            Err(error) => {
                worker.slab.worker_add(WorkerCell::AcceptErrors, 1);
                // The peer may have gone between handshake and accept; anything else is a
                // shortage that a pause helps.
                if error.kind() != std::io::ErrorKind::ConnectionAborted {
                    monoio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }
}

fn connected(
    worker: &Rc<Worker>,
    listener: &Rc<ListenerState>,
    tcp: TcpStream,
    peer: std::net::SocketAddr,
) {
    let stream = crate::net::stream::Stream::new(tcp, &worker.timers);
    let idle = Rc::new(Cell::new(true));
    let number = worker.register(Connection {
        timer: stream.timer.clone(),
        listener: listener.slot,
        idle: idle.clone(),
    });
    let slab = &worker.slab;
    slab.worker_add(WorkerCell::ConnectionsTotal, 1);
    slab.worker_add(WorkerCell::ConnectionsActive, 1);
    slab.listener_add(listener.slot, ListenerCell::ConnectionsTotal, 1);
    slab.listener_add(listener.slot, ListenerCell::ConnectionsActive, 1);
    let guard = Open { worker: worker.clone(), listener: listener.slot, number };
    let (worker, listener) = (worker.clone(), listener.clone());
    let panicked = worker.clone();
    rt::spawn(
        async move {
            let guard = guard;
            crate::connection::serve(&worker, &listener, stream, peer, &idle).await;
            drop(guard);
        },
        move || panicked.slab.worker_add(WorkerCell::Panics, 1),
    );
}

/// Counts a connection as open until it is dropped, whichever way its task ends.
struct Open {
    worker: Rc<Worker>,
    listener: ListenerSlot,
    number: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.unregister(self.number);
        let slab = &self.worker.slab;
        slab.worker_sub(WorkerCell::ConnectionsActive, 1);
        slab.listener_sub(self.listener, ListenerCell::ConnectionsActive, 1);
    }
}

/// A worker's whole life. Ends only with the process.
pub(crate) async fn run(start: Start) {
    let worker = Rc::new(Worker::new(&start));
    let timers = worker.timers.clone();
    rt::spawn(async move { timers.drive().await }, || ());
    let housekeeper = worker.clone();
    rt::spawn(async move { housekeeper.keep_house().await }, || ());
    inbox::serve(&worker, start).await;
}

impl Worker {
    /// Ten times a second: hands over log lines of quiet times, closes idle upstreams that ended.
    async fn keep_house(&self) {
        let mut turn = 0u64;
        loop {
            monoio::time::sleep(Duration::from_millis(100)).await;
            self.log.flush();
            turn += 1;
            if turn.is_multiple_of(10) {
                let now = self.timers.at(Instant::now());
                for cluster in self.clusters.borrow().iter().flatten() {
                    cluster.reap(now);
                }
            }
        }
    }
}
