// SPDX-License-Identifier: Apache-2.0
//! Manifests as tests need them: the shortest text that says it.

use std::net::SocketAddr;

/// An HTTP Listener for all Hosts on this port.
pub fn listener(port: u16) -> String {
    format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {{name: http-{port}}}
spec: {{port: {port}, protocol: HTTP, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}}}
"
    )
}

/// A Mapping for every host; `spec` is the inside of a flow mapping.
pub fn mapping(name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: {name}}}
spec: {{hostname: \"*\", {spec}}}
"
    )
}

/// The definition of a kind of another project; `spec` is what follows in the schema of its spec, on
/// lines of their own, twelve blanks deep.
pub fn definition(group: &str, version: &str, kind: &str, spec: &str) -> String {
    let name = kind.to_lowercase();
    format!(
        "---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {name}s.{group}, annotations: {{api-approved.kubernetes.io: unapproved}}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: {kind}, plural: {name}s, singular: {name}}}
  versions:
  - name: {version}
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object{spec}"
    )
}

/// A Service of one port, 80.
pub fn service(name: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: 80}}]}}
"
    )
}

/// The EndpointSlice of such a Service: ready endpoints that share a port.
pub fn slice(service: &str, endpoints: &[SocketAddr]) -> String {
    let port = endpoints.first().map_or(80, SocketAddr::port);
    let addresses: Vec<String> =
        endpoints.iter().map(|e| format!("{{addresses: [\"{}\"]}}", e.ip())).collect();
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints: [{}]
",
        addresses.join(", ")
    )
}

/// The Ambassador Module; `config` is the inside of a flow mapping.
pub fn module(config: &str) -> String {
    format!(
        "---
apiVersion: getambassador.io/v3alpha1
kind: Module
metadata: {{name: ambassador}}
spec: {{config: {{{config}}}}}
"
    )
}
