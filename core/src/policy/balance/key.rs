// SPDX-License-Identifier: Apache-2.0
//! A request's key: a header's value, a cookie's, or the client's address → a number, and the
//! cookie that a client without one is given. Values and their hashes are Envoy's.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{HashCookie, HashKey, hash, seeded};
use crate::wire::HeadView;

/// Who asks, as far as keys depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub head: HeadView<'a>,
    /// The client's address after `X-Forwarded-For` handling.
    pub client: IpAddr,
    /// Both ends of its connection.
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// What ties a request to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// `None`: the request has no key.
    pub key: Option<u64>,
    /// Value of the cookie that the answer has to set.
    pub give: Option<CookieValue>,
}

/// Sixteen hexadecimal digits.
pub type CookieValue = [u8; 16];

impl HashKey {
    pub fn of(&self, caller: &Caller<'_>) -> Affinity {
        match self {
            Self::Header(name) => {
                let values = caller.head.values(name);
                let key = values.fold(None, |seed, value| Some(seeded(value, seed.unwrap_or(0))));
                Affinity { key, give: None }
            }
            Self::Cookie(cookie) => {
                let value = caller.head.values("cookie").find_map(|v| value_of(v, &cookie.name));
                match value.filter(|value| !value.is_empty()) {
                    Some(value) => Affinity { key: Some(hash(value)), give: None },
                    None if cookie.ttl.is_none() => Affinity::default(),
                    None => {
                        let value = of_connection(caller);
                        Affinity { key: Some(hash(&value)), give: Some(value) }
                    }
                }
            }
            Self::SourceIp => {
                let mut text = Text::default();
                text.push(format_args!("{}", caller.client));
                Affinity { key: Some(hash(text.as_bytes())), give: None }
            }
        }
    }
}

impl HashCookie {
    /// Writes `set-cookie` with this value, without its line end.
    pub fn write_value(&self, value: &CookieValue, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(b"=\"");
        out.extend_from_slice(value);
        out.push(b'"');
        let seconds = self.ttl.map_or(0, |ttl| ttl.as_secs());
        // Envoy: a session cookie has no age.
        if seconds > 0 {
            write!(out, "; Max-Age={seconds}").expect("a vector takes everything");
        }
        if let Some(path) = &self.path {
            out.extend_from_slice(b"; Path=");
            out.extend_from_slice(path.as_bytes());
        }
        out.extend_from_slice(b"; HttpOnly");
    }
}

/// One cookie's value in a `cookie` line (RFC 6265 §4.2.1), without its quotes.
fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.split(|b| *b == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
        Some(bare.unwrap_or(value))
    })
}

/// Envoy: a hash of the connection's addresses, so that requests that a client sends before it
/// has its cookie stay together.
fn of_connection(caller: &Caller<'_>) -> CookieValue {
    let mut text = Text::default();
    text.push(format_args!("{}{}", caller.peer, caller.local));
    let mut number = hash(text.as_bytes());
    let mut value = CookieValue::default();
    for digit in value.iter_mut().rev() {
        *digit = b"0123456789abcdef"[number as usize & 15];
        number >>= 4;
    }
    value
}

/// Room for two addresses with their ports.
struct Text {
    bytes: [u8; 128],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; 128], len: 0 }
    }
}

impl Text {
    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        let mut rest = &mut self.bytes[self.len..];
        let room = rest.len();
        rest.write_fmt(text).expect("128 bytes hold two addresses");
        let left = rest.len();
        self.len += room - left;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests;
