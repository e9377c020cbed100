// SPDX-License-Identifier: Apache-2.0
//! Objects of `getambassador.io` from one version into another, for an API server that asks a
//! webhook: what Emissary's own has stored is read, and what is stored here its own can read.
//!
//! v1 and v2 have one shape. What has none of the shapes that are known stays as it is: a list must
//! not fail for one object in it, and whoever reads the object says what is wrong.

use serde_json::{Map, Value, json};

use super::legacy::{NO_HOST, PRESENCE, Presence, STORED_AS_V2};

/// Where a webhook that converts is asked, as Emissary's own is.
pub const PATH: &str = "/webhooks/crd-convert";

const NEWEST: &str = "getambassador.io/v3alpha1";
const VERSIONS: [&str; 3] = ["getambassador.io/v1", "getambassador.io/v2", NEWEST];

type Fields = Map<String, Value>;

/// Converts an object to an `apiVersion`.
///
/// # Errors
/// It is of no version of ours, or is to become one that is none; a sentence.
pub fn convert(object: &mut Value, to: &str) -> Result<(), String> {
    let from = object["apiVersion"].as_str().unwrap_or_default();
    for version in [from, to] {
        if !VERSIONS.contains(&version) {
            return Err(format!("{version:?} is no version of getambassador.io"));
        }
    }
    let (was_newest, is_newest) = (from == NEWEST, to == NEWEST);
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    object["apiVersion"] = to.into();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        match (was_newest, is_newest) {
            (false, true) => upgrade(&kind, spec),
            (true, false) => downgrade(&kind, spec),
            _ => {}
        }
    }
    Ok(())
}

/// Fields that have another name in v2, for which most are too young: the map they are in, v2's
/// name, v3alpha1's.
fn renamed(kind: &str) -> &'static [(Option<&'static str>, &'static str, &'static str)] {
    match kind {
        "AuthService" => {
            &[(None, "v3StatsName", "stats_name"), (None, "v3CircuitBreakers", "circuit_breakers")]
        }
        "Host" => {
            &[(None, "selector", "mappingSelector"), (Some("tls"), "v3CRLSecret", "crl_secret")]
        }
        "LogService" => {
            &[(None, "v3ProtocolVersion", "protocol_version"), (None, "v3StatsName", "stats_name")]
        }
        "Mapping" => {
            &[(None, "v3StatsName", "stats_name"), (None, "v3health_checks", "health_checks")]
        }
        "RateLimitService" => &[(None, "v3StatsName", "stats_name"), (None, "v3GRPC", "grpc")],
        "TCPMapping" => &[(None, "v3StatsName", "stats_name")],
        "TLSContext" => &[(None, "v3CRLSecret", "crl_secret")],
        "TracingService" => &[
            (None, "v3StatsName", "stats_name"),
            (None, "v3CustomTags", "custom_tags"),
            (Some("config"), "v3PropagationModes", "propagation_modes"),
        ],
        _ => &[],
    }
}

fn rename(spec: &mut Fields, within: Option<&str>, from: &str, to: &str) {
    let fields = match within {
        Some(name) => spec.get_mut(name).and_then(Value::as_object_mut),
        None => Some(spec),
    };
    if let Some(fields) = fields
        && !fields.contains_key(to)
        && let Some(value) = fields.remove(from)
    {
        fields.insert(to.to_owned(), value);
    }
}

fn upgrade(kind: &str, spec: &mut Fields) {
    if kind == "Host"
        && let Some(more) = spec.remove("ambassadorId")
    {
        let mut ids = ids(spec.remove("ambassador_id"));
        ids.extend(self::ids(Some(more)));
        spec.insert("ambassador_id".into(), ids.into());
    }
    if spec.get("ambassador_id").is_some_and(|ids| !ids.is_null()) {
        let plain = |id: Value| match id.as_str() {
            Some(id) => id.strip_prefix(STORED_AS_V2).unwrap_or(id).into(),
            None => id,
        };
        let ids: Vec<Value> = ids(spec.remove("ambassador_id")).into_iter().map(plain).collect();
        spec.insert("ambassador_id".into(), ids.into());
    }
    for (within, old, new) in renamed(kind) {
        rename(spec, *within, old, new);
    }
    if let Some(service) = service_of(kind) {
        explicit_tls(kind, service, spec);
    }
    match kind {
        "Mapping" => {
            for names in PRESENCE {
                presence(spec, names);
            }
            edits(spec, |edit| match edit.take() {
                Value::String(text) => json!({"value": text, "v2Representation": "string"}),
                Value::Null => json!({"v2Representation": "null"}),
                full => full,
            });
            for name in ["remove_request_headers", "remove_response_headers", "allow_upgrade"] {
                listed(spec, name, None);
            }
            if let Some(cors) = spec.get_mut("cors").and_then(Value::as_object_mut) {
                if cors.get("origins").is_some_and(Value::is_string) {
                    cors.insert("v2CommaSeparatedOrigins".into(), true.into());
                }
                for name in ["origins", "methods", "headers", "exposed_headers"] {
                    listed(cors, name, Some(','));
                }
            }
            labels(spec, newer_label);
            newer_host(spec);
        }
        "AuthService" => {
            for name in ["allowed_request_headers", "allowed_authorization_headers"] {
                listed(spec, name, None);
            }
        }
        "TLSContext" => listed(spec, "hosts", None),
        "TracingService" => tags(spec),
        _ => {}
    }
}

