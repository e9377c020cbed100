// SPDX-License-Identifier: Apache-2.0
//! Bodies larger than memory may hold: a gibibyte each way at once with resident memory flat, and
//! a slow reader that slows the writer down instead of filling buffers.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::head::Reader;
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;

use super::{DRIVERS, heavy};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;
/// What resident memory may grow by.
const SLACK: u64 = 8 * MIB;

fn start(upstream: &Upstream, driver: &'static str) -> Gateway {
    let service = upstream.address();
    let manifests = listener(8080)
        + &mapping("all", &format!("prefix: /, service: \"{service}\", timeout_ms: 0"));
    let gateway = Gateway::start(&manifests, &Options::driver(driver)).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// Answers `GET /n` with n bytes, and a POST with how many bytes its body had.
fn sized() -> Upstream {
    let upstream = Upstream::custom(|stream| {
        let mut reader = Reader::new(stream);
        while let Ok(Some((line, fields))) = reader.head() {
            let length = ringway_tests::head::joined(&fields, "content-length");
            if let Some(length) = length {
                let mut got = 0_u64;
                let n = length.parse().unwrap();
                if reader.exactly(n, &mut |bytes| got += bytes.len() as u64).is_err() {
                    return;
                }
                let text = got.to_string();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                let _ = reader.stream.write_all(answer.as_bytes());
            } else {
                let n = line.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n");
                let _ = reader.stream.write_all(head.as_bytes());
                if write_bytes(&mut reader.stream, n).is_err() {
                    return;
                }
            }
        }
    });
    upstream.unwrap()
}

fn write_bytes(sink: &mut impl Write, mut n: u64) -> std::io::Result<()> {
    let block = vec![b'x'; 64 * 1024];
    while n > 0 {
        let take = n.min(block.len() as u64);
        sink.write_all(&block[..take as usize])?;
        n -= take;
    }
    Ok(())
}

fn download(gateway: &Gateway, n: u64) {
    let mut client = gateway.client(8080).unwrap();
    client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut got = 0;
    let response = client.response_to("GET", &mut |bytes| got += bytes.len() as u64).unwrap();
    assert_eq!((response.status, response.broken, got), (200, None, n));
}

fn upload(gateway: &Gateway, n: u64) {
    let mut client = gateway.client(8080).unwrap();
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n").as_bytes())
        .unwrap();
    write_bytes(&mut client.stream().try_clone().unwrap(), n).unwrap();
    let response = client.response("POST").unwrap();
    assert_eq!((response.status, response.text()), (200, n.to_string()));
}

#[test]
fn a_gibibyte_each_way_leaves_memory_flat() {
    let _alone = heavy();
    for driver in DRIVERS {
        let upstream = sized();
        let gateway = start(&upstream, driver);
        download(&gateway, MIB);
        upload(&gateway, MIB);
        let before = gateway.anonymous().unwrap();
        let begin = Instant::now();
        let mut most = before;
        std::thread::scope(|scope| {
            let down = scope.spawn(|| download(&gateway, GIB));
            let up = scope.spawn(|| upload(&gateway, GIB));
            while !(down.is_finished() && up.is_finished()) {
                most = most.max(gateway.anonymous().unwrap());
                assert!(begin.elapsed() < Duration::from_secs(120), "too slow on {driver}");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        println!("{driver}: {:?}, {} KiB more", begin.elapsed(), (most - before) / 1024);
        assert!(most < before + SLACK, "{} MiB more on {driver}", (most - before) / MIB);
    }
}

#[test]
fn a_slow_reader_holds_the_writer_back() {
    let _alone = heavy();
    for driver in DRIVERS {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let upstream = Upstream::custom(move |stream| {
            let mut reader = Reader::new(stream);
            while let Ok(Some(_)) = reader.head() {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n");
                let _ = reader.stream.write_all(head.as_bytes());
                let block = vec![b'x'; 64 * 1024];
                while reader.stream.write_all(&block).is_ok() {
                    counter.fetch_add(block.len() as u64, Relaxed);
                }
            }
        })
        .unwrap();
        let gateway = start(&upstream, driver);
        download_nothing(&gateway);
        let before = gateway.anonymous().unwrap();
        let mut client = gateway.client(8080).unwrap();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        // 10 MiB/s for three seconds.
        let begin = Instant::now();
        let mut read = 0_u64;
        while begin.elapsed() < Duration::from_secs(3) {
            let due = (begin.elapsed().as_secs_f64() * 10.0 * MIB as f64) as u64;
            if read >= due {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let n = client.reader().fill().unwrap();
            assert!(n > 0, "ended early on {driver}");
            read += n as u64;
        }
        let grown = gateway.anonymous().unwrap().saturating_sub(before);
        let ahead = sent.load(Relaxed).saturating_sub(read);
        println!("{driver}: {} KiB more, the writer {} KiB ahead", grown / 1024, ahead / 1024);
        assert!(grown < SLACK, "{} MiB more on {driver}", grown / MIB);
        // Kernel buffers on both legs, and ours.
        assert!(ahead < 32 * MIB, "the writer is {} MiB ahead on {driver}", ahead / MIB);
    }
}

/// A first exchange, so that what is allocated once does not count.
fn download_nothing(gateway: &Gateway) {
    let mut client = gateway.client(8080).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    client.response_head().unwrap();
}
