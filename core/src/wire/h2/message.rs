// SPDX-License-Identifier: Apache-2.0
//! Messages of HTTP/2 as HTTP/1.1 would have them, and back.
//!
//! ```text
//!  pseudo-header fields, fields ─ request, response ─▶ Head + block ─▶ routing, policies, relay
//!  field lines ◀─ lines ─ text of a head that goes onward
//! ```
//!
//! A block that is written here could have been parsed from HTTP/1.1: each byte is checked as the
//! parser there checks it, so nothing that a field carries can become a line of its own. What
//! RFC 9113 §8 forbids beyond that is refused. The peer's order of fields is kept.

use sha1::{Digest, Sha1};

use super::hpack::{Encoder, Fields};
use crate::limits;
use crate::wire::authority::Authority;
use crate::wire::grpc_web::base64;
use crate::wire::h1::framing::content_length;
use crate::wire::h1::parse::{self, Limits};
use crate::wire::h1::{body, encode};
use crate::wire::{Field, Framing, Head, HeadView, Known, Span, Version};

/// A request's pseudo-header fields (RFC 9113 §8.3.1, RFC 8441 §4), each at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pseudo<'a> {
    pub method: &'a [u8],
    pub scheme: Option<&'a [u8]>,
    pub authority: Option<&'a [u8]>,
    pub path: Option<&'a [u8]>,
    pub protocol: Option<&'a [u8]>,
}

/// Why a message is refused (RFC 9113 §8.1.1): its stream ends with PROTOCOL_ERROR, or the request
/// is answered with [`Malformed::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// `:authority` or Host is none.
    Authority,
    /// Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding or Upgrade.
    ConnectionField,
    /// A length other than that of the body.
    ContentLength,
    /// No lower-case token.
    FieldName,
    /// A control byte, or white space around it.
    FieldValue,
    HeadTooLarge,
    /// Host and `:authority` name different hosts.
    HostDiffers,
    HostRepeated,
    Method,
    MethodTooLong,
    /// Missing, neither absolute nor the `*` of OPTIONS, or with white space or control bytes.
    Path,
    PathTooLong,
    /// `:protocol` without CONNECT, or no token.
    Protocol,
    /// A pseudo-header field that is unknown, repeated, missing, or behind others.
    Pseudo,
    /// Neither `http` nor `https`, or one where there must be none.
    Scheme,
    /// Not 100 to 599, or 101 (RFC 9113 §8.6).
    Status,
    /// Anything but `trailers`.
    Te,
    TooManyFields,
    TrailersTooLarge,
}

impl Malformed {
    /// The status that a request is answered with.
    pub fn status(self) -> u16 {
        match self {
            Self::PathTooLong => 414,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::MethodTooLong => 501,
            _ => 400,
        }
    }

    /// For `%RESPONSE_CODE_DETAILS%`: Envoy's words where it has them.
    pub fn details(self) -> &'static str {
        match self {
            Self::FieldName | Self::FieldValue => "http2.invalid.header.field",
            Self::TooManyFields => "http2.too_many_headers",
            Self::HeadTooLarge => "http2.headers_too_large",
            Self::TrailersTooLarge => "http2.trailers_too_large",
            Self::PathTooLong => "http2.path_too_long",
            Self::MethodTooLong => "http2.method_too_long",
            Self::Authority | Self::HostDiffers => "invalid_host_header",
            Self::HostRepeated => "repeated_host_header",
            Self::Path => "invalid_path",
            _ => "http2.violation.of.messaging.rule",
        }
    }
}

impl Malformed {
    /// Whether nobody who speaks HTTP/2 sends that: the stream ends with PROTOCOL_ERROR. Of other
    /// requests the client is told what is wrong with them.
    pub fn is_no_message(self) -> bool {
        matches!(
            self,
            Self::ConnectionField
                | Self::ContentLength
                | Self::FieldName
                | Self::FieldValue
                | Self::Pseudo
                | Self::Te
        )
    }
}

