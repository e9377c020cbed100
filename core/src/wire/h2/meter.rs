// SPDX-License-Identifier: Apache-2.0
//! What a peer's frames ask of us beside what they bring. Whoever speaks HTTP/2 may send frames
//! that cost work and mean nothing (RFC 9113 §10.5), and each of them is valid: only their number
//! tells. So frame headers are followed in the bytes of a connection, both ways, and payloads
//! skipped; a frame that brings nothing is paid from an [`Allowance`] of its kind, which grows with
//! time and with frames that do bring something.

use super::frame::{self, Code};
use crate::limits::{self, Allowance};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Continuation,
    /// DATA without a byte of content that does not end its stream either.
    EmptyData,
    /// Types that we do not know, and those that mean nothing more than once.
    Other,
    Ping,
    Priority,
    /// Streams that the peer resets, and those that we reset for what it did on them or because it
    /// opened too many.
    Reset,
    Settings,
    WindowUpdate,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Continuation,
        Self::EmptyData,
        Self::Other,
        Self::Ping,
        Self::Priority,
        Self::Reset,
        Self::Settings,
        Self::WindowUpdate,
    ];

    fn allowance(self) -> Allowance {
        match self {
            Self::Continuation => limits::H2_CONTINUATIONS,
            Self::EmptyData => limits::H2_EMPTY_DATA,
            Self::Other => limits::H2_OTHER_FRAMES,
            Self::Ping => limits::H2_PINGS,
            Self::Priority => limits::H2_PRIORITIES,
            Self::Reset => limits::H2_RESETS,
            Self::Settings => limits::H2_SETTINGS,
            Self::WindowUpdate => limits::H2_WINDOW_UPDATES,
        }
    }

    /// In logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continuation => "CONTINUATION",
            Self::EmptyData => "empty DATA",
            Self::Other => "other frames",
            Self::Ping => "PING",
            Self::Priority => "PRIORITY",
            Self::Reset => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::WindowUpdate => "WINDOW_UPDATE",
        }
    }
}

/// More than the allowance: the connection ends with ENHANCE_YOUR_CALM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood(pub Kind);

/// Follows one connection.
#[derive(Clone, Debug)]
pub struct FrameMeter {
    role: Role,
    received: Walker,
    sent: Walker,
    accounts: [Account; Kind::ALL.len()],
    /// Frames of either side that brought something.
    useful: u64,
    /// Answers that are complete.
    answers: u64,
    frames: u64,
    /// The peer has begun a head and not ended it.
    in_head: bool,
}

impl FrameMeter {
    /// Before the first byte either way.
    pub fn new(role: Role, now_ms: u64) -> Self {
        // RFC 9113 §3.4: the client's preface comes before its frames.
        const PREFACE_BYTES: u32 = frame::PREFACE.len() as u32;
        let (received, sent) = match role {
            Role::Client => (0, PREFACE_BYTES),
            Role::Server => (PREFACE_BYTES, 0),
        };
        Self {
            role,
            received: Walker::behind(received),
            sent: Walker::behind(sent),
            accounts: Kind::ALL.map(|kind| Account::new(kind.allowance(), now_ms)),
            useful: 0,
            answers: 0,
            frames: 0,
            in_head: false,
        }
    }

    /// Whether the peer has begun a head that more frames must end (RFC 9113 §4.3).
    pub fn is_in_head(&self) -> bool {
        self.in_head
    }

    /// Frames that the peer has begun.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes the next bytes from the peer; where they are cut makes no difference. `now_ms` is any
    /// clock that does not go back. An error is final.
    pub fn received(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        while let Some(frame) = self.received.next(&mut bytes) {
            self.frames += 1;
            if matches!(frame.kind, frame::HEADERS | frame::CONTINUATION) {
                self.in_head = frame.flags & frame::END_HEADERS == 0;
            }
            self.earn(frame, self.role == Role::Client);
            let kind = match frame.kind {
                frame::HEADERS => continue,
                frame::DATA if frame.content() > 0 || frame.ends_stream() => continue,
                frame::DATA => Kind::EmptyData,
                frame::PRIORITY => Kind::Priority,
                frame::RST_STREAM => Kind::Reset,
                frame::SETTINGS => Kind::Settings,
                frame::PING => Kind::Ping,
                frame::WINDOW_UPDATE => Kind::WindowUpdate,
                frame::CONTINUATION => Kind::Continuation,
                _ => Kind::Other,
            };
            self.pay(kind, now_ms)?;
        }
        Ok(())
    }

    /// Takes the next bytes to the peer: what it is sent, it may answer.
    pub fn sent(&mut self, mut bytes: &[u8], now_ms: u64) -> Result<(), Flood> {
        while let Some(frame) = self.sent.next(&mut bytes) {
            self.earn(frame, self.role == Role::Server);
            if frame.kind == frame::RST_STREAM && frame.blames_peer() {
                self.pay(Kind::Reset, now_ms)?;
            }
        }
        Ok(())
    }

    fn earn(&mut self, frame: Frame, from_server: bool) {
        self.useful += u64::from(frame.kind == frame::HEADERS || frame.content() > 0);
        self.answers += u64::from(from_server && frame.ends_stream());
    }

