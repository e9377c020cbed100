// SPDX-License-Identifier: Apache-2.0
//! One request: its meaning, its route, and who answers it. New readers start here.

use std::cell::RefCell;
use std::rc::Rc;

use ringway_core::ir::settings::Underscores;
use ringway_core::ir::{Refusal, Settings};
use ringway_core::link::Pressure;
use ringway_core::observe::log::push_json_string;
use ringway_core::observe::metric::{ListenerCell, WorkerCell};
use ringway_core::policy::balance::{CookieValue, HashCookie};
use ringway_core::policy::format::{Facts, Flags};
use ringway_core::policy::forwarded::{self, Forwarded};
use ringway_core::policy::grpc;
use ringway_core::policy::headers::HeaderEdits;
use ringway_core::policy::normalize::{self, Target};
use ringway_core::policy::redirect;
use ringway_core::table::{self, Action, Hit, Route};
use ringway_core::wire::grpc_web::{self, Form};
use ringway_core::wire::h1::framing::{self, RequestMeta, RequestRules};
use ringway_core::wire::h1::parse::{Limits, ParseError};
use ringway_core::wire::h2::message;
use ringway_core::wire::{Framing, Head, HeadView, Known, Version};

use super::forward;
use super::record::Record;
use super::reply::{self, Reply};
use super::upgrade::{Switched, Upgraded};
use crate::connection::Origin;
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::net::timer::Moment;
use crate::terminate::Standing;
use crate::worker::{ListenerState, Local, Worker};

/// The connection that an exchange happens on.
pub(crate) struct Connection<'c> {
    pub(crate) worker: &'c Rc<Worker>,
    pub(crate) listener: &'c Rc<ListenerState>,
    pub(crate) origin: &'c Origin,
}

impl Connection<'_> {
    /// Of the heads that its client may send.
    pub(super) fn limits(&self) -> Limits {
        let head_bytes_max = self.worker.view(self.listener).settings.head_bytes_max;
        Limits { head_bytes_max, ..Limits::default() }
    }
}

/// Buffers of a connection that each exchange uses again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    target: Vec<u8>,
    forwarded_for: Vec<u8>,
    path: Vec<u8>,
    pub(crate) received: Received,
}

/// Those of a worker that wait for an exchange on a stream of HTTP/2.
#[derive(Debug, Default)]
pub(crate) struct Scratches(RefCell<Vec<Scratch>>);

impl Scratches {
    /// As many are kept.
    const MAX: usize = 64;
    /// One whose buffers are larger is not.
    const BYTES_MAX: usize = 4096;

    pub(crate) fn take(&self) -> Scratch {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn put(&self, scratch: Scratch) {
        let Scratch { target, forwarded_for, path, .. } = &scratch;
        let bytes = target.capacity() + forwarded_for.capacity() + path.capacity();
        let mut free = self.0.borrow_mut();
        if free.len() < Self::MAX && bytes <= Self::BYTES_MAX {
            free.push(scratch);
        }
    }
}

/// The head of an upstream's answer: kept until the exchange is logged.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) block: Vec<u8>,
}

/// How an exchange left the connection.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Bytes of the connection's buffer that belonged to the request.
    pub(crate) consumed: usize,
    /// Bytes received after the request's body, when the body needed other buffers.
    pub(crate) leftover: Option<Vec<u8>>,
    pub(crate) close: bool,
    /// The client may still be sending.
    pub(crate) linger: bool,
    /// The connection is a tunnel from here on, and what follows the request is the tunnel's.
    pub(crate) upgraded: Option<Box<Upgraded>>,
}

/// A request as everything after routing sees it.
pub(crate) struct Request<'a> {
    pub(crate) cx: &'a Connection<'a>,
    pub(crate) settings: Local<Settings>,
    pub(crate) view: HeadView<'a>,
    pub(crate) meta: RequestMeta,
    /// How the body is delimited that the client sends; what goes upstream may be another one.
    pub(crate) received: Framing,
    pub(crate) target: Target<'a>,
    pub(crate) forwarded: Forwarded,
    pub(crate) forwarded_for: &'a [u8],
    pub(crate) request_id: &'a [u8],
    /// Path and query that went upstream instead of the target's.
    pub(crate) rewritten: Option<&'a [u8]>,
    /// What the answer sets to keep the client at its endpoint.
    pub(crate) set_cookie: Option<(&'a HashCookie, CookieValue)>,
    pub(crate) cluster: &'a str,
    pub(crate) route: Option<&'a Route>,
    pub(crate) asked: Option<Asked<'a>>,
    /// The request is a browser's gRPC call.
    pub(crate) web: Option<Web>,
}

