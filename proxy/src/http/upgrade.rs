// SPDX-License-Identifier: Apache-2.0
//! A request whose connection switched to another protocol: what is left of its exchange while
//! bytes go both ways, and how that is counted and logged.
//!
//! Tunnels last for days. They hold two connections and a few counters, and what the access log
//! will ask; neither buffers nor the route, and no table.

use std::rc::Rc;
use std::time::Duration;

use ringway_core::ir::Settings;
use ringway_core::name::ClusterSlot;
use ringway_core::observe::metric::{ClusterCell, ListenerCell};
use ringway_core::policy::format::{Facts, Flags, Kept};
use ringway_core::wire::HeadView;

use super::exchange::Request;
use super::record::Record;
use crate::net::stream::Stream;
use crate::terminate::Handshake;
use crate::tunnel::{self, Toward, Why};
use crate::worker::state::Upstream;
use crate::worker::{ListenerState, Local, Worker};

/// An upstream that has agreed to switch. The client has been told, and what the upstream sent
/// behind its head has been given back to its reader.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) upstream: Upstream,
    pub(crate) cluster: ClusterSlot,
    /// No bytes either way for this long end the tunnel.
    pub(crate) idle: Option<Duration>,
}

/// What is left of the exchange.
#[derive(Debug)]
pub(crate) struct Upgraded {
    switched: Switched,
    record: Record,
    logged: Option<Box<Logged>>,
}

/// What the access log needs of the exchange.
#[derive(Debug)]
struct Logged {
    settings: Local<Settings>,
    facts: Kept,
    tls: Option<Rc<Handshake>>,
}

impl Upgraded {
    /// The answer was `response`; as in Envoy, it is counted now.
    pub(crate) fn new(
        request: &Request<'_>,
        response: HeadView<'_>,
        switched: Switched,
        record: Record,
    ) -> Self {
        let worker = request.cx.worker;
        record.count_status(worker, request.cx.listener);
        record.count_upstream_status(worker, switched.cluster);
        let logged = worker.log.is_on().then(|| {
            let facts = request.facts(&record, Some(response), worker.timers.look());
            let tls = request.cx.origin.tls.clone();
            Box::new(Logged { settings: request.settings.clone(), facts: Kept::of(&facts), tls })
        });
        Self { switched, record, logged }
    }

    /// Carries bytes until the end.
    pub(crate) async fn run(
        self,
        worker: &Rc<Worker>,
        listener: &ListenerState,
        client: &mut Stream,
    ) {
        let Self { switched: Switched { mut upstream, cluster, idle }, mut record, logged } = self;
        let slab = &worker.slab;
        let moved = |toward, n: usize| {
            let (of_client, of_cluster) = match toward {
                Toward::Upstream => (ListenerCell::BytesReceived, ClusterCell::BytesSent),
                Toward::Client => (ListenerCell::BytesSent, ClusterCell::BytesReceived),
            };
            slab.listener_add(listener.slot, of_client, n as u64);
            slab.cluster_add(cluster, of_cluster, n as u64);
        };
        let ended = tunnel::relay(worker, client, &mut upstream.stream, idle, moved).await;
        match ended.why {
            Why::Finished | Why::Stopped => {}
            Why::Client => {
                record.flag(Flags::DC);
                record.details = "downstream_remote_disconnect";
            }
            Why::Upstream => {
                record.flag(Flags::UC);
                record.details = "upstream_reset_after_response_started{connection_termination}";
                slab.cluster_add(cluster, ClusterCell::ResetByUpstream, 1);
            }
            Why::Idle => {
                record.flag(Flags::SI);
                record.details = "stream_idle_timeout";
            }
        }
        let now = worker.timers.look();
        slab.cluster_sub(cluster, ClusterCell::RequestsActive, 1);
        slab.listener_sub(listener.slot, ListenerCell::UpgradesActive, 1);
        record.count_upstream_end(worker, cluster, now);
        record.count_end(worker, listener, now);
        let Some(logged) = logged else { return };
        let facts = Facts {
            flags: record.flags,
            details: record.details,
            bytes_received: ended.received,
            bytes_sent: ended.sent,
            duration_us: now.us_since(record.started),
            tls: logged.tls.as_ref().map(|tls| tls.facts()),
            ..logged.facts.facts()
        };
        worker.log_access(&logged.settings, &facts);
    }
}

#[cfg(test)]
mod tests;
