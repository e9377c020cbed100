// SPDX-License-Identifier: Apache-2.0
//! Finds domains by authority: exact, `*.foo.com` and `*foo.com`, `foo.*`, `*`, most specific
//! first, as Envoy orders virtual hosts: exact, then the longest wildcard in front, then the
//! longest wildcard behind, then `*`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::FixedState;

type Map<T> = HashMap<Box<[u8]>, T, FixedState>;

/// A domain or a pattern of authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain<'a> {
    Exact(&'a str),
    /// The text after the star.
    Suffix(&'a str),
    /// The text before the star.
    Prefix(&'a str),
    Any,
}

impl<'a> Domain<'a> {
    /// Reads a domain as a Host has it: a star is first, last or all of it.
    pub(super) fn parse(text: &'a str) -> Self {
        if text == "*" {
            Self::Any
        } else if let Some(rest) = text.strip_prefix('*') {
            Self::Suffix(rest)
        } else if let Some(rest) = text.strip_suffix('*') {
            Self::Prefix(rest)
        } else {
            Self::Exact(text)
        }
    }
}

/// Values by domain. Costs one hash per distinct length of wildcard, whatever their number.
#[derive(Debug)]
pub(super) struct DomainIndex<T> {
    exact: Map<T>,
    /// Longest first.
    suffixes: Vec<(usize, Map<T>)>,
    /// Longest first.
    prefixes: Vec<(usize, Map<T>)>,
    any: Option<T>,
    /// What a star stands for at least, in bytes.
    star_min: usize,
}

impl<T> DomainIndex<T> {
    /// `star_min` is 1 for virtual hosts (Envoy: `*.foo.com` is not `.foo.com`) and 0 for the
    /// authority clause of a route, which is a plain prefix or suffix there.
    pub(super) fn new(star_min: usize) -> Self {
        Self {
            exact: Map::default(),
            suffixes: Vec::new(),
            prefixes: Vec::new(),
            any: None,
            star_min,
        }
    }

    /// The place of a domain's value, filled with `default` where there is none yet.
    pub(super) fn or_insert_with(
        &mut self,
        domain: Domain<'_>,
        default: impl FnOnce() -> T,
    ) -> &mut T {
        let (map, key) = match domain {
            Domain::Any => return self.any.get_or_insert_with(default),
            Domain::Exact(key) => (&mut self.exact, key),
            Domain::Suffix(key) => (of_length(&mut self.suffixes, key.len()), key),
            Domain::Prefix(key) => (of_length(&mut self.prefixes, key.len()), key),
        };
        match map.entry(key.as_bytes().into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(default()),
        }
    }

    /// Values of every domain that the authority is in, most specific first.
    pub(super) fn covering<'s, 'a>(
        &'s self,
        authority: &'a [u8],
    ) -> impl Iterator<Item = &'s T> + use<'s, 'a, T> {
        let exact = (!self.exact.is_empty()).then(|| self.exact.get(authority)).flatten();
        let room = move |len: &usize| len + self.star_min <= authority.len();
        let suffixes = self.suffixes.iter().filter(move |(len, _)| room(len));
        let prefixes = self.prefixes.iter().filter(move |(len, _)| room(len));
        exact
            .into_iter()
            .chain(suffixes.filter_map(|(len, map)| map.get(&authority[authority.len() - len..])))
            .chain(prefixes.filter_map(|(len, map)| map.get(&authority[..*len])))
            .chain(&self.any)
    }

    /// All values, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.exact
            .values()
            .chain(self.suffixes.iter().flat_map(|(_, map)| map.values()))
            .chain(self.prefixes.iter().flat_map(|(_, map)| map.values()))
            .chain(&self.any)
    }

    /// All values, in no order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact
            .values_mut()
            .chain(self.suffixes.iter_mut().flat_map(|(_, map)| map.values_mut()))
            .chain(self.prefixes.iter_mut().flat_map(|(_, map)| map.values_mut()))
            .chain(&mut self.any)
    }
}

fn of_length<T>(maps: &mut Vec<(usize, Map<T>)>, len: usize) -> &mut Map<T> {
    let at = match maps.binary_search_by(|(other, _)| len.cmp(other)) {
        Ok(at) => at,
        Err(at) => {
            maps.insert(at, (len, Map::default()));
            at
        }
    };
    &mut maps[at].1
}

#[cfg(test)]
mod tests;
