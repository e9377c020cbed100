// SPDX-License-Identifier: Apache-2.0
//! When requests of an open loop are due. The instants follow from the rate alone and never from the
//! answers, so a stall delays every request that was due during it and shows up in all of their
//! latencies (no coordinated omission).

/// Due instants at a fixed rate, as nanoseconds since the start.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    per_second: u64,
    taken: u64,
}

impl Schedule {
    /// `per_second` must be above zero.
    pub(crate) fn new(per_second: u64) -> Self {
        assert!(per_second > 0);
        Self { per_second, taken: 0 }
    }

    /// When the next request is due. Computed from the count, so errors do not add up.
    pub(crate) fn next_due_ns(&self) -> u64 {
        (u128::from(self.taken) * 1_000_000_000 / u128::from(self.per_second)) as u64
    }

    /// Takes the next request if it is due at `now_ns`: the instant it was meant to be sent.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_due_ns();
        (due <= now_ns).then(|| {
            self.taken += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests;
