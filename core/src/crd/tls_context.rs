// SPDX-License-Identifier: Apache-2.0
//! TLSContext: certificates and TLS parameters under a name.

use super::decode::{choice, record};

record! {
    pub struct TLSContext {
        /// Server names that it terminates TLS for, for TCPMappings.
        pub hosts: Vec<String>,
        /// The Secret that holds certificate and key, as `name` or `name.namespace`.
        pub secret: Option<String>,
        /// Path of the certificate chain, instead of a Secret.
        pub cert_chain_file: Option<String>,
        /// Path of the private key, instead of a Secret.
        pub private_key_file: Option<String>,
        /// The Secret with the authorities that certificates of the other side must be issued by,
        /// as `name` or `name.namespace`.
        pub ca_secret: Option<String>,
        /// Path of the authorities, instead of `ca_secret`.
        pub cacert_chain_file: Option<String>,
        /// The Secret with the revocation list (key `crl.pem`), as `name` or `name.namespace`.
        pub crl_secret: Option<String>,
        /// Protocols that are offered by ALPN, with commas and without spaces: `h2,http/1.1`.
        pub alpn_protocols: Option<String>,
        /// Clients must have a certificate of one of the authorities.
        pub cert_required: Option<bool>,
        /// The oldest version of TLS that is spoken; older than v1.2 none is. Default: v1.2.
        pub min_tls_version: Option<TlsVersion>,
        /// The newest version of TLS that is spoken. Default: v1.3.
        pub max_tls_version: Option<TlsVersion>,
        /// OpenSSL's names of the suites that TLS 1.2 may use.
        pub cipher_suites: Vec<String>,
        /// Curves of the key exchange, as `X25519` and `P-256`.
        pub ecdh_curves: Vec<String>,
        /// Whether a dot in the name of a Secret begins its namespace. Default: as the Module says,
        /// true.
        pub secret_namespacing: Option<bool>,
        /// Emissary's older way to redirect cleartext: a port. Use `requestPolicy` of a Host.
        pub redirect_cleartext_from: Option<i64>,
        /// The server name that is sent to upstreams.
        pub sni: Option<String>,
    }
}

choice! {
    pub enum TlsVersion { V1_0 = "v1.0", V1_1 = "v1.1", V1_2 = "v1.2", V1_3 = "v1.3" }
}
