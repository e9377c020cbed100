// SPDX-License-Identifier: Apache-2.0
//! A question about a request, put to the compiled table as a worker would put it: the same head
//! parser, the same normalisation, the same lookup.

use std::net::{Ipv4Addr, SocketAddr};

use ringway_core::policy::{forwarded, normalize};
use ringway_core::table::explain::Explanation;
use ringway_core::table::{Listener, Request, Table};
use ringway_core::wire::h1::parse::{self, Limits, Parsed};
use ringway_core::wire::{Head, HeadView};

/// A request that might be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub method: String,
    /// `http://host[:port]/path?query`, `host/path`, or `/path`.
    pub url: String,
    /// Lines as `name: value`.
    pub headers: Vec<String>,
    /// Port of the listener that takes it; by default the URL's if there is such a listener, else
    /// the first listener.
    pub port: Option<u16>,
}

/// Explains where a table sends a request.
///
/// # Errors
/// What is wrong with the question, in a sentence.
pub fn explain(table: &Table, question: &Question) -> Result<Explanation, String> {
    let url = Url::parse(&question.url);
    let listener = listener(table, question.port, &url)?;
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
    let forwarded = forwarded::forwarded(view, peer, url.https, settings.use_remote_address, depth);
    let request = Request {
        head: view,
        authority: target.authority,
        path: target.path,
        query: target.query,
        secure: forwarded.secure,
    };
    Ok(listener.explain(&request, None))
}

/// The parts of a URL.
struct Url<'a> {
    https: bool,
    authority: &'a str,
    /// Path and query.
    target: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Self {
        let (https, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme.eq_ignore_ascii_case("https"), rest),
            None => (false, text),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        Self { https, authority: &rest[..end], target: &rest[end..] }
    }

    fn port(&self) -> Option<u16> {
        self.authority.rsplit_once(':')?.1.parse().ok()
    }
}

fn listener<'t>(
    table: &'t Table,
    port: Option<u16>,
    url: &Url<'_>,
) -> Result<&'t Listener, String> {
    let on = |port: u16| table.listeners.iter().find(|l| l.address.port() == port);
    if let Some(port) = port {
        return on(port).ok_or_else(|| format!("no Listener has port {port}"));
    }
    let usual = if url.https { [443, 8443] } else { [80, 8080] };
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