fn downgrade(kind: &str, spec: &mut Fields) {
    let given = spec.remove("ambassador_id").filter(|ids| !ids.is_null());
    let mangled = |id: &Value| match id.as_str() {
        Some(id) => format!("{STORED_AS_V2}{}", id.trim_start_matches(STORED_AS_V2)).into(),
        None => id.clone(),
    };
    let ids: Vec<Value> =
        ids(Some(given.unwrap_or_else(|| "default".into()))).iter().map(mangled).collect();
    spec.insert("ambassador_id".into(), ids.into());
    match kind {
        "Mapping" => {
            for names in PRESENCE {
                older_presence(spec, names);
            }
            edits(spec, older_edit);
            if let Some(cors) = spec.get_mut("cors").and_then(Value::as_object_mut)
                && cors.remove("v2CommaSeparatedOrigins") == Some(true.into())
                && let Some(Value::Array(origins)) = cors.get("origins")
            {
                let origins: Vec<&str> = origins.iter().filter_map(Value::as_str).collect();
                let origins = origins.join(",");
                cors.insert("origins".into(), origins.into());
            }
            labels(spec, older_label);
            older_host(spec);
        }
        // v2 has one selector, of which the newer name says more.
        "Host" if spec.contains_key("mappingSelector") => {
            spec.remove("selector");
        }
        "TracingService" => tags(spec),
        _ => {}
    }
    if let Some(service) = service_of(kind) {
        older_tls(kind, service, spec);
    }
    for (within, old, new) in renamed(kind) {
        rename(spec, *within, new, old);
    }
}

/// One id, or a list of them.
fn ids(ids: Option<Value>) -> Vec<Value> {
    match ids {
        Some(Value::Array(ids)) => ids,
        Some(Value::Null) | None => Vec::new(),
        Some(id) => vec![id],
    }
}

/// A text becomes a list: of its parts, or of itself.
fn listed(fields: &mut Fields, name: &str, between: Option<char>) {
    let Some(value) = fields.get_mut(name) else { return };
    if let Value::String(text) = value {
        *value = match between {
            Some(between) => {
                text.split(between).map(str::trim).filter(|part| !part.is_empty()).collect()
            }
            None => json!([text]),
        };
    }
}

/// Where a kind names the service that may be spoken TLS to.
fn service_of(kind: &str) -> Option<&'static str> {
    match kind {
        "AuthService" => Some("auth_service"),
        "Mapping" | "RateLimitService" | "TCPMapping" => Some("service"),
        _ => None,
    }
}

