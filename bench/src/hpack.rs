// SPDX-License-Identifier: Apache-2.0
//! HPACK (RFC 7541) between header blocks and heads written as HTTP/1.1 writes them, so that the rest of
//! the bench knows one form of a head: `GET /13 HTTP/2`, `host` for `:authority`, `HTTP/2 200`; trailers
//! have `trailers` for a first line. Both ends remember the latest blocks and what they mean until the
//! dynamic table changes: proxies repeat themselves, and comparing is cheaper than decoding.

use std::collections::VecDeque;
use std::io::Write as _;
use std::ptr;
use std::sync::LazyLock;

use crate::http;

/// Bytes of a dynamic table unless a SETTINGS frame says otherwise. No more is ever used.
const TABLE_BYTES: usize = 4096;
/// What an entry takes beside its name and value (RFC 7541 §4.1).
const ENTRY_BYTES: usize = 32;
/// How many blocks are remembered: a head, trailers, and their forms of the second before.
const REMEMBERED: usize = 8;

/// Reads the blocks of one direction of one connection.
#[derive(Default)]
pub(crate) struct Decoder {
    table: Table,
    /// Blocks that left the table as it was, and their heads.
    remembered: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// The head of a block that did not.
    once: Vec<u8>,
}

impl Decoder {
    /// The head that a block means.
    pub(crate) fn head(&mut self, block: &[u8]) -> Result<&[u8], String> {
        if let Some(index) = self.remembered.iter().position(|(known, _)| known == block) {
            return Ok(&self.remembered[index].1);
        }
        let (head, changed) = self.read(block).map_err(|error| format!("HPACK: {error}"))?;
        if changed {
            self.remembered.clear();
            self.once = head;
            return Ok(&self.once);
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_back();
        }
        self.remembered.push_front((block.to_vec(), head));
        Ok(&self.remembered[0].1)
    }

    /// And whether the table changed.
    fn read(&mut self, mut block: &[u8]) -> Result<(Vec<u8>, bool), &'static str> {
        let (mut method, mut path, mut status) = (None, None, None);
        let mut fields = Vec::new();
        let mut changed = false;
        while let Some(&first) = block.first() {
            let (name, value) = match first {
                0x80.. => self.table.entry(integer(&mut block, 7)?)?,
                0x20..0x40 => {
                    self.table.resize(integer(&mut block, 5)?)?;
                    changed = true;
                    continue;
                }
                _ => {
                    let inserts = first >= 0x40;
                    let name = match integer(&mut block, if inserts { 6 } else { 4 })? {
                        0 => string(&mut block)?,
                        index => self.table.entry(index)?.0,
                    };
                    let value = string(&mut block)?;
                    if inserts {
                        self.table.insert(name.clone(), value.clone());
                        changed = true;
                    }
                    (name, value)
                }
            };
            match name.as_slice() {
                b":method" => method = Some(value),
                b":path" => path = Some(value),
                b":status" => status = Some(value),
                b":authority" => field(&mut fields, b"host", &value),
                b":scheme" => {}
                [b':', ..] => return Err("an unknown pseudo-header"),
                _ => field(&mut fields, &name, &value),
            }
        }
        let first = match (method, path, status) {
            (Some(method), Some(path), None) => [&method[..], b" ", &path, b" HTTP/2"].concat(),
            (None, None, Some(status)) => [b"HTTP/2 ", &status[..]].concat(),
            (None, None, None) => b"trailers".to_vec(),
            _ => return Err("neither a request nor an answer"),
        };
        Ok(([&first[..], b"\r\n", &fields, b"\r\n"].concat(), changed))
    }
}

fn field(fields: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    fields.extend([name, b": ", value, b"\r\n"].concat());
}

/// Writes the blocks of one direction of one connection, as clients and servers do: a field that they
/// have sent before is an index, but for those that differ each time. Nothing is ever evicted.
#[derive(Default)]
pub(crate) struct Encoder {
    table: Table,
    /// By the address of a head that is kept for the life of the process.
    remembered: VecDeque<(*const [u8], Vec<u8>)>,
    /// The peer is to be told that the table has another size.
    resized: bool,
}

