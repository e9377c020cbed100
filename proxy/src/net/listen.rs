// SPDX-License-Identifier: Apache-2.0
//! Listening sockets: one per worker and address, in one SO_REUSEPORT group.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds for us until we accept them (bounded by
/// `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Binds `n` sockets to one address.
///
/// The first bind goes without SO_REUSEPORT, so that a port which somebody else listens on is an
/// error and not a silent share of its traffic.
pub(crate) fn bind(address: SocketAddr, n: usize) -> io::Result<Vec<TcpListener>> {
    drop(socket(address, false)?);
    let mut sockets = Vec::with_capacity(n);
    for _ in 0..n {
        let socket = socket(address, true)?;
        socket.listen(BACKLOG)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

fn socket(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}
