// SPDX-License-Identifier: Apache-2.0
//! Many shared things at once: what a table has in common with the one before it.
//!
//! Counting one more owner is an atomic step, which waits until the count has come from memory and
//! lets nothing else wait meanwhile. Looked at beforehand, the counts of a block come together.

use std::borrow::Borrow;
use std::hint::black_box;
use std::sync::Arc;

/// As many counts are asked for at a time.
pub(crate) const BLOCK: usize = 32;

/// Asks for the counts of a block that is about to be shared.
pub(crate) fn fetch<'s, T: 's>(block: impl Iterator<Item = &'s Arc<T>>) {
    black_box(block.fold(0, |all, shared| all ^ Arc::strong_count(shared)));
}

/// Shares all of them.
pub(crate) fn share<T>(all: &[impl Borrow<Arc<T>>], into: &mut Vec<Arc<T>>) {
    for block in all.chunks(BLOCK) {
        fetch(block.iter().map(Borrow::borrow));
        into.extend(block.iter().map(|shared| Arc::clone(shared.borrow())));
    }
}

#[cfg(test)]
mod tests;
