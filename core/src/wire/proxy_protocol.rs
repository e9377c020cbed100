// SPDX-License-Identifier: Apache-2.0
//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): what a balancer says of
//! the connection that it passes on, before the connection's first byte.
//!
//! Nothing of it is believed but two addresses. Judged on the bytes received so far: what can no
//! longer become a header is refused at once, and a header never waits for a byte behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `None`: those of the socket stand. The balancer's own connection (`LOCAL`), `UNKNOWN`, a
    /// unix socket, or a protocol other than TCP.
    pub addresses: Option<Addresses>,
    /// Bytes that it takes; what follows is the client's.
    pub len: usize,
}

/// The two ends of the connection that the balancer passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// Outcome over the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed. Nothing is remembered: come back with all of them.
    Partial,
    Complete(Header),
}

/// Why a connection does not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The bytes are neither version's first.
    Absent,
    Malformed,
    /// Longer than [`PROXY_HEADER_BYTES_MAX`], or a line longer than version 1 allows.
    TooLong,
    /// The CRC-32c that it carries is not its own.
    Checksum,
}

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, CRLF included.
const LINE_BYTES_MAX: usize = 107;
/// Signature, version and command, family, length.
const PREAMBLE_BYTES: usize = 16;
/// The type of the only TLV that is looked at.
const TLV_CRC32C: u8 = 0x03;

/// Judges the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let begins = |signature: &[u8]| {
        let n = signature.len().min(bytes.len());
        bytes[..n] == signature[..n]
    };
    if begins(SIGNATURE_V1) {
        line(bytes)
    } else if begins(SIGNATURE_V2) {
        binary(bytes)
    } else {
        Err(HeaderError::Absent)
    }
}

/// Version 1: one line of text.
fn line(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX - 1)];
    let Some(end) = window.iter().position(|&byte| byte == b'\r') else {
        let full = window.len() == LINE_BYTES_MAX - 1;
        return if full { Err(HeaderError::TooLong) } else { Ok(Parsed::Partial) };
    };
    match bytes.get(end + 1) {
        Some(b'\n') => {}
        Some(_) => return Err(HeaderError::Malformed),
        None => return Ok(Parsed::Partial),
    }
    let Some(rest) = bytes[..end].strip_prefix(SIGNATURE_V1) else {
        return Err(HeaderError::Malformed);
    };
    // Whatever UNKNOWN is followed by is ignored.
    let unknown =
        rest.strip_prefix(b"UNKNOWN").is_some_and(|r| matches!(r.first(), None | Some(b' ')));
    let addresses = if unknown { None } else { Some(text(rest).ok_or(HeaderError::Malformed)?) };
    Ok(Parsed::Complete(Header { addresses, len: end + 2 }))
}

/// `TCP4 1.2.3.4 5.6.7.8 1 2`, single spaces.
fn text(rest: &[u8]) -> Option<Addresses> {
    let mut words = std::str::from_utf8(rest).ok()?.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, destination) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let word = words.next()?;
        let plain = word == "0" || !word.starts_with('0');
        let digits = word.bytes().all(|b| b.is_ascii_digit());
        if plain && digits { word.parse().ok() } else { None }
    };
    let (from, to) = (port()?, port()?);
    if words.next().is_some() {
        return None;
    }
    Some(Addresses {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// Version 2: a preamble that says how long the rest is.
fn binary(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    // Each byte is judged as soon as it is there.
    let command = match bytes.get(12) {
        None => return Ok(Parsed::Partial),
        Some(byte @ (0x20 | 0x21)) => byte & 0xf,
        Some(_) => return Err(HeaderError::Malformed),
    };
    let family = match bytes.get(13) {
        None => return Ok(Parsed::Partial),
        Some(&family) if command == 0 || (family >> 4 <= 3 && family & 0xf <= 2) => family,
        Some(_) => return Err(HeaderError::Malformed),
    };
    let Some(preamble) = bytes.get(..PREAMBLE_BYTES) else { return Ok(Parsed::Partial) };
    let len = PREAMBLE_BYTES + usize::from(u16::from_be_bytes([preamble[14], preamble[15]]));
    if len > PROXY_HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let address_bytes = match family >> 4 {
        _ if command == 0 => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    if PREAMBLE_BYTES + address_bytes > len {
        return Err(HeaderError::Malformed);
    }
    let Some(header) = bytes.get(..len) else { return Ok(Parsed::Partial) };
    if address_bytes > 0 {
        tlvs(header, PREAMBLE_BYTES + address_bytes)?;
    }
    let addresses = match (command, family) {
        (1, 0x11) => Some(inet(&header[PREAMBLE_BYTES..])),
        (1, 0x21) => Some(inet6(&header[PREAMBLE_BYTES..])),
        _ => None,
    };
    Ok(Parsed::Complete(Header { addresses, len }))
}

/// At least 12 bytes.
fn inet(block: &[u8]) -> Addresses {
    let ip = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]);
    Addresses {
        source: SocketAddr::new(ip(0).into(), port(block, 8)),
        destination: SocketAddr::new(ip(4).into(), port(block, 10)),
    }
}

/// At least 36 bytes.
fn inet6(block: &[u8]) -> Addresses {
    let ip = |at: usize| {
        let octets: [u8; 16] = block[at..at + 16].try_into().expect("sixteen bytes");
        Ipv6Addr::from(octets)
    };
    Addresses {
        source: SocketAddr::new(ip(0).into(), port(block, 32)),
        destination: SocketAddr::new(ip(16).into(), port(block, 34)),
    }
}

fn port(block: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([block[at], block[at + 1]])
}

/// Walks what follows the addresses; a checksum must be right, the rest is skipped.
fn tlvs(header: &[u8], from: usize) -> Result<(), HeaderError> {
    let mut at = from;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else {
            return Err(HeaderError::Malformed);
        };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        if end > header.len() {
            return Err(HeaderError::Malformed);
        }
        if kind == TLV_CRC32C {
            let found: [u8; 4] =
                header[value..end].try_into().map_err(|_| HeaderError::Malformed)?;
            // The sum is made with zeroes in its own place.
            let sum = crc32c(crc32c(crc32c(!0, &header[..value]), &[0; 4]), &header[end..]);
            if !sum != u32::from_be_bytes(found) {
                return Err(HeaderError::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

/// CRC-32c (RFC 3720 §12.1), a byte at a time: a header is short. Not yet complemented.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut at = 0;
        while at < 256 {
            let mut entry = at as u32;
            let mut bit = 0;
            while bit < 8 {
                entry = (entry >> 1) ^ if entry & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[at] = entry;
            at += 1;
        }
        table
    };
    bytes
        .iter()
        .fold(sum, |sum, &byte| (sum >> 8) ^ TABLE[((sum ^ u32::from(byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests;
