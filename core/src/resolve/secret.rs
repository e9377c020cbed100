// SPDX-License-Identifier: Apache-2.0
//! References to Secrets: which one is meant, whether it is there, whether it has what is needed.
//! Values are looked at for their presence only.

use crate::crd::Spec;
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Snapshot;

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

/// What a Secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Certificate,
    Authorities,
    Revocations,
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
}

impl Use {
    /// Each needs one key of each row. Emissary's names.
    fn keys(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Certificate => &[&["tls.crt", "cert-chain.pem"], &["tls.key", "key.pem"]],
            Self::Authorities => &[&["tls.crt", "root-cert.pem", "cert-chain.pem"]],
            Self::Revocations => &[&["crl.pem"]],
        }
    }
}

/// Reports a Secret that is missing or lacks what it is needed for; true where it is usable.
pub(crate) fn check(
    snapshot: &Snapshot,
    reference: &Reference<'_>,
    purpose: Use,
    object: &Ref,
    path: &str,
    problems: &mut Problems,
) -> bool {
    let (namespace, name) = reference.resolve();
    let found = snapshot.object(&Ref::new(Kind::Secret, namespace, name));
    let Some(Spec::Secret(secret)) = found.map(|object| &object.spec) else {
        problems.unknown_secret(object, path, namespace, name);
        return false;
    };
    for keys in purpose.keys() {
        if !keys.iter().any(|key| secret.data.contains_key(*key)) {
            problems.secret_without_key(object, path, namespace, name, keys[0]);
            return false;
        }
    }
    true
}
