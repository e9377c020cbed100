// SPDX-License-Identifier: Apache-2.0
//! Writes what there is to say of objects into their statuses, and events beside it: only where it
//! is something else than what stands there, only for what every worker serves, and only while this
//! process holds the Lease.
//!
//! Statuses are applied with a field manager of our own, so that nobody else's fields are touched.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use futures_util::StreamExt as _;
use http::Method;
use ringway_core::limits;
use ringway_core::name::{Kind, Ref};
use ringway_core::problem::Severity;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::api::{Api, Failure, Head};
use super::definitions::Installed;
use super::lease::{micro_time, time};
use super::verdict::{self, Verdict, WITH_STATUS, fingerprint};
use crate::gateway::{Report, State};

/// Who writes, in `managedFields` and in events.
const MANAGER: &str = "ringway";

/// What an API server says of an apply with a field that the CRD does not have.
const UNDECLARED: &str = "field not declared in schema";

/// Takes out what only our own CRDs have.
fn strip(status: &mut Value) {
    if let Some(fields) = status.as_object_mut() {
        fields.remove("conditions");
        fields.remove("observedGeneration");
    }
}

/// What an API server has of the objects that something may be said of.
#[derive(Default)]
pub(super) struct Observed {
    objects: Mutex<HashMap<Ref, Known>>,
}

#[derive(Clone)]
struct Known {
    uid: Box<str>,
    generation: i64,
    api_version: &'static str,
    /// Of the status.
    fingerprint: u64,
    conditions: Box<[KnownCondition]>,
}

/// A condition that stands there: its time stays while its status does.
#[derive(Clone, Deserialize)]
struct KnownCondition {
    #[serde(default)]
    r#type: Box<str>,
    #[serde(default)]
    status: Box<str>,
    #[serde(default, rename = "lastTransitionTime")]
    since: Box<str>,
}

impl Observed {
    fn objects(&self) -> std::sync::MutexGuard<'_, HashMap<Ref, Known>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything is ever said of a kind.
    pub(super) fn wants(kind: Kind) -> bool {
        !matches!(kind, Kind::EndpointSlice | Kind::Service | Kind::IngressClass | Kind::Secret)
    }

    pub(super) fn set(&self, name: Ref, head: &Head<'_>, api_version: &'static str) {
        let (fingerprint, conditions) = read_status(head.status);
        let known = Known {
            uid: (&*head.metadata.uid).into(),
            generation: head.metadata.generation,
            api_version,
            fingerprint,
            conditions,
        };
        self.objects().insert(name, known);
    }

    pub(super) fn remove(&self, name: &Ref) {
        self.objects().remove(name);
    }

    fn get(&self, name: &Ref) -> Option<Known> {
        self.objects().get(name).cloned()
    }
}

fn read_status(status: Option<&RawValue>) -> (u64, Box<[KnownCondition]>) {
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        conditions: Vec<KnownCondition>,
    }
    let text = status.map_or("null", RawValue::get);
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let conditions =
        serde_json::from_str::<Status>(text).map_or_else(|_| Vec::new(), |s| s.conditions);
    (fingerprint(&value), conditions.into())
}

/// Writes statuses and events.
pub(super) struct Writer {
    pub(super) api: Api,
    pub(super) state: Arc<State>,
    pub(super) observed: Arc<Observed>,
    pub(super) addresses: super::addresses::Addresses,
    pub(super) installed: Installed,
    /// The process, as events name it.
    pub(super) identity: String,
    pub(super) told: Told,
}

/// What this process has said.
#[derive(Default)]
pub(super) struct Told {
    /// Per object: the status that was sent, and what stood there afterwards, which is less where
    /// the CRD does not have all fields.
    sent: HashMap<Ref, (u64, u64)>,
    /// Per object with something wrong: a hash of what was said in an event.
    complaints: HashMap<Ref, u64>,
    of_definitions: OfDefinitions,
    said: Option<Failure>,
}

/// What was found out about the definitions that are installed.
#[derive(Default)]
struct OfDefinitions {
    /// Kinds that have no status to write, and since when that is known.
    without: HashMap<Kind, Instant>,
    /// Kinds that know none of our own fields of a status, as Emissary's, and since when.
    plain: HashMap<Kind, Instant>,
    preferred: Option<Preferred>,
}

/// The version of our kinds that `kubectl` asks for, and the kinds that have it.
struct Preferred {
    api_version: String,
    kinds: HashSet<String>,
}

impl Preferred {
    async fn ask(api: &Api) -> Result<Self, Failure> {
        let read = |text: String| serde_json::from_str::<Value>(&text).unwrap_or_default();
        let group = read(api.get("/apis/getambassador.io", false).await?);
        let version = group["preferredVersion"]["groupVersion"].as_str().unwrap_or_default();
        let list = read(api.get(&format!("/apis/{version}"), false).await?);
        let resources = list["resources"].as_array().into_iter().flatten();
        let kinds = resources.filter_map(|of| Some(of["kind"].as_str()?.to_owned())).collect();
        Ok(Self { api_version: version.to_owned(), kinds })
    }
}

