// SPDX-License-Identifier: Apache-2.0
//! The rules of routing as naive loops, written from Emissary's behaviour and from nothing else in
//! this crate: own globs, own order, own weights, no type shared with the compiled table. Property
//! tests and the fuzz target compare both on generated manifests.

use std::cmp::Reverse;

use regex::bytes::Regex;

mod agree;

pub use agree::fuzz;

/// What a user wrote, as far as it bears on which Mapping takes a request.
#[derive(Clone, Debug)]
pub struct Manifests {
    pub security: Security,
    pub hosts: Vec<Host>,
    /// In load order.
    pub mappings: Vec<Mapping>,
}

/// `Listener.securityModel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Xfp,
    Secure,
    Insecure,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub hostname: String,
    pub insecure: Insecure,
}

/// `Host.requestPolicy.insecure.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insecure {
    Redirect,
    Route,
    Reject,
}

#[derive(Clone, Debug)]
pub struct Mapping {
    pub name: String,
    pub prefix: String,
    pub kind: PathKind,
    pub case_sensitive: bool,
    /// A glob, or with `host_regex` an expression.
    pub hostname: String,
    pub host_regex: bool,
    pub method: Option<String>,
    pub method_regex: bool,
    /// Distinct names, sorted.
    pub headers: Vec<(String, Want)>,
    /// Distinct names, sorted.
    pub query: Vec<(String, Want)>,
    pub precedence: i64,
    pub weight: Option<u32>,
    /// Has a `host_redirect`.
    pub redirects: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    Prefix,
    Exact,
    Regex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Exact(String),
    Regex(String),
    Present,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub authority: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
    pub secure: bool,
    pub roll: u32,
}

/// What becomes of a request; names are Mappings'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Forward(String),
    Redirect(String),
    ToHttps(String),
    NotFound,
}

/// The manifests in the order in which Emissary tries them.
#[derive(Debug)]
pub struct Oracle {
    security: Security,
    hosts: Vec<(Host, Vec<Group>)>,
}

/// Mappings that share one match.
#[derive(Debug)]
struct Group {
    members: Vec<Mapping>,
    path: Option<Regex>,
    host: Option<Regex>,
    method: Option<Regex>,
    headers: Vec<Option<Regex>>,
    query: Vec<Option<Regex>>,
}

impl Oracle {
    pub fn new(manifests: &Manifests) -> Self {
        let hosts = manifests.hosts.iter().map(|host| {
            let of_host = |mapping: &&Mapping| {
                mapping.host_regex || globs_overlap(&host.hostname, &mapping.hostname)
            };
            let mut groups: Vec<Vec<Mapping>> = Vec::new();
            for mapping in manifests.mappings.iter().filter(of_host) {
                match groups.iter_mut().find(|group| same_match(&group[0], mapping)) {
                    Some(group) => group.push(mapping.clone()),
                    None => groups.push(vec![mapping.clone()]),
                }
            }
            groups.reverse();
            groups.sort_by_key(|group| Reverse(weight(&group[0])));
            (host.clone(), groups.into_iter().map(Group::new).collect())
        });
        Self { security: manifests.security, hosts: hosts.collect() }
    }

    pub fn decide(&self, request: &Request) -> Decision {
        let mut best: Option<&(Host, Vec<Group>)> = None;
        for host in self.hosts.iter().filter(|(h, _)| glob_matches(&h.hostname, &request.authority))
        {
            if best.is_none_or(|best| specific(&host.0.hostname) > specific(&best.0.hostname)) {
                best = Some(host);
            }
        }
        let Some((host, groups)) = best else { return Decision::NotFound };
        let secure = match self.security {
            Security::Secure => true,
            Security::Insecure => false,
            Security::Xfp => request.secure,
        };
        for group in groups.iter().filter(|group| group.matches(request)) {
            let Some(mapping) = group.share(request.roll) else { continue };
            let acme = mapping.prefix == "/.well-known/acme-challenge/";
            let name = mapping.name.clone();
            if !secure && !acme && host.insecure == Insecure::Reject {
                continue;
            }
            if !secure && !acme && host.insecure == Insecure::Redirect {
                return Decision::ToHttps(name);
            }
            return if mapping.redirects {
                Decision::Redirect(name)
            } else {
                Decision::Forward(name)
            };
        }
        Decision::NotFound
    }
}

