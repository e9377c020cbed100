// SPDX-License-Identifier: Apache-2.0
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_rest_takes_as_long_as_the_pace_so_far_says() {
    let mut progress = Progress::new(SECOND * 100);
    assert_eq!(progress.left(Duration::ZERO), SECOND * 100);
    progress.done = SECOND * 25;
    assert_eq!(progress.left(SECOND * 50), SECOND * 150);
    progress.skip(SECOND * 25);
    assert_eq!(progress.left(SECOND * 50), SECOND * 100);
    progress.done = SECOND * 200;
    assert_eq!(progress.left(SECOND), Duration::ZERO);
}

#[test]
fn clocks_show_minutes_and_seconds() {
    assert_eq!(clock(Duration::from_millis(59_600)), "1:00");
    assert_eq!(clock(SECOND * 725), "12:05");
}
