// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::{Naming, Qualify, Service, ServiceError, cluster_name, mangle};

/// The gateway lives in `default`.
#[track_caller]
fn check(text: &str, namespace: &str, expected: &str) {
    for (naming, expected) in [(Naming::Kubernetes, expected), (Naming::Consul, "")] {
        let by = Qualify { namespace, own: "default", use_own: false, naming };
        let service = Service::parse(text).unwrap().qualified(by);
        if naming == Naming::Kubernetes {
            assert_eq!(service.to_string(), expected, "{text} in {namespace:?}");
        } else {
            assert_eq!(service.to_string(), text.trim_start_matches("//"), "{text} by Consul");
        }
    }
}

#[track_caller]
fn refused(text: &str, error: ServiceError) {
    assert_eq!(Service::parse(text), Err(error), "{text}");
}

/// Emissary's own cases.
#[test]
fn qualification() {
    for (scheme, port) in [
        ("", ""),
        ("", ":80"),
        ("http://", ""),
        ("http://", ":80"),
        ("https://", ""),
        ("https://", ":443"),
    ] {
        let text = |host: &str| format!("{scheme}{host}{port}");
        check(&text("backoffice"), "", &text("backoffice"));
        check(&text("backoffice"), "default", &text("backoffice"));
        check(&text("backoffice"), "otherns", &text("backoffice.otherns"));
        for namespace in ["", "default", "otherns"] {
            check(&text("backoffice.otherns"), namespace, &text("backoffice.otherns"));
            check(&text("localhost"), namespace, &text("localhost"));
            check(&text("localhost.otherns"), namespace, &text("localhost.otherns"));
            check(&text("10.0.0.1"), namespace, &text("10.0.0.1"));
            check(
                &text("[fe80::e022:9cff:fecc:c7c4]"),
                namespace,
                &text("[fe80::e022:9cff:fecc:c7c4]"),
            );
        }
    }
    check("ambassador://foo.ns", "otherns", "ambassador://foo.ns");
    check("//foo.ns:1234", "otherns", "foo.ns:1234");
    check("foo.ns:1234", "otherns", "foo.ns:1234");
}

#[test]
fn gateway_namespace_for_all() {
    let by =
        Qualify { namespace: "otherns", own: "default", use_own: true, naming: Naming::Kubernetes };
    assert_eq!(Service::parse("quote:80").unwrap().qualified(by).to_string(), "quote:80");
}

#[test]
fn parts() {
    let service = Service::parse("HTTPS://Quote.NS:8443/path?q=1").unwrap();
    assert_eq!(service.tls(), Some(true));
    assert_eq!(&*service.host, "quote.ns");
    assert_eq!(service.port, Some(8443));
    assert!(service.excess);
    assert_eq!(Service::parse("quote:0").unwrap().port, None);
    assert_eq!(Service::parse("quote:").unwrap().port, None);
    assert_eq!(Service::parse("ftp://quote").unwrap().tls(), None);
    assert_eq!(Service::parse("quote").unwrap().tls(), Some(false));
    assert_eq!(Service::parse("[::1]:80").unwrap().ip(), Some("::1".parse().unwrap()));
}

#[test]
fn malformed() {
    refused("", ServiceError::NoHost);
    refused("https://", ServiceError::NoHost);
    refused(":80", ServiceError::NoHost);
    refused("https://bad-service:443:443", ServiceError::Port("443:443".into()));
    refused("bad-service:443:443", ServiceError::Port("443:443".into()));
    refused("https://[fe80::e022:9cff:fecc:c7c4:443", ServiceError::Brackets);
    refused("https://[fe80::e022:9cff:fecc:c7c4", ServiceError::Brackets);
    refused("https://fe80::e022:9cff:fecc:c7c4", ServiceError::Port(":e022:9cff:fecc:c7c4".into()));
    refused("https://bad-service:-1", ServiceError::Port("-1".into()));
    refused("https://bad-service:+1", ServiceError::Port("+1".into()));
    refused("https://bad-service:70000", ServiceError::Port("70000".into()));
    refused("https://[::1%zone]:443", ServiceError::Ipv6("::1%zone".into()));
    refused("user@quote", ServiceError::Host("user@quote".into()));
    refused("two words", ServiceError::Host("two words".into()));
}

#[test]
fn names() {
    assert_eq!(mangle("quote.default:80"), "quote_default_80");
    assert_eq!(cluster_name(&["cluster", "quote", "default"]), "cluster_quote_default");
    let long = cluster_name(&["cluster", &"x".repeat(60), "default"]);
    assert_eq!(long.len(), 40 + 1 + 16 + 2);
    assert!(long.starts_with("cluster_xxxx"));
    assert!(long.ends_with("-0"));
}
