// SPDX-License-Identifier: Apache-2.0
//! The gateway in front of a real API server (see `ringway_tests::kube`): what is applied is
//! served, whatever becomes of the API server.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{Cluster, await_status, pod_address};
use ringway_tests::load::{self, Backend, Plan, Stopping};
use ringway_tests::manifest::{listener, mapping, module, service, slice};
use ringway_tests::pki;
use ringway_tests::tls::ClientOptions;
use ringway_tests::upstream::{self, Upstream};
use ringway_tests::{Client, PATIENCE, wait_until};
use serde_json::{Value, json};

mod contracts;
mod definitions;
mod emissary;
mod faults;
mod front;
mod install;
mod kinds;
mod propagation;
mod state;
mod status;

/// A Listener, a Host for everything, and a Mapping that leads to a back end.
fn base(backend: &SocketAddr) -> String {
    listener(8080) + HOST + &mapping("quote", &format!("prefix: /quote/, service: \"{backend}\""))
}

/// A Mapping of `/name/`.
fn route(name: &str, to: &Upstream) -> String {
    mapping(name, &format!("prefix: /{name}/, service: \"{}\"", to.address()))
}

const HOST: &str = "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: any}
spec: {hostname: '*', requestPolicy: {insecure: {action: Route}}}
";

/// An echo on an address that an EndpointSlice may have.
fn pod(name: &'static str) -> Upstream {
    let address = SocketAddr::from((pod_address(), 8000));
    Upstream::start(address, move |stream| upstream::echo(name, stream)).unwrap()
}

/// A change of a Mapping that the API server takes and the gateway refuses.
fn broken() -> Value {
    json!({"spec": {"prefix": "(", "prefix_regex": true}})
}

/// Which back end answers.
fn backend(gateway: &Gateway, path: &str) -> Option<String> {
    let answer = gateway.get(8080, path, "a").ok()?;
    Some(answer.seen()?["backend"].as_str()?.to_owned())
}

/// A Mapping of `/load/`, for [`under_load`].
fn load_to(steady: &Backend) -> String {
    mapping("load", &format!("prefix: /load/, service: \"{}\"", steady.address()))
}

/// Does something while requests for `/load/` come; none of them fails.
fn under_load(gateway: &Gateway, doing: impl FnOnce()) {
    let plan = Plan::get(gateway.address(8080), 8, "/load/", "content-type");
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&plan, &stop));
        let stopping = Stopping(&stop);
        doing();
        drop(stopping);
        load.join().unwrap()
    });
    assert!(outcome.answers > 1000 && outcome.errors.is_empty(), "{outcome:?}");
}

#[test]
fn what_is_applied_changed_and_deleted_is_served_while_requests_come() {
    let Some(cluster) = Cluster::begin("apply") else { return };
    let steady = Backend::start().unwrap();
    let echo = Upstream::echo("one").unwrap();
    cluster.apply(&(base(&echo.address()) + &load_to(&steady)));
    let gateway = cluster.gateway();
    await_status(&gateway, 8080, "/quote/", 200);
    under_load(&gateway, || {
        let other = mapping("other", &format!("prefix: /other/, service: \"{}\"", echo.address()));
        await_status(&gateway, 8080, "/other/", 404);
        cluster.apply(&other);
        await_status(&gateway, 8080, "/other/", 200);
        cluster.patch(&cluster.path("mappings", "other"), &json!({"spec": {"prefix": "/new/"}}));
        await_status(&gateway, 8080, "/new/", 200);
        await_status(&gateway, 8080, "/other/", 404);
        // Refused: what was accepted goes on.
        cluster.patch(&cluster.path("mappings", "other"), &broken());
        wait_until("it says so", PATIENCE, || gateway.log().contains("still serving"));
        await_status(&gateway, 8080, "/new/", 200);
        cluster.delete(&other);
        await_status(&gateway, 8080, "/new/", 404);
        // A Module and a Listener, which are more than routes.
        cluster.apply(&module("server_name: mine"));
        wait_until("the Module counts", PATIENCE, || {
            let answer = gateway.get(8080, "/quote/", "a").unwrap();
            answer.header("server").as_deref() == Some("mine")
        });
        cluster.apply(&listener(8081));
        await_answer(&gateway, 8081);
        cluster.delete(&listener(8081));
        wait_until("it does not listen any more", PATIENCE, || gateway.client(8081).is_err());
    });
}

