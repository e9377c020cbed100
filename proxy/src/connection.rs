// SPDX-License-Identifier: Apache-2.0
//! A connection before its first request: what the listener's stack asks for, in order (a PROXY
//! header, TLS), then HTTP or a tunnel.
//!
//! Until its first byte comes a connection holds no buffer. Where nothing depends on that byte (a
//! port that one TCPMapping has for itself) it is not waited for: the server may speak first.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use ringway_core::ir::Protocol;
use ringway_core::limits::PROXY_HEADER_TIMEOUT;
use ringway_core::observe::metric::ListenerCell;
use ringway_core::table::{Listener, TcpRoute};
use ringway_core::wire::proxy_protocol::{self, Header, Parsed};

use crate::http::{h1, h2};
use crate::net::socket::Direction;
use crate::net::stream::Stream;
use crate::rt::Part;
use crate::tcp;
use crate::terminate::{self, Accepted, Handshake};
use crate::worker::Open;

/// First byte of a TLS record that carries a ClientHello (RFC 8446 §5.1).
pub(crate) const TLS_HANDSHAKE: u8 = 0x16;

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

/// What a connection turns out to carry.
enum Payload {
    Http,
    /// HTTP/2, as TLS has negotiated.
    Http2,
    Tcp(Arc<TcpRoute>),
}

/// Why a connection carries nothing.
enum Refused {
    /// The peer left, or said nothing for too long.
    Quiet,
    ProxyHeader,
    /// No filter chain takes it.
    NoChain,
    /// The handshake failed, and was counted.
    Handshake,
}

/// A client's connection and all that is its own.
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) origin: Origin,
    /// Waits for a request; nothing of one has come.
    pub(crate) idle: Rc<Cell<bool>>,
    /// The last to be dropped: what is counted as gone is gone.
    pub(crate) open: Open,
}

/// Serves a connection until it ends.
pub(crate) fn serve(client: Client) -> Part {
    if client.listener(is_bare_http).unwrap_or(true) {
        return h1::serve(client);
    }
    Part::new(async move {
        let (worker, slot) = (client.open.worker.clone(), client.open.listener.slot);
        let refused = match client.open().await {
            Ok((client, Payload::Http)) => return Some(h1::serve(client)),
            Ok((client, Payload::Http2)) => return Some(h2::serve(client)),
            Ok((client, Payload::Tcp(route))) => return Some(tunnel(client, route)),
            Err(refused) => refused,
        };
        let cell = match refused {
            Refused::Quiet | Refused::Handshake => return None,
            Refused::ProxyHeader => ListenerCell::ProxyHeaderErrors,
            Refused::NoChain => ListenerCell::NoFilterChain,
        };
        worker.slab.listener_add(slot, cell, 1);
        None
    })
}

fn tunnel(mut client: Client, route: Arc<TcpRoute>) -> Part {
    client.idle.set(false);
    Part::new(async move {
        tcp::serve(&mut client, &route).await;
        None
    })
}

/// Whether connections carry HTTP and nothing before it.
fn is_bare_http(listener: &Listener) -> bool {
    listener.stack.first() == Some(&Protocol::Http) && listener.tcp.is_none()
}

impl Client {
    pub(crate) fn new(stream: Stream, peer: SocketAddr, idle: Rc<Cell<bool>>, open: Open) -> Self {
        let local = stream.local_addr().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        Self { stream, origin: Origin { peer, local, tls: None }, idle, open }
    }

