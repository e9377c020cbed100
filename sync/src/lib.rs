// SPDX-License-Identifier: Apache-2.0
//! Ringway's slow side: keeps the workers in step with the world. It reads and watches manifests,
//! resolves names, builds tables and publishes them, and answers the admin port.
#![forbid(unsafe_code)]

pub mod admin;
pub mod build;
pub mod doctor;
pub mod explain;
pub mod gateway;
pub mod log;
pub mod overload;
pub mod progress;
pub mod publish;
pub mod sample;
pub mod store;
pub mod watch;
pub mod webhook;

#[cfg(test)]
mod scratch;
