// SPDX-License-Identifier: Apache-2.0
//! PROXY protocol headers as a load balancer writes them. From its specification (v1 §2.1,
//! v2 §2.2), and shares nothing with the gateway's reader.

use std::net::{IpAddr, SocketAddr};

/// `PROXY TCP4 …`
pub fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
    .into_bytes()
}

/// The binary form, with these type-length-values (already encoded) behind the addresses.
pub fn v2(source: SocketAddr, destination: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let mut addresses = Vec::new();
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(ip) => addresses.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => addresses.extend_from_slice(&ip.octets()),
        }
    }
    addresses.extend_from_slice(&source.port().to_be_bytes());
    addresses.extend_from_slice(&destination.port().to_be_bytes());
    addresses.extend_from_slice(tlvs);
    frame(0x21, family, &addresses)
}

/// A v2 health check of the load balancer's own: it speaks for nobody.
pub fn v2_local() -> Vec<u8> {
    frame(0x20, 0x00, &[])
}

fn frame(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    out.extend_from_slice(rest);
    out
}
