// SPDX-License-Identifier: Apache-2.0
//! How long a write to the API server takes until it is served, beside a bare watch of the same
//! object. Not part of the tests: it takes minutes and measures the machine.
//!
//! `MAPPINGS=3000 cargo test -p ringway-tests --test it kube::propagation -- --ignored --nocapture`

use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ringway_tests::Client;
use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{Cluster, api_itself, await_status, request};
use ringway_tests::load::Stopping;
use ringway_tests::manifest::{listener, mapping, service, slice};
use ringway_tests::upstream::Upstream;
use serde_json::json;

use super::{HOST, pod};

const SAMPLES: usize = 500;
/// No request fails for so long, while one change follows the other.
const MINUTE: Duration = Duration::from_secs(60);
/// Between two requests, which are also what finds out whether a change is served.
const PACE: Duration = Duration::from_micros(500);

/// When each edition was first seen.
#[derive(Default)]
struct Seen(Mutex<Vec<(u64, Instant)>>);

impl Seen {
    fn note(&self, edition: u64) {
        let mut seen = self.0.lock().unwrap();
        if seen.last().is_none_or(|(last, _)| *last < edition) {
            seen.push((edition, Instant::now()));
        }
    }

    fn at(&self, edition: u64) -> Option<Instant> {
        let seen = self.0.lock().unwrap();
        let at = seen.partition_point(|(of, _)| *of < edition);
        seen.get(at).map(|(_, at)| *at)
    }
}

/// Asks at an even pace until told to stop, and notes which edition answers; gives how many
/// requests were answered.
fn ask(
    gateway: &Gateway,
    seen: &Seen,
    stop: &AtomicBool,
    edition: impl Fn(&ringway_tests::client::Response) -> Option<u64>,
) -> u64 {
    let mut client = gateway.client(8080).unwrap();
    let mut asked = 0;
    let mut next = Instant::now();
    while !stop.load(Relaxed) {
        let answer = client.get("/measured/", "a").unwrap();
        assert_eq!(answer.status, 200, "after {asked} requests");
        asked += 1;
        if let Some(edition) = edition(&answer) {
            seen.note(edition);
        }
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    asked
}

/// Watches one object as barely as can be, and notes the editions in its `marker` annotation.
fn watch(path: &str, seen: &Seen, stop: &AtomicBool) {
    let mut client = api_itself();
    client.stream().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.send(request("GET", path, "application/json", "").as_bytes()).unwrap();
    let stream = &mut client.reader().stream;
    let mut text = String::new();
    let mut buffer = [0; 64 * 1024];
    while !stop.load(Relaxed) {
        let Ok(n) = stream.read(&mut buffer) else { continue };
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        while let Some(at) = text.find("\"marker\":\"") {
            let rest = &text[at + 10..];
            let Some(end) = rest.find('"') else { break };
            seen.note(rest[..end].parse().unwrap());
            text.drain(..at + 10 + end);
        }
    }
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{what:32} p50 {:>7.2} ms, p90 {:>7.2} ms, p99 {:>7.2} ms, max {:>7.2} ms",
        at(50).as_secs_f64() * 1e3,
        at(90).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
        at(100).as_secs_f64() * 1e3
    );
}

