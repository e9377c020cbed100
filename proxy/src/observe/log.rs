// SPDX-License-Identifier: Apache-2.0
//! Access-log lines: written by a worker into a block, handed over whole, printed by one thread.
//! A reader that does not keep up costs lines, counted, and never a request.

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use ringway_core::ir::Settings;
use ringway_core::ir::settings::AccessLog;
use ringway_core::limits::ACCESS_LOG_BYTES_MAX;
use ringway_core::policy::format::{Facts, Format};

/// Bytes of a block; a block is handed over before a line could make it grow beyond.
const BLOCK_BYTES: usize = 16 * 1024;
const BLOCKS_MAX: usize = ACCESS_LOG_BYTES_MAX / BLOCK_BYTES;

/// Which lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogForm {
    Off,
    /// As the Module says; text without a Module.
    #[default]
    Configured,
    /// The default text line, whatever the Module says.
    Text,
    /// The default JSON object.
    Json,
}

/// Blocks between one worker and the log thread.
#[derive(Debug)]
pub(crate) struct LogQueue {
    full: ArrayQueue<Vec<u8>>,
    empty: ArrayQueue<Vec<u8>>,
    /// The thread has taken a block that is not on its way out yet.
    writing: AtomicBool,
    /// The thread, which sleeps while no worker has anything.
    thread: OnceLock<Thread>,
}

impl Default for LogQueue {
    fn default() -> Self {
        Self {
            full: ArrayQueue::new(BLOCKS_MAX),
            empty: ArrayQueue::new(BLOCKS_MAX),
            writing: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }
}

/// One worker's side.
#[derive(Debug)]
pub(crate) struct LogWriter {
    queue: Arc<LogQueue>,
    on: bool,
    /// Instead of what the Module says.
    instead: Option<AccessLog>,
    block: RefCell<Vec<u8>>,
}

impl LogWriter {
    pub(crate) fn new(queue: Arc<LogQueue>, form: LogForm) -> Self {
        let instead = match form {
            LogForm::Off | LogForm::Configured => None,
            LogForm::Text => Some(AccessLog::Text(Format::access_log_text())),
            LogForm::Json => Some(AccessLog::json()),
        };
        let block = RefCell::new(Vec::with_capacity(BLOCK_BYTES));
        Self { queue, on: form != LogForm::Off, instead, block }
    }

    /// Whether lines are wanted at all.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Writes one exchange's line. False: it was dropped for want of room.
    #[must_use]
    pub(crate) fn write(&self, settings: &Settings, facts: &Facts<'_>) -> bool {
        let mut block = self.block.borrow_mut();
        let before = block.len();
        self.instead.as_ref().unwrap_or(&settings.access_log).write(facts, &mut block);
        if block.len() > BLOCK_BYTES * 3 / 4 && !self.hand_over(&mut block) {
            block.truncate(before);
            return false;
        }
        true
    }

    /// Hands over what there is; what finds no room waits.
    pub(crate) fn flush(&self) {
        let mut block = self.block.borrow_mut();
        if !block.is_empty() {
            self.hand_over(&mut block);
        }
    }

    fn hand_over(&self, block: &mut Vec<u8>) -> bool {
        let next = self.queue.empty.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES));
        match self.queue.full.push(std::mem::replace(block, next)) {
            Ok(()) => {
                if let Some(thread) = self.queue.thread.get() {
                    thread.unpark();
                }
                true
            }
            Err(back) => {
                let next = std::mem::replace(block, back);
                let _ = self.queue.empty.push(next);
                false
            }
        }
    }
}

/// Starts the thread that prints the blocks of all workers on standard output.
pub(crate) fn spawn(queues: Vec<Arc<LogQueue>>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        for queue in &queues {
            queue.thread.get_or_init(std::thread::current);
        }
        loop {
            let mut idle = true;
            for queue in &queues {
                queue.writing.store(true, Ordering::SeqCst);
                while let Some(mut block) = queue.full.pop() {
                    idle = false;
                    // A closed or full disk or pipe loses lines; traffic goes on.
                    let mut out = std::io::stdout().lock();
                    let _ = out.write_all(&block).and_then(|()| out.flush());
                    drop(out);
                    block.clear();
                    let _ = queue.empty.push(block);
                }
                queue.writing.store(false, Ordering::SeqCst);
            }
            if idle {
                std::thread::park();
            }
        }
    })
}

/// Waits until everything handed over is printed, at most `patience`.
pub(crate) fn settle<'q>(queues: impl Iterator<Item = &'q LogQueue> + Clone, patience: Duration) {
    // Workers hand over what they have ten times a second.
    std::thread::sleep(Duration::from_millis(150).min(patience));
    let deadline = Instant::now() + patience;
    let busy = |q: &LogQueue| !q.full.is_empty() || q.writing.load(Ordering::SeqCst);
    while Instant::now() < deadline && queues.clone().any(busy) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
