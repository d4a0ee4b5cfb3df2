//! The decisions of a run that follow from numbers alone: order, length of a burst, which rounds are void, what counts as the same work.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use reports::record::{Failure, Step};
use workloads::Check;
use workloads::evidence::Evidence;
use workloads::facts::{WHOLE, WHOLE_NS};
use workloads::protocol::{BurstPlan, PILOTS, Sample};

use crate::plan::Length;

/// A canary this many times slower or faster than the others of its block makes its round void.
///
/// The reference is the block and not the run: some disks have regimes that last for minutes (a rate limiter, a cache that
/// is full), and a block that lies in one of them is as fair to all environments as a block in the other. What must not
/// happen is that the regime changes between the environments that are compared.
const CANARY_FACTOR: f64 = 3.0;

/// A round is void when the harness woke up later than this in one of its bursts, though it had a CPU to itself: everything was
/// stopped with it (SIGSTOP, a frozen container, a paused guest), and what passed meanwhile is nobody's latency.
const STOPPED_NS: u64 = 500_000_000;

/// A round is void when more than this share of the CPU time was stolen in it, over all its bursts, by more than what ticks explain.
///
/// Over all, because a single burst can't tell: the kernel counts in ticks of 10 ms, of which a burst of 60 ms on two CPUs has
/// twelve, and on a virtual disk a tick or two belong to the flushes themselves. With the share of each burst alone every round
/// of twenty environments was void, though in none of them more than 3 % was stolen.
const STEAL: f64 = 0.05;

/// So much of a single burst, by more than what ticks explain.
const STEAL_OF_A_BURST: f64 = 0.25;

/// What ticks explain, of each CPU: one of them may have been stolen bit by bit long before. Without it a single tick of two CPUs
/// made a round of three bursts of 10 ms void, and so a quarter of all rounds where about 5 % was stolen in the mean.
const TICK_NS: f64 = 10e6;

/// Of the measured operations, done before them and discarded.
const WARMUP: f64 = 0.25;

/// Work that has an end is done as a whole in each burst, whatever the suite says of their length, where it takes no longer than that on
/// the baseline.
const WHOLE_AT_MOST: Duration = Duration::from_millis(250);
/// Operations of it at most.
const MOST_OF_A_WHOLE: u64 = 1 << 32;
/// And so many times as long in any box before it is cut off.
const WHOLE_PATIENCE: u32 = 20;
/// Nor before this, however short it is: of a millisecond's work a disk that is busy for a moment would leave the beginning.
const WHOLE_AT_LEAST: Duration = Duration::from_secs(1);

/// No burst is planned with fewer operations, however slow they are.
const FEWEST: u64 = 8;

/// The burst of the slowest environment has at least so many clock readings, however dear they are.
const FEWEST_READINGS: f64 = 20.0;

/// The burst of the fastest environment keeps at least so many, for a median that is worth the name.
const READINGS_OF_THE_FASTEST: f64 = 200.0;

/// Operations that share a reading at most.
const LARGEST_BATCH: f64 = 1000.0;

/// Arrivals of a burst in open loop at least, however rare they are.
const FEWEST_ARRIVALS: u64 = 30;

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
pub fn pilot(burst: Duration) -> BurstPlan {
    BurstPlan { operations: 1 << 20, warmup: 4, batch: 1, limit_ns: (burst / 3).as_nanos() as u64, number: PILOTS }
}

/// The pilot of the others once the first is done: the same operations, as long as a burst may take.
pub fn pilot_after(first: &Sample, length: Length) -> BurstPlan {
    let limit_ns = length.burst_max.as_nanos() as u64;
    BurstPlan { operations: first.operations.max(1), limit_ns, ..pilot(length.burst) }
}

/// What the operations of a block are drawn from. Blocks do different work, so that an interval covers the draw too; in each of
/// them all environments do the same.
pub fn seed_of_block(run: u64, block: u32) -> u64 {
    // The first block's is the run's own: what `verify` checks is then what a run begins with.
    if block == 0 { run } else { workloads::content::mix(run ^ workloads::content::mix(u64::from(block))) }
}

/// Work that has an end, as a file of statements has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Operations of all of it.
    operations: u64,
    /// How long they took once.
    took: Duration,
}

impl Whole {
    /// From the facts of a workload; `None` where it goes on for ever, or a burst can't be all of it.
    pub fn of(facts: &BTreeMap<String, String>) -> Option<Self> {
        let number = |name: &str| facts.get(name)?.parse().ok();
        // More than anybody's file has is no number to reckon with.
        let operations = number(WHOLE).filter(|operations| (1..=MOST_OF_A_WHOLE).contains(operations))?;
        Some(Self { operations, took: Duration::from_nanos(number(WHOLE_NS)?) })
    }
}

