// SPDX-License-Identifier: Apache-2.0
use super::{WeightError, windows};

#[track_caller]
fn check(weights: &[Option<i64>], expected: &[(u32, u32)], error: Option<WeightError>) {
    assert_eq!(windows(weights), (expected.to_vec(), error), "{weights:?}");
}

#[test]
fn single_member_takes_everything() {
    check(&[None], &[(0, 100)], None);
    check(&[Some(0)], &[(0, 100)], None);
    check(&[Some(30)], &[(0, 100)], None);
    check(&[Some(130)], &[(0, 100)], Some(WeightError::OutOfRange(0)));
}

#[test]
fn weighted_are_cumulative_and_fall_through() {
    check(&[Some(30), Some(30)], &[(0, 30), (30, 60)], None);
    check(&[Some(50), Some(50)], &[(0, 50), (50, 100)], None);
    check(&[Some(0), Some(0)], &[(0, 0), (0, 0)], None);
}

#[test]
fn weightless_share_the_rest() {
    check(&[Some(10), None], &[(0, 10), (10, 100)], None);
    check(&[None, Some(10)], &[(10, 100), (0, 10)], None);
    check(&[Some(0), None], &[(0, 0), (0, 100)], None);
    check(&[Some(100), None], &[(0, 100), (100, 100)], None);
    check(&[None, None], &[(0, 50), (50, 100)], None);
    check(&[None, None, None], &[(0, 33), (33, 66), (66, 100)], None);
    // round(95 / 2) is 48, round(85 / 2) is 42: halves go to the even neighbour.
    check(&[Some(5), None, None], &[(0, 5), (5, 53), (53, 100)], None);
    check(&[Some(15), None, None], &[(0, 15), (15, 57), (57, 100)], None);
    // Rounded up so often that the last one is left with nothing.
    check(
        &[Some(97), None, None, None, None, None],
        &[(0, 97), (97, 98), (98, 99), (99, 100), (100, 100), (100, 100)],
        None,
    );
}

#[test]
fn too_much_is_an_error_with_raw_values() {
    check(&[Some(60), Some(50)], &[(0, 60), (60, 100)], Some(WeightError::Excess(110)));
    check(
        &[Some(60), Some(50), None],
        &[(0, 60), (60, 100), (100, 100)],
        Some(WeightError::Excess(110)),
    );
    check(&[Some(120), Some(50)], &[(0, 100), (100, 100)], Some(WeightError::OutOfRange(0)));
    check(&[Some(-5), None], &[(0, 0), (0, 100)], Some(WeightError::OutOfRange(0)));
}
