// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;
use crate::scratch::Scratch;

#[test]
fn pressure_rises_at_once_and_falls_late() {
    use Pressure::{None, Refuse, Shed};
    for (now, percent, then) in [
        (None, 79, None),
        (None, 80, Shed),
        (None, 95, Refuse),
        (Shed, 94, Shed),
        (Shed, 95, Refuse),
        (Shed, 75, Shed),
        (Shed, 74, None),
        (Refuse, 90, Refuse),
        (Refuse, 89, Shed),
        (Refuse, 75, Shed),
        (Refuse, 74, None),
        (None, 300, Refuse),
    ] {
        assert_eq!(next(now, percent * 1000, 100_000), then, "{now:?} at {percent} %");
    }
}

#[test]
fn resident_memory_is_something() {
    assert!(resident_bytes().unwrap() > 100_000);
}

#[test]
fn the_smallest_limit_of_the_groups_above_counts() {
    let scratch = Scratch::new();
    let root = scratch.path();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    assert_eq!(limit_of("0::/\n", root), None);
    write("memory.max", "max\n");
    assert_eq!(limit_of("0::/a/b\n", root), None);
    write("a/memory.max", "1000\n");
    assert_eq!(limit_of("0::/a/b\n", root), Some(1000));
    write("a/b/memory.max", "2000\n");
    assert_eq!(limit_of("0::/a/b\n", root), Some(1000));
    // Version 1.
    let groups = "12:cpu,cpuacct:/x\n4:memory:/x\n";
    write("memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_eq!(limit_of(groups, root), None);
    write("memory/x/memory.limit_in_bytes", "3000\n");
    assert_eq!(limit_of(groups, root), Some(3000));
}
