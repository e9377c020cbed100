// SPDX-License-Identifier: Apache-2.0
//! A request's way upstream and its answer's way back.
//!
//! The request's head goes out together with what is at hand of its body. If that is all of it,
//! one send and one receive follow; else [`upload`] and [`download`] run side by side, each with
//! one buffer in flight, so that a slow reader on either side holds back the other.

use std::cell::Cell;
use std::pin::pin;

use ringway_core::ir::{Transport, UpstreamProtocol};
use ringway_core::limits::CONNECT_ATTEMPTS_MAX;
use ringway_core::observe::metric::{ClusterCell, ListenerCell};
use ringway_core::policy::balance::{Affinity, Caller, HashKey};
use ringway_core::policy::format::{Facts, Flags};
use ringway_core::policy::relay::{self, RequestHead};
use ringway_core::policy::rewrite::HostRewrite;
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::table::{Forward, Manner, Route};
use ringway_core::wire::Framing;
use ringway_core::wire::grpc_web::Form;
use ringway_core::wire::h1::body::Decoder;

use super::call::{self, Counter};
use super::download::{Download, Downloaded};
use super::exchange::{Answer, Outcome, Received, Request};
use super::flow::Shared;
use super::record::Record;
use super::reply::{
    Reply, body_refused, disconnected, failure_text, reset, stream_reset, unavailable,
};
use super::shadow;
use super::upgrade::Switched;
use super::upload::{Body, DISCARD, Taken, Text, Uploaded, upload};
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::rt;
use crate::upstream::{self, NoUpstream, Wanted};
use crate::worker::Local;
use crate::worker::state::{Preference, Upstream};

