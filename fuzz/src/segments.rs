// SPDX-License-Identifier: Apache-2.0
//! Pseudo-random numbers and segmentations that depend on their seed alone.

/// xorshift64*.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Seeded with the bytes themselves (FNV-1a).
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &b| {
            (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self::new(hash)
    }

    /// From `0..bound`; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let n = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((n * bound as u64) >> 32) as usize
    }
}

/// Lengths of the pieces that a stream is cut into.
#[derive(Clone, Debug)]
pub(crate) enum Cuts {
    Whole,
    Bytes,
    Random(Random),
}

impl Cuts {
    /// Length of the next piece, at least 1, of `left` bytes, also at least 1.
    pub(crate) fn next(&mut self, left: usize) -> usize {
        match self {
            Self::Whole => left,
            Self::Bytes => 1,
            // Mostly short, so that line ends are cut too.
            Self::Random(random) => {
                let bound = if random.below(4) == 0 { left } else { left.min(8) };
                1 + random.below(bound)
            }
        }
    }
}
