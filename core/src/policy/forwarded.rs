// SPDX-License-Identifier: Apache-2.0
//! Who the client is and what the upstream is told about it: X-Forwarded-For, X-Forwarded-Proto,
//! x-envoy-external-address, x-envoy-internal, x-request-id.
//!
//! The rules are Envoy's, with which Emissary's `use_remote_address` and `l7Depth` are defined:
//! what a client claims counts only as far as trusted proxies stand in front.

use std::net::{IpAddr, SocketAddr};

use super::format::push_ip;
use crate::wire::{HeadView, Known};

/// What we hold true about where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// The client after trusted hops: `x-envoy-external-address` where [`Forwarded::edge`].
    pub client: IpAddr,
    /// Came over TLS, as far as trusted hops say: the `x-forwarded-proto` that goes upstream.
    pub secure: bool,
    /// A private address that nobody forwarded for: `x-envoy-internal: true`, and its own
    /// `x-envoy-*` pass.
    pub internal: bool,
    /// We are the first trusted hop: `x-envoy-external-address` is set, `x-request-id` is made
    /// anew unless external ones are preserved.
    pub edge: bool,
    /// The peer is appended to `x-forwarded-for`.
    pub append_peer: bool,
}

/// Judges the forwarding headers. `l7_depth` is the number of trusted proxies in front.
pub fn forwarded(
    view: HeadView<'_>,
    peer: SocketAddr,
    transport_secure: bool,
    use_remote_address: bool,
    l7_depth: u32,
) -> Forwarded {
    let mut has_forwarded_for = false;
    let mut claims = 0;
    let mut claimed_secure = None;
    for field in &view.head.fields {
        match field.known {
            Known::XForwardedFor => has_forwarded_for = true,
            Known::XForwardedProto => {
                claims += 1;
                claimed_secure = secure(field.value.of(view.block));
            }
            _ => {}
        }
    }
    // Several claims contradict each other or are a list: none of them counts.
    let claimed_secure = claimed_secure.filter(|_| claims == 1);
    let peer = peer.ip().to_canonical();
    if use_remote_address {
        let trusted = l7_depth > 0;
        let client = match trusted && has_forwarded_for {
            true => from_right(view, l7_depth - 1).map(|(address, _)| address),
            false => None,
        };
        let client = client.unwrap_or(peer);
        let internal = !has_forwarded_for && is_internal(client);
        Forwarded {
            client,
            secure: claimed_secure.filter(|_| trusted).unwrap_or(transport_secure),
            internal,
            edge: !internal,
            append_peer: true,
        }
    } else {
        // Our peer is a proxy of our own, which has appended its own peer already.
        let found = match has_forwarded_for {
            true => from_right(view, l7_depth),
            false => None,
        };
        Forwarded {
            client: found.map_or(peer, |(address, _)| address),
            secure: claimed_secure.unwrap_or(transport_secure),
            internal: found.is_some_and(|(address, sole)| sole && is_internal(address)),
            edge: false,
            append_peer: false,
        }
    }
}

/// Appends the `x-forwarded-for` that goes upstream: every line that came joined by commas, then
/// the peer. Nothing where there is nothing to say.
pub fn write_forwarded_for(
    view: HeadView<'_>,
    peer: SocketAddr,
    forwarded: &Forwarded,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let lines = view.head.fields.iter().filter(|f| f.known == Known::XForwardedFor);
    for line in lines.filter(|line| !line.value.is_empty()) {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(line.value.of(view.block));
    }
    if forwarded.append_peer {
        if out.len() > start {
            out.push(b',');
        }
        push_ip(peer.ip().to_canonical(), out);
    }
}

/// A version 4 UUID (RFC 9562 §5.4) from random bits, as text in lower case.
pub fn request_id(random: u128) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    /// Where each byte's two digits stand.
    const AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let bits = random & !(0xf000 << 64) & !(0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
    let mut text = [b'-'; 36];
    for (byte, at) in bits.to_be_bytes().into_iter().zip(AT) {
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
    }
    text
}

fn secure(proto: &[u8]) -> Option<bool> {
    if proto.eq_ignore_ascii_case(b"https") {
        Some(true)
    } else if proto.eq_ignore_ascii_case(b"http") {
        Some(false)
    } else {
        None
    }
}

/// The address that stands `skip` entries from the right of all `x-forwarded-for` lines, and
/// whether it is the only entry.
fn from_right(view: HeadView<'_>, skip: u32) -> Option<(IpAddr, bool)> {
    let mut entries = view
        .head
        .fields
        .iter()
        .rev()
        .filter(|f| f.known == Known::XForwardedFor)
        .flat_map(|f| f.value.of(view.block).rsplit(|&b| b == b','));
    let entry = entries.nth(skip as usize)?;
    let sole = skip == 0 && entries.next().is_none();
    Some((address(entry.trim_ascii())?, sole))
}

/// An address, with or without a port, as proxies write it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let ip = match text.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => match text.parse::<SocketAddr>() {
            Ok(socket) => socket.ip(),
            Err(_) => text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?,
        },
    };
    Some(ip.to_canonical())
}

/// Envoy's default of internal addresses: RFC 1918, RFC 4193 `fd00::/8`, loopback.
fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.octets()[0] == 0xfd || v6.is_loopback(),
    }
}

#[cfg(test)]
mod tests;