impl<'a> Pseudo<'a> {
    /// Of a request's field section, and how many of its fields they are: they come first. One that
    /// comes later has a name that [`check_field`] refuses.
    pub fn of(
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(Self, usize), Malformed> {
        let (mut method, mut pseudo, mut count) = (None, Self::default(), 0);
        for (name, value) in fields.take_while(|(name, _)| name.first() == Some(&b':')) {
            let known = match name {
                b":method" => &mut method,
                b":scheme" => &mut pseudo.scheme,
                b":authority" => &mut pseudo.authority,
                b":path" => &mut pseudo.path,
                b":protocol" => &mut pseudo.protocol,
                _ => return Err(Malformed::Pseudo),
            };
            if known.replace(value).is_some() {
                return Err(Malformed::Pseudo);
            }
            count += 1;
        }
        let Some(method) = method else { return Err(Malformed::Pseudo) };
        pseudo.method = method;
        // RFC 9113 §8.3.1, §8.5: all but a plain CONNECT have both, and no path is empty.
        let plain = method == b"CONNECT" && pseudo.protocol.is_none();
        let whole = pseudo.scheme.is_some() && pseudo.path.is_some_and(|path| !path.is_empty());
        if plain || whole { Ok((pseudo, count)) } else { Err(Malformed::Pseudo) }
    }
}

/// The status of an answer's field section (RFC 9113 §8.3.2), which is its first field.
pub fn status(fields: &Fields) -> Option<u16> {
    match fields.iter().next()? {
        (b":status", &[a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Some(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => None,
    }
}

/// The length that a head says its body has, where it says one; what is none is another's business
/// ([`request_meta`](crate::wire::h1::framing::request_meta)).
pub fn length(view: HeadView<'_>) -> Option<u64> {
    content_length(view.known(Known::ContentLength)?).ok()
}

/// What a field must be beyond what HPACK makes sure of (RFC 9113 §8.2). Gives the name's tag.
pub fn check_field(name: &[u8], value: &[u8]) -> Result<Known, Malformed> {
    let lower = |&b: &u8| parse::TOKEN[b as usize] && !b.is_ascii_uppercase();
    if name.is_empty() || !name.iter().all(lower) {
        return Err(Malformed::FieldName);
    }
    let spaced = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    if parse::value_end(value, 0) < value.len() || spaced(value.first()) || spaced(value.last()) {
        return Err(Malformed::FieldValue);
    }
    let known = Known::of_field(name);
    match known {
        known if is_connection_specific(known) => Err(Malformed::ConnectionField),
        Known::Te if !value.eq_ignore_ascii_case(b"trailers") => Err(Malformed::Te),
        known => Ok(known),
    }
}

/// RFC 9113 §8.2.2.
fn is_connection_specific(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Writes a request as its head and its block. Both are cleared first; on an error they hold
/// nothing of use.
///
/// `:authority`, or else Host, becomes the first line; where both are missing, so is the line,
/// which [`request_meta`](crate::wire::h1::framing::request_meta) then says. Several Cookie fields
/// become one (RFC 9113 §8.2.3). A CONNECT has its authority as its target; with `:protocol`
/// (RFC 8441) it becomes the upgrade that HTTP/1.1 would ask for: a GET, and a WebSocket that came
/// without a key, as it should, is given `websocket_key`.
pub fn request<'a>(
    block: &mut Vec<u8>,
    head: &mut Head,
    limits: &Limits,
    pseudo: Pseudo<'a>,
    websocket_key: &[u8],
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Result<(), Malformed> {
    let mut out = Writer::new(block, head, limits);
    let (method, target) = start(&pseudo)?;
    out.request_line(method, target)?;
    if let Some(authority) = pseudo.authority {
        if Authority::parse(authority).is_none() {
            return Err(Malformed::Authority);
        }
        out.field(Known::Host, b"host", authority)?;
    }
    let (mut hosts, mut cookies, mut keyed) = (0, 0, false);
    let mut rest = fields;
    while let Some((name, value)) = rest.next() {
        let known = check_field(name, value)?;
        match known {
            Known::Host => {
                hosts += 1;
                if hosts > 1 {
                    return Err(Malformed::HostRepeated);
                }
                match pseudo.authority {
                    Some(authority) if Authority::agree(value, authority) => continue,
                    Some(_) => return Err(Malformed::HostDiffers),
                    None if Authority::parse(value).is_none() => return Err(Malformed::Authority),
                    None => {}
                }
            }
            Known::Cookie => {
                cookies += 1;
                if cookies > 1 {
                    continue;
                }
                out.field(known, name, value)?;
                for (_, crumb) in rest.clone().filter(|(name, _)| *name == b"cookie") {
                    out.crumb(crumb)?;
                }
                continue;
            }
            Known::Other => keyed |= name == b"sec-websocket-key",
            _ => {}
        }
        out.field(known, name, value)?;
    }
    if let Some(protocol) = pseudo.protocol {
        out.field(Known::Connection, b"connection", b"upgrade")?;
        out.field(Known::Upgrade, b"upgrade", protocol)?;
        if protocol.eq_ignore_ascii_case(b"websocket") && !keyed {
            out.field(Known::Other, b"sec-websocket-key", websocket_key)?;
        }
    }
    out.end();
    Ok(())
}

/// Method and target as HTTP/1.1 writes them.
fn start<'a>(pseudo: &Pseudo<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let method = pseudo.method;
    if method.is_empty() || !is_token(method) {
        return Err(Malformed::Method);
    }
    if method.len() > limits::METHOD_BYTES_MAX {
        return Err(Malformed::MethodTooLong);
    }
    let connect = method == b"CONNECT";
    match pseudo.protocol {
        // RFC 9113 §8.5: nothing but the host and the port to connect to.
        None if connect => {
            if pseudo.scheme.is_some() {
                return Err(Malformed::Scheme);
            }
            if pseudo.path.is_some() {
                return Err(Malformed::Path);
            }
            let target = pseudo.authority.ok_or(Malformed::Authority)?;
            let port = Authority::parse(target).and_then(|authority| authority.port);
            return port.map(|_| (method, target)).ok_or(Malformed::Authority);
        }
        Some(protocol) if !connect || protocol.is_empty() || !is_token(protocol) => {
            return Err(Malformed::Protocol);
        }
        Some(_) if pseudo.authority.is_none() => return Err(Malformed::Authority),
        Some(_) | None => {}
    }
    // Others need a proxy that translates between protocols.
    let http = |scheme: &[u8]| {
        scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")
    };
    if !pseudo.scheme.is_some_and(http) {
        return Err(Malformed::Scheme);
    }
    let path = pseudo.path.unwrap_or_default();
    let whole_server = path == b"*" && method == b"OPTIONS";
    if !whole_server && (!path.starts_with(b"/") || parse::graphic_end(path, 0) < path.len()) {
        return Err(Malformed::Path);
    }
    Ok((if connect { b"GET" } else { method }, path))
}

/// Writes a response as its head and its block, as [`request`] does. The reason phrase is the
/// registered one.
pub fn response<'a>(
    block: &mut Vec<u8>,
    head: &mut Head,
    limits: &Limits,
    status: u16,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), Malformed> {
    if !matches!(status, 100 | 102..=599) {
        return Err(Malformed::Status);
    }
    let mut out = Writer::new(block, head, limits);
    out.status_line(status);
    for (name, value) in fields {
        out.field(check_field(name, value)?, name, value)?;
    }
    out.end();
    Ok(())
}

/// Writes the response that opened a tunnel as HTTP/1.1 would have it, as [`response`] does: where
/// another protocol was asked for, it is the 101 that switches to it.
pub fn opened<'a>(
    block: &mut Vec<u8>,
    head: &mut Head,
    limits: &Limits,
    status: u16,
    tunnel: &Tunnel,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), Malformed> {
    let Tunnel::Protocol { name: protocol, accept } = tunnel else {
        return response(block, head, limits, status, fields);
    };
    let mut out = Writer::new(block, head, limits);
    out.status_line(101);
    out.field(Known::Connection, b"connection", b"upgrade")?;
    out.field(Known::Upgrade, b"upgrade", protocol)?;
    if let Some(accept) = accept {
        out.field(Known::Other, WEBSOCKET_ACCEPT, accept)?;
    }
    for (name, value) in fields.filter(|(name, _)| *name != WEBSOCKET_ACCEPT) {
        out.field(check_field(name, value)?, name, value)?;
    }
    out.end();
    Ok(())
}

/// A head and its block in the making.
struct Writer<'a> {
    block: &'a mut Vec<u8>,
    head: &'a mut Head,
    limits: &'a Limits,
}

impl<'a> Writer<'a> {
    fn new(block: &'a mut Vec<u8>, head: &'a mut Head, limits: &'a Limits) -> Self {
        block.clear();
        let mut fields = std::mem::take(&mut head.fields);
        fields.clear();
        *head = Head { fields, version: Version::Http2, ..Head::EMPTY };
        Self { block, head, limits }
    }

