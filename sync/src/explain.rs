// SPDX-License-Identifier: Apache-2.0
//! A question about a request or a connection, put to the compiled table as a worker would put it:
//! the same head parser, the same normalisation, the same lookup.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringway_core::feed::Feed;
use ringway_core::policy::{forwarded, normalize};
use ringway_core::table::explain::{Circumstances, Connection, Explanation, Feeds};
use ringway_core::table::{Cluster, Listener, Request, Table};
use ringway_core::wire::h1::parse::{self, Limits, Parsed};
use ringway_core::wire::{Head, HeadView};
use serde::Serialize;

use crate::publish::known;

/// A request that might be made, or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// An HTTP method; `TCP` and `TLS` ask about a connection alone.
    pub method: String,
    /// `http://host[:port]/path?query`, `host/path`, or `/path`; of a connection `host:port`.
    pub url: String,
    /// Lines as `name: value`.
    pub headers: Vec<String>,
    /// Port of the listener that takes it; by default the URL's if there is such a listener, else
    /// the first listener.
    pub port: Option<u16>,
}

/// What a question is answered with.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Request(Box<Explanation>),
    Connection(Box<Connection>),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(story) => story.fmt(f),
            Self::Connection(story) => story.fmt(f),
        }
    }
}

/// The endpoints that manifests alone say.
pub fn written(cluster: &Cluster) -> Option<Arc<Feed>> {
    let endpoints = Feed::sorted(known(&cluster.spec.source)?);
    Some(Arc::new(Feed::new(cluster.slot, 1, cluster.spec.balancer, endpoints)))
}

/// Explains where a table sends a request or a connection, `feeds` being the endpoints.
///
/// # Errors
/// What is wrong with the question, in a sentence.
pub fn explain(table: &Table, question: &Question, feeds: Feeds<'_>) -> Result<Answer, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let url = Url::parse(&question.url, question.method == "TLS");
    let listener = listener(table, question, &url)?;
    let tls = url.tls.then(|| url.server_name());
    let tls = tls.as_ref().map(Option::as_deref);
    if matches!(question.method.as_str(), "TCP" | "TLS") {
        let story = listener.explain_connection(tls, None, now, feeds);
        return Ok(Answer::Connection(Box::new(story)));
    }
    let block = head(question, &url)?;
    let mut head = Head::default();
    let mut scanned = 0;
    match parse::request(&block, &mut head, &Limits::default(), &mut scanned) {
        Ok(Parsed::Complete) => {}
        Ok(Parsed::Partial) => return Err("the request would be incomplete".into()),
        Err(error) => {
            return Err(format!(
                "such a request is refused with {} ({})",
                error.status(),
                error.details()
            ));
        }
    }
    let view = HeadView::new(&head, &block);
    let settings = &table.settings;
    let rules = normalize::Rules {
        merge_slashes: settings.merge_slashes,
        reject_escaped_slashes: settings.reject_requests_with_escaped_slashes,
        strip_port: settings.strip_matching_host_port.then(|| listener.address.port()),
    };
    let mut scratch = Vec::new();
    let target = normalize::target(view, &rules, &mut scratch).map_err(|error| {
        format!("such a request is refused with {} ({})", error.status(), error.details())
    })?;
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let depth = listener.l7_depth;
    let forwarded = forwarded::forwarded(view, peer, url.tls, settings.use_remote_address, depth);
    let request = Request {
        head: view,
        authority: target.authority,
        path: target.path,
        query: target.query,
        secure: forwarded.secure,
    };
    let circumstances = Circumstances {
        roll: None,
        now,
        tls,
        peer,
        local: listener.address,
        client: forwarded.client,
        feeds,
    };
    Ok(Answer::Request(Box::new(listener.explain(&request, &circumstances))))
}

/// The parts of a URL.
struct Url<'a> {
    tls: bool,
    authority: &'a str,
    /// Path and query.
    target: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str, tls: bool) -> Self {
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) => {
                (["https", "tls", "wss"].iter().any(|s| scheme.eq_ignore_ascii_case(s)), rest)
            }
            None => (tls, text),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        Self { tls, authority: &rest[..end], target: &rest[end..] }
    }

    /// What a client sends in its ClientHello: a name, never an address (RFC 6066 §3).
    fn server_name(&self) -> Option<String> {
        let port = self.authority.rfind(':').filter(|_| self.port().is_some());
        let host = &self.authority[..port.unwrap_or(self.authority.len())];
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        (!host.is_empty() && bare.parse::<IpAddr>().is_err()).then_some(host)
    }

    fn port(&self) -> Option<u16> {
        self.authority.rsplit_once(':')?.1.parse().ok()
    }
}

fn listener<'t>(
    table: &'t Table,
    Question { port, method, .. }: &Question,
    url: &Url<'_>,
) -> Result<&'t Listener, String> {
    let on = |port: u16| table.listeners.iter().find(|l| l.address.port() == port);
    if let Some(port) = *port {
        return on(port).ok_or_else(|| format!("no Listener has port {port}"));
    }
    if matches!(method.as_str(), "TCP" | "TLS") {
        let port = url.port().ok_or("a connection is made to a port: write host:port")?;
        return on(port).ok_or_else(|| format!("no Listener or TCPMapping has port {port}"));
    }
    let usual = if url.tls { [443, 8443] } else { [80, 8080] };
    url.port()
        .and_then(on)
        .or_else(|| usual.into_iter().find_map(on))
        .or_else(|| table.listeners.first())
        .ok_or_else(|| "there is no Listener: nothing is served".to_owned())
}

/// The head that a client would send.
fn head(question: &Question, url: &Url<'_>) -> Result<Vec<u8>, String> {
    let parts = question.headers.iter().chain([&question.method, &question.url]);
    if parts.flat_map(|part| part.bytes()).any(|b| matches!(b, b'\r' | b'\n')) {
        return Err("a line break has no place in a request".into());
    }
    let slash = if url.target.starts_with('/') { "" } else { "/" };
    let mut head = format!("{} {slash}{} HTTP/1.1\r\n", question.method, url.target);
    let is_host = |line: &&String| {
        line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("host"))
    };
    if !question.headers.iter().any(|line| is_host(&line)) {
        let authority = if url.authority.is_empty() { "localhost" } else { url.authority };
        head.push_str(&format!("host: {authority}\r\n"));
    }
    for line in &question.headers {
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("{line:?} is not a header: write it as 'name: value'"));
        };
        head.push_str(&format!("{}: {}\r\n", name.trim(), value.trim()));
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

#[cfg(test)]
mod tests;
