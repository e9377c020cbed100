// SPDX-License-Identifier: Apache-2.0
//! The only messages between the sync side and the workers, and what sync may ask of the fleet
//! of workers. The proxy crate implements [`Fleet`]; the sync crate uses it; neither knows the
//! other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::feed::Feed;
use crate::name::{Generation, ListenerSlot};
use crate::observe::metric::Slab;
use crate::table::Table;

/// One worker's inbox. Tables and feeds travel in one order.
#[derive(Clone, Debug)]
pub enum Command {
    /// Serve this table from the next request on.
    Table(Arc<Table>),
    /// Use these endpoints for a cluster from the next request on.
    Feed(Arc<Feed>),
    /// Close idle connections, answer `connection: close`, stop accepting after
    /// [`Fleet::close_listeners`]; connections still open when the deadline passes are cut.
    Drain { deadline: Duration },
    /// How much to do from now on.
    Overload(Pressure),
}

/// How short the process is of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not at all.
    #[default]
    None,
    /// Take no new connections, close idle ones.
    Shed,
    /// Refuse requests too.
    Refuse,
}

/// What a worker answers: one per [`Command::Table`]. Old tables need no answer: the publisher
/// keeps an `Arc` of each until nobody else does, so that tables are freed on its side.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub worker: usize,
    pub generation: Generation,
}

/// What one worker is doing, for `GET /api/v1/workers`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct WorkerStatus {
    pub worker: usize,
    /// CPU that the worker is pinned to, if it is.
    pub cpu: Option<usize>,
    pub generation: Generation,
    /// `io_uring` or `epoll`.
    pub io_backend: &'static str,
    /// Why that one.
    pub io_reason: String,
    pub connections: u64,
    pub draining: bool,
}

/// A socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub listener: ListenerSlot,
    pub address: SocketAddr,
}

/// The workers, as sync sees them.
pub trait Fleet: Send + Sync {
    /// How many workers there are.
    fn workers(&self) -> usize;

    /// Makes the workers listen on exactly these addresses: binds what is new on every worker,
    /// leaves alone what stays (its connections too), closes what is gone, once what the kernel
    /// queued there is accepted, and drains its connections. An address that changes its listener
    /// stays bound. Gives the outcome per entry, in order; an address that somebody else holds is
    /// an error.
    fn listen(&self, binds: &[Bind]) -> Vec<io::Result<()>>;

    /// Sends one command to one worker and wakes it. False when its inbox is full or it is gone.
    fn send(&self, worker: usize, command: Command) -> bool;

    /// Waits at most this long for the next acknowledgement of any worker.
    fn ack(&self, timeout: Duration) -> Option<Ack>;

    /// Each worker's counters, readable at any time.
    fn slab(&self, worker: usize) -> &Slab;

    fn status(&self) -> Vec<WorkerStatus>;

    /// Stops accepting everywhere, once what the kernel queued is accepted; see
    /// [`Command::Drain`].
    fn close_listeners(&self);

    /// Every worker has heard of the drain, nothing is listened on and no connection is left.
    fn is_drained(&self) -> bool;

    /// Connections open now, over all workers.
    fn connections(&self) -> u64;
}
