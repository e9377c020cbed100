// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use super::*;
use crate::feed::Endpoint;
use crate::name::ClusterSlot;
use crate::policy::balance::HashCookie;
use crate::table::sample::{self, Sent};

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 80))
}

/// The choice among `count` endpoints, the first of them near.
fn choice(balancer: Balancer, count: u8, key: Option<&HashKey>, cookie: &str) -> Choice {
    let mut spec = sample::cluster("c");
    spec.balancer = balancer;
    let cluster = Cluster { slot: ClusterSlot(0), spec: Arc::new(spec) };
    let endpoint = |n| Endpoint { address: address(n), near: n == 0 };
    let feed = Feed::new(cluster.slot, 1, balancer, (0..count).map(endpoint).collect());
    let feed = Arc::new(feed);
    let sent = Sent::new("GET", "a", "/", None, &[("cookie", cookie)], false);
    let request = sent.request();
    let caller = Caller {
        head: request.head,
        client: address(99).ip(),
        peer: address(99),
        local: address(100),
    };
    Choice::of(&cluster, key.map(|key| (key, &caller)), &|_| Some(Arc::clone(&feed)))
}

#[test]
fn what_is_certain_is_said() {
    let one = choice(Balancer::RoundRobin, 1, None, "");
    assert_eq!((one.endpoint, &*one.why), (Some(address(0)), "it is the only one"));
    let none = choice(Balancer::RoundRobin, 0, None, "");
    assert_eq!((none.endpoint, &*none.why), (None, "it has none: 503 with the flag UH"));
    let turns = choice(Balancer::RoundRobin, 3, None, "");
    assert_eq!((turns.endpoint, &*turns.why), (None, "in turn, per worker"));
    assert_eq!((turns.n_endpoints, turns.n_near), (3, 1));
    let text = choice(Balancer::LeastRequest, 30, None, "").to_string();
    assert!(text.contains("by least_request: 192.0.2.0:80, "), "{text}");
    assert!(text.ends_with("and 10 more (1 in our own zone)"), "{text}");
}

#[test]
fn keys_decide_for_hashing_balancers() {
    let cookie = |ttl| HashKey::Cookie(HashCookie { name: "user".into(), path: None, ttl });
    for balancer in [Balancer::RingHash, Balancer::Maglev] {
        let by_address = choice(balancer, 5, Some(&HashKey::SourceIp), "");
        assert!(by_address.endpoint.is_some());
        assert!(by_address.key.unwrap().starts_with("the client's address, hash "));
        let of = |value: &str| choice(balancer, 5, Some(&cookie(None)), value);
        assert_eq!(of("user=a").endpoint, of("x=y; user=a").endpoint);
        assert!((0..50).any(|n| of(&format!("user={n}")).endpoint != of("user=a").endpoint));
        let absent = of("other=a");
        assert_eq!(absent.endpoint, None);
        assert_eq!(absent.key.as_deref(), Some("cookie user: absent"));
        assert_eq!(absent.why, "at random: the request has no key");
        let given = choice(balancer, 5, Some(&cookie(Some(Default::default()))), "");
        assert_eq!(given.key.as_deref(), Some("cookie user: absent, the answer sets one"));
    }
    // Others have no use for one.
    assert_eq!(choice(Balancer::RoundRobin, 2, Some(&HashKey::SourceIp), "").key, None);
}
