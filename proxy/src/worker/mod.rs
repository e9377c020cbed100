// SPDX-License-Identifier: Apache-2.0
//! One worker: its own sockets, pools, counters, timers and its view of the table. Shares nothing
//! that it writes on the request path, except its counters, which only it writes.

mod accept;
mod inbox;
mod methods;
pub(crate) mod state;
pub(crate) mod tally;
pub(crate) mod turns;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use monoio::net::TcpStream;
use ringway_core::ir::Settings;
use ringway_core::link::{Ack, Pressure};
use ringway_core::name::{ClusterSlot, ListenerSlot};
use ringway_core::observe::metric::{ListenerCell, Slab, WorkerCell};
use ringway_core::policy::format::Facts;
use ringway_core::table::{Route, Table};

use crate::connection::{self, Client};
use crate::fleet::{Message, Options, Shown};
use crate::http::exchange::Scratches;
use crate::http::shadow::Copies;
use crate::net::buffer::Buffers;
use crate::net::socket::Direction;
use crate::net::stream::Recalls;
use crate::net::timer::{Timer, Timers};
use crate::observe::clock::Clock;
use crate::observe::log::{LogQueue, LogWriter};
use crate::rt;
use crate::terminate::Handshakes;
use methods::Methods;
use state::ClusterState;
use tally::Tally;
use turns::Turns;

/// How long a connection without a request is kept once draining began: what the client has sent
/// before it heard of it still gets its answer, also from a client on a crowded machine.
const DRAIN_IDLE_GRACE: Duration = Duration::from_millis(2000);

/// At a limit, this part of the share is freed at a time if as many connections rest.
const ROOM_SHARE: usize = 64;

/// A connection rests once nothing came for this long, in milliseconds: one that was just made has
/// yet to ask, and must not be closed for the next one.
const RESTS_AFTER: u64 = 1000;

/// What a worker is started with.
pub(crate) struct Start {
    pub(crate) index: usize,
    pub(crate) options: Options,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) woken: UnixStream,
    /// The other end of it, for the worker itself.
    pub(crate) bell: Arc<UnixStream>,
    pub(crate) acks: Sender<Ack>,
    pub(crate) slab: Arc<Slab>,
    pub(crate) shown: Arc<Shown>,
    pub(crate) log: Arc<LogQueue>,
    /// The driver is epoll: sockets must not block.
    pub(crate) epoll: bool,
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
            connections_max: 1,
            listener_connections_max: 1,
            drain_time: Duration::from_secs(1),
            share_ports: false,
            give_back: || (),
        };
        let (bell, woken) = UnixStream::pair().expect("a socket pair");
        woken.set_nonblocking(true).expect("a socket of ours");
        let start = Start {
            index: 0,
            options,
            inbox: crossbeam_channel::never(),
            woken,
            bell: Arc::new(bell),
            acks: crossbeam_channel::bounded(1).0,
            slab: Arc::default(),
            shown: Arc::default(),
            log: Arc::default(),
            epoll: false,
        };
        let worker = Rc::new(Self::new(&start));
        let timers = worker.timers.clone();
        rt::spawn(async move { timers.drive().await }, || ());
        let counting = worker.clone();
        rt::spawn(async move { counting.tally.serve(&counting.slab).await }, || ());
        let serving = worker.clone();
        rt::spawn(async move { inbox::serve(&serving, start).await }, || ());
        worker
    }
}

/// The table that a worker serves now. Requests hold the `Rc`: no shared cache line is touched.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) table: Arc<Table>,
    /// Requests hold these after they let go of the table.
    pub(crate) settings: Local<Settings>,
    /// By slot, so many in a block.
    routes: RefCell<Vec<Option<Block<Route>>>>,
    /// Routes whose slot has a handle of another: variants of one Mapping.
    variants: RefCell<HashMap<*const Route, Local<Route>>>,
}

