// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use serde_json::Value;

use super::*;

fn setup(work: Work) -> Setup {
    Setup { listen: 1111, admin: 2222, back_end: 3333, work, tls: false, dir: "/d".into() }
}

#[test]
fn every_configuration_names_both_ends() {
    for work in [Work::Forward, Work::Gateway, Work::Routes(3), Work::Tunnel, Work::WebSocket] {
        let setup = setup(work);
        for text in [
            nginx::configuration(&setup, None),
            haproxy::configuration(&setup),
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
fn peers_are_asked_for_what_they_can() {
    assert!(!Peer::Relay.can(Work::Gateway, Wire::Cleartext));
    assert!(!Peer::Relay.can(Work::Forward, Wire::Tls));
    assert!(Peer::Relay.can(Work::Forward, Wire::Cleartext));
    assert!(Peer::Ringway.can(Work::Routes(1), Wire::Tls));
}