/// Sends the request to the route's cluster and the answer to the client.
pub(crate) async fn forward<'a>(
    request: &mut Request<'a>,
    route: &'a Local<Route>,
    action: &'a Forward,
    client: &mut Stream,
    path: &'a mut Vec<u8>,
    received: &mut Received,
    record: &mut Record,
) -> Answer<'a> {
    let worker = request.cx.worker;
    let cluster = &*action.cluster;
    record.cluster = Some(cluster.slot);
    record.call = call::slot(request, cluster.slot);
    let edits = Some(&route.response_headers);
    if cluster.spec.transport == Transport::Tls(None) {
        record.transport_failure = "this transport is not served yet";
        return Answer::Ours(unavailable(NoUpstream::Refused), edits);
    }
    let state = worker.cluster(cluster.slot);

    path.clear();
    let has_path = !request.target.path_and_query.is_empty();
    if has_path && action.path.apply(request.target.path, path) {
        if let Some(query) = request.target.query {
            path.push(b'?');
            path.extend_from_slice(query);
        }
        request.rewritten = Some(path);
    }
    let mut preference = Preference { key: affinity(request, action), ..Preference::default() };
    let deadline = call::deadline(request, record);
    // How a body is written depends on the protocol: where the upstream chooses it, it is asked
    // first.
    let mut found = None;
    let is_h2 = match cluster.spec.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Negotiated => {
            let preference = &mut preference;
            let (wanted, deadline) = (Wanted::Open, deadline);
            let acquired = upstream::acquire(worker, cluster, &state, preference, wanted, deadline);
            let Some(upstream) = client.unless_reset(Box::pin(acquired).as_mut()).await else {
                return Answer::Ours(disconnected(), edits);
            };
            found.insert(upstream).as_ref().is_ok_and(Upstream::is_h2)
        }
    };
    let mut out = client.writer.buffer(&worker.buffers);
    write_head(request, route, action, host(request, action), record, &mut out);
    let head = out.len();
    let (framing, is_message) = (request.meta.framing, client.reader.is_message());
    let mut body = Body {
        decoder: Decoder::new(match framing {
            Framing::None => Framing::None,
            _ if is_message => Framing::UntilClose,
            _ => request.received,
        }),
        // The end of a message is its own in HTTP/2: nothing in its bytes says where it is.
        framing: if is_h2 { Framing::UntilClose } else { framing },
        max: request.settings.body_bytes_max.unwrap_or(u64::MAX),
        seen: 0,
        trailers: Vec::new(),
        text: request.web.as_ref().and_then(|web| (web.form == Form::Text).then(Text::default)),
        counter: record.call.map(|call| Counter::requests(worker, call)),
        tee: shadow::tee(request, route, action, record),
    };
    let head_len = request.view.head.len;
    let at_hand = match body.encode(&request.view.block[head_len..], &mut out) {
        Ok(Taken { taken, complete: false }) if is_message => body
            .encode_at_hand(&mut client.reader, &worker.buffers, &mut out)
            .map(|complete| Taken { taken, complete }),
        at_hand => at_hand,
    };
    let at_hand = match at_hand {
        Ok(at_hand) => at_hand,
        Err(error) => {
            worker.buffers.put(out);
            return Answer::Ours(body_refused(error), edits);
        }
    };
    record.bytes_received = body.seen;
    let now = worker.timers.look();
    record.received = at_hand.complete.then_some(now);

    let slab = &worker.slab;
    slab.cluster_add(cluster.slot, ClusterCell::RequestsTotal, 1);
    slab.cluster_add(cluster.slot, ClusterCell::RequestsActive, 1);
    let mut attempt = Attempt {
        request,
        route,
        timeouts: action.timeouts,
        client,
        received,
        record,
        head,
        consumed: head_len + at_hand.taken,
        complete: at_hand.complete,
        continued: false,
    };
    let mut tries = 0;
    let mut wanted = match attempt.complete && repeatable(attempt.request.view.method(), true) {
        true => Wanted::Any,
        false => Wanted::Open,
    };
    let answer = loop {
        let found = match found.take() {
            Some(found) => found,
            None => {
                let preference = &mut preference;
                let acquired =
                    upstream::acquire(worker, cluster, &state, preference, wanted, deadline);
                // Without a client, nobody needs a connection.
                match attempt.client.unless_reset(pin!(acquired)).await {
                    Some(found) => found,
                    None => break Answer::Ours(disconnected(), edits),
                }
            }
        };
        let found = match found {
            // Another one chose the other protocol, and the body is written by now.
            Ok(upstream) if upstream.is_h2() != is_h2 => Err(NoUpstream::Refused),
            Ok(upstream) if attempt.request.upgrade().is_some() => {
                Box::pin(upstream.for_upgrade(cluster)).await
            }
            found => found,
        };
        let mut upstream = match found {
            Ok(upstream) => upstream,
            Err(error) => {
                attempt.record.transport_failure = failure_text(error);
                break Answer::Ours(unavailable(error), edits);
            }
        };
        attempt.record.upstream = Some(upstream.endpoint.address);
        if worker.log.is_on() {
            attempt.record.upstream_local = upstream.stream.local_addr();
        }
        let ended;
        (ended, out) = attempt.run(&mut upstream, out, &mut body, tries == 0, deadline).await;
        let now = worker.timers.look();
        attempt.record.ended = Some(now);
        match ended {
            Ended::Silent
                if attempt.complete
                    && preference.tried.len() + 1 < CONNECT_ATTEMPTS_MAX
                    && repeatable(attempt.request.view.method(), upstream.reused)
                    && (upstream.reused || state.has_other(&preference, &upstream.endpoint)) =>
            {
                // A key keeps to its endpoint, which may just have tired of an idle connection.
                if !upstream.reused || preference.key.is_none() {
                    preference.tried.push(upstream.endpoint.address);
                }
                slab.cluster_add(cluster.slot, ClusterCell::Retries, 1);
                tries += 1;
                wanted = Wanted::New;
            }
            Ended::Unprocessed
                if attempt.complete && preference.tried.len() + 1 < CONNECT_ATTEMPTS_MAX =>
            {
                slab.cluster_add(cluster.slot, ClusterCell::Retries, 1);
                tries += 1;
                // Should it refuse once more, it is the next one's turn.
                if tries > 1 {
                    preference.tried.push(upstream.endpoint.address);
                }
            }
            Ended::Unprocessed => {
                slab.cluster_add(cluster.slot, ClusterCell::ResetByUpstream, 1);
                break Answer::Ours(stream_reset(), edits);
            }
            Ended::Silent => {
                slab.cluster_add(cluster.slot, ClusterCell::ResetByUpstream, 1);
                break Answer::Ours(reset("connection termination"), edits);
            }
            Ended::Ours(reply) => {
                slab.cluster_add(cluster.slot, ClusterCell::ResetByUs, 1);
                break Answer::Ours(reply, edits);
            }
            Ended::Switched(outcome) => {
                worker.buffers.put(out);
                let idle = action.timeouts.idle;
                let switched = Switched { upstream, cluster: cluster.slot, idle };
                return Answer::Switched(outcome, Box::new(switched));
            }
            Ended::Answered { outcome, reusable } => {
                if tries > 0 {
                    slab.cluster_add(cluster.slot, ClusterCell::RetrySuccess, 1);
                }
                if reusable {
                    upstream.rest(now.ms());
                } else if attempt.record.flags.contains(Flags::DC)
                    && repeatable(attempt.request.view.method(), false)
                {
                    upstream.stream.cut();
                }
                break Answer::Sent(outcome);
            }
        }
    };
    worker.buffers.put(out);
    slab.cluster_sub(cluster.slot, ClusterCell::RequestsActive, 1);
    if let (Answer::Sent(_), Some(now)) = (&answer, record.ended) {
        record.count_upstream_status(worker, cluster.slot);
        record.count_upstream_end(worker, cluster.slot, now);
        if request.settings.grpc_stats.as_ref().is_some_and(|stats| stats.upstream) {
            record.count_call_time(worker, now);
        }
        return answer;
    }
    // Ours has yet to be sent.
    record.ended = None;
    if let Answer::Ours(reply, _) = &answer
        && reply.flags.contains(Flags::UT)
    {
        slab.cluster_add(cluster.slot, ClusterCell::RequestTimeouts, 1);
    }
    answer
}

