// SPDX-License-Identifier: Apache-2.0
//! The chart of `deploy/chart`, as Helm renders it.

use std::process::{Command, Output, Stdio};

use anyhow::Result;

use crate::gateway::repository;
use crate::outside::Folder;
use crate::python;

/// Runs Helm in the repository's root, with nothing of the user's.
pub fn run(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(python::program("helm")?);
    for home in ["HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_CACHE_HOME", "KUBECONFIG"] {
        command.env(home, "/nonexistent");
    }
    Ok(command.args(arguments).current_dir(repository()).stdin(Stdio::null()).output()?)
}

/// What the chart renders with these values as a release of this name, in a namespace of the same
/// name; or why it does not.
pub fn render(release: &str, values: &str, more: &[&str]) -> Result<String, String> {
    let render = || {
        let folder = Folder::new()?;
        let values = folder.file("values.yaml", values)?;
        let template = ["template", release, "deploy/chart", "-n", release, "-f", &values];
        run(&[&template[..], more].concat())
    };
    let output = render().map_err(|error| format!("{error:#}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
