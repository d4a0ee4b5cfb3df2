//! The decisions of a run that follow from numbers alone: order, length of a burst, which rounds are void, what counts as the same work.

use std::time::Duration;

use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use reports::record::{Failure, Step};
use workloads::Check;
use workloads::evidence::Evidence;
use workloads::protocol::{BurstPlan, PILOTS, Sample};

use crate::plan::Length;

/// A canary this many times slower or faster than the others of its block makes its round void.
///
/// The reference is the block and not the run: some disks have regimes that last for minutes (a rate limiter, a cache that
/// is full), and a block that lies in one of them is as fair to all environments as a block in the other. What must not
/// happen is that the regime changes between the environments that are compared.
const CANARY_FACTOR: f64 = 3.0;

/// A round is void when more than this share of the CPU time was stolen in it, over all its bursts.
///
/// Over all, because a single burst can't tell: the kernel counts in ticks of 10 ms, of which a burst of 60 ms on two CPUs has
/// twelve, and on a virtual disk a tick or two belong to the flushes themselves. With the share of each burst alone every round
/// of twenty environments was void, though in none of them more than 3 % was stolen.
const STEAL: f64 = 0.05;

/// So much of a single burst is beyond what ticks explain.
const STEAL_OF_A_BURST: f64 = 0.25;

/// Of the measured operations, done before them and discarded.
const WARMUP: f64 = 0.25;

/// No burst is planned with fewer operations, however slow they are.
const FEWEST: u64 = 8;

/// The burst of the slowest environment has at least so many clock readings, however dear they are.
const FEWEST_READINGS: f64 = 20.0;

/// A purpose of random order. Each draws numbers of its own, so that what one block draws does not depend on what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draw {
    /// The starts of a block.
    Starts,
    /// The rounds of a workload, by its place in the plan.
    Rounds(usize),
}

/// The order in which `of` take their turn: it follows from the seed, the block and the round.
pub fn order(of: &[usize], seed: u64, draw: Draw, block: u32, round: u32) -> Vec<usize> {
    let purpose = match draw {
        Draw::Starts => 1,
        Draw::Rounds(workload) => 2 + workload as u128,
    };
    let mut numbers = Pcg64::new(u128::from(seed) << 64 | u128::from(block) << 32 | u128::from(round), purpose);
    let mut order = of.to_vec();
    order.shuffle(&mut numbers);
    order
}

/// A pass of a third of a burst, each operation with its own clock reading: what bursts are sized from.
///
/// `nth` of the block: passes draw other operations than rounds do, and than each other.
pub fn short_pass(burst: Duration, nth: u64) -> BurstPlan {
    BurstPlan {
        operations: 1 << 20,
        warmup: 4,
        batch: 1,
        limit_ns: (burst / 3).as_nanos() as u64,
        number: PILOTS + nth,
    }
}

/// What the operations of a block are drawn from. Blocks do different work, so that an interval covers the draw too; in each of
/// them all environments do the same.
pub fn seed_of_block(run: u64, block: u32) -> u64 {
    // The first block's is the run's own: what `verify` checks is then what a run begins with.
    if block == 0 { run } else { workloads::content::mix(run ^ workloads::content::mix(u64::from(block))) }
}

/// The burst that a short pass on the baseline asks for: as many operations as fill it. In open loop the schedule says how many.
pub fn plan_burst(pilot: &Sample, length: Length, batch: u32) -> BurstPlan {
    let seconds = pilot.elapsed_ns.max(1) as f64 / 1e9;
    let per_second = length.rate.map_or(pilot.operations.max(1) as f64 / seconds, |rate| rate as f64);
    let fill = || ((length.burst.as_secs_f64() * per_second) as u64).max(FEWEST);
    let operations = length.operations.unwrap_or_else(fill);
    // A burst of whole batches: the last reading would otherwise be the mean of fewer operations.
    let operations = operations.next_multiple_of(u64::from(batch));
    let warmup = ((operations as f64 * WARMUP).ceil() as u64).next_multiple_of(u64::from(batch));
    BurstPlan { operations, warmup, batch, limit_ns: length.burst_max.as_nanos() as u64, number: 0 }
}

/// How many operations share a clock reading: so many that the reading costs at most 1 % in every environment, as long as the
/// slowest keeps enough readings for a median. `passes` are short passes with a reading each, and what a reading cost there.
pub fn batch(passes: &[(Sample, f64)], burst_max: Duration) -> u32 {
    let work =
        |(pass, clock): &(Sample, f64)| (pass.elapsed_ns as f64 / pass.operations.max(1) as f64 - clock).max(1.0);
    let cheap = passes.iter().map(|p| 100.0 * p.1 / work(p)).fold(1.0, f64::max);
    let enough = passes.iter().map(|p| burst_max.as_nanos() as f64 / work(p) / FEWEST_READINGS).fold(cheap, f64::min);
    enough.ceil().max(1.0) as u32
}

/// A burst of a round, as far as it tells whether the round counts.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The environment, for the reason.
    pub environment: String,
    /// Canaries before and after, nanoseconds.
    pub canaries: [u64; 2],
    /// The host's view.
    pub evidence: Evidence,
}

