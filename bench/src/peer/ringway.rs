// SPDX-License-Identifier: Apache-2.0
//! Ringway: the getambassador.io manifests that a user would write.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::Setup;
use crate::scenario::{Work, route_prefix};
use crate::tls;

/// # Errors
/// The certificate cannot be read.
pub(super) fn manifests(setup: &Setup) -> Result<String> {
    let Setup { listen, back_end, .. } = setup;
    let mut text = String::new();
    object(&mut text, "Listener", "bench", &listener(setup));
    if setup.work == Work::Tunnel {
        let spec = format!("  port: {listen}\n  service: 127.0.0.1:{back_end}\n");
        object(&mut text, "TCPMapping", "all", &spec);
        return Ok(text);
    }
    let mut host = "  hostname: \"*\"\n  requestPolicy: {insecure: {action: Route}}\n".to_owned();
    if setup.tls {
        host.push_str("  tlsSecret: {name: bench}\n");
        text.push_str("---\n");
        text.push_str(&secret(setup)?);
    }
    object(&mut text, "Host", "bench", &host);
    let mut mapping = |name: &str, prefix: &str, more: &str| {
        let spec = format!(
            "  hostname: \"*\"\n  prefix: {prefix}\n  service: 127.0.0.1:{back_end}\n{more}"
        );
        object(&mut text, "Mapping", name, &spec);
    };
    match setup.work {
        Work::Forward | Work::Tunnel => mapping("all", "/", AS_IT_IS),
        Work::WebSocket => mapping("all", "/", UPGRADE),
        Work::Gateway => mapping("api", "/api/", GATEWAY),
        Work::Routes(count) => (0..count)
            .for_each(|index| mapping(&format!("r-{index:05}"), &route_prefix(index), AS_IT_IS)),
    }
    Ok(text)
}

fn object(text: &mut String, kind: &str, name: &str, spec: &str) {
    let version = "getambassador.io/v3alpha1";
    write!(
        text,
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec:\n{spec}"
    )
    .expect("a String takes everything");
}

fn listener(setup: &Setup) -> String {
    let protocol = match (setup.work, setup.tls) {
        (Work::Tunnel, _) => "TCP",
        (_, true) => "HTTPS",
        (_, false) => "HTTP",
    };
    let port = setup.listen;
    format!(
        "  port: {port}\n  protocol: {protocol}\n  securityModel: XFP\n  hostBinding: {{namespace: {{from: ALL}}}}\n"
    )
}

fn secret(setup: &Setup) -> Result<String> {
    let mut text = "apiVersion: v1\nkind: Secret\nmetadata: {name: bench, namespace: default}\n\
                    type: kubernetes.io/tls\nstringData:\n"
        .to_owned();
    for name in [tls::CERTIFICATE, tls::KEY] {
        let pem = fs::read_to_string(setup.dir.join(name)).context("reading the certificate")?;
        writeln!(text, "  {name}: |").expect("a String takes everything");
        for line in pem.lines() {
            writeln!(text, "    {line}").expect("a String takes everything");
        }
    }
    Ok(text)
}

const AS_IT_IS: &str = "  rewrite: \"\"\n";

const UPGRADE: &str = "  rewrite: \"\"\n  allow_upgrade: [websocket]\n";

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