    /// Appends a piece, and says where it is.
    fn put(&mut self, text: &[u8]) -> Span {
        let start = self.block.len();
        self.block.extend_from_slice(text);
        Span::new(start, self.block.len())
    }

    fn request_line(&mut self, method: &[u8], target: &[u8]) -> Result<(), Malformed> {
        const END: &[u8] = b" HTTP/1.1";
        let len = method.len() + 1 + target.len() + END.len();
        if len > self.limits.request_line_bytes_max {
            return Err(Malformed::PathTooLong);
        }
        self.head.method = self.put(method);
        self.put(b" ");
        self.head.target = self.put(target);
        self.put(END);
        self.put(b"\r\n");
        Ok(())
    }

    fn status_line(&mut self, status: u16) {
        let reason = encode::reason(status).as_bytes();
        encode::status_line(self.block, status, reason);
        let end = self.block.len() - 2;
        self.head.status = status;
        self.head.target = Span::new(end - reason.len(), end);
    }

    /// One line. Name and value have been checked.
    fn field(&mut self, known: Known, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if self.head.fields.len() >= self.limits.fields_max {
            return Err(Malformed::TooManyFields);
        }
        self.room(name.len() + value.len() + ": \r\n".len())?;
        let name = self.put(name);
        self.put(b": ");
        let value = self.put(value);
        self.put(b"\r\n");
        self.head.fields.push(Field { name, value, known });
        Ok(())
    }

