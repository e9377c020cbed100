// SPDX-License-Identifier: Apache-2.0
//! The Ambassador Module → settings of the data plane, defaults of Mappings, probes, IP rules.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::crd::module::{self, Config, IpMatch, LogFormat, LogType, Probe, Underscores};
use crate::crd::{Module, Object, Spec};
use crate::ir::settings::{AccessLog, GrpcMethods, GrpcStats};
use crate::ir::{self, Settings};
use crate::name::Ref;
use crate::policy::client_certificate::{Details, Forwarding};
use crate::policy::format::Format;
use crate::problem::Problems;

use super::facts::Defaults;
use super::{balance, unenforced};

/// Field paths begin here.
const AT: &str = "spec.config.";

/// What the Module means.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) settings: Settings,
    pub(crate) defaults: Defaults,
    /// `defaults.tls_secret_namespacing` is false: dots are part of a Secret's name.
    pub(crate) plain_secret_names: bool,
    pub(crate) probes: Probes,
    /// The Module has IP rules, which cannot be enforced yet.
    pub(crate) ip_rules: Option<Ref>,
    pub(crate) problems: Problems,
}

/// The synthetic Mappings that the Module may change.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Probes {
    pub(crate) liveness: Option<Probe>,
    pub(crate) readiness: Option<Probe>,
    /// Prefix of the diagnostics, where they are open to everybody.
    pub(crate) diagnostics: Option<String>,
}

/// Resolves the Modules named `ambassador`, by namespace. The first one counts.
pub(crate) fn resolve<'s>(modules: impl Iterator<Item = &'s Arc<Object>>) -> Resolved {
    let mut resolved = Resolved::default();
    let mut first: Option<&Ref> = None;
    for object in modules {
        let Spec::Module(module) = &object.spec else { continue };
        if &**object.meta.name() != "ambassador" {
            continue;
        }
        match first {
            Some(first) => resolved.problems.second_module(&object.meta.object, first),
            None => {
                first = Some(&object.meta.object);
                read(&object.meta.object, module, &mut resolved);
            }
        }
    }
    resolved
}

fn read(object: &Ref, module: &Module, resolved: &mut Resolved) {
    let config = &*module.config;
    let problems = &mut resolved.problems;
    resolved.settings = settings(object, config, problems);
    resolved.defaults = defaults(object, config, problems);
    let dotted = config.defaults.as_ref().and_then(|d| d.tls_secret_namespacing);
    resolved.plain_secret_names = dotted == Some(false);
    resolved.probes = probes(config);
    not_enforced(object, config, problems);

    for (rules, key) in [(&config.ip_allow, "ip_allow"), (&config.ip_deny, "ip_deny")] {
        for (at, rule) in rules.iter().flatten().enumerate() {
            check_ip(object, &format!("{AT}{key}[{at}]"), rule, problems);
        }
        let unreadable = module.refused_keys.iter().any(|refused| refused == key);
        if rules.is_some() || unreadable {
            problems.ip_rules_fail_closed(object, &format!("{AT}{key}"));
            resolved.ip_rules = Some(object.clone());
        }
    }
    if config.ip_allow.is_some() && config.ip_deny.is_some() {
        problems.exclusive(object, &format!("{AT}ip_deny"), "ip_allow", "ip_deny");
    }
}

