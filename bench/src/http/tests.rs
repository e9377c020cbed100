// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

const ANSWER: &[u8] = b"HTTP/1.1 404 Not Found\r\nServer: x\r\nContent-Length:  12 \r\n\r\n";

#[test]
fn a_response_head_gives_status_and_length() {
    assert_eq!(head_end(ANSWER), Some(ANSWER.len()));
    assert_eq!(head_end(&ANSWER[..ANSWER.len() - 1]), None);
    assert_eq!(response(ANSWER), Ok((404, 12)));
}

#[test]
fn what_the_bench_cannot_check_is_an_error() {
    response(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap_err();
    response(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
    response(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").unwrap_err();
    response(b"nonsense\r\n\r\n").unwrap_err();
}

#[test]
fn a_request_head_gives_target_and_length() {
    assert_eq!(request(b"GET /a/1 HTTP/1.1\r\nhost: h\r\n\r\n"), Ok((&b"/a/1"[..], 0)));
    assert_eq!(request(b"POST /b HTTP/1.1\r\nContent-LENGTH: 7\r\n\r\n"), Ok((&b"/b"[..], 7)));
}

#[test]
fn fields_are_found_by_whole_name_in_any_case() {
    let head = b"GET / HTTP/1.1\r\nx-a-b: 1\r\nX-A: 2\r\nx-a:3\r\n\r\n";
    assert_eq!(fields(head, "x-a").collect::<Vec<_>>(), [&b"2"[..], b"3"]);
    assert_eq!(field(head, "x"), None);
}

#[test]
fn a_hash_in_pieces_is_the_hash_of_the_whole() {
    let text = body(1000);
    assert_eq!(text[..10], body(10));
    assert_eq!(Hash::EMPTY.with(&text[..333]).with(&text[333..]), Hash::EMPTY.with(&text));
    assert_ne!(Hash::EMPTY.with(&text[..999]), Hash::EMPTY.with(&text));
}
