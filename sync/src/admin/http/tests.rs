// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

struct Echo;

impl Service for Echo {
    fn quick(&self, request: &Request) -> Option<Response> {
        (request.path == "/quick").then(|| Response::text(200, "quick\n"))
    }

    fn slow(&self, request: &Request) -> Response {
        Response::text(200, format!("{} {:?}\n", request.path, request.query))
    }
}

/// Sends bytes to a fresh server and gives all that it answers until it closes.
#[track_caller]
fn exchange(sent: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Echo)));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    })
}

#[test]
fn two_requests_on_one_connection() {
    let answer = exchange(
        "GET /quick HTTP/1.1\r\nhost: a\r\n\r\nGET /a%20b?k=v&h=x%3A+1 HTTP/1.1\r\nconnection: \
         close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\nquick\nHTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("/a b [(\"k\", \"v\"), (\"h\", \"x: 1\")]\n"), "{answer}");
}

#[test]
fn head_has_no_body() {
    let answer = exchange("HEAD /quick HTTP/1.0\r\n\r\n");
    assert!(answer.contains("content-length: 6\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn what_is_not_understood_is_refused_and_closed() {
    assert!(exchange("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(exchange("PUT / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let body = "GET / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
    assert!(exchange(body).starts_with("HTTP/1.1 413 "));
    let large = "x".repeat(limits::ADMIN_HEAD_BYTES_MAX);
    assert!(exchange(&large).starts_with("HTTP/1.1 400 "));
}

#[test]
fn escapes_that_are_none_stay() {
    assert_eq!(percent_decode("%41%zz%4"), "A%zz%4");
    assert_eq!(percent_decode("%ff"), "\u{fffd}");
}

#[test]
fn pages_of_other_sites_are_known() {
    #[track_caller]
    fn check(expected: bool, host: &str, origin: Option<&str>, site: Option<&str>) {
        assert_eq!(is_foreign(host, origin, site), expected, "{host} {origin:?} {site:?}");
    }
    // curl, kubelet: whatever the name.
    check(false, "ringway-admin.ringway:8877", None, None);
    check(false, "127.0.0.1:8877", Some("http://127.0.0.1:8877"), Some("same-origin"));
    check(false, "localhost:8877", None, Some("none"));
    check(false, "[::1]:8877", Some("http://[::1]:8877"), None);
    check(true, "127.0.0.1:8877", Some("https://evil.example"), None);
    check(true, "127.0.0.1:8877", Some("null"), None);
    check(true, "localhost:8877", None, Some("cross-site"));
    check(true, "localhost:8877", None, Some("same-site"));
    // A name that was made to lead here.
    check(true, "evil.example:8877", Some("http://evil.example:8877"), Some("same-origin"));
}
