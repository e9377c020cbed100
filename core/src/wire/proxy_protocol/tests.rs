// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Addresses, Header, HeaderError, Parsed, SIGNATURE_V2, crc32c, parse};
use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What becomes of a connection whose bytes arrive in pieces that end at these positions.
fn outcome(input: &[u8], ends: impl IntoIterator<Item = usize>) -> Result<Parsed, HeaderError> {
    for end in ends {
        match parse(&input[..end]) {
            Ok(Parsed::Partial) => {}
            decided => return decided,
        }
    }
    Ok(Parsed::Partial)
}

/// The same verdict whole, byte by byte, and split anywhere.
fn everywhere(input: &[u8]) -> Result<Parsed, HeaderError> {
    let whole = outcome(input, [input.len()]);
    assert_eq!(outcome(input, 0..=input.len()), whole, "by bytes: {input:?}");
    for cut in 0..input.len() {
        assert_eq!(outcome(input, [cut, input.len()]), whole, "cut at {cut}: {input:?}");
    }
    whole
}

#[track_caller]
fn says(input: impl AsRef<[u8]>, addresses: Option<(&str, &str)>) {
    let input = input.as_ref();
    let addresses = addresses.map(|(source, destination)| Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    });
    let complete = Ok(Parsed::Complete(Header { addresses, len: input.len() }));
    assert_eq!(everywhere(input), complete, "{input:?}");
    // What follows is the client's, whatever it is.
    for rest in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"\r\n", b"PROXY "] {
        assert_eq!(everywhere(&[input, rest].concat()), complete);
    }
    // Nothing shorter is a header.
    for end in 0..input.len() {
        assert_eq!(parse(&input[..end]), Ok(Parsed::Partial), "{end} of {input:?}");
    }
}

#[track_caller]
fn refuses(input: impl AsRef<[u8]>, error: HeaderError) {
    assert_eq!(everywhere(input.as_ref()), Err(error), "{:?}", input.as_ref());
}

#[test]
fn lines() {
    says(
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        Some(("192.168.0.1:56324", "192.168.0.11:443")),
    );
    says(
        "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        Some(("0.0.0.0:0", "255.255.255.255:65535")),
    );
    says("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", Some(("[2001:db8::1]:1", "[::1]:2")));
    says("PROXY TCP6 ::FFFF:1.2.3.4 ::1 1 2\r\n", Some(("[::ffff:1.2.3.4]:1", "[::1]:2")));
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    says(
        format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n"),
        Some((&format!("[{longest}]:65535"), &format!("[{longest}]:65535"))),
    );
    says("PROXY UNKNOWN\r\n", None);
    says("PROXY UNKNOWN ffff:ffff 1 whatever it says\r\n", None);
    says(format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)), None);
}

#[test]
fn bad_lines() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP6 1::2::3 ::1 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx",
        "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
    ] {
        refuses(line, HeaderError::Malformed);
    }
    refuses(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)), HeaderError::TooLong);
    refuses(format!("PROXY UNKNOWN {}", "x".repeat(200)), HeaderError::TooLong);
    // A line feed alone ends nothing.
    refuses(format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n{}", "x".repeat(107)), HeaderError::TooLong);
    assert_eq!(parse(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), Ok(Parsed::Partial));
}

#[test]
fn something_else_is_refused_at_its_first_byte() {
    for input in ["G", "PROXX", "PROXY\t", "PUT / HTTP/1.1\r\n", "\x16\x03\x01", "\r\n\r\n\r", "\0"]
    {
        refuses(input, HeaderError::Absent);
    }
    assert_eq!(parse(b""), Ok(Parsed::Partial));
    assert_eq!(parse(b"P"), Ok(Parsed::Partial));
    assert_eq!(parse(b"\r"), Ok(Parsed::Partial));
}

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE_V2, &[command, family], &len, block].concat()
}

const IPV4: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x34, 0x01, 0xbb];

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

