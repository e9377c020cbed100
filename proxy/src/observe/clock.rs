// SPDX-License-Identifier: Apache-2.0
//! The wall clock of one worker: read once a second for `date`, computed in between.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway_core::wire::h1::encode::http_date;

use crate::net::timer::Moment;

/// Cached time.
#[derive(Debug)]
pub(crate) struct Clock {
    /// A moment and what the wall clock showed then, in microseconds since the epoch.
    base: Cell<(Moment, u64)>,
    until: Cell<Moment>,
    date: RefCell<[u8; 29]>,
}

impl Clock {
    pub(crate) fn new(now: Moment) -> Self {
        let clock =
            Self { base: Cell::new((now, 0)), until: Cell::new(now), date: RefCell::new([0; 29]) };
        clock.refresh(now);
        clock
    }

    fn refresh(&self, now: Moment) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.base.set((now, wall.as_micros() as u64));
        let left = Duration::from_secs(1) - Duration::from_nanos(wall.subsec_nanos().into());
        self.until.set(now.after(left));
        *self.date.borrow_mut() = http_date(wall.as_secs());
    }

    /// Value of a `date` field.
    pub(crate) fn date(&self, now: Moment) -> [u8; 29] {
        if now >= self.until.get() {
            self.refresh(now);
        }
        *self.date.borrow()
    }

    /// Microseconds since the Unix epoch at `now`.
    pub(crate) fn unix_us(&self, now: Moment) -> u64 {
        if now >= self.until.get() {
            self.refresh(now);
        }
        let (base, wall) = self.base.get();
        (wall + now.us_since(base)).saturating_sub(base.us_since(now))
    }
}
