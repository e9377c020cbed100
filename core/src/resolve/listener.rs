// SPDX-License-Identifier: Apache-2.0
//! One Listener → its address, stack and security model, and which Hosts it binds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::crd;
use crate::crd::listener::{ListenerProtocol, NamespaceFrom, StackProtocol};
use crate::ir::{Protocol, SecurityModel};
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Settings;

use super::host::{Host, selects};

/// A Listener that is accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    pub(crate) object: Ref,
    pub(crate) address: SocketAddr,
    pub(crate) stats_prefix: Arc<str>,
    pub(crate) stack: Vec<Protocol>,
    pub(crate) security: SecurityModel,
    pub(crate) l7_depth: u32,
    pub(crate) http2_streams_max: Option<u32>,
    /// `None`: binds no Host.
    binding: Option<Binding>,
}

#[derive(Clone, Debug, PartialEq)]
struct Binding {
    /// `None`: any.
    namespace: Option<Arc<str>>,
    labels: BTreeMap<String, String>,
}

impl Listener {
    pub(crate) fn binds(&self, host: &Host, strict: bool) -> bool {
        let Some(Binding { namespace, labels }) = &self.binding else { return false };
        let namespace = namespace.as_ref().is_none_or(|n| *n == host.namespace);
        namespace && selects(labels, &host.labels, strict)
    }

    /// Whether it is for HTTP/3, the one thing not served so far.
    pub(crate) fn is_udp(&self) -> bool {
        self.stack.last() == Some(&Protocol::Udp)
    }

    pub(crate) fn has(&self, protocol: Protocol) -> bool {
        self.stack.contains(&protocol)
    }

    /// TCP and UDP may share an address.
    pub(crate) fn socket(&self) -> (bool, SocketAddr) {
        (self.is_udp(), self.address)
    }

    /// The one that Emissary makes up for TCPMappings on a port that no Listener has. Its name is
    /// none that an object could have.
    pub(crate) fn for_tcp(settings: &Settings, address: SocketAddr, named: bool) -> Self {
        use Protocol::{Tcp, Tls};
        let stack = if named { vec![Tls, Tcp] } else { vec![Tcp] };
        Self {
            object: Ref::new(
                Kind::Listener,
                Arc::clone(&settings.namespace),
                &*address.to_string(),
            ),
            address,
            stats_prefix: stats_prefix(&stack, address.port()),
            stack,
            security: SecurityModel::Xfp,
            l7_depth: 0,
            http2_streams_max: None,
            binding: None,
        }
    }

    /// The pair that Emissary's manifests set up: 8080 for HTTP, 8443 for HTTPS.
    pub(crate) fn built_in(settings: &Settings) -> [Self; 2] {
        let listener = |name: &str, port, stack: &[Protocol], prefix: &str| Self {
            object: Ref::new(Kind::Listener, Arc::clone(&settings.namespace), name),
            address: SocketAddr::new(settings.bind_address, port),
            stats_prefix: prefix.into(),
            stack: stack.to_vec(),
            security: SecurityModel::Xfp,
            l7_depth: 0,
            http2_streams_max: None,
            binding: Some(Binding { namespace: None, labels: BTreeMap::new() }),
        };
        use Protocol::{Http, Tcp, Tls};
        [
            listener("default-http", 8080, &[Http, Tcp], "ingress_http"),
            listener("default-https", 8443, &[Tls, Http, Tcp], "ingress_https"),
        ]
    }
}

/// Resolves one Listener; `None` with problems where it is refused.
pub(crate) fn resolve(
    object: &Ref,
    listener: &crd::Listener,
    settings: &Settings,
    problems: &mut Problems,
) -> Option<Listener> {
    if listener.port == 0 {
        problems.out_of_bounds(object, "spec.port", 0, 1, 65535);
        return None;
    }
    let stack = stack(object, listener, problems)?;
    let binding = binding(object, listener, problems)?;
    let l7_depth = match listener.l7_depth.map(u32::try_from) {
        None => 0,
        Some(Ok(depth)) => depth,
        Some(Err(_)) => {
            let depth = listener.l7_depth.unwrap_or_default();
            problems.out_of_bounds(object, "spec.l7Depth", depth, 0, i64::from(u32::MAX));
            0
        }
    };
    let http2_streams_max = listener.http2_max_concurrent_streams.filter(|&streams| {
        let path = "spec.http2MaxConcurrentStreams";
        // Envoy's own bounds.
        let max = u32::MAX >> 1;
        let sane = (1..=max).contains(&streams);
        if !sane {
            problems.out_of_bounds(object, path, i64::from(streams), 1, i64::from(max));
        }
        sane
    });
    let stats_prefix = match listener.stats_prefix.as_deref().filter(|p| !p.is_empty()) {
        Some(prefix) => prefix.into(),
        None => stats_prefix(&stack, listener.port),
    };
    Some(Listener {
        object: object.clone(),
        address: SocketAddr::new(settings.bind_address, listener.port),
        stats_prefix,
        stack,
        security: match listener.security_model {
            crd::listener::SecurityModel::Insecure => SecurityModel::Insecure,
            crd::listener::SecurityModel::Secure => SecurityModel::Secure,
            crd::listener::SecurityModel::Xfp => SecurityModel::Xfp,
        },
        l7_depth,
        http2_streams_max,
        binding: Some(binding),
    })
}