impl Encoder {
    /// The peer keeps a table of at most so many bytes.
    pub(crate) fn limit(&mut self, bytes_max: usize) {
        if bytes_max < self.table.bytes_max {
            self.table.resize(bytes_max).expect("smaller than what was allowed");
            self.remembered.clear();
            self.resized = true;
        }
    }

    /// Appends the block that means `head`.
    pub(crate) fn block(&mut self, head: &'static [u8], secure: bool, block: &mut Vec<u8>) {
        if let Some((_, known)) = self.remembered.iter().find(|(known, _)| ptr::eq(*known, head)) {
            return block.extend_from_slice(known);
        }
        let from = block.len();
        let before = self.table.entries.len();
        let resized = std::mem::take(&mut self.resized);
        if resized {
            put_integer(block, 0x20, 5, self.table.bytes_max);
        }
        for (name, value) in fields(head, secure) {
            self.field(name, value, block);
        }
        if resized || self.table.entries.len() > before {
            // What was an index is another one now; this block will be one the next time.
            return self.remembered.clear();
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_back();
        }
        self.remembered.push_front((head, block[from..].to_vec()));
    }

    fn field(&mut self, name: &[u8], value: &[u8], block: &mut Vec<u8>) {
        if let Some(index) = self.table.find(|known| known == (name, value)) {
            return put_integer(block, 0x80, 7, index);
        }
        let differs = matches!(name, b":path" | b"content-length");
        let inserts = !differs && self.table.has_room(name, value);
        let (first, bits) = if inserts { (0x40, 6) } else { (0, 4) };
        match self.table.find(|(known, _)| known == name) {
            Some(index) => put_integer(block, first, bits, index),
            None => {
                put_integer(block, first, bits, 0);
                put_string(block, name);
            }
        }
        put_string(block, value);
        if inserts {
            self.table.insert(name.to_vec(), value.to_vec());
        }
    }
}

/// The fields of a head, pseudo-headers first. Those of the connection are none of HTTP/2's.
fn fields(head: &'static [u8], secure: bool) -> Vec<(&'static [u8], &'static [u8])> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let scheme: &[u8] = if secure { b"https" } else { b"http" };
    let mut fields: Vec<(&[u8], &[u8])> = match first {
        b"trailers" => Vec::new(),
        _ if first.starts_with(b"HTTP/") => vec![(b":status", second)],
        method => vec![
            (b":method", method),
            (b":scheme", scheme),
            (b":authority", http::field(head, "host").unwrap_or_default()),
            (b":path", second),
        ],
    };
    let rest = http::all_fields(head);
    fields.extend(rest.filter(|(name, _)| !matches!(*name, b"host" | b"connection")));
    fields
}

/// The static table and, behind it, the dynamic one.
struct Table {
    /// The newest first.
    entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES }
    }
}

impl Table {
    fn entry(&self, index: usize) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let index = index.checked_sub(1).ok_or("index 0")?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.entries.get(index - STATIC.len()).cloned().ok_or("an index beyond the table")
    }

    /// The first entry that is the one.
    fn find(&self, is: impl Fn((&[u8], &[u8])) -> bool) -> Option<usize> {
        let fixed = STATIC.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let own = self.entries.iter().map(|(name, value)| (&name[..], &value[..]));
        fixed.chain(own).position(is).map(|index| index + 1)
    }

    fn has_room(&self, name: &[u8], value: &[u8]) -> bool {
        self.bytes + name.len() + value.len() + ENTRY_BYTES <= self.bytes_max
    }

    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.bytes += name.len() + value.len() + ENTRY_BYTES;
        self.entries.push_front((name, value));
        self.evict();
    }

    fn resize(&mut self, bytes_max: usize) -> Result<(), &'static str> {
        if bytes_max > TABLE_BYTES {
            return Err("a table larger than was allowed");
        }
        self.bytes_max = bytes_max;
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((name, value)) = self.entries.pop_back() else { return };
            self.bytes -= name.len() + value.len() + ENTRY_BYTES;
        }
    }
}

