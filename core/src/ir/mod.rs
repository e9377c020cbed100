// SPDX-License-Identifier: Apache-2.0
//! What the resources mean: validated, defaulted, references resolved. Plain data, comparable and
//! serializable; golden tests read it.
//!
//! Invariants: every reference inside an [`Ir`] exists in it; virtual hosts of a listener have
//! distinct domains; groups of a virtual host are in decision order, first match wins.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::name::Ref;
use crate::policy::balance::{Balancer, HashKey};
use crate::policy::headers::HeaderEdits;
use crate::policy::pattern::Pattern;
use crate::policy::redirect::Redirect;
use crate::policy::rewrite::{HostRewrite, PathRewrite};
use crate::policy::timeouts::{Timeouts, ms};
use crate::sorted::{Named, Sorted};
use crate::tls;

pub mod settings;

pub use settings::Settings;

impl Named for Cluster {
    type Name = str;

    fn name(&self) -> &str {
        &self.name
    }
}

/// Everything that one snapshot means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ir {
    pub settings: Arc<Settings>,
    pub listeners: Vec<Listener>,
    /// By name, which is unique per way of reaching an upstream.
    pub clusters: Sorted<Cluster>,
    /// Requests that a guard which cannot be enforced would have guarded, on every listener, in
    /// order: per [`GuardScope`] the first whose globs cover the request decides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard>,
}

impl Ir {
    /// Groups of Mappings with the domain of the virtual host that has them, each pair once over
    /// all listeners.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Group>)> {
        let mut seen = HashSet::new();
        let hosts = self.listeners.iter().flat_map(|listener| &listener.virtual_hosts);
        hosts
            .flat_map(|host| host.groups.iter().map(|group| (&host.domain, group)))
            .filter(move |(domain, group)| seen.insert((Arc::as_ptr(group), *domain)))
    }
}

/// One listening address and what it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    pub object: Ref,
    pub address: SocketAddr,
    pub stats_prefix: Arc<str>,
    /// Listener filters and codecs in order, as in `protocolStack`.
    pub stack: Vec<Protocol>,
    pub security: SecurityModel,
    /// Trusted L7 proxies in front.
    pub l7_depth: u32,
    /// Streams that a client's HTTP/2 connection may have open at a time, where it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2_streams_max: Option<u32>,
    /// What becomes of TLS connections by their server name, most specific first; none where the
    /// stack has no TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tls: Vec<Arc<TlsChain>>,
    /// Where cleartext connections go that are not HTTP: a TCPMapping without `host` takes the
    /// whole port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Arc<TcpRoute>>,
    /// Most specific domain first.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
}

impl Listener {
    /// What TCPMappings take of its connections.
    pub fn tcp_routes(&self) -> impl Iterator<Item = &Arc<TcpRoute>> {
        let of_names = self.tls.iter().filter_map(|chain| chain.tcp.as_ref());
        self.tcp.iter().chain(of_names)
    }
}

/// What becomes of TLS connections for one server name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsChain {
    /// `foo.com`, `*.foo.com`, `foo.*`, `*` (also for clients that send none); lower case, no port.
    pub server_name: Arc<str>,
    /// The Host or TCPMapping that it comes from; `None` for the fallback certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Ref>,
    /// `None` where there is no usable certificate: handshakes for the name are refused, and no
    /// wider name takes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination: Option<Arc<tls::Server>>,
    /// Where the decrypted bytes go; `None`: they are HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Arc<TcpRoute>>,
}

/// TCPMappings of one address, port and host: they share its connections by weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpRoute {
    /// At least one; as in a [`Group`], but what the weights leave over goes to the last.
    pub members: Vec<TcpMember>,
}

/// One TCPMapping's share: rolls in `[from, to)` of 0..100.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpMember {
    pub from: u32,
    pub to: u32,
    pub object: Ref,
    /// Name in [`Ir::clusters`].
    pub cluster: Arc<str>,
    /// No bytes either way for this long end the tunnel.
    #[serde(serialize_with = "ms")]
    pub idle_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Http,
    Proxy,
    Tls,
    Tcp,
    Udp,
}

/// What makes a request secure. Emissary: `securityModel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SecurityModel {
    /// `X-Forwarded-Proto: https` after trusted hops.
    Xfp,
    /// Everything is secure.
    Secure,
    /// Nothing is.
    Insecure,
}

/// What an insecure request gets. Emissary: `requestPolicy.insecure.action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum InsecureAction {
    /// 301 to https, same host and path, where a route exists; else 404.
    #[default]
    Redirect,
    Route,
    /// 404, as Emissary does.
    Reject,
}

/// One domain of a listener. Emissary builds one per Host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtualHost {
    /// `foo.com`, `*.foo.com`, `foo.*`, `*`; lower case; may carry a port.
    pub domain: Arc<str>,
    /// The Host it comes from; `None` for the default host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Ref>,
    pub insecure: InsecureAction,
    /// Set where a guard of the whole host (client certificates, CRL) cannot be enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Arc<Refusal>>,
    pub groups: Vec<Arc<Group>>,
}

/// Mappings with one match: they share its requests by weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub matcher: Arc<Matcher>,
    pub rank: Arc<EmissaryRank>,
    pub members: Vec<Member>,
}

/// One Mapping's share of its group: rolls in `[from, to)` of 0..100. The last member of a group
/// that shares out everything ends at 100; where the sum is less, the rest falls through to the
/// next matching group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    pub from: u32,
    pub to: u32,
    pub route: Arc<Route>,
}

/// When a group's requests are its own; all clauses hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matcher {
    pub path: PathMatch,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityMatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<ValueMatch>,
    /// Lower-case names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<FieldMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<FieldMatch>,
}

