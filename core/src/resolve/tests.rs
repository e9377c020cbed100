// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::crd::parse::{Options, Parsed, parse};
use crate::problem::{Problem, Severity};
use crate::snapshot::Settings;

/// One cleartext Listener for every Host.
pub(super) const LISTENER: &str = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
";

/// Reads objects; what does not parse is noted as refused.
pub(super) fn snapshot_of(settings: Settings, yaml: &str) -> Snapshot {
    let mut snapshot = Snapshot::new(settings);
    for parsed in parse("test.yaml", yaml, &Options::default()) {
        match parsed {
            Parsed::Object { object, .. } => snapshot.insert(object),
            Parsed::Refused { meta, .. } => snapshot.refuse(meta),
            Parsed::Malformed(malformed) => panic!("{malformed:?}"),
            Parsed::Foreign { kind, .. } => panic!("foreign: {kind}"),
        }
    }
    snapshot
}

pub(super) fn settings() -> Settings {
    Settings { admin_address: Some("127.0.0.1:8877".parse().unwrap()), ..Settings::default() }
}

pub(super) fn resolved(yaml: &str) -> (Ir, Problems) {
    resolve(&snapshot_of(settings(), yaml), &mut Memo::default())
}

/// `domain path -> object` of every route that somebody wrote, in decision order.
pub(super) fn routes(ir: &Ir) -> Vec<String> {
    let mut lines = Vec::new();
    for host in &ir.listeners[0].virtual_hosts {
        for group in &host.groups {
            for member in group.members.iter().filter(|m| !m.route.unguarded) {
                let path = &group.rank.path;
                lines.push(format!("{} {path} -> {}", host.domain, member.route.object.name));
            }
        }
    }
    lines
}

/// A Mapping of these fields (flow style, without braces).
pub(super) fn mapping(name: &str, fields: &str) -> String {
    format!(
        "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {{{fields}}}\n---\n"
    )
}

pub(super) fn reasons(problems: &Problems) -> Vec<(&str, Severity, &'static str)> {
    problems.iter().map(|p| (&*p.object.name, p.severity, p.reason)).collect()
}

#[track_caller]
pub(super) fn only(problems: &Problems) -> &Problem {
    assert_eq!(problems.len(), 1, "{problems:?}");
    &problems.0[0]
}

#[test]
fn smallest_manifest_serves() {
    let yaml =
        LISTENER.to_owned() + &mapping("quote", "hostname: '*', prefix: /backend/, service: quote");
    let (ir, problems) = resolved(&yaml);
    assert_eq!(problems.0, []);
    assert_eq!(routes(&ir), ["* /backend/ -> quote"]);
    let host = &ir.listeners[0].virtual_hosts[0];
    assert_eq!(host.insecure, ir::InsecureAction::Route);
    assert_eq!(host.groups.len(), 3, "two probes and the Mapping");
    assert!(ir.clusters.contains("cluster_quote_default"));
    assert!(ir.clusters.contains("cluster_127_0_0_1_8877_default"));
}
