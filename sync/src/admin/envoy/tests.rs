// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

#[track_caller]
fn check(line: &str, expected: Option<(&str, &str)>) {
    assert_eq!(envoy_name(line), expected.map(|(name, value)| (name.to_owned(), value)), "{line}");
}

#[test]
fn labels_are_parts_of_envoys_names() {
    check("envoy_server_uptime 12", Some(("server.uptime", "12")));
    check(
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"quote\"} 3",
        Some(("cluster.quote.upstream_rq_total", "3")),
    );
    check(
        "envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",\
         envoy_http_conn_manager_prefix=\"ingress_http\"} 4",
        Some(("http.ingress_http.downstream_rq_2xx", "4")),
    );
    check("envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"q\",le=\"1\"} 4", None);
    check(
        "envoy_cluster_upstream_rq{envoy_cluster_name=\"q\",envoy_response_code=\"503\"} 1",
        Some(("cluster.q.upstream_rq_503", "1")),
    );
    check(
        "envoy_cluster_manager_active_clusters 9",
        Some(("cluster_manager.active_clusters", "9")),
    );
    check("ringway_routes 4", None);
    check("# HELP envoy_server_uptime x", None);
}
