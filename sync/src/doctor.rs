// SPDX-License-Identifier: Apache-2.0
//! Whether a cluster gives a gateway what it needs, asked with the gateway's own rights. Nothing is
//! changed.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Context as _;
use http::Request;
use ringway_core::crd::schema::DEFINITIONS;
use ringway_core::limits;
use serde_json::{Value, json};

use crate::watch::kube::{Options, addresses_of, client, escape, node_of};

/// How good it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// It works, and could be better.
    Poor,
    /// A gateway does not start, or will fail.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub what: &'static str,
    pub said: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    pub fn new(verdict: Verdict, what: &'static str, said: String, advice: &str) -> Self {
        let advice = (verdict != Verdict::Good).then(|| advice.to_owned());
        Self { verdict, what, said, advice }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "good",
            Verdict::Poor => "poor",
            Verdict::Bad => "BAD ",
        };
        write!(f, "{verdict}  {:<13} {}", self.what, self.said)?;
        match &self.advice {
            Some(advice) => write!(f, "\n                    {advice}"),
            None => Ok(()),
        }
    }
}

/// Looks at a cluster; `own` is the gateway's namespace.
///
/// # Errors
/// No cluster is configured.
pub fn cluster(options: &Options, own: &str) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = runtime.block_on(client(options))?;
    let ask = |method: &str, target: &str, body: Option<Value>| {
        let content = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder().method(method).uri(target);
        let request = request.header("content-type", "application/json").body(content)?;
        let answer = client.request::<Value>(request);
        runtime
            .block_on(async { tokio::time::timeout(limits::KUBE_REQUEST_TIMEOUT, answer).await })
            .context("it does not answer")?
            .map_err(|error| anyhow::anyhow!("{}", innermost(&error)))
    };
    Ok(findings(options, own, &ask))
}

/// The outermost error says that there was one, the innermost which.
fn innermost(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return status.message.clone();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Asks an API server: method, target, body.
type Ask<'a> = &'a dyn Fn(&str, &str, Option<Value>) -> anyhow::Result<Value>;

fn findings(options: &Options, own: &str, ask: Ask<'_>) -> Vec<Finding> {
    let version = match ask("GET", "/version", None) {
        Ok(version) => version["gitVersion"].as_str().unwrap_or("of some version").to_owned(),
        Err(error) => {
            let said = format!("cannot be asked: {error}");
            let advice =
                "is it the right one (--kubeconfig, --context), is it up, is it reachable?";
            return vec![Finding::new(Verdict::Bad, "API server", said, advice)];
        }
    };
    let mut out = vec![Finding::new(Verdict::Good, "API server", version, "")];
    out.push(rights(options, own, ask));
    out.extend(definitions(options, ask));
    out.push(addresses(options, own, ask));
    out
}

/// A verb on a resource, everywhere (or in the one namespace that is watched), in the gateway's own
/// namespace, or of no namespace.
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    of: Of,
    /// Without it nothing, or not everything, is served.
    serves: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Watched,
    Own,
    None,
}

fn wanted(options: &Options) -> Vec<Right> {
    let mut out = Vec::new();
    let mut want = |verbs: &[&'static str], group, resource, of, serves| {
        out.extend(verbs.iter().map(|verb| Right { verb, group, resource, of, serves }));
    };
    let read = &["list", "watch"];
    for definition in DEFINITIONS {
        want(read, "getambassador.io", definition.plural, Of::Watched, true);
    }
    want(read, "", "services", Of::Watched, true);
    want(read, "discovery.k8s.io", "endpointslices", Of::Watched, true);
    want(read, "networking.k8s.io", "ingresses", Of::Watched, true);
    want(read, "networking.k8s.io", "ingressclasses", Of::None, true);
    want(read, "apiextensions.k8s.io", "customresourcedefinitions", Of::None, true);
    // Only some of them may be allowed, on purpose.
    want(&["get", "watch"], "", "secrets", Of::Watched, false);
    if options.writes {
        for resource in ["mappings/status", "hosts/status", "listeners/status"] {
            want(&["patch"], "getambassador.io", resource, Of::Watched, false);
        }
        want(&["patch"], "networking.k8s.io", "ingresses/status", Of::Watched, false);
        want(&["create"], "events.k8s.io", "events", Of::Watched, false);
        want(&["get", "create", "update"], "coordination.k8s.io", "leases", Of::Own, false);
        if options.publish.nodes_of.is_some() {
            want(read, "", "pods", Of::Own, false);
            want(read, "", "nodes", Of::None, false);
        }
    }
    out
}

