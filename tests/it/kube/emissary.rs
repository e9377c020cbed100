// SPDX-License-Identifier: Apache-2.0
//! Definitions as Emissary's clusters have them: objects are stored as v2, and a webhook makes them
//! v3alpha1, which is a gateway. It answers, it dies, it is done without, and it comes back.

use std::net::SocketAddr;

use ringway_core::crd::schema;
use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{Cluster, Rig, await_status, pod_address};
use ringway_tests::manifest::{listener, service, slice};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, pki, wait_until, yaml};
use serde_json::json;

use super::{HOST, backend};

/// Stands before an id that was given in v3alpha1, where v2 is stored.
const MANGLED: &str = "--apiVersion-v3alpha1-only--";

/// A gateway of the cluster that converts objects for it, as a Service leads to it.
fn converter(cluster: &Cluster, leaf: &pki::Leaf) -> Gateway {
    let folder = cluster.folder("converter");
    std::fs::write(folder.join("tls.crt"), &leaf.chain_pem).unwrap();
    std::fs::write(folder.join("tls.key"), leaf.key_pem()).unwrap();
    let address = SocketAddr::from((pod_address(), 9443));
    let mut options = cluster.options();
    options.args.push(format!("--conversion-certificate={}", folder.display()));
    options.args.push(format!("--conversion-addr={address}"));
    // It need not be ready to convert, and others may need it to become so.
    cluster.apply(&slice("converter", &[address]));
    Gateway::start("", &options).unwrap()
}

/// Emissary's definitions in the place of ours: of v2 anything is taken, and of a status `state` and
/// `reason` is all that is known, for Mappings and Hosts. Who converts is said apart.
fn definitions() -> String {
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
    let namespace = &cluster.namespace;
    let leaf = pki::server(&format!("converter.{namespace}.svc")).unwrap();
    let authority = cluster.folder("authority").join("ca.crt");
    std::fs::write(&authority, pki::authority("test").unwrap().pem()).unwrap();
    let convert =
        format!("ringway crds --webhook={namespace}/converter --ca={} | sh", authority.display());
    cluster.apply(&service("converter").replace("port: 80", "port: 443"));
    let alive = converter(&cluster, &leaf);
    rig.define(&definitions()).unwrap();
    shell(&convert);
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
    let by = format!("conversion    by the webhook {namespace}/converter");
    assert!(said.contains(&format!("poor  {by}")), "{said}");

    // It dies: who runs goes on and hears of changes, and who begins reads what is stored.
    drop(alive);
    cluster.patch(&path("v2", "old"), &json!({"spec": {"prefix": "/oldest/"}}));
    await_all(&gateway, "/oldest/");
    let begun = cluster.gateway();
    await_all(&begun, "/oldest/");
    let said = doctor();
    assert!(said.contains(&format!("BAD   {by}, which is dead: ")), "{said}");
    assert!(said.contains("mappings v3alpha1"), "{said}");
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

    // And back again: who converts begins where its own lists need it.
    rig.define(&definitions()).unwrap();
    shell(&convert);
    let _alive = converter(&cluster, &leaf);
    await_all(&gateway, "/oldest/");
    cluster.patch(&path("v2", "old"), &json!({"spec": {"prefix": "/again/"}}));
    await_all(&gateway, "/again/");
    let begun = cluster.gateway();
    await_all(&begun, "/again/");
    assert_eq!(backend(&begun, "/named/").as_deref(), Some("one"));
}
