// SPDX-License-Identifier: Apache-2.0
//! `uri-host [ ":" port ]` (RFC 3986 §3.2) as Host, `:authority` and targets carry it.

use std::net::Ipv6Addr;

/// What a byte means in a host, one bit each; 0 stays as it is.
mod class {
    /// Has another case in normal form.
    pub(super) const CAPITAL: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
}

/// RFC 3986 §3.2.2 `reg-name` without escapes.
static HOST: [u8; 256] = {
    let mut classes = [class::REFUSED; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'A'..=b'Z' => class::CAPITAL,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => 0,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => 0,
            _ => class::REFUSED,
        };
        byte += 1;
    }
    classes
};

/// An authority that is valid, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// An IPv6 address keeps its brackets; a final dot is gone.
    pub host: &'a [u8],
    pub port: Option<u16>,
    /// The text was in normal form.
    pub normal: bool,
}

impl<'a> Authority<'a> {
    /// Nothing where it is none. User information, percent-encoded hosts and ports with leading
    /// zeros are refused: they would be second spellings.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (host, rest, mut normal) = match text.first() {
            Some(b'[') => {
                let end = memchr::memchr(b']', text)?;
                let host = &text[..=end];
                std::str::from_utf8(&host[1..end]).ok()?.parse::<Ipv6Addr>().ok()?;
                (host, &text[end + 1..], !host.iter().any(u8::is_ascii_uppercase))
            }
            _ => {
                let end = memchr::memchr(b':', text).unwrap_or(text.len());
                let (host, rest) = text.split_at(end);
                let seen = host.iter().fold(0, |seen, &byte| seen | HOST[byte as usize]);
                if seen & class::REFUSED != 0 {
                    return None;
                }
                (host, rest, seen == 0)
            }
        };
        let host = match host.strip_suffix(b".") {
            Some(host) => {
                normal = false;
                host
            }
            None => host,
        };
        if host.is_empty() || host.ends_with(b".") {
            return None;
        }
        let port = match rest {
            [] => None,
            // RFC 3986 §6.2.3: an empty port and its colon are left out.
            [b':'] => {
                normal = false;
                None
            }
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Self { host, port, normal })
    }

    /// Whether both are authorities of the same host, and of the same port as far as both name
    /// one.
    pub fn agree(one: &[u8], other: &[u8]) -> bool {
        let (Some(one), Some(other)) = (Authority::parse(one), Authority::parse(other)) else {
            return false;
        };
        let ports = one.port.zip(other.port);
        one.host.eq_ignore_ascii_case(other.host) && ports.is_none_or(|(a, b)| a == b)
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    let value = digits.iter().fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    u16::try_from(value).ok()
}

#[cfg(test)]
mod tests;
