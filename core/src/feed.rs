// SPDX-License-Identifier: Apache-2.0
//! Endpoints of a cluster: they change faster than routes and travel beside the table.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::limits::ENDPOINTS_MAX;
use crate::name::ClusterSlot;
use crate::policy::balance::{Balancer, Picker};

/// The endpoints of one cluster at one time. A cluster that never had a feed, or whose feed is
/// empty, answers 503 with the flag `UH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub cluster: ClusterSlot,
    /// Counted from 1 per cluster; a worker ignores an older feed than it has.
    pub version: u64,
    /// Sorted by address, each once, at most [`ENDPOINTS_MAX`].
    pub endpoints: Arc<[Endpoint]>,
    /// What chooses among them.
    pub picker: Arc<Picker>,
}

/// One address to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// In the gateway's own zone.
    pub near: bool,
}

impl Endpoint {
    /// An endpoint that may be anywhere.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, near: false }
    }
}

impl Feed {
    /// Puts endpoints into order; those beyond the limit are left out.
    pub fn sorted(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
        // A near one stands before the same address somewhere else.
        endpoints.sort_unstable_by_key(|e| (e.address, !e.near));
        endpoints.dedup_by_key(|e| e.address);
        endpoints.truncate(ENDPOINTS_MAX);
        endpoints
    }

    /// Takes [`Feed::sorted`] endpoints and makes the tables that a balancer needs.
    pub fn new(
        cluster: ClusterSlot,
        version: u64,
        balancer: Balancer,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        let picker = Arc::new(Picker::new(balancer, &endpoints));
        Self { cluster, version, endpoints: endpoints.into(), picker }
    }

    /// Where a request with a key of this hash goes while its endpoint works; `None` where the key
    /// does not decide.
    pub fn of_key(&self, key: u64) -> Option<&Endpoint> {
        self.endpoints.get(self.picker.of_key(key)?)
    }
}
