// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

type Pairs = Vec<(String, String)>;

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Unreadable> {
    let mut fields = Fields::new(usize::MAX / 16);
    decoder.decode(block, &mut fields)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn pairs(fields: &[(&str, &str)]) -> Pairs {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// RFC 7541 appendix C.6: answers with Huffman's code and evictions.
#[test]
fn the_examples_of_the_rfc_are_decoded() {
    let mut decoder = Decoder::default();
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    // A table of 256 bytes, said in the first block.
    let first = "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0
        82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
    assert_eq!(
        decoded(&mut decoder, &hex(first)).unwrap(),
        pairs(&[(":status", "302"), ("cache-control", "private"), date, location])
    );
    assert_eq!(
        decoded(&mut decoder, &hex("4883 640e ffc1 c0bf")).unwrap(),
        pairs(&[(":status", "307"), ("cache-control", "private"), date, location])
    );
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
        77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160
        65c0 03ed 4ee5 b106 3d50 07";
    assert_eq!(
        decoded(&mut decoder, &hex(third)).unwrap(),
        pairs(&[
            (":status", "200"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            location,
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ])
    );
}

#[test]
fn nonsense_is_invalid() {
    for block in [
        "80",
        "ff",
        "be",
        "3fe21f",
        "82 20",
        "00 05 61",
        "00 81 00 00",
        "00 ff",
        "ff8001",
        "0001788100",
        "000178821fff",
        "00017884ffffffff",
        "ffffffffffffffff0f",
    ] {
        let got = decoded(&mut Decoder::default(), &hex(block));
        assert_eq!(got, Err(Unreadable::Invalid), "{block}");
    }
}

#[test]
fn what_unpacks_to_too_much_is_dropped_then_refused() {
    // `x` with a value of 4,000 bytes, which the table takes; then named again and again.
    let mut block = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    block.extend([b'v'; 4000]);
    let mut fields = Fields::new(10_000);
    let named = |n: usize| [&block[..], &vec![0xbe; n]].concat();
    assert_eq!(Decoder::default().decode(&named(1), &mut fields), Ok(()));
    assert_eq!((fields.iter().count(), fields.is_too_large()), (2, false));
    assert_eq!(Decoder::default().decode(&named(10), &mut fields), Ok(()));
    assert_eq!((fields.iter().count(), fields.is_too_large()), (2, true));
    let got = Decoder::default().decode(&named(30), &mut fields);
    assert_eq!(got, Err(Unreadable::TooMuch));
}

/// Whatever is encoded is decoded to the same, through changes of the table's size and evictions.
#[test]
fn what_is_encoded_is_decoded_to_the_same() {
    let mut state = 7_u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let names = [
        ":path",
        ":authority",
        "x-request-id",
        "content-type",
        "cookie",
        "X-Long",
        "date",
        "te",
        "server",
        "set-cookie",
        ":status",
        "a",
    ];
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let (mut written, mut plain) = (0, 0);
    for _ in 0..5_000 {
        if random(50) == 0 {
            encoder.resize(random(6_000) as usize);
            encoder.resize(random(6_000) as usize);
        }
        let fields: Pairs = (0..random(12))
            .map(|_| {
                let name = names[random(names.len() as u64) as usize];
                let length = if random(20) == 0 { random(2_000) } else { random(3) };
                (name.to_owned(), format!("{}{}", random(8), "v".repeat(length as usize)))
            })
            .collect();
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value) in &fields {
            encoder.field(&mut block, name.as_bytes(), value.as_bytes());
        }
        written += block.len();
        plain += fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let expected: Pairs =
            fields.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
        assert_eq!(decoded(&mut decoder, &block).unwrap(), expected);
    }
    assert!(written < plain, "{written} B of {plain}");
}

#[test]
fn a_field_that_comes_again_is_one_byte() {
    let mut encoder = Encoder::default();
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        encoder.field(&mut block, b"Content-Type", b"application/grpc");
        lengths.push(block.len());
    }
    assert_eq!(lengths, [19, 18, 1]);
    let mut block = Vec::new();
    for _ in 0..3 {
        encoder.field(&mut block, b"cookie", b"a=b");
    }
    // Never indexed, RFC 7541 §6.2.3: `cookie` is entry 32.
    assert_eq!(block, [0x1f, 17, 3, b'a', b'=', b'b'].repeat(3));
    block.clear();
    encoder.field(&mut block, b":status", b"404");
    assert_eq!(block, [0x8d]);
}
