// SPDX-License-Identifier: Apache-2.0
//! TCPMapping: a port (and perhaps a server name) to a service, without HTTP.

use super::decode::{Text, record};
use super::mapping::CircuitBreaker;

record! {
    pub struct TCPMapping {
        /// The port.
        pub port: u16,
        /// Server name (SNI), exact or with a star. Without one it takes all connections of the
        /// port.
        pub host: Option<String>,
        /// Address that is listened on. Default: all.
        pub address: Option<String>,
        /// Where the connections go: `[scheme://]host:port`. With `https` TLS is spoken there.
        pub service: String,
        /// Names are resolved to IPv4 addresses. Default: true.
        pub enable_ipv4: Option<bool>,
        /// Names are resolved to IPv6 addresses. Default: false.
        pub enable_ipv6: Option<bool>,
        /// Bounds of what is under way to the service at a time.
        pub circuit_breakers: Option<Vec<CircuitBreaker>>,
        /// Milliseconds without a byte in either direction after which a connection is closed.
        pub idle_timeout_ms: Option<Text>,
        /// Name of the resolver that finds the service's endpoints. Default: as the Module says.
        pub resolver: Option<String>,
        /// Name of the TLSContext that connections to the service are made with. In v2 also true or
        /// false, for https or http.
        pub tls: Option<String>,
        /// Percentage of the connections that it takes of those that several TCPMappings match
        /// equally; without one it shares what remains.
        pub weight: Option<i64>,
        /// Keeps its connections and figures apart from those of others to the same service.
        pub cluster_tag: Option<String>,
        /// Name of the service in metrics. Default: derived from `service`.
        pub stats_name: Option<String>,
    }
    dead { "v2ExplicitTLS" => "" }
}
