// SPDX-License-Identifier: Apache-2.0
//! HAProxy: one thread, upstream connections shared by all clients, many prefixes through a map,
//! configuration changed by the master process's reload.

use super::Setup;
use crate::scenario::{PREFIXES_PER_HOST, PROBE, Protocol, Work, host_name, route_prefix};
use crate::tls;

pub(super) fn configuration(setup: &Setup, generation: usize) -> String {
    let Setup { listen, back_end, dir, connections, .. } = setup;
    let find = |what: &str| {
        let find = format!("{what},map_beg({})", dir.join("routes.map").display());
        format!(
            "http-request deny deny_status 404 unless {{ {find} -m found }}\nuse_backend %[{find}]\n"
        )
    };
    let rules = match setup.work {
        Work::Forward | Work::Tunnel | Work::WebSocket => "default_backend up\n".to_owned(),
        Work::Gateway => format!("{GATEWAY}use_backend up\n"),
        Work::Routes(_) => find("path"),
        Work::Hosts(_) => find("base"),
        // What the probe becomes is in the map as well.
        Work::Changing(_) => {
            let rest = format!("path,bytes({})", PROBE.len());
            let rewrite = format!("set-path /g-{generation}/%[{rest}] if {{ path_beg {PROBE} }}");
            format!("http-request {rewrite}\n{}", find("path"))
        }
    };
    let id = match setup.work {
        Work::Gateway => "unique-id-format %{+X}o%ci:%cp_%fi:%fp_%Ts_%rt:%pid\n",
        _ => "",
    };
    let (mode, http) = match setup.work {
        Work::Tunnel => ("tcp", ""),
        _ => ("http", "timeout http-keep-alive 3600s\noption http-keep-alive\nhttp-reuse always\n"),
    };
    let (global, ssl) = match setup.tls {
        false => ("", String::new()),
        true => {
            let file = dir.join(tls::BOTH);
            ("tune.ssl.cachesize 0\n", format!(" ssl ssl-min-ver TLSv1.3 crt {}", file.display()))
        }
    };
    let (streams, front, back) = match (setup.protocol, setup.tls) {
        (Protocol::Http1, _) => ("", "", ""),
        (protocol, tls) => (
            "tune.h2.max-concurrent-streams 1000\n",
            if tls { " alpn h2" } else { " proto h2" },
            if protocol == Protocol::Grpc { " proto h2" } else { "" },
        ),
    };
    // A reload hands the listening sockets on, so that no connection in their queues is lost.
    let sockets = match setup.work {
        Work::Changing(_) => {
            format!("stats socket {} mode 600 expose-fd listeners\n", dir.join("stats").display())
        }
        _ => String::new(),
    };
    let core = setup.worker_core.map(|core| format!("cpu-map 1/1 {core}\n")).unwrap_or_default();
    format!(
        "global
nbthread 1
maxconn {connections}
{core}{global}{streams}{sockets}defaults
mode {mode}
timeout client 3600s
timeout server 3600s
timeout connect 5s
timeout tunnel 3600s
option redispatch
{http}{id}frontend in
bind 127.0.0.1:{listen} backlog 4096{ssl}{front}
{rules}backend up
server null 127.0.0.1:{back_end} pool-purge-delay 3600s{back}
"
    )
}

/// The prefixes, all of the same back end; anything else is answered 404 below.
pub(super) fn routes(setup: &Setup) -> String {
    let routes =
        |count| (0..count).map(|index| format!("{} up\n", route_prefix(index))).collect::<String>();
    match setup.work {
        Work::Routes(count) => routes(count),
        Work::Changing(count) => format!("/g- up\n{}", routes(count)),
        Work::Hosts(count) => (0..count * PREFIXES_PER_HOST)
            .map(|index| {
                let host = host_name(index / PREFIXES_PER_HOST);
                format!("{host}{} up\n", route_prefix(index % PREFIXES_PER_HOST))
            })
            .collect(),
        _ => String::new(),
    }
}

/// The prefix is cut by length: cheaper than a regular expression.
const GATEWAY: &str = "http-request deny deny_status 404 unless { path_beg /api/ }
http-request set-path %[path,bytes(4)]
option forwardfor
unique-id-header X-Request-Id
http-request set-header X-Forwarded-Proto http
http-request set-header X-Tenant bench
http-request del-header X-Debug
http-response del-header X-Powered-By
http-response set-header X-Version 2
http-response set-header X-Frame-Options DENY
";
