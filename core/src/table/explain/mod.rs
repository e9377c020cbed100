// SPDX-License-Identifier: Apache-2.0
//! Why a request goes where it goes: the candidates in decision order, the clause that rejected
//! each, the winner, what decided over the next one, and what is done to the request. Walks what
//! [`Listener::route`] walks, so that it cannot tell another story.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

use super::predicate::{Clause, Subject, parameter};
use super::walk::{Admission, Verdict, Walk};
use super::{Forward, Group, Hit, Listener, Request, Route, VirtualHost, guard};
use crate::ir::{
    AuthorityMatch, EmissaryRank, FieldMatch, GuardScope, InsecureAction, Matcher, PathMatch,
    ValueMatch,
};
use crate::name::Ref;
use crate::policy::balance::Caller;
use crate::policy::headers::HeaderEdits;
use crate::policy::redirect;
use crate::policy::rewrite::{self, HostRewrite};
use crate::policy::timeouts::Timeouts;

mod connection;
mod endpoint;

pub use connection::{Certificate, Chain, Connection, Handshake, Tunnel};
pub use endpoint::{Choice, Feeds};

/// Candidates that one explanation shows; the rest is counted.
const CANDIDATES_MAX: usize = 100;

/// What an explanation depends on besides the table and the request.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// The roll that weights are tried with.
    pub roll: Option<u32>,
    /// Unix time.
    pub now: i64,
    /// Set for a request over TLS: the server name that its connection asked for.
    pub tls: Option<Option<&'a str>>,
    /// Both ends of its connection.
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Its client.
    pub client: IpAddr,
    pub feeds: Feeds<'a>,
}

impl Circumstances<'_> {
    /// A request in cleartext from the machine itself, at no particular time, where no endpoint is
    /// known.
    pub fn bare(roll: Option<u32>) -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            roll,
            now: 0,
            tls: None,
            peer: nowhere,
            local: nowhere,
            client: nowhere.ip(),
            feeds: &|_| None,
        }
    }
}

/// The whole story of one request. Its `Display` is for terminals.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub listener: Ref,
    pub method: String,
    pub authority: String,
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    pub secure: bool,
    /// Of a request over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Handshake>,
    /// The roll that weights were tried with; without one the first member with a share stands
    /// for its group.
    pub roll: Option<u32>,
    /// `None`: no Host's name covers the authority.
    pub host: Option<HostChoice>,
    /// Groups whose path and authority the indexes found possible, in decision order.
    pub candidates: Vec<Candidate>,
    /// Candidates that are not shown.
    pub n_more: usize,
    /// Index of the one that takes the request.
    pub winner: Option<usize>,
    /// Why the winner goes before the next candidate that would have taken the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    pub outcome: Outcome,
}

/// The virtual host that decides.
#[derive(Clone, Debug, Serialize)]
pub struct HostChoice {
    pub domain: Arc<str>,
    pub object: Option<Ref>,
    pub why: String,
    /// Its action for insecure requests.
    pub insecure: InsecureAction,
    /// What that means for this request.
    pub admission: String,
    pub n_groups: usize,
}

/// One group of Mappings.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Place in decision order, from 1, among all candidates.
    pub place: usize,
    pub mappings: Vec<Share>,
    /// What it asks for, one clause each.
    pub clauses: Vec<String>,
    pub rank: EmissaryRank,
    /// Whether it would take the request if nothing went before it.
    pub takes: bool,
    /// Why, or why not.
    pub verdict: String,
}

/// A Mapping and its rolls, `[from, to)` of 0..100.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    pub mapping: Ref,
    pub from: u32,
    pub to: u32,
}

