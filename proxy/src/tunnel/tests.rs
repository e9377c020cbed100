// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use proptest::prelude::*;

use super::{Ended, Toward, Why, relay};
use crate::IoBackend;
use crate::net::socket::{self, Direction};
use crate::rt::{self, Runtime};
use crate::tests::{pair, stream};
use crate::worker::Worker;

/// What surrounds a tunnel under test.
#[derive(Clone, Default)]
struct Around {
    idle: Option<Duration>,
    /// Received before the tunnel began.
    of_client: &'static [u8],
    of_upstream: &'static [u8],
    /// The client's timer is stopped once the tunnel has carried a byte.
    stop: bool,
}

/// A running tunnel: the client's end, the upstream's end, and how the tunnel will have ended.
fn tunnel(backend: IoBackend, around: Around) -> (TcpStream, TcpStream, JoinHandle<Ended>) {
    let (client, near) = pair();
    let (upstream, next) = pair();
    let running = spawn(move || {
        let (runtime, _) = Runtime::build(backend).unwrap();
        runtime.block_on(async move {
            let worker = Worker::alone();
            let [mut near, mut next] = [near, next].map(|tcp| stream(backend, tcp, &worker));
            near.reader.unread(around.of_client);
            next.reader.unread(around.of_upstream);
            let (received, sent) = (Cell::new(0), Cell::new(0));
            let timer = near.timer.clone();
            let ended = relay(&worker, &mut near, &mut next, around.idle, |toward, n| {
                let count = if toward == Toward::Upstream { &received } else { &sent };
                count.set(count.get() + n as u64);
                if around.stop {
                    let timer = timer.clone();
                    rt::spawn(async move { timer.stop(Direction::Both) }, || ());
                }
            })
            .await;
            assert_eq!((ended.received, ended.sent), (received.get(), sent.get()));
            ended
        })
    });
    (client, upstream, running)
}

fn both(test: impl Fn(IoBackend)) {
    test(IoBackend::IoUring);
    test(IoBackend::Epoll);
}

fn reset(stream: TcpStream) {
    use std::os::fd::AsRawFd;
    socket::reset_on_close(stream.as_raw_fd());
    drop(stream);
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut seen = vec![0; bytes.len()];
    stream.read_exact(&mut seen).unwrap();
    assert_eq!(seen, bytes);
}

#[track_caller]
fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0]).expect_err("not a clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn the_end_of_one_direction_leaves_the_other_alone() {
    both(|backend| {
        let (mut client, mut upstream, running) = tunnel(backend, Around::default());
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = String::new();
        upstream.read_to_string(&mut question).unwrap();
        assert_eq!(question, "question");
        upstream.write_all(b"a long answer").unwrap();
        expect(&mut client, b"a long answer");
        drop(upstream);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let ended = running.join().unwrap();
        assert_eq!(ended, Ended { received: 8, sent: 13, why: Why::Finished });
    });
}

#[test]
fn bytes_that_came_before_the_tunnel_go_first() {
    both(|backend| {
        let around = Around { of_client: b"early ", of_upstream: b"hasty ", ..Around::default() };
        let (mut client, mut upstream, running) = tunnel(backend, around);
        expect(&mut upstream, b"early ");
        expect(&mut client, b"hasty ");
        client.write_all(b"late").unwrap();
        expect(&mut upstream, b"late");
        drop(client);
        drop(upstream);
        assert_eq!(running.join().unwrap().received, 10);
    });
}

#[test]
fn a_reset_of_one_end_resets_the_other() {
    both(|backend| {
        let (client, mut upstream, running) = tunnel(backend, Around::default());
        reset(client);
        assert_reset(&mut upstream);
        assert_eq!(running.join().unwrap().why, Why::Client);

        let (mut client, upstream, running) = tunnel(backend, Around::default());
        reset(upstream);
        assert_reset(&mut client);
        assert_eq!(running.join().unwrap().why, Why::Upstream);

        // Also where the reset end had already said its last word.
        let (client, mut upstream, running) = tunnel(backend, Around::default());
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
        reset(client);
        while upstream.write_all(b"anybody?").is_ok() {}
        assert_eq!(running.join().unwrap().why, Why::Client);
    });
}

