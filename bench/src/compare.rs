// SPDX-License-Identifier: Apache-2.0
//! The comparison: every proxy on one core, generator and back end on another, rounds interleaved
//! (A B C A B C …) so that a slow minute of the machine hits all alike. A failing proxy fails its row
//! and no other.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cpu::{self, Used};
use crate::engine::{Edge, Engine, Load, Outcome, Until};
use crate::peer::{Peer, Running, Setup};
use crate::report::{Report, Row, Sample};
use crate::scenario::{self, Measure, Scenario, Wire};
use crate::tls::Sessions;
use crate::tools;

/// Beyond this share of a window without its core, a proxy's sample is taken again.
const DISTURBANCE_MAX: f64 = 0.1;
const RETRIES: usize = 2;
/// Full handshakes that gather sessions for a window of resumed ones.
const GATHERED: u64 = 5_000;

pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Names; empty: all, or the quick ones.
    pub(crate) scenarios: Vec<String>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) wrk: bool,
    pub(crate) tools: PathBuf,
    pub(crate) ringway: PathBuf,
    pub(crate) results: PathBuf,
    pub(crate) proxy_core: Option<usize>,
    pub(crate) load_core: Option<usize>,
}

/// Runs the scenarios and prints and writes their tables. An error if a row failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scenarios = choose(options)?;
    let (proxy_core, load_core) = cores(options)?;
    let binaries: Vec<_> = options
        .peers
        .iter()
        .map(|&peer| (peer, tools::binary(peer, &options.tools, &options.ringway)))
        .collect();
    let wrk = if options.wrk { tools::wrk() } else { None };
    cpu::pin(load_core).context("pinning the load generator")?;
    raise_descriptors();
    eprintln!("proxies on core {proxy_core}, load and back end on core {load_core}");
    let mut failed = Vec::new();
    for scenario in &scenarios {
        let report = Comparison { options, scenario, wrk: wrk.as_deref(), proxy_core, load_core }
            .run(&binaries)?;
        let table = report.markdown();
        println!("{table}");
        write(&options.results, &report, &table)?;
        let troubles = report.rows.iter().filter_map(|row| Some((row, row.trouble()?)));
        failed.extend(troubles.map(|(row, why)| format!("{} {}: {why}", scenario.name, row.peer)));
    }
    ensure!(failed.is_empty(), "without a figure:\n  {}", failed.join("\n  "));
    Ok(())
}

fn choose(options: &Options) -> Result<Vec<Scenario>> {
    let all = scenario::all();
    for name in &options.scenarios {
        if !all.iter().any(|scenario| scenario.name == name) {
            let names: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
            bail!("no scenario {name}; there are {}", names.join(", "));
        }
    }
    let wanted = |scenario: &Scenario| match options.scenarios.as_slice() {
        [] => scenario.quick || !options.quick,
        names => names.iter().any(|name| name == scenario.name),
    };
    let measured = |scenario: &Scenario| scenario.measure == Measure::Throughput;
    Ok(all.into_iter().filter(wanted).filter(measured).collect())
}

fn cores(options: &Options) -> Result<(usize, usize)> {
    let cores = cpu::cores()?;
    ensure!(cores.len() > 1, "a comparison needs two cores: one for the proxy, one for the load");
    let proxy = options.proxy_core.unwrap_or(cores[0]);
    let other = cores.iter().copied().find(|&core| core != proxy).expect("there are two");
    Ok((proxy, options.load_core.unwrap_or(other)))
}

fn write(folder: &Path, report: &Report, table: &str) -> Result<()> {
    fs::create_dir_all(folder).context("creating the results folder")?;
    let name = folder.join(&report.scenario);
    fs::write(name.with_extension("md"), table).context("writing the table")?;
    let json = serde_json::to_string_pretty(report)?;
    fs::write(name.with_extension("json"), json + "\n").context("writing the samples")
}

/// As many descriptors as the system allows, for us and for the proxies.
fn raise_descriptors() {
    // SAFETY: a rlimit is plain numbers; both calls only read or write this one.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// One scenario under way.
struct Comparison<'a> {
    options: &'a Options,
    scenario: &'a Scenario,
    wrk: Option<&'a Path>,
    proxy_core: usize,
    load_core: usize,
}

