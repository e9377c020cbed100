// SPDX-License-Identifier: Apache-2.0
use super::{
    HttpDate, chunk_end, chunk_head, composed_field, decimal, field, http_date, last_chunk, reason,
    status_line,
};

#[track_caller]
fn writes(write: impl FnOnce(&mut Vec<u8>), expected: &str) {
    let mut out = b">".to_vec();
    write(&mut out);
    assert_eq!(String::from_utf8_lossy(&out), format!(">{expected}"));
}

#[test]
fn lines() {
    writes(|out| status_line(out, 200, b"OK"), "HTTP/1.1 200 OK\r\n");
    writes(|out| status_line(out, 204, b""), "HTTP/1.1 204 \r\n");
    writes(|out| status_line(out, 418, b"I'm a teapot"), "HTTP/1.1 418 I'm a teapot\r\n");
    writes(|out| status_line(out, 999, b""), "HTTP/1.1 999 \r\n");
    writes(|out| field(out, b"A", b"b c"), "A: b c\r\n");
    writes(|out| field(out, b"A", b""), "A: \r\n");
    writes(|out| composed_field(out, b"A", b"b"), "A: b\r\n");
    writes(|out| composed_field(out, b"A", b"b\r\nEvil: c\0"), "A: b  Evil: c \r\n");
}

#[test]
fn numbers() {
    writes(|out| decimal(out, 0), "0");
    writes(|out| decimal(out, 10), "10");
    writes(|out| decimal(out, u64::MAX), "18446744073709551615");
}

#[test]
fn chunks() {
    writes(|out| chunk_head(out, 1), "1\r\n");
    writes(|out| chunk_head(out, 0x10), "10\r\n");
    writes(|out| chunk_head(out, 0xabcdef), "abcdef\r\n");
    writes(|out| chunk_head(out, usize::MAX), "ffffffffffffffff\r\n");
    writes(chunk_end, "\r\n");
    writes(|out| last_chunk(out, b""), "0\r\n\r\n");
    writes(|out| last_chunk(out, b"a: b\r\n"), "0\r\na: b\r\n\r\n");
}

#[test]
fn reasons() {
    for status in [100, 101, 200, 204, 304, 404, 431, 502, 505] {
        assert_ne!(reason(status), "Unknown", "{status}");
    }
    assert_eq!((reason(418), reason(999)), ("Unknown", "Unknown"));
}

#[track_caller]
fn date(seconds: u64, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&http_date(seconds)), expected);
}

#[test]
fn dates() {
    date(0, "Thu, 01 Jan 1970 00:00:00 GMT");
    date(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
    date(951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT");
    date(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
    date(1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT");
    date(1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT");
    date(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
    date(253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT");
    date(u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
    let mut date = HttpDate::new(0);
    assert_eq!(date.at(0), &http_date(0));
    assert_eq!(date.at(784_111_777), &http_date(784_111_777));
}
