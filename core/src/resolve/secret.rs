// SPDX-License-Identifier: Apache-2.0
//! References to Secrets: which one is meant, whether it is there, and the PEM in it under
//! Emissary's names.

use std::sync::Arc;

use crate::crd::{Object, Spec};
use crate::name::{Kind, Ref};
use crate::snapshot::Snapshot;
use crate::tls::Pem;

/// A reference as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference<'a> {
    pub(crate) name: &'a str,
    /// Written beside the name: wins.
    pub(crate) namespace: Option<&'a str>,
    /// Of the object that refers.
    pub(crate) own: &'a str,
    /// `name.namespace` is read (Emissary: secret namespacing).
    pub(crate) dotted: bool,
}

impl Reference<'_> {
    /// Namespace and name of the Secret that is meant.
    pub(crate) fn resolve(&self) -> (&str, &str) {
        match (self.namespace, self.name.rsplit_once('.')) {
            (Some(namespace), _) => (namespace, self.name),
            (None, Some((name, namespace))) if self.dotted => (namespace, name),
            (None, _) => (self.own, self.name),
        }
    }

    /// The Secret, where it is there and of a namespace that is read.
    pub(crate) fn find<'s>(&self, snapshot: &'s Snapshot) -> Option<Secret<'s>> {
        let (namespace, name) = self.resolve();
        let settings = &snapshot.settings;
        if settings.single_namespace && namespace != &*settings.namespace {
            return None;
        }
        let object = snapshot.object(&Ref::new(Kind::Secret, namespace, name))?;
        matches!(object.spec, Spec::Secret(_)).then_some(Secret { object })
    }
}

/// A Secret that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret<'s> {
    object: &'s Arc<Object>,
}

/// What a value of a Secret is for, by the names it may have: the first that is there counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) &'static [&'static str]);

/// Of a certificate chain.
pub(crate) const CHAIN: Keys = Keys(&["tls.crt", "cert-chain.pem"]);
/// Of the chain's private key.
pub(crate) const KEY: Keys = Keys(&["tls.key", "key.pem"]);
/// Of authorities, in a Secret that is named for them. Emissary does not read `ca.crt`.
pub(crate) const AUTHORITIES: Keys =
    Keys(&["tls.crt", "ca.crt", "root-cert.pem", "cert-chain.pem"]);
/// Of authorities, in the Secret of a certificate. `ca.crt` is not among them: cert-manager writes
/// it into every Secret, and nobody means by it that clients show certificates.
pub(crate) const ROOTS: Keys = Keys(&["root-cert.pem"]);
/// Of revocation lists.
pub(crate) const REVOCATIONS: Keys = Keys(&["crl.pem"]);

impl<'s> Secret<'s> {
    pub(crate) fn name(&self) -> &'s Ref {
        &self.object.meta.object
    }

    /// A value, with the name that it was found under.
    pub(crate) fn value(&self, keys: Keys) -> Option<(&'static str, Pem)> {
        let Spec::Secret(secret) = &self.object.spec else { return None };
        let found = |key: &&'static str| Some((*key, Pem(Arc::clone(&secret.data.get(*key)?.0))));
        keys.0.iter().find_map(found)
    }

    /// Emissary reads it from the Secret of the authorities, where it wins over what is written.
    pub(crate) fn cert_required(&self) -> Option<bool> {
        let Spec::Secret(secret) = &self.object.spec else { return None };
        let value = &secret.data.get("cert_required")?.0;
        Some(value.trim_ascii().eq_ignore_ascii_case(b"true"))
    }
}
