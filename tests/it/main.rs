// SPDX-License-Identifier: Apache-2.0
//! The single integration binary.
#![allow(clippy::unwrap_used)]

/// Both I/O drivers of the workers. Every test asserts that it got the one it asked for.
const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

/// Held by tests that load the machine, so that they do not measure each other.
fn heavy() -> std::sync::MutexGuard<'static, ()> {
    static HEAVY: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A failed test before this one is no reason to fail.
    HEAVY.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

mod certificates;
mod dns;
mod drain;
mod endpoints;
mod golden;
mod h1;
mod handover;
mod limits;
mod memory;
mod observe;
mod outside;
mod queue;
mod reload;
mod shadow;
mod stream;
mod swaps;
mod tcp;
mod tidy;
mod tls;
mod upgrade;
