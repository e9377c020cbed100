// SPDX-License-Identifier: Apache-2.0
//! The real binary as a child process, on a loopback address and in a folder of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::client::{Client, Response};
use crate::{PATIENCE, wait_until};

/// How a gateway is started.
#[derive(Clone, Debug)]
pub struct Options {
    pub io_backend: &'static str,
    pub workers: usize,
    /// Further arguments of `ringway run`.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { io_backend: "io_uring", workers: 1, args: Vec::new(), env: Vec::new() }
    }
}

impl Options {
    pub fn driver(io_backend: &'static str) -> Self {
        Self { io_backend, ..Self::default() }
    }
}

/// A running gateway. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    ip: Ipv4Addr,
    root: PathBuf,
}

/// The admin port, as Emissary has it.
pub const ADMIN_PORT: u16 = 8877;

impl Gateway {
    /// Starts with one file of manifests and waits until it is ready.
    pub fn start(manifests: &str, options: &Options) -> Result<Self> {
        let gateway = Self::spawn(manifests, options)?;
        gateway.await_ready()?;
        Ok(gateway)
    }

    /// Starts, and does not wait.
    pub fn spawn(manifests: &str, options: &Options) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let root = std::env::temp_dir().join(format!("ringway-it-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("manifests"))?;
        fs::write(root.join("manifests/all.yaml"), manifests)?;
        let ip = crate::address::fresh();
        let child = Command::new(binary()?)
            .arg("run")
            .arg("-f")
            .arg(root.join("manifests"))
            .args(["--admin-addr", &format!("{ip}:{ADMIN_PORT}")])
            .args(["--io-backend", options.io_backend])
            .args(["--workers", &options.workers.to_string()])
            .arg("--pin=false")
            .args(&options.args)
            .env_clear()
            .env("AMBASSADOR_ENVOY_BIND_ADDRESS", ip.to_string())
            .envs(options.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(fs::File::create(root.join("stdout"))?)
            .stderr(fs::File::create(root.join("stderr"))?)
            .spawn()
            .context("starting ringway")?;
        Ok(Self { child, ip, root })
    }

    pub fn await_ready(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.admin("/ambassador/v0/check_ready").is_ok_and(|r| r.status == 200) {
                return Ok(());
            }
            let pid = self.child.id();
            let gone = fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "));
            ensure!(!gone, "ringway ended at once:\n{}", self.log());
            if Instant::now() > end {
                bail!("not ready after {PATIENCE:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The folder that it watches.
    pub fn folder(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// Replaces a file of the folder in one step, as editors and Kubernetes do.
    pub fn write(&self, name: &str, manifests: &str) -> Result<()> {
        let draft = self.root.join(name);
        fs::write(&draft, manifests)?;
        fs::rename(draft, self.folder().join(name))?;
        Ok(())
    }

    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }

    pub fn client(&self, port: u16) -> Result<Client> {
        Ok(Client::connect(self.address(port), PATIENCE)?)
    }

    /// A request to a listener on a connection of its own.
    pub fn get(&self, port: u16, target: &str, host: &str) -> Result<Response> {
        Ok(self.client(port)?.get(target, host)?)
    }

    /// A request to the admin port.
    pub fn admin(&self, target: &str) -> Result<Response> {
        Ok(self.client(ADMIN_PORT)?.get(target, "localhost")?)
    }

    /// The sum of a series' samples in `/metrics` whose labels contain this text.
    pub fn metric(&self, series: &str, labels: &str) -> Result<f64> {
        let text = self.admin("/metrics")?.text();
        let samples = text.lines().filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let (name, found) = name.split_once('{').unwrap_or((name, ""));
            (name == series && found.contains(labels)).then_some(value)
        });
        samples.map(|value| Ok(value.parse::<f64>()?)).sum()
    }

    /// `GET /api/v1/workers`, one entry per worker.
    pub fn workers(&self) -> Result<Vec<Value>> {
        let response = self.admin("/api/v1/workers")?;
        let value: Value = serde_json::from_slice(&response.body)
            .with_context(|| format!("{}: {}", response.status, response.text()))?;
        let list = value.get("workers").unwrap_or(&value);
        list.as_array().cloned().context("/api/v1/workers is no list")
    }

    /// The lowest generation that any worker serves.
    pub fn generation(&self) -> Result<u64> {
        let workers = self.workers()?;
        let generations = workers.iter().filter_map(|w| w["generation"].as_u64());
        generations.min().context("no worker says its generation")
    }

    /// Fails unless every worker runs on this driver: a silent fallback proves nothing.
    pub fn assert_driver(&self, io_backend: &str) -> Result<()> {
        for worker in self.workers()? {
            ensure!(
                worker["io_backend"] == io_backend,
                "asked for {io_backend}, got {} ({})",
                worker["io_backend"],
                worker["io_reason"]
            );
        }
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("no VmRSS")?;
        let kib = line.split_whitespace().nth(1).context("no VmRSS value")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, which is not reaped before `wait`.
        unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("ringway ends", PATIENCE, || {
            status = self.child.try_wait().expect("waiting for our own child");
            status.is_some()
        });
        status.expect("just found")
    }

    /// What it printed to stderr so far, the end of it.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.root.join("stderr")).unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        text[text.ceil_char_boundary(from)..].to_owned()
    }

    /// What it printed to stdout so far: the access log.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.root.join("stdout")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The binary of this test's own profile, brought up to date once per process. `RINGWAY_BIN` names
/// another.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RINGWAY_BIN") {
        return Ok(path.into());
    }
    // target/<profile>/deps/it-<hash>
    let test = std::env::current_exe()?;
    let folder =
        test.ancestors().nth(2).context("the test binary lies in target/<profile>/deps")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "-p", "ringway-proxy", "--bin", "ringway", "--profile", profile])
        .current_dir(repository())
        .status()
        .context("running cargo build")?;
    ensure!(status.success(), "cargo build of the binary failed");
    Ok(folder.join("ringway"))
}
