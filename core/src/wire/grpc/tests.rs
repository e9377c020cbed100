// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::Messages;

#[track_caller]
fn counted(bytes: &[u8], begun: u64, between: bool) {
    let mut whole = Messages::default();
    whole.push(bytes);
    assert_eq!((whole.begun(), whole.is_between()), (begun, between), "{bytes:?}");
}

#[test]
fn messages() {
    counted(b"", 0, true);
    counted(b"\0", 1, false);
    counted(b"\0\0\0\0", 1, false);
    counted(b"\0\0\0\0\0", 1, true);
    counted(b"\x01\0\0\0\x03ab", 1, false);
    counted(b"\x01\0\0\0\x03abc", 1, true);
    counted(b"\x01\0\0\0\x03abc\0", 2, false);
    counted(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01x", 3, true);
    // A length beyond everything is waited for, and nothing is kept for it.
    counted(b"\0\xff\xff\xff\xffabc", 1, false);
    assert!(size_of::<Messages>() <= 16);
}

#[test]
fn lengths_have_four_bytes() {
    let mut messages = Messages::default();
    messages.push(b"\0\x00\x01\x02\x03");
    messages.push(&vec![0; 0x0001_0203 - 1]);
    assert!(!messages.is_between());
    messages.push(b"\0");
    assert!(messages.is_between());
}

proptest! {
    #[test]
    fn cuts_make_no_difference(
        lengths in proptest::collection::vec(0usize..40, 0..20),
        cut in 1usize..50,
        lost in 0usize..10,
    ) {
        let mut bytes = Vec::new();
        for length in &lengths {
            bytes.push((length % 2) as u8);
            bytes.extend_from_slice(&(*length as u32).to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xff, *length));
        }
        let mut whole = Messages::default();
        whole.push(&bytes);
        prop_assert_eq!(whole.begun(), lengths.len() as u64);
        prop_assert!(whole.is_between());
        bytes.truncate(bytes.len().saturating_sub(lost));
        let (mut whole, mut pieces) = (Messages::default(), Messages::default());
        whole.push(&bytes);
        bytes.chunks(cut).for_each(|piece| pieces.push(piece));
        prop_assert_eq!(pieces.begun(), whole.begun());
        prop_assert_eq!(pieces.is_between(), whole.is_between());
    }
}