/// What is done to the request.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::large_enum_variant, reason = "one per explanation, printed and forgotten")]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Outcome {
    Forward {
        mapping: Ref,
        cluster: Arc<str>,
        /// Host that the upstream sees.
        host: String,
        /// Path and query that the upstream sees.
        target: String,
        timeouts: Timeouts,
        request_headers: HeaderEdits,
        response_headers: HeaderEdits,
        /// Protocols that the client may upgrade to.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        upgrades: Vec<Box<str>>,
        /// Who gets copies.
        #[serde(skip_serializing_if = "Option::is_none")]
        shadow: Option<Copies>,
        endpoint: Box<Choice>,
    },
    Redirect {
        mapping: Ref,
        status: u16,
        location: String,
    },
    /// 301.
    ToHttps {
        mapping: Ref,
        location: String,
    },
    /// 500: a guard cannot be enforced.
    Refuse {
        mapping: Option<Ref>,
        message: String,
    },
    NotFound,
    /// 421: the connection was made for another Host.
    Misdirected {
        reason: String,
    },
    /// There is no connection for the request to come on.
    NoConnection {
        reason: String,
    },
}

/// A shadow's part.
#[derive(Clone, Debug, Serialize)]
pub struct Copies {
    pub mapping: Ref,
    pub cluster: Arc<str>,
    /// Host that the shadow sees.
    pub host: String,
    pub percent: u32,
}

impl Listener {
    /// Explains what [`Listener::route`] does with the request at this roll, and what becomes of
    /// its connection before and of the request after.
    pub fn explain(&self, request: &Request<'_>, circumstances: &Circumstances<'_>) -> Explanation {
        let roll = circumstances.roll;
        let tls = circumstances
            .tls
            // A listener without certificates is reached through somebody who has some.
            .filter(|_| self.has_chains())
            .map(|server_name| self.explain_handshake(server_name, circumstances.now));
        let host = self.hosts.0.covering(request.authority).next().map(|host| &**host);
        let mut story = Story::default();
        if let Some(host) = host {
            story.tell(Walk::new(host, Admission::of(self, host, request), request, roll));
        }
        let hit = match guard::refusal(&self.guards, GuardScope::Everything, request) {
            Some(refusal) => Hit::Refuse { route: None, refusal },
            None => self.hit(request, host, story.found),
        };
        Explanation {
            listener: self.object.clone(),
            method: text(request.head.method()),
            authority: text(request.authority),
            path: text(request.path),
            query: request.query.map(text),
            secure: request.secure,
            tls: tls.clone(),
            roll,
            host: host.map(|host| choice(self, host, request)),
            n_more: story.n_seen - story.candidates.len(),
            candidates: story.candidates,
            winner: story.winner,
            decided_by: story.decided_by,
            outcome: match (tls.and_then(|tls| tls.refused), circumstances.tls) {
                (Some(reason), _) => Outcome::NoConnection { reason },
                (None, Some(server_name))
                    if self.is_misdirected(server_name, request.authority) =>
                {
                    let name = server_name.unwrap_or("no server name");
                    let reason = format!(
                        "its connection was made for {name}, whose TLS configuration is not that \
                         of the Host"
                    );
                    Outcome::Misdirected { reason }
                }
                _ => outcome(hit, request, circumstances),
            },
        }
    }
}

/// What the walk over the candidates gives.
#[derive(Default)]
struct Story<'t> {
    candidates: Vec<Candidate>,
    n_seen: usize,
    found: Option<Verdict<'t>>,
    winner: Option<usize>,
    decided_by: Option<String>,
}

impl<'t> Story<'t> {
    fn tell(&mut self, mut walk: Walk<'t, '_>) {
        let mut winner: Option<&Group> = None;
        while let Some((group, verdict)) = walk.next() {
            self.n_seen += 1;
            let takes = matches!(verdict, Verdict::Serves(_) | Verdict::ToHttps(_));
            let wins = takes && winner.is_none();
            let runs_up = takes && !wins && self.decided_by.is_none();
            if wins || runs_up || self.candidates.len() < CANDIDATES_MAX {
                let verdict = match verdict {
                    Verdict::Unmet(clause) => unmet(&group.source.matcher, clause, walk.subject()),
                    _ if takes && !wins => "would take it, but comes later".to_owned(),
                    Verdict::Serves(_) => "takes it".to_owned(),
                    Verdict::ToHttps(_) => "takes it; insecure, so it is redirected".to_owned(),
                    Verdict::Insecure => "insecure requests are rejected by the Host".to_owned(),
                    Verdict::NoShare => no_share(group, walk.roll()),
                };
                self.candidates.push(candidate(self.n_seen, group, takes, verdict));
            }
            if wins {
                winner = Some(group);
                self.found = Some(verdict);
                self.winner = Some(self.candidates.len() - 1);
            } else if let (true, Some(winner)) = (runs_up, winner) {
                self.decided_by = Some(decider(&winner.source.rank, &group.source.rank));
            }
        }
    }
}

