// SPDX-License-Identifier: Apache-2.0
//! What is measured: requests as clients send them, and manifests of the shapes that tables have.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_core::crd::{File, Options, Parsed};
use ringway_core::name::Generation;
use ringway_core::resolve::{Memo, resolve};
use ringway_core::snapshot::{Settings, Snapshot};
use ringway_core::table::{self, Slots, Table, compile};
use ringway_core::wire::h1::parse::{self, Limits};
use ringway_core::wire::{Head, HeadView};

use crate::browser::FIELDS;

/// The least that HTTP/1.1 allows.
pub(crate) fn minimal() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nhost: bench.example\r\n\r\n".to_vec()
}

pub(crate) fn browser(host: &str, path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{FIELDS}{more}\r\n").into_bytes()
}

/// 64 header lines.
pub(crate) fn many_headers() -> Vec<u8> {
    let lines: String =
        (0..63).map(|i| format!("x-header-{i}: the value of header {i}\r\n")).collect();
    format!("GET /api/ HTTP/1.1\r\nhost: bench.example\r\n{lines}\r\n").into_bytes()
}

/// A parsed request.
pub(crate) struct Request {
    block: Vec<u8>,
    head: Head,
    authority: String,
    path: String,
}

impl Request {
    pub(crate) fn new(authority: &str, path: &str, more: &str) -> Self {
        let block = browser(authority, path, more);
        let mut head = Head::default();
        parse::request(&block, &mut head, &Limits::default(), &mut 0).unwrap();
        Self { block, head, authority: authority.into(), path: path.into() }
    }

    pub(crate) fn view(&self) -> HeadView<'_> {
        HeadView::new(&self.head, &self.block)
    }

    pub(crate) fn request(&self) -> table::Request<'_> {
        table::Request {
            head: self.view(),
            authority: self.authority.as_bytes(),
            path: self.path.as_bytes(),
            query: None,
            secure: false,
        }
    }
}

const LISTENER: &str = "---\napiVersion: getambassador.io/v3alpha1\nkind: Listener\n\
metadata: {name: l, namespace: default}\nspec:\n  port: 8080\n  protocol: HTTP\n  securityModel: XFP\n  \
hostBinding: {namespace: {from: ALL}}\n";

pub(crate) fn host(name: &str, hostname: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  hostname: \"{hostname}\"\n  requestPolicy: {{insecure: {{action: Route}}}}\n"
    )
}

pub(crate) fn mapping(name: &str, hostname: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  hostname: \"{hostname}\"\n{spec}"
    )
}

/// A Mapping of a prefix of its own, to a service of its own.
pub(crate) fn plain(i: usize, timeout_ms: usize) -> String {
    let spec = format!(
        "  prefix: /r-{i:05}/\n  service: svc-{i:05}:8080\n  rewrite: \"\"\n  timeout_ms: {timeout_ms}\n"
    );
    mapping(&format!("r-{i:05}"), "*", &spec)
}

/// What so many of them are on one `*` host.
pub(crate) fn plains(count: usize) -> String {
    host("h", "*") + &(0..count).map(|i| plain(i, 3000)).collect::<String>()
}

/// The endpoints of a [`plain`] one's Service, one of so many versions.
pub(crate) fn slice(i: usize, version: usize) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{i:05}-a\n  \
         labels: {{kubernetes.io/service-name: svc-{i:05}}}\naddressType: IPv4\n\
         ports: [{{port: 8080}}]\nendpoints: [{{addresses: [10.0.{}.{}]}}]\n---\n",
        version / 256 % 256,
        version % 256
    )
}

/// The Services of so many of them, with endpoints.
pub(crate) fn services(count: usize) -> String {
    let service = |i: usize| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: svc-{i:05}}}\n\
             spec: {{ports: [{{port: 8080}}]}}\n---\n"
        ) + &slice(i, 0)
    };
    (0..count).map(service).collect()
}

/// What manifests say, and a Listener with them.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    let mut snapshot = Snapshot::new(Settings::default());
    insert(&mut snapshot, LISTENER);
    insert(&mut snapshot, text);
    snapshot
}

/// Adds or replaces the objects of a text.
pub(crate) fn insert(snapshot: &mut Snapshot, text: &str) {
    let options = Options { namespace: "default".into(), environment: BTreeMap::new() };
    for found in File::parse("sample.yaml", text, &options, None).found() {
        let Parsed::Object { object, problems } = found else { panic!("{found:?}") };
        assert!(problems.is_empty(), "{problems:?}");
        snapshot.insert(Arc::clone(object));
    }
}

pub(crate) fn table(text: &str) -> Table {
    let (ir, problems) = resolve(&snapshot(text), &mut Memo::default());
    assert!(problems.is_empty(), "{problems:?}");
    compile(&ir, Generation(1), &mut Slots::new(), None).unwrap()
}
