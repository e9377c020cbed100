// SPDX-License-Identifier: Apache-2.0
//! Installing it: the API server takes whatever the chart renders, and the README's commands lead to
//! a gateway that serves and says so.

use std::fs;

use ringway_tests::gateway::{Gateway, repository};
use ringway_tests::kube::{Cluster, await_status};
use ringway_tests::manifest::definition;
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, helm, wait_until, yaml};
use serde_json::Value;

use super::base;
use super::contracts::prometheus::monitors;
use crate::deploy::chart::VALUES;

/// Of the Security Profiles Operator's kind, as far as the chart makes use of it.
const PROFILE: &str = "
            required: [defaultAction]
            properties:
              defaultAction: {type: string}
              architectures: {type: array, items: {type: string}}
              syscalls:
                type: array
                items:
                  type: object
                  required: [action, names]
                  properties:
                    action: {type: string}
                    names: {type: array, items: {type: string}}
                    errnoRet: {type: integer}
                    args: {type: array, items: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// Every object of every set of values, strictly: a field that the API server does not know is an
/// error.
#[test]
fn the_api_server_takes_every_object_of_the_chart() {
    let Some(cluster) = Cluster::begin("chart") else { return };
    let rig = cluster.rig();
    let group = "security-profiles-operator.x-k8s.io";
    let profiles = definition(group, "v1beta1", "SeccompProfile", PROFILE);
    rig.define(&(monitors() + &profiles)).unwrap();
    // Secrets of theirs may be read, by a role there.
    let namespace =
        |name| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    let mut all = namespace("shop") + &namespace("blog");
    let mut kinds = std::collections::BTreeSet::new();
    let mut n_objects = 2;
    for (name, values) in VALUES {
        // The rig's network is of one family.
        let values = values.replace("[IPv4, IPv6]", "[IPv4]");
        let rendered = helm::render(name, &values, &["-n", &cluster.namespace]).expect(name);
        for object in yaml::parse(&rendered).unwrap().into_iter().filter(|o| !o.is_null()) {
            kinds.insert(object["kind"].as_str().unwrap().to_owned());
            n_objects += 1;
        }
        all += &rendered;
    }
    let apply = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-"];
    let said = rig.kubectl(&apply, &all);
    // Nothing of it stays, whatever became of it.
    let delete = ["delete", "--wait=false", "--ignore-not-found", "-f", "-"];
    rig.kubectl(&delete, &all).unwrap();
    let said = said.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(
        said.lines().filter(|line| line.ends_with(" serverside-applied")).count(),
        n_objects
    );
    for kind in [
        "DaemonSet",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Listener",
        "PodDisruptionBudget",
        "SeccompProfile",
        "ServiceMonitor",
    ] {
        assert!(kinds.contains(kind), "no {kind} among {kinds:?}");
    }
}

/// The commands of the README's block that has this text, without their comments.
fn commands(of: &str) -> Vec<String> {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut blocks = readme.split("\n```\n");
    let block = blocks.find(|block| block.contains(of)).unwrap_or_else(|| panic!("no {of:?}"));
    block.lines().map(|line| line.split(" #").next().unwrap().trim().to_owned()).collect()
}

#[test]
fn the_readme_s_commands_install_it() {
    let Some(cluster) = Cluster::alone("readme") else { return };
    let rig = cluster.rig();
    // The release sees all namespaces: what others left guards access, listens where nobody can, ...
    cluster.clear();
    let shell = |line: &str| rig.shell(line).unwrap_or_else(|error| panic!("{error:#}"));
    let commands = commands("helm install ringway");
    let [apply, install, get] = &commands[..] else { panic!("{commands:?}") };
    assert!(shell(apply).contains("mappings.getambassador.io"));
    assert!(shell(install).contains("STATUS: deployed"));
    let echo = Upstream::echo("one").unwrap();
    let only = "hostname: readme.example";
    cluster.apply(
        &base(&echo.address()).replace("hostname: \"*\"", only).replace("hostname: '*'", only),
    );
    // What its Pods would run.
    let options = cluster.options_of_release("ringway", "ringway");
    let gateway = Gateway::start("", &options).unwrap_or_else(|error| panic!("{error:#}"));
    wait_until("it serves", PATIENCE, || {
        gateway.get(8080, "/quote/", "readme.example").is_ok_and(|answer| answer.status == 200)
    });
    await_status(&gateway, 8080, "/quote/", 404);
    let mut table = String::new();
    wait_until("kubectl shows it", PATIENCE, || {
        table = shell(get);
        let ours = |line: &&str| line.starts_with(&*cluster.namespace) && line.contains("Running");
        table.lines().any(|line| ours(&line))
    });
    let said = gateway.log();
    assert!(!said.contains("forbidden"), "the chart's role is not enough: {said}");
    shell("helm uninstall ringway -n ringway");
    // The definitions stay, and with them everybody's objects.
    let path = cluster.path("mappings", "quote");
    assert!(
        cluster.get(&path).is_some_and(|mapping: Value| mapping["spec"]["prefix"] == "/quote/")
    );
    rig.kubectl(&["delete", "namespace", "ringway", "--wait=false"], "").unwrap();
}