impl Group {
    fn new(members: Vec<Mapping>) -> Self {
        let whole = |text: &str| Regex::new(&format!("^(?:{text})$")).expect("generated to parse");
        let first = &members[0];
        let all = |wants: &[(String, Want)]| {
            let one = |(_, want): &(String, Want)| match want {
                Want::Regex(text) => Some(whole(text)),
                Want::Exact(_) | Want::Present => None,
            };
            wants.iter().map(one).collect()
        };
        Self {
            path: (first.kind == PathKind::Regex).then(|| whole(&first.prefix)),
            host: first.host_regex.then(|| whole(&first.hostname)),
            method: first
                .method
                .as_ref()
                .filter(|_| first.method_regex)
                .map(|method| whole(method)),
            headers: all(&first.headers),
            query: all(&first.query),
            members,
        }
    }

    fn matches(&self, request: &Request) -> bool {
        let mapping = &self.members[0];
        let fold = |text: &str| match mapping.case_sensitive {
            true => text.to_owned(),
            false => text.to_ascii_lowercase(),
        };
        let path = match (&self.path, mapping.kind) {
            (Some(regex), _) => regex.is_match(request.path.as_bytes()),
            (None, PathKind::Exact) => fold(&request.path) == fold(&mapping.prefix),
            (None, _) => fold(&request.path).starts_with(&fold(&mapping.prefix)),
        };
        let authority = match &self.host {
            Some(regex) => regex.is_match(request.authority.as_bytes()),
            None => match mapping.hostname.as_str() {
                "*" => true,
                glob if glob.starts_with('*') => request.authority.ends_with(&glob[1..]),
                glob => match glob.strip_suffix('*') {
                    Some(prefix) => request.authority.starts_with(prefix),
                    None => request.authority == glob,
                },
            },
        };
        let method = match (&self.method, &mapping.method) {
            (Some(regex), _) => regex.is_match(request.method.as_bytes()),
            (None, Some(method)) => request.method == *method,
            (None, None) => true,
        };
        let has = |value: Option<String>, want: &Want, regex: &Option<Regex>| match (value, want) {
            (None, _) => false,
            (Some(_), Want::Present) => true,
            (Some(value), Want::Exact(text)) => value == *text,
            (Some(value), Want::Regex(_)) => {
                regex.as_ref().is_some_and(|regex| regex.is_match(value.as_bytes()))
            }
        };
        let headers = mapping.headers.iter().zip(&self.headers);
        let query = mapping.query.iter().zip(&self.query);
        path && authority
            && method
            && headers.into_iter().all(|((n, want), regex)| has(header(request, n), want, regex))
            && query.into_iter().all(|((n, want), regex)| has(parameter(request, n), want, regex))
    }

    /// The member that this roll goes to.
    fn share(&self, roll: u32) -> Option<&Mapping> {
        if self.members.len() == 1 {
            return self.members.first();
        }
        let (weighted, weightless): (Vec<_>, Vec<_>) =
            self.members.iter().partition(|mapping| mapping.weight.is_some());
        let mut threshold = 0.0;
        for mapping in weighted {
            threshold += f64::from(mapping.weight.unwrap_or(0));
            if f64::from(roll) < threshold {
                return Some(mapping);
            }
        }
        let rest = ((100.0 - threshold) / weightless.len() as f64).round_ties_even();
        for (at, mapping) in weightless.iter().enumerate() {
            threshold = if at + 1 == weightless.len() { 100.0 } else { threshold + rest };
            if f64::from(roll) < threshold {
                return Some(mapping);
            }
        }
        None
    }
}

