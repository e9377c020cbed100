// SPDX-License-Identifier: Apache-2.0
//! Listener: a port, its protocols, and which Hosts it serves.

use super::decode::{choice, record};
use super::host::Selector;

record! {
    pub struct Listener {
        /// The port.
        pub port: u16,
        /// A shorthand for the protocols: `HTTP`, `HTTPS` (cleartext is accepted too), `HTTPPROXY`
        /// and `HTTPSPROXY` (behind a PROXY header), `TCP`, `TLS`.
        pub protocol: Option<ListenerProtocol>,
        /// The protocols one by one, from what a connection begins with down to `TCP`. Counts where
        /// `protocol` is written too.
        pub protocol_stack: Option<Vec<StackProtocol>> as "protocolStack",
        /// What makes a request secure: `XFP` what X-Forwarded-Proto says, `SECURE` everything,
        /// `INSECURE` nothing.
        pub security_model: SecurityModel as "securityModel",
        /// Which Hosts it serves.
        pub host_binding: HostBinding as "hostBinding",
        /// HTTP proxies in front that are trusted to say who the client is. Default: 0.
        pub l7_depth: Option<i64> as "l7Depth",
        /// Its name in metrics. Default: `ingress_http`, `ingress_https`, `ingress_tls_<port>` or
        /// `ingress_tcp_<port>`.
        pub stats_prefix: Option<String> as "statsPrefix",
        /// Requests at a time on one HTTP/2 connection.
        pub http2_max_concurrent_streams: Option<u32> as "http2MaxConcurrentStreams",
    }
}

choice! {
    /// A shorthand for a stack.
    pub enum ListenerProtocol {
        Http = "HTTP",
        HttpProxy = "HTTPPROXY",
        Https = "HTTPS",
        HttpsProxy = "HTTPSPROXY",
        Tcp = "TCP",
        Tls = "TLS",
        Udp = "UDP",
    }
}

choice! {
    pub enum StackProtocol { Http = "HTTP", Proxy = "PROXY", Tcp = "TCP", Tls = "TLS", Udp = "UDP" }
}

choice! {
    pub enum SecurityModel { Insecure = "INSECURE", Secure = "SECURE", Xfp = "XFP" }
}

record! {
    pub struct HostBinding {
        /// Where the Hosts are.
        pub namespace: Option<NamespaceBinding>,
        /// Labels that the Hosts must have.
        pub selector: Option<Selector>,
    }
}

record! {
    pub struct NamespaceBinding {
        /// `ALL` namespaces, or `SELF`: the Listener's own (default).
        pub from: Option<NamespaceFrom>,
    }
}

choice! {
    pub enum NamespaceFrom { All = "ALL", Own = "SELF", Selector = "SELECTOR" }
}