fn settings(object: &Ref, config: &Config, problems: &mut Problems) -> Settings {
    let mut settings = Settings::default();
    if let Some(name) = config.server_name.as_deref().filter(|n| !n.is_empty()) {
        if name.bytes().any(|b| b.is_ascii_control()) {
            problems.control_character(object, &format!("{AT}server_name"));
        } else {
            settings.server_name = name.into();
        }
    }
    let flag = |target: &mut bool, value: Option<bool>| *target = value.unwrap_or(*target);
    flag(&mut settings.use_remote_address, config.use_remote_address);
    flag(&mut settings.preserve_external_request_id, config.preserve_external_request_id);
    flag(&mut settings.suppress_envoy_headers, config.suppress_envoy_headers);
    flag(&mut settings.enable_http10, config.enable_http10);
    flag(&mut settings.allow_chunked_length, config.allow_chunked_length);
    flag(&mut settings.merge_slashes, config.merge_slashes);
    flag(
        &mut settings.reject_requests_with_escaped_slashes,
        config.reject_requests_with_escaped_slashes,
    );
    flag(&mut settings.strip_matching_host_port, config.strip_matching_host_port);
    if let Some(action) = config.headers_with_underscores_action {
        settings.headers_with_underscores = match action {
            Underscores::Allow => ir::settings::Underscores::Allow,
            Underscores::DropHeader => ir::settings::Underscores::DropHeader,
            Underscores::RejectRequest => ir::settings::Underscores::RejectRequest,
        };
    }
    match config.max_request_headers_kb {
        None => {}
        // Envoy's own bounds.
        Some(kb @ 1..=8192) => settings.head_bytes_max = kb as usize * 1024,
        Some(kb) => {
            let path = format!("{AT}max_request_headers_kb");
            problems.out_of_bounds(object, &path, i64::from(kb), 1, 8192);
        }
    }
    match config.listener_idle_timeout_ms {
        None => {}
        // Envoy: zero switches it off; no connection outlives this.
        Some(0) => settings.idle_timeout = Duration::from_secs(u64::from(u32::MAX)),
        Some(ms) => settings.idle_timeout = Duration::from_millis(ms),
    }
    use crate::crd::module::ClientCertDetails as Written;
    settings.client_certificates = match config.forward_client_cert_details {
        None | Some(Written::Sanitize) => Forwarding::Sanitize,
        Some(Written::AlwaysForwardOnly) => Forwarding::AlwaysForwardOnly,
        Some(Written::AppendForward) => Forwarding::AppendForward,
        Some(Written::ForwardOnly) => Forwarding::ForwardOnly,
        Some(Written::SanitizeSet) => Forwarding::SanitizeSet,
    };
    if let Some(written) = &config.set_current_client_cert_details {
        settings.client_certificate_details = Details {
            subject: written.subject.unwrap_or(false),
            cert: written.cert.unwrap_or(false),
            chain: written.chain.unwrap_or(false),
            dns: written.dns.unwrap_or(false),
            uri: written.uri.unwrap_or(false),
        };
    }
    settings.body_bytes_max = config.buffer.as_ref().map(|buffer| buffer.max_request_bytes);
    if let Some(log) = access_log(object, config, problems) {
        settings.access_log = log;
    }
    // Emissary: the key enables, whatever its value.
    settings.grpc_web = config.enable_grpc_web.is_some();
    settings.grpc_http1_bridge = config.enable_grpc_http11_bridge.is_some();
    settings.grpc_stats = config.grpc_stats.as_ref().map(grpc_stats);
    settings
}

fn grpc_stats(written: &module::GrpcStats) -> GrpcStats {
    let methods = if written.all_methods.unwrap_or(false) {
        GrpcMethods::All
    } else {
        let mut services: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new();
        for service in &written.services {
            let methods = services.entry(service.name.as_str().into()).or_default();
            methods.extend(service.method_names.iter().map(|name| name.as_str().into()));
            methods.sort_unstable();
            methods.dedup();
        }
        GrpcMethods::Listed(services)
    };
    GrpcStats { methods, upstream: written.upstream_stats.unwrap_or(false) }
}

/// `None` where the default stays.
fn access_log(object: &Ref, config: &Config, problems: &mut Problems) -> Option<AccessLog> {
    let path = format!("{AT}envoy_log_format");
    let (json, typed) = match config.envoy_log_type {
        None | Some(LogType::Text) => (false, false),
        Some(LogType::Json) => (true, false),
        Some(LogType::TypedJson) => (true, true),
    };
    let default = || if typed { AccessLog::typed_json() } else { AccessLog::json() };
    let mut parse = |text: &str, path: &str| match Format::parse(text) {
        Ok(format) => Some(format),
        Err(error) => {
            problems.bad_format(object, path, &error);
            None
        }
    };
    match (json, &config.envoy_log_format) {
        (false, None) => None,
        (false, Some(LogFormat::Text(text))) if text.is_empty() => None,
        // Envoy writes the line end as part of the format.
        (false, Some(LogFormat::Text(text))) => {
            parse(text.trim_end_matches(['\n', '\r']), &path).map(AccessLog::Text)
        }
        (true, Some(LogFormat::Json(keys))) if !keys.is_empty() => {
            let mut formats = Vec::with_capacity(keys.len());
            for (key, text) in keys {
                formats.push((key.as_str().into(), parse(text, &format!("{path}[{key:?}]"))?));
            }
            Some(if typed { AccessLog::TypedJson(formats) } else { AccessLog::Json(formats) })
        }
        (true, None | Some(LogFormat::Json(_))) => Some(default()),
        (json, Some(_)) => {
            problems.log_format_type(object, &path, if json { "a map" } else { "a string" });
            json.then(default)
        }
    }
}

