// SPDX-License-Identifier: Apache-2.0
//! Manifests as tests need them: the shortest text that says it.

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
