// SPDX-License-Identifier: Apache-2.0
//! The one normalisation of a request's target: before routing, auth, limits and logging, and
//! what goes upstream unless it is rewritten.
//!
//! What a client may send (RFC 9112 §3.2) is narrowed to one spelling: the host in lower case
//! without a final dot; the path with unreserved characters decoded, hex digits in upper case,
//! `\` as `/`, dot segments resolved and what a path cannot contain encoded (as Envoy's
//! `normalize_path` does). Nothing is decoded twice. A malformed escape is refused where Envoy
//! passes it on: kept, `%4%31` would turn into `%41`, which the next hop reads as `A`. The query
//! is opaque. A target that is already in that form is not copied.

use std::ops::Range;

use crate::wire::authority::Authority;
use crate::wire::{HeadView, Known, Version};

/// What of the normalisation is the configuration's to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `//` becomes `/`, after dot segments are resolved.
    pub merge_slashes: bool,
    /// `%2F` and `%5C` are refused rather than kept.
    pub reject_escaped_slashes: bool,
    /// An authority with this port loses it. Emissary: `strip_matching_host_port`.
    pub strip_port: Option<u16>,
}

/// Where a request wants to go, in normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Host and port as the client sent them, in normal form; empty only for HTTP/1.0 without
    /// Host.
    pub authority: &'a [u8],
    /// Begins with `/`, or is `*`. CONNECT has none: `/` stands for it in routing.
    pub path: &'a [u8],
    /// Without the `?`, as sent.
    pub query: Option<&'a [u8]>,
    /// `path[?query]` in one piece: what goes upstream when nothing rewrites it. Empty for CONNECT.
    pub path_and_query: &'a [u8],
    /// Came in absolute or authority form: its authority replaces the Host.
    pub absolute: bool,
}

/// Why a request's target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// A `%` without two hex digits, or `%00`.
    BadEscape,
    BadHost,
    /// None of the forms of RFC 9112 §3.2, or one that the method does not go with.
    BadTarget,
    /// A control byte or a space.
    ControlByte,
    /// `%2F` or `%5C` where they are refused.
    EscapedSlash,
    Fragment,
    MissingHost,
    /// More than one Host line, even if equal.
    RepeatedHost,
}

impl TargetError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        400
    }

    /// `%RESPONSE_CODE_DETAILS%`, in Envoy's words where it has some.
    pub fn details(self) -> &'static str {
        match self {
            Self::BadEscape | Self::EscapedSlash | Self::Fragment => "path_normalization_failed",
            Self::BadHost => "invalid_host_header",
            Self::BadTarget => "invalid_path",
            Self::ControlByte => "invalid_url",
            Self::MissingHost => "missing_host_header",
            Self::RepeatedHost => "repeated_host_header",
        }
    }
}

/// Finds and normalises a request's target. `scratch` is cleared; it holds what had to change.
pub fn target<'a>(
    view: HeadView<'a>,
    rules: &Rules,
    scratch: &'a mut Vec<u8>,
) -> Result<Target<'a>, TargetError> {
    scratch.clear();
    let host = sole_host(view)?;
    let form = Form::of(view)?;
    // RFC 9112 §3.2.2: the authority of an absolute-form target replaces the Host. The client must
    // have sent the same one (§3.2): a Host that disagrees is somebody's attempt to be two.
    let authority = match (form.authority, host) {
        (None, None) => Text::Kept(&[][..]),
        (None, Some(host)) => normal_authority(host, rules.strip_port, scratch)?,
        (Some(authority), host) => {
            if let Some(host) = host
                && !Authority::agree(host, authority)
            {
                return Err(TargetError::BadHost);
            }
            normal_authority(authority, rules.strip_port, scratch)?
        }
    };
    let (path, all) = match form.path {
        _ if view.method() == b"CONNECT" => (Text::Kept(&b"/"[..]), Text::Kept(&[][..])),
        b"*" => (Text::Kept(form.path), Text::Kept(form.path)),
        path => normal_path(path, form.query, form.path_and_query, rules, scratch)?,
    };
    let scratch: &'a [u8] = scratch;
    Ok(Target {
        authority: authority.of(scratch),
        path: path.of(scratch),
        query: form.query,
        path_and_query: all.of(scratch),
        absolute: form.authority.is_some(),
    })
}

/// Text that stayed as it came, or its normal form in the scratch buffer.
#[derive(Clone, Debug)]
enum Text<'a> {
    Kept(&'a [u8]),
    Changed(Range<usize>),
}

