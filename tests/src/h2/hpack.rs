// SPDX-License-Identifier: Apache-2.0
//! HPACK, RFC 7541: its integers and strings, for peers that are read and for those that are played;
//! everything is decoded. A literal names no table and no Huffman code. Only the tables of the RFC
//! are the gateway's, and its examples are decoded with them here, too.

use std::collections::VecDeque;
use std::io;
use std::sync::LazyLock;

use ringway_core::wire::h2::hpack::STATIC;
use ringway_core::wire::h2::hpack::huffman::LENGTHS;

use crate::head::{Fields, malformed};

/// Bytes of a dynamic table unless a SETTINGS frame says otherwise. No more is ever used.
const TABLE_BYTES: usize = 4096;
/// What an entry takes beside its name and value (RFC 7541 §4.1).
const ENTRY_BYTES: usize = 32;

/// A field as a literal that is not indexed, RFC 7541 §6.2.2.
pub fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name.as_bytes(), value] {
        put_integer(&mut block, 0, 7, text.len());
        block.extend_from_slice(text);
    }
    block
}

/// The decoder of one direction of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
}

impl Decoder {
    /// The fields of a whole block.
    pub fn fields(&mut self, block: &[u8]) -> io::Result<Fields> {
        let mut fields = Fields::new();
        self.read(block, &mut fields).map_err(malformed)?;
        Ok(fields)
    }

    fn read(&mut self, mut rest: &[u8], fields: &mut Fields) -> Result<(), &'static str> {
        while let Some(&first) = rest.first() {
            // RFC 7541 §6: indexed, literal to be indexed, size update, other literals.
            let (prefix, keep) = match first {
                0x80.. => {
                    let index = take_integer(&mut rest, 7)?;
                    fields.push(text(self.table.entry(index)?));
                    continue;
                }
                0x40.. => (6, true),
                0x20.. => {
                    let max = take_integer(&mut rest, 5)?;
                    if !fields.is_empty() {
                        return Err("a table size that may not be");
                    }
                    self.table.resize(max)?;
                    continue;
                }
                _ => (4, false),
            };
            let name = match take_integer(&mut rest, prefix)? {
                0 => take_string(&mut rest)?,
                index => self.table.entry(index)?.0,
            };
            let value = take_string(&mut rest)?;
            if keep {
                self.table.insert(name.clone(), value.clone());
            }
            fields.push(text((name, value)));
        }
        Ok(())
    }
}

/// Bytes that are no UTF-8 stay apart from each other all the same.
fn text((name, value): (Vec<u8>, Vec<u8>)) -> (String, String) {
    let text = |bytes| {
        String::from_utf8(bytes).unwrap_or_else(|e| e.as_bytes().escape_ascii().to_string())
    };
    (text(name), text(value))
}

/// The static table and, behind it, the dynamic one.
#[derive(Debug)]
pub struct Table {
    /// The newest first.
    pub entries: VecDeque<(Vec<u8>, Vec<u8>)>,
    pub bytes: usize,
    pub bytes_max: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES }
    }
}

impl Table {
    /// What an index of a block names.
    pub fn entry(&self, index: usize) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let index = index.checked_sub(1).ok_or("index 0")?;
        if let Some((name, value)) = STATIC.get(index) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.entries.get(index - STATIC.len()).cloned().ok_or("an index beyond the table")
    }

    /// The first entry that is the one.
    pub fn find(&self, is: impl Fn((&[u8], &[u8])) -> bool) -> Option<usize> {
        let fixed = STATIC.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let own = self.entries.iter().map(|(name, value)| (&name[..], &value[..]));
        fixed.chain(own).position(is).map(|index| index + 1)
    }

    /// Whether the entry fits without another's leaving.
    pub fn has_room(&self, name: &[u8], value: &[u8]) -> bool {
        self.bytes + name.len() + value.len() + ENTRY_BYTES <= self.bytes_max
    }

    pub fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.bytes += name.len() + value.len() + ENTRY_BYTES;
        self.entries.push_front((name, value));
        self.evict();
    }

    /// # Errors
    /// More than was allowed.
    pub fn resize(&mut self, bytes_max: usize) -> Result<(), &'static str> {
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
pub fn take_integer(block: &mut &[u8], bits: u32) -> Result<usize, &'static str> {
    let mut byte = || -> Result<usize, &'static str> {
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

/// The same, written behind the first bits of its first byte.
pub fn put_integer(block: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
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
pub fn take_string(block: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let huffman = block.first().is_some_and(|&first| first >= 0x80);
    let length = take_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or("a string cut short")?;
    *block = rest;
    if huffman { HUFFMAN.decode(text) } else { Ok(text.to_vec()) }
}

/// Huffman where that is shorter.
pub fn put_string(block: &mut Vec<u8>, text: &[u8]) {
    let coded = HUFFMAN.encode(text);
    let (first, text) = if coded.len() < text.len() { (0x80, &coded[..]) } else { (0, text) };
    put_integer(block, first, 7, text.len());
    block.extend_from_slice(text);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let text: String = text.split_whitespace().collect();
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[track_caller]
    fn check(decoder: &mut Decoder, block: &str, expected: &[(&str, &str)]) {
        let fields = decoder.fields(&hex(block)).unwrap();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        assert_eq!(fields, expected);
    }

    /// RFC 7541 appendix C.6: answers with Huffman's code and evictions.
    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        let mut decoder = Decoder::default();
        decoder.table.resize(256).unwrap();
        let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
        let location = ("location", "https://www.example.com");
        check(
            &mut decoder,
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            &[(":status", "302"), ("cache-control", "private"), date, location],
        );
        check(
            &mut decoder,
            "4883 640e ffc1 c0bf",
            &[(":status", "307"), ("cache-control", "private"), date, location],
        );
        check(
            &mut decoder,
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            &[
                (":status", "200"),
                ("cache-control", "private"),
                ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
                location,
                ("content-encoding", "gzip"),
                ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
            ],
        );
        assert_eq!(decoder.table.bytes, 215);
    }

    #[test]
    fn literals_come_back_whatever_their_length() {
        for n in [0, 1, 126, 127, 128, 255, 20_000] {
            let value = "v".repeat(n);
            let fields = Decoder::default().fields(&literal("x-name", value.as_bytes())).unwrap();
            assert_eq!(fields, [("x-name".to_owned(), value)]);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for block in ["80", "ff", "be", "3fe21f", "82 20", "00 05 61", "00 81 00 00", "00 ff"] {
            assert!(Decoder::default().fields(&hex(block)).is_err(), "{block}");
        }
    }
}
