// SPDX-License-Identifier: Apache-2.0
//! kubectl: what people see of their objects, and what scripts wait for.

use ringway_tests::kube::{Cluster, await_status};
use ringway_tests::manifest::mapping;
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};
use serde_json::json;

use super::super::base;
use super::kubectl;

/// Cells of the row of a name, under the headings that stand above them.
fn row(table: &str, name: &str) -> Vec<(String, String)> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    // Columns are two spaces apart at least, and begin where their headings do.
    let mut starts = vec![];
    for (at, _) in heading.char_indices() {
        let before = &heading[..at];
        if !heading[at..].starts_with(' ') && (at == 0 || before.ends_with("  ")) {
            starts.push(at);
        }
    }
    let line = lines.find(|line| line.split(' ').next() == Some(name)).unwrap_or_default();
    let cell = |index: usize| {
        let end = starts.get(index + 1).copied().unwrap_or(usize::MAX);
        let part = |text: &str| {
            let chars: String = text.chars().take(end).skip(starts[index]).collect();
            chars.trim().to_owned()
        };
        (part(heading), part(line))
    };
    (0..starts.len()).map(cell).collect()
}

#[track_caller]
fn expect_row(table: &str, name: &str, expected: &[(&str, &str)]) {
    let mut cells = row(table, name);
    let (age, _) = cells.pop().unwrap();
    assert_eq!(age, "AGE", "{table}");
    let cells: Vec<(&str, &str)> = cells.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(cells, expected, "{table}");
}

#[test]
fn columns_conditions_and_events_say_what_is_so() {
    let Some(cluster) = Cluster::begin("kubectl") else { return };
    let echo = Upstream::echo("one").unwrap();
    let old = "---
apiVersion: getambassador.io/v2
kind: Mapping
metadata: {name: old}
spec: {host: old.example, prefix: /old/, service: old, weight: 10}
";
    let broken = mapping("broken", "prefix: \"(\", prefix_regex: true, service: s");
    cluster.apply(&(base(&echo.address()) + old + &broken));
    let gateway = cluster.gateway();
    await_status(&gateway, 8080, "/quote/", 200);
    // What scripts wait for.
    for name in ["quote", "old"] {
        let wait = ["wait", "--for=condition=Programmed", "--timeout=30s", "mapping", name];
        kubectl(&cluster, &wait);
    }
    let wait = ["wait", "--for=jsonpath={.status.state}=Ready", "--timeout=30s", "host", "any"];
    kubectl(&cluster, &wait);
    kubectl(
        &cluster,
        &["wait", "--for=condition=Accepted=false", "--timeout=30s", "mapping", "broken"],
    );

    let table = kubectl(&cluster, &["get", "mappings"]);
    let service = echo.address().to_string();
    expect_row(
        &table,
        "quote",
        &[
            ("NAME", "quote"),
            ("SOURCE HOST", "*"),
            ("SOURCE PREFIX", "/quote/"),
            ("DEST SERVICE", &service),
            ("WEIGHT", ""),
            ("STATE", "Running"),
            ("REASON", ""),
        ],
    );
    let cell = |name: &str, heading: &str| {
        row(&table, name).into_iter().find(|(of, _)| of == heading).unwrap().1
    };
    assert_eq!(
        (cell("old", "SOURCE HOST"), cell("old", "WEIGHT")),
        ("old.example".into(), "10".into())
    );
    assert_eq!(cell("broken", "STATE"), "Inactive");
    assert!(cell("broken", "REASON").contains("spec.prefix"), "{table}");
    let hosts = kubectl(&cluster, &["get", "hosts"]);
    expect_row(
        &hosts,
        "any",
        &[("NAME", "any"), ("HOSTNAME", "*"), ("STATE", "Ready"), ("SECRET", "")],
    );
    let listeners = kubectl(&cluster, &["get", "listeners"]);
    assert_eq!(
        row(&listeners, "http-8080")[1..5],
        [("PORT", "8080"), ("PROTOCOL", "HTTP"), ("STACK", ""), ("SECURITY", "XFP")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let all = kubectl(&cluster, &["get", "ambassador-crds", "-o", "name"]);
    assert_eq!(all, kubectl(&cluster, &["get", "ringway", "-o", "name"]));
    assert!(
        all.contains("mapping.getambassador.io/quote") && all.contains("host.getambassador.io/any")
    );

    // Events stand where people look for them.
    let described = || kubectl(&cluster, &["describe", "mapping", "broken"]);
    wait_until("it says why", PATIENCE, || {
        let text = described();
        let events = text.split("\nEvents:").nth(1).unwrap_or_default();
        events.contains("Warning") && events.contains("spec.prefix")
    });
    cluster.patch(&cluster.path("mappings", "broken"), &json!({"spec": {"prefix": "/b/"}}));
    wait_until("it says that it is well", PATIENCE, || {
        let of = "--field-selector=involvedObject.kind=Mapping,involvedObject.name=broken";
        let events = kubectl(&cluster, &["get", "events", of]);
        events.contains("Normal") && events.contains("Programmed")
    });
    let explained = kubectl(&cluster, &["explain", "mapping.spec.weight"]);
    assert!(explained.contains("FIELD: weight <integer>"), "{explained}");
}
