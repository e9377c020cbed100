// SPDX-License-Identifier: Apache-2.0
//! Go programs as outside peers: built once, under `target/`, in the versions that `tests/go/`
//! fixes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::gateway::repository;
use crate::outside::on_path;

/// What can be built.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    H2spec,
    InteropClient,
    InteropServer,
}

impl Program {
    fn package(self) -> &'static str {
        match self {
            Self::H2spec => "github.com/summerwind/h2spec/cmd/h2spec",
            Self::InteropClient => "google.golang.org/grpc/interop/client",
            Self::InteropServer => "google.golang.org/grpc/interop/server",
        }
    }

    /// Where it is, built first if it must be; `None`, and one line that says so, on a machine
    /// without Go.
    pub fn find(self) -> Result<Option<PathBuf>> {
        if on_path("go").is_none() {
            eprintln!("left out: {self:?}, because there is no go on PATH to build it");
            return Ok(None);
        }
        let folder = repository().join("target/tests-go");
        fs::create_dir_all(&folder)?;
        // Another test process may be at it.
        let lock = File::create(folder.join(format!("{self:?}.lock")))?;
        lock.lock()?;
        let (built, source) = (folder.join(format!("{self:?}")), repository().join("tests/go"));
        let wanted = fs::read_to_string(source.join("go.sum"))?;
        let done = folder.join(format!("{self:?}.sum"));
        if fs::read_to_string(&done).is_ok_and(|sum| sum == wanted) {
            return Ok(Some(built));
        }
        build(&source, &built, self.package())?;
        fs::write(&done, wanted)?;
        Ok(Some(built))
    }
}

fn build(source: &Path, to: &Path, package: &str) -> Result<()> {
    let mut command = Command::new("go");
    command.arg("-C").arg(source).args(["build", "-o"]).arg(to).arg(package);
    let output = command.stdin(Stdio::null()).output().context("running go")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "go build {package}: {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_built_runs() {
        for program in [Program::H2spec, Program::InteropClient, Program::InteropServer] {
            let Some(file) = program.find().unwrap() else { continue };
            let output = Command::new(file).arg("--help").output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            assert!(String::from_utf8_lossy(&said).contains("port"), "{program:?}");
        }
    }
}
