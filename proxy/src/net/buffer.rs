// SPDX-License-Identifier: Apache-2.0
//! A worker's receive and send buffers: taken when bytes come, returned when a connection waits.
//! Last in, first out, so that the bytes in use stay in cache; those that a second of work had no
//! use for are freed.

use std::cell::RefCell;

use ringway_core::limits::{
    BUFFER_BYTES, BUFFER_POOL_MAX, BUFFER_POOL_MIN, LARGE_BUFFER_BYTES, LARGE_BUFFER_POOL_MAX,
    SEALED_EXTRA_BYTES,
};

/// The free buffers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: RefCell<Free>,
    free_large: RefCell<Free>,
    free_sealed: RefCell<Free>,
}

/// Free buffers of one size.
#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    /// As many have been free all the time since the last look.
    spare: usize,
}

impl Free {
    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.spare = self.spare.min(self.buffers.len());
        buffer
    }

    fn put(&mut self, mut buffer: Vec<u8>, max: usize) {
        if self.buffers.len() < max {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    fn trim(&mut self, kept: usize) {
        self.buffers.drain(..self.spare.saturating_sub(kept));
        self.spare = self.buffers.len();
    }
}

impl Buffers {
    /// An empty buffer of at least [`BUFFER_BYTES`] capacity.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().take().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// An empty buffer of at least [`LARGE_BUFFER_BYTES`] capacity, for bytes that are there: no
    /// connection waits with it.
    pub(crate) fn take_large(&self) -> Vec<u8> {
        let free = self.free_large.borrow_mut().take();
        free.unwrap_or_else(|| Vec::with_capacity(LARGE_BUFFER_BYTES))
    }

    /// An empty buffer of the capacity that suits bytes that are there, of which no more than `most`
    /// are wanted: a large one where that fits.
    pub(crate) fn take_for(&self, most: usize) -> Vec<u8> {
        match most {
            LARGE_BUFFER_BYTES.. => self.take_large(),
            BUFFER_BYTES.. => self.take(),
            _ => Vec::with_capacity(most),
        }
    }

    /// An empty buffer for the TLS records of a large buffer's bytes. Kept apart, so that large
    /// buffers stay as large as they are: what is received into one fits a sealed one.
    pub(crate) fn take_sealed(&self) -> Vec<u8> {
        let free = self.free_sealed.borrow_mut().take();
        free.unwrap_or_else(|| Vec::with_capacity(LARGE_BUFFER_BYTES + SEALED_EXTRA_BYTES))
    }

    /// Returns a buffer of [`Buffers::take_sealed`].
    pub(crate) fn put_sealed(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= 2 * LARGE_BUFFER_BYTES {
            self.free_sealed.borrow_mut().put(buffer, LARGE_BUFFER_POOL_MAX);
        }
    }

    /// Frees the buffers that nobody has needed since the last call, but for those that the next
    /// request takes.
    pub(crate) fn trim(&self) {
        self.free.borrow_mut().trim(BUFFER_POOL_MIN);
        self.free_large.borrow_mut().trim(1);
        self.free_sealed.borrow_mut().trim(1);
    }

    /// Frees the buffers that nobody uses now.
    pub(crate) fn clear(&self) {
        for free in [&self.free, &self.free_large, &self.free_sealed] {
            free.take();
        }
    }

    /// Returns a buffer. One that grew far beyond its size is freed: a large head is no reason to
    /// keep large buffers.
    pub(crate) fn put(&self, buffer: Vec<u8>) {
        let (free, max) = match buffer.capacity() {
            n if (BUFFER_BYTES..=2 * BUFFER_BYTES).contains(&n) => (&self.free, BUFFER_POOL_MAX),
            n if (LARGE_BUFFER_BYTES..=2 * LARGE_BUFFER_BYTES).contains(&n) => {
                (&self.free_large, LARGE_BUFFER_POOL_MAX)
            }
            _ => return,
        };
        free.borrow_mut().put(buffer, max);
    }
}
