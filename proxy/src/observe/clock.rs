// SPDX-License-Identifier: Apache-2.0
//! The wall clock of one worker: read once a second for `date`, computed in between.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringway_core::wire::h1::encode::http_date;

/// Cached time.
#[derive(Debug)]
pub(crate) struct Clock {
    /// An instant and what the wall clock showed then, in microseconds since the epoch.
    base: Cell<(Instant, u64)>,
    until: Cell<Instant>,
    date: RefCell<[u8; 29]>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let clock =
            Self { base: Cell::new((now, 0)), until: Cell::new(now), date: RefCell::new([0; 29]) };
        clock.refresh(now);
        clock
    }

    fn refresh(&self, now: Instant) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.base.set((now, wall.as_micros() as u64));
        self.until
            .set(now + Duration::from_secs(1) - Duration::from_nanos(wall.subsec_nanos().into()));
        *self.date.borrow_mut() = http_date(wall.as_secs());
    }

    /// Value of a `date` field.
    pub(crate) fn date(&self, now: Instant) -> [u8; 29] {
        if now >= self.until.get() {
            self.refresh(now);
        }
        *self.date.borrow()
    }

    /// Microseconds since the Unix epoch at `now`.
    pub(crate) fn unix_us(&self, now: Instant) -> u64 {
        if now >= self.until.get() {
            self.refresh(now);
        }
        let (base, wall) = self.base.get();
        match now.checked_duration_since(base) {
            Some(after) => wall + after.as_micros() as u64,
            None => wall.saturating_sub((base - now).as_micros() as u64),
        }
    }
}
