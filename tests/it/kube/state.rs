// SPDX-License-Identifier: Apache-2.0
//! The last good versions on disk: a restart while the API server is away.

use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{Cluster, await_status};
use ringway_tests::manifest::mapping;
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};

use super::{base, broken};

#[test]
fn a_restart_while_the_api_server_is_away_serves_what_was_served() {
    let Some(cluster) = Cluster::alone("restart") else { return };
    let echo = Upstream::echo("one").unwrap();
    let route =
        |name: &str| mapping(name, &format!("prefix: /{name}/, service: \"{}\"", echo.address()));
    cluster.apply(&(base(&echo.address()) + &route("stays") + &route("goes")));
    let folder = std::env::temp_dir().join(format!("ringway-state-{}", cluster.namespace));
    let _ = std::fs::remove_dir_all(&folder);
    let mut options = cluster.options();
    options.args.extend(["--state-dir".into(), folder.to_string_lossy().into_owned()]);
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
    std::fs::remove_dir_all(&folder).unwrap();
}
