// SPDX-License-Identifier: Apache-2.0
//! The runtime of one worker: monoio on io_uring, or on epoll where io_uring is not to be had.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Entries of a worker's ring for submissions and for completions: they are resident, 64 and 16 bytes
/// each. More submissions in a turn cost one more system call, more completions wait in the kernel.
const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 4096;

/// Which driver is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoBackend {
    /// io_uring, else epoll.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    Epoll,
}

/// What epoll is called in [`Chosen`].
pub(crate) const EPOLL: &str = "epoll";

/// Which driver was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// `io_uring` or `epoll`.
    pub name: &'static str,
    pub reason: String,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.reason)
    }
}

/// A worker's runtime, not started.
pub(crate) enum Runtime {
    Ring(monoio::Runtime<TimeDriver<IoUringDriver>>),
    Epoll(monoio::Runtime<TimeDriver<LegacyDriver>>),
}

impl Runtime {
    /// Builds the runtime on the thread that will run it.
    pub(crate) fn build(backend: IoBackend) -> io::Result<(Self, Chosen)> {
        if backend == IoBackend::Epoll {
            return epoll("--io-backend=epoll".to_owned());
        }
        match ring() {
            Ok(ring) => Ok(ring),
            Err(error) if backend == IoBackend::Auto => epoll(format!(
                "io_uring_setup: {error}; a seccomp profile or kernel.io_uring_disabled forbids it"
            )),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn block_on<F: Future>(self, future: F) -> F::Output {
        match self {
            Self::Ring(mut runtime) => runtime.block_on(future),
            Self::Epoll(mut runtime) => runtime.block_on(future),
        }
    }
}

/// Which driver a worker of this process would have, and why: one is built and thrown away.
///
/// # Errors
/// There is none.
pub fn probe(backend: IoBackend) -> io::Result<Chosen> {
    Runtime::build(backend).map(|(_, chosen)| chosen)
}

/// The ladder of ring flags: each step asks less of the kernel.
fn ring() -> io::Result<(Runtime, Chosen)> {
    type Flags = fn(&mut io_uring::Builder);
    let ladder: [(&str, Flags); 3] = [
        ("DEFER_TASKRUN", |b| {
            b.setup_single_issuer().setup_defer_taskrun();
        }),
        ("COOP_TASKRUN", |b| {
            b.setup_single_issuer().setup_coop_taskrun();
        }),
        ("no flags", |_| {}),
    ];
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for (name, flags) in ladder {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_clamp();
        flags(&mut builder);
        let built = RuntimeBuilder::<TimeDriver<IoUringDriver>>::new()
            .uring_builder(builder)
            .with_entries(SUBMISSIONS)
            .build();
        match built {
            Ok(runtime) => {
                let reason = format!("kernel {}, {name}", kernel_release());
                return Ok((Runtime::Ring(runtime), Chosen { name: "io_uring", reason }));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn epoll(reason: String) -> io::Result<(Runtime, Chosen)> {
    let runtime = RuntimeBuilder::<TimeDriver<LegacyDriver>>::new().build()?;
    Ok((Runtime::Epoll(runtime), Chosen { name: EPOLL, reason }))
}

fn kernel_release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// A task of a worker: detached, and a panic in it ends it alone.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static, on_panic: impl FnOnce() + 'static) {
    // Boxed out here: the block below would keep the room that it came in.
    let task = CatchPanic { task: Box::pin(task) };
    monoio::spawn(async move {
        if task.await.is_err() {
            on_panic();
        }
    });
}

/// One part of a task's life, which ends in the next one. No part holds memory for another.
pub(crate) struct Part(Pin<Box<dyn Future<Output = Option<Self>>>>);

impl Part {
    pub(crate) fn new(part: impl Future<Output = Option<Self>> + 'static) -> Self {
        Self(Box::pin(part))
    }
}

/// The same for a task that is a chain of parts.
pub(crate) fn spawn_parts(first: Part, on_panic: impl FnOnce() + 'static) {
    let mut part = CatchPanic { task: first.0 };
    monoio::spawn(async move {
        loop {
            match (&mut part).await {
                Ok(Some(next)) => part.task = next.0,
                Ok(None) => return,
                Err(()) => return on_panic(),
            }
        }
    });
}

struct CatchPanic<T> {
    task: Pin<Box<dyn Future<Output = T>>>,
}

impl<T> Future for CatchPanic<T> {
    type Output = Result<T, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.task.as_mut().poll(cx))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(())),
        }
    }
}

/// Polls two futures until both are done. Neither is dropped early.
pub(crate) async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let mut a = std::pin::pin!(a);
    let mut b = std::pin::pin!(b);
    let (mut a_out, mut b_out) = (None, None);
    std::future::poll_fn(move |cx| {
        if a_out.is_none()
            && let Poll::Ready(out) = a.as_mut().poll(cx)
        {
            a_out = Some(out);
        }
        if b_out.is_none()
            && let Poll::Ready(out) = b.as_mut().poll(cx)
        {
            b_out = Some(out);
        }
        match (a_out.take(), b_out.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (a_out, b_out) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}
