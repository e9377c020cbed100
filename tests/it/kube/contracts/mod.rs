// SPDX-License-Identifier: Apache-2.0
//! Other controllers in the same cluster: what each of them writes and reads, replayed as it does it.

use ringway_tests::kube::{Cluster, api, request};
use ringway_tests::{PATIENCE, wait_until};
use serde_json::Value;

mod argo_rollouts;
mod cert_manager;
mod external_dns;
mod kubectl;
pub(crate) mod prometheus;

/// Changes an object as most controllers do: it is read, changed and written whole, and once more
/// where somebody else wrote it meanwhile.
#[track_caller]
fn update(cluster: &Cluster, path: &str, change: impl Fn(&mut Value)) {
    let mut api = api();
    wait_until(&format!("{path} is written"), PATIENCE, || {
        let mut object = cluster.get(path).expect("it is there");
        change(&mut object);
        let request = request("PUT", path, "application/json", &object.to_string());
        api.send(request.as_bytes()).unwrap();
        let answer = api.response("PUT").unwrap();
        assert!(matches!(answer.status, 200 | 409), "{path}: {}", answer.text());
        answer.status == 200
    });
}

/// Runs `kubectl` in the test's namespace.
#[track_caller]
fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let all = [&["-n", &cluster.namespace], arguments].concat();
    cluster.rig().kubectl(&all, "").unwrap_or_else(|error| panic!("{error:#}"))
}
