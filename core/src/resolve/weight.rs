// SPDX-License-Identifier: Apache-2.0
//! Weights of a group's members → the rolls of 0..100 that each takes. Emissary: cumulative
//! thresholds, weighted members first, the rest shared by the weightless; nothing is normalised.

use crate::name::Ref;
use crate::problem::Problems;

/// `[from, to)` of 0..100.
pub(crate) type Window = (u32, u32);

/// Why the weights do not add up. The windows stand nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WeightError {
    /// The member at this place asks for more than 100 or less than 0.
    OutOfRange(usize),
    /// The sum of all weights.
    Excess(i64),
}

/// Windows of these members (who, and what each asks for), in their order. Where the weights do
/// not add up, the member concerned is told.
pub(crate) fn shares(members: &[(&Ref, Option<i64>)], problems: &mut Problems) -> Vec<Window> {
    let weights: Vec<Option<i64>> = members.iter().map(|(_, weight)| *weight).collect();
    let (windows, error) = windows(&weights);
    match error {
        None => {}
        Some(WeightError::OutOfRange(at)) => {
            let (object, weight) = members[at];
            problems.weight_out_of_range(object, weight.unwrap_or_default());
        }
        Some(WeightError::Excess(sum)) => {
            let last = members.iter().rev().find(|(_, weight)| weight.is_some());
            if let Some((object, _)) = last {
                problems.weights_exceed(object, sum);
            }
        }
    }
    windows
}

/// Windows of the members, in the members' order.
fn windows(weights: &[Option<i64>]) -> (Vec<Window>, Option<WeightError>) {
    if weights.len() == 1 {
        let bad = weights[0].is_some_and(|w| !(0..=100).contains(&w));
        return (vec![(0, 100)], bad.then_some(WeightError::OutOfRange(0)));
    }
    let out_of_range = weights.iter().position(|w| w.is_some_and(|w| !(0..=100).contains(&w)));
    let mut windows = vec![(0, 0); weights.len()];
    let mut sum: i64 = 0;
    let clip = |at: i64| at.clamp(0, 100) as u32;
    for (window, weight) in windows.iter_mut().zip(weights) {
        let Some(weight) = weight else { continue };
        let from = clip(sum);
        sum = sum.saturating_add((*weight).max(0));
        *window = (from, clip(sum));
    }
    let error = match out_of_range {
        Some(at) => Some(WeightError::OutOfRange(at)),
        None => (sum > 100).then_some(WeightError::Excess(sum)),
    };

    let weightless = weights.iter().filter(|w| w.is_none()).count();
    if weightless > 0 {
        let share = round_half_even((100 - sum).max(0), weightless as i64);
        let mut at = sum;
        let mut left = weightless;
        for (window, _) in windows.iter_mut().zip(weights).filter(|(_, w)| w.is_none()) {
            left -= 1;
            let from = clip(at);
            at = if left == 0 { 100 } else { at + share };
            *window = (from, clip(at));
        }
    }
    (windows, error)
}

/// Python's `round`, which Emissary uses: halves go to the even neighbour.
fn round_half_even(numerator: i64, denominator: i64) -> i64 {
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    match (2 * rest).cmp(&denominator) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient % 2,
    }
}

#[cfg(test)]
mod tests;
