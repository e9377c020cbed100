// SPDX-License-Identifier: Apache-2.0
//! Our kinds as CustomResourceDefinitions: names, versions, columns.

use serde_json::{Value, json};

use super::{Form, Record, Schema, legacy, status};
use crate::crd::convert;
use crate::crd::decode::Decode;
use crate::crd::{
    AuthService, ConsulResolver, DevPortal, Filter, FilterPolicy, Host, KubernetesEndpointResolver,
    KubernetesServiceResolver, Listener, LogService, Mapping, Module, RateLimit, RateLimitService,
    TCPMapping, TLSContext, TracingService,
};
use crate::name::Kind;
use crate::wire::grpc_web::base64;

/// The API group of all of them.
pub(super) const GROUP: &str = "getambassador.io";

/// Newest first. Objects are stored in the newest: what Emissary stored as v2 stays readable as
/// long as v2 is served.
const ALL: &[&str] = &["v3alpha1", "v2", "v1"];

/// One kind.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub kind: Kind,
    pub plural: &'static str,
    short_names: &'static [&'static str],
    /// What it is for.
    description: &'static str,
    /// Those that Emissary serves it in, newest first.
    pub versions: &'static [&'static str],
    spec: fn() -> Form,
    columns: &'static [Column],
}

/// What `kubectl get` prints besides the name and the age.
#[derive(Clone, Copy, Debug)]
struct Column {
    name: &'static str,
    path: &'static str,
    integer: bool,
    /// With `-o wide` only.
    wide: bool,
}

const fn column(name: &'static str, path: &'static str) -> Column {
    Column { name, path, integer: false, wide: false }
}

const fn number(name: &'static str, path: &'static str) -> Column {
    Column { name, path, integer: true, wide: false }
}

const fn wide(column: Column) -> Column {
    Column { wide: true, ..column }
}

const STATE: Column = column("State", ".status.state");
const REASON: Column = column("Reason", ".status.reason");

