// SPDX-License-Identifier: Apache-2.0
//! Listener: a port, its protocols, and which Hosts it serves.

use super::decode::{choice, record};
use super::host::Selector;

record! {
    pub struct Listener {
        pub port: u16,
        pub protocol: Option<ListenerProtocol>,
        pub protocol_stack: Option<Vec<StackProtocol>> as "protocolStack",
        pub security_model: SecurityModel as "securityModel",
        pub host_binding: HostBinding as "hostBinding",
        /// Trusted L7 proxies in front.
        pub l7_depth: Option<i64> as "l7Depth",
        pub stats_prefix: Option<String> as "statsPrefix",
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
        pub namespace: Option<NamespaceBinding>,
        pub selector: Option<Selector>,
    }
}

record! {
    pub struct NamespaceBinding {
        pub from: Option<NamespaceFrom>,
    }
}

choice! {
    pub enum NamespaceFrom { All = "ALL", Own = "SELF", Selector = "SELECTOR" }
}
