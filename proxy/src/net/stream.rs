// SPDX-License-Identifier: Apache-2.0
//! A connection as two halves that read and write whole owned buffers, with one deadline: over TCP,
//! or over TLS on it, which is one branch per operation here and everything else in
//! [`tls`](super::tls); or one stream of an HTTP/2 connection ([`h2`](super::h2)).
//!
//! Invariant: a read or write once started is awaited to its end. What must not wait is made to
//! end by shutting the socket down ([`Timer`]), never by dropping the future.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::future::{Future, poll_fn};
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Canceller};
use monoio::net::TcpStream;
use ringway_core::limits::SMALL_BUFFER_BYTES;
use ringway_core::wire::h2::frame::Code;

use super::buffer::Buffers;
use super::h2::H2Stream;
use super::socket::{self, Direction, Peek};
use super::timer::{Timer, Timers};
use super::tls::{Failure, Pace, Session};

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Reader {
    source: Source,
    /// Received and given back: comes first.
    unread: Vec<u8>,
}

#[derive(Debug)]
enum Source {
    Tcp(Rc<Tcp>, Option<Rc<Session>>),
    H2(Rc<H2Stream>),
}

/// The sending half.
#[derive(Debug)]
pub(crate) enum Writer {
    Tcp(Rc<Tcp>, Option<Rc<Session>>),
    H2(Rc<H2Stream>),
}

/// A TCP connection, received from and sent to at once. Its end is one system call where nothing is
/// under way; the runtime's own takes three operations (its halves shut the socket down, and the
/// ring is asked to close it and then to recall that).
#[derive(Debug)]
pub(crate) struct Tcp {
    stream: UnsafeCell<ManuallyDrop<TcpStream>>,
    /// Operations that have not ended, those given up included: the runtime keeps the descriptor for
    /// them.
    under_way: Cell<usize>,
}

impl Tcp {
    fn new(stream: TcpStream) -> Self {
        Self { stream: UnsafeCell::new(ManuallyDrop::new(stream)), under_way: Cell::new(0) }
    }

    #[allow(clippy::mut_from_ref)]
    fn stream(&self) -> &mut TcpStream {
        // SAFETY: the operations of a `TcpStream` share nothing but its descriptor, which they take
        // when they begin: `TcpStream: Split` says that reads and writes do not touch each other.
        unsafe { &mut *self.stream.get() }
    }

    fn fd(&self) -> RawFd {
        self.stream().as_raw_fd()
    }

    fn begin(&self) {
        self.under_way.set(self.under_way.get() + 1);
    }

    /// Not reached by an operation that is given up.
    fn end(&self) {
        self.under_way.set(self.under_way.get() - 1);
    }

    pub(super) async fn read<B: IoBufMut>(&self, buffer: B) -> BufResult<usize, B> {
        self.begin();
        let read = self.stream().read(buffer).await;
        self.end();
        read
    }

    async fn read_recallable<B: IoBufMut>(
        &self,
        buffer: B,
        handle: CancelHandle,
    ) -> BufResult<usize, B> {
        self.begin();
        let read = self.stream().cancelable_read(buffer, handle).await;
        self.end();
        read
    }

    async fn write<B: IoBuf>(&self, buffer: B) -> BufResult<usize, B> {
        self.begin();
        let written = self.stream().write(buffer).await;
        self.end();
        written
    }

    /// Waits until bytes, the end or an error can be received.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.begin();
        let readable = self.stream().readable(false).await;
        self.end();
        readable
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let stream = unsafe { ManuallyDrop::take(self.stream.get_mut()) };
        if self.under_way.get() == 0 {
            // SAFETY: the runtime has just given the descriptor up, which was the stream's alone.
            drop(unsafe { OwnedFd::from_raw_fd(stream.into_raw_fd()) });
        }
    }
}

/// The receives of one worker that wait with a buffer. Those that have waited for one to two turns
/// are recalled, so that buffers do not rest with connections; whoever that happens to waits for
/// readiness instead, which takes none.
#[derive(Default)]
pub(crate) struct Recalls {
    young: RefCell<Generation>,
    old: RefCell<Generation>,
}

/// Receives that began in one turn.
#[derive(Default)]
struct Generation {
    canceller: Canceller,
    waiting: Rc<Cell<usize>>,
}

impl Recalls {
    /// Recalls those that began before the last turn. Allocates only where there are some.
    pub(crate) fn turn(&self) {
        let mut old = self.old.borrow_mut();
        if old.waiting.get() > 0 {
            let Generation { canceller, .. } = std::mem::take(&mut *old);
            old.canceller = canceller.cancel();
        }
        std::mem::swap(&mut *old, &mut *self.young.borrow_mut());
    }

