// SPDX-License-Identifier: Apache-2.0
//! The harness of the end-to-end tests: the real binary as a child process ([`Gateway`]),
//! back ends that answer what they saw ([`upstream`]), and a client that accepts nothing loose
//! ([`client`]); for HTTP/2 a peer that says frame by frame what a test writes down ([`h2`]).
//!
//! Every gateway and every back end has a loopback address of its own, so that ports are bound as
//! the manifests say and no two tests meet. Everything waits with a bound: a hang is a failure
//! with a message.

pub mod address;
pub mod client;
pub mod gateway;
pub mod go;
pub mod h2;
pub mod head;
pub mod helm;
pub mod kube;
pub mod load;
pub mod manifest;
pub mod outside;
pub mod pki;
pub mod proxy_protocol;
pub mod python;
pub mod structural;
pub mod tls;
pub mod upstream;
pub mod yaml;

pub use client::Client;
pub use gateway::{Gateway, Options};

use std::time::{Duration, Instant};

/// How long anything may take that has no bound of its own.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds; panics with `what` after `patience`. Polls, because the
/// conditions of another process send no signal.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
