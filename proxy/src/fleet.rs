// SPDX-License-Identifier: Apache-2.0
//! The workers as the rest of the process sees them: started, sent commands, read, drained.
#![allow(clippy::disallowed_types, reason = "the control side may lock; no worker comes here")]

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ringway_core::limits::COMMANDS_MAX;
use ringway_core::link::{Ack, Bind, Command, Fleet, WorkerStatus};
use ringway_core::name::{Generation, ListenerSlot};
use ringway_core::observe::metric::{Slab, WorkerCell};

use crate::net::{listen, socket};
use crate::observe::log::{self, LogForm, LogQueue};
use crate::rt::{self, Chosen, IoBackend, Runtime};
use crate::worker;

/// How the workers run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many; at least one.
    pub workers: usize,
    pub io_backend: IoBackend,
    /// Pin each worker to a CPU of its own, as far as there are enough.
    pub pin: bool,
    pub access_log: LogForm,
    /// Say in the body of a 404 that no route took the request, and how to find out why.
    pub helpful_404: bool,
    /// Clients' connections at a time, over all workers: each takes its share.
    pub connections_max: usize,
    /// The same for each listener.
    pub listener_connections_max: usize,
    /// How long connections of a listener that is gone may still take.
    pub drain_time: Duration,
    /// Listen beside whoever listens on the same address.
    pub share_ports: bool,
    /// Makes the allocator give free memory of the calling thread back to the kernel, as far as
    /// that costs little: each worker calls it once a second.
    pub give_back: fn(),
}

/// What one worker receives beside commands of the sync side.
#[derive(Debug)]
pub(crate) enum Message {
    Command(Command),
    /// Accept from this socket too.
    Listen {
        address: SocketAddr,
        slot: ListenerSlot,
        socket: Arc<TcpListener>,
    },
    /// What is accepted at this address belongs to this listener from now on.
    Assign {
        address: SocketAddr,
        slot: ListenerSlot,
    },
    /// Stop accepting at this address and let its connections finish.
    Close {
        address: SocketAddr,
        /// No other process accepts from its sockets.
        own: bool,
    },
}

/// What a worker shows to other threads; it writes, they read.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) generation: AtomicU64,
    pub(crate) draining: AtomicBool,
    /// Listening sockets that it has.
    pub(crate) sockets: AtomicUsize,
    /// Allocations of the worker's thread when it last took a message.
    #[cfg(test)]
    pub(crate) allocations: AtomicU64,
}

struct Handle {
    messages: Sender<Message>,
    wake: Arc<UnixStream>,
    slab: Arc<Slab>,
    shown: Arc<Shown>,
    cpu: Option<usize>,
    chosen: Chosen,
    log: Arc<LogQueue>,
    _thread: JoinHandle<()>,
}

impl Drop for Handle {
    /// The worker has this end of its inbox, too: it would wait there for ever.
    fn drop(&mut self) {
        let _ = self.wake.shutdown(Shutdown::Both);
    }
}

/// The addresses of this process.
#[derive(Default)]
struct Bound {
    listening: HashMap<SocketAddr, Listening>,
    /// When something was closed for the last time: workers take a moment over it.
    closed: Option<Instant>,
    /// Sockets of the process before this one, until they are used or let go.
    inherited: HashMap<SocketAddr, Vec<TcpListener>>,
    /// Another process has, or will have, our sockets: closing must not shut them down.
    lent: bool,
    /// Nothing will be listened on any more.
    ended: bool,
}

/// One address, and the sockets of its SO_REUSEPORT group.
struct Listening {
    slot: ListenerSlot,
    sockets: Vec<Arc<TcpListener>>,
}

/// An address that the workers were told to close is free after this time at most.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// How often to look whether it is.
const CLOSE_POLL: Duration = Duration::from_millis(2);

