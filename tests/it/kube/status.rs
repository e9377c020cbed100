// SPDX-License-Identifier: Apache-2.0
//! Statuses and events: what they say is so, and one gateway of several says it.

use ringway_tests::gateway::Gateway;
use ringway_tests::kube::{Cluster, await_status};
use ringway_tests::manifest::{listener, mapping};
use ringway_tests::upstream::Upstream;
use ringway_tests::{PATIENCE, wait_until};
use serde_json::{Value, json};

use super::front::Front;
use super::{HOST, base};

/// Waits until an object's status is so, and gives it.
#[track_caller]
fn await_object(
    cluster: &Cluster,
    path: &str,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let mut last = Value::Null;
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        last = cluster.get(path).unwrap_or_default();
        if is_so(&last) {
            return last;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{path}: waited in vain: {what}: {}", last["status"]);
}

/// One of its conditions: status and reason.
fn condition<'o>(object: &'o Value, r#type: &str) -> Option<(&'o str, &'o str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == r#type)?;
    Some((found["status"].as_str()?, found["reason"].as_str()?))
}

/// The reasons of all events about an object.
fn events(cluster: &Cluster, name: &str) -> Vec<String> {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", cluster.namespace);
    let list = cluster.get(&path).unwrap();
    let items = list["items"].as_array().into_iter().flatten();
    let ours = items.filter(|event| event["regarding"]["name"] == name);
    ours.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn statuses_say_what_is_served() {
    let Some(cluster) = Cluster::begin("status") else { return };
    let echo = Upstream::echo("one").unwrap();
    cluster.apply(&base(&echo.address()));
    let gateway = cluster.gateway();
    let path = cluster.path("mappings", "quote");
    let running = |object: &Value| object["status"]["state"] == "Running";
    let object = await_object(&cluster, &path, "it runs", running);
    assert_eq!(condition(&object, "Accepted"), Some(("True", "Accepted")));
    assert_eq!(condition(&object, "Programmed"), Some(("True", "Programmed")));
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    let host = cluster.path("hosts", "any");
    await_object(&cluster, &host, "it is ready", |host| host["status"]["state"] == "Ready");
    let first = object["status"]["conditions"][0]["lastTransitionTime"].clone();

    // Refused: the earlier version is what is served, and it says so.
    cluster.patch(&path, &json!({"spec": {"add_response_headers": {"x": {"value": [7]}}}}));
    let refused = |object: &Value| condition(object, "Accepted") == Some(("False", "WrongType"));
    let object = await_object(&cluster, &path, "it is refused", refused);
    assert_eq!(condition(&object, "Programmed"), Some(("False", "EarlierVersion")));
    assert_eq!(object["status"]["state"], "Running");
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    await_status(&gateway, 8080, "/quote/", 200);
    wait_until("an event says so", PATIENCE, || {
        events(&cluster, "quote").contains(&"WrongType".into())
    });
    for command in [&["events", "--for=mapping/quote"][..], &["describe", "mapping", "quote"]] {
        let namespace = ["--namespace", &cluster.namespace];
        let shown = cluster.rig().kubectl(&[command, &namespace].concat(), "").unwrap();
        assert!(shown.contains("WrongType"), "{command:?}: {shown}");
    }

    cluster.patch(&path, &json!({"spec": {"add_response_headers": null}}));
    let accepted = |object: &Value| condition(object, "Programmed") == Some(("True", "Programmed"));
    let object = await_object(&cluster, &path, "it is accepted", accepted);
    assert!(object["status"].get("reason").is_none(), "{}", object["status"]);
    wait_until("an event says so", PATIENCE, || {
        events(&cluster, "quote").contains(&"Programmed".into())
    });
    // `ResolvedRefs` has been true all the time.
    let since = |object: &Value, at: usize| {
        object["status"]["conditions"][at]["lastTransitionTime"].clone()
    };
    assert_eq!(since(&object, 1), first);

    // Nobody's: no Host takes it.
    let lost = mapping("lost", "prefix: /, service: s").replace("hostname: \"*\", ", "");
    cluster.apply(&lost);
    let inactive = |object: &Value| object["status"]["state"] == "Inactive";
    let object = await_object(&cluster, &cluster.path("mappings", "lost"), "it rests", inactive);
    assert_eq!(condition(&object, "Programmed"), Some(("False", "NotServed")));
}

#[test]
fn a_listener_that_cannot_be_bound_says_so() {
    let Some(cluster) = Cluster::begin("unbound") else { return };
    let echo = Upstream::echo("one").unwrap();
    cluster.apply(&base(&echo.address()));
    let gateway = cluster.gateway();
    let programmed = |status: &'static str, reason: &'static str| {
        move |object: &Value| condition(object, "Programmed") == Some((status, reason))
    };
    let taken = std::net::TcpListener::bind(gateway.address(8081)).unwrap();
    cluster.apply(&listener(8081));
    let path = cluster.path("listeners", "http-8081");
    let unbound = programmed("False", "AddressNotBound");
    let object = await_object(&cluster, &path, "it is not bound", unbound);
    assert_eq!(condition(&object, "Accepted"), Some(("True", "Accepted")));
    wait_until("an event says so", PATIENCE, || {
        events(&cluster, "http-8081").contains(&"AddressNotBound".into())
    });
    drop(taken);
    await_object(&cluster, &path, "it is bound", programmed("True", "Programmed"));
    assert_eq!(gateway.get(8081, "/quote/", "a").unwrap().status, 200);
}

/// Objects of somebody else have no status of ours, and what others wrote stays.
#[test]
fn nothing_else_is_touched() {
    let Some(cluster) = Cluster::begin("others") else { return };
    let echo = Upstream::echo("one").unwrap();
    let others = mapping("others", "prefix: /others/, service: s, ambassador_id: [other]");
    cluster.apply(&(base(&echo.address()) + &others));
    let path = cluster.path("mappings", "quote");
    let theirs = json!({"status": {"conditions": [{
        "type": "Theirs", "status": "True", "reason": "Kept", "message": "", "lastTransitionTime": "x",
    }]}});
    cluster.patch(&format!("{path}/status"), &theirs);
    let _gateway = cluster.gateway();
    let running = |object: &Value| object["status"]["state"] == "Running";
    let object = await_object(&cluster, &path, "it runs", running);
    assert_eq!(condition(&object, "Theirs"), Some(("True", "Kept")));
    let object = cluster.get(&cluster.path("mappings", "others")).unwrap();
    assert!(object.get("status").is_none(), "{object}");
}

/// Who wrote an object's status last.
fn manager(cluster: &Cluster) -> String {
    let path = format!(
        "/apis/coordination.k8s.io/v1/namespaces/{}/leases/ringway-default",
        cluster.namespace
    );
    let lease = cluster.get(&path).unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn one_of_several_writes_and_another_when_it_is_gone() {
    let Some(cluster) = Cluster::begin("leader") else { return };
    let echo = Upstream::echo("one").unwrap();
    cluster.apply(&base(&echo.address()));
    let first = cluster.gateway();
    wait_until("the first holds the Lease", PATIENCE, || !manager(&cluster).is_empty());
    let holder = manager(&cluster);
    let second = cluster.gateway();
    await_status(&second, 8080, "/quote/", 200);
    let says = |gateway: &Gateway| gateway.log().contains("this gateway writes statuses now");
    wait_until("the first says so", PATIENCE, || says(&first));
    assert!(!says(&second));
    drop(first);
    wait_until("the second holds it", 2 * PATIENCE, || manager(&cluster) != holder);
    cluster.apply(&mapping("new", &format!("prefix: /new/, service: \"{}\"", echo.address())));
    let running = |object: &Value| object["status"]["state"] == "Running";
    await_object(&cluster, &cluster.path("mappings", "new"), "it runs", running);
}

/// A holder that ends gives the Lease back, and only who holds it writes.
#[test]
fn a_holder_that_ends_lets_another_begin_at_once() {
    let Some(cluster) = Cluster::begin("release") else { return };
    let echo = Upstream::echo("one").unwrap();
    cluster.apply(&base(&echo.address()));
    let mut first = cluster.gateway();
    let leads = |gateway: &Gateway| gateway.metric("ringway_leader", "").unwrap() == 1.0;
    wait_until("the first holds the Lease", PATIENCE, || leads(&first));
    let holder = manager(&cluster);
    let front = Front::start();
    let second = Gateway::start("", &cluster.options_at(front.address())).unwrap();
    let running = |name: &str| {
        cluster.apply(&mapping(name, &format!("prefix: /{name}/, service: s")));
        let is_so = |object: &Value| object["status"]["state"] == "Running";
        await_object(&cluster, &cluster.path("mappings", name), "it runs", is_so);
    };
    running("early");
    wait_until("the second asks for it", PATIENCE, || front.asked("GET", "/leases/") > 0);
    assert!(!leads(&second));
    assert_eq!(front.asked("PATCH", ""), 0);
    first.signal(libc::SIGTERM);
    assert!(first.wait().success());
    assert_ne!(manager(&cluster), holder);
    wait_until("the second holds it", PATIENCE, || leads(&second));
    running("late");
    assert!(front.asked("PATCH", "/status") > 0);
}

#[test]
fn ingresses_say_where_they_are_reached() {
    let Some(cluster) = Cluster::begin("ingress") else { return };
    let echo = Upstream::echo("one").unwrap();
    let ingress = |name: &str, class: &str| {
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{kubernetes.io/ingress.class: {class}}}}}
spec:
  rules:
  - http:
      paths:
      - {{path: /{name}/, pathType: Prefix, backend: {{service: {{name: s, port: {{number: 80}}}}}}}}
"
        )
    };
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: edge, labels: {app.kubernetes.io/component: ambassador-service}}
spec: {type: LoadBalancer, ports: [{port: 80}]}
";
    cluster.apply(&(base(&echo.address()) + HOST + service));
    cluster.apply(&(ingress("ours", "ambassador") + &ingress("theirs", "nginx")));
    let edge = format!("/api/v1/namespaces/{}/services/edge/status", cluster.namespace);
    let points = |ip: &str| json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
    cluster.patch(&edge, &points("192.0.2.1"));
    let _gateway = cluster.gateway();
    let path = |name: &str| {
        format!("/apis/networking.k8s.io/v1/namespaces/{}/ingresses/{name}", cluster.namespace)
    };
    let at = |object: &Value| object["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
    await_object(&cluster, &path("ours"), "its address", |object| at(object) == "192.0.2.1");
    cluster.patch(&edge, &points("192.0.2.2"));
    await_object(&cluster, &path("ours"), "its new address", |object| at(object) == "192.0.2.2");
    assert_eq!(at(&cluster.get(&path("theirs")).unwrap()), Value::Null);
}
