// SPDX-License-Identifier: Apache-2.0
//! Objects in the order of their names, of which a copy is taken at each change: the copy shares
//! all but the few dozen objects beside the changed one.

use std::sync::Arc;

use crate::crd::Object;
use crate::name::{Kind, Ref};

/// Objects of one chunk, at most.
const CHUNK_MAX: usize = 64;

/// A sorted list in chunks; none is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    chunks: Arc<Vec<Arc<Vec<Arc<Object>>>>>,
    len: usize,
}

impl Objects {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, name: &Ref) -> Option<&Arc<Object>> {
        let (chunk, at) = self.place(name);
        let at = at.ok()?;
        Some(&self.chunks[chunk][at])
    }

    /// The objects of one kind. Only those at its edges are looked at: each is elsewhere in memory.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        let (first, from) = self.edge(|other| other < kind);
        let (last, to) = self.edge(|other| other <= kind);
        let chunks = self.chunks.iter().enumerate().take(last + 1).skip(first);
        chunks.flat_map(move |(at, chunk)| {
            let to = if at == last { to } else { chunk.len() };
            &chunk[if at == first { from } else { 0 }..to]
        })
    }

    /// The chunk, and the place in it, where those kinds end that are `before`.
    fn edge(&self, before: impl Fn(Kind) -> bool) -> (usize, usize) {
        let before = |object: &Arc<Object>| before(object.meta.object.kind);
        let at = self.chunks.partition_point(|chunk| before(&chunk[0])).saturating_sub(1);
        (at, self.chunks.get(at).map_or(0, |chunk| chunk.partition_point(before)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Adds an object, or replaces the one of that name.
    pub(super) fn insert(&mut self, object: Arc<Object>) {
        let (at, place) = self.place(&object.meta.object);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![object]));
            self.len += 1;
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match place {
            Ok(place) => chunk[place] = object,
            Err(place) => {
                self.len += 1;
                if chunk.len() < CHUNK_MAX {
                    chunk.insert(place, object);
                    return;
                }
                // What comes in order fills its chunks.
                let half = if place == CHUNK_MAX { CHUNK_MAX } else { CHUNK_MAX / 2 };
                let mut second = chunk.split_off(half);
                if place > half || place == CHUNK_MAX {
                    second.insert(place - half, object);
                } else {
                    chunk.insert(place, object);
                }
                chunks.insert(at + 1, Arc::new(second));
            }
        }
    }

    pub(super) fn remove(&mut self, name: &Ref) {
        let (at, Ok(place)) = self.place(name) else { return };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.remove(place);
        if chunk.is_empty() {
            chunks.remove(at);
        }
        self.len -= 1;
    }

    /// The chunk that has the name, or would get it, and the place in it.
    fn place(&self, name: &Ref) -> (usize, Result<usize, usize>) {
        let after = self.chunks.partition_point(|chunk| chunk[0].meta.object <= *name);
        let at = after.saturating_sub(1);
        let Some(chunk) = self.chunks.get(at) else { return (0, Err(0)) };
        (at, chunk.binary_search_by(|object| object.meta.object.cmp(name)))
    }
}

#[cfg(test)]
mod tests;
