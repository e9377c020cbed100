// SPDX-License-Identifier: Apache-2.0
//! A relay of bytes, one upstream connection per client: what a proxy must at least cost on this
//! machine. It reads no HTTP.
//! Invariant: bytes of one direction are sent one buffer at a time, in the order received.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::ring::{Completion, Op, Ring};

const LISTENER: u32 = u32::MAX;

/// One end of a pair. Its partner's slot is its own with the lowest bit flipped.
struct End {
    socket: OwnedFd,
    /// Received by the partner, to be sent here; the front one is in flight.
    out: VecDeque<(u16, usize)>,
    receiving: bool,
    /// Out of buffers: receives again when one is given back.
    starved: bool,
    closing: bool,
}

/// Relays until the process ends.
pub(crate) fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).context("binding the relay")?;
    let mut relay =
        Relay { ring: Ring::open()?, ends: Vec::new(), free: Vec::new(), starved: Vec::new() };
    relay.ring.accept(listener.as_raw_fd(), LISTENER);
    let mut done = Vec::new();
    loop {
        relay.ring.turn(Duration::from_secs(1), &mut done)?;
        for completion in done.drain(..) {
            match completion.op {
                Op::Accept => {
                    relay.accepted(completion, upstream)?;
                    if !completion.more {
                        relay.ring.accept(listener.as_raw_fd(), LISTENER);
                    }
                }
                Op::Receive => relay.received(completion),
                Op::Send => relay.sent(completion),
            }
        }
    }
}

struct Relay {
    ring: Ring,
    ends: Vec<Option<End>>,
    /// Even slots of pairs that are gone.
    free: Vec<u32>,
    starved: Vec<u32>,
}

impl Relay {
    fn accepted(&mut self, completion: Completion, upstream: SocketAddr) -> Result<()> {
        if completion.result < 0 {
            return Err(std::io::Error::from_raw_os_error(-completion.result)).context("accepting");
        }
        // SAFETY: the kernel just made this descriptor for us and nobody else has it.
        let client = TcpStream::from(unsafe { OwnedFd::from_raw_fd(completion.result) });
        let Ok(upstream) = TcpStream::connect(upstream) else { return Ok(()) };
        let first = self.free.pop().unwrap_or_else(|| {
            self.ends.extend([None, None]);
            self.ends.len() as u32 - 2
        });
        for (slot, socket) in [(first, client), (first + 1, upstream)] {
            socket.set_nodelay(true)?;
            self.ring.receive(socket.as_raw_fd(), slot);
            self.ends[slot as usize] = Some(End {
                socket: socket.into(),
                out: VecDeque::new(),
                receiving: true,
                starved: false,
                closing: false,
            });
        }
        Ok(())
    }

    fn received(&mut self, completion: Completion) {
        let slot = completion.slot;
        if let (Some(buffer), Ok(len)) = (completion.buffer, usize::try_from(completion.result)) {
            match self.ends[(slot ^ 1) as usize].as_mut() {
                Some(partner) if len > 0 && !partner.closing => {
                    partner.out.push_back((buffer, len));
                    if partner.out.len() == 1 {
                        self.ring.send_buffer(partner.socket.as_raw_fd(), slot ^ 1, buffer, len);
                    }
                }
                _ => self.give_back(buffer),
            }
        }
        if completion.more {
            return;
        }
        let Some(end) = self.ends[slot as usize].as_mut() else { return };
        end.receiving = false;
        match completion.result {
            1.. if !end.closing => {
                end.receiving = true;
                self.ring.receive(end.socket.as_raw_fd(), slot);
            }
            result if result == -libc::ENOBUFS && !end.closing => {
                end.starved = true;
                self.starved.push(slot);
            }
            _ => self.close(slot),
        }
    }

    fn sent(&mut self, completion: Completion) {
        let slot = completion.slot;
        let Some(end) = self.ends[slot as usize].as_mut() else { return };
        let Some((buffer, _)) = end.out.pop_front() else { return };
        if completion.result < 0 || end.closing {
            self.give_back(buffer);
            return self.close(slot);
        }
        if let Some(&(next, len)) = end.out.front() {
            self.ring.send_buffer(end.socket.as_raw_fd(), slot, next, len);
        }
        self.give_back(buffer);
    }

    fn give_back(&mut self, buffer: u16) {
        self.ring.give_back(buffer);
        for slot in std::mem::take(&mut self.starved) {
            if let Some(end) = self.ends[slot as usize].as_mut().filter(|end| end.starved) {
                end.starved = false;
                end.receiving = true;
                self.ring.receive(end.socket.as_raw_fd(), slot);
            }
        }
    }

    /// Ends both sides; the pair is gone once nothing of it is in flight.
    fn close(&mut self, slot: u32) {
        for slot in [slot, slot ^ 1] {
            let Some(end) = self.ends[slot as usize].as_mut() else { continue };
            end.starved = false;
            if !end.closing {
                end.closing = true;
                // SAFETY: a plain system call on a descriptor that the end owns.
                unsafe { libc::shutdown(end.socket.as_raw_fd(), libc::SHUT_RDWR) };
                let waiting = end.out.split_off(end.out.len().min(1));
                for (buffer, _) in waiting {
                    self.give_back(buffer);
                }
            }
        }
        let idle =
            |end: &Option<End>| end.as_ref().is_none_or(|end| !end.receiving && end.out.is_empty());
        let first = (slot & !1) as usize;
        if idle(&self.ends[first]) && idle(&self.ends[first + 1]) {
            self.ends[first] = None;
            self.ends[first + 1] = None;
            self.free.push(first as u32);
        }
    }
}
