// SPDX-License-Identifier: Apache-2.0
//! The single integration binary.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

/// Both I/O drivers of the workers. Every test asserts that it got the one it asked for.
const DRIVERS: [&str; 2] = ["io_uring", "epoll"];

/// Held by tests that load the machine, so that they do not measure each other.
fn heavy() -> std::sync::MutexGuard<'static, ()> {
    static HEAVY: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A failed test before this one is no reason to fail.
    HEAVY.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The 99th of a hundred.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

/// The calling thread yields to all others from now on.
fn be_nice() {
    // SAFETY: setpriority(2) takes plain integers; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

/// As many descriptors as we may have, for us and for gateways, which inherit the limit.
fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads and sets this process's own limit through a value that outlives the calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

mod certificates;
mod deploy;
mod dns;
mod drain;
mod endpoints;
mod golden;
mod grpc;
mod grpc_web;
mod h1;
mod h2;
mod handover;
mod kube;
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
