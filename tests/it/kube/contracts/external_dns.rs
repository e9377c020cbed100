// SPDX-License-Identifier: Apache-2.0
//! external-dns: which names it would publish, and which addresses, from Hosts that name a Service
//! and from Ingresses.

use ringway_tests::gateway::Gateway;
use ringway_tests::kube::Cluster;
use ringway_tests::manifest::listener;
use ringway_tests::{PATIENCE, wait_until};
use serde_json::{Value, json};

use super::super::HOST;
use super::kubectl;

/// One address of a load balancer: an IP or a host name.
fn target(point: &Value) -> Option<String> {
    let text = |field: &str| point[field].as_str().map(str::to_owned);
    text("ip").or_else(|| text("hostname"))
}

/// Addresses as a load balancer has them.
fn targets(object: &Value) -> Vec<String> {
    let points = object["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    points.filter_map(target).collect()
}

/// Names and addresses.
type Records = Vec<(String, Vec<String>)>;

/// The objects of a kind, by its API group and plural.
fn items(cluster: &Cluster, group: &str, plural: &str) -> Vec<Value> {
    let path = format!("/apis/{group}/namespaces/{}/{plural}", cluster.namespace);
    cluster.get(&path).unwrap()["items"].as_array().unwrap().clone()
}

/// What `--source=ambassador-host` finds: Hosts, as v2, with the annotation that names a Service.
fn of_hosts(cluster: &Cluster) -> Records {
    let mut records = Records::new();
    for host in items(cluster, "getambassador.io/v2", "hosts") {
        let annotations = &host["metadata"]["annotations"];
        let Some(service) = annotations["external-dns.ambassador-service"].as_str() else {
            continue;
        };
        // `namespace/name`, or `name.namespace`.
        let (namespace, name) = service
            .split_once('/')
            .or_else(|| service.split_once('.').map(|(name, namespace)| (namespace, name)))
            .unwrap_or(("default", service));
        let service = cluster.get(&format!("/api/v1/namespaces/{namespace}/services/{name}"));
        let name = host["spec"]["hostname"].as_str().unwrap().to_owned();
        records.push((name, targets(&service.unwrap())));
    }
    records
}

/// What `--source=ingress` finds.
fn of_ingresses(cluster: &Cluster) -> Records {
    let mut records = Records::new();
    for ingress in items(cluster, "networking.k8s.io/v1", "ingresses") {
        for rule in ingress["spec"]["rules"].as_array().unwrap() {
            records.push((rule["host"].as_str().unwrap().to_owned(), targets(&ingress)));
        }
    }
    records
}

fn manifests(namespace: &str) -> String {
    let ingress = "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: blog, annotations: {kubernetes.io/ingress.class: ambassador}}
spec:
  rules:
  - host: blog.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: blog, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: blog}
spec: {ports: [{port: 80}]}
";
    let host = |name: &str, service: &str| {
        format!(
            "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {{name: {name}, annotations: {{external-dns.ambassador-service: {service}}}}}
spec: {{hostname: {name}.example}}
"
        )
    };
    let hosts =
        host("shop", &format!("edge.{namespace}")) + &host("www", &format!("{namespace}/edge"));
    listener(8080) + HOST + ingress + &hosts
}

/// The Service that is the gateway's: both sources say where it is.
#[test]
fn names_lead_to_the_service_of_the_gateway() {
    let Some(cluster) = Cluster::begin("dns") else { return };
    let edge = "---
apiVersion: v1
kind: Service
metadata: {name: edge, labels: {app.kubernetes.io/component: ambassador-service}}
spec: {type: LoadBalancer, ports: [{port: 80}]}
";
    cluster.apply(&(manifests(&cluster.namespace) + edge));
    let _gateway = cluster.gateway();
    let status = format!("/api/v1/namespaces/{}/services/edge/status", cluster.namespace);
    for point in [json!({"ip": "192.0.2.1"}), json!({"hostname": "lb.example"})] {
        let address = target(&point).unwrap();
        cluster.patch(&status, &json!({"status": {"loadBalancer": {"ingress": [point]}}}));
        let record = |name: &str| (format!("{name}.example"), vec![address.clone()]);
        assert_eq!(of_hosts(&cluster), [record("shop"), record("www")]);
        let what = format!("the Ingress says {address}");
        wait_until(&what, PATIENCE, || of_ingresses(&cluster) == [record("blog")]);
    }
}

/// Without a load balancer the gateway is told where it is reached.
#[test]
fn names_lead_to_the_addresses_that_the_gateway_is_told() {
    let Some(cluster) = Cluster::begin("dns-told") else { return };
    cluster.apply(&manifests(&cluster.namespace));
    let mut options = cluster.options();
    options.args.push("--publish-status-address=192.0.2.7,edge.example".into());
    let _gateway = Gateway::start("", &options).unwrap();
    let told = vec!["192.0.2.7".to_owned(), "edge.example".to_owned()];
    wait_until("the Ingress says so", PATIENCE, || {
        of_ingresses(&cluster) == [("blog.example".to_owned(), told.clone())]
    });
}

/// Without a Service: the nodes that its Pods are ready on, by their external addresses where they
/// have any.
#[test]
fn names_lead_to_the_nodes_that_the_gateway_runs_on() {
    let Some(cluster) = Cluster::begin("dns-nodes") else { return };
    cluster.apply(&manifests(&cluster.namespace));
    cluster.grant("{scope: {singleNamespace: true}, service: {create: false}}");
    let namespace = &cluster.namespace;
    let (inside, outside) = (format!("{namespace}-inside"), format!("{namespace}-outside"));
    let internal = |address: &str| json!({"type": "InternalIP", "address": address});
    let external = json!({"type": "ExternalIP", "address": "203.0.113.7"});
    for (name, addresses) in [
        (&inside, json!([internal("10.9.0.2")])),
        (&outside, json!([internal("10.9.0.1"), external])),
    ] {
        let node = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
        cluster.create("/api/v1/nodes", &node);
    }
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let is_ready = |name: &str, ready: &str| {
        let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
        cluster.patch(&format!("{pods}/{name}/status"), &json!({"status": status}));
    };
    for (name, node, app) in
        [("one", &outside, "edge"), ("two", &inside, "edge"), ("other", &inside, "shop")]
    {
        cluster.create(
            &pods,
            &json!({
                "metadata": {"name": name, "labels": {"app": app}},
                "spec": {
                    "nodeName": node,
                    "serviceAccountName": format!("{namespace}-ringway"),
                    "containers": [{"name": "ringway", "image": "ringway"}],
                },
            }),
        );
        is_ready(name, "True");
    }
    let mut options = cluster.options();
    options.args.push("--publish-nodes-of=app=edge".into());
    let _gateway = Gateway::start("", &options).unwrap();
    let says = |addresses: &[&str]| {
        let addresses: Vec<String> = addresses.iter().map(|&address| address.into()).collect();
        wait_until(&format!("the Ingress says {addresses:?}"), PATIENCE, || {
            of_ingresses(&cluster) == [("blog.example".to_owned(), addresses.clone())]
        });
    };
    says(&["10.9.0.2", "203.0.113.7"]);
    is_ready("two", "False");
    says(&["203.0.113.7"]);
    is_ready("two", "True");
    says(&["10.9.0.2", "203.0.113.7"]);
    kubectl(&cluster, &["delete", "pod", "one", "--force"]);
    says(&["10.9.0.2"]);
    for node in [inside, outside] {
        kubectl(&cluster, &["delete", "node", &node]);
    }
}
