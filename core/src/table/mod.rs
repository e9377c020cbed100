// SPDX-License-Identifier: Apache-2.0
//! What a worker executes: listeners → host → path → predicates → route, in Emissary's total
//! order. Immutable and shared read-only; everything that changes per request is the worker's own.
//!
//! A lookup costs the same at ten routes and at ten thousand: one hash per kind of domain finds
//! the virtual host ([`host`]), the same again the groups bound to the authority, a walk down a
//! radix tree those that the path allows ([`path`]). Their ranks are merged and the remaining
//! clauses tried in decision order ([`walk`], [`predicate`]), because precedence outranks length.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use crate::ir::{self, GuardScope};
use crate::name::{ClusterSlot, Generation, ListenerSlot, Ref, RouteSlot};
use crate::policy::redirect::Redirect;
use crate::sorted::Sorted;
use crate::wire::HeadView;

mod compile;
pub mod explain;
mod guard;
mod host;
mod manner;
#[cfg(any(test, feature = "oracle"))]
pub mod oracle;
mod path;
mod predicate;
#[cfg(any(test, feature = "oracle"))]
mod sample;
mod slot;
mod walk;

pub use compile::compile;
pub use manner::Manner;
pub use slot::Slots;

use host::DomainIndex;
use path::PathIndex;
use walk::{Admission, Verdict, Walk};

/// A compiled configuration.
#[derive(Debug)]
pub struct Table {
    pub generation: Generation,
    pub settings: Arc<ir::Settings>,
    /// In slot order; find one with [`Table::listener`].
    pub listeners: Vec<Listener>,
    /// By [`ClusterSlot`]; a hole where a slot is not in this table.
    pub clusters: Vec<Option<Arc<Cluster>>>,
    /// What they were compiled from.
    pub sources: Sorted<ir::Cluster>,
    /// By [`RouteSlot`]: which Mapping a route's counters belong to.
    pub routes: Arc<Vec<Option<Arc<Route>>>>,
}

impl Table {
    /// What a worker serves before its first table: nothing.
    pub fn empty() -> Self {
        Self {
            generation: Generation::default(),
            settings: Arc::default(),
            listeners: Vec::new(),
            clusters: Vec::new(),
            sources: Sorted::default(),
            routes: Arc::default(),
        }
    }

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
    /// Listener filters and codecs in order.
    pub stack: Vec<ir::Protocol>,
    pub chains: Chains,
    /// Where cleartext connections go that are not HTTP.
    pub tcp: Option<Arc<TcpRoute>>,
    pub security: ir::SecurityModel,
    pub l7_depth: u32,
    /// Streams that a client's HTTP/2 connection may have open at a time, where it is written.
    pub http2_streams_max: Option<u32>,
    pub guards: Vec<ir::Guard>,
    pub hosts: Hosts,
}

/// The virtual hosts of a listener, by domain.
#[derive(Debug)]
pub struct Hosts(DomainIndex<Arc<VirtualHost>>);

/// No hosts: everything is a 404.
impl Default for Hosts {
    fn default() -> Self {
        Self(DomainIndex::new(1))
    }
}

/// What becomes of TLS connections, by server name.
#[derive(Debug)]
pub struct Chains(DomainIndex<Arc<TlsChain>>);

impl Default for Chains {
    fn default() -> Self {
        Self(DomainIndex::new(1))
    }
}

/// What becomes of TLS connections for one server name.
#[derive(Debug)]
pub struct TlsChain {
    pub server_name: Arc<str>,
    pub object: Option<Ref>,
    /// `None`: handshakes are refused.
    pub termination: Option<Arc<crate::tls::Server>>,
    /// Where the decrypted bytes go; `None`: they are HTTP.
    pub tcp: Option<Arc<TcpRoute>>,
}

/// TCPMappings that share connections by weight.
#[derive(Debug)]
pub struct TcpRoute {
    pub members: Vec<TcpMember>,
}

#[derive(Debug)]
pub struct TcpMember {
    pub from: u32,
    pub to: u32,
    pub object: Ref,
    pub cluster: Arc<Cluster>,
    pub idle_timeout: Option<std::time::Duration>,
}

