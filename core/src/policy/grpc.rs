// SPDX-License-Identifier: Apache-2.0
//! What gRPC says in HTTP's fields (its `PROTOCOL-HTTP2.md`): who speaks it, how failures are told
//! and how long a call may take.

use std::time::Duration;

use crate::wire::h1::encode;
use crate::wire::{HeadView, Known};

/// The media type of gRPC's messages.
pub const CONTENT_TYPE: &[u8] = b"application/grpc";

/// Whether this media type is gRPC's: `application/grpc`, or that with `+` and an encoding of its
/// messages. As in Envoy parameters make it another one, and so does gRPC-Web's ending.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let start = content_type.get(..CONTENT_TYPE.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(CONTENT_TYPE))
        && matches!(content_type.get(CONTENT_TYPE.len()), None | Some(b'+'))
}

/// Whether a head says that its body is gRPC's messages.
pub fn speaks(head: HeadView<'_>) -> bool {
    head.known(Known::ContentType).is_some_and(is_grpc)
}

/// How a call ended (gRPC's `statuscodes.md`), its code in [`Status::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Status {
    /// In order of their codes.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// What `grpc-status` says in decimal digits.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Reads `grpc-status`; nothing where it is no status.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let code = match *value {
            [units @ b'0'..=b'9'] => units - b'0',
            [b'1', units @ b'0'..=b'9'] => 10 + units - b'0',
            _ => return None,
        };
        Self::ALL.get(usize::from(code)).copied()
    }

    /// What a call is told that HTTP failed with this status: gRPC's
    /// `http-grpc-status-mapping.md`, as clients would map it and as Envoy answers itself.
    pub fn of_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// Appends a text as `grpc-message` carries it: `Percent-Encoded`, so that any text is one line of
/// visible characters. Spaces at its ends are encoded too, which a field would lose.
pub fn encode_message(message: &[u8], out: &mut Vec<u8>) {
    let last = message.len().saturating_sub(1);
    for (at, &byte) in message.iter().enumerate() {
        match byte {
            b' ' if at == 0 || at == last => out.extend_from_slice(b"%20"),
            b'%' | ..b' ' | 0x7f.. => super::normalize::push_escaped(byte, out),
            byte => out.push(byte),
        }
    }
}

/// Appends what [`encode_message`] was given. An escape that is none stands for itself, as the
/// protocol asks.
pub fn decode_message(mut value: &[u8], out: &mut Vec<u8>) {
    let digit = |digit: u8| (digit as char).to_digit(16).map(|value| value as u8);
    while let [byte, rest @ ..] = value {
        value = rest;
        if let (b'%', [high, low, after @ ..]) = (byte, rest)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push(high << 4 | low);
            value = after;
        } else {
            out.push(*byte);
        }
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit of `HMSmun`. Nothing where it is anything
/// else; zero is a time that is over.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    const DIGITS_MAX: usize = 8;
    let (unit, digits) = value.split_last()?;
    if !(1..=DIGITS_MAX).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(n * 3600)),
        b'M' => Some(Duration::from_secs(n * 60)),
        b'S' => Some(Duration::from_secs(n)),
        b'm' => Some(Duration::from_millis(n)),
        b'u' => Some(Duration::from_micros(n)),
        b'n' => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// What trailers, or the head of an answer without a body, say of a call's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// `grpc-status`, as written.
    pub status: Option<&'a [u8]>,
    /// `grpc-message`, as written.
    pub message: Option<&'a [u8]>,
}

impl<'a> Outcome<'a> {
    /// Of fields; of several with one name the first counts.
    pub fn of(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut outcome = Self::default();
        for (name, value) in fields {
            if name.eq_ignore_ascii_case(b"grpc-status") {
                outcome.status.get_or_insert(value);
            } else if name.eq_ignore_ascii_case(b"grpc-message") {
                outcome.message.get_or_insert(value);
            }
        }
        outcome
    }

    /// The status that a client by HTTP/1.1, which reads no trailers, is answered with where the
    /// upstream answered with `status`: 503 where the call failed. Envoy's `grpc_http1_bridge`.
    pub fn bridged(&self, status: u16) -> u16 {
        let failed = |value| Status::parse(value) != Some(Status::Ok);
        if self.status.is_some_and(failed) { 503 } else { status }
    }

    /// Appends both as field lines, for the head of the answer whose trailers they were.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in [(&b"grpc-status"[..], self.status), (b"grpc-message", self.message)] {
            if let Some(value) = value {
                encode::field(out, name, value);
            }
        }
    }
}

/// The service and the method of a call's path, `/package.Service/Method`.
pub fn method(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let whole = !service.is_empty() && !method.is_empty() && !method.contains('/');
    whole.then_some((service, method))
}

#[cfg(test)]
mod tests;
