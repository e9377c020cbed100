// SPDX-License-Identifier: Apache-2.0
//! Loopback addresses that nobody else uses: 127.0.0.0/8 is large, so every test process claims
//! blocks of 256 and gives each gateway and back end its own address out of them.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Mutex;

/// The port that a claim is held on, on the block's last address.
const CLAIM_PORT: u16 = 19_999;

/// A block `127.a.b.0/24` that belongs to this process while the value lives.
#[derive(Debug)]
pub struct Block {
    a: u8,
    b: u8,
    next: u8,
    _claim: TcpListener,
}

impl Block {
    /// Claims a free block.
    pub fn claim() -> Self {
        for attempt in 0..1000_u32 {
            let random = RandomState::new().hash_one(attempt).to_le_bytes();
            // 127.0.x.y is left to everybody else.
            let (a, b) = (random[0].max(1), random[1]);
            if let Ok(claim) = TcpListener::bind((Ipv4Addr::new(127, a, b, 254), CLAIM_PORT)) {
                return Self { a, b, next: 1, _claim: claim };
            }
        }
        panic!("no free block of loopback addresses found");
    }

    /// Address number `n` of the block.
    pub fn address(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.a, self.b, n)
    }

    /// `127.a.b.`
    pub fn prefix(&self) -> String {
        format!("127.{}.{}.", self.a, self.b)
    }
}

/// An address that this process has not given out before.
pub fn fresh() -> Ipv4Addr {
    static CURRENT: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let mut blocks = CURRENT.lock().expect("nobody panics with the lock held");
    if blocks.last().is_none_or(|block| block.next == 250) {
        blocks.push(Block::claim());
    }
    let block = blocks.last_mut().expect("one was pushed just now");
    block.next += 1;
    block.address(block.next - 1)
}

/// Switches the loopback interface of a fresh network namespace on.
pub fn raise_loopback() -> std::io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: an all-zero request is a valid one; the name fits with its end.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call, which reads it only.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