impl TcpRoute {
    /// The member that takes this roll (`0..100`); what weights leave over goes to the last.
    pub fn member(&self, roll: u32) -> &TcpMember {
        let found = self.members.iter().find(|m| (m.from..m.to).contains(&roll));
        found.unwrap_or_else(|| self.members.last().expect("a route has a member"))
    }
}

/// One domain of a listener.
#[derive(Debug)]
struct VirtualHost {
    source: Arc<ir::VirtualHost>,
    /// In decision order; a group's rank is its index.
    groups: Vec<Arc<Group>>,
    /// By the authority that groups ask for: all that cover a request's are searched.
    sections: Arc<DomainIndex<PathIndex>>,
}

/// Mappings with one match. One cache line with its counts, as a [`Route`] is: among thousands
/// whatever a request looks at comes from memory.
#[derive(Debug)]
struct Group {
    source: Arc<ir::Group>,
    /// Asks for nothing but a path and an authority that is not a regular expression.
    bare: bool,
    first: Option<Member>,
    more: Option<Box<More>>,
}

/// What few groups have.
#[derive(Debug)]
struct More {
    /// Members after the first.
    members: Vec<Member>,
    /// Of a regular expression on the path: see [`path::literals`].
    literals: path::Literals,
}

impl Group {
    fn members(&self) -> impl Iterator<Item = &Member> {
        self.first.iter().chain(self.more.iter().flat_map(|more| &more.members))
    }
}

#[derive(Debug)]
struct Member {
    from: u32,
    to: u32,
    route: Arc<Route>,
}

/// An upstream, with its stable slot.
#[derive(Debug)]
pub struct Cluster {
    pub slot: ClusterSlot,
    pub spec: Arc<ir::Cluster>,
}

/// What one Mapping does with its requests. One cache line with its counts: what it has in common
/// with others is theirs as well, and what only diagnostics ask for is elsewhere.
#[derive(Debug)]
pub struct Route {
    pub slot: RouteSlot,
    /// As [`ir::Route::always`].
    pub always: bool,
    /// As [`ir::Route::unguarded`].
    pub unguarded: bool,
    refused: bool,
    pub action: Action,
    manner: Arc<Manner>,
    about: Box<About>,
}

const COUNTS: usize = 2 * size_of::<usize>();
const _: () = assert!(COUNTS + size_of::<Group>() <= 64 && COUNTS + size_of::<Route>() <= 64);

/// Where a route comes from.
#[derive(Debug)]
struct About {
    label: Box<str>,
    spec: Arc<ir::Route>,
}

impl Route {
    /// `namespace/name`, for logs.
    pub fn label(&self) -> &str {
        &self.about.label
    }

    /// What it was resolved to.
    pub fn spec(&self) -> &ir::Route {
        &self.about.spec
    }

    /// Set where a guard of it cannot be enforced.
    fn refusal(&self) -> Option<&ir::Refusal> {
        if self.refused { self.spec().refusal.as_deref() } else { None }
    }
}

impl Deref for Route {
    type Target = Manner;

    fn deref(&self) -> &Manner {
        &self.manner
    }
}

#[derive(Debug)]
pub enum Action {
    Forward(Forward),
    Redirect(Arc<Redirect>),
}

#[derive(Debug)]
pub struct Forward {
    pub cluster: Arc<Cluster>,
    pub shadow: Option<Box<Shadow>>,
    manner: Arc<Manner>,
}

impl Deref for Forward {
    type Target = Manner;

    fn deref(&self) -> &Manner {
        &self.manner
    }
}

/// Who gets a copy of each request, and of how many.
#[derive(Debug)]
pub struct Shadow {
    pub object: Ref,
    pub cluster: Arc<Cluster>,
    pub percent: u32,
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
    /// Whether any TLS connection finds a chain.
    pub fn has_chains(&self) -> bool {
        self.chains.0.values().next().is_some()
    }

    /// All filter chains of TLS, in no order.
    pub fn chains(&self) -> impl Iterator<Item = &TlsChain> {
        self.chains.0.values().map(|chain| &**chain)
    }

    /// The chain for a ClientHello's server name (lower case); without one, that of `*`.
    pub fn chain(&self, server_name: Option<&str>) -> Option<&Arc<TlsChain>> {
        self.chains.0.covering(server_name.unwrap_or_default().as_bytes()).next()
    }