impl<'a> Text<'a> {
    fn of(self, scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Kept(text) => text,
            Self::Changed(range) => &scratch[range],
        }
    }
}

/// A target taken apart, not yet normalised.
struct Form<'a> {
    authority: Option<&'a [u8]>,
    /// `*`, or empty where an absolute form has none.
    path: &'a [u8],
    query: Option<&'a [u8]>,
    path_and_query: &'a [u8],
}

impl<'a> Form<'a> {
    fn of(view: HeadView<'a>) -> Result<Self, TargetError> {
        let target = view.target();
        match target.first() {
            // RFC 9112 §3.2.3: authority form, with its port, and no other.
            _ if view.method() == b"CONNECT" => {
                if Authority::parse(target).is_none_or(|authority| authority.port.is_none()) {
                    return Err(TargetError::BadTarget);
                }
                Ok(Self { authority: Some(target), path: b"", query: None, path_and_query: b"" })
            }
            Some(b'/') => Ok(Self::split(None, target)),
            Some(b'*') if target.len() == 1 && view.method() == b"OPTIONS" => {
                Ok(Self { authority: None, path: target, query: None, path_and_query: target })
            }
            _ => {
                let rest = strip_prefix_ignore_case(target, b"http://")
                    .or_else(|| strip_prefix_ignore_case(target, b"https://"))
                    .ok_or(TargetError::BadTarget)?;
                let end = rest.iter().position(|b| b"/?#\\".contains(b)).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                // RFC 9112 §3.2.4: OPTIONS for a whole server in absolute form has no path.
                if rest.is_empty() && view.method() == b"OPTIONS" {
                    let path = &b"*"[..];
                    return Ok(Self {
                        authority: Some(authority),
                        path,
                        query: None,
                        path_and_query: path,
                    });
                }
                Ok(Self::split(Some(authority), rest))
            }
        }
    }

    fn split(authority: Option<&'a [u8]>, path_and_query: &'a [u8]) -> Self {
        match memchr::memchr(b'?', path_and_query) {
            Some(at) => Self {
                authority,
                path: &path_and_query[..at],
                query: Some(&path_and_query[at + 1..]),
                path_and_query,
            },
            None => Self { authority, path: path_and_query, query: None, path_and_query },
        }
    }
}

fn strip_prefix_ignore_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// RFC 9112 §3.2: one Host line, no more; HTTP/1.0 may have none.
fn sole_host(view: HeadView<'_>) -> Result<Option<&[u8]>, TargetError> {
    let mut lines = view.head.fields.iter().filter(|f| f.known == Known::Host);
    let host = match lines.next() {
        Some(field) => Some(field.value.of(view.block)),
        None if view.head.version == Version::Http10 => None,
        None => return Err(TargetError::MissingHost),
    };
    match lines.next() {
        Some(_) => Err(TargetError::RepeatedHost),
        None => Ok(host),
    }
}

/// What a byte means in a path, one bit each; 0 stays as it is.
mod class {
    /// Becomes something else.
    pub(super) const CHANGE: u8 = 1;
    /// Control bytes and space.
    pub(super) const REFUSE: u8 = 2;
    pub(super) const SLASH: u8 = 4;
    /// Of a dot segment, perhaps, when it follows a slash: the next bit after it.
    pub(super) const DOT: u8 = SLASH << 1;
}

/// RFC 3986 §3.3 `pchar` and `/` stay; so do `[` and `]`, as in Envoy.
static PATH: [u8; 256] = {
    let mut classes = [class::CHANGE; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'/' => class::SLASH,
            b'.' => class::DOT,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => 0,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => 0,
            b':' | b'@' | b'[' | b']' => 0,
            0..=b' ' | 0x7f => class::REFUSE,
            _ => class::CHANGE,
        };
        byte += 1;
    }
    classes
};

fn normal_path<'a>(
    path: &'a [u8],
    query: Option<&'a [u8]>,
    path_and_query: &'a [u8],
    rules: &Rules,
    scratch: &mut Vec<u8>,
) -> Result<(Text<'a>, Text<'a>), TargetError> {
    if let Some(query) = query {
        check_query(query)?;
    }
    if is_normal(path, rules.merge_slashes)? {
        return Ok((Text::Kept(path), Text::Kept(path_and_query)));
    }
    let start = scratch.len();
    decode(path, rules.reject_escaped_slashes, scratch)?;
    remove_dot_segments(scratch, start);
    if rules.merge_slashes {
        merge_slashes(scratch, start);
    }
    let end = scratch.len();
    if let Some(query) = query {
        scratch.push(b'?');
        scratch.extend_from_slice(query);
    }
    Ok((Text::Changed(start..end), Text::Changed(start..scratch.len())))
}

