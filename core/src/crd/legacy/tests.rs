// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use crate::crd::mapping::{AddedHeader, LabelSpecifier};
use crate::crd::meta::Dialect;
use crate::crd::{Mapping, Options, Parsed, Spec, parse};
use crate::name::Kind;
use crate::problem::Problems;

fn read(version: &str, kind: &str, spec: &str) -> (Spec, Problems) {
    let spec = spec.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let name = if kind == "Module" { "ambassador" } else { "x" };
    let text =
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{spec}");
    match parse("a.yaml", &text, &Options::default()).remove(0) {
        Parsed::Object { object, problems } => (object.spec.clone(), problems),
        other => panic!("{text}\n{other:?}"),
    }
}

fn mapping(version: &str, spec: &str) -> Mapping {
    match read(version, "Mapping", &format!("prefix: /\nservice: s\n{spec}")) {
        (Spec::Mapping(mapping), problems) if problems.is_empty() => *mapping,
        other => panic!("{other:?}"),
    }
}

fn v2(spec: &str) -> Mapping {
    mapping("getambassador.io/v2", spec)
}

#[test]
fn boolean_headers_ask_for_presence() {
    let mapping = v2("headers: {x-a: true, x-b: false, x-c: c}\nquery_parameters: {q: true}");
    assert_eq!(mapping.v2_bool_headers, ["x-a"]);
    assert_eq!(
        mapping.headers.clone().into_iter().collect::<Vec<_>>(),
        [("x-c".into(), "c".into())]
    );
    assert_eq!(mapping.v2_bool_query_parameters, ["q"]);
    assert!(mapping.query_parameters.is_empty());
    // As a webhook converts it, in any version.
    let text = "regex_headers: {x-a: .*, x-b: .*}\nv2BoolHeaders: [x-a]";
    let mapping = self::mapping("getambassador.io/v3alpha1", text);
    assert_eq!(mapping.v2_bool_headers, ["x-a"]);
    assert_eq!(mapping.regex_headers.keys().collect::<Vec<_>>(), ["x-b"]);
}

#[test]
fn a_mapping_without_a_host_is_for_all_hosts_in_v2_only() {
    #[track_caller]
    fn check(version: &str, spec: &str, hostname: Option<&str>, host: Option<&str>) {
        let mapping = mapping(version, spec);
        assert_eq!((mapping.hostname.as_deref(), mapping.host.as_deref()), (hostname, host));
    }
    check("getambassador.io/v2", "", Some("*"), None);
    check("getambassador.io/v1", "", Some("*"), None);
    check("getambassador.io/v2", "host: ''", Some("*"), None);
    check("getambassador.io/v2", "host: a.com", Some("a.com"), None);
    check("getambassador.io/v2", "host: '*.a.com'\nhost_regex: false", Some("*.a.com"), None);
    check("getambassador.io/v2", "host: a.*\nhost_regex: true", None, Some("a.*"));
    check("getambassador.io/v3alpha1", "host: a.com", None, Some("a.com"));
    check("getambassador.io/v2", "host: _skip_mapping_with_empty_host_", None, None);
    check("getambassador.io/v2", "headers: {':authority': a.com}", None, None);
    check("getambassador.io/v2", "regex_headers: {':authority': a.*}", None, None);
    check("getambassador.io/v2", "hostname: b.com", Some("b.com"), None);
    check("getambassador.io/v3alpha1", "", None, None);
}

#[test]
fn explicit_tls_sets_the_scheme() {
    #[track_caller]
    fn check(tls: &str, service: &str, expected: &str, expected_tls: Option<&str>) {
        let text = format!("prefix: /\nservice: {service}\ntls: {tls}");
        let (Spec::Mapping(mapping), _) = read("getambassador.io/v2", "Mapping", &text) else {
            panic!()
        };
        assert_eq!((&*mapping.service, mapping.tls.as_deref()), (expected, expected_tls));
    }
    check("true", "s:1", "https://s:1", None);
    check("true", "http://s", "https://s", None);
    check("false", "https://s", "https://s", None);
    check("false", "s", "s", None);
    check("ctx", "s", "s", Some("ctx"));
    let (Spec::AuthService(auth), _) = read(
        "getambassador.io/v2",
        "AuthService",
        "auth_service: a\ntls: true\nadd_auth_headers: {x: true}",
    ) else {
        panic!()
    };
    assert_eq!(auth.auth_service, "https://a");
    assert_eq!(auth.add_auth_headers["x"], "true");
    let (Spec::TCPMapping(tcp), _) =
        read("getambassador.io/v2", "TCPMapping", "port: 1\nservice: a\ntls: true")
    else {
        panic!()
    };
    assert_eq!(tcp.service, "https://a");
}