/// A call by gRPC-Web: gRPC for the upstream, and for the client what a browser can read.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    /// How the request's body is written.
    pub(crate) form: Form,
    /// How the answer's is wanted.
    pub(crate) wanted: Form,
    /// The media type that goes upstream.
    pub(crate) grpc_type: Vec<u8>,
}

impl Web {
    fn of(view: HeadView<'_>) -> Option<Self> {
        let (form, encoding) = grpc_web::parse(view.known(Known::ContentType)?)?;
        let mut grpc_type = Vec::new();
        grpc_web::push_grpc_type(encoding, &mut grpc_type);
        let text = view.values("accept").any(|accept| grpc_web::wanted(accept) == Form::Text);
        let wanted = if text { Form::Text } else { Form::Binary };
        Some(Self { form, wanted, grpc_type })
    }

    /// The media type that stands for gRPC's in the answer.
    pub(crate) fn answer_type(&self, grpc_type: &[u8]) -> Vec<u8> {
        let mut answer_type = Vec::new();
        grpc_web::push_web_type(self.wanted, grpc_type, &mut answer_type);
        answer_type
    }
}

/// What a client wants to speak instead of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// RFC 9110 §9.3.6.
    Connect,
    /// RFC 9110 §7.8: empty where the client names several.
    Protocol(&'a [u8]),
}

impl<'a> Asked<'a> {
    fn of(view: HeadView<'a>, meta: &RequestMeta) -> Option<Self> {
        match view.method() {
            b"CONNECT" => Some(Self::Connect),
            _ => meta.upgrade.then(|| Self::Protocol(framing::protocol(view))),
        }
    }

    /// Whether what a request asks for is among these, in lower case.
    fn is_among(self, upgrades: &[Box<str>]) -> bool {
        let name = match self {
            Self::Connect => b"connect",
            Self::Protocol(name) => name,
        };
        upgrades.iter().any(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl<'a> Request<'a> {
    pub(crate) fn is_head(&self) -> bool {
        self.view.method() == b"HEAD"
    }

    pub(crate) fn http10(&self) -> bool {
        self.view.head.version == Version::Http10
    }

    /// Whether it is a gRPC call, by gRPC-Web included.
    pub(super) fn is_call(&self) -> bool {
        self.web.is_some() || grpc::speaks(self.view)
    }

    /// Whoever calls by gRPC, by gRPC-Web included: the media type that answers of ours have then.
    fn grpc_type(&self) -> Option<Vec<u8>> {
        match &self.web {
            Some(web) => Some(web.answer_type(&web.grpc_type)),
            None => grpc::speaks(self.view).then(|| grpc::CONTENT_TYPE.to_vec()),
        }
    }

    /// The call by gRPC-Web that this answer is to be made readable for.
    pub(crate) fn web_of(&self, answer: HeadView<'_>) -> Option<&Web> {
        self.web.as_ref().filter(|_| grpc::speaks(answer))
    }

    /// Whether the client is one of gRPC by HTTP/1.1 that the Module serves.
    pub(crate) fn is_bridged(&self) -> bool {
        self.settings.grpc_http1_bridge
            && self.view.head.version == Version::Http11
            && grpc::speaks(self.view)
    }

    /// The protocol that goes upstream in Upgrade.
    pub(crate) fn upgrade(&self) -> Option<&'a [u8]> {
        match self.asked {
            Some(Asked::Protocol(name)) => Some(name),
            Some(Asked::Connect) | None => None,
        }
    }

    /// Whether this answer makes the connection a tunnel.
    pub(crate) fn switches(&self, answer: HeadView<'_>) -> bool {
        match self.asked {
            None => false,
            Some(Asked::Connect) => (200..300).contains(&answer.head.status),
            Some(Asked::Protocol(name)) => {
                answer.head.status == 101 && framing::switches_to(answer, name)
            }
        }
    }

    /// Whether our side of the connection ends after this exchange in any case.
    pub(crate) fn closes(&self) -> bool {
        // Behind a CONNECT that fails may be bytes that were meant for its tunnel.
        !self.meta.keep_alive
            || self.view.method() == b"CONNECT"
            || self.cx.worker.draining.get()
            || self.cx.listener.closed.get()
    }

    /// What format strings may ask, as far as it is known by now.
    pub(crate) fn facts<'f>(
        &'f self,
        record: &Record,
        response: Option<HeadView<'f>>,
        now: Moment,
    ) -> Facts<'f> {
        let us = |at: Moment| at.us_since(record.started);
        let worker = self.cx.worker;
        Facts {
            request: self.view,
            path: self.target.path_and_query,
            authority: self.target.authority,
            request_id: self.request_id,
            forwarded_for: self.forwarded_for,
            rewritten_path: self.rewritten,
            peer: self.cx.origin.peer,
            client: self.forwarded.client,
            local: self.cx.origin.local,
            secure: self.forwarded.secure,
            version: Some(self.view.head.version),
            start_us: worker.clock.unix_us(record.started),
            response,
            status: record.status,
            flags: record.flags,
            details: record.details,
            bytes_received: record.bytes_received,
            bytes_sent: record.bytes_sent,
            duration_us: us(now),
            request_us: record.received.map(us),
            upstream_us: record.answered.map(us),
            upstream: record.upstream,
            upstream_local: record.upstream_local,
            cluster: self.cluster,
            route: self.route.map_or("", Route::label),
            transport_failure: record.transport_failure,
            tls: self.cx.origin.tls.as_ref().map(|tls| tls.facts()),
        }
    }
}

