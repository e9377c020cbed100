// SPDX-License-Identifier: Apache-2.0
//! What gateways write: Emissary's fields, which scripts read, and conditions.

use super::{Form, Record};
use crate::name::Kind;

/// What may stand under `status`.
pub(super) fn of(kind: Kind) -> Form {
    let state = |choices| ("state", "What became of it, in a word.", Form::Text { choices });
    let own: Vec<(&'static str, &str, Form)> = match kind {
        Kind::Host => vec![
            state(&["Initial", "Pending", "Ready", "Error"]),
            (
                "tlsCertificateSource",
                "Where its certificate comes from.",
                Form::Text { choices: &["Unknown", "None", "Other", "ACME"] },
            ),
            ("phaseCompleted", "The last step of getting a certificate that is done.", PHASE),
            ("phasePending", "The step of getting a certificate that is under way.", PHASE),
            ("errorReason", "Why its state is Error.", Form::TEXT),
            ("errorTimestamp", "When it failed.", Form::TEXT),
            ("errorBackoff", "How long until the next try.", Form::TEXT),
        ],
        Kind::Mapping => vec![
            state(&["", "Inactive", "Running"]),
            ("reason", "Why it is in that state.", Form::TEXT),
        ],
        _ => vec![
            ("state", "What became of it, in a word.", Form::TEXT),
            ("reason", "Why it is in that state.", Form::TEXT),
        ],
    };
    let mut record = Record::default();
    for (name, description, form) in own {
        record = record.with(name, description, form);
    }
    let generation = "The `metadata.generation` that this was written about.";
    let conditions = Form::Keyed { key: "type", items: Box::new(condition()) };
    let record = record.with("conditions", "What became of it, in detail.", conditions).with(
        "observedGeneration",
        generation,
        Form::Integer { min: Some(0), max: None },
    );
    Form::Record(record)
}

const PHASE: Form = Form::Text {
    choices: &[
        "NA",
        "DefaultsFilled",
        "ACMEUserPrivateKeyCreated",
        "ACMEUserRegistered",
        "ACMECertificateChallenge",
    ],
};

/// Kubernetes' own form of it.
fn condition() -> Form {
    let status = Form::Text { choices: &["True", "False", "Unknown"] };
    let generation = "The `metadata.generation` that this was written about.";
    let mut record = Record::default()
        .with("type", "What is said to hold or not.", Form::TEXT)
        .with("status", "Whether it holds.", status)
        .with("reason", "Why, in a word for programs.", Form::TEXT)
        .with("message", "Why, for people.", Form::TEXT)
        .with("lastTransitionTime", "Since when, in the form of RFC 3339.", Form::TEXT)
        .with("observedGeneration", generation, Form::Integer { min: Some(0), max: None });
    record.required = ["lastTransitionTime", "message", "reason", "status", "type"].into();
    Form::Record(record)
}