/// A service's scheme, as it is written, and the rest of it.
fn scheme(service: &str) -> (&str, &str) {
    let is = |scheme: &str| {
        service.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let length = ["https://", "http://"].into_iter().find(|s| is(s)).map_or(0, str::len);
    service.split_at(length)
}

fn is_https(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("https://")
}

/// v2's `tls` may be true or false, and true wins over the service's scheme: v3alpha1 has the
/// scheme alone. How it was written is kept in `v2ExplicitTLS`.
fn explicit_tls(kind: &str, service: &str, spec: &mut Fields) {
    let written = match spec.get("tls") {
        Some(Value::Bool(true)) => Some("bool:true"),
        Some(Value::Bool(false)) => Some("bool:false"),
        Some(Value::String(context)) if context.is_empty() => Some("string"),
        Some(Value::String(_)) => {
            spec.insert("v2ExplicitTLS".into(), json!({}));
            return;
        }
        _ => None,
    };
    let Some(written) = written else { return };
    spec.remove("tls");
    let mut explicit = Map::new();
    explicit.insert("tls".into(), written.into());
    if written == "bool:true"
        && let Some(Value::String(service)) = spec.get_mut(service)
    {
        let (scheme, bare) = scheme(service);
        if !is_https(scheme) {
            // v2 took no scheme in a TCPMapping.
            if kind != "TCPMapping" {
                explicit.insert("serviceScheme".into(), scheme.into());
            }
            *service = format!("https://{bare}");
        }
    }
    spec.insert("v2ExplicitTLS".into(), explicit.into());
}

fn older_tls(kind: &str, service: &str, spec: &mut Fields) {
    let explicit = spec.remove("v2ExplicitTLS").unwrap_or_default();
    let mut wanted = explicit["serviceScheme"].as_str();
    if kind == "TCPMapping" {
        wanted = Some("");
    }
    let Some(written) = spec.get(service).and_then(Value::as_str) else { return };
    let (scheme, bare) = scheme(written);
    let (is_tls, bare) = (is_https(scheme), bare.to_owned());
    let names_context =
        spec.get("tls").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    let mut is_said = names_context;
    if !names_context {
        let tls = match explicit["tls"].as_str() {
            Some("bool:false") => Some(json!(false)),
            Some("bool:true") if is_tls => {
                is_said = true;
                Some(json!(true))
            }
            Some("string") => Some(json!("")),
            _ => None,
        };
        match tls {
            Some(tls) => spec.insert("tls".into(), tls),
            None => spec.remove("tls"),
        };
    }
    // Where `tls` says it, the scheme may be any; else it has to go on saying it.
    let is_free = |scheme: &&str| is_said || is_https(scheme) == is_tls;
    if let Some(scheme) = wanted.filter(is_free) {
        spec.insert(service.into(), format!("{scheme}{bare}").into());
    }
}

/// v2 asks for a header's presence with true; false asks for nothing.
fn presence(spec: &mut Fields, Presence { exact, regex, noted }: Presence) {
    let Some(Value::Object(fields)) = spec.get_mut(exact) else { return };
    let mut present = Vec::new();
    fields.retain(|name, value| {
        if *value == true {
            present.push(Value::from(name.as_str()));
        }
        !value.is_boolean()
    });
    if fields.is_empty() {
        spec.remove(exact);
    }
    if present.is_empty() {
        return;
    }
    let patterns = spec.entry(regex).or_insert_with(|| json!({}));
    if let Value::Object(patterns) = patterns {
        for name in present.iter().filter_map(Value::as_str) {
            patterns.entry(name).or_insert_with(|| ".*".into());
        }
    }
    spec.insert(noted.to_owned(), present.into());
}

/// Where the newer pattern asks for more than presence both are kept.
fn older_presence(spec: &mut Fields, Presence { exact, regex, noted }: Presence) {
    let names = spec.remove(noted);
    for name in names.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
        let Value::Object(fields) = spec.entry(exact).or_insert_with(|| json!({})) else { return };
        fields.entry(name).or_insert_with(|| true.into());
        if let Some(Value::Object(patterns)) = spec.get_mut(regex)
            && patterns.get(name).and_then(Value::as_str) == Some(".*")
        {
            patterns.remove(name);
            if patterns.is_empty() {
                spec.remove(regex);
            }
        }
    }
}

/// Changes each value of the headers that are added.
fn edits(spec: &mut Fields, change: impl Fn(&mut Value) -> Value) {
    for name in ["add_request_headers", "add_response_headers"] {
        let edits = spec.get_mut(name).and_then(Value::as_object_mut);
        for edit in edits.into_iter().flat_map(Map::values_mut) {
            *edit = change(edit);
        }
    }
}

fn older_edit(edit: &mut Value) -> Value {
    let mut edit = edit.take();
    let Value::Object(fields) = &mut edit else { return edit };
    let written = fields.remove("v2Representation");
    let is_alone = fields.get("append").is_none_or(Value::is_null);
    let text = fields.get("value").and_then(Value::as_str).unwrap_or_default();
    match written.as_ref().and_then(Value::as_str) {
        Some("string") if is_alone => text.into(),
        Some("null") if is_alone && text.is_empty() => Value::Null,
        _ => edit,
    }
}