/// A proxy in this scenario: at work, or its row says why not.
struct Entrant {
    running: Option<Running>,
    load: Load,
    row: Row,
    // Removed with the proxy's configuration, after the proxy itself.
    _folder: Folder,
}

impl Comparison<'_> {
    fn run(&self, binaries: &[(Peer, Result<PathBuf>)]) -> Result<Report> {
        let mut engine = Engine::open(([127, 0, 0, 1], 0).into())?;
        let sessions = Arc::<Sessions>::default();
        let load = self.scenario.load(&sessions);
        let mut entrants = Vec::new();
        for (peer, binary) in
            binaries.iter().filter(|(peer, _)| peer.can(self.scenario.work, self.scenario.wire))
        {
            eprintln!("{}: starting {}", self.scenario.name, peer.name());
            entrants.push(self.enter(*peer, binary, &load, &mut engine)?);
        }
        for round in 1..=self.options.rounds {
            for entrant in &mut entrants {
                let name = entrant.row.peer.clone();
                match self.sample(entrant, &sessions, &mut engine) {
                    Ok(None) => {}
                    Ok(Some(sample)) => {
                        eprintln!(
                            "{} {round}/{}: {name} {:.0} per CPU-second, {:.0}/s, {} errors",
                            self.scenario.name,
                            self.options.rounds,
                            sample.per_cpu_second(),
                            sample.per_second(),
                            sample.errors,
                        );
                        entrant.row.samples.push(sample);
                    }
                    Err(error) => entrant.fail(&error),
                }
            }
        }
        if let Some(wrk) = self.wrk.filter(|_| self.scenario.suits_wrk()) {
            for entrant in &mut entrants {
                if let Err(error) = self.cross_check(wrk, entrant, &mut engine) {
                    eprintln!("{}: wrk with {}: {error:#}", self.scenario.name, entrant.row.peer);
                }
            }
        }
        Ok(Report {
            scenario: self.scenario.name.to_owned(),
            title: self.scenario.title.to_owned(),
            machine: cpu::machine(),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            rounds: self.options.rounds,
            seconds: self.options.window.as_secs_f64(),
            connections: self.scenario.connections,
            rows: entrants.into_iter().map(Entrant::leave).collect(),
        })
    }

    /// Starts a proxy and checks once that it does the scenario's work.
    fn enter(
        &self,
        peer: Peer,
        binary: &Result<PathBuf>,
        load: &Load,
        engine: &mut Engine,
    ) -> Result<Entrant> {
        let folder = Folder::create(peer)?;
        let setup = Setup {
            listen: free_port()?,
            admin: free_port()?,
            back_end: engine.address()?.port(),
            work: self.scenario.work,
            connections: self.scenario.connections_max(),
            tls: self.scenario.wire != Wire::Cleartext,
            dir: folder.0.clone(),
        };
        let mut entrant = Entrant {
            running: None,
            load: Load { target: SocketAddr::from(([127, 0, 0, 1], setup.listen)), ..load.clone() },
            row: Row { peer: peer.name().to_owned(), ..Row::default() },
            _folder: folder,
        };
        let mut start = || -> Result<()> {
            let binary = binary.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            entrant.row.version = peer.version(binary)?;
            entrant.running = Some(peer.start(binary, &setup, self.proxy_core)?);
            self.scenario.verify(engine, &entrant.load).context("does not do the work")
        };
        if let Err(error) = start() {
            entrant.fail(&error);
        }
        Ok(entrant)
    }

    /// One measured window, taken again when a neighbour had the core.
    fn sample(
        &self,
        entrant: &Entrant,
        sessions: &Sessions,
        engine: &mut Engine,
    ) -> Result<Option<Sample>> {
        let Some(running) = &entrant.running else { return Ok(None) };
        let until = Until::Time { warm_up: self.options.warm_up, window: self.options.window };
        let load = Load { until, ..entrant.load.clone() };
        let mut best: Option<Sample> = None;
        let resumes = self.scenario.wire == Wire::TlsResumptions;
        for _ in 0..=if self.options.quick { 0 } else { RETRIES } {
            let mut load = load.clone();
            if resumes {
                sessions.gather();
                engine
                    .run(&Load { until: Until::Answers(GATHERED), ..load.clone() }, &mut |_| {
                        Ok(())
                    })?;
                // The window ends before they do.
                load.until = Until::Answers(sessions.show() as u64 * 9 / 10);
            }
            let sample = self.measure(running, &load, engine)?;
            if best.as_ref().is_none_or(|best| sample.disturbance() < best.disturbance()) {
                best = Some(sample);
            }
            if best.as_ref().is_some_and(|best| best.disturbance() <= DISTURBANCE_MAX) {
                break;
            }
        }
        Ok(best)
    }

    /// Runs a load and reads the proxy's processor time at the edges of its window.
    fn measure(&self, running: &Running, load: &Load, engine: &mut Engine) -> Result<Sample> {
        let processes = running.processes()?;
        let (mut before, mut used) = (Used::default(), Used::default());
        let mut outcome = engine.run(load, &mut |edge| {
            let now = cpu::used(&processes)?;
            match edge {
                Edge::Start => before = now,
                Edge::End => used = now.since(before),
            }
            Ok(())
        })?;
        if let Some(wrong) = self.scenario.judge(outcome.handshakes, outcome.resumed) {
            outcome.errors += 1;
            outcome.first_error.get_or_insert(wrong);
        }
        Ok(sample_of(&outcome, used))
    }

    /// The figure with wrk as the generator. It sends the first request only, and no bodies.
    fn cross_check(&self, wrk: &Path, entrant: &mut Entrant, engine: &mut Engine) -> Result<()> {
        let Some(running) = &entrant.running else { return Ok(()) };
        let request = std::str::from_utf8(entrant.load.requests[0])?;
        let Some(target) = request.strip_prefix("GET ").and_then(|text| text.split(' ').next())
        else {
            return Ok(());
        };
        eprintln!("{}: wrk with {}", self.scenario.name, entrant.row.peer);
        let seconds = self.options.window.as_secs().max(1);
        let mut command = Command::new(wrk);
        command.args(["-t1", &format!("-c{}", entrant.load.connections), &format!("-d{seconds}s")]);
        // wrk knows its own Host by that spelling only, and would send a second one.
        let fields = request.lines().skip(1).take_while(|line| !line.is_empty());
        let fields = fields.map(|line| line.replacen("host: ", "Host: ", 1));
        command.args(fields.flat_map(|line| ["-H".to_owned(), line]));
        command.arg(format!("http://127.0.0.1:{}{target}", running.listen));
        cpu::pin_child(&mut command, self.load_core);
        let processes = running.processes()?;
        let before = cpu::used(&processes)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        engine.serve(&mut || Ok(child.try_wait()?.is_some()))?;
        let used = cpu::used(&processes)?.since(before);
        let said = String::from_utf8(child.wait_with_output()?.stdout)?;
        ensure!(!said.contains("Non-2xx"), "answers other than 2xx");
        let requests = wrk_requests(&said).context("wrk said nothing")?;
        entrant.row.wrk_per_cpu_second = Some(requests as f64 / used.running.as_secs_f64());
        Ok(())
    }
}