/// Whether bursts of this length are of all of the work, where that takes so long on the baseline: not where somebody has said of how
/// many operations they are.
pub fn as_a_whole(took: Duration, length: Length) -> bool {
    took <= WHOLE_AT_MOST && length.rate.is_none() && length.operations.is_none()
}

/// How long any box has for work that takes so long on the baseline.
pub fn whole_limit(took: Duration) -> Duration {
    (WHOLE_PATIENCE * took).max(WHOLE_AT_LEAST)
}

/// The burst that a short pass on the baseline asks for: as many operations as fill it, and of work that has an end all of it, once or
/// several times: its beginning may be nothing like the rest. In open loop the schedule says how many.
pub fn plan_burst(pilot: &Sample, length: Length, whole: Option<Whole>, batch: u32) -> BurstPlan {
    let seconds = pilot.elapsed_ns.max(1) as f64 / 1e9;
    let per_second = length.rate.map_or(pilot.operations.max(1) as f64 / seconds, |rate| rate as f64);
    let fewest = length.rate.map_or(FEWEST, |_| FEWEST_ARRIVALS);
    let fill = || ((length.burst.as_secs_f64() * per_second) as u64).max(fewest);
    let whole = whole.filter(|whole| as_a_whole(whole.took, length));
    let all = |whole: Whole| (fill() / whole.operations).max(1) * whole.operations;
    let operations = length.operations.unwrap_or_else(|| whole.map_or_else(fill, all));
    // A burst of whole batches: the last reading would otherwise be the mean of fewer operations.
    let operations = operations.next_multiple_of(u64::from(batch));
    let warmup = ((operations as f64 * WARMUP).ceil() as u64).next_multiple_of(u64::from(batch));
    // A schedule of rare arrivals takes as long as it takes: cut off, it would be the beginning of the schedule and no sample.
    let schedule = length.rate.map_or(0.0, |rate| 3e9 * (operations + warmup) as f64 / rate as f64);
    // Nor is the beginning of the work all of it, in a box that takes twenty times as long.
    let all = whole.map_or(Duration::ZERO, |whole| whole_limit(whole.took));
    let limit_ns = (length.burst_max.max(all).as_nanos() as u64).max(schedule as u64);
    BurstPlan { operations, warmup, batch, limit_ns, number: 0 }
}

