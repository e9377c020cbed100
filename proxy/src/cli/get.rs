// SPDX-License-Identifier: Apache-2.0
//! `ringway status` and `ringway get`: what a running gateway says of itself, asked of its admin port.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum as _;

use super::explain::ask;
use crate::args::{Ask, Get, Output};

pub(crate) fn status(how: &Ask) -> anyhow::Result<ExitCode> {
    print("status", how)
}

pub(crate) fn get(get: &Get) -> anyhow::Result<ExitCode> {
    let name = get.what.to_possible_value().map(|value| value.get_name().to_owned());
    print(&name.unwrap_or_default(), &get.ask)
}

fn print(what: &str, how: &Ask) -> anyhow::Result<ExitCode> {
    let format = if how.output == Output::Text { "text" } else { "json" };
    let text = ask(&how.admin, &format!("/api/v1/{what}?format={format}"))?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
