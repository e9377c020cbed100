// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;
use crate::IoBackend;
use crate::rt::Runtime;
use crate::tests::{PATIENCE, pair, stream};
use crate::worker::Worker;

/// On both drivers: a connection, and its peer's end.
fn both(test: impl AsyncFn(Stream, TcpStream)) {
    for backend in [IoBackend::IoUring, IoBackend::Epoll] {
        let (runtime, _) = Runtime::build(backend).unwrap();
        runtime.block_on(async {
            let worker = Worker::alone();
            let (far, near) = pair();
            test(stream(backend, near, &worker), far).await;
        });
    }
}

#[test]
fn a_connection_ends_without_the_driver() {
    both(async |stream, mut far| {
        drop(stream);
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_wait_that_was_given_up_does_not_keep_a_connection() {
    both(async |mut stream, mut far| {
        {
            let mut readable = pin!(stream.readable());
            poll_fn(|cx| {
                assert!(readable.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        drop(stream);
        far.set_nonblocking(true).unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match far.read(&mut [0]) {
                Ok(n) => break assert_eq!(n, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert!(Instant::now() < end);
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
