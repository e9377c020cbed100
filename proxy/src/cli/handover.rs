// SPDX-License-Identifier: Apache-2.0
//! `--handover`: this process as the successor of one and the predecessor of the next.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ringway_proxy::fleet::Workers;
use ringway_proxy::handover::{Predecessor, Station, Successor};
use ringway_sync::gateway::{Relief, Succession};
use ringway_sync::log;

/// Accepting stops within this time once a successor serves.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);

/// After a connection that could not be taken the next one is waited for a little later.
const STATION_PAUSE: Duration = Duration::from_millis(100);

/// From the start until this process serves.
pub(super) struct Handover {
    path: PathBuf,
    workers: Arc<Workers>,
    predecessor: Option<Predecessor>,
    relief: Relief,
}

impl Handover {
    /// Receives the sockets of the process before this one, if there is one.
    pub(super) fn begin(
        path: PathBuf,
        workers: &Arc<Workers>,
    ) -> anyhow::Result<(Self, Succession)> {
        let mut predecessor = Predecessor::find(&path)
            .with_context(|| format!("taking over at {}", path.display()))?;
        let (mut succession, relief) = Succession::with_successor();
        if let Some(predecessor) = &mut predecessor {
            let listeners = std::mem::take(&mut predecessor.listeners);
            log::info(format!(
                "taking {} listening sockets over from process {}",
                listeners.len(),
                predecessor.pid
            ));
            workers.inherit(listeners);
            succession.takes_over = true;
            succession.admin = predecessor.admin.take();
        }
        Ok((Self { path, workers: workers.clone(), predecessor, relief }, succession))
    }

    /// This process serves: tells the one before it, takes the path over, waits there.
    pub(super) fn complete(self, admin: TcpListener) -> anyhow::Result<()> {
        let at = || format!("waiting for a successor at {}", self.path.display());
        for address in self.workers.disinherit() {
            log::info(format!("{address} is not listened on any more"));
        }
        let mut station = Station::prepare(&self.path).with_context(at)?;
        if let Some(predecessor) = &self.predecessor {
            let pid = predecessor.pid;
            match predecessor.relieve() {
                Ok(()) => log::info(format!("process {pid} has stopped accepting and drains")),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    log::warn(format!("process {pid} has ended without draining"));
                }
                Err(error) => Err(error)
                    .with_context(|| format!("process {pid} goes on, and this one must not"))?,
            }
        }
        station.publish().with_context(at)?;
        let Self { workers, relief, .. } = self;
        std::thread::Builder::new()
            .name("handover".into())
            .spawn(move || wait(&station, &workers, admin, &relief))?;
        Ok(())
    }
}

/// Hands over to the first process that gets ready; others are told where things are.
fn wait(station: &Station, workers: &Workers, admin: TcpListener, relief: &Relief) {
    let mut admin = Some(admin);
    loop {
        let successor = match station.next() {
            Ok(successor) => successor,
            Err(error) => {
                log::warn(format!("somebody asked for a hand-over and gets none: {error}"));
                std::thread::sleep(STATION_PAUSE);
                continue;
            }
        };
        // Whoever is gone by now needs no answer.
        let Some(socket) = &admin else {
            let _ = successor.redirect();
            continue;
        };
        let Some(listeners) = workers.lend() else {
            let _ = successor.decline();
            continue;
        };
        let pid = successor.pid;
        log::info(format!("process {pid} takes over; serving until it is ready"));
        let ready = successor.hand_over(&listeners, Some(socket));
        drop(listeners);
        match ready {
            Ok(()) => {
                admin = None;
                release(&successor, relief);
            }
            Err(error) => {
                workers.take_back();
                log::warn(match error.kind() {
                    ErrorKind::UnexpectedEof => {
                        format!("process {pid} ended before it was ready: going on")
                    }
                    _ => format!("process {pid} does not take over: {error}: going on"),
                });
            }
        }
    }
}

/// Stops accepting, then says so.
fn release(successor: &Successor, relief: &Relief) {
    log::info(format!("process {} serves: handing over", successor.pid));
    relief.stop_accepting(RELEASE_PATIENCE);
    // Should it be gone just now there is nobody to tell.
    let _ = successor.release();
}
