// SPDX-License-Identifier: Apache-2.0
//! The parts that are read of Kubernetes' own kinds. Their other fields are not ours to judge.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::decode::{At, Context, Decode, record};
use super::encode::{Encode, redacted};
use super::node::{Node, Value};
use super::schema::Form;

record! {
    /// A Service's spec.
    pub struct Service {
        /// `ClusterIP` when absent.
        pub r#type: Option<String> as "type",
        pub cluster_ip: Option<String> as "clusterIP",
        pub external_name: Option<String> as "externalName",
        pub ports: Vec<ServicePort>,
    }
    open yes
}

record! {
    pub struct ServicePort {
        pub name: Option<String>,
        pub port: u16,
        pub target_port: Option<IntOrString> as "targetPort",
        pub protocol: Option<String>,
        /// What is spoken on it (KEP-3726): `kubernetes.io/h2c` and others.
        pub app_protocol: Option<String> as "appProtocol",
    }
    open yes
}

/// A number or a name, as in `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    Int(i64),
    String(String),
}

impl Encode for IntOrString {
    fn encode(&self) -> serde_json::Value {
        match self {
            Self::Int(value) => value.encode(),
            Self::String(text) => text.encode(),
        }
    }
}

impl Decode for IntOrString {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        match &node.value {
            Value::Int(value) => Some(Self::Int(*value)),
            Value::String(text) => Some(Self::String(text.clone().into_owned())),
            _ => {
                cx.wrong_type(at, "a number or a string", node);
                None
            }
        }
    }

    fn form() -> Form {
        Form::IntOrString
    }
}

record! {
    /// The older form of a Service's endpoints.
    pub struct Endpoints {
        pub subsets: Vec<EndpointSubset>,
    }
    open yes
}

record! {
    /// Each address × each port.
    pub struct EndpointSubset {
        pub addresses: Vec<EndpointAddress>,
        pub not_ready_addresses: Vec<EndpointAddress> as "notReadyAddresses",
        pub ports: Vec<EndpointPort>,
    }
    open yes
}

record! {
    pub struct EndpointAddress {
        pub ip: String,
        pub node_name: Option<String> as "nodeName",
    }
    open yes
}

record! {
    pub struct EndpointPort {
        pub name: Option<String>,
        pub port: Option<u16>,
        pub protocol: Option<String>,
    }
    open yes
}

record! {
    /// Part of a Service's endpoints; the label `kubernetes.io/service-name` says whose.
    pub struct EndpointSlice {
        /// `IPv4`, `IPv6` or `FQDN`.
        pub address_type: Option<String> as "addressType",
        pub endpoints: Vec<SliceEndpoint>,
        pub ports: Vec<EndpointPort>,
    }
    open yes
}

record! {
    pub struct SliceEndpoint {
        pub addresses: Vec<String>,
        pub conditions: Option<EndpointConditions>,
        pub node_name: Option<String> as "nodeName",
        pub zone: Option<String>,
        pub hints: Option<EndpointHints>,
    }
    open yes
}

record! {
    pub struct EndpointHints {
        pub for_zones: Vec<ForZone> as "forZones",
    }
    open yes
}

record! {
    pub struct ForZone {
        pub name: String,
    }
    open yes
}

record! {
    /// `ready` absent means ready.
    pub struct EndpointConditions {
        pub ready: Option<bool>,
        pub serving: Option<bool>,
        pub terminating: Option<bool>,
    }
    open yes
}

record! {
    pub struct ConfigMap {
        pub data: BTreeMap<String, String>,
    }
    open yes
}

record! {
    pub struct Namespace {}
    open yes
}

/// A Secret's values: `data`, decoded, and `stringData` over it.
#[derive(Clone, Debug, PartialEq)]
pub struct Secret {
    pub r#type: Option<String>,
    pub data: BTreeMap<String, SecretBytes>,
}

/// Bytes that no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(pub Arc<[u8]>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

record! {
    pub struct SecretFields {
        pub r#type: Option<String> as "type",
        pub data: BTreeMap<String, Base64>,
        pub string_data: BTreeMap<String, String> as "stringData",
    }
    open yes
}

impl Encode for Secret {
    fn encode(&self) -> serde_json::Value {
        let data = self.data.keys().map(|key| (key.clone(), redacted()));
        serde_json::json!({
            "type": self.r#type,
            "data": data.collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl Decode for Secret {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let SecretFields { r#type, data, string_data } = SecretFields::decode(node, at, cx)?;
        let mut data: BTreeMap<_, _> = data.into_iter().map(|(k, v)| (k, v.0)).collect();
        for (key, text) in string_data {
            data.insert(key, SecretBytes(text.into_bytes().into()));
        }
        Some(Self { r#type, data })
    }

    fn form() -> Form {
        SecretFields::form()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Base64(SecretBytes);

impl Encode for Base64 {
    fn encode(&self) -> serde_json::Value {
        redacted()
    }
}

impl Decode for Base64 {
    fn decode(node: &Node<'_>, at: &At<'_>, cx: &mut Context) -> Option<Self> {
        let Some(text) = node.as_str() else {
            cx.wrong_type(at, "a string", node);
            return None;
        };
        let bytes = base64(text.as_bytes());
        if bytes.is_none() {
            cx.problems.bad_base64(&cx.object, at.to_string());
        }
        bytes.map(|bytes| Self(SecretBytes(bytes.into())))
    }

    fn form() -> Form {
        Form::TEXT
    }
}

/// RFC 4648 §4 with padding; line breaks are skipped, as Go's decoder does.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut digits, mut padding) = (0_u32, 0, 0);
    for &b in text.iter().filter(|b| !matches!(b, b'\r' | b'\n')) {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if digits >= 2 => {
                padding += 1;
                0
            }
            _ => return None,
        };
        // Nothing follows padding but padding.
        if padding > 0 && b != b'=' {
            return None;
        }
        group = group << 6 | u32::from(value);
        digits += 1;
        if digits == 4 {
            bytes.extend_from_slice(&group.to_be_bytes()[1..4 - padding]);
            (group, digits) = (0, 0);
            if padding > 0 {
                digits = 8; // the end: any further byte is an error
            }
        }
    }
    (digits == 0 || digits == 8).then_some(bytes)
}
