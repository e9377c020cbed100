// SPDX-License-Identifier: Apache-2.0
//! The real binary as a child process, on a loopback address and in a folder of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
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
    pub admin_port: u16,
    /// Serve this kubeconfig's cluster, and no manifests.
    pub kubeconfig: Option<PathBuf>,
    /// Further arguments of `ringway run`.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Limit of file descriptors, soft and hard.
    pub descriptors: Option<u64>,
    /// User and group to become; only root can.
    pub user: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            io_backend: "io_uring",
            workers: 1,
            admin_port: ADMIN_PORT,
            kubeconfig: None,
            args: Vec::new(),
            env: Vec::new(),
            descriptors: None,
            user: None,
        }
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
    admin_port: u16,
    root: Arc<Root>,
    /// Of the processes that share the folder, which this is.
    number: u64,
}

/// The folder of a gateway and its successors; goes with the last of them.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    processes: AtomicU64,
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
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
        let path = std::env::temp_dir().join(format!("ringway-it-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("manifests"))?;
        fs::write(path.join("manifests/all.yaml"), manifests)?;
        let root = Arc::new(Root { path, processes: AtomicU64::new(0) });
        let manifests = root.path.join("manifests");
        Self::process(&root, &manifests, crate::address::fresh(), options)
    }

    /// Starts another process on the same addresses and manifests, and does not wait.
    pub fn successor(&self, options: &Options) -> Result<Self> {
        self.successor_with(&self.folder(), options)
    }

    /// The same with manifests of its own.
    pub fn successor_with(&self, manifests: &Path, options: &Options) -> Result<Self> {
        Self::process(&self.root, manifests, self.ip, options)
    }

    fn process(
        root: &Arc<Root>,
        manifests: &Path,
        ip: Ipv4Addr,
        options: &Options,
    ) -> Result<Self> {
        let number = root.processes.fetch_add(1, Relaxed);
        let output = |name: &str| fs::File::create(root.path.join(format!("{name}-{number}")));
        let mut command = Command::new(binary()?);
        if let Some(descriptors) = options.descriptors {
            limit_descriptors(&mut command, descriptors);
        }
        if let Some(user) = options.user {
            command.uid(user).gid(user);
        }
        let (place, path) = match &options.kubeconfig {
            Some(kubeconfig) => ("--kubeconfig", kubeconfig.as_path()),
            None => ("-f", manifests),
        };
        let child = command
            .args(["run", place])
            .arg(path)
            .args(["--admin-addr", &format!("{ip}:{}", options.admin_port)])
            .args(["--io-backend", options.io_backend])
            .args(["--workers", &options.workers.to_string()])
            .arg("--pin=false")
            .args(&options.args)
            .env_clear()
            .env("AMBASSADOR_ENVOY_BIND_ADDRESS", ip.to_string())
            .envs(options.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(output("stdout")?)
            .stderr(output("stderr")?)
            .spawn()
            .context("starting ringway")?;
        Ok(Self { child, ip, admin_port: options.admin_port, root: Arc::clone(root), number })
    }

    /// Waits until the admin port says that it is ready.
    pub fn await_ready(&self) -> Result<()> {
        self.await_start(|| self.admin("/ambassador/v0/check_ready").is_ok_and(|r| r.status == 200))
    }

    /// Waits until this very process says in its log that it is ready: the admin port may be
    /// another's.
    pub fn await_said_ready(&self) -> Result<()> {
        self.await_start(|| self.log().contains(" ready: listening on "))
    }

    fn await_start(&self, mut is_ready: impl FnMut() -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_ready() {
            let pid = self.child.id();
            let gone = fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") Z "));
            ensure!(!gone, "ringway ended at once:\n{}", self.log());
            if Instant::now() > end {
                bail!("not ready after {PATIENCE:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The folder that it watches.
    pub fn folder(&self) -> PathBuf {
        self.root.path.join("manifests")
    }

    /// Replaces a file of the folder in one step, as editors and Kubernetes do.
    pub fn write(&self, name: &str, manifests: &str) -> Result<()> {
        let draft = self.root.path.join(name);
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
        Ok(self.client(self.admin_port)?.get(target, "localhost")?)
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

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory that no file backs, in bytes: what clients make it need. Pages of code come and
    /// go.
    pub fn anonymous(&self) -> Result<u64> {
        self.memory("RssAnon")
    }

    /// Bytes of memory as a line of the process's status has them: `VmRSS`, `RssAnon`, `RssFile`.
    pub fn memory(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let kib = line.and_then(|l| l.split_whitespace().next());
        Ok(kib.with_context(|| format!("no {name}"))?.parse::<u64>()? * 1024)
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let (_, fields) = stat.rsplit_once(')').context("no stat")?;
        let fields = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        // Clock ticks, of which Linux has 100 a second for user space.
        let ticks: u64 = fields.collect::<std::result::Result<Vec<u64>, _>>()?.iter().sum();
        Ok(Duration::from_millis(ticks * 10))
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
        let text = fs::read_to_string(self.root.path.join(format!("stderr-{}", self.number)))
            .unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        text[text.ceil_char_boundary(from)..].to_owned()
    }

    /// What it printed to stdout so far: the access log.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.root.path.join(format!("stdout-{}", self.number)))
            .unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn limit_descriptors(command: &mut Command, n: u64) {
    let limit = libc::rlimit { rlim_cur: n, rlim_max: n };
    // SAFETY: between fork and exec one system call is made, from a value that was copied.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
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
        // All packages with their tests: of the same parts as `cargo test --workspace` has just built.
        .args(["build", "--quiet", "--workspace", "--tests", "--bin", "ringway"])
        .args(["--profile", profile])
        .current_dir(repository())
        .status()
        .context("running cargo build")?;
    ensure!(status.success(), "cargo build of the binary failed");
    Ok(folder.join("ringway"))
}
