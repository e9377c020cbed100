// SPDX-License-Identifier: Apache-2.0
//! A connection before its first request: what the listener's stack asks for, in order (a PROXY
//! header, TLS), then HTTP or a tunnel.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use ringway_core::ir::Protocol;
use ringway_core::limits::HANDSHAKE_TIMEOUT;

use crate::http::h1;
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::terminate::{self, Handshake};
use crate::worker::{ListenerState, Worker};

/// Where a connection comes from, as everything above the sockets sees it.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The client: the peer, or what the PROXY header of a trusted balancer says.
    pub(crate) peer: SocketAddr,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    /// Of a connection that came over TLS.
    pub(crate) tls: Option<Rc<Handshake>>,
}

/// First byte of a TLS record that carries a ClientHello.
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves a connection until it ends.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    listener: &Rc<ListenerState>,
    mut stream: Stream,
    peer: SocketAddr,
    idle: &Cell<bool>,
) {
    let local = stream.local_addr().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut origin = Origin { peer, local, tls: None };
    let tls = {
        let view = worker.view(listener);
        let listener = view.table.listener(listener.slot);
        listener.is_some_and(|listener| listener.stack.contains(&Protocol::Tls))
    };
    if tls {
        // Emissary: a TLS inspector; cleartext on the same port goes on as HTTP.
        let now = worker.timers.now();
        worker.timers.arm(&stream.timer, now, HANDSHAKE_TIMEOUT, Direction::Read);
        if stream.reader.readable().await.is_err() {
            return;
        }
        if stream.first_byte() == Some(TLS_HANDSHAKE) {
            let Some(accepted) = terminate::accept(worker, listener, stream).await else { return };
            let (decrypted, handshake, _tcp) = accepted;
            stream = decrypted;
            origin.tls = Some(handshake);
        }
    }
    h1::serve(worker, listener, stream, &origin, idle).await;
}
