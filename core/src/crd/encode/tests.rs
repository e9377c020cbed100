// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::super::{Object, Options, Parsed, parse};
use super::*;

fn read(text: &str) -> Vec<Arc<Object>> {
    let options = Options { namespace: "default".into(), environment: BTreeMap::new() };
    let found = parse("a.yaml", text, &options).into_iter();
    found
        .map(|parsed| match parsed {
            Parsed::Object { object, .. } => object,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let text = r#"
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: m, namespace: shop, labels: {a: b}, annotations: {c: d}, generation: 7}
spec:
  ambassador_id: [blue]
  hostname: shop.example
  prefix: /cart/
  prefix_exact: true
  case_sensitive: false
  service: cart:8080
  weight: 10
  add_request_headers: {x-a: {value: b, append: false}}
  v2BoolHeaders: [x-b]
  retry_policy: {retry_on: 5xx, num_retries: 2}
  circuit_breakers: [{max_connections: 4}]
  labels: {d: [{g: [{generic_key: {value: v}}, {remote_address: {key: k}}]}]}
---
apiVersion: getambassador.io/v2
kind: Mapping
metadata: {name: old}
spec: {host: a.example, prefix: /, service: a, ambassador_id: blue}
---
apiVersion: getambassador.io/v3alpha1
kind: Module
metadata: {name: ambassador}
spec: {config: {diagnostics: {enabled: false}, envoy_log_format: {a: b}}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80, targetPort: http}], clusterIP: 10.0.0.1}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {defaultBackend: {service: {name: cart, port: {number: 80}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-x, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1], conditions: {ready: true}}]
ports: [{name: http, port: 8080}]
"#;
    let before = read(text);
    assert_eq!(before.len(), 6);
    for object in &before {
        let json = object.to_json();
        let after = read(&json.to_string());
        // Older dialects have become the newest.
        let mut meta = after[0].meta.clone();
        meta.dialect = object.meta.dialect;
        assert_eq!(meta, object.meta, "{json:#}");
        assert_eq!(after[0].spec, object.spec, "{json:#}");
    }
    assert_eq!(before[0].to_json()["spec"]["v2BoolHeaders"], json!(["x-b"]));
    assert_eq!(before[1].to_json()["apiVersion"], "getambassador.io/v3alpha1");
}

#[test]
fn secrets_show_no_value() {
    let text = "
apiVersion: v1
kind: Secret
metadata: {name: s, annotations: {leak: hunter2}}
type: kubernetes.io/tls
stringData: {tls.key: hunter2}
data: {tls.crt: aHVudGVyMg==}
";
    let json = read(text)[0].to_json();
    assert_eq!(json["data"], json!({"tls.key": REDACTED, "tls.crt": REDACTED}));
    assert_eq!(json["type"], "kubernetes.io/tls");
    let text = json.to_string();
    assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
}
