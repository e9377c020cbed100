// SPDX-License-Identifier: Apache-2.0
//! Objects that shape no route yet: checked, and named as not served. None of them guards access;
//! those that do are in [`super::guard`].

use std::collections::HashMap;

use crate::crd::services::{AuthProto, ProtocolVersion, TracingDriver};
use crate::crd::{Meta, Object, Spec, TLSContext};
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Snapshot;

use super::secret;
use super::service::Service;

pub(crate) fn resolve(snapshot: &Snapshot, ours: impl Fn(&Meta) -> bool, problems: &mut Problems) {
    const KINDS: [Kind; 7] = [
        Kind::AuthService,
        Kind::ConsulResolver,
        Kind::DevPortal,
        Kind::LogService,
        Kind::RateLimit,
        Kind::RateLimitService,
        Kind::TracingService,
    ];
    for kind in KINDS {
        for object in snapshot.of_kind(kind).filter(|o| ours(&o.meta)) {
            one(object, problems);
        }
    }
    let limits = snapshot.of_kind(Kind::RateLimitService).filter(|o| ours(&o.meta));
    for object in limits.skip(1) {
        problems.second_rate_limit_service(&object.meta.object);
    }
    let mut names: HashMap<&str, &Ref> = HashMap::new();
    for object in snapshot.of_kind(Kind::TLSContext).filter(|o| ours(&o.meta)) {
        let Spec::TLSContext(context) = &object.spec else { continue };
        tls_context(&object.meta, context, snapshot, problems);
        match names.get(&**object.meta.name()) {
            Some(other) => problems.context_name_taken(&object.meta.object, other),
            None => {
                names.insert(object.meta.name(), &object.meta.object);
            }
        }
    }
}

fn one(object: &Object, problems: &mut Problems) {
    let name = &object.meta.object;
    match &object.spec {
        Spec::AuthService(auth) => {
            upstream(name, "spec.auth_service", &auth.auth_service, problems);
            if auth.proto == Some(AuthProto::Grpc)
                && auth.protocol_version != Some(ProtocolVersion::V3)
            {
                problems.protocol_version(name);
            }
        }
        Spec::ConsulResolver(_) => problems.not_served_yet(name, "", "Consul"),
        Spec::DevPortal(_) => problems.not_served_yet(name, "", "DevPortal"),
        Spec::LogService(log) => {
            upstream(name, "spec.service", log.service.as_deref().unwrap_or_default(), problems);
            if log.protocol_version != Some(ProtocolVersion::V3) {
                problems.protocol_version(name);
            }
            if log.grpc != Some(true) {
                problems.log_service_without_grpc(name);
            }
            problems.not_served_yet(name, "", "LogService");
        }
        Spec::RateLimit(_) => problems.not_served_yet(name, "", "RateLimit"),
        Spec::RateLimitService(limit) => {
            upstream(name, "spec.service", &limit.service, problems);
            if limit.protocol_version != Some(ProtocolVersion::V3) {
                problems.protocol_version(name);
            }
            problems.not_served_yet(name, "", "RateLimitService");
        }
        Spec::TracingService(tracing) => {
            upstream(name, "spec.service", &tracing.service, problems);
            if tracing.driver == TracingDriver::Lightstep {
                problems.tracing_driver(name, tracing.driver.as_str());
            }
            problems.not_served_yet(name, "", "TracingService");
        }
        _ => {}
    }
}

fn upstream(object: &Ref, path: &str, text: &str, problems: &mut Problems) {
    if let Err(error) = Service::parse(text) {
        problems.bad_service(object, path, text, &error);
    }
}

fn tls_context(meta: &Meta, context: &TLSContext, snapshot: &Snapshot, problems: &mut Problems) {
    let object = &meta.object;
    let dotted = context.secret_namespacing.unwrap_or(true);
    for (name, path, purpose) in [
        (&context.secret, "spec.secret", secret::Use::Certificate),
        (&context.ca_secret, "spec.ca_secret", secret::Use::Authorities),
        (&context.crl_secret, "spec.crl_secret", secret::Use::Revocations),
    ] {
        let Some(name) = name.as_deref().filter(|n| !n.is_empty()) else { continue };
        let at = secret::Reference { name, namespace: None, own: &object.namespace, dotted };
        secret::check(snapshot, &at, purpose, object, path, problems);
    }
    if let (Some(min), Some(max)) = (context.min_tls_version, context.max_tls_version)
        && min > max
    {
        problems.tls_versions(object, "spec.min_tls_version", min.as_str(), max.as_str());
    }
    problems.not_served_yet(object, "", "TLSContext");
}
