// SPDX-License-Identifier: Apache-2.0
//! What is a gRPC call's of an exchange: where it counts, and how long it may take.

use std::rc::Rc;

use ringway_core::name::ClusterSlot;
use ringway_core::observe::metric::{CallSlot, Calls};
use ringway_core::policy::grpc::{self, Outcome, Status};
use ringway_core::wire::grpc::Messages;
use ringway_core::wire::h2::message;

use super::exchange::Request;
use super::record::Record;
use crate::worker::Worker;

/// Where a request counts as a call, if it is one and the Module has them counted.
pub(super) fn slot(request: &Request<'_>, cluster: ClusterSlot) -> Option<CallSlot> {
    let stats = request.settings.grpc_stats.as_ref().filter(|_| request.is_call())?;
    let worker = request.cx.worker;
    worker.methods.slot(&worker.slab, stats, cluster, request.target.path)
}

/// When the client of a call gives it up, in the worker's milliseconds: it says so in
/// `grpc-timeout`, which counts from the request's start.
pub(super) fn deadline(request: &Request<'_>, record: &Record) -> Option<u64> {
    if !request.is_call() {
        return None;
    }
    let timeout = grpc::parse_timeout(request.view.first("grpc-timeout")?)?;
    let started = record.started.ms();
    Some(started.saturating_add(timeout.as_millis() as u64))
}

/// Counts what a head or trailers say of a call's end, if they do.
pub(super) fn count_end(calls: &Calls, status: Option<&[u8]>) {
    if let Some(status) = status {
        calls.end(Status::parse(status));
    }
}

/// Counts the messages of one direction as they begin, like Envoy, so that long streams are seen.
pub(super) struct Counter {
    worker: Rc<Worker>,
    slot: CallSlot,
    add: fn(&Calls, u64),
    messages: Messages,
}

impl Counter {
    /// Of messages from the client.
    pub(super) fn requests(worker: &Rc<Worker>, slot: CallSlot) -> Self {
        Self::new(worker, slot, Calls::add_requests)
    }

    /// Of messages to the client.
    pub(super) fn responses(worker: &Rc<Worker>, slot: CallSlot) -> Self {
        Self::new(worker, slot, Calls::add_responses)
    }

    fn new(worker: &Rc<Worker>, slot: CallSlot, add: fn(&Calls, u64)) -> Self {
        Self { worker: worker.clone(), slot, add, messages: Messages::default() }
    }

    /// The next bytes of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let before = self.messages.begun();
        self.messages.push(bytes);
        let more = self.messages.begun() - before;
        if more > 0 {
            (self.add)(self.worker.slab.calls(self.slot), more);
        }
    }

    /// The call's trailers.
    pub(super) fn end(&self, trailers: &[u8]) {
        let outcome = Outcome::of(message::fields(trailers));
        count_end(self.worker.slab.calls(self.slot), outcome.status);
    }
}
