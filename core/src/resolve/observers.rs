// SPDX-License-Identifier: Apache-2.0
//! Objects that shape no route yet: checked, and named as not served. None of them guards access;
//! those that do are in [`super::guard`].

use crate::crd::services::{AuthProto, ProtocolVersion, TracingDriver};
use crate::crd::{Meta, Object, Spec};
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Snapshot;

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
