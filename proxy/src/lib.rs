// SPDX-License-Identifier: Apache-2.0
//! Ringway's data plane: workers, connections, exchanges, upstreams. No decision is made here that
//! the pure core can make.

mod rt;

mod net;
mod worker;

mod connection;
mod http;
mod tcp;
mod terminate;
mod tunnel;
mod upstream;

mod observe;

pub mod fleet;
pub mod handover;

pub use net::socket::{allowed_cpus, raise_descriptors};
pub use observe::log::LogForm;
pub use rt::{Chosen, IoBackend, probe};

#[cfg(test)]
mod tests;
