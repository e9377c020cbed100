// SPDX-License-Identifier: Apache-2.0
//! Envoy: one worker, circuit breakers out of the way, nothing computed that the scenario does not ask
//! for (no per-request stats of the router, no x-envoy headers, no request id unless it is work).

use serde_json::{Value, json};

use super::Setup;
use crate::scenario::{PREFIXES_PER_HOST, PROBE, Protocol, Work, host_name, route_prefix};
use crate::tls;

pub(super) fn configuration(setup: &Setup) -> String {
    let options = match setup.protocol {
        Protocol::Grpc => json!({UPSTREAM: {
            "@type": format!("type.googleapis.com/{UPSTREAM}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }}),
        Protocol::Http1 | Protocol::Http2 => json!({}),
    };
    let address =
        |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let many = 1_000_000;
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{
                "name": "in",
                "address": address(setup.listen),
                "tcp_backlog_size": 4096,
                "filter_chains": [chain(setup)],
            }],
            "clusters": [{
                "name": "up",
                "type": "STATIC",
                "typed_extension_protocol_options": options,
                "circuit_breakers": {"thresholds": [{
                    "max_connections": many,
                    "max_pending_requests": many,
                    "max_requests": many,
                }]},
                "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": address(setup.back_end)}},
                ]}]},
            }],
        },
    })
    .to_string()
}

fn chain(setup: &Setup) -> Value {
    let gateway = setup.work == Work::Gateway;
    let http2 = setup.protocol != Protocol::Http1;
    let filter = match setup.work {
        Work::Tunnel => json!({
            "name": "tcp",
            "typed_config": {
                "@type": format!("{FILTERS}.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "in",
                "cluster": "up",
            },
        }),
        _ => json!({
            "name": "http",
            "typed_config": {
                "@type": format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": "in",
                "codec_type": if http2 { "HTTP2" } else { "HTTP1" },
                "use_remote_address": gateway,
                "skip_xff_append": !gateway,
                "generate_request_id": gateway,
                "upgrade_configs": [{"upgrade_type": "websocket"}],
                "http_filters": [{
                    "name": "router",
                    "typed_config": {
                        "@type": format!("{FILTERS}.http.router.v3.Router"),
                        "dynamic_stats": false,
                        "suppress_envoy_headers": true,
                    },
                }],
            },
        }),
    };
    let mut filter = filter;
    match setup.work {
        Work::Tunnel => {}
        Work::Changing(_) => {
            filter["typed_config"]["rds"] = json!({
                "route_config_name": "routes",
                "config_source": {"path_config_source": {"path": setup.dir.join(CHANGING)}},
            });
        }
        work => filter["typed_config"]["route_config"] = json!({"virtual_hosts": hosts(work, 0)}),
    }
    let mut chain = json!({"filters": [filter]});
    if setup.tls {
        let file = |name: &str| json!({"filename": setup.dir.join(name)});
        chain["transport_socket"] = json!({
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": if http2 { vec!["h2"] } else { vec![] },
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                    "tls_certificates": [
                        {"certificate_chain": file(tls::CERTIFICATE), "private_key": file(tls::KEY)},
                    ],
                },
            },
        });
    }
    chain
}

/// The file that changes with the number of the configuration, in a folder of its own.
pub(super) const CHANGING: &str = "routes/routes.json";

pub(super) fn changing(setup: &Setup, generation: usize) -> String {
    json!({
        "version_info": generation.to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": "routes",
            "virtual_hosts": hosts(setup.work, generation),
        }],
    })
    .to_string()
}

fn hosts(work: Work, generation: usize) -> Value {
    match work {
        Work::Hosts(count) => (0..count)
            .map(|index| {
                let routes = routes(Work::Routes(PREFIXES_PER_HOST), generation);
                json!({"name": host_name(index), "domains": [host_name(index)], "routes": routes})
            })
            .collect(),
        _ => json!([{"name": "all", "domains": ["*"], "routes": routes(work, generation)}]),
    }
}

fn routes(work: Work, generation: usize) -> Vec<Value> {
    let plain = |prefix: &str| json!({"match": {"prefix": prefix}, "route": {"cluster": "up"}});
    let set = |name: &str, value: &str| {
        json!({
            "header": {"key": name, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        })
    };
    match work {
        Work::Forward | Work::Tunnel | Work::WebSocket => vec![plain("/")],
        Work::Gateway => vec![json!({
            "match": {"prefix": "/api/"},
            "route": {"cluster": "up", "prefix_rewrite": "/"},
            "request_headers_to_add": [set("x-tenant", "bench")],
            "request_headers_to_remove": ["x-debug"],
            "response_headers_to_add": [set("x-version", "2"), set("x-frame-options", "DENY")],
            "response_headers_to_remove": ["x-powered-by"],
        })],
        Work::Routes(count) | Work::Hosts(count) => {
            (0..count).map(|index| plain(&route_prefix(index))).collect()
        }
        // Routes are tried in order.
        Work::Changing(count) => {
            let rewrite = format!("/g-{generation}/");
            let probe = json!({
                "match": {"prefix": PROBE},
                "route": {"cluster": "up", "prefix_rewrite": rewrite},
            });
            [vec![probe], routes(Work::Routes(count), generation)].concat()
        }
    }
}

const UPSTREAM: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