/// Serves the request whose head is parsed at the start of `block`.
pub(crate) async fn exchange(
    cx: &Connection<'_>,
    stream: &mut Stream,
    block: &[u8],
    head: &mut Head,
    scratch: &mut Scratch,
    started: Moment,
) -> Outcome {
    let worker = cx.worker;
    let slot = cx.listener.slot;
    worker.slab.listener_add(slot, ListenerCell::RequestsTotal, 1);
    worker.slab.listener_add(slot, ListenerCell::RequestsActive, 1);
    let mut record = Record::new(started);
    let serving = worker.view(cx.listener);
    let settings = serving.settings.clone();
    // Before anything looks at the head: a dropped header must not choose a route either.
    if settings.headers_with_underscores == Underscores::DropHeader {
        head.fields.retain(|field| !field.name.of(block).contains(&b'_'));
    }
    let view = HeadView::new(head, block);
    let Some(listener) = serving.table.listener(slot) else {
        // No table has had this listener yet: its socket was bound a moment before its table came.
        let reply = Reply::new(503, Flags::NR, "no_configuration", "no configuration").closing();
        return refuse_with(cx, stream, view, &settings, reply, record).await;
    };

    let rules = RequestRules {
        http10: settings.enable_http10,
        allow_chunked_length: settings.allow_chunked_length,
    };
    let meta = match framing::request_meta(view, &rules) {
        // HTTP/2 need not say how long a body is, nor that there is one. What follows a request for
        // a tunnel is the tunnel's.
        Ok(meta) => match stream.h2() {
            Some(h2) if !(meta.upgrade || view.method() == b"CONNECT") => {
                match message::request_framing(meta.framing, !h2.has_more()) {
                    Ok(framing) => RequestMeta { framing, ..meta },
                    Err(error) => {
                        let reply = Reply::refusal(error.status(), error.details());
                        return refuse_with(cx, stream, view, &settings, reply, record).await;
                    }
                }
            }
            _ => meta,
        },
        Err(error) => {
            let reply = refusal_of(error);
            return refuse_with(cx, stream, view, &settings, reply, record).await;
        }
    };
    if settings.headers_with_underscores == Underscores::RejectRequest
        && view.fields().any(|(_, name, _)| name.contains(&b'_'))
    {
        let details = "http1.unexpected_underscore";
        let reply = Reply::new(400, Flags::NONE, details, "Bad Request").closing();
        return refuse_with(cx, stream, view, &settings, reply, record).await;
    }
    let rules = normalize::Rules {
        merge_slashes: settings.merge_slashes,
        reject_escaped_slashes: settings.reject_requests_with_escaped_slashes,
        strip_port: settings.strip_matching_host_port.then(|| cx.origin.local.port()),
    };
    let target = match normalize::target(view, &rules, &mut scratch.target) {
        Ok(target) => target,
        Err(error) => {
            let reply = Reply::new(error.status(), Flags::NONE, error.details(), "").closing();
            return refuse_with(cx, stream, view, &settings, reply, record).await;
        }
    };

    let forwarded = forwarded::forwarded(
        view,
        cx.origin.peer,
        cx.origin.tls.is_some(),
        settings.use_remote_address,
        listener.l7_depth,
    );
    scratch.forwarded_for.clear();
    forwarded::write_forwarded_for(view, cx.origin.peer, &forwarded, &mut scratch.forwarded_for);
    let roll = worker.random();
    let made = forwarded::request_id(u128::from(roll) << 64 | u128::from(worker.random()));
    let kept = view
        .known(Known::XRequestId)
        // Envoy: an id from inside is kept, one from outside only where the Module says so.
        .filter(|_| settings.preserve_external_request_id || !forwarded.edge)
        .filter(|id| !id.is_empty());

    let asked = table::Request {
        head: view,
        authority: target.authority,
        path: target.path,
        query: target.query,
        secure: forwarded.secure,
    };
    // One draw per request, also across a second routing.
    let standing = cx.origin.tls.as_ref().map_or(Standing::Good, |tls| {
        tls.standing(listener, serving.table.generation, target.authority)
    });
    let decision = match listener.route(&asked, (roll % 100) as u32) {
        _ if standing != Standing::Good => Decision::Misdirected,
        Hit::Forward { route, .. } | Hit::Redirect { route, .. } => {
            Decision::Route(serving.route(route))
        }
        Hit::ToHttps { route } => Decision::ToHttps(serving.route(route)),
        Hit::Refuse { route, refusal } => {
            record.route = route.map(|route| route.slot);
            Decision::Refuse(Refusal { message: refusal.message.clone() })
        }
        Hit::NotFound => Decision::NotFound,
    };
    // From here on the exchange holds its route and the settings, not the table: a download of an
    // hour does not keep an hour's generations alive.
    drop(serving);

    let mut request = Request {
        cx,
        settings,
        view,
        meta,
        received: meta.framing,
        target,
        forwarded,
        forwarded_for: &scratch.forwarded_for,
        request_id: kept.unwrap_or(&made),
        rewritten: None,
        set_cookie: None,
        cluster: "",
        route: None,
        asked: Asked::of(view, &meta),
        web: None,
    };
    if request.settings.grpc_web && view.method() == b"POST" {
        request.web = Web::of(view);
        if request.web.as_ref().is_some_and(|web| web.form == Form::Text)
            && matches!(request.meta.framing, Framing::Length(1..))
        {
            // Base64 is longer than what it stands for.
            request.meta.framing = Framing::Chunked;
        }
    }
    // A body announced to be larger than allowed is refused before anybody reads it.
    let too_large = matches!(
        (meta.framing, request.settings.body_bytes_max),
        (Framing::Length(length), Some(max)) if length > max
    );
    // Probes lead to the admin port, which always answers.
    let overloaded = worker.pressure.get() == Pressure::Refuse && !decision.is_always();
    if overloaded {
        worker.slab.worker_add(WorkerCell::RequestsRefused, 1);
        request.asked = None;
    }
    let mut not_allowed = false;
    if let Some(asked) = request.asked {
        let allowed = decision.allows(asked);
        not_allowed = allowed == Some(false);
        // RFC 9110 §7.8: an Upgrade may be ignored. One that waits behind a body is.
        let has_body = !matches!(meta.framing, Framing::None | Framing::Length(0));
        if allowed != Some(true) || has_body {
            request.asked = None;
        }
    }
    let upgrade = request.asked.is_some();
    if upgrade {
        worker.slab.listener_add(slot, ListenerCell::UpgradesTotal, 1);
        worker.slab.listener_add(slot, ListenerCell::UpgradesActive, 1);
    }
    let answer = match &decision {
        _ if overloaded => Answer::Ours(overloaded_reply(), None),
        _ if not_allowed => {
            worker.slab.listener_add(slot, ListenerCell::UpgradesRefused, 1);
            Answer::Ours(upgrade_refused(), None)
        }
        _ if too_large => Answer::Ours(too_large_reply(), None),
        Decision::Route(route) => {
            record.route = Some(route.slot);
            match &route.action {
                Action::Forward(action) => {
                    request.route = Some(route);
                    request.cluster = &action.cluster.spec.name;
                    let (path, received) = (&mut scratch.path, &mut scratch.received);
                    forward::forward(
                        &mut request,
                        route,
                        action,
                        stream,
                        path,
                        received,
                        &mut record,
                    )
                    .await
                }
                Action::Redirect(redirect) => {
                    let mut location = Vec::new();
                    let t = &request.target;
                    redirect.location(
                        request.forwarded.secure,
                        t.authority,
                        t.path,
                        t.query,
                        &mut location,
                    );
                    let reply = Reply::redirect(redirect.status, location, "direct_response");
                    Answer::Ours(reply, Some(&route.response_headers))
                }
            }
        }
        Decision::ToHttps(route) => {
            record.route = Some(route.slot);
            let mut location = Vec::new();
            redirect::to_https(
                request.target.authority,
                request.target.path_and_query,
                &mut location,
            );
            let reply = Reply::redirect(301, location, "direct_response");
            Answer::Ours(reply, Some(&route.response_headers))
        }
        Decision::Refuse(refusal) => Answer::Ours(guarded(refusal, request.request_id), None),
        Decision::Misdirected => Answer::Ours(misdirected(standing), None),
        Decision::NotFound => {
            worker.slab.worker_add(WorkerCell::NoRoute, 1);
            Answer::Ours(not_found(&request), None)
        }
    };
    let (outcome, switched) = match answer {
        Answer::Sent(outcome) => (outcome, None),
        Answer::Switched(outcome, switched) => (outcome, Some(switched)),
        Answer::Ours(reply, edits) => {
            (ours(&request, stream, &reply, edits, &mut record).await, None)
        }
    };
    let received = &scratch.received;
    let answer = HeadView::new(&received.head, &received.block);
    if let Some(switched) = switched {
        let upgraded = Upgraded::new(&request, answer, *switched, record);
        return Outcome { upgraded: Some(Box::new(upgraded)), ..outcome };
    }
    if upgrade {
        worker.slab.listener_sub(slot, ListenerCell::UpgradesActive, 1);
    }
    finish(&request, record.answered.map(|_| answer), &record);
    outcome
}

