// SPDX-License-Identifier: Apache-2.0
//! Accepting connections: waits until a listening socket is readable, then takes what is queued.
//!
//! Waiting takes nothing, so that it may be given up at any time: a socket that another process
//! also accepts from is let go without a shutdown, which would end it there too. Before a socket is
//! closed everything that the kernel queued is taken and served. While there is no room the queue
//! is left to the kernel.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use monoio::net::TcpStream;
use monoio::time::sleep;
use ringway_core::limits::{
    ACCEPT_BACKOFF, ACCEPT_BACKOFF_MAX, ACCEPT_BATCH_MAX, ACCEPT_SETTLE_TIME,
    HANDSHAKES_WAITING_MAX, LISTEN_BACKLOG_MAX,
};
use ringway_core::observe::metric::WorkerCell;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{SockFilter, SockRef};

use super::{ListenerState, Worker, connected};
use crate::net::socket::{Direction, shutdown};

/// What a queue holds at most: Linux takes one more than the backlog. As many again may complete
/// while they are taken.
const QUEUED_MAX: usize = 2 * (LISTEN_BACKLOG_MAX as usize + 1);

/// One listening socket of a worker. A worker may have several for one address.
pub(super) struct Socket {
    /// Only ever waited on.
    readiness: monoio::net::TcpListener,
    /// What is accepted from; shared with the control side, maybe with other processes.
    socket: Arc<TcpListener>,
    /// Whose connections these are from now on.
    pub(super) listener: RefCell<Rc<ListenerState>>,
    stopped: Cell<bool>,
    /// Nobody else accepts from it: once stopped, shut it down as well.
    own: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

enum Taken {
    /// Nothing more is queued.
    Empty,
    /// There may be more, for a later turn.
    More,
    /// A limit is reached.
    NoRoom,
    /// Out of descriptors or memory.
    Shortage,
}

impl Socket {
    pub(super) fn new(socket: Arc<TcpListener>, listener: Rc<ListenerState>) -> io::Result<Self> {
        // For all that is accepted from it, which inherits it: heads and bodies leave in as few
        // writes as possible already, and delaying them helps nobody.
        let _ = SockRef::from(&*socket).set_tcp_nodelay(true);
        Ok(Self {
            readiness: monoio::net::TcpListener::from_std(socket.try_clone()?)?,
            socket,
            listener: RefCell::new(listener),
            stopped: Cell::new(false),
            own: Cell::new(true),
            waker: Cell::new(None),
        })
    }

    /// Ends accepting once what is queued is taken. `own`: no other process accepts from it.
    pub(super) fn stop(&self, own: bool) {
        self.own.set(own);
        self.stopped.set(true);
        self.wake();
    }

    /// Looks again whether there is room.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Accepts until stopped.
    pub(super) async fn serve(self: Rc<Self>, worker: Rc<Worker>) {
        let mut backoff = ACCEPT_BACKOFF;
        while self.room(&worker).await && self.readable().await {
            match self.take(&worker) {
                Taken::Empty | Taken::NoRoom => backoff = ACCEPT_BACKOFF,
                Taken::More if worker.epoll => self.unless_stopped(worker.turns.next()).await,
                // A ring says that a socket is readable after it was asked, in the next turn.
                Taken::More => {}
                Taken::Shortage => {
                    worker.slab.worker_add(WorkerCell::AcceptErrors, 1);
                    self.unless_stopped(sleep(backoff)).await;
                    backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
                }
            }
        }
        self.finish(&worker).await;
    }

    /// Takes what the kernel has completed, or is completing, for us: closing would reset it.
    async fn finish(&self, worker: &Rc<Worker>) {
        let (own, shares) = (self.own.get(), worker.options.share_ports);
        let begun = Instant::now();
        // What is beside ours on a shared port gets new connections sooner if ours is gone sooner.
        let mut settles = own && !shares && end_handshakes(&self.socket).is_ok();
        let mut taken = 0;
        while taken < QUEUED_MAX {
            match self.accept(worker) {
                Ok(Some((stream, peer))) => {
                    connected(worker, &self.listener.borrow(), stream, peer);
                    taken += 1;
                    if taken % ACCEPT_BATCH_MAX == 0 {
                        worker.turns.next().await;
                    }
                }
                Ok(None) if settles => {
                    settles = false;
                    sleep(ACCEPT_SETTLE_TIME).await;
                }
                Ok(None) => break,
                Err(error) if is_peers(&error) => {}
                // Connections that end leave descriptors to others.
                Err(_) if own && begun.elapsed() < worker.options.drain_time => {
                    worker.slab.worker_add(WorkerCell::AcceptErrors, 1);
                    sleep(ACCEPT_BACKOFF).await;
                }
                Err(_) => break,
            }
        }
        if own {
            // The ring closes descriptors in its own time; nothing may be queued until then.
            shutdown(self.socket.as_raw_fd(), Direction::Both);
        }
    }

