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

use crate::Places;
use crate::change;
use crate::cpu::{self, Used};
use crate::engine::{Edge, Engine, Load, Outcome, Until};
use crate::peer::{Peer, Running, Setup};
use crate::progress::Progress;
use crate::report::{Report, Row};
use crate::sample::{Latency, Memory, Percentiles, Sample, Throughput};
use crate::scenario::{self, DIRECT, IDLE_REST, Measure, ONE_ROUTE, Scenario, Target, Wire, Work};
use crate::summary;
use crate::tls::Sessions;
use crate::tools;

/// Beyond this share of a window without its core, a proxy's sample is taken again.
const DISTURBANCE_MAX: f64 = 0.1;
const RETRIES: usize = 2;
/// A core is quiet when it was no busier than this for a moment; waited for so often.
const BUSY_MAX: f64 = 0.2;
const MOMENT: Duration = Duration::from_millis(100);
const MOMENTS_MAX: usize = 20;
/// Full handshakes that gather sessions for a window of resumed ones.
const GATHERED: u64 = 5_000;
/// Rounds of latencies are never fewer, unless in a hurry: their tails are noise otherwise.
const LATENCY_ROUNDS: usize = 5;
/// Changes of the configuration in a round.
const CHANGES: usize = 34;
const CHANGES_QUICK: usize = 10;
/// Connections made at once until all idle ones are there.
const AT_ONCE: usize = 64;
/// Before memory is read.
const REST: Duration = Duration::from_secs(2);
/// wrk2 finds out about itself for ten seconds before it counts.
const WRK2_SECONDS: u64 = 13;
/// How long `--quick` may take.
const QUICK: Duration = Duration::from_secs(175);

pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// Names; empty: all, or the quick ones.
    pub(crate) scenarios: Vec<String>,
    pub(crate) wrk: bool,
    pub(crate) places: Places,
    pub(crate) results: PathBuf,
    pub(crate) proxy_core: Option<usize>,
    pub(crate) load_core: Option<usize>,
}

/// Runs the scenarios and prints and writes their tables. An error if a row failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut scenarios = choose(options)?;
    let (proxy_core, load_core) = cores(options)?;
    let binaries: Vec<_> = options
        .places
        .peers
        .iter()
        .map(|&peer| (peer, tools::binary(peer, &options.places)))
        .collect();
    let wrk = if options.wrk { tools::wrk() } else { None };
    let wrk2 = if options.wrk { tools::wrk2() } else { None };
    cpu::pin(load_core).context("pinning the load generator")?;
    // Each takes two where the back end has one for each, as behind a relay.
    let connections_max = (raise_descriptors().saturating_sub(2_000) / 2) as usize;
    for scenario in &mut scenarios {
        scenario.connections = scenario.connections.min(connections_max.max(AT_ONCE));
    }
    let comparisons: Vec<_> = scenarios
        .iter()
        .map(|scenario| Comparison {
            options,
            scenario,
            wrk: wrk.as_deref().filter(|_| scenario.suits_wrk()),
            wrk2: wrk2.as_deref(),
            proxy_core,
            load_core,
        })
        .collect();
    let planned = comparisons.iter().map(|comparison| comparison.planned(&binaries)).sum();
    let mut progress = Progress::new(planned);
    eprintln!("proxies on core {proxy_core}, load and back end on core {load_core}");
    let mut failed = Vec::new();
    for comparison in &comparisons {
        let (name, planned) = (comparison.scenario.name, comparison.planned(&binaries));
        if options.quick && progress.elapsed() + planned > QUICK {
            eprintln!("{name} is left out: there is no time left for it");
            progress.skip(planned);
            continue;
        }
        let report = comparison.run(&binaries, &mut progress)?;
        println!("{}", report.markdown());
        summary::write_one(&options.results, &report)?;
        summary::write(&options.results)?;
        let troubles = report.rows.iter().filter_map(|row| Some((row, row.trouble()?)));
        failed.extend(troubles.map(|(row, why)| format!("{name} {}: {why}", row.peer)));
    }
    let minutes = progress.elapsed().as_secs_f64() / 60.0;
    eprintln!("{minutes:.1} minutes; see {}", options.results.join("README.md").display());
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
    Ok(all.into_iter().filter(wanted).collect())
}

fn cores(options: &Options) -> Result<(usize, usize)> {
    let cores = cpu::cores()?;
    ensure!(cores.len() > 1, "a comparison needs two cores: one for the proxy, one for the load");
    let proxy = options.proxy_core.unwrap_or(cores[0]);
    let other = cores.iter().copied().find(|&core| core != proxy).expect("there are two");
    Ok((proxy, options.load_core.unwrap_or(other)))
}