/// Why a round does not count, if so. `block_median` is the median canary of the block so far, this round included.
pub fn void_reason(round: &[Watched], block_median: f64) -> Option<String> {
    for watched in round {
        for (canary, when) in watched.canaries.iter().zip(["before", "after"]) {
            let ratio = *canary as f64 / block_median;
            if !(1.0 / CANARY_FACTOR..=CANARY_FACTOR).contains(&ratio) {
                return Some(format!(
                    "the host's own operations took {:.1} us {when} the burst of {}, {ratio:.1} times the block's {:.1} us",
                    *canary as f64 / 1e3,
                    watched.environment,
                    block_median / 1e3
                ));
            }
        }
        if let Some(steal) = watched.evidence.steal.filter(|s| *s > STEAL_OF_A_BURST) {
            let percent = steal * 100.0;
            return Some(format!(
                "{percent:.0} % of the CPU time was stolen during the burst of {}",
                watched.environment
            ));
        }
    }
    let known: Vec<f64> = round.iter().filter_map(|w| w.evidence.steal).collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    (mean > STEAL).then(|| format!("{:.0} % of the CPU time was stolen during the bursts", mean * 100.0))
}

/// The check of an environment as it stands against the first of its block, which `expected` keeps with its environment's name.
pub fn same_work(check: Check, environment: &str, expected: &mut Option<(String, String)>) -> Result<Check, Failure> {
    let (value, first) = expected.get_or_insert_with(|| (check.value.clone(), environment.to_string()));
    if *value == check.value {
        return Ok(check);
    }
    let message = format!("the check value is {}, but {value} in {first}: not the same work", check.value);
    Err(Failure { step: Step::Verify, message })
}

/// The median; `None` of nothing.
pub fn median(values: &[u64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let (n, mid) = (sorted.len(), sorted.len() / 2);
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(sorted[mid] as f64),
        _ => Some((sorted[mid - 1] + sorted[mid]) as f64 / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(operations: u64, elapsed_ns: u64) -> Sample {
        Sample { operations, elapsed_ns, batch: 1, ..Sample::default() }
    }

    fn watched(before: u64, after: u64, steal: Option<f64>) -> Watched {
        Watched {
            environment: "runc".into(),
            canaries: [before, after],
            evidence: Evidence { steal, ..Evidence::default() },
        }
    }

    const LENGTH: Length = Length {
        burst: Duration::from_millis(100),
        burst_max: Duration::from_millis(400),
        operations: None,
        rate: None,
    };

    #[test]
    fn in_open_loop_the_schedule_says_how_many_operations_fill_a_burst() {
        let plan = plan_burst(&sample(5, 1_000_000), Length { rate: Some(500), ..LENGTH }, 1);
        assert_eq!(plan.operations, 50);
    }

    #[test]
    fn a_burst_is_filled_and_a_quarter_more_is_thrown_away() {
        let plan = plan_burst(&sample(100, 10_000_000), LENGTH, 1);
        assert_eq!((plan.operations, plan.warmup, plan.limit_ns), (1000, 250, 400_000_000));
    }

    #[test]
    fn a_slow_disk_still_gets_a_few_operations() {
        let plan = plan_burst(&sample(2, 16_000_000), Length { burst: Duration::from_millis(20), ..LENGTH }, 1);
        assert_eq!(plan.operations, FEWEST);
    }

    #[test]
    fn batches_make_a_dear_clock_cheap() {
        let burst = Duration::from_millis(10);
        let fast = (sample(1000, 1_025_000), 25.0);
        assert_eq!(batch(std::slice::from_ref(&fast), burst), 3);
        let dear = (sample(1000, 30_000_000), 20_000.0);
        assert_eq!(
            batch(&[fast.clone(), dear], burst),
            50,
            "10 us of work beside 20 us of clock, but 20 readings are left"
        );
        let slow = (sample(10, 10_000_000), 25.0);
        assert_eq!(batch(&[fast, slow], burst), 1);
        assert_eq!(plan_burst(&sample(1000, 1_000_000), LENGTH, 3).operations % 3, 0);
    }

    #[test]
    fn the_order_follows_from_seed_block_and_round() {
        let all: Vec<usize> = (0..9).collect();
        assert_eq!(order(&all, 7, Draw::Starts, 2, 3), order(&all, 7, Draw::Starts, 2, 3));
        assert_ne!(order(&all, 7, Draw::Starts, 2, 3), order(&all, 7, Draw::Starts, 2, 4));
        assert_ne!(order(&all, 7, Draw::Rounds(0), 2, 3), order(&all, 7, Draw::Rounds(1), 2, 3));
    }

    #[test]
    fn a_change_of_regime_within_a_block_is_void_and_a_slow_block_is_not() {
        assert_eq!(void_reason(&[watched(8_000_000, 8_100_000, None)], 8_050_000.0), None);
        assert!(
            void_reason(&[watched(150_000, 8_000_000, None)], 150_000.0)
                .expect("void")
                .contains("after the burst of runc")
        );
    }

    #[test]
    fn a_tick_of_steal_here_and_there_is_not_void_and_steal_throughout_is() {
        let round = |steal: &[f64]| {
            let round: Vec<_> = steal.iter().map(|s| watched(1, 1, Some(*s))).collect();
            void_reason(&round, 1.0)
        };
        assert_eq!(round(&[0.0, 0.1, 0.0, 0.08, 0.0]), None);
        assert!(round(&[0.08, 0.1, 0.0, 0.08]).expect("void").starts_with("6 % of"));
        assert!(round(&[0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0]).expect("void").contains("30 % of the CPU time"));
    }
}
