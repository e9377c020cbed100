// SPDX-License-Identifier: Apache-2.0
//! Redirect answers: `host_redirect` with its path forms, and the secure redirect of a Host.

use serde::Serialize;

use super::rewrite::Substitution;

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
