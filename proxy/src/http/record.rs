// SPDX-License-Identifier: Apache-2.0
//! What one exchange leaves behind: counters, times, its access-log line.

use std::net::SocketAddr;

use ringway_core::name::{ClusterSlot, RouteSlot};
use ringway_core::observe::metric::{CallSlot, ClusterCell, ListenerCell, RouteCell};
use ringway_core::policy::format::Flags;

use crate::net::timer::Moment;
use crate::worker::tally::Count;
use crate::worker::{ListenerState, Worker};

/// Filled while the exchange goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// When the head's first byte was there.
    pub(crate) started: Moment,
    /// When the request was complete.
    pub(crate) received: Option<Moment>,
    /// When the request went upstream, and when the upstream's head came.
    pub(crate) sent: Option<Moment>,
    pub(crate) answered: Option<Moment>,
    /// When all of the upstream's answer had been passed on.
    pub(crate) ended: Option<Moment>,
    /// Status of the answer; 0 when there was none.
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    pub(crate) details: &'static str,
    /// Body bytes from and to the client.
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) cluster: Option<ClusterSlot>,
    pub(crate) route: Option<RouteSlot>,
    /// Where it counts as a gRPC call.
    pub(crate) call: Option<CallSlot>,
    pub(crate) transport_failure: &'static str,
}

impl Record {
    pub(crate) fn new(started: Moment) -> Self {
        Self {
            started,
            received: None,
            sent: None,
            answered: None,
            ended: None,
            status: 0,
            flags: Flags::NONE,
            details: "",
            bytes_received: 0,
            bytes_sent: 0,
            upstream: None,
            upstream_local: None,
            cluster: None,
            route: None,
            call: None,
            transport_failure: "",
        }
    }

    pub(crate) fn flag(&mut self, flag: Flags) {
        self.flags = self.flags.with(flag);
    }

    /// Counts the answer by its status: with its end, or as soon as it opens a tunnel.
    pub(crate) fn count_status(&self, worker: &Worker, listener: &ListenerState) {
        let slab = &worker.slab;
        slab.listener_add(listener.slot, listener_class(self.status), 1);
        if let Some(route) = self.route {
            worker.tally.add(slab, route, Count::Answer(route_class(self.status)));
        }
    }

    /// Counts the exchange as over.
    pub(crate) fn count_end(&self, worker: &Worker, listener: &ListenerState, now: Moment) {
        let slab = &worker.slab;
        let us = now.us_since(self.started);
        slab.listener_sub(listener.slot, ListenerCell::RequestsActive, 1);
        slab.listener_add(listener.slot, ListenerCell::BytesReceived, self.bytes_received);
        slab.listener_add(listener.slot, ListenerCell::BytesSent, self.bytes_sent);
        slab.listener_time(listener.slot).record(us);
        if self.flags.contains(Flags::DC) {
            slab.listener_add(listener.slot, ListenerCell::ResetByClient, 1);
        }
        if let Some(route) = self.route {
            worker.tally.add(slab, route, Count::Microseconds(us));
        }
    }

    /// Counts the upstream's answer by its status: whole, or as soon as it opens a tunnel.
    pub(crate) fn count_upstream_status(&self, worker: &Worker, cluster: ClusterSlot) {
        let slab = &worker.slab;
        slab.cluster_add(cluster, ClusterCell::RequestsCompleted, 1);
        slab.cluster_add(cluster, cluster_class(self.status), 1);
        slab.cluster_statuses(cluster).count(self.status);
    }

    /// Counts the upstream's part as over.
    pub(crate) fn count_upstream_end(&self, worker: &Worker, cluster: ClusterSlot, now: Moment) {
        let slab = &worker.slab;
        slab.cluster_add(cluster, ClusterCell::BytesSent, self.bytes_received);
        slab.cluster_add(cluster, ClusterCell::BytesReceived, self.bytes_sent);
        if let Some(sent) = self.sent {
            slab.cluster_time(cluster).record(now.us_since(sent));
        }
    }

    /// Counts what a gRPC call took of the upstream's time.
    pub(crate) fn count_call_time(&self, worker: &Worker, now: Moment) {
        if let (Some(call), Some(sent)) = (self.call, self.sent) {
            worker.slab.calls_time(worker.slab.calls(call)).record(now.us_since(sent));
        }
    }
}

fn listener_class(status: u16) -> ListenerCell {
    match status / 100 {
        1 => ListenerCell::Requests1xx,
        2 => ListenerCell::Requests2xx,
        3 => ListenerCell::Requests3xx,
        4 => ListenerCell::Requests4xx,
        // An exchange without an answer failed.
        _ => ListenerCell::Requests5xx,
    }
}

fn route_class(status: u16) -> RouteCell {
    match status / 100 {
        1 => RouteCell::Requests1xx,
        2 => RouteCell::Requests2xx,
        3 => RouteCell::Requests3xx,
        4 => RouteCell::Requests4xx,
        _ => RouteCell::Requests5xx,
    }
}

pub(super) fn cluster_class(status: u16) -> ClusterCell {
    match status / 100 {
        1 => ClusterCell::Requests1xx,
        2 => ClusterCell::Requests2xx,
        3 => ClusterCell::Requests3xx,
        4 => ClusterCell::Requests4xx,
        _ => ClusterCell::Requests5xx,
    }
}
