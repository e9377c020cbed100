// SPDX-License-Identifier: Apache-2.0
//! Processor time and placement: what a process and its children used, which cores exist, which core
//! a thread or child runs on. All of it from `/proc` and `sched_*affinity`.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// Time that tasks spent on a core, and runnable but waiting for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) running: Duration,
    /// High when a neighbour took the core.
    pub(crate) waiting: Duration,
}

impl Used {
    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            running: self.running.saturating_sub(earlier.running),
            waiting: self.waiting.saturating_sub(earlier.waiting),
        }
    }
}

/// Parses `/proc/PID/task/TID/schedstat`: nanoseconds running, nanoseconds waiting, time slices.
pub(crate) fn parse_schedstat(text: &str) -> Option<Used> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    let running = fields.next()?.ok()?;
    let waiting = fields.next()?.ok()?;
    Some(Used { running: Duration::from_nanos(running), waiting: Duration::from_nanos(waiting) })
}

/// What all threads of these processes have used so far. Threads that end meanwhile are left out.
pub(crate) fn used(processes: &[u32]) -> Result<Used> {
    let mut sum = Used::default();
    for process in processes {
        let tasks = fs::read_dir(format!("/proc/{process}/task"))
            .with_context(|| format!("process {process} is gone"))?;
        for task in tasks.flatten() {
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let used = parse_schedstat(&text).context("schedstat has an unknown form")?;
            sum.running += used.running;
            sum.waiting += used.waiting;
        }
    }
    Ok(sum)
}

/// The parent in a line of `/proc/PID/stat`. The command in parentheses may hold anything.
pub(crate) fn parse_parent(stat: &str) -> Option<u32> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The process and all that descend from it.
pub(crate) fn family(process: u32) -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc").context("listing processes")?.flatten();
    let parents: Vec<(u32, u32)> = entries
        .filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((process, parse_parent(&stat)?))
        })
        .collect();
    let mut family = vec![process];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| child));
        next += 1;
    }
    Ok(family)
}

/// Resident memory of these processes in bytes; pages that several share are counted once.
pub(crate) fn resident_bytes(processes: &[u32]) -> u64 {
    let of = |process: &u32| {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
            parse_kib(&text, name)
        };
        let proportional = || field("smaps_rollup", "Pss:").filter(|_| processes.len() > 1);
        proportional().or_else(|| field("status", "VmRSS:"))
    };
    processes.iter().filter_map(of).sum::<u64>() * 1024
}

/// The number in a line `NAME   123 kB`.
pub(crate) fn parse_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The share of the next moment that a core is busy with anything.
pub(crate) fn busy(core: usize, moment: Duration) -> f64 {
    let read = || parse_idle(&fs::read_to_string("/proc/stat").ok()?, core);
    let before = read();
    thread::sleep(moment);
    let Some(((idle, all), (idle_now, all_now))) = before.zip(read()) else { return 0.0 };
    let passed = all_now.saturating_sub(all);
    if passed == 0 { 0.0 } else { 1.0 - idle_now.saturating_sub(idle) as f64 / passed as f64 }
}

/// A core's ticks in `/proc/stat`, idle (waiting for disks included) and all.
pub(crate) fn parse_idle(stat: &str, core: usize) -> Option<(u64, u64)> {
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().take(8).map(|text| text.parse().unwrap_or(0)).collect();
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().sum()))
}

/// The cores that this process may use.
pub(crate) fn cores() -> Result<Vec<usize>> {
    // SAFETY: a cpu_set_t is plain bits, and the call writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            bail!("reading the allowed cores: {}", io::Error::last_os_error());
        }
        set
    };
    // SAFETY: every index is below CPU_SETSIZE.
    Ok((0..libc::CPU_SETSIZE as usize)
        .filter(|&core| unsafe { libc::CPU_ISSET(core, &set) })
        .collect())
}

/// Keeps the calling thread on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    pin_thread(0, core)
}

/// Keeps those threads of a process on one core whose names begin so. An error if there is none.
pub(crate) fn pin_threads(process: u32, name: &str, core: usize) -> Result<()> {
    let mut found = false;
    for task in fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
        let called = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let thread = task.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(thread) = thread.filter(|_| called.starts_with(name)) {
            pin_thread(thread, core).with_context(|| format!("moving {}", called.trim()))?;
            found = true;
        }
    }
    ensure!(found, "process {process} has no thread {name}…");
    Ok(())
}

/// 0 is the calling thread.
fn pin_thread(thread: libc::pid_t, core: usize) -> io::Result<()> {
    // SAFETY: a cpu_set_t is plain bits; CPU_SET checks its index. Allocates nothing, so it may run
    // between fork and exec.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From now on the calling thread, woken, lets another that runs on its core go on until it waits.
pub(crate) fn yield_to_others() -> io::Result<()> {
    schedule(libc::SCHED_BATCH)
}

fn schedule(policy: libc::c_int) -> io::Result<()> {
    // SAFETY: a sched_param is a plain number, zero for these policies. Allocates nothing.
    let failed = unsafe {
        let parameter: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, policy, &raw const parameter)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps a child, and whatever it starts, on one core, and ends it when this process dies.
pub(crate) fn pin_child(command: &mut Command, core: usize) {
    // SAFETY: all are plain system calls, safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            schedule(libc::SCHED_OTHER)?;
            pin(core)
        });
    }
}

/// The machine in one line: processor, cores, memory, kernel.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let field = |name: &str| info.lines().find(|line| line.starts_with(name))?.split_once(": ");
    let model = field("model name").or_else(|| field("CPU implementer"));
    let model = model.map_or("unknown processor", |(_, value)| value);
    // SAFETY: a plain question to the C library.
    let cores = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    let memory = read("/proc/meminfo");
    let kib: u64 =
        memory.split_ascii_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, {} GiB, Linux {}", kib.div_ceil(1 << 20), kernel.trim())
}

#[cfg(test)]
mod tests;