/// SelfSubjectAccessReview for each right.
fn rights(options: &Options, own: &str, ask: Ask<'_>) -> Finding {
    const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let wanted = wanted(options);
    let n_wanted = wanted.len();
    let (mut missing, mut serves) = (Vec::new(), true);
    for right in wanted {
        let namespace = match right.of {
            Of::Watched => options.scope.namespace.as_deref().unwrap_or(""),
            Of::Own => own,
            Of::None => "",
        };
        let (resource, subresource) =
            right.resource.split_once('/').unwrap_or((right.resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": right.verb, "group": right.group, "resource": resource,
                "subresource": subresource, "namespace": namespace,
            }},
        });
        match ask("POST", REVIEWS, Some(review)) {
            Ok(answer) if answer["status"]["allowed"] == true => {}
            Ok(_) => {
                missing.push(format!("{} {}", right.verb, right.resource));
                serves &= !right.serves;
            }
            Err(error) => {
                let said = format!("cannot be asked for: {error}");
                return Finding::new(Verdict::Poor, "RBAC", said, "look at the role by hand");
            }
        }
    }
    let verdict = match (missing.is_empty(), serves) {
        (true, _) => Verdict::Good,
        (false, true) => Verdict::Poor,
        (false, false) => Verdict::Bad,
    };
    let said = match verdict {
        Verdict::Good => format!("all {n_wanted} rights are there"),
        _ => format!("may not {}", missing.join(", ")),
    };
    let advice = "objects that are not read do nothing, statuses that are not written say nothing: \
                  the chart's role (rbac.create) has what is needed";
    Finding::new(verdict, "RBAC", said, advice)
}

/// The definitions of our kinds: there, and convertible.
fn definitions(options: &Options, ask: Ask<'_>) -> Vec<Finding> {
    const DEFINITIONS_PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let list = match ask("GET", DEFINITIONS_PATH, None) {
        Ok(list) => list,
        Err(error) => {
            let said = format!("cannot be listed: {error}");
            return vec![Finding::new(Verdict::Poor, "CRDs", said, "see RBAC")];
        }
    };
    let there: Vec<&Value> = list["items"].as_array().map_or_else(Vec::new, |items| {
        items.iter().filter(|item| item["spec"]["group"] == "getambassador.io").collect()
    });
    let find = |name: &str| there.iter().find(|item| item["metadata"]["name"] == name);
    let (mut absent, mut old, mut newest) = (Vec::new(), Vec::new(), 0);
    for definition in DEFINITIONS {
        let Some(installed) = find(&definition.name()) else {
            absent.push(definition.plural);
            continue;
        };
        let versions = installed["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let serves_newest = versions.iter().any(|version| {
            version["served"] == true && definition.versions.contains(&name_of(version))
        });
        match serves_newest {
            true => newest += 1,
            false => old.push(definition.plural),
        }
    }
    let verdict = match (newest, absent.is_empty() && old.is_empty()) {
        (0, _) => Verdict::Bad,
        (_, true) => Verdict::Good,
        (_, false) => Verdict::Poor,
    };
    let mut said = format!("{newest} of {} kinds", DEFINITIONS.len());
    if !absent.is_empty() {
        said += &format!("; not installed: {}", absent.join(", "));
    }
    if !old.is_empty() {
        said += &format!("; in no version that is read: {}", old.join(", "));
    }
    let advice = "ringway crds | kubectl apply --server-side -f -";
    let mut out = vec![Finding::new(verdict, "CRDs", said, advice)];
    out.extend(conversion(options, &there, ask));
    out
}

fn name_of(version: &Value) -> &str {
    version["name"].as_str().unwrap_or_default()
}

/// Definitions that have their objects converted by a webhook, and whether it does. Of no use to a
/// gateway, but for the API server: without it objects that are stored in another version cannot be
/// read at all.
fn conversion(options: &Options, there: &[&Value], ask: Ask<'_>) -> Option<Finding> {
    let converted: Vec<&Value> = (there.iter().copied())
        .filter(|item| item["spec"]["conversion"]["strategy"] == "Webhook")
        .collect();
    let webhook = &converted.first()?["spec"]["conversion"]["webhook"]["clientConfig"];
    let service = &webhook["service"];
    let name = match (service["namespace"].as_str(), service["name"].as_str()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => webhook["url"].as_str().unwrap_or("of no address").to_owned(),
    };
    let mut dead = Vec::new();
    for definition in &converted {
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap_or_default();
        for version in definition["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice) {
            if version["served"] != true || version["storage"] == true {
                continue;
            }
            // An object of the stored version, read in this one, has to be converted; not all of
            // them need be of that version.
            let place = match &options.scope.namespace {
                Some(namespace) => format!("namespaces/{namespace}/"),
                None => String::new(),
            };
            let page = limits::KUBE_PAGE_OBJECTS;
            let target =
                format!("/apis/getambassador.io/{}/{place}{plural}?limit={page}", name_of(version));
            match ask("GET", &target, None) {
                Err(error) if error.to_string().contains("conversion webhook") => {
                    dead.push(format!("{plural} {}", name_of(version)));
                }
                _ => {}
            }
        }
    }
    let ready = endpoints(service, ask);
    let (verdict, said) = match (dead.is_empty(), ready) {
        (false, _) => {
            (Verdict::Bad, format!("by the webhook {name}, which is dead: {}", dead.join(", ")))
        }
        (true, Some(0)) => (Verdict::Bad, format!("by the webhook {name}, which has no endpoint")),
        (true, _) => (Verdict::Poor, format!("by the webhook {name}")),
    };
    let advice = "objects in another version than the stored one cannot be read while it is away: \
                  where nothing else needs it, `ringway crds --repair | sh` frees the definitions \
                  from it";
    Some(Finding::new(verdict, "conversion", said, advice))
}

