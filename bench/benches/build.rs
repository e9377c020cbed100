// SPDX-License-Identifier: Apache-2.0
//! From manifests to tables: reading, resolving and compiling, cold and after one change.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion};
use ringway_core::crd::{File, Options};
use ringway_core::name::Generation;
use ringway_core::resolve::{Memo, resolve};
use ringway_core::table::{Slots, compile};

use crate::sample;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for count in [1_000, 10_000] {
        let text = sample::plains(count);
        group.bench_function(format!("{count} Mappings: parse one file"), |bencher| {
            let options = Options::default();
            bencher.iter(|| File::parse("all.yaml", black_box(&text), &options, None));
        });
        group.bench_function(format!("{count} Mappings: resolve and compile, cold"), |bencher| {
            let snapshot = sample::snapshot(&text);
            // What is thrown away afterwards is not measured.
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let (mut memo, mut slots) = (Memo::default(), Slots::new());
                    let start = Instant::now();
                    let (ir, _) = resolve(&snapshot, &mut memo);
                    let table = compile(&ir, Generation(1), &mut slots, None).unwrap();
                    took += start.elapsed();
                    black_box((ir, table));
                }
                took
            });
        });
        let change = |n: usize| sample::plain(n * 7_919 % count, 4000 + n);
        group.bench_function(format!("{count} Mappings: the same, one changed"), |bencher| {
            warm(bencher, &text, change);
        });
        let with_services = text.clone() + &sample::services(count);
        let name = format!("{count} Mappings and Services: one Mapping changed");
        group.bench_function(name, |bencher| warm(bencher, &with_services, change));
        let name = format!("{count} Mappings and Services: endpoints of one changed");
        group.bench_function(name, |bencher| {
            warm(bencher, &with_services, |n| sample::slice(n * 7_919 % count, n));
        });
    }
    group.finish();
}

/// Resolves and compiles after each of many changes; `change` gives what the n-th one writes.
fn warm(bencher: &mut Bencher<'_>, text: &str, change: impl Fn(usize) -> String) {
    let mut snapshot = sample::snapshot(text);
    let (mut memo, mut slots) = (Memo::default(), Slots::new());
    let (ir, _) = resolve(&snapshot, &mut memo);
    let mut last = compile(&ir, Generation(1), &mut slots, None).unwrap();
    let mut changes = 1..;
    bencher.iter_custom(|rounds| {
        let mut took = Duration::ZERO;
        for n in changes.by_ref().take(rounds as usize) {
            sample::insert(&mut snapshot, &change(n));
            let generation = Generation(last.generation.0 + 1);
            slots.release(last.generation);
            let start = Instant::now();
            let (ir, _) = resolve(&snapshot, &mut memo);
            let table = compile(&ir, generation, &mut slots, Some(&last)).unwrap();
            took += start.elapsed();
            last = table;
        }
        took
    });
}
