// SPDX-License-Identifier: Apache-2.0
//! The data plane without the sync side: one listener, one route, fixed back ends. For profiles
//! and experiments.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway_core::feed::{Endpoint, Feed};
use ringway_core::ir;
use ringway_core::link::{Bind, Command, Fleet};
use ringway_core::name::{Generation, Kind, Ref};
use ringway_core::policy::headers::HeaderEdits;
use ringway_core::policy::rewrite::{HostRewrite, PathRewrite};
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::table::{Slots, compile};

use ringway_proxy::fleet::{Options, Workers};
use ringway_proxy::{IoBackend, LogForm};

/// One listener, one `*` host, prefix `/` to the given back ends.
fn start(backend: IoBackend, endpoints: &[SocketAddr]) -> (Workers, SocketAddr) {
    let options = Options {
        workers: 1,
        io_backend: backend,
        pin: false,
        access_log: if std::env::var("LOG").is_ok() { LogForm::Text } else { LogForm::Off },
        helpful_404: false,
    };
    let workers = Workers::start(&options).unwrap();
    let address: SocketAddr = std::env::args().nth(1).unwrap().parse().unwrap();
    let cluster: Arc<str> = "backend".into();
    let route = ir::Route {
        object: Ref::new(Kind::Mapping, "default", "all"),
        action: ir::Action::Forward(ir::Forward {
            cluster: cluster.clone(),
            path: PathRewrite::Keep,
            host: HostRewrite::Keep,
            timeouts: Timeouts {
                request: Some(Duration::from_secs(3)),
                idle: Some(Duration::from_secs(300)),
            },
        }),
        refusal: None,
        always: false,
        unguarded: false,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let group = ir::Group {
        matcher: ir::Matcher {
            path: ir::PathMatch::Prefix { text: "/".into(), case_sensitive: true },
            authority: None,
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        },
        rank: ir::EmissaryRank::default(),
        members: vec![ir::Member { from: 0, to: 100, route: Arc::new(route) }],
    };
    let host = ir::VirtualHost {
        domain: "*".into(),
        host: None,
        insecure: ir::InsecureAction::Route,
        refusal: None,
        groups: vec![Arc::new(group)],
    };
    let ir = ir::Ir {
        settings: Arc::default(),
        listeners: vec![ir::Listener {
            object: Ref::new(Kind::Listener, "default", "http"),
            address,
            stats_prefix: "ingress_http".into(),
            stack: vec![ir::Protocol::Http, ir::Protocol::Tcp],
            security: ir::SecurityModel::Xfp,
            l7_depth: 0,
            virtual_hosts: vec![Arc::new(host)],
        }],
        clusters: BTreeMap::from([(
            cluster.clone(),
            Arc::new(ir::Cluster {
                name: cluster.clone(),
                stats_name: cluster,
                source: ir::EndpointSource::Static(endpoints.to_vec()),
                host: "backend".into(),
                transport: ir::Transport::Cleartext,
                connect_timeout: None,
                idle_timeout: None,
                max_lifetime: None,
                keepalive: None,
            }),
        )]),
        guards: Vec::new(),
    };
    let mut slots = Slots::new();
    let table = Arc::new(compile(&ir, Generation(1), &mut slots, None).unwrap());
    let slot = table.listeners[0].slot;
    let endpoints: Vec<_> = endpoints.iter().map(|&address| Endpoint { address }).collect();
    let cluster = table.clusters.iter().flatten().next().unwrap().slot;
    let feed = Arc::new(Feed { cluster, version: 1, endpoints: endpoints.into() });
    assert!(workers.send(0, Command::Feed(feed)));
    assert!(workers.send(0, Command::Table(table)));
    workers.ack(Duration::from_secs(5)).expect("the worker takes its table");
    for bound in workers.listen(&[Bind { listener: slot, address }]) {
        bound.unwrap();
    }
    (workers, address)
}


fn main() {
    let backend: SocketAddr = std::env::args().nth(2).unwrap().parse().unwrap();
    let io = if std::env::var("EPOLL").is_ok() { IoBackend::Epoll } else { IoBackend::Auto };
    let (w, _) = start(io, &[backend]);
    eprintln!("{}", w.io_backend());
    loop { std::thread::sleep(Duration::from_secs(1000)); }
}
