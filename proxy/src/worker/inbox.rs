// SPDX-License-Identifier: Apache-2.0
//! A worker's inbox: a byte on a socket pair wakes it, then everything that waits is taken.

use std::rc::Rc;
#[cfg(test)]
use std::sync::atomic::Ordering::Relaxed;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;
use ringway_core::link::{Ack, Command};

use super::{Start, Worker};
use crate::fleet::Message;

/// Serves messages until the sending side is gone.
pub(super) async fn serve(worker: &Rc<Worker>, start: Start) {
    let Start { index, inbox, woken, acks, .. } = start;
    let mut woken = UnixStream::from_std(woken).expect("a fresh socket pair registers");
    let mut wakes = Vec::with_capacity(256);
    loop {
        let (result, mut back) = woken.read(wakes).await;
        if matches!(result, Ok(0) | Err(_)) {
            return;
        }
        back.clear();
        wakes = back;
        worker.turns.begin();
        while let Ok(message) = inbox.try_recv() {
            match message {
                Message::Command(Command::Table(table)) => {
                    let generation = table.generation;
                    worker.install(table);
                    let _ = acks.send(Ack { worker: index, generation });
                }
                Message::Command(Command::Feed(feed)) => {
                    worker.cluster(feed.cluster).update(&feed);
                }
                Message::Command(Command::Drain { deadline }) => worker.drain(deadline),
                Message::Command(Command::Overload(pressure)) => worker.set_pressure(pressure),
                Message::Listen { address, slot, socket } => worker.listen(address, slot, socket),
                Message::Assign { address, slot } => worker.assign(address, slot),
                Message::Close { address, own } => worker.close(address, own),
            }
            #[cfg(test)]
            worker.shown.allocations.store(crate::tests::allocations(), Relaxed);
        }
    }
}
