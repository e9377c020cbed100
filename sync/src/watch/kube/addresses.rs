// SPDX-License-Identifier: Apache-2.0
//! Where clients reach the gateway, as statuses publish it: as told, or as a Service's load
//! balancer says.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Head;

/// What Emissary finds its own Service by.
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "ambassador-service");

/// Addresses as told, or of which Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// IP addresses and host names.
    pub addresses: Vec<String>,
    /// `namespace/name`; without it the Service in the gateway's namespace that is labelled
    /// `app.kubernetes.io/component: ambassador-service`.
    pub service: Option<String>,
}

/// The addresses as they are now. Copies are the same.
#[derive(Clone)]
pub(super) struct Addresses {
    publish: Publish,
    own_namespace: String,
    found: Arc<Mutex<Found>>,
}

#[derive(Default)]
struct Found {
    /// The Service that they are of.
    service: String,
    addresses: Vec<Value>,
    version: u64,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default, rename = "loadBalancer")]
    load_balancer: LoadBalancer,
}

#[derive(Default, Deserialize)]
struct LoadBalancer {
    #[serde(default)]
    ingress: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    ip: Option<String>,
    hostname: Option<String>,
}

impl Addresses {
    pub(super) fn new(publish: Publish, own_namespace: &str) -> Self {
        Self { publish, own_namespace: own_namespace.to_owned(), found: Arc::default() }
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In the form of `status.loadBalancer.ingress`.
    pub(super) fn get(&self) -> Vec<Value> {
        if self.publish.addresses.is_empty() {
            return self.found().addresses.clone();
        }
        let point = |address: &String| match address.parse::<std::net::IpAddr>() {
            Ok(_) => json!({"ip": address}),
            Err(_) => json!({"hostname": address}),
        };
        self.publish.addresses.iter().map(point).collect()
    }

    /// Another one when they are others.
    pub(super) fn version(&self) -> u64 {
        self.found().version
    }

    /// A Service as it is now; `json` is all of it.
    pub(super) fn set(&self, head: &Head<'_>, json: &str) {
        let name = format!("{}/{}", head.metadata.namespace, head.metadata.name);
        let is_it = match &self.publish.service {
            Some(service) => *service == name,
            None => head.metadata.namespace == *self.own_namespace && is_labelled(json),
        };
        if !is_it {
            // It may have lost its label.
            return self.remove(&name);
        }
        let status = head.status.and_then(|s| serde_json::from_str::<Status>(s.get()).ok());
        let points = status.map_or_else(Vec::new, |status| status.load_balancer.ingress);
        let point = |point: Point| match (point.ip, point.hostname) {
            (Some(ip), _) => Some(json!({"ip": ip})),
            (None, Some(name)) => Some(json!({"hostname": name})),
            (None, None) => None,
        };
        let addresses = points.into_iter().filter_map(point).collect();
        let mut found = self.found();
        let version = found.version + 1;
        *found = Found { service: name, addresses, version };
    }

    /// A Service that is not there any more, by `namespace/name`.
    pub(super) fn remove(&self, name: &str) {
        let mut found = self.found();
        if found.service == name {
            let version = found.version + 1;
            *found = Found { version, ..Found::default() };
        }
    }
}

fn is_labelled(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: std::collections::HashMap<String, String>,
    }
    let (key, value) = COMPONENT;
    json.contains(value)
        && serde_json::from_str::<Object>(json)
            .is_ok_and(|object| object.metadata.labels.get(key).is_some_and(|v| v == value))
}