#[test]
fn lone_strings_are_lists() {
    let mapping = v2("add_request_headers: {x-a: one, x-b: {value: two, append: false}}\n\
         remove_request_headers: x-c\nremove_response_headers: [x-d]\nallow_upgrade: websocket\n\
         cors: {origins: 'a, b,', methods: GET, headers: [x], exposed_headers: y}");
    let added = mapping.add_request_headers.clone().unwrap();
    assert_eq!(added["x-a"], AddedHeader { value: Some("one".into()), append: None });
    assert_eq!(added["x-b"], AddedHeader { value: Some("two".into()), append: Some(false) });
    assert_eq!(mapping.remove_request_headers.clone().unwrap(), ["x-c"]);
    assert_eq!(mapping.remove_response_headers.clone().unwrap(), ["x-d"]);
    assert_eq!(mapping.allow_upgrade, ["websocket"]);
    let cors = mapping.cors.clone().unwrap();
    assert_eq!(cors.origins, ["a", "b"]);
    assert_eq!(cors.methods, ["GET"]);
    assert_eq!(cors.headers, ["x"]);
    assert_eq!(cors.exposed_headers, ["y"]);
}

#[test]
fn label_shorthands_are_written_out() {
    let text = "labels: {ambassador: [{g: [remote_address, source_cluster, destination_cluster, word,\n\
         {x-user: {header: x-user, omit_if_not_present: true}}, {generic_key: other}]}]}";
    // An API server would refuse them in v3alpha1; whoever wrote them is understood all the same.
    for version in ["getambassador.io/v2", "getambassador.io/v3alpha1"] {
        let labels = mapping(version, text).labels.clone().unwrap();
        assert_eq!(
            labels["ambassador"][0]["g"],
            [
                LabelSpecifier::RemoteAddress { key: "remote_address".into() },
                LabelSpecifier::SourceCluster { key: "source_cluster".into() },
                LabelSpecifier::DestinationCluster { key: "destination_cluster".into() },
                LabelSpecifier::GenericKey { key: None, value: "word".into() },
                LabelSpecifier::RequestHeaders {
                    key: "x-user".into(),
                    header_name: "x-user".into(),
                    omit_if_not_present: Some(true),
                },
                LabelSpecifier::GenericKey { key: None, value: "other".into() },
            ]
        );
    }
}

#[test]
fn fields_of_v3alpha1_stored_as_v2_have_their_names_back() {
    let mapping = v2("v3StatsName: st\nv3health_checks: [{health_check: {http: {path: /}}}]");
    assert_eq!(mapping.stats_name.as_deref(), Some("st"));
    assert_eq!(mapping.health_checks.clone().unwrap().len(), 1);
    let (Spec::TLSContext(context), problems) =
        read("getambassador.io/v2", "TLSContext", "hosts: a\nv3CRLSecret: crl")
    else {
        panic!()
    };
    assert!(problems.is_empty());
    assert_eq!(context.crl_secret.as_deref(), Some("crl"));
    assert_eq!(context.hosts, ["a"]);
}

#[test]
fn a_module_is_lenient_in_every_version() {
    let text = "config:\n  cors: {origins: 'a,b'}\n  default_labels: {ambassador: {defaults: [remote_address]}}\n  \
         defaults: {httpmapping: {add_request_headers: {x: y}, remove_request_headers: z}}";
    let (Spec::Module(module), problems) = read("getambassador.io/v3alpha1", "Module", text) else {
        panic!()
    };
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(module.config.cors.unwrap().origins, ["a", "b"]);
    assert_eq!(module.config.default_labels["ambassador"].defaults.len(), 1);
    let defaults = module.config.defaults.unwrap().httpmapping.unwrap();
    assert_eq!(defaults.add_request_headers.unwrap()["x"].value.as_deref(), Some("y"));
    assert_eq!(defaults.remove_request_headers.unwrap(), ["z"]);
}

