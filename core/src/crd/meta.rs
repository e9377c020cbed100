// SPDX-License-Identifier: Apache-2.0
//! What every object has: name, labels, age, and for whom it is meant.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::Ref;

/// An object's metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub object: Ref,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub generation: Option<i64>,
    pub resource_version: Option<Box<str>>,
    /// Seconds since the epoch.
    pub created: Option<i64>,
    /// Gateways that this object is meant for; `["default"]` when nothing is written.
    pub ambassador_id: Vec<String>,
    pub dialect: Dialect,
}

impl Meta {
    /// Metadata with nothing but a name, as tests and built-in objects need it.
    pub fn of(object: Ref) -> Self {
        Self {
            object,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            generation: None,
            resource_version: None,
            created: None,
            ambassador_id: vec!["default".into()],
            dialect: Dialect::V3alpha1,
        }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.object.name
    }

    pub fn namespace(&self) -> &Arc<str> {
        &self.object.namespace
    }

    /// Whether a gateway with this AMBASSADOR_ID reads the object.
    pub fn is_for(&self, ambassador_id: &str) -> bool {
        self.ambassador_id.iter().any(|id| id == ambassador_id || id == "_automatic_")
    }
}

/// The API version that an object was written in. Its fields are normalised to v3alpha1; what
/// depends on the dialect all the same is for the resolver to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Kubernetes' own kinds.
    Kubernetes,
    /// getambassador.io/v1, ambassador/v0 and ambassador/v1.
    V1,
    /// getambassador.io/v2 and ambassador/v2.
    V2,
    /// getambassador.io/v3alpha1, ambassador/v3 and gateway.getambassador.io/v1alpha1.
    V3alpha1,
}
