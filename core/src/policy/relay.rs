// SPDX-License-Identifier: Apache-2.0
//! The heads that go onward: a request's to the upstream, an answer's to the client.
//!
//! Field lines that pass unchanged are copied as runs of the received bytes; everything that the
//! gateway decides (framing, Host, forwarding, request id, edits) is written anew. What the peer
//! wrote about framing never passes.

use std::net::IpAddr;

use super::balance::{CookieValue, HashCookie};
use super::format::Facts;
use super::grpc::Outcome;
use super::headers::HeaderEdits;
use crate::wire::h1::encode;
use crate::wire::h1::framing::Hop;
use crate::wire::{Framing, HeadView, Known};

/// Everything that decides an upstream request's head.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub view: HeadView<'a>,
    /// Path and query as they go upstream.
    pub target: &'a [u8],
    /// Path and query before a rewrite changed them.
    pub original_path: Option<&'a [u8]>,
    pub host: &'a [u8],
    pub framing: Framing,
    pub request_id: &'a [u8],
    /// Value of `x-forwarded-for`; empty: none.
    pub forwarded_for: &'a [u8],
    pub secure: bool,
    /// The client is one of ours: its x-envoy-* fields pass and it is told to be internal.
    pub internal: bool,
    pub client: IpAddr,
    /// We are the first trusted hop: the client's address is ours to state.
    pub edge: bool,
    /// The route's time-out, for `x-envoy-expected-rq-timeout-ms`.
    pub timeout_ms: Option<u64>,
    pub suppress_envoy_headers: bool,
    /// The client takes trailers: `TE: trailers` passes.
    pub te_trailers: bool,
    /// What the client sent as `x-forwarded-client-cert` passes.
    pub keeps_client_cert: bool,
    /// What we say of the client's certificate; empty: nothing.
    pub client_cert: &'a [u8],
    /// The protocol that the client asks for and may have.
    pub upgrade: Option<&'a [u8]>,
    /// Of a request by gRPC-Web, as gRPC: goes instead of what the client sent.
    pub grpc_type: Option<&'a [u8]>,
}

/// Copies the field lines for which `passes` holds, in order.
fn copy_fields(
    out: &mut Vec<u8>,
    view: HeadView<'_>,
    mut passes: impl FnMut(Known, &[u8]) -> bool,
) {
    let block = view.block;
    // A run is the bytes from the name of its first line to the value of its last. Only a line
    // that stands right behind it, a CRLF between them, makes it longer: whatever else lies between
    // two fields of the head (a field that was taken out of it) does not pass.
    let mut run = 0..0;
    for field in &view.head.fields {
        if !passes(field.known, field.name.of(block)) {
            continue;
        }
        let (start, end) = (field.name.start as usize, field.value.end as usize);
        if block.get(run.end..start) == Some(b"\r\n") {
            run.end = end;
        } else {
            copy_run(out, &block[run]);
            run = start..end;
        }
    }
    copy_run(out, &block[run]);
}

