// SPDX-License-Identifier: Apache-2.0
//! A connection before its first request: what the listener's stack asks for, in order (a PROXY
//! header, TLS), then HTTP or a tunnel.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ringway_core::tls;

use crate::http::h1;
use crate::net::stream::Stream;
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

/// What a TLS handshake settled.
#[derive(Debug)]
#[allow(dead_code, reason = "until listeners terminate TLS")]
pub(crate) struct Handshake {
    /// Lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// What it was done with: another configuration may have replaced it since.
    pub(crate) termination: Arc<tls::Server>,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    listener: &Rc<ListenerState>,
    stream: Stream,
    peer: SocketAddr,
    idle: &Cell<bool>,
) {
    let local = stream.local_addr().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let origin = Origin { peer, local, tls: None };
    h1::serve(worker, listener, stream, &origin, idle).await;
}
