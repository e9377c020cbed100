// SPDX-License-Identifier: Apache-2.0
//! A request's way upstream and its answer's way back.
//!
//! The request's head goes out together with what is at hand of its body. If that is all of it,
//! one send and one receive follow; else [`upload`] and [`download`] run side by side, each with
//! one buffer in flight, so that a slow reader on either side holds back the other.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway_core::ir::Transport;
use ringway_core::limits::{
    BODY_PROGRESS_TIMEOUT, BUFFER_BYTES, HEAD_BYTES_MAX, HEAD_FIELDS_MAX, INTERIM_RESPONSES_MAX,
    REQUEST_LINE_BYTES_MAX, STREAM_IDLE_TIMEOUT,
};
use ringway_core::observe::metric::{ClusterCell, ListenerCell};
use ringway_core::policy::format::{Facts, Flags};
use ringway_core::policy::relay::{self, RequestHead, ResponseHead};
use ringway_core::policy::rewrite::HostRewrite;
use ringway_core::policy::timeouts::Timeouts;
use ringway_core::table::{Forward, Route};
use ringway_core::wire::h1::body::{Decoder, Step};
use ringway_core::wire::h1::encode;
use ringway_core::wire::h1::framing::{self, ResponseMeta};
use ringway_core::wire::h1::parse::{self, Limits, ParseError, Parsed};
use ringway_core::wire::{Framing, Head, HeadView, Known};

use super::exchange::{Answer, Outcome, Received, Request};
use super::record::Record;
use super::reply::Reply;
use crate::net::socket::{self, Direction};
use crate::net::stream::{Reader, Stream, Writer};
use crate::net::timer::Timer;
use crate::rt;
use crate::upstream::{self, NoUpstream};
use crate::worker::state::Upstream;
use crate::worker::{Local, Worker};

/// What is thrown away of a request's body after its answer was complete; beyond, the connection
/// is cut.
const DISCARD_BYTES_MAX: usize = 256 * 1024;
const DISCARD: Duration = Duration::from_millis(1000);

/// Sends the request to the route's cluster and the answer to the client.
pub(crate) async fn forward<'a>(
    request: &mut Request<'a>,
    route: &'a Local<Route>,
    action: &Forward,
    client: &mut Stream,
    path: &'a mut Vec<u8>,
    received: &mut Received,
    record: &mut Record,
) -> Answer<'a> {
    let worker = request.cx.worker;
    let cluster = &*action.cluster;
    record.cluster = Some(cluster.slot);
    let edits = Some(&route.response_headers);
    if cluster.spec.transport != Transport::Cleartext {
        record.transport_failure = "this transport is not served yet";
        return Answer::Ours(unavailable(NoUpstream::Refused), edits);
    }
    let state = worker.cluster(cluster.slot);

    path.clear();
    if action.path.apply(request.target.path, path) {
        if let Some(query) = request.target.query {
            path.push(b'?');
            path.extend_from_slice(query);
        }
        request.rewritten = Some(path);
    }
    let mut out = worker.buffers.take();
    write_head(request, route, action, record, &mut out);
    let mut body = Body {
        decoder: Decoder::new(request.meta.framing),
        framing: request.meta.framing,
        max: request.settings.body_bytes_max.unwrap_or(u64::MAX),
        seen: 0,
    };
    let head_len = request.view.head.len;
    let at_hand = match body.encode(&request.view.block[head_len..], &mut out) {
        Ok(at_hand) => at_hand,
        Err(error) => {
            worker.buffers.put(out);
            return Answer::Ours(body_refused(error), edits);
        }
    };
    record.bytes_received = body.seen;
    if at_hand.complete {
        record.received = Some(Instant::now());
    }

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
        consumed: head_len + at_hand.taken,
        complete: at_hand.complete,
        continued: false,
    };
    let mut tries = 0;
    let answer = loop {
        let found = upstream::acquire(worker, cluster, &state, tries > 0).await;
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
        (ended, out) = attempt.run(&mut upstream, out, &mut body).await;
        match ended {
            // RFC 9110 §9.2.2, RFC 9112 §9.3.1: a reused connection may have been closed under
            // the request; nothing of an answer came, so what is safe to repeat is repeated.
            Ended::Silent if upstream.reused && attempt.complete && tries == 0 => {
                if !repeatable(request_method(attempt.request)) {
                    break Answer::Ours(reset("connection termination"), edits);
                }
                slab.cluster_add(cluster.slot, ClusterCell::Retries, 1);
                tries += 1;
            }
            Ended::Silent => {
                slab.cluster_add(cluster.slot, ClusterCell::ResetByUpstream, 1);
                break Answer::Ours(reset("connection termination"), edits);
            }
            Ended::Ours(reply) => {
                slab.cluster_add(cluster.slot, ClusterCell::ResetByUs, 1);
                break Answer::Ours(reply, edits);
            }
            Ended::Answered { outcome, reusable } => {
                if tries > 0 {
                    slab.cluster_add(cluster.slot, ClusterCell::RetrySuccess, 1);
                }
                if reusable {
                    upstream.rest(worker.timers.now());
                }
                break Answer::Sent(outcome);
            }
        }
    };
    worker.buffers.put(out);
    slab.cluster_sub(cluster.slot, ClusterCell::RequestsActive, 1);
    if let Answer::Sent(_) = answer {
        record.count_upstream(worker, cluster.slot, Instant::now());
    } else if let Answer::Ours(reply, _) = &answer
        && reply.flags.contains(Flags::UT)
    {
        slab.cluster_add(cluster.slot, ClusterCell::RequestTimeouts, 1);
    }
    answer
}

