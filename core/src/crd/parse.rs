// SPDX-License-Identifier: Apache-2.0
//! From text to objects, document by document.
//!
//! Nothing here fails as a whole: a document that cannot be read says so and its neighbours are
//! read all the same. What was read before from the same text is taken over as it is, so that an
//! object that did not change keeps its identity.

use std::collections::HashMap;
use std::sync::Arc;

use super::decode::{At, Context, Decode, nearest, record};
use super::expand::{Environment, expand_node};
use super::legacy;
use super::meta::{Dialect, Meta, timestamp};
use super::node::{Node, Span, Value};
use super::source::{Document, Malformed, Origin};
use super::split::{Chunk, split};
use super::{Object, Spec};
use crate::name::{Kind, Ref};
use crate::problem::{Mistake, Problems, Severity};

/// The annotation that holds whole objects.
pub const CONFIG_ANNOTATION: &str = "getambassador.io/config";

/// The annotation that kubectl keeps the whole object in a second time.
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What reading depends on besides the text.
#[derive(Clone, Debug)]
pub struct Options {
    /// Namespace of objects that name none.
    pub namespace: Arc<str>,
    pub environment: Environment,
}

impl Default for Options {
    fn default() -> Self {
        Self { namespace: "default".into(), environment: Environment::new() }
    }
}

/// One thing found in a document.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// An object, with what is doubtful about it.
    Object { object: Arc<Object>, problems: Problems },
    /// An object that is refused, with the reasons.
    Refused { meta: Arc<Meta>, origin: Origin, problems: Problems },
    /// No object at all.
    Malformed(Box<Malformed>),
    /// Somebody else's object.
    Foreign { api_version: Box<str>, kind: Box<str> },
}

/// A document and what was found in it.
#[derive(Clone, Debug)]
pub struct ParsedDocument {
    pub document: Arc<Document>,
    pub found: Vec<Parsed>,
}

/// A file's documents, in order.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub documents: Vec<Arc<ParsedDocument>>,
}

impl File {
    /// Reads a file. Documents whose text stands in `previous` (the same file, read before with the
    /// same options) are taken from there.
    pub fn parse(path: &str, text: &str, options: &Options, previous: Option<&Self>) -> Self {
        let path: Arc<str> = path.into();
        let chunks = split(text);
        let before = previous.map_or(&[][..], |file| &file.documents);
        // As a rule one document differs: those before it and behind it are found in step.
        let same = |(parsed, chunk): &(&Arc<ParsedDocument>, &Chunk<'_>)| {
            *parsed.document.text == *chunk.text
        };
        let head = before.iter().zip(&chunks).take_while(same).count();
        let rest = before[head..].iter().rev().zip(chunks[head..].iter().rev());
        let tail = rest.take_while(same).count();
        let mut known: HashMap<&str, Vec<&Arc<ParsedDocument>>, foldhash::fast::FixedState> =
            HashMap::default();
        for parsed in before[head..before.len() - tail].iter().rev() {
            known.entry(&parsed.document.text).or_default().push(parsed);
        }
        let (n_before, n_chunks) = (before.len(), chunks.len());
        let documents = chunks.into_iter().enumerate().map(|(at, chunk)| {
            let parsed = if at < head {
                Some(&before[at])
            } else if at >= n_chunks - tail {
                Some(&before[n_before - (n_chunks - at)])
            } else {
                known.get_mut(chunk.text).and_then(Vec::pop)
            };
            if let Some(parsed) = parsed {
                parsed.document.moved_to(chunk.first_line);
                return parsed.clone();
            }
            let document = Arc::new(Document::new(path.clone(), chunk.text, chunk.first_line));
            let found = parse_document(&document, options);
            Arc::new(ParsedDocument { document, found })
        });
        Self { documents: documents.collect() }
    }

    /// Everything found, in order.
    pub fn found(&self) -> impl Iterator<Item = &Parsed> {
        self.documents.iter().flat_map(|document| &document.found)
    }
}

/// Reads a stream of YAML or JSON documents.
pub fn parse(path: &str, text: &str, options: &Options) -> Vec<Parsed> {
    File::parse(path, text, options, None).found().cloned().collect()
}

