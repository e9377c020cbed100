// SPDX-License-Identifier: Apache-2.0
//! Endpoints of a cluster: they change faster than routes and travel beside the table.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::name::ClusterSlot;

/// The endpoints of one cluster at one time. A cluster that never had a feed, or whose feed is
/// empty, answers 503 with the flag `UH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub cluster: ClusterSlot,
    /// Counted from 1 per cluster; a worker ignores an older feed than it has.
    pub version: u64,
    pub endpoints: Arc<[Endpoint]>,
}

/// One address to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub address: SocketAddr,
}
