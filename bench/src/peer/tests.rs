// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use serde_json::Value;

use super::*;

fn setup(work: Work) -> Setup {
    Setup {
        listen: 1111,
        admin: 2222,
        back_end: 3333,
        work,
        connections: 1_024,
        tls: false,
        protocol: Protocol::Http1,
        worker_core: None,
        dir: "/d".into(),
    }
}

#[test]
fn every_configuration_names_both_ends() {
    for work in [
        Work::Forward,
        Work::Gateway,
        Work::Routes(3),
        Work::Hosts(3),
        Work::Tunnel,
        Work::WebSocket,
    ] {
        let setup = setup(work);
        for text in [
            nginx::configuration(&setup, None),
            haproxy::configuration(&setup, 0),
            envoy::configuration(&setup),
            ringway::manifests(&setup).unwrap(),
        ] {
            assert!(text.contains("1111"), "{text}");
            assert!(text.contains("3333"), "{text}");
            let gateway = text.to_ascii_lowercase().contains("x-frame-options");
            assert_eq!(gateway, work == Work::Gateway, "{text}");
        }
    }
}

#[test]
fn every_route_is_written_once() {
    let setup = setup(Work::Routes(250));
    let count = |text: &str, what: &str| text.matches(what).count();
    assert_eq!(count(&nginx::configuration(&setup, None), "location /r-"), 250);
    assert_eq!(haproxy::routes(&setup).lines().count(), 250);
    assert_eq!(count(&ringway::manifests(&setup).unwrap(), "kind: Mapping"), 250);
    let envoy: Value = serde_json::from_str(&envoy::configuration(&setup)).unwrap();
    let filters = "/static_resources/listeners/0/filter_chains/0/filters/0";
    let routes = format!("{filters}/typed_config/route_config/virtual_hosts/0/routes");
    let routes = envoy.pointer(&routes).unwrap().as_array().unwrap();
    assert_eq!(routes.len(), 250);
    assert_eq!(routes[249]["match"]["prefix"], "/r-00249/");
}

#[test]
fn protocols_are_spoken_where_the_scenario_says() {
    let texts = |protocol, tls| {
        let setup = Setup { protocol, tls, ..setup(Work::Forward) };
        let nginx = nginx::configuration(&setup, None);
        [nginx, haproxy::configuration(&setup, 0), envoy::configuration(&setup)]
    };
    let clear = [" http2 default", "backlog 4096 proto h2", "\"codec_type\":\"HTTP2\""];
    let tls = [" ssl http2 default", " alpn h2", "\"alpn_protocols\":[\"h2\"]"];
    let grpc = ["grpc_pass grpc://up", "3600s proto h2", "\"http2_protocol_options\""];
    for (protocol, secure, words) in [
        (Protocol::Http2, false, clear),
        (Protocol::Http2, true, tls),
        (Protocol::Grpc, true, grpc),
    ] {
        let http1 = texts(Protocol::Http1, secure);
        for ((text, http1), word) in texts(protocol, secure).iter().zip(&http1).zip(words) {
            assert!(text.contains(word), "no {word} in {text}");
            assert!(!http1.contains(word), "{word} in {http1}");
        }
    }
    let setup = Setup { protocol: Protocol::Grpc, ..setup(Work::Forward) };
    assert!(ringway::manifests(&setup).unwrap().contains("grpc: true"));
}

#[test]
fn peers_are_asked_for_what_they_can() {
    let http1 = Protocol::Http1;
    assert!(!Peer::Relay.can(Work::Gateway, Wire::Cleartext, http1));
    assert!(!Peer::Relay.can(Work::Forward, Wire::Tls, http1));
    assert!(!Peer::Relay.can(Work::Forward, Wire::Cleartext, Protocol::Http2));
    assert!(Peer::Relay.can(Work::Forward, Wire::Cleartext, http1));
    assert!(Peer::Ringway.can(Work::Routes(1), Wire::Tls, http1));
}

#[test]
fn a_change_is_one_file_that_names_its_configuration() {
    let setup = setup(Work::Changing(250));
    for peer in [Peer::Ringway, Peer::Nginx, Peer::NginxDebian, Peer::Haproxy, Peer::Envoy] {
        let (name, zero) = peer.changing(&setup, 0).unwrap();
        let (same, seven) = peer.changing(&setup, 7).unwrap();
        assert_eq!(name, same);
        assert!(zero.contains("/g-0/"), "{zero}");
        assert_eq!(zero.replace("/g-0/", "/g-7/").len(), seven.len());
        assert!(seven.contains("/g-7/"), "{seven}");
        assert!(!seven.contains("/g-0/"), "{seven}");
    }
    assert!(Peer::Relay.changing(&setup, 0).is_none());
    assert!(nginx::configuration(&setup, None).contains("include /d/probe.conf;"));
    assert!(envoy::configuration(&setup).contains("/d/routes/routes.json"));
    assert_eq!(haproxy::routes(&setup).lines().count(), 251);
    assert_eq!(ringway::manifests(&setup).unwrap().matches("kind: Mapping").count(), 250);
}

#[test]
fn every_host_has_its_prefixes() {
    let setup = setup(Work::Hosts(7));
    let count = |text: &str, what: &str| text.matches(what).count();
    let text = nginx::configuration(&setup, None);
    assert_eq!(count(&text, "server_name h-"), 7);
    assert_eq!(count(&text, "location /r-"), 70);
    assert_eq!(haproxy::routes(&setup).lines().count(), 70);
    assert!(haproxy::routes(&setup).contains("h-0006.bench.example/r-00009/ up"));
    let text = ringway::manifests(&setup).unwrap();
    assert_eq!((count(&text, "kind: Host"), count(&text, "kind: Mapping")), (7, 70));
    let text = envoy::configuration(&setup);
    assert_eq!(count(&text, "\"domains\":[\"h-"), 7);
    assert_eq!(count(&text, "\"prefix\":\"/r-0000"), 70);
}

#[test]
fn the_worker_has_a_core_of_its_own_where_asked() {
    let setup = Setup { worker_core: Some(2), ..setup(Work::Changing(3)) };
    let nginx = nginx::configuration(&setup, None);
    assert!(nginx.contains("\nworker_cpu_affinity 100;\n"), "{nginx}");
    let haproxy = haproxy::configuration(&setup, 0);
    assert!(haproxy.contains("\ncpu-map 1/1 2\n"), "{haproxy}");
}
