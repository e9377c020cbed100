// SPDX-License-Identifier: Apache-2.0
//! Manifests and requests out of arbitrary bytes, and the comparison of the oracle with the table:
//! cold, and after a change that reuses what the table before it had.
//!
//! Everything is drawn from small pools, so that matches, ties and near misses are frequent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Decision, Host, Insecure, Manifests, Mapping, Oracle, PathKind, Request, Security, Want,
};
use crate::ir::{
    self, AuthorityMatch, EmissaryRank, FieldMatch, InsecureAction, Ir, PathMatch, SecurityModel,
    ValueMatch,
};
use crate::name::{Generation, Ref};
use crate::policy::pattern::Pattern;
use crate::policy::redirect::{Redirect, RedirectPath};
use crate::table::explain::{Circumstances, Outcome};
use crate::table::sample::{self, Sent};
use crate::table::{self, Hit, Slots, compile};

const HOSTS: &[&str] =
    &["*", "a.com", "*.a.com", "*a.com", "a.*", "a.c*", "b.a.com", "*.b.a.com", "a.com:80"];
const AUTHORITIES: &[&str] =
    &["a.com", "b.a.com", "c.b.a.com", "a.org", "a.com:80", "ba.com", ".a.com", "a.", "", "b.com"];
const HOST_REGEXES: &[&str] = &[".*a.com", "(a|b)[.]com", "a.*|b.a.com", "[^:]+", "b"];
const PREFIXES: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "/A",
    "/A/b",
    "/a/b/c",
    "/b",
    "/abc",
    "",
    "/.well-known/acme-challenge/",
    "/aB/",
];
const PATH_REGEXES: &[&str] = &[
    "/a.*",
    "/(a|b)/.*",
    "/[ab]",
    ".*",
    "/a/b?",
    "(?i)/a/.*",
    "/a|/b",
    "/a/(b|bc|)",
    ".*b",
    "/.+",
    "(?i:/A)b*",
    "/a{1,3}",
    "^/a",
    "/a/b$",
    "[[:alpha:]/]*",
];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "/A",
    "/A/B",
    "/a/b/c",
    "/a/bc",
    "/b",
    "/b/x",
    "/abc",
    "/aa",
    "/aB/c",
    "/.well-known/acme-challenge/x",
    "/c",
    "*",
    "",
];
const NAMES: &[&str] = &["a", "ab", "x-forwarded-proto", "user-agent", "x-y"];
const SENT_NAMES: &[&str] = &["a", "A", "aB", "X-Forwarded-Proto", "User-Agent", "x-y", "X-Z"];
const VALUES: &[&str] = &["1", "2", "1,2", "", "https", "12"];
const VALUE_REGEXES: &[&str] = &["[12]", "1.*", ".*", "http|https", "1(,2)?"];
const METHODS: &[&str] = &["GET", "POST", "get"];
const METHOD_REGEXES: &[&str] = &["GET|PUT", "P.*", ".*"];
const QUERIES: &[&str] =
    &["a=1", "a", "a=2&a=1", "ab=1&x-y=2", "b&a=12", "a=%31", "&&a=1=2", "A=1"];

/// Compares table and oracle on what the bytes describe; panics where they disagree. Gives the
/// number of requests that were compared.
pub fn fuzz(data: &[u8]) -> usize {
    let mut bytes = Bytes(data);
    let before = manifests(&mut bytes);
    let mut after = before.clone();
    change(&mut after, &mut bytes);

    let mut slots = Slots::new();
    let old_ir = lower(&before);
    let old = compile(&old_ir, Generation(1), &mut slots, None).expect("slots suffice");
    let mut new_ir = lower(&after);
    share(&mut new_ir, &old_ir);
    let new = compile(&new_ir, Generation(2), &mut slots, Some(&old)).expect("slots suffice");
    let (old_oracle, new_oracle) = (Oracle::new(&before), Oracle::new(&after));

    let mut compared = 0;
    while !bytes.0.is_empty() {
        let request = request(&mut bytes);
        for (manifests, oracle, table) in
            [(&before, &old_oracle, &old), (&after, &new_oracle, &new)]
        {
            let expected = oracle.decide(&request);
            let actual = ask(table, &request);
            assert_eq!(actual, expected, "{request:#?}\n{manifests:#?}");
            compared += 1;
        }
    }
    compared
}