/// Routes whose handles are one allocation, and live as long as any of them: a count for each of
/// thousands would come from memory with its request, and go back there.
const BLOCK_ROUTES: usize = 64;

type Block<T> = Rc<[OnceCell<Arc<T>>]>;

/// This worker's handle of something that all workers share read-only: cloning it touches no
/// count that others touch.
#[derive(Debug)]
pub(crate) struct Local<T> {
    block: Block<T>,
    at: usize,
}

impl<T> Local<T> {
    fn new(shared: &Arc<T>) -> Self {
        Self { block: Rc::new([OnceCell::from(shared.clone())]), at: 0 }
    }
}

impl<T> Clone for Local<T> {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), at: self.at }
    }
}

impl<T> std::ops::Deref for Local<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.block[self.at].get().expect("a handle is of something")
    }
}

impl View {
    fn new(table: Arc<Table>) -> Self {
        let settings = Local::new(&table.settings);
        Self { table, settings, routes: RefCell::default(), variants: RefCell::default() }
    }

    /// This worker's handle of a route: the shared count is touched once per worker and table.
    pub(crate) fn route(&self, route: &Arc<Route>) -> Local<Route> {
        let mut routes = self.routes.borrow_mut();
        let (block, at) = (route.slot.index() / BLOCK_ROUTES, route.slot.index() % BLOCK_ROUTES);
        if routes.len() <= block {
            routes.resize(block + 1, None);
        }
        let block = routes[block]
            .get_or_insert_with(|| (0..BLOCK_ROUTES).map(|_| OnceCell::new()).collect());
        if Arc::ptr_eq(block[at].get_or_init(|| route.clone()), route) {
            return Local { block: block.clone(), at };
        }
        let mut variants = self.variants.borrow_mut();
        variants.entry(Arc::as_ptr(route)).or_insert_with(|| Local::new(route)).clone()
    }
}

/// One listener of this worker, as its connections see it.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) slot: ListenerSlot,
    /// The last table that had this listener, once it is gone: its connections finish on it.
    last: RefCell<Option<Rc<View>>>,
    pub(crate) closed: Cell<bool>,
    /// Its connections.
    open: Cell<usize>,
    /// Those whose client has said something of a handshake, or much at once, for which there was no
    /// time yet.
    pub(crate) handshakes_waiting: Cell<usize>,
}

impl ListenerState {
    fn new(slot: ListenerSlot) -> Rc<Self> {
        Rc::new(Self {
            slot,
            last: RefCell::new(None),
            closed: Cell::new(false),
            open: Cell::new(0),
            handshakes_waiting: Cell::new(0),
        })
    }
}

/// An address that this worker accepts from.
struct Bound {
    listener: Rc<ListenerState>,
    sockets: Vec<Rc<accept::Socket>>,
}

/// For what there is no room.
#[derive(Clone, Debug)]
enum Want {
    /// The worker's share of all connections is used up.
    Connection,
    /// The worker's share of a listener's connections is used up.
    OfListener(Rc<ListenerState>),
    /// Memory is short.
    Memory,
}

/// A connection at rest or at work, as draining and closing see it.
#[derive(Debug)]
struct Connection {
    timer: Rc<Timer>,
    listener: Rc<ListenerState>,
    /// Waits for a request; nothing of one has come.
    idle: Rc<Cell<bool>>,
}

/// One worker's state; tasks share it by `Rc`.
pub(crate) struct Worker {
    pub(crate) options: Options,
    pub(crate) slab: Arc<Slab>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) scratches: Scratches,
    pub(crate) recalls: Recalls,
    pub(crate) tally: Tally,
    /// Of gRPC services, counted by name.
    pub(crate) methods: Methods,
    /// Bursts between two requests, without a buffer.
    pub(crate) bursts_waiting: Cell<usize>,
    pub(crate) handshakes: Handshakes,
    pub(crate) turns: Turns,
    pub(crate) clock: Clock,
    pub(crate) log: LogWriter,
    pub(crate) draining: Cell<bool>,
    pub(crate) pressure: Cell<Pressure>,
    pub(crate) epoll: bool,
    /// This worker's shares of connections: of all, and per listener.
    share: usize,
    listener_share: usize,
    pub(crate) copies: Copies,
    shown: Arc<Shown>,
    view: RefCell<Rc<View>>,
    clusters: RefCell<Vec<Option<Rc<ClusterState>>>>,
    bound: RefCell<HashMap<SocketAddr, Bound>>,
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