    fn pay(&mut self, kind: Kind, now_ms: u64) -> Result<(), Flood> {
        // A request whose stream is reset at once has brought nothing: only answers pay for resets.
        let earning = if kind == Kind::Reset { self.answers } else { self.useful };
        let account = &mut self.accounts[kind as usize];
        if account.pay(kind.allowance(), earning, now_ms) { Ok(()) } else { Err(Flood(kind)) }
    }
}

/// What is left of an allowance.
#[derive(Clone, Copy, Debug)]
struct Account {
    /// In thousandths of a frame: what a millisecond brings is a whole number.
    left: u64,
    /// Until when time has been paid out, and of how many frames what they earned.
    paid_ms: u64,
    paid_frames: u64,
}

impl Account {
    const FRAME: u64 = 1000;

    fn new(allowance: Allowance, now_ms: u64) -> Self {
        let left = u64::from(allowance.burst) * Self::FRAME;
        Self { left, paid_ms: now_ms, paid_frames: 0 }
    }

    /// Takes one frame out, or says that there is none. `earning`: how many frames have earned
    /// some by now.
    fn pay(&mut self, allowance: Allowance, earning: u64, now_ms: u64) -> bool {
        let full = u64::from(allowance.burst) * Self::FRAME;
        if self.left < full {
            let passed = now_ms.saturating_sub(self.paid_ms);
            let more = passed.saturating_mul(u64::from(allowance.per_second));
            self.left = self.left.saturating_add(more).min(full);
        }
        self.paid_ms = self.paid_ms.max(now_ms);
        let earned = (earning - self.paid_frames).saturating_mul(u64::from(allowance.earned));
        let most = u64::from(limits::H2_EARNED_MAX) * Self::FRAME;
        self.left = self.left.saturating_add(earned.saturating_mul(Self::FRAME)).min(most);
        self.paid_frames = earning;
        match self.left.checked_sub(Self::FRAME) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// The most of a payload that is looked at: an error code.
const LOOK_BYTES: usize = 4;

/// A frame as far as it is looked at.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    len: u32,
    /// Its payload's first bytes, where [`Walker::wanted`] asks for them; then zeros.
    start: [u8; LOOK_BYTES],
}

impl Frame {
    fn ends_stream(self) -> bool {
        matches!(self.kind, frame::DATA | frame::HEADERS) && self.flags & frame::END_STREAM != 0
    }

    /// Bytes of content in DATA, without its padding.
    fn content(self) -> u32 {
        match self.kind {
            frame::DATA if self.flags & frame::PADDED != 0 => {
                self.len.saturating_sub(1 + u32::from(self.start[0]))
            }
            frame::DATA => self.len,
            _ => 0,
        }
    }

    /// Of RST_STREAM: neither something of ours failed nor did we lose interest.
    fn blames_peer(self) -> bool {
        let code = Code(u32::from_be_bytes(self.start));
        !matches!(code, Code::NO_ERROR | Code::INTERNAL_ERROR | Code::CANCEL)
    }
}

/// Finds frames in one direction's bytes.
#[derive(Clone, Debug)]
struct Walker {
    /// Bytes of the payload that are still to come.
    skip: u32,
    /// A frame's start, as far as it is there.
    seen: [u8; frame::HEADER_BYTES + LOOK_BYTES],
    seen_len: u8,
}

impl Walker {
    fn behind(skip: u32) -> Self {
        Self { skip, seen: [0; _], seen_len: 0 }
    }

    /// The next frame whose start is whole; nothing once all bytes are taken.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = bytes.len().min(self.skip as usize);
        *bytes = &bytes[skipped..];
        self.skip -= skipped as u32;
        // At most twice: for the header, then for what of the payload is wanted.
        loop {
            let seen = usize::from(self.seen_len);
            let wanted = self.wanted();
            let (start, rest) = bytes.split_at(bytes.len().min(wanted - seen));
            self.seen[seen..seen + start.len()].copy_from_slice(start);
            self.seen_len += start.len() as u8;
            *bytes = rest;
            if usize::from(self.seen_len) < wanted {
                return None;
            }
            if self.wanted() == wanted {
                break;
            }
        }
        let [a, b, c, kind, flags, .., d, e, f, g] = self.seen;
        let frame =
            Frame { kind, flags, len: u32::from_be_bytes([0, a, b, c]), start: [d, e, f, g] };
        self.skip = frame.len - (u32::from(self.seen_len) - frame::HEADER_BYTES as u32);
        (self.seen, self.seen_len) = ([0; _], 0);
        Some(frame)
    }

    /// Bytes of a frame's start that are looked at, as far as is known by now.
    fn wanted(&self) -> usize {
        let [a, b, c, kind, flags, ..] = self.seen;
        let look = match kind {
            _ if usize::from(self.seen_len) < frame::HEADER_BYTES => 0,
            frame::RST_STREAM => LOOK_BYTES,
            frame::DATA if flags & frame::PADDED != 0 => 1,
            _ => 0,
        };
        frame::HEADER_BYTES + look.min(u32::from_be_bytes([0, a, b, c]) as usize)
    }
}

#[cfg(test)]
mod tests;