/// Whether a request of which no byte of an answer came may be sent again, on a new connection.
///
/// RFC 9112 §9.3.1: a reused connection may have been closed under the request, so that idempotent
/// methods (RFC 9110 §9.2.2) are repeated. A new one that ends in silence belongs to an endpoint
/// that stops: safe methods (§9.2.1) are repeated elsewhere. Of what is not idempotent nobody knows
/// whether it was done: it is never repeated (§9.2.2), and looks at its connection before it leaves.
fn repeatable(method: &[u8], reused: bool) -> bool {
    match method {
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" => true,
        b"PUT" | b"DELETE" => reused,
        _ => false,
    }
}

/// Hash of the request's key, and the cookie that its answer has to set, if the route has one.
fn affinity<'a>(request: &mut Request<'a>, action: &'a Forward) -> Option<u64> {
    let key = action.hash.as_deref()?;
    let Affinity { key: hash, give } = key.of(&Caller {
        head: request.view,
        client: request.forwarded.client,
        peer: request.cx.origin.peer,
        local: request.cx.origin.local,
    });
    if let (HashKey::Cookie(cookie), Some(value)) = (key, give) {
        request.set_cookie = Some((cookie, value));
    }
    hash
}

/// The Host that the upstream sees.
pub(super) fn host<'h>(request: &Request<'h>, action: &'h Forward) -> &'h [u8] {
    match &action.host {
        HostRewrite::Keep => request.target.authority,
        HostRewrite::Literal(host) => host.as_bytes(),
        HostRewrite::Auto => action.cluster.spec.host.as_bytes(),
    }
}

