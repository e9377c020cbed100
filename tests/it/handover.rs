// SPDX-License-Identifier: Apache-2.0
//! A process takes the listening sockets of another over, and nobody who asks notices: no request
//! fails, no connection is reset or refused, whoever dies on the way.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options, binary};
use ringway_tests::load::{self, Backend, Outcome, Plan, Stopping};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};

use super::{DRIVERS, heavy};

const HAND_OVERS: usize = 100;

fn options(driver: &'static str, workers: usize, path: &std::path::Path) -> Options {
    let args = ["--access-log=off", "--drain-time=20s", "--shutdown-delay=60s", "--handover"];
    let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
    args.push(path.display().to_string());
    Options { workers, args, ..Options::driver(driver) }
}

/// Where a test's processes meet; gone when dropped.
struct Meeting(std::path::PathBuf);

impl Meeting {
    fn new(name: &str) -> Self {
        let folder = format!("ringway-it-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.join("s")
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The first process, waiting for a successor.
fn start(manifests: &str, options: &Options) -> Gateway {
    let gateway = Gateway::spawn(manifests, options).unwrap();
    gateway.await_said_ready().unwrap();
    gateway.assert_driver(options.io_backend).unwrap();
    gateway
}

fn manifests(service: std::net::SocketAddr) -> String {
    listener(8080) + &mapping("all", &format!("prefix: /, service: \"{service}\", timeout_ms: 0"))
}

/// A load that keeps its connections and one that makes a new one for each request, while `during`
/// runs.
fn under_load<T>(to: std::net::SocketAddr, during: impl FnOnce() -> T) -> (T, [Outcome; 2]) {
    let stop = AtomicBool::new(false);
    let plan = |connections: usize, request: &[u8]| Plan {
        to,
        connections,
        request: request.to_vec(),
        note: "x-none",
    };
    let kept = plan(64, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let new = plan(8, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    std::thread::scope(|scope| {
        // Even if `during` panics, the loads end.
        let stopping = Stopping(&stop);
        let kept = scope.spawn(|| load::run(&kept, &stop));
        let new = scope.spawn(|| load::run(&new, &stop));
        let result = during();
        drop(stopping);
        (result, [kept.join().unwrap(), new.join().unwrap()])
    })
}

fn assert_unnoticed(outcomes: &[Outcome; 2], what: &str) {
    for outcome in outcomes {
        assert!(outcome.errors.is_empty(), "{what}: {:?}", outcome.errors);
        assert_eq!(outcome.refused, 0, "{what}: connections refused");
    }
}

#[test]
fn whoever_is_ready_waits_for_a_successor() {
    let upstream = Upstream::echo("a").unwrap();
    for driver in DRIVERS {
        for turn in 0..10 {
            let meeting = Meeting::new(&format!("ready-{driver}-{turn}"));
            let options = options(driver, 1, &meeting.path());
            let gateway = Gateway::spawn(&manifests(upstream.address()), &options).unwrap();
            let end = Instant::now() + PATIENCE;
            // Without a pause: what matters is what is there at the first yes.
            while !gateway.admin("/readyz").is_ok_and(|response| response.status == 200) {
                assert!(Instant::now() < end, "not ready, on {driver}:\n{}", gateway.log());
            }
            assert!(meeting.path().exists(), "ready {turn}, on {driver}");
        }
    }
}

#[test]
fn a_hundred_hand_overs_under_load_fail_no_request() {
    let _alone = heavy();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let meeting = Meeting::new(&format!("hundred-{driver}"));
        let options = options(driver, 1, &meeting.path());
        let mut current = start(&manifests(backend.address()), &options);
        let to = current.address(8080);
        let begin = Instant::now();
        let (draining, outcomes) = under_load(to, || {
            let mut draining: Vec<Gateway> = Vec::new();
            for _ in 0..HAND_OVERS {
                let next = current.successor(&options).unwrap();
                next.await_said_ready().unwrap();
                draining.push(std::mem::replace(&mut current, next));
                // Those before have had a whole hand-over's time to finish.
                if draining.len() > 2 {
                    assert!(draining.remove(0).wait().success(), "on {driver}");
                }
            }
            draining
        });
        let [kept, new] = &outcomes;
        println!(
            "{driver}: {HAND_OVERS} hand-overs in {:?}; {} answers on kept connections, {} told to \
             close; {} on new ones",
            begin.elapsed(),
            kept.answers,
            kept.closed,
            new.answers
        );
        assert_unnoticed(&outcomes, driver);
        assert!(kept.is_a_load_for(HAND_OVERS as u64), "only {} answers", kept.answers);
        // Each process told those it had to go elsewhere.
        assert!(kept.closed >= 64 * HAND_OVERS as u64 / 2, "only {} closed", kept.closed);
        for mut process in draining {
            assert!(process.wait().success(), "on {driver}: {}", process.log());
        }
        current.assert_driver(driver).unwrap();
    }
}

#[test]
fn numbers_of_workers_may_differ() {
    let _alone = heavy();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let meeting = Meeting::new(&format!("workers-{driver}"));
        let with = |workers| options(driver, workers, &meeting.path());
        let mut current = start(&manifests(backend.address()), &with(1));
        let (_, outcomes) = under_load(current.address(8080), || {
            for workers in [2, 1, 3, 2, 1, 2] {
                let next = current.successor(&with(workers)).unwrap();
                next.await_said_ready().unwrap();
                let mut old = std::mem::replace(&mut current, next);
                wait_until("the successor's admin port answers", PATIENCE, || {
                    current.workers().is_ok_and(|all| all.len() == workers)
                });
                assert!(old.wait().success(), "on {driver}: {}", old.log());
            }
        });
        assert_unnoticed(&outcomes, driver);
        // Every socket of the group is accepted from: none is left with a queue that nobody takes.
        for _ in 0..200 {
            assert_eq!(current.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
        }
    }
}

#[test]
fn a_successor_that_never_gets_ready_changes_nothing() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let meeting = Meeting::new(&format!("never-{driver}"));
        let options = options(driver, 1, &meeting.path());
        let mut old = start(&manifests(upstream.address()), &options);
        let mut kept = old.client(8080).unwrap();
        assert_eq!(kept.get("/", "a").unwrap().status, 200);

        // Killed between the sockets and the first table: its names are not known yet.
        let mut unready = options.clone();
        let resolv = meeting.0.join("resolv.conf");
        std::fs::write(&resolv, "nameserver 127.255.255.254\noptions timeout:30\n").unwrap();
        unready.args.push(format!("--resolv-conf={}", resolv.display()));
        let slow = mapping("slow", "prefix: /slow/, service: nowhere.test");
        old.write("slow.yaml", &slow).unwrap();
        let mut next = old.successor(&unready).unwrap();
        wait_until("the sockets are handed over", PATIENCE, || {
            next.log().contains("taking 1 listening sockets over")
                && old.log().contains("takes over; serving until it is ready")
        });
        next.signal(libc::SIGKILL);
        next.wait();
        wait_until("the old one notices", PATIENCE, || {
            old.log().contains("ended before it was ready: going on")
        });
        assert_eq!(kept.get("/", "a").unwrap().header("connection"), None, "on {driver}");
        assert_eq!(old.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
        assert_eq!(old.admin("/ambassador/v0/check_ready").unwrap().status, 200);

        // One that cannot get an address of its own ends, and says why.
        let mut stuck = options.clone();
        stuck.args.push("--resolv-conf=/nonexistent".into());
        stuck.admin_port = 8080;
        let mut next = old.successor(&stuck).unwrap();
        assert!(!next.wait().success(), "on {driver}");
        assert!(next.log().contains("for the admin port"), "{}", next.log());
        assert_eq!(kept.get("/", "a").unwrap().status, 200, "on {driver}");
        assert!(old.is_running());

        // And the next one takes over as if nothing had happened.
        std::fs::remove_file(old.folder().join("slow.yaml")).unwrap();
        let next = old.successor(&options).unwrap();
        next.await_said_ready().unwrap();
        let last = kept.get("/", "a").unwrap();
        assert_eq!(last.header("connection").as_deref(), Some("close"), "on {driver}");
        assert!(old.wait().success());
        assert_eq!(next.get(8080, "/", "a").unwrap().status, 200, "on {driver}");
    }
}

#[test]
fn requests_in_flight_finish_and_probes_do_not_fail() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let meeting = Meeting::new(&format!("flight-{driver}"));
        let options = options(driver, 1, &meeting.path());
        let mut old = start(&manifests(upstream.address()), &options);
        let mut slow = old.client(8080).unwrap();
        slow.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-delay-ms: 1500\r\n\r\n").unwrap();
        wait_until("the slow request is upstream", PATIENCE, || upstream.connections() >= 1);
        let address = old.address(8877);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let probes = scope.spawn(|| {
                let mut probes = 0;
                while !over.load(Relaxed) {
                    let mut client = ringway_tests::Client::connect(address, PATIENCE).unwrap();
                    let answer = client.get("/ambassador/v0/check_ready", "localhost").unwrap();
                    assert_eq!(answer.status, 200, "probe {probes}");
                    probes += 1;
                }
                probes
            });
            let next = old.successor(&options).unwrap();
            next.await_said_ready().unwrap();
            let answer = slow.response("GET").unwrap();
            assert_eq!(answer.status, 200, "on {driver}");
            assert_eq!(answer.header("connection").as_deref(), Some("close"));
            assert!(old.wait().success(), "on {driver}: {}", old.log());
            assert_eq!(next.get(8080, "/", "a").unwrap().status, 200);
            over.store(true, Relaxed);
            let probes = probes.join().unwrap();
            assert!(probes > 100, "only {probes} probes");
            // The socket is the successor's alone: its end is the end.
            drop(next);
            assert!(ringway_tests::Client::connect(address, PATIENCE).is_err());
        });
    }
}

