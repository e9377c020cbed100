// SPDX-License-Identifier: Apache-2.0
//! Answers that are ours, as Emissary's clients know them: status, text and flags of Envoy.

use ringway_core::policy::format::Flags;
use ringway_core::policy::grpc;
use ringway_core::policy::headers::HeaderEdits;
use ringway_core::wire::h1::encode;

use super::upload::BodyError;
use crate::upstream::NoUpstream;

/// One answer of our own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) json: bool,
    pub(crate) location: Vec<u8>,
    pub(crate) flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(crate) details: &'static str,
    /// The connection ends after it: its framing is in doubt, or its request is incomplete.
    pub(crate) close: bool,
    /// Envoy: `x-envoy-overloaded`.
    pub(crate) overloaded: bool,
    /// What a gRPC call is told, where that is not what its HTTP status says.
    pub(crate) call: Option<grpc::Status>,
}

impl Reply {
    pub(crate) fn new(status: u16, flags: Flags, details: &'static str, body: &str) -> Self {
        Self { status, flags, details, body: body.as_bytes().to_vec(), ..Self::default() }
    }

    /// What a client sent is not understood.
    pub(crate) fn refusal(status: u16, details: &'static str) -> Self {
        Self::new(status, Flags::DPE, details, encode::reason(status)).closing()
    }

    pub(crate) fn redirect(status: u16, location: Vec<u8>, details: &'static str) -> Self {
        Self { status, location, details, ..Self::default() }
    }

    /// What a gRPC call is told.
    pub(crate) fn call_status(&self) -> grpc::Status {
        self.call.unwrap_or_else(|| grpc::Status::of_http(self.status))
    }

    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

/// What the head of our answers needs beside the reply.
pub(crate) struct Context<'a> {
    pub(crate) server: &'a [u8],
    pub(crate) date: &'a [u8],
    pub(crate) close: bool,
    pub(crate) http10: bool,
    /// HEAD: the head of the answer without its body.
    pub(crate) head_only: bool,
    /// The request is a gRPC call: the answer tells its failure as gRPC does, in a head alone of
    /// this media type.
    pub(crate) grpc: Option<Vec<u8>>,
    /// The route's edits of responses; they apply to our answers too, as Envoy's do.
    pub(crate) edits: &'a HeaderEdits,
}

/// Writes head and body; gives the head's length.
pub(crate) fn write(
    out: &mut Vec<u8>,
    reply: &Reply,
    context: &Context<'_>,
    added: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let grpc_type = context.grpc.as_deref();
    let status = if grpc_type.is_some() { 200 } else { reply.status };
    encode::status_line(out, status, encode::reason(status).as_bytes());
    let mut ours = |name: &[u8], value: &[u8]| {
        if !context.edits.drops(name) {
            encode::composed_field(out, name, value);
        }
    };
    if !reply.location.is_empty() {
        ours(b"location", &reply.location);
    }
    if reply.overloaded {
        ours(b"x-envoy-overloaded", b"true");
    }
    if let Some(grpc_type) = grpc_type {
        ours(b"content-type", grpc_type);
        ours(b"grpc-status", reply.call_status().code().to_string().as_bytes());
        if !reply.body.is_empty() {
            let mut message = Vec::new();
            grpc::encode_message(&reply.body, &mut message);
            ours(b"grpc-message", &message);
        }
    } else if !reply.body.is_empty() {
        ours(b"content-type", if reply.json { b"application/json" } else { b"text/plain" });
    }
    ours(b"date", context.date);
    ours(b"server", context.server);
    let body: &[u8] = if grpc_type.is_some() { b"" } else { &reply.body };
    out.extend_from_slice(b"content-length: ");
    encode::decimal(out, body.len() as u64);
    out.extend_from_slice(b"\r\n");
    added(out);
    if context.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if context.http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let head = out.len();
    if !context.head_only {
        out.extend_from_slice(body);
    }
    head
}

/// The upstream's answer cannot be trusted.
pub(super) fn bad_answer(details: &'static str) -> Reply {
    let text =
        "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
    Reply::new(502, Flags::UPE, details, text)
}

/// The upstream took longer than the route lets it, or than the client of a call waits.
pub(super) fn timed_out(call: Option<grpc::Status>) -> Reply {
    let text = "upstream request timeout";
    Reply { call, ..Reply::new(504, Flags::UT, "upstream_response_timeout", text) }
}

pub(super) fn body_refused(error: BodyError) -> Reply {
    match error {
        BodyError::TooLarge => {
            Reply::new(413, Flags::NONE, "request_payload_too_large", "Payload Too Large").closing()
        }
        BodyError::NotBase64 => {
            let text = "Bad gRPC-Web request, invalid base64 data.";
            Reply::new(400, Flags::NONE, "grpc_base_64_decode_failed", text).closing()
        }
        BodyError::Framing(error) => Reply::refusal(error.status(), error.details()),
    }
}

pub(super) fn failure_text(error: NoUpstream) -> &'static str {
    match error {
        NoUpstream::NoEndpoint | NoUpstream::Overflow => "",
        NoUpstream::Refused => "delayed connect error: connection refused",
        NoUpstream::TimedOut => "connection timeout",
        NoUpstream::GivenUp => "",
        NoUpstream::NoUpgrade => "the upstream takes no upgrade over HTTP/2",
        NoUpstream::Tls(reason) => reason,
    }
}

pub(super) fn unavailable(error: NoUpstream) -> Reply {
    match error {
        NoUpstream::NoEndpoint => {
            Reply::new(503, Flags::UH, "no_healthy_upstream", "no healthy upstream")
        }
        NoUpstream::Tls(reason) if !reason.is_empty() => {
            let text = format!(
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: remote connection failure, transport failure reason: {reason}"
            );
            let details = "upstream_reset_before_response_started{remote_connection_failure}";
            Reply::new(503, Flags::UF, details, &text)
        }
        NoUpstream::Refused | NoUpstream::Tls(_) => Reply::new(
            503,
            Flags::UF,
            "upstream_reset_before_response_started{remote_connection_failure}",
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        ),
        NoUpstream::Overflow => {
            let text = "upstream connect error or disconnect/reset before headers. \
                        reset reason: overflow";
            let details = "upstream_reset_before_response_started{overflow}";
            Reply { overloaded: true, ..Reply::new(503, Flags::UO, details, text) }
        }
        NoUpstream::GivenUp => timed_out(Some(grpc::Status::DeadlineExceeded)),
        NoUpstream::NoUpgrade => Reply::new(
            503,
            Flags::UR,
            "upstream_takes_no_upgrade",
            "the upstream takes no upgrade over HTTP/2: it does not offer extended CONNECT (RFC 8441)",
        ),
        NoUpstream::TimedOut => Reply::new(
            503,
            Flags::UF,
            "upstream_reset_before_response_started{connection_timeout}",
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
        ),
    }
}

/// The upstream reset the stream of the request, and no byte of an answer came.
pub(super) fn stream_reset() -> Reply {
    let text =
        "upstream connect error or disconnect/reset before headers. reset reason: remote reset";
    let details = "upstream_reset_before_response_started{remote_reset}";
    Reply::new(503, Flags::UR, details, text)
}

/// Nobody is there to read it.
pub(super) fn disconnected() -> Reply {
    Reply::new(503, Flags::DC, "downstream_remote_disconnect", "")
}

pub(super) fn reset(reason: &str) -> Reply {
    let text = format!(
        "upstream connect error or disconnect/reset before headers. reset reason: {reason}"
    );
    let details = "upstream_reset_before_response_started{connection_termination}";
    Reply::new(503, Flags::UC, details, &text)
}
