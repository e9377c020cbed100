// SPDX-License-Identifier: Apache-2.0
//! `ringway doctor` in front of a real API server: the chart's role is enough, and it says so.

use std::process::Command;

use ringway_core::crd::schema::DEFINITIONS;
use ringway_tests::gateway::binary;
use ringway_tests::kube::Cluster;

#[test]
fn the_chart_s_role_has_every_right_that_is_asked_for() {
    let Some(cluster) = Cluster::begin("doctor") else { return };
    let options = cluster.options();
    let look = |variables: &[(String, String)]| {
        let output = Command::new(binary().unwrap())
            .args(["doctor", "--kubeconfig"])
            .arg(options.kubeconfig.as_ref().unwrap())
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = look(&options.env);
    let line = |what: &str| {
        let line = said.lines().find(|line| line.split_whitespace().nth(1) == Some(what));
        line.unwrap_or_else(|| panic!("no {what}:\n{said}")).to_owned()
    };
    assert!(line("API").contains("v1."), "{said}");
    assert!(
        line("RBAC").starts_with("good ") && line("RBAC").ends_with("rights are there"),
        "{said}"
    );
    let all = DEFINITIONS.len();
    assert!(line("CRDs").ends_with(&format!("{all} of {all} kinds")), "{said}");
    let none = format!("no Service of the gateway in namespace {}", cluster.namespace);
    assert!(line("addresses").starts_with("poor ") && line("addresses").ends_with(&none), "{said}");

    // All namespaces are more than the role of one allows.
    let own: Vec<_> =
        options.env.iter().filter(|(name, _)| name == "AMBASSADOR_NAMESPACE").cloned().collect();
    let said = look(&own);
    assert!(said.contains("BAD   RBAC          may not list "), "{said}");
}
