// SPDX-License-Identifier: Apache-2.0
//! The answer's way back: its head as soon as it is there, its body as it comes.

use std::cell::Cell;
use std::rc::Rc;

use ringway_core::limits::{
    BUFFER_BYTES, GRPC_BRIDGE_BYTES_MAX, INTERIM_RESPONSES_MAX, SMALL_BUFFER_BYTES,
};
use ringway_core::policy::format::Flags;
use ringway_core::policy::grpc::{self, Outcome};
use ringway_core::policy::relay::{self, ResponseHead};
use ringway_core::table::Manner;
use ringway_core::wire::grpc_web;
use ringway_core::wire::h1::body::{Decoder, Step};
use ringway_core::wire::h1::encode;
use ringway_core::wire::h1::framing::{self, ResponseMeta};
use ringway_core::wire::h1::parse::{self, Limits, ParseError, Parsed};
use ringway_core::wire::h2::connection::Failure;
use ringway_core::wire::h2::message;
use ringway_core::wire::{Framing, Head, HeadView, Known};

use super::call::{self, Counter};
use super::exchange::{Received, Request};
use super::flow::{Shared, append};
use super::record::Record;
use super::reply::{self, Reply};
use crate::net::h2::H2Stream;
use crate::net::socket::Direction;
use crate::net::stream::{Reader, Writer};
use crate::worker::Worker;

/// How the answer's way to the client ended.
pub(super) enum Downloaded {
    /// No byte of an answer came.
    Silent,
    /// The same, and the upstream says that it has not begun with the request.
    Unprocessed,
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
    /// The answer opened a tunnel: what came behind its head is the reader's again.
    Switched,
}

/// The answer's way back.
pub(super) struct Download<'d, 'a> {
    pub(super) request: &'d Request<'a>,
    pub(super) route: &'d Manner,
    pub(super) received: &'d mut Received,
    pub(super) record: &'d mut Record,
    /// The request as it was sent: repeated if no answer comes, a free buffer as soon as one does.
    pub(super) spent: Vec<u8>,
    /// Whether the upstream's answers are long: those are received behind their head where they are
    /// sent from, so that little of them is copied.
    pub(super) long: &'d Cell<bool>,
    /// The last receive filled its buffer: more is there.
    pub(super) filled: bool,
}

