// SPDX-License-Identifier: Apache-2.0
//! `ringway crds`: the CustomResourceDefinitions of our kinds, and how to free those that are
//! installed from a webhook that is gone.

use std::io::Write;
use std::process::ExitCode;

use ringway_core::crd::schema::{DEFINITIONS, Definition, manifests};

use crate::args::Crds;

pub(crate) fn crds(crds: &Crds) -> anyhow::Result<ExitCode> {
    let text = if crds.repair { repair() } else { manifests() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Commands for a shell. A merge patch, since an apply would leave the webhook of another owner in
/// place, which the API server refuses beside `strategy: None`.
fn repair() -> String {
    let names: Vec<String> = DEFINITIONS.iter().map(Definition::name).collect();
    format!(
        "# The API server stops asking a webhook to convert objects; what is stored stays as it is.\n\
         kubectl get --ignore-not-found -o name crd \\\n    {} |\n  \
         xargs -r kubectl patch --type=merge -p '{}'\n",
        names.join(" \\\n    "),
        Definition::repair()
    )
}
