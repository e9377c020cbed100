// SPDX-License-Identifier: Apache-2.0
//! Watches what runs short: memory, which it measures and tells the workers about; connections and
//! descriptors, which the workers count and this says, at a bounded rate.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ringway_core::limits::{
    MEMORY_CHECK_INTERVAL, MEMORY_HYSTERESIS_PERCENT, MEMORY_REFUSE_PERCENT, MEMORY_SHED_PERCENT,
    OVERLOAD_SAY_INTERVAL,
};
use ringway_core::link::{Command, Fleet, Pressure};
use ringway_core::observe::metric::WorkerCell;

use crate::gateway::State;
use crate::log;

/// Watches until dropped.
pub(crate) async fn watch(state: Arc<State>) {
    let mut memory = Memory::new(state.options.memory_limit, state.fleet.workers());
    let mut shortages = SHORTAGES.map(Shortage::new);
    loop {
        // Without a limit nothing follows from how much there is.
        if let Some(limit) = memory.limit
            && let Some(resident) = resident_bytes()
        {
            memory.measured(resident, limit);
        }
        memory.tell(&*state.fleet);
        state.progress.set_pressure(memory.pressure);
        for shortage in &mut shortages {
            if let Some(line) = shortage.look(&*state.fleet, Instant::now()) {
                log::warn(line);
            }
        }
        tokio::time::sleep(MEMORY_CHECK_INTERVAL).await;
    }
}

/// What the memory's limit asks of the workers.
struct Memory {
    limit: Option<u64>,
    pressure: Pressure,
    /// What each worker was told last.
    told: Vec<Pressure>,
}

impl Memory {
    fn new(limit: Option<u64>, workers: usize) -> Self {
        Self { limit, pressure: Pressure::None, told: vec![Pressure::None; workers] }
    }

    fn measured(&mut self, resident: u64, limit: u64) {
        let next = next(self.pressure, resident, limit);
        if next == self.pressure {
            return;
        }
        let (mib, of) = (resident >> 20, limit >> 20);
        let line = match next {
            Pressure::None => format!("memory: {mib} of {of} MiB: serving as usual again"),
            Pressure::Shed => {
                format!("memory: {mib} of {of} MiB: no new connections, idle ones are closed")
            }
            Pressure::Refuse => format!("memory: {mib} of {of} MiB: requests are refused (503)"),
        };
        if next > self.pressure {
            log::warn(line)
        } else {
            log::info(line)
        }
        self.pressure = next;
    }

    /// Tells the workers that do not know yet.
    fn tell(&mut self, fleet: &dyn Fleet) {
        for (worker, told) in self.told.iter_mut().enumerate() {
            if *told != self.pressure && fleet.send(worker, Command::Overload(self.pressure)) {
                *told = self.pressure;
            }
        }
    }
}

/// The pressure that follows. It goes up at once, and down only when it is clearly below.
fn next(now: Pressure, resident: u64, limit: u64) -> Pressure {
    let reaches = |level: Pressure, percent: u64| {
        let percent = if now >= level { percent - MEMORY_HYSTERESIS_PERCENT } else { percent };
        u128::from(resident) * 100 >= u128::from(limit) * u128::from(percent)
    };
    if reaches(Pressure::Refuse, MEMORY_REFUSE_PERCENT) {
        Pressure::Refuse
    } else if reaches(Pressure::Shed, MEMORY_SHED_PERCENT) {
        Pressure::Shed
    } else {
        Pressure::None
    }
}

/// Resident memory of this process (proc(5), /proc/pid/status).
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The memory that the control group of this process may use, version 1 or 2; `None` where there
/// is no limit.
pub fn cgroup_memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// Version 1 says "unlimited" by a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

fn limit_of(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        // cgroups(7): hierarchy-ID:controller-list:cgroup-path
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next(), parts.next(), parts.next());
        let path = path.unwrap_or("/").trim_start_matches('/').to_owned();
        let (mount, file) = match (id, controllers) {
            (Some("0"), Some("")) => (root.to_owned(), "memory.max"),
            (_, Some(list)) if list.split(',').any(|c| c == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // The limit of each group above counts too. In a container the path may be one of the
        // host, of which the mount shows the innermost group only.
        let group = mount.join(path);
        let above = group.ancestors().take_while(|path| path.starts_with(&mount));
        above.map(|path| path.join(file)).collect::<Vec<PathBuf>>()
    });
    let read = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    limits.filter_map(read).filter(|limit| *limit < UNLIMITED).min()
}

/// A counter of the workers that should stand still, and what to say when it does not.
type Kind = (WorkerCell, &'static str);

const SHORTAGES: [Kind; 2] = [
    (
        WorkerCell::AcceptErrors,
        "accepting failed for want of descriptors or memory: raise LimitNOFILE, or lower \
         --max-connections",
    ),
    (
        WorkerCell::AcceptPauses,
        "a limit of connections was reached and new ones wait: see --max-connections and \
         --max-listener-connections",
    ),
];

struct Shortage {
    cell: WorkerCell,
    what: &'static str,
    said: u64,
    said_at: Option<Instant>,
}

impl Shortage {
    fn new((cell, what): Kind) -> Self {
        Self { cell, what, said: 0, said_at: None }
    }

    fn look(&mut self, fleet: &dyn Fleet, now: Instant) -> Option<String> {
        let count = (0..fleet.workers()).map(|worker| fleet.slab(worker).worker(self.cell)).sum();
        let quiet = self.said_at.is_none_or(|at| now - at >= OVERLOAD_SAY_INTERVAL);
        if count == self.said || !quiet {
            return None;
        }
        let times: u64 = count - self.said;
        self.said = count;
        self.said_at = Some(now);
        Some(format!("{} ({times} times)", self.what))
    }
}

#[cfg(test)]
mod tests;