/// The workers of this process.
pub struct Workers {
    handles: Vec<Handle>,
    acks: Receiver<Ack>,
    /// What is listened on now. Only the control side takes this lock.
    bound: Mutex<Bound>,
    share_ports: bool,
    _log: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts the workers; returns when all of them run.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be made, with the reason.
    pub fn start(options: &Options) -> io::Result<Self> {
        let cpus = if options.pin { socket::allowed_cpus() } else { Vec::new() };
        let (ack_sender, acks) = unbounded();
        let mut handles = Vec::new();
        let mut queues = Vec::new();
        for index in 0..options.workers.max(1) {
            // Pinning two workers to one CPU would be worse than not pinning.
            let cpu = (cpus.len() >= options.workers).then(|| cpus[index]);
            let (messages, inbox) = bounded(COMMANDS_MAX);
            let (wake, woken) = UnixStream::pair()?;
            wake.set_nonblocking(true)?;
            woken.set_nonblocking(true)?;
            let wake = Arc::new(wake);
            let slab = Arc::new(Slab::default());
            let shown = Arc::new(Shown::default());
            let queue = Arc::new(LogQueue::default());
            queues.push(queue.clone());
            let log = queue.clone();
            let mut start = worker::Start {
                index,
                options: options.clone(),
                inbox,
                woken,
                bell: wake.clone(),
                acks: ack_sender.clone(),
                slab: slab.clone(),
                shown: shown.clone(),
                log: queue,
                epoll: false,
            };
            let (ready, started) = bounded(1);
            let backend = options.io_backend;
            let thread =
                std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                    let cpu = cpu.filter(|&cpu| socket::pin_to(cpu));
                    match Runtime::build(backend) {
                        Ok((runtime, chosen)) => {
                            start.epoll = chosen.name == rt::EPOLL;
                            let _ = ready.send(Ok((cpu, chosen)));
                            runtime.block_on(worker::run(start));
                        }
                        Err(error) => {
                            let _ = ready.send(Err(error));
                        }
                    }
                })?;
            let (cpu, chosen) = started
                .recv()
                .map_err(|_| io::Error::other("a worker ended before it started"))??;
            handles.push(Handle { messages, wake, slab, shown, cpu, chosen, log, _thread: thread });
        }
        let log = (options.access_log != LogForm::Off).then(|| log::spawn(queues)).transpose()?;
        let share_ports = options.share_ports;
        Ok(Self { handles, acks, bound: Mutex::default(), share_ports, _log: log })
    }

    /// Which I/O driver the workers run on, and why.
    pub fn io_backend(&self) -> &Chosen {
        &self.handles[0].chosen
    }

    /// Waits, at most this long, until the access log of everything answered so far is printed:
    /// the last thing before the process ends.
    pub fn settle_log(&self, patience: Duration) {
        log::settle(self.handles.iter().map(|h| &*h.log), patience);
    }

    /// Allocations of a worker's thread so far.
    #[cfg(test)]
    pub(crate) fn allocations(&self, worker: usize) -> u64 {
        let handle = &self.handles[worker];
        handle.shown.allocations.store(0, Relaxed);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.post(worker, Message::Close { address: nowhere, own: true });
        loop {
            match handle.shown.allocations.load(Relaxed) {
                0 => std::thread::yield_now(),
                n => return n,
            }
        }
    }

    fn post(&self, worker: usize, message: Message) -> bool {
        let Some(handle) = self.handles.get(worker) else { return false };
        if handle.messages.try_send(message).is_err() {
            return false;
        }
        // A full pipe is a wake-up already.
        let _ = (&*handle.wake).write(&[1]);
        true
    }

    /// Posts to every worker, whether or not another takes messages.
    fn post_all(&self, message: impl Fn() -> Message) {
        for worker in 0..self.handles.len() {
            self.post(worker, message());
        }
    }

    fn bound(&self) -> MutexGuard<'_, Bound> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, bound: &mut Bound, gone: impl Fn(&SocketAddr) -> bool) {
        let addresses: Vec<_> = bound.listening.keys().copied().filter(gone).collect();
        for address in addresses {
            bound.listening.remove(&address);
            bound.closed = Some(Instant::now());
            let own = !bound.lent;
            self.post_all(|| Message::Close { address, own });
        }
    }

    /// Sockets to use for their addresses before new ones are bound.
    pub fn inherit(&self, sockets: Vec<TcpListener>) {
        let mut bound = self.bound();
        for socket in sockets {
            if let Ok(address) = socket.local_addr() {
                bound.inherited.entry(address).or_default().push(socket);
            }
        }
    }

    /// Lets go of inherited sockets that were not used; gives their addresses.
    pub fn disinherit(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.bound().inherited).into_keys().collect()
    }

    /// The listening sockets, for another process to accept from too; `None` when they are closed
    /// for good.
    pub fn lend(&self) -> Option<Vec<Arc<TcpListener>>> {
        let mut bound = self.bound();
        if bound.ended {
            return None;
        }
        bound.lent = true;
        Some(bound.listening.values().flat_map(|l| &l.sockets).cloned().collect())
    }

    /// The other process is gone.
    pub fn take_back(&self) {
        self.bound().lent = false;
    }

    /// Listens on an address that nobody of us has.
    fn open(&self, bound: &mut Bound, bind: &Bind) -> io::Result<()> {
        let n = self.handles.len();
        let inherited = bound.inherited.remove(&bind.address).unwrap_or_default();
        // Of 0.0.0.0:80 and 127.0.0.1:80 the kernel lets the more specific one have its
        // connections; that nobody else has the port was found out for the first of them.
        let beside_ours = bound.listening.keys().any(|ours| overlap(*ours, bind.address));
        let sockets = loop {
            let more = if inherited.is_empty() && !self.share_ports && !beside_ours {
                listen::bind(bind.address, n)
            } else {
                // Each socket's queue is served, whichever number of workers there is.
                listen::join(bind.address, n.saturating_sub(inherited.len()))
            };
            match more {
                // We have just let go of the address, or of one that overlaps.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && bound.closed.is_some_and(|at| at.elapsed() < CLOSE_PATIENCE) =>
                {
                    std::thread::sleep(CLOSE_POLL);
                }
                more => break more?,
            }
        };
        let sockets: Vec<_> = inherited.into_iter().chain(sockets).map(Arc::new).collect();
        let Bind { listener: slot, address } = *bind;
        for (n, socket) in sockets.iter().enumerate() {
            let socket = socket.clone();
            let worker = n % self.handles.len();
            if !self.post(worker, Message::Listen { address, slot, socket }) {
                return Err(io::Error::other("a worker does not take commands"));
            }
        }
        bound.listening.insert(address, Listening { slot, sockets });
        Ok(())
    }
}