pub(super) fn write_head(
    request: &Request<'_>,
    route: &Route,
    action: &Forward,
    host: &[u8],
    record: &Record,
    out: &mut Vec<u8>,
) {
    let target = &request.target;
    let tls = request.cx.origin.tls.as_ref();
    let told = tls.and_then(|tls| tls.told(&request.settings));
    let mutual = tls.is_some_and(|tls| tls.certificate.is_some());
    let connect = request.view.method() == b"CONNECT";
    let head = RequestHead {
        view: request.view,
        // RFC 9112 §3.2.3: CONNECT goes to an authority.
        target: match request.rewritten {
            _ if connect => host,
            Some(path) => path,
            None => target.path_and_query,
        },
        original_path: request.rewritten.map(|_| target.path_and_query),
        host,
        framing: request.meta.framing,
        request_id: request.request_id,
        forwarded_for: request.forwarded_for,
        secure: request.forwarded.secure,
        internal: request.forwarded.internal,
        client: request.forwarded.client,
        edge: request.forwarded.edge,
        timeout_ms: action.timeouts.request.map(|t| t.as_millis() as u64),
        suppress_envoy_headers: request.settings.suppress_envoy_headers,
        // Whatever the client reads: a server of gRPC insists.
        te_trailers: request.meta.te_trailers || request.web.is_some() || request.is_bridged(),
        keeps_client_cert: request.settings.client_certificates.keeps(mutual),
        client_cert: told.as_deref().unwrap_or_default(),
        upgrade: request.upgrade(),
        grpc_type: request.web.as_ref().map(|web| &*web.grpc_type),
    };
    // Envoy composes added headers before the rewrite: they say the path that the client asked for.
    relay::request_head(out, &head, &route.request_headers, || Facts {
        rewritten_path: None,
        ..request.facts(record, None, record.started)
    });
}

/// How a try to get an answer ended.
enum Ended {
    /// No byte of an answer came.
    Silent,
    /// The same, and the upstream says that it has not begun with the request.
    Unprocessed,
    /// Nothing was sent to the client: we answer.
    Ours(Reply),
    /// An answer went to the client, as far as the outcome says.
    Answered { outcome: Outcome, reusable: bool },
    /// The answer that opens a tunnel went to the client.
    Switched(Outcome),
}

/// One request on one upstream connection.
struct Attempt<'t, 'a> {
    request: &'t Request<'a>,
    route: &'t Manner,
    timeouts: Timeouts,
    client: &'t mut Stream,
    received: &'t mut Received,
    record: &'t mut Record,
    /// Bytes of what is sent that are its head.
    head: usize,
    /// Bytes of the connection's buffer that belong to the request.
    consumed: usize,
    /// The whole request is at hand.
    complete: bool,
    /// `100 Continue` went out.
    continued: bool,
}

impl Attempt<'_, '_> {
    async fn run(
        &mut self,
        upstream: &mut Upstream,
        out: Vec<u8>,
        body: &mut Body,
        first: bool,
        call_deadline: Option<u64>,
    ) -> (Ended, Vec<u8>) {
        let worker = self.request.cx.worker;
        let shared = Shared {
            worker,
            client: &self.client.timer.clone(),
            stream: self.client.h2().cloned(),
            upstream: &upstream.stream.timer.clone(),
            timeouts: self.timeouts,
            uploaded: Cell::new(false),
            deadline: Cell::new(call_deadline),
            call_deadline,
            discard: Cell::new(false),
            gone: Cell::new(false),
        };
        let Stream { reader: from, writer: to, .. } = &mut upstream.stream;
        let mut down = Download {
            request: self.request,
            route: self.route,
            received: &mut *self.received,
            record: &mut *self.record,
            spent: Vec::new(),
            long: &upstream.endpoint.long,
            filled: false,
        };
        if self.complete {
            // Choosing a pooled connection takes no time that a clock would show.
            let at_once = down.record.received.filter(|_| first && upstream.reused);
            let now = at_once.unwrap_or_else(|| worker.timers.look());
            down.record.sent = Some(now);
            shared.complete(now);
            let sent;
            // What follows a request for a tunnel is the tunnel's.
            let end = self.request.asked.is_none().then_some(&*body.trailers);
            (sent, down.spent) = to.send_message(out, self.head, end).await;
            // An upstream that stopped reading may have answered already.
            let ended = down.run(&shared, from, &mut self.client.writer).await;
            let out = std::mem::take(&mut down.spent);
            let ended = match ended {
                Downloaded::Silent if sent.is_err() => Downloaded::Silent,
                other => other,
            };
            return (self.conclude(ended, None, &shared), out);
        }
        if self.request.meta.expect_continue && !self.continued {
            self.continued = true;
            let line = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            if self.client.writer.send_interim(line).await.is_err() {
                let ended = self.conclude(Downloaded::Client, None, &shared);
                return (ended, out);
            }
        }
        down.record.sent = Some(worker.timers.look());
        let Stream { reader, writer, .. } = &mut *self.client;
        let upload = async {
            let (uploaded, out) = upload(&shared, reader, to, body, out, self.head).await;
            match &uploaded {
                Uploaded::Complete { .. } | Uploaded::Discarded { .. } => {}
                // The upstream may still have something to say.
                Uploaded::Upstream => shared.arm_upstream(worker.timers.now()),
                // Nobody waits for the answer to a request that never became whole.
                _ => shared.upstream.stop(Direction::Both),
            }
            (uploaded, out)
        };
        let download = async {
            let ended = down.run(&shared, from, writer).await;
            if !shared.uploaded.get() {
                shared.discard.set(true);
                shared.upstream.stop(Direction::Both);
                if shared.stream.is_some() {
                    // What still comes of one stream is in nobody's way.
                    shared.client.stop(Direction::Read);
                }
                worker.timers.arm(shared.client, worker.timers.now(), DISCARD, Direction::Read);
            }
            ended
        };
        // Boxed: most requests are at hand whole, and have no room for two directions.
        let ((uploaded, out), ended) = Box::pin(rt::join(upload, download)).await;
        self.record.bytes_received = body.seen;
        (self.conclude(ended, Some(uploaded), &shared), out)
    }

