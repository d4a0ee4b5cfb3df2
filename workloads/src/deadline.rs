//! A deadline for operations that may never end, kept by a thread of its own: what runs too long is ended from there, and whoever
//! waits for it goes on. Beside what is timed it costs two stores to memory an operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Shared {
    /// What runs; 0 where nothing does.
    running: AtomicI32,
    /// Grows with every operation.
    number: AtomicU64,
    /// The operation that was ended.
    ended: AtomicU64,
    over: AtomicBool,
}

/// Watches over one operation at a time.
pub(crate) struct Deadline {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Deadline {
    /// One after which `end` is called, with what [`Deadline::begin`] was told.
    pub fn start(timeout: Duration, end: impl Fn(i32) + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let watch = move || watch(&watched, timeout, end);
        let thread = std::thread::Builder::new().name("deadline".into()).spawn(watch)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// An operation runs from now on; what it is called isn't 0.
    #[inline]
    pub fn begin(&self, what: i32) {
        self.shared.number.fetch_add(1, Ordering::Relaxed);
        self.shared.running.store(what, Ordering::Release);
    }

    /// It has ended.
    #[inline]
    pub fn end(&self) {
        self.shared.running.store(0, Ordering::Release);
    }

    /// Whether the operation that has just ended took too long and was ended from here.
    pub fn passed(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire) == self.shared.number.load(Ordering::Relaxed)
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

/// Wakes seldom, since it does so beside what is timed: an operation may run an eighth longer than it should.
fn watch(shared: &Shared, timeout: Duration, end: impl Fn(i32)) {
    let mut seen = (0, Instant::now());
    while !shared.over.load(Ordering::Acquire) {
        std::thread::park_timeout((timeout / 8).min(Duration::from_millis(500)));
        let number = shared.number.load(Ordering::Relaxed);
        let running = shared.running.load(Ordering::Acquire);
        if number != seen.0 || running == 0 {
            seen = (number, Instant::now());
        } else if seen.1.elapsed() >= timeout {
            shared.ended.store(number, Ordering::Release);
            end(running);
        }
    }
}
