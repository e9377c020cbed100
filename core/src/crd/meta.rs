// SPDX-License-Identifier: Apache-2.0
//! What every object has: name, labels, age, and for whom it is meant.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::name::Ref;

/// Most objects name no gateway: they share this.
static DEFAULT_IDS: LazyLock<Arc<[String]>> = LazyLock::new(|| ["default".to_owned()].into());

/// An object's metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    pub object: Ref,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub generation: Option<i64>,
    /// Seconds since the epoch.
    pub created: Option<i64>,
    /// Gateways that this object is meant for; `["default"]` when nothing is written.
    pub ambassador_id: Arc<[String]>,
    pub dialect: Dialect,
}

impl Meta {
    /// Metadata with nothing but a name, as tests and built-in objects need it.
    pub fn of(object: Ref) -> Self {
        Self {
            object,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            generation: None,
            created: None,
            ambassador_id: Arc::clone(&DEFAULT_IDS),
            dialect: Dialect::V3alpha1,
        }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.object.name
    }

    pub fn namespace(&self) -> &Arc<str> {
        &self.object.namespace
    }

    /// Whether a gateway with this AMBASSADOR_ID reads the object.
    pub fn is_for(&self, ambassador_id: &str) -> bool {
        self.ambassador_id.iter().any(|id| id == ambassador_id || id == "_automatic_")
    }
}

/// The API version that an object was written in. Its fields are normalised to v3alpha1; what
/// depends on the dialect all the same is for the resolver to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Kubernetes' own kinds.
    Kubernetes,
    /// getambassador.io/v1, ambassador/v0 and ambassador/v1.
    V1,
    /// getambassador.io/v2 and ambassador/v2.
    V2,
    /// getambassador.io/v3alpha1, ambassador/v3 and gateway.getambassador.io/v1alpha1.
    V3alpha1,
}

/// Seconds since the epoch of an RFC 3339 time; fractions are dropped.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return None;
    }
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !separators.iter().all(|(at, b)| bytes[*at].to_ascii_uppercase() == *b) {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = &text[from..to];
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !((1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60) {
        return None;
    }
    let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) =>
        {
            let digit = |b: &u8| i64::from(b - b'0');
            let seconds = (digit(h1) * 10 + digit(h2)) * 3600 + (digit(m1) * 10 + digit(m2)) * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    // Days since the epoch of a Gregorian date, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
}
