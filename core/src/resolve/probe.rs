// SPDX-License-Identifier: Apache-2.0
//! The Mappings that are there without being written: liveness, readiness and (where it is open
//! to everybody) diagnostics, on every Host. Emissary: `internal_*_probe_mapping`.

use std::sync::Arc;

use crate::crd::mapping::MappingRest;
use crate::crd::module::Probe;
use crate::crd::{self, Rest};
use crate::name::{Kind, Ref};
use crate::problem::Problems;
use crate::snapshot::Settings;

use super::facts::Facts;
use super::mapping::{self, GroupKey, Labels};
use super::memo::{Resolved, Round};
use super::module::Probes;
use super::reachable;

const LIVENESS: &str = "/ambassador/v0/check_alive";
const READINESS: &str = "/ambassador/v0/check_ready";
const TIMEOUT_MS: u64 = 10_000;

pub(crate) fn resolve(
    probes: &Probes,
    settings: &Settings,
    facts: &Facts,
    round: &mut Round<'_>,
) -> Problems {
    let mut problems = Problems::default();
    let diagnostics = probes.diagnostics.as_ref().map(|prefix| Probe {
        enabled: Some(true),
        prefix: Some(prefix.clone()),
        rewrite: None,
        service: None,
    });
    for (name, written, path, on) in [
        ("internal_liveness_probe_mapping", &probes.liveness, LIVENESS, true),
        ("internal_readiness_probe_mapping", &probes.readiness, READINESS, true),
        ("internal_diagnostics_probe_mapping", &diagnostics, "/ambassador/v0/", false),
    ] {
        // Emissary: a probe that is written at all is off unless it says `enabled: true`.
        let on = written.as_ref().map_or(on, |probe| probe.enabled.unwrap_or(false));
        let admin = settings.admin_address.map(|address| reachable(address).to_string());
        let Some(mapping) = on.then(|| probe(written.as_ref(), path, admin)).flatten() else {
            continue;
        };
        let object = Ref::new(Kind::Mapping, Arc::clone(&settings.namespace), name);
        let labels = Labels::default();
        let resolved = round.made_up(&format!("\u{0}{name}"), &mapping, &labels, || {
            let (mapping, problems) = mapping::resolve(&object, &labels, &mapping, facts);
            let mapping = mapping.map(|mapping| {
                Arc::new(mapping::Mapping {
                    always: true,
                    internal: true,
                    group_key: GroupKey::of(&format!("{name}\u{0}")),
                    ..mapping
                })
            });
            Resolved { mapping, problems }
        });
        problems.0.extend_from_slice(&resolved.problems.0);
    }
    problems
}

/// `None` without an admin server to lead to.
fn probe(written: Option<&Probe>, path: &str, admin: Option<String>) -> Option<crd::Mapping> {
    let set = |field: fn(&Probe) -> &Option<String>| {
        written.and_then(|probe| field(probe).clone()).filter(|text| !text.is_empty())
    };
    Some(crd::Mapping {
        prefix: set(|p| &p.prefix).unwrap_or_else(|| path.to_owned()),
        rewrite: Some(set(|p| &p.rewrite).unwrap_or_else(|| path.to_owned())),
        service: set(|p| &p.service).or(admin)?,
        hostname: Some("*".to_owned()),
        timeout_ms: Some(TIMEOUT_MS),
        bypass_auth: Some(true),
        // Module defaults are for Mappings that somebody wrote.
        rest: Rest::of(MappingRest {
            add_request_headers: Some(Default::default()),
            add_response_headers: Some(Default::default()),
            remove_request_headers: Some(Vec::new()),
            remove_response_headers: Some(Vec::new()),
            add_linkerd_headers: Some(false),
            ..MappingRest::default()
        }),
        ..crd::Mapping::default()
    })
}