/// Reads one document.
pub fn parse_document(document: &Arc<Document>, options: &Options) -> Vec<Parsed> {
    let origin = Origin { document: Some(document.clone()), ..Origin::default() };
    // As a rule there is one object.
    let mut reader = Reader { options, found: Vec::with_capacity(1) };
    match super::node::parse(&document.text) {
        Ok(None) => {}
        Ok(Some(node)) => reader.read(node, origin, None),
        Err(error) => {
            reader.malformed(origin, error.span, Mistake::syntax(&error.message));
        }
    }
    reader.found
}

/// Reads one object as an API server writes it. It stands in no file, so that problems name its
/// fields and no place. `api_version` and `kind` are those of the list that it is an item of, which
/// need not repeat them.
pub fn parse_object(json: &str, api_version: &str, kind: &str, options: &Options) -> Vec<Parsed> {
    let mut reader = Reader { options, found: Vec::with_capacity(1) };
    match super::json::parse(json) {
        Ok(mut node) => {
            for (key, value) in [("kind", kind), ("apiVersion", api_version)] {
                if node.get(key).is_none() {
                    node.insert(key, Value::String(value.to_owned().into()));
                }
            }
            reader.read(node, Origin::default(), None);
        }
        Err(error) => {
            reader.malformed(Origin::default(), error.span, Mistake::syntax(&error.message));
        }
    }
    reader.found
}

struct Reader<'o> {
    options: &'o Options,
    found: Vec<Parsed>,
}