fn copy_run(out: &mut Vec<u8>, run: &[u8]) {
    if !run.is_empty() {
        out.extend_from_slice(run);
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 9110 §7.8: the two fields that belong together.
fn upgrade_fields(out: &mut Vec<u8>, protocol: &[u8]) {
    out.extend_from_slice(b"connection: upgrade\r\n");
    encode::field(out, b"upgrade", protocol);
}

fn framing_fields(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            encode::decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
}

/// Writes a whole request head, its empty line included.
pub fn request_head<'f>(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    edits: &HeaderEdits,
    facts: impl FnOnce() -> Facts<'f>,
) {
    let view = head.view;
    out.extend_from_slice(view.method());
    out.push(b' ');
    out.extend_from_slice(head.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    encode::field(out, b"host", head.host);
    // Here and nowhere else: HTTP/2 has another way to ask.
    if let Some(protocol) = head.upgrade {
        upgrade_fields(out, protocol);
    }

    let hop = Hop::of(view);
    copy_fields(out, view, |known, name| {
        let ours = match known {
            Known::Host
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::Te
            | Known::Expect
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XRequestId
            | Known::XEnvoyOriginalPath
            | Known::XEnvoyExpectedRqTimeoutMs
            | Known::XEnvoyInternal
            | Known::XEnvoyExternalAddress => true,
            Known::ContentType => head.grpc_type.is_some(),
            Known::XForwardedClientCert => !head.keeps_client_cert || !head.client_cert.is_empty(),
            Known::XEnvoyUpstreamServiceTime | Known::XEnvoyOther => !head.internal,
            _ => false,
        };
        !ours && hop.passes(known, name) && !edits.drops(name) && !shadows_trusted(name)
    });

    framing_fields(out, head.framing);
    if head.te_trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    if !head.client_cert.is_empty() && !edits.drops(CLIENT_CERT) {
        client_cert_field(out, head);
    }
    if let Some(grpc_type) = head.grpc_type {
        encode::field(out, b"content-type", grpc_type);
        // Browsers decompress no messages.
        if view.first("grpc-accept-encoding").is_none() {
            out.extend_from_slice(b"grpc-accept-encoding: identity\r\n");
        }
    }
    let mut ours = |name: &[u8], value: &[u8]| {
        if !edits.drops(name) {
            encode::field(out, name, value);
        }
    };
    if !head.forwarded_for.is_empty() {
        ours(b"x-forwarded-for", head.forwarded_for);
    }
    ours(b"x-forwarded-proto", if head.secure { b"https" } else { b"http" });
    ours(b"x-request-id", head.request_id);
    if head.internal {
        ours(b"x-envoy-internal", b"true");
    }
    if head.edge {
        let mut text = [0u8; 46];
        ours(b"x-envoy-external-address", address(&mut text, head.client));
    }
    if !head.suppress_envoy_headers {
        if let Some(ms) = head.timeout_ms {
            let mut text = [0u8; 20];
            ours(b"x-envoy-expected-rq-timeout-ms", digits(&mut text, ms));
        }
        if let Some(path) = head.original_path {
            ours(b"x-envoy-original-path", path);
        }
    }
    if !edits.add.is_empty() {
        edits.write_added(&facts(), out);
    }
    out.extend_from_slice(b"\r\n");
}

const CLIENT_CERT: &[u8] = b"x-forwarded-client-cert";

/// What is kept of the client's field, then ours: one list, as Envoy writes it.
fn client_cert_field(out: &mut Vec<u8>, head: &RequestHead<'_>) {
    out.extend_from_slice(CLIENT_CERT);
    out.extend_from_slice(b": ");
    let kept = head.view.fields().filter(|(known, ..)| *known == Known::XForwardedClientCert);
    for (_, _, value) in kept.filter(|(.., value)| head.keeps_client_cert && !value.is_empty()) {
        out.extend_from_slice(value);
        out.push(b',');
    }
    out.extend_from_slice(head.client_cert);
    out.extend_from_slice(b"\r\n");
}

/// A name that becomes one of the fields that upstreams trust from us once `_` is read as `-`, as
/// CGI-like servers do: it never reaches the upstream beside ours.
fn shadows_trusted(name: &[u8]) -> bool {
    if !name.contains(&b'_') {
        return false;
    }
    let mut folded = [0u8; 32];
    let Some(folded) = folded.get_mut(..name.len()) else { return false };
    folded.copy_from_slice(name);
    folded.iter_mut().filter(|b| **b == b'_').for_each(|b| *b = b'-');
    matches!(
        Known::of(folded),
        Known::Host
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::Authorization
            | Known::XForwardedFor
            | Known::XForwardedClientCert
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XRequestId
            | Known::XEnvoyInternal
            | Known::XEnvoyExternalAddress
            | Known::XEnvoyOriginalPath
    )
}

/// Everything that decides the head of an answer to the client.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    pub view: HeadView<'a>,
    pub framing: Framing,
    /// The client speaks HTTP/1.0.
    pub http10: bool,
    /// Our side of the connection ends after this answer.
    pub close: bool,
    pub server: &'a [u8],
    /// For answers that came without one.
    pub date: &'a [u8],
    /// Milliseconds until the upstream's head came.
    pub service_time_ms: Option<u64>,
    /// Length that a body would have had (HEAD, 304): passes although there is none.
    pub bodyless_length: Option<u64>,
    /// The protocol that the connection switches to.
    pub upgrade: Option<&'a [u8]>,
    /// The cookie that keeps the client at its endpoint, where it is given one.
    pub set_cookie: Option<(&'a HashCookie, &'a CookieValue)>,
    /// gRPC's answer to a request by gRPC-Web: goes instead of what the upstream sent.
    pub web_type: Option<&'a [u8]>,
    /// What the answer's trailers said of a gRPC call, for a client that reads none.
    pub outcome: Option<&'a Outcome<'a>>,
}

/// Writes a whole response head, its empty line included.
pub fn response_head<'f>(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    edits: &HeaderEdits,
    facts: impl FnOnce() -> Facts<'f>,
) {
    let view = head.view;
    let status = view.head.status;
    match head.outcome.map(|outcome| outcome.bridged(status)) {
        Some(other) if other != status => {
            encode::status_line(out, other, encode::reason(other).as_bytes());
        }
        _ => encode::status_line(out, status, view.target()),
    }
    let hop = Hop::of(view);
    let mut dated = false;
    copy_fields(out, view, |known, name| {
        let ours = match known {
            Known::ContentLength
            | Known::TransferEncoding
            | Known::Server
            | Known::XEnvoyUpstreamServiceTime => true,
            Known::ContentType => head.web_type.is_some(),
            Known::Date => {
                dated = true;
                false
            }
            _ => false,
        };
        !ours && hop.passes(known, name) && !edits.drops(name)
    });
    match head.bodyless_length {
        Some(length) => framing_fields(out, Framing::Length(length)),
        None => framing_fields(out, head.framing),
    }
    let mut ours = |name: &[u8], value: &[u8]| {
        if !edits.drops(name) {
            encode::field(out, name, value);
        }
    };
    if !dated {
        ours(b"date", head.date);
    }
    ours(b"server", head.server);
    if let Some(ms) = head.service_time_ms {
        let mut text = [0u8; 20];
        ours(b"x-envoy-upstream-service-time", digits(&mut text, ms));
    }
    if let Some((cookie, value)) = head.set_cookie
        && !edits.drops(b"set-cookie")
    {
        out.extend_from_slice(b"set-cookie: ");
        cookie.write_value(value, out);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(web_type) = head.web_type {
        encode::field(out, b"content-type", web_type);
    }
    if let Some(outcome) = head.outcome {
        outcome.write(out);
    }
    if !edits.add.is_empty() {
        edits.write_added(&facts(), out);
    }
    if let Some(protocol) = head.upgrade {
        upgrade_fields(out, protocol);
    } else if head.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if head.http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn digits(text: &mut [u8; 20], mut n: u64) -> &[u8] {
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &text[at..];
        }
    }
}

fn address(text: &mut [u8; 46], address: IpAddr) -> &[u8] {
    use std::io::Write;
    let mut rest = &mut text[..];
    write!(rest, "{address}").expect("46 bytes hold every address");
    let left = rest.len();
    &text[..46 - left]
}

#[cfg(test)]
mod tests;
