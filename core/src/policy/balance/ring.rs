// SPDX-License-Identifier: Apache-2.0
//! Ring hash: each endpoint has many places on a ring, a key goes to the next place.
//!
//! Envoy gives all endpoints together 1,024 places by default, so that a hundred have ten each and
//! some get twice their share. Here every endpoint has as many as it always has, whoever else is
//! there: shares are even to a few percent, and when one comes or goes, only its own keys move.

use std::io::Write as _;

use super::hash;
use crate::feed::Endpoint;
use crate::limits::{RING_PLACES_MAX, RING_PLACES_PER_ENDPOINT};

/// Places in order of their hash.
#[derive(Debug, PartialEq, Eq)]
pub struct Ring {
    hashes: Box<[u64]>,
    /// Whose place it is: index of the endpoint.
    owners: Box<[u16]>,
}

impl Ring {
    pub(super) fn new(endpoints: &[Endpoint]) -> Self {
        // One endpoint takes everything: one place will do.
        let each = match endpoints.len() {
            0 | 1 => 1,
            n => RING_PLACES_PER_ENDPOINT.min(RING_PLACES_MAX / n),
        };
        let mut places = Vec::with_capacity(endpoints.len() * each);
        let mut label = Vec::with_capacity(64);
        for (owner, endpoint) in endpoints.iter().enumerate() {
            label.clear();
            let mut write = |text: std::fmt::Arguments<'_>| {
                label.write_fmt(text).expect("a vector takes everything");
                label.len()
            };
            let stem = write(format_args!("{}_", endpoint.address));
            for place in 0..each {
                // Envoy's names of places.
                label.truncate(stem);
                label.write_fmt(format_args!("{place}")).expect("a vector takes everything");
                places.push((hash(&label), owner as u16));
            }
        }
        places.sort_unstable();
        Self {
            hashes: places.iter().map(|(hash, _)| *hash).collect(),
            owners: places.iter().map(|(_, owner)| *owner).collect(),
        }
    }

    /// The owner of the first place at or after the key; of the next ones, while those were tried.
    pub(super) fn pick(&self, key: u64, tried: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.hashes.partition_point(|hash| *hash < key);
        let (before, after) = self.owners.split_at(start);
        let mut around = after.iter().chain(before).map(|owner| usize::from(*owner));
        let first = around.clone().next()?;
        Some(around.find(|owner| !tried(*owner)).unwrap_or(first))
    }
}
