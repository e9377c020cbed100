// SPDX-License-Identifier: Apache-2.0
//! Where clients reach the gateway, as statuses publish it: as told, as a Service's load balancer
//! says, or at the nodes that its Pods run on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::{Api, Failure, Head};
use super::definitions::Installed;
use super::follow::{self, Sink};
use super::resource;

/// What Emissary finds its own Service by.
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "ambassador-service");

/// Addresses as told, or of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// IP addresses and host names.
    pub addresses: Vec<String>,
    /// `namespace/name`; without it the Service in the gateway's namespace that is labelled
    /// `app.kubernetes.io/component: ambassador-service`.
    pub service: Option<String>,
    /// Labels of the gateway's Pods in its namespace: the addresses are those of the nodes that the
    /// ready ones run on.
    pub nodes_of: Option<String>,
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

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the nodes of the gateway's Pods for ever, where they are asked for, as long as
    /// somebody is to write what comes of it.
    pub(super) async fn follow_nodes(
        self,
        api: Api,
        installed: Installed,
        mut held: watch::Receiver<bool>,
    ) {
        let Some(labels) = self.publish.nodes_of.clone() else { return };
        while held.wait_for(|held| *held).await.is_ok() {
            let nodes = Arc::<Mutex<Nodes>>::default();
            let follow = |target, what| {
                let addresses = self.clone();
                let part = NodesPart { what, nodes: Arc::clone(&nodes), addresses, said: None };
                follow::follow(api.clone(), target, part, installed.clone(), Vec::new())
            };
            tokio::select! {
                () = follow(resource::pods(&self.own_namespace, &labels), Part::Pods) => {}
                () = follow(resource::nodes(), Part::Nodes) => {}
                _ = held.wait_for(|held| !*held) => {}
            }
        }
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
        if self.publish.nodes_of.is_some() {
            return;
        }
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

/// What is known of the gateway's Pods and of all nodes.
#[derive(Default)]
struct Nodes {
    /// The node of each ready Pod, by the Pod's name.
    pods: HashMap<String, String>,
    /// By the node's name.
    addresses: HashMap<String, Vec<String>>,
    has_pods: bool,
    has_nodes: bool,
}

impl Nodes {
    /// Each node once; nothing before both were listed.
    fn found(&self) -> Option<Vec<Value>> {
        let nodes: BTreeSet<&String> = self.pods.values().collect();
        let all: BTreeSet<&String> =
            nodes.into_iter().filter_map(|node| self.addresses.get(node)).flatten().collect();
        (self.has_pods && self.has_nodes)
            .then(|| all.into_iter().map(|address| json!({"ip": address})).collect())
    }
}

#[derive(Clone, Copy)]
enum Part {
    Pods,
    Nodes,
}

/// Hears of Pods, or of nodes.
struct NodesPart {
    what: Part,
    nodes: Arc<Mutex<Nodes>>,
    addresses: Addresses,
    said: Option<Failure>,
}

impl NodesPart {
    fn change(&self, change: impl FnOnce(&mut Nodes)) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut nodes);
        let Some(addresses) = nodes.found() else { return };
        let mut found = self.addresses.found();
        if found.addresses != addresses {
            found.addresses = addresses;
            found.version += 1;
        }
    }
}

impl Sink for NodesPart {
    fn set(&mut self, head: &Head<'_>, json: &str, _: &'static str) {
        let name = head.metadata.name.to_string();
        let object = &mut serde_json::Deserializer::from_str(json);
        self.change(|nodes| match self.what {
            Part::Pods => match node_of(object) {
                Some(node) => drop(nodes.pods.insert(name, node)),
                None => drop(nodes.pods.remove(&name)),
            },
            Part::Nodes => drop(nodes.addresses.insert(name, addresses_of(object))),
        });
    }

    fn remove(&mut self, _: &str, name: &str) {
        self.change(|nodes| match self.what {
            Part::Pods => drop(nodes.pods.remove(name)),
            Part::Nodes => drop(nodes.addresses.remove(name)),
        });
    }

    fn listed(&mut self) {
        self.said = None;
        self.change(|nodes| match self.what {
            Part::Pods => nodes.has_pods = true,
            Part::Nodes => nodes.has_nodes = true,
        });
    }

    // Without them there are no addresses.
    fn given_up(&mut self) {}

    fn failed(&mut self, failure: &Failure) {
        let what = match self.what {
            Part::Pods => "Pod",
            Part::Nodes => "Node",
        };
        super::say(what, failure, &mut self.said);
    }
}

/// The node that a Pod runs on, if it is ready.
pub(crate) fn node_of<'de>(pod: impl Deserializer<'de>) -> Option<String> {
    #[derive(Deserialize)]
    struct Pod {
        spec: Spec,
        #[serde(default)]
        status: Status,
    }
    #[derive(Deserialize)]
    struct Spec {
        #[serde(rename = "nodeName")]
        node: Option<String>,
    }
    #[derive(Default, Deserialize)]
    struct Status {
        #[serde(default)]
        conditions: Vec<Condition>,
    }
    #[derive(Deserialize)]
    struct Condition {
        r#type: String,
        status: String,
    }
    let pod = Pod::deserialize(pod).ok()?;
    let is_ready = |c: &Condition| c.r#type == "Ready" && c.status == "True";
    pod.spec.node.filter(|_| pod.status.conditions.iter().any(is_ready))
}

/// A node's external addresses, or its internal ones where it has no external.
pub(crate) fn addresses_of<'de>(node: impl Deserializer<'de>) -> Vec<String> {
    #[derive(Deserialize)]
    struct Node {
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, Deserialize)]
    struct Status {
        #[serde(default)]
        addresses: Vec<Address>,
    }
    #[derive(Deserialize)]
    struct Address {
        r#type: String,
        address: String,
    }
    let node = Node::deserialize(node);
    let all = node.map_or_else(|_| Vec::new(), |node| node.status.addresses);
    let of = |r#type: &str| -> Vec<String> {
        all.iter().filter(|a| a.r#type == r#type).map(|a| a.address.clone()).collect()
    };
    let external = of("ExternalIP");
    if external.is_empty() { of("InternalIP") } else { external }
}

fn is_labelled(json: &str) -> bool {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: HashMap<String, String>,
    }
    let (key, value) = COMPONENT;
    json.contains(value)
        && serde_json::from_str::<Object>(json)
            .is_ok_and(|object| object.metadata.labels.get(key).is_some_and(|v| v == value))
}
