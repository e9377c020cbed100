// SPDX-License-Identifier: Apache-2.0
//! A TCP connection as two halves that read and write whole owned buffers, with one deadline.
//!
//! Invariant: a read or write once started is awaited to its end. What must not wait is made to
//! end by shutting the socket down ([`Timer`]), never by dropping the future.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use monoio::buf::{IoBuf, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;

use super::timer::{Timer, Timers};

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Reader {
    tcp: OwnedReadHalf<TcpStream>,
    /// Received and given back: comes first.
    unread: Vec<u8>,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct Writer(OwnedWriteHalf<TcpStream>);

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) timer: Rc<Timer>,
    timers: Rc<Timers>,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, timers: &Rc<Timers>) -> Self {
        // Heads and bodies leave in as few writes as possible already; delaying them helps nobody.
        let _ = tcp.set_nodelay(true);
        let timer = timers.timer(tcp.as_raw_fd());
        let (reader, writer) = tcp.into_split();
        let reader = Reader { tcp: reader, unread: Vec::new() };
        Self { reader, writer: Writer(writer), timer, timers: timers.clone() }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.reader.tcp.local_addr().ok()
    }
}

impl Stream {
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
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.timers.release(&self.timer);
    }
}

impl Reader {
    /// Receives into the buffer's spare capacity, which must not be empty. 0 is the end.
    pub(crate) async fn recv(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        debug_assert!(buffer.capacity() > buffer.len());
        if !self.unread.is_empty() {
            let n = self.unread.len().min(buffer.capacity() - buffer.len());
            buffer.extend(self.unread.drain(..n));
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            return (Ok(n), buffer);
        }
        if buffer.is_empty() {
            return self.tcp.read(buffer).await;
        }
        let (at, end) = (buffer.len(), buffer.capacity());
        let (result, slice) = self.tcp.read(SliceMut::new(buffer, at, end)).await;
        (result, slice.into_inner())
    }

    /// Gives bytes back: they are what is received next.
    #[allow(dead_code, reason = "for what a listener's stack looks at first")]
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.unread.splice(..0, bytes.iter().copied());
    }

    /// Waits until bytes, the end or an error can be received; takes nothing.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if !self.unread.is_empty() {
            return Ok(());
        }
        // SAFETY: monoio's halves share the stream through this cell, and `TcpStream: Split` says
        // that reads and writes of the two halves do not touch each other; `readable` is a read.
        let tcp = unsafe { &*self.tcp.0.get() };
        tcp.readable(false).await
    }
}

impl Writer {
    /// Says that nothing more will be sent; the peer may go on sending.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        // Whatever was sent before was awaited: the kernel has it, and sends it first.
        self.0.shutdown().await
    }

    /// Sends everything from `from` on.
    pub(crate) async fn send(
        &mut self,
        mut buffer: Vec<u8>,
        mut from: usize,
    ) -> (io::Result<()>, Vec<u8>) {
        while from < buffer.len() {
            let (result, back) = if from == 0 {
                self.0.write(buffer).await
            } else {
                let end = buffer.len();
                let (result, slice) = self.0.write(buffer.slice(from..end)).await;
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
}