    fn enter(&self) -> (CancelHandle, Rc<Cell<usize>>) {
        let young = self.young.borrow();
        young.waiting.set(young.waiting.get() + 1);
        (young.canceller.handle(), young.waiting.clone())
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) timer: Rc<Timer>,
    timers: Rc<Timers>,
    /// Ends without `close_notify`.
    broken: bool,
}

impl Stream {
    /// Small writes are not delayed if the socket is told so: one that was accepted inherits that
    /// from its listening socket.
    pub(crate) fn new(tcp: TcpStream, timers: &Rc<Timers>) -> Self {
        let timer = timers.timer(tcp.as_raw_fd());
        let tcp = Rc::new(Tcp::new(tcp));
        Self {
            reader: Reader { source: Source::Tcp(tcp.clone(), None), unread: Vec::new() },
            writer: Writer::Tcp(tcp, None),
            timer,
            timers: timers.clone(),
            broken: false,
        }
    }

    /// One stream of an HTTP/2 connection.
    pub(crate) fn of_h2(stream: Rc<H2Stream>, timers: &Rc<Timers>) -> Self {
        let timer = stream.timer().clone();
        Self {
            reader: Reader { source: Source::H2(stream.clone()), unread: Vec::new() },
            writer: Writer::H2(stream),
            timer,
            timers: timers.clone(),
            broken: false,
        }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.reader.source {
            Source::Tcp(tcp, _) => tcp.stream().local_addr().ok(),
            Source::H2(stream) => stream.local_addr(),
        }
    }

    /// The stream, where this is one of an HTTP/2 connection.
    pub(crate) fn h2(&self) -> Option<&Rc<H2Stream>> {
        self.writer.h2()
    }

    /// What TLS negotiated to be spoken inside (RFC 7301).
    pub(crate) fn is_alpn(&self, protocol: &[u8]) -> bool {
        match &self.reader.source {
            Source::Tcp(_, Some(session)) => {
                session.inspect(|c| c.alpn_protocol() == Some(protocol))
            }
            Source::Tcp(_, None) | Source::H2(_) => false,
        }
    }

    /// The first byte that waits to be received, if one does. Takes nothing.
    pub(crate) fn first_byte(&self) -> Option<u8> {
        match self.reader.unread.first() {
            Some(byte) => Some(*byte),
            None => socket::peek_byte(self.timer.fd()),
        }
    }

    /// Receives what plain TCP has by now; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` where nothing is there.
    pub(super) fn try_recv(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self.reader.unread.is_empty() {
            true => socket::try_recv(self.timer.fd(), buffer),
            false => Ok(self.reader.reread(buffer)),
        }
    }

    /// Handshakes on what is plain TCP so far; from then on everything goes through the session.
    /// `rest`: bytes received that `connection` has not seen. Ends by the timer's deadline, which
    /// must shut both directions. `pace`: where others must be left some time.
    pub(crate) async fn start_tls(
        &mut self,
        connection: rustls::Connection,
        mut rest: Vec<u8>,
        buffers: &Rc<Buffers>,
        pace: Option<Pace<'_>>,
    ) -> Result<Rc<Session>, Failure> {
        rest.append(&mut self.reader.unread);
        let session = Session::new(connection, rest, self.timer.clone(), buffers.clone());
        let Writer::Tcp(tcp, _) = &self.writer else { return Err(Failure::Ended) };
        session.handshake(&self.reader, tcp, pace).await?;
        if let (Source::Tcp(_, reads), Writer::Tcp(_, writes)) =
            (&mut self.reader.source, &mut self.writer)
        {
            *reads = Some(session.clone());
            *writes = Some(session.clone());
        }
        Ok(session)
    }