    /// More of the last line's value, which is a cookie's. What is empty takes no separator: a
    /// value does not end with white space.
    fn crumb(&mut self, value: &[u8]) -> Result<(), Malformed> {
        check_field(b"cookie", value)?;
        let before = self.head.fields.last().map_or_else(Span::default, |field| field.value);
        let separator: &[u8] = if before.is_empty() || value.is_empty() { b"" } else { b"; " };
        self.room(separator.len() + value.len())?;
        self.block.truncate(self.block.len() - 2);
        self.put(separator);
        let end = self.put(value).end;
        self.put(b"\r\n");
        if let Some(field) = self.head.fields.last_mut() {
            field.value.end = end;
        }
        Ok(())
    }

    /// Whether so many bytes fit, and the empty line.
    fn room(&self, bytes: usize) -> Result<(), Malformed> {
        let fits = self.block.len() + bytes + 2 <= self.limits.head_bytes_max;
        if fits { Ok(()) } else { Err(Malformed::HeadTooLarge) }
    }

    fn end(self) {
        self.block.extend_from_slice(b"\r\n");
        self.head.len = self.block.len();
    }
}

fn is_token(text: &[u8]) -> bool {
    text.iter().all(|&b| parse::TOKEN[b as usize])
}

/// How the body of a request is delimited that HTTP/2 ends with END_STREAM: `said` by its fields
/// ([`request_meta`](crate::wire::h1::framing::request_meta)); `ended`: its head was all of it.
/// Not for CONNECT, behind which there is a tunnel.
pub fn request_framing(said: Framing, ended: bool) -> Result<Framing, Malformed> {
    match said {
        Framing::Length(1..) if ended => Err(Malformed::ContentLength),
        Framing::None if !ended => Ok(Framing::Chunked),
        said => Ok(said),
    }
}

/// As [`request_framing`] for a response
/// ([`response_meta`](crate::wire::h1::framing::response_meta)).
pub fn response_framing(said: Framing, ended: bool) -> Result<Framing, Malformed> {
    match said {
        Framing::Length(1..) if ended => Err(Malformed::ContentLength),
        Framing::UntilClose if ended => Ok(Framing::Length(0)),
        Framing::UntilClose => Ok(Framing::Chunked),
        said => Ok(said),
    }
}

/// Appends a trailer section's lines, as
/// [`Decoder::trailers`](crate::wire::h1::body::Decoder::trailers) gives them: what may not come
/// behind a body does not pass.
pub fn trailers<'a>(
    out: &mut Vec<u8>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), Malformed> {
    let mut bytes = 0;
    for (at, (name, value)) in fields.enumerate() {
        if at >= limits::HEAD_FIELDS_MAX {
            return Err(Malformed::TooManyFields);
        }
        bytes += name.len() + value.len() + ": \r\n".len();
        if bytes + "\r\n".len() > limits::TRAILER_BYTES_MAX {
            return Err(Malformed::TrailersTooLarge);
        }
        check_field(name, value)?;
        if body::may_trail(name) {
            encode::field(out, name, value);
        }
    }
    Ok(())
}

