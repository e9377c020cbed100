// SPDX-License-Identifier: Apache-2.0
//! TCPMapping: a port (and perhaps a server name) to a service, without HTTP.

use super::decode::{Text, record};
use super::mapping::CircuitBreaker;

record! {
    pub struct TCPMapping {
        pub port: u16,
        /// Server name (SNI), exact or glob.
        pub host: Option<String>,
        /// Address to bind.
        pub address: Option<String>,
        pub service: String,
        pub enable_ipv4: Option<bool>,
        pub enable_ipv6: Option<bool>,
        pub circuit_breakers: Option<Vec<CircuitBreaker>>,
        /// Emissary: a string, not looked at.
        pub idle_timeout_ms: Option<Text>,
        pub resolver: Option<String>,
        pub tls: Option<String>,
        pub weight: Option<i64>,
        pub cluster_tag: Option<String>,
        pub stats_name: Option<String>,
    }
    dead { "v2ExplicitTLS" => "" }
}