impl Reader<'_> {
    fn malformed(&mut self, origin: Origin, span: Span, mistake: Mistake) {
        self.found.push(Parsed::Malformed(Box::new(Malformed { origin, span, mistake })));
    }

    /// Reads one object, a list of them, or an object inside an annotation (then `parent` is the
    /// annotated object's).
    fn read(&mut self, mut node: Node<'_>, origin: Origin, parent: Option<&Meta>) {
        if !matches!(node.value, Value::Map(_)) {
            return self.malformed(origin, node.span, Mistake::not_an_object(node.type_name()));
        }
        let api_version = node.get("apiVersion").and_then(Node::as_str).unwrap_or_default();
        let api_version: Box<str> = api_version.into();
        let Some(kind_node) = node.get("kind") else {
            return self.malformed(origin, start_of(&node), Mistake::no_kind());
        };
        let Some(kind) = kind_node.as_str() else {
            return self.malformed(origin, kind_node.span, Mistake::no_kind());
        };
        let kind: Box<str> = kind.into();
        if let Some(item_kind) = kind.strip_suffix("List")
            && parent.is_none()
            && matches!(node.get("items").map(|items| &items.value), Some(Value::Seq(_)))
        {
            return self.read_list(node, &origin, &api_version, item_kind);
        }
        let Some((known, dialect)) = identify(&api_version, &kind) else {
            if !is_ours(&api_version) {
                return self.found.push(Parsed::Foreign { api_version, kind });
            }
            let near = nearest(&kind, EMISSARY_KINDS.iter().map(|kind| kind.as_str()));
            let mistake = Mistake::unknown_kind(&api_version, &kind, near);
            return self.malformed(origin, kind_node.span, mistake);
        };
        if parent.is_some() && dialect == Dialect::Kubernetes {
            let mistake = Mistake::not_in_an_annotation(&kind);
            return self.malformed(origin, kind_node.span, mistake);
        }
        let config = node.get("metadata").and_then(|meta| meta.get("annotations"));
        let config = config.and_then(|annotations| annotations.get(CONFIG_ANNOTATION));
        let config = config.and_then(Node::as_str).map(str::to_owned);
        if known != Kind::Secret
            && !self.options.environment.is_empty()
            && origin.innermost().is_none_or(|document| document.text.contains('$'))
        {
            expand_node(&mut node, &self.options.environment);
        }
        self.object(node, known, dialect, origin, parent, config);
    }

    fn read_list(&mut self, mut node: Node<'_>, origin: &Origin, api_version: &str, kind: &str) {
        let Some(items) = node.remove("items") else { return };
        let Value::Seq(items) = items.value else { return };
        for (index, mut item) in items.into_iter().enumerate() {
            // Items of a typed list need not repeat what the list says.
            if !kind.is_empty() && item.get("kind").is_none() {
                item.insert("kind", Value::String(kind.to_owned().into()));
                if item.get("apiVersion").is_none() {
                    item.insert("apiVersion", Value::String(api_version.to_owned().into()));
                }
            }
            let path = if origin.path.is_empty() {
                format!("items[{index}]")
            } else {
                format!("{}.items[{index}]", origin.path)
            };
            self.read(item, Origin { path: path.into(), ..origin.clone() }, None);
        }
    }

    fn object(
        &mut self,
        mut node: Node<'_>,
        kind: Kind,
        dialect: Dialect,
        origin: Origin,
        parent: Option<&Meta>,
        config: Option<String>,
    ) {
        if dialect != Dialect::Kubernetes && node.get("metadata").is_none() {
            unflatten(&mut node);
        }
        let metadata = node.get("metadata");
        let name = match metadata.and_then(|metadata| metadata.get("name")) {
            Some(name) if !name.is_null() => name,
            _ => {
                let span = metadata.map_or_else(|| start_of(&node), start_of);
                return self.malformed(origin, span, Mistake::no_name(kind));
            }
        };
        let Some(name_text) = name.as_str().filter(|name| is_name(name)) else {
            return self.malformed(origin, name.span, Mistake::bad_name(kind, name.type_name()));
        };
        let namespace = metadata.and_then(|metadata| metadata.get("namespace"));
        let namespace = namespace.filter(|namespace| !namespace.is_null());
        let namespace: Arc<str> = match (kind, namespace, parent) {
            (Kind::IngressClass | Kind::Namespace, ..) => "".into(),
            (_, Some(namespace), _) => match namespace.as_str().filter(|name| is_name(name)) {
                Some(namespace) => namespace.into(),
                None if namespace.as_str() == Some("") => self.options.namespace.clone(),
                None => {
                    let mistake = Mistake::bad_namespace(kind, namespace.type_name());
                    return self.malformed(origin, namespace.span, mistake);
                }
            },
            (_, None, Some(parent)) => parent.namespace().clone(),
            (_, None, None) => self.options.namespace.clone(),
        };

        // An object that stands in no document is an API server's; so is what `kubectl get` prints.
        let version = node.get("metadata").and_then(|metadata| metadata.get("resourceVersion"));
        let any_shape = origin.document.is_none() || version.is_some();
        let dialect = if any_shape { legacy::written_in(kind, dialect, &node) } else { dialect };
        let object = Ref::new(kind, namespace, name_text);
        let quotes_values = kind != Kind::Secret;
        let mut cx = Context { object, problems: Problems::default(), quotes_values };
        let meta = meta(&mut node, dialect, parent, &mut cx);
        let spec = spec(&mut node, kind, dialect, any_shape, &mut cx);
        let problems = cx.problems;
        let refused = problems.iter().any(|p| p.severity == Severity::Error);
        let inner = config.map(|text| (text, meta.clone(), origin.clone()));
        match spec {
            // A Module loses the keys that cannot be read, not the others.
            Some(spec) if !refused || kind == Kind::Module => {
                let object = Arc::new(Object { meta, spec, origin });
                self.found.push(Parsed::Object { object, problems });
            }
            _ => self.found.push(Parsed::Refused { meta: Arc::new(meta), origin, problems }),
        }
        if let Some((text, meta, origin)) = inner
            && matches!(kind, Kind::Service | Kind::Ingress)
        {
            self.annotation(&text, &meta, &origin);
        }
    }

    /// Reads the objects in an annotation's text.
    fn annotation(&mut self, text: &str, parent: &Meta, origin: &Origin) {
        let file = origin.document.as_ref().map_or_else(|| "".into(), |d| d.file.clone());
        for chunk in split(text) {
            let document = Arc::new(Document::new(file.clone(), chunk.text, chunk.first_line));
            let origin = Origin { annotation: Some(document.clone()), ..origin.clone() };
            match super::node::parse(&document.text) {
                Ok(None) => {}
                Ok(Some(node)) => self.read(node, origin, Some(parent)),
                Err(error) => {
                    self.malformed(origin, error.span, Mistake::syntax(&error.message));
                }
            }
        }
    }
}

/// Where a map begins, for a mistake about all of it: its first key.
fn start_of(node: &Node<'_>) -> Span {
    match &node.value {
        Value::Map(entries) => entries.first().map_or(node.span, |(key, _)| key.span),
        _ => node.span,
    }
}