/// As many descriptors as the system allows, for us and for the proxies. Gives how many that is.
fn raise_descriptors() -> u64 {
    // SAFETY: a rlimit is plain numbers; the calls only read or write this one.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        limit.rlim_cur
    }
}

/// The commit of the working folder.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

type Binaries = [(Peer, Result<PathBuf>)];

/// One scenario under way.
struct Comparison<'a> {
    options: &'a Options,
    scenario: &'a Scenario,
    wrk: Option<&'a Path>,
    wrk2: Option<&'a Path>,
    proxy_core: usize,
    load_core: usize,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Peer(Peer),
    /// Ringway with one route, whatever the scenario says.
    OneRoute,
    /// Nobody: clients speak to the back end.
    Direct,
}

/// A contender at work, or its row says why it is not.
struct Entrant {
    contender: Contender,
    running: Option<Running>,
    setup: Setup,
    load: Load,
    row: Row,
    /// The number of the configuration that serves.
    generation: usize,
    // Removed with the proxy's configuration, after the proxy itself.
    _folder: Folder,
}

impl Comparison<'_> {
    /// Who takes part, ourselves first; a direct run before all.
    fn contenders<'b>(
        &self,
        binaries: &'b Binaries,
    ) -> Vec<(Contender, Option<&'b Result<PathBuf>>)> {
        let Scenario { measure, work, wire, protocol, .. } = *self.scenario;
        let mut contenders = Vec::new();
        let direct = matches!(measure, Measure::Throughput | Measure::Latency { .. });
        if direct && wire == Wire::Cleartext {
            contenders.push((Contender::Direct, None));
        }
        for (peer, binary) in binaries.iter().filter(|(peer, _)| peer.can(work, wire, protocol)) {
            // The relay holds nothing that a configuration or a request could need.
            if *peer == Peer::Relay && measure == Measure::Resident {
                continue;
            }
            contenders.push((Contender::Peer(*peer), Some(binary)));
            if *peer == Peer::Ringway && matches!(self.scenario.target, Some(Target::OneRoute(_))) {
                contenders.push((Contender::OneRoute, Some(binary)));
            }
        }
        contenders
    }

    fn rounds(&self) -> usize {
        match self.scenario.measure {
            Measure::Idle | Measure::Resident => 1,
            Measure::Change if self.options.quick => 1,
            Measure::Latency { .. } if !self.options.quick => {
                self.options.rounds.max(LATENCY_ROUNDS)
            }
            _ => self.options.rounds,
        }
    }

    fn changes(&self) -> usize {
        if self.options.quick { CHANGES_QUICK } else { CHANGES }
    }

    /// How long one sample takes, about.
    fn step(&self) -> Duration {
        let window = self.options.warm_up + self.options.window + MOMENT * 2;
        match self.scenario.measure {
            Measure::Throughput if self.scenario.wire == Wire::TlsResumptions => window * 2,
            Measure::Throughput | Measure::Latency { .. } => window,
            Measure::Idle => {
                REST + IDLE_REST + Duration::from_millis(self.scenario.connections as u64 / 4)
            }
            Measure::Resident => REST,
            Measure::Change => change::WARM_UP + change::PAUSE * (self.changes() as u32 * 5 / 4),
        }
    }

    /// How long starting one proxy takes, about.
    fn start_time(&self) -> Duration {
        match self.scenario.work {
            Work::Routes(1_001..) | Work::Hosts(_) | Work::Changing(_) => Duration::from_secs(1),
            _ => Duration::from_millis(300),
        }
    }

    fn planned(&self, binaries: &Binaries) -> Duration {
        let contenders = self.contenders(binaries).len() as u32;
        let cross_check = match self.scenario.measure {
            Measure::Throughput if self.wrk.is_some() => self.options.window,
            Measure::Latency { .. } if self.wrk2.is_some() => Duration::from_secs(WRK2_SECONDS),
            _ => Duration::ZERO,
        };
        (self.step() * self.rounds() as u32 + self.start_time() + cross_check) * contenders
    }

    fn run(&self, binaries: &Binaries, progress: &mut Progress) -> Result<Report> {
        let mut engine = Engine::open(([127, 0, 0, 1], 0).into())?;
        let sessions = Arc::<Sessions>::default();
        let load = self.scenario.load(&sessions);
        let contenders = self.contenders(binaries);
        let mut rows = Vec::new();
        // Memory is read one proxy at a time; otherwise all are there and take turns.
        let alone = matches!(self.scenario.measure, Measure::Idle | Measure::Resident);
        for together in contenders.chunks(if alone { 1 } else { contenders.len() }) {
            let mut entrants = Vec::new();
            for (contender, binary) in together {
                let entrant = self.enter(*contender, *binary, &load, &mut engine)?;
                progress.step(
                    self.start_time(),
                    &format!("{}: {}", self.scenario.name, entrant.row.peer),
                );
                entrants.push(entrant);
            }
            for round in 1..=self.rounds() {
                for entrant in &mut entrants {
                    let sample = match entrant.is_there() {
                        true => self.sample(entrant, &sessions, &mut engine).map(Some),
                        false => Ok(None),
                    };
                    let said = match sample {
                        Ok(None) => "failed before".to_owned(),
                        Ok(Some(sample)) => {
                            let said = in_short(&sample);
                            entrant.row.samples.push(sample);
                            said
                        }
                        Err(error) => {
                            entrant.fail(&error);
                            "failed".to_owned()
                        }
                    };
                    let (name, peer) = (self.scenario.name, &entrant.row.peer);
                    let of = self.rounds();
                    progress.step(self.step(), &format!("{name} {round}/{of}: {peer} {said}"));
                }
            }
            for entrant in &mut entrants {
                if let Err(error) = self.cross_check(entrant, &mut engine, progress) {
                    eprintln!("{}: wrk with {}: {error:#}", self.scenario.name, entrant.row.peer);
                }
            }
            rows.extend(entrants.into_iter().map(Entrant::leave));
        }
        Ok(Report {
            scenario: self.scenario.name.to_owned(),
            title: self.scenario.title.to_owned(),
            measure: self.scenario.measure,
            target: self.scenario.target,
            machine: cpu::machine(),
            commit: commit(),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            rounds: self.rounds(),
            seconds: self.options.window.as_secs_f64(),
            connections: load.connections,
            rows,
        })
    }

    /// Starts a proxy and checks once that it does the scenario's work.
    fn enter(
        &self,
        contender: Contender,
        binary: Option<&Result<PathBuf>>,
        load: &Load,
        engine: &mut Engine,
    ) -> Result<Entrant> {
        let (peer, name, work) = match contender {
            Contender::Peer(peer) => (Some(peer), peer.name(), self.scenario.work),
            Contender::OneRoute => (Some(Peer::Ringway), ONE_ROUTE, Work::Forward),
            Contender::Direct => (None, DIRECT, self.scenario.work),
        };
        let folder = Folder::create(name)?;
        // What a change costs is the compiler's or the master process's to bear, not the worker's.
        let (core, worker_core) = match self.scenario.measure {
            Measure::Change => (self.load_core, Some(self.proxy_core)),
            _ => (self.proxy_core, None),
        };
        let [listen, admin] = free_ports().context("finding free ports")?;
        let setup = Setup {
            listen,
            admin,
            back_end: engine.address()?.port(),
            work,
            connections: self.scenario.connections_max(),
            tls: self.scenario.wire != Wire::Cleartext,
            protocol: self.scenario.protocol,
            worker_core,
            dir: folder.0.clone(),
        };
        let port = if peer.is_some() { setup.listen } else { setup.back_end };
        let mut entrant = Entrant {
            contender,
            running: None,
            load: Load { target: SocketAddr::from(([127, 0, 0, 1], port)), ..load.clone() },
            setup,
            row: Row { peer: name.to_owned(), ..Row::default() },
            generation: 0,
            _folder: folder,
        };
        let (Some(peer), Some(binary)) = (peer, binary) else { return Ok(entrant) };
        let mut start = || -> Result<()> {
            let binary = binary.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            entrant.row.version = peer.version(binary)?;
            entrant.running = Some(peer.start(binary, &entrant.setup, core)?);
            match contender {
                Contender::OneRoute => engine.probe(&entrant.load).map(drop),
                _ => self.scenario.verify(engine, &entrant.load),
            }
            .context("does not do the work")
        };
        if let Err(error) = start() {
            entrant.fail(&error);
        }
        Ok(entrant)
    }

    fn sample(
        &self,
        entrant: &mut Entrant,
        sessions: &Sessions,
        engine: &mut Engine,
    ) -> Result<Sample> {
        match self.scenario.measure {
            Measure::Throughput => {
                self.throughput(entrant, sessions, engine).map(Sample::Throughput)
            }
            Measure::Latency { .. } => self.latency(entrant, engine).map(Sample::Latency),
            Measure::Idle | Measure::Resident => self.memory(entrant, engine).map(Sample::Memory),
            Measure::Change => self.change(entrant, engine).map(Sample::Change),
        }
    }

    /// Waits, but not for long, until nobody else is busy on a core: a sample beside a neighbour would
    /// have to be thrown away.
    fn quiet(&self, core: usize) {
        for _ in 0..if self.options.quick { 2 } else { MOMENTS_MAX } {
            if cpu::busy(core, MOMENT) <= BUSY_MAX {
                return;
            }
        }
    }

    fn window(&self, load: &Load) -> Load {
        let until = Until::Time { warm_up: self.options.warm_up, window: self.options.window };
        Load { until, ..load.clone() }
    }

    /// One measured window, taken again when a neighbour had the core.
    fn throughput(
        &self,
        entrant: &Entrant,
        sessions: &Sessions,
        engine: &mut Engine,
    ) -> Result<Throughput> {
        let window = self.window(&entrant.load);
        let mut best: Option<Throughput> = None;
        let resumes = self.scenario.wire == Wire::TlsResumptions;
        for _ in 0..=if self.options.quick { 0 } else { RETRIES } {
            let mut load = window.clone();
            if resumes {
                sessions.gather();
                let until = Until::Answers(GATHERED);
                engine.run(&Load { until, ..load.clone() }, &mut |_| Ok(()))?;
                // The window ends before they do.
                load.until = Until::Answers(sessions.show() as u64 * 9 / 10);
            }
            self.quiet(self.proxy_core);
            let (mut outcome, used) = measure(entrant, &load, engine)?;
            if let Some(wrong) = self.scenario.judge(outcome.handshakes, outcome.resumed) {
                outcome.errors += 1;
                outcome.first_error.get_or_insert(wrong);
            }
            let sample = throughput_of(&outcome, used);
            if best.as_ref().is_none_or(|best| sample.disturbance() < best.disturbance()) {
                best = Some(sample);
            }
            if best.as_ref().is_some_and(|best| best.disturbance() <= DISTURBANCE_MAX) {
                break;
            }
        }
        best.context("no sample was taken")
    }

    /// One window at a fixed rate, both cores quiet beforehand.
    fn latency(&self, entrant: &Entrant, engine: &mut Engine) -> Result<Latency> {
        self.quiet(self.proxy_core);
        self.quiet(self.load_core);
        let (outcome, used) = measure(entrant, &self.window(&entrant.load), engine)?;
        Ok(Latency {
            errors: outcome.errors,
            first_error: outcome.first_error,
            window_s: outcome.window.as_secs_f64(),
            cpu_s: used.running.as_secs_f64(),
            waited_s: used.waiting.as_secs_f64(),
            latency: Percentiles::of(&outcome.latency),
        })
    }

    /// Resident memory at rest, and with the scenario's connections at rest. A short load beforehand
    /// fills what is filled once.
    fn memory(&self, entrant: &Entrant, engine: &mut Engine) -> Result<Memory> {
        let running = entrant.running.as_ref().context("nobody is there")?;
        let processes = running.processes()?;
        let resident = || cpu::resident_bytes(&processes);
        if self.scenario.measure == Measure::Resident {
            engine.rest(REST)?;
            return Ok(Memory { after_bytes: resident(), ..Memory::default() });
        }
        let warm = Load { connections: AT_ONCE, ..self.window(&entrant.load) };
        let warmed = engine.run(&warm, &mut |_| Ok(()))?;
        if let Some(error) = warmed.first_error {
            bail!(error);
        }
        engine.rest(REST)?;
        let (before_bytes, mut after_bytes) = (resident(), 0);
        engine.hold(&entrant.load, AT_ONCE, IDLE_REST, &mut || {
            after_bytes = resident();
            Ok(())
        })?;
        Ok(Memory { connections: entrant.load.connections as u64, before_bytes, after_bytes })
    }

    fn change(&self, entrant: &mut Entrant, engine: &mut Engine) -> Result<crate::sample::Change> {
        let running = entrant.running.as_ref().context("nobody is there")?;
        let Contender::Peer(peer) = entrant.contender else { bail!("nothing to change") };
        let base = entrant.generation;
        let changes = (base + 1..=base + self.changes())
            .map(|generation| peer.prepare(&entrant.setup, running, generation))
            .collect::<Result<Vec<_>>>()?;
        self.quiet(self.proxy_core);
        self.quiet(self.load_core);
        let found = change::measure(engine, &entrant.load, base, changes)?;
        entrant.generation += found.changes.len();
        Ok(found)
    }

    /// The figure with wrk or wrk2 as the generator.
    fn cross_check(
        &self,
        entrant: &mut Entrant,
        engine: &mut Engine,
        progress: &mut Progress,
    ) -> Result<()> {
        let Some(running) = &entrant.running else { return Ok(()) };
        let (tool, seconds, more) = match (self.scenario.measure, self.wrk, self.wrk2) {
            (Measure::Throughput, Some(wrk), _) => {
                (wrk, self.options.window.as_secs().max(1), Vec::new())
            }
            (Measure::Latency { per_second }, _, Some(wrk2)) => {
                (wrk2, WRK2_SECONDS, vec!["--latency".to_owned(), format!("-R{per_second}")])
            }
            _ => return Ok(()),
        };
        let Some(mut command) = tools::wrk_command(tool, &entrant.load, running.listen)? else {
            return Ok(());
        };
        command.arg(format!("-d{seconds}s")).args(more);
        cpu::pin_child(&mut command, self.load_core);
        let processes = running.processes()?;
        let before = cpu::used(&processes)?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        engine.serve(&mut || Ok(child.try_wait()?.is_some()))?;
        let used = cpu::used(&processes)?.since(before);
        let said = String::from_utf8(child.wait_with_output()?.stdout)?;
        ensure!(!said.contains("Non-2xx"), "answers other than 2xx");
        let requests = tools::wrk_requests(&said).context("it said nothing")?;
        if let Measure::Latency { .. } = self.scenario.measure {
            entrant.row.wrk2 = Some(tools::wrk2_latency(&said, requests).context("no latencies")?);
        } else {
            entrant.row.wrk_per_cpu_second = Some(requests as f64 / used.running.as_secs_f64());
        }
        let what = format!("{}: cross-check of {}", self.scenario.name, entrant.row.peer);
        progress.step(Duration::from_secs(seconds), &what);
        Ok(())
    }
}