/// Patches an object again and again, [`SAMPLES`] times and for as long as this; when each edition
/// was sent.
fn patches(
    client: &mut Client,
    path: &str,
    served: &Seen,
    least: Duration,
    patch: impl Fn(u64) -> serde_json::Value,
) -> Vec<Instant> {
    let mut sent = Vec::new();
    let begin = Instant::now();
    while sent.len() < SAMPLES || begin.elapsed() < least {
        let edition = sent.len() as u64 + 1;
        let text =
            request("PATCH", path, "application/merge-patch+json", &patch(edition).to_string());
        sent.push(Instant::now());
        client.send(text.as_bytes()).unwrap();
        let answer = client.response("PATCH").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        while served.at(edition).is_none() {
            assert!(
                sent[edition as usize - 1].elapsed() < Duration::from_secs(10),
                "edition {edition}"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    sent
}

/// How long the changes of an object took until a bare watch told of them, until they were served,
/// and from the one to the other.
fn report(what: &str, sent: &[Instant], watched: &Seen, served: &Seen) {
    let times = |seen: &Seen| -> Vec<Duration> {
        let time = |(n, sent): (usize, &Instant)| seen.at(n as u64 + 1).map(|at| at - *sent);
        sent.iter().enumerate().filter_map(time).collect()
    };
    let between = |n: usize| {
        let edition = n as u64 + 1;
        Some(served.at(edition)?.saturating_duration_since(watched.at(edition)?))
    };
    percentiles(&format!("PATCH of {what}: bare watch"), times(watched));
    percentiles(&format!("PATCH of {what}: served"), times(served));
    percentiles("  of that after the bare watch", (0..sent.len()).filter_map(between).collect());
}

#[test]
#[ignore = "takes minutes and measures the machine"]
fn propagation() {
    let count: usize =
        std::env::var("MAPPINGS").map_or(3000, |count| count.parse().expect("a number"));
    let Some(cluster) = Cluster::alone("propagation") else { return };
    let (one, two) = (pod("1"), pod("2"));
    let echo = Upstream::echo("one").unwrap();
    let measured =
        mapping("measured", &format!("prefix: /measured/, service: \"{}\"", echo.address()));
    cluster.apply(
        &(listener(8080)
            + HOST
            + &measured
            + &service("quote")
            + &slice("quote", &[one.address()])),
    );
    let mut client = api_itself();
    let collection = cluster.path("mappings", "");
    let collection = collection.trim_end_matches('/');
    for n in 0..count {
        let object = json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": format!("m{n}")},
            "spec": {"hostname": "*", "prefix": format!("/m{n}/"), "service": "quote"},
        });
        let text = request("POST", collection, "application/json", &object.to_string());
        client.send(text.as_bytes()).unwrap();
        assert_eq!(client.response("POST").unwrap().status, 201);
    }
    let mut options = cluster.options();
    options.args.push("--update-status=false".into());
    let begin = Instant::now();
    let gateway = Gateway::start("", &options).unwrap();
    println!("{count} Mappings: ready after {:?}", begin.elapsed());
    await_status(&gateway, 8080, "/measured/", 200);

    let (served, watched, stop) = (Seen::default(), Seen::default(), AtomicBool::new(false));
    let bare = format!("{collection}?watch=1&fieldSelector=metadata.name%3Dmeasured");
    let begin = Instant::now();
    let (sent, asked) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            ask(&gateway, &served, &stop, |answer| answer.header("x-edition")?.parse().ok())
        });
        scope.spawn(|| watch(&bare, &watched, &stop));
        let stopping = Stopping(&stop);
        let sent = patches(
            &mut client,
            &cluster.path("mappings", "measured"),
            &served,
            MINUTE,
            |edition| {
                json!({
                    "metadata": {"annotations": {"marker": edition.to_string()}},
                    "spec": {"add_response_headers": {"x-edition": {"value": edition.to_string()}}},
                })
            },
        );
        drop(stopping);
        (sent, load.join().unwrap())
    });
    let changes = sent.len();
    println!("{asked} requests in {:?}, {changes} changes, none failed", begin.elapsed());
    report("a Mapping", &sent, &watched, &served);

    // The same Mapping leads to a Service from now on.
    cluster.patch(&cluster.path("mappings", "measured"), &json!({"spec": {"service": "quote"}}));
    super::wait_until("the Service answers", super::PATIENCE, || {
        super::backend(&gateway, "/measured/").is_some_and(|b| b == "1")
    });
    let (served, watched, stop) = (Seen::default(), Seen::default(), AtomicBool::new(false));
    let slices =
        format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", cluster.namespace);
    let path = format!("{slices}/quote-1");
    let bare = format!("{slices}?watch=1&fieldSelector=metadata.name%3Dquote-1");
    let edition = std::sync::atomic::AtomicU64::new(0);
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| {
            ask(&gateway, &served, &stop, |answer| {
                // Odd editions are answered by the second.
                let is_second = answer.seen()?["backend"] == "2";
                let now = edition.load(Relaxed);
                (is_second == (now % 2 == 1)).then_some(now)
            })
        });
        scope.spawn(|| watch(&bare, &watched, &stop));
        let stopping = Stopping(&stop);
        let sent = patches(&mut client, &path, &served, Duration::ZERO, |n| {
            edition.store(n, Relaxed);
            let upstream = if n % 2 == 1 { &two } else { &one };
            json!({
                "metadata": {"annotations": {"marker": n.to_string()}},
                "endpoints": [{"addresses": [upstream.address().ip().to_string()]}],
            })
        });
        drop(stopping);
        sent
    });
    report("an EndpointSlice", &sent, &watched, &served);
    let cpu = gateway.cpu().unwrap();
    let begin = Instant::now();
    for n in 0..10 {
        let patch = json!({"spec": {"timeout_ms": 5000 + n}});
        cluster.patch(&cluster.path("mappings", "m1"), &patch);
        std::thread::sleep(Duration::from_secs(1));
    }
    println!(
        "one change a second: {:.2} % of a core; resident {} MiB",
        (gateway.cpu().unwrap() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0,
        gateway.memory("VmRSS").unwrap() >> 20
    );
}
