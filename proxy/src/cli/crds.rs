// SPDX-License-Identifier: Apache-2.0
//! `ringway crds`: the CustomResourceDefinitions of our kinds, and how to free those that are
//! installed from a webhook that is gone, or give them one.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use ringway_core::crd::schema::{DEFINITIONS, Definition, manifests};
use serde_json::Value;

use crate::args::Crds;

pub(crate) fn crds(crds: &Crds) -> anyhow::Result<ExitCode> {
    let text = match (&crds.webhook, &crds.ca) {
        (Some((namespace, name)), Some(ca)) => {
            let pem = std::fs::read(ca).with_context(|| format!("reading {}", ca.display()))?;
            anyhow::ensure!(pem.starts_with(b"-----BEGIN"), "{} is not PEM", ca.display());
            let comment = format!("The API server asks {namespace}/{name} to convert objects.");
            patch(&comment, &Definition::webhook((namespace, name), &pem))
        }
        _ if crds.repair => {
            let comment = "The API server stops asking a webhook to convert objects; what is stored \
                           stays as it is.";
            patch(comment, &Definition::repair())
        }
        _ => manifests(),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Commands for a shell. A merge patch, since an apply would leave what another owner wrote in place,
/// which the API server refuses beside another strategy.
fn patch(comment: &str, patch: &Value) -> String {
    let names: Vec<String> = DEFINITIONS.iter().map(Definition::name).collect();
    format!(
        "# {comment}\n\
         kubectl get --ignore-not-found -o name crd \\\n    {} |\n  \
         xargs -r kubectl patch --type=merge -p '{patch}'\n",
        names.join(" \\\n    "),
    )
}
