// SPDX-License-Identifier: Apache-2.0
//! Decisions: (configuration, state, input, now) → decision. Values that `ir` and `table` share
//! (patterns, header edits, rewrites, redirects, time-outs) live here once.

pub mod balance;
pub mod client_certificate;
pub mod format;
pub mod forwarded;
pub mod grpc;
pub mod headers;
pub mod normalize;
pub mod pattern;
pub mod redirect;
pub mod relay;
pub mod rewrite;
pub mod timeouts;

#[cfg(test)]
pub(crate) mod sample;
