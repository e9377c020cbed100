// SPDX-License-Identifier: Apache-2.0
//! TLS between a socket and whole owned buffers. rustls does the protocol; here is who reads and
//! writes when.
//!
//! ```text
//!   recv ◀── caller's buffer ◀── rustls ◀── the same buffer, sealed ◀── socket
//!   send ──▶ rustls ──▶ one buffer with all that is pending ──▶ one write ──▶ socket
//! ```
//!
//! Invariants: one write at a time. The sending half owns the socket's write side while it sends;
//! what the receiving half has to say meanwhile (alerts, answers to key updates, tickets) waits
//! in rustls and goes out in that half's next turn, and at once, without waiting, when nobody
//! sends. At rest a session holds no buffer of its own. An end without `close_notify` is an error.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::RawFd;
use std::rc::Rc;

use monoio::buf::SliceMut;
use ringway_core::limits::{BUFFER_BYTES, LARGE_BUFFER_BYTES};
use rustls::Connection;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};

use super::buffer::Buffers;
use super::socket::{self, Peek};
use super::stream::{Reader, Stream, Tcp, send_plain};
use super::timer::Timer;
use crate::worker::turns::{Turn, Turns};

/// Room in a small send buffer for what TLS adds to one record, and for a ticket or an alert.
const SEALED_SMALL_EXTRA: usize = 1024;

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The peer went away, or the deadline passed: [`Timer::take_fired`] says which.
    Ended,
    /// What the peer sent, or is, does not do; it got an alert.
    Refused(rustls::Error),
}

/// How a listener's handshakes, and clients that ask for much at once, come by their turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace<'t> {
    pub(crate) turns: &'t Turns,
    /// Counts those that wait for one.
    pub(crate) waiting: &'t Cell<usize>,
}

impl<'t> Pace<'t> {
    pub(super) async fn turn(self) -> Turn<'t> {
        self.turns.turn(self.waiting).await
    }
}

/// Receives a ClientHello; gives it with the bytes behind it, and the turn that answering it is
/// part of. `whole` gets all of both, where somebody else may have to receive them again.
pub(crate) async fn hello<'t>(
    stream: &mut Stream,
    buffers: &Buffers,
    pace: Pace<'t>,
    mut whole: Option<&mut Vec<u8>>,
) -> Result<(Accepted, Vec<u8>, Turn<'t>), Failure> {
    let mut acceptor = Acceptor::default();
    loop {
        // A client that lets us wait costs no buffer.
        if stream.reader.readable().await.is_err() {
            return Err(Failure::Ended);
        }
        let turn = pace.turn().await;
        let mut buffer = buffers.take();
        let received = stream.try_recv(&mut buffer);
        if buffer.is_empty() {
            buffers.put(buffer);
            match received {
                Err(error) if is_temporary(&error) => continue,
                _ => return Err(Failure::Ended),
            }
        }
        if let Some(whole) = &mut whole {
            whole.extend_from_slice(&buffer);
        }
        let mut taken = 0;
        while taken < buffer.len() {
            let result = match acceptor.read_tls(&mut &buffer[taken..]) {
                Ok(n @ 1..) => {
                    taken += n;
                    acceptor.accept()
                }
                Ok(0) | Err(_) => {
                    return Err(Failure::Refused(rustls::Error::PeerSentOversizedRecord));
                }
            };
            match result {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let rest = buffer[taken..].to_vec();
                    buffers.put(buffer);
                    return Ok((accepted, rest, turn));
                }
                Err((error, alert)) => {
                    refuse(stream, alert);
                    return Err(Failure::Refused(error));
                }
            }
        }
        buffers.put(buffer);
    }
}

/// Tells a client why its ClientHello does not do.
pub(crate) fn refuse(stream: &Stream, mut alert: AcceptedAlert) {
    let mut bytes = Vec::new();
    if alert.write_all(&mut bytes).is_ok() {
        let _ = socket::try_send(stream.timer.fd(), &bytes);
    }
}

