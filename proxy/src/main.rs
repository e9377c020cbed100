// SPDX-License-Identifier: Apache-2.0
//! The binary: reads the command line, calls the verb, gives its exit status.

use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod cli;

use args::{Args, Verb};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Usage, or input that cannot be read.
const EXIT_USAGE: u8 = 2;

/// Frees what the calling thread's part of the allocator keeps for later, page by page.
fn give_back() {
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: a function of the allocator that is linked, declared as there; it may be called on
    // any thread at any time.
    unsafe { mi_collect(false) }
}

/// Code that only the start needed is resident no longer. What is called again is mapped again, from
/// the kernel's cache of the file.
fn forget_start() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Ok(program) = std::env::current_exe() else { return };
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp")) = (fields.next(), fields.next()) else { continue };
        if fields.nth(3).is_none_or(|file| program.as_os_str() != file) {
            continue;
        }
        let mut bounds = range.split('-').map(|bound| usize::from_str_radix(bound, 16));
        if let (Some(Ok(from)), Some(Ok(to))) = (bounds.next(), bounds.next()) {
            // SAFETY: pages of code, which nobody has written to: the file has the same.
            unsafe {
                libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED);
            }
        }
    }
}

fn main() -> ExitCode {
    // A huge page, or a folio of 64 KiB, is resident as a whole, and a worker touches little of
    // each. First, since what is touched before stays; the allocator is built not to ask for them
    // either. A kernel that has none has none to refuse.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let outcome = match Args::parse().verb {
        Verb::Run(run) => cli::run::run(*run),
        Verb::Demo(demo) => cli::demo::demo(demo),
        Verb::Check(check) => cli::check::check(&check),
        Verb::Explain(explain) => cli::explain::explain(&explain),
        Verb::Status(ask) => cli::get::status(&ask),
        Verb::Get(get) => cli::get::get(&get),
        Verb::Drain(drain) => cli::drain::drain(&drain),
        Verb::Doctor(doctor) => cli::doctor::doctor(&doctor),
        Verb::Crds(crds) => cli::crds::crds(&crds),
    };
    outcome.unwrap_or_else(|error| {
        // `ringway crds | head`: who reads has read enough.
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            return ExitCode::SUCCESS;
        }
        eprintln!("ringway: {error:#}");
        ExitCode::from(EXIT_USAGE)
    })
}