impl Entrant {
    /// Whether there is something to measure.
    fn is_there(&self) -> bool {
        self.running.is_some() || self.contender == Contender::Direct
    }

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

/// Runs a load and reads the proxy's processor time, if there is one, at the edges of its window.
fn measure(entrant: &Entrant, load: &Load, engine: &mut Engine) -> Result<(Outcome, Used)> {
    let processes = match &entrant.running {
        Some(running) => running.processes()?,
        None => Vec::new(),
    };
    let (mut before, mut used) = (Used::default(), Used::default());
    let outcome = engine.run(load, &mut |edge| {
        let now = cpu::used(&processes)?;
        match edge {
            Edge::Start => before = now,
            Edge::End => used = now.since(before),
        }
        Ok(())
    })?;
    Ok((outcome, used))
}

fn throughput_of(outcome: &Outcome, used: Used) -> Throughput {
    Throughput {
        answers: outcome.answers,
        errors: outcome.errors,
        first_error: outcome.first_error.clone(),
        window_s: outcome.window.as_secs_f64(),
        cpu_s: used.running.as_secs_f64(),
        waited_s: used.waiting.as_secs_f64(),
        bodies_compared: outcome.compared,
    }
}

/// A sample in a few words.
fn in_short(sample: &Sample) -> String {
    match sample {
        // No proxy took part.
        Sample::Throughput(sample) if sample.cpu_s == 0.0 => {
            format!("{:.0}/s, {} errors", sample.per_second(), sample.errors)
        }
        Sample::Throughput(sample) => format!(
            "{:.0} per CPU-second, {:.0}/s, {} errors",
            sample.per_cpu_second(),
            sample.per_second(),
            sample.errors
        ),
        Sample::Memory(memory) => format!("{:.0} bytes", memory.bytes()),
        Sample::Latency(Latency { latency, errors, .. }) => {
            format!("p50 {:.0} µs, p99 {:.0} µs, {errors} errors", latency.p50, latency.p99)
        }
        Sample::Change(change) => {
            let slowest = change.changes.iter().map(|changed| changed.all_ms).fold(0.0, f64::max);
            format!(
                "{} changes, slowest {slowest:.1} ms, {} failed",
                change.changes.len(),
                change.failed
            )
        }
    }
}

/// Two ports that nobody listens on now.
pub(crate) fn free_ports() -> Result<[u16; 2]> {
    // Both are held until both are found.
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [one, other] = &listeners;
    Ok([one.local_addr()?.port(), other.local_addr()?.port()])
}

/// A temporary folder that goes with this value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn create(name: &str) -> Result<Self> {
        let name = format!("ringway-bench-{}-{name}", std::process::id());
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

#[cfg(test)]
mod tests;