impl Download<'_, '_> {
    pub(super) async fn run(
        &mut self,
        shared: &Shared<'_>,
        upstream: &mut Reader,
        client: &mut Writer,
    ) -> Downloaded {
        let Received { mut head, block } = std::mem::take(self.received);
        let buffer = match block.capacity() {
            0 => client.buffer(&shared.worker.buffers),
            _ => block,
        };
        let (received, buffer) = match upstream.h2().cloned() {
            None => self.receive_head(shared, upstream, client, &mut head, buffer).await,
            Some(stream) => self.receive_answer(shared, &stream, client, &mut head, buffer).await,
        };
        let downloaded = match received {
            Ok(meta) => {
                let view = HeadView::new(&head, &buffer);
                if self.request.switches(view) {
                    self.switch(shared, upstream, client, view).await
                } else {
                    self.relay(shared, upstream, client, meta, view).await
                }
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
        let limits = Limits::default();
        let (mut scanned, mut interim) = (0, 0);
        loop {
            if !buffer.is_empty() {
                match parse::response(&buffer, head, &limits, &mut scanned) {
                    Ok(Parsed::Partial) => {}
                    Err(error) => return (Err(bad_answer(error.details())), buffer),
                    Ok(Parsed::Complete)
                        if head.status == 101
                            && !self.request.switches(HeadView::new(head, &buffer)) =>
                    {
                        // RFC 9110 §15.2.2: nobody asked to switch, or to that.
                        return (Err(bad_answer("http1.unasked_upgrade")), buffer);
                    }
                    Ok(Parsed::Complete) if head.status < 200 && head.status != 101 => {
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
                        self.record.answered = Some(worker.timers.look());
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
            if !silent && shared.uploaded.get() {
                shared.await_upstream(worker.timers.now());
            }
            let most = match silent && self.long.get() {
                true => SMALL_BUFFER_BYTES.min(buffer.capacity()),
                false => buffer.capacity(),
            };
            let received;
            (received, buffer) = shared.attended(upstream.recv_until(buffer, most)).await;
            self.filled = buffer.len() == most;
            match received {
                Ok(n) if n > 0 => {}
                _ if shared.gone.get() => return (Err(Downloaded::Client), buffer),
                _ if shared.upstream.take_fired() => {
                    return (Err(Downloaded::Refused(self.timed_out(shared))), buffer);
                }
                _ if silent => return (Err(Downloaded::Silent), buffer),
                _ => return (Err(bad_answer("upstream_reset_in_head")), buffer),
            }
        }
    }

    /// The same where the answer is a message of HTTP/2, which has become a head like others.
    async fn receive_answer(
        &mut self,
        shared: &Shared<'_>,
        upstream: &H2Stream,
        client: &mut Writer,
        head: &mut Head,
        mut buffer: Vec<u8>,
    ) -> (Result<ResponseMeta, Downloaded>, Vec<u8>) {
        let worker = shared.worker;
        let mut interim = 0;
        loop {
            if shared.uploaded.get() {
                shared.await_upstream(worker.timers.now());
            }
            let answer = match shared.attended(upstream.recv_answer()).await {
                Ok(answer) => answer,
                Err(_) if shared.gone.get() => return (Err(Downloaded::Client), buffer),
                Err(_) if shared.upstream.take_fired() => {
                    return (Err(Downloaded::Refused(self.timed_out(shared))), buffer);
                }
                Err(_) => return (Err(failed(upstream, interim > 0)), buffer),
            };
            worker.buffers.put(std::mem::replace(&mut buffer, answer.block));
            *head = answer.head;
            let view = HeadView::new(head, &buffer);
            if head.status < 200 && !self.request.switches(view) {
                interim += 1;
                if interim > INTERIM_RESPONSES_MAX {
                    return (Err(bad_answer("http2.too_many_interim")), buffer);
                }
                if !self.interim(client, view).await {
                    return (Err(Downloaded::Client), buffer);
                }
                continue;
            }
            self.record.answered = Some(worker.timers.look());
            let meta = framing::response_meta(view, self.request.is_head());
            let meta = meta.map_err(|error| bad_answer(error.details()));
            let meta = meta.and_then(|meta| {
                let framing = message::response_framing(meta.framing, answer.complete);
                let framing = framing.map_err(|error| bad_answer(error.details()))?;
                Ok(ResponseMeta { framing, ..meta })
            });
            return (meta, buffer);
        }
    }

    fn timed_out(&self, shared: &Shared<'_>) -> Reply {
        let now = shared.worker.timers.now();
        match shared.deadline.get() {
            Some(at) if now >= at => {
                let given_up = shared.is_given_up(now);
                reply::timed_out(given_up.then_some(grpc::Status::DeadlineExceeded))
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
        client.send_interim(out).await.is_ok()
    }

    /// Counts a gRPC call by what its answer's head says of its end, and whatever comes then.
    fn counter(&self, worker: &Rc<Worker>, view: HeadView<'_>) -> Option<Counter> {
        let slot = self.record.call?;
        call::count_end(worker.slab.calls(slot), view.first("grpc-status"));
        grpc::speaks(view).then(|| Counter::responses(worker, slot))
    }

    /// Sends the head that opens a tunnel.
    async fn switch(
        &mut self,
        shared: &Shared<'_>,
        upstream: &mut Reader,
        client: &mut Writer,
        view: HeadView<'_>,
    ) -> Downloaded {
        upstream.unread(&view.block[view.head.len..]);
        self.record.status = view.head.status;
        self.record.details = "via_upstream";
        let mut out = std::mem::take(&mut self.spent);
        out.clear();
        self.write_head(view, Framing::None, false, None, &mut out);
        let now = shared.worker.timers.recent();
        let head = out.len();
        if self.send(shared, client, out, head, None, now).await {
            Downloaded::Switched
        } else {
            Downloaded::Client
        }
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
        if request.is_bridged() && !matches!(meta.framing, Framing::None | Framing::Length(0)) {
            // Boxed: few answers are made this way.
            return Box::pin(self.bridge(shared, upstream, client, meta, view)).await;
        }
        let web = request.web_of(view);
        // The message's end is its own in HTTP/2: nothing in its bytes says where it is.
        let to_message = client.h2().is_some();
        let framing = match meta.framing {
            Framing::Chunked if to_message => Framing::UntilClose,
            Framing::Length(0) if to_message && view.known(Known::ContentLength).is_none() => {
                Framing::None
            }
            // Trailers become part of the body.
            Framing::Length(1..) if web.is_some() && to_message => Framing::UntilClose,
            Framing::Length(1..) if web.is_some() => Framing::Chunked,
            same if to_message => same,
            Framing::Chunked | Framing::UntilClose if request.http10() => Framing::UntilClose,
            Framing::UntilClose => Framing::Chunked,
            same => same,
        };
        let close = request.closes() || (framing == Framing::UntilClose && !to_message);
        self.record.status = view.head.status;
        self.record.details = "via_upstream";
        let at_hand = &view.block[view.head.len..];
        let mut body = Content::new(meta, upstream, framing);
        body.filled = self.filled && !upstream.is_message();
        self.long.set(matches!(meta.framing, Framing::Length(n) if n > BUFFER_BYTES as u64));
        body.web = web.map(|web| Box::new(grpc_web::Encoder::new(web.wanted)));
        body.counter = self.counter(worker, view);
        // More is there than the buffer took: it goes along. Where a length says how much is to
        // come, an end or an error that this look meets is not mistaken for another.
        // A message waits for room before it takes more.
        let more = body.filled
            && matches!(meta.framing, Framing::Length(_))
            && body.passes()
            && !to_message;
        let mut out = match self.spent.capacity() {
            _ if more => worker.buffers.take_large(),
            0 => worker.buffers.take(),
            _ => std::mem::take(&mut self.spent),
        };
        out.clear();
        self.write_head(view, framing, close, None, &mut out);
        let head = out.len();
        let mut encoded = body.encode(at_hand, &mut out);
        if let Ok(first) = encoded
            && first.taken == at_hand.len()
            && !first.complete
            && more
        {
            encoded = body.top_up(upstream, &mut out).map(|second| Encoded {
                taken: if second.clean { first.taken } else { 0 },
                content: first.content + second.content,
                ..second
            });
        }
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                worker.buffers.put(out);
                return bad_answer(error.details());
            }
        };
        self.record.bytes_sent += encoded.content;
        let end = encoded.complete.then_some(&*body.trailers);
        if !self.send(shared, client, out, head, end, worker.timers.recent()).await {
            return Downloaded::Client;
        }
        if encoded.complete {
            // RFC 9112 §9.2: bytes after a complete answer belong to no request of ours.
            let reusable = encoded.taken == at_hand.len() && meta.keep_alive;
            return Downloaded::Answered { reusable, close };
        }
        self.stream(shared, upstream, client, meta, body, close).await
    }

    /// Answers a gRPC client that reads no trailers: the whole answer at once, with what its trailers
    /// say of the call in its head. Envoy's `grpc_http1_bridge`.
    async fn bridge(
        &mut self,
        shared: &Shared<'_>,
        upstream: &mut Reader,
        client: &mut Writer,
        meta: ResponseMeta,
        view: HeadView<'_>,
    ) -> Downloaded {
        let worker = shared.worker;
        let mut body = Content::new(meta, upstream, Framing::UntilClose);
        body.counter = self.counter(worker, view);
        let mut whole = Vec::new();
        let mut encoded = body.encode(&view.block[view.head.len..], &mut whole);
        let mut chunk = worker.buffers.take();
        let failed = loop {
            match &encoded {
                Ok(Encoded { complete: true, .. }) => break None,
                Ok(_) if whole.len() > GRPC_BRIDGE_BYTES_MAX => {
                    break Some(bad_answer("grpc_bridge_body_too_large"));
                }
                Ok(_) => {}
                Err(error) => break Some(bad_answer(error.details())),
            }
            if shared.uploaded.get() {
                shared.await_upstream(worker.timers.now());
            }
            chunk.clear();
            let received;
            (received, chunk) = shared.attended(upstream.recv(chunk)).await;
            encoded = match received {
                Ok(n) if n > 0 => body.encode(&chunk, &mut whole),
                _ if shared.gone.get() => break Some(Downloaded::Client),
                _ if shared.upstream.take_fired() => {
                    break Some(Downloaded::Refused(self.timed_out(shared)));
                }
                Ok(_) if body.is_over(upstream) => {
                    Ok(Encoded { complete: true, ..Encoded::default() })
                }
                _ => break Some(Downloaded::Refused(reply::stream_reset())),
            };
        };
        worker.buffers.put(chunk);
        if let Some(failed) = failed {
            return failed;
        }
        let outcome = Outcome::of(message::fields(&body.trailers));
        let close = self.request.closes();
        self.record.status = outcome.bridged(view.head.status);
        self.record.details = "via_upstream";
        self.record.bytes_sent += whole.len() as u64;
        let mut out = std::mem::take(&mut self.spent);
        out.clear();
        let framing = Framing::Length(whole.len() as u64);
        self.write_head(view, framing, close, Some(&outcome), &mut out);
        let head = out.len();
        out.extend_from_slice(&whole);
        if !self.send(shared, client, out, head, Some(b""), worker.timers.now()).await {
            return Downloaded::Client;
        }
        let reusable = encoded.is_ok_and(|encoded| encoded.clean) && meta.keep_alive;
        Downloaded::Answered { reusable, close }
    }

    /// Sends bytes to the client, the answer's head first, and returns their buffer to the pool;
    /// false: it does not take them. `end`: the trailers of an answer that is complete. `now`: the
    /// worker's milliseconds.
    async fn send(
        &self,
        shared: &Shared<'_>,
        client: &mut Writer,
        out: Vec<u8>,
        head: usize,
        end: Option<&[u8]>,
        now: u64,
    ) -> bool {
        if shared.uploaded.get() {
            shared.arm_client(now, shared.timeouts.idle, Direction::Both);
        }
        let (sent, out) = client.send_message(out, head, end).await;
        shared.worker.buffers.put(out);
        sent.is_ok()
    }

    /// Sends the rest of the body as it comes.
    async fn stream(
        &mut self,
        shared: &Shared<'_>,
        upstream: &mut Reader,
        client: &mut Writer,
        meta: ResponseMeta,
        mut body: Content,
        close: bool,
    ) -> Downloaded {
        let worker = shared.worker;
        let reset = body.framing == Framing::UntilClose;
        let broken = |flag| Downloaded::Broken { flag, reset };
        loop {
            // A download may rest for hours: nothing is held until the upstream has more, and the
            // client takes it.
            if !body.filled {
                if shared.uploaded.get() {
                    shared.await_upstream(worker.timers.now());
                }
                let _ = shared.attended(upstream.readable()).await;
            }
            if client.h2().is_some() && shared.uploaded.get() {
                shared.arm_client(worker.timers.now(), shared.timeouts.idle, Direction::Both);
            }
            let Ok(room) = client.room().await else { return Downloaded::Client };
            let mut chunk = worker.buffers.take_for(room);
            let received = match upstream.recv_at_hand(&mut chunk) {
                Some(received) => received,
                None if body.filled => {
                    worker.buffers.put(chunk);
                    client.pass();
                    body.filled = false;
                    continue;
                }
                None => {
                    let received;
                    (received, chunk) = upstream.recv(chunk).await;
                    received
                }
            };
            body.filled = chunk.len() == chunk.capacity();
            let encoded = match received {
                Ok(n) if n > 0 && body.passes() => body.measure(&mut chunk, 0),
                Ok(n) if n > 0 => {
                    let received = std::mem::replace(&mut chunk, worker.buffers.take());
                    let encoded = body.encode(&received, &mut chunk);
                    let clean = encoded.as_ref().is_ok_and(|e| e.taken == received.len());
                    worker.buffers.put(received);
                    encoded.map(|encoded| Encoded { clean, ..encoded })
                }
                _ if shared.gone.get() => {
                    worker.buffers.put(chunk);
                    return Downloaded::Client;
                }
                Ok(_) if !shared.upstream.take_fired() && body.is_over(upstream) => {
                    body.end(&mut chunk);
                    Ok(Encoded { complete: true, ..Encoded::default() })
                }
                _ if shared.deadline.get().is_some_and(|at| worker.timers.now() >= at) => {
                    worker.buffers.put(chunk);
                    return broken(Flags::UT);
                }
                _ => {
                    worker.buffers.put(chunk);
                    return broken(Flags::UC);
                }
            };
            let Ok(encoded) = encoded else {
                worker.buffers.put(chunk);
                return broken(Flags::UPE);
            };
            self.record.bytes_sent += encoded.content;
            let end = encoded.complete.then_some(&*body.trailers);
            if !self.send(shared, client, chunk, 0, end, worker.timers.now()).await {
                return Downloaded::Client;
            }
            if encoded.complete {
                return Downloaded::Answered { reusable: encoded.clean && meta.keep_alive, close };
            }
        }
    }

    fn write_head(
        &self,
        view: HeadView<'_>,
        framing: Framing,
        close: bool,
        outcome: Option<&Outcome<'_>>,
        out: &mut Vec<u8>,
    ) {
        let (request, record) = (self.request, &*self.record);
        let now = record.answered.unwrap_or(record.started);
        let service_time = record
            .sent
            .filter(|_| !request.settings.suppress_envoy_headers)
            .map(|sent| now.us_since(sent) / 1_000);
        let switches = request.switches(view);
        let bodyless_length = (framing == Framing::None && view.head.status != 204 && !switches)
            .then(|| view.known(Known::ContentLength))
            .flatten()
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        let web_type = (request.web_of(view))
            .map(|web| web.answer_type(view.known(Known::ContentType).unwrap_or_default()));
        let head = ResponseHead {
            view,
            framing,
            http10: request.http10(),
            close,
            server: request.settings.server_name.as_bytes(),
            date: &request.cx.worker.clock.date(now),
            service_time_ms: service_time,
            bodyless_length,
            upgrade: request.upgrade().filter(|_| switches),
            set_cookie: request.set_cookie.as_ref().map(|(cookie, value)| (*cookie, value)),
            web_type: web_type.as_deref(),
            outcome,
        };
        relay::response_head(out, &head, &self.route.response_headers, || {
            request.facts(record, Some(view), now)
        });
    }
}

/// An answer's body on its way: decoded as it came, framed for the client.
pub(super) struct Content {
    decoder: Decoder,
    /// How the upstream delimits it.
    from: Framing,
    framing: Framing,
    /// The last receive filled its buffer: more is there.
    filled: bool,
    /// Field lines, once the body is complete.
    trailers: Vec<u8>,
    /// Makes a call's answer one for browsers.
    web: Option<Box<grpc_web::Encoder>>,
    /// Counts a call's messages and its end.
    counter: Option<Counter>,
}

/// What became of some received bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Encoded {
    /// Of the bytes received.
    taken: usize,
    /// Nothing came after the body.
    clean: bool,
    complete: bool,
    /// Bytes of content.
    content: u64,
}

impl Content {
    /// Of an answer to a client that is sent it in `framing`.
    fn new(meta: ResponseMeta, upstream: &Reader, framing: Framing) -> Self {
        let from = match meta.framing {
            Framing::None | Framing::Length(0) => Framing::None,
            _ if upstream.is_message() => Framing::UntilClose,
            framing => framing,
        };
        let (decoder, trailers) = (Decoder::new(from), Vec::new());
        Self { decoder, from, framing, filled: false, trailers, web: None, counter: None }
    }

    /// Where the upstream has ended what it sends: whether that is the body's end.
    fn is_over(&mut self, upstream: &Reader) -> bool {
        upstream.take_trailers(&mut self.trailers);
        let over = self.decoder.finish().is_ok();
        if over {
            self.count_end();
        }
        over
    }

    fn count_end(&self) {
        if let Some(counter) = &self.counter {
            counter.end(&self.trailers);
        }
    }

    /// Whether body bytes go to the client as they come.
    fn passes(&self) -> bool {
        self.from != Framing::Chunked && self.framing != Framing::Chunked && self.web.is_none()
    }

    /// Appends what the upstream has sent by now of a body that passes as it comes.
    fn top_up(&mut self, upstream: &mut Reader, out: &mut Vec<u8>) -> Result<Encoded, ParseError> {
        let from = out.len();
        let received = upstream.recv_at_hand(out);
        self.filled = received.is_some() && out.len() == out.capacity();
        self.measure(out, from)
    }

    /// Cuts the bytes from `from` on down to what belongs to a body that passes as it comes.
    fn measure(&mut self, bytes: &mut Vec<u8>, from: usize) -> Result<Encoded, ParseError> {
        let mut encoded = Encoded::default();
        while let Step::Data { skip, len } = self.decoder.step(&bytes[from + encoded.taken..])? {
            debug_assert_eq!(skip, 0, "only chunks have bytes between their data");
            encoded.taken += len;
        }
        if let Some(counter) = &mut self.counter {
            counter.push(&bytes[from..from + encoded.taken]);
        }
        encoded.content = encoded.taken as u64;
        encoded.complete = self.decoder.is_done();
        encoded.clean = from + encoded.taken == bytes.len();
        bytes.truncate(from + encoded.taken);
        Ok(encoded)
    }

    fn append(&mut self, out: &mut Vec<u8>, data: &[u8]) {
        if let Some(counter) = &mut self.counter {
            counter.push(data);
        }
        match &mut self.web {
            None => append(out, self.framing, data),
            Some(web) => {
                let mut written = Vec::with_capacity(data.len() * 4 / 3 + 4);
                web.data(data, &mut written);
                if !written.is_empty() {
                    append(out, self.framing, &written);
                }
            }
        }
    }

    /// Appends what ends the body. A browser reads no trailers: they are its last message.
    fn end(&mut self, out: &mut Vec<u8>) {
        if let Some(mut web) = self.web.take() {
            let (mut written, trailers) = (Vec::new(), std::mem::take(&mut self.trailers));
            match trailers.is_empty() {
                true => web.finish(&mut written),
                false => web.trailers(&trailers, &mut written),
            }
            if !written.is_empty() {
                append(out, self.framing, &written);
            }
        }
        if self.framing == Framing::Chunked {
            encode::last_chunk(out, &self.trailers);
        }
    }

    /// Appends what these bytes hold of the body.
    fn encode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Encoded, ParseError> {
        let mut encoded = Encoded::default();
        loop {
            match self.decoder.step(&input[encoded.taken..])? {
                Step::Data { skip, len } => {
                    self.append(out, &input[encoded.taken + skip..][..len]);
                    encoded.taken += skip + len;
                    encoded.content += len as u64;
                }
                Step::More { skip } => {
                    encoded.taken += skip;
                    return Ok(encoded);
                }
                Step::End { skip } => {
                    self.trailers.extend_from_slice(self.decoder.trailers());
                    self.count_end();
                    self.end(out);
                    encoded.taken += skip;
                    encoded.complete = true;
                    return Ok(encoded);
                }
            }
        }
    }
}

/// Why no final head came on a stream. `began`: something else did.
fn failed(upstream: &H2Stream, began: bool) -> Downloaded {
    match upstream.failure() {
        Some(Failure::Unprocessed) if !began => Downloaded::Unprocessed,
        Some(Failure::Reset(_) | Failure::Unprocessed) => {
            Downloaded::Refused(reply::stream_reset())
        }
        Some(Failure::Malformed) => {
            bad_answer("upstream_reset_before_response_started{protocol_error}")
        }
        Some(Failure::Connection) | None if !began => Downloaded::Silent,
        _ => bad_answer("upstream_reset_in_head"),
    }
}

fn bad_answer(details: &'static str) -> Downloaded {
    Downloaded::Refused(reply::bad_answer(details))
}