/// A header with its checksum behind other TLVs.
fn summed(flip: u32) -> Vec<u8> {
    let block = [&IPV4[..], &tlv(0x02, b"foo.com"), &tlv(0x03, &[0; 4]), &tlv(0x04, &[0; 9])];
    let mut header = v2(0x21, 0x11, &block.concat());
    let sum = !crc32c(!0, &header) ^ flip;
    let at = 16 + 12 + 10 + 3;
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

#[test]
fn binary() {
    let tcp4 = Some(("1.2.3.4:4660", "5.6.7.8:443"));
    says(v2(0x21, 0x11, &IPV4), tcp4);
    let ip6 = [[0x20; 16], [0x30; 16]].concat();
    says(
        v2(0x21, 0x21, &[&ip6[..], &[0, 1, 0, 2]].concat()),
        Some((
            "[2020:2020:2020:2020:2020:2020:2020:2020]:1",
            "[3030:3030:3030:3030:3030:3030:3030:3030]:2",
        )),
    );
    // The balancer's own connection, whatever it says of it.
    says(v2(0x20, 0x00, &[]), None);
    says(v2(0x20, 0x11, &IPV4), None);
    says(v2(0x20, 0xff, &[1, 2, 3]), None);
    // What is not TCP over IP.
    says(v2(0x21, 0x00, &[]), None);
    says(v2(0x21, 0x00, &[9; 30]), None);
    says(v2(0x21, 0x12, &IPV4), None);
    says(v2(0x21, 0x31, &[0; 216]), None);
    // TLVs are skipped.
    says(v2(0x21, 0x11, &[&IPV4[..], &tlv(0x01, b"h2"), &tlv(0xea, &[0; 300])].concat()), tcp4);
    says(summed(0), tcp4);
}

#[test]
fn bad_binary() {
    use HeaderError::{Checksum, Malformed, TooLong};
    refuses(v2(0x11, 0x11, &IPV4), Malformed);
    refuses(v2(0x22, 0x11, &IPV4), Malformed);
    refuses(v2(0x21, 0x41, &IPV4), Malformed);
    refuses(v2(0x21, 0x13, &IPV4), Malformed);
    refuses(v2(0x21, 0x11, &IPV4[..11]), Malformed);
    refuses(v2(0x21, 0x21, &IPV4), Malformed);
    refuses(v2(0x21, 0x31, &[0; 215]), Malformed);
    refuses(v2(0x21, 0x11, &[&IPV4[..], &[1]].concat()), Malformed);
    refuses(v2(0x21, 0x11, &[&IPV4[..], &[1, 0, 1]].concat()), Malformed);
    refuses(v2(0x21, 0x11, &[&IPV4[..], &tlv(0x03, &[0; 3])].concat()), Malformed);
    refuses(summed(1), Checksum);
    let fits = PROXY_HEADER_BYTES_MAX - 16 - 12;
    let long = |n: usize| v2(0x21, 0x11, &[&IPV4[..], &tlv(0xea, &vec![0; n - 3])].concat());
    assert!(matches!(parse(&long(fits)), Ok(Parsed::Complete(_))));
    assert_eq!(parse(&long(fits + 1)), Err(TooLong));
    assert_eq!(parse(&long(fits + 1)[..16]), Err(TooLong));
}

#[test]
fn checksums_are_those_of_the_rfc() {
    // RFC 3720 appendix B.4.
    assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
    assert_eq!(!crc32c(!0, &[0xff; 32]), 0x62a8_ab43);
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        source in any::<std::net::SocketAddr>(),
        flip in any::<bool>(),
        port in any::<u16>(),
        values in prop::collection::vec((4u8.., prop::collection::vec(any::<u8>(), 0..40)), 0..4),
    ) {
        let destination = std::net::SocketAddr::new(source.ip(), port);
        let (source, destination) = if flip { (destination, source) } else { (source, destination) };
        let plain = |a: std::net::SocketAddr| std::net::SocketAddr::new(a.ip(), a.port());
        let wanted = Addresses { source: plain(source), destination: plain(destination) };
        let family = if source.is_ipv4() { 4 } else { 6 };
        let text = format!(
            "PROXY TCP{family} {} {} {} {}\r\n",
            source.ip(), destination.ip(), source.port(), destination.port(),
        );
        let octets = |a: std::net::SocketAddr| match a.ip() {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut block = [octets(source), octets(destination)].concat();
        block.extend(source.port().to_be_bytes());
        block.extend(destination.port().to_be_bytes());
        values.iter().for_each(|(kind, value)| block.extend(tlv(*kind, value)));
        let binary = v2(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &block);
        for header in [text.into_bytes(), binary] {
            let expected = Header { addresses: Some(wanted), len: header.len() };
            prop_assert_eq!(everywhere(&header), Ok(Parsed::Complete(expected)));
        }
    }

    #[test]
    fn any_bytes_have_one_verdict(
        start in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", SIGNATURE_V2]),
        rest in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let input = [start, &rest].concat();
        if let Ok(Parsed::Complete(header)) = everywhere(&input) {
            prop_assert!(header.len <= input.len());
            prop_assert!(header.len <= PROXY_HEADER_BYTES_MAX);
        }
    }
}
