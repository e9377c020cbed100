// SPDX-License-Identifier: Apache-2.0
use super::*;

#[test]
fn medians_of_odd_even_and_no_samples() {
    assert_eq!(median(&[3.0, 1.0, 100.0]), Some(3.0));
    assert_eq!(median(&[4.0, 1.0, 100.0, 2.0]), Some(3.0));
    assert_eq!(median(&[]), None);
    assert_eq!(range(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
    assert_eq!(range(&[]), None);
}

#[test]
fn thousands_are_separated() {
    assert_eq!(thousands(7.0), "7");
    assert_eq!(thousands(999.6), "1,000");
    assert_eq!(thousands(1_234_567.0), "1,234,567");
}

#[test]
fn quantiles_are_samples() {
    let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(quantile(&hundred, 0.5), Some(50.0));
    assert_eq!(quantile(&hundred, 0.99), Some(99.0));
    assert_eq!(quantile(&hundred, 1.0), Some(100.0));
    assert_eq!(quantile(&[7.0], 0.0), Some(7.0));
    assert_eq!(quantile(&[], 0.5), None);
}
