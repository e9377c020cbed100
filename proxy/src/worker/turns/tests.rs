// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::rt::{IoBackend, Runtime, spawn};
use crate::worker::Worker;

const FLOOD: usize = 200;
const STEP: Duration = Duration::from_micros(150);

#[test]
fn a_flood_of_handshakes_leaves_others_their_turns() {
    for backend in [IoBackend::Auto, IoBackend::Epoll] {
        let (runtime, _) = Runtime::build(backend).unwrap();
        runtime.block_on(async {
            let worker = Worker::alone();
            let done = Rc::new(Cell::new(0));
            let order = Rc::new(Cell::new(true));
            for n in 0..FLOOD {
                let (worker, done, order) = (worker.clone(), done.clone(), order.clone());
                spawn(
                    async move {
                        let _turn = worker.turns.turn(&Cell::new(0)).await;
                        let begin = Instant::now();
                        while begin.elapsed() < STEP {}
                        order.set(order.get() && done.get() == n);
                        done.set(done.get() + 1);
                    },
                    || (),
                );
            }
            let begun = || worker.turns.number.get() as usize;
            let before = begun();
            while done.get() < FLOOD {
                worker.turns.next().await;
            }
            // Two steps of this length begin in the time that a turn has for them.
            assert!(begun() - before >= FLOOD / 2 - 1, "{backend:?}: {} turns", begun() - before);
            assert!(order.get(), "{backend:?}: first come first served");
        });
    }
}

#[test]
fn the_next_turn_comes() {
    for backend in [IoBackend::Auto, IoBackend::Epoll] {
        let (runtime, _) = Runtime::build(backend).unwrap();
        runtime.block_on(async {
            let worker = Worker::alone();
            for _ in 0..3 {
                worker.turns.next().await;
            }
            assert!(worker.turns.number.get() >= 3);
        });
    }
}
