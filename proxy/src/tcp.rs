// SPDX-License-Identifier: Apache-2.0
//! A connection that a TCPMapping takes: its member by weight, a connection of its own to the
//! upstream, bytes both ways, and what is counted and logged of it.

use std::net::SocketAddr;
use std::sync::Arc;

use ringway_core::ir::Transport;
use ringway_core::name::ListenerSlot;
use ringway_core::observe::metric::{ClusterCell, ListenerCell, Slab};
use ringway_core::policy::format::{Facts, Flags};
use ringway_core::table::TcpRoute;
use ringway_core::wire::{Head, HeadView};

use crate::connection::{Client, Origin};
use crate::net::timer::Moment;
use crate::tunnel::{self, Ended, Toward, Why};
use crate::upstream::{self, NoUpstream, Wanted};
use crate::worker::state::Preference;
use crate::worker::{Open, Worker};

/// Carries a connection to one of the route's upstreams and back until it ends.
pub(crate) async fn serve(client: &mut Client, route: &TcpRoute) {
    let Client { stream, origin, open: Open { worker, listener, .. }, .. } = client;
    let member = route.member((worker.random() % 100) as u32);
    let (cluster, slot) = (&member.cluster, listener.slot);
    let _open = Counted::new(worker.slab.clone(), slot);
    // From here on the upstream's and the tunnel's own deadlines hold.
    stream.timer.disarm();
    let mut record = Record::new(worker.timers.look());
    let state = worker.cluster(cluster.slot);
    let mut preference = Preference::default();
    let upstream = match &cluster.spec.transport {
        // TLS that cannot be had is never cleartext instead.
        Transport::Tls(None) => Err(NoUpstream::Tls("no usable TLSContext")),
        // Boxed: a tunnel at rest is small, whatever connecting took.
        _ => {
            let preference = &mut preference;
            Box::pin(upstream::acquire(worker, cluster, &state, preference, Wanted::Tunnel, None))
                .await
        }
    };
    match upstream {
        Ok(mut upstream) => {
            record.upstream = Some(upstream.endpoint.address);
            record.upstream_local = upstream.stream.local_addr();
            let slab = &worker.slab;
            let moved = |toward: Toward, n: usize| {
                let (of_listener, of_cluster) = match toward {
                    Toward::Upstream => (ListenerCell::TcpBytesReceived, ClusterCell::BytesSent),
                    Toward::Client => (ListenerCell::TcpBytesSent, ClusterCell::BytesReceived),
                };
                slab.listener_add(slot, of_listener, n as u64);
                slab.cluster_add(cluster.slot, of_cluster, n as u64);
            };
            let (to, idle) = (&mut upstream.stream, member.idle_timeout);
            let ended = Box::pin(tunnel::relay(worker, stream, to, idle, moved)).await;
            record.ended(&ended);
            if ended.why == Why::Idle {
                slab.listener_add(slot, ListenerCell::TcpIdleTimeouts, 1);
            }
        }
        Err(failure) => record.failed(failure),
    }
    if worker.log.is_on() {
        let label = format!("{}/{}", member.object.namespace, member.object.name);
        let (blank, view) = (Head::default(), worker.view(listener));
        let head = HeadView::new(&blank, &[]);
        let facts = record.facts(worker, origin, head, &cluster.spec.name, &label);
        worker.log_access(&view.settings, &facts);
    }
}

/// What a tunnel leaves behind.
struct Record {
    started: Moment,
    received: u64,
    sent: u64,
    flags: Flags,
    details: &'static str,
    upstream: Option<SocketAddr>,
    upstream_local: Option<SocketAddr>,
    transport_failure: &'static str,
}

impl Record {
    fn new(started: Moment) -> Self {
        Self {
            started,
            received: 0,
            sent: 0,
            flags: Flags::NONE,
            details: "",
            upstream: None,
            upstream_local: None,
            transport_failure: "",
        }
    }

    fn ended(&mut self, ended: &Ended) {
        (self.received, self.sent) = (ended.received, ended.sent);
        (self.flags, self.details) = match ended.why {
            Why::Finished => (Flags::NONE, ""),
            Why::Client => (Flags::DC, "downstream_remote_disconnect"),
            Why::Upstream => (Flags::UC, "upstream_reset_before_response_started"),
            Why::Idle => (Flags::NONE, "tcp_session_idle_timeout"),
            Why::Stopped => (Flags::NONE, "drain_timeout"),
        };
    }

    fn failed(&mut self, failure: NoUpstream) {
        (self.flags, self.transport_failure) = match failure {
            NoUpstream::NoEndpoint => (Flags::UH, ""),
            NoUpstream::Overflow => (Flags::UO, ""),
            NoUpstream::Refused | NoUpstream::NoUpgrade => (Flags::UF, "delayed connect error"),
            NoUpstream::TimedOut | NoUpstream::GivenUp => (Flags::UF, "connection timeout"),
            NoUpstream::Tls(reason) => (Flags::UF, reason),
        };
        self.details = match failure {
            NoUpstream::NoEndpoint => "no_healthy_upstream",
            NoUpstream::Overflow => "upstream_overflow",
            _ => "upstream_connection_failure",
        };
    }

    fn facts<'f>(
        &'f self,
        worker: &Worker,
        origin: &'f Origin,
        request: HeadView<'f>,
        cluster: &'f str,
        route: &'f str,
    ) -> Facts<'f> {
        Facts {
            request,
            path: b"",
            authority: b"",
            request_id: b"",
            forwarded_for: b"",
            rewritten_path: None,
            peer: origin.peer,
            client: origin.peer.ip(),
            local: origin.local,
            secure: origin.tls.is_some(),
            version: None,
            start_us: worker.clock.unix_us(self.started),
            response: None,
            status: 0,
            flags: self.flags,
            details: self.details,
            bytes_received: self.received,
            bytes_sent: self.sent,
            duration_us: worker.timers.look().us_since(self.started),
            request_us: None,
            upstream_us: None,
            upstream: self.upstream,
            upstream_local: self.upstream_local,
            cluster,
            route,
            transport_failure: self.transport_failure,
            tls: origin.tls.as_ref().map(|tls| tls.facts()),
        }
    }
}

/// Counts a tunnel as open until it is dropped.
struct Counted {
    slab: Arc<Slab>,
    listener: ListenerSlot,
}

impl Counted {
    fn new(slab: Arc<Slab>, listener: ListenerSlot) -> Self {
        slab.listener_add(listener, ListenerCell::TcpConnectionsTotal, 1);
        slab.listener_add(listener, ListenerCell::TcpConnectionsActive, 1);
        Self { slab, listener }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.slab.listener_sub(self.listener, ListenerCell::TcpConnectionsActive, 1);
    }
}
