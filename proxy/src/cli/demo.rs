// SPDX-License-Identifier: Apache-2.0
//! `ringway demo`: sample manifests in a folder to edit, sample back ends to route to, and what to
//! try.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use ringway_sync::gateway::State;
use ringway_sync::log;
use ringway_sync::sample::{self, Sample};
use ringway_sync::watch::Place;

use super::environment;
use super::run::{fleet_options, options, serve, start_log};
use crate::args::Demo;
use ringway_proxy::fleet::Options as FleetOptions;

/// The sample manifests, as `deploy/examples/quickstart` has them.
const MANIFESTS: [(&str, &str); 3] = [
    ("listener.yaml", include_str!("../../../deploy/examples/quickstart/listener.yaml")),
    ("quote.yaml", include_str!("../../../deploy/examples/quickstart/quote.yaml")),
    ("echo.yaml", include_str!("../../../deploy/examples/quickstart/echo.yaml")),
];

/// Ports as the sample manifests have them.
const PORT: &str = "8080";
const QUOTE_PORT: &str = "8091";
const ECHO_PORT: &str = "8092";

pub(crate) fn demo(demo: Demo) -> anyhow::Result<ExitCode> {
    let environment = environment();
    start_log(&environment);
    let samples = [(Sample::Quote, demo.backend_port), (Sample::Echo, demo.backend_port + 1)];
    let started = sample::start(&samples)?;
    let ports = [
        (PORT, demo.port.to_string()),
        (QUOTE_PORT, started[0].port().to_string()),
        (ECHO_PORT, started[1].port().to_string()),
    ];
    let kept = write(&demo.dir, &ports)
        .with_context(|| format!("writing the sample manifests to {}", demo.dir.display()))?;
    if kept > 0 {
        log::info(format!("{}: {kept} files were there and are left alone", demo.dir.display()));
    }
    let mut options = options(&demo.process, &environment);
    options.place = Place::Folder(demo.dir.clone());
    options.settings.default_listeners = true;
    let port = demo.port;
    let fleet = FleetOptions { helpful_404: true, ..fleet_options(&demo.process, &environment) };
    serve(options, fleet, None, move |state| println!("{}", hints(state, port)))
}

/// Writes the manifests that are not there yet; gives how many were.
fn write(dir: &Path, ports: &[(&str, String)]) -> anyhow::Result<usize> {
    std::fs::create_dir_all(dir)?;
    let mut kept = 0;
    for (name, text) in MANIFESTS {
        let mut text = text.to_owned();
        for (from, to) in ports {
            text = text.replace(from, to);
        }
        match std::fs::File::create_new(dir.join(name)) {
            Ok(mut file) => std::io::Write::write_all(&mut file, text.as_bytes())?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => kept += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(kept)
}

/// What to try.
fn hints(state: &State, port: u16) -> String {
    let admin = state.options.admin;
    let dir = &state.options.place;
    format!(
        "
Ringway is serving {dir} on http://localhost:{port}

  curl -i localhost:{port}/backend/
  curl localhost:{port}/echo/a/b?c=d
  curl -H 'x-version: 2' localhost:{port}/echo/a
  curl -i localhost:{port}/nowhere

Why a request goes where it goes:

  ringway explain --admin http://{admin} GET http://localhost:{port}/echo/a -H 'x-version: 2'

Diagnostics  http://{admin}/ambassador/v0/diag/
Metrics      http://{admin}/metrics

Edit the files in {dir}: a change is served as you save it; a mistake is shown here and the routes
that were there go on. Ctrl-C ends."
    )
}

#[cfg(test)]
mod tests;
