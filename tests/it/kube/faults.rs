// SPDX-License-Identifier: Apache-2.0
//! What an API server may do wrong, and what there may be much of: traffic notices nothing, and
//! afterwards everything is as it is written.

use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{Cluster, api, await_status, request};
use ringway_tests::load::Backend;
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};
use serde_json::json;

use super::front::{Fault, Front};
use super::{base, load_to, route, under_load};

#[test]
fn no_failure_of_an_api_server_reaches_requests() {
    let Some(cluster) = Cluster::begin("faults") else { return };
    let steady = Backend::start().unwrap();
    let echo = Upstream::echo("one").unwrap();
    let route = |name: &str| route(name, &echo);
    cluster.apply(&(base(&echo.address()) + &load_to(&steady)));
    let front = Front::start();
    let gateway = Gateway::start("", &cluster.options_at(front.address())).unwrap();
    await_status(&gateway, 8080, "/quote/", 200);
    let faults = [
        // What an expired token, a lost role, a busy and a broken API server answer.
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Cut,
        Fault::Silence,
    ];
    under_load(&gateway, || {
        for (n, fault) in faults.into_iter().enumerate() {
            let (old, new) = (format!("old{n}"), format!("new{n}"));
            cluster.apply(&route(&old));
            await_status(&gateway, 8080, &format!("/{old}/"), 200);
            front.fail(fault);
            wait_until(&format!("{fault:?} is met"), PATIENCE, || front.met() >= 20);
            cluster.delete(&route(&old));
            cluster.apply(&route(&new));
            await_status(&gateway, 8080, &format!("/{old}/"), 200);
            await_status(&gateway, 8080, &format!("/{new}/"), 404);
            front.heal();
            await_status(&gateway, 8080, &format!("/{new}/"), 200);
            await_status(&gateway, 8080, &format!("/{old}/"), 404);
        }
        // Without any watch: it is listed again and again.
        let relists = || gateway.metric("ringway_watch_relists_total", "").unwrap();
        let before = relists();
        front.fail(Fault::Gone);
        wait_until("it is listed again", PATIENCE, || relists() > before + 30.0);
        cluster.apply(&route("last"));
        await_status(&gateway, 8080, "/last/", 200);
        front.heal();
        cluster.delete(&route("last"));
        await_status(&gateway, 8080, "/last/", 404);
    });
    assert!(gateway.metric("ringway_watch_errors_total", "").unwrap() >= 60.0);
    assert!(gateway.metric("ringway_watch_events_total", "").unwrap() > 10.0);
}

#[test]
fn many_objects_come_in_pages_and_a_large_one_comes_whole() {
    const COUNT: usize = 1100;
    let Some(cluster) = Cluster::begin("many") else { return };
    let echo = Upstream::echo("one").unwrap();
    let service = echo.address().to_string();
    cluster.apply(&base(&echo.address()));
    let collection = cluster.path("mappings", "");
    let collection = collection.trim_end_matches('/');
    let object = |name: &str| {
        json!({
            "apiVersion": "getambassador.io/v3alpha1",
            "kind": "Mapping",
            "metadata": {"name": name},
            "spec": {"hostname": "*", "prefix": format!("/{name}/"), "service": service},
        })
    };
    let mut client = api();
    for n in 0..COUNT {
        let body = object(&format!("m{n}")).to_string();
        client.send(request("POST", collection, "application/json", &body).as_bytes()).unwrap();
        assert_eq!(client.response("POST").unwrap().status, 201);
    }
    let front = Front::start();
    let gateway = Gateway::start("", &cluster.options_at(front.address())).unwrap();
    for n in [0, 499, 500, COUNT - 1] {
        await_status(&gateway, 8080, &format!("/m{n}/"), 200);
    }
    assert!(front.asked("GET", "/mappings?limit=500&continue=") >= 2);
    // etcd takes no object of more than 1.5 MiB.
    let mut large = object("large");
    large["spec"]["docs"] = json!({"display_name": "x".repeat(1 << 20)});
    cluster.create(collection, &large);
    await_status(&gateway, 8080, "/large/", 200);
    cluster.patch(&cluster.path("mappings", "large"), &json!({"spec": {"prefix": "/larger/"}}));
    await_status(&gateway, 8080, "/larger/", 200);
}
