// SPDX-License-Identifier: Apache-2.0
//! The last good versions on disk: a restart while the API server is away.

use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{ADMIN_TOKEN, Cluster, api_itself, await_status, request};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};

use super::{base, broken, route};

/// A token that counts no more is no end: what is kept serves, and a new one is read as it comes.
#[test]
fn a_token_that_has_expired_is_replaced() {
    let Some(cluster) = Cluster::begin("token") else { return };
    let echo = Upstream::echo("one").unwrap();
    let route = |name: &str| route(name, &echo);
    cluster.apply(&(base(&echo.address()) + &route("goes")));
    let mut options = cluster.options();
    options.args.push(format!("--state-dir={}", cluster.folder("state").display()));
    let gateway = Gateway::start("", &options).unwrap();
    await_status(&gateway, 8080, "/goes/", 200);
    drop(gateway);
    // The ServiceAccount is another one of the same name.
    let old = cluster.token();
    let namespace = ["--namespace", &cluster.namespace];
    let delete = ["delete", "serviceaccount", "--all"];
    cluster.rig().kubectl(&[&delete[..], &namespace].concat(), "").unwrap();
    cluster.grant("scope: {singleNamespace: true}");
    wait_until("the API server has forgotten it", PATIENCE, || {
        let mut client = api_itself();
        let asked = request("GET", "/version", "application/json", "");
        client.send(asked.replace(ADMIN_TOKEN, &old).as_bytes()).unwrap();
        client.response("GET").unwrap().status == 401
    });
    let gateway = Gateway::start("", &options).unwrap();
    await_status(&gateway, 8080, "/goes/", 200);
    wait_until("it says so", PATIENCE, || gateway.log().contains("Unauthorized"));
    cluster.delete(&route("goes"));
    cluster.apply(&route("comes"));
    cluster.renew_token();
    // A file is read again after a minute.
    wait_until("it goes on", 6 * PATIENCE, || {
        gateway.get(8080, "/comes/", "a").is_ok_and(|answer| answer.status == 200)
    });
    await_status(&gateway, 8080, "/goes/", 404);
}

#[test]
fn a_restart_while_the_api_server_is_away_serves_what_was_served() {
    let Some(cluster) = Cluster::alone("restart") else { return };
    let echo = Upstream::echo("one").unwrap();
    let route = |name: &str| route(name, &echo);
    cluster.apply(&(base(&echo.address()) + &route("stays") + &route("goes")));
    let mut options = cluster.options();
    options.args.push(format!("--state-dir={}", cluster.folder("state").display()));
    let gateway = Gateway::start("", &options).unwrap();
    await_status(&gateway, 8080, "/goes/", 200);
    // Refused now: what was accepted is the last good version, over restarts too.
    cluster.patch(&cluster.path("mappings", "stays"), &broken());
    wait_until("it is refused", PATIENCE, || gateway.log().contains("still serving"));
    drop(gateway);

    let rig = cluster.rig();
    rig.stop("api").unwrap();
    let gateway = Gateway::start("", &options).unwrap();
    await_status(&gateway, 8080, "/goes/", 200);
    await_status(&gateway, 8080, "/stays/", 200);
    rig.start_again("api").unwrap();
    // What has changed meanwhile is found: here, right after it.
    cluster.delete(&route("goes"));
    await_status(&gateway, 8080, "/goes/", 404);
    await_status(&gateway, 8080, "/stays/", 200);
    drop(gateway);
    // What was deleted is not there again.
    rig.stop("api").unwrap();
    let gateway = Gateway::start("", &options).unwrap();
    await_status(&gateway, 8080, "/stays/", 200);
    await_status(&gateway, 8080, "/goes/", 404);
    drop(gateway);
    rig.start_again("api").unwrap();
}
