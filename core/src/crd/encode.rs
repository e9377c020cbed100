// SPDX-License-Identifier: Apache-2.0
//! From typed fields back to what they would be read from, for those who want to see what a gateway
//! knows. What is not read is not there, and a Secret shows its keys and none of its values.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::decode::{Text, Untyped};
use super::{Dialect, Object, Spec};
use crate::name::Kind;

/// What stands for each value of a Secret: `<REDACTED>`, in base64 as `data` has it. Emissary: its
/// external snapshot.
const REDACTED: &str = "PFJFREFDVEVEPg==";

/// A type that can be written as it would be read.
pub(crate) trait Encode {
    fn encode(&self) -> Value;

    /// Whether it need not be written.
    fn is_absent(&self) -> bool {
        false
    }
}

/// Writes one declared field.
pub(crate) fn put<T: Encode>(map: &mut Map<String, Value>, name: &str, value: &T) {
    if !value.is_absent() {
        map.insert(name.to_owned(), value.encode());
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::encode)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self) -> Value {
        self.iter().map(T::encode).collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Encode> Encode for BTreeMap<String, T> {
    fn encode(&self) -> Value {
        self.iter().map(|(key, value)| (key.clone(), value.encode())).collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self) -> Value {
        (**self).encode()
    }

    fn is_absent(&self) -> bool {
        (**self).is_absent()
    }
}

impl Encode for bool {
    fn encode(&self) -> Value {
        (*self).into()
    }

    fn is_absent(&self) -> bool {
        !self
    }
}

macro_rules! encode_as_is {
    ($($type:ty)*) => {$(
        impl Encode for $type {
            fn encode(&self) -> Value {
                json!(self)
            }
        }
    )*};
}

encode_as_is! { String i64 u64 u32 u16 f64 }

impl Encode for Text {
    fn encode(&self) -> Value {
        self.0.encode()
    }
}

impl Encode for Untyped {
    fn encode(&self) -> Value {
        json!({})
    }
}

/// The value that stands for a Secret's.
pub(super) fn redacted() -> Value {
    REDACTED.into()
}

impl Object {
    /// The object as an API server would show it, in the newest version of its kind.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let meta = &self.meta;
        let is_ours = meta.dialect != Dialect::Kubernetes;
        let mut spec = self.spec.encode();
        if let Value::Object(spec) = &mut spec
            && is_ours
            && *meta.ambassador_id != ["default".to_owned()]
        {
            spec.insert("ambassador_id".to_owned(), json!(&*meta.ambassador_id));
        }
        match (meta.object.kind, spec) {
            (
                Kind::ConfigMap
                | Kind::Endpoints
                | Kind::EndpointSlice
                | Kind::Namespace
                | Kind::Secret,
                Value::Object(fields),
            ) => object = fields,
            (_, spec) => put_value(&mut object, "spec", spec),
        }
        let mut metadata = Map::new();
        put_value(&mut metadata, "name", json!(&**meta.name()));
        if !meta.namespace().is_empty() {
            put_value(&mut metadata, "namespace", json!(&**meta.namespace()));
        }
        // Anything may stand in a Secret's annotations, its values among them.
        if meta.object.kind != Kind::Secret {
            put(&mut metadata, "labels", &meta.labels);
            put(&mut metadata, "annotations", &meta.annotations);
            put(&mut metadata, "generation", &meta.generation);
        }
        put_value(&mut object, "metadata", metadata.into());
        put_value(&mut object, "apiVersion", api_version(meta.object.kind).into());
        put_value(&mut object, "kind", meta.object.kind.as_str().into());
        object.into()
    }
}

fn put_value(map: &mut Map<String, Value>, name: &str, value: Value) {
    map.insert(name.to_owned(), value);
}

/// The newest version in which a kind is read.
pub fn api_version(kind: Kind) -> &'static str {
    match kind {
        Kind::ConfigMap | Kind::Endpoints | Kind::Namespace | Kind::Secret | Kind::Service => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::Ingress | Kind::IngressClass => "networking.k8s.io/v1",
        _ => "getambassador.io/v3alpha1",
    }
}

impl Encode for Spec {
    fn encode(&self) -> Value {
        macro_rules! encoded {
            ($($variant:ident)*) => {
                match self { $( Self::$variant(spec) => spec.encode(), )* }
            };
        }
        encoded! {
            AuthService ConfigMap ConsulResolver DevPortal Endpoints EndpointSlice Filter
            FilterPolicy Host Ingress IngressClass KubernetesEndpointResolver
            KubernetesServiceResolver Listener LogService Mapping Module Namespace RateLimit
            RateLimitService Secret Service TCPMapping TLSContext TracingService
        }
    }
}

#[cfg(test)]
mod tests;