/// Whether one of two different addresses takes in the other.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip().is_unspecified() || b.ip().is_unspecified())
}

impl Fleet for Workers {
    fn workers(&self) -> usize {
        self.handles.len()
    }

    fn listen(&self, binds: &[Bind]) -> Vec<io::Result<()>> {
        let mut bound = self.bound();
        self.close(&mut bound, |address| !binds.iter().any(|bind| bind.address == *address));
        let mut seen = HashSet::new();
        let one = |bind: &Bind| {
            let Bind { listener: slot, address } = *bind;
            if !seen.insert(address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let Some(listening) = bound.listening.get_mut(&address) else {
                return self.open(&mut bound, bind);
            };
            if listening.slot != slot {
                listening.slot = slot;
                self.post_all(|| Message::Assign { address, slot });
            }
            Ok(())
        };
        binds.iter().map(one).collect()
    }

    fn send(&self, worker: usize, command: Command) -> bool {
        self.post(worker, Message::Command(command))
    }

    fn ack(&self, timeout: Duration) -> Option<Ack> {
        self.acks.recv_timeout(timeout).ok()
    }

    fn slab(&self, worker: usize) -> &Slab {
        &self.handles[worker].slab
    }

    fn status(&self) -> Vec<WorkerStatus> {
        let status = |(worker, handle): (usize, &Handle)| WorkerStatus {
            worker,
            cpu: handle.cpu,
            generation: Generation(handle.shown.generation.load(Relaxed)),
            io_backend: handle.chosen.name,
            io_reason: handle.chosen.reason.clone(),
            connections: handle.slab.worker(WorkerCell::ConnectionsActive),
            draining: handle.shown.draining.load(Relaxed),
        };
        self.handles.iter().enumerate().map(status).collect()
    }

    fn close_listeners(&self) {
        let mut bound = self.bound();
        bound.ended = true;
        self.close(&mut bound, |_| true);
    }

    fn is_drained(&self) -> bool {
        self.handles.iter().all(|handle| {
            handle.shown.draining.load(Relaxed)
                && handle.shown.sockets.load(Relaxed) == 0
                && handle.slab.worker(WorkerCell::ConnectionsActive) == 0
        })
    }

    fn connections(&self) -> u64 {
        self.handles.iter().map(|h| h.slab.worker(WorkerCell::ConnectionsActive)).sum()
    }
}
