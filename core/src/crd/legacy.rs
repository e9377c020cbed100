// SPDX-License-Identifier: Apache-2.0
//! Older dialects' shapes → v3alpha1's, on the tree, before anything is typed.
//!
//! Whatever has an unexpected shape is left as it is: the decoder then says what was expected.

use std::borrow::Cow;

use super::meta::Dialect;
use super::node::{Key, Node, Span, Value};
use crate::name::Kind;

/// What stands before each id where Emissary's webhook stored a v3alpha1 object as v2.
pub(crate) const STORED_AS_V2: &str = "--apiVersion-v3alpha1-only--";

/// What v2 has for a v3alpha1 Mapping without a host, which is for none.
pub(crate) const NO_HOST: &str = "_skip_mapping_with_empty_host_";

/// Fields of a Mapping that ask for fields of a request.
pub(super) struct Presence {
    /// With their values, or in v2 with true.
    pub(super) exact: &'static str,
    /// With patterns of them.
    pub(super) regex: &'static str,
    /// Names that were `true` in v2.
    pub(super) noted: &'static str,
}

pub(super) const PRESENCE: [Presence; 2] = [
    Presence { exact: "headers", regex: "regex_headers", noted: "v2BoolHeaders" },
    Presence {
        exact: "query_parameters",
        regex: "regex_query_parameters",
        noted: "v2BoolQueryParameters",
    },
];

/// The dialect that an object was written in, from an API server that was asked for this one. Where
/// nothing converts, what was written in any version is given in all of them; for what a field
/// means that only matters to Mappings: see [`mapping`]. The ids that Emissary's webhook stores tell,
/// and the field managers of what every Mapping has to say: one that nobody has said since v2.
pub(crate) fn written_in(kind: Kind, asked: Dialect, object: &Node<'_>) -> Dialect {
    if kind != Kind::Mapping || asked != Dialect::V3alpha1 {
        return asked;
    }
    let ids = object.get("spec").and_then(|spec| spec.get("ambassador_id"));
    let mut ids = ids.into_iter().flat_map(Node::items).filter_map(Node::as_str);
    let old = ids.any(|id| id.starts_with(STORED_AS_V2))
        || ["f:prefix", "f:service"].iter().any(|field| is_of_v2(object, field));
    if old { Dialect::V2 } else { asked }
}

/// Whether whoever wrote a field of the spec wrote v2, or v1.
fn is_of_v2(object: &Node<'_>, field: &str) -> bool {
    let managers = object.get("metadata").and_then(|metadata| metadata.get("managedFields"));
    let mut wrote = managers.into_iter().flat_map(Node::items).filter(|manager| {
        let fields = manager.get("fieldsV1").and_then(|fields| fields.get("f:spec"));
        fields.is_some_and(|fields| fields.get(field).is_some())
    });
    let is_old = |manager: &Node<'_>| {
        let version = manager.get("apiVersion").and_then(Node::as_str);
        matches!(version, Some("getambassador.io/v1" | "getambassador.io/v2"))
    };
    wrote.next().is_some_and(is_old) && wrote.all(is_old)
}

/// Normalises an object's spec. One of an API server may have the shapes of any version.
pub(crate) fn normalise(kind: Kind, dialect: Dialect, any_shape: bool, spec: &mut Node<'_>) {
    let old = any_shape || dialect < Dialect::V3alpha1;
    if old {
        rename_v3_fields(spec);
    }
    match kind {
        // An API server does not type a Module's configuration, in no version.
        Kind::Module => {
            if let Some(config) = spec.get_mut("config") {
                module(config);
            }
        }
        Kind::Mapping => {
            labels(spec);
            for names in PRESENCE {
                without_pattern(spec, names.regex, names.noted);
            }
            if old {
                mapping(dialect, spec);
            }
        }
        Kind::TCPMapping | Kind::RateLimitService if old => explicit_tls(spec, "service"),
        Kind::AuthService if old => {
            explicit_tls(spec, "auth_service");
            for name in ["allowed_request_headers", "allowed_authorization_headers"] {
                list(spec, name);
            }
            for value in spec.get_mut("add_auth_headers").into_iter().flat_map(Node::values_mut) {
                if let Value::Bool(flag) = value.value {
                    value.value = Value::String(Cow::Borrowed(if flag { "true" } else { "false" }));
                }
            }
        }
        Kind::TLSContext if old => list(spec, "hosts"),
        Kind::TracingService if old => list(spec, "tag_headers"),
        _ => {}
    }
}

