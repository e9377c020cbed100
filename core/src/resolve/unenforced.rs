// SPDX-License-Identifier: Apache-2.0
//! Fields of a Mapping that are read and checked, but not acted upon yet. Each is named in a
//! warning; values for which Emissary drops the Mapping drop it here too.

use crate::crd;
use crate::crd::mapping::{ErrorResponseOverride, HealthCheck, RetryPolicy};
use crate::name::Ref;
use crate::policy::format::Format;
use crate::problem::Problems;

use super::duration;

/// Checks one Mapping; true where it is refused.
pub(crate) fn mapping(object: &Ref, mapping: &crd::Mapping, problems: &mut Problems) -> bool {
    let mut refused = false;
    if let Some(policy) = &mapping.retry_policy {
        refused |= !retry_policy(object, "spec.retry_policy", policy, problems);
    }
    for (at, check) in mapping.health_checks.iter().flatten().enumerate() {
        health_check(object, &format!("spec.health_checks[{at}]"), check, problems);
    }
    if let Some(overrides) = &mapping.error_response_overrides {
        error_responses(object, "spec.error_response_overrides", overrides, problems);
    }
    if let Some(priority) = mapping.priority.as_deref()
        && !matches!(priority, "" | "DEFAULT" | "default" | "HIGH" | "high")
    {
        problems.unknown_priority(object, priority);
    }
    let some =
        |written: bool, path: &'static str, what: &'static str| written.then_some((path, what));
    for (path, what) in [
        some(mapping.circuit_breakers.is_some(), "spec.circuit_breakers", "circuit breakers"),
        some(mapping.retry_policy.is_some(), "spec.retry_policy", "retries"),
        some(mapping.health_checks.is_some(), "spec.health_checks", "active health checks"),
        some(mapping.outlier_detection.is_some(), "spec.outlier_detection", "outlier detection"),
        some(mapping.cors.is_some(), "spec.cors", "CORS"),
        some(mapping.labels.is_some(), "spec.labels", "rate limiting"),
        some(
            mapping.error_response_overrides.is_some(),
            "spec.error_response_overrides",
            "error response overrides",
        ),
    ]
    .into_iter()
    .flatten()
    {
        problems.not_enforced_yet(object, path, what);
    }
    refused
}

fn retry_policy(object: &Ref, path: &str, policy: &RetryPolicy, problems: &mut Problems) -> bool {
    let mut valid = true;
    if policy.retry_on.is_none() {
        problems.missing_retry_on(object, path);
        valid = false;
    }
    if let Some(text) = &policy.per_try_timeout
        && duration::parse(text).is_none()
    {
        problems.bad_duration(object, &format!("{path}.per_try_timeout"), text);
        valid = false;
    }
    valid
}

/// Emissary skips a malformed check and keeps the Mapping.
fn health_check(object: &Ref, path: &str, check: &HealthCheck, problems: &mut Problems) {
    let Some(kind) = &check.health_check else {
        return problems.bad_health_check(object, path, "it has neither http nor grpc");
    };
    match (&kind.http, &kind.grpc) {
        (None, None) => problems.bad_health_check(object, path, "it has neither http nor grpc"),
        (Some(_), Some(_)) => problems.bad_health_check(object, path, "it has both http and grpc"),
        (Some(http), None) => {
            if http.path.as_deref().is_none_or(str::is_empty) {
                problems.bad_health_check(object, path, "its http check has no path");
            }
            for range in &http.expected_statuses {
                if range.min < 100 || range.max > 599 || range.min > range.max {
                    let why = format!("{}-{} is no range of statuses", range.min, range.max);
                    problems.bad_health_check(object, path, &why);
                }
            }
        }
        (None, Some(grpc)) => {
            if grpc.upstream_name.as_deref().is_none_or(str::is_empty) {
                problems.bad_health_check(object, path, "its grpc check has no upstream_name");
            }
        }
    }
    for (text, name) in [(&check.timeout, "timeout"), (&check.interval, "interval")] {
        if let Some(text) = text
            && duration::parse(text).is_none()
        {
            problems.bad_duration(object, &format!("{path}.{name}"), text);
        }
    }
}

/// Emissary ignores a malformed override and keeps the Mapping.
pub(crate) fn error_responses(
    object: &Ref,
    path: &str,
    overrides: &[ErrorResponseOverride],
    problems: &mut Problems,
) {
    for (at, entry) in overrides.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let body = &entry.body;
        let forms = [
            body.text_format.is_some(),
            body.json_format.is_some(),
            body.text_format_source.is_some(),
        ];
        if forms.iter().filter(|written| **written).count() != 1 {
            let why = "it needs exactly one of text_format, json_format and text_format_source";
            problems.bad_error_response(object, &path, why);
        }
        if !(400..=599).contains(&entry.on_status_code) {
            let why = format!("{} is no status from 400 to 599", entry.on_status_code);
            problems.bad_error_response(object, &path, &why);
        }
        let texts = body.text_format.iter().chain(body.json_format.iter().flat_map(|j| j.values()));
        for text in texts {
            if let Err(error) = Format::parse(text) {
                problems.bad_error_response(object, &path, &error.to_string());
            }
        }
    }
}