    /// Puts the ends of both directions together.
    fn conclude(
        &mut self,
        downloaded: Downloaded,
        uploaded: Option<Uploaded>,
        shared: &Shared<'_>,
    ) -> Ended {
        let request = self.request;
        let slab = &request.cx.worker.slab;
        let listener = request.cx.listener.slot;
        let mut outcome = Outcome {
            consumed: self.consumed,
            leftover: None,
            // Decided with the answer's head, once: a drain that begins after it closes nothing that
            // the client was not told about.
            close: false,
            linger: false,
            upgraded: None,
        };
        let mut whole = true;
        match uploaded {
            None => {}
            Some(Uploaded::Complete { leftover } | Uploaded::Discarded { leftover }) => {
                outcome.leftover = Some(leftover);
                whole = shared.uploaded.get();
            }
            Some(fault) => {
                whole = false;
                outcome.close = true;
                outcome.linger = true;
                if !matches!(downloaded, Downloaded::Answered { .. } | Downloaded::Broken { .. }) {
                    match fault {
                        Uploaded::Refused(error) => return Ended::Ours(body_refused(error)),
                        Uploaded::TimedOut => {
                            slab.listener_add(listener, ListenerCell::RequestTimeouts, 1);
                            let text = "request timeout";
                            let reply = Reply::new(408, Flags::SI, "request_body_timeout", text);
                            return Ended::Ours(reply.closing());
                        }
                        Uploaded::Client => {
                            self.record.flag(Flags::DC);
                            self.record.details = "downstream_remote_disconnect";
                            return Ended::Answered { outcome, reusable: false };
                        }
                        _ => {}
                    }
                }
            }
        }
        match downloaded {
            Downloaded::Silent if !whole => Ended::Ours(reset("connection termination").closing()),
            Downloaded::Silent => Ended::Silent,
            Downloaded::Unprocessed if whole => Ended::Unprocessed,
            Downloaded::Unprocessed => Ended::Ours(stream_reset().closing()),
            Downloaded::Refused(reply) if whole => Ended::Ours(reply),
            Downloaded::Refused(reply) => Ended::Ours(reply.closing()),
            Downloaded::Switched => Ended::Switched(outcome),
            Downloaded::Answered { reusable, close } => {
                outcome.close |= close;
                Ended::Answered { outcome, reusable: reusable && whole }
            }
            Downloaded::Broken { flag, reset } => {
                self.record.flag(flag);
                slab.listener_add(listener, ListenerCell::ResetByUs, 1);
                self.client.break_off(reset);
                outcome.close = true;
                outcome.linger = false;
                outcome.consumed = request.view.block.len();
                Ended::Answered { outcome, reusable: false }
            }
            Downloaded::Client => {
                self.record.flag(Flags::DC);
                self.record.details = "downstream_remote_disconnect";
                outcome.close = true;
                outcome.linger = false;
                outcome.consumed = request.view.block.len();
                Ended::Answered { outcome, reusable: false }
            }
        }
    }
}