/// What routing decided, without borrowing from the table.
enum Decision {
    Route(Local<Route>),
    ToHttps(Local<Route>),
    Refuse(Refusal),
    Misdirected,
    NotFound,
}

impl Decision {
    /// Whether the route answers whatever else does not.
    fn is_always(&self) -> bool {
        matches!(self, Self::Route(route) if route.always)
    }

    /// Whether the route lets a request have what it asks for; `None` where there is no route. As
    /// in Envoy, routes that answer themselves allow nothing.
    fn allows(&self, asked: Asked<'_>) -> Option<bool> {
        match self {
            Self::Route(route) => Some(match &route.action {
                Action::Forward(forward) => asked.is_among(&forward.upgrades),
                Action::Redirect(_) => false,
            }),
            Self::ToHttps(_) => Some(false),
            Self::Refuse(_) | Self::Misdirected | Self::NotFound => None,
        }
    }
}

/// Who answers.
pub(crate) enum Answer<'r> {
    /// The upstream did, as far as it got.
    Sent(Outcome),
    /// The upstream did, and the connection is a tunnel to it from here on.
    Switched(Outcome, Box<Switched>),
    /// We do, with the route's edits of responses.
    Ours(Reply, Option<&'r HeaderEdits>),
}

/// Sends one of our answers. What the client still has to send of its request is not waited for:
/// unless all of it is at hand, the connection ends.
async fn ours(
    request: &Request<'_>,
    stream: &mut Stream,
    reply: &Reply,
    edits: Option<&HeaderEdits>,
    record: &mut Record,
) -> Outcome {
    let head_len = request.view.head.len;
    let (consumed, complete) = body_at_hand(request.received, &request.view.block[head_len..]);
    record.bytes_received = record.bytes_received.max(consumed as u64);
    let close = reply.close || request.closes() || !complete;
    send_reply(request, stream, reply, edits, close, record).await;
    let close = close || record.flags.contains(Flags::DC);
    let consumed = head_len + consumed;
    Outcome { consumed, close, linger: !complete, ..Outcome::default() }
}

