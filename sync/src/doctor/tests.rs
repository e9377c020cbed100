// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;
use crate::watch::kube::Publish;

/// A cluster that is as it should be, but for what `other` says.
fn look(other: impl Fn(&str, &str, &Value) -> Option<anyhow::Result<Value>>) -> Vec<Finding> {
    look_with(Publish::default(), other)
}

fn look_with(
    publish: Publish,
    other: impl Fn(&str, &str, &Value) -> Option<anyhow::Result<Value>>,
) -> Vec<Finding> {
    let version = json!({"name": "v3alpha1", "served": true, "storage": true});
    let crd = |definition: &ringway_core::crd::schema::Definition| {
        json!({
            "metadata": {"name": definition.name()},
            "spec": {
                "group": "getambassador.io",
                "names": {"plural": definition.plural},
                "versions": [version],
                "conversion": {"strategy": "None"},
            },
        })
    };
    let crds: Vec<Value> = DEFINITIONS.iter().map(crd).collect();
    let service = json!({
        "metadata": {"name": "ringway"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let ask = |_: &str, target: &str, body: Option<Value>| {
        let body = body.unwrap_or_default();
        if let Some(answer) = other("", target, &body) {
            return answer;
        }
        Ok(match target {
            "/version" => json!({"gitVersion": "v1.36.4"}),
            target if target.contains("selfsubjectaccessreviews") => {
                json!({"status": {"allowed": true}})
            }
            target if target.contains("customresourcedefinitions") => json!({ "items": crds }),
            target if target.contains("/services?") => json!({"items": [service]}),
            _ => json!({"items": []}),
        })
    };
    let options = Options { writes: true, publish, ..Options::default() };
    findings(&options, "ringway", &ask)
}

#[track_caller]
fn wrong(found: &[Finding]) -> Vec<(&'static str, Verdict, &str)> {
    assert!(found.iter().all(|f| (f.verdict == Verdict::Good) == f.advice.is_none()));
    let wrong = found.iter().filter(|finding| finding.verdict != Verdict::Good);
    wrong.map(|finding| (finding.what, finding.verdict, finding.said.as_str())).collect()
}

#[test]
fn a_good_cluster_has_nothing_to_change() {
    let found = look(|_, _, _| None);
    assert_eq!(wrong(&found), []);
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(said[0], "good  API server    v1.36.4");
    assert!(said.last().unwrap().ends_with("192.0.2.1, of the Service ringway"));
}

#[test]
fn rights_that_are_missing_are_named() {
    let without = |resource: &'static str, verb: &'static str| {
        look(move |_, _, body| {
            let of = &body["spec"]["resourceAttributes"];
            let is_it = of["resource"] == resource && of["verb"] == verb;
            is_it.then(|| Ok(json!({"status": {"allowed": false}})))
        })
    };
    assert_eq!(
        wrong(&without("mappings", "watch")),
        [("RBAC", Verdict::Bad, "may not watch mappings")]
    );
    assert_eq!(
        wrong(&without("leases", "update")),
        [("RBAC", Verdict::Poor, "may not update leases")]
    );
    let said = without("mappings", "patch");
    assert_eq!(wrong(&said), [("RBAC", Verdict::Poor, "may not patch mappings/status")]);
}

#[test]
fn a_dead_conversion_webhook_is_found_and_what_to_do() {
    let versions = json!([
        {"name": "v2", "served": true, "storage": true},
        {"name": "v3alpha1", "served": true, "storage": false},
    ]);
    let service = json!({"namespace": "emissary-system", "name": "emissary-apiext"});
    let list = |alive: bool| {
        let (versions, service) = (versions.clone(), service.clone());
        look(move |_, target, _| {
            if target.contains("customresourcedefinitions") {
                let crds = DEFINITIONS.iter().map(|definition| {
                    json!({
                        "metadata": {"name": definition.name()},
                        "spec": {
                            "group": "getambassador.io",
                            "names": {"plural": definition.plural},
                            "versions": versions,
                            "conversion": {
                                "strategy": "Webhook",
                                "webhook": {"clientConfig": {"service": service}},
                            },
                        },
                    })
                });
                return Some(Ok(json!({"items": crds.collect::<Vec<_>>()})));
            }
            if target.contains("endpointslices") {
                let endpoint = json!({"conditions": {"ready": true}});
                return Some(Ok(json!({"items": [{"endpoints": [endpoint]}]})));
            }
            let converts = target.starts_with("/apis/getambassador.io/v3alpha1/mappings?");
            (converts && !alive).then(|| {
                Err(anyhow::anyhow!("conversion webhook for getambassador.io/v2 failed: refused"))
            })
        })
    };
    let dead = list(false);
    let said = "by the webhook emissary-system/emissary-apiext, which is dead: mappings v3alpha1";
    assert_eq!(wrong(&dead), [("conversion", Verdict::Bad, said)]);
    let advice = dead.iter().find_map(|finding| finding.advice.as_ref()).unwrap();
    assert!(advice.contains("ringway crds --repair | sh"), "{advice}");
    let said = "by the webhook emissary-system/emissary-apiext";
    assert_eq!(wrong(&list(true)), [("conversion", Verdict::Poor, said)]);
}

#[test]
fn what_is_not_there_is_said() {
    let none = || Some(Ok(json!({"items": []})));
    let found = look(|_, target, _| target.contains("customresource").then(none).flatten());
    assert_eq!((wrong(&found)[0].0, wrong(&found)[0].1), ("CRDs", Verdict::Bad));
    let found = look(|_, target, _| target.contains("/services?").then(none).flatten());
    let said = "no Service of the gateway in namespace ringway";
    assert_eq!(wrong(&found), [("addresses", Verdict::Poor, said)]);
    let found =
        look(|_, target, _| (target == "/version").then(|| Err(anyhow::anyhow!("refused"))));
    assert_eq!(wrong(&found), [("API server", Verdict::Bad, "cannot be asked: refused")]);
}

#[test]
fn the_addresses_of_nodes_are_those_of_ready_pods() {
    let pod = |node: &str, ready: &str| {
        json!({
            "spec": {"nodeName": node},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        })
    };
    let node = |name: &str, address: &str| {
        let address = json!({"type": "InternalIP", "address": address});
        json!({"metadata": {"name": name}, "status": {"addresses": [address]}})
    };
    let publish = || Publish { nodes_of: Some("app=edge".into()), ..Publish::default() };
    let pods = json!({"items": [pod("a", "True"), pod("b", "False")]});
    let nodes = json!({"items": [node("a", "10.0.0.1"), node("b", "10.0.0.2")]});
    let found = look_with(publish(), |_, target, _| match target {
        "/api/v1/namespaces/ringway/pods?labelSelector=app%3Dedge" => Some(Ok(pods.clone())),
        "/api/v1/nodes" => Some(Ok(nodes.clone())),
        _ => None,
    });
    assert_eq!(wrong(&found), []);
    assert!(found.last().unwrap().said.ends_with("10.0.0.1, of nodes"));
    let found = look_with(publish(), |_, _, _| None);
    let said = "no ready Pod has the labels app=edge";
    assert_eq!(wrong(&found), [("addresses", Verdict::Poor, said)]);
}
