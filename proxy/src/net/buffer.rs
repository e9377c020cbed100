// SPDX-License-Identifier: Apache-2.0
//! A worker's receive and send buffers: taken when bytes come, returned when a connection rests.
//! Last in, first out, so that the bytes in use stay in cache.

use std::cell::RefCell;

use ringway_core::limits::{
    BUFFER_BYTES, BUFFER_POOL_MAX, LARGE_BUFFER_BYTES, LARGE_BUFFER_POOL_MAX, SEALED_EXTRA_BYTES,
};

/// The free buffers of one worker.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
    free_large: RefCell<Vec<Vec<u8>>>,
    free_sealed: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer of at least [`BUFFER_BYTES`] capacity.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// An empty buffer of at least [`LARGE_BUFFER_BYTES`] capacity, for bytes that are there: no
    /// connection waits with it.
    pub(crate) fn take_large(&self) -> Vec<u8> {
        let free = self.free_large.borrow_mut().pop();
        free.unwrap_or_else(|| Vec::with_capacity(LARGE_BUFFER_BYTES))
    }

    /// An empty buffer for the TLS records of a large buffer's bytes. Kept apart, so that large
    /// buffers stay as large as they are: what is received into one fits a sealed one.
    pub(crate) fn take_sealed(&self) -> Vec<u8> {
        let free = self.free_sealed.borrow_mut().pop();
        free.unwrap_or_else(|| Vec::with_capacity(LARGE_BUFFER_BYTES + SEALED_EXTRA_BYTES))
    }

    /// Returns a buffer of [`Buffers::take_sealed`].
    pub(crate) fn put_sealed(&self, mut buffer: Vec<u8>) {
        let mut free = self.free_sealed.borrow_mut();
        if free.len() < LARGE_BUFFER_POOL_MAX && buffer.capacity() <= 2 * LARGE_BUFFER_BYTES {
            buffer.clear();
            free.push(buffer);
        }
    }

    /// Frees what nobody uses now.
    pub(crate) fn trim(&self) {
        self.free.take();
        self.free_large.take();
        self.free_sealed.take();
    }

    /// Returns a buffer. One that grew far beyond its size is freed: a large head is no reason to
    /// keep large buffers.
    pub(crate) fn put(&self, mut buffer: Vec<u8>) {
        let (free, max) = match buffer.capacity() {
            n if (BUFFER_BYTES..=2 * BUFFER_BYTES).contains(&n) => (&self.free, BUFFER_POOL_MAX),
            n if (LARGE_BUFFER_BYTES..=2 * LARGE_BUFFER_BYTES).contains(&n) => {
                (&self.free_large, LARGE_BUFFER_POOL_MAX)
            }
            _ => return,
        };
        let mut free = free.borrow_mut();
        if free.len() < max {
            buffer.clear();
            free.push(buffer);
        }
    }
}