/// Reads choices; zero when there are no more bytes.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 1
    }

    fn of<T: Copy>(&mut self, pool: &[T]) -> T {
        pool[self.below(pool.len())]
    }
}

fn manifests(bytes: &mut Bytes<'_>) -> Manifests {
    let security = bytes.of(&[Security::Xfp, Security::Xfp, Security::Secure, Security::Insecure]);
    let mut hosts: BTreeMap<&str, Insecure> = BTreeMap::new();
    for _ in 0..=bytes.below(4) {
        let action = bytes.of(&[Insecure::Route, Insecure::Redirect, Insecure::Reject]);
        hosts.insert(bytes.of(HOSTS), action);
    }
    let host =
        |(hostname, insecure): (&str, Insecure)| Host { hostname: hostname.into(), insecure };
    let hosts = hosts.into_iter().map(host).collect();
    // Few Mappings are scanned, many are indexed.
    let most = if bytes.one_in(3) { 4 } else { 24 };
    let n_mappings = 1 + bytes.below(most);
    let mut mappings: Vec<Mapping> = Vec::new();
    for at in 0..n_mappings {
        let mut next = mapping(bytes, at);
        // Every third has the match of an earlier one: they form a group.
        if bytes.one_in(3) && !mappings.is_empty() {
            let first = mappings[bytes.below(mappings.len())].clone();
            next = Mapping { name: next.name, weight: next.weight, ..first };
        }
        mappings.push(next);
    }
    Manifests { security, hosts, mappings }
}

fn mapping(bytes: &mut Bytes<'_>, at: usize) -> Mapping {
    let kind = bytes.of(&[PathKind::Prefix, PathKind::Prefix, PathKind::Exact, PathKind::Regex]);
    let host_regex = bytes.one_in(6);
    let method = bytes.one_in(4);
    let method_regex = method && bytes.one_in(3);
    let wants = |bytes: &mut Bytes<'_>| -> Vec<(String, Want)> {
        if !bytes.one_in(3) {
            return Vec::new();
        }
        let mut wants = BTreeMap::new();
        for _ in 0..=bytes.below(2) {
            let want = match bytes.below(4) {
                0 => Want::Present,
                1 => Want::Regex(bytes.of(VALUE_REGEXES).into()),
                _ => Want::Exact(bytes.of(VALUES).into()),
            };
            wants.insert(bytes.of(NAMES).to_owned(), want);
        }
        wants.into_iter().collect()
    };
    Mapping {
        name: format!("m{at:02}"),
        prefix: bytes.of(if kind == PathKind::Regex { PATH_REGEXES } else { PREFIXES }).into(),
        kind,
        case_sensitive: kind == PathKind::Regex || !bytes.one_in(5),
        hostname: match host_regex {
            true => bytes.of(HOST_REGEXES).into(),
            false if bytes.one_in(2) => "*".into(),
            false => bytes.of(HOSTS).into(),
        },
        host_regex,
        method: method
            .then(|| bytes.of(if method_regex { METHOD_REGEXES } else { METHODS }).into()),
        method_regex,
        headers: wants(bytes),
        query: wants(bytes),
        precedence: bytes.of(&[0, 0, 0, 0, 1, -1]),
        weight: bytes.of(&[None, None, Some(0), Some(20), Some(30), Some(60)]),
        redirects: bytes.one_in(6),
    }
}

fn change(manifests: &mut Manifests, bytes: &mut Bytes<'_>) {
    let at = bytes.below(manifests.mappings.len());
    match bytes.below(4) {
        0 => drop(manifests.mappings.remove(at)),
        1 => manifests.mappings[at] = mapping(bytes, at),
        2 => manifests.mappings.push(mapping(bytes, 99)),
        _ => {
            let insecure = bytes.of(&[Insecure::Route, Insecure::Redirect, Insecure::Reject]);
            let at = bytes.below(manifests.hosts.len());
            manifests.hosts[at].insecure = insecure;
        }
    }
}

fn request(bytes: &mut Bytes<'_>) -> Request {
    let n_headers = bytes.below(4);
    Request {
        method: bytes.of(&["GET", "GET", "POST", "PUT", "get"]).into(),
        authority: bytes.of(AUTHORITIES).into(),
        path: bytes.of(PATHS).into(),
        query: bytes.one_in(2).then(|| bytes.of(QUERIES).into()),
        headers: (0..n_headers)
            .map(|_| (bytes.of(SENT_NAMES).into(), bytes.of(VALUES).into()))
            .collect(),
        secure: bytes.one_in(2),
        roll: bytes.below(100) as u32,
    }
}