/// How much of the body is in these bytes, and whether that is all of it.
fn body_at_hand(framing: Framing, bytes: &[u8]) -> (usize, bool) {
    use ringway_core::wire::h1::body::{Decoder, Step};
    let mut decoder = Decoder::new(framing);
    let mut at = 0;
    loop {
        match decoder.step(&bytes[at..]) {
            Ok(Step::Data { skip, len }) => at += skip + len,
            Ok(Step::More { skip }) => return (at + skip, false),
            Ok(Step::End { skip }) => return (at + skip, true),
            Err(_) => return (at, false),
        }
    }
}

async fn send_reply(
    request: &Request<'_>,
    stream: &mut Stream,
    reply: &Reply,
    edits: Option<&HeaderEdits>,
    close: bool,
    record: &mut Record,
) {
    let worker = request.cx.worker;
    let now = worker.timers.look();
    let grpc_type = request.grpc_type();
    let grpc = grpc_type.is_some();
    record.status = if grpc { 200 } else { reply.status };
    record.flag(reply.flags);
    record.details = reply.details;
    let none = HeaderEdits::default();
    let edits = edits.unwrap_or(&none);
    let context = reply::Context {
        server: request.settings.server_name.as_bytes(),
        date: &worker.clock.date(now),
        close,
        http10: request.http10(),
        head_only: request.is_head(),
        grpc: grpc_type,
        edits,
    };
    let mut out = worker.buffers.take();
    let head = reply::write(&mut out, reply, &context, |out| {
        if !edits.add.is_empty() {
            edits.write_added(&request.facts(record, None, now), out);
        }
    });
    if let Some(call) = record.call {
        worker.slab.calls(call).end(Some(reply.call_status()));
    }
    if !context.head_only && !grpc {
        record.bytes_sent += reply.body.len() as u64;
    }
    let patience = ringway_core::limits::STREAM_IDLE_TIMEOUT;
    worker.timers.arm(&stream.timer, now.ms(), patience, Direction::Both);
    let (result, out) = stream.writer.send_message(out, head, Some(b"")).await;
    worker.buffers.put(out);
    if result.is_err() {
        record.flag(Flags::DC);
    }
}