/// v3alpha1 objects that an API server stored as v2: `v3StatsName`, `v3health_checks`.
fn rename_v3_fields(spec: &mut Node<'_>) {
    let Value::Map(entries) = &mut spec.value else { return };
    for index in 0..entries.len() {
        let Some(name) = entries[index].0.text.strip_prefix("v3").map(snake_case) else { continue };
        if !name.is_empty() && !entries.iter().any(|(key, _)| key.text == name) {
            entries[index].0.text = Cow::Owned(name);
        }
    }
}

/// `StatsName` → `stats_name`, `CRLSecret` → `crl_secret`.
fn snake_case(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 4);
    for (i, c) in chars.iter().enumerate() {
        let after_lower = i > 0 && chars[i - 1].is_ascii_lowercase();
        let before_lower = chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && i > 0 && (after_lower || before_lower) {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn mapping(dialect: Dialect, spec: &mut Node<'_>) {
    for names in PRESENCE {
        presence(spec, names.exact, names.noted);
    }
    explicit_tls(spec, "service");
    header_edits(spec);
    list(spec, "allow_upgrade");
    if let Some(cors) = spec.get_mut("cors") {
        cors_lists(cors);
    }
    if spec.get("host").and_then(Node::as_str) == Some(NO_HOST) {
        spec.remove("host");
        return;
    }
    // A v2 Mapping without a host is for all Hosts; since v3alpha1 it would be for none.
    if dialect == Dialect::V3alpha1 {
        return;
    }
    let written = |name: &str| spec.get(name).is_some_and(|value| !value.is_null());
    let empty = |name: &str| spec.get(name).and_then(Node::as_str) == Some("");
    let authority = |name: &str| spec.get(name).is_some_and(|map| map.get(":authority").is_some());
    if written("hostname") || authority("headers") || authority("regex_headers") {
        return;
    }
    let is_regex =
        matches!(spec.get("host_regex").map(|flag| &flag.value), Some(Value::Bool(true)));
    if !written("host") || empty("host") {
        spec.remove("host");
        spec.insert("hostname", Value::String(Cow::Borrowed("*")));
    } else if !is_regex {
        // Emissary's webhook: v2's `host` may have a star, as `hostname` may.
        rename(spec, "host", "hostname");
    }
}

fn module(config: &mut Node<'_>) {
    header_edits(config);
    if let Some(cors) = config.get_mut("cors") {
        cors_lists(cors);
    }
    if let Some(defaults) = config.get_mut("defaults") {
        header_edits(defaults);
        if let Some(mapping) = defaults.get_mut("httpmapping") {
            header_edits(mapping);
        }
    }
    for domain in config.get_mut("default_labels").into_iter().flat_map(Node::values_mut) {
        for specifier in domain.get_mut("defaults").into_iter().flat_map(Node::items_mut) {
            label(specifier);
        }
    }
    if let Some(gzip) = config.get_mut("gzip") {
        list(gzip, "content_type");
    }
}

/// `headers: {x-user: true}` asks for presence; `false` asks for nothing.
fn presence(spec: &mut Node<'_>, name: &str, present: &'static str) {
    let Some(map) = spec.get_mut(name) else { return };
    let Value::Map(entries) = &mut map.value else { return };
    let mut names = Vec::new();
    entries.retain(|(key, value)| match value.value {
        Value::Bool(true) => {
            names.push(Node::new(key.span, Value::String(key.text.clone())));
            false
        }
        Value::Bool(false) => false,
        _ => true,
    });
    if !names.is_empty() && spec.get(present).is_none() {
        spec.insert(present, Value::Seq(names));
    }
}

/// What was `true` in v2 stands twice in what Emissary's webhook makes of it: with a pattern, too.
fn without_pattern(spec: &mut Node<'_>, regex: &str, present: &str) {
    let present = spec.get(present).into_iter().flat_map(Node::items).filter_map(Node::as_str);
    let present: Vec<String> = present.map(str::to_owned).collect();
    if let Some(Value::Map(entries)) = spec.get_mut(regex).map(|map| &mut map.value) {
        let is_any = |name: &str| present.iter().any(|present| present == name);
        entries.retain(|(name, pattern)| !(is_any(&name.text) && pattern.as_str() == Some(".*")));
    }
}

fn rename(node: &mut Node<'_>, from: &str, to: &'static str) {
    let Value::Map(entries) = &mut node.value else { return };
    if let Some((key, _)) = entries.iter_mut().find(|(key, _)| key.text == from) {
        key.text = Cow::Borrowed(to);
    }
}

/// `tls: true` makes the service https, whatever scheme it was written with; `tls: false` says
/// nothing that the scheme does not say. Emissary: its webhook, and `ircluster.py` before.
fn explicit_tls(spec: &mut Node<'_>, service: &str) {
    let Some(Value::Bool(tls)) = spec.get("tls").map(|tls| &tls.value) else { return };
    let tls = *tls;
    spec.remove("tls");
    if !tls {
        return;
    }
    let Some(service) = spec.get_mut(service) else { return };
    if let Value::String(text) = &mut service.value {
        let bare = text.split_once("://").map_or(&**text, |(_, rest)| rest);
        *text = Cow::Owned(format!("https://{bare}"));
    }
}

fn header_edits(node: &mut Node<'_>) {
    for name in ["add_request_headers", "add_response_headers"] {
        let Some(Value::Map(entries)) = node.get_mut(name).map(|map| &mut map.value) else {
            continue;
        };
        for (_, value) in entries {
            if matches!(value.value, Value::String(_)) {
                let span = value.span;
                let text = Node { plain: value.plain, ..Node::new(span, take(&mut value.value)) };
                let key = Key { text: Cow::Borrowed("value"), span };
                value.value = Value::Map(vec![(key, text)]);
            }
        }
    }
    list(node, "remove_request_headers");
    list(node, "remove_response_headers");
}

fn cors_lists(cors: &mut Node<'_>) {
    for name in ["origins", "methods", "headers", "exposed_headers"] {
        let Some(value) = cors.get_mut(name) else { continue };
        let Value::String(text) = &value.value else { continue };
        let span = value.span;
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let items = parts.map(|part| owned(part, span)).collect();
        value.value = Value::Seq(items);
    }
}

/// A lone string → a list of it.
fn list(node: &mut Node<'_>, name: &str) {
    if let Some(value) = node.get_mut(name)
        && matches!(value.value, Value::String(_))
    {
        let item = Node { plain: value.plain, ..Node::new(value.span, take(&mut value.value)) };
        value.value = Value::Seq(vec![item]);
    }
}

fn labels(spec: &mut Node<'_>) {
    for domain in spec.get_mut("labels").into_iter().flat_map(Node::values_mut) {
        for group in domain.items_mut() {
            for specifiers in group.values_mut() {
                specifiers.items_mut().iter_mut().for_each(label);
            }
        }
    }
}

/// One specifier: a bare word, `{name: {header: …}}` or `{generic_key: text}`.
fn label(node: &mut Node<'_>) {
    let span = node.span;
    let field =
        |name: &'static str, value: Node<'static>| (Key { text: Cow::Borrowed(name), span }, value);
    let shape = match &node.value {
        Value::String(text) => match &**text {
            name @ ("remote_address" | "source_cluster" | "destination_cluster") => {
                let key = map(span, vec![field("key", owned(name, span))]);
                let name = match name {
                    "remote_address" => "remote_address",
                    "source_cluster" => "source_cluster",
                    _ => "destination_cluster",
                };
                field(name, key)
            }
            value => field("generic_key", map(span, vec![field("value", owned(value, span))])),
        },
        Value::Map(entries) if entries.len() == 1 => {
            let (key, value) = &entries[0];
            match (&*key.text, value.as_str(), value.get("header").and_then(Node::as_str)) {
                ("generic_key", Some(text), _) => {
                    field("generic_key", map(span, vec![field("value", owned(text, span))]))
                }
                (name, _, Some(header)) => {
                    let mut fields = vec![
                        field("key", owned(name, key.span)),
                        field("header_name", owned(header, value.span)),
                    ];
                    if let Some(Value::Bool(omit)) =
                        value.get("omit_if_not_present").map(|omit| &omit.value)
                    {
                        let omit = Node::new(value.span, Value::Bool(*omit));
                        fields.push(field("omit_if_not_present", omit));
                    }
                    field("request_headers", map(span, fields))
                }
                _ => return,
            }
        }
        _ => return,
    };
    node.value = Value::Map(vec![shape]);
}

fn owned(text: &str, span: Span) -> Node<'static> {
    Node::new(span, Value::String(Cow::Owned(text.to_owned())))
}

fn map<'a>(span: Span, entries: Vec<(Key<'a>, Node<'a>)>) -> Node<'a> {
    Node::new(span, Value::Map(entries))
}

fn take<'a>(value: &mut Value<'a>) -> Value<'a> {
    std::mem::replace(value, Value::Null)
}

#[cfg(test)]
mod tests;
