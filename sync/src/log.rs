// SPDX-License-Identifier: Apache-2.0
//! The gateway's own log: one line per event on standard error, as text or JSON.
//!
//! Identical lines within ten seconds are held back and counted, so that a fault that repeats
//! thousands of times costs a few lines. Access logs do not come through here.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    /// Reads Emissary's `AES_LOG_LEVEL` (Go's names); `None` for an unknown name.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "panic" | "fatal" | "error" => Some(Self::Error),
            "warn" | "warning" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" | "trace" => Some(Self::Debug),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `2026-01-02T03:04:05.678Z warn message`, or the message alone on a terminal.
    Text,
    /// `{"ts": …, "level": …, "msg": …}`
    Json,
}

/// Lines that are remembered to find repetitions.
const MEMORY: usize = 32;
/// How long a line holds back its repetitions.
const QUIET: Duration = Duration::from_secs(10);

struct Seen {
    line: String,
    level: Level,
    at: Instant,
    held_back: u64,
}

struct Log {
    style: Style,
    terminal: bool,
    seen: Mutex<VecDeque<Seen>>,
}

static LOG: OnceLock<Log> = OnceLock::new();
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Chooses style and level; the first call wins. Without it: text, `info`.
pub fn start(style: Style, level: Level) {
    LEVEL.store(level as u8, Relaxed);
    LOG.get_or_init(|| Log::new(style));
}

/// Says more from now on, or less.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Relaxed);
}

/// How loud a line must be to be said.
pub fn level() -> Level {
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug];
    levels[usize::from(LEVEL.load(Relaxed)).min(3)]
}

impl Log {
    fn new(style: Style) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { style, terminal, seen: Mutex::new(VecDeque::new()) }
    }

    /// What to print now: possibly nothing, possibly with a count of what was held back.
    fn admit(&self, level: Level, line: &str, now: Instant) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = seen.iter_mut().find(|s| s.level == level && s.line == line) {
            if now.duration_since(entry.at) < QUIET {
                entry.held_back += 1;
                return None;
            }
            entry.at = now;
            return Some(std::mem::take(&mut entry.held_back));
        }
        if seen.len() == MEMORY {
            seen.pop_front();
        }
        seen.push_back(Seen { line: line.to_owned(), level, at: now, held_back: 0 });
        Some(0)
    }

    fn write(&self, level: Level, line: &str, held_back: u64) {
        let out = self.render(level, line, held_back, SystemTime::now());
        // Nothing can be done about a closed standard error.
        let _ = std::io::stderr().lock().write_all(out.as_bytes());
    }

    fn render(&self, level: Level, line: &str, held_back: u64, time: SystemTime) -> String {
        let mut out = String::with_capacity(line.len() + 64);
        match self.style {
            Style::Text => {
                if !self.terminal {
                    let _ = write!(out, "{} ", Timestamp(time));
                    // A problem begins with how bad it is.
                    if !line.starts_with(level.as_str()) {
                        let _ = write!(out, "{} ", level.as_str());
                    }
                } else if level <= Level::Warn && !line.contains('\n') {
                    let _ = write!(out, "{}: ", level.as_str());
                }
                out.push_str(line);
                if held_back > 0 {
                    let _ = write!(out, " (and {held_back} times before)");
                }
            }
            Style::Json => {
                let ts = Timestamp(time).to_string();
                let mut object =
                    serde_json::json!({"ts": ts, "level": level.as_str(), "msg": line});
                if held_back > 0 {
                    object["repeated"] = held_back.into();
                }
                out = object.to_string();
            }
        }
        out.push('\n');
        out
    }
}

/// Says a line that is news even if it reads like the one before.
pub fn event(level: Level, line: &str) {
    if level as u8 <= LEVEL.load(Relaxed) {
        let log = LOG.get_or_init(|| Log::new(Style::Text));
        log.write(level, line, 0);
    }
}

/// Says one line. Line breaks are kept: a problem with its caret is one event.
pub fn say(level: Level, line: &str) {
    if level as u8 > LEVEL.load(Relaxed) {
        return;
    }
    let log = LOG.get_or_init(|| Log::new(Style::Text));
    if let Some(held_back) = log.admit(level, line, Instant::now()) {
        log.write(level, line, held_back);
    }
}

pub fn error(line: impl AsRef<str>) {
    say(Level::Error, line.as_ref());
}

pub fn warn(line: impl AsRef<str>) {
    say(Level::Warn, line.as_ref());
}

pub fn info(line: impl AsRef<str>) {
    say(Level::Info, line.as_ref());
}

pub fn debug(line: impl AsRef<str>) {
    say(Level::Debug, line.as_ref());
}

/// RFC 3339 in UTC with milliseconds.
pub struct Timestamp(pub SystemTime);

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Days to a civil date, in eras of 400 years that begin on the first of March.
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            since.subsec_millis()
        )
    }
}

#[cfg(test)]
mod tests;