impl Connections {
    fn open(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

impl Worker {
    fn new(start: &Start) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let mut seed = std::hash::RandomState::new().build_hasher();
        seed.write_usize(start.index);
        let timers = Rc::new(Timers::new());
        let share = |max: usize| max.div_ceil(start.options.workers.max(1)).max(1);
        Self {
            options: start.options.clone(),
            pressure: Cell::new(Pressure::None),
            epoll: start.epoll,
            share: share(start.options.connections_max),
            listener_share: share(start.options.listener_connections_max),
            slab: start.slab.clone(),
            clock: Clock::new(timers.look()),
            log: LogWriter::new(start.log.clone(), start.options.access_log),
            buffers: Rc::default(),
            scratches: Scratches::default(),
            recalls: Recalls::default(),
            tally: Tally::default(),
            methods: Methods::default(),
            bursts_waiting: Cell::new(0),
            handshakes: Handshakes::default(),
            turns: Turns::new(start.bell.clone()),
            draining: Cell::new(false),
            copies: Copies::default(),
            shown: start.shown.clone(),
            view: RefCell::new(Rc::new(View::new(Arc::new(Table::empty())))),
            clusters: RefCell::default(),
            bound: RefCell::default(),
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

    /// Writes a line of the access log; one that finds no room is counted.
    pub(crate) fn log_access(&self, settings: &Settings, facts: &Facts<'_>) {
        if !self.log.write(settings, facts) {
            self.slab.worker_add(WorkerCell::AccessLogDropped, 1);
        }
    }

    fn install(&self, table: Arc<Table>) {
        let view = Rc::new(View::new(table));
        let old = self.view.replace(view.clone());
        for Bound { listener, .. } in self.bound.borrow().values() {
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
    fn close_idle(self: &Rc<Self>, of: impl Fn(&Rc<ListenerState>) -> bool + 'static) {
        let worker = self.clone();
        rt::spawn(
            async move {
                monoio::time::sleep(DRAIN_IDLE_GRACE).await;
                for connection in worker.connections.borrow().entries.iter().flatten() {
                    if connection.idle.get() && of(&connection.listener) {
                        connection.timer.stop(Direction::Read);
                    }
                }
            },
            || (),
        );
    }

    /// Lets the connections that `of` names look whether they are to go on: those that can tell
    /// their client do so at once.
    fn tell(&self, of: impl Fn(&Rc<ListenerState>) -> bool) {
        for connection in self.connections.borrow().entries.iter().flatten() {
            if of(&connection.listener) {
                connection.timer.wake();
            }
        }
    }

    fn drain(self: &Rc<Self>, deadline: Duration) {
        if self.draining.replace(true) {
            return;
        }
        self.shown.draining.store(true, Relaxed);
        self.tell(|_| true);
        self.close_idle(|_| true);
        self.stop_after(deadline, |_| true);
    }

    /// Ends what is left by then of the connections that `of` names, whatever they do.
    fn stop_after(
        self: &Rc<Self>,
        deadline: Duration,
        of: impl Fn(&Rc<ListenerState>) -> bool + 'static,
    ) {
        let worker = self.clone();
        rt::spawn(
            async move {
                monoio::time::sleep(deadline).await;
                for connection in worker.connections.borrow().entries.iter().flatten() {
                    if of(&connection.listener) {
                        connection.timer.stop(Direction::Both);
                    }
                }
            },
            || (),
        );
    }

    /// Accepts from one more socket of an address.
    fn listen(
        self: &Rc<Self>,
        address: SocketAddr,
        slot: ListenerSlot,
        socket: Arc<std::net::TcpListener>,
    ) {
        self.assign(address, slot);
        let mut bound = self.bound.borrow_mut();
        let bound = bound
            .entry(address)
            .or_insert_with(|| Bound { listener: ListenerState::new(slot), sockets: Vec::new() });
        let Ok(socket) = accept::Socket::new(socket, bound.listener.clone()).map(Rc::new) else {
            self.slab.worker_add(WorkerCell::AcceptErrors, 1);
            return;
        };
        bound.sockets.push(socket.clone());
        self.shown.sockets.fetch_add(1, Relaxed);
        let worker = self.clone();
        let shown = self.shown.clone();
        rt::spawn(
            async move {
                socket.serve(worker).await;
                shown.sockets.fetch_sub(1, Relaxed);
            },
            || (),
        );
    }

    /// Connections accepted at an address belong to this listener from now on.
    fn assign(self: &Rc<Self>, address: SocketAddr, slot: ListenerSlot) {
        let mut bound = self.bound.borrow_mut();
        let Some(bound) = bound.get_mut(&address).filter(|bound| bound.listener.slot != slot)
        else {
            return;
        };
        let old = std::mem::replace(&mut bound.listener, ListenerState::new(slot));
        for socket in &bound.sockets {
            *socket.listener.borrow_mut() = bound.listener.clone();
        }
        self.retire(old);
    }

    /// Stops accepting at an address, after what is queued there; its connections finish.
    fn close(self: &Rc<Self>, address: SocketAddr, own: bool) {
        let Some(bound) = self.bound.borrow_mut().remove(&address) else { return };
        for socket in bound.sockets {
            socket.stop(own);
        }
        self.retire(bound.listener);
    }

    fn retire(self: &Rc<Self>, listener: Rc<ListenerState>) {
        listener.closed.set(true);
        let view = self.view.borrow();
        if listener.last.borrow().is_none() && view.table.listener(listener.slot).is_some() {
            *listener.last.borrow_mut() = Some(view.clone());
        }
        self.tell(|of| Rc::ptr_eq(of, &listener));
        let closed = listener.clone();
        self.close_idle(move |of| Rc::ptr_eq(of, &closed));
        // Envoy: a removed listener drains for as long as a process does.
        self.stop_after(self.options.drain_time, move |of| Rc::ptr_eq(of, &listener));
    }

    /// What keeps this listener from taking another connection, if anything does.
    fn want_of_room(&self, listener: &Rc<ListenerState>) -> Option<Want> {
        if self.pressure.get() != Pressure::None {
            Some(Want::Memory)
        } else if self.connections.borrow().open() >= self.share {
            Some(Want::Connection)
        } else if listener.open.get() >= self.listener_share {
            Some(Want::OfListener(listener.clone()))
        } else {
            None
        }
    }

    /// Closes connections that rest, those that have for longest first, so that others can be
    /// taken. Those at work are left alone.
    fn make_room(&self, want: Want) {
        let (of, n) = match want {
            Want::Memory => (None, usize::MAX),
            Want::Connection => (None, self.share.div_ceil(ROOM_SHARE)),
            Want::OfListener(of) => (Some(of), self.listener_share.div_ceil(ROOM_SHARE)),
        };
        let now = self.timers.now();
        let connections = self.connections.borrow();
        let mut resting: Vec<(u64, &Timer)> = (connections.entries.iter().flatten())
            .filter(|c| c.idle.get() && of.as_ref().is_none_or(|of| Rc::ptr_eq(of, &c.listener)))
            .filter_map(|c| Some((c.timer.rests_since()?, &*c.timer)))
            .filter(|(since, _)| now.saturating_sub(*since) >= RESTS_AFTER)
            .collect();
        if n < resting.len() {
            resting.select_nth_unstable_by_key(n, |(since, _)| *since);
            resting.truncate(n);
        }
        for (_, timer) in &resting {
            timer.disarm();
            timer.stop(Direction::Read);
        }
        self.slab.worker_add(WorkerCell::IdleClosed, resting.len() as u64);
    }

    /// Lets paused sockets look again whether there is room.
    fn wake_paused(&self) {
        if self.slab.worker(WorkerCell::AcceptPaused) > 0 {
            for socket in self.bound.borrow().values().flat_map(|bound| &bound.sockets) {
                socket.wake();
            }
        }
    }

    fn set_pressure(&self, pressure: Pressure) {
        self.pressure.set(pressure);
        if pressure == Pressure::None {
            self.wake_paused();
        } else {
            self.make_room(Want::Memory);
        }
    }
}

fn connected(worker: &Rc<Worker>, listener: &Rc<ListenerState>, tcp: TcpStream, peer: SocketAddr) {
    let stream = crate::net::stream::Stream::new(tcp, &worker.timers);
    let idle = Rc::new(Cell::new(true));
    let number = worker.register(Connection {
        timer: stream.timer.clone(),
        listener: listener.clone(),
        idle: idle.clone(),
    });
    listener.open.set(listener.open.get() + 1);
    let slab = &worker.slab;
    slab.worker_add(WorkerCell::ConnectionsTotal, 1);
    slab.worker_add(WorkerCell::ConnectionsActive, 1);
    slab.listener_add(listener.slot, ListenerCell::ConnectionsTotal, 1);
    slab.listener_add(listener.slot, ListenerCell::ConnectionsActive, 1);
    let open = Open { worker: worker.clone(), listener: listener.clone(), number };
    let panicked = worker.clone();
    rt::spawn_parts(connection::serve(Client::new(stream, peer, idle, open)), move || {
        panicked.slab.worker_add(WorkerCell::Panics, 1);
    });
}

/// Counts a connection as open until it is dropped, whichever way its task ends.
pub(crate) struct Open {
    pub(crate) worker: Rc<Worker>,
    pub(crate) listener: Rc<ListenerState>,
    number: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.unregister(self.number);
        self.listener.open.set(self.listener.open.get() - 1);
        let slab = &self.worker.slab;
        slab.worker_sub(WorkerCell::ConnectionsActive, 1);
        slab.listener_sub(self.listener.slot, ListenerCell::ConnectionsActive, 1);
        self.worker.wake_paused();
    }
}

/// A worker's whole life. Ends only with the process.
pub(crate) async fn run(start: Start) {
    let worker = Rc::new(Worker::new(&start));
    let timers = worker.timers.clone();
    rt::spawn(async move { timers.drive().await }, || ());
    let counting = worker.clone();
    rt::spawn(async move { counting.tally.serve(&counting.slab).await }, || ());
    let housekeeper = worker.clone();
    rt::spawn(async move { housekeeper.keep_house().await }, || ());
    inbox::serve(&worker, start).await;
}

impl Worker {
    /// Ten times a second: hands over log lines of quiet times, takes buffers back from
    /// receives that wait for nothing, closes idle upstreams that ended.
    async fn keep_house(&self) {
        let mut turn = 0u64;
        loop {
            monoio::time::sleep(Duration::from_millis(100)).await;
            self.log.flush();
            self.recalls.turn();
            turn += 1;
            if turn.is_multiple_of(10) {
                let now = self.timers.now();
                for cluster in self.clusters.borrow().iter().flatten() {
                    cluster.reap(now);
                }
                // Some may have come to rest.
                self.wake_paused();
                self.buffers.trim();
                (self.options.give_back)();
                if self.pressure.get() != Pressure::None {
                    self.make_room(Want::Memory);
                    self.buffers.clear();
                }
            }
        }
    }
}