fn candidate(place: usize, group: &Group, takes: bool, verdict: String) -> Candidate {
    let share = |member: &super::Member| Share {
        mapping: member.route.spec().object.clone(),
        from: member.from,
        to: member.to,
    };
    Candidate {
        place,
        mappings: group.members().map(share).collect(),
        clauses: clauses(&group.source.matcher),
        rank: (*group.source.rank).clone(),
        takes,
        verdict,
    }
}

fn choice(listener: &Listener, host: &VirtualHost, request: &Request<'_>) -> HostChoice {
    let domain = &host.source.domain;
    let why = if &**domain == "*" {
        "no more specific Host covers this authority"
    } else if domain.starts_with('*') {
        "no Host has exactly this name, and this is the longest that covers its end"
    } else if domain.ends_with('*') {
        "no Host has exactly this name or covers its end, and this covers most of its start"
    } else {
        "it has exactly this name"
    };
    let admission = match Admission::of(listener, host, request) {
        Admission::Route => "routed",
        Admission::ToHttps => "insecure: redirected to https where a Mapping matches",
        Admission::Reject => "insecure: rejected with a 404",
    };
    HostChoice {
        domain: Arc::clone(domain),
        object: host.source.host.clone(),
        why: why.to_owned(),
        insecure: host.source.insecure,
        admission: admission.to_owned(),
        n_groups: host.groups.len(),
    }
}

fn clauses(matcher: &Matcher) -> Vec<String> {
    let mut clauses = vec![path_clause(&matcher.path)];
    clauses.extend(matcher.authority.as_ref().map(authority_clause));
    clauses.extend(matcher.method.as_ref().map(|method| value_clause("method", method)));
    clauses.extend(matcher.headers.iter().map(|field| field_clause("header", field)));
    clauses.extend(matcher.query.iter().map(|field| field_clause("query parameter", field)));
    clauses
}

fn path_clause(matcher: &PathMatch) -> String {
    let insensitive = |sensitive: &bool| if *sensitive { "" } else { ", in any case" };
    match matcher {
        PathMatch::Prefix { text, case_sensitive } => {
            format!("path begins with {text:?}{}", insensitive(case_sensitive))
        }
        PathMatch::Exact { text, case_sensitive } => {
            format!("path is {text:?}{}", insensitive(case_sensitive))
        }
        PathMatch::Regex(pattern) => format!("path matches {pattern:?}"),
    }
}

fn authority_clause(matcher: &AuthorityMatch) -> String {
    match matcher {
        AuthorityMatch::Exact(text) => format!("host is {text:?}"),
        AuthorityMatch::Prefix(text) => format!("host begins with {text:?}"),
        AuthorityMatch::Suffix(text) => format!("host ends with {text:?}"),
        AuthorityMatch::Regex(pattern) => format!("host matches {pattern:?}"),
    }
}

fn field_clause(what: &str, field: &FieldMatch) -> String {
    value_clause(&format!("{what} {}", field.name), &field.value)
}

fn value_clause(what: &str, value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("{what} is {text:?}"),
        ValueMatch::Regex(pattern) => format!("{what} matches {pattern:?}"),
        ValueMatch::Present => format!("{what} is present"),
    }
}

/// The clause that does not hold, and what the request has instead.
fn unmet<'t>(matcher: &'t Matcher, clause: Clause, subject: &mut Subject<'t, '_>) -> String {
    let request = subject.request;
    let (asked, had) = match clause {
        Clause::Path => (path_clause(&matcher.path), Some(request.path)),
        Clause::Authority => (
            matcher.authority.as_ref().map_or_else(String::new, authority_clause),
            Some(request.authority),
        ),
        Clause::Method => {
            let method = matcher.method.as_ref();
            let asked = method.map_or_else(String::new, |method| value_clause("method", method));
            (asked, Some(request.head.method()))
        }
        Clause::Header(at) => {
            let field = &matcher.headers[at];
            (field_clause("header", field), subject.header(&field.name))
        }
        Clause::Query(at) => {
            let field = &matcher.query[at];
            (field_clause("query parameter", field), parameter(request.query, &field.name))
        }
    };
    match had {
        None => format!("{asked}: absent"),
        Some(had) => format!("{asked}: got {:?}", text(had)),
    }
}