#[test]
fn listeners_that_differ_are_drained_and_bound() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let meeting = Meeting::new(&format!("differ-{driver}"));
        let options = options(driver, 2, &meeting.path());
        let before = manifests(upstream.address()) + &listener(8081);
        let mut old = start(&before, &options);
        let mut kept = old.client(8081).unwrap();
        assert_eq!(kept.get("/", "a").unwrap().status, 200);
        // The old process does not see the change: the successor has manifests of its own.
        let other = meeting.0.join("manifests.yaml");
        std::fs::write(&other, manifests(upstream.address()) + &listener(8082)).unwrap();
        let next = old.successor_with(&other, &options).unwrap();
        next.await_said_ready().unwrap();
        kept.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let last = kept.response("GET").unwrap();
        assert_eq!(last.header("connection").as_deref(), Some("close"), "on {driver}");
        assert!(old.wait().success(), "on {driver}: {}", old.log());
        assert_eq!(next.get(8080, "/", "a").unwrap().status, 200);
        assert_eq!(next.get(8082, "/", "a").unwrap().status, 200);
        assert!(next.client(8081).is_err(), "on {driver}: 8081 is not listened on any more");
    }
}

#[test]
fn without_a_hand_over_a_taken_port_is_an_error() {
    let upstream = Upstream::echo("a").unwrap();
    let options = Options::default();
    let gateway = Gateway::start(&manifests(upstream.address()), &options).unwrap();
    let mut other = gateway.successor(&Options { admin_port: 8878, ..Options::default() }).unwrap();
    assert!(!other.wait().success());
    assert!(other.log().contains("cannot listen on"), "{}", other.log());
    assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);
}

