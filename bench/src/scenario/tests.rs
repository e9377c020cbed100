// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

fn scenario(name: &str) -> Scenario {
    all().into_iter().find(|scenario| scenario.name == name).unwrap()
}

#[test]
fn the_browser_request_is_about_as_long_as_a_browsers() {
    let request = scenario("gateway").load(&Arc::default()).requests[0];
    assert!((850..=950).contains(&request.len()), "{} bytes", request.len());
    assert_eq!(http::head_end(request), Some(request.len()));
}

#[test]
fn a_post_carries_the_body_it_announces() {
    let request = scenario("post-16k").load(&Arc::default()).requests[0];
    let head = http::head_end(request).unwrap();
    assert_eq!(http::request(&request[..head]).unwrap(), (&b"/api/16384"[..], 16384));
    assert_eq!(request.len() - head, 16384);
}

#[test]
fn every_route_is_asked_for_once() {
    let mut requests = scenario("routes-1k").load(&Arc::default()).requests;
    requests.sort_unstable();
    requests.dedup();
    assert_eq!(requests.len(), 1_000);
}

#[test]
fn less_work_than_promised_is_found() {
    let good = Exchange {
        upstream_head: b"GET /128 HTTP/1.1\r\nhost: bench.example\r\nx-tenant: bench\r\n\
            x-forwarded-proto: http\r\nx-forwarded-for: 127.0.0.1\r\n\
            x-request-id: 0123456789abcdef\r\n\r\n"
            .to_vec(),
        answer_head: b"HTTP/1.1 200 OK\r\nx-frame-options: DENY\r\nx-version: 2\r\n\r\n".to_vec(),
    };
    check(Work::Gateway, false, 128, &good).unwrap();
    let lines = |head: &[u8]| String::from_utf8(head.to_vec()).unwrap();
    for line in lines(&good.upstream_head).lines().filter(|line| line.contains(": ")) {
        let less = lines(&good.upstream_head).replace(&format!("{line}\r\n"), "");
        let bad = Exchange { upstream_head: less.into_bytes(), ..good.clone() };
        assert!(check(Work::Gateway, false, 128, &bad).is_err(), "without {line}");
    }
    for more in ["x-powered-by: null", "x-version: 1"] {
        let more = lines(&good.answer_head).replace("x-version", &format!("{more}\r\nx-version"));
        let bad = Exchange { answer_head: more.into_bytes(), ..good.clone() };
        check(Work::Gateway, false, 128, &bad).unwrap_err();
    }
    check(Work::Gateway, false, 64, &good).unwrap_err();
}
