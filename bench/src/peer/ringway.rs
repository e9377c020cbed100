// SPDX-License-Identifier: Apache-2.0
//! Ringway: the getambassador.io manifests that a user would write.

use std::fmt::Write as _;

use super::Setup;
use crate::scenario::{Work, route_prefix};

pub(super) fn manifests(setup: &Setup) -> String {
    let Setup { listen, back_end, .. } = setup;
    let mut text = format!(
        "apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {{name: bench, namespace: default}}
spec:
  port: {listen}
  protocol: HTTP
  securityModel: XFP
  hostBinding: {{namespace: {{from: ALL}}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: bench, namespace: default}}
spec:
  hostname: \"*\"
  requestPolicy: {{insecure: {{action: Route}}}}
"
    );
    let mut mapping = |name: &str, prefix: &str, more: &str| {
        write!(
            text,
            "---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {{name: {name}, namespace: default}}
spec:
  hostname: \"*\"
  prefix: {prefix}
  service: 127.0.0.1:{back_end}
{more}"
        )
        .expect("a String takes everything");
    };
    match setup.work {
        Work::Forward => mapping("all", "/", AS_IT_IS),
        Work::Gateway => mapping("api", "/api/", GATEWAY),
        Work::Routes(count) => (0..count)
            .for_each(|index| mapping(&format!("r-{index:05}"), &route_prefix(index), AS_IT_IS)),
    }
    text
}

const AS_IT_IS: &str = "  rewrite: \"\"\n";

/// The prefix is replaced by `/` unless told otherwise; forwarded headers and request id are set
/// always.
const GATEWAY: &str = "  add_request_headers:
    x-tenant: {value: bench, append: false}
  remove_request_headers: [x-debug]
  add_response_headers:
    x-version: {value: \"2\", append: false}
    x-frame-options: {value: DENY, append: false}
  remove_response_headers: [x-powered-by]
";
