// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;

fn object(version: &str, kind: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("getambassador.io/{version}"),
        "kind": kind,
        "metadata": {"name": "a", "namespace": "b", "annotations": {"kept": "yes"}},
        "spec": spec,
        "status": {"state": "Running"},
    })
}

fn to(version: &str, mut object: Value) -> Value {
    convert(&mut object, &format!("getambassador.io/{version}")).unwrap();
    object
}

/// A spec of v2 in v3alpha1, and back.
fn newer(kind: &str, old: &Value) -> (Value, Value) {
    let new = to("v3alpha1", object("v2", kind, old));
    let back = to("v2", new.clone());
    assert_eq!(new["metadata"], back["metadata"]);
    assert_eq!(new["status"], back["status"]);
    (new["spec"].clone(), back["spec"].clone())
}

/// v2 and v3alpha1 are two ways to write one thing. The ids are told apart, as they are mangled.
#[track_caller]
fn same(kind: &str, old: &Value, new: &Value) {
    let (upgraded, mut back) = newer(kind, old);
    assert_eq!(upgraded, *new, "newer");
    assert_eq!(back["ambassador_id"], json!(["--apiVersion-v3alpha1-only--default"]));
    back.as_object_mut().unwrap().remove("ambassador_id");
    assert_eq!(back, *old, "and back");
}

#[test]
fn hosts_of_mappings() {
    same("Mapping", &json!({"host": "a.com"}), &json!({"hostname": "a.com"}));
    same("Mapping", &json!({}), &json!({"hostname": "*"}));
    same("Mapping", &json!({"host": NO_HOST}), &json!({}));
    let regex = json!({"host": ".*[.]a[.]com", "host_regex": true});
    same("Mapping", &regex, &regex);
    // The newer field wins.
    let both =
        object("v3alpha1", "Mapping", &json!({"hostname": "a", "host": "b", "host_regex": true}));
    let spec = &to("v2", both)["spec"];
    assert_eq!((&spec["host"], &spec["host_regex"]), (&json!("a"), &json!(false)));
    // A header names the host as well: with `*` it would be for all.
    let (new, _) = newer("Mapping", &json!({"headers": {":authority": "a.com"}}));
    assert_eq!(new, json!({"headers": {":authority": "a.com"}}));
}

#[test]
fn what_is_present() {
    same(
        "Mapping",
        &json!({"host": "a", "headers": {"x": true, "y": "z"}, "query_parameters": {"q": true}}),
        &json!({
            "hostname": "a", "headers": {"y": "z"}, "regex_headers": {"x": ".*"}, "v2BoolHeaders": ["x"],
            "regex_query_parameters": {"q": ".*"}, "v2BoolQueryParameters": ["q"],
        }),
    );
    // Absence is nothing that can be asked for.
    let (new, _) = newer("Mapping", &json!({"host": "a", "headers": {"x": false}}));
    assert_eq!(new, json!({"hostname": "a"}));
}

#[test]
fn tls_is_the_scheme_s() {
    let pairs = [
        (json!({"service": "s"}), json!({"service": "s"})),
        (
            json!({"service": "s", "tls": true}),
            json!({"service": "https://s", "v2ExplicitTLS": {"tls": "bool:true", "serviceScheme": ""}}),
        ),
        (
            json!({"service": "http://s", "tls": true}),
            json!({
                "service": "https://s",
                "v2ExplicitTLS": {"tls": "bool:true", "serviceScheme": "http://"},
            }),
        ),
        (
            json!({"service": "HTTPS://s", "tls": true}),
            json!({"service": "HTTPS://s", "v2ExplicitTLS": {"tls": "bool:true"}}),
        ),
        (
            json!({"service": "https://s", "tls": false}),
            json!({"service": "https://s", "v2ExplicitTLS": {"tls": "bool:false"}}),
        ),
        (
            json!({"service": "s", "tls": ""}),
            json!({"service": "s", "v2ExplicitTLS": {"tls": "string"}}),
        ),
        (
            json!({"service": "s", "tls": "context"}),
            json!({"service": "s", "tls": "context", "v2ExplicitTLS": {}}),
        ),
    ];
    for (old, new) in pairs {
        same("RateLimitService", &old, &new);
    }
    // Somebody has changed the scheme since: `tls: true` would win over it.
    let changed = json!({"service": "http://s", "v2ExplicitTLS": {"tls": "bool:true"}});
    let spec = &to("v2", object("v3alpha1", "RateLimitService", &changed))["spec"];
    assert_eq!((&spec["service"], spec.get("tls")), (&json!("http://s"), None));
    same(
        "TCPMapping",
        &json!({"port": 1, "service": "s", "tls": true}),
        &json!({"port": 1, "service": "https://s", "v2ExplicitTLS": {"tls": "bool:true"}}),
    );
}

