//! The seam between a run and the world: a seat is a live environment, a site the host that starts and watches them.
//!
//! A run knows these two traits and nothing of processes, cgroups or clocks. Beside the real host there is a scripted one in the
//! tests, where every environment fails in the step that it is told to fail in and no time passes.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use runners::session::{Session, SessionError};
use workloads::evidence::{ClockFit, Evidence, Idle};
use workloads::parcel::Parcel;
use workloads::protocol::{BurstPlan, Hello, Identity, Sample, Task};
use workloads::{Check, PeerAddress, Resource};

/// Facts of a prepared workload by name: PRAGMAs read back, residency, ...
pub type Facts = BTreeMap<String, String>;

/// One live environment, asked one thing after the other; dropped, it ends.
///
/// The errors are those of [`Session`]: after a fatal one the seat answers nothing any more.
pub trait Seat: Send {
    /// Asks who is there, and that it is the binary that the harness runs.
    fn identify(&mut self, deadline: Duration) -> Result<Identity, SessionError>;
    /// Exchanges stamps.
    fn ping(&mut self, deadline: Duration) -> Result<(), SessionError>;
    /// Sends files of the host for the workload that is prepared next.
    fn bring(&mut self, parcel: &Parcel, deadline: Duration) -> Result<(), SessionError>;
    /// Makes a workload ready.
    fn prepare(&mut self, task: Task, deadline: Duration) -> Result<Facts, SessionError>;
    /// One timed pass, and how long we waited for its answer.
    fn burst(&mut self, plan: BurstPlan, deadline: Duration) -> Result<(Sample, Duration), SessionError>;
    /// How much later than asked for the harness woke up during the last burst.
    fn overslept(&self) -> Duration;
    /// Checks what the bursts left behind.
    fn verify(&mut self, deadline: Duration) -> Result<(Check, Facts), SessionError>;
    /// Ends the prepared workload and removes its files.
    fn release(&mut self, deadline: Duration) -> Result<(), SessionError>;
    /// How the environment's clock runs against ours, from all exchanges so far.
    fn clock(&self) -> ClockFit;
}

/// An environment that is up, with the figures of its start.
pub struct Started<S> {
    /// The environment.
    pub seat: S,
    /// The peer as seen from inside, where there is one.
    pub peer: Option<PeerAddress>,
    /// From the first that is made for it to the agent's first frame.
    pub took: Duration,
    /// The agent's first words.
    pub hello: Hello,
    /// Memory held when idle, bytes.
    pub memory_bytes: Option<u64>,
}

/// The host under a run. Environments go by their number in the plan.
pub trait Site {
    /// A live environment of this host.
    type Seat: Seat;

    /// Whether an environment can be started here at all.
    fn available(&self, environment: usize) -> bool;
    /// Starts an environment that is available.
    ///
    /// # Errors
    /// When it can't be launched or does not answer in time.
    fn start(&mut self, environment: usize) -> anyhow::Result<Started<Self::Seat>>;
    /// Ends an environment, and says how long that took: until nothing of it was left.
    fn stop(&mut self, seat: Self::Seat) -> Duration {
        let told = Instant::now();
        drop(seat);
        told.elapsed()
    }
    /// Hears what an agent found around itself, before anything is measured there.
    fn recognise(&mut self, environment: usize, identity: &Identity);
    /// Median of the host's own small operations, nanoseconds.
    ///
    /// # Errors
    /// When one of them fails.
    fn canary(&mut self, resource: Resource) -> anyhow::Result<u64>;
    /// How often the disk under each environment's data is flushed while nothing of ours runs; of those that are watched.
    fn idle_flushes(&self) -> Vec<Option<Idle>>;
    /// Lets an environment do its burst, and says what the host saw meanwhile.
    fn watch<T>(&self, environment: usize, burst: impl FnOnce() -> T) -> (T, Evidence);
    /// Does steps of several environments side by side, a few at a time, and gives their results in the order of the steps. Never
    /// while anything is timed.
    fn side_by_side<T: Send, F: FnOnce() -> T + Send>(&self, steps: Vec<F>) -> Vec<T> {
        side_by_side(steps)
    }
    /// Whether somebody wants the run to end.
    fn interrupted(&self) -> bool;
    /// How long the run has taken so far.
    fn elapsed(&self) -> Duration;
}

/// Steps at a time. Environments share the CPUs that work is done on: what is won is the time in which they wait for a disk, a
/// clock to settle or an answer, and a few are enough for that.
pub const AT_A_TIME: usize = 4;

fn side_by_side<T: Send, F: FnOnce() -> T + Send>(steps: Vec<F>) -> Vec<T> {
    let count = steps.len();
    let waiting = Mutex::new(steps.into_iter().enumerate());
    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(take).map(|(at, step)| (at, step())).collect::<Vec<_>>();
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let thread = |_| Builder::new().spawn_scoped(scope, work);
        // Under a limit on threads there may be fewer, or none: then it is done here, one after the other.
        let threads: Vec<_> = (0..AT_A_TIME.min(count)).map_while(|at| thread(at).ok()).collect();
        let here = if threads.is_empty() { work() } else { Vec::new() };
        here.into_iter()
            .chain(threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|panic| resume_unwind(panic))))
            .collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

impl Seat for Session {
    fn identify(&mut self, deadline: Duration) -> Result<Identity, SessionError> {
        Session::identify(self, deadline)
    }

    fn ping(&mut self, deadline: Duration) -> Result<(), SessionError> {
        Session::ping(self, deadline)
    }

    fn bring(&mut self, parcel: &Parcel, deadline: Duration) -> Result<(), SessionError> {
        Session::bring(self, parcel, deadline)
    }

    fn prepare(&mut self, task: Task, deadline: Duration) -> Result<Facts, SessionError> {
        Session::prepare(self, task, deadline)
    }

    fn burst(&mut self, plan: BurstPlan, deadline: Duration) -> Result<(Sample, Duration), SessionError> {
        let asked = Instant::now();
        let sample = Session::burst(self, plan, deadline)?;
        Ok((sample, asked.elapsed()))
    }

    fn overslept(&self) -> Duration {
        self.overslept
    }

    fn verify(&mut self, deadline: Duration) -> Result<(Check, Facts), SessionError> {
        Session::verify(self, deadline)
    }

    fn release(&mut self, deadline: Duration) -> Result<(), SessionError> {
        Session::release(self, deadline)
    }

    fn clock(&self) -> ClockFit {
        Session::clock(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn steps_side_by_side_run_together_and_answer_in_their_order() {
        let barrier = Barrier::new(AT_A_TIME);
        // Each waits for others: done one after the other, none would end.
        let steps: Vec<_> = (0..3 * AT_A_TIME)
            .map(|step| {
                let barrier = &barrier;
                move || {
                    barrier.wait();
                    step
                }
            })
            .collect();
        assert_eq!(side_by_side(steps), (0..3 * AT_A_TIME).collect::<Vec<_>>());
        assert_eq!(side_by_side(Vec::<fn() -> u8>::new()), [0; 0]);
    }
}
