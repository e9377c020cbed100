// SPDX-License-Identifier: Apache-2.0
//! Resolvers: how service names become endpoints.

use super::decode::record;

record! {
    /// By DNS: the Service's ClusterIP.
    pub struct KubernetesServiceResolver {}
}

record! {
    /// By the Service's endpoints.
    pub struct KubernetesEndpointResolver {}
}

record! {
    pub struct ConsulResolver {
        /// Consul's agent, as `host:port`; `${HOST_IP}` is filled in.
        pub address: Option<String>,
        /// The datacenter that is asked about.
        pub datacenter: Option<String>,
    }
}
