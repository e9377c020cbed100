// SPDX-License-Identifier: Apache-2.0
//! User-space instructions per request, end to end: they hardly differ between two runs of one build,
//! whatever the machine's neighbours do, so that they tell two commits apart. Counted by `perf stat`
//! where the machine has such a counter, by callgrind elsewhere (on epoll: valgrind knows no
//! io_uring). What starting and ending cost is the same in a short and a long run, and falls out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::compare::{Folder, free_ports};
use crate::cpu;
use crate::engine::{Engine, Load, Streams, Until};
use crate::peer::{Peer, Setup};
use crate::scenario::{self, Scenario, Wire};
use crate::stats::thousands;

/// Requests of the short and the long run.
const SHORT: u64 = 2_000;
const LONG: u64 = 12_000;
/// One request at a time: how many arrive together would be chance.
const CONNECTIONS: usize = 1;
/// Counted processes are slow, and end slowly.
const END_TIME: Duration = Duration::from_secs(60);

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    Perf,
    Callgrind,
}

impl Counter {
    fn choose() -> Result<Self> {
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", "instructions:u", "true"])
            .stdin(Stdio::null())
            .output();
        if perf.is_ok_and(|output| parse_perf(&String::from_utf8_lossy(&output.stderr)).is_some()) {
            return Ok(Self::Perf);
        }
        let valgrind = Command::new("valgrind").arg("--version").output();
        ensure!(
            valgrind.is_ok_and(|output| output.status.success()),
            "this machine counts no instructions for perf: install the package valgrind"
        );
        Ok(Self::Callgrind)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf stat",
            Self::Callgrind => "callgrind, on epoll",
        }
    }

    /// The program, to be put before the gateway's, that writes the count into a file.
    fn wrap(self, count: &Path) -> Vec<String> {
        let count = count.display();
        match self {
            Self::Perf => {
                ["perf", "stat", "-x,", "-e", "instructions:u", "-o", &format!("{count}")]
                    .map(str::to_owned)
                    .to_vec()
            }
            Self::Callgrind => [
                "valgrind",
                "--tool=callgrind",
                "--quiet",
                // The worker's are counted, and not those of threads that wake up now and then.
                "--separate-threads=yes",
                &format!("--callgrind-out-file={count}"),
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }

    /// The count of each thread, by its number; of all together where that is all there is.
    fn read(self, count: &Path) -> Result<BTreeMap<u32, u64>> {
        const FORM: &str = "the count has an unknown form";
        if self == Self::Perf {
            let text = fs::read_to_string(count).context("nothing was counted")?;
            return Ok(BTreeMap::from([(0, parse_perf(&text).context(FORM)?)]));
        }
        // One file per thread: NAME-01, NAME-02, …
        let mut counts = BTreeMap::new();
        for thread in 1.. {
            let name = format!("{}-{thread:02}", count.display());
            let Ok(text) = fs::read_to_string(name) else { break };
            counts.insert(thread, parse_callgrind(&text).context(FORM)?);
        }
        ensure!(!counts.is_empty(), "nothing was counted");
        Ok(counts)
    }
}

/// The count in a line `123,,instructions:u,…`.
fn parse_perf(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("instructions:u"))?;
    line.split(',').next()?.parse().ok()
}

/// The count in a line `totals: 123` or `summary: 123`.
fn parse_callgrind(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| {
        line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: "))
    })?;
    total.split_ascii_whitespace().next()?.parse().ok()
}

/// Counts every scenario with every binary and prints them beside each other, the last compared with
/// the first.
pub(crate) fn run(binaries: &[PathBuf], names: &[String]) -> Result<()> {
    let counter = Counter::choose()?;
    // On one core, where the generator gets its turn when the gateway waits: whether an answer is
    // there before it is waited for would be chance otherwise, and either way costs differently.
    let core = *cpu::cores()?.last().context("there is no core")?;
    cpu::pin(core).context("pinning the generator")?;
    cpu::yield_to_others().context("giving way to the gateway")?;
    println!("user-space instructions per request ({}):", counter.name());
    for name in names {
        let all = scenario::all();
        let scenario = all.iter().find(|scenario| scenario.name == name);
        let scenario = scenario.with_context(|| format!("no scenario {name}"))?;
        let mut found = Vec::new();
        for binary in binaries {
            let per_request = per_request(counter, binary, scenario, core)?;
            println!("{name:12} {:>10}  {}", thousands(per_request), binary.display());
            found.push(per_request);
        }
        if let [first, .., last] = found.as_slice() {
            println!("{name:12} {:>+9.2} %", change(*first, *last));
        }
    }
    Ok(())
}

/// By how many percent `new` is more than `old`.
fn change(old: f64, new: f64) -> f64 {
    (new / old - 1.0) * 100.0
}

fn per_request(counter: Counter, binary: &Path, scenario: &Scenario, core: usize) -> Result<f64> {
    let short = count(counter, binary, scenario, SHORT, core)?;
    let long = count(counter, binary, scenario, LONG, core)?;
    // The worker is the thread that has more to do in the long run; threads start in the same order.
    let more = |(thread, count): (&u32, &u64)| {
        count.saturating_sub(short.get(thread).copied().unwrap_or_default())
    };
    let more = long.iter().map(more).max().unwrap_or_default();
    Ok(more as f64 / (LONG - SHORT) as f64)
}

/// What the gateway's threads execute from its start to its end, for so many requests.
fn count(
    counter: Counter,
    binary: &Path,
    scenario: &Scenario,
    requests: u64,
    core: usize,
) -> Result<BTreeMap<u32, u64>> {
    let mut engine = Engine::open(([127, 0, 0, 1], 0).into())?;
    let folder = Folder::create("instructions")?;
    let file = folder.0.join("count");
    let [listen, admin] = free_ports().context("finding free ports")?;
    let setup = Setup {
        listen,
        admin,
        back_end: engine.address()?.port(),
        work: scenario.work,
        connections: scenario.connections_max(),
        tls: scenario.wire != Wire::Cleartext,
        protocol: scenario.protocol,
        worker_core: None,
        dir: folder.0.clone(),
    };
    let mut environment = Vec::new();
    if counter == Counter::Callgrind {
        environment.push(("RINGWAY_IO_BACKEND", "epoll"));
    }
    let wrap = counter.wrap(&file);
    let running = Peer::Ringway.start_in(&wrap, binary, &setup, &environment, core)?;
    let load = scenario.load(&Arc::default());
    let load = Load {
        target: ([127, 0, 0, 1], setup.listen).into(),
        connections: CONNECTIONS,
        until: Until::Answers(requests),
        http2: load.http2.map(|streams| Streams { at_once: 1, ..streams }),
        ..load
    };
    scenario.verify(&mut engine, &load).context("does not do the work")?;
    let outcome = engine.run(&load, &mut |_| Ok(()))?;
    if let Some(error) = outcome.first_error {
        anyhow::bail!(error);
    }
    ensure!(outcome.answers >= requests, "{} of {requests} answers in time", outcome.answers);
    running.end(END_TIME)?;
    counter.read(&file)
}

#[cfg(test)]
mod tests;
