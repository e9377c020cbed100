// SPDX-License-Identifier: Apache-2.0
//! Host: a name that the gateway answers for, its certificate and its cleartext policy.

use std::collections::BTreeMap;

use super::decode::{choice, record};
use super::tls_context::TlsVersion;

record! {
    #[derive(Default)]
    pub struct Host {
        /// Names that it answers for, exact or with a star at the beginning or the end, perhaps
        /// with a port. Empty or absent: `*`.
        pub hostname: Option<String>,
        /// Labels of the Mappings that it takes. Where it and a Mapping's `hostname` are written
        /// both must fit.
        pub mapping_selector: Option<Selector> as "mappingSelector",
        /// Deprecated: use `mappingSelector`, in whose absence it is used.
        pub selector: Option<Selector>,
        /// The Secret that holds its certificate and key.
        pub tls_secret: Option<SecretRef> as "tlsSecret",
        /// The TLSContext that it uses.
        pub tls_context: Option<NameRef> as "tlsContext",
        /// TLS settings of its own, as a TLSContext has them.
        pub tls: Option<HostTls>,
        /// What becomes of requests that come without TLS.
        pub request_policy: Option<RequestPolicy> as "requestPolicy",
        /// Who issues its certificate (Edge Stack).
        pub acme_provider: Option<AcmeProvider> as "acmeProvider",
    }
    dead { "previewUrl" => "service previews ended with Edge Stack 1" }
}

record! {
    /// A Kubernetes LabelSelector, as far as Emissary reads it.
    pub struct Selector {
        /// Labels that must all be there with these values.
        pub match_labels: BTreeMap<String, String> as "matchLabels",
    }
    dead { "matchExpressions" => "Emissary reads matchLabels only" }
}

impl Selector {
    /// Whether every label that it names is there with its value.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

record! {
    pub struct SecretRef {
        /// Name of the Secret.
        pub name: Option<String>,
        /// Namespace of the Secret. Default: the object's own.
        pub namespace: Option<String>,
    }
}

record! {
    pub struct NameRef {
        /// Name of the object.
        pub name: Option<String>,
    }
}

record! {
    /// An unnamed TLSContext.
    pub struct HostTls {
        /// The Secret with the authorities that certificates of the other side must be issued by,
        /// as `name` or `name.namespace`.
        pub ca_secret: Option<String> as "ca_secret" | "caSecret",
        /// The Secret with the revocation list (key `crl.pem`), as `name` or `name.namespace`.
        pub crl_secret: Option<String> as "crl_secret" | "crlSecret",
        /// Path of the certificate chain, instead of a Secret.
        pub cert_chain_file: Option<String> as "cert_chain_file" | "certChainFile",
        /// Path of the private key, instead of a Secret.
        pub private_key_file: Option<String> as "private_key_file" | "privateKeyFile",
        /// Path of the authorities, instead of `ca_secret`.
        pub cacert_chain_file: Option<String> as "cacert_chain_file" | "cacertChainFile",
        /// Protocols that are offered by ALPN, with commas and without spaces: `h2,http/1.1`.
        pub alpn_protocols: Option<String> as "alpn_protocols" | "alpnProtocols",
        /// Clients must have a certificate of one of the authorities.
        pub cert_required: Option<bool> as "cert_required" | "certRequired",
        /// The oldest version of TLS that is spoken; older than v1.2 none is. Default: v1.2.
        pub min_tls_version: Option<TlsVersion> as "min_tls_version" | "minTLSVersion" | "minTlsVersion",
        /// The newest version of TLS that is spoken. Default: v1.3.
        pub max_tls_version: Option<TlsVersion> as "max_tls_version" | "maxTLSVersion" | "maxTlsVersion",
        /// OpenSSL's names of the suites that TLS 1.2 may use.
        pub cipher_suites: Vec<String> as "cipher_suites" | "cipherSuites",
        /// Curves of the key exchange, as `X25519` and `P-256`.
        pub ecdh_curves: Vec<String> as "ecdh_curves" | "ecdhCurves",
        /// Emissary's older way to redirect cleartext: a port. Use `requestPolicy` of a Host.
        pub redirect_cleartext_from: Option<i64> as "redirect_cleartext_from" | "redirectCleartextFrom",
        /// The server name that is sent to upstreams.
        pub sni: Option<String>,
    }
}

record! {
    pub struct RequestPolicy {
        /// What becomes of requests that come without TLS.
        pub insecure: Option<Insecure>,
    }
}

record! {
    pub struct Insecure {
        /// `Redirect` (default) them to https, `Route` them as they are, or `Reject` them with 404.
        pub action: Option<InsecureAction>,
    }
    dead { "additionalPort" => "give the port a Listener of its own" }
}

choice! {
    /// Emissary reads them in lower case.
    pub enum InsecureAction {
        Redirect = "Redirect" | "redirect",
        Reject = "Reject" | "reject",
        Route = "Route" | "route",
    }
}

record! {
    pub struct AcmeProvider {
        /// URL of the authority; `none`: no certificate is asked for.
        pub authority: Option<String>,
        /// Whom the authority writes to.
        pub email: Option<String>,
        /// The Secret with the account's key.
        pub private_key_secret: Option<NameRef> as "privateKeySecret",
        /// What the authority said when the account was made.
        pub registration: Option<String>,
    }
}
