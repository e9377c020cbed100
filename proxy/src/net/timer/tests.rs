// SPDX-License-Identifier: Apache-2.0

use std::time::Duration;

use super::*;

#[test]
fn a_storm_of_short_connections_leaves_nothing_behind() {
    let timers = Timers::new();
    // Nobody's descriptor.
    let timer = || timers.timer(RawFd::MAX);
    let wait = |timer: &Rc<Timer>| {
        // As a connection does: until its first byte, and until the next request.
        timers.arm(timer, 0, Duration::from_secs(300), Direction::Read);
        timers.arm(timer, 0, Duration::from_secs(1), Direction::Wake);
    };
    let live: Vec<_> = (0..64).map(|_| timer()).collect();
    live.iter().for_each(wait);
    for _ in 0..10_000 {
        let timer = timer();
        wait(&timer);
        timers.release(&timer);
    }
    let entries = timers.heap.borrow().len();
    assert!(entries < 1_000, "{entries} entries of 64 live timers");
    assert!(live.iter().all(|timer| timer.entries.get() == 2));
    assert_eq!(timers.turn(0), 1_001);
    assert_eq!(timers.turn(2_000), 300_001);
    assert!(live.iter().all(|timer| timer.entries.get() == 1 && timer.take_fired()));
}
