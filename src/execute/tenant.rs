//! A neighbour at work: a session of its own that does one short pass after the other for as long as a burst beside it takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, ScopedJoinHandle};
use std::time::{Duration, Instant};

use runners::session::SessionError;
use workloads::evidence::Beside;
use workloads::protocol::BurstPlan;

use super::believe::believe;
use super::seat::Seat;
use crate::plan::PATIENCE;

/// How long a pass is: an agent is silent while it works, so a neighbour ends within this after the burst. Between two passes lie two
/// frames, a hundredth of it.
pub const PASS: Duration = Duration::from_millis(20);

/// Where so many operations arrive at random in the mean, none at all is no chance.
const MANY: f64 = 12.0;

/// A neighbour that is up, with its workload ready.
pub struct Tenant<S> {
    seat: S,
    /// Whether the disk is what it works on.
    pub uses_disk: bool,
    /// Operations that arrive a second; `None` where one follows the other.
    rate: Option<u64>,
    /// The number of its next pass: each does other work.
    next: u64,
}

impl<S: Seat> Tenant<S> {
    /// One that has done nothing yet.
    pub fn new(seat: S, uses_disk: bool, rate: Option<u64>) -> Self {
        Self { seat, uses_disk, rate, next: 0 }
    }

    /// Works while `burst` does, from before it begins until it is over, and says how much that was.
    ///
    /// # Errors
    /// When the neighbour fails, or does nothing; the burst is worth nothing then.
    pub fn beside<T>(&mut self, burst: impl FnOnce() -> T) -> (T, Result<Beside, SessionError>) {
        let over = AtomicBool::new(false);
        let (begun, first) = sync_channel(1);
        std::thread::scope(|scope| {
            let work = || self.work(&over, begun);
            let thread = Builder::new().spawn_scoped(scope, work);
            // Its first pass is behind it, or it has failed.
            let _ = first.recv();
            let done = burst();
            over.store(true, Ordering::Relaxed);
            let join =
                |thread: ScopedJoinHandle<_>| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let none = |e| Err(SessionError::Refused(format!("no thread for it can be made: {e}")));
            (done, thread.map_or_else(none, join))
        })
    }

    /// Removes its files before it is ended.
    pub fn release(&mut self, deadline: Duration) {
        if let Err(e) = self.seat.release(deadline) {
            log::warn!("a neighbour could not be released: {e}");
        }
    }

    fn work(&mut self, over: &AtomicBool, begun: SyncSender<()>) -> Result<Beside, SessionError> {
        let (began, mut operations) = (Instant::now(), 0);
        while !over.load(Ordering::Relaxed) {
            operations += self.pass()?;
            // Nobody waits for the second.
            let _ = begun.try_send(());
        }
        let ns = began.elapsed().as_nanos() as u64;
        let arrived = self.rate.is_none_or(|rate| rate as f64 * ns as f64 / 1e9 > MANY);
        if operations == 0 && arrived {
            return Err(SessionError::Refused("it did nothing".into()));
        }
        Ok(Beside { operations, ns, cpu_ns: None })
    }

    fn pass(&mut self) -> Result<u64, SessionError> {
        let limit_ns = PASS.as_nanos() as u64;
        let plan = BurstPlan { operations: 1 << 20, warmup: 0, batch: 1, limit_ns, number: self.next };
        self.next += 1;
        let (sample, took) = self.seat.burst(plan, PATIENCE)?;
        let sample = believe(sample, &plan, took)?;
        Ok(sample.operations + sample.warmup_operations)
    }
}
