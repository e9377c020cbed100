// SPDX-License-Identifier: Apache-2.0
//! What configurations share: ticket keys, and themselves where their specifications are equal.
//!
//! Invariant: two client-certificate policies never share a ticket key, so that a session that was
//! begun under one is not resumed under another.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

use super::{Client, ClientPolicy, ClientSpec, Error, Server, ServerSpec};

type Map<K, V> = HashMap<K, V, RandomState>;

/// Ticket keys, one rotating set per client-certificate policy. Tickets are stateless: any worker
/// resumes what any other began.
#[derive(Default)]
pub struct Tickets {
    by_policy: Map<Option<ClientPolicy>, Arc<dyn ProducesTickets>>,
}

impl Tickets {
    /// The ticket keys of a policy.
    pub(super) fn of(
        &mut self,
        policy: Option<&ClientPolicy>,
    ) -> Result<Arc<dyn ProducesTickets>, Error> {
        let policy = policy.cloned();
        if let Some(known) = self.by_policy.get(&policy) {
            return Ok(Arc::clone(known));
        }
        let made = Ticketer::new().map_err(|_| Error::NoRandomness)?;
        self.by_policy.insert(policy, Arc::clone(&made));
        Ok(made)
    }

    /// Forgets the keys that no configuration uses.
    fn sweep(&mut self) {
        self.by_policy.retain(|_, tickets| Arc::strong_count(tickets) > 1);
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("policies", &self.by_policy.len()).finish()
    }
}

/// Configurations by their specifications, as long as they are used.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    round: u64,
    tickets: Tickets,
    servers: Map<ServerSpec, Known<Server>>,
    clients: Map<ClientSpec, Known<Client>>,
}

/// A result, and when it was last asked for.
#[derive(Debug)]
struct Known<T> {
    result: Result<Arc<T>, Error>,
    round: u64,
}

impl Shared {
    pub(crate) fn server(&mut self, spec: &ServerSpec) -> Result<Arc<Server>, Error> {
        let compile = |spec| Server::new(spec, &mut self.tickets);
        known(&mut self.servers, spec, self.round, compile)
    }

    pub(crate) fn client(&mut self, spec: &ClientSpec) -> Result<Arc<Client>, Error> {
        known(&mut self.clients, spec, self.round, Client::new)
    }

    /// Ends a round. What was asked for neither in it nor in the one before is let go: a round may
    /// be repeated with objects of earlier ones.
    pub(crate) fn sweep(&mut self) {
        let oldest = self.round.saturating_sub(1);
        self.servers.retain(|_, known| known.round >= oldest);
        self.clients.retain(|_, known| known.round >= oldest);
        self.tickets.sweep();
        self.round += 1;
    }
}

fn known<S: Clone + Eq + Hash, T>(
    all: &mut Map<S, Known<T>>,
    spec: &S,
    round: u64,
    compile: impl FnOnce(S) -> Result<T, Error>,
) -> Result<Arc<T>, Error> {
    if let Some(known) = all.get_mut(spec) {
        known.round = round;
        return known.result.clone();
    }
    let result = compile(spec.clone()).map(Arc::new);
    all.insert(spec.clone(), Known { result: result.clone(), round });
    result
}
