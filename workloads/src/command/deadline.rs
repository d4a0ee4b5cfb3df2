//! A deadline for commands, kept by a thread of its own: what runs too long is killed, and whoever waits for it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

#[derive(Default)]
struct Shared {
    /// The process group that is waited for; 0 where none is.
    group: AtomicI32,
    /// Grows with every command.
    number: AtomicU64,
    /// The command that was killed.
    killed: AtomicU64,
    over: AtomicBool,
}

/// Watches over one command at a time.
pub(super) struct Deadline {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Deadline {
    pub fn start(timeout: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("deadline".into()).spawn(move || watch(&watched, timeout))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A command runs in this group from now on.
    #[inline]
    pub fn begin(&self, group: Pid) {
        self.shared.number.fetch_add(1, Ordering::Relaxed);
        self.shared.group.store(group.as_raw(), Ordering::Release);
    }

    /// It has ended.
    #[inline]
    pub fn end(&self) {
        self.shared.group.store(0, Ordering::Release);
    }

    /// Whether the command that has just ended was killed because it took too long.
    pub fn passed(&self) -> bool {
        self.shared.killed.load(Ordering::Acquire) == self.shared.number.load(Ordering::Relaxed)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                log::warn!("the thread that keeps the deadline panicked");
            }
        }
    }
}

/// Wakes seldom, since it does so beside what is timed: a command may run an eighth longer than it should.
fn watch(shared: &Shared, timeout: Duration) {
    let mut seen = (0, Instant::now());
    while !shared.over.load(Ordering::Acquire) {
        std::thread::park_timeout((timeout / 8).min(Duration::from_millis(500)));
        let number = shared.number.load(Ordering::Relaxed);
        let group = shared.group.load(Ordering::Acquire);
        if number != seen.0 || group == 0 {
            seen = (number, Instant::now());
        } else if seen.1.elapsed() >= timeout {
            shared.killed.store(number, Ordering::Release);
            if let Err(e) = killpg(Pid::from_raw(group), Signal::SIGKILL) {
                log::debug!("kill process group {group}: {e}");
            }
        }
    }
}
