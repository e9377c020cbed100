// SPDX-License-Identifier: Apache-2.0
//! A thin completion ring: multishot accept and receive into a few hot buffers, sends from memory
//! that stays put. It knows sockets and buffers, nothing of HTTP. It is the cheapest way to be the
//! far side of a proxy, so that the proxy and not the bench is what saturates.
//! Invariant: a buffer handed out in a [`Completion`] is the caller's until [`Ring::give_back`].

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

const ENTRIES: u32 = 1024;
/// Few, so that they stay in the cache: with four times as many, large bodies cost a tenth more.
const BUFFERS: u16 = 64;
const BUFFER_BYTES: usize = 16 * 1024;
const GROUP: u16 = 1;

/// What an operation was; travels with it through the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Accept,
    Receive,
    Send,
}

/// One finished step of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) op: Op,
    /// The caller's own number, as given when the operation was started.
    pub(crate) slot: u32,
    /// Bytes moved, the accepted descriptor, or a negated errno.
    pub(crate) result: i32,
    /// More completions of this operation follow without starting it again.
    pub(crate) more: bool,
    /// The received bytes' buffer, `result` bytes of it filled.
    pub(crate) buffer: Option<u16>,
}

/// A ring for one thread.
pub(crate) struct Ring {
    io: IoUring,
    pool: Pool,
}

impl Ring {
    /// Opens a ring with the cheapest mode that the kernel offers.
    pub(crate) fn open() -> Result<Self> {
        let io = IoUring::builder()
            .setup_cqsize(ENTRIES * 8)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)
            .or_else(|_| IoUring::builder().setup_cqsize(ENTRIES * 8).build(ENTRIES))
            .context(
                "opening io_uring: the bench needs Linux 6.0 or later and a sandbox that allows it",
            )?;
        let pool = Pool::new();
        // SAFETY: the pool's ring memory is page-aligned, as long as BUFFERS entries, and freed only
        // after `io`: fields drop in order of declaration, and dropping the ring ends its use.
        unsafe { io.submitter().register_buf_ring(pool.ring as u64, BUFFERS, GROUP) }
            .context("registering receive buffers")?;
        let mut ring = Self { io, pool };
        (0..BUFFERS).for_each(|id| ring.pool.give_back(id));
        Ok(ring)
    }

    /// Accepts until the listener closes; every completion carries a new descriptor.
    pub(crate) fn accept(&mut self, listener: RawFd, slot: u32) {
        self.push(opcode::AcceptMulti::new(Fd(listener)).build(), Op::Accept, slot);
    }

    /// Receives until the end of the stream, an error, or a moment without free buffers.
    pub(crate) fn receive(&mut self, socket: RawFd, slot: u32) {
        self.push(opcode::RecvMulti::new(Fd(socket), GROUP).build(), Op::Receive, slot);
    }

    /// Sends all of `bytes`.
    pub(crate) fn send(&mut self, socket: RawFd, slot: u32, bytes: &'static [u8]) {
        self.send_raw(socket, slot, bytes.as_ptr(), bytes.len());
    }

    /// Sends the first `len` bytes of a buffer, which the caller gives back only afterwards.
    pub(crate) fn send_buffer(&mut self, socket: RawFd, slot: u32, buffer: u16, len: usize) {
        self.send_raw(socket, slot, self.pool.data(buffer), len.min(BUFFER_BYTES));
    }

    /// Sends `bytes`, which stay in place until the operation completes.
    ///
    /// # Safety
    /// The memory must be neither freed nor written until then.
    pub(crate) unsafe fn send_owned(&mut self, socket: RawFd, slot: u32, bytes: &[u8]) {
        self.send_raw(socket, slot, bytes.as_ptr(), bytes.len());
    }

    fn send_raw(&mut self, socket: RawFd, slot: u32, start: *const u8, len: usize) {
        let len = u32::try_from(len).expect("messages are far below 4 GiB");
        let send = opcode::Send::new(Fd(socket), start, len)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(send, Op::Send, slot);
    }

    /// The first `len` received bytes of a buffer.
    pub(crate) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        // SAFETY: the kernel filled `len` bytes and does not touch the buffer until it is given back.
        unsafe { std::slice::from_raw_parts(self.pool.data(buffer), len.min(BUFFER_BYTES)) }
    }

    /// Lets the kernel fill the buffer again.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        self.pool.give_back(buffer);
    }

    /// Submits what was started, waits at most `timeout` for the first completion and moves all that
    /// are there into `done`.
    pub(crate) fn turn(&mut self, timeout: Duration, done: &mut Vec<Completion>) -> Result<()> {
        let timeout = Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
        let waited = self.io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout));
        match waited.as_ref().map_err(io::Error::raw_os_error) {
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            Err(_) => drop(waited.context("waiting on io_uring")?),
        }
        done.extend(self.io.completion().map(|entry| Completion {
            op: match entry.user_data() >> 32 {
                0 => Op::Accept,
                1 => Op::Receive,
                _ => Op::Send,
            },
            slot: entry.user_data() as u32,
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()),
        }));
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry, op: Op, slot: u32) {
        let entry = entry.user_data((op as u64) << 32 | u64::from(slot));
        // SAFETY: descriptors stay open and memory in place until the operation completes: sends are
        // from `'static` bytes, a buffer not given back or a connection's own, and connections are closed only when
        // nothing of theirs is in flight.
        while unsafe { self.io.submission().push(&entry) }.is_err() {
            self.io.submit().expect("a full submission queue can be submitted");
        }
    }
}

/// The provided buffers and the ring through which the kernel takes them.
struct Pool {
    ring: *mut BufRingEntry,
    data: *mut u8,
    tail: u16,
}

impl Pool {
    fn layouts() -> (Layout, Layout) {
        let ring = Layout::from_size_align(usize::from(BUFFERS) * size_of::<BufRingEntry>(), 4096);
        let data = Layout::from_size_align(usize::from(BUFFERS) * BUFFER_BYTES, 4096);
        (ring.expect("a power of two"), data.expect("a power of two"))
    }

    fn new() -> Self {
        let (ring, data) = Self::layouts();
        // SAFETY: both layouts have a size above zero.
        let (ring, data) = unsafe { (alloc_zeroed(ring), alloc_zeroed(data)) };
        assert!(!ring.is_null());
        assert!(!data.is_null());
        Self { ring: ring.cast(), data, tail: 0 }
    }

    fn data(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < BUFFERS);
        // SAFETY: `buffer` is in range, so the offset is inside the allocation.
        unsafe { self.data.add(usize::from(buffer) * BUFFER_BYTES) }
    }

    fn give_back(&mut self, buffer: u16) {
        let address = self.data(buffer) as u64;
        // SAFETY: the index is masked into the ring; entries between the kernel's head and our tail
        // are the kernel's, and the one at our tail is ours because no buffer is given back twice.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(address);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the ring's tail is a 16-bit word that only this side writes; the release store
        // publishes the entry before it.
        unsafe { &*BufRingEntry::tail(self.ring).cast::<AtomicU16>() }
            .store(self.tail, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let (ring, data) = Self::layouts();
        // SAFETY: allocated in `new` with these layouts.
        unsafe {
            dealloc(self.ring.cast(), ring);
            dealloc(self.data, data);
        }
    }
}