/// One status to write.
struct Write {
    name: Ref,
    path: String,
    body: Value,
    fingerprint: u64,
}

impl Writer {
    /// Writes for ever, while the Lease is held.
    pub(super) async fn run(mut self, mut held: watch::Receiver<bool>) {
        let mut last: Option<(Arc<Report>, u64)> = None;
        let mut lost = held.clone();
        loop {
            if held.wait_for(|held| *held).await.is_err() {
                return;
            }
            if self.installed.take_news() {
                // Other definitions may take more of a status, or less.
                self.told.of_definitions = OfDefinitions::default();
                last = None;
            }
            let report = self.state.report();
            let addresses = self.addresses.version();
            let is_news = last
                .as_ref()
                .is_none_or(|(seen, at)| !Arc::ptr_eq(seen, &report) || *at != addresses);
            let generation = report.table.as_ref().map(|table| table.generation);
            let is_served = generation.is_some_and(|at| self.state.progress.served() >= at);
            if is_news && is_served {
                // Whoever does not hold it any more stops in the middle.
                let done = tokio::select! {
                    done = self.write(&report) => done,
                    _ = lost.wait_for(|held| !*held) => false,
                };
                last = done.then_some((report, addresses));
            }
            tokio::time::sleep(limits::KUBE_STATUS_INTERVAL).await;
        }
    }

    /// Writes what is other than what stands there; whether nothing is left to do.
    async fn write(&mut self, report: &Report) -> bool {
        let verdicts = verdict::verdicts(report);
        self.told.sent.retain(|name, _| verdicts.contains_key(name) || name.kind == Kind::Ingress);
        let mut writes = Vec::new();
        let mut events = Vec::new();
        let mut is_done = true;
        for (name, verdict) in &verdicts {
            let Some(known) = self.observed.get(name) else { continue };
            let object = report.snapshot.object(name);
            let judged = object.and_then(|object| object.meta.generation);
            let is_behind = judged.is_some_and(|judged| judged < known.generation);
            if is_behind && !report.refused.contains(name) {
                // The next report is about the newer one.
                is_done = false;
                continue;
            }
            let status = verdict.status(name.kind, known.generation);
            if let Some(write) = self.status(name, &known, status) {
                events.extend(self.complain(name, &known, verdict));
                writes.push(write);
            }
        }
        writes.extend(self.ingresses(report));
        events.extend(self.others(report, &verdicts));
        self.told.complaints.retain(|name, _| self.observed.objects().contains_key(name));
        is_done & self.send(writes).await & self.say(events).await
    }

    /// The status of one object, unless it stands there.
    fn status(&mut self, name: &Ref, known: &Known, mut status: Value) -> Option<Write> {
        if let Some(since) = self.told.of_definitions.plain.get_mut(&name.kind) {
            if since.elapsed() < limits::KUBE_STATUS_RETRY {
                strip(&mut status);
            } else {
                // One object finds out whether it is another CRD now.
                *since = Instant::now();
            }
        }
        let wanted = fingerprint(&status);
        if known.fingerprint == wanted
            || self.told.sent.get(name) == Some(&(wanted, known.fingerprint))
        {
            return None;
        }
        let without = self.told.of_definitions.without.get(&name.kind);
        if without.is_some_and(|since| since.elapsed() < limits::KUBE_STATUS_RETRY) {
            return None;
        }
        let now = time(SystemTime::now());
        let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten() {
            let stands = known.conditions.iter().find(|stands| {
                condition["type"] == *stands.r#type && condition["status"] == *stands.status
            });
            let since = stands.map(|stands| &*stands.since).filter(|since| !since.is_empty());
            condition["lastTransitionTime"] = since.unwrap_or(&now).into();
        }
        let (_, plural) = WITH_STATUS
            .into_iter()
            .chain([(Kind::Ingress, "ingresses")])
            .find(|(kind, _)| *kind == name.kind)?;
        let (namespace, object) = (&name.namespace, &name.name);
        let path = format!(
            "/apis/{}/namespaces/{namespace}/{plural}/{object}/status\
             ?fieldManager={MANAGER}&force=true",
            known.api_version
        );
        let body = json!({
            "apiVersion": known.api_version,
            "kind": name.kind.as_str(),
            "metadata": {"name": &**object, "namespace": &**namespace},
            "status": status,
        });
        Some(Write { name: name.clone(), path, body, fingerprint: wanted })
    }

    /// Where clients reach the Ingresses that are served.
    fn ingresses(&mut self, report: &Report) -> Vec<Write> {
        let addresses = self.addresses.get();
        if addresses.is_empty() {
            return Vec::new();
        }
        let routes = report.table.iter().flat_map(|table| table.routes.iter().flatten());
        let served: HashSet<&Ref> =
            routes.map(|route| &route.spec().object).filter(|o| o.kind == Kind::Ingress).collect();
        let write = |name: &Ref| {
            let known = self.observed.get(name)?;
            self.status(name, &known, json!({"loadBalancer": {"ingress": addresses}}))
        };
        served.into_iter().filter_map(write).collect()
    }

