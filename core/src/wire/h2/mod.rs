// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 (RFC 9113), as far as it is no matter of frames, streams and HPACK, which a crate reads
//! and writes: what makes a [`message`] well-formed, and how it looks in the vocabulary that the
//! gateway has for HTTP/1.1; and how many frames a [`meter`] lets a peer send for nothing.

pub mod message;
pub mod meter;
