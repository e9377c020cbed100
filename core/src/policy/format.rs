// SPDX-License-Identifier: Apache-2.0
//! Envoy's format strings (`%REQ(NAME?ALT):LEN%`, `%DOWNSTREAM_REMOTE_ADDRESS%`, …): header
//! values, access logs, error bodies.
//!
//! A format is taken apart once, when its object is resolved. A value that is missing is `-` in a
//! log and nothing in a header, as in Envoy. No value brings a CR, LF or NUL along.

use std::hash::{Hash, Hasher};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::client_certificate::Certificate;
use crate::wire::{HeadView, Known, Version};

/// What a format string may ask about a request and its answer. Built only when a format asks.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub request: HeadView<'a>,
    /// Normalised path and query, before any rewrite.
    pub path: &'a [u8],
    /// Lower case, as routing saw it.
    pub authority: &'a [u8],
    /// The request id that goes upstream; empty before it is known.
    pub request_id: &'a [u8],
    /// The `x-forwarded-for` that goes upstream; empty before it is known.
    pub forwarded_for: &'a [u8],
    /// The path that went upstream, when it was rewritten.
    pub rewritten_path: Option<&'a [u8]>,
    /// Connection peer.
    pub peer: SocketAddr,
    /// The client after trusted hops.
    pub client: IpAddr,
    pub local: SocketAddr,
    pub secure: bool,
    /// `None`: no HTTP.
    pub version: Option<Version>,
    /// Microseconds since the Unix epoch when the request's first byte came.
    pub start_us: u64,
    pub response: Option<HeadView<'a>>,
    /// 0 when there was no answer.
    pub status: u16,
    pub flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`, as Envoy names them (`via_upstream`, `route_not_found`, …).
    pub details: &'a str,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Of the whole exchange.
    pub duration_us: u64,
    /// Until the request's last byte came; `None` if it never did.
    pub request_us: Option<u64>,
    /// Until the upstream's head came; `None` without an upstream.
    pub upstream_us: Option<u64>,
    pub upstream: Option<SocketAddr>,
    pub upstream_local: Option<SocketAddr>,
    /// The cluster's name.
    pub cluster: &'a str,
    /// `namespace/name` of the Mapping.
    pub route: &'a str,
    /// Why an upstream connection failed.
    pub transport_failure: &'a str,
    /// Of a connection that came over TLS.
    pub tls: Option<Tls<'a>>,
}

/// What a client's TLS handshake settled.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// `TLSv1.2`, `TLSv1.3`.
    pub version: &'static str,
    /// OpenSSL's name.
    pub cipher: &'static str,
    /// Empty: the client sent none.
    pub server_name: &'a str,
    /// What the client showed.
    pub certificate: Option<&'a Certificate>,
}

mod kept;

pub use kept::Kept;

/// Envoy's response flags, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    pub const NONE: Self = Self(0);
    /// Client went away before the answer was complete.
    pub const DC: Self = Self(1 << 0);
    /// No healthy upstream.
    pub const UH: Self = Self(1 << 1);
    /// Upstream connection failure.
    pub const UF: Self = Self(1 << 2);
    /// Upstream overflow (circuit breaking).
    pub const UO: Self = Self(1 << 3);
    /// No route.
    pub const NR: Self = Self(1 << 4);
    /// Upstream request time-out.
    pub const UT: Self = Self(1 << 5);
    /// Upstream retry limit exceeded.
    pub const URX: Self = Self(1 << 6);
    /// Upstream remote reset.
    pub const UR: Self = Self(1 << 7);
    /// Upstream connection termination.
    pub const UC: Self = Self(1 << 8);
    /// Connection local reset.
    pub const LR: Self = Self(1 << 9);
    /// Rate limited.
    pub const RL: Self = Self(1 << 10);
    /// Unauthorized by the external auth service.
    pub const UAEX: Self = Self(1 << 11);
    /// Stream idle time-out.
    pub const SI: Self = Self(1 << 12);
    /// Downstream protocol error.
    pub const DPE: Self = Self(1 << 13);
    /// Upstream protocol error.
    pub const UPE: Self = Self(1 << 14);
    /// Cluster not found.
    pub const NC: Self = Self(1 << 15);
    /// Overload manager.
    pub const OM: Self = Self(1 << 16);

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Envoy's order, in which several flags are written: flag, short and long name.
    const NAMES: [(Self, &'static str, &'static str); 17] = [
        (Self::UH, "UH", "NoHealthyUpstream"),
        (Self::UT, "UT", "UpstreamRequestTimeout"),
        (Self::LR, "LR", "LocalReset"),
        (Self::UR, "UR", "UpstreamRemoteReset"),
        (Self::UF, "UF", "UpstreamConnectionFailure"),
        (Self::UC, "UC", "UpstreamConnectionTermination"),
        (Self::UO, "UO", "UpstreamOverflow"),
        (Self::NR, "NR", "NoRouteFound"),
        (Self::RL, "RL", "RateLimited"),
        (Self::UAEX, "UAEX", "UnauthorizedExternalService"),
        (Self::DC, "DC", "DownstreamConnectionTermination"),
        (Self::URX, "URX", "UpstreamRetryLimitExceeded"),
        (Self::SI, "SI", "StreamIdleTimeout"),
        (Self::DPE, "DPE", "DownstreamProtocolError"),
        (Self::UPE, "UPE", "UpstreamProtocolError"),
        (Self::NC, "NC", "NoClusterFound"),
        (Self::OM, "OM", "OverloadManagerTerminated"),
    ];

    /// Appends the short names, joined by commas in Envoy's order; `-` when there is none.
    pub fn write(self, out: &mut Vec<u8>) {
        self.write_names(|(_, short, _)| short, out);
    }

    fn write_names(
        self,
        name: impl Fn((Self, &'static str, &'static str)) -> &'static str,
        out: &mut Vec<u8>,
    ) {
        if self == Self::NONE {
            return out.push(b'-');
        }
        let start = out.len();
        for entry in Self::NAMES.into_iter().filter(|(flag, ..)| self.contains(*flag)) {
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(name(entry).as_bytes());
        }
    }
}

/// A compiled format string. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Format {
    /// As written; what `Eq` and `Serialize` mean.
    text: Arc<str>,
    parts: Arc<[Part]>,
    /// No CR, LF or NUL is written in it.
    one_line: bool,
}

/// Why a format string is refused; the text is fit for a problem's message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the `%` at byte {0} begins no operator such as %REQ(NAME)%; a plain % is written %%")]
    Unbalanced(usize),
    #[error("there is no operator %{0}%")]
    UnknownOperator(String),
    #[error("%{0}% needs an argument in parentheses")]
    NoArgument(String),
    #[error("%{operator}% does not take the argument `{argument}`")]
    BadArgument { operator: String, argument: String },
}

/// A typed value, as JSON tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Missing,
    Number,
    Text,
}

impl Format {
    /// Emissary's default access-log line, without its line end.
    pub const ACCESS_LOG: &'static str = "ACCESS [%START_TIME%] \"%REQ(:METHOD)% \
        %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
        %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
        \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
        \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"";

    /// Takes a format string apart. Operators of Envoy's that have no value here are accepted;
    /// they are always missing.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            let from = text.len() - rest.len() + at;
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push(b'%');
                rest = after;
                continue;
            }
            let written = Written::split(rest).ok_or(FormatError::Unbalanced(from))?;
            rest = written.rest;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Value { operator: Operator::parse(&written)?, len: written.len });
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        let one_line = memchr::memchr3(b'\r', b'\n', 0, text.as_bytes()).is_none();
        Ok(Self { text: text.into(), parts: parts.into(), one_line })
    }

    /// The default access-log line, compiled.
    pub fn access_log_text() -> Self {
        Self::parse(Self::ACCESS_LOG).expect("the default format is well-formed")
    }

    /// The format as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole value where no operator is in it, `%%` resolved.
    pub fn literal(&self) -> Option<&[u8]> {
        match &*self.parts {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the text for a log; what is missing is `-`.
    pub fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        self.write_or(facts, b"-", out);
    }

    /// Appends the text for a header or a body; what is missing is nothing.
    pub fn write_value(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        self.write_or(facts, b"", out);
    }

    /// As [`Format::write`], but a format that is one operator keeps its type, and appends nothing
    /// when it is missing.
    pub fn write_typed(&self, facts: &Facts<'_>, out: &mut Vec<u8>) -> Type {
        let [Part::Value { operator, len }] = &*self.parts else {
            self.write(facts, out);
            return Type::Text;
        };
        let start = out.len();
        if !write_value(operator, *len, facts, out) {
            return Type::Missing;
        }
        keep_in_line(&mut out[start..]);
        if operator.is_number() { Type::Number } else { Type::Text }
    }

    fn write_or(&self, facts: &Facts<'_>, missing: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(LINE_BYTES);
        for part in &*self.parts {
            match part {
                Part::Text(text) => push_bytes(text, out),
                Part::Value { operator, len } => {
                    let from = out.len();
                    if !write_value(operator, *len, facts, out) {
                        push_bytes(missing, out);
                    } else if !self.one_line {
                        keep_in_line(&mut out[from..]);
                    }
                }
            }
        }
        if self.one_line {
            keep_in_line(&mut out[start..]);
        }
    }
}

/// What most access-log lines take.
const LINE_BYTES: usize = 256;

/// Line ends and NUL become spaces.
fn keep_in_line(text: &mut [u8]) {
    if memchr::memchr3(b'\r', b'\n', 0, text).is_some() {
        for byte in text {
            if matches!(byte, b'\r' | b'\n' | 0) {
                *byte = b' ';
            }
        }
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Format {}

impl Hash for Format {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl serde::Serialize for Format {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Appends one value and says whether it was there.
fn write_value(
    operator: &Operator,
    len: Option<usize>,
    facts: &Facts<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    if !operator.write(facts, out) {
        return false;
    }
    if let Some(len) = len {
        out.truncate(out.len().min(start.saturating_add(len)));
    }
    true
}

#[derive(Debug)]
enum Part {
    Text(Box<[u8]>),
    /// At most `len` bytes of it.
    Value {
        operator: Operator,
        len: Option<usize>,
    },
}

/// An operator as written, after its first `%`.
struct Written<'t> {
    name: &'t str,
    argument: Option<&'t str>,
    len: Option<usize>,
    rest: &'t str,
}

impl<'t> Written<'t> {
    /// Envoy's grammar: `NAME`, `(argument)` without `)` in it, `:length`, `%`.
    fn split(text: &'t str) -> Option<Self> {
        let end = text.find(|c: char| !matches!(c, 'A'..='Z' | '0'..='9' | '_'))?;
        let (name, mut rest) = text.split_at(end);
        let mut argument = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let (inside, after) = inner.split_once(')')?;
            argument = Some(inside);
            rest = after;
        }
        let mut len = None;
        if let Some(digits) = rest.strip_prefix(':') {
            let end = digits.find(|c: char| !c.is_ascii_digit())?;
            // Digits only: what does not fit is longer than any value.
            len = Some(digits[..end].parse().unwrap_or(usize::MAX)).filter(|_| end > 0);
            len?;
            rest = &digits[end..];
        }
        let rest = rest.strip_prefix('%')?;
        (!name.is_empty()).then_some(Self { name, argument, len, rest })
    }
}

#[derive(Debug)]
enum Operator {
    /// Known to Envoy, nothing to say here.
    Absent,
    BytesReceived,
    BytesSent,
    /// The client after trusted hops, with a port of 0 where it is not the peer, as in Envoy.
    Client(Show),
    Cluster,
    Details,
    Duration,
    Flags,
    FlagsLong,
    Local(Show),
    Peer(Show),
    Protocol,
    Request {
        name: RequestField,
        alternative: Option<RequestField>,
    },
    RequestDuration,
    Response {
        name: ResponseField,
        alternative: Option<ResponseField>,
    },
    ResponseDuration,
    ResponseTxDuration,
    Route,
    StartTime(TimeFormat),
    Status,
    Tls(TlsField),
    TransportFailure,
    Upstream(Show),
    UpstreamLocal(Show),
    UpstreamProtocol,
}

/// Which part of an address is written.
#[derive(Clone, Copy, Debug)]
enum Show {
    Both,
    Ip,
    Port,
}

impl Operator {
    fn parse(written: &Written<'_>) -> Result<Self, FormatError> {
        let operator = match written.name {
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Self::Peer(Show::Both),
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Self::Peer(Show::Ip),
            "DOWNSTREAM_DIRECT_REMOTE_PORT" => Self::Peer(Show::Port),
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::Local(Show::Both),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::Local(Show::Ip),
            "DOWNSTREAM_LOCAL_PORT" => Self::Local(Show::Port),
            "DOWNSTREAM_PEER_DNS_SAN" => Self::Tls(TlsField::Dns),
            "DOWNSTREAM_PEER_FINGERPRINT_256" => Self::Tls(TlsField::Fingerprint),
            "DOWNSTREAM_PEER_ISSUER" => Self::Tls(TlsField::Issuer),
            "DOWNSTREAM_PEER_SERIAL" => Self::Tls(TlsField::Serial),
            "DOWNSTREAM_PEER_SUBJECT" => Self::Tls(TlsField::Subject),
            "DOWNSTREAM_PEER_URI_SAN" => Self::Tls(TlsField::Uri),
            "DOWNSTREAM_TLS_CIPHER" => Self::Tls(TlsField::Cipher),
            "DOWNSTREAM_TLS_VERSION" => Self::Tls(TlsField::Version),
            "REQUESTED_SERVER_NAME" => Self::Tls(TlsField::ServerName),
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::Client(Show::Both),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::Client(Show::Ip),
            "DOWNSTREAM_REMOTE_PORT" => Self::Client(Show::Port),
            "DURATION" => Self::Duration,
            "PROTOCOL" => Self::Protocol,
            "REQUEST_DURATION" => Self::RequestDuration,
            "RESPONSE_CODE" => Self::Status,
            "RESPONSE_CODE_DETAILS" => Self::Details,
            "RESPONSE_DURATION" => Self::ResponseDuration,
            "RESPONSE_FLAGS" => Self::Flags,
            "RESPONSE_FLAGS_LONG" => Self::FlagsLong,
            "RESPONSE_TX_DURATION" => Self::ResponseTxDuration,
            "ROUTE_NAME" => Self::Route,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::Cluster,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::Upstream(Show::Both),
            "UPSTREAM_LOCAL_ADDRESS" => Self::UpstreamLocal(Show::Both),
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::UpstreamLocal(Show::Ip),
            "UPSTREAM_LOCAL_PORT" => Self::UpstreamLocal(Show::Port),
            "UPSTREAM_PROTOCOL" => Self::UpstreamProtocol,
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::Upstream(Show::Ip),
            "UPSTREAM_REMOTE_PORT" => Self::Upstream(Show::Port),
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::TransportFailure,
            name => return Self::with_argument(name, written.argument),
        };
        match written.argument {
            None => Ok(operator),
            Some(argument) => Err(bad_argument(written.name, argument)),
        }
    }

    /// Operators that take an argument, and those that have no value here.
    fn with_argument(name: &str, argument: Option<&str>) -> Result<Self, FormatError> {
        match (name, argument) {
            ("START_TIME", None | Some("")) => Ok(Self::StartTime(TimeFormat::Iso)),
            ("START_TIME", Some(argument)) => match TimeFormat::parse(argument) {
                Some(format) => Ok(Self::StartTime(format)),
                None => Err(bad_argument(name, argument)),
            },
            ("REQ" | "RESP" | "TRAILER", None | Some("")) => {
                Err(FormatError::NoArgument(name.to_owned()))
            }
            ("REQ" | "RESP" | "TRAILER", Some(argument)) => {
                let mut names = argument.split('?');
                let first = names.next().unwrap_or_default();
                let second = names.next();
                let bad = |c: char| c.is_ascii_control() || c == ' ';
                if names.next().is_some() || first.is_empty() || argument.contains(bad) {
                    return Err(bad_argument(name, argument));
                }
                Ok(match name {
                    "REQ" => Self::Request {
                        name: RequestField::parse(first),
                        alternative: second.map(RequestField::parse),
                    },
                    "RESP" => Self::Response {
                        name: ResponseField::parse(first),
                        alternative: second.map(ResponseField::parse),
                    },
                    _ => Self::Absent,
                })
            }
            _ if ABSENT.contains(&name) => Ok(Self::Absent),
            _ if ABSENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => Ok(Self::Absent),
            _ => Err(FormatError::UnknownOperator(name.to_owned())),
        }
    }

    fn is_number(&self) -> bool {
        matches!(
            self,
            Self::BytesReceived
                | Self::BytesSent
                | Self::Client(Show::Port)
                | Self::Duration
                | Self::Local(Show::Port)
                | Self::Peer(Show::Port)
                | Self::RequestDuration
                | Self::ResponseDuration
                | Self::ResponseTxDuration
                | Self::Status
                | Self::Upstream(Show::Port)
                | Self::UpstreamLocal(Show::Port)
        )
    }

    /// Appends the value; false, and nothing appended, when it is missing.
    fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Absent => false,
            Self::BytesReceived => push_integer(facts.bytes_received, out),
            Self::BytesSent => push_integer(facts.bytes_sent, out),
            Self::Client(show) => {
                let peer = facts.peer.ip().to_canonical();
                let port = if facts.client == peer { facts.peer.port() } else { 0 };
                push_address(SocketAddr::new(facts.client, port), *show, out)
            }
            Self::Cluster => push_text(facts.cluster.as_bytes(), out),
            Self::Details => push_text(facts.details.as_bytes(), out),
            Self::Duration => push_integer(facts.duration_us / 1000, out),
            Self::Flags => {
                facts.flags.write(out);
                true
            }
            Self::FlagsLong => {
                facts.flags.write_names(|(_, _, long)| long, out);
                true
            }
            Self::Local(show) => push_address(facts.local, *show, out),
            Self::Peer(show) => push_address(facts.peer, *show, out),
            Self::Protocol => match facts.version {
                Some(version) => push_text(version.as_str().as_bytes(), out),
                None => false,
            },
            Self::Request { name, alternative } => {
                name.write(facts, out)
                    || alternative.as_ref().is_some_and(|other| other.write(facts, out))
            }
            Self::RequestDuration => push_ms(facts.request_us, out),
            Self::Response { name, alternative } => {
                name.write(facts, out)
                    || alternative.as_ref().is_some_and(|other| other.write(facts, out))
            }
            Self::ResponseDuration => push_ms(facts.upstream_us, out),
            Self::ResponseTxDuration => {
                push_ms(facts.upstream_us.map(|us| facts.duration_us.saturating_sub(us)), out)
            }
            Self::Route => push_text(facts.route.as_bytes(), out),
            Self::StartTime(format) => {
                format.write(facts.start_us, out);
                true
            }
            Self::Status => push_integer(u64::from(facts.status), out),
            Self::Tls(field) => facts.tls.is_some_and(|tls| field.write(tls, out)),
            Self::TransportFailure => push_text(facts.transport_failure.as_bytes(), out),
            Self::Upstream(show) => facts.upstream.is_some_and(|a| push_address(a, *show, out)),
            Self::UpstreamLocal(show) => {
                facts.upstream_local.is_some_and(|a| push_address(a, *show, out))
            }
            Self::UpstreamProtocol => facts.upstream.is_some() && push_text(b"HTTP/1.1", out),
        }
    }
}

/// What is asked about a connection over TLS.
#[derive(Clone, Copy, Debug)]
enum TlsField {
    Cipher,
    Dns,
    Fingerprint,
    Issuer,
    Serial,
    ServerName,
    Subject,
    Uri,
    Version,
}

impl TlsField {
    fn write(self, tls: Tls<'_>, out: &mut Vec<u8>) -> bool {
        match (self, tls.certificate) {
            (Self::Cipher, _) => push_text(tls.cipher.as_bytes(), out),
            (Self::ServerName, _) => push_text(tls.server_name.as_bytes(), out),
            (Self::Version, _) => push_text(tls.version.as_bytes(), out),
            (_, None) => false,
            (Self::Dns, Some(shown)) => push_list(&shown.dns, out),
            (Self::Fingerprint, Some(shown)) => push_text(shown.fingerprint.as_bytes(), out),
            (Self::Issuer, Some(shown)) => push_text(shown.issuer.as_bytes(), out),
            (Self::Serial, Some(shown)) => push_text(shown.serial.as_bytes(), out),
            (Self::Subject, Some(shown)) => push_text(shown.subject.as_bytes(), out),
            (Self::Uri, Some(shown)) => push_list(&shown.uris, out),
        }
    }
}

/// Appends texts joined by commas; none are missing.
fn push_list(texts: &[Box<str>], out: &mut Vec<u8>) -> bool {
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(text.as_bytes());
    }
    !texts.is_empty()
}

/// Envoy's operators that say nothing here: no host name, no metadata, no trace yet.
const ABSENT: [&str; 17] = [
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "DYNAMIC_METADATA",
    "EMIT_TIME",
    "ENVIRONMENT",
    "FILTER_CHAIN_NAME",
    "FILTER_STATE",
    "GRPC_STATUS",
    "GRPC_STATUS_NUMBER",
    "HOSTNAME",
    "LOCAL_REPLY_BODY",
    "METADATA",
    "PER_REQUEST_STATE",
    "STREAM_ID",
    "TRACE_ID",
    "UNIQUE_ID",
    "VIRTUAL_CLUSTER_NAME",
];

const ABSENT_PREFIXES: [&str; 13] = [
    "CLUSTER_METADATA",
    "CONNECTION_SERVER_NAME",
    "DOWNSTREAM_HEADER_BYTES",
    "DOWNSTREAM_LOCAL_",
    "DOWNSTREAM_PEER_",
    "DOWNSTREAM_TLS_",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_WIRE_BYTES",
    "REQUEST_HEADERS_BYTES",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "ROUTE_METADATA",
    "UPSTREAM_",
];

fn bad_argument(operator: &str, argument: &str) -> FormatError {
    FormatError::BadArgument { operator: operator.to_owned(), argument: argument.to_owned() }
}

/// A request field as it went upstream, as far as we set it ourselves.
#[derive(Debug)]
enum RequestField {
    Authority,
    ForwardedFor,
    ForwardedProto,
    Known(Known),
    Method,
    Named(Box<str>),
    /// `x-envoy-original-path`: there when the path was rewritten.
    OriginalPath,
    /// Other `x-envoy-` names: what a client sends there is not believed.
    Ours,
    Path,
    RequestId,
}

impl RequestField {
    fn parse(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            ":authority" => Self::Authority,
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":scheme" => Self::ForwardedProto,
            _ if name.starts_with(Known::XEnvoyOther.as_str()) => {
                match Known::of(name.as_bytes()) {
                    Known::XEnvoyOriginalPath => Self::OriginalPath,
                    _ => Self::Ours,
                }
            }
            _ => match Known::of(name.as_bytes()) {
                Known::Host => Self::Authority,
                Known::XForwardedFor => Self::ForwardedFor,
                Known::XForwardedProto => Self::ForwardedProto,
                Known::XRequestId => Self::RequestId,
                Known::Other => Self::Named(name.into()),
                known => Self::Known(known),
            },
        }
    }

    fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) -> bool {
        let head = facts.request;
        match self {
            Self::Authority => push_text(facts.authority, out),
            Self::ForwardedFor => push_text(facts.forwarded_for, out),
            Self::ForwardedProto => push_text(if facts.secure { b"https" } else { b"http" }, out),
            Self::Known(known) => push_text(head.known(*known).unwrap_or_default(), out),
            Self::Method => push_text(head.method(), out),
            Self::Named(name) => push_text(head.first(name).unwrap_or_default(), out),
            Self::OriginalPath => facts.rewritten_path.is_some() && push_text(facts.path, out),
            Self::Ours => false,
            Self::Path => push_text(facts.rewritten_path.unwrap_or(facts.path), out),
            Self::RequestId => push_text(facts.request_id, out),
        }
    }
}

/// A field of the upstream's answer.
#[derive(Debug)]
enum ResponseField {
    Named(Box<str>),
    /// `x-envoy-upstream-service-time`, which we set.
    ServiceTime,
    Status,
}

impl ResponseField {
    fn parse(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            ":status" => Self::Status,
            "x-envoy-upstream-service-time" => Self::ServiceTime,
            _ => Self::Named(name.into()),
        }
    }

    fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Named(name) => {
                let value = facts.response.and_then(|head| head.first(name));
                push_text(value.unwrap_or_default(), out)
            }
            Self::ServiceTime => push_ms(facts.upstream_us, out),
            Self::Status => facts.status != 0 && push_integer(u64::from(facts.status), out),
        }
    }
}

/// How a point in time is written, in UTC.
#[derive(Debug)]
enum TimeFormat {
    /// `2026-11-24T20:44:00.123Z`, RFC 3339 with milliseconds.
    Iso,
    Parts(Box<[TimePart]>),
}

#[derive(Clone, Copy, Debug)]
enum TimePart {
    Text(u8),
    /// Seconds since the Unix epoch.
    Epoch,
    /// This many digits of the second's fraction.
    Fraction(usize),
    Field(u8),
}

impl TimeFormat {
    /// `strftime` with Envoy's `%1f`…`%9f` (`%f` is `%9f`) and `%E3S`-like seconds left out.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                parts.push(TimePart::Text(byte));
                continue;
            }
            parts.push(match bytes.next()? {
                b'%' => TimePart::Text(b'%'),
                b'n' | b't' => TimePart::Text(b' '),
                b's' => TimePart::Epoch,
                b'f' => TimePart::Fraction(9),
                digit @ b'1'..=b'9' if bytes.next()? == b'f' => {
                    TimePart::Fraction(usize::from(digit - b'0'))
                }
                field if b"YmdHMSFTDRyjeaAbBhZzIpu".contains(&field) => TimePart::Field(field),
                _ => return None,
            });
        }
        Some(Self::Parts(parts.into()))
    }

    fn write(&self, us: u64, out: &mut Vec<u8>) {
        match self {
            Self::Iso => Moment::of(us).write_iso(out),
            Self::Parts(parts) => {
                let moment = Moment::of(us);
                for part in parts {
                    match *part {
                        TimePart::Text(byte) => out.push(byte),
                        TimePart::Epoch => {
                            push_integer(us / 1_000_000, out);
                        }
                        TimePart::Fraction(digits) => {
                            let start = out.len();
                            push_padded(u64::from(moment.micros) * 1000, 9, out);
                            out.truncate(start + digits);
                        }
                        TimePart::Field(field) => moment.write_field(field, out),
                    }
                }
            }
        }
    }
}

/// A point in time taken apart: Gregorian calendar, UTC.
struct Moment {
    year: u64,
    month: u8,
    day: u8,
    /// Since 1 January, which is 1.
    year_day: u16,
    /// Since Sunday, which is 0.
    week_day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    micros: u32,
}

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Moment {
    /// Days to dates in a calendar of years that begin in March, where a leap day comes last.
    fn of(us: u64) -> Self {
        let seconds = us / 1_000_000;
        let days = seconds / 86_400;
        let of_day = (seconds % 86_400) as u32;
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let of_era = shifted % 146_097;
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * march_month + 2) / 5 + 1) as u8;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u8;
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let year_day = match month {
            1 | 2 => of_year - 306 + 1,
            _ => of_year + 60 + u64::from(leap),
        };
        Self {
            year,
            month,
            day,
            year_day: year_day as u16,
            week_day: ((days + 4) % 7) as u8,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            micros: (us % 1_000_000) as u32,
        }
    }

    fn write_iso(&self, out: &mut Vec<u8>) {
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let year = self.year.min(9999);
        put_pair(&mut text, 0, (year / 100) as u8);
        put_pair(&mut text, 2, (year % 100) as u8);
        put_pair(&mut text, 5, self.month);
        put_pair(&mut text, 8, self.day);
        put_pair(&mut text, 11, self.hour);
        put_pair(&mut text, 14, self.minute);
        put_pair(&mut text, 17, self.second);
        let millis = self.micros / 1000;
        text[20] = b'0' + (millis / 100) as u8;
        put_pair(&mut text, 21, (millis % 100) as u8);
        out.extend_from_slice(&text);
    }

    fn write_field(&self, field: u8, out: &mut Vec<u8>) {
        let pair = |value: u8, out: &mut Vec<u8>| push_padded(u64::from(value), 2, out);
        let all = |fields: &[u8], separator: u8, out: &mut Vec<u8>| {
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(separator);
                }
                self.write_field(*field, out);
            }
        };
        let hour12 = (self.hour + 11) % 12 + 1;
        let day_name = DAYS[usize::from(self.week_day)].as_bytes();
        let month_name = MONTHS[usize::from(self.month) - 1].as_bytes();
        match field {
            b'Y' => push_padded(self.year, 4, out),
            b'm' => pair(self.month, out),
            b'd' => pair(self.day, out),
            b'H' => pair(self.hour, out),
            b'I' => pair(hour12, out),
            b'M' => pair(self.minute, out),
            b'S' => pair(self.second, out),
            b'F' => all(b"Ymd", b'-', out),
            b'T' => all(b"HMS", b':', out),
            b'R' => all(b"HM", b':', out),
            b'D' => all(b"mdy", b'/', out),
            b'y' => push_padded(self.year % 100, 2, out),
            b'j' => push_padded(u64::from(self.year_day), 3, out),
            b'e' if self.day < 10 => out.extend_from_slice(&[b' ', b'0' + self.day]),
            b'e' => pair(self.day, out),
            b'a' => out.extend_from_slice(&day_name[..3]),
            b'A' => out.extend_from_slice(day_name),
            b'b' | b'h' => out.extend_from_slice(&month_name[..3]),
            b'B' => out.extend_from_slice(month_name),
            b'p' => out.extend_from_slice(if self.hour < 12 { b"AM" } else { b"PM" }),
            b'u' => out.push(b'0' + (self.week_day + 6) % 7 + 1),
            b'Z' => out.extend_from_slice(b"UTC"),
            _ => out.extend_from_slice(b"+0000"),
        }
    }
}

/// Appends a point in time (microseconds since the Unix epoch) as RFC 3339 with milliseconds.
pub fn push_time(us: u64, out: &mut Vec<u8>) {
    Moment::of(us).write_iso(out);
}

fn put_pair(text: &mut [u8], at: usize, value: u8) {
    text[at] = b'0' + value / 10;
    text[at + 1] = b'0' + value % 10;
}

fn push_padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    push_integer(value, out);
    let len = out.len() - start;
    if len < width {
        out.splice(start..start, std::iter::repeat_n(b'0', width - len));
    }
}

/// Appends a decimal number; always true, as what is there.
pub(crate) fn push_integer(value: u64, out: &mut Vec<u8>) -> bool {
    if value < 10 {
        out.push(b'0' + value as u8);
        return true;
    }
    // A u64 has at most 20 digits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    while rest >= 10 {
        at -= 2;
        put_pair(&mut digits, at, (rest % 100) as u8);
        rest /= 100;
    }
    if rest > 0 {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    out.extend_from_slice(&digits[at..]);
    true
}

/// Appends a text; most are short, many a single byte.
fn push_bytes(text: &[u8], out: &mut Vec<u8>) {
    match text {
        [byte] => out.push(*byte),
        text => out.extend_from_slice(text),
    }
}

fn push_ms(us: Option<u64>, out: &mut Vec<u8>) -> bool {
    us.is_some_and(|us| push_integer(us / 1000, out))
}

/// Appends a text; an empty one is missing.
fn push_text(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(text);
    !text.is_empty()
}

/// Appends an address as text.
pub(crate) fn push_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            let mut text = [b'.'; 16];
            let mut at = 0;
            for octet in v4.octets() {
                if octet >= 100 {
                    text[at] = b'0' + octet / 100;
                    put_pair(&mut text, at + 1, octet % 100);
                    at += 4;
                } else if octet >= 10 {
                    put_pair(&mut text, at, octet);
                    at += 3;
                } else {
                    text[at] = b'0' + octet;
                    at += 2;
                }
            }
            // Each octet was followed by a dot, the last one in vain.
            out.extend_from_slice(&text[..at - 1]);
        }
        IpAddr::V6(v6) => write!(out, "{v6}").expect("a Vec takes every write"),
    }
}

fn push_address(address: SocketAddr, show: Show, out: &mut Vec<u8>) -> bool {
    let ip = address.ip().to_canonical();
    let bracketed = ip.is_ipv6() && matches!(show, Show::Both);
    if bracketed {
        out.push(b'[');
    }
    if !matches!(show, Show::Port) {
        push_ip(ip, out);
    }
    if bracketed {
        out.push(b']');
    }
    if matches!(show, Show::Both) {
        out.push(b':');
    }
    if !matches!(show, Show::Ip) {
        push_integer(u64::from(address.port()), out);
    }
    true
}

#[cfg(test)]
mod tests;
