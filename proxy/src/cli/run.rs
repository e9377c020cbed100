// SPDX-License-Identifier: Apache-2.0
//! `ringway run`: workers in front, the slow side behind, until a signal.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ringway_core::limits;
use ringway_core::snapshot::Settings;
use ringway_proxy::LogForm;
use ringway_proxy::fleet::{Options as FleetOptions, Workers};
use ringway_sync::admin::Sides;
use ringway_sync::gateway::{self, Options, State, Succession};
use ringway_sync::watch::{Place, kube};
use ringway_sync::{log, overload};

use super::handover::Handover;
use super::{environment, expansions};
use crate::args::{AccessLog, Cluster, Environment, IoBackend, Process, Run};

/// The last access-log lines may take this long to be written before the process ends.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn run(run: Run) -> anyhow::Result<ExitCode> {
    let environment = environment();
    start_log(&environment);
    let mut options = options(&run.process, &environment);
    options.settings = run.meaning.settings(&environment);
    options.sides = run.sides.beside(options.admin, &environment);
    options.webhook = run.conversion.webhook();
    options.stays = run.stay;
    options.place = match run.folder {
        Some(folder) => Place::Folder(folder),
        None => Place::Cluster(cluster(run.cluster, &environment, &mut options.settings)),
    };
    let fleet = FleetOptions {
        helpful_404: run.helpful_404,
        share_ports: run.share_ports,
        ..fleet_options(&run.process, &environment)
    };
    if run.share_ports && !migrates_requests() {
        log::warn(
            "--share-ports without net.ipv4.tcp_migrate_req=1: when a process that shares a port \
             stops, connections that wait for it are reset",
        );
    }
    serve(options, fleet, run.handover, |state| {
        let listening: Vec<String> =
            state.progress.bound().iter().map(ToString::to_string).collect();
        log::info(format!(
            "ready: listening on {}; admin on http://{}/; watching {} for changes",
            if listening.is_empty() { "nothing".to_owned() } else { listening.join(", ") },
            state.options.admin,
            state.options.place,
        ));
    })
}

/// In a Pod, the gateway's namespace is the Pod's unless told.
pub(super) fn own_namespace(settings: &mut Settings) {
    const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    if std::env::var_os("AMBASSADOR_NAMESPACE").is_none()
        && let Ok(namespace) = std::fs::read_to_string(OWN_NAMESPACE)
    {
        settings.namespace = namespace.trim().into();
    }
}

/// Which cluster, and what of it.
fn cluster(cluster: Cluster, environment: &Environment, settings: &mut Settings) -> kube::Options {
    own_namespace(settings);
    let (label_selector, field_selector) = environment.selectors.clone();
    kube::Options {
        kubeconfig: cluster.kubeconfig,
        context: cluster.context,
        scope: kube::Scope {
            namespace: settings.single_namespace.then(|| settings.namespace.to_string()),
            label_selector,
            field_selector,
        },
        writes: cluster.update_status.unwrap_or(environment.update_status),
        state_dir: cluster.state_dir,
        publish: cluster.published.into(),
    }
}

/// Whether the kernel moves waiting connections of a closing socket to others of its port
/// (Linux 5.14).
fn migrates_requests() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req").is_ok_and(|on| on.trim() == "1")
}

pub(super) fn start_log(environment: &Environment) {
    let (style, level) = environment.log;
    log::start(style, level);
    for remark in &environment.remarks {
        log::warn(remark);
    }
}

/// What the slow side is told, without what to serve.
pub(super) fn options(process: &Process, environment: &Environment) -> Options {
    Options {
        place: Place::Folder(PathBuf::new()),
        settings: environment.settings.clone(),
        environment: expansions(),
        admin: process.admin_addr.unwrap_or(environment.admin),
        sides: Sides::default(),
        webhook: None,
        stays: false,
        resolv_conf: process.resolv_conf.clone(),
        drain_time: process.drain_time.unwrap_or(environment.drain_time),
        shutdown_delay: process.shutdown_delay,
        memory_limit: match process.memory_limit {
            Some(limit) => (limit > 0).then_some(limit),
            None => overload::cgroup_memory_limit(),
        },
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// What the workers are told.
pub(super) fn fleet_options(process: &Process, environment: &Environment) -> FleetOptions {
    let cpus = || ringway_proxy::allowed_cpus().len().max(1);
    let by_descriptors = connections_by(ringway_proxy::raise_descriptors());
    let connections_max = process.max_connections.map_or(by_descriptors, |n| n as usize);
    let of_all = (connections_max * limits::LISTENER_CONNECTIONS_PERCENT).div_ceil(100);
    FleetOptions {
        workers: process.workers.or(environment.workers).unwrap_or_else(cpus),
        io_backend: match process.io_backend {
            IoBackend::Auto => ringway_proxy::IoBackend::Auto,
            IoBackend::IoUring => ringway_proxy::IoBackend::IoUring,
            IoBackend::Epoll => ringway_proxy::IoBackend::Epoll,
        },
        pin: process.pin && !process.no_pin,
        access_log: match process.access_log {
            None => LogForm::Configured,
            Some(AccessLog::Off) => LogForm::Off,
            Some(AccessLog::Text) => LogForm::Text,
            Some(AccessLog::Json) => LogForm::Json,
        },
        helpful_404: false,
        connections_max,
        drain_time: process.drain_time.unwrap_or(environment.drain_time),
        listener_connections_max: process.max_listener_connections.map_or(of_all, |n| n as usize),
        share_ports: false,
        give_back: crate::give_back,
    }
}

/// Connections that this many descriptors are enough for: one to the client and one to the
/// upstream each.
fn connections_by(descriptors: u64) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    (descriptors.saturating_sub(limits::DESCRIPTORS_RESERVED) / 2).clamp(1, limits::CONNECTIONS_MAX)
}

/// Starts the workers and serves until a signal or a successor. A failure to start is said and
/// ends with 1.
pub(super) fn serve(
    mut options: Options,
    fleet: FleetOptions,
    handover: Option<PathBuf>,
    ready: impl FnOnce(&State) + Send + 'static,
) -> anyhow::Result<ExitCode> {
    // The probe Mappings lead back to the admin port, which always answers on loopback.
    let mut probes = options.admin;
    if probes.ip().is_unspecified() {
        probes.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    options.settings.admin_address = Some(probes);
    let workers = match Workers::start(&fleet) {
        Ok(workers) => Arc::new(workers),
        Err(error) => {
            log::error(format!("the workers do not start: {error}"));
            return Ok(ExitCode::FAILURE);
        }
    };
    log::info(format!(
        "ringway {}: {} workers, I/O by {}",
        options.version,
        fleet.workers,
        workers.io_backend()
    ));
    let ready = |state: &State| {
        ready(state);
        crate::forget_start();
    };
    let ended = match handover {
        None => {
            let ready = move |state: &State, _| {
                ready(state);
                Ok(())
            };
            gateway::run(options, workers.clone(), Succession::default(), ready)
        }
        Some(path) => Handover::begin(path, &workers).and_then(|(handover, succession)| {
            let ready = move |state: &State, admin| {
                handover.complete(admin)?;
                ready(state);
                Ok(())
            };
            gateway::run(options, workers.clone(), succession, ready)
        }),
    };
    workers.settle_log(LOG_PATIENCE);
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            log::error(format!("{error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}
