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

use super::{Client, ClientPolicy, ClientSpec, Error, Identity, Pem, Server, ServerSpec, verify};

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

/// Configurations by their specifications, as long as they are used, and what was found about
/// the PEM that they are made of.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    round: u64,
    tickets: Tickets,
    servers: Map<ServerSpec, Known<Arc<Server>>>,
    clients: Map<ClientSpec, Known<Arc<Client>>>,
    identities: Map<(Pem, Pem), Known<Identity>>,
    authorities: Map<Pem, Known<()>>,
    policies: Map<ClientPolicy, Known<()>>,
}

/// A result, and when it was last asked for.
#[derive(Debug)]
struct Known<T> {
    result: Result<T, Error>,
    round: u64,
}

impl Shared {
    pub(crate) fn server(&mut self, spec: &ServerSpec) -> Result<Arc<Server>, Error> {
        let compile = |spec| Server::new(spec, &mut self.tickets).map(Arc::new);
        known(&mut self.servers, spec, self.round, compile)
    }

    pub(crate) fn client(&mut self, spec: &ClientSpec) -> Result<Arc<Client>, Error> {
        let compile = |spec| Client::new(spec).map(Arc::new);
        known(&mut self.clients, spec, self.round, compile)
    }

    /// As [`Identity::parse`].
    pub(crate) fn identity(&mut self, chain: Pem, key: Pem) -> Result<Identity, Error> {
        let parse = |(chain, key)| Identity::parse(chain, key);
        known(&mut self.identities, &(chain, key), self.round, parse)
    }

    /// Whether anybody can be believed by these.
    pub(crate) fn check_authorities(&mut self, pem: &Pem) -> Result<(), Error> {
        let check = |pem| verify::check_authorities(&pem);
        known(&mut self.authorities, pem, self.round, check)
    }

    /// Whether a policy can be held to; with good authorities an error is of the revocations.
    pub(crate) fn check_policy(&mut self, policy: &ClientPolicy) -> Result<(), Error> {
        let check = |policy| verify::of_clients(&policy).map(|_| ());
        known(&mut self.policies, policy, self.round, check)
    }

    /// Ends a round. A configuration that nobody uses is let go when it was asked for neither in
    /// this round nor in the one before: a round may be repeated with objects of earlier ones.
    pub(crate) fn sweep(&mut self) {
        let oldest = self.round.saturating_sub(1);
        let is_used = |count: usize| count > 1;
        self.servers.retain(|_, known| {
            known.round >= oldest
                || known.result.as_ref().is_ok_and(|s| is_used(Arc::strong_count(s)))
        });
        self.clients.retain(|_, known| {
            known.round >= oldest
                || known.result.as_ref().is_ok_and(|c| is_used(Arc::strong_count(c)))
        });
        self.identities.retain(|_, known| known.round >= oldest);
        self.authorities.retain(|_, known| known.round >= oldest);
        self.policies.retain(|_, known| known.round >= oldest);
        self.tickets.sweep();
        self.round += 1;
    }
}

fn known<S: Clone + Eq + Hash, T: Clone>(
    all: &mut Map<S, Known<T>>,
    spec: &S,
    round: u64,
    compile: impl FnOnce(S) -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(known) = all.get_mut(spec) {
        known.round = round;
        return known.result.clone();
    }
    let result = compile(spec.clone());
    all.insert(spec.clone(), Known { result: result.clone(), round });
    result
}
