// SPDX-License-Identifier: Apache-2.0
//! The route table against Emissary's rules as naive loops.

/// Bytes as choices: manifests, a change to them, and requests to both tables.
pub fn route_vs_oracle(data: &[u8]) {
    ringway_core::table::oracle::fuzz(data);
}