#[test]
fn what_lies_at_the_path_and_is_no_socket_is_left_alone() {
    let meeting = Meeting::new("foreign");
    std::fs::write(meeting.path(), "mine").unwrap();
    let upstream = Upstream::echo("a").unwrap();
    let options = options("io_uring", 1, &meeting.path());
    let mut gateway = Gateway::spawn(&manifests(upstream.address()), &options).unwrap();
    assert!(!gateway.wait().success());
    assert!(gateway.log().contains("no socket is there"), "{}", gateway.log());
    assert_eq!(std::fs::read_to_string(meeting.path()).unwrap(), "mine");
}

/// Set for the run of this binary in a network namespace of its own.
const INSIDE: &str = "RINGWAY_TEST_NAMESPACE";

/// Runs a test of this module again, in a network namespace of its own.
#[track_caller]
fn again_inside(test: &str, unshare: &[&str], script: &str) {
    let status = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", &format!("{script} exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("handover::{test}")])
        .env(INSIDE, "1")
        .env("RINGWAY_BIN", binary().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn shared_ports_lose_nothing_where_the_kernel_migrates_requests() {
    let _alone = heavy();
    if std::env::var_os(INSIDE).is_some() {
        return migrate();
    }
    let can = Command::new("unshare").args(["-rn", "true"]).output();
    if !can.as_ref().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: unshare -rn is impossible here: {can:?}");
        return;
    }
    let test = "shared_ports_lose_nothing_where_the_kernel_migrates_requests";
    again_inside(test, &["-rn"], "echo 1 > /proc/sys/net/ipv4/tcp_migrate_req &&");
}

