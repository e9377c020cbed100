// SPDX-License-Identifier: Apache-2.0
//! Field blocks for a peer. A field that comes again is put into the table and is one byte from
//! then on; one that never does takes no place there. Strings are written as they are: Huffman's
//! code would cost more time than it saves bytes once fields repeat.

use std::collections::VecDeque;

use super::{ENTRY_BYTES, STATIC, TABLE_BYTES};

/// Fields that are remembered by their hash, to see whether they come again.
const SEEN_MAX: usize = 64;

/// A larger field takes no place in the table.
const ENTRY_BYTES_MAX: usize = TABLE_BYTES / 4;

/// The encoder of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    /// The newest first: name and value in one.
    entries: VecDeque<Box<[u8]>>,
    bytes: usize,
    bytes_max: usize,
    /// The smallest size of the table since the last block, if it was changed (RFC 7541 §4.2).
    resized: Option<usize>,
    /// Entries ever.
    inserted: u64,
    seen: [Seen; SEEN_MAX],
    /// The field at hand: its name in lower case, its value.
    text: Vec<u8>,
}

/// A field that was encoded.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    hash: u64,
    /// How many entries there had been with its own; 0: it is not in the table.
    entry: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max: TABLE_BYTES,
            resized: None,
            inserted: 0,
            seen: [Seen::default(); SEEN_MAX],
            text: Vec::new(),
        }
    }
}

impl Encoder {
    /// SETTINGS_HEADER_TABLE_SIZE of the peer: from the next block on.
    pub fn resize(&mut self, bytes_max: usize) {
        let bytes_max = bytes_max.min(TABLE_BYTES);
        if bytes_max != self.bytes_max {
            self.bytes_max = bytes_max;
            self.resized = Some(self.resized.map_or(bytes_max, |least| least.min(bytes_max)));
            self.evict(bytes_max);
        }
    }

    /// To be called before a block's first field.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(least) = self.resized.take() {
            integer(out, 0x20, 5, least);
            if least < self.bytes_max {
                integer(out, 0x20, 5, self.bytes_max);
            }
        }
    }

    /// Appends a field; its name is made lower case.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        self.text.clear();
        self.text.extend(name.iter().map(u8::to_ascii_lowercase));
        let fixed = fixed(&self.text);
        if let Some(index) = fixed.value(value) {
            return out.push(0x80 | index);
        }
        if is_secret(&self.text) {
            // RFC 7541 §7.1.3: nobody behind us puts it into a table either.
            return literal(out, 0x10, 4, fixed.name, &self.text, value);
        }
        self.text.extend_from_slice(value);
        let hash = hash(&self.text);
        let seen = &mut self.seen[(hash >> 58) as usize % SEEN_MAX];
        if seen.hash != hash {
            *seen = Seen { hash, entry: 0 };
            return literal(out, 0, 4, fixed.name, &self.text[..name.len()], value);
        }
        let age = (self.inserted - seen.entry) as usize;
        if seen.entry > 0
            && let Some(entry) = self.entries.get(age)
        {
            if **entry == *self.text {
                return integer(out, 0x80, 7, STATIC.len() + 1 + age);
            }
            return literal(out, 0, 4, fixed.name, &self.text[..name.len()], value);
        }
        let size = self.text.len() + ENTRY_BYTES;
        if size > self.bytes_max.min(ENTRY_BYTES_MAX) {
            return literal(out, 0, 4, fixed.name, &self.text[..name.len()], value);
        }
        self.inserted += 1;
        seen.entry = self.inserted;
        literal(out, 0x40, 6, fixed.name, &self.text[..name.len()], value);
        self.evict(self.bytes_max - size);
        self.entries.push_front(self.text.as_slice().into());
        self.bytes += size;
    }

    fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(entry) = self.entries.pop_back() else { return };
            self.bytes -= entry.len() + ENTRY_BYTES;
        }
    }
}

/// Who holds such a value must not learn by probing what it is (RFC 7541 §7.1).
fn is_secret(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"cookie" | b"proxy-authorization" | b"set-cookie")
}

/// A name's place in the static table.
#[derive(Clone, Copy, Default)]
struct Fixed {
    /// The first entry of that name; 0: there is none.
    name: u8,
}

impl Fixed {
    /// The entry that has this value, too.
    fn value(self, value: &[u8]) -> Option<u8> {
        let first = usize::from(self.name.checked_sub(1)?);
        let name = STATIC[first].0;
        let same = STATIC[first..].iter().take_while(|(other, _)| *other == name);
        let at = same.map(|(_, text)| text.as_bytes()).position(|text| text == value)?;
        // An empty value in the table stands for none.
        if value.is_empty() { None } else { Some(self.name + at as u8) }
    }
}

/// First entries by [`slot`], those that find theirs taken in the next one that is free.
const NAMES: [u8; 128] = {
    let mut names = [0; 128];
    let mut at = 0;
    while at < STATIC.len() {
        let name = STATIC[at].0.as_bytes();
        if at == 0 || !same(name, STATIC[at - 1].0.as_bytes()) {
            let mut slot = slot(name);
            while names[slot] != 0 {
                slot = (slot + 1) % 128;
            }
            names[slot] = at as u8 + 1;
        }
        at += 1;
    }
    names
};

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Of a name of at least two bytes.
const fn slot(name: &[u8]) -> usize {
    (name.len() * 4 + name[name.len() - 1] as usize + name[name.len() - 2] as usize * 19) % 128
}

fn fixed(name: &[u8]) -> Fixed {
    if name.len() < 2 {
        return Fixed::default();
    }
    let mut slot = slot(name);
    loop {
        match NAMES[slot] {
            0 => return Fixed::default(),
            index if STATIC[usize::from(index) - 1].0.as_bytes() == name => {
                return Fixed { name: index };
            }
            _ => slot = (slot + 1) % NAMES.len(),
        }
    }
}

/// Not one that withstands somebody who looks for collisions: they cost a few bytes.
fn hash(text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = text.len() as u64;
    let mut words = text.chunks_exact(8);
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        hash = (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
    for &byte in words.remainder() {
        hash = (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(FACTOR);
    }
    hash
}

/// RFC 7541 §6.2.
fn literal(out: &mut Vec<u8>, first: u8, bits: u32, index: u8, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 16);
    integer(out, first, bits, usize::from(index));
    if index == 0 {
        integer(out, 0, 7, name.len());
        out.extend_from_slice(name);
    }
    integer(out, 0, 7, value.len());
    out.extend_from_slice(value);
}

/// An integer behind the first bits of its first byte (RFC 7541 §5.1).
fn integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
