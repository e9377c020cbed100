// SPDX-License-Identifier: Apache-2.0
//! Ringway: the getambassador.io manifests that a user would write.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::Setup;
use crate::scenario::{PREFIXES_PER_HOST, PROBE, Protocol, Work, host_name, route_prefix};
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
    let mut more = "";
    if setup.tls {
        more = match setup.protocol {
            Protocol::Http1 => "  tlsSecret: {name: bench}\n",
            _ => "  tlsSecret: {name: bench}\n  tls: {alpn_protocols: 'h2,http/1.1'}\n",
        };
        text.push_str("---\n");
        text.push_str(&secret(setup)?);
    }
    let mut host = |name: &str, hostname: &str| {
        let insecure = "requestPolicy: {insecure: {action: Route}}";
        let spec = format!("  hostname: \"{hostname}\"\n  {insecure}\n{more}");
        object(&mut text, "Host", name, &spec);
    };
    match setup.work {
        Work::Hosts(count) => {
            (0..count).for_each(|index| host(&format!("h-{index:04}"), &host_name(index)));
        }
        _ => host("bench", "*"),
    }
    let mut mapping =
        |name: &str, prefix: &str, more: &str| route(&mut text, setup, name, "*", prefix, more);
    match setup.work {
        Work::Forward | Work::Tunnel if setup.protocol == Protocol::Grpc => {
            mapping("all", "/", GRPC);
        }
        Work::Forward | Work::Tunnel => mapping("all", "/", AS_IT_IS),
        Work::WebSocket => mapping("all", "/", UPGRADE),
        Work::Gateway => mapping("api", "/api/", GATEWAY),
        // The probe is in a file of its own.
        Work::Routes(count) | Work::Changing(count) => (0..count)
            .for_each(|index| mapping(&format!("r-{index:05}"), &route_prefix(index), AS_IT_IS)),
        Work::Hosts(count) => (0..count * PREFIXES_PER_HOST).for_each(|index| {
            let name = format!("r-{index:05}");
            let host = host_name(index / PREFIXES_PER_HOST);
            let prefix = route_prefix(index % PREFIXES_PER_HOST);
            route(&mut text, setup, &name, &host, &prefix, AS_IT_IS);
        }),
    }
    Ok(text)
}

/// The file that changes with the number of the configuration.
pub(super) const CHANGING: &str = "manifests/probe.yaml";

pub(super) fn changing(setup: &Setup, generation: usize) -> String {
    let mut text = String::new();
    route(&mut text, setup, "probe", "*", PROBE, &format!("  rewrite: /g-{generation}/\n"));
    text
}

fn route(text: &mut String, setup: &Setup, name: &str, host: &str, prefix: &str, more: &str) {
    let service = format!("127.0.0.1:{}", setup.back_end);
    let spec = format!("  hostname: \"{host}\"\n  prefix: {prefix}\n  service: {service}\n{more}");
    object(text, "Mapping", name, &spec);
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

const GRPC: &str = "  rewrite: \"\"\n  grpc: true\n";

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
