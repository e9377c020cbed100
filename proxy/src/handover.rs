// SPDX-License-Identifier: Apache-2.0
//! Hand-over of listening sockets from a process to its successor over a unix socket.
//!
//! ```text
//!  successor                       predecessor
//!      ── Hello ───────────────────▶
//!      ◀───────── Sockets (SCM_RIGHTS), in batches, then End ──
//!      … serves its first table, accepts beside the predecessor …
//!      ── Ready ───────────────────▶ stops accepting, drains
//!      ◀──────────────── Released ──
//!  takes the path over
//! ```
//!
//! One packet is one message: `RWHO`, version, kind, body. Whichever side ends early, the
//! predecessor has not stopped accepting before it read Ready. Both sides must be the same user.
//! What is handed over is the very socket, its queue included, so that no connection is lost.

use std::fs;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_core::limits::{
    HANDOVER_ANSWER_TIMEOUT, HANDOVER_BATCH_MAX, HANDOVER_READY_TIMEOUT, HANDOVER_SOCKETS_MAX,
};
use rustix::cmsg_space;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use socket2::SockRef;

const MAGIC: [u8; 4] = *b"RWHO";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = MAGIC.len() + 2;

/// How often a successor asks again while the path changes hands.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A successor that takes longer than this over its limit is given up by its predecessor.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Hello = 1,
    /// One role byte per descriptor that comes with it.
    Sockets = 2,
    /// How many sockets there were, four bytes in network order.
    End = 3,
    Ready = 4,
    Released = 5,
    /// Why, one byte.
    Refused = 6,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        [Self::Hello, Self::Sockets, Self::End, Self::Ready, Self::Released, Self::Refused]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Why a process hands nothing over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Reason {
    /// It speaks another version of these messages.
    Version = 1,
    /// It has handed over already: the path is about to lead elsewhere.
    Moved = 2,
    /// It ends and listens to nothing any more.
    Closed = 3,
    /// The successor was not ready in time.
    Late = 4,
}

/// What a handed-over socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Role {
    Listener = 1,
    Admin = 2,
}

