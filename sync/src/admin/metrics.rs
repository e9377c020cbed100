// SPDX-License-Identifier: Apache-2.0
//! What one scrape reads: the workers' counters as they are, the last build, the process.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_core::ir::Transport;
use ringway_core::observe::metric::Slab;
use ringway_core::observe::prometheus::{
    self, CertificateName, ClusterName, ListenerName, Process, RouteName, Scrape, Shown, Watch,
};
use ringway_core::problem::Severity;
use ringway_core::table::Table;

use super::http::Response;
use crate::gateway::{Report, State};

/// `/metrics`.
pub(super) fn page(state: &State) -> Response {
    let report = state.report();
    let fleet = &state.fleet;
    let slabs: Vec<&Slab> = (0..fleet.workers()).map(|worker| fleet.slab(worker)).collect();
    let workers = fleet.status();
    let table = report.table.as_deref();
    let listeners: Vec<ListenerName<'_>> = (table.iter())
        .flat_map(|table| &table.listeners)
        .map(|l| ListenerName { slot: l.slot, stats_prefix: &l.stats_prefix, address: l.address })
        .collect();
    let clusters: Vec<ClusterName<'_>> = (table.iter())
        .flat_map(|table| table.clusters.iter().flatten())
        .map(|cluster| {
            let feed = state.progress.feed(cluster.slot);
            ClusterName {
                slot: cluster.slot,
                stats_name: &cluster.spec.stats_name,
                endpoints: feed.as_ref().map_or(0, |feed| feed.endpoints.len() as u64),
                changes: feed.map_or(0, |feed| feed.version),
            }
        })
        .collect();
    let routes: Vec<RouteName<'_>> = (table.iter())
        .flat_map(|table| table.routes.iter().flatten())
        .map(|route| RouteName { slot: route.slot, object: &route.spec().object })
        .collect();
    let objects = objects(&report);
    let scrape = Scrape {
        slabs: &slabs,
        workers: &workers,
        listeners: &listeners,
        clusters: &clusters,
        routes: &routes,
        certificates: &table.map_or_else(Vec::new, certificates),
        process: &process(state, &report, &objects),
    };
    let mut body = Vec::new();
    prometheus::write(&scrape, &mut body);
    Response { status: 200, content_type: prometheus::CONTENT_TYPE, body }
}

/// What is shown to clients and to upstreams.
fn certificates(table: &Table) -> Vec<CertificateName<'_>> {
    let of_clients = table.listeners.iter().flat_map(|listener| {
        listener.chains().filter_map(|chain| {
            Some(CertificateName {
                shown: Shown::Clients {
                    address: listener.address,
                    server_name: &chain.server_name,
                    host: chain.object.as_ref(),
                },
                not_after: chain.termination.as_ref()?.spec.identity.not_after,
            })
        })
    });
    let of_upstreams = table.clusters.iter().flatten().filter_map(|cluster| {
        let Transport::Tls(Some(client)) = &cluster.spec.transport else { return None };
        let not_after = client.spec.identity.as_ref()?.not_after;
        Some(CertificateName { shown: Shown::Upstream, not_after })
    });
    of_clients.chain(of_upstreams).collect()
}

/// Objects by kind and state.
fn objects(report: &Report) -> Vec<(&'static str, &'static str, u64)> {
    let mut counts: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    for object in report.snapshot.objects() {
        *counts.entry((object.meta.object.kind.as_str(), "accepted")).or_default() += 1;
    }
    for name in report.refused.iter().chain(&report.outdated) {
        *counts.entry((name.kind.as_str(), "refused")).or_default() += 1;
    }
    counts.into_iter().map(|((kind, state), n)| (kind, state, n)).collect()
}

fn process<'a>(
    state: &'a State,
    report: &Report,
    objects: &'a [(&'static str, &'static str, u64)],
) -> Process<'a> {
    let progress = &state.progress;
    let of = |wanted: &[Severity]| {
        report.diagnostics.iter().filter(|d| wanted.contains(&d.severity)).count() as u64
    };
    let usage = Usage::read().unwrap_or_default();
    Process {
        version: state.options.version,
        ambassador_id: &state.options.settings.ambassador_id,
        cluster_id: "",
        single_namespace: state.options.settings.single_namespace,
        log_level: crate::log::level().as_str(),
        ready: progress.is_ready(),
        draining: progress.is_draining(),
        now_s: epoch_s(SystemTime::now()),
        uptime_s: state.started.elapsed().as_secs(),
        start_time_s: epoch_s(state.boot_time),
        cpu_ms: usage.cpu_ms,
        resident_bytes: usage.resident_bytes,
        virtual_bytes: usage.virtual_bytes,
        open_fds: usage.open_fds,
        max_fds: usage.max_fds,
        memory_limit_bytes: state.options.memory_limit.unwrap_or(0),
        pressure: progress.pressure(),
        generation: progress.served().0,
        updates_applied: report.updates_applied,
        updates_rejected: report.updates_rejected,
        last_success_s: report.last_success.map_or(0, epoch_s),
        fetch_us: micros(report.fetch_time),
        resolve_us: micros(report.resolve_time),
        compile_us: micros(report.compile_time),
        apply_us: progress.applied().map_or(0, |(_, took)| micros(took)),
        errors: of(&[Severity::Error, Severity::FailsClosed]),
        notices: of(&[Severity::Warning, Severity::Notice]),
        watch: progress.followed().map(|followed| Watch {
            events: followed.events.load(Relaxed),
            relists: followed.relists.load(Relaxed),
            failures: followed.failures.load(Relaxed),
            leads: followed.leads.load(Relaxed),
        }),
        objects,
    }
}

fn epoch_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What the kernel says about this process.
#[derive(Default)]
pub(super) struct Usage {
    cpu_ms: u64,
    pub(super) resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: u64,
    max_fds: u64,
}

impl Usage {
    /// From /proc; `None` where that is not what proc(5) describes.
    pub(super) fn read() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        // proc(5), /proc/pid/stat: fields 14 and 15 behind the name in parentheses, in clock
        // ticks, of which Linux has 100 a second for user space.
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let max_fds = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .and_then(|line| line.split_whitespace().next()?.parse().ok());
        Some(Self {
            cpu_ms: ticks * 10,
            resident_bytes: kib("VmRSS")? * 1024,
            virtual_bytes: kib("VmSize")? * 1024,
            open_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_fds: max_fds.unwrap_or(0),
        })
    }
}
