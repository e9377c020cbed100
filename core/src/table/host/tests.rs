// SPDX-License-Identifier: Apache-2.0
use super::*;

fn index(star_min: usize, domains: &[&'static str]) -> DomainIndex<&'static str> {
    let mut index = DomainIndex::new(star_min);
    for domain in domains {
        index.or_insert_with(Domain::parse(domain), || *domain);
    }
    index
}

#[track_caller]
fn check(index: &DomainIndex<&'static str>, authority: &str, expected: &[&str]) {
    let covering: Vec<_> = index.covering(authority.as_bytes()).copied().collect();
    assert_eq!(covering, expected, "{authority}");
}

#[test]
fn most_specific_domain_comes_first() {
    let index = index(
        1,
        &["*", "foo.*", "foo.b*", "*.com", "*.bar.com", "*foo.bar.com", "foo.bar.com", "a:80"],
    );
    check(&index, "foo.bar.com", &["foo.bar.com", "*.bar.com", "*.com", "foo.b*", "foo.*", "*"]);
    check(&index, "xfoo.bar.com", &["*foo.bar.com", "*.bar.com", "*.com", "*"]);
    check(&index, "foo.org", &["foo.*", "*"]);
    check(&index, "else", &["*"]);
    check(&index, "", &["*"]);
}

#[test]
fn port_is_part_of_the_name() {
    let index = index(1, &["a.com", "b.com:8080", "*.c.com", "d.*"]);
    check(&index, "a.com", &["a.com"]);
    check(&index, "a.com:8080", &[]);
    check(&index, "b.com", &[]);
    check(&index, "b.com:8080", &["b.com:8080"]);
    check(&index, "x.c.com:8080", &[]);
    check(&index, "d.com:8080", &["d.*"]);
}

#[test]
fn star_stands_for_something_in_a_domain_and_for_anything_in_a_clause() {
    let domains = ["*.foo.com", "*bar.com", "foo.*"];
    check(&index(1, &domains), ".foo.com", &[]);
    check(&index(1, &domains), "bar.com", &[]);
    check(&index(1, &domains), "foo.", &[]);
    check(&index(0, &domains), ".foo.com", &["*.foo.com"]);
    check(&index(0, &domains), "bar.com", &["*bar.com"]);
    check(&index(0, &domains), "foo.", &["foo.*"]);
}

#[test]
fn first_value_of_a_domain_stays() {
    let mut index = index(1, &["*.foo.com"]);
    assert_eq!(*index.or_insert_with(Domain::Suffix(".foo.com"), || "again"), "*.foo.com");
    assert_eq!(index.values().count(), 1);
    index.values_mut().for_each(|value| *value = "changed");
    check(&index, "x.foo.com", &["changed"]);
}
