// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::net::TcpListener;

use super::*;
use crate::args::Ask;

/// Answers one request with these bytes and gives the request's first line.
fn answer_once(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("http://{}/", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
    });
    (admin, asked)
}

#[test]
fn the_admin_port_is_asked_as_written() {
    let (admin, asked) = answer_once("HTTP/1.1 200 OK\r\n\r\nbecause\n");
    let explain = Explain {
        method: "GET".into(),
        url: "http://a/b c?d=e&f".into(),
        headers: vec!["x-user: a".into()],
        folder: None,
        port: Some(80),
        meaning: crate::args::Meaning {
            default_listeners: false,
            service_resolution: crate::args::Resolution::Endpoints,
            zone: None,
        },
        ask: Ask { admin: admin.clone(), output: Output::Text },
    };
    assert_eq!(ask(&admin, &query(&explain)).unwrap(), "because\n");
    assert_eq!(
        asked.join().unwrap(),
        "GET /api/v1/explain?method=GET&url=http%3A%2F%2Fa%2Fb%20c%3Fd%3De%26f&\
         header=x-user%3A%20a&port=80&format=text HTTP/1.1"
    );
}

#[test]
fn what_the_gateway_refuses_is_said_in_its_words() {
    let (admin, _asked) = answer_once("HTTP/1.1 400 Bad Request\r\n\r\nno Listener has port 9\n");
    assert_eq!(ask(&admin, "/").unwrap_err().to_string(), "no Listener has port 9");
}
