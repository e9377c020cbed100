// SPDX-License-Identifier: Apache-2.0
//! `ringway-bench`: requests per proxy-CPU-second, side by side with other proxies in one run.
//! `compare` is the comparison, `load` the generator alone, `relay` the floor, `peers` what is
//! installed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};

use crate::cpu::Used;
use crate::engine::{Edge, Engine, Load, Pace, Until, keep};
use crate::peer::Peer;
use crate::scenario::Protocol;

mod browser;
mod change;
mod compare;
mod cpu;
mod engine;
mod h2;
mod hpack;
mod http;
mod instructions;
mod peer;
mod plot;
mod progress;
mod relay;
mod report;
mod ring;
mod sample;
mod scenario;
mod schedule;
mod stats;
mod summary;
mod tls;
mod tools;

#[derive(Parser)]
#[command(name = "ringway-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Compare Ringway with other proxies, each with one worker on one core.
    Compare(Compare),
    /// Drive one address, with a null back end in the same thread.
    Load(Drive),
    /// Find or install the other proxies and say which versions they are.
    Peers {
        #[command(flatten)]
        places: Places,
    },
    /// Count user-space instructions per request, of one build or of several.
    Instructions {
        /// A build of the gateway; the last is compared with the first.
        #[arg(long, required = true)]
        binary: Vec<PathBuf>,
        #[arg(long, value_delimiter = ',', default_value = "tiny,gateway,answer-64k,tls")]
        scenario: Vec<String>,
    },
    /// Make the page of all results from the samples in a folder again.
    Summary {
        #[arg(default_value = "bench/results")]
        results: PathBuf,
    },
    /// Copy bytes between clients and an upstream: the floor of what a proxy costs.
    Relay {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        upstream: SocketAddr,
    },
}

#[derive(Args)]
struct Places {
    /// Where the bench keeps what it installs.
    #[arg(long, default_value = ".bench-tools")]
    tools: PathBuf,
    /// The gateway's binary.
    #[arg(long, default_value = "target/release/ringway")]
    ringway: PathBuf,
    /// Another build of the gateway, to see what a change is worth: the proxy `other`.
    #[arg(long)]
    other: Option<PathBuf>,
    /// Which proxies.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "ringway,nginx,nginx-debian,haproxy,envoy,relay"
    )]
    peers: Vec<Peer>,
}

#[derive(Args)]
struct Compare {
    /// Fewer scenarios and shorter windows: ends in 3 minutes.
    #[arg(long)]
    quick: bool,
    /// Interleaved rounds; the figure is their median [default: 3, quick: 2]. Latencies have at
    /// least 5.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Seconds of each measured window [default: 2.5, quick: 0.5].
    #[arg(long)]
    seconds: Option<f64>,
    /// Names of scenarios [default: all, or the quick ones].
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Leave out the cross-check with wrk.
    #[arg(long)]
    no_wrk: bool,
    /// Folder for tables, samples and plots [default: bench/results, quick: target/bench-quick].
    #[arg(long)]
    results: Option<PathBuf>,
    #[arg(long)]
    proxy_core: Option<usize>,
    #[arg(long)]
    load_core: Option<usize>,
    #[command(flatten)]
    places: Places,
}

