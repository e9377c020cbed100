// SPDX-License-Identifier: Apache-2.0
//! Fuzz targets. Each is a plain function that panics when what it tests is wrong, so the same
//! code runs under libFuzzer (`fuzz/run TARGET SECONDS`) and, over its committed corpus and
//! seeded mutations of it, in every `cargo test`.

mod h1;
mod segments;

pub use h1::{chunked_body, connection, request_head, response_head};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; its corpus is `fuzz/corpus/NAME`.
pub const TARGETS: &[Target] = &[
    ("chunked_body", chunked_body),
    ("connection", connection),
    ("request_head", request_head),
    ("response_head", response_head),
];

#[cfg(test)]
mod tests;
