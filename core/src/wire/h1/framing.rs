// SPDX-License-Identifier: Apache-2.0
//! What a head says about its message: where the body ends, whether the connection lives on,
//! which fields stop at this hop (RFC 9112 §§6, 9; RFC 9110 §7.6.1).

use smallvec::SmallVec;

use super::parse::ParseError;
use crate::limits;
use crate::wire::{Framing, HeadView, Known, Version};

/// What configuration allows a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    /// HTTP/1.0 is served. Emissary: `enable_http10`.
    pub http10: bool,
    /// Content-Length beside `Transfer-Encoding: chunked` is dropped instead of refused.
    /// Emissary: `allow_chunked_length`.
    pub allow_chunked_length: bool,
}

/// What a request head means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestMeta {
    pub framing: Framing,
    /// The client may send another request on this connection.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends its (non-empty) body.
    pub expect_continue: bool,
    /// Asks for another protocol: see [`protocol`]. Not for h2c, which is no tunnel and never
    /// passed on: such a request is served as if it had not asked, as Envoy does.
    pub upgrade: bool,
    /// The client reads trailers: `TE: trailers`.
    pub te_trailers: bool,
    /// Content-Length lines must not pass: see [`RequestRules::allow_chunked_length`].
    pub drop_length: bool,
}

/// Reads a request head's framing. An error's `status()` is the answer; the connection closes.
pub fn request_meta(view: HeadView<'_>, rules: &RequestRules) -> Result<RequestMeta, ParseError> {
    let http11 = view.head.version >= Version::Http11;
    if !http11 && !rules.http10 {
        return Err(ParseError::Http10);
    }
    let lines = Lines::read(view)?;
    // RFC 9112 §3.2: exactly one Host, except that HTTP/1.0 may do without.
    match lines.hosts {
        0 if http11 => return Err(ParseError::HostMissing),
        0 | 1 => {}
        _ => return Err(ParseError::HostRepeated),
    }
    let framing = match (lines.chunked, lines.length) {
        (true, Some(_)) if !rules.allow_chunked_length => {
            return Err(ParseError::ContentLengthWithChunked);
        }
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::None,
    };
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    // RFC 9110 §9.3.6: what follows the head of a CONNECT is the tunnel's.
    if has_body && view.method() == b"CONNECT" {
        return Err(ParseError::ConnectBody);
    }
    Ok(RequestMeta {
        framing,
        keep_alive: lines.options.keep_alive(http11),
        // RFC 9110 §10.1.1: ignored in HTTP/1.0, and without content nobody waits.
        expect_continue: lines.expect_continue && http11 && has_body,
        upgrade: lines.upgrade && lines.options.upgrade && http11,
        te_trailers: lines.te_trailers,
        drop_length: lines.chunked && lines.length.is_some(),
    })
}

/// What a response head means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseMeta {
    pub framing: Framing,
    /// Once the body is complete the connection may carry another request.
    pub keep_alive: bool,
}

/// Reads a response head's framing (RFC 9112 §6.3). `head_request`: it answers a HEAD request.
pub fn response_meta(view: HeadView<'_>, head_request: bool) -> Result<ResponseMeta, ParseError> {
    let lines = Lines::read(view)?;
    if lines.chunked && lines.length.is_some() {
        return Err(ParseError::ContentLengthWithChunked);
    }
    let status = view.head.status;
    let bodiless = matches!(status, 100..=199 | 204);
    let framing = match (lines.chunked, lines.length) {
        _ if bodiless || status == 304 || head_request => Framing::None,
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    // RFC 9112 §6.1, RFC 9110 §8.6: an upstream that announces a body where there cannot be one
    // may send it too, and its bytes would be taken for the next answer.
    let doubtful = bodiless && (lines.chunked || lines.length.is_some_and(|length| length > 0));
    let keep_alive = lines.options.keep_alive(view.head.version >= Version::Http11)
        && framing != Framing::UntilClose
        && status != 101
        && !doubtful;
    Ok(ResponseMeta { framing, keep_alive })
}

/// The one protocol that a request with [`RequestMeta::upgrade`] asks for, as written; empty where
/// it names several: a choice is not ours to make.
pub fn protocol(view: HeadView<'_>) -> &[u8] {
    let mut values = view.values("upgrade").flat_map(elements);
    match (values.next(), values.next()) {
        (Some(only), None) => only,
        _ => b"",
    }
}

/// Whether a 101 switches to this protocol and says so as RFC 9110 §§7.8, 15.2.2 ask. Names are
/// compared without regard to case, as Envoy does.
pub fn switches_to(view: HeadView<'_>, protocol: &[u8]) -> bool {
    let said = Lines::read(view).is_ok_and(|lines| lines.options.upgrade);
    said && !protocol.is_empty() && self::protocol(view).eq_ignore_ascii_case(protocol)
}

/// The lines of a head that bear on its framing, read once.
#[derive(Default)]
struct Lines {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    options: Options,
    expect_continue: bool,
    /// Names something else than h2c alone.
    upgrade: bool,
    te_trailers: bool,
}

impl Lines {
    fn read(view: HeadView<'_>) -> Result<Self, ParseError> {
        let mut lines = Self::default();
        let mut coded = false;
        for (known, _, value) in view.fields() {
            match known {
                Known::Host => lines.hosts += 1,
                Known::ContentLength => {
                    // RFC 9112 §6.3 lets equal repetitions pass; a gateway need not trust them.
                    if lines.length.is_some() {
                        return Err(ParseError::ContentLength);
                    }
                    lines.length = Some(content_length(value)?);
                }
                Known::TransferEncoding => coded = true,
                Known::Connection => lines.options.read(value)?,
                Known::Expect => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(ParseError::Expectation);
                    }
                    lines.expect_continue = true;
                }
                Known::Upgrade => {
                    lines.upgrade |= !value.is_empty() && !value.eq_ignore_ascii_case(b"h2c");
                }
                Known::Te => {
                    lines.te_trailers |=
                        elements(value).any(|e| e.eq_ignore_ascii_case(b"trailers"));
                }
                _ => {}
            }
        }
        if coded {
            chunked_only(view)?;
            lines.chunked = true;
        }
        Ok(lines)
    }
}