fn await_answer(gateway: &Gateway, port: u16) {
    wait_until("it listens there too", PATIENCE, || {
        gateway.get(port, "/quote/", "a").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn endpoints_of_services_are_followed() {
    let Some(cluster) = Cluster::begin("endpoints") else { return };
    let (one, two) = (pod("one"), pod("two"));
    let all = listener(8080) + HOST + &mapping("all", "prefix: /, service: quote");
    let at = |upstream: &Upstream| slice("quote", &[upstream.address()]);
    cluster.apply(&(all + &service("quote") + &at(&one)));
    let gateway = cluster.gateway();
    wait_until("the first answers", PATIENCE, || backend(&gateway, "/").as_deref() == Some("one"));
    cluster.apply(&at(&two));
    wait_until("the second answers", PATIENCE, || backend(&gateway, "/").as_deref() == Some("two"));
    // A Service that goes leaves a name that nobody knows.
    cluster.delete(&at(&two));
    await_status(&gateway, 8080, "/", 503);
    cluster.apply(&at(&one));
    wait_until("the first is back", PATIENCE, || backend(&gateway, "/").as_deref() == Some("one"));
}

/// The certificate that a client for a.com is shown, by what it was made of.
fn shown(gateway: &Gateway) -> Option<String> {
    let options = ClientOptions { trust: Some("test".into()), ..ClientOptions::name("a.com") };
    let config = options.config().unwrap();
    let to = gateway.address(8443);
    let client = Client::connect_tls(to, PATIENCE, b"", config, Some("a.com")).ok()?;
    client.handshake()?.certificate()
}

/// A Secret counts from when it comes, in its newest version. The role does not allow to list any.
#[test]
fn secrets_are_read_when_they_are_named() {
    let Some(cluster) = Cluster::begin("secrets") else { return };
    let echo = Upstream::echo("one").unwrap();
    let https = "---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
";
    let host = "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: secure}
spec: {hostname: a.com, tlsSecret: {name: cert}}
";
    cluster.apply(&(base(&echo.address()) + https));
    let gateway = cluster.gateway();
    let is_shown = |edition: &str| {
        wait_until(&format!("{edition:?} is shown"), PATIENCE, || {
            shown(&gateway).as_deref() == Some(edition)
        });
    };
    let leaf = |edition: &str| pki::server(edition).unwrap();
    // The Host comes first, its Secret later.
    cluster.apply(host);
    wait_until("it is missed", PATIENCE, || gateway.log().contains("UnknownSecret"));
    cluster.apply(&leaf("a.com edition 2").secret("cert"));
    is_shown("a.com edition 2");
    cluster.apply(&leaf("a.com edition 3").secret("cert"));
    is_shown("a.com edition 3");
    // Another one, which was there before anybody named it.
    cluster.apply(&leaf("a.com edition 4").secret("other"));
    let patch = json!({"spec": {"tlsSecret": {"name": "other"}}});
    cluster.patch(&cluster.path("hosts", "secure"), &patch);
    is_shown("a.com edition 4");
    cluster.delete(&leaf("a.com edition 4").secret("other"));
    wait_until("nothing is shown", PATIENCE, || shown(&gateway).is_none());
    await_status(&gateway, 8080, "/quote/", 200);
}

#[test]
fn a_kind_that_is_installed_later_is_picked_up() {
    let Some(cluster) = Cluster::alone("later") else { return };
    let rig = cluster.rig();
    let definition = ["crd", "tcpmappings.getambassador.io"];
    rig.kubectl(&[&["delete"], &definition[..]].concat(), "").unwrap();
    let echo = Upstream::echo("one").unwrap();
    cluster.apply(&base(&echo.address()));
    let gateway = cluster.gateway();
    await_status(&gateway, 8080, "/quote/", 200);
    rig.install().unwrap();
    cluster.apply(&format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: TCPMapping
metadata: {{name: raw}}
spec: {{port: 9000, service: \"{}\"}}
---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {{name: raw}}
spec: {{port: 9000, protocol: TCP, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}
",
        echo.address()
    ));
    wait_until("connections are taken", PATIENCE, || {
        gateway.get(9000, "/", "a").is_ok_and(|answer| answer.status == 200)
    });
    // Its objects go with it, and nothing else does.
    rig.kubectl(&[&["delete"], &definition[..]].concat(), "").unwrap();
    wait_until("they are not any more", PATIENCE, || gateway.get(9000, "/", "a").is_err());
    await_status(&gateway, 8080, "/quote/", 200);
    rig.install().unwrap();
}

#[test]
fn traffic_does_not_notice_an_api_server_that_is_gone() {
    let Some(cluster) = Cluster::alone("outage") else { return };
    let steady = Backend::start().unwrap();
    let echo = Upstream::echo("one").unwrap();
    let doomed = mapping("doomed", &format!("prefix: /doomed/, service: \"{}\"", echo.address()));
    cluster.apply(&(base(&echo.address()) + &load_to(&steady) + &doomed));
    let gateway = cluster.gateway();
    await_status(&gateway, 8080, "/doomed/", 200);
    let rig = cluster.rig();
    let failures = || gateway.metric("ringway_watch_errors_total", "").unwrap();
    under_load(&gateway, || {
        for _ in 0..2 {
            let before = failures();
            rig.stop("api").unwrap();
            wait_until("it notices", PATIENCE, || failures() > before);
            await_status(&gateway, 8080, "/doomed/", 200);
            rig.start_again("api").unwrap();
        }
        // Watches cannot go on where they were: the new server's memory begins later.
        cluster.delete(&doomed);
        await_status(&gateway, 8080, "/doomed/", 404);
    });
}
