// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

/// Everything that arrives, in words.
fn events(link: &mut Link, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<Vec<String>, String> {
    let mut events = Vec::new();
    while let Some(event) = link.receive(&mut bytes, out)? {
        events.push(match event {
            Event::Head { stream, head, ends } => {
                format!("{stream} {} {ends}", String::from_utf8_lossy(head))
            }
            Event::Body { stream, bytes, ends } => {
                format!("{stream} {} {ends}", String::from_utf8_lossy(bytes))
            }
            Event::Reset { stream, code } => format!("{stream} reset {code}"),
            Event::Goodbye { code } => format!("goodbye {code}"),
        });
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    Ok(events)
}

fn server() -> Link {
    let mut link = Link::server(&mut Vec::new());
    link.preface = b"";
    link
}

const HEAD: &[u8] = b"POST /api/5 HTTP/2\r\nhost: h\r\n\r\n";

#[test]
fn two_ends_understand_each_other() {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut client = Link::client(false, &mut up);
    let mut server = Link::server(&mut down);
    client.send(1, Message { head: HEAD, body: b"12345", trailers: None }, &mut up);
    let from_client = up.strip_prefix(PREFACE.0).unwrap().to_vec();
    up.clear();
    let seen = events(&mut server, &from_client, &mut down).unwrap();
    assert_eq!(seen, ["1 POST /api/5 HTTP/2\r\nhost: h\r\n\r\n false", "1 12345 true"]);
    let answer = Message {
        head: b"HTTP/2 200\r\n\r\n",
        body: b"abc",
        trailers: Some(b"trailers\r\ngrpc-status: 0\r\n\r\n"),
    };
    server.send(1, answer, &mut down);
    let seen = events(&mut client, &down, &mut up).unwrap();
    let trailers = "1 trailers\r\ngrpc-status: 0\r\n\r\n true";
    assert_eq!(seen, ["1 HTTP/2 200\r\n\r\n false", "1 abc false", trailers]);
    assert_eq!(client.streams_max, STREAMS_MAX);
    // Each acknowledged the other's settings, and nothing else was to say.
    assert_eq!(up, [0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);
}

#[test]
fn bodies_wait_for_the_window() {
    let (mut out, body) = (Vec::new(), vec![b'x'; BODY_BYTES_MAX].leak());
    let mut link = server();
    for stream in [1, 3, 5, 7, 9] {
        link.send(stream, Message { head: b"HTTP/2 200\r\n\r\n", body, trailers: None }, &mut out);
    }
    let sent = out.len();
    assert!((3 * BODY_BYTES_MAX..4 * BODY_BYTES_MAX).contains(&sent), "{sent}");
    let mut update = Vec::new();
    open_window(&mut update, 2 * BODY_BYTES_MAX as i64);
    assert!(events(&mut link, &update, &mut out).unwrap().is_empty());
    assert!((5 * BODY_BYTES_MAX..6 * BODY_BYTES_MAX).contains(&out.len()), "{}", out.len());
}

#[test]
fn what_needs_an_answer_gets_one() {
    let (mut link, mut out) = (server(), Vec::new());
    let mut bytes = Vec::new();
    put_frame(&mut bytes, PING, 0, 0, |out| out.extend(b"12345678"));
    put_frame(&mut bytes, RST_STREAM, 0, 3, |out| out.extend(8_u32.to_be_bytes()));
    put_frame(&mut bytes, 200, 0, 0, |out| out.extend(b"of the future"));
    put_frame(&mut bytes, GOAWAY, 0, 0, |out| out.extend([0, 0, 0, 1, 0, 0, 0, 2]));
    assert_eq!(events(&mut link, &bytes, &mut out).unwrap(), ["3 reset 8", "goodbye 2"]);
    assert_eq!(out, b"\0\0\x08\x06\x01\0\0\0\x0012345678");
}

#[test]
fn a_peer_without_a_table_is_sent_no_index_of_it() {
    let (mut link, mut out, mut bytes) = (server(), Vec::new(), Vec::new());
    put_frame(&mut bytes, SETTINGS, 0, 0, |out| out.extend([0, 1, 0, 0, 0, 0]));
    assert!(events(&mut link, &bytes, &mut out).unwrap().is_empty());
    out.clear();
    let answer = Message { head: b"HTTP/2 200\r\na: b\r\n\r\n", body: b"", trailers: None };
    (0..3).for_each(|_| link.send(1, answer, &mut out));
    let plain = b"\0\0\x06\x01\x05\0\0\0\x01\x88\0\x01a\x01b";
    let first = b"\0\0\x07\x01\x05\0\0\0\x01\x20\x88\0\x01a\x01b";
    assert_eq!(out, [&first[..], plain, plain].concat());
}

#[test]
fn padding_and_priority_are_left_out() {
    let (mut link, mut out, mut bytes) = (server(), Vec::new(), Vec::new());
    put_frame(&mut bytes, HEADERS, END_HEADERS | PADDED | PRIORITY, 1, |out| {
        out.extend([2, 0, 0, 0, 0, 16, 0x88, 0, 0]);
    });
    put_frame(&mut bytes, DATA, PADDED | END_STREAM, 1, |out| out.extend(b"\x01ab\0"));
    let seen = events(&mut link, &bytes, &mut out).unwrap();
    assert_eq!(seen, ["1 HTTP/2 200\r\n\r\n false", "1 ab true"]);
}

#[test]
fn what_the_bench_does_not_do_is_an_error() {
    let check = |kind, flags, payload: &[u8]| {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, kind, flags, 1, |out| out.extend_from_slice(payload));
        events(&mut server(), &bytes, &mut Vec::new()).unwrap_err()
    };
    assert!(check(HEADERS, 0, b"\x88").contains("several frames"));
    assert!(check(HEADERS, END_HEADERS | PADDED, b"\x09\x88").contains("padding"));
    assert!(check(SETTINGS, 0, &[0, 4, 0, 0, 0, 99]).contains("window of 99"));
    assert!(check(PUSH_PROMISE, 0, b"").contains("type 5"));
}
