// SPDX-License-Identifier: Apache-2.0
//! cert-manager: the challenge of HTTP-01 by an Ingress of its own and by a path in the user's, and
//! the Secret that it writes and renews.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use ringway_tests::gateway::Gateway;
use ringway_tests::head::Reader;
use ringway_tests::kube::{Cluster, pod_address};
use ringway_tests::manifest::{listener, mapping, service, slice};
use ringway_tests::upstream::{self, Upstream};
use ringway_tests::{PATIENCE, pki, wait_until};
use serde_json::{Value, json};

use super::super::{pod, shown};
use super::{kubectl, update};

const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// A solver: the key for one token of one name, by path; an empty 200 for `/`, its health.
fn solver(domain: &'static str, token: &'static str) -> Upstream {
    let address = SocketAddr::from((pod_address(), 8089));
    let serve = move |stream: TcpStream| {
        let mut reader = Reader::new(stream);
        while let Ok(Some(request)) = upstream::request(&mut reader) {
            let host = request.header("host").unwrap_or_default();
            let asked = request.target == format!("{WELL_KNOWN}{token}")
                && host.split(':').next() == Some(domain);
            let (status, body) = match (&*request.target, asked) {
                ("/", _) => ("200 OK", String::new()),
                (_, true) => ("200 OK", format!("{token}.thumbprint")),
                _ => ("404 Not Found", String::new()),
            };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if reader.stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    };
    Upstream::start(address, serve).unwrap()
}

/// The Service and the endpoints of a solver's Pod.
fn solver_service(name: &str, solver: &Upstream) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, labels: {{acme.cert-manager.io/http01-solver: 'true'}}}}
spec: {{type: NodePort, ports: [{{name: http, port: 8089, targetPort: 8089}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8089}}]
endpoints: [{{addresses: [\"{}\"]}}]
",
        solver.address().ip()
    )
}

/// The path that leads to it, as an Ingress has it.
fn challenge_path(token: &str, service: &str) -> Value {
    json!({
        "path": format!("{WELL_KNOWN}{token}"),
        "pathType": "ImplementationSpecific",
        "backend": {"service": {"name": service, "port": {"number": 8089}}},
    })
}

/// The solver's own Ingress; the class is named in the way that the Issuer says.
fn solver_ingress(domain: &str, token: &str, service: &str, class: Option<&str>) -> Value {
    let mut annotations =
        json!({"nginx.ingress.kubernetes.io/whitelist-source-range": "0.0.0.0/0,::/0"});
    if class.is_none() {
        annotations["kubernetes.io/ingress.class"] = "ambassador".into();
    }
    json!({
        "metadata": {
            "generateName": "cm-acme-http-solver-",
            "labels": {
                "acme.cert-manager.io/http-domain": "1234567",
                "acme.cert-manager.io/http-token": "7654321",
                "acme.cert-manager.io/http01-solver": "true",
            },
            "annotations": annotations,
        },
        "spec": {
            "ingressClassName": class,
            "rules": [{"host": domain, "http": {"paths": [challenge_path(token, service)]}}],
        },
    })
}

/// What cert-manager asks before it tells the authority: over cleartext, and only the key will do.
fn is_answered(gateway: &Gateway, domain: &str, token: &str) -> bool {
    let path = format!("{WELL_KNOWN}{token}");
    let answer = gateway.get(8080, &path, domain).unwrap();
    answer.status == 200 && answer.text() == format!("{token}.thumbprint")
}

const HTTPS: &str = "---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
";

/// Its certificate is to be had yet.
const HOST: &str = "---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: shop}
spec: {hostname: a.com, tlsSecret: {name: shop-tls}}
";

#[test]
fn a_challenge_is_answered_before_any_redirect_and_the_certificate_is_served() {
    let Some(cluster) = Cluster::begin("certificates") else { return };
    let echo = Upstream::echo("shop").unwrap();
    let all = mapping("all", &format!("prefix: /, service: \"{}\"", echo.address()));
    cluster.apply(&(listener(8080) + HTTPS + HOST + &all));
    let gateway = cluster.gateway();
    let redirects = |path: &str| gateway.get(8080, path, "a.com").unwrap().status == 301;
    wait_until("cleartext is redirected", PATIENCE, || redirects("/"));
    assert!(shown(&gateway).is_none());

    // One for a Host that redirects, and one for a name that no Host has, by IngressClass.
    let class = format!("ambassador-{}", cluster.namespace);
    cluster.create(
        "/apis/networking.k8s.io/v1/ingressclasses",
        &json!({
            "metadata": {"name": class},
            "spec": {"controller": "getambassador.io/ingress-controller"},
        }),
    );
    let (one, two) = (solver("a.com", "one"), solver("new.example", "two"));
    cluster.apply(&(solver_service("solver-one", &one) + &solver_service("solver-two", &two)));
    let ingresses =
        format!("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", cluster.namespace);
    let made = [
        cluster.create(&ingresses, &solver_ingress("a.com", "one", "solver-one", None)),
        cluster
            .create(&ingresses, &solver_ingress("new.example", "two", "solver-two", Some(&class))),
    ];
    for (domain, token) in [("a.com", "one"), ("new.example", "two")] {
        let what = format!("the challenge for {domain} is answered");
        wait_until(&what, PATIENCE, || is_answered(&gateway, domain, token));
    }
    assert!(redirects("/") && redirects(&format!("{WELL_KNOWN}other")));
    assert_ne!(gateway.get(8080, "/", "new.example").unwrap().status, 200);

    // The certificate comes, and the challenge goes.
    let edition = |edition: &str| pki::server(edition).unwrap().secret("shop-tls");
    cluster.apply(&edition("a.com edition 10"));
    wait_until("it is shown", PATIENCE, || shown(&gateway).as_deref() == Some("a.com edition 10"));
    for ingress in made {
        kubectl(&cluster, &["delete", "ingress", ingress["metadata"]["name"].as_str().unwrap()]);
    }
    wait_until("nobody answers it", PATIENCE, || redirects(&format!("{WELL_KNOWN}one")));

    // Renewed: the next handshake has the new one.
    let begin = Instant::now();
    cluster.apply(&edition("a.com edition 11"));
    wait_until("the new one is", PATIENCE, || {
        shown(&gateway).as_deref() == Some("a.com edition 11")
    });
    println!("a renewed certificate is served {:?} after kubectl was started", begin.elapsed());
}

/// `acme.cert-manager.io/http01-edit-in-place`: the challenge is a path of the user's own Ingress.
#[test]
fn a_challenge_may_be_a_path_of_the_user_s_own_ingress() {
    let Some(cluster) = Cluster::begin("edit-in-place") else { return };
    let shop = pod("shop");
    let ingress = "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations:
    kubernetes.io/ingress.class: ambassador
    acme.cert-manager.io/http01-edit-in-place: 'true'
    cert-manager.io/cluster-issuer: letsencrypt
spec:
  tls: [{hosts: [a.com], secretName: shop-tls}]
  rules:
  - host: a.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
";
    let shop_service = service("shop") + &slice("shop", &[shop.address()]);
    cluster.apply(&(listener(8080) + HTTPS + ingress + &shop_service));
    let gateway = cluster.gateway();
    let serves = || {
        let answer = gateway.get(8080, "/", "a.com").unwrap();
        answer.seen().is_some_and(|seen| seen["backend"] == "shop")
    };
    wait_until("the Ingress is served", PATIENCE, serves);

    let solver = solver("a.com", "three");
    cluster.apply(&solver_service("solver-three", &solver));
    let path =
        format!("/apis/networking.k8s.io/v1/namespaces/{}/ingresses/shop", cluster.namespace);
    update(&cluster, &path, |ingress| {
        let paths = ingress["spec"]["rules"][0]["http"]["paths"].as_array_mut().unwrap();
        paths.push(challenge_path("three", "solver-three"));
    });
    wait_until("the challenge is answered", PATIENCE, || is_answered(&gateway, "a.com", "three"));
    assert!(serves());
    cluster.apply(&pki::server("a.com edition 12").unwrap().secret("shop-tls"));
    wait_until("it is shown", PATIENCE, || shown(&gateway).as_deref() == Some("a.com edition 12"));
    update(&cluster, &path, |ingress| {
        ingress["spec"]["rules"][0]["http"]["paths"].as_array_mut().unwrap().pop();
    });
    wait_until("it is not any more", PATIENCE, || !is_answered(&gateway, "a.com", "three"));
    assert!(serves());
}
