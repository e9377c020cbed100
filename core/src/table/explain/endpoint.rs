// SPDX-License-Identifier: Apache-2.0
//! Which endpoint of a cluster a request would go to, and by what.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::feed::Feed;
use crate::ir::EndpointSource;
use crate::policy::balance::{Affinity, Balancer, Caller, HashKey};
use crate::table::Cluster;

/// Endpoints that one explanation shows; the rest is counted.
const ENDPOINTS_SHOWN_MAX: usize = 20;

/// The endpoints that clusters have now; `None` where that is not known.
pub type Feeds<'f> = &'f dyn Fn(&Cluster) -> Option<Arc<Feed>>;

/// How an endpoint is chosen.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// Where the endpoints come from.
    pub source: String,
    pub balancer: &'static str,
    /// What ties the request to one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The one that it goes to, where that is certain.
    pub endpoint: Option<SocketAddr>,
    pub why: String,
    /// The first of them.
    pub endpoints: Vec<SocketAddr>,
    pub n_endpoints: usize,
    /// Of them in the gateway's own zone.
    pub n_near: usize,
}

impl Choice {
    pub(super) fn of(
        cluster: &Cluster,
        asks: Option<(&HashKey, &Caller<'_>)>,
        feeds: Feeds<'_>,
    ) -> Self {
        let spec = &cluster.spec;
        let feed = feeds(cluster);
        let all = feed.as_deref().map_or(&[][..], |feed| &feed.endpoints);
        let affinity = asks.map(|(key, caller)| (key, key.of(caller)));
        let hashed = affinity.as_ref().and_then(|(_, affinity)| affinity.key);
        let of_key = feed.as_deref().zip(hashed).and_then(|(feed, key)| feed.of_key(key));
        let sole = (all.len() == 1).then(|| &all[0]);
        let why = match (&feed, all.len(), spec.balancer) {
            (None, ..) => "its addresses are known only to the running gateway".to_owned(),
            (Some(_), 0, _) => "it has none: 503 with the flag UH".to_owned(),
            (Some(_), 1, _) => "it is the only one".to_owned(),
            (Some(_), _, Balancer::RoundRobin) => "in turn, per worker".to_owned(),
            (Some(_), _, Balancer::LeastRequest) => {
                "of two at random the one with fewer requests; of equal ones the nearer".to_owned()
            }
            (Some(_), _, Balancer::RingHash | Balancer::Maglev) if of_key.is_some() => {
                "the key's place; the next one where it cannot be connected to".to_owned()
            }
            (Some(_), _, Balancer::RingHash | Balancer::Maglev) => {
                "at random: the request has no key".to_owned()
            }
        };
        let hashes = matches!(spec.balancer, Balancer::RingHash | Balancer::Maglev);
        Self {
            source: source(&spec.source),
            balancer: spec.balancer.as_str(),
            key: affinity.filter(|_| hashes).map(|(key, affinity)| words(key, &affinity)),
            endpoint: of_key.or(sole).map(|endpoint| endpoint.address),
            why,
            endpoints: all.iter().take(ENDPOINTS_SHOWN_MAX).map(|e| e.address).collect(),
            n_endpoints: all.len(),
            n_near: all.iter().filter(|endpoint| endpoint.near).count(),
        }
    }
}

fn source(source: &EndpointSource) -> String {
    match source {
        EndpointSource::Static(_) => "as written".to_owned(),
        EndpointSource::Dns { name, port, .. } => format!("DNS of {name}, port {port}"),
        EndpointSource::Service { namespace, name, .. } => {
            format!("endpoints of the Service {name} in {namespace}")
        }
    }
}

fn words(key: &HashKey, affinity: &Affinity) -> String {
    let what = match key {
        HashKey::Header(name) => format!("header {name}"),
        HashKey::Cookie(cookie) => format!("cookie {}", cookie.name),
        HashKey::SourceIp => "the client's address".to_owned(),
    };
    match affinity {
        Affinity { key: None, .. } => format!("{what}: absent"),
        Affinity { give: Some(_), .. } => format!("{what}: absent, the answer sets one"),
        Affinity { key: Some(hash), .. } => format!("{what}, hash {hash:016x}"),
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  endpoint: ")?;
        match self.endpoint {
            Some(address) => write!(f, "{address}: {}", self.why)?,
            None => write!(f, "{}", self.why)?,
        }
        if let Some(key) = &self.key {
            write!(f, "\n  key: {key}")?;
        }
        write!(f, "\n  {} by {}", self.source, self.balancer)?;
        if self.n_endpoints > 0 {
            let shown: Vec<String> = self.endpoints.iter().map(SocketAddr::to_string).collect();
            write!(f, ": {}", shown.join(", "))?;
            if self.n_endpoints > shown.len() {
                write!(f, " and {} more", self.n_endpoints - shown.len())?;
            }
            if self.n_near > 0 {
                write!(f, " ({} in our own zone)", self.n_near)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
