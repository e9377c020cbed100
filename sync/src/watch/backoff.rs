// SPDX-License-Identifier: Apache-2.0
//! Pauses between tries, for whoever asks again until there is an answer.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Pauses that double from failure to failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: the pause until the next try.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.least.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        jittered(pause.min(self.most))
    }
}

/// Between half of a time and all of it, so that failures do not march in step.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(pause) >> 32;
    pause / 2 + (pause / 2).mul_f64(random as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use ringway_core::limits;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_are_never_the_same() {
        let (least, most) = (limits::KUBE_BACKOFF_MIN, limits::KUBE_BACKOFF_MAX);
        let mut backoff = Backoff::new(least, most);
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= least);
        assert!(pauses[39] <= most);
        assert!(pauses[39] >= most / 2);
        assert_ne!(pauses[38], pauses[39]);
        backoff.reset();
        assert!(backoff.next() <= least);
    }

    #[test]
    fn back_off_is_jittered_within_bounds() {
        let pause = Duration::from_secs(4);
        for _ in 0..100 {
            let jittered = jittered(pause);
            assert!(jittered >= pause / 2);
            assert!(jittered <= pause);
        }
    }
}
