// SPDX-License-Identifier: Apache-2.0
//! Quantiles of the workers' histograms, merged: for JSON, where buckets say too little.

use serde::Serialize;

use super::metric::{HISTOGRAM_BUCKETS, Histogram};

/// How long requests took, in microseconds; each within an eighth of its octave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub mean_us: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    #[serde(rename = "p99.9_us")]
    pub p999_us: u64,
}

/// Merges histograms and reports, one row after the other without allocating again.
#[derive(Debug)]
pub struct Merger(hdrhistogram::Histogram<u64>);

impl Default for Merger {
    fn default() -> Self {
        let high = Histogram::bucket_max(HISTOGRAM_BUCKETS - 1);
        Self(hdrhistogram::Histogram::new_with_max(high, 2).expect("the bounds are in order"))
    }
}

impl Merger {
    /// `None` when nothing was recorded.
    pub fn quantiles<'h>(
        &mut self,
        histograms: impl Iterator<Item = Histogram<'h>>,
    ) -> Option<Quantiles> {
        self.0.reset();
        let mut sum_us = 0u64;
        for histogram in histograms {
            sum_us = sum_us.saturating_add(histogram.sum_us());
            for (bucket, count) in histogram.counts().enumerate().filter(|(_, count)| *count > 0) {
                self.0.saturating_record_n(Histogram::bucket_middle(bucket), count);
            }
        }
        let count = self.0.len();
        if count == 0 {
            return None;
        }
        let us = |quantile| self.0.value_at_quantile(quantile);
        let (p50_us, p99_us, p999_us) = (us(0.5), us(0.99), us(0.999));
        Some(Quantiles { count, mean_us: sum_us / count, p50_us, p99_us, p999_us })
    }
}

#[cfg(test)]
mod tests;
