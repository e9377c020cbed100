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
pub(crate) struct Reader(OwnedReadHalf<TcpStream>);

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
        Self { reader: Reader(reader), writer: Writer(writer), timer, timers: timers.clone() }
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.reader.0.local_addr().ok()
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
    pub(crate) async fn recv(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        debug_assert!(buffer.capacity() > buffer.len());
        if buffer.is_empty() {
            return self.0.read(buffer).await;
        }
        let (at, end) = (buffer.len(), buffer.capacity());
        let (result, slice) = self.0.read(SliceMut::new(buffer, at, end)).await;
        (result, slice.into_inner())
    }

    /// Waits until bytes, the end or an error can be received; takes nothing.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        // SAFETY: monoio's halves share the stream through this cell, and `TcpStream: Split` says
        // that reads and writes of the two halves do not touch each other; `readable` is a read.
        let tcp = unsafe { &*self.0.0.get() };
        tcp.readable(false).await
    }
}

impl Writer {
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