#[derive(Args)]
struct Drive {
    /// The proxy's address.
    #[arg(long)]
    target: SocketAddr,
    /// Where the null back end listens; a path ending in /N is answered with N bytes.
    #[arg(long, default_value = "127.0.0.1:9000")]
    back_end: SocketAddr,
    /// Path to ask for; its last segment is the size of the answer.
    #[arg(long, default_value = "/api/13")]
    path: String,
    #[arg(long, default_value = scenario::HOST)]
    host: String,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Over HTTP/2, each connection has 16 requests under way.
    #[arg(long, value_enum, default_value_t = Protocol::Http1)]
    protocol: Protocol,
    /// Requests per second, whatever the answers do; without it, as fast as answers come.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Core for generator and back end.
    #[arg(long)]
    core: Option<usize>,
    /// The proxy's process, whose processor time is to be read.
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> Result<()> {
    match Cli::parse().verb {
        Verb::Compare(arguments) => compare(arguments),
        Verb::Load(arguments) => load(&arguments),
        Verb::Peers { places } => peers(&places),
        Verb::Instructions { binary, scenario } => instructions::run(&binary, &scenario),
        Verb::Summary { results } => summary::write(&results),
        Verb::Relay { listen, upstream } => relay::run(listen, upstream),
    }
}

fn compare(arguments: Compare) -> Result<()> {
    let quick = arguments.quick;
    let seconds = arguments.seconds.unwrap_or(if quick { 0.5 } else { 2.5 });
    let results = if quick { "target/bench-quick" } else { "bench/results" };
    compare::run(&compare::Options {
        quick,
        rounds: usize::from(arguments.rounds.unwrap_or(if quick { 2 } else { 3 })),
        warm_up: duration(if quick { 0.2 } else { 0.7 })?,
        window: duration(seconds)?,
        scenarios: arguments.scenario,
        wrk: !arguments.no_wrk && !quick,
        places: arguments.places,
        results: arguments.results.unwrap_or_else(|| results.into()),
        proxy_core: arguments.proxy_core,
        load_core: arguments.load_core,
    })
}

fn peers(places: &Places) -> Result<()> {
    let mut missing = Vec::new();
    for &peer in &places.peers {
        let found = tools::binary(peer, places);
        match found.and_then(|binary| Ok((peer.version(&binary)?, binary))) {
            Ok((version, binary)) => println!("{version}\t{}", binary.display()),
            Err(error) => missing.push(format!("{}: {error:#}", peer.name())),
        }
    }
    ensure!(missing.is_empty(), "missing:\n  {}", missing.join("\n  "));
    Ok(())
}

fn load(arguments: &Drive) -> Result<()> {
    if let Some(core) = arguments.core {
        cpu::pin(core).with_context(|| format!("pinning to core {core}"))?;
    }
    let last = arguments.path.rsplit('/').next().unwrap_or_default();
    let Ok(answer_bytes) = last.parse::<u64>() else {
        bail!("the path must end in /N, the size of the answer")
    };
    let prefix = &arguments.path[..arguments.path.len() - last.len()];
    let request = match arguments.protocol {
        Protocol::Grpc => scenario::grpc_request(&arguments.host, prefix, answer_bytes as usize),
        _ => format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", arguments.path, arguments.host)
            .into_bytes(),
    };
    let load = Load {
        target: arguments.target,
        requests: vec![keep(request)],
        status: 200,
        answer_bytes: Some(answer_bytes),
        connections: arguments.connections,
        pace: arguments.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
        until: Until::Time {
            warm_up: duration(arguments.warm_up)?,
            window: duration(arguments.seconds)?,
        },
        compare_every: 61,
        tls: None,
        reconnect: false,
        upgrade: None,
        changes: None,
        http2: arguments.protocol.streams(),
    };
    let mut engine = Engine::open(arguments.back_end)?;
    let family = arguments.pid.map(cpu::family).transpose()?.unwrap_or_default();
    let (mut before, mut used) = (Used::default(), Used::default());
    let outcome = engine.run(&load, &mut |edge| {
        let now = cpu::used(&family)?;
        match edge {
            Edge::Start => before = now,
            Edge::End => used = now.since(before),
        }
        Ok(())
    })?;
    let seconds = outcome.window.as_secs_f64();
    println!(
        "answers   {} in {seconds:.2} s, {:.0}/s",
        outcome.answers,
        outcome.answers as f64 / seconds
    );
    println!("bodies    {} compared", outcome.compared);
    if arguments.pid.is_some() {
        let cpu = used.running.as_secs_f64();
        println!(
            "proxy     {cpu:.2} CPU-s, {:.0} answers per CPU-second",
            outcome.answers as f64 / cpu
        );
    }
    if arguments.rate.is_some() {
        let at = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1e3;
        let (most, count) = (outcome.latency.max() as f64 / 1e3, outcome.latency.len());
        println!(
            "latency   p50 {:.0} p90 {:.0} p99 {:.0} p99.9 {:.0} max {most:.0} µs of {count}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
        );
    }
    match outcome.first_error {
        None => Ok(()),
        Some(first) => bail!("{} errors, first: {first}", outcome.errors),
    }
}

fn duration(seconds: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{seconds} is no duration"))
}
