// SPDX-License-Identifier: Apache-2.0
//! The binary: reads the command line and calls the verb.

use std::process::ExitCode;

use clap::Parser as _;

mod args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let _ = args;
    ExitCode::SUCCESS
}