struct Message {
    kind: Kind,
    body: Vec<u8>,
    sockets: Vec<OwnedFd>,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

fn send(to: &OwnedFd, kind: Kind, body: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut packet = Vec::with_capacity(HEAD_BYTES + body.len());
    packet.extend(MAGIC);
    packet.extend([VERSION, kind as u8]);
    packet.extend(body);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(HANDOVER_BATCH_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(invalid("more sockets than a message holds"));
    }
    rustix::net::sendmsg(to, &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message; [`ErrorKind::UnexpectedEof`] when the other side is gone.
fn receive(from: &OwnedFd) -> io::Result<Message> {
    let mut packet = [0; HEAD_BYTES + HANDOVER_BATCH_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(HANDOVER_BATCH_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let into = &mut [IoSliceMut::new(&mut packet)];
        match rustix::net::recvmsg(from, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(invalid("a message that does not fit, or no descriptors left for it"));
    }
    let packet = &packet[..received.bytes];
    if packet.len() < HEAD_BYTES || packet[..MAGIC.len()] != MAGIC {
        return Err(invalid("no message of a hand-over"));
    }
    if packet[MAGIC.len()] != VERSION {
        return Err(io::Error::from(ErrorKind::Unsupported));
    }
    let kind = Kind::parse(packet[MAGIC.len() + 1]).ok_or_else(|| invalid("an unknown message"))?;
    Ok(Message { kind, body: packet[HEAD_BYTES..].to_vec(), sockets })
}

fn unix_socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

fn set_patience(socket: &OwnedFd, patience: Duration) -> io::Result<()> {
    sockopt::set_socket_timeout(socket, Timeout::Recv, Some(patience))?;
    sockopt::set_socket_timeout(socket, Timeout::Send, Some(patience))?;
    Ok(())
}

/// Sockets go to nobody, and come from nobody, but the user that we run as.
fn check_peer(socket: &OwnedFd) -> io::Result<()> {
    let peer = sockopt::socket_peercred(socket)?;
    if peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    let said = format!("process {} at the other end runs as another user", peer.pid.as_raw_pid());
    Err(io::Error::new(ErrorKind::PermissionDenied, said))
}

/// Whether a socket of ours is at a path; anything else that is there is an error.
fn is_ours(path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "something that is no socket is there",
        ));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        let said = "a socket of another user is there";
        return Err(io::Error::new(ErrorKind::PermissionDenied, said));
    }
    Ok(true)
}

/// The process that listens now, as its successor sees it.
#[derive(Debug)]
pub struct Predecessor {
    socket: OwnedFd,
    pub pid: u32,
    /// Listening sockets of all its addresses.
    pub listeners: Vec<TcpListener>,
    /// The socket of its admin port.
    pub admin: Option<TcpListener>,
}

impl Predecessor {
    /// Finds the process that waits at `path` for a successor and receives its sockets; `None` if
    /// nobody does.
    ///
    /// # Errors
    /// Something that is no socket of ours is at the path; whoever answers is another user, does
    /// not answer in time or speaks another version.
    pub fn find(path: &Path) -> io::Result<Option<Self>> {
        let end = Instant::now() + HANDOVER_ANSWER_TIMEOUT;
        loop {
            match Self::ask(path) {
                // It hands over, or ends, just now: what comes next is at the path soon.
                Err(error) if is_gone(&error) && Instant::now() < end => {
                    std::thread::sleep(ASK_AGAIN);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {
                    let said = "whoever listens there does not answer";
                    return Err(io::Error::new(ErrorKind::TimedOut, said));
                }
                answer => return answer,
            }
        }
    }

    fn ask(path: &Path) -> io::Result<Option<Self>> {
        if !is_ours(path)? {
            return Ok(None);
        }
        let socket = unix_socket()?;
        set_patience(&socket, HANDOVER_ANSWER_TIMEOUT)?;
        match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {}
            Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        check_peer(&socket)?;
        let pid = sockopt::socket_peercred(&socket)?.pid.as_raw_pid().unsigned_abs();
        send(&socket, Kind::Hello, &[], &[])?;
        let mut found = Self { socket, pid, listeners: Vec::new(), admin: None };
        let mut n = 0usize;
        loop {
            let message = receive(&found.socket)?;
            match message.kind {
                Kind::Sockets => {
                    n += message.sockets.len();
                    if message.body.len() != message.sockets.len() || n > HANDOVER_SOCKETS_MAX {
                        return Err(invalid("sockets that do not match their number"));
                    }
                    for (role, socket) in message.body.iter().zip(message.sockets) {
                        found.take(*role, socket.into())?;
                    }
                }
                Kind::End if message.body == (n as u32).to_be_bytes() => return Ok(Some(found)),
                Kind::Refused if message.body == [Reason::Closed as u8] => return Ok(None),
                Kind::Refused if message.body == [Reason::Moved as u8] => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Kind::Refused => return Err(ErrorKind::Unsupported.into()),
                _ => return Err(invalid("a message out of turn")),
            }
        }
    }

    fn take(&mut self, role: u8, socket: TcpListener) -> io::Result<()> {
        let reference = SockRef::from(&socket);
        if !reference.is_listener()? || reference.local_addr()?.as_socket().is_none() {
            return Err(invalid("a socket that does not listen"));
        }
        socket.set_nonblocking(true)?;
        match role {
            role if role == Role::Listener as u8 => self.listeners.push(socket),
            role if role == Role::Admin as u8 => self.admin = Some(socket),
            _ => return Err(invalid("a socket for an unknown purpose")),
        }
        Ok(())
    }

    /// Says that this process serves now; returns when the predecessor has stopped accepting.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`]: it is gone, and everything is ours. Anything else: it goes on,
    /// and this process must not.
    pub fn relieve(&self) -> io::Result<()> {
        let gone = |error: io::Error| match is_gone(&error) {
            true => ErrorKind::UnexpectedEof.into(),
            false => error,
        };
        send(&self.socket, Kind::Ready, &[], &[]).map_err(gone)?;
        match receive(&self.socket).map_err(gone)?.kind {
            Kind::Released => Ok(()),
            Kind::Refused => Err(io::Error::new(ErrorKind::TimedOut, "ready too late")),
            _ => Err(invalid("a message out of turn")),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Where this process waits for its successor.
#[derive(Debug)]
pub struct Station {
    socket: OwnedFd,
    path: PathBuf,
    /// Where the socket is until [`Station::publish`].
    draft: Option<PathBuf>,
}

impl Station {
    /// Makes the socket, not at its path yet.
    ///
    /// # Errors
    /// The folder cannot be written, the path is too long for a unix socket, or something that is
    /// no socket of ours is at the path.
    pub fn prepare(path: &Path) -> io::Result<Self> {
        is_ours(path)?;
        let draft = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
        if is_ours(&draft)? {
            // Of a process that had this number and was killed.
            fs::remove_file(&draft)?;
        }
        let socket = unix_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&draft)?)?;
        let station = Self { socket, path: path.to_owned(), draft: Some(draft.clone()) };
        // Before it listens: nobody connects under another mode.
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&station.socket, 16)?;
        Ok(station)
    }

    /// Takes the path over.
    ///
    /// # Errors
    /// As [`Station::prepare`].
    pub fn publish(&mut self) -> io::Result<()> {
        is_ours(&self.path)?;
        if let Some(draft) = &self.draft {
            fs::rename(draft, &self.path)?;
            self.draft = None;
        }
        Ok(())
    }

    /// Waits for a process that says it is our successor.
    ///
    /// # Errors
    /// Those of one connection: the next call waits for another one.
    pub fn next(&self) -> io::Result<Successor> {
        let socket = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        set_patience(&socket, HANDOVER_ANSWER_TIMEOUT)?;
        check_peer(&socket)?;
        let pid = sockopt::socket_peercred(&socket)?.pid.as_raw_pid().unsigned_abs();
        let successor = Successor { socket, pid };
        match receive(&successor.socket) {
            Ok(message) if message.kind == Kind::Hello => Ok(successor),
            Ok(_) => Err(invalid("a message out of turn")),
            Err(error) => {
                if error.kind() == ErrorKind::Unsupported {
                    successor.refuse(Reason::Version)?;
                }
                Err(error)
            }
        }
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

/// A process that wants to take over.
#[derive(Debug)]
pub struct Successor {
    socket: OwnedFd,
    pub pid: u32,
}

impl Successor {
    /// Hands the sockets over and waits until the successor serves. This process goes on
    /// accepting meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`]: it ended before it was ready. Otherwise it was not ready in
    /// time, or the system refuses.
    pub fn hand_over(
        &self,
        listeners: &[Arc<TcpListener>],
        admin: Option<&TcpListener>,
    ) -> io::Result<()> {
        let all: Vec<(u8, BorrowedFd<'_>)> = (listeners.iter())
            .map(|socket| (Role::Listener as u8, socket.as_fd()))
            .chain(admin.map(|socket| (Role::Admin as u8, socket.as_fd())))
            .collect();
        for batch in all.chunks(HANDOVER_BATCH_MAX) {
            let (roles, sockets): (Vec<u8>, Vec<BorrowedFd<'_>>) = batch.iter().copied().unzip();
            send(&self.socket, Kind::Sockets, &roles, &sockets)?;
        }
        send(&self.socket, Kind::End, &(all.len() as u32).to_be_bytes(), &[])?;
        set_patience(&self.socket, HANDOVER_READY_TIMEOUT + GRACE)?;
        match receive(&self.socket) {
            Ok(message) if message.kind == Kind::Ready => Ok(()),
            Ok(_) => Err(invalid("a message out of turn")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.refuse(Reason::Late)?;
                Err(io::Error::new(ErrorKind::TimedOut, "it was not ready in time"))
            }
            Err(error) => Err(error),
        }
    }

    /// Says that this process does not accept any more.
    ///
    /// # Errors
    /// The successor is gone.
    pub fn release(&self) -> io::Result<()> {
        send(&self.socket, Kind::Released, &[], &[])
    }

    /// Says that another process has the sockets: to look at the path again.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn redirect(&self) -> io::Result<()> {
        self.refuse(Reason::Moved)
    }

    /// Says that this process has nothing to hand over any more.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn decline(&self) -> io::Result<()> {
        self.refuse(Reason::Closed)
    }

    fn refuse(&self, reason: Reason) -> io::Result<()> {
        send(&self.socket, Kind::Refused, &[reason as u8], &[])
    }
}

#[cfg(test)]
mod tests;