/// Tells a client whose handshake has not begun that it fails, by an alert of our own (RFC 8446
/// §6: level fatal).
pub(crate) fn alert(stream: &Stream, description: rustls::AlertDescription) {
    let bytes = [0x15, 3, 3, 0, 2, 2, u8::from(description)];
    let _ = socket::try_send(stream.timer.fd(), &bytes);
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// One connection's TLS, shared by its two halves.
#[derive(Debug)]
pub(crate) struct Session {
    engine: RefCell<Engine>,
    /// A write of the sending half is in flight.
    writing: Cell<bool>,
    socket: Rc<Timer>,
    buffers: Rc<Buffers>,
}

#[derive(Debug)]
struct Engine {
    connection: Connection,
    /// Received, and rustls has no room: it holds decrypted bytes that nobody has taken yet.
    sealed: Vec<u8>,
    /// Sealed, and the socket did not take it at once.
    unsent: Vec<u8>,
    /// The socket may hold more than the last look took.
    more: bool,
    failure: Option<rustls::Error>,
    /// Reading failed below TLS.
    broken: Option<ErrorKind>,
}

impl Session {
    /// `rest`: bytes received that rustls has not seen.
    pub(super) fn new(
        mut connection: Connection,
        rest: Vec<u8>,
        socket: Rc<Timer>,
        buffers: Rc<Buffers>,
    ) -> Rc<Self> {
        // What is sealed at a time is bounded by the buffer that it goes to.
        connection.set_buffer_limit(None);
        Rc::new(Self {
            engine: RefCell::new(Engine {
                connection,
                sealed: rest,
                unsent: Vec::new(),
                more: false,
                failure: None,
                broken: None,
            }),
            writing: Cell::new(false),
            socket,
            buffers,
        })
    }

    /// Looks at what was negotiated.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&Connection) -> T) -> T {
        look(&self.engine.borrow().connection)
    }

    /// Handshakes. What is left to send at its end (tickets, our last message) goes out with the
    /// first bytes that are sent, or when bytes are first waited for.
    pub(super) async fn handshake(
        &self,
        reader: &Reader,
        tcp: &Tcp,
        pace: Option<Pace<'_>>,
    ) -> Result<(), Failure> {
        loop {
            self.engine.borrow_mut().unseal();
            let failure = self.engine.borrow().failure.clone();
            if let Some(error) = failure {
                self.flush();
                return Err(Failure::Refused(error));
            }
            if !self.engine.borrow().connection.is_handshaking() {
                return Ok(());
            }
            let ended = self.engine.borrow_mut().end().is_some();
            if ended || self.send(tcp, Vec::new()).await.0.is_err() {
                return Err(Failure::Ended);
            }
            // A peer that lets us wait costs no buffer.
            if reader.readable().await.is_err() {
                return Err(Failure::Ended);
            }
            let _turn = match pace {
                Some(pace) => Some(pace.turn().await),
                None => None,
            };
            self.look();
        }
    }

    /// Receives decrypted bytes into the buffer's spare capacity. 0 is the peer's `close_notify`.
    pub(super) async fn recv(
        &self,
        tcp: &Tcp,
        mut buffer: Vec<u8>,
    ) -> (io::Result<usize>, Vec<u8>) {
        let at = buffer.len();
        loop {
            self.open(&mut buffer);
            if buffer.len() > at {
                return (Ok(buffer.len() - at), buffer);
            }
            let end = self.engine.borrow_mut().end();
            if let Some(end) = end {
                self.flush();
                return (end.map(|()| 0), buffer);
            }
            self.flush();
            // Sealed bytes come to where the decrypted ones, which are fewer, will stand.
            let received;
            (received, buffer) = if at == 0 {
                tcp.read(buffer).await
            } else {
                let end = buffer.capacity();
                let (received, slice) = tcp.read(SliceMut::new(buffer, at, end)).await;
                (received, slice.into_inner())
            };
            let mut engine = self.engine.borrow_mut();
            match received {
                Ok(0) => engine.finish(),
                Ok(_) => engine.decrypt(&mut buffer, at),
                Err(error) if error.kind() == ErrorKind::Interrupted => buffer.truncate(at),
                Err(error) => {
                    buffer.truncate(at);
                    engine.broken = Some(error.kind());
                }
            }
        }
    }

    /// Takes what is decrypted, and what the socket holds beyond the last look.
    fn open(&self, buffer: &mut Vec<u8>) {
        let mut engine = self.engine.borrow_mut();
        let before = buffer.len();
        engine.take(buffer);
        if engine.more && buffer.len() > before && buffer.len() < buffer.capacity() {
            engine.more = false;
            let at = buffer.len();
            if matches!(socket::try_recv(self.socket.fd(), buffer), Ok(n) if n > 0) {
                engine.decrypt(buffer, at);
                engine.take(buffer);
            }
        }
    }

    /// Waits until decrypted bytes, the end or an error can be received. Takes what the socket
    /// has, but nothing of what is decrypted; giving up loses nothing.
    pub(super) async fn readable(&self, tcp: &Tcp) -> io::Result<()> {
        loop {
            {
                let mut engine = self.engine.borrow_mut();
                engine.unseal();
                if engine.has_bytes() || engine.end().is_some() {
                    return Ok(());
                }
            }
            self.flush();
            tcp.readable().await?;
            self.look();
        }
    }

    /// Whether the connection is open and the peer has said nothing but TLS's own messages.
    pub(super) fn is_quiet(&self) -> bool {
        if self.engine.borrow_mut().has_bytes() {
            return false;
        }
        if socket::peek(self.socket.fd()) != Peek::Open {
            self.look();
        }
        let mut engine = self.engine.borrow_mut();
        !engine.has_bytes() && engine.end().is_none()
    }

    /// Takes what the socket holds, without waiting.
    fn look(&self) {
        let mut buffer = self.buffers.take();
        let received = socket::try_recv(self.socket.fd(), &mut buffer);
        let mut engine = self.engine.borrow_mut();
        match received {
            Ok(0) => engine.finish(),
            Ok(n) => {
                engine.more = n == buffer.capacity();
                engine.absorb(&buffer);
            }
            Err(error) if is_temporary(&error) => {}
            Err(error) => engine.broken = Some(error.kind()),
        }
        drop(engine);
        self.buffers.put(buffer);
        self.flush();
    }

    /// Sends everything, and everything else that is pending.
    pub(super) async fn send(&self, tcp: &Tcp, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.writing.set(true);
        let mut from = 0;
        let result = loop {
            let rest = &buffer[from..];
            // Pending may also be what the receiving half had to say during the last write.
            if rest.is_empty() && !self.engine.borrow().is_pending() {
                break Ok(());
            }
            let small = rest.len() <= BUFFER_BYTES - SEALED_SMALL_EXTRA;
            let mut out = if small { self.buffers.take() } else { self.buffers.take_sealed() };
            let rest = &rest[..rest.len().min(LARGE_BUFFER_BYTES)];
            let sealed = self.engine.borrow_mut().seal(rest, &mut out);
            // An alert goes out although nothing else can.
            let sent;
            (sent, out) = send_plain(tcp, out).await;
            if small {
                self.buffers.put(out);
            } else {
                self.buffers.put_sealed(out);
            }
            match sealed.and_then(|n| sent.map(|()| n)) {
                Ok(n) => from += n,
                Err(error) => break Err(error),
            }
        };
        self.writing.set(false);
        (result, buffer)
    }

    /// Sends what is pending as far as the socket takes it, unless the sending half is at it.
    fn flush(&self) {
        if !self.writing.get() {
            self.engine.borrow_mut().flush(self.socket.fd());
        }
    }

    /// Says that nothing more will be sent (RFC 8446 §6.1), as far as the socket takes it at once.
    pub(super) fn close(&self) {
        self.engine.borrow_mut().connection.send_close_notify();
        self.flush();
    }

    /// Queues `close_notify`, to be sent in order.
    pub(super) fn queue_close(&self) {
        self.engine.borrow_mut().connection.send_close_notify();
    }

    /// The connection comes to rest: what rustls keeps for the next long record is given back.
    pub(super) fn rest(&self) {
        struct Nothing;
        impl Read for Nothing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::WouldBlock.into())
            }
        }
        let _ = self.engine.borrow_mut().connection.read_tls(&mut Nothing);
    }
}

