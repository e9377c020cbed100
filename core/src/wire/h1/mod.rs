// SPDX-License-Identifier: Apache-2.0
//! HTTP/1.1 (RFC 9112), strict: what cannot be read in one way only is refused.
//!
//! ```text
//!  bytes ─ parse ─▶ Head ─ framing ─▶ Framing ─▶ body::Decoder ─▶ data, trailers, end
//!                                                                encode ─▶ bytes
//! ```
//!
//! Every verdict depends on the bytes seen so far and never on how they were cut into reads.
//! Nothing here allocates once a connection's [`Head`](super::Head) has grown to its usual size,
//! trailers excepted.

pub mod body;
pub mod encode;
pub mod framing;
pub mod parse;

#[cfg(test)]
mod tests;
