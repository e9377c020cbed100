// SPDX-License-Identifier: Apache-2.0
//! Just enough HTTP/1.1 to be both ends of a proxy cheaply: where a head ends, its status or target,
//! the length of its body. Anything else (chunked bodies, obs-fold) is an error here, because every
//! message of the bench has a `content-length`.

use memchr::{memchr, memmem};

/// Where the head ends (just past its empty line), if it is whole.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// A response head: status and body length.
pub(crate) fn response(head: &[u8]) -> Result<(u16, u64), String> {
    let status = head
        .get(9..12)
        .filter(|_| head.starts_with(b"HTTP/1."))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or_else(|| "an answer without a status line".to_owned())?;
    match content_length(head)? {
        Some(length) => Ok((status, length)),
        None => Err(format!("an answer {status} without content-length")),
    }
}

/// A request head: its path and query, and body length.
pub(crate) fn request(head: &[u8]) -> Result<(&[u8], u64), String> {
    let mut words = head.split(|&byte| byte == b' ');
    let target = words.nth(1).ok_or_else(|| "a request without a target".to_owned())?;
    Ok((target, content_length(head)?.unwrap_or(0)))
}

fn content_length(head: &[u8]) -> Result<Option<u64>, String> {
    if field(head, "transfer-encoding").is_some() {
        return Err("a message with transfer-encoding".to_owned());
    }
    field(head, "content-length")
        .map(|text| {
            std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| "a content-length that is no number".to_owned())
        })
        .transpose()
}

/// The value of the first field of that name, without surrounding blanks.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    fields(head, name).next()
}

/// The values of every field of that name.
pub(crate) fn fields<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = memchr(b'\n', head).map_or(&head[..0], |at| &head[at + 1..]);
    std::iter::from_fn(move || {
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if line.get(name.len()) == Some(&b':')
                && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
            {
                return Some(line[name.len() + 1..].trim_ascii());
            }
        }
        None
    })
}

/// Every field's name and value.
pub(crate) fn all_fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|&byte| byte == b'\n').skip(1).filter_map(|line| {
        let colon = memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

/// The body of every answer and request of `length` bytes: printable, without a short period, the same
/// in every run.
pub(crate) fn body(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'a' + (state % 26) as u8
    };
    (0..length).map(letter).collect()
}

/// FNV-1a, fed in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    pub(crate) fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }
}

#[cfg(test)]
mod tests;