/// Ready endpoints of a Service, if that is known.
fn endpoints(service: &Value, ask: Ask<'_>) -> Option<usize> {
    let (namespace, name) = (service["namespace"].as_str()?, service["name"].as_str()?);
    let target = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?\
         labelSelector=kubernetes.io%2Fservice-name%3D{name}"
    );
    let slices = ask("GET", &target, None).ok()?;
    let slices = slices["items"].as_array()?;
    let endpoints = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    Some(endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false).count())
}

/// Where Ingresses say that the gateway is reached.
fn addresses(options: &Options, own: &str, ask: Ask<'_>) -> Finding {
    let say =
        |verdict, said: String, advice: &str| Finding::new(verdict, "addresses", said, advice);
    let told = &options.publish.addresses;
    if !told.is_empty() {
        return say(Verdict::Good, format!("{}, as told", told.join(", ")), "");
    }
    const OTHERWISE: &str = "statuses of Ingresses name no address: wait for the load balancer, or \
                             say it with --publish-service or --publish-status-address";
    if let Some(labels) = &options.publish.nodes_of {
        return match node_addresses(own, labels, ask) {
            Ok(found) if found.is_empty() => {
                say(Verdict::Poor, format!("no ready Pod has the labels {labels}"), OTHERWISE)
            }
            Ok(found) => say(Verdict::Good, format!("{}, of nodes", found.join(", ")), ""),
            Err(error) => say(Verdict::Poor, format!("cannot be asked for: {error}"), OTHERWISE),
        };
    }
    let services = match &options.publish.service {
        Some(name) => {
            let (namespace, name) = name.split_once('/').unwrap_or((own, name));
            let target = format!(
                "/api/v1/namespaces/{namespace}/services?fieldSelector=metadata.name%3D{name}"
            );
            ask("GET", &target, None)
        }
        None => {
            let target = format!(
                "/api/v1/namespaces/{own}/services?labelSelector=\
                 app.kubernetes.io%2Fcomponent%3Dambassador-service"
            );
            ask("GET", &target, None)
        }
    };
    let services = match services {
        Ok(services) => services,
        Err(error) => {
            return say(Verdict::Poor, format!("cannot be asked for: {error}"), OTHERWISE);
        }
    };
    let Some(service) = services["items"].as_array().and_then(|items| items.first()) else {
        return say(
            Verdict::Poor,
            format!("no Service of the gateway in namespace {own}"),
            OTHERWISE,
        );
    };
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let points = service["status"]["loadBalancer"]["ingress"].as_array();
    let points = points.map_or(&[][..], Vec::as_slice).iter();
    let found: Vec<&str> = points
        .filter_map(|point| point["ip"].as_str().or_else(|| point["hostname"].as_str()))
        .collect();
    match found.is_empty() {
        true => say(Verdict::Poor, format!("the Service {name} has none"), OTHERWISE),
        false => say(Verdict::Good, format!("{}, of the Service {name}", found.join(", ")), ""),
    }
}

/// Of the nodes that ready Pods with these labels run on.
fn node_addresses(own: &str, labels: &str, ask: Ask<'_>) -> anyhow::Result<Vec<String>> {
    let labels = escape(labels);
    let target = format!("/api/v1/namespaces/{own}/pods?labelSelector={labels}");
    let pods = ask("GET", &target, None)?;
    let nodes = ask("GET", "/api/v1/nodes", None)?;
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let of: BTreeSet<String> = items(&pods).iter().filter_map(node_of).collect();
    let is_one = |node: &&Value| of.contains(node["metadata"]["name"].as_str().unwrap_or_default());
    let found: BTreeSet<String> =
        items(&nodes).iter().filter(is_one).flat_map(addresses_of).collect();
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests;
