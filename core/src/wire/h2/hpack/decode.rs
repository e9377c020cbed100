// SPDX-License-Identifier: Apache-2.0
//! A peer's field blocks. Everything that may be is decoded; what comes out is bounded, and a block
//! that comes to more is decoded to its end all the same, because the table must follow it.

use std::collections::VecDeque;

use super::{ENTRY_BYTES, STATIC, TABLE_BYTES, huffman};
use crate::wire::Span;

/// A block after which the table is no longer the peer's: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// With COMPRESSION_ERROR, RFC 9113 §4.3.
    Invalid,
    /// With ENHANCE_YOUR_CALM: it comes to many times what a section may be. A byte may name an
    /// entry of thousands, RFC 7541 §7.3.
    TooMuch,
}

use Unreadable::Invalid;

/// A block is read to its end while it comes to no more than this many times what may be.
const UNPACKED_MAX: usize = 8;

/// A field section as it came, pseudo-header fields included. Kept by its connection and filled
/// again for each block.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    text: Vec<u8>,
    list: Vec<(Span, Span)>,
    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 §6.5.2).
    bytes: usize,
    bytes_max: usize,
}

impl Fields {
    /// `bytes_max`: fields beyond are dropped, as SETTINGS_MAX_HEADER_LIST_SIZE counts them.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.list.iter().map(|(name, value)| (name.of(&self.text), value.of(&self.text)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts: more than they take as lines of text.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there were more than may be: some are missing.
    pub fn is_too_large(&self) -> bool {
        self.bytes > self.bytes_max
    }

    pub(in super::super) fn clear(&mut self) {
        self.text.clear();
        self.list.clear();
        self.bytes = 0;
    }

    /// Nothing is kept of a head that took much.
    pub(in super::super) fn shrink(&mut self) {
        const KEPT_BYTES: usize = 8 * 1024;
        if self.text.capacity() > KEPT_BYTES {
            self.text = Vec::new();
            self.list = Vec::new();
        }
    }

    /// Whether a field of so many bytes is kept.
    fn counts(&mut self, name: usize, value: usize) -> bool {
        self.bytes = self.bytes.saturating_add(name + value + ENTRY_BYTES);
        !self.is_too_large()
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        if self.counts(name.len(), value.len()) {
            let start = self.text.len();
            self.text.extend_from_slice(name);
            let middle = self.text.len();
            self.text.extend_from_slice(value);
            let end = self.text.len();
            self.list.push((Span::new(start, middle), Span::new(middle, end)));
        }
    }
}

/// The decoder of one direction of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The newest first.
    entries: VecDeque<Entry>,
    bytes: usize,
    /// As the peer wants it; no more than [`TABLE_BYTES`].
    bytes_max: Option<usize>,
    /// A literal's name and value.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// An entry of the dynamic table.
#[derive(Debug, Default)]
struct Entry {
    /// Name, then value.
    text: Vec<u8>,
    name: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + ENTRY_BYTES
    }
}

impl Decoder {
    /// Decodes a whole block into `fields`, which is cleared first.
    pub fn decode(&mut self, mut block: &[u8], fields: &mut Fields) -> Result<(), Unreadable> {
        fields.clear();
        let mut begun = false;
        while let Some(&first) = block.first() {
            if fields.bytes / UNPACKED_MAX > fields.bytes_max {
                return Err(Unreadable::TooMuch);
            }
            // RFC 7541 §6: indexed, literal to be indexed, size update, other literals.
            let (prefix, keep) = match first {
                0x80.. => {
                    begun = true;
                    let index = integer(&mut block, 7)?;
                    let (name, value) = entry(&self.entries, index)?;
                    fields.push(name, value);
                    continue;
                }
                0x40.. => (6, true),
                0x20.. if begun => return Err(Invalid),
                0x20.. => {
                    let max = integer(&mut block, 5)?;
                    if max > TABLE_BYTES {
                        return Err(Invalid);
                    }
                    self.bytes_max = Some(max);
                    self.evict(max);
                    continue;
                }
                _ => (4, false),
            };
            begun = true;
            self.name.clear();
            match integer(&mut block, prefix)? {
                0 => string(&mut block, &mut self.name)?,
                index => {
                    let (name, _) = entry(&self.entries, index)?;
                    self.name.extend_from_slice(name);
                }
            }
            self.value.clear();
            string(&mut block, &mut self.value)?;
            fields.push(&self.name, &self.value);
            if keep {
                self.keep();
            }
        }
        Ok(())
    }

    /// Adds the last literal to the table (RFC 7541 §4.4).
    fn keep(&mut self) {
        let size = self.name.len() + self.value.len() + ENTRY_BYTES;
        let max = self.bytes_max.unwrap_or(TABLE_BYTES);
        // The text of an entry that leaves is used again.
        let mut entry = self.evict(max.saturating_sub(size)).unwrap_or_default();
        if size > max {
            return;
        }
        entry.text.clear();
        entry.text.extend_from_slice(&self.name);
        entry.text.extend_from_slice(&self.value);
        entry.name = self.name.len();
        self.bytes += size;
        self.entries.push_front(entry);
    }

    /// Removes the oldest entries until no more bytes are left; gives the last one.
    fn evict(&mut self, bytes_max: usize) -> Option<Entry> {
        let mut last = None;
        while self.bytes > bytes_max {
            let entry = self.entries.pop_back()?;
            self.bytes -= entry.size();
            last = Some(entry);
        }
        last
    }
}

/// What an index names.
fn entry(dynamic: &VecDeque<Entry>, index: usize) -> Result<(&[u8], &[u8]), Unreadable> {
    let index = index.checked_sub(1).ok_or(Invalid)?;
    if let Some((name, value)) = STATIC.get(index) {
        return Ok((name.as_bytes(), value.as_bytes()));
    }
    let entry = dynamic.get(index - STATIC.len()).ok_or(Invalid)?;
    Ok(entry.text.split_at(entry.name))
}

/// An integer whose first byte has that many bits of it (RFC 7541 §5.1): below 2^28 and a bit, which
/// no length or index of ours comes near.
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Unreadable> {
    let mut byte = || {
        let (&first, rest) = block.split_first().ok_or(Invalid)?;
        *block = rest;
        Ok(usize::from(first))
    };
    let most = (1 << bits) - 1;
    let mut value = byte()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let next = byte()?;
        value += (next & 0x7f) << shift;
        if next < 0x80 {
            return Ok(value);
        }
    }
    Err(Invalid)
}

/// A string literal (RFC 7541 §5.2).
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let coded = block.first().is_some_and(|&first| first >= 0x80);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Invalid)?;
    *block = rest;
    if !coded {
        out.extend_from_slice(text);
    } else if !huffman::decode(text, out) {
        return Err(Invalid);
    }
    Ok(())
}
