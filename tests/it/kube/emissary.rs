// SPDX-License-Identifier: Apache-2.0
//! Definitions as Emissary's clusters have them: objects are stored as v2, and a webhook makes them
//! v3alpha1. It answers, it dies, it is done without, and it comes back.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use ringway_core::crd::schema;
use ringway_tests::gateway::Gateway;
use ringway_tests::head::Reader;
use ringway_tests::kube::{Cluster, Rig, await_status};
use ringway_tests::manifest::listener;
use ringway_tests::upstream::{self, Upstream};
use ringway_tests::{PATIENCE, address, pki, tls, wait_until, yaml};
use serde_json::{Value, json};

use super::{HOST, backend};

/// Stands before an id that was given in v3alpha1, where v2 is stored.
const MANGLED: &str = "--apiVersion-v3alpha1-only--";

/// What v2 has for a v3alpha1 Mapping without a host.
const NO_HOST: &str = "_skip_mapping_with_empty_host_";

/// One object in the other version, as far as these tests make use of it.
fn convert(object: &Value, to: &str) -> Value {
    let mut object = object.clone();
    let is_old = object["apiVersion"] == "getambassador.io/v2";
    object["apiVersion"] = to.into();
    let is_mapping = object["kind"] == "Mapping";
    let Some(spec) = object["spec"].as_object_mut() else { return object };
    let ids = |ids: Option<Value>| match ids {
        Some(Value::Array(ids)) => ids,
        one => one.into_iter().collect(),
    };
    match (is_old, to) {
        (true, "getambassador.io/v3alpha1") => {
            let clean = |id: &Value| Value::from(id.as_str().unwrap().trim_start_matches(MANGLED));
            let ids: Vec<Value> = ids(spec.remove("ambassador_id")).iter().map(clean).collect();
            if !ids.is_empty() {
                spec.insert("ambassador_id".into(), ids.into());
            }
            if is_mapping {
                let host = spec.remove("host").unwrap_or_else(|| "*".into());
                if host != NO_HOST {
                    spec.insert("hostname".into(), host);
                }
            }
        }
        (false, "getambassador.io/v2") => {
            let mangle = |id: &Value| Value::from(format!("{MANGLED}{}", id.as_str().unwrap()));
            let given = spec.remove("ambassador_id").unwrap_or_else(|| json!(["default"]));
            let ids: Vec<Value> = ids(Some(given)).iter().map(mangle).collect();
            spec.insert("ambassador_id".into(), ids.into());
            if is_mapping {
                let host = spec.remove("hostname").unwrap_or_else(|| NO_HOST.into());
                if host != "*" {
                    spec.insert("host".into(), host);
                }
            }
        }
        _ => {}
    }
    object
}

/// The webhook, until it is dropped.
fn webhook(address: SocketAddr) -> Upstream {
    let leaf = pki::server(&address.ip().to_string()).unwrap();
    let config = tls::server(&leaf, None).unwrap();
    let serve = move |socket: TcpStream| {
        let Ok(stream) = tls::accept(socket, config.clone()) else { return };
        let mut reader = Reader::new(stream);
        // Each connection has one answer: one that ends takes no other with it.
        let Ok(Some(request)) = upstream::request(&mut reader) else { return };
        let mut review: Value = serde_json::from_slice(&request.body).unwrap();
        let asked = review["request"].take();
        let to = asked["desiredAPIVersion"].as_str().unwrap();
        let objects = asked["objects"].as_array().unwrap();
        review["response"] = json!({
            "uid": asked["uid"],
            "result": {"status": "Success"},
            "convertedObjects": objects.iter().map(|o| convert(o, to)).collect::<Value>(),
        });
        let body = review.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = reader.stream.write_all(answer.as_bytes());
    };
    Upstream::start(address, serve).unwrap()
}

/// Emissary's definitions in the place of ours: of v2 anything is taken, and of a status `state` and
/// `reason` is all that is known, for Mappings and Hosts.
fn definitions(webhook: SocketAddr) -> String {
    let authority = pki::authority("test").unwrap().pem();
    let conversion = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {
                "url": format!("https://{webhook}/webhooks/crd-convert"),
                "caBundle": pki::base64(authority.as_bytes()),
            },
        },
    });
    let mut all = String::new();
    for mut definition in yaml::parse(&schema::manifests()).unwrap() {
        let spec = &mut definition["spec"];
        let kind = spec["names"]["kind"].as_str().unwrap().to_owned();
        let versions = spec["versions"].as_array().unwrap();
        let mut newest = versions.iter().find(|v| v["name"] == "v3alpha1").unwrap().clone();
        let has_status = matches!(&*kind, "Mapping" | "Host");
        let text = json!({"type": "string"});
        let status = json!({"type": "object", "properties": {"state": text, "reason": text}});
        let fields = &mut newest["schema"]["openAPIV3Schema"]["properties"];
        fields.as_object_mut().unwrap().remove("status");
        if has_status {
            fields["status"] = status.clone();
        } else {
            newest.as_object_mut().unwrap().remove("subresources");
        }
        if kind == "Listener" {
            spec["versions"] = json!([newest]);
        } else {
            newest["storage"] = false.into();
            let mut old = newest.clone();
            old["name"] = "v2".into();
            old["storage"] = true.into();
            old["schema"]["openAPIV3Schema"]["properties"]["spec"] =
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            spec["versions"] = json!([old, newest]);
            spec["conversion"] = conversion.clone();
        }
        all += &format!("---\n{definition}\n");
    }
    all
}