/// Matches the normalised path, without its query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// A string prefix, not segment-wise.
    Prefix {
        text: Box<str>,
        case_sensitive: bool,
    },
    Exact {
        text: Box<str>,
        case_sensitive: bool,
    },
    /// RE2 full match.
    Regex(Pattern),
}

/// Matches the authority as the client sent it (lower case, with its port if it had one).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityMatch {
    Exact(Box<str>),
    /// `foo.*`: the text before the star.
    Prefix(Box<str>),
    /// `*.foo.com`: the text after the star.
    Suffix(Box<str>),
    Regex(Pattern),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldMatch {
    pub name: Box<str>,
    pub value: ValueMatch,
}

/// Matches a header's value (several lines joined by commas, as Envoy does), a query parameter's
/// first value, or the method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueMatch {
    Exact(Box<str>),
    Regex(Pattern),
    Present,
}

/// Emissary's order of routes: compare greater-first, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EmissaryRank {
    pub precedence: i64,
    /// Length of the path text as written; a regex counts its pattern.
    pub path_len: usize,
    /// Σ over header matchers, authority and method included: name + value (or `*`), +1 if regex.
    pub header_len: usize,
    pub query_len: usize,
    pub path: Box<str>,
    pub method: Box<str>,
    /// `name-value`, in order.
    pub header_keys: Vec<Box<str>>,
    pub query_keys: Vec<Box<str>>,
}

/// What one Mapping does with a request that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The Mapping (or Ingress) that it comes from.
    pub object: Ref,
    pub action: Action,
    /// Guards: set where one of this route's cannot be enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Arc<Refusal>>,
    /// Always routed, never redirected to https or rejected: ACME challenges and our own probes.
    /// Guards hold for them as for any other route, except that probes carry
    /// [`Route::unguarded`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// Not covered by guards of scope [`GuardScope::NotRedirects`]: our own probes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unguarded: bool,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Forward(Arc<Forward>),
    Redirect(Arc<Redirect>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// Name in [`Ir::clusters`].
    pub cluster: Arc<str>,
    pub path: PathRewrite,
    pub host: HostRewrite,
    pub timeouts: Timeouts,
    /// Protocols that a client may upgrade to, lower case. Emissary: `allow_upgrade`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub upgrades: Vec<Box<str>>,
    /// What a hashing balancer goes by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<Box<HashKey>>,
    /// Who gets a copy of each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Box<Shadow>>,
}

/// A Mapping with `shadow: true`: its cluster gets copies, its answers are thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shadow {
    /// The Mapping.
    pub object: Ref,
    /// Name in [`Ir::clusters`].
    pub cluster: Arc<str>,
    /// Share of requests that are copied, in percent.
    pub percent: u32,
}

/// Why requests are refused with Emissary's 500 JSON: the text of its `message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub message: Box<str>,
}

/// A guard of requests by host and path that cannot be enforced (IP rules, external auth, Filter
/// policies).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// Glob over the host without port; `*` only first or last.
    pub host: Box<str>,
    /// Glob over the path, `*` anywhere.
    pub path: Box<str>,
    pub scope: GuardScope,
    /// `None` lets the request through and ends the search in this scope: a FilterPolicy rule
    /// without filters, which shields what it covers from the rules behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Arc<Refusal>>,
}

/// Which of the requests that a guard's globs cover it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardScope {
    /// All, redirects, probes and 404s included (IP rules).
    Everything,
    /// Not redirects (Filters); 404s included, and routes unless [`Route::unguarded`].
    NotRedirects,
    /// Requests that no route takes (external auth before a 404); routes carry their own.
    Unrouted,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub name: Arc<str>,
    /// `envoy_cluster_name` in metrics.
    pub stats_name: Arc<str>,
    pub source: EndpointSource,
    /// What `auto_host_rewrite` writes, and the Host of requests that we make ourselves.
    pub host: Arc<str>,
    pub transport: Transport,
    #[serde(skip_serializing_if = "UpstreamProtocol::is_default")]
    pub protocol: UpstreamProtocol,
    #[serde(skip_serializing_if = "Balancer::is_default")]
    pub balancer: Balancer,
    #[serde(serialize_with = "ms")]
    pub connect_timeout: Option<Duration>,
    #[serde(serialize_with = "ms", skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    #[serde(serialize_with = "ms", skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointSource {
    /// Addresses as written.
    Static(Vec<SocketAddr>),
    /// Names by DNS, with the port to connect to.
    Dns {
        name: Arc<str>,
        port: u16,
        ipv4: bool,
        ipv6: bool,
        respect_ttl: bool,
        /// The first address of an answer only. Emissary: `logical_dns`.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        logical: bool,
    },
    /// EndpointSlices or Endpoints of a Service: ready addresses with their port, sorted.
    Service {
        namespace: Arc<str>,
        name: Arc<str>,
        endpoints: Vec<SocketAddr>,
        /// Those of them in the gateway's own zone, where it has one.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        near: Vec<SocketAddr>,
    },
}

/// What carries the bytes to and from an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Cleartext,
    /// TLS origination; without a configuration (its context cannot be used) requests get 503 `UF`
    /// rather than cleartext.
    Tls(Option<Arc<tls::Client>>),
}

/// What is spoken with an upstream, over either transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    /// `grpc: true`, with prior knowledge (RFC 9113 §3.3).
    Http2,
    /// Either, as each upstream chooses by ALPN (RFC 7301).
    Negotiated,
}

impl UpstreamProtocol {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// TCP keep-alive of upstream connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Keepalive {
    pub probes: Option<u32>,
    pub idle_s: Option<u32>,
    pub interval_s: Option<u32>,
}
