// SPDX-License-Identifier: Apache-2.0
//! Where gRPC calls count, as Module `grpc_stats` asks: found by comparing names. Once a method has
//! been called nothing is hashed, copied or allocated for it.

use std::cell::RefCell;

use ringway_core::ir::settings::{GrpcMethods, GrpcStats};
use ringway_core::name::ClusterSlot;
use ringway_core::observe::metric::{CallSlot, Slab};
use ringway_core::policy::grpc;

/// The methods that one worker counts by name.
#[derive(Default)]
pub(crate) struct Methods {
    /// Their numbers in the slab, in the order of their clusters and paths.
    sorted: RefCell<Vec<u16>>,
}

impl Methods {
    /// Where a call of this path, without its query, counts; nothing where it does not. As in Envoy,
    /// with `all_methods` a path that names no method counts nowhere.
    pub(crate) fn slot(
        &self,
        slab: &Slab,
        stats: &GrpcStats,
        cluster: ClusterSlot,
        path: &[u8],
    ) -> Option<CallSlot> {
        let text = std::str::from_utf8(path).ok();
        let method = text.and_then(|text| Some((text, grpc::method(text)?)));
        let named = match (&stats.methods, method) {
            (GrpcMethods::All, None) => return None,
            (methods, Some((path, (service, method)))) if methods.contains(service, method) => {
                self.named(slab, cluster, path)
            }
            _ => None,
        };
        Some(named.unwrap_or(CallSlot::Cluster(cluster)))
    }

    fn named(&self, slab: &Slab, cluster: ClusterSlot, path: &str) -> Option<CallSlot> {
        let mut sorted = self.sorted.borrow_mut();
        let place = sorted.binary_search_by(|number| {
            let (of, named) = slab.method(*number).expect("as many were added");
            (of.index(), named).cmp(&(cluster.index(), path))
        });
        match place {
            Ok(at) => Some(CallSlot::Method(sorted[at])),
            Err(at) => {
                let slot = slab.add_method(sorted.len(), cluster, path)?;
                let CallSlot::Method(number) = slot else { return None };
                sorted.insert(at, number);
                Some(slot)
            }
        }
    }
}

#[cfg(test)]
mod tests;
