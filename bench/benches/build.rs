// SPDX-License-Identifier: Apache-2.0
//! From manifests to tables: reading, resolving and compiling, cold and after one change.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
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
        group.bench_function(format!("{count} Mappings: the same, one changed"), |bencher| {
            let snapshot = RefCell::new(sample::snapshot(&text));
            let (mut memo, mut slots) = (Memo::default(), Slots::new());
            let (ir, _) = resolve(&snapshot.borrow(), &mut memo);
            let mut last = compile(&ir, Generation(1), &mut slots, None).unwrap();
            let changes = Cell::new(0);
            bencher.iter_custom(|rounds| {
                let mut took = Duration::ZERO;
                for _ in 0..rounds {
                    let n = changes.replace(changes.get() + 1);
                    let mut next = snapshot.borrow().clone();
                    sample::insert(&mut next, &sample::plain(n * 7_919 % count, 4000 + n));
                    let generation = Generation(last.generation.0 + 1);
                    slots.release(last.generation);
                    let start = Instant::now();
                    let (ir, _) = resolve(&next, &mut memo);
                    let table = compile(&ir, generation, &mut slots, Some(&last)).unwrap();
                    took += start.elapsed();
                    last = table;
                    snapshot.replace(next);
                }
                took
            });
        });
    }
    group.finish();
}