/// What the resolver makes of the manifests.
fn lower(manifests: &Manifests) -> Ir {
    let security = match manifests.security {
        Security::Xfp => SecurityModel::Xfp,
        Security::Secure => SecurityModel::Secure,
        Security::Insecure => SecurityModel::Insecure,
    };
    sample::ir(security, manifests.hosts.iter().map(|host| lower_host(host, manifests)).collect())
}

fn lower_host(host: &Host, manifests: &Manifests) -> ir::VirtualHost {
    let mut groups: Vec<(ir::Matcher, EmissaryRank, Vec<&Mapping>)> = Vec::new();
    for mapping in &manifests.mappings {
        if !mapping.host_regex && !super::globs_overlap(&host.hostname, &mapping.hostname) {
            continue;
        }
        let (matcher, rank) = lower_match(mapping);
        match groups.iter_mut().find(|(m, r, _)| *m == matcher && *r == rank) {
            Some((.., members)) => members.push(mapping),
            None => groups.push((matcher, rank, vec![mapping])),
        }
    }
    groups.reverse();
    groups.sort_by(|(_, a, _), (_, b, _)| b.cmp(a));
    let group = |(matcher, rank, members): (ir::Matcher, EmissaryRank, Vec<&Mapping>)| {
        let members = lower_members(&members);
        Arc::new(ir::Group { matcher: matcher.into(), rank: rank.into(), members })
    };
    ir::VirtualHost {
        domain: host.hostname.as_str().into(),
        host: None,
        insecure: match host.insecure {
            Insecure::Redirect => InsecureAction::Redirect,
            Insecure::Route => InsecureAction::Route,
            Insecure::Reject => InsecureAction::Reject,
        },
        refusal: None,
        groups: groups.into_iter().map(group).collect(),
    }
}

fn lower_members(mappings: &[&Mapping]) -> Vec<ir::Member> {
    let mut members = Vec::new();
    let mut push = |from: u32, to: u32, mapping: &Mapping| {
        let (from, to) = (from.min(100), to.min(100));
        members.push(ir::Member { from, to, route: Arc::new(lower_route(mapping)) });
        to
    };
    if let [mapping] = mappings {
        push(0, 100, mapping);
        return members;
    }
    let mut sum = 0;
    let mut weightless = Vec::new();
    for mapping in mappings {
        match mapping.weight {
            Some(weight) => sum = push(sum, sum + weight, mapping),
            None => weightless.push(*mapping),
        }
    }
    let n = weightless.len() as u32;
    for (at, mapping) in weightless.into_iter().enumerate() {
        // Halves go to the even neighbour.
        let (whole, rest) = ((100 - sum) / n, (100 - sum) % n);
        let up = 2 * rest > n || (2 * rest == n && whole % 2 == 1);
        let share = whole + u32::from(up);
        let from = sum + at as u32 * share;
        let to = if at as u32 + 1 == n { 100 } else { from + share };
        push(from, to, mapping);
    }
    members
}

fn lower_route(mapping: &Mapping) -> ir::Route {
    let mut route = sample::route(&mapping.name);
    route.always = mapping.prefix == "/.well-known/acme-challenge/";
    if mapping.redirects {
        route.action = ir::Action::Redirect(Arc::new(Redirect {
            host: Some("elsewhere".into()),
            scheme: None,
            path: RedirectPath::Keep,
            status: 301,
        }));
    }
    route
}