#[test]
fn shapes_of_v2_are_wrong_types_in_v3alpha1() {
    for spec in [
        "headers: {x: true}",
        "tls: true",
        "remove_request_headers: x",
        "add_request_headers: {x: y}",
    ] {
        let text = format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: x}}\n\
             spec:\n  prefix: /\n  service: s\n  {spec}\n"
        );
        let found = parse("a.yaml", &text, &Options::default()).remove(0);
        assert!(matches!(found, Parsed::Refused { .. }), "{spec}: {found:?}");
    }
}

/// The spec of an API server's Mapping as it is read, where `prefix` was written in these versions.
fn from_an_api_server(versions: &[&str], spec: &str) -> String {
    let managers = versions.iter().map(|version| {
        format!(
            "{{\"apiVersion\": \"getambassador.io/{version}\", \"manager\": \"kubectl\", \
              \"fieldsV1\": {{\"f:spec\": {{\"f:prefix\": {{}}}}}}}}, \
             {{\"apiVersion\": \"getambassador.io/v2\", \"fieldsV1\": {{\"f:spec\": {{}}}}}}"
        )
    });
    managed(&managers.collect::<Vec<_>>().join(", "), spec)
}

/// The same with these field managers.
fn managed(managers: &str, spec: &str) -> String {
    let text = format!("{{\"metadata\": {{\"managedFields\": [{managers}]}}, \"spec\": {spec}}}");
    let mut object = crate::crd::node::parse(&text).unwrap().unwrap();
    let asked = Dialect::V3alpha1;
    let dialect = super::written_in(Kind::Mapping, asked, &object);
    let spec = object.get_mut("spec").unwrap();
    super::normalise(Kind::Mapping, dialect, true, spec);
    let crate::crd::node::Value::Map(entries) = &spec.value else { panic!() };
    let entries = entries.iter().map(|(key, value)| format!("{}: {}", key.text, value.describe()));
    entries.collect::<Vec<_>>().join(", ")
}

#[test]
fn an_api_servers_object_is_read_as_it_was_written() {
    let hostless = r#"{"prefix": "/"}"#;
    let for_all = r#"prefix: the string "/", hostname: the string "*""#;
    assert_eq!(from_an_api_server(&["v2"], hostless), for_all);
    assert_eq!(from_an_api_server(&["v1", "v2"], hostless), for_all);
    let for_none = r#"prefix: the string "/""#;
    assert_eq!(from_an_api_server(&["v3alpha1"], hostless), for_none);
    // Whoever wrote it anew did so in v3alpha1.
    assert_eq!(from_an_api_server(&["v2", "v3alpha1"], hostless), for_none);
    assert_eq!(from_an_api_server(&[], hostless), for_none);
    // Written in v2, of which only one field was changed as v3alpha1 since.
    let changed =
        r#""apiVersion": "getambassador.io/v3alpha1", "fieldsV1": {"f:spec": {"f:prefix": {}}}"#;
    let rest = r#""apiVersion": "getambassador.io/v2", "fieldsV1": {"f:spec": {"f:service": {}}}"#;
    assert_eq!(managed(&format!("{{{changed}}}, {{{rest}}}"), hostless), for_all);
    let anew =
        r#""apiVersion": "getambassador.io/v3alpha1", "fieldsV1": {"f:spec": {"f:service": {}}}"#;
    assert_eq!(managed(&format!("{{{changed}}}, {{{rest}}}, {{{anew}}}"), hostless), for_none);
    // Written in v3alpha1, and stored as v2 by Emissary's webhook, which leaves `hostname: '*'` out.
    let stored = r#"{"prefix": "/", "ambassador_id": ["--apiVersion-v3alpha1-only--default"]}"#;
    let read = format!("{}, ambassador_id: a list, hostname: the string \"*\"", for_none);
    assert_eq!(from_an_api_server(&["v3alpha1"], stored), read);
    // As Emissary stores a v3alpha1 Mapping without a host in v2.
    let stored = r#"{"prefix": "/", "host": "_skip_mapping_with_empty_host_"}"#;
    assert_eq!(from_an_api_server(&["v3alpha1"], stored), for_none);
    // The shapes of v2 tell themselves, whoever wrote them.
    let shapes = r#"{"prefix": "/", "v3StatsName": "s", "remove_request_headers": "x"}"#;
    let read =
        r#"prefix: the string "/", stats_name: the string "s", remove_request_headers: a list"#;
    assert_eq!(from_an_api_server(&["v3alpha1"], shapes), read);
}
