//! How hard a workload is driven: the settings that every workload has beside its own, and the arrivals of open loop.
//!
//! In *closed loop* the next operation begins when the last one has ended, so a slow environment is asked for less. In
//! *open loop* operations arrive by a schedule that doesn't care, and an operation's response time counts from the moment
//! at which it should have begun: what waits behind a stall is charged with the wait (no coordinated omission).

use std::time::Duration;

use rand::Rng as _;
use rand_pcg::Pcg64Mcg;

use crate::content;
use crate::settings::{Setting, SettingError, Settings};

/// Workers of one workload at most.
pub const MAX_JOBS: u64 = 64;

crate::words! {
    /// How the arrivals of open loop are spaced.
    pub enum Spacing {
        /// At random (exponential gaps), as independent users are.
        Poisson = "poisson",
        /// Evenly.
        Linear = "linear",
    }
}

crate::settings! {
    /// How hard a workload is driven: for the agent.
    pub struct Load {
        /// Workers that do the same at the same time, each with files and connections of its own
        jobs: u32 = 1 in 1..=MAX_JOBS,
        /// Operations that arrive per second, over all jobs (open loop);
        /// 0: each begins when the last has ended (closed loop)
        rate: u64 = 0 in 0..=1_000_000,
        /// How the arrivals of open loop are spaced: at random as independent users are, or evenly
        arrivals: Spacing = "poisson",
    }
}

crate::settings! {
    /// How long a burst is: for the harness, which plans it.
    pub struct BurstLength {
        /// Operations of a burst; 0: as many as fill its time
        operations: u64 = 0 in 0..=100_000_000,
        /// Time of a burst on the baseline; 0s: the suite's
        burst: Duration = "0s" in 0..=600_000_000_000,
    }
}

crate::settings! {
    /// Settings of every workload, unless it declares a setting of the same name itself.
    pub struct Common {
        /// For the agent.
        load: Load,
        /// For the harness.
        length: BurstLength,
    }
}

/// All settings of a workload: its `own`, and of [`Common`] those it doesn't declare itself.
pub fn settings(own: &[Setting]) -> Vec<Setting> {
    let common = Common::TABLE.iter().filter(|c| own.iter().all(|o| o.name != c.name));
    own.iter().chain(common).copied().collect()
}

/// Refuses open loop where a job has several operations in flight.
///
/// # Errors
/// With what to set instead.
pub fn check(settings: &Settings, in_flight: u32) -> Result<(), SettingError> {
    match Load::read(settings).rate {
        rate if rate > 0 && in_flight > 1 => Err(SettingError::Conflict(format!(
            "in open loop (rate = {rate}) an operation begins when it arrives, so no job can have several in flight: set depth = 1 \
             and more jobs, or rate = 0"
        ))),
        _ => Ok(()),
    }
}

/// A schedule of arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Operations per second, over all jobs.
    pub rate: u64,
    /// At random (exponential gaps) rather than evenly.
    pub poisson: bool,
    /// Of the random gaps.
    pub seed: u64,
    /// Jobs that share the rate.
    pub jobs: u32,
    /// Which of them this is, from 0.
    pub job: u32,
}

impl Pace {
    /// The schedule of a job; `None` in closed loop.
    pub fn of(load: &Load, seed: u64, job: u32) -> Option<Self> {
        let Load { jobs, rate, arrivals } = *load;
        (rate > 0).then_some(Self { rate, poisson: arrivals == Spacing::Poisson, seed, jobs, job })
    }
}

/// The moments at which operations should begin, nanoseconds from the start of the burst, without an end.
#[derive(Debug)]
pub struct Arrivals {
    /// Mean gap between arrivals of this job, nanoseconds.
    gap_ns: f64,
    /// The last arrival, nanoseconds. Kept in full precision: rounded gaps would add up to another rate.
    at_ns: f64,
    random: Option<Pcg64Mcg>,
}

/// A purpose of random numbers.
const STREAM: u64 = 0x4c4f_4144;

impl Arrivals {
    /// Those of one burst. The same burst of the same job has the same arrivals in every environment.
    pub fn new(pace: Pace, burst: u64) -> Self {
        let gap_ns = 1e9 * f64::from(pace.jobs) / pace.rate as f64;
        let random =
            pace.poisson.then(|| content::generator(pace.seed, STREAM.wrapping_add(u64::from(pace.job)), burst));
        // Evenly spaced jobs take turns: together they are evenly spaced too.
        let at_ns = if pace.poisson { 0.0 } else { gap_ns * f64::from(pace.job) / f64::from(pace.jobs) - gap_ns };
        Self { gap_ns, at_ns, random }
    }

    /// The next arrival.
    #[inline]
    pub fn next_ns(&mut self) -> u64 {
        let gaps = match &mut self.random {
            None => 1.0,
            // Inverse of the exponential distribution, of a uniform number in (0, 1] with 53 bits.
            Some(random) => -(((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64).ln(),
        };
        self.at_ns += gaps * self.gap_ns;
        self.at_ns as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rate: 1000, poisson: true, seed: 7, jobs: 1, job: 0 };

    #[test]
    fn even_arrivals_are_a_gap_apart_and_jobs_take_turns() {
        let mut both: Vec<u64> = Vec::new();
        for job in 0..2 {
            let mut arrivals = Arrivals::new(Pace { poisson: false, jobs: 2, job, ..PACE }, 0);
            both.extend((0..3).map(|_| arrivals.next_ns()));
        }
        both.sort_unstable();
        assert_eq!(both, [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000]);
    }

    #[test]
    fn random_arrivals_keep_the_rate_and_are_exponential() {
        let n = 100_000;
        for (jobs, job) in [(1, 0), (4, 3)] {
            let mut arrivals = Arrivals::new(Pace { jobs, job, ..PACE }, 0);
            let mut last = 0;
            let gaps: Vec<f64> = (0..n)
                .map(|_| {
                    let at = arrivals.next_ns();
                    let gap = at - last;
                    last = at;
                    gap as f64 / 1e6 / f64::from(jobs)
                })
                .collect();
            let mean = gaps.iter().sum::<f64>() / f64::from(n);
            let longer = gaps.iter().filter(|g| **g > 1.0).count() as f64 / f64::from(n);
            assert!((0.99..1.01).contains(&mean), "{mean}");
            // e^-1 of the gaps are longer than the mean one; the standard error is 0.0015.
            assert!((longer - (-1.0_f64).exp()).abs() < 0.006, "{longer}");
        }
    }

    #[test]
    fn a_burst_has_the_same_arrivals_every_time_and_others_than_the_next() {
        let first = |pace, burst| {
            let mut arrivals = Arrivals::new(pace, burst);
            [arrivals.next_ns(), arrivals.next_ns()]
        };
        assert_eq!(first(PACE, 3), first(PACE, 3));
        assert_ne!(first(PACE, 3), first(PACE, 4));
        assert_ne!(first(PACE, 3), first(Pace { jobs: 2, job: 1, ..PACE }, 3));
    }
}
