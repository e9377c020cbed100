// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]
use super::*;

/// Elements open and close in order, and attributes are quoted.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{svg}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn widths(svg: &str) -> Vec<f64> {
    let bars = svg.lines().filter(|line| line.starts_with("<rect x="));
    let width = |line: &str| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok();
    bars.filter_map(width).collect()
}

#[test]
fn bars_are_as_long_as_their_values() {
    let bar =
        |name: &str, value| Bar { name: name.to_owned(), value, text: "a < b & c".to_owned() };
    let svg = bars("title", &[bar("ringway", 200.0), bar("nginx", 50.0), bar("none", 0.0)]);
    well_formed(&svg);
    assert_eq!(widths(&svg), [500.0, 125.0, 1.0]);
    assert!(svg.contains("a &lt; b &amp; c"));
}

#[test]
fn each_group_has_its_own_scale() {
    let bar = |value| Bar { name: "ringway".to_owned(), value, text: String::new() };
    let svg = groups("t", &[("a".to_owned(), vec![bar(1.0)]), ("b".to_owned(), vec![bar(9.0)])]);
    well_formed(&svg);
    assert_eq!(widths(&svg), [500.0, 500.0]);
}

#[test]
fn a_decade_is_as_high_as_the_next() {
    let line = Line { name: "nginx".to_owned(), values: vec![10.0, 100.0, 1_000.0] };
    let svg = percentiles("t", "µs", &["p50", "p99", "max"], &[line]);
    well_formed(&svg);
    let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
    let heights: Vec<f64> =
        points.split(' ').map(|point| point.split_once(',').unwrap().1.parse().unwrap()).collect();
    assert_eq!(heights, [350.0, 200.0, 50.0]);
    assert!(svg.contains("10 µs"));
}

#[test]
fn nothing_is_plotted_without_failing() {
    well_formed(&bars("t", &[]));
    well_formed(&percentiles("t", "µs", &["p50"], &[]));
}