fn same_match(a: &Mapping, b: &Mapping) -> bool {
    (&a.prefix, a.kind, a.case_sensitive, &a.hostname, a.host_regex)
        == (&b.prefix, b.kind, b.case_sensitive, &b.hostname, b.host_regex)
        && (&a.method, a.method_regex, &a.headers, &a.query, a.precedence)
            == (&b.method, b.method_regex, &b.headers, &b.query, b.precedence)
}

type Weight = (i64, usize, usize, usize, String, String, Vec<String>, Vec<String>);

/// Emissary sorts by this, greatest first.
fn weight(mapping: &Mapping) -> Weight {
    let mut headers = mapping.headers.clone();
    if mapping.host_regex {
        headers.push((":authority".into(), Want::Regex(mapping.hostname.clone())));
    } else {
        // Also `*`, which matches everything and is counted nevertheless.
        headers.push((":authority".into(), Want::Exact(mapping.hostname.clone())));
    }
    if let Some(method) = mapping.method.clone() {
        let want = if mapping.method_regex { Want::Regex(method) } else { Want::Exact(method) };
        headers.push((":method".into(), want));
    }
    let length = |wants: &[(String, Want)]| {
        let one = |(name, want): &(String, Want)| {
            name.len()
                + match want {
                    Want::Exact(value) => value.len(),
                    Want::Regex(value) => value.len() + 1,
                    Want::Present => 1,
                }
        };
        wants.iter().map(one).sum()
    };
    let keys = |wants: &[(String, Want)]| {
        let one = |(name, want): &(String, Want)| match want {
            Want::Exact(value) | Want::Regex(value) => format!("{name}-{value}"),
            Want::Present => format!("{name}-*"),
        };
        wants.iter().map(one).collect()
    };
    (
        mapping.precedence,
        mapping.prefix.len(),
        length(&headers),
        length(&mapping.query),
        mapping.prefix.clone(),
        mapping.method.clone().unwrap_or_else(|| "GET".into()),
        keys(&headers),
        keys(&mapping.query),
    )
}

/// Greater is more specific: exact, star first, star last, star alone; then by length.
fn specific(glob: &str) -> (u8, usize) {
    let class = match glob {
        "*" => 0,
        _ if glob.ends_with('*') => 1,
        _ if glob.starts_with('*') => 2,
        _ => 3,
    };
    (class, glob.len())
}

/// A star stands for at least one character.
fn glob_matches(glob: &str, name: &str) -> bool {
    match glob.find('*') {
        None => glob == name,
        Some(_) if glob == "*" => true,
        Some(at) => {
            let (start, end) = (&glob[..at], &glob[at + 1..]);
            name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

/// Whether some name is in both: if there is one, then one of these.
fn globs_overlap(a: &str, b: &str) -> bool {
    let start = |glob: &str| glob.split('*').next().unwrap_or_default().to_owned();
    let end = |glob: &str| glob.split('*').next_back().unwrap_or_default().to_owned();
    let names = [
        a.replace('*', "z"),
        b.replace('*', "z"),
        start(a) + "z" + &end(b),
        start(b) + "z" + &end(a),
    ];
    names.iter().any(|name| glob_matches(a, name) && glob_matches(b, name))
}

fn header(request: &Request, name: &str) -> Option<String> {
    if name == "x-forwarded-proto" {
        return Some(if request.secure { "https" } else { "http" }.to_owned());
    }
    let same = |(other, value): &(String, String)| {
        (other.to_ascii_lowercase() == name).then(|| value.clone())
    };
    let values: Vec<_> = request.headers.iter().filter_map(same).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    for pair in request.query.as_ref()?.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == name {
            return Some(value.to_owned());
        }
    }
    None
}
