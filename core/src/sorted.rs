// SPDX-License-Identifier: Apache-2.0
//! Shared things in the order of their names, of which a copy is taken at each change: the copy
//! shares all but the few dozen beside the changed one, and what differs is found as quickly.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// What has a name to be sorted by, which never changes.
pub trait Named {
    type Name: Ord + ?Sized;

    fn name(&self) -> &Self::Name;
}

/// As many are in one chunk, at most.
const CHUNK_MAX: usize = 64;

/// A sorted list in chunks; none is empty.
pub struct Sorted<T> {
    chunks: Arc<Vec<Chunk<T>>>,
    len: usize,
}

type Chunk<T> = Arc<Vec<Arc<T>>>;

/// What is not the same in two lists.
pub struct Difference<'l, T: Named> {
    name: &'l T::Name,
    /// What it was; `None` if it was not there.
    pub before: Option<&'l Arc<T>>,
    /// What it is; `None` if it is gone.
    pub now: Option<&'l Arc<T>>,
}

impl<'l, T: Named> Difference<'l, T> {
    /// Something that was not there.
    pub(crate) fn added(now: &'l Arc<T>) -> Self {
        Self { name: now.name(), before: None, now: Some(now) }
    }

    pub fn name(&self) -> &'l T::Name {
        self.name
    }
}

impl<T: Named> Sorted<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, name: &T::Name) -> Option<&Arc<T>> {
        let (chunk, at) = self.place(name);
        let at = at.ok()?;
        Some(&self.chunks[chunk][at])
    }

    pub fn contains(&self, name: &T::Name) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Those in a row whose names are neither `before` nor `after` it. Only those at its edges are
    /// looked at: each is elsewhere in memory.
    pub(crate) fn row(
        &self,
        before: impl Fn(&T::Name) -> bool,
        after: impl Fn(&T::Name) -> bool,
    ) -> impl Iterator<Item = &Arc<T>> {
        let (first, from) = self.edge(before);
        let (last, to) = self.edge(|name| !after(name));
        let chunks = self.chunks.iter().enumerate().take(last + 1).skip(first);
        chunks.flat_map(move |(at, chunk)| {
            let to = if at == last { to } else { chunk.len() };
            &chunk[if at == first { from } else { 0 }..to]
        })
    }

    /// The chunk, and the place in it, where those end that are `before`.
    fn edge(&self, before: impl Fn(&T::Name) -> bool) -> (usize, usize) {
        let before = |item: &Arc<T>| before(item.name());
        let at = self.chunks.partition_point(|chunk| before(&chunk[0])).saturating_sub(1);
        (at, self.chunks.get(at).map_or(0, |chunk| chunk.partition_point(before)))
    }

    /// Adds something, or replaces what has its name.
    pub fn insert(&mut self, item: Arc<T>) {
        let (at, place) = self.place(item.name());
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![item]));
            self.len += 1;
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match place {
            Ok(place) => chunk[place] = item,
            Err(place) => {
                self.len += 1;
                if chunk.len() < CHUNK_MAX {
                    chunk.insert(place, item);
                    return;
                }
                // What comes in order fills its chunks.
                let half = if place == CHUNK_MAX { CHUNK_MAX } else { CHUNK_MAX / 2 };
                let mut second = chunk.split_off(half);
                if place > half || place == CHUNK_MAX {
                    second.insert(place - half, item);
                } else {
                    chunk.insert(place, item);
                }
                chunks.insert(at + 1, Arc::new(second));
            }
        }
    }

    pub fn remove(&mut self, name: &T::Name) {
        let (at, Ok(place)) = self.place(name) else { return };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.remove(place);
        if chunk.is_empty() {
            chunks.remove(at);
        }
        self.len -= 1;
    }

    /// What differs from an earlier list, in order. Chunks that both have are passed over.
    pub fn differences<'l>(&'l self, before: &'l Self) -> Vec<Difference<'l, T>> {
        let mut all = Vec::new();
        let (mut old, mut new) = (Cursor::of(before), Cursor::of(self));
        loop {
            while let (Some(a), Some(b)) = (old.whole_chunk(), new.whole_chunk())
                && Arc::ptr_eq(a, b)
            {
                old.pass_chunk();
                new.pass_chunk();
            }
            let (before, now) = (old.item(), new.item());
            let order = match (before, now) {
                (None, None) => return all,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
                (Some(a), Some(b)) => a.name().cmp(b.name()),
            };
            let (before, now) = (before.filter(|_| order.is_le()), now.filter(|_| order.is_ge()));
            if before.map(Arc::as_ptr) != now.map(Arc::as_ptr) {
                let name = now.or(before).map(|item| item.name());
                all.extend(name.map(|name| Difference { name, before, now }));
            }
            if before.is_some() {
                old.pass();
            }
            if now.is_some() {
                new.pass();
            }
        }
    }

    /// The chunk that has the name, or would get it, and the place in it.
    fn place(&self, name: &T::Name) -> (usize, Result<usize, usize>) {
        let after = self.chunks.partition_point(|chunk| chunk[0].name() <= name);
        let at = after.saturating_sub(1);
        let Some(chunk) = self.chunks.get(at) else { return (0, Err(0)) };
        (at, chunk.binary_search_by(|item| item.name().cmp(name)))
    }
}

impl<T> Clone for Sorted<T> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), len: self.len }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }
}

impl<T: Named + fmt::Debug> fmt::Debug for Sorted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Named + PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        let is_equal = |d: &Difference<'_, T>| d.before == d.now;
        self.len == other.len && self.differences(other).iter().all(is_equal)
    }
}

impl<T: Named + Eq> Eq for Sorted<T> {}

impl<T: Named> FromIterator<Arc<T>> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(items: I) -> Self {
        let mut sorted = Self::default();
        items.into_iter().for_each(|item| sorted.insert(item));
        sorted
    }
}

impl<T: Named> Index<&T::Name> for Sorted<T> {
    type Output = Arc<T>;

    /// # Panics
    /// Nothing has that name.
    fn index(&self, name: &T::Name) -> &Arc<T> {
        self.get(name).expect("something has that name")
    }
}

/// By name.
impl<T: Named<Name: Serialize> + Serialize> Serialize for Sorted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|item| (item.name(), item)))
    }
}

/// Where a walk through a list is.
struct Cursor<'l, T> {
    /// Those that are not passed yet.
    chunks: &'l [Chunk<T>],
    /// In the first of them.
    at: usize,
}

impl<'l, T> Cursor<'l, T> {
    fn of(list: &'l Sorted<T>) -> Self {
        Self { chunks: &list.chunks, at: 0 }
    }

    /// The chunk that begins here.
    fn whole_chunk(&self) -> Option<&'l Chunk<T>> {
        self.chunks.first().filter(|_| self.at == 0)
    }

    fn pass_chunk(&mut self) {
        (self.chunks, self.at) = (&self.chunks[1..], 0);
    }

    fn item(&self) -> Option<&'l Arc<T>> {
        self.chunks.first()?.get(self.at)
    }

    fn pass(&mut self) {
        self.at += 1;
        if self.chunks.first().is_some_and(|chunk| chunk.len() == self.at) {
            self.pass_chunk();
        }
    }
}

#[cfg(test)]
mod tests;
