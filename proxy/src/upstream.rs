// SPDX-License-Identifier: Apache-2.0
//! From a cluster to a connection: a pooled one, or a new one to the next endpoint.

use std::rc::Rc;

use monoio::net::TcpStream;
use ringway_core::limits::{CONNECT_ATTEMPTS_MAX, CONNECT_TIMEOUT};
use ringway_core::observe::metric::ClusterCell;
use ringway_core::table::Cluster;

use crate::net::stream::Stream;
use crate::worker::Worker;
use crate::worker::state::{Chosen, ClusterState, OpenUpstream, PoolLimits, Preference, Upstream};

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoUpstream {
    /// The cluster has no endpoint.
    NoEndpoint,
    Refused,
    TimedOut,
}

/// A connection to one of the cluster's endpoints. Nothing has been written on it for this
/// request, so trying the next endpoint (or the same again) repeats nothing. Endpoints that do not
/// answer are noted in the preference.
pub(crate) async fn acquire(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    state: &ClusterState,
    preference: &mut Preference,
    fresh: bool,
) -> Result<Upstream, NoUpstream> {
    state.set_limits(pool_limits(cluster));
    let mut failure = NoUpstream::NoEndpoint;
    for _ in 0..CONNECT_ATTEMPTS_MAX {
        let Some(mut endpoint) = state.pick(preference, worker.random()) else {
            worker.slab.cluster_add(cluster.slot, ClusterCell::NoEndpoint, 1);
            return Err(NoUpstream::NoEndpoint);
        };
        if !fresh {
            endpoint = match endpoint.take(worker.timers.now(), state.limits()) {
                Ok(upstream) => return Ok(upstream),
                Err(endpoint) => endpoint,
            };
        }
        let address = endpoint.address;
        match connect(worker, cluster, endpoint).await {
            Ok(upstream) => return Ok(upstream),
            Err(error) => failure = error,
        }
        preference.tried.push(address);
        // A time-out has used up the client's patience; only quick failures try again.
        if failure == NoUpstream::TimedOut {
            break;
        }
    }
    Err(failure)
}

async fn connect(
    worker: &Rc<Worker>,
    cluster: &Cluster,
    endpoint: Chosen,
) -> Result<Upstream, NoUpstream> {
    let patience = cluster.spec.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    // A connect may be dropped: no bytes are on their way yet.
    let connected =
        monoio::time::timeout(patience, TcpStream::connect_addr(endpoint.address)).await;
    let slab = &worker.slab;
    match connected {
        Ok(Ok(tcp)) => {
            if let Some(keepalive) = &cluster.spec.keepalive {
                let seconds = |s: Option<u32>| s.map(|s| std::time::Duration::from_secs(s.into()));
                let _ = tcp.set_tcp_keepalive(
                    seconds(keepalive.idle_s),
                    seconds(keepalive.interval_s),
                    keepalive.probes,
                );
            }
            let stream = Stream::new(tcp, &worker.timers);
            let open = OpenUpstream::new(slab.clone(), cluster.slot);
            Ok(Upstream { stream, endpoint, reused: false, born: worker.timers.now(), open })
        }
        Ok(Err(_)) => {
            slab.cluster_add(cluster.slot, ClusterCell::ConnectFailures, 1);
            Err(NoUpstream::Refused)
        }
        Err(_) => {
            slab.cluster_add(cluster.slot, ClusterCell::ConnectFailures, 1);
            slab.cluster_add(cluster.slot, ClusterCell::ConnectTimeouts, 1);
            Err(NoUpstream::TimedOut)
        }
    }
}

/// A cluster's pool limits, in the worker's milliseconds.
fn pool_limits(cluster: &Cluster) -> PoolLimits {
    let mut limits = PoolLimits::default();
    if let Some(idle) = cluster.spec.idle_timeout {
        limits.idle_ms = idle.as_millis() as u64;
    }
    if let Some(lifetime) = cluster.spec.max_lifetime {
        limits.lifetime_ms = lifetime.as_millis() as u64;
    }
    limits
}
