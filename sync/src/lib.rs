// SPDX-License-Identifier: Apache-2.0
//! Ringway's slow side: keeps the workers in step with the world.
#![forbid(unsafe_code)]

pub mod admin;
pub mod log;
pub mod progress;
pub mod publish;
pub mod sample;
pub mod store;
pub mod watch;

#[cfg(test)]
mod scratch;
