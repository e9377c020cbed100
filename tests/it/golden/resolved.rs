// SPDX-License-Identifier: Apache-2.0
//! Golden cases without a gateway: parse → resolve → compile, and what came of it as YAML. What a
//! file shows is the whole of it, save settings that have their default and the probes, which are
//! the same in every case.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_core::crd::convert::convert;
use ringway_core::crd::{Object, Options, Parsed, parse};
use ringway_core::ir::{self, Ir};
use ringway_core::name::{Generation, Kind, Ref};
use ringway_core::problem::Problems;
use ringway_core::resolve::{Memo, resolve};
use ringway_core::snapshot::{Settings, Snapshot};
use ringway_core::table::{Slots, compile};
use ringway_core::tls::Pem;
use ringway_tests::yaml;
use serde_json::{Map, Value, json};

use super::{cases, chosen, environment, files, folder, read};

#[test]
fn cases_resolve_as_written() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases().into_iter().filter(|case| chosen(case)) {
        let got = yaml::emit(&outcome(&case, |_| {}));
        let file = folder().join(format!("{case}.out.yaml"));
        if update {
            std::fs::write(&file, &got).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if got != expected {
            wrong.push(format!("{case}:\n{}", difference(&expected, &got)));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first line that differs, with what leads up to it.
fn difference(expected: &str, got: &str) -> String {
    let same = expected.lines().zip(got.lines()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(3);
    let show = |text: &str| {
        text.lines().skip(from).take(8).map(|l| format!("    {l}\n")).collect::<String>()
    };
    format!("  expected from line {}:\n{}  got:\n{}", from + 1, show(expected), show(got))
}

/// Cases that are about how something is written, which no conversion of Emissary's keeps: v2 has one
/// field for the host, which may have a star.
const OF_SHAPES: [&str; 1] = ["host/star-in-an-exact-host-refuses-the-mapping"];

/// Whichever version a webhook gives of an object, what it means stays.
#[test]
fn cases_mean_the_same_in_every_version() {
    let mut wrong = Vec::new();
    let of_shapes = |case: &String| OF_SHAPES.contains(&case.as_str());
    let all = cases().into_iter().filter(|case| chosen(case));
    for case in all.filter(|case| !of_shapes(case)) {
        let written = outcome(&case, |_| {})["ir"].take();
        for versions in [&["v2"][..], &["v3alpha1"], &["v2", "v3alpha1"], &["v3alpha1", "v2"]] {
            let converted = outcome(&case, |object| {
                for version in versions {
                    let is_ours = object["apiVersion"].as_str().is_some_and(is_converted);
                    // Nobody stores a Listener as v2.
                    if is_ours && object["kind"] != "Listener" {
                        convert(object, &format!("getambassador.io/{version}")).unwrap();
                    }
                }
            });
            if converted["ir"] != written {
                let difference = difference(&yaml::emit(&written), &yaml::emit(&converted["ir"]));
                wrong.push(format!("{case} as {}:\n{difference}", versions.join(", then ")));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn is_converted(version: &str) -> bool {
    version.starts_with("getambassador.io/")
}

/// A case's `.out.yaml`, of objects as they are after a change.
fn outcome(case: &str, change: impl Fn(&mut Value)) -> Value {
    let (test_settings, mut manifests) = read(case);
    if let Ok(mut objects) = yaml::parse(&manifests) {
        let before = objects.clone();
        objects.iter_mut().for_each(change);
        if objects != before {
            let emit = |object: &Value| format!("---\n{}", yaml::emit(object));
            manifests = objects.iter().map(emit).collect();
        }
    }
    let mut environment: BTreeMap<String, String> =
        environment(&test_settings).into_iter().collect();
    environment.insert("FILES".into(), "/files".into());
    let var = |name: &str| environment.get(name).cloned();
    let settings = Settings {
        ambassador_id: var("AMBASSADOR_ID").unwrap_or_else(|| "default".into()).into(),
        namespace: var("AMBASSADOR_NAMESPACE").unwrap_or_else(|| "default".into()).into(),
        single_namespace: var("AMBASSADOR_SINGLE_NAMESPACE").is_some(),
        strict_selectors: var("DISABLE_STRICT_LABEL_SELECTORS").is_none(),
        bind_address: var("AMBASSADOR_ENVOY_BIND_ADDRESS")
            .map_or_else(|| [0, 0, 0, 0].into(), |ip| ip.parse().expect("an address")),
        admin_address: Some(([127, 0, 0, 1], 8877).into()),
        ..Settings::default()
    };
    let options = Options { namespace: settings.namespace.clone(), environment };
    let mut snapshot = Snapshot::new(settings);
    let mut problems = Problems::default();
    let mut malformed = Vec::new();
    for parsed in parse("all.yaml", &manifests, &options) {
        match parsed {
            Parsed::Object { object, problems: found } => {
                problems.extend(found);
                // The first of a name counts.
                if snapshot.object(&object.meta.object).is_none() {
                    snapshot.insert(object);
                }
            }
            Parsed::Refused { meta, problems: found, .. } => {
                problems.extend(found);
                snapshot.refuse(meta);
            }
            Parsed::Malformed(what) => malformed.push(what.mistake.message),
            Parsed::Foreign { kind, .. } => malformed.push(format!("foreign: {kind}")),
        }
    }
    let there = files(&test_settings).into_iter();
    let read = |text: String| Ok(Pem(text.into_bytes().into()));
    snapshot.set_files(
        there.map(|(name, text)| (format!("/files/{name}").into(), read(text))).collect(),
    );
    let (ir, found) = resolve(&snapshot, &mut Memo::default());
    problems.extend(found);
    compile(&ir, Generation(1), &mut Slots::new(), None).expect("what was resolved compiles");

    let mut out = Map::new();
    if !malformed.is_empty() {
        out.insert("documents".into(), json!(malformed));
    }
    let lines: Vec<String> = problems.iter().map(line).collect();
    out.insert("problems".into(), json!(lines));
    out.insert("statuses".into(), statuses(&snapshot, &ir, &problems));
    out.insert("ir".into(), tidy(excerpt(&ir, case.starts_with("probes/"))));
    Value::Object(out)
}

fn line(problem: &ringway_core::problem::Problem) -> String {
    format!("[{}] {problem}", problem.reason)
}

fn copies_to(route: &ir::Route, object: &Ref) -> bool {
    match &route.action {
        ir::Action::Forward(forward) => {
            forward.shadow.as_ref().is_some_and(|shadow| shadow.object == *object)
        }
        ir::Action::Redirect(_) => false,
    }
}

/// Whether each Mapping, Host and Listener serves, and if not, why.
fn statuses(snapshot: &Snapshot, ir: &Ir, problems: &Problems) -> Value {
    let hosts = || ir.listeners.iter().flat_map(|listener| &listener.virtual_hosts);
    let serves = |object: &Ref| match object.kind {
        Kind::Listener => ir.listeners.iter().any(|listener| listener.object == *object),
        Kind::Host => hosts().any(|host| host.host.as_ref() == Some(object)),
        _ => hosts()
            .flat_map(|host| &host.groups)
            .flat_map(|group| &group.members)
            .any(|member| member.route.object == *object || copies_to(&member.route, object)),
    };
    let shown = [Kind::Host, Kind::Ingress, Kind::Listener, Kind::Mapping];
    let objects = snapshot.objects().map(|object: &Arc<Object>| object.meta.object.clone());
    let refused = shown.into_iter().flat_map(|kind| snapshot.refused_of_kind(kind));
    let all = objects.chain(refused.map(|meta| meta.object.clone()));
    let mut statuses = Map::new();
    for object in all.filter(|object| shown.contains(&object.kind)) {
        let reasons: Vec<&str> =
            problems.iter().filter(|p| p.object == object).map(|p| p.reason).collect();
        let state = if serves(&object) { "serves" } else { "does not serve" };
        let text = match reasons.is_empty() {
            true => state.to_owned(),
            false => format!("{state}: {}", reasons.join(", ")),
        };
        statuses.insert(object.to_string(), text.into());
    }
    Value::Object(statuses)
}

fn excerpt(ir: &Ir, probes: bool) -> Value {
    let mut value = serde_json::to_value(ir).unwrap();
    let defaults = serde_json::to_value(ir::Settings::default()).unwrap();
    let settings = value["settings"].as_object_mut().unwrap();
    settings.retain(|key, value| defaults[key] != *value);
    if settings.is_empty() {
        value.as_object_mut().unwrap().remove("settings");
    }
    for listener in value["listeners"].as_array_mut().unwrap() {
        for host in listener["virtual_hosts"].as_array_mut().unwrap() {
            host["groups"].as_array_mut().unwrap().retain(|group| {
                let name = group["members"][0]["route"]["object"]["name"].as_str();
                probes || !name.is_some_and(|name| name.starts_with("internal_"))
            });
        }
    }
    if !probes {
        let clusters = value["clusters"].as_object_mut().unwrap();
        clusters.retain(|name, _| !name.contains("127_0_0_1_8877"));
    }
    value
}

/// References on one line.
fn tidy(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(tidy).collect()),
        Value::Object(entries) => {
            let keys: Vec<&str> = entries.keys().map(String::as_str).collect();
            if keys == ["kind", "name", "namespace"] {
                let text = |key: &str| entries[key].as_str().unwrap_or_default();
                return format!("{} {}/{}", text("kind"), text("namespace"), text("name")).into();
            }
            Value::Object(entries.into_iter().map(|(k, v)| (k, tidy(v))).collect())
        }
        other => other,
    }
}
