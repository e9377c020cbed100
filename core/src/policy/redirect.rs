// SPDX-License-Identifier: Apache-2.0
//! Redirect answers: `host_redirect` with its path forms, and the secure redirect of a Host.

use serde::Serialize;

use super::rewrite::{Substitution, escape};

/// A Mapping's redirect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// Host (and port) of the Location; `None` keeps the request's authority.
    pub host: Option<Box<str>>,
    /// Scheme of the Location; `None` keeps the request's.
    pub scheme: Option<Scheme>,
    pub path: RedirectPath,
    /// One of 301, 302, 303, 307, 308.
    pub status: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Http,
    Https,
}

/// What the Location's path is. The query is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RedirectPath {
    #[default]
    Keep,
    /// `path_redirect`. A query in it replaces the request's.
    Whole(Box<str>),
    /// `prefix_redirect`: replaces the first `len` bytes.
    Prefix { len: usize, with: Box<str> },
    /// `regex_redirect`.
    Regex(Substitution),
}

impl Redirect {
    /// Appends the Location. `secure` is the request's scheme; `path` is normalised, `query`
    /// without its `?`. A request without authority gets a relative one.
    pub fn location(
        &self,
        secure: bool,
        authority: &[u8],
        path: &[u8],
        query: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let to_secure = self.scheme.map_or(secure, |scheme| scheme == Scheme::Https);
        // Envoy: the default port of a scheme that is left does not come along.
        let authority = match &self.host {
            Some(host) => host.as_bytes(),
            None if to_secure == secure => authority,
            None => without_port(authority, if secure { b":443" } else { b":80" }),
        };
        push_origin(to_secure, authority, out);
        let mut query = query;
        match &self.path {
            RedirectPath::Keep => out.extend_from_slice(path),
            RedirectPath::Whole(with) => {
                push_rooted(out, |out| out.extend_from_slice(with.as_bytes()));
                if with.contains('?') {
                    query = None;
                }
            }
            RedirectPath::Prefix { len, with } => push_rooted(out, |out| {
                out.extend_from_slice(with.as_bytes());
                out.extend_from_slice(path.get(*len..).unwrap_or_default());
            }),
            RedirectPath::Regex(substitution) => {
                push_rooted(out, |out| substitution.apply(path, out));
            }
        }
        if let Some(query) = query {
            out.push(b'?');
            out.extend_from_slice(query);
        }
        escape(out, start);
    }
}

/// Appends the Location of an insecure request's redirect: the same place by https, without an
/// explicit port 80. Emissary: any other port is kept.
pub fn to_https(authority: &[u8], path_and_query: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    push_origin(true, without_port(authority, b":80"), out);
    out.extend_from_slice(path_and_query);
    escape(out, start);
}

fn push_origin(secure: bool, authority: &[u8], out: &mut Vec<u8>) {
    if !authority.is_empty() {
        out.extend_from_slice(if secure { b"https://" } else { b"http://" });
        out.extend_from_slice(authority);
    }
}

/// Appends a path that begins with a slash, whatever is written.
fn push_rooted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    if out.get(start) != Some(&b'/') {
        out.insert(start, b'/');
    }
}

fn without_port<'a>(authority: &'a [u8], port: &[u8]) -> &'a [u8] {
    match authority.strip_suffix(port) {
        // The colons inside an IPv6 address are followed by its bracket.
        Some(host) if !host.is_empty() => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests;
