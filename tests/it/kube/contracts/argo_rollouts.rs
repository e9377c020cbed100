// SPDX-License-Identifier: Apache-2.0
//! Argo Rollouts' Ambassador router: of a Mapping without a weight it makes a second one that leads
//! to the canary, with a weight that it raises step by step. It speaks v2.

use ringway_tests::gateway::Gateway;
use ringway_tests::kube::Cluster;
use ringway_tests::manifest::{listener, service, slice};
use ringway_tests::{PATIENCE, wait_until};
use serde_json::{Value, json};

use super::super::pod;
use super::{kubectl, update};

/// The Host takes what has a label, which the controller does not copy.
const MANIFESTS: &str = "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: shop}
spec:
  hostname: '*'
  mappingSelector: {matchLabels: {app: shop}}
  requestPolicy: {insecure: {action: Route}}
---
apiVersion: getambassador.io/v2
kind: Mapping
metadata: {name: shop, labels: {app: shop}}
spec:
  prefix: /shop/
  service: http://shop-stable:80
  add_response_headers: {x-step: kept}
  retry_policy: {retry_on: 5xx, num_retries: 1}
";

/// Percents of many requests that the canary answers. None of them fails.
fn share(gateway: &Gateway) -> f64 {
    const REQUESTS: u32 = 600;
    let mut client = gateway.client(8080).unwrap();
    let mut hits = 0;
    for _ in 0..REQUESTS {
        let answer = client.get("/shop/", "a").unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-step").as_deref(), Some("kept"));
        hits += u32::from(answer.seen().unwrap()["backend"] == "canary");
    }
    f64::from(hits * 100) / f64::from(REQUESTS)
}

/// Waits until the canary has its share: exactly where it is all or nothing, else within three
/// standard deviations.
#[track_caller]
fn await_share(gateway: &Gateway, percent: u32) {
    let expected = f64::from(percent);
    wait_until(&format!("the canary has {percent} %"), PATIENCE, || {
        let found = share(gateway);
        if matches!(percent, 0 | 100) { found == expected } else { (found - expected).abs() < 6.0 }
    });
}

#[test]
fn a_rollout_shifts_traffic_step_by_step() {
    let Some(cluster) = Cluster::begin("rollouts") else { return };
    let (stable, canary) = (pod("stable"), pod("canary"));
    let services = [("shop-stable", &stable), ("shop-canary", &canary)]
        .map(|(name, upstream)| service(name) + &slice(name, &[upstream.address()]));
    cluster.apply(&(listener(8080) + MANIFESTS + &services.concat()));
    let gateway = cluster.gateway();
    let path = |name: &str| cluster.path_in("v2", "mappings", name);
    await_share(&gateway, 0);
    wait_until("the status is written, which the controller copies", PATIENCE, || {
        cluster.get(&path("shop")).is_some_and(|base| base["status"]["state"] == "Running")
    });

    // The first step: there is none yet, so that it is made of the base, without its metadata.
    assert_eq!(cluster.get(&path("shop-canary")), None);
    let mut made = cluster.get(&path("shop")).unwrap();
    assert_eq!(made["apiVersion"], "getambassador.io/v2");
    assert!(made["spec"]["weight"].is_null(), "a base with a weight is refused: {made}");
    made["metadata"] = json!({"name": "shop-canary", "namespace": cluster.namespace});
    let service = made["spec"]["service"].as_str().unwrap().replacen("stable", "canary", 1);
    made["spec"]["service"] = service.into();
    made["spec"]["weight"] = 20.into();
    cluster.create(path("").trim_end_matches('/'), &made);
    await_share(&gateway, 20);
    for weight in [50, 80, 100] {
        update(&cluster, &path("shop-canary"), |canary| canary["spec"]["weight"] = weight.into());
        await_share(&gateway, weight);
    }
    wait_until("both say that they run", PATIENCE, || {
        let state = |name: &str| cluster.get(&path(name)).unwrap()["status"]["state"].clone();
        state("shop") == "Running" && state("shop-canary") == "Running"
    });

    // Promoted: the stable Service leads to the new Pods, and the second Mapping goes.
    cluster.apply(&slice("shop-stable", &[canary.address()]));
    update(&cluster, &path("shop-canary"), |canary| canary["spec"]["weight"] = 0.into());
    kubectl(&cluster, &["delete", "mappings.v2.getambassador.io", "shop-canary"]);
    await_share(&gateway, 100);
    let base: Value = cluster.get(&path("shop")).unwrap();
    assert!(base["spec"]["weight"].is_null(), "{base}");
    assert_eq!(base["spec"]["service"], "http://shop-stable:80");
}
