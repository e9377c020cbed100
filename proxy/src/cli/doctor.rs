// SPDX-License-Identifier: Apache-2.0
//! `ringway doctor`: whether this node, and the cluster, give a gateway what it needs, and what to
//! change where they do not. It changes nothing.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use ringway_core::limits::{LISTEN_BACKLOG_MAX, MEMORY_SHED_PERCENT};
use ringway_proxy::{Chosen, IoBackend, allowed_cpus, probe, raise_descriptors};
use ringway_sync::doctor::{Finding, Verdict, cluster};
use ringway_sync::overload::cgroup_memory_limit;
use ringway_sync::watch::kube;

use super::environment;
use super::run::own_namespace;
use crate::args::Doctor;

/// Connections that a proxy should be able to hold: two descriptors each.
const DESCRIPTORS_WANTED: u64 = 65_536;
/// Below, connections to one endpoint may run out of ports.
const PORTS_WANTED: u32 = 20_000;
/// At rest with 10,000 routes a gateway takes 45 MiB.
const MEMORY_WANTED: u64 = 128 << 20;

pub(crate) fn doctor(doctor: &Doctor) -> anyhow::Result<ExitCode> {
    let mut findings = Node::this().findings();
    let environment = environment();
    let mut settings = environment.settings;
    own_namespace(&mut settings);
    let options = kube::Options {
        kubeconfig: doctor.kubeconfig.clone(),
        context: doctor.context.clone(),
        scope: kube::Scope {
            namespace: settings.single_namespace.then(|| settings.namespace.to_string()),
            ..kube::Scope::default()
        },
        writes: environment.update_status,
        publish: doctor.published.clone().into(),
        state_dir: None,
    };
    match cluster(&options, &settings.namespace) {
        Ok(found) => findings.extend(found),
        // Asked for, it has to be there; without one a gateway serves a folder.
        Err(error) if doctor.kubeconfig.is_some() || doctor.context.is_some() => return Err(error),
        Err(_) => {
            let said = "none is configured here: only the node was looked at".to_owned();
            findings.push(Finding::new(Verdict::Good, "cluster", said, ""));
        }
    }
    let mut stdout = std::io::stdout().lock();
    for finding in &findings {
        writeln!(stdout, "{finding}")?;
    }
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    Ok(ExitCode::from(u8::from(bad)))
}

/// What was found out about a node.
#[derive(Clone, Debug)]
struct Node {
    kernel: String,
    /// The driver that `auto` takes, or why there is none.
    driver: Result<Chosen, String>,
    descriptors: u64,
    cpus: usize,
    /// CPUs' worth of time that the control group may use, version 2.
    cpu_quota: Option<f64>,
    memory_limit: Option<u64>,
    somaxconn: Option<u32>,
    port_range: Option<(u32, u32)>,
    /// The first port that needs no privilege.
    unprivileged_port: Option<u32>,
    migrates: Option<bool>,
    /// May bind privileged ports: CAP_NET_BIND_SERVICE.
    binds: bool,
}

impl Node {
    fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let sysctl = |name: &str| read(&Path::new("/proc/sys").join(name).to_string_lossy());
        let number = |name: &str| sysctl(name)?.trim().parse().ok();
        Self {
            kernel: sysctl("kernel/osrelease").unwrap_or_default().trim().to_owned(),
            driver: probe(IoBackend::Auto).map_err(|error| error.to_string()),
            descriptors: raise_descriptors(),
            cpus: allowed_cpus().len(),
            cpu_quota: read("/sys/fs/cgroup/cpu.max").and_then(|text| quota(&text)),
            memory_limit: cgroup_memory_limit(),
            somaxconn: number("net/core/somaxconn"),
            port_range: sysctl("net/ipv4/ip_local_port_range").and_then(|text| range(&text)),
            unprivileged_port: number("net/ipv4/ip_unprivileged_port_start"),
            migrates: number("net/ipv4/tcp_migrate_req").map(|on| on == 1),
            binds: read("/proc/self/status").is_some_and(|status| binds(&status)),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        let mut say = |verdict, what, said: String, advice| {
            out.push(Finding::new(verdict, what, said, advice));
        };
        let good_if = |good, otherwise| if good { Verdict::Good } else { otherwise };

        say(Verdict::Good, "kernel", format!("Linux {}", self.kernel), "");
        match &self.driver {
            Ok(chosen) => say(
                good_if(chosen.name == "io_uring", Verdict::Poor),
                "I/O",
                chosen.to_string(),
                "it serves with epoll, at a higher cost per request: allow io_uring_setup, \
                 io_uring_enter and io_uring_register in the pod's seccomp profile, and set \
                 kernel.io_uring_disabled=0",
            ),
            Err(error) => say(
                Verdict::Bad,
                "I/O",
                format!("neither io_uring nor epoll: {error}"),
                "a seccomp profile forbids more than a gateway can do without",
            ),
        }
        say(
            match self.descriptors {
                DESCRIPTORS_WANTED.. => Verdict::Good,
                4_096.. => Verdict::Poor,
                _ => Verdict::Bad,
            },
            "descriptors",
            format!("{} at most", self.descriptors),
            "each proxied connection takes two: raise LimitNOFILE (systemd) or the runtime's ulimit \
             to 65536 or more",
        );
        let quota = self.cpu_quota.filter(|quota| *quota < self.cpus as f64);
        say(
            good_if(quota.is_none(), Verdict::Poor),
            "CPUs",
            match quota {
                None => format!("{}: as many workers", self.cpus),
                Some(quota) => format!("{} for the time of {quota:.1}", self.cpus),
            },
            "workers are throttled together: set --workers to the CPU limit, or use whole CPUs with \
             the CPU manager's static policy",
        );
        say(
            match self.memory_limit {
                Some(limit) if limit < MEMORY_WANTED => Verdict::Poor,
                _ => Verdict::Good,
            },
            "memory",
            match self.memory_limit {
                None => "no limit".to_owned(),
                Some(limit) => format!(
                    "{} MiB; from {} MiB on connections are shed",
                    limit >> 20,
                    (limit >> 20) * MEMORY_SHED_PERCENT / 100
                ),
            },
            "with 10,000 routes a gateway at rest takes 45 MiB: give it 128 MiB or more",
        );
        if let Some(somaxconn) = self.somaxconn {
            say(
                good_if(somaxconn >= LISTEN_BACKLOG_MAX.into(), Verdict::Poor),
                "backlog",
                format!("net.core.somaxconn={somaxconn}"),
                "connections that come at once beyond it are dropped: set 4096 or more",
            );
        }
        if let Some((first, last)) = self.port_range {
            let ports = (last + 1).saturating_sub(first);
            say(
                good_if(ports >= PORTS_WANTED, Verdict::Poor),
                "local ports",
                format!("{ports}: net.ipv4.ip_local_port_range={first} {last}"),
                "they bound the connections to one endpoint: widen the range",
            );
        }
        let may_bind = self.binds || self.unprivileged_port.is_none_or(|first| first <= 80);
        say(
            good_if(may_bind, Verdict::Poor),
            "low ports",
            if may_bind { "80 and 443 may be bound" } else { "80 and 443 may not be bound" }.into(),
            "add the capability NET_BIND_SERVICE, set net.ipv4.ip_unprivileged_port_start=0, or let \
             Listeners use higher ports behind a Service",
        );
        if let Some(migrates) = self.migrates {
            say(
                good_if(migrates, Verdict::Poor),
                "hand-over",
                format!("net.ipv4.tcp_migrate_req={}", u8::from(migrates)),
                "only --share-ports needs it: without it, what waits at a process that stops is reset",
            );
        }
        out
    }
}