#[test]
fn a_tunnel_without_bytes_ends() {
    both(|backend| {
        let around = Around { idle: Some(Duration::from_millis(300)), ..Around::default() };
        let (mut client, mut upstream, running) = tunnel(backend, around.clone());
        // Bytes in one direction keep both alive.
        for _ in 0..5 {
            upstream.write_all(b"tick").unwrap();
            expect(&mut client, b"tick");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
        assert_eq!(running.join().unwrap(), Ended { received: 0, sent: 20, why: Why::Idle });

        // Also one that only waits for its upstream.
        let (client, mut upstream, running) = tunnel(backend, around.clone());
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
        assert_eq!(running.join().unwrap().why, Why::Idle);

        // Also one whose client takes nothing.
        let (_client, mut upstream, running) = tunnel(backend, around);
        let block = vec![0; 1 << 20];
        while upstream.write_all(&block).is_ok() {}
        assert_eq!(running.join().unwrap().why, Why::Idle);
    });
}

#[test]
fn a_stopped_timer_cuts_both_ends() {
    both(|backend| {
        let around = Around { stop: true, ..Around::default() };
        let (mut client, mut upstream, running) = tunnel(backend, around);
        upstream.write_all(b"x").unwrap();
        expect(&mut client, b"x");
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
        assert_eq!(running.join().unwrap().why, Why::Stopped);
    });
}

#[test]
fn a_reader_that_rests_holds_back_its_writer() {
    both(|backend| {
        let (mut client, upstream, running) = tunnel(backend, Around::default());
        let block = vec![7; 1 << 20];
        client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut written = 0;
        let stuck = loop {
            match client.write(&block) {
                Ok(n) => written += n,
                Err(error) => break error.kind(),
            }
            assert!(written < 256 << 20, "something takes everything");
        };
        assert_eq!(stuck, ErrorKind::WouldBlock);
        client.shutdown(Shutdown::Write).unwrap();
        let mut seen = Vec::new();
        (&upstream).read_to_end(&mut seen).unwrap();
        assert_eq!(seen.len(), written);
        drop(upstream);
        assert_eq!(running.join().unwrap().received, written as u64);
    });
}

#[test]
fn a_tunnel_at_rest_is_small() {
    let (runtime, _) = Runtime::build(IoBackend::Epoll).unwrap();
    runtime.block_on(async {
        let worker = Worker::alone();
        let resting = || stream(IoBackend::Epoll, pair().1, &worker);
        let (mut client, mut upstream) = (resting(), resting());
        let relay = relay(&worker, &mut client, &mut upstream, None, |_, _| {});
        let bytes = size_of_val(&relay);
        assert!(bytes <= 768, "{bytes} B");
    });
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Write(Toward, usize),
    Finish(Toward),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let toward = prop_oneof![Just(Toward::Upstream), Just(Toward::Client)];
    let size = prop_oneof![4 => 1usize..200, 2 => 1000usize..70_000, 1 => 100_000usize..400_000];
    let act = prop_oneof![
        9 => (toward.clone(), size).prop_map(|(toward, n)| Act::Write(toward, n)),
        1 => toward.prop_map(Act::Finish),
    ];
    prop::collection::vec(act, 0..24)
}

/// The byte at this place of everything that is ever sent in one direction.
fn pattern(toward: Toward, at: usize) -> u8 {
    let salt = if toward == Toward::Upstream { 0 } else { 0x55 };
    (at.wrapping_mul(0x9e37_79b1) >> 13) as u8 ^ salt
}

/// Reads to the end; gives how much came, all of it as it was sent.
fn drain(mut stream: TcpStream, toward: Toward) -> JoinHandle<u64> {
    spawn(move || {
        let (mut at, mut buffer) = (0, vec![0; 30_000]);
        loop {
            let n = stream.read(&mut buffer).unwrap();
            if n == 0 {
                return at as u64;
            }
            for &byte in &buffer[..n] {
                assert_eq!(byte, pattern(toward, at), "byte {at} toward {toward:?}");
                at += 1;
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever order the two ends write and finish in, each reads exactly what the other wrote,
    /// then its end.
    #[test]
    fn every_interleaving_arrives_whole(acts in acts(), epoll: bool) {
        let backend = if epoll { IoBackend::Epoll } else { IoBackend::IoUring };
        let (client, upstream, running) = tunnel(backend, Around::default());
        let read_by_upstream = drain(upstream.try_clone().unwrap(), Toward::Upstream);
        let read_by_client = drain(client.try_clone().unwrap(), Toward::Client);
        let mut written = [0usize; 2];
        let mut finished = [false; 2];
        let finish = [Act::Finish(Toward::Client), Act::Finish(Toward::Upstream)];
        for act in acts.into_iter().chain(finish) {
            let (Act::Write(toward, _) | Act::Finish(toward)) = act;
            let at = usize::from(toward == Toward::Client);
            let mut end = if toward == Toward::Upstream { &client } else { &upstream };
            match act {
                _ if finished[at] => {}
                Act::Write(_, n) => {
                    let bytes: Vec<u8> =
                        (written[at]..written[at] + n).map(|i| pattern(toward, i)).collect();
                    end.write_all(&bytes).unwrap();
                    written[at] += n;
                }
                Act::Finish(_) => {
                    end.shutdown(Shutdown::Write).unwrap();
                    finished[at] = true;
                }
            }
        }
        let ended = running.join().unwrap();
        prop_assert_eq!(ended.why, Why::Finished);
        prop_assert_eq!(read_by_upstream.join().unwrap(), written[0] as u64);
        prop_assert_eq!(read_by_client.join().unwrap(), written[1] as u64);
        prop_assert_eq!((ended.received, ended.sent), (written[0] as u64, written[1] as u64));
    }
}