fn no_share(group: &Group, roll: Option<u32>) -> String {
    let windows: Vec<_> =
        group.members().map(|member| format!("{}..{}", member.from, member.to)).collect();
    match roll {
        Some(roll) => format!("weights: roll {roll} is outside {}", windows.join(", ")),
        None => "weights: no member has a share".to_owned(),
    }
}

/// The first of Emissary's keys that tells two groups apart.
fn decider(winner: &EmissaryRank, other: &EmissaryRank) -> String {
    let (a, b) = (winner, other);
    if a.precedence != b.precedence {
        format!("precedence {} over {}", a.precedence, b.precedence)
    } else if a.path_len != b.path_len {
        format!("length of the path, {} over {}", a.path_len, b.path_len)
    } else if a.header_len != b.header_len {
        let (a, b) = (a.header_len, b.header_len);
        format!("length of the constraints on headers, host and method, {a} over {b}")
    } else if a.query_len != b.query_len {
        format!("length of the constraints on the query, {} over {}", a.query_len, b.query_len)
    } else if a.path != b.path {
        format!("text of the path, {:?} over {:?}", a.path, b.path)
    } else if a.method != b.method {
        format!("text of the method, {:?} over {:?}", a.method, b.method)
    } else if a.header_keys != b.header_keys {
        format!("text of the headers, {:?} over {:?}", a.header_keys, b.header_keys)
    } else if a.query_keys != b.query_keys {
        format!("text of the query, {:?} over {:?}", a.query_keys, b.query_keys)
    } else {
        "the order of loading alone: all keys are equal".to_owned()
    }
}

fn outcome(hit: Hit<'_>, request: &Request<'_>, circumstances: &Circumstances<'_>) -> Outcome {
    let mapping = |route: &Arc<Route>| route.spec().object.clone();
    let mut out = Vec::new();
    let with_query = |out: &mut Vec<u8>| {
        if let Some(query) = request.query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    };
    match hit {
        Hit::NotFound => Outcome::NotFound,
        Hit::Refuse { route, refusal } => {
            Outcome::Refuse { mapping: route.map(mapping), message: refusal.message.to_string() }
        }
        Hit::ToHttps { route } => {
            let mut target = request.path.to_vec();
            with_query(&mut target);
            redirect::to_https(request.authority, &target, &mut out);
            Outcome::ToHttps { mapping: mapping(route), location: text(&out) }
        }
        Hit::Redirect { route, redirect } => {
            let Request { secure, authority, path, query, .. } = *request;
            redirect.location(secure, authority, path, query, &mut out);
            let (status, location) = (redirect.status, text(&out));
            Outcome::Redirect { mapping: mapping(route), status, location }
        }
        Hit::Forward { route, forward } => {
            if !forward.path.apply(request.path, &mut out) {
                out.extend_from_slice(request.path);
            }
            with_query(&mut out);
            let host = match &forward.host {
                HostRewrite::Keep => text(request.authority),
                HostRewrite::Literal(host) => host.to_string(),
                HostRewrite::Auto => forward.cluster.spec.host.to_string(),
            };
            let Circumstances { peer, local, client, feeds, .. } = *circumstances;
            let caller = Caller { head: request.head, client, peer, local };
            let key = forward.hash.as_deref().map(|key| (key, &caller));
            Outcome::Forward {
                mapping: mapping(route),
                cluster: Arc::clone(&forward.cluster.spec.name),
                upgrades: forward.upgrades.clone(),
                shadow: copies(forward, &host),
                endpoint: Box::new(Choice::of(&forward.cluster, key, feeds)),
                host,
                target: text(&out),
                timeouts: forward.timeouts,
                request_headers: route.request_headers.clone(),
                response_headers: route.response_headers.clone(),
            }
        }
    }
}

