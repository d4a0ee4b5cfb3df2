//! Where environments stand in the published insertion test.
//!
//! The test does 7,500 inserts, each committed by itself, and takes the wall time. Its published population is of many
//! machines; we know three points of it and nothing between them, so that is all that can be said: beyond its ends, below
//! its median, above it, or too close to tell.

use super::merge::Blocks;
use super::{Flag, Severity};
use crate::record::{CONTROL, Record, WorkloadPlan};
use crate::statistics::Estimate;
use crate::statistics::hodges_lehmann;

/// Name of the workload in the registry.
const KIND: &str = "sqlite/insertions";

/// Inserts of the published test.
const INSERTS: u64 = 7500;

/// The known points of the published population: seconds for all inserts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Population {
    /// The fastest.
    pub fastest: f64,
    /// The median.
    pub median: f64,
    /// The slowest.
    pub slowest: f64,
}

impl Population {
    /// The published one.
    pub const PUBLISHED: Population = Population { fastest: 2.0, median: 22.0, slowest: 600.0 };
}

/// One environment in the published test.
#[derive(Debug, Clone, PartialEq)]
pub struct Insertions {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// Seconds for all inserts of the test: the wall time per insert times their number, over blocks.
    pub seconds: Estimate,
    /// Inserts that were done in all blocks.
    pub operations: u64,
    /// Whether bursts did fewer or more inserts than the test: the time is then reckoned from theirs.
    pub scaled: bool,
    /// Names of the flags that say that it didn't do what the test does; then it stands nowhere.
    pub disqualified: Vec<&'static str>,
}

/// The place of a time among three points of a population.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Faster than every published time.
    BeyondFastest,
    /// Faster than half of the population.
    FasterHalf,
    /// The interval includes the median.
    AboutMedian,
    /// Slower than half of the population.
    SlowerHalf,
    /// Slower than every published time.
    BeyondSlowest,
    /// It didn't do what the test does, or there are too few blocks to say how sure its time is.
    Nowhere,
}

impl Standing {
    /// `beyond-fastest`, `faster-half`, `about-median`, `slower-half`, `beyond-slowest`, `nowhere`.
    pub fn name(self) -> &'static str {
        match self {
            Standing::BeyondFastest => "beyond-fastest",
            Standing::FasterHalf => "faster-half",
            Standing::AboutMedian => "about-median",
            Standing::SlowerHalf => "slower-half",
            Standing::BeyondSlowest => "beyond-slowest",
            Standing::Nowhere => "nowhere",
        }
    }
}

impl Insertions {
    /// Where it stands. By the whole interval: an end that reaches over a point makes no claim about it.
    pub fn standing(&self) -> Standing {
        let Population { fastest, median, slowest } = Population::PUBLISHED;
        let Some(interval) = self.seconds.interval else { return Standing::Nowhere };
        let (low, high) = (interval.low, interval.high);
        match () {
            () if !self.disqualified.is_empty() => Standing::Nowhere,
            () if high < fastest => Standing::BeyondFastest,
            () if high < median => Standing::FasterHalf,
            () if low > slowest => Standing::BeyondSlowest,
            () if low > median => Standing::SlowerHalf,
            () => Standing::AboutMedian,
        }
    }
}

/// Where an environment stands; `None` for other workloads, for the control, and in open loop, where the schedule and not the
/// environment says how long it takes.
pub(super) fn place(
    workload: &WorkloadPlan,
    environment: &str,
    own: &Blocks,
    records: &[&Record],
    flags: &[Flag],
    confidence: f64,
) -> Option<Insertions> {
    if workload.kind() != KIND || workload.open_loop() || environment == CONTROL {
        return None;
    }
    let counted = own.0.values().filter(|m| m.operations > 0 && m.elapsed_ns > 0);
    let each = counted.clone().map(|m| (INSERTS as f64 * m.elapsed_ns as f64 / m.operations as f64 / 1e9).ln());
    let other = |r: &&Record| r.outcome.as_ref().is_ok_and(|s| s.operations != INSERTS);
    Some(Insertions {
        workload: workload.name.clone(),
        environment: environment.into(),
        // As for overheads: of logarithms, and what a few slow blocks don't pull.
        seconds: hodges_lehmann(&each.collect::<Vec<_>>(), confidence)?.map(f64::exp),
        operations: counted.map(|m| m.operations).sum(),
        scaled: records.iter().any(other),
        disqualified: flags.iter().filter(|f| f.severity == Severity::Fatal).map(|f| f.name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Method, compare};
    use crate::example::{Example, stored};
    use crate::statistics::Interval;

    fn of(low: f64, value: f64, high: f64) -> Standing {
        let interval = Some(Interval { low, high, confidence: 0.95 });
        let seconds = Estimate { value, interval };
        let (workload, environment) = (KIND.into(), "bare".into());
        Insertions { workload, environment, seconds, operations: 9, scaled: true, disqualified: Vec::new() }.standing()
    }

    #[test]
    fn three_points_say_no_more_than_this() {
        assert_eq!(of(0.4, 0.5, 0.6), Standing::BeyondFastest);
        assert_eq!(of(1.9, 2.0, 2.1), Standing::FasterHalf);
        assert_eq!(of(20.0, 21.0, 22.5), Standing::AboutMedian);
        assert_eq!(of(23.0, 25.0, 26.0), Standing::SlowerHalf);
        assert_eq!(of(590.0, 610.0, 630.0), Standing::SlowerHalf);
        assert_eq!(of(601.0, 610.0, 630.0), Standing::BeyondSlowest);
    }

    #[test]
    fn the_time_is_that_of_all_inserts_of_the_test() {
        let c = compare(&stored(), Method::default());
        let bare = c.insertions.iter().find(|i| i.environment == "bare").expect("the example inserts");
        // 0.9 ms each, and three times that in two blocks of eight.
        assert!((6.5..9.0).contains(&bare.seconds.value) && bare.scaled, "{bare:?}");
        assert!(bare.seconds.interval.expect("eight blocks").contains(bare.seconds.value));
        assert_eq!(bare.standing(), Standing::FasterHalf);
        assert!(c.insertions.iter().all(|i| i.environment != CONTROL), "the baseline once is enough");
        let cheat = c.insertions.iter().find(|i| i.environment == "qemu-unsafe").expect("it is there");
        assert_eq!(cheat.standing(), Standing::Nowhere, "what doesn't flush inserts nothing durable");
    }

    #[test]
    fn an_alias_is_known_by_its_kind_and_a_schedule_has_no_place() {
        let mut stored = Example { blocks: 1, ..Example::default() }.build();
        let plan = stored.run.workloads.iter_mut().find(|w| w.kind == KIND).expect("the example inserts");
        assert_ne!(plan.name, KIND, "the example calls it otherwise");
        plan.settings.insert("rate".into(), "100".into());
        assert!(compare(&stored, Method::default()).insertions.is_empty());
    }
}