    /// An event about what is wrong with an object, or that it is not wrong any more.
    fn complain(&mut self, name: &Ref, known: &Known, verdict: &Verdict) -> Option<Value> {
        match verdict.complaint() {
            Some(said) => self.event(name, known, said.reason, &said.message),
            None => {
                self.told.complaints.remove(name)?;
                Some(self.body(name, known, "Normal", "Programmed", "every worker serves it"))
            }
        }
    }

    /// Events about what is wrong with objects that have no status.
    fn others(&mut self, report: &Report, verdicts: &HashMap<Ref, Verdict>) -> Vec<Value> {
        let mut events = Vec::new();
        for diagnostic in &report.diagnostics {
            let Some(name) = &diagnostic.object else { continue };
            let is_error = matches!(diagnostic.severity, Severity::Error | Severity::FailsClosed);
            if !is_error || verdicts.contains_key(name) {
                continue;
            }
            if let Some(known) = self.observed.get(name) {
                events.extend(self.event(name, &known, diagnostic.reason, &diagnostic.message));
            }
        }
        events
    }

    fn event(&mut self, name: &Ref, known: &Known, reason: &str, message: &str) -> Option<Value> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        (reason, message).hash(&mut hasher);
        let hash = hasher.finish();
        if self.told.complaints.insert(name.clone(), hash) == Some(hash) {
            return None;
        }
        Some(self.body(name, known, "Warning", reason, message))
    }

    fn body(&self, name: &Ref, known: &Known, kind: &str, reason: &str, note: &str) -> Value {
        // Kubernetes takes 1 KiB.
        let note: String = note.chars().take(250).collect();
        let stem: String = name.name.chars().take(200).collect();
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "generateName": format!("{}-", stem.trim_end_matches('.')),
                "namespace": &*name.namespace,
            },
            "eventTime": micro_time(SystemTime::now()),
            "reportingController": "getambassador.io/ringway",
            "reportingInstance": self.identity,
            "action": "Configure",
            "reason": reason,
            "type": kind,
            "note": note,
            "regarding": {
                "apiVersion": known.api_version,
                "kind": name.kind.as_str(),
                "namespace": &*name.namespace,
                "name": &*name.name,
                "uid": &*known.uid,
            },
        })
    }

    async fn send(&mut self, writes: Vec<Write>) -> bool {
        let api = &self.api;
        let send = |write: Write| async move {
            let body = write.body.to_string().into_bytes();
            let kind = "application/apply-patch+yaml";
            let answer = api.send(Method::PATCH, &write.path, kind, body).await;
            (write, answer)
        };
        let answers: Vec<_> = futures_util::stream::iter(writes.into_iter().map(send))
            .buffer_unordered(limits::KUBE_STATUS_WRITES_MAX)
            .collect()
            .await;
        let mut is_done = true;
        for (write, answer) in answers {
            match answer {
                Ok(json) => {
                    let head = serde_json::from_str::<Head<'_>>(&json);
                    let stands = head.map_or(0, |head| read_status(head.status).0);
                    self.told.of_definitions.without.remove(&write.name.kind);
                    if write.body["status"].get("conditions").is_some() {
                        // The others have not said all yet.
                        is_done &=
                            self.told.of_definitions.plain.remove(&write.name.kind).is_none();
                    }
                    self.told.sent.insert(write.name, (write.fingerprint, stands));
                }
                // Gone meanwhile, or a kind without a status.
                Err(Failure::Absent) => {
                    if self.observed.get(&write.name).is_some() {
                        self.told.of_definitions.without.insert(write.name.kind, Instant::now());
                    }
                }
                Err(failure) if failure.to_string().contains(UNDECLARED) => {
                    self.told.of_definitions.plain.insert(write.name.kind, Instant::now());
                    is_done = false;
                }
                Err(failure) => {
                    super::say(
                        &format!("the status of {}", write.name),
                        &failure,
                        &mut self.told.said,
                    );
                    is_done &= matches!(failure, Failure::Forbidden(_) | Failure::Refused(_));
                }
            }
        }
        is_done
    }

    /// The version that `kubectl events --for` looks for, of a kind that has it.
    async fn preferred(&mut self, kind: &str) -> Option<&str> {
        let known = &mut self.told.of_definitions.preferred;
        if known.is_none() {
            *known = Preferred::ask(&self.api).await.ok();
        }
        let known = known.as_ref().filter(|known| known.kinds.contains(kind))?;
        Some(&known.api_version)
    }

    async fn say(&mut self, events: Vec<Value>) -> bool {
        for mut event in events.into_iter().take(limits::KUBE_EVENTS_MAX) {
            let regarding = &mut event["regarding"];
            let kind = regarding["kind"].as_str().unwrap_or_default().to_owned();
            if let Some(version) = self.preferred(&kind).await {
                regarding["apiVersion"] = version.into();
            }
            let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
            let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
            let body = event.to_string().into_bytes();
            if let Err(failure) = self.api.send(Method::POST, &path, "application/json", body).await
            {
                super::say("an event", &failure, &mut self.told.said);
            }
        }
        true
    }
}
