// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::*;

#[track_caller]
fn ask(sample: Sample, sent: &str) -> String {
    let address = start(&[(sample, 0)]).unwrap()[0];
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn quotes_come_one_after_the_other() {
    let answer = ask(
        Sample::Quote,
        "GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert_eq!(answer.matches("\"quote\"").count(), 2, "{answer}");
}

#[test]
fn the_echo_says_what_it_received() {
    let answer = ask(
        Sample::Echo,
        "POST /a?b=c HTTP/1.1\r\nX-One: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n\
         PUT /second HTTP/1.1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwxyz",
    );
    assert!(answer.contains("\"path\": \"/a?b=c\""), "{answer}");
    assert!(answer.contains("\"X-One: 1\""), "{answer}");
    assert!(answer.contains("\"body_bytes\": 5"), "{answer}");
    assert!(answer.contains("\"path\": \"/second\""), "{answer}");
    assert!(answer.contains("\"body_bytes\": 4"), "{answer}");
}

#[test]
fn a_port_in_use_is_named() {
    let address = start(&[(Sample::Quote, 0)]).unwrap()[0];
    let error = start(&[(Sample::Quote, address.port())]).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