fn lower_match(mapping: &Mapping) -> (ir::Matcher, EmissaryRank) {
    let value = |want: &Want| match want {
        Want::Exact(text) => ValueMatch::Exact(text.as_str().into()),
        Want::Regex(text) => ValueMatch::Regex(pattern(text)),
        Want::Present => ValueMatch::Present,
    };
    let fields = |wants: &[(String, Want)]| -> Vec<FieldMatch> {
        let one = |(name, want): &(String, Want)| FieldMatch {
            name: name.as_str().into(),
            value: value(want),
        };
        wants.iter().map(one).collect()
    };
    let text = mapping.prefix.as_str().into();
    let case_sensitive = mapping.case_sensitive;
    let hostname = mapping.hostname.as_str();
    let matcher = ir::Matcher {
        path: match mapping.kind {
            PathKind::Prefix => PathMatch::Prefix { text, case_sensitive },
            PathKind::Exact => PathMatch::Exact { text, case_sensitive },
            PathKind::Regex => PathMatch::Regex(pattern(&mapping.prefix)),
        },
        authority: if mapping.host_regex {
            Some(AuthorityMatch::Regex(pattern(hostname)))
        } else if hostname == "*" {
            None
        } else if let Some(suffix) = hostname.strip_prefix('*') {
            Some(AuthorityMatch::Suffix(suffix.into()))
        } else if let Some(prefix) = hostname.strip_suffix('*') {
            Some(AuthorityMatch::Prefix(prefix.into()))
        } else {
            Some(AuthorityMatch::Exact(hostname.into()))
        },
        method: mapping.method.as_ref().map(|method| match mapping.method_regex {
            true => ValueMatch::Regex(pattern(method)),
            false => ValueMatch::Exact(method.as_str().into()),
        }),
        headers: fields(&mapping.headers),
        query: fields(&mapping.query),
    };
    let weight = super::weight(mapping);
    let boxed = |keys: Vec<String>| keys.into_iter().map(Into::into).collect();
    let rank = EmissaryRank {
        precedence: weight.0,
        path_len: weight.1,
        header_len: weight.2,
        query_len: weight.3,
        path: weight.4.into(),
        method: weight.5.into(),
        header_keys: boxed(weight.6),
        query_keys: boxed(weight.7),
    };
    (matcher, rank)
}

/// Takes from `old` what is equal there, as a resolver does that remembers its results.
fn share(new: &mut Ir, old: &Ir) {
    let same = |cluster: &&Arc<ir::Cluster>| new.clusters.get(&cluster.name) == Some(*cluster);
    let same: Vec<_> = old.clusters.iter().filter(same).cloned().collect();
    same.into_iter().for_each(|cluster| new.clusters.insert(cluster));
    for (listener, before) in new.listeners.iter_mut().zip(&old.listeners) {
        for host in &mut listener.virtual_hosts {
            if let Some(same) = before.virtual_hosts.iter().find(|before| *before == host) {
                *host = Arc::clone(same);
                continue;
            }
            let before = before.virtual_hosts.iter().flat_map(|before| &before.groups);
            for group in &mut Arc::make_mut(host).groups {
                if let Some(same) = before.clone().find(|before| *before == group) {
                    *group = Arc::clone(same);
                }
            }
        }
    }
}

fn ask(table: &table::Table, request: &Request) -> Decision {
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let Request { method, authority, path, query, secure, .. } = request;
    let sent = Sent::new(method, authority, path, query.as_deref(), &headers, *secure);
    let (request, roll) = (sent.request(), request.roll);
    let listener = &table.listeners[0];
    let name = |object: &Ref| object.name.to_string();
    let decision = match listener.route(&request, roll) {
        Hit::Forward { route, .. } => Decision::Forward(name(&route.spec().object)),
        Hit::Redirect { route, .. } => Decision::Redirect(name(&route.spec().object)),
        Hit::ToHttps { route } => Decision::ToHttps(name(&route.spec().object)),
        Hit::Refuse { refusal, .. } => unreachable!("nothing is guarded: {refusal:?}"),
        Hit::NotFound => Decision::NotFound,
    };
    let explained = match listener.explain(&request, &Circumstances::bare(Some(roll))).outcome {
        Outcome::Forward { mapping, .. } => Decision::Forward(name(&mapping)),
        Outcome::Redirect { mapping, .. } => Decision::Redirect(name(&mapping)),
        Outcome::ToHttps { mapping, .. } => Decision::ToHttps(name(&mapping)),
        Outcome::Refuse { message, .. } => unreachable!("nothing is guarded: {message}"),
        Outcome::NotFound => Decision::NotFound,
        other => unreachable!("nobody speaks TLS: {other:?}"),
    };
    assert_eq!(explained, decision, "what is explained is not what is done");
    decision
}

thread_local! {
    /// The pools' expressions, compiled: else nine tenths of the time went there.
    static PATTERNS: RefCell<BTreeMap<String, Pattern>> = const { RefCell::new(BTreeMap::new()) };
}

fn pattern(text: &str) -> Pattern {
    PATTERNS.with_borrow_mut(|patterns| {
        let parse = || Pattern::parse(text).expect("generated to parse");
        patterns.entry(text.to_owned()).or_insert_with(parse).clone()
    })
}

#[cfg(test)]
mod tests;