    /// Waits until another connection may be taken; false when stopped.
    async fn room(&self, worker: &Rc<Worker>) -> bool {
        let mut paused = false;
        let goes_on = poll_fn(|cx| {
            if self.stopped.get() {
                return Poll::Ready(false);
            }
            let Some(want) = worker.want_of_room(&self.listener.borrow()) else {
                return Poll::Ready(true);
            };
            if !paused {
                paused = true;
                worker.slab.worker_add(WorkerCell::AcceptPauses, 1);
                worker.slab.worker_add(WorkerCell::AcceptPaused, 1);
            }
            self.waker.set(Some(cx.waker().clone()));
            worker.make_room(want);
            Poll::Pending
        })
        .await;
        if paused {
            worker.slab.worker_sub(WorkerCell::AcceptPaused, 1);
        }
        goes_on
    }

    /// Waits until something is queued; false when stopped.
    async fn readable(&self) -> bool {
        let mut readable = pin!(self.readiness.readable(false));
        poll_fn(|cx| {
            if self.stopped.get() {
                return Poll::Ready(false);
            }
            if readable.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    async fn unless_stopped(&self, wait: impl Future<Output = ()>) {
        let mut wait = pin!(wait);
        poll_fn(|cx| {
            if self.stopped.get() {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            wait.as_mut().poll(cx)
        })
        .await;
    }

    /// Takes what is queued, within bounds.
    fn take(&self, worker: &Rc<Worker>) -> Taken {
        if self.listener.borrow().handshakes_waiting.get() >= HANDSHAKES_WAITING_MAX {
            return Taken::More;
        }
        for _ in 0..ACCEPT_BATCH_MAX {
            let listener = self.listener.borrow();
            if worker.want_of_room(&listener).is_some() {
                return Taken::NoRoom;
            }
            match self.accept(worker) {
                Ok(Some((stream, peer))) => connected(worker, &listener, stream, peer),
                Ok(None) => return Taken::Empty,
                Err(error) if is_peers(&error) => {}
                Err(_) => return Taken::Shortage,
            }
        }
        Taken::More
    }

    fn accept(&self, worker: &Worker) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let mut flags = SocketFlags::CLOEXEC;
        if worker.epoll {
            flags |= SocketFlags::NONBLOCK;
        }
        match acceptfrom_with(&*self.socket, flags) {
            Ok((fd, peer)) => Ok(Some((stream(fd)?, peer_address(peer)?))),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// From now on the kernel begins no handshake on this socket, and completes those that it began: a
/// SYN is dropped, and the client's next one finds the port closed. A filter sees a segment from its
/// TCP header on (RFC 9293 §3.1: the flags are byte 13, SYN is 2).
fn end_handshakes(socket: &TcpListener) -> io::Result<()> {
    let [load_byte, jump_if_set, ret] = [0x30, 0x45, 0x06];
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(load_byte, 0, 0, 13),
        SockFilter::new(jump_if_set, 0, 1, 2),
        SockFilter::new(ret, 0, 0, 0),
        SockFilter::new(ret, 0, 0, u32::MAX),
    ])
}

fn stream(fd: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(fd.into())
}

fn peer_address(peer: Option<rustix::net::SocketAddrAny>) -> io::Result<SocketAddr> {
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
    SocketAddr::try_from(peer).map_err(io::Error::from)
}

/// Errors that concern the one connection only (accept(2): "already-pending network errors").
fn is_peers(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else {
        return error.kind() == io::ErrorKind::ConnectionAborted;
    };
    [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
    ]
    .contains(&errno)
}