/// How many operations share a clock reading: so many that the reading costs at most 1 % in every environment, as long as the
/// slowest and the fastest keep enough readings for a median. `passes` are short passes with a reading each, and what a reading
/// cost there.
pub fn batch(passes: &[(Sample, f64)], length: Length) -> u32 {
    // A sandbox that has just started may read its clock a thousand times dearer than seconds later: of what an operation took
    // with its reading, no more than half can have been the reading.
    let parts: Vec<(f64, f64)> = passes
        .iter()
        .map(|(pass, clock)| {
            let each = pass.elapsed_ns as f64 / pass.operations.max(1) as f64;
            let clock = clock.min(each / 2.0);
            ((each - clock).max(1.0), clock)
        })
        .collect();
    let works = || parts.iter().map(|(work, _)| *work);
    let cheap = parts.iter().map(|(work, clock)| 100.0 * clock / work).fold(1.0, f64::max);
    let of_the_slowest = length.burst_max.as_nanos() as f64 / works().fold(1.0, f64::max) / FEWEST_READINGS;
    let of_the_fastest =
        length.burst.as_nanos() as f64 / works().fold(f64::INFINITY, f64::min) / READINGS_OF_THE_FASTEST;
    cheap.min(of_the_slowest).min(of_the_fastest).min(LARGEST_BATCH).ceil().max(1.0) as u32
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

/// A look at the host's own operations is short, and judged with the two nearest of its round. On a disk with slow and fast spells
/// looks of five flushes were more than [`CANARY_FACTOR`] off in a third of all rounds, looks of thirty milliseconds in one of
/// twelve, and medians of three short ones in one of sixteen.
const LOOKS: usize = 3;

/// The looks of a round: each once, though it is the canary after one burst and before the next.
pub fn looks(round: &[Watched]) -> Vec<u64> {
    let first = round.first().map(|watched| watched.canaries[0]);
    first.into_iter().chain(round.iter().map(|watched| watched.canaries[1])).collect()
}

/// Why a round does not count, if so. `block_median` is the median canary of the block so far, this round included.
pub fn void_reason(round: &[Watched], block_median: f64) -> Option<String> {
    let looks = looks(round);
    for at in 0..looks.len() {
        let begin = at.saturating_sub(LOOKS / 2).min(looks.len().saturating_sub(LOOKS));
        let near = &looks[begin..(begin + LOOKS).min(looks.len())];
        let Some(took) = median(near) else { continue };
        let ratio = took / block_median;
        if !(1.0 / CANARY_FACTOR..=CANARY_FACTOR).contains(&ratio) {
            let (when, of) = if at == 0 { ("before", 0) } else { ("after", at - 1) };
            let environment = &round[of].environment;
            // A thousandth of something is no number to print with one digit.
            let times =
                if ratio < 1.0 { format!("{:.1} times as fast as", 1.0 / ratio) } else { format!("{ratio:.1} times") };
            return Some(format!(
                "the host's own operations took {:.1} µs {when} the burst of {environment}, {times} the block's {:.1} µs",
                took / 1e3,
                block_median / 1e3
            ));
        }
    }
    for watched in round {
        if let Some(ns) = watched.evidence.overslept_ns.filter(|ns| *ns > STOPPED_NS) {
            let seconds = ns as f64 / 1e9;
            return Some(format!(
                "the harness itself stood still for {seconds:.1} s during the burst of {}",
                watched.environment
            ));
        }
        if let Some(steal) = Steal::of([watched]).beyond(STEAL_OF_A_BURST) {
            let percent = steal * 100.0;
            return Some(format!(
                "{percent:.0} % of the CPU time was stolen during the burst of {}",
                watched.environment
            ));
        }
    }
    let steal = Steal::of(round).beyond(STEAL)?;
    Some(format!("{:.0} % of the CPU time was stolen during the bursts", steal * 100.0))
}

/// How much of the time of some bursts a hypervisor took, on each CPU in the mean, nanoseconds.
struct Steal {
    stolen: f64,
    wall: f64,
}

impl Steal {
    fn of<'a>(round: impl IntoIterator<Item = &'a Watched>) -> Self {
        let known = |w: &Watched| Some((w.evidence.steal?, w.evidence.wall_ns? as f64));
        let none = Self { stolen: 0.0, wall: 0.0 };
        round
            .into_iter()
            .filter_map(known)
            .fold(none, |sum, (steal, wall)| Self { stolen: sum.stolen + steal * wall, wall: sum.wall + wall })
    }

    /// The share that was stolen, where that is more than `share` and what ticks explain.
    fn beyond(&self, share: f64) -> Option<f64> {
        (self.stolen > share * self.wall + TICK_NS).then(|| self.stolen / self.wall)
    }
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
            evidence: Evidence { steal, wall_ns: Some(60_000_000), ..Evidence::default() },
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
        let plan = plan_burst(&sample(5, 1_000_000), Length { rate: Some(500), ..LENGTH }, None, 1);
        assert_eq!(plan.operations, 50);
    }

    #[test]
    fn a_burst_is_filled_and_a_quarter_more_is_thrown_away() {
        let plan = plan_burst(&sample(100, 10_000_000), LENGTH, None, 1);
        assert_eq!((plan.operations, plan.warmup, plan.limit_ns), (1000, 250, 400_000_000));
    }

    #[test]
    fn work_that_has_an_end_is_done_as_a_whole_unless_that_takes_too_long() {
        let whole = |operations: u64, ms: u64| Some(Whole { operations, took: Duration::from_millis(ms) });
        let of = |length: Length, whole| plan_burst(&sample(100, 10_000_000), length, whole, 1);
        assert_eq!(of(LENGTH, whole(300, 30)).operations, 900, "as often as fits into the 1000 that fill it");
        let slow = of(LENGTH, whole(5000, 200));
        assert_eq!((slow.operations, slow.limit_ns), (5000, 4_000_000_000));
        assert_eq!(of(LENGTH, whole(30, 2)).limit_ns, 1_000_000_000, "a moment of a busy disk cuts nothing off");
        assert_eq!(of(LENGTH, whole(5000, 251)).operations, 1000);
        assert_eq!(of(Length { operations: Some(7), ..LENGTH }, whole(300, 30)).operations, 7);
        assert_eq!(of(Length { rate: Some(500), ..LENGTH }, whole(300, 30)).operations, 50);
    }

    #[test]
    fn how_long_the_whole_takes_comes_from_facts() {
        let of = |facts: &[(&str, &str)]| {
            Whole::of(&facts.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
        };
        let thirty = Whole { operations: 30, took: Duration::from_millis(1) };
        assert_eq!(of(&[(WHOLE, "30"), (WHOLE_NS, "1000000")]), Some(thirty));
        for none in [
            &[(WHOLE, "30")][..],
            &[(WHOLE, "0"), (WHOLE_NS, "1")],
            &[(WHOLE, "18446744073709551615"), (WHOLE_NS, "1")],
            &[(WHOLE_NS, "1")],
            &[],
        ] {
            assert_eq!(of(none), None);
        }
    }

    #[test]
    fn a_slow_disk_still_gets_a_few_operations() {
        let plan = plan_burst(&sample(2, 16_000_000), Length { burst: Duration::from_millis(20), ..LENGTH }, None, 1);
        assert_eq!(plan.operations, FEWEST);
    }

    #[test]
    fn batches_make_a_dear_clock_cheap() {
        let fast = (sample(1000, 1_025_000), 25.0);
        assert_eq!(batch(std::slice::from_ref(&fast), LENGTH), 3);
        let dear = (sample(1000, 30_000_000), 10_000.0);
        assert_eq!(batch(&[fast.clone(), dear], LENGTH), 50, "20 us of work beside 10 us of clock");
        let short = Length { burst: Duration::from_millis(4), burst_max: Duration::from_millis(10), ..LENGTH };
        let dear = (sample(1000, 30_000_000), 15_000.0);
        assert_eq!(
            batch(&[fast.clone(), dear], short),
            20,
            "the fastest does 4000 operations, and 200 readings are left"
        );
        let slow = (sample(10, 10_000_000), 25.0);
        assert_eq!(batch(&[fast, slow], LENGTH), 3);
        assert_eq!(plan_burst(&sample(1000, 1_000_000), LENGTH, None, 3).operations % 3, 0);
    }

    #[test]
    fn a_clock_that_was_dear_at_the_start_does_not_decide_for_all() {
        // gVisor: 20 us a reading just after its start, 27 ns seconds later, and 300 ns of work.
        let stale = (sample(1000, 327_000), 20_000.0);
        assert_eq!(batch(std::slice::from_ref(&stale), LENGTH), 100, "and not 1.8 million");
    }

    #[test]
    fn rare_arrivals_get_the_time_that_they_take() {
        let plan = plan_burst(&sample(5, 1_000_000), Length { rate: Some(50), ..LENGTH }, None, 1);
        assert_eq!((plan.operations, plan.warmup), (30, 8));
        assert_eq!(plan.limit_ns, 2_280_000_000, "three times the schedule of 38 arrivals");
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
        let round = |looks: &[u64]| {
            let round: Vec<_> = looks.windows(2).map(|pair| watched(pair[0], pair[1], None)).collect();
            void_reason(&round, 150_000.0)
        };
        assert_eq!(void_reason(&[watched(8_000_000, 8_100_000, None)], 8_050_000.0), None);
        let (calm, slow) = (150_000, 8_000_000);
        assert_eq!(round(&[calm, slow, calm, calm]), None, "one look tells little");
        assert!(round(&[calm, calm, slow, slow, slow]).expect("void").contains("after the burst of runc"));
        assert!(round(&[slow, slow, calm, calm]).expect("void").contains("before the burst of runc"));
        assert!(round(&[slow, slow]).is_some(), "a round of one burst");
        let fast = void_reason(&[watched(4_000, 4_000, None)], 1_000_000.0).expect("void");
        assert!(
            fast.ends_with("took 4.0 µs before the burst of runc, 250.0 times as fast as the block's 1000.0 µs"),
            "{fast}"
        );
    }

    #[test]
    fn a_tick_of_steal_here_and_there_is_not_void_and_steal_throughout_is() {
        let round = |steal: &[f64]| {
            let round: Vec<_> = steal.iter().map(|s| watched(1, 1, Some(*s))).collect();
            void_reason(&round, 1.0)
        };
        assert_eq!(round(&[0.0, 0.1, 0.0, 0.08, 0.0]), None);
        assert_eq!(round(&[0.08, 0.1, 0.0, 0.08]), None, "16 ms of 240, of which ticks explain 10");
        assert!(round(&[0.08, 0.1, 0.08, 0.14]).expect("void").starts_with("10 % of"));
        assert_eq!(round(&[0.4, 0.0, 0.0, 0.0, 0.0, 0.0]), None);
        assert!(round(&[0.0, 0.0, 0.45, 0.0, 0.0, 0.0, 0.0]).expect("void").contains("45 % of the CPU time"));
        // Many of them: 6 % is 6 %.
        assert_eq!(round(&[0.04; 20]), None);
        assert!(round(&[0.06; 20]).expect("void").starts_with("6 % of"));
    }

    #[test]
    fn of_short_bursts_a_tick_says_nothing_and_several_do() {
        let round = |steal: &[f64]| {
            let mut round: Vec<_> = steal.iter().map(|s| watched(1, 1, Some(*s))).collect();
            round.iter_mut().for_each(|w| w.evidence.wall_ns = Some(10_000_000));
            void_reason(&round, 1.0)
        };
        // Two CPUs have two ticks in 10 ms: one of them is half.
        assert_eq!(round(&[0.5, 0.0, 0.0]), None);
        assert_eq!(round(&[0.5, 0.5, 0.0]), None);
        assert!(round(&[0.5, 0.5, 0.5]).expect("void").starts_with("50 % of"));
        assert!(round(&[0.0, 0.5, 0.5, 0.0, 0.5, 0.0]).expect("void").starts_with("25 % of"));
    }
}
