// SPDX-License-Identifier: Apache-2.0
//! Listening sockets: one per worker and address, in one SO_REUSEPORT group.

use std::io;
use std::net::{SocketAddr, TcpListener};

use ringway_core::limits::LISTEN_BACKLOG_MAX;
use socket2::{Domain, Protocol, Socket, Type};

/// Binds `n` sockets to one address.
///
/// The first bind goes without SO_REUSEPORT, so that a port which somebody else listens on is an
/// error and not a silent share of its traffic.
pub(crate) fn bind(address: SocketAddr, n: usize) -> io::Result<Vec<TcpListener>> {
    drop(socket(address, false)?);
    join(address, n)
}

/// Binds `n` more sockets to an address of ours.
pub(crate) fn join(address: SocketAddr, n: usize) -> io::Result<Vec<TcpListener>> {
    let one = |_| {
        let socket = socket(address, true)?;
        socket.listen(LISTEN_BACKLOG_MAX.into())?;
        Ok(socket.into())
    };
    (0..n).map(one).collect()
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
