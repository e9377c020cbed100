// SPDX-License-Identifier: Apache-2.0
//! The single integration binary.
#![allow(clippy::unwrap_used)]

/// Both I/O drivers of the workers. Every test asserts that it got the one it asked for.
const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

mod drain;
mod golden;
mod h1;
mod reload;
mod stream;
mod swaps;
mod tidy;
