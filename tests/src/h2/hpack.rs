// SPDX-License-Identifier: Apache-2.0
//! HPACK, RFC 7541: everything is decoded; what is encoded names no table and no Huffman code.

use std::collections::VecDeque;
use std::io;
use std::sync::OnceLock;

use crate::head::{Fields, malformed};

/// A field as a literal that is not indexed, RFC 7541 §6.2.2.
pub fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name.as_bytes(), value] {
        integer(&mut block, 0, 7, text.len());
        block.extend_from_slice(text);
    }
    block
}

/// An integer behind the first bits of a byte, RFC 7541 §5.1.
pub fn integer(block: &mut Vec<u8>, first: u8, prefix: u32, mut n: usize) {
    let most = (1 << prefix) - 1;
    if n < most {
        return block.push(first | n as u8);
    }
    block.push(first | most as u8);
    n -= most;
    while n >= 128 {
        block.push(n as u8 | 128);
        n >>= 7;
    }
    block.push(n as u8);
}

/// The decoder of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    /// The newest first.
    table: VecDeque<(String, String)>,
    size: usize,
    /// That the other side chose, and that it may choose.
    max: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, max: 4096, limit: 4096 }
    }
}

impl Decoder {
    /// The fields of a whole block.
    pub fn fields(&mut self, block: &[u8]) -> io::Result<Fields> {
        let mut rest = block;
        let mut fields = Fields::new();
        while let Some(&first) = rest.first() {
            // RFC 7541 §6: indexed, literal to be indexed, size update, other literals.
            let (prefix, keep) = match first {
                0x80.. => {
                    let index = take_integer(&mut rest, 7)?;
                    fields.push(self.entry(index)?);
                    continue;
                }
                0x40.. => (6, true),
                0x20.. => {
                    let max = take_integer(&mut rest, 5)?;
                    if max > self.limit || !fields.is_empty() {
                        return Err(malformed("a table size that may not be"));
                    }
                    self.max = max;
                    self.evict();
                    continue;
                }
                _ => (4, false),
            };
            let name = match take_integer(&mut rest, prefix)? {
                0 => take_string(&mut rest)?,
                index => self.entry(index)?.0,
            };
            let field = (name, take_string(&mut rest)?);
            if keep {
                self.size += weight(&field);
                self.table.push_front(field.clone());
                self.evict();
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> io::Result<(String, String)> {
        let fixed = index.checked_sub(1).and_then(|at| STATIC.get(at));
        let entry = match fixed {
            Some((name, value)) => Some(((*name).to_owned(), (*value).to_owned())),
            None => self.table.get(index.wrapping_sub(STATIC.len() + 1)).cloned(),
        };
        entry.ok_or_else(|| malformed(format!("no entry {index}")))
    }

    fn evict(&mut self) {
        while self.size > self.max {
            let Some(oldest) = self.table.pop_back() else { return };
            self.size -= weight(&oldest);
        }
    }
}

/// RFC 7541 §4.1.
fn weight((name, value): &(String, String)) -> usize {
    name.len() + value.len() + 32
}

fn take_integer(rest: &mut &[u8], prefix: u32) -> io::Result<usize> {
    let short = || malformed("an integer without an end");
    let (&first, mut bytes) = rest.split_first().ok_or_else(short)?;
    let most = (1_usize << prefix) - 1;
    let mut n = usize::from(first) & most;
    if n == most {
        for shift in (0..).step_by(7) {
            let (&byte, after) = bytes.split_first().ok_or_else(short)?;
            bytes = after;
            if shift > 28 {
                return Err(malformed("an integer too large"));
            }
            n += usize::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
    }
    *rest = bytes;
    Ok(n)
}

fn take_string(rest: &mut &[u8]) -> io::Result<String> {
    let coded = rest.first().is_some_and(|first| *first >= 128);
    let length = take_integer(rest, 7)?;
    let (bytes, after) =
        rest.split_at_checked(length).ok_or_else(|| malformed("a string without an end"))?;
    *rest = after;
    let bytes = if coded { huffman(bytes)? } else { bytes.to_vec() };
    // Bytes that are no UTF-8 stay apart from each other all the same.
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| e.as_bytes().escape_ascii().to_string()))
}

/// Decodes Huffman's code, RFC 7541 §5.2 and appendix B.
fn huffman(bytes: &[u8]) -> io::Result<Vec<u8>> {
    static CODES: OnceLock<Vec<(u8, u32, usize)>> = OnceLock::new();
    let codes = CODES.get_or_init(codes);
    let mut out = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u8);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Ok(at) = codes.binary_search_by_key(&(length, code), |(l, c, _)| (*l, *c)) {
            let symbol = codes[at].2;
            out.push(u8::try_from(symbol).map_err(|_| malformed("an end inside a string"))?);
            (code, length) = (0, 0);
        } else if length == 30 {
            return Err(malformed("no such code"));
        }
    }
    // Padding is less than a byte of ones.
    if length > 7 || code != (1 << length) - 1 {
        return Err(malformed("padding that is none"));
    }
    Ok(out)
}

/// Length, code and symbol. The code is canonical: lengths alone define it.
fn codes() -> Vec<(u8, u32, usize)> {
    let mut symbols: Vec<(u8, usize)> = LENGTHS.iter().copied().zip(0..).collect();
    symbols.sort_unstable();
    let (mut next, mut before) = (0_u32, 0);
    let code = symbols.into_iter().map(|(length, symbol)| {
        let code = next << (length - before);
        (next, before) = (code + 1, length);
        (length, code, symbol)
    });
    code.collect()
}

/// Bits of each symbol's code; the last one is the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
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
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// RFC 7541 appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

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
        let mut decoder = Decoder { max: 256, ..Decoder::default() };
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
        assert_eq!(decoder.size, 215);
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
