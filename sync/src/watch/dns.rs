// SPDX-License-Identifier: Apache-2.0
//! Names to addresses, again and again.
//!
//! Every name has a task that looks it up, reports, and sleeps: until its TTL ends where that is
//! respected, else for Envoy's five seconds. A failure reports nothing new, so the old addresses
//! stay in use, and is tried again after a growing, jittered time. `localhost`, the hosts file and
//! search domains work as in the system's resolver.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf::parse_resolv_conf;
use ringway_core::limits;
use tokio::sync::{Semaphore, watch};

use super::backoff::Backoff;
use crate::log;
use crate::publish::Lookup;

/// Builds a resolver from a file in the form of `/etc/resolv.conf`.
///
/// # Errors
/// The file cannot be read or names no server.
pub fn resolver(resolv_conf: &Path) -> anyhow::Result<TokioResolver> {
    let said = || format!("reading {}", resolv_conf.display());
    let text = std::fs::read(resolv_conf).with_context(said)?;
    let (config, mut options) = parse_resolv_conf(text).with_context(said)?;
    // A refresh has to see what the server says now; how long an answer holds is decided here.
    options.cache_size = 0;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().with_context(said)
}

/// A resolver that knows `localhost` and the hosts file, and asks nobody.
///
/// # Errors
/// The resolver cannot be made.
pub fn local_resolver() -> anyhow::Result<TokioResolver> {
    let config = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    Ok(builder.build()?)
}

/// Resolves the wanted names until the sender of `wanted` is gone. `report` gets every answer,
/// `None` for a failure; it says false when it cannot take it now.
pub async fn watch(
    resolver: TokioResolver,
    mut wanted: watch::Receiver<Arc<BTreeSet<Lookup>>>,
    report: impl Fn(&Lookup, Option<Arc<[IpAddr]>>) -> bool + Clone + Send + Sync + 'static,
) {
    let permits = Arc::new(Semaphore::new(limits::DNS_LOOKUPS_MAX));
    let mut tasks: BTreeMap<Lookup, tokio::task::AbortHandle> = BTreeMap::new();
    loop {
        let now_wanted = Arc::clone(&wanted.borrow_and_update());
        tasks.retain(|lookup, task| {
            let keep = now_wanted.contains(lookup);
            if !keep {
                task.abort();
            }
            keep
        });
        for lookup in now_wanted.iter() {
            if !tasks.contains_key(lookup) {
                let follow =
                    follow(resolver.clone(), lookup.clone(), Arc::clone(&permits), report.clone());
                tasks.insert(lookup.clone(), tokio::spawn(follow).abort_handle());
            }
        }
        if wanted.changed().await.is_err() {
            break;
        }
    }
    for task in tasks.values() {
        task.abort();
    }
}

/// Follows one name for good.
async fn follow(
    resolver: TokioResolver,
    lookup: Lookup,
    permits: Arc<Semaphore>,
    report: impl Fn(&Lookup, Option<Arc<[IpAddr]>>) -> bool + Send + Sync,
) {
    let mut backoff = Backoff::new(limits::DNS_TTL_MIN, limits::DNS_BACKOFF_MAX);
    loop {
        let permit = permits.acquire().await;
        let outcome = resolve(&resolver, &lookup).await;
        drop(permit);
        let (addresses, pause) = match outcome {
            Ok((addresses, ttl)) => {
                backoff.reset();
                let pause = if lookup.respect_ttl {
                    ttl.max(limits::DNS_TTL_MIN)
                } else {
                    limits::DNS_REFRESH_INTERVAL
                };
                (Some(addresses), pause)
            }
            Err(error) => {
                log::warn(format!("upstream name {} does not resolve: {error}", lookup.name));
                (None, backoff.next())
            }
        };
        while !report(&lookup, addresses.clone()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(pause).await;
    }
}

/// One look: addresses in the order of the answer, and how long they hold. With both families
/// switched on, IPv6 addresses are used where there are any. Emissary (Envoy): `AUTO`.
async fn resolve(
    resolver: &TokioResolver,
    lookup: &Lookup,
) -> Result<(Arc<[IpAddr]>, Duration), String> {
    let mut failure = "neither IPv4 nor IPv6 is enabled".to_owned();
    for (enabled, record) in [(lookup.ipv6, RecordType::AAAA), (lookup.ipv4, RecordType::A)] {
        if !enabled {
            continue;
        }
        match resolver.lookup(&*lookup.name, record).await {
            Ok(answer) => {
                let addresses: Vec<IpAddr> = (answer.answers().iter())
                    .filter_map(|record| record.data.ip_addr())
                    .take(limits::ENDPOINTS_MAX)
                    .collect();
                if !addresses.is_empty() {
                    let ttl = answer.valid_until().saturating_duration_since(Instant::now());
                    return Ok((addresses.into(), ttl));
                }
                failure = format!("no {record} record");
            }
            Err(error) => failure = error.to_string(),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests;
