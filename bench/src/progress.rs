// SPDX-License-Identifier: Apache-2.0
//! How far a long run is: what was done, and how long the rest may take, at the pace so far.

use std::time::{Duration, Instant};

pub(crate) struct Progress {
    began: Instant,
    planned: Duration,
    done: Duration,
}

impl Progress {
    /// For a run whose steps are planned to take so long together.
    pub(crate) fn new(planned: Duration) -> Self {
        Self { began: Instant::now(), planned, done: Duration::ZERO }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Says that a step is done which was planned to take so long.
    pub(crate) fn step(&mut self, planned: Duration, what: &str) {
        self.done += planned;
        eprintln!("[{} left] {what}", clock(self.left(self.elapsed())));
    }

    /// A step that will not be done.
    pub(crate) fn skip(&mut self, planned: Duration) {
        self.planned = self.planned.saturating_sub(planned);
    }

    fn left(&self, elapsed: Duration) -> Duration {
        let pace = elapsed.as_secs_f64() / self.done.as_secs_f64().max(1e-3);
        // The first steps are too few to tell the pace from.
        let pace = if self.done < self.planned / 50 { 1.0 } else { pace };
        self.planned.saturating_sub(self.done).mul_f64(pace)
    }
}

/// Minutes and seconds.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests;
