// SPDX-License-Identifier: Apache-2.0
//! The PROXY protocol's header: one verdict however its bytes arrive, and what it says of
//! addresses is what a header that says only that would say.

use std::net::SocketAddr;

use ringway_core::limits::PROXY_HEADER_BYTES_MAX;
use ringway_core::wire::proxy_protocol::{Addresses, HeaderError, Parsed, parse};

/// The bytes are the start of a connection.
pub fn proxy_protocol(data: &[u8]) {
    let whole = parse(data);
    // The first piece that decides, decides for all that could follow.
    let mut decided = None;
    for end in 0..=data.len() {
        match (parse(&data[..end]), decided) {
            (Ok(Parsed::Partial), None) => {
                assert!(end < PROXY_HEADER_BYTES_MAX, "{end} bytes, and no verdict");
            }
            (verdict, None) => decided = Some(verdict),
            (verdict, Some(earlier)) => assert_eq!(verdict, earlier, "at {end}"),
        }
        // Beyond a header's length every piece has the same verdict; a few are enough.
        if decided.is_some() && end > 512 {
            break;
        }
    }
    assert_eq!(whole, decided.unwrap_or(Ok(Parsed::Partial)));
    match whole {
        Ok(Parsed::Complete(header)) => {
            assert!(header.len <= data.len());
            if let Some(addresses) = header.addresses {
                assert_eq!(addresses.source.is_ipv4(), addresses.destination.is_ipv4());
                for plain in [line(addresses), binary(addresses)] {
                    let again = parse(&plain);
                    let Ok(Parsed::Complete(again)) = again else { panic!("{again:?}") };
                    assert_eq!((again.addresses, again.len), (Some(addresses), plain.len()));
                }
            }
        }
        Err(HeaderError::Absent) => {
            assert!(!data.starts_with(b"PROXY ") && !data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
        }
        Ok(Parsed::Partial) | Err(_) => {}
    }
}

fn line(of: Addresses) -> Vec<u8> {
    let Addresses { source, destination } = of;
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn binary(of: Addresses) -> Vec<u8> {
    let octets = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let mut block = [octets(of.source), octets(of.destination)].concat();
    block.extend(of.source.port().to_be_bytes());
    block.extend(of.destination.port().to_be_bytes());
    let family = if of.source.is_ipv4() { 0x11 } else { 0x21 };
    let preamble = [0x21, family, 0, block.len() as u8];
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &preamble, &block].concat()
}
