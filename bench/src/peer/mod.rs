// SPDX-License-Identifier: Apache-2.0
//! The proxies compared. Each gets the best honest configuration for one worker that its own
//! documentation gives: keep-alive to the back end without limits, no access log, buffers that fit.
//! One file per proxy, a pure function from [`Setup`] to configuration text.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::cpu;
use crate::scenario::{OTHER, Protocol, Wire, Work};
use crate::{tls, tools};

mod envoy;
mod haproxy;
mod nginx;
mod ringway;

/// How long a proxy may take from its start to its first connection, with the largest configuration.
const START_TIME: Duration = Duration::from_secs(60);
const STOP_TIME: Duration = Duration::from_secs(3);
const HAPROXY: &str = "haproxy.cfg";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    Ringway,
    /// Another build of Ringway, to see what a change is worth.
    Other,
    /// The newest release, from PyPI.
    Nginx,
    /// The distribution's build, which may be the faster one.
    NginxDebian,
    Haproxy,
    Envoy,
    /// Copies bytes and knows no HTTP: the floor of what a proxy can cost here.
    Relay,
}

/// What a proxy is to do, and where.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) listen: u16,
    pub(crate) admin: u16,
    pub(crate) back_end: u16,
    pub(crate) work: Work,
    /// Clients' connections at a time.
    pub(crate) connections: usize,
    /// Terminates TLS with the certificate in `dir`.
    pub(crate) tls: bool,
    pub(crate) protocol: Protocol,
    /// The core of the thread that serves, where the others are to be elsewhere.
    pub(crate) worker_core: Option<usize>,
    /// A folder of its own, which exists.
    pub(crate) dir: PathBuf,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ringway => "ringway",
            Self::Other => OTHER,
            Self::Nginx => "nginx",
            Self::NginxDebian => "nginx-debian",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Relay => "relay",
        }
    }

    /// Whether this peer can do this work at all. Copying HTTP/2 is no floor of what it costs to take
    /// its streams apart.
    pub(crate) fn can(self, work: Work, wire: Wire, protocol: Protocol) -> bool {
        let copies = matches!(work, Work::Forward | Work::Tunnel | Work::WebSocket);
        let plain = wire == Wire::Cleartext && protocol == Protocol::Http1;
        self != Self::Relay || (copies && plain)
    }

    /// The version that the binary reports, one line.
    pub(crate) fn version(self, binary: &Path) -> Result<String> {
        let flag = match self {
            Self::Nginx | Self::NginxDebian | Self::Haproxy => "-v",
            Self::Ringway | Self::Other | Self::Envoy | Self::Relay => "--version",
        };
        let output = Command::new(binary).arg(flag).output();
        let output = output.with_context(|| format!("running {}", binary.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        // Envoy: "PATH  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"; the others name themselves.
        Ok(match line.split_once("version: ") {
            Some((_, version)) if self == Self::Envoy => {
                format!("envoy {}", version.split('/').nth(1).unwrap_or(version))
            }
            Some((_, version)) => version.replace('/', " ").trim().to_owned(),
            None => line.split(" - ").next().unwrap_or(line).trim().to_owned(),
        })
    }

    /// Writes the configuration into the folder: the arguments to start with it.
    fn configure(self, binary: &Path, setup: &Setup) -> Result<Vec<String>> {
        if setup.tls {
            tls::write(&setup.dir)?;
        }
        let dir = setup.dir.display();
        let (files, arguments) = match self {
            Self::Ringway | Self::Other => {
                // A folder of its own: this one is watched, and the log is in the other.
                fs::create_dir_all(setup.dir.join("manifests"))?;
                let connections = setup.connections.to_string();
                let arguments = [
                    "run",
                    "--workers",
                    "1",
                    "--access-log",
                    "off",
                    "--max-connections",
                    &connections,
                    "--max-listener-connections",
                    &connections,
                    "--admin-addr",
                    &format!("127.0.0.1:{}", setup.admin),
                    "-f",
                    &format!("{dir}/manifests"),
                ]
                .map(str::to_owned);
                (vec![("manifests/bench.yaml", ringway::manifests(setup)?)], arguments.to_vec())
            }
            Self::Nginx | Self::NginxDebian => {
                fs::create_dir_all(setup.dir.join("tmp"))?;
                let log = format!("{dir}/error.log");
                let arguments =
                    ["-p", &format!("{dir}"), "-e", &log, "-c", &format!("{dir}/nginx.conf")]
                        .map(str::to_owned);
                // The distribution has the stream module in a package of its own.
                let module = (self == Self::NginxDebian && setup.work == Work::Tunnel)
                    .then(|| tools::nginx_stream_module(binary))
                    .transpose()?;
                let text = nginx::configuration(setup, module.as_deref());
                (vec![("nginx.conf", text)], arguments.to_vec())
            }
            Self::Haproxy => {
                let mut arguments =
                    ["-db", "-f", &format!("{dir}/{HAPROXY}")].map(str::to_owned).to_vec();
                if matches!(setup.work, Work::Changing(_)) {
                    // With a master process, which reloads.
                    arguments.insert(0, "-W".to_owned());
                }
                let files = vec![
                    (HAPROXY, haproxy::configuration(setup, 0)),
                    ("routes.map", haproxy::routes(setup)),
                ];
                (files, arguments)
            }
            Self::Envoy => {
                let arguments = [
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--log-level",
                    "error",
                    "-c",
                    &format!("{dir}/envoy.json"),
                ]
                .map(str::to_owned);
                (vec![("envoy.json", envoy::configuration(setup))], arguments.to_vec())
            }
            Self::Relay => {
                let arguments = [
                    "relay",
                    "--listen",
                    &format!("127.0.0.1:{}", setup.listen),
                    "--upstream",
                    &format!("127.0.0.1:{}", setup.back_end),
                ]
                .map(str::to_owned);
                (Vec::new(), arguments.to_vec())
            }
        };
        for (name, text) in files {
            fs::write(setup.dir.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        if matches!(setup.work, Work::Changing(_)) {
            let (name, text) = self.changing(setup, 0).context("cannot change")?;
            let path = setup.dir.join(name);
            fs::create_dir_all(path.parent().expect("it is in the folder"))?;
            fs::write(path, text).with_context(|| format!("writing {name}"))?;
        }
        Ok(arguments)
    }

    /// The file that changes with the number of the configuration, and what is in it.
    fn changing(self, setup: &Setup, generation: usize) -> Option<(&'static str, String)> {
        match self {
            Self::Ringway | Self::Other => {
                Some((ringway::CHANGING, ringway::changing(setup, generation)))
            }
            Self::Nginx | Self::NginxDebian => Some((nginx::CHANGING, nginx::changing(generation))),
            Self::Haproxy => Some((HAPROXY, haproxy::configuration(setup, generation))),
            Self::Envoy => Some((envoy::CHANGING, envoy::changing(setup, generation))),
            Self::Relay => None,
        }
    }

    /// Writes what [`Change::make`] puts in its place. nginx and HAProxy are told by a signal to look
    /// at their files, Ringway and Envoy watch theirs.
    pub(crate) fn prepare(
        self,
        setup: &Setup,
        running: &Running,
        generation: usize,
    ) -> Result<Change> {
        let (name, text) = self.changing(setup, generation).context("cannot change")?;
        let from = setup.dir.join(format!("change-{generation}"));
        fs::write(&from, text).context("writing a change")?;
        let signal = match self {
            Self::Nginx | Self::NginxDebian => Some(libc::SIGHUP),
            Self::Haproxy => Some(libc::SIGUSR2),
            Self::Ringway | Self::Other | Self::Envoy | Self::Relay => None,
        };
        Ok(Change { from, to: setup.dir.join(name), process: running.child.id(), signal })
    }

    /// Starts the proxy on one core and waits until it takes connections.
    pub(crate) fn start(self, binary: &Path, setup: &Setup, core: usize) -> Result<Running> {
        self.start_in(&[], binary, setup, &[], core)
    }

    /// The same with a program and its arguments before the proxy's, and with more environment.
    pub(crate) fn start_in(
        self,
        wrap: &[String],
        binary: &Path,
        setup: &Setup,
        environment: &[(&str, &str)],
        core: usize,
    ) -> Result<Running> {
        let output = setup.dir.join("output.log");
        let log = fs::File::create(&output).context("creating a log")?;
        let mut command = match wrap {
            [] => Command::new(binary),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
        };
        command
            .args(self.configure(binary, setup)?)
            .envs(environment.iter().copied())
            .env("AMBASSADOR_ENVOY_BIND_ADDRESS", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        cpu::pin_child(&mut command, core);
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        let mut running = Running { child, listen: setup.listen };
        let until = Instant::now() + START_TIME;
        while TcpStream::connect(("127.0.0.1", setup.listen)).is_err() {
            let ended = running.child.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                let said = fs::read_to_string(&output).unwrap_or_default();
                let said: Vec<_> = said.lines().rev().take(5).collect();
                bail!("{} does not start: {}", self.name(), said.join(" | "));
            }
            sleep(Duration::from_millis(10));
        }
        if let Some((core, name)) = setup.worker_core.zip(self.worker_thread()) {
            cpu::pin_threads(running.child.id(), name, core)?;
        }
        Ok(running)
    }

    /// How the names of threads that serve begin, where no setting says their core.
    fn worker_thread(self) -> Option<&'static str> {
        match self {
            Self::Ringway | Self::Other => Some("worker-"),
            Self::Envoy => Some("wrk:"),
            Self::Nginx | Self::NginxDebian | Self::Haproxy | Self::Relay => None,
        }
    }
}

/// A change of the configuration that only has to be made.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    from: PathBuf,
    to: PathBuf,
    process: u32,
    signal: Option<libc::c_int>,
}

impl Change {
    pub(crate) fn make(&self) -> Result<()> {
        fs::rename(&self.from, &self.to).context("renaming a changed file")?;
        if let Some(signal) = self.signal {
            // SAFETY: a plain system call.
            let failed = unsafe { libc::kill(self.process as i32, signal) };
            ensure!(failed == 0, "telling a proxy: {}", std::io::Error::last_os_error());
        }
        Ok(())
    }
}

/// A proxy at work; ends with this value.
pub(crate) struct Running {
    pub(crate) listen: u16,
    child: Child,
}

impl Running {
    /// The proxy's processes, children included.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        cpu::family(self.child.id())
    }

    /// Ends the proxy and whatever it runs in, in order. An error if they take longer than `within`.
    pub(crate) fn end(mut self, within: Duration) -> Result<()> {
        let group = -(self.child.id() as i32);
        // SAFETY: a plain system call; the group is the child's own, made when it was started.
        unsafe { libc::kill(group, libc::SIGTERM) };
        let until = Instant::now() + within;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < until, "a proxy does not end");
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = -(self.child.id() as i32);
        // SAFETY: plain system calls; the group is the child's own, made when it was started.
        unsafe { libc::kill(group, libc::SIGTERM) };
        let until = Instant::now() + STOP_TIME;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
        // SAFETY: as above; whoever of the group is left.
        unsafe { libc::kill(group, libc::SIGKILL) };
        // Nothing is left to be done when the child cannot be waited for.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests;
