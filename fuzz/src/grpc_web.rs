// SPDX-License-Identifier: Apache-2.0
//! gRPC-Web's bodies: against themselves under other segmentations, and against base64 read one
//! character after the other.

use ringway_core::wire::grpc::Messages;
use ringway_core::wire::grpc_web::{Decoder, Encoder, Form, NotBase64};

use crate::segments::{Cuts, Random};

/// The bytes as text that a browser sends, and as messages that it is answered with.
pub fn grpc_web(data: &[u8]) {
    let expected = plain(data);
    for mut cuts in cuts(data) {
        let (mut decoder, mut out, mut rest) = (Decoder::default(), Vec::new(), data);
        let mut outcome = Ok(());
        while !rest.is_empty() && outcome.is_ok() {
            let (piece, after) = rest.split_at(cuts.next(rest.len()));
            outcome = decoder.push(piece, &mut out);
            rest = after;
        }
        let outcome = outcome.and_then(|()| decoder.finish());
        assert!(out.len() <= data.len() / 4 * 3);
        assert_eq!(outcome.map(|()| out), expected);
    }
    if let Ok(messages) = &expected {
        answer(messages);
    }
    answer(data);
}

fn cuts(data: &[u8]) -> [Cuts; 3] {
    [Cuts::Whole, Cuts::Bytes, Cuts::Random(Random::of(data))]
}

fn plain(text: &[u8]) -> Result<Vec<u8>, NotBase64> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for quad in text.chunks(4) {
        let content = match quad {
            [_, _, b'=', b'='] => &quad[..2],
            [_, _, _, b'='] => &quad[..3],
            [_, _, _, _] => quad,
            _ => return Err(NotBase64),
        };
        let mut bits = String::new();
        for character in content {
            let value = ALPHABET.iter().position(|c| c == character).ok_or(NotBase64)?;
            bits += &format!("{value:06b}");
        }
        let whole = bits.len() / 8 * 8;
        if bits[whole..].contains('1') {
            return Err(NotBase64);
        }
        for at in (0..whole).step_by(8) {
            out.push(u8::from_str_radix(&bits[at..at + 8], 2).map_err(|_| NotBase64)?);
        }
    }
    Ok(out)
}

fn answer(messages: &[u8]) {
    let trailers = b"grpc-status: 0\r\n";
    let mut expected = messages.to_vec();
    Encoder::new(Form::Binary).trailers(trailers, &mut expected);
    let (begun, between) = followed(messages);
    for mut cuts in cuts(messages) {
        let (mut encoder, mut text, mut rest) = (Encoder::new(Form::Text), Vec::new(), messages);
        let mut counter = Messages::default();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next(rest.len()));
            encoder.data(piece, &mut text);
            counter.push(piece);
            rest = after;
            if counter.is_between() {
                // Nothing of a whole message waits for the next.
                assert_eq!(plain(&text).as_deref(), Ok(&messages[..messages.len() - rest.len()]));
            }
        }
        assert_eq!((counter.begun(), counter.is_between()), (begun, between));
        encoder.trailers(trailers, &mut text);
        assert_eq!(plain(&text).as_ref(), Ok(&expected));
    }
}

/// How many messages begin, and whether the last is whole.
fn followed(mut bytes: &[u8]) -> (u64, bool) {
    let mut begun = 0;
    while !bytes.is_empty() {
        begun += 1;
        let [_, a, b, c, d, rest @ ..] = bytes else { return (begun, false) };
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(rest) = rest.get(length..) else { return (begun, false) };
        bytes = rest;
    }
    (begun, true)
}