/// The field lines of a head that was written for HTTP/1.1, start line first, as far as HTTP/2 has
/// them: not Host, which is `:authority`, and nothing that is connection-specific. Names are as
/// written: HTTP/2 wants them in lower case.
pub fn lines(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    after_start(block).filter(|(name, value)| match Known::of(name) {
        Known::Host => false,
        Known::Te => value.eq_ignore_ascii_case(b"trailers"),
        known => !is_connection_specific(known),
    })
}

/// What a request asks for that goes upstream, where that is bytes both ways and no answer's body
/// (RFC 9110 §7.8, §9.3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tunnel {
    Connect,
    Protocol {
        name: Box<[u8]>,
        /// What the client of a WebSocket wants to hear of its key (RFC 6455 §4.2.2): in HTTP/2 the
        /// upstream says nothing of it.
        accept: Option<Vec<u8>>,
    },
}

impl Tunnel {
    /// Of a request's head that was written for HTTP/1.1.
    pub fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"CONNECT ") {
            return Some(Self::Connect);
        }
        let name = protocol(head)?;
        let key = after_start(head).find(|(name, _)| name.eq_ignore_ascii_case(WEBSOCKET_KEY));
        let accept = key.filter(|_| name.eq_ignore_ascii_case(b"websocket"));
        let accept = accept.map(|(_, key)| {
            base64(&Sha1::new().chain_update(key).chain_update(WEBSOCKET_GUID).finalize())
        });
        Some(Self::Protocol { name: name.into(), accept })
    }
}

const WEBSOCKET_KEY: &[u8] = b"sec-websocket-key";
const WEBSOCKET_ACCEPT: &[u8] = b"sec-websocket-accept";
/// RFC 6455 §1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The protocol that a request asks to switch to: a head that we write says so right behind Host,
/// and nowhere else.
fn protocol(head: &[u8]) -> Option<&[u8]> {
    let mut fields = after_start(head).skip(1);
    fields.next().filter(|field| *field == (b"connection", b"upgrade"))?;
    fields.next().filter(|(name, _)| *name == b"upgrade").map(|(_, protocol)| protocol)
}

fn after_start(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let start = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    fields(&head[start..])
}

/// Encodes a request's head that was written for HTTP/1.1, with Host as its first line. One that
/// asks for another protocol becomes an extended CONNECT (RFC 8441 §5): a WebSocket has no key then.
pub fn encode_request(encoder: &mut Encoder, out: &mut Vec<u8>, head: &[u8], secure: bool) {
    let mut words = head.split(|&byte| matches!(byte, b' ' | b'\n'));
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = after_start(head).next().map_or(&b""[..], |(_, host)| host);
    let protocol = protocol(head);
    encoder.field(out, b":method", if protocol.is_some() { b"CONNECT" } else { method });
    if let Some(protocol) = protocol {
        encoder.field(out, b":protocol", protocol);
    }
    if method != b"CONNECT" {
        encoder.field(out, b":scheme", if secure { b"https" } else { b"http" });
        encoder.field(out, b":path", target);
    }
    encoder.field(out, b":authority", host);
    for (name, value) in lines(head) {
        if !(protocol.is_some() && name.eq_ignore_ascii_case(WEBSOCKET_KEY)) {
            encoder.field(out, name, value);
        }
    }
}

/// The same for a response. What opens a tunnel in HTTP/1.1 is a success here, without a handshake
/// of its own (RFC 8441 §5).
pub fn encode_response(encoder: &mut Encoder, out: &mut Vec<u8>, head: &[u8]) {
    let status = head.get(9..12).unwrap_or(b"500");
    let switches = status == b"101";
    encoder.field(out, b":status", if switches { b"200" } else { status });
    for (name, value) in lines(head) {
        if !(switches && name.eq_ignore_ascii_case(WEBSOCKET_ACCEPT)) {
            encoder.field(out, name, value);
        }
    }
}

/// Field lines, up to the first that is empty: what [`lines`] looks at, and trailers.
pub fn fields(mut text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', text)?;
        let (line, rest) = (&text[..end], &text[end + 1..]);
        text = rest;
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests;
