// SPDX-License-Identifier: Apache-2.0
//! Changes of the folder while requests come: each takes effect at once, none costs a request,
//! and a mistake costs nothing but the change.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ringway_tests::gateway::{Gateway, Options};
use ringway_tests::load::{self, Backend, Plan, Stopping};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};

use super::{DRIVERS, heavy};

fn start(manifests: &str, driver: &'static str) -> Gateway {
    let options = Options { args: vec!["--access-log=off".into()], ..Options::driver(driver) };
    let gateway = Gateway::start(manifests, &options).unwrap();
    gateway.assert_driver(driver).unwrap();
    gateway
}

/// The manifests of edit number `n`, which every answer names.
fn edition(backend: &Backend, n: u64) -> String {
    let spec = format!(
        "prefix: /, service: \"{}\", add_response_headers: {{x-edition: {{value: \"{n}\"}}}}",
        backend.address()
    );
    listener(8080) + &mapping("all", &spec)
}

#[test]
fn edits_under_load_cost_no_request() {
    let _alone = heavy();
    for driver in DRIVERS {
        let backend = Backend::start().unwrap();
        let gateway = start(&edition(&backend, 0), driver);
        let plan = Plan::get(gateway.address(8080), 64, "/", "x-edition");
        let stop = AtomicBool::new(false);
        let begin = Instant::now();
        let (outcome, mut times) = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(&plan, &stop));
            let stopping = Stopping(&stop);
            let mut times = Vec::new();
            // Ten seconds at least, and until every edit was seen.
            for n in 1.. {
                let generation = gateway.generation().unwrap();
                let edit = Instant::now();
                gateway.write("all.yaml", &edition(&backend, n)).unwrap();
                wait_until("the edit is served by every worker", PATIENCE, || {
                    gateway.generation().unwrap() > generation
                });
                times.push(edit.elapsed());
                if begin.elapsed() > Duration::from_secs(10) {
                    break;
                }
            }
            drop(stopping);
            (load.join().unwrap(), times)
        });
        times.sort();
        let median = times[times.len() / 2];
        println!(
            "{driver}: {} answers, {} edits, median {median:?}, worst {:?}",
            outcome.answers,
            times.len(),
            times[times.len() - 1]
        );
        assert!(outcome.errors.is_empty(), "on {driver}: {:?}", outcome.errors);
        let edits = times.len() as u64;
        assert!(outcome.is_a_load_for(edits), "only {} answers on {driver}", outcome.answers);
        assert!(outcome.noted.len() > 10, "only {} editions seen on {driver}", outcome.noted.len());
        assert!(median < Duration::from_millis(100), "a median of {median:?} on {driver}");
    }
}

#[test]
fn a_typo_keeps_the_old_routes_and_shows_a_caret() {
    let upstream = Upstream::echo("a").unwrap();
    let address = upstream.address();
    let good = listener(8080)
        + &mapping("one", &format!("prefix: /one/, service: \"{address}\""))
        + &mapping("two", &format!("prefix: /two/, service: \"{address}\""));
    let gateway = start(&good, "io_uring");
    // Not YAML any more: a bracket is never closed.
    gateway.write("all.yaml", &good.replace("prefix: /two/", "prefix: [/two/")).unwrap();
    wait_until("the mistake is shown with a caret", PATIENCE, || gateway.log().contains('^'));
    assert_eq!(gateway.get(8080, "/one/", "a").unwrap().status, 200);
    assert_eq!(gateway.get(8080, "/two/", "a").unwrap().status, 200, "the last good one serves");
    // Put right again, with a change.
    gateway.write("all.yaml", &good.replace("/two/", "/three/")).unwrap();
    wait_until("the repaired file is served", PATIENCE, || {
        gateway.get(8080, "/three/", "a").unwrap().status == 200
    });
    assert_eq!(gateway.get(8080, "/two/", "a").unwrap().status, 404);
}

#[test]
fn an_object_that_becomes_invalid_keeps_its_last_version() {
    let upstream = Upstream::echo("a").unwrap();
    let address = upstream.address();
    let good = listener(8080) + &mapping("one", &format!("prefix: /one/, service: \"{address}\""));
    let gateway = start(&good, "io_uring");
    let bad = good.replace("prefix: /one/", "prefix: /one/, retry_policy: {retry_on: 7}");
    let other = mapping("other", &format!("prefix: /other/, service: \"{address}\""));
    gateway.write("all.yaml", &bad).unwrap();
    gateway.write("other.yaml", &other).unwrap();
    wait_until("the neighbour is served", PATIENCE, || {
        gateway.get(8080, "/other/", "a").unwrap().status == 200
    });
    assert_eq!(gateway.get(8080, "/one/", "a").unwrap().status, 200);
}