const REPAIR: &str = "ringway crds --repair | sh";
const REPLACE: &str = "ringway crds | kubectl apply --server-side --force-conflicts -f -";

/// Gives everybody our own definitions back.
struct Restored(&'static Rig);

impl Drop for Restored {
    fn drop(&mut self) {
        for line in [REPAIR, REPLACE] {
            if let Err(error) = self.0.shell(line) {
                eprintln!("{line}: {error:#}");
            }
        }
    }
}

fn mapping(version: &str, name: &str, spec: &str, backend: &Upstream) -> String {
    format!(
        "---
apiVersion: getambassador.io/{version}
kind: Mapping
metadata: {{name: {name}}}
spec: {{prefix: /{name}/, service: \"{}\"{spec}}}
",
        backend.address()
    )
}

/// All that has to be served whatever becomes of the webhook.
#[track_caller]
fn await_all(gateway: &Gateway, old: &str) {
    for path in [old, "/hostless/", "/new/", "/named/"] {
        await_status(gateway, 8080, path, 200);
    }
    await_status(gateway, 8080, "/nowhere/", 404);
}

#[test]
fn emissary_s_definitions_are_read_whatever_becomes_of_their_webhook() {
    let Some(cluster) = Cluster::alone("emissary") else { return };
    let rig = cluster.rig();
    let shell = |line: &str| rig.shell(line).unwrap_or_else(|error| panic!("{error:#}"));
    let echo = Upstream::echo("one").unwrap();
    let _restored = Restored(rig);
    let at = SocketAddr::from((address::fresh(), 9443));
    let alive = webhook(at);
    rig.define(&definitions(at)).unwrap();
    let namespace = &cluster.namespace;
    let doctor = || {
        shell(&format!(
            "AMBASSADOR_NAMESPACE={namespace} AMBASSADOR_SINGLE_NAMESPACE=true ringway doctor || true"
        ))
    };
    let path = |version: &str, name: &str| cluster.path_in(version, "mappings", name);

    // It converts both ways.
    cluster.apply(
        &[
            listener(8080),
            HOST.into(),
            mapping("v2", "old", ", host: a, ambassador_id: default", &echo),
            mapping("v2", "hostless", "", &echo),
            mapping("v3alpha1", "new", ", hostname: '*'", &echo),
            mapping("v3alpha1", "named", ", hostname: a, ambassador_id: [default]", &echo),
            mapping("v3alpha1", "nowhere", "", &echo),
        ]
        .concat(),
    );
    let stored = cluster.get(&path("v2", "new")).unwrap();
    assert_eq!(stored["spec"]["ambassador_id"], json!([format!("{MANGLED}default")]), "{stored}");
    let gateway = cluster.gateway();
    await_all(&gateway, "/old/");
    let running = |version: &str, name: &str| {
        let object = cluster.get(&path(version, name)).unwrap();
        object["status"]["state"] == "Running"
    };
    wait_until("the status says so", PATIENCE, || running("v3alpha1", "new"));
    wait_until("of the others too", PATIENCE, || running("v3alpha1", "old"));
    let written = cluster.get(&path("v3alpha1", "new")).unwrap();
    assert!(written["status"]["conditions"].is_null(), "{written}");
    cluster.patch(&path("v2", "old"), &json!({"spec": {"prefix": "/older/"}}));
    await_all(&gateway, "/older/");
    let said = doctor();
    assert!(said.contains(&format!("poor  conversion    by the webhook https://{at}")), "{said}");

    // It dies: who runs goes on and hears of changes, and who begins reads what is stored.
    drop(alive);
    cluster.patch(&path("v2", "old"), &json!({"spec": {"prefix": "/oldest/"}}));
    await_all(&gateway, "/oldest/");
    let begun = cluster.gateway();
    await_all(&begun, "/oldest/");
    let said = doctor();
    assert!(said.contains("which is dead: ") && said.contains("mappings v3alpha1"), "{said}");
    assert!(said.contains("BAD   conversion"), "{said}");
    // Nobody wrote it for nothing.
    assert_eq!(cluster.get(&path("v2", "new")).unwrap()["status"], written["status"]);

    // It is done without, as the guide says.
    shell(REPAIR);
    await_all(&gateway, "/oldest/");
    shell(REPLACE);
    for gateway in [&gateway, &begun] {
        await_all(gateway, "/oldest/");
    }
    let said = doctor();
    assert!(!said.contains("conversion"), "{said}");
    // One field alone is changed in the newer version: all else stays as it was stored.
    for name in ["hostless", "new"] {
        let prefix = format!("/{name}/changed/");
        cluster.patch(&path("v3alpha1", name), &json!({"spec": {"prefix": prefix}}));
        await_status(&gateway, 8080, &prefix, 200);
        cluster.patch(&path("v3alpha1", name), &json!({"spec": {"prefix": format!("/{name}/")}}));
    }
    let begun = cluster.gateway();
    await_all(&begun, "/oldest/");

    // And back again.
    let _alive = webhook(at);
    rig.define(&definitions(at)).unwrap();
    await_all(&gateway, "/oldest/");
    cluster.patch(&path("v2", "old"), &json!({"spec": {"prefix": "/again/"}}));
    await_all(&gateway, "/again/");
    let begun = cluster.gateway();
    await_all(&begun, "/again/");
    assert_eq!(backend(&begun, "/named/").as_deref(), Some("one"));
}