fn request_method<'a>(request: &Request<'a>) -> &'a [u8] {
    request.view.method()
}

/// RFC 9110 §9.2.2: idempotent methods.
fn repeatable(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
}

fn write_head(
    request: &Request<'_>,
    route: &Route,
    action: &Forward,
    record: &Record,
    out: &mut Vec<u8>,
) {
    let target = &request.target;
    let host = match &action.host {
        HostRewrite::Keep => target.authority,
        HostRewrite::Literal(host) => host.as_bytes(),
        HostRewrite::Auto => action.cluster.spec.host.as_bytes(),
    };
    let head = RequestHead {
        view: request.view,
        target: request.rewritten.unwrap_or(target.path_and_query),
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
        underscores: request.settings.headers_with_underscores,
        te_trailers: request.meta.te_trailers,
    };
    // Envoy composes added headers before the rewrite: they say the path that the client asked for.
    relay::request_head(out, &head, &route.request_headers, || Facts {
        rewritten_path: None,
        ..request.facts(record, None, record.started)
    });
}

/// A request's body on its way: decoded as it came, framed anew.
struct Body {
    decoder: Decoder,
    framing: Framing,
    max: u64,
    /// Bytes of content so far.
    seen: u64,
}

/// How far some received bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    taken: usize,
    complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyError {
    Framing(ParseError),
    TooLarge,
}

impl Body {
    /// Appends what these bytes hold of the body, framed for the upstream.
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Taken, BodyError> {
        let mut at = 0;
        loop {
            match self.decoder.step(&input[at..]).map_err(BodyError::Framing)? {
                Step::Data { skip, len } => {
                    let data = &input[at + skip..][..len];
                    at += skip + len;
                    self.seen += len as u64;
                    if self.seen > self.max {
                        return Err(BodyError::TooLarge);
                    }
                    append(out, self.framing, data);
                }
                Step::More { skip } => return Ok(Taken { taken: at + skip, complete: false }),
                Step::End { skip } => {
                    if self.framing == Framing::Chunked {
                        encode::last_chunk(out, self.decoder.trailers());
                    }
                    return Ok(Taken { taken: at + skip, complete: true });
                }
            }
        }
    }
}

