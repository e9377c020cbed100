// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::{State, rows};
use crate::crd::parse::{Options, Parsed, parse};
use crate::resolve::{Memo, resolve};
use crate::snapshot::{Settings, Snapshot};

#[test]
fn one_row_per_object() {
    let yaml = "
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: l}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: good}
spec: {hostname: '*', prefix: /, service: q}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: bad}
spec: {hostname: '*', prefix: '(', prefix_regex: true, service: q}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: nowhere}
spec: {prefix: /, service: q}
";
    let mut snapshot = Snapshot::new(Settings::default());
    for parsed in parse("x.yaml", yaml, &Options::default()) {
        let Parsed::Object { object, .. } = parsed else { panic!("{parsed:?}") };
        snapshot.insert(object);
    }
    let (ir, problems) = resolve(&snapshot, &mut Memo::default());
    let rows = rows(&snapshot, &ir, &problems);
    let states: Vec<(&str, State)> = rows.iter().map(|r| (&*r.object.name, r.state)).collect();
    let expected = [
        ("l", State::Serving),
        ("bad", State::Refused),
        ("good", State::Serving),
        ("nowhere", State::Accepted),
    ];
    assert_eq!(states, expected);
    assert!(rows[1].reason.as_ref().unwrap().starts_with("BadRegex: "), "{rows:?}");
    assert_eq!(rows[2].reason, None);
    assert!(rows[3].reason.as_ref().unwrap().starts_with("RoutedNowhere: "), "{rows:?}");
}