fn copies(forward: &Forward, host: &str) -> Option<Copies> {
    let shadow = forward.shadow.as_ref()?;
    let mut of_copy = Vec::new();
    rewrite::shadow_host(host.as_bytes(), &mut of_copy);
    Some(Copies {
        mapping: shadow.object.clone(),
        cluster: Arc::clone(&shadow.cluster.spec.name),
        host: text(&of_copy),
        percent: shadow.percent,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{} {scheme}://{}{}", self.method, self.authority, self.path)?;
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        writeln!(f, " on {}", self.listener)?;
        if let Some(tls) = &self.tls {
            writeln!(f, "{tls}")?;
        }
        match &self.host {
            None => writeln!(f, "host: none covers {:?}", self.authority)?,
            Some(host) => {
                write!(f, "host: {}", host.domain)?;
                if let Some(object) = &host.object {
                    write!(f, " ({object})")?;
                }
                writeln!(f, ": {}; {}", host.why, host.admission)?;
                if self.candidates.is_empty() {
                    writeln!(f, "none of its {} groups has this path and host", host.n_groups)?;
                }
            }
        }
        for (at, candidate) in self.candidates.iter().enumerate() {
            let arrow = if self.winner == Some(at) { "->" } else { "  " };
            write!(f, "{arrow} {:>3}. ", candidate.place)?;
            for (n, share) in candidate.mappings.iter().enumerate() {
                let comma = if n > 0 { ", " } else { "" };
                write!(f, "{comma}{}", share.mapping)?;
                if (share.from, share.to) != (0, 100) {
                    write!(f, " (rolls {}..{})", share.from, share.to)?;
                }
            }
            writeln!(f, ": {}", candidate.clauses.join("; "))?;
            writeln!(f, "        {}", candidate.verdict)?;
        }
        if self.n_more > 0 {
            writeln!(f, "   and {} more", self.n_more)?;
        }
        if let Some(decided_by) = &self.decided_by {
            writeln!(f, "decided by: {decided_by}")?;
        }
        self.outcome.fmt(f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(f, "404: no route"),
            Self::Misdirected { reason } => write!(f, "421: {reason}"),
            Self::NoConnection { reason } => write!(f, "no connection: {reason}"),
            Self::Refuse { mapping, message } => {
                write!(f, "500: {message}")?;
                mapping.as_ref().map_or(Ok(()), |mapping| write!(f, " (would be for {mapping})"))
            }
            Self::ToHttps { mapping, location } => write!(f, "301 to {location} ({mapping})"),
            Self::Redirect { mapping, status, location } => {
                write!(f, "{status} to {location} by {mapping}")
            }
            Self::Forward {
                mapping,
                cluster,
                host,
                target,
                timeouts,
                request_headers,
                response_headers,
                upgrades,
                shadow,
                endpoint,
            } => {
                writeln!(f, "forwarded by {mapping} to {cluster}")?;
                writeln!(f, "  target {target}, host {host}")?;
                let ms = |time: Option<std::time::Duration>| {
                    time.map_or_else(
                        || "none".to_owned(),
                        |time| format!("{} ms", time.as_millis()),
                    )
                };
                write!(f, "  time-outs: {} whole", ms(timeouts.request))?;
                write!(f, ", {} idle", ms(timeouts.idle))?;
                for (what, edits) in [("request", request_headers), ("response", response_headers)]
                {
                    for name in &edits.drop {
                        write!(f, "\n  {what} header {name} removed")?;
                    }
                    for add in &edits.add {
                        write!(f, "\n  {what} header added: {}: {}", add.name, add.value.as_str())?;
                    }
                }
                if !upgrades.is_empty() {
                    write!(f, "\n  may upgrade to {}", upgrades.join(", "))?;
                }
                if let Some(Copies { mapping, cluster, host, percent }) = shadow {
                    write!(f, "\n  {percent} % copied by {mapping} to {cluster}, host {host}")?;
                }
                write!(f, "\n{endpoint}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
