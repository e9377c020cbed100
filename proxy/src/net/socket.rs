// SPDX-License-Identifier: Apache-2.0
//! The few system calls that neither std nor monoio offers on a socket that io_uring owns, and
//! CPU pinning. One of the two files of this crate with `unsafe` in them (the other is `stream.rs`).

use std::io;
use std::os::fd::RawFd;

/// Which directions a shutdown ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// A read in flight ends with 0; writes go on.
    Read,
    /// The peer sees the end of what we send; reads go on.
    Write,
    Both,
    /// Neither: whoever waits for a deadline is woken.
    Wake,
}

/// Ends operations in flight on a socket without dropping them (see `ARCHITECTURE.md`, invariant
/// on in-flight buffers). Errors mean that the socket is gone already, which is what was wanted.
pub(crate) fn shutdown(fd: RawFd, direction: Direction) {
    let how = match direction {
        Direction::Read => libc::SHUT_RD,
        Direction::Write => libc::SHUT_WR,
        Direction::Both => libc::SHUT_RDWR,
        Direction::Wake => return,
    };
    // SAFETY: shutdown(2) takes plain integers; a stale descriptor cannot occur because callers
    // forget the descriptor before they drop the stream that owns it.
    unsafe { libc::shutdown(fd, how) };
}

/// What a look at a socket's receive queue shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    /// Nothing there, the connection is open.
    Open,
    /// Bytes wait.
    Data,
    /// The peer closed or reset.
    Closed,
}

/// Looks without taking bytes and without waiting.
pub(crate) fn peek(fd: RawFd) -> Peek {
    match look(fd) {
        Ok(Some(_)) => Peek::Data,
        Ok(None) => Peek::Closed,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Peek::Open,
        Err(_) => Peek::Closed,
    }
}

/// The first byte that waits to be received, if one does.
pub(crate) fn peek_byte(fd: RawFd) -> Option<u8> {
    look(fd).ok().flatten()
}

/// The next byte, `None` at the end.
fn look(fd: RawFd) -> io::Result<Option<u8>> {
    let mut byte = 0u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is one byte of our stack and lives across the call.
    match unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, flags) } {
        0 => Ok(None),
        1 => Ok(Some(byte)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the peer reset the connection, whatever waits to be received. The mere end of what it
/// sends is no reset: it may wait for an answer.
pub(crate) fn is_reset(fd: RawFd) -> bool {
    polls(fd, libc::POLLERR | libc::POLLHUP)
}

/// Whether the peer has ended or reset the connection, whatever waits to be received.
pub(crate) fn has_ended(fd: RawFd) -> bool {
    polls(fd, libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP)
}

/// Whether one of these holds by now.
fn polls(fd: RawFd, events: libc::c_short) -> bool {
    let mut asked = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one pollfd of our stack, which lives across the call; time-out 0 never waits.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    ready == 1 && asked.revents & events != 0
}

/// Resets the connection at once: the peer cannot take what it has for the whole, and what is in
/// flight on the socket ends with an error.
pub(crate) fn abort(fd: RawFd) {
    // SAFETY: an all-zero sockaddr is a valid address of the family AF_UNSPEC.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: connect(2) reads an address of ours, of the length that it is told. Connecting a TCP
    // socket to AF_UNSPEC is Linux's way to reset it.
    let reset = unsafe { libc::connect(fd, &raw const nowhere, length) } == 0;
    if !reset {
        shutdown(fd, Direction::Both);
    }
}

/// Receives what is there into the buffer's spare capacity, without waiting; 0 is the end.
///
/// # Errors
/// `WouldBlock` where nothing is there.
pub(crate) fn try_recv(fd: RawFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let spare = buffer.spare_capacity_mut();
    debug_assert!(!spare.is_empty());
    // SAFETY: the spare capacity is ours, and the call writes at most as many bytes as it has.
    let n = unsafe { libc::recv(fd, spare.as_mut_ptr().cast(), spare.len(), libc::MSG_DONTWAIT) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    let len = buffer.len() + n as usize;
    // SAFETY: the kernel has just written `n` bytes behind the old length.
    unsafe { buffer.set_len(len) };
    Ok(n as usize)
}

/// Sends as much as the socket takes without waiting.
///
/// # Errors
/// `WouldBlock` where it takes nothing now; others where it never will.
pub(crate) fn try_send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes outlive the call, which only reads them.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

/// Makes closing the socket reset the connection, so that the peer cannot take what it has for a
/// complete message.
pub(crate) fn reset_on_close(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a `linger` that outlives the call, its size is right.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}

/// Raises this process's limit of file descriptors as far as it may, and gives it.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    current.unwrap_or(u64::MAX)
}

/// The CPUs that this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours and its size is right.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return Vec::new();
    }
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Pins the calling thread to one CPU; false where that is not allowed.
pub(crate) fn pin_to(cpu: usize) -> bool {
    if cpu >= libc::CPU_SETSIZE as usize {
        return false;
    }
    // SAFETY: as in `allowed_cpus`; the index is checked above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}