fn check_query(query: &[u8]) -> Result<(), TargetError> {
    let refused = |byte: u8| byte <= b' ' || byte == 0x7f;
    if query.iter().fold(false, |seen, &byte| seen | refused(byte)) {
        return Err(TargetError::ControlByte);
    }
    match memchr::memchr(b'#', query) {
        Some(_) => Err(TargetError::Fragment),
        None => Ok(()),
    }
}

/// Whether a path is in normal form beyond doubt. A dot that begins a segment is in doubt.
fn is_normal(path: &[u8], merge_slashes: bool) -> Result<bool, TargetError> {
    let (mut seen, mut dots, mut slashes, mut before) = (0, 0, 0, 0);
    for &byte in path {
        let class = PATH[byte as usize];
        seen |= class;
        dots |= before << 1 & class;
        slashes |= before & class;
        before = class;
    }
    if seen & class::REFUSE != 0 {
        return Err(TargetError::ControlByte);
    }
    let merged = merge_slashes && slashes & class::SLASH != 0;
    let doubtful = seen & class::CHANGE | dots & class::DOT;
    Ok(path.first() == Some(&b'/') && doubtful == 0 && !merged)
}

/// Appends a path with its escapes in normal form; a missing first slash is put there.
fn decode(path: &[u8], reject_slashes: bool, out: &mut Vec<u8>) -> Result<(), TargetError> {
    if !matches!(path.first(), Some(b'/' | b'\\')) {
        out.push(b'/');
    }
    let mut bytes = path.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(|&b| hex_value(b));
                let low = bytes.next().and_then(|&b| hex_value(b));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(TargetError::BadEscape);
                };
                match high << 4 | low {
                    0 => return Err(TargetError::BadEscape),
                    b'/' | b'\\' if reject_slashes => return Err(TargetError::EscapedSlash),
                    b @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~') => {
                        out.push(b);
                    }
                    b => push_escaped(b, out),
                }
            }
            b'\\' => out.push(b'/'),
            b'#' => return Err(TargetError::Fragment),
            byte if PATH[byte as usize] == class::CHANGE => push_escaped(byte, out),
            byte => out.push(byte),
        }
    }
    Ok(())
}

fn hex_value(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

pub(super) fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// RFC 3986 §5.2.4, in place, on what begins at `start` with a slash.
fn remove_dot_segments(path: &mut Vec<u8>, start: usize) {
    let mut read = start;
    let mut write = start;
    // Each turn takes one segment with the slash before it.
    while read < path.len() {
        let end = memchr::memchr(b'/', &path[read + 1..]).map_or(path.len(), |at| read + 1 + at);
        let last = end == path.len();
        match &path[read + 1..end] {
            b"." | b".." => {
                if end - read == 3 {
                    write = path[start..write]
                        .iter()
                        .rposition(|&b| b == b'/')
                        .map_or(start, |at| start + at);
                }
                if last {
                    path[write] = b'/';
                    write += 1;
                }
            }
            _ => {
                path.copy_within(read..end, write);
                write += end - read;
            }
        }
        read = end;
    }
    path.truncate(write);
}

fn merge_slashes(path: &mut Vec<u8>, start: usize) {
    let mut write = start;
    for read in start..path.len() {
        let byte = path[read];
        if byte != b'/' || write == start || path[write - 1] != b'/' {
            path[write] = byte;
            write += 1;
        }
    }
    path.truncate(write);
}

fn normal_authority<'a>(
    text: &'a [u8],
    strip_port: Option<u16>,
    scratch: &mut Vec<u8>,
) -> Result<Text<'a>, TargetError> {
    let authority = Authority::parse(text).ok_or(TargetError::BadHost)?;
    let stripped = authority.port.is_some() && authority.port == strip_port;
    if authority.normal {
        return Ok(Text::Kept(if stripped { authority.host } else { text }));
    }
    let start = scratch.len();
    scratch.extend(authority.host.iter().map(u8::to_ascii_lowercase));
    if let Some(port) = authority.port.filter(|_| !stripped) {
        scratch.push(b':');
        super::format::push_integer(u64::from(port), scratch);
    }
    Ok(Text::Changed(start..scratch.len()))
}

#[cfg(test)]
mod tests;
