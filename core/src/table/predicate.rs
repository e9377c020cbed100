// SPDX-License-Identifier: Apache-2.0
//! The clauses of one group against one request, as Envoy reads them.
//!
//! Header values: lines of one name are joined by commas; an absent header satisfies nothing.
//! Query parameters: the first of a name, names and values as they are written (Envoy compares
//! them without percent-decoding). `x-forwarded-proto` is what the gateway itself says upstream,
//! so that an untrusted client's claim selects no route.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::Request;
use crate::ir::{AuthorityMatch, FieldMatch, Matcher, PathMatch, ValueMatch};
use crate::wire::Known;

/// A clause that does not hold; the numbers count a matcher's headers and parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    Authority,
    Path,
    Method,
    Header(usize),
    Query(usize),
}

/// A request while groups are tried on it; remembers the header values that were asked for.
#[derive(Debug)]
pub(super) struct Subject<'t, 'r> {
    pub(super) request: Request<'r>,
    headers: SmallVec<[(&'t str, HeaderValue<'r>); 4]>,
}

/// `None`: absent.
type HeaderValue<'r> = Option<Cow<'r, [u8]>>;

impl<'t, 'r> Subject<'t, 'r> {
    pub(super) fn new(request: Request<'r>) -> Self {
        Self { request, headers: SmallVec::new() }
    }

    /// The first clause that the request does not satisfy.
    pub(super) fn unmet(&mut self, matcher: &'t Matcher) -> Option<Clause> {
        let request = self.request;
        if matcher.authority.as_ref().is_some_and(|m| !authority(m, request.authority)) {
            return Some(Clause::Authority);
        }
        if !path(&matcher.path, request.path) {
            return Some(Clause::Path);
        }
        if matcher.method.as_ref().is_some_and(|m| !value(m, Some(request.head.method()))) {
            return Some(Clause::Method);
        }
        let header = |field: &'t FieldMatch| !value(&field.value, self.header(&field.name));
        if let Some(at) = matcher.headers.iter().position(header) {
            return Some(Clause::Header(at));
        }
        let parameter =
            |field: &FieldMatch| !value(&field.value, parameter(request.query, &field.name));
        matcher.query.iter().position(parameter).map(Clause::Query)
    }

    /// The value of a header as clauses see it.
    pub(super) fn header(&mut self, name: &'t str) -> Option<&[u8]> {
        let at = match self.headers.iter().position(|(other, _)| *other == name) {
            Some(at) => at,
            None => {
                self.headers.push((name, header(&self.request, name)));
                self.headers.len() - 1
            }
        };
        self.headers[at].1.as_deref()
    }
}

fn header<'r>(request: &Request<'r>, name: &str) -> HeaderValue<'r> {
    if name == Known::XForwardedProto.as_str() {
        let scheme: &[u8] = if request.secure { b"https" } else { b"http" };
        return Some(Cow::Borrowed(scheme));
    }
    let mut lines = request.head.values(name);
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
    let mut joined = [first, second].join(&b',');
    for line in lines {
        joined.push(b',');
        joined.extend_from_slice(line);
    }
    Some(Cow::Owned(joined))
}

/// The first value of a query parameter; empty where it is written without `=`.
pub(super) fn parameter<'r>(query: Option<&'r [u8]>, name: &str) -> Option<&'r [u8]> {
    query?.split(|byte| *byte == b'&').find_map(|pair| {
        let rest = pair.strip_prefix(name.as_bytes())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
    })
}

fn authority(matcher: &AuthorityMatch, authority: &[u8]) -> bool {
    match matcher {
        AuthorityMatch::Exact(text) => authority == text.as_bytes(),
        AuthorityMatch::Prefix(text) => authority.starts_with(text.as_bytes()),
        AuthorityMatch::Suffix(text) => authority.ends_with(text.as_bytes()),
        AuthorityMatch::Regex(pattern) => pattern.is_full_match(authority),
    }
}

fn path(matcher: &PathMatch, path: &[u8]) -> bool {
    match matcher {
        PathMatch::Prefix { text, case_sensitive: true } => path.starts_with(text.as_bytes()),
        PathMatch::Prefix { text, case_sensitive: false } => {
            path.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
        }
        PathMatch::Exact { text, case_sensitive: true } => path == text.as_bytes(),
        PathMatch::Exact { text, case_sensitive: false } => {
            path.eq_ignore_ascii_case(text.as_bytes())
        }
        PathMatch::Regex(pattern) => pattern.is_full_match(path),
    }
}

fn value(matcher: &ValueMatch, value: Option<&[u8]>) -> bool {
    match (matcher, value) {
        (_, None) => false,
        (ValueMatch::Present, Some(_)) => true,
        (ValueMatch::Exact(text), Some(value)) => value == text.as_bytes(),
        (ValueMatch::Regex(pattern), Some(value)) => pattern.is_full_match(value),
    }
}

#[cfg(test)]
mod tests;
