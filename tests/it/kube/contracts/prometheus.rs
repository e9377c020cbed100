// SPDX-License-Identifier: Apache-2.0
//! Prometheus Operator: a ServiceMonitor leads to Services by their labels, from there to a port by
//! its name, and there to a path.

use ringway_tests::gateway::ADMIN_PORT;
use ringway_tests::kube::{Cluster, await_status};
use ringway_tests::manifest::definition;
use ringway_tests::upstream::Upstream;
use ringway_tests::{helm, yaml};
use serde_json::Value;

use super::super::base;

/// The definition of their kind, as far as the chart makes use of it.
pub(crate) fn monitors() -> String {
    definition("monitoring.coreos.com", "v1", "ServiceMonitor", SPEC)
}

const SPEC: &str = "
            required: [endpoints, selector]
            properties:
              endpoints:
                type: array
                items:
                  type: object
                  properties:
                    port: {type: string}
                    path: {type: string}
                    interval: {type: string, pattern: '^([0-9]+(ms|[smhdwy]))+$'}
                    scrapeTimeout: {type: string, pattern: '^([0-9]+(ms|[smhdwy]))+$'}
                    relabelings: {type: array, items: {type: object, x-kubernetes-preserve-unknown-fields: true}}
              namespaceSelector:
                type: object
                properties:
                  any: {type: boolean}
                  matchNames: {type: array, items: {type: string}}
              selector:
                type: object
                properties:
                  matchLabels: {type: object, additionalProperties: {type: string}}
";

#[test]
fn a_service_monitor_leads_to_the_metrics() {
    let Some(cluster) = Cluster::begin("monitor") else { return };
    let namespace = &cluster.namespace;
    cluster.rig().define(&monitors()).unwrap();
    let values = "metrics: {serviceMonitor: {enabled: true, interval: 30s, scrapeTimeout: 10s, \
                  selector: {release: prometheus}}}";
    let rendered = helm::render(namespace, values, &[]).unwrap();
    let wanted = ["ServiceMonitor", "Service"];
    for object in yaml::parse(&rendered).unwrap() {
        if wanted.contains(&object["kind"].as_str().unwrap_or_default()) {
            cluster.apply(&object.to_string());
        }
    }
    let echo = Upstream::echo("one").unwrap();
    cluster.apply(&base(&echo.address()));
    let gateway = cluster.gateway();
    await_status(&gateway, 8080, "/quote/", 200);

    // As the operator does it: what a Prometheus selects by its labels,
    let path = "/apis/monitoring.coreos.com/v1";
    let list = cluster.get(&format!("{path}/servicemonitors?labelSelector=release%3Dprometheus"));
    let list = list.unwrap();
    let monitors = list["items"].as_array().unwrap();
    let ours = |monitor: &&Value| monitor["metadata"]["namespace"] == namespace[..];
    let monitor = monitors.iter().find(ours).unwrap();
    assert_eq!(monitor["spec"]["namespaceSelector"]["matchNames"][0], namespace[..]);
    // the Services that it selects, which is one,
    let labels = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let selector: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}%3D{}", value.as_str().unwrap()))
        .collect();
    let services =
        format!("/api/v1/namespaces/{namespace}/services?labelSelector={}", selector.join("%2C"));
    let services = cluster.get(&services).unwrap();
    let [service] = &services["items"].as_array().unwrap()[..] else { panic!("{services}") };
    // a port of it by name,
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["interval"], "30s");
    let mut ports = service["spec"]["ports"].as_array().unwrap().iter();
    let port = ports.find(|port| port["name"] == endpoint["port"]).unwrap();
    assert_eq!(port["targetPort"], ADMIN_PORT);
    // and a path there.
    let answer = gateway.admin(endpoint["path"].as_str().unwrap()).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    let text = answer.text();
    let series = "envoy_http_downstream_rq_xx{";
    assert!(text.lines().any(|line| line.starts_with(series)), "{text}");
}