    /// Takes one layer after the other. The stack is that of the moment of accepting: a Listener
    /// that declares PROXY since then does not speak for a client that came before.
    async fn open(mut self) -> Result<(Self, Payload), Refused> {
        let stack = self.listener(|listener| listener.stack.clone()).ok_or(Refused::NoChain)?;
        for layer in &stack {
            match layer {
                Protocol::Proxy => {
                    let header = self.proxy_header().await?;
                    if let Some(addresses) = header.addresses {
                        self.origin.peer = addresses.source;
                        self.origin.local = addresses.destination;
                    }
                }
                Protocol::Tls => {
                    if self.listener(Listener::has_chains) == Some(true)
                        && self.first_byte().await? == TLS_HANDSHAKE
                    {
                        // Handshakes have their own bound and deadline.
                        self.idle.set(false);
                        let Open { worker, listener, .. } = &self.open;
                        // Boxed: one that has said nothing yet does not pay for a handshake.
                        let accepted = Box::pin(terminate::accept(worker, listener, self.stream));
                        let accepted = accepted.await.ok_or(Refused::Handshake)?;
                        self.idle.set(true);
                        match accepted {
                            Accepted::PassedThrough(stream) => self.stream = stream,
                            Accepted::Terminated(stream, handshake, tcp) => {
                                self.stream = stream;
                                self.origin.tls = Some(handshake);
                                if let Some(tcp) = tcp {
                                    return Ok((self, Payload::Tcp(tcp)));
                                }
                                if self.stream.is_alpn(b"h2") {
                                    return Ok((self, Payload::Http2));
                                }
                            }
                        }
                    }
                }
                // A TCPMapping without a host takes all that comes in cleartext.
                Protocol::Http => {
                    let payload = self.cleartext().map_or(Payload::Http, Payload::Tcp);
                    return Ok((self, payload));
                }
                Protocol::Tcp => {
                    let tcp = self.cleartext().ok_or(Refused::NoChain)?;
                    return Ok((self, Payload::Tcp(tcp)));
                }
                Protocol::Udp => return Err(Refused::NoChain),
            }
        }
        Err(Refused::NoChain)
    }

    fn cleartext(&self) -> Option<Arc<TcpRoute>> {
        if self.origin.tls.is_some() {
            return None;
        }
        self.listener(|listener| listener.tcp.clone()).flatten()
    }

    /// Looks at the listener as it is now.
    fn listener<T>(&self, look: impl FnOnce(&Listener) -> T) -> Option<T> {
        let Open { worker, listener, .. } = &self.open;
        worker.view(listener).table.listener(listener.slot).map(look)
    }

    /// Waits for the first byte and leaves it there.
    async fn first_byte(&mut self) -> Result<u8, Refused> {
        let Open { worker, listener, .. } = &self.open;
        let patience = worker.view(listener).settings.idle_timeout;
        let timers = &worker.timers;
        timers.arm(&self.stream.timer, timers.now(), patience, Direction::Read);
        let _ = self.stream.reader.readable().await;
        self.stream.first_byte().ok_or(Refused::Quiet)
    }

    /// Receives the PROXY header; what was received behind it is received again.
    async fn proxy_header(&mut self) -> Result<Header, Refused> {
        let Self { stream, open: Open { worker, .. }, .. } = self;
        let timers = &worker.timers;
        timers.arm(&stream.timer, timers.now(), PROXY_HEADER_TIMEOUT, Direction::Read);
        let _ = stream.reader.readable().await;
        self.idle.set(false);
        let mut buffer = worker.buffers.take();
        let header = loop {
            let received;
            (received, buffer) = stream.reader.recv(buffer).await;
            match received {
                Ok(n) if n > 0 => {}
                // Balancers look whether somebody listens, and say nothing.
                _ if buffer.is_empty() && !stream.timer.take_fired() => break Err(Refused::Quiet),
                _ => break Err(Refused::ProxyHeader),
            }
            match proxy_protocol::parse(&buffer) {
                Ok(Parsed::Partial) => {}
                Ok(Parsed::Complete(header)) => break Ok(header),
                Err(_) => break Err(Refused::ProxyHeader),
            }
        };
        if let Ok(header) = &header {
            stream.reader.unread(&buffer[header.len..]);
            stream.timer.disarm();
        }
        worker.buffers.put(buffer);
        self.idle.set(true);
        header
    }
}
