// SPDX-License-Identifier: Apache-2.0
//! Choosing an endpoint, and what the tables of hashing balancers cost to make.

use std::cell::Cell;
use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::Criterion;
use ringway_core::feed::Endpoint;
use ringway_core::policy::balance::{Balancer, Draw, Load, Picker};

const BALANCERS: [Balancer; 4] =
    [Balancer::RoundRobin, Balancer::LeastRequest, Balancer::RingHash, Balancer::Maglev];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balancer");
    for count in [10, 1_000] {
        let address = |i: u32| (Ipv4Addr::from_bits(0x0a00_0000 + i), 8080).into();
        let endpoints: Vec<Endpoint> = (0..count).map(|i| Endpoint::new(address(i))).collect();
        let active: Vec<u32> = (0..count).map(|i| i * 7 % 5).collect();
        let load = |at: usize| Load { active: active[at], far: false };
        for balancer in BALANCERS {
            let name = balancer.as_str();
            let picker = Picker::new(balancer, &endpoints);
            group.bench_function(format!("{count} endpoints: {name}"), |bencher| {
                let turn = Cell::new(0_usize);
                bencher.iter(|| {
                    turn.set(turn.get() + 1);
                    let roll = (turn.get() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let draw = Draw { key: Some(roll), roll, turn: turn.get() };
                    picker.pick(black_box(endpoints.len()), draw, load, |_| false)
                });
            });
        }
        for balancer in [Balancer::RingHash, Balancer::Maglev] {
            let name = format!("{count} endpoints: making the table of {}", balancer.as_str());
            group.bench_function(name, |bencher| {
                bencher.iter(|| Picker::new(balancer, black_box(&endpoints)));
            });
        }
    }
    group.finish();
}