/// Counts and logs an exchange that is over.
fn finish(request: &Request<'_>, answer: Option<HeadView<'_>>, record: &Record) {
    let worker = request.cx.worker;
    let now = record.ended.unwrap_or_else(|| worker.timers.look());
    record.count_status(worker, request.cx.listener);
    record.count_end(worker, request.cx.listener, now);
    if worker.log.is_on() {
        let facts = request.facts(record, answer, now);
        worker.log_access(&request.settings, &facts);
    }
}

/// Answers a request whose head could not be read; the connection closes.
pub(crate) async fn refuse(
    cx: &Connection<'_>,
    stream: &mut Stream,
    reply: Reply,
    started: Moment,
) {
    let slab = &cx.worker.slab;
    slab.listener_add(cx.listener.slot, ListenerCell::RequestsTotal, 1);
    slab.listener_add(cx.listener.slot, ListenerCell::RequestsActive, 1);
    let settings = cx.worker.view(cx.listener).settings.clone();
    let blank = Head::default();
    let view = HeadView::new(&blank, &[]);
    refuse_with(cx, stream, view, &settings, reply, Record::new(started)).await;
}

pub(crate) fn refusal_of(error: ParseError) -> Reply {
    let reply = Reply::refusal(error.status(), error.details());
    let flags = if reply.status == 408 { Flags::NONE } else { reply.flags };
    Reply { flags, ..reply }
}