impl Engine {
    /// Whether decrypted bytes wait.
    fn has_bytes(&mut self) -> bool {
        self.connection.reader().fill_buf().is_ok_and(|bytes| !bytes.is_empty())
    }

    /// What ends receiving once everything decrypted is taken: `close_notify`, or an error.
    fn end(&mut self) -> Option<io::Result<()>> {
        match self.connection.reader().fill_buf() {
            Ok(bytes) if !bytes.is_empty() => None,
            _ if self.failure.is_some() => Some(Err(ErrorKind::InvalidData.into())),
            Ok(_) => Some(Ok(())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.broken.map(|kind| Err(kind.into()))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// The socket's end.
    fn finish(&mut self) {
        let _ = self.connection.read_tls(&mut io::empty());
    }

    /// One step: some sealed bytes to rustls, which decrypts what is whole. Gives how many it
    /// took; 0: it has no room until decrypted bytes are taken.
    fn step(&mut self, sealed: &[u8]) -> usize {
        if self.failure.is_some() {
            return sealed.len();
        }
        match self.connection.read_tls(&mut &*sealed) {
            // Nothing after `close_notify` counts.
            Ok(0) => return sealed.len(),
            Ok(n) => {
                self.failure = self.connection.process_new_packets().err();
                return n;
            }
            Err(error) if error.kind() == ErrorKind::Other => {}
            Err(_) => self.failure = Some(rustls::Error::PeerSentOversizedRecord),
        }
        0
    }

    /// Sealed bytes to rustls as far as it has room; the rest is kept.
    fn absorb(&mut self, bytes: &[u8]) {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.step(&bytes[taken..]) {
                0 => break,
                n => taken += n,
            }
        }
        self.sealed.extend_from_slice(&bytes[taken..]);
    }

    /// What was kept to rustls, as far as there is room by now.
    fn unseal(&mut self) {
        if !self.sealed.is_empty() {
            let kept = mem::take(&mut self.sealed);
            self.absorb(&kept);
        }
    }

    /// Replaces the sealed bytes from `at` on by what is in them, as far as it is whole. What is
    /// decrypted of a record never outgrows the sealed bytes taken so far, or it waits in rustls.
    fn decrypt(&mut self, buffer: &mut Vec<u8>, at: usize) {
        let (mut taken, mut opened) = (at, at);
        while taken < buffer.len() {
            let sealed = &buffer[taken..];
            match self.step(sealed) {
                0 => {
                    self.sealed.extend_from_slice(sealed);
                    break;
                }
                n => taken += n,
            }
            opened += self.connection.reader().read(&mut buffer[opened..taken]).unwrap_or(0);
        }
        buffer.truncate(opened);
    }

    /// Moves decrypted bytes into the buffer's spare capacity.
    fn take(&mut self, buffer: &mut Vec<u8>) {
        loop {
            let spare = buffer.capacity() - buffer.len();
            let mut reader = self.connection.reader();
            match reader.fill_buf() {
                Ok(bytes) if spare > 0 && !bytes.is_empty() => {
                    let n = bytes.len().min(spare);
                    buffer.extend_from_slice(&bytes[..n]);
                    reader.consume(n);
                }
                _ if spare > 0 && !self.sealed.is_empty() => self.unseal(),
                _ => return,
            }
        }
    }

    /// Seals `plain` behind all that is pending: how much of it was taken.
    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        out.append(&mut self.unsent);
        let taken = match self.connection.writer().write(plain) {
            Ok(0) if !plain.is_empty() => Err(ErrorKind::WriteZero.into()),
            taken => taken,
        };
        while self.connection.wants_write() {
            self.connection.write_tls(out)?;
        }
        taken
    }

    fn is_pending(&self) -> bool {
        !self.unsent.is_empty() || self.connection.wants_write()
    }

    fn flush(&mut self, socket: RawFd) {
        loop {
            if self.unsent.is_empty() {
                if !self.connection.wants_write() {
                    return;
                }
                let _ = self.connection.write_tls(&mut self.unsent);
            }
            match socket::try_send(socket, &self.unsent) {
                Ok(n) if n == self.unsent.len() => self.unsent = Vec::new(),
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The socket is gone: so is whoever waits for these bytes.
                Err(_) => self.unsent = Vec::new(),
            }
        }
    }
}
