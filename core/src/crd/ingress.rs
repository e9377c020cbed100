// SPDX-License-Identifier: Apache-2.0
//! Ingress and IngressClass (networking.k8s.io/v1).

use super::decode::{Untyped, record};

record! {
    pub struct Ingress {
        pub ingress_class_name: Option<String> as "ingressClassName",
        pub default_backend: Option<IngressBackend> as "defaultBackend",
        pub tls: Vec<IngressTls>,
        pub rules: Vec<IngressRule>,
    }
}

record! {
    pub struct IngressTls {
        pub hosts: Vec<String>,
        pub secret_name: Option<String> as "secretName",
    }
}

record! {
    pub struct IngressRule {
        pub host: Option<String>,
        pub http: Option<IngressPaths>,
    }
}

record! {
    pub struct IngressPaths {
        pub paths: Vec<IngressPath>,
    }
}

record! {
    pub struct IngressPath {
        pub path: Option<String>,
        /// `Exact`, `Prefix` or `ImplementationSpecific`.
        pub path_type: Option<String> as "pathType",
        pub backend: IngressBackend,
    }
}

record! {
    pub struct IngressBackend {
        pub service: Option<IngressService>,
        pub resource: Option<Untyped>,
    }
}

record! {
    pub struct IngressService {
        pub name: String,
        pub port: Option<IngressPort>,
    }
}

record! {
    pub struct IngressPort {
        pub number: Option<u16>,
        pub name: Option<String>,
    }
}

record! {
    pub struct IngressClass {
        pub controller: Option<String>,
    }
    open yes
}
