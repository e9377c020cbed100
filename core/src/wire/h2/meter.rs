// SPDX-License-Identifier: Apache-2.0
//! What a peer's frames ask of us beside what they bring. Whoever speaks HTTP/2 may send frames
//! that cost work and mean nothing (RFC 9113 §10.5), and each of them is valid: only their number
//! tells. So each frame is counted, both ways; one that brings nothing is paid from an
//! [`Allowance`] of its kind, which grows with time and with frames that do bring something.

use super::frame::{self, Code, FrameHeader};
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

/// The accounts of one connection.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    role: Role,
    accounts: [Account; Kind::ALL.len()],
    now_ms: u64,
    /// Frames of either side that brought something.
    useful: u64,
    /// Answers that are complete.
    answers: u64,
    frames: u64,
}

impl Meter {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            accounts: Kind::ALL.map(|kind| Account::new(kind.allowance())),
            now_ms: 0,
            useful: 0,
            answers: 0,
            frames: 0,
        }
    }

    /// By any clock; one that goes back gives nothing.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Frames that the peer has sent.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Counts a frame from the peer, with so many bytes of content.
    pub(super) fn received(&mut self, header: FrameHeader, content: u32) -> Result<(), Flood> {
        self.frames += 1;
        let is_head = header.kind == frame::HEADERS;
        let ends = (is_head || header.kind == frame::DATA) && header.has(frame::END_STREAM);
        self.earn(is_head || content > 0, ends && self.role == Role::Client);
        let kind = match header.kind {
            frame::HEADERS => return Ok(()),
            frame::DATA if content > 0 || ends => return Ok(()),
            frame::DATA => Kind::EmptyData,
            frame::PRIORITY => Kind::Priority,
            frame::RST_STREAM => Kind::Reset,
            frame::SETTINGS => Kind::Settings,
            frame::PING => Kind::Ping,
            frame::WINDOW_UPDATE => Kind::WindowUpdate,
            frame::CONTINUATION => Kind::Continuation,
            _ => Kind::Other,
        };
        self.pay(kind)
    }

    /// Counts a head, or a part of a body, that is sent: the peer may answer it.
    pub(super) fn sent(&mut self, brings: bool, ends: bool) {
        self.earn(brings, ends && self.role == Role::Server);
    }

    /// Counts a stream that we reset, unless something of ours failed or we lost interest.
    pub(super) fn reset(&mut self, code: Code) -> Result<(), Flood> {
        match code {
            Code::NO_ERROR | Code::INTERNAL_ERROR | Code::CANCEL => Ok(()),
            _ => self.pay(Kind::Reset),
        }
    }

    fn earn(&mut self, brings: bool, answers: bool) {
        self.useful += u64::from(brings);
        self.answers += u64::from(answers);
    }

    fn pay(&mut self, kind: Kind) -> Result<(), Flood> {
        // A request whose stream is reset at once has brought nothing: only answers pay for resets.
        let earning = if kind == Kind::Reset { self.answers } else { self.useful };
        let account = &mut self.accounts[kind as usize];
        if account.pay(kind.allowance(), earning, self.now_ms) { Ok(()) } else { Err(Flood(kind)) }
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

    fn new(allowance: Allowance) -> Self {
        let left = u64::from(allowance.burst) * Self::FRAME;
        Self { left, paid_ms: 0, paid_frames: 0 }
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

#[cfg(test)]
mod tests;
