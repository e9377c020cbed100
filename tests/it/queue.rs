// SPDX-License-Identifier: Apache-2.0
//! A listening socket ends while the kernel's queue of it is full: each client whose handshake is
//! complete is served, or hears the end in order. None is reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::{Backend, Stopping};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::{Client, PATIENCE, wait_until};

use super::{DRIVERS, heavy, raise_descriptors};

/// Connections of the Listener on port 8081, whose queue fills behind them.
const ROOM: usize = 20;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

struct Full {
    gateway: Gateway,
    backend: Backend,
    /// Those that are served now, and wait for their answers.
    busy: Vec<Client>,
    /// Those in the queue: every other one has asked.
    waiting: Vec<TcpStream>,
}

impl Full {
    /// A gateway whose second Listener is at its limit and has a full queue.
    fn start(driver: &'static str, args: &[&str]) -> Self {
        let backend = Backend::start().unwrap();
        let all = format!(
            "prefix: /, service: \"{}\", timeout_ms: 0, connect_timeout_ms: 20000",
            backend.address()
        );
        let limit = format!("--max-listener-connections={ROOM}");
        let args = [&["--access-log=off", &limit], args].concat();
        let args = args.into_iter().map(str::to_owned).collect();
        let options = Options { args, ..Options::driver(driver) };
        let gateway = Gateway::start(&(listener(8080) + &mapping("all", &all)), &options).unwrap();
        gateway.assert_driver(driver).unwrap();
        gateway.write("second.yaml", &listener(8081)).unwrap();
        wait_until("the second Listener accepts", PATIENCE, || gateway.client(8081).is_ok());
        let idle = || gateway.metric("ringway_worker_connections", "").unwrap() == 0.0;
        wait_until("nobody is connected", PATIENCE, idle);
        let mut busy: Vec<Client> = (0..ROOM).map(|_| gateway.client(8081).unwrap()).collect();
        for client in &mut busy {
            client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        }
        wait_until("they are served", PATIENCE, || backend.held() == ROOM as u64);
        let to = gateway.address(8081);
        let mut waiting = Vec::new();
        // A full queue drops what would complete another handshake.
        while let Ok(client) = TcpStream::connect_timeout(&to, Duration::from_millis(500)) {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            if waiting.len() % 2 == 0 {
                (&client).write_all(REQUEST).unwrap();
            }
            waiting.push(client);
            assert!(waiting.len() < 10_000, "the queue does not fill");
        }
        assert!(waiting.len() > 1_000, "only {} wait", waiting.len());
        let paused = || gateway.metric("ringway_worker_accept_paused", "").unwrap() == 1.0;
        wait_until("the limit is met", PATIENCE, paused);
        Self { gateway, backend, busy, waiting }
    }

    /// Those that asked are answered, the others hear the end.
    fn assert_orderly(self, driver: &str) -> (Gateway, Backend) {
        let mut reset = Vec::new();
        for (n, mut client) in self.waiting.into_iter().enumerate() {
            let mut got = String::new();
            match client.read_to_string(&mut got) {
                Ok(_) if n % 2 == 0 => {
                    assert!(got.starts_with("HTTP/1.1 200 "), "client {n} on {driver}: {got:?}");
                }
                Ok(_) => assert_eq!(got, "", "client {n} did not ask, on {driver}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "client {n} on {driver}");
                    reset.push(n);
                }
            }
        }
        assert!(reset.is_empty(), "{} were reset on {driver}: {reset:?}", reset.len());
        self.backend.release();
        for mut client in self.busy {
            assert_eq!(client.response("GET").unwrap().status, 200, "on {driver}");
        }
        (self.gateway, self.backend)
    }
}

#[test]
fn a_removed_listener_resets_nobody_who_waits() {
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        let full = Full::start(driver, &[]);
        std::fs::remove_file(full.gateway.folder().join("second.yaml")).unwrap();
        let (gateway, _backend) = full.assert_orderly(driver);
        wait_until("the port is closed", PATIENCE, || gateway.client(8081).is_err());
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
    }
}

#[test]
fn a_moved_listener_resets_nobody_who_waits() {
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        let full = Full::start(driver, &[]);
        let moved = listener(8081).replace("port: 8081", "port: 8082");
        full.gateway.write("second.yaml", &moved).unwrap();
        let (gateway, _backend) = full.assert_orderly(driver);
        assert_eq!(gateway.get(8082, "/", "a").unwrap().status, 200, "on {driver}");
        wait_until("the port is closed", PATIENCE, || gateway.client(8081).is_err());
    }
}

#[test]
fn a_drain_resets_nobody_who_waits() {
    let _alone = heavy();
    raise_descriptors();
    for driver in DRIVERS {
        let full = Full::start(driver, &["--drain-time=60s"]);
        full.gateway.signal(libc::SIGTERM);
        let (mut gateway, _backend) = full.assert_orderly(driver);
        assert!(gateway.wait().success(), "on {driver}");
    }
}

/// Connects, asks and reads the answer again and again; gives how often, and what went wrong with a
/// connection that was there.
fn ask_until(stop: &AtomicBool, to: SocketAddr) -> (usize, Vec<String>) {
    let (mut answers, mut wrong) = (0, Vec::new());
    while !stop.load(Relaxed) {
        let Ok(mut client) = TcpStream::connect_timeout(&to, Duration::from_millis(300)) else {
            // Not there, or about to go.
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut got = String::new();
        match client.write_all(REQUEST).and_then(|()| client.read_to_string(&mut got)) {
            Ok(_) if got.starts_with("HTTP/1.1 200 ") => answers += 1,
            Ok(_) => wrong.push(format!("{got:?}")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    (answers, wrong)
}

#[test]
fn listeners_that_come_and_go_reset_nobody() {
    let _alone = heavy();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let all = mapping("all", &format!("prefix: /, service: \"{}\"", backend.address()));
        let options = Options {
            workers: 2,
            args: vec!["--access-log=off".to_owned()],
            ..Options::driver(driver)
        };
        let gateway = Gateway::start(&(listener(8080) + &all), &options).unwrap();
        gateway.assert_driver(driver).unwrap();
        let (to, stop) = (gateway.address(8081), AtomicBool::new(false));
        let (mut answers, mut wrong) = (0, Vec::new());
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| ask_until(&stop, to))).collect();
            let stopping = Stopping(&stop);
            for _ in 0..25 {
                gateway.write("second.yaml", &listener(8081)).unwrap();
                wait_until("the Listener accepts", PATIENCE, || gateway.client(8081).is_ok());
                std::thread::sleep(Duration::from_millis(50));
                std::fs::remove_file(gateway.folder().join("second.yaml")).unwrap();
                wait_until("the Listener refuses", PATIENCE, || {
                    TcpStream::connect(to).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
                });
            }
            drop(stopping);
            for client in clients {
                let (more, others) = client.join().unwrap();
                answers += more;
                wrong.extend(others);
            }
        });
        println!("{driver}: {answers} answers");
        assert!(wrong.is_empty(), "{} of {answers} on {driver}: {wrong:?}", wrong.len());
        assert!(answers > 500, "only {answers} answers on {driver}");
    }
}