fn defaults(object: &Ref, config: &Config, problems: &mut Problems) -> Defaults {
    if let Some(name) = &config.resolver
        && name.is_empty()
    {
        problems.unknown_resolver(object, &format!("{AT}resolver"), name);
    }
    let all = config.defaults.as_ref();
    let http = all.and_then(|d| d.httpmapping.as_ref());
    // Emissary: a default of the kind wins over one for all kinds.
    macro_rules! default {
        ($field:ident) => {
            http.and_then(|d| d.$field.clone()).or_else(|| all.and_then(|d| d.$field.clone()))
        };
    }
    Defaults {
        add_linkerd_headers: config.add_linkerd_headers.unwrap_or(false),
        add_request_headers: default!(add_request_headers),
        add_response_headers: default!(add_response_headers),
        remove_request_headers: default!(remove_request_headers),
        remove_response_headers: default!(remove_response_headers),
        stats_name: default!(stats_name),
        request_timeout_ms: config.cluster_request_timeout_ms,
        cluster_idle_timeout_ms: config.cluster_idle_timeout_ms,
        cluster_max_connection_lifetime_ms: config.cluster_max_connection_lifetime_ms,
        balancing: config.load_balancer.as_ref().and_then(|balancer| {
            balance::resolve(object, &format!("{AT}load_balancer"), balancer, problems)
        }),
        keepalive: config.keepalive.clone(),
        enable_ipv4: config.enable_ipv4.unwrap_or(true),
        enable_ipv6: config.enable_ipv6.unwrap_or(false),
        resolver: config.resolver.clone().filter(|name| !name.is_empty()),
        use_own_namespace: config.use_ambassador_namespace_for_service_resolution.unwrap_or(false),
    }
}

fn probes(config: &Config) -> Probes {
    let diagnostics = config.diagnostics.as_ref().filter(|diagnostics| {
        diagnostics.enabled.unwrap_or(true) && diagnostics.allow_non_local == Some(true)
    });
    Probes {
        liveness: config.liveness_probe.clone(),
        readiness: config.readiness_probe.clone(),
        diagnostics: diagnostics
            .map(|d| d.prefix.clone().unwrap_or_else(|| "/ambassador/v0/".to_owned())),
    }
}

fn check_ip(object: &Ref, path: &str, rule: &IpMatch, problems: &mut Problems) {
    let ((Some(cidr), None) | (None, Some(cidr))) = (&rule.peer, &rule.remote) else {
        return problems.peer_or_remote(object, path);
    };
    let (address, length) = cidr.split_once('/').unwrap_or((cidr, ""));
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return problems.bad_cidr(object, path, cidr),
    };
    let fits = length.parse::<u8>().is_ok_and(|length| length <= longest);
    if !length.is_empty() && !fits {
        problems.bad_cidr(object, path, cidr);
    }
}

fn not_enforced(object: &Ref, config: &Config, problems: &mut Problems) {
    if let Some(overrides) = &config.error_response_overrides {
        let path = format!("{AT}error_response_overrides");
        unenforced::error_responses(object, &path, overrides, problems);
    }
    let log_path = config.envoy_log_path.as_deref();
    let log_path = log_path.is_some_and(|p| !matches!(p, "" | "/dev/fd/1" | "/dev/stdout"));
    for (written, key, what) in [
        (config.buffer_limit_bytes.is_some(), "buffer_limit_bytes", "connection buffer limits"),
        (config.circuit_breakers.is_some(), "circuit_breakers", "circuit breakers"),
        (config.cors.is_some(), "cors", "CORS"),
        (!config.default_labels.is_empty(), "default_labels", "rate limiting"),
        (log_path, "envoy_log_path", "an access log in a file"),
        (
            config.error_response_overrides.is_some(),
            "error_response_overrides",
            "error response overrides",
        ),
        (config.gzip.is_some(), "gzip", "compression"),
        (config.header_case_overrides.is_some(), "header_case_overrides", "header case overrides"),
        (config.lua_scripts.is_some(), "lua_scripts", "Lua scripts"),
        (config.proper_case == Some(true), "proper_case", "header case overrides"),
        (config.retry_policy.is_some(), "retry_policy", "retries"),
        (config.statsd.is_some(), "statsd", "statsd"),
    ] {
        if written {
            problems.not_enforced_yet(object, &format!("{AT}{key}"), what);
        }
    }
}

#[cfg(test)]
mod tests;
