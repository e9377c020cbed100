// SPDX-License-Identifier: Apache-2.0
//! HPACK (RFC 7541) between header blocks and heads written as HTTP/1.1 writes them, so that the rest of
//! the bench knows one form of a head: `GET /13 HTTP/2`, `host` for `:authority`, `HTTP/2 200`; trailers
//! have `trailers` for a first line. Both ends remember the latest blocks and what they mean until the
//! dynamic table changes: proxies repeat themselves, and comparing is cheaper than decoding.

use std::collections::VecDeque;
use std::ptr;

use ringway_tests::h2::hpack::{Table, put_integer, put_string, take_integer, take_string};

use crate::http;

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
                0x80.. => self.table.entry(take_integer(&mut block, 7)?)?,
                0x20..0x40 => {
                    self.table.resize(take_integer(&mut block, 5)?)?;
                    changed = true;
                    continue;
                }
                _ => {
                    let inserts = first >= 0x40;
                    let name = match take_integer(&mut block, if inserts { 6 } else { 4 })? {
                        0 => take_string(&mut block)?,
                        index => self.table.entry(index)?.0,
                    };
                    let value = take_string(&mut block)?;
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

#[cfg(test)]
mod tests;
