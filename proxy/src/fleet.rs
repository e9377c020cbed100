// SPDX-License-Identifier: Apache-2.0
//! The workers as the rest of the process sees them: started, sent commands, read, drained.
#![allow(clippy::disallowed_types, reason = "the control side may lock; no worker comes here")]

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ringway_core::limits::COMMANDS_MAX;
use ringway_core::link::{Ack, Bind, Command, Fleet, WorkerStatus};
use ringway_core::name::{Generation, ListenerSlot};
use ringway_core::observe::metric::{Slab, WorkerCell};

use crate::net::{listen, socket};
use crate::observe::log::{self, LogForm, LogQueue};
use crate::rt::{Chosen, IoBackend, Runtime};
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
}

/// What one worker receives beside commands of the sync side.
#[derive(Debug)]
pub(crate) enum Message {
    Command(Command),
    /// Accept from this socket.
    Listen {
        slot: ListenerSlot,
        socket: TcpListener,
    },
    /// Shut this listener down and let its connections finish.
    Close {
        slot: ListenerSlot,
    },
}

/// What a worker shows to other threads; it writes, they read.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) generation: AtomicU64,
    pub(crate) draining: AtomicBool,
    /// Allocations of the worker's thread when it last took a message.
    #[cfg(test)]
    pub(crate) allocations: AtomicU64,
}

struct Handle {
    messages: Sender<Message>,
    wake: UnixStream,
    slab: Arc<Slab>,
    shown: Arc<Shown>,
    cpu: Option<usize>,
    chosen: Chosen,
    log: Arc<LogQueue>,
    _thread: JoinHandle<()>,
}

/// The workers of this process.
pub struct Workers {
    handles: Vec<Handle>,
    acks: Receiver<Ack>,
    /// Listeners bound now. Only the control side takes this lock.
    bound: Mutex<HashMap<ListenerSlot, SocketAddr>>,
    _log: JoinHandle<()>,
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
            let slab = Arc::new(Slab::default());
            let shown = Arc::new(Shown::default());
            let queue = Arc::new(LogQueue::default());
            queues.push(queue.clone());
            let log = queue.clone();
            let start = worker::Start {
                index,
                options: options.clone(),
                inbox,
                woken,
                acks: ack_sender.clone(),
                slab: slab.clone(),
                shown: shown.clone(),
                log: queue,
            };
            let (ready, started) = bounded(1);
            let backend = options.io_backend;
            let thread =
                std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                    let cpu = cpu.filter(|&cpu| socket::pin_to(cpu));
                    match Runtime::build(backend) {
                        Ok((runtime, chosen)) => {
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
        let log = log::spawn(queues)?;
        Ok(Self { handles, acks, bound: Mutex::default(), _log: log })
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
        self.post(worker, Message::Close { slot: ListenerSlot(u32::MAX) });
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
        let _ = (&handle.wake).write(&[1]);
        true
    }

    fn bound(&self) -> MutexGuard<'_, HashMap<ListenerSlot, SocketAddr>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet for Workers {
    fn workers(&self) -> usize {
        self.handles.len()
    }

    fn listen(&self, binds: &[Bind]) -> Vec<io::Result<()>> {
        let mut bound = self.bound();
        let gone: Vec<_> = bound
            .iter()
            .filter(|(slot, address)| {
                !binds.iter().any(|b| b.listener == **slot && b.address == **address)
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in gone {
            bound.remove(&slot);
            for worker in 0..self.handles.len() {
                self.post(worker, Message::Close { slot });
            }
        }
        binds
            .iter()
            .map(|bind| {
                if bound.contains_key(&bind.listener) {
                    return Ok(());
                }
                let sockets = listen::bind(bind.address, self.handles.len())?;
                for (worker, socket) in sockets.into_iter().enumerate() {
                    if !self.post(worker, Message::Listen { slot: bind.listener, socket }) {
                        return Err(io::Error::other("a worker does not take commands"));
                    }
                }
                bound.insert(bind.listener, bind.address);
                Ok(())
            })
            .collect()
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
        let slots: Vec<_> = self.bound().drain().map(|(slot, _)| slot).collect();
        for slot in slots {
            for worker in 0..self.handles.len() {
                self.post(worker, Message::Close { slot });
            }
        }
    }

    fn connections(&self) -> u64 {
        self.handles.iter().map(|h| h.slab.worker(WorkerCell::ConnectionsActive)).sum()
    }
}
