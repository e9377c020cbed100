// SPDX-License-Identifier: Apache-2.0
//! Changes of the configuration under load: a thread makes one, waits until the first request was
//! routed by it, and after a pause makes the next; the engine notes when requests of which
//! configuration arrive at the back end and how long every request takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::engine::{Changes, Engine, Load, Outcome, Until};
use crate::peer::Change;
use crate::sample::{self, Changed, Percentiles};

/// Longer than this no change may take.
const SERVED_TIME: Duration = Duration::from_secs(20);
/// Before the first change.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);
/// Between a change that serves and the next: long enough to tell the time around changes from others.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);
/// So long after it serves a change may still slow requests: old workers end, old tables are freed.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Makes the changes in turn under `load`: `base` is the number of the configuration that serves.
pub(crate) fn measure(
    engine: &mut Engine,
    load: &Load,
    base: usize,
    changes: Vec<Change>,
) -> Result<sample::Change> {
    let (seen, told) = mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let load = Load {
        until: Until::Told(Arc::clone(&ended)),
        changes: Some(Changes { seen }),
        ..load.clone()
    };
    let maker = thread::spawn(move || {
        let made = make(base, &changes, &told);
        ended.store(true, Relaxed);
        made
    });
    let outcome = engine.run(&load, &mut |_| Ok(()))?;
    let made = maker.join().expect("the thread that changes does not panic");
    let made = made.map_err(|error| match &outcome.first_error {
        None => error,
        Some(first) => error.context(format!("{} errors, first: {first}", outcome.errors)),
    })?;
    summarise(base, &made, &outcome)
}

/// When each change was made.
fn make(base: usize, changes: &[Change], told: &Receiver<usize>) -> Result<Vec<Instant>> {
    let wait = |number| -> Result<()> {
        let until = Instant::now() + SERVED_TIME;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let seen = told.recv_timeout(left);
            if seen.with_context(|| format!("configuration {number} is not served"))? == number {
                return Ok(());
            }
        }
    };
    wait(base)?;
    thread::sleep(WARM_UP);
    let mut made = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        made.push(Instant::now());
        change.make()?;
        wait(base + index + 1)?;
        thread::sleep(PAUSE);
    }
    Ok(made)
}

fn summarise(base: usize, made: &[Instant], outcome: &Outcome) -> Result<sample::Change> {
    let seen = |number: usize| outcome.seen.get(number).copied().flatten();
    let mut changes = Vec::new();
    let mut windows = Vec::new();
    for (index, &at) in made.iter().enumerate() {
        let new = seen(base + index + 1).context("a change is not served")?;
        let old = seen(base + index).context("a change is not served")?;
        let since = |then: Instant| then.saturating_duration_since(at);
        changes.push(Changed::new(since(new.first), since(old.last)));
        windows.push((at, new.first.max(old.last) + AFTERMATH));
    }
    let (mut during, mut outside) = (sample::histogram(), sample::histogram());
    let began = made.first().context("nothing was changed")?.checked_sub(WARM_UP / 2);
    for timed in outcome.timed.iter().filter(|timed| Some(timed.due) >= began) {
        // The windows are in order, and so are almost all answers; a request is in the first window
        // that has not ended when it is due, if it has begun by the time of its answer.
        let next = windows.partition_point(|&(_, end)| end < timed.due);
        let inside =
            windows.get(next).is_some_and(|&(begin, _)| begin <= timed.due + timed.latency);
        let histogram = if inside { &mut during } else { &mut outside };
        histogram.saturating_record(timed.latency.as_nanos() as u64);
    }
    Ok(sample::Change {
        changes,
        answers: outcome.timed.len() as u64,
        failed: outcome.errors,
        first_failure: outcome.first_error.clone(),
        during: Percentiles::of(&during),
        outside: Percentiles::of(&outside),
    })
}

#[cfg(test)]
mod tests;
