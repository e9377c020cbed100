// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// 100,000 requests on about a thousand tables and their successors.
#[test]
fn table_and_oracle_agree() {
    let compared = AtomicUsize::new(0);
    let config = ProptestConfig { cases: 700, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&vec(any::<u8>(), 1000..1400), |data| {
            compared.fetch_add(fuzz(&data), Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
    let compared = compared.into_inner();
    assert!(compared >= 100_000, "only {compared}");
}
