// SPDX-License-Identifier: Apache-2.0
use super::{Field, Head, HeadView, Known, Span};

#[track_caller]
fn check(name: &str, expected: Known) {
    assert_eq!(Known::of_field(name.as_bytes()), expected, "{name}");
}

#[test]
fn names_are_known_in_any_case() {
    for (at, name) in Known::NAMES.iter().enumerate().skip(1) {
        let expected = Known::ALL[at];
        assert_eq!(expected.as_str().as_bytes(), *name);
        check(expected.as_str(), expected);
        check(&expected.as_str().to_ascii_uppercase(), expected);
    }
    check("Content-LENGTH", Known::ContentLength);
    check("x-envoy-retry-on", Known::XEnvoyOther);
    check("X-Envoy-", Known::XEnvoyOther);
}

#[test]
fn other_names_are_not() {
    for name in ["", "h", "hos", "hosts", "content_length", "x-envoy", "x-forwarded-hort"] {
        check(name, Known::Other);
    }
    for (at, name) in Known::NAMES.iter().enumerate().skip(1) {
        if Known::ALL[at] == Known::XEnvoyOther {
            continue;
        }
        // Each bit counts, but for that of a letter's case.
        for (position, bit) in (0..name.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut other = name.to_vec();
            other[position] ^= 1 << bit;
            let same = other.eq_ignore_ascii_case(name);
            let expected = if same { Known::ALL[at] } else { Known::Other };
            assert_eq!(Known::of(&other), expected, "{:?}", String::from_utf8_lossy(&other));
        }
    }
}

#[test]
fn of_never_gives_the_prefix() {
    assert_eq!(Known::of(b"x-envoy-retry-on"), Known::Other);
    assert_eq!(Known::of(b"x-envoy-"), Known::Other);
}

#[test]
fn views_find_lines_by_name() {
    let block = b"x-envoy-a1x-envoy-b2Host3hOST4";
    let spans = [(0, 9, 10), (10, 19, 20), (20, 24, 25), (25, 29, 30)];
    let fields = spans.map(|(start, name, end)| Field {
        name: Span::new(start, name),
        value: Span::new(name, end),
        known: Known::of_field(&block[start..name]),
    });
    let head = Head { fields: fields.to_vec(), ..Head::default() };
    let view = HeadView::new(&head, block);
    assert_eq!(view.values("x-envoy-b").collect::<Vec<_>>(), [b"2"]);
    assert_eq!(view.values("host").collect::<Vec<_>>(), [b"3", b"4"]);
    assert_eq!(view.first("x-envoy-"), None);
    assert_eq!(view.known(Known::Host), Some(&b"3"[..]));
}