fn stack(object: &Ref, listener: &crd::Listener, problems: &mut Problems) -> Option<Vec<Protocol>> {
    use Protocol::{Http, Proxy, Tcp, Tls, Udp};
    let written = listener.protocol_stack.as_ref().filter(|stack| !stack.is_empty());
    let stack: Vec<Protocol> = match (written, listener.protocol) {
        (None, None) => {
            problems.no_protocol(object);
            return None;
        }
        (Some(stack), protocol) => {
            if protocol.is_some() {
                problems.stack_beats_protocol(object);
            }
            let protocol = |p: &StackProtocol| match p {
                StackProtocol::Http => Http,
                StackProtocol::Proxy => Proxy,
                StackProtocol::Tcp => Tcp,
                StackProtocol::Tls => Tls,
                StackProtocol::Udp => Udp,
            };
            stack.iter().map(protocol).collect()
        }
        (None, Some(protocol)) => match protocol {
            ListenerProtocol::Http => vec![Http, Tcp],
            ListenerProtocol::HttpProxy => vec![Proxy, Http, Tcp],
            ListenerProtocol::Https => vec![Tls, Http, Tcp],
            // Emissary looks for TLS before the PROXY header, which never works.
            ListenerProtocol::HttpsProxy => vec![Proxy, Tls, Http, Tcp],
            ListenerProtocol::Tcp => vec![Tcp],
            ListenerProtocol::Tls => vec![Tls, Tcp],
            ListenerProtocol::Udp => vec![Udp],
        },
    };
    match stack.last() {
        Some(Tcp) => {}
        Some(Udp) if stack.contains(&Http) => {}
        Some(Udp) => {
            problems.udp_without_http(object);
            return None;
        }
        _ => {
            problems.stack_end(object);
            return None;
        }
    }
    let repeated = (1..stack.len()).any(|at| stack[..at].contains(&stack[at]));
    if repeated {
        problems.stack_repeats(object);
        return None;
    }
    Some(stack)
}

fn stats_prefix(stack: &[Protocol], port: u16) -> Arc<str> {
    let has = |protocol| stack.contains(&protocol);
    match (has(Protocol::Http), has(Protocol::Tls)) {
        (true, true) => "ingress_https".into(),
        (true, false) => "ingress_http".into(),
        (false, true) => format!("ingress_tls_{port}").into(),
        (false, false) if has(Protocol::Udp) => format!("ingress_udp_{port}").into(),
        (false, false) => format!("ingress_tcp_{port}").into(),
    }
}

fn binding(object: &Ref, listener: &crd::Listener, problems: &mut Problems) -> Option<Binding> {
    let (namespace, selector) = (&listener.host_binding.namespace, &listener.host_binding.selector);
    if namespace.is_none() && selector.is_none() {
        problems.empty_host_binding(object);
        return None;
    }
    let own = Some(Arc::clone(&object.namespace));
    let namespace = match namespace.as_ref().map(|n| n.from) {
        Some(None) => {
            problems.host_binding_without_from(object);
            return None;
        }
        Some(Some(NamespaceFrom::All)) => None,
        Some(Some(NamespaceFrom::Selector)) => {
            problems.host_binding_selector_is_self(object);
            own
        }
        Some(Some(NamespaceFrom::Own)) | None => own,
    };
    let labels = selector.as_ref().map(|s| s.match_labels.clone()).unwrap_or_default();
    Some(Binding { namespace, labels })
}

#[cfg(test)]
mod tests;