#[test]
fn edits_lists_and_cors() {
    same(
        "Mapping",
        &json!({
            "host": "a",
            "add_request_headers": {"x": "y", "z": {"value": "v", "append": false}, "n": null},
            "cors": {"origins": "http://a,http://b", "methods": ["GET"]},
            "v3StatsName": "stats",
            "v3health_checks": [{}],
        }),
        &json!({
            "hostname": "a",
            "add_request_headers": {
                "x": {"value": "y", "v2Representation": "string"},
                "z": {"value": "v", "append": false},
                "n": {"v2Representation": "null"},
            },
            "cors": {
                "origins": ["http://a", "http://b"], "v2CommaSeparatedOrigins": true,
                "methods": ["GET"],
            },
            "stats_name": "stats",
            "health_checks": [{}],
        }),
    );
    let old = json!({"host": "a", "remove_request_headers": "x", "cors": {"methods": "GET, PUT"}});
    let (new, back) = newer("Mapping", &old);
    assert_eq!(new["remove_request_headers"], json!(["x"]));
    assert_eq!(new["cors"], json!({"methods": ["GET", "PUT"]}));
    assert_eq!(back["remove_request_headers"], json!(["x"]));
}

#[test]
fn labels_in_both_shapes() {
    same(
        "Mapping",
        &json!({"host": "a", "labels": {"d": [{"g": [
            "remote_address",
            "word",
            {"generic_key": "long"},
            {"generic_key": "long", "v3Key": "k"},
            {"x": {"header": "x-user", "omit_if_not_present": true}},
        ]}]}}),
        &json!({"hostname": "a", "labels": {"d": [{"g": [
            {"remote_address": {"key": "remote_address"}},
            {"generic_key": {"value": "word", "v2Shorthand": true}},
            {"generic_key": {"value": "long"}},
            {"generic_key": {"value": "long", "key": "k"}},
            {"request_headers": {"key": "x", "header_name": "x-user", "omit_if_not_present": true}},
        ]}]}}),
    );
}

#[test]
fn other_kinds() {
    let selector = json!({"matchLabels": {"a": "b"}});
    same(
        "Host",
        &json!({"hostname": "a", "selector": selector, "tls": {"v3CRLSecret": "crl"}}),
        &json!({"hostname": "a", "mappingSelector": selector, "tls": {"crl_secret": "crl"}}),
    );
    let both = json!({"selector": {}, "mappingSelector": selector});
    assert_eq!(to("v2", object("v3alpha1", "Host", &both))["spec"]["selector"], selector);
    same("TLSContext", &json!({"v3CRLSecret": "crl"}), &json!({"crl_secret": "crl"}));
    same(
        "LogService",
        &json!({"v3ProtocolVersion": "v3", "v3StatsName": "s"}),
        &json!({"protocol_version": "v3", "stats_name": "s"}),
    );
    same(
        "AuthService",
        &json!({"auth_service": "a", "protocol_version": "v3", "v3CircuitBreakers": []}),
        &json!({"auth_service": "a", "protocol_version": "v3", "circuit_breakers": []}),
    );
    same(
        "TracingService",
        &json!({"v3CustomTags": [], "config": {"v3PropagationModes": ["B3"]}}),
        &json!({"custom_tags": [], "config": {"propagation_modes": ["B3"]}}),
    );
    let (new, _) = newer("TracingService", &json!({"tag_headers": ["x"]}));
    assert_eq!(new, json!({"custom_tags": [{"tag": "x", "request_header": {"name": "x"}}]}));
}

#[test]
fn ids_are_marked() {
    let one = newer("Module", &json!({"ambassador_id": "one"}));
    assert_eq!(one.0, json!({"ambassador_id": ["one"]}));
    assert_eq!(one.1, json!({"ambassador_id": ["--apiVersion-v3alpha1-only--one"]}));
    // Once.
    let (again, _) = newer("Module", &one.1);
    assert_eq!(again, one.0);
    let host = newer("Host", &json!({"ambassador_id": ["one"], "ambassadorId": "two"}));
    assert_eq!(host.0, json!({"ambassador_id": ["one", "two"]}));
}

#[test]
fn what_is_no_object_of_ours() {
    let mut other = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    let error = convert(&mut other, "getambassador.io/v2").unwrap_err();
    assert_eq!(error, "\"apps/v1\" is no version of getambassador.io");
    let mut ours = object("v2", "Mapping", &json!({"prefix": "/"}));
    convert(&mut ours, "getambassador.io/v4").unwrap_err();
    // v1 is v2.
    let spec = json!({"prefix": "/", "tls": true, "labels": 7, "headers": [], "cors": "x"});
    assert_eq!(to("v2", object("v1", "Mapping", &spec))["spec"], spec);
    // Shapes that nobody knows stay, and nothing else is held up.
    let odd = to("v3alpha1", object("v2", "Mapping", &spec));
    assert_eq!((&odd["spec"]["labels"], &odd["spec"]["hostname"]), (&json!(7), &json!("*")));
    for spec in [json!(null), json!("x"), json!([1])] {
        assert_eq!(to("v2", object("v3alpha1", "Mapping", &spec))["spec"], spec);
    }
}