/// CPUs' worth of time from cpu.max: `max 100000`, or `200000 100000`.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn range(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether the effective capabilities hold CAP_NET_BIND_SERVICE, bit 10.
fn binds(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    set.is_some_and(|set| set & 1 << 10 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn good() -> Node {
        let reason = "DEFER_TASKRUN".to_owned();
        Node {
            kernel: "6.1.0".to_owned(),
            driver: Ok(Chosen { name: "io_uring", reason }),
            descriptors: 1 << 20,
            cpus: 4,
            cpu_quota: None,
            memory_limit: Some(1 << 30),
            somaxconn: Some(4096),
            port_range: Some((32_768, 60_999)),
            unprivileged_port: Some(1024),
            migrates: Some(true),
            binds: true,
        }
    }

    /// Which of them are not good, and how.
    fn wrong(node: &Node) -> Vec<(&'static str, Verdict)> {
        let findings = node.findings();
        assert!(findings.iter().all(|f| (f.verdict == Verdict::Good) == f.advice.is_none()));
        let wrong = findings.iter().filter(|finding| finding.verdict != Verdict::Good);
        wrong.map(|finding| (finding.what, finding.verdict)).collect()
    }

    #[test]
    fn a_good_node_has_nothing_to_change() {
        assert_eq!(wrong(&good()), []);
        assert_eq!(wrong(&Node { cpu_quota: Some(4.0), memory_limit: None, ..good() }), []);
        assert_eq!(wrong(&Node { binds: false, unprivileged_port: Some(0), ..good() }), []);
    }

    #[test]
    fn each_want_is_named_with_what_to_do() {
        use Verdict::{Bad, Poor};
        let epoll = Chosen { name: "epoll", reason: "io_uring_setup: EPERM".to_owned() };
        let cases = [
            (Node { driver: Ok(epoll), ..good() }, "I/O", Poor),
            (Node { driver: Err("EPERM".to_owned()), ..good() }, "I/O", Bad),
            (Node { descriptors: 1_024, ..good() }, "descriptors", Bad),
            (Node { descriptors: 8_192, ..good() }, "descriptors", Poor),
            (Node { cpu_quota: Some(1.5), ..good() }, "CPUs", Poor),
            (Node { memory_limit: Some(64 << 20), ..good() }, "memory", Poor),
            (Node { somaxconn: Some(128), ..good() }, "backlog", Poor),
            (Node { port_range: Some((50_000, 60_000)), ..good() }, "local ports", Poor),
            (Node { binds: false, ..good() }, "low ports", Poor),
            (Node { migrates: Some(false), ..good() }, "hand-over", Poor),
        ];
        for (node, what, verdict) in cases {
            assert_eq!(wrong(&node), [(what, verdict)], "{node:?}");
        }
    }

    #[test]
    fn the_kernel_s_files_are_read() {
        assert_eq!(quota("max 100000\n"), None);
        assert_eq!(quota("150000 100000\n"), Some(1.5));
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        assert!(binds("Name:\tx\nCapEff:\t0000000000000400\n"));
        assert!(!binds("CapEff:\t00000000000003ff\n") && !binds(""));
        assert!(!Node::this().kernel.is_empty());
    }
}