/// Every kind of the group that is read, by name.
pub const DEFINITIONS: &[Definition] = &[
    Definition {
        kind: Kind::AuthService,
        plural: "authservices",
        short_names: &[],
        description: "A service that is asked about every request before it is routed.",
        versions: ALL,
        spec: AuthService::form,
        columns: &[column("Auth Service", ".spec.auth_service"), column("Proto", ".spec.proto")],
    },
    Definition {
        kind: Kind::ConsulResolver,
        plural: "consulresolvers",
        short_names: &[],
        description: "Services are looked up in Consul.",
        versions: ALL,
        spec: ConsulResolver::form,
        columns: &[column("Address", ".spec.address"), column("Datacenter", ".spec.datacenter")],
    },
    Definition {
        kind: Kind::DevPortal,
        plural: "devportals",
        short_names: &[],
        description: "Which services' documents are shown, and how.",
        versions: ALL,
        spec: DevPortal::form,
        columns: &[],
    },
    Definition {
        kind: Kind::Filter,
        plural: "filters",
        short_names: &["fil"],
        description: "A check that a request has to pass where a FilterPolicy says so.",
        versions: ALL,
        spec: Filter::form,
        columns: &[],
    },
    Definition {
        kind: Kind::FilterPolicy,
        plural: "filterpolicies",
        short_names: &["fp"],
        description: "Which requests have to pass which Filters.",
        versions: ALL,
        spec: FilterPolicy::form,
        columns: &[],
    },
    Definition {
        kind: Kind::Host,
        plural: "hosts",
        short_names: &[],
        description: "A name that the gateway answers for: its certificate, its Mappings and what \
                      becomes of cleartext.",
        versions: &["v3alpha1", "v2"],
        spec: Host::form,
        columns: &[
            column("Hostname", ".spec.hostname"),
            STATE,
            column("Secret", ".spec.tlsSecret.name"),
            wide(column("Phase Completed", ".status.phaseCompleted")),
            wide(column("Phase Pending", ".status.phasePending")),
            wide(column("Reason", ".status.errorReason")),
        ],
    },
    Definition {
        kind: Kind::KubernetesEndpointResolver,
        plural: "kubernetesendpointresolvers",
        short_names: &[],
        description: "Services are reached at their endpoints.",
        versions: ALL,
        spec: KubernetesEndpointResolver::form,
        columns: &[],
    },
    Definition {
        kind: Kind::KubernetesServiceResolver,
        plural: "kubernetesserviceresolvers",
        short_names: &[],
        description: "Services are reached at their names.",
        versions: ALL,
        spec: KubernetesServiceResolver::form,
        columns: &[],
    },
    Definition {
        kind: Kind::Listener,
        plural: "listeners",
        short_names: &[],
        description: "A port that the gateway listens on, with its protocols and its Hosts.",
        versions: &["v3alpha1"],
        spec: Listener::form,
        columns: &[
            number("Port", ".spec.port"),
            column("Protocol", ".spec.protocol"),
            column("Stack", ".spec.protocolStack"),
            wide(column("StatsPrefix", ".spec.statsPrefix")),
            column("Security", ".spec.securityModel"),
            number("L7Depth", ".spec.l7Depth"),
            STATE,
            wide(REASON),
        ],
    },
    Definition {
        kind: Kind::LogService,
        plural: "logservices",
        short_names: &[],
        description: "A service that receives the access log (Envoy's ALS).",
        versions: ALL,
        spec: LogService::form,
        columns: &[column("Service", ".spec.service"), column("Driver", ".spec.driver")],
    },
    Definition {
        kind: Kind::Mapping,
        plural: "mappings",
        short_names: &[],
        description: "Which requests go to which service, and how they are changed on the way.",
        versions: ALL,
        spec: Mapping::form,
        columns: &[
            // Whichever is there: v2 writes `host`.
            column("Source Host", ".spec['hostname','host']"),
            column("Source Prefix", ".spec.prefix"),
            column("Dest Service", ".spec.service"),
            number("Weight", ".spec.weight"),
            STATE,
            column("Reason", ".status.reason"),
        ],
    },
    Definition {
        kind: Kind::Module,
        plural: "modules",
        short_names: &[],
        description: "Gateway-wide settings and defaults; only the one named `ambassador` counts.",
        versions: ALL,
        spec: module,
        columns: &[],
    },
    Definition {
        kind: Kind::RateLimit,
        plural: "ratelimits",
        short_names: &["rl"],
        description: "How many requests that carry certain labels may pass in a while.",
        versions: ALL,
        spec: RateLimit::form,
        columns: &[column("Domain", ".spec.domain")],
    },
    Definition {
        kind: Kind::RateLimitService,
        plural: "ratelimitservices",
        short_names: &[],
        description: "A service that is asked whether labelled requests are too many.",
        versions: ALL,
        spec: RateLimitService::form,
        columns: &[column("Service", ".spec.service"), column("Domain", ".spec.domain")],
    },
    Definition {
        kind: Kind::TCPMapping,
        plural: "tcpmappings",
        short_names: &[],
        description: "A port, and perhaps a server name on it, whose connections go to a service \
                      without a look at what is in them.",
        versions: ALL,
        spec: TCPMapping::form,
        columns: &[
            number("Port", ".spec.port"),
            column("Host", ".spec.host"),
            column("Service", ".spec.service"),
            number("Weight", ".spec.weight"),
        ],
    },
    Definition {
        kind: Kind::TLSContext,
        plural: "tlscontexts",
        short_names: &[],
        description: "Certificates and TLS settings under a name, for Hosts, TCPMappings and \
                      upstreams.",
        versions: ALL,
        spec: TLSContext::form,
        columns: &[column("Hosts", ".spec.hosts"), column("Secret", ".spec.secret")],
    },
    Definition {
        kind: Kind::TracingService,
        plural: "tracingservices",
        short_names: &[],
        description: "A collector of traces.",
        versions: ALL,
        spec: TracingService::form,
        columns: &[column("Driver", ".spec.driver"), column("Service", ".spec.service")],
    },
];