/// RFC 9110 §8.6: `1*DIGIT`; here at most 2^63 - 1.
pub fn content_length(value: &[u8]) -> Result<u64, ParseError> {
    if value.is_empty() {
        return Err(ParseError::ContentLength);
    }
    let mut length = 0u64;
    for &digit in value {
        if !digit.is_ascii_digit() {
            return Err(ParseError::ContentLength);
        }
        length = length
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')))
            .filter(|&n| n <= i64::MAX as u64)
            .ok_or(ParseError::ContentLength)?;
    }
    Ok(length)
}

/// RFC 9112 §6.1: over all Transfer-Encoding lines, `chunked` once and nothing else, and only in
/// HTTP/1.1.
#[inline(never)]
fn chunked_only(view: HeadView<'_>) -> Result<(), ParseError> {
    if view.head.version != Version::Http11 {
        return Err(ParseError::TransferEncodingInHttp10);
    }
    let (mut codings, mut chunked, mut last_is_chunked) = (0usize, 0usize, false);
    for (_, _, value) in view.fields().filter(|(known, _, _)| *known == Known::TransferEncoding) {
        for coding in value.split(|&b| b == b',').map(trim) {
            if coding.is_empty() || !coding.iter().all(|&b| super::parse::TOKEN[b as usize]) {
                return Err(ParseError::TransferEncoding);
            }
            last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            chunked += usize::from(last_is_chunked);
            codings += 1;
        }
    }
    if chunked > 1 || (chunked == 1 && !last_is_chunked) {
        return Err(ParseError::TransferEncoding);
    }
    if codings > chunked { Err(ParseError::UnknownCoding) } else { Ok(()) }
}

/// Connection options of all lines (RFC 9112 §9.3, §9.6).
#[derive(Default)]
struct Options {
    count: usize,
    close: bool,
    persist: bool,
    upgrade: bool,
}

impl Options {
    fn read(&mut self, value: &[u8]) -> Result<(), ParseError> {
        for option in elements(value) {
            self.count += 1;
            if self.count > limits::CONNECTION_OPTIONS_MAX {
                return Err(ParseError::ConnectionOptions);
            }
            match option.len() {
                5 => self.close |= option.eq_ignore_ascii_case(b"close"),
                7 => self.upgrade |= option.eq_ignore_ascii_case(b"upgrade"),
                10 => self.persist |= option.eq_ignore_ascii_case(b"keep-alive"),
                _ => {}
            }
        }
        Ok(())
    }

    fn keep_alive(&self, http11: bool) -> bool {
        !self.close && (http11 || self.persist)
    }
}

/// Decides which field lines pass to the next hop: not the hop-by-hop ones, nor those that the
/// peer lists in Connection, except names that the gateway or the upstream relies on: listing
/// one of these is ignored.
///
/// Content-Length passes: it belongs to the message, also where there is no body to count.
#[derive(Clone, Debug)]
pub struct Hop<'a> {
    /// Listed in Connection and obeyed. Empty nearly always.
    listed: SmallVec<[&'a [u8]; 4]>,
}

impl<'a> Hop<'a> {
    pub fn of(view: HeadView<'a>) -> Self {
        let mut listed = SmallVec::new();
        for (_, _, value) in view.fields().filter(|(known, _, _)| *known == Known::Connection) {
            let names = elements(value)
                .filter(|e| !e.eq_ignore_ascii_case(b"close") && !hop_by_hop(Known::of(e)))
                .filter(|e| !relied_on(e));
            listed.extend(names.take(limits::CONNECTION_OPTIONS_MAX));
        }
        Self { listed }
    }

    /// Whether a line of this name passes.
    pub fn passes(&self, known: Known, name: &[u8]) -> bool {
        !hop_by_hop(known)
            && (self.listed.is_empty()
                || !self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(name)))
    }
}

/// RFC 9110 §7.6.1, and the proxy credentials of §11.7, which are meant for this hop alone.
fn hop_by_hop(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::ProxyConnection
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Names that no Connection header can remove.
fn relied_on(name: &[u8]) -> bool {
    let prefixed = [&b"content-"[..], b"x-forwarded-", b"x-envoy-", b"x-ambassador-", b"access-"]
        .iter()
        .any(|p| name.get(..p.len()).is_some_and(|start| start.eq_ignore_ascii_case(p)));
    let others: [&[u8]; 5] =
        [b"cache-control", b"forwarded", b"via", b"www-authenticate", b"x-real-ip"];
    prefixed
        || matches!(
            Known::of(name),
            Known::Authorization
                | Known::Cookie
                | Known::Date
                | Known::Expect
                | Known::Host
                | Known::Location
                | Known::Server
                | Known::SetCookie
                | Known::UserAgent
                | Known::XRequestId
        )
        || others.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Non-empty elements of a comma-separated list (RFC 9110 §5.6.1).
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|e| !e.is_empty())
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests;
