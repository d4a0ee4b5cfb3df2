//! A neighbour at work: a session of its own that does one short pass after the other for as long as a burst beside it takes.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
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
    /// Bursts beside which it has worked.
    bursts: u64,
}

impl<S: Seat> Tenant<S> {
    /// One that has done nothing yet.
    pub fn new(seat: S, uses_disk: bool, rate: Option<u64>) -> Self {
        Self { seat, uses_disk, rate, next: 0, bursts: 0 }
    }

    /// Works while `burst` does, from a pass before it begins until it is over, and says how much that was.
    ///
    /// # Errors
    /// When the neighbour fails, or does nothing; the burst is worth nothing then.
    pub fn beside<T>(&mut self, burst: impl FnOnce() -> T) -> (T, Result<Beside, SessionError>) {
        let (end, over) = channel();
        let (begun, first) = sync_channel(1);
        std::thread::scope(|scope| {
            let work = move || self.work(&over, begun);
            let thread = Builder::new().spawn_scoped(scope, work);
            // Its first pass is behind it, or it has failed.
            let _ = first.recv();
            let done = burst();
            drop::<Sender<()>>(end);
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

    fn work(&mut self, over: &Receiver<()>, begun: SyncSender<()>) -> Result<Beside, SessionError> {
        let (began, mut operations) = (Instant::now(), 0);
        let arrivals = self.rate.map(|rate| Arrivals { rate: rate as f64, phase: phase(self.bursts) });
        self.bursts += 1;
        loop {
            let (due, wait) = match &arrivals {
                None => (1 << 20, Duration::ZERO),
                Some(arrivals) => arrivals.after(began.elapsed(), operations),
            };
            // The burst begins after a pass, whether or not anything has arrived in it.
            let ready = PASS.saturating_sub(began.elapsed());
            if ready.is_zero() || (arrivals.is_none() && operations > 0) {
                // Nobody waits for the second.
                let _ = begun.try_send(());
            }
            let wait = if ready.is_zero() { wait } else { wait.min(ready) };
            if !matches!(over.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                break;
            }
            if due > 0 {
                operations += self.pass(due)?;
            }
        }
        let ns = began.elapsed().as_nanos() as u64;
        let arrived = self.rate.is_none_or(|rate| rate as f64 * ns as f64 / 1e9 > MANY);
        if operations == 0 && arrived {
            return Err(SessionError::Refused("it did nothing".into()));
        }
        Ok(Beside { operations, ns, cpu_ns: None })
    }

    /// So many operations, or as many of them as there is time for.
    fn pass(&mut self, operations: u64) -> Result<u64, SessionError> {
        let limit_ns = PASS.as_nanos() as u64;
        let plan = BurstPlan { operations, warmup: 0, batch: 1, limit_ns, number: self.next };
        self.next += 1;
        let (sample, took) = self.seat.burst(plan, PATIENCE)?;
        let sample = believe(sample, &plan, took)?;
        Ok(sample.operations + sample.warmup_operations)
    }
}

/// Operations that arrive evenly.
struct Arrivals {
    /// A second.
    rate: f64,
    /// The first, as a share of the time between two.
    phase: f64,
}

impl Arrivals {
    /// How many are due and not done, and where there is none how long it is to the next.
    fn after(&self, elapsed: Duration, done: u64) -> (u64, Duration) {
        let arrived = (elapsed.as_secs_f64() * self.rate + 1.0 - self.phase).floor() as u64;
        let next = (done as f64 + self.phase) / self.rate;
        match arrived.saturating_sub(done) {
            0 => (0, Duration::from_secs_f64((next - elapsed.as_secs_f64()).max(0.0))),
            due => (due, Duration::ZERO),
        }
    }
}

/// Where the first of a row of arrivals lies: elsewhere for each number, and in the mean of some in the middle (multiples of the golden
/// section, taken modulo 1), so that rare arrivals meet their share of bursts.
fn phase(number: u64) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    ((number + 1) as f64 * GOLDEN).fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_rate_and_rare_ones_meet_their_share() {
        let row = Arrivals { rate: 100.0, phase: 0.25 };
        assert_eq!(row.after(Duration::ZERO, 0), (0, Duration::from_micros(2500)));
        assert_eq!(row.after(Duration::from_millis(3), 0).0, 1);
        assert_eq!(row.after(Duration::from_millis(3), 1), (0, Duration::from_micros(9500)));
        assert_eq!(row.after(Duration::from_secs(1), 10).0, 90, "what is overdue is done together");
        // Of a second between two, bursts of 100 ms meet a tenth.
        let met = (0..200)
            .filter(|number| Arrivals { rate: 1.0, phase: phase(*number) }.after(Duration::from_millis(100), 0).0 > 0);
        assert!((19..=21).contains(&met.count()));
    }
}