/// An API server judges no key of a Module's configuration, so that one bad key does not keep the
/// others out.
fn module() -> Form {
    let mut spec = Module::form();
    if let Some(config) = spec.at(&["config"]) {
        let described = std::mem::replace(config, Form::Any).loosened();
        *config = Form::Open(Box::new(described));
    }
    spec
}

impl Definition {
    /// The name of the CustomResourceDefinition.
    pub fn name(&self) -> String {
        format!("{}.{GROUP}", self.plural)
    }

    /// What may stand under `spec`, in every version.
    pub fn spec(&self) -> Form {
        let mut spec = (self.spec)();
        legacy::widen(self.kind, &mut spec);
        if let Form::Record(record) = &mut spec {
            let id = "Gateways that read this object: those whose AMBASSADOR_ID is one of these; \
                      `default` where nothing is written. A single text is welcome too.";
            record.fields.insert("ambassador_id", Schema::new(id, Form::Any));
            let id = "The same as `ambassador_id`, which counts where both are.";
            record.fields.insert("ambassadorId", Schema::new(id, Form::Any));
        }
        spec
    }

    /// The whole object, as it is written in any version.
    fn object(&self) -> Form {
        let record = Record::default()
            .with("apiVersion", "Group and version: see the API conventions.", Form::TEXT)
            .with("kind", "The kind of the object.", Form::TEXT)
            // Everybody's: an API server takes no word about it.
            .with("metadata", "", Form::Object)
            .with("spec", self.description, self.spec())
            .with("status", "What became of it; the gateway writes it.", status::of(self.kind));
        Form::Record(record)
    }

    /// The CustomResourceDefinition.
    pub fn to_json(&self) -> Value {
        let kind = self.kind.as_str();
        let mut schema = self.object().to_json();
        schema.insert("description".into(), self.description.into());
        let columns: Vec<Value> = self.columns.iter().map(|column| column.to_json()).collect();
        let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
        let columns: Vec<Value> = columns.into_iter().chain([age]).collect();
        let versions = self.versions.iter().enumerate().map(|(index, version)| {
            json!({
                "name": version,
                "served": true,
                "storage": index == 0,
                "additionalPrinterColumns": columns,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            })
        });
        let mut names = json!({
            "categories": ["ambassador-crds", "ringway"],
            "kind": kind,
            "listKind": format!("{kind}List"),
            "plural": self.plural,
            "singular": kind.to_ascii_lowercase(),
        });
        if !self.short_names.is_empty() {
            names["shortNames"] = json!(self.short_names);
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": self.name(),
                // Who uninstalls a gateway keeps what it was told.
                "annotations": {"helm.sh/resource-policy": "keep"},
                "labels": {
                    "app.kubernetes.io/name": "ringway",
                    "app.kubernetes.io/part-of": "ringway",
                },
            },
            "spec": {
                "group": GROUP,
                "names": names,
                "scope": "Namespaced",
                "conversion": {"strategy": "None"},
                "versions": versions.collect::<Vec<_>>(),
            },
        })
    }

    /// The file that holds it under `deploy/crds/`.
    pub fn file(&self) -> String {
        format!("{GROUP}_{}.yaml", self.plural)
    }

    /// What gives up the conversion webhook of a definition that is there already, as a merge
    /// patch.
    pub fn repair() -> Value {
        json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}})
    }

    /// What makes a Service the conversion webhook of a definition that is there already, as a
    /// merge patch; `ca` is PEM.
    pub fn webhook((namespace, name): (&str, &str), ca: &[u8]) -> Value {
        let ca = String::from_utf8_lossy(&base64(ca)).into_owned();
        let service =
            json!({"namespace": namespace, "name": name, "port": 443, "path": convert::PATH});
        let client = json!({"service": service, "url": null, "caBundle": ca});
        let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": client});
        json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": webhook}}})
    }
}

impl Column {
    fn to_json(self) -> Value {
        let mut column = json!({
            "name": self.name,
            "type": if self.integer { "integer" } else { "string" },
            "jsonPath": self.path,
        });
        if self.wide {
            column["priority"] = 1.into();
        }
        column
    }
}
