// SPDX-License-Identifier: Apache-2.0
//! What one measurement of one proxy found, by what was measured. Plain data: figures are made of it in
//! `report.rs`.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One measurement. The kinds differ in their fields, which is how they are told apart in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Sample {
    Change(Change),
    Latency(Latency),
    Memory(Memory),
    Throughput(Throughput),
}

macro_rules! kinds {
    ($($kind:ident),*) => {$(
        impl<'a> TryFrom<&'a Sample> for &'a $kind {
            type Error = ();

            fn try_from(sample: &'a Sample) -> Result<Self, ()> {
                if let Sample::$kind(sample) = sample { Ok(sample) } else { Err(()) }
            }
        }
    )*};
}
kinds!(Change, Latency, Memory, Throughput);

/// One measured window of a closed loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Throughput {
    pub(crate) answers: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) window_s: f64,
    /// User and system time of all the proxy's threads in the window.
    pub(crate) cpu_s: f64,
    /// Time that the proxy was runnable but had no core: a neighbour's doing.
    pub(crate) waited_s: f64,
    pub(crate) bodies_compared: u64,
}

impl Throughput {
    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.answers as f64 / self.cpu_s.max(1e-9)
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.window_s.max(1e-9)
    }

    /// The share of the window that the proxy wanted its core. Well below one, the load was too weak
    /// and the figure is less than the proxy can do: waking up costs time of its own.
    pub(crate) fn demand(&self) -> f64 {
        (self.cpu_s + self.waited_s) / self.window_s.max(1e-9)
    }

    /// The share of the window that the proxy waited for its core.
    pub(crate) fn disturbance(&self) -> f64 {
        self.waited_s / self.window_s.max(1e-9)
    }
}

/// Resident memory, and how much of it came with so many idle connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// None: the memory at rest is what was asked for.
    pub(crate) connections: u64,
    pub(crate) before_bytes: u64,
    pub(crate) after_bytes: u64,
}

impl Memory {
    /// Per connection, or all of it.
    pub(crate) fn bytes(&self) -> f64 {
        match self.connections {
            0 => self.after_bytes as f64,
            many => (self.after_bytes as f64 - self.before_bytes as f64) / many as f64,
        }
    }
}

/// One window of an open loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) window_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) waited_s: f64,
    /// From due to answered, in µs; the generator alone is in it.
    pub(crate) latency: Percentiles,
}

/// A distribution of latencies, in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    /// Of nanoseconds.
    pub(crate) fn of(latency: &Histogram<u64>) -> Self {
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: latency.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latency.max() as f64 / 1e3,
        }
    }

    /// In order, for plots; see [`Self::NAMES`].
    pub(crate) fn values(&self) -> [f64; 5] {
        [self.p50, self.p90, self.p99, self.p999, self.max]
    }

    pub(crate) const NAMES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];
}

/// An empty histogram for latencies in nanoseconds, exact to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("these bounds are in order")
}

/// Some changes of the configuration under load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) changes: Vec<Changed>,
    pub(crate) answers: u64,
    /// Requests without a good answer.
    pub(crate) failed: u64,
    pub(crate) first_failure: Option<String>,
    /// Latencies of requests in flight between a change and a moment after it serves, and of others.
    pub(crate) during: Percentiles,
    pub(crate) outside: Percentiles,
}

impl Change {
    /// By how many ms the slowest request was slower than without changes, and that of p99.9.
    pub(crate) fn slower_ms(&self) -> (f64, f64) {
        let by = |during: f64, outside: f64| (during - outside) / 1e3;
        (by(self.during.max, self.outside.max), by(self.during.p999, self.outside.p999))
    }
}

/// How long one change took, from the rename or signal that made it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// Until the first request was routed by it.
    pub(crate) first_ms: f64,
    /// Until none was routed by its predecessor any more.
    pub(crate) all_ms: f64,
}

impl Changed {
    pub(crate) fn new(first: Duration, last_old: Duration) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Self { first_ms: ms(first), all_ms: ms(first.max(last_old)) }
    }
}