/// Changes each specifier of the labels.
fn labels(spec: &mut Fields, change: impl Fn(&mut Value)) {
    let domains = spec.get_mut("labels").and_then(Value::as_object_mut);
    for groups in domains.into_iter().flat_map(Map::values_mut) {
        let groups = groups.as_array_mut().into_iter().flatten();
        for group in groups.filter_map(Value::as_object_mut) {
            let lists = group.values_mut().filter_map(Value::as_array_mut);
            lists.flatten().for_each(&change);
        }
    }
}

fn newer_label(label: &mut Value) {
    let newer = match &*label {
        Value::String(word) => match &**word {
            "remote_address" | "source_cluster" | "destination_cluster" => {
                json!({word: {"key": word}})
            }
            _ => json!({"generic_key": {"value": word, "v2Shorthand": true}}),
        },
        Value::Object(fields) => match (&fields.get("generic_key"), fields.iter().next()) {
            (Some(Value::String(value)), _) => {
                let mut generic = json!({"value": value});
                if let Some(key) = fields.get("v3Key") {
                    generic["key"] = key.clone();
                }
                json!({"generic_key": generic})
            }
            (None, Some((key, header))) if fields.len() == 1 && header["header"].is_string() => {
                let mut request = json!({"key": key, "header_name": header["header"]});
                if let Some(omit) = header.get("omit_if_not_present") {
                    request["omit_if_not_present"] = omit.clone();
                }
                json!({"request_headers": request})
            }
            _ => return,
        },
        _ => return,
    };
    *label = newer;
}

fn older_label(label: &mut Value) {
    let Some((name, of)) = label.as_object().and_then(|fields| fields.iter().next()) else {
        return;
    };
    let older = match &**name {
        "remote_address" | "source_cluster" | "destination_cluster" => of["key"].clone(),
        "request_headers" if of["key"].is_string() => {
            let mut header = json!({"header": of["header_name"]});
            if let Some(omit) = of.get("omit_if_not_present") {
                header["omit_if_not_present"] = omit.clone();
            }
            json!({of["key"].as_str().unwrap_or_default(): header})
        }
        "generic_key" if of["value"].is_string() => match of["key"].as_str().unwrap_or_default() {
            "" if of["v2Shorthand"] == true => of["value"].clone(),
            "" => json!({"generic_key": of["value"]}),
            key => json!({"generic_key": of["value"], "v3Key": key}),
        },
        _ => return,
    };
    *label = older;
}

/// v2 has one field for hosts, and without it, or a header that says the same, a Mapping is for all.
fn newer_host(spec: &mut Fields) {
    if spec.get("host_regex") == Some(&true.into()) || spec.contains_key("hostname") {
        return;
    }
    let names = |fields: &str| spec.get(fields).is_some_and(|f| f.get(":authority").is_some());
    let is_named = names("headers") || names("regex_headers");
    let hostname = match spec.remove("host") {
        Some(Value::String(host)) if host == NO_HOST => return,
        Some(Value::String(host)) if !host.is_empty() => host,
        Some(Value::String(_) | Value::Null) | None if is_named => return,
        Some(Value::String(_) | Value::Null) | None => "*".to_owned(),
        Some(other) => {
            spec.insert("host".into(), other);
            return;
        }
    };
    spec.insert("hostname".into(), hostname.into());
}

fn older_host(spec: &mut Fields) {
    let text = |spec: &Fields, name: &str| {
        spec.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let is_regex = spec.get("host_regex") == Some(&true.into());
    if let Some(hostname) = text(spec, "hostname") {
        spec.insert("host".into(), hostname.into());
        if is_regex {
            spec.insert("host_regex".into(), false.into());
        }
    } else if text(spec, "host").is_none() && !is_regex {
        spec.insert("host".into(), NO_HOST.into());
    }
    spec.remove("hostname");
    let is_regex = spec.get("host_regex") == Some(&true.into());
    if !is_regex && text(spec, "host").as_deref() == Some("*") {
        spec.remove("host");
    }
}

/// `tag_headers` are custom tags, where there are none.
fn tags(spec: &mut Fields) {
    if ["custom_tags", "v3CustomTags"].iter().any(|name| spec.contains_key(*name)) {
        return;
    }
    listed(spec, "tag_headers", None);
    if let Some(Value::Array(names)) = spec.remove("tag_headers") {
        let tag = |name: &Value| json!({"tag": name, "request_header": {"name": name}});
        let tags: Vec<Value> = names.iter().map(tag).collect();
        spec.insert("custom_tags".into(), tags.into());
    }
}

#[cfg(test)]
mod tests;