/// A name that can stand in a message, a metric or a path. Annotations may use underscores and
/// upper case, which an API server would refuse.
fn is_name(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

/// The kinds of the group `getambassador.io`.
pub(crate) const EMISSARY_KINDS: &[Kind] = &[
    Kind::AuthService,
    Kind::ConsulResolver,
    Kind::DevPortal,
    Kind::Filter,
    Kind::FilterPolicy,
    Kind::Host,
    Kind::KubernetesEndpointResolver,
    Kind::KubernetesServiceResolver,
    Kind::Listener,
    Kind::LogService,
    Kind::Mapping,
    Kind::Module,
    Kind::RateLimit,
    Kind::RateLimitService,
    Kind::TCPMapping,
    Kind::TLSContext,
    Kind::TracingService,
];

/// Whether a group is ours, so that an unknown kind or version in it is a mistake.
fn is_ours(api_version: &str) -> bool {
    let group = api_version.split('/').next().unwrap_or_default();
    matches!(
        group,
        "getambassador.io" | "x.getambassador.io" | "gateway.getambassador.io" | "ambassador"
    )
}

fn identify(api_version: &str, kind: &str) -> Option<(Kind, Dialect)> {
    let dialect = match api_version {
        "getambassador.io/v1" | "ambassador/v0" | "ambassador/v1" => Dialect::V1,
        "getambassador.io/v2" | "ambassador/v2" => Dialect::V2,
        "getambassador.io/v3alpha1" | "x.getambassador.io/v3alpha1" | "ambassador/v3" => {
            Dialect::V3alpha1
        }
        "gateway.getambassador.io/v1alpha1" => Dialect::V3alpha1,
        _ => Dialect::Kubernetes,
    };
    if dialect != Dialect::Kubernetes {
        let only_filters = api_version.starts_with("gateway.");
        let kind = EMISSARY_KINDS.iter().find(|known| known.as_str() == kind)?;
        let is_filter = matches!(kind, Kind::Filter | Kind::FilterPolicy);
        return (is_filter || !only_filters).then_some((*kind, dialect));
    }
    let kind = match (api_version, kind) {
        ("v1", "ConfigMap") => Kind::ConfigMap,
        ("v1", "Endpoints") => Kind::Endpoints,
        ("v1", "Namespace") => Kind::Namespace,
        ("v1", "Secret") => Kind::Secret,
        ("v1", "Service") => Kind::Service,
        ("discovery.k8s.io/v1", "EndpointSlice") => Kind::EndpointSlice,
        ("networking.k8s.io/v1", "Ingress") => Kind::Ingress,
        ("networking.k8s.io/v1", "IngressClass") => Kind::IngressClass,
        _ => return None,
    };
    Some((kind, Dialect::Kubernetes))
}

/// `{kind, name, prefix, …}` → `{kind, metadata, spec}`.
fn unflatten(node: &mut Node<'_>) {
    let span = node.span;
    let Value::Map(entries) = &mut node.value else { return };
    let (mut outer, mut metadata, mut spec) = (Vec::new(), Vec::new(), Vec::new());
    for (mut key, value) in std::mem::take(entries) {
        match &*key.text {
            "apiVersion" | "kind" | "spec" | "status" => outer.push((key, value)),
            "name" | "namespace" | "generation" => metadata.push((key, value)),
            "metadata_labels" => {
                key.text = "labels".into();
                metadata.push((key, value));
            }
            _ => spec.push((key, value)),
        }
    }
    *entries = outer;
    node.insert("metadata", Value::Map(metadata));
    // An object with a spec and no metadata has no name: that is said elsewhere.
    if node.get("spec").is_none() {
        node.insert("spec", Value::Map(spec));
    }
    node.span = span;
}

record! {
    pub struct Metadata {
        pub labels: std::collections::BTreeMap<String, String>,
        pub annotations: std::collections::BTreeMap<String, String>,
        pub generation: Option<i64>,
        pub created: Option<String> as "creationTimestamp",
    }
    open yes
}

/// Reads the metadata and takes `ambassador_id` out of the spec.
fn meta(node: &mut Node<'_>, dialect: Dialect, parent: Option<&Meta>, cx: &mut Context) -> Meta {
    let mut meta = Meta { dialect, ..Meta::of(cx.object.clone()) };
    let at = At::ROOT.field("metadata");
    if let Some(fields) = node.get("metadata").and_then(|node| Metadata::decode(node, &at, cx)) {
        meta.labels = fields.labels;
        meta.annotations = fields.annotations;
        meta.generation = fields.generation;
        meta.created = fields.created.as_deref().and_then(timestamp);
    }
    if let Some(parent) = parent {
        if meta.labels.is_empty() {
            meta.labels = parent.labels.clone();
        }
        meta.created = meta.created.or(parent.created);
        meta.generation = meta.generation.or(parent.generation);
    }
    // The text of embedded objects lives on in them.
    meta.annotations.remove(CONFIG_ANNOTATION);
    meta.annotations.remove(LAST_APPLIED_ANNOTATION);
    if dialect == Dialect::Kubernetes {
        if let Some(id) = meta.annotations.get("getambassador.io/ambassador-id") {
            meta.ambassador_id = [id.clone()].into();
        }
        return meta;
    }
    let spec_at = At::ROOT.field("spec");
    for name in ["ambassador_id", "ambassadorId"] {
        let id = node.get_mut("spec").and_then(|spec| spec.remove(name));
        let Some(id) = id.filter(|id| !id.is_null()) else { continue };
        let at = spec_at.field(name);
        // v2 takes a lone string; it is welcome in every version.
        let ids = match id.as_str() {
            Some(id) => Some(vec![id.to_owned()]),
            None => Vec::<String>::decode(&id, &at, cx),
        };
        let clean = |id: &String| id.strip_prefix(legacy::STORED_AS_V2).unwrap_or(id).to_owned();
        if let Some(ids) = ids.filter(|ids| !ids.is_empty()) {
            meta.ambassador_id = ids.iter().map(clean).collect();
        }
    }
    meta
}

fn spec(
    node: &mut Node<'_>,
    kind: Kind,
    dialect: Dialect,
    any_shape: bool,
    cx: &mut Context,
) -> Option<Spec> {
    let root = At::ROOT;
    let at = root.field("spec");
    if let Some(spec) = node.get_mut("spec") {
        legacy::normalise(kind, dialect, any_shape, spec);
    }
    let empty = Node::empty_map();
    let spec = node.get("spec").filter(|spec| !spec.is_null()).unwrap_or(&empty);
    macro_rules! decoded {
        ($variant:ident) => {
            Decode::decode(spec, &at, cx).map(Spec::$variant)
        };
        ($variant:ident at root) => {
            Decode::decode(node, &root, cx).map(Spec::$variant)
        };
    }
    match kind {
        Kind::AuthService => decoded!(AuthService),
        Kind::ConfigMap => decoded!(ConfigMap at root),
        Kind::ConsulResolver => decoded!(ConsulResolver),
        Kind::DevPortal => decoded!(DevPortal),
        Kind::Endpoints => decoded!(Endpoints at root),
        Kind::EndpointSlice => decoded!(EndpointSlice at root),
        Kind::Filter => decoded!(Filter),
        Kind::FilterPolicy => decoded!(FilterPolicy),
        Kind::Host => decoded!(Host),
        Kind::Ingress => decoded!(Ingress),
        Kind::IngressClass => decoded!(IngressClass),
        Kind::KubernetesEndpointResolver => decoded!(KubernetesEndpointResolver),
        Kind::KubernetesServiceResolver => decoded!(KubernetesServiceResolver),
        Kind::Listener => decoded!(Listener),
        Kind::LogService => decoded!(LogService),
        Kind::Mapping => decoded!(Mapping),
        Kind::Module => decoded!(Module),
        Kind::Namespace => decoded!(Namespace at root),
        Kind::RateLimit => decoded!(RateLimit),
        Kind::RateLimitService => decoded!(RateLimitService),
        Kind::Secret => decoded!(Secret at root),
        Kind::Service => decoded!(Service),
        Kind::TCPMapping => decoded!(TCPMapping),
        Kind::TLSContext => decoded!(TLSContext),
        Kind::TracingService => decoded!(TracingService),
    }
}

#[cfg(test)]
mod tests;