/// In a namespace of its own, with `tcp_migrate_req`.
fn migrate() {
    ringway_tests::address::raise_loopback().unwrap();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let with = |admin_port| {
            let args = ["--access-log=off", "--drain-time=20s", "--share-ports"];
            let args = args.iter().map(ToString::to_string).collect();
            Options { workers: 2, admin_port, args, ..Options::driver(driver) }
        };
        let mut current = Gateway::start(&manifests(backend.address()), &with(8877)).unwrap();
        current.assert_driver(driver).unwrap();
        assert!(!current.log().contains("tcp_migrate_req=1"), "{}", current.log());
        let (_, outcomes) = under_load(current.address(8080), || {
            for n in 1..=10 {
                let next = current.successor(&with(8877 + n)).unwrap();
                next.await_ready().unwrap();
                let mut old = std::mem::replace(&mut current, next);
                old.signal(libc::SIGTERM);
                assert!(old.wait().success(), "on {driver}: {}", old.log());
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let [kept, new] = &outcomes;
        println!("{driver}: {} answers, {} on new connections", kept.answers, new.answers);
        assert_unnoticed(&outcomes, driver);
        assert!(new.answers > 1_000, "only {} answers on {driver}", new.answers);
    }
}

/// The chart's user.
const USER: u32 = 8888;

/// Two Pods of a DaemonSet that surges, on a node's network: as the chart's user, with the socket in
/// a folder of the node, the probes of both asking one port, and the old one told to end some time
/// after that port says that the new one is ready, whoever it was that said so.
#[test]
fn pods_of_a_daemon_set_follow_each_other_unnoticed() {
    let _alone = heavy();
    if std::env::var_os(INSIDE).is_some() {
        return surge();
    }
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        println!("SKIPPED: only root can become user {USER}");
        return;
    }
    again_inside("pods_of_a_daemon_set_follow_each_other_unnoticed", &["-n"], "");
}

fn surge() {
    ringway_tests::address::raise_loopback().unwrap();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let meeting = Meeting::new(&format!("surge-{driver}"));
        // What the chart's init container does.
        std::os::unix::fs::chown(&meeting.0, Some(USER), Some(USER)).unwrap();
        let args = ["--access-log=off", "--drain-time=20s", "--shutdown-delay=1s", "--stay"];
        let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
        args.push(format!("--handover={}", meeting.path().display()));
        let options = Options { args, user: Some(USER), workers: 2, ..Options::driver(driver) };
        let mut current = start(&manifests(backend.address()), &options);
        let owner = std::os::unix::fs::MetadataExt::uid(&meeting.path().metadata().unwrap());
        assert_eq!(owner, USER);
        let to = current.address(8080);
        let (_, outcomes) = under_load(to, || {
            // The last time the old one is told before the new one can be ready.
            for min_ready in [800, 800, 800, 0] {
                let next = current.successor(&options).unwrap();
                next.await_ready().unwrap();
                std::thread::sleep(Duration::from_millis(min_ready));
                let mut old = std::mem::replace(&mut current, next);
                if min_ready > 0 {
                    assert!(old.log().contains("serves: handing over"), "{}", old.log());
                    wait_until("the old one is done", PATIENCE, || old.log().contains("drained"));
                    // A kubelet would start it again if it ended by itself.
                    assert!(old.is_running(), "on {driver}: {}", old.log());
                }
                old.signal(libc::SIGTERM);
                assert!(old.wait().success(), "on {driver}: {}", old.log());
                current.await_ready().unwrap();
            }
        });
        let [kept, new] = &outcomes;
        println!("{driver}: {} answers, {} on new connections", kept.answers, new.answers);
        assert_unnoticed(&outcomes, driver);
        assert!(new.answers > 200, "only {} answers on {driver}", new.answers);
    }
}