/// Appends body bytes in this framing.
fn append(out: &mut Vec<u8>, framing: Framing, data: &[u8]) {
    if framing == Framing::Chunked {
        encode::chunk_head(out, data.len());
        out.extend_from_slice(data);
        encode::chunk_end(out);
    } else {
        out.extend_from_slice(data);
    }
}

/// What upload and download tell each other.
struct Shared<'s> {
    worker: &'s Rc<Worker>,
    client: &'s Rc<Timer>,
    upstream: &'s Rc<Timer>,
    timeouts: Timeouts,
    /// The whole request went upstream.
    uploaded: Cell<bool>,
    /// When the answer must be complete, in the worker's milliseconds.
    deadline: Cell<Option<u64>>,
    /// The answer is over: what the client still sends is thrown away.
    discard: Cell<bool>,
}

impl Shared<'_> {
    /// The request is complete: the time for the answer starts.
    fn complete(&self, now: Instant) {
        self.uploaded.set(true);
        let now = self.worker.timers.at(now);
        self.deadline.set(self.timeouts.request.map(|t| now + t.as_millis() as u64));
        self.arm_upstream(now);
    }

    /// The next operation on the upstream ends by the request's deadline or when nothing moves.
    fn arm_upstream(&self, now: u64) {
        let left = self.deadline.get().map(|at| Duration::from_millis(at.saturating_sub(now)));
        let patience = match (left, self.timeouts.idle) {
            (Some(left), Some(idle)) => left.min(idle),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return self.upstream.disarm(),
        };
        self.worker.timers.arm(self.upstream, now, patience, Direction::Both);
    }

    /// The client must take what we send, or send what we wait for.
    fn arm_client(&self, now: u64, patience: Option<Duration>, direction: Direction) {
        match patience {
            Some(patience) => self.worker.timers.arm(self.client, now, patience, direction),
            None => self.client.disarm(),
        }
    }
}

/// How a try to get an answer ended.
enum Ended {
    /// No byte of an answer came.
    Silent,
    /// Nothing was sent to the client: we answer.
    Ours(Reply),
    /// An answer went to the client, as far as the outcome says.
    Answered { outcome: Outcome, reusable: bool },
}