/// Sends a refusal for a request that was not understood far enough to be routed.
/// Envoy's answer while its overload manager stops requests.
fn overloaded_reply() -> Reply {
    let reply = Reply::new(503, Flags::OM, "overload", "envoy overloaded").closing();
    Reply { overloaded: true, ..reply }
}

async fn refuse_with(
    cx: &Connection<'_>,
    stream: &mut Stream,
    view: HeadView<'_>,
    settings: &Local<Settings>,
    reply: Reply,
    mut record: Record,
) -> Outcome {
    let cell = match reply.status {
        431 | 414 => ListenerCell::HeadTooLarge,
        408 => ListenerCell::RequestTimeouts,
        _ => ListenerCell::BadRequest,
    };
    cx.worker.slab.listener_add(cx.listener.slot, cell, 1);
    let request = Request {
        cx,
        settings: settings.clone(),
        view,
        meta: RequestMeta {
            framing: Framing::None,
            keep_alive: false,
            expect_continue: false,
            upgrade: false,
            te_trailers: false,
            drop_length: false,
        },
        received: Framing::None,
        target: Target {
            authority: view.known(Known::Host).unwrap_or_default(),
            path: b"",
            query: None,
            path_and_query: view.target(),
            absolute: false,
        },
        forwarded: forwarded::forwarded(view, cx.origin.peer, cx.origin.tls.is_some(), true, 0),
        forwarded_for: b"",
        request_id: b"",
        rewritten: None,
        set_cookie: None,
        cluster: "",
        route: None,
        asked: None,
        web: None,
    };
    send_reply(&request, stream, &reply, None, true, &mut record).await;
    finish(&request, None, &record);
    Outcome { consumed: view.head.len, close: true, linger: true, ..Outcome::default() }
}

/// Envoy closes: what follows may have been meant for the tunnel, and is not to be taken for a
/// request.
fn upgrade_refused() -> Reply {
    Reply::new(403, Flags::NONE, "upgrade_failed", "").closing()
}

/// RFC 9110 §15.5.20: the client may repeat the request on a connection made for its host.
fn misdirected(standing: Standing) -> Reply {
    let reply = Reply::new(421, Flags::NONE, "misdirected_request", "Misdirected Request");
    if standing == Standing::Outdated { reply.closing() } else { reply }
}

fn too_large_reply() -> Reply {
    Reply::new(413, Flags::NONE, "request_payload_too_large", "Payload Too Large").closing()
}

/// Emissary's answer where a guard cannot be enforced: fail closed, say so.
fn guarded(refusal: &Refusal, request_id: &[u8]) -> Reply {
    let mut body = b"{\"message\":".to_vec();
    push_json_string(refusal.message.as_bytes(), &mut body);
    body.extend_from_slice(b",\"request_id\":");
    push_json_string(request_id, &mut body);
    body.extend_from_slice(b",\"status_code\":500}");
    Reply { json: true, body, ..Reply::new(500, Flags::UAEX, "guard_not_enforced", "") }
}

fn not_found(request: &Request<'_>) -> Reply {
    let mut reply = Reply::new(404, Flags::NR, "route_not_found", "");
    if request.cx.worker.options.helpful_404 {
        let authority = String::from_utf8_lossy(request.target.authority);
        let path = String::from_utf8_lossy(request.target.path_and_query);
        let method = String::from_utf8_lossy(request.view.method());
        let scheme = if request.forwarded.secure { "https" } else { "http" };
        reply.body = format!(
            "no route for {method} {authority}{path}\n\
             To see which routes were considered and why each was rejected:\n  \
             ringway explain {method} '{scheme}://{authority}{path}'\n"
        )
        .into_bytes();
    }
    reply
}
