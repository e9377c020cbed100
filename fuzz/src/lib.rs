// SPDX-License-Identifier: Apache-2.0
//! Fuzz targets. Each is a plain function that panics when what it tests is wrong, so the same
//! code runs under libFuzzer (`fuzz/run TARGET SECONDS`) and, over its committed corpus and
//! seeded mutations of it, in every `cargo test`.

mod conversion;
mod grpc_web;
mod h1;
mod h2;
mod manifests;
mod proxy_protocol;
mod route;
mod segments;

pub use conversion::conversion;
pub use grpc_web::grpc_web;
pub use h1::{chunked_body, connection, request_head, response_head};
pub use h2::{h2_connection, h2_message};
pub use manifests::manifests;
pub use proxy_protocol::proxy_protocol;
pub use route::route_vs_oracle;

/// One thing to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its corpus is `fuzz/corpus/NAME`, its libFuzzer shim `fuzz/targets/NAME.rs`.
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Mutated inputs that a test run can afford beside the corpus.
    pub mutations: usize,
}

/// Every target, by name.
pub const TARGETS: &[Target] = &[
    Target { name: "chunked_body", run: chunked_body, mutations: 50_000 },
    Target { name: "connection", run: connection, mutations: 50_000 },
    Target { name: "conversion", run: conversion, mutations: 20_000 },
    Target { name: "grpc_web", run: grpc_web, mutations: 20_000 },
    Target { name: "h2_connection", run: h2_connection, mutations: 20_000 },
    Target { name: "h2_message", run: h2_message, mutations: 50_000 },
    Target { name: "manifests", run: manifests, mutations: 2_000 },
    Target { name: "proxy_protocol", run: proxy_protocol, mutations: 20_000 },
    Target { name: "request_head", run: request_head, mutations: 50_000 },
    Target { name: "response_head", run: response_head, mutations: 50_000 },
    Target { name: "route_vs_oracle", run: route_vs_oracle, mutations: 300 },
];

#[cfg(test)]
mod tests;