/// One request on one upstream connection.
struct Attempt<'t, 'a> {
    request: &'t Request<'a>,
    route: &'t Route,
    timeouts: Timeouts,
    client: &'t mut Stream,
    received: &'t mut Received,
    record: &'t mut Record,
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
    ) -> (Ended, Vec<u8>) {
        let worker = self.request.cx.worker;
        let shared = Shared {
            worker,
            client: &self.client.timer.clone(),
            upstream: &upstream.stream.timer.clone(),
            timeouts: self.timeouts,
            uploaded: Cell::new(false),
            deadline: Cell::new(None),
            discard: Cell::new(false),
        };
        let Stream { reader: from, writer: to, .. } = &mut upstream.stream;
        let mut down = Download {
            request: self.request,
            route: self.route,
            received: &mut *self.received,
            record: &mut *self.record,
        };
        if self.complete {
            let now = Instant::now();
            down.record.sent = Some(now);
            shared.complete(now);
            let (sent, out) = to.send(out, 0).await;
            // An upstream that stopped reading may have answered already.
            let ended = down.run(&shared, from, &mut self.client.writer).await;
            let ended = match ended {
                Downloaded::Silent if sent.is_err() => Downloaded::Silent,
                other => other,
            };
            return (self.conclude(ended, None, &shared), out);
        }
        if self.request.meta.expect_continue && !self.continued {
            self.continued = true;
            let line = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            if self.client.writer.send(line, 0).await.0.is_err() {
                let ended = self.conclude(Downloaded::Client, None, &shared);
                return (ended, out);
            }
        }
        down.record.sent = Some(Instant::now());
        let Stream { reader, writer, .. } = &mut *self.client;
        let upload = async {
            let (uploaded, out) = upload(&shared, reader, to, body, out).await;
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
                worker.timers.arm(shared.client, worker.timers.now(), DISCARD, Direction::Read);
            }
            ended
        };
        let ((uploaded, out), ended) = rt::join(upload, download).await;
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
            close: request.closes(),
            linger: false,
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
            Downloaded::Refused(reply) if whole => Ended::Ours(reply),
            Downloaded::Refused(reply) => Ended::Ours(reply.closing()),
            Downloaded::Answered { reusable, close } => {
                outcome.close |= close;
                Ended::Answered { outcome, reusable: reusable && whole }
            }
            Downloaded::Broken { flag, reset } => {
                self.record.flag(flag);
                slab.listener_add(listener, ListenerCell::ResetByUs, 1);
                if reset {
                    socket::reset_on_close(shared.client.fd());
                }
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

/// How sending the request's body ended.
enum Uploaded {
    /// All of it went upstream; these bytes came after it.
    Complete {
        leftover: Vec<u8>,
    },
    /// The answer was over first; the rest of the body was thrown away.
    Discarded {
        leftover: Vec<u8>,
    },
    Refused(BodyError),
    TimedOut,
    /// The client went away.
    Client,
    /// The upstream takes no more.
    Upstream,
    /// The answer was over first, and the client did not stop.
    Endless,
}

/// Sends what is at hand, then the rest of the body as it comes.
async fn upload(
    shared: &Shared<'_>,
    client: &mut Reader,
    upstream: &mut Writer,
    body: &mut Body,
    mut out: Vec<u8>,
) -> (Uploaded, Vec<u8>) {
    let worker = shared.worker;
    // `timeout_ms: 0` is for streams, which may rest; a Mapping's own idle time-out says how long.
    let progress = match (shared.timeouts.request, shared.timeouts.idle) {
        (Some(_), Some(STREAM_IDLE_TIMEOUT)) => Some(BODY_PROGRESS_TIMEOUT),
        (_, idle) => idle,
    };
    let mut chunk = worker.buffers.take();
    let (mut discarded, mut complete) = (0, false);
    let uploaded = loop {
        if !shared.discard.get() {
            shared.arm_upstream(worker.timers.now());
            let sent;
            (sent, out) = upstream.send(out, 0).await;
            if sent.is_err() && !shared.discard.get() {
                break Uploaded::Upstream;
            }
        }
        out.clear();
        if complete {
            // What is left in `chunk` came after the body.
            let leftover = std::mem::take(&mut chunk);
            if shared.discard.get() {
                break Uploaded::Discarded { leftover };
            }
            shared.complete(Instant::now());
            break Uploaded::Complete { leftover };
        }
        if discarded > DISCARD_BYTES_MAX {
            break Uploaded::Endless;
        }
        if !shared.discard.get() {
            // While the client is waited for, the upstream is not expected to say anything.
            shared.upstream.disarm();
            shared.arm_client(worker.timers.now(), progress, Direction::Read);
        }
        chunk.clear();
        let received;
        (received, chunk) = client.recv(chunk).await;
        match received {
            Ok(n) if n > 0 => {}
            _ if shared.discard.get() => break Uploaded::Endless,
            _ if shared.client.take_fired() => break Uploaded::TimedOut,
            _ => break Uploaded::Client,
        }
        if shared.discard.get() {
            discarded += chunk.len();
        } else {
            shared.client.disarm();
        }
        match body.encode(&chunk, &mut out) {
            Ok(taken) => {
                complete = taken.complete;
                chunk.drain(..taken.taken);
            }
            Err(error) => break Uploaded::Refused(error),
        }
    };
    if chunk.capacity() > 0 {
        worker.buffers.put(chunk);
    }
    (uploaded, out)
}

/// How the answer's way to the client ended.
enum Downloaded {
    /// No byte of an answer came.
    Silent,
    /// Something came or failed, but nothing went to the client.
    Refused(Reply),
    Answered {
        reusable: bool,
        close: bool,
    },
    /// The upstream failed after the answer's head had gone out. Where the body's end is the
    /// connection's, only a reset tells the client.
    Broken {
        flag: Flags,
        reset: bool,
    },
    /// The client did not take the answer.
    Client,
}

/// The answer's way back.
struct Download<'d, 'a> {
    request: &'d Request<'a>,
    route: &'d Route,
    received: &'d mut Received,
    record: &'d mut Record,
}

impl Download<'_, '_> {
    async fn run(
        &mut self,
        shared: &Shared<'_>,
        upstream: &mut Reader,
        client: &mut Writer,
    ) -> Downloaded {
        let Received { mut head, block } = std::mem::take(self.received);
        let buffer = match block.capacity() {
            0 => shared.worker.buffers.take(),
            _ => block,
        };
        let (received, buffer) =
            self.receive_head(shared, upstream, client, &mut head, buffer).await;
        let downloaded = match received {
            Ok(meta) => {
                let view = HeadView::new(&head, &buffer);
                self.relay(shared, upstream, client, meta, view).await
            }
            Err(downloaded) => downloaded,
        };
        *self.received = Received { head, block: buffer };
        downloaded
    }

    /// Receives until a final head is there; forwards interim ones.
    async fn receive_head(
        &mut self,
        shared: &Shared<'_>,
        upstream: &mut Reader,
        client: &mut Writer,
        head: &mut Head,
        mut buffer: Vec<u8>,
    ) -> (Result<ResponseMeta, Downloaded>, Vec<u8>) {
        let worker = shared.worker;
        buffer.clear();
        let limits = Limits {
            head_bytes_max: HEAD_BYTES_MAX,
            fields_max: HEAD_FIELDS_MAX,
            request_line_bytes_max: REQUEST_LINE_BYTES_MAX,
        };
        let (mut scanned, mut interim) = (0, 0);
        loop {
            if !buffer.is_empty() {
                match parse::response(&buffer, head, &limits, &mut scanned) {
                    Ok(Parsed::Partial) => {}
                    Err(error) => return (Err(bad_answer(error.details())), buffer),
                    Ok(Parsed::Complete) if head.status == 101 => {
                        // RFC 9110 §15.2.2: nobody asked to switch.
                        return (Err(bad_answer("http1.unasked_upgrade")), buffer);
                    }
                    Ok(Parsed::Complete) if head.status < 200 => {
                        interim += 1;
                        if interim > INTERIM_RESPONSES_MAX {
                            return (Err(bad_answer("http1.too_many_interim")), buffer);
                        }
                        if !self.interim(client, HeadView::new(head, &buffer)).await {
                            return (Err(Downloaded::Client), buffer);
                        }
                        buffer.drain(..head.len);
                        scanned = 0;
                        continue;
                    }
                    Ok(Parsed::Complete) => {
                        self.record.answered = Some(Instant::now());
                        let view = HeadView::new(head, &buffer);
                        let meta = framing::response_meta(view, self.request.is_head());
                        let meta = meta.map_err(|error| bad_answer(error.details()));
                        return (meta, buffer);
                    }
                }
                if buffer.len() == buffer.capacity() {
                    buffer.reserve(BUFFER_BYTES);
                }
            }
            let silent = buffer.is_empty() && interim == 0;
            let received;
            (received, buffer) = upstream.recv(buffer).await;
            match received {
                Ok(n) if n > 0 => {}
                _ if shared.upstream.take_fired() => {
                    return (Err(Downloaded::Refused(self.timed_out(shared))), buffer);
                }
                _ if silent => return (Err(Downloaded::Silent), buffer),
                _ => return (Err(bad_answer("upstream_reset_in_head")), buffer),
            }
            if shared.uploaded.get() {
                shared.arm_upstream(worker.timers.now());
            }
        }
    }

    fn timed_out(&self, shared: &Shared<'_>) -> Reply {
        let now = shared.worker.timers.now();
        match shared.deadline.get() {
            Some(at) if now >= at => {
                let text = "upstream request timeout";
                Reply::new(504, Flags::UT, "upstream_response_timeout", text)
            }
            // Envoy: 504 once the request is complete, 408 before.
            _ if shared.uploaded.get() => {
                Reply::new(504, Flags::SI, "stream_idle_timeout", "stream timeout")
            }
            _ => Reply::new(408, Flags::SI, "stream_idle_timeout", "stream timeout").closing(),
        }
    }

    /// Forwards an interim answer (RFC 9110 §15.2), except to HTTP/1.0 clients, and except the
    /// 100 that we have given ourselves.
    async fn interim(&self, client: &mut Writer, view: HeadView<'_>) -> bool {
        if self.request.http10() || view.head.status == 100 {
            return true;
        }
        let hop = framing::Hop::of(view);
        let mut out = Vec::with_capacity(view.head.len);
        encode::status_line(&mut out, view.head.status, view.target());
        for (known, name, value) in view.fields().filter(|(k, n, _)| hop.passes(*k, n)) {
            if known != Known::ContentLength {
                encode::field(&mut out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
        client.send(out, 0).await.0.is_ok()
    }

    /// Sends the head with what is at hand of the body, then the rest as it comes.
    async fn relay(
        &mut self,
        shared: &Shared<'_>,
        upstream: &mut Reader,
        client: &mut Writer,
        meta: ResponseMeta,
        view: HeadView<'_>,
    ) -> Downloaded {
        let worker = shared.worker;
        let request = self.request;
        let framing = match meta.framing {
            Framing::Chunked | Framing::UntilClose if request.http10() => Framing::UntilClose,
            Framing::UntilClose => Framing::Chunked,
            same => same,
        };
        let close = request.closes() || framing == Framing::UntilClose;
        self.record.status = view.head.status;
        self.record.details = "via_upstream";
        let mut out = worker.buffers.take();
        self.write_head(view, framing, close, &mut out);
        let mut body = Content { decoder: Decoder::new(meta.framing), framing };
        let broken = |flag| Downloaded::Broken { flag, reset: framing == Framing::UntilClose };
        let mut at_hand = &view.block[view.head.len..];
        let mut chunk = Vec::new();
        let mut begun = false;
        let downloaded = loop {
            let (taken, complete, content) = match body.encode(at_hand, &mut out) {
                Ok(encoded) => encoded,
                Err(error) if !begun => break bad_answer(error.details()),
                Err(_) => break broken(Flags::UPE),
            };
            begun = true;
            self.record.bytes_sent += content;
            // RFC 9112 §9.2: bytes after a complete answer belong to no request of ours.
            let reusable = complete && taken == at_hand.len() && meta.keep_alive;
            if !out.is_empty() {
                if shared.uploaded.get() {
                    let now = worker.timers.now();
                    shared.arm_client(now, shared.timeouts.idle, Direction::Both);
                }
                let result;
                (result, out) = client.send(out, 0).await;
                out.clear();
                if result.is_err() {
                    break Downloaded::Client;
                }
            }
            if complete {
                break Downloaded::Answered { reusable, close };
            }
            if chunk.capacity() == 0 {
                chunk = worker.buffers.take();
            }
            chunk.clear();
            if shared.uploaded.get() {
                shared.arm_upstream(worker.timers.now());
            }
            let received;
            (received, chunk) = upstream.recv(chunk).await;
            match received {
                Ok(n) if n > 0 => at_hand = &chunk,
                Ok(_) if !shared.upstream.take_fired() && body.decoder.finish().is_ok() => {
                    if framing == Framing::Chunked {
                        encode::last_chunk(&mut out, b"");
                        if client.send(std::mem::take(&mut out), 0).await.0.is_err() {
                            break Downloaded::Client;
                        }
                    }
                    break Downloaded::Answered { reusable: false, close };
                }
                _ if shared.deadline.get().is_some_and(|at| worker.timers.now() >= at) => {
                    break broken(Flags::UT);
                }
                _ => break broken(Flags::UC),
            }
        };
        if chunk.capacity() > 0 {
            worker.buffers.put(chunk);
        }
        if out.capacity() > 0 {
            worker.buffers.put(out);
        }
        downloaded
    }

    fn write_head(&self, view: HeadView<'_>, framing: Framing, close: bool, out: &mut Vec<u8>) {
        let (request, record) = (self.request, &*self.record);
        let now = record.answered.unwrap_or(record.started);
        let service_time = record
            .sent
            .filter(|_| !request.settings.suppress_envoy_headers)
            .map(|sent| now.saturating_duration_since(sent).as_millis() as u64);
        let bodyless_length = (framing == Framing::None && view.head.status != 204)
            .then(|| view.known(Known::ContentLength))
            .flatten()
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        let head = ResponseHead {
            view,
            framing,
            http10: request.http10(),
            close,
            server: request.settings.server_name.as_bytes(),
            date: &request.cx.worker.clock.date(now),
            service_time_ms: service_time,
            bodyless_length,
        };
        relay::response_head(out, &head, &self.route.response_headers, || {
            request.facts(record, Some(view), now)
        });
    }
}

/// An answer's body on its way: decoded as it came, framed for the client.
struct Content {
    decoder: Decoder,
    framing: Framing,
}

impl Content {
    /// Appends what these bytes hold of the body: bytes taken, whether it is complete, bytes of
    /// content.
    fn encode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, bool, u64), ParseError> {
        let (mut at, mut content) = (0, 0);
        loop {
            match self.decoder.step(&input[at..])? {
                Step::Data { skip, len } => {
                    append(out, self.framing, &input[at + skip..][..len]);
                    at += skip + len;
                    content += len as u64;
                }
                Step::More { skip } => return Ok((at + skip, false, content)),
                Step::End { skip } => {
                    if self.framing == Framing::Chunked {
                        encode::last_chunk(out, self.decoder.trailers());
                    }
                    return Ok((at + skip, true, content));
                }
            }
        }
    }
}

fn bad_answer(details: &'static str) -> Downloaded {
    let text =
        "upstream connect error or disconnect/reset before headers. reset reason: protocol error";
    Downloaded::Refused(Reply::new(502, Flags::UPE, details, text))
}

fn body_refused(error: BodyError) -> Reply {
    match error {
        BodyError::TooLarge => {
            Reply::new(413, Flags::NONE, "request_payload_too_large", "Payload Too Large").closing()
        }
        BodyError::Framing(error) => {
            let text = encode::reason(error.status());
            Reply::new(error.status(), Flags::DPE, error.details(), text).closing()
        }
    }
}

fn failure_text(error: NoUpstream) -> &'static str {
    match error {
        NoUpstream::NoEndpoint => "",
        NoUpstream::Refused => "delayed connect error: connection refused",
        NoUpstream::TimedOut => "connection timeout",
    }
}

fn unavailable(error: NoUpstream) -> Reply {
    match error {
        NoUpstream::NoEndpoint => {
            Reply::new(503, Flags::UH, "no_healthy_upstream", "no healthy upstream")
        }
        NoUpstream::Refused => Reply::new(
            503,
            Flags::UF,
            "upstream_reset_before_response_started{remote_connection_failure}",
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
        ),
        NoUpstream::TimedOut => Reply::new(
            503,
            Flags::UF,
            "upstream_reset_before_response_started{connection_timeout}",
            "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
        ),
    }
}

fn reset(reason: &str) -> Reply {
    let text = format!(
        "upstream connect error or disconnect/reset before headers. reset reason: {reason}"
    );
    let details = "upstream_reset_before_response_started{connection_termination}";
    Reply::new(503, Flags::UC, details, &text)
}