    /// Whether a request for this authority (lower case, perhaps with a port) is on a connection that
    /// was made for another Host: one whose TLS configuration is not its own Host's. Hosts that
    /// share one share connections. A client without a server name to ask for cannot do better, so
    /// it is told only where the Host requires client certificates.
    pub fn is_misdirected(&self, server_name: Option<&str>, authority: &[u8]) -> bool {
        let colon = authority.iter().rposition(|byte| *byte == b':');
        let port = colon.filter(|at| authority[at + 1..].iter().all(u8::is_ascii_digit));
        let host = &authority[..port.unwrap_or(authority.len())];
        if server_name.map(str::as_bytes) == Some(host) {
            return false;
        }
        let Some(wanted) = self.chains.0.covering(host).next() else { return false };
        let own = self.chain(server_name).filter(|chain| chain.tcp.is_none());
        let same = match (own.and_then(|own| own.termination.as_ref()), &wanted.termination) {
            (Some(own), Some(wanted)) => Arc::ptr_eq(own, wanted) || own == wanted,
            _ => false,
        };
        let asks = |server: &Arc<crate::tls::Server>| {
            server.spec.clients.as_ref().is_some_and(|clients| clients.required)
        };
        !same && (server_name.is_some() || wanted.termination.as_ref().is_some_and(asks))
    }

    /// Finds the first group in decision order that matches and whose weights take `roll`
    /// (`0..100`, drawn once per request), and what becomes of the request there.
    ///
    /// As Emissary's filter chain has it: IP rules come before everything; authentication comes
    /// before a 404, and neither redirects to https nor a Mapping's own redirect pass it.
    pub fn route(&self, request: &Request<'_>, roll: u32) -> Hit<'_> {
        if let Some(refusal) = guard::refusal(&self.guards, GuardScope::Everything, request) {
            return Hit::Refuse { route: None, refusal };
        }
        // Envoy: the most specific virtual host decides, also when no route of it matches.
        let host = self.hosts.0.covering(request.authority).next();
        let found = host.and_then(|host| {
            let admission = Admission::of(self, host, request);
            Walk::new(host, admission, request, Some(roll)).find_map(|(_, verdict)| match verdict {
                Verdict::Serves(_) | Verdict::ToHttps(_) => Some(verdict),
                Verdict::Unmet(_) | Verdict::NoShare | Verdict::Insecure => None,
            })
        });
        self.hit(request, host.map(|host| &**host), found)
    }

    /// What becomes of a request that is past IP rules.
    fn hit<'t>(
        &'t self,
        request: &Request<'_>,
        host: Option<&'t VirtualHost>,
        found: Option<Verdict<'t>>,
    ) -> Hit<'t> {
        let route = match found {
            Some(Verdict::Serves(route) | Verdict::ToHttps(route)) => Some(route),
            _ => None,
        };
        if let Some(refusal) = host.and_then(|host| host.source.refusal.as_deref())
            && !route.is_some_and(|route| route.always)
        {
            return Hit::Refuse { route, refusal };
        }
        let guarded = |scope| guard::refusal(&self.guards, scope, request);
        let Some(route) = route else {
            let refusal =
                guarded(GuardScope::NotRedirects).or_else(|| guarded(GuardScope::Unrouted));
            return match refusal {
                Some(refusal) => Hit::Refuse { route, refusal },
                None => Hit::NotFound,
            };
        };
        if let Some(Verdict::ToHttps(_)) = found {
            return Hit::ToHttps { route };
        }
        match &route.action {
            Action::Redirect(redirect) => Hit::Redirect { route, redirect },
            Action::Forward(forward) => {
                let refusal =
                    if route.unguarded { None } else { guarded(GuardScope::NotRedirects) };
                match refusal.or_else(|| route.refusal()) {
                    Some(refusal) => Hit::Refuse { route: Some(route), refusal },
                    None => Hit::Forward { route, forward },
                }
            }
        }
    }
}

/// Why an [`ir::Ir`] has no table. Resolving gives only such that have one; this is the check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("more {0} than there are slots")]
    Slots(&'static str),
    #[error("a route goes to the cluster {0:?}, which does not exist")]
    UnknownCluster(String),
    #[error("{0} listens twice")]
    DuplicateListener(String),
    #[error("the host {0} has too many groups of Mappings")]
    Groups(String),
}

#[cfg(test)]
mod tests;
