// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[track_caller]
fn check(decoder: &mut Decoder, block: &str, head: &str) {
    assert_eq!(String::from_utf8_lossy(decoder.head(&bytes(block)).unwrap()), head);
}

/// RFC 7541 appendix C.4: three requests on one connection.
#[test]
fn requests_of_the_rfc_are_read() {
    let mut decoder = Decoder::default();
    let first = "GET / HTTP/2\r\nhost: www.example.com\r\n";
    check(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff", &format!("{first}\r\n"));
    let second = format!("{first}cache-control: no-cache\r\n\r\n");
    check(&mut decoder, "828684be5886a8eb10649cbf", &second);
    let third =
        "GET /index.html HTTP/2\r\nhost: www.example.com\r\ncustom-key: custom-value\r\n\r\n";
    check(&mut decoder, "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", third);
    assert_eq!(decoder.table.bytes, 164);
}

/// RFC 7541 appendix C.6: three answers, entries evicted.
#[test]
fn answers_of_the_rfc_are_read() {
    let mut decoder = Decoder::default();
    decoder.table.resize(256).unwrap();
    let fields = |control: &str, second: u32| {
        format!(
            "cache-control: {control}\r\ndate: Mon, 21 Oct 2013 20:13:{second} GMT\r\n\
             location: https://www.example.com\r\n"
        )
    };
    let first = format!("HTTP/2 302\r\n{}\r\n", fields("private", 21));
    check(
        &mut decoder,
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        &first,
    );
    check(&mut decoder, "4883640effc1c0bf", &first.replace("302", "307"));
    let third = format!(
        "HTTP/2 200\r\n{}content-encoding: gzip\r\nset-cookie: \
         foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\r\n\r\n",
        fields("private", 22)
    );
    check(
        &mut decoder,
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        &third,
    );
    assert_eq!((decoder.table.bytes, decoder.table.entries.len()), (215, 3));
}

#[test]
fn a_block_means_what_the_table_makes_of_it() {
    let mut decoder = Decoder::default();
    // A literal that is inserted, twice, and what index 62 is after each.
    check(&mut decoder, "88400161013140016201 32", "HTTP/2 200\r\na: 1\r\nb: 2\r\n\r\n");
    check(&mut decoder, "88be", "HTTP/2 200\r\nb: 2\r\n\r\n");
    check(&mut decoder, "88be", "HTTP/2 200\r\nb: 2\r\n\r\n");
    check(&mut decoder, "4001630133", "trailers\r\nc: 3\r\n\r\n");
    check(&mut decoder, "88be", "HTTP/2 200\r\nc: 3\r\n\r\n");
    check(&mut decoder, "4001630133", "trailers\r\nc: 3\r\n\r\n");
    assert_eq!(decoder.table.entries.len(), 4);
}

#[test]
fn what_is_written_is_read_and_soon_short() {
    let request = b"POST /api/13 HTTP/2\r\nhost: h\r\nuser-agent: \xc3\xa4 {~}\r\n\
        content-length: 5\r\nte: trailers\r\n\r\n";
    let answer = b"HTTP/2 200\r\nserver: null\r\nx-version: 1\r\n\r\n";
    let trailers = b"trailers\r\ngrpc-status: 0\r\n\r\n";
    for head in [&request[..], answer, trailers] {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut lengths = Vec::new();
        for _ in 0..4 {
            let mut block = Vec::new();
            encoder.block(head, true, &mut block);
            assert_eq!(decoder.head(&block).unwrap(), head);
            lengths.push(block.len());
        }
        assert!(lengths[1] * 2 < lengths[0], "{lengths:?}");
        assert_eq!(lengths[1..3], lengths[2..4]);
    }
}

#[test]
fn heads_share_a_connection() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let heads: Vec<&'static [u8]> = (0..20)
        .map(|index| {
            let head = format!("GET /{index} HTTP/2\r\nhost: h-{}\r\n\r\n", index % 7);
            &*Vec::leak(head.into_bytes())
        })
        .collect();
    for head in heads.iter().chain(&heads) {
        let mut block = Vec::new();
        encoder.block(head, false, &mut block);
        assert_eq!(decoder.head(&block).unwrap(), *head);
    }
}

#[test]
fn broken_blocks_are_errors() {
    for block in ["80", "be", "ff", "ffffffffffff7f", "0085aa", "008130", "3fe2 1f", "40"] {
        assert!(Decoder::default().head(&bytes(block)).is_err(), "{block}");
    }
    // A whole code of thirty ones, which stands for the end and is never sent.
    assert!(Decoder::default().head(&bytes("0084ffffffff00")).is_err());
}