#[test]
fn what_is_removed_is_gone() {
    let upstream = Upstream::echo("a").unwrap();
    let address = upstream.address();
    let gateway = start(&listener(8080), "io_uring");
    let one = mapping("one", &format!("prefix: /one/, service: \"{address}\""));
    gateway.write("one.yaml", &one).unwrap();
    let status = || gateway.get(8080, "/one/", "a").unwrap().status;
    wait_until("the new file is served", PATIENCE, || status() == 200);
    std::fs::remove_file(gateway.folder().join("one.yaml")).unwrap();
    wait_until("the removed file is not served", PATIENCE, || status() == 404);
}

#[test]
fn listeners_come_and_go() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let all = mapping("all", &format!("prefix: /, service: \"{}\"", upstream.address()));
        let gateway = start(&(listener(8080) + &all), driver);
        gateway.write("second.yaml", &listener(8081)).unwrap();
        wait_until("the new Listener accepts", PATIENCE, || gateway.client(8081).is_ok());
        assert_eq!(gateway.get(8081, "/", "a").unwrap().status, 200);
        // A request in flight on it outlives it.
        let mut client = gateway.client(8081).unwrap();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-backend-delay-ms: 700\r\n\r\n").unwrap();
        std::fs::remove_file(gateway.folder().join("second.yaml")).unwrap();
        wait_until("the removed Listener refuses", PATIENCE, || gateway.client(8081).is_err());
        assert_eq!(client.response("GET").unwrap().status, 200, "on {driver}");
        assert_eq!(gateway.get(8080, "/", "a").unwrap().status, 200);
    }
}

#[test]
fn a_changed_listener_costs_the_others_nothing() {
    for driver in DRIVERS {
        let upstream = Upstream::echo("a").unwrap();
        let all = mapping("all", &format!("prefix: /, service: \"{}\"", upstream.address()));
        let gateway = start(&(listener(8080) + &all), driver);
        gateway.write("second.yaml", &listener(8081)).unwrap();
        wait_until("the second Listener accepts", PATIENCE, || gateway.client(8081).is_ok());
        let mut first = gateway.client(8080).unwrap();
        let mut second = gateway.client(8081).unwrap();
        let close =
            |client: &mut ringway_tests::Client| client.get("/", "a").unwrap().header("connection");
        assert_eq!((close(&mut first), close(&mut second)), (None, None));
        // It moves to another port.
        gateway.write("second.yaml", &listener(8081).replace("port: 8081", "port: 8082")).unwrap();
        wait_until("the moved Listener accepts", PATIENCE, || gateway.client(8082).is_ok());
        assert_eq!(gateway.get(8082, "/", "a").unwrap().status, 200);
        assert!(gateway.client(8081).is_err(), "on {driver}");
        assert_eq!(close(&mut second).as_deref(), Some("close"), "on {driver}");
        assert_eq!(close(&mut first), None, "on {driver}");
        // It gets another name: nobody who connects notices.
        let renamed = listener(8082).replace("http-8082", "other");
        let generation = gateway.generation().unwrap();
        gateway.write("second.yaml", &renamed).unwrap();
        let begin = Instant::now();
        while gateway.generation().unwrap() == generation || begin.elapsed().as_millis() < 200 {
            assert_eq!(gateway.get(8082, "/", "a").unwrap().status, 200, "on {driver}");
        }
        assert_eq!(close(&mut first), None, "on {driver}");
    }
}

#[test]
fn endpoints_change_without_a_new_route() {
    let (one, two) = (Upstream::echo("a").unwrap(), Upstream::echo("b").unwrap());
    let slice = |upstream: &Upstream| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: quote, namespace: default}}
spec: {{ports: [{{port: 80, targetPort: 8000}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: quote-1, namespace: default, labels: {{kubernetes.io/service-name: quote}}}}
addressType: IPv4
ports: [{{port: 8000}}]
endpoints: [{{addresses: [{}]}}]
",
            upstream.address().ip()
        )
    };
    let all = listener(8080) + &mapping("all", "prefix: /, service: quote");
    let gateway = start(&all, "io_uring");
    gateway.write("endpoints.yaml", &slice(&one)).unwrap();
    let from = || gateway.get(8080, "/", "a").unwrap().seen().map(|seen| seen["backend"].clone());
    wait_until("the first endpoint answers", PATIENCE, || from() == Some("a".into()));
    gateway.write("endpoints.yaml", &slice(&two)).unwrap();
    wait_until("the second endpoint answers", PATIENCE, || from() == Some("b".into()));
    for _ in 0..20 {
        assert_eq!(from(), Some("b".into()), "the first is not asked any more");
    }
}
