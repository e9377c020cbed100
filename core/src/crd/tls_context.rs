// SPDX-License-Identifier: Apache-2.0
//! TLSContext: certificates and TLS parameters under a name.

use super::decode::{choice, record};

record! {
    pub struct TLSContext {
        pub hosts: Vec<String>,
        pub secret: Option<String>,
        pub cert_chain_file: Option<String>,
        pub private_key_file: Option<String>,
        pub ca_secret: Option<String>,
        pub cacert_chain_file: Option<String>,
        pub crl_secret: Option<String>,
        /// Comma-separated, without spaces.
        pub alpn_protocols: Option<String>,
        pub cert_required: Option<bool>,
        pub min_tls_version: Option<TlsVersion>,
        pub max_tls_version: Option<TlsVersion>,
        pub cipher_suites: Vec<String>,
        pub ecdh_curves: Vec<String>,
        pub secret_namespacing: Option<bool>,
        pub redirect_cleartext_from: Option<i64>,
        pub sni: Option<String>,
    }
}

choice! {
    pub enum TlsVersion { V1_0 = "v1.0", V1_1 = "v1.1", V1_2 = "v1.2", V1_3 = "v1.3" }
}
