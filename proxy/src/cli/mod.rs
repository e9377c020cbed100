// SPDX-License-Identifier: Apache-2.0
//! One verb, one file.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use ringway_core::crd::source::Style;

use crate::args::Environment;

pub(crate) mod check;
pub(crate) mod crds;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod explain;
pub(crate) mod get;
mod handover;
pub(crate) mod run;

/// Emissary's variables, from the process.
fn environment() -> Environment {
    Environment::read(|name| std::env::var(name).ok())
}

/// What `$NAME` in manifests stands for: the process's environment, as in Emissary.
fn expansions() -> BTreeMap<String, String> {
    let text = |value: std::ffi::OsString| value.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

/// Colours for people at a terminal, unless they asked for none (<https://no-color.org>).
fn style(stream: &impl IsTerminal) -> Style {
    let colour = stream.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if colour { Style::Ansi } else { Style::Plain }
}