    /// Waits until something can be received, or until the timer's deadline (armed with
    /// [`Direction::Wake`](super::socket::Direction)): false. Nothing is taken, so that giving up
    /// loses nothing.
    pub(crate) async fn readable(&mut self) -> bool {
        let timer = &self.timer;
        let mut readable = pin!(self.reader.readable());
        poll_fn(|cx| {
            if readable.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            if timer.take_fired() {
                return Poll::Ready(false);
            }
            timer.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits for something that may be given up; `None`: the client has given its stream up, which
    /// HTTP/2 tells at once.
    pub(crate) async fn unless_reset<T>(
        &self,
        mut waiting: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let Some(stream) = self.h2() else { return Some(waiting.await) };
        poll_fn(|cx| {
            if let Poll::Ready(output) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if stream.is_reset() {
                return Poll::Ready(None);
            }
            self.timer.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Whether the connection is open and nothing of it waits to be received: good for another
    /// request.
    pub(crate) fn is_quiet(&self) -> bool {
        match &self.reader.source {
            Source::Tcp(_, None) => socket::peek(self.timer.fd()) == Peek::Open,
            Source::Tcp(_, Some(session)) => session.is_quiet(),
            Source::H2(_) => false,
        }
    }

    /// The connection comes to rest: nothing is kept for the next burst.
    pub(crate) fn rest(&self) {
        if let Source::Tcp(_, Some(session)) = &self.reader.source {
            session.rest();
        }
    }

    /// Says that nothing more will be sent, at once; the peer may go on sending.
    pub(crate) fn half_close(&self) {
        if let Writer::Tcp(_, Some(session)) = &self.writer {
            session.close();
        }
        self.timer.stop(Direction::Write);
    }

    /// Nobody wants more of what the peer says, and nothing comes of its not having read what it was
    /// sent: the end of a TCP connection is a reset, which leaves no port in TIME-WAIT behind. Clients
    /// that ask and leave would use them up.
    pub(crate) fn cut(&self) {
        if let Writer::Tcp(..) = &self.writer {
            socket::reset_on_close(self.timer.fd());
        }
    }

    /// What was sent is not all that there was to send: the connection's end must not pass for
    /// the message's. TLS ends without `close_notify`; with `reset`, TCP by RST; a stream of
    /// HTTP/2 by RST_STREAM.
    pub(crate) fn break_off(&mut self, reset: bool) {
        self.broken = true;
        match &self.writer {
            Writer::H2(stream) => stream.close(Code::INTERNAL_ERROR),
            Writer::Tcp(..) if reset => socket::reset_on_close(self.timer.fd()),
            Writer::Tcp(..) => {}
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A panic may have come in the middle of an answer.
        match &self.writer {
            Writer::Tcp(_, Some(session)) if !self.broken && !std::thread::panicking() => {
                session.close();
            }
            Writer::H2(stream) => stream.close(Code::CANCEL),
            Writer::Tcp(..) => {}
        }
        self.timers.release(&self.timer);
    }
}

impl Reader {
    /// Receives into the buffer's spare capacity, which must not be empty. 0 is the end.
    pub(crate) async fn recv(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let most = buffer.capacity();
        self.recv_until(buffer, most).await
    }

    /// The same, and over plain TCP no more than until the buffer has `most` bytes.
    pub(crate) async fn recv_until(
        &mut self,
        mut buffer: Vec<u8>,
        most: usize,
    ) -> (io::Result<usize>, Vec<u8>) {
        debug_assert!((buffer.len() + 1..=buffer.capacity()).contains(&most));
        if !self.unread.is_empty() {
            return (Ok(self.reread(&mut buffer)), buffer);
        }
        let tcp = match &mut self.source {
            Source::Tcp(tcp, None) => tcp,
            Source::Tcp(tcp, Some(session)) => return session.recv(tcp, buffer).await,
            Source::H2(stream) => return stream.recv(buffer).await,
        };
        let at = buffer.len();
        let (result, slice) = tcp.read(SliceMut::new(buffer, at, most)).await;
        (result, slice.into_inner())
    }

    /// Takes what was given back.
    fn reread(&mut self, buffer: &mut Vec<u8>) -> usize {
        let n = self.unread.len().min(buffer.capacity() - buffer.len());
        buffer.extend(self.unread.drain(..n));
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
        n
    }

    /// Receives into an empty buffer; `None`: recalled before anything came. What had been given
    /// back, and TLS, is never recalled: where [`Reader::is_recallable`] says no, wait for
    /// [`Reader::readable`] first.
    pub(crate) async fn recv_recallable(
        &mut self,
        buffer: Vec<u8>,
        recalls: &Recalls,
    ) -> (Option<io::Result<usize>>, Vec<u8>) {
        let tcp = match &mut self.source {
            Source::Tcp(tcp, None) if self.unread.is_empty() => tcp,
            _ => {
                let (received, buffer) = self.recv(buffer).await;
                return (Some(received), buffer);
            }
        };
        let (handle, waiting) = recalls.enter();
        let (received, buffer) = tcp.read_recallable(buffer, handle).await;
        waiting.set(waiting.get() - 1);
        match received {
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => (None, buffer),
            received => (Some(received), buffer),
        }
    }

    /// Receives what is there into the buffer's spare capacity, without waiting: `None` where
    /// nothing is, or only TLS knows. Worth a try where a receive has just filled its buffer.
    pub(crate) fn recv_at_hand(&mut self, buffer: &mut Vec<u8>) -> Option<io::Result<usize>> {
        if !self.unread.is_empty() || buffer.len() == buffer.capacity() {
            return None;
        }
        let tcp = match &self.source {
            Source::Tcp(tcp, None) => tcp,
            Source::Tcp(_, Some(_)) => return None,
            Source::H2(stream) => return stream.recv_at_hand(buffer),
        };
        match socket::try_recv(tcp.fd(), buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            received => Some(received),
        }
    }

    /// Whether receives may wait with a buffer, to be recalled.
    pub(crate) fn is_recallable(&self) -> bool {
        matches!(self.source, Source::Tcp(_, None))
    }

    /// The stream, where this is one of an HTTP/2 connection.
    pub(crate) fn h2(&self) -> Option<&Rc<H2Stream>> {
        match &self.source {
            Source::H2(stream) => Some(stream),
            Source::Tcp(..) => None,
        }
    }

    /// Whether the end of what is received is the end of the message, which may have trailers.
    pub(crate) fn is_message(&self) -> bool {
        self.h2().is_some()
    }

    /// Of a message whose end was received: appends the trailers that may pass, as field lines.
    pub(crate) fn take_trailers(&self, out: &mut Vec<u8>) {
        match &self.source {
            Source::H2(stream) => stream.take_trailers(out),
            Source::Tcp(..) => {}
        }
    }

    /// Gives bytes back: they are what is received next.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.unread.splice(..0, bytes.iter().copied());
    }

    /// Waits until bytes, the end or an error can be received; takes nothing. Over TLS: until
    /// there is something decrypted, so that what follows does not wait.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if !self.unread.is_empty() {
            return Ok(());
        }
        let (tcp, session) = match &self.source {
            Source::Tcp(tcp, session) => (tcp, session),
            Source::H2(stream) => {
                stream.readable().await;
                return Ok(());
            }
        };
        match session {
            None => tcp.readable().await,
            Some(session) => session.readable(tcp).await,
        }
    }
}

impl Writer {
    /// The stream, where this is one of an HTTP/2 connection.
    pub(crate) fn h2(&self) -> Option<&Rc<H2Stream>> {
        match self {
            Self::H2(stream) => Some(stream),
            Self::Tcp(..) => None,
        }
    }

    /// Says that nothing more will be sent; the peer may go on sending.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        let tcp = match self {
            Self::Tcp(tcp, None) => tcp,
            Self::Tcp(tcp, Some(session)) => {
                session.queue_close();
                session.send(tcp, Vec::new()).await.0?;
                tcp
            }
            Self::H2(stream) => return stream.send(Vec::new(), 0, Some(b"")).await.0,
        };
        // Whatever was sent before was awaited: the kernel has it, and sends it first.
        tcp.stream().shutdown().await
    }

    /// Sends everything.
    pub(crate) async fn send(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.send_message(buffer, 0, None).await
    }

    /// Sends part of a message: `head` bytes of head, written as HTTP/1.1 writes it, then body.
    /// With `end` the message ends here, with these trailers as field lines. Where the message's
    /// framing is in its bytes, they are sent as they are.
    pub(crate) async fn send_message(
        &mut self,
        buffer: Vec<u8>,
        head: usize,
        end: Option<&[u8]>,
    ) -> (io::Result<()>, Vec<u8>) {
        match self {
            Self::Tcp(tcp, None) => send_plain(tcp, buffer).await,
            Self::Tcp(tcp, Some(session)) => session.send(tcp, buffer).await,
            Self::H2(stream) => stream.send(buffer, head, end).await,
        }
    }

    /// An empty buffer to wait with for what this peer is sent. One that has many streams open
    /// gets small ones.
    pub(crate) fn buffer(&self, buffers: &Buffers) -> Vec<u8> {
        match self {
            Self::H2(stream) if stream.is_one_of_many() => Vec::with_capacity(SMALL_BUFFER_BYTES),
            _ => buffers.take(),
        }
    }

    /// Waits until the peer takes more of a message's body, and says how much of it can be sent
    /// without another wait. Others of its streams wait meanwhile: send it, or
    /// [pass](Writer::pass). What is no stream only knows by sending.
    pub(crate) async fn room(&mut self) -> io::Result<usize> {
        match self {
            Self::H2(stream) => stream.room().await,
            Self::Tcp(..) => Ok(usize::MAX),
        }
    }

    /// Nothing is sent into the room that there is: others may.
    pub(crate) fn pass(&self) {
        if let Self::H2(stream) = self {
            stream.leave_queue();
        }
    }

    /// Sends the head of an interim answer.
    pub(crate) async fn send_interim(&mut self, head: Vec<u8>) -> io::Result<()> {
        match self {
            Self::H2(stream) => stream.send_interim(&head),
            Self::Tcp(..) => self.send(head).await.0,
        }
    }
}

/// Sends everything as it is.
pub(super) async fn send_plain(tcp: &Tcp, mut buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
    let mut from = 0;
    while from < buffer.len() {
        let (result, back) = if from == 0 {
            tcp.write(buffer).await
        } else {
            let end = buffer.len();
            let (result, slice) = tcp.write(buffer.slice(from..end)).await;
            (result, slice.into_inner())
        };
        buffer = back;
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buffer),
            Ok(n) => from += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (Err(error), buffer),
        }
    }
    (Ok(()), buffer)
}

#[cfg(test)]
mod tests;