/// An integer whose first byte has that many bits of it (RFC 7541 §5.1).
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, &'static str> {
    let mut byte = || {
        let (&first, rest) = block.split_first().ok_or("a block cut short")?;
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
    Err("an endless integer")
}

fn put_integer(block: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return block.push(first | value as u8);
    }
    block.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A string literal (RFC 7541 §5.2).
fn string(block: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let huffman = block.first().is_some_and(|&first| first >= 0x80);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or("a string cut short")?;
    *block = rest;
    if huffman { HUFFMAN.decode(text) } else { Ok(text.to_vec()) }
}

/// Huffman where that is shorter.
fn put_string(block: &mut Vec<u8>, text: &[u8]) {
    let coded = HUFFMAN.encode(text);
    let (first, text) = if coded.len() < text.len() { (0x80, &coded[..]) } else { (0, text) };
    put_integer(block, first, 7, text.len());
    block.write_all(text).expect("a Vec takes everything");
}

/// The code of RFC 7541 appendix B. It is canonical: codes count up through the symbols sorted by the
/// lengths of their codes, so that the lengths say everything.
struct Huffman {
    /// Symbols sorted by length, then value.
    sorted: Vec<u8>,
    codes: [u32; 256],
    /// By length: the first code, and the first symbol's place in `sorted`.
    firsts: [(u32, usize); LENGTH_MAX + 2],
}

const LENGTH_MAX: usize = 30;

static HUFFMAN: LazyLock<Huffman> = LazyLock::new(|| {
    let mut sorted: Vec<u8> = (0..=255).collect();
    sorted.sort_by_key(|&symbol| LENGTHS[usize::from(symbol)]);
    let (mut codes, mut firsts) = ([0; 256], [(0, 0); LENGTH_MAX + 2]);
    let (mut code, mut place) = (0, 0);
    for (length, first) in firsts.iter_mut().enumerate().take(LENGTH_MAX + 1).skip(1) {
        *first = (code, place);
        while sorted.get(place).is_some_and(|&next| LENGTHS[usize::from(next)] == length as u8) {
            codes[usize::from(sorted[place])] = code;
            code += 1;
            place += 1;
        }
        code <<= 1;
    }
    firsts[LENGTH_MAX + 1].1 = place;
    Huffman { sorted, codes, firsts }
});

impl Huffman {
    fn decode(&self, coded: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut text = Vec::with_capacity(coded.len() * 2);
        let (mut code, mut length) = (0_u32, 0);
        for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
            code = code << 1 | u32::from(bit);
            length += 1;
            let ((first, place), (_, next)) = (self.firsts[length], self.firsts[length + 1]);
            if let Some(offset) = code.checked_sub(first)
                && place + (offset as usize) < next
            {
                text.push(self.sorted[place + offset as usize]);
                (code, length) = (0, 0);
            } else if length == LENGTH_MAX {
                return Err("no Huffman code");
            }
        }
        // What is left fills the last byte up with ones.
        let filled = length < 8 && code == (1 << length) - 1;
        if filled { Ok(text) } else { Err("a Huffman code cut short") }
    }

    fn encode(&self, text: &[u8]) -> Vec<u8> {
        let (mut coded, mut bits, mut count) = (Vec::new(), 0_u64, 0);
        for &symbol in text {
            let length = u32::from(LENGTHS[usize::from(symbol)]);
            bits = bits << length | u64::from(self.codes[usize::from(symbol)]);
            count += length;
            while count >= 8 {
                count -= 8;
                coded.push((bits >> count) as u8);
            }
        }
        if count > 0 {
            let fill = 8 - count;
            coded.push((bits << fill) as u8 | ((1 << fill) - 1) as u8);
        }
        coded
    }
}

/// Bits of each byte's code.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"),
    (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"),
    (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""),
    ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""),
    ("content-type", ""), ("cookie", ""), ("date", ""),
    ("etag", ""), ("expect", ""), ("expires", ""),
    ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""),
    ("refresh", ""), ("retry-after", ""), ("server", ""),
    ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests;