impl Entrant {
    fn fail(&mut self, error: &anyhow::Error) {
        eprintln!("{}: {error:#}", self.row.peer);
        self.row.failure = Some(format!("{error:#}"));
        self.running = None;
    }

    fn leave(self) -> Row {
        let Self { running, mut row, _folder, .. } = self;
        if let Some(Ok(processes)) = running.as_ref().map(Running::processes) {
            row.resident_bytes = cpu::resident_bytes(&processes);
        }
        drop(running);
        row
    }
}

fn sample_of(outcome: &Outcome, used: Used) -> Sample {
    Sample {
        answers: outcome.answers,
        errors: outcome.errors,
        first_error: outcome.first_error.clone(),
        window_s: outcome.window.as_secs_f64(),
        cpu_s: used.running.as_secs_f64(),
        waited_s: used.waiting.as_secs_f64(),
        bodies_compared: outcome.compared,
    }
}

/// The requests that wrk counted: the line `  123 requests in 1.00s, 2.00MB read`.
fn wrk_requests(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains(" requests in "))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("finding a free port")?.local_addr()?.port())
}

/// A temporary folder that goes with this value.
struct Folder(PathBuf);

impl Folder {
    fn create(peer: Peer) -> Result<Self> {
        let name = format!("ringway-bench-{}-{}", std::process::id(), peer.name());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is the system's to clean.
        let _ = fs::remove_dir_all(&self.0);
    }
}
