// SPDX-License-Identifier: Apache-2.0
//! Small tables and requests for tests and the oracle's comparison.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Request;
use crate::ir::{self, Ir};
use crate::name::{Kind, Ref};
use crate::policy::headers::HeaderEdits;
use crate::policy::rewrite::{HostRewrite, PathRewrite};
use crate::policy::timeouts::Timeouts;
use crate::wire::{Field, Head, HeadView, Known, Span};

/// An upstream of this name, without endpoints.
pub(super) fn cluster(name: &str) -> ir::Cluster {
    ir::Cluster {
        name: name.into(),
        stats_name: name.into(),
        source: ir::EndpointSource::Service {
            namespace: "default".into(),
            name: name.into(),
            endpoints: Vec::new(),
            near: Vec::new(),
        },
        host: name.into(),
        transport: ir::Transport::Cleartext,
        protocol: Default::default(),
        balancer: Default::default(),
        connect_timeout: None,
        idle_timeout: None,
        max_lifetime: None,
        keepalive: None,
    }
}

/// One listener with these hosts, and one cluster, `c`.
pub(super) fn ir(security: ir::SecurityModel, hosts: Vec<ir::VirtualHost>) -> Ir {
    let mut ir = Ir::default();
    ir.clusters.insert(Arc::new(cluster("c")));
    ir.listeners.push(ir::Listener {
        object: Ref::new(Kind::Listener, "default", "l"),
        address: SocketAddr::from(([127, 0, 0, 1], 8080)),
        stats_prefix: "ingress_http".into(),
        stack: vec![ir::Protocol::Http, ir::Protocol::Tcp],
        security,
        l7_depth: 0,
        http2_streams_max: None,
        tls: Vec::new(),
        tcp: None,
        virtual_hosts: hosts.into_iter().map(Arc::new).collect(),
    });
    ir
}

/// What a Mapping of this name does that forwards to `c` and changes nothing.
pub(super) fn route(name: &str) -> ir::Route {
    ir::Route {
        object: Ref::new(Kind::Mapping, "default", name),
        action: ir::Action::Forward(Arc::new(ir::Forward {
            cluster: "c".into(),
            path: PathRewrite::Keep,
            host: HostRewrite::Keep,
            timeouts: Timeouts { request: None, idle: None },
            upgrades: Vec::new(),
            hash: None,
            shadow: None,
        })),
        refusal: None,
        always: false,
        unguarded: false,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    }
}

/// A request as routing sees it, with the bytes that it is made of.
pub(super) struct Sent {
    head: Head,
    block: Vec<u8>,
    authority: Span,
    path: Span,
    query: Option<Span>,
    secure: bool,
}

impl Sent {
    pub(super) fn new(
        method: &str,
        authority: &str,
        path: &str,
        query: Option<&str>,
        headers: &[(&str, &str)],
        secure: bool,
    ) -> Self {
        let mut head = Head::default();
        let mut block = Vec::new();
        let mut put = |text: &str| {
            let start = block.len();
            block.extend_from_slice(text.as_bytes());
            Span::new(start, block.len())
        };
        head.method = put(method);
        let authority = put(authority);
        let path = put(path);
        head.target = path;
        let query = query.map(&mut put);
        for (name, value) in headers {
            let known = Known::of(name.as_bytes());
            head.fields.push(Field { name: put(name), value: put(value), known });
        }
        Self { head, block, authority, path, query, secure }
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request {
            head: HeadView::new(&self.head, &self.block),
            authority: self.authority.of(&self.block),
            path: self.path.of(&self.block),
            query: self.query.map(|query| query.of(&self.block)),
            secure: self.secure,
        }
    }
}
