// SPDX-License-Identifier: Apache-2.0
//! Host: a name that the gateway answers for, its certificate and its cleartext policy.

use std::collections::BTreeMap;

use super::decode::{choice, record};
use super::tls_context::TlsVersion;

record! {
    #[derive(Default)]
    pub struct Host {
        /// Empty or absent: `*`.
        pub hostname: Option<String>,
        pub mapping_selector: Option<Selector> as "mappingSelector",
        /// Deprecated synonym of `mappingSelector`, used in its absence.
        pub selector: Option<Selector>,
        pub tls_secret: Option<SecretRef> as "tlsSecret",
        pub tls_context: Option<NameRef> as "tlsContext",
        pub tls: Option<HostTls>,
        pub request_policy: Option<RequestPolicy> as "requestPolicy",
        pub acme_provider: Option<AcmeProvider> as "acmeProvider",
    }
    dead { "previewUrl" => "service previews ended with Edge Stack 1" }
}

record! {
    /// A Kubernetes LabelSelector, as far as Emissary reads it.
    pub struct Selector {
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
        pub name: Option<String>,
        pub namespace: Option<String>,
    }
}

record! {
    pub struct NameRef {
        pub name: Option<String>,
    }
}

record! {
    /// An unnamed TLSContext.
    pub struct HostTls {
        pub ca_secret: Option<String> as "ca_secret" | "caSecret",
        pub crl_secret: Option<String> as "crl_secret" | "crlSecret",
        pub cert_chain_file: Option<String> as "cert_chain_file" | "certChainFile",
        pub private_key_file: Option<String> as "private_key_file" | "privateKeyFile",
        pub cacert_chain_file: Option<String> as "cacert_chain_file" | "cacertChainFile",
        pub alpn_protocols: Option<String> as "alpn_protocols" | "alpnProtocols",
        pub cert_required: Option<bool> as "cert_required" | "certRequired",
        pub min_tls_version: Option<TlsVersion> as "min_tls_version" | "minTLSVersion" | "minTlsVersion",
        pub max_tls_version: Option<TlsVersion> as "max_tls_version" | "maxTLSVersion" | "maxTlsVersion",
        pub cipher_suites: Vec<String> as "cipher_suites" | "cipherSuites",
        pub ecdh_curves: Vec<String> as "ecdh_curves" | "ecdhCurves",
        pub redirect_cleartext_from: Option<i64> as "redirect_cleartext_from" | "redirectCleartextFrom",
        pub sni: Option<String>,
    }
}

record! {
    pub struct RequestPolicy {
        pub insecure: Option<Insecure>,
    }
}

record! {
    pub struct Insecure {
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
        /// `none`: no ACME.
        pub authority: Option<String>,
        pub email: Option<String>,
        pub private_key_secret: Option<NameRef> as "privateKeySecret",
        pub registration: Option<String>,
    }
}
