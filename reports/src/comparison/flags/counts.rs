//! Whether a device counted as many events as an environment's durable writes should have caused: a test of counts, since a rate
//! of few events, or of events of which most are somebody else's, says nothing.
//!
//! Counts are held to be Poisson's, with Garwood's limits; those of somebody who waits for the device at every write vary less, so
//! that the test errs on the side of saying nothing. Sums of them have the limits of Zou and Donner (*Construction of confidence
//! limits about effect measures*, Statistics in Medicine 27, 2008): each part's distance to its limit, added like standard errors.

use statrs::distribution::{ContinuousCDF, Gamma};
use workloads::evidence::{Evidence, Idle};

use crate::record::Record;

/// With less than this share of what the baseline's writes cause, an environment's didn't wait for the device. Commits may share a
/// flush, so the line is far from 1.
pub(super) const FEW: f64 = 0.25;

/// What is said is wrong in no more than this share of cases, where the truth lies on the line.
const LEVEL: f64 = 0.01;

/// The quantile of the normal distribution at [`LEVEL`].
const Z: f64 = 2.326;

/// Counts beyond this are as good as normal.
const LARGE: u64 = 10_000;

/// Events that a device counted in the bursts of an environment whose counter could be read, and what there was to cause them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    pub events: u64,
    /// Durable writes; operations, where it isn't kept how many of them were.
    pub writes: u64,
    /// How long was counted, nanoseconds.
    pub ns: u64,
    /// Events that came while nothing of ours ran, and how long that was looked for.
    pub idle: Idle,
}

/// What counts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Less than [`FEW`] of what the baseline's writes cause, beyond chance.
    Few,
    /// More than that, beyond chance.
    Enough,
    /// Neither.
    Unclear,
}

impl Counts {
    /// Of the bursts whose counter could be read; `None` where none could.
    pub(super) fn of(records: &[&Record], count: impl Fn(&Evidence) -> Option<u64>) -> Option<Self> {
        let mut counts = Self::default();
        for record in records {
            let (Some(events), Ok(sample)) = (count(&record.evidence), &record.outcome) else { continue };
            counts.events = counts.events.saturating_add(events);
            // The counters saw the warm-up too.
            let all = sample.operations.saturating_add(sample.warmup_operations);
            counts.writes = counts.writes.saturating_add(sample.durable_writes.unwrap_or(all));
            // Without a look at the idle device nothing is known to be anybody else's.
            if let (Some(ns), Some(idle)) = (record.evidence.wall_ns, record.evidence.idle_flushes) {
                counts.ns = counts.ns.saturating_add(ns);
                counts.idle.events = counts.idle.events.saturating_add(idle.events);
                counts.idle.ns = counts.idle.ns.saturating_add(idle.ns);
            }
        }
        (counts.writes > 0).then_some(counts)
    }

    /// The part of the events that came by themselves: its count, and what an event of it stands for.
    fn idle_part(&self) -> (f64, u64) {
        (self.ns as f64 / self.idle.ns.max(1) as f64, self.idle.events)
    }

    /// Events that a write causes, as best one can tell.
    pub(super) fn each(&self) -> f64 {
        let (weight, idle) = self.idle_part();
        (self.events as f64 - weight * idle as f64).max(0.0) / self.writes as f64
    }

    /// Events a second that come by themselves; `None` where none came or nobody looked.
    pub(super) fn idle_per_second(&self) -> Option<f64> {
        (self.idle.events > 0).then(|| 1e9 * self.idle.events as f64 / self.idle.ns.max(1) as f64)
    }

    /// Held against the baseline's; `None` where a write of the baseline doesn't cause more than `least` events, so that the device
    /// doesn't count what it is asked for.
    pub(super) fn against(&self, baseline: &Counts, least: f64) -> Option<Verdict> {
        let ((own_weight, own_idle), (base_weight, base_idle)) = (self.idle_part(), baseline.idle_part());
        let (low, _) = limits(&[(1.0, baseline.events), (-base_weight, base_idle)]);
        if baseline.each() <= least || low <= 0.0 {
            return None;
        }
        // What was counted, less what came by itself, less the part of the baseline's that is still too few.
        let share = FEW * self.writes as f64 / baseline.writes as f64;
        let (low, high) = limits(&[
            (1.0, self.events),
            (-own_weight, own_idle),
            (-share, baseline.events),
            (share * base_weight, base_idle),
        ]);
        Some(if high < 0.0 {
            Verdict::Few
        } else if low > 0.0 {
            Verdict::Enough
        } else {
            Verdict::Unclear
        })
    }
}

/// Both limits of a weighted sum of counts.
fn limits(parts: &[(f64, u64)]) -> (f64, f64) {
    let (mut sum, mut down, mut up) = (0.0, 0.0, 0.0);
    for (weight, count) in parts.iter().filter(|(weight, _)| *weight != 0.0) {
        let (low, high) = range(*count);
        let (below, above) = (weight * (*count as f64 - low), weight * (high - *count as f64));
        let (below, above) = if *weight > 0.0 { (below, above) } else { (above, below) };
        sum += weight * *count as f64;
        down += below * below;
        up += above * above;
    }
    (sum - down.sqrt(), sum + up.sqrt())
}

/// Where the mean lies of which so many came (Garwood's limits).
fn range(count: u64) -> (f64, f64) {
    let n = count as f64;
    if count > LARGE {
        return (n - Z * n.sqrt(), n + Z * n.sqrt());
    }
    let quantile = |shape: f64, p: f64| Gamma::new(shape, 1.0).expect("a shape above 0").inverse_cdf(p);
    (if count == 0 { 0.0 } else { quantile(n, LEVEL) }, quantile(n + 1.0, 1.0 - LEVEL))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn counts(events: u64, writes: u64) -> Counts {
        Counts { events, writes, ..Counts::default() }
    }

    /// Beside a neighbour: events a second that aren't its own, over so many milliseconds; looked for in a fifth of a second.
    fn beside(events: u64, writes: u64, milliseconds: u64, foreign: u64) -> Counts {
        let idle = Idle { events: foreign / 5, ns: SECOND / 5 };
        Counts { events, writes, ns: milliseconds * 1_000_000, idle }
    }

    #[test]
    fn limits_are_those_of_the_tables() {
        // Garwood's at 98 %, for instance of 10: 4.13 to 20.14; of none: up to 4.61.
        let (ten, none) = (range(10), range(0));
        assert!((ten.0 - 4.130).abs() < 0.001 && (ten.1 - 20.145).abs() < 0.001, "{ten:?}");
        assert!(none.0 == 0.0 && (none.1 - 4.605).abs() < 0.001, "{none:?}");
        for pair in [1, 100, LARGE, 2 * LARGE, 1 << 60].windows(2) {
            let (few, many) = (range(pair[0]), range(pair[1]));
            assert!(few.0 < pair[0] as f64 && (pair[0] as f64) < few.1, "{few:?}");
            assert!(few.0 < many.0 && few.1 < many.1, "{few:?} {many:?}");
        }
        // One count alone keeps its limits; of two that are taken from each other the doubts add up like standard errors.
        assert_eq!(limits(&[(2.0, 10)]), (2.0 * ten.0, 2.0 * ten.1));
        let (low, high) = limits(&[(1.0, 1000), (-1.0, 1000)]);
        assert!((high - Z * 2000_f64.sqrt()).abs() < 3.0 && (low + high).abs() < 3.0, "{low} {high}");
    }

    #[test]
    fn few_writes_suffice_where_they_are_counted_and_not_operations() {
        // 200 operations of which 12 write, two flushes each: by operations 0.12 flushes and below every threshold.
        for (events, writes, verdict) in [
            (0, 12, Verdict::Few),
            (6, 12, Verdict::Unclear),
            (24, 12, Verdict::Enough),
            (0, 60, Verdict::Few),
            (10, 60, Verdict::Few),
            (30, 60, Verdict::Unclear),
            (60, 60, Verdict::Enough),
        ] {
            assert_eq!(counts(events, writes).against(&counts(2 * writes, writes), 0.1), Some(verdict), "{events}");
        }
        assert_eq!(counts(0, 4).against(&counts(8, 4), 0.1), Some(Verdict::Unclear), "two are no count")
    }

    #[test]
    fn a_slow_liar_beside_foreign_flushes_is_found() {
        // A neighbour flushes 400 times a second. The baseline needs 0.2 s for 1000 writes; whoever lies takes ten times as long, so
        // that 0.8 foreign flushes come for each of its writes.
        let base = beside(1080, 1000, 200, 400);
        let (liar, honest) = (beside(800, 1000, 2000, 400), beside(1800, 1000, 2000, 400));
        assert!(liar.events as f64 / liar.writes as f64 > FEW * base.each(), "by its rate it would pass");
        assert_eq!(liar.against(&base, 0.1), Some(Verdict::Few));
        assert_eq!(honest.against(&base, 0.1), Some(Verdict::Enough));
        assert!(liar.each() < 0.05 && (honest.each() - 1.0).abs() < 0.05, "{} {}", liar.each(), honest.each());
        // Of few writes beside so much else nothing can be said, and nothing is.
        assert_eq!(beside(16, 10, 40, 400).against(&beside(11, 10, 2, 400), 0.1), Some(Verdict::Unclear));
    }

    #[test]
    fn who_flushes_all_the_same_is_never_accused() {
        for (writes, foreign) in [(1, 0), (8, 0), (8, 300), (100, 0), (100, 3000), (10_000, 100)] {
            // One flush each, half as fast as the baseline.
            let foreign_in = |ms: u64| foreign * ms / 1000;
            let base = beside(writes + foreign_in(writes), writes, writes, foreign);
            let own = beside(writes + foreign_in(2 * writes), writes, 2 * writes, foreign);
            assert_ne!(own.against(&base, 0.1), Some(Verdict::Few), "{writes} writes beside {foreign} a second");
        }
    }

    #[test]
    fn a_device_that_counts_nothing_says_nothing() {
        assert_eq!(counts(0, 100).against(&counts(0, 100), 0.1), None);
        assert_eq!(counts(0, 100).against(&counts(3, 100), 0.1), None, "somebody else's");
        assert_eq!(
            beside(40, 100, 100, 400).against(&beside(40, 100, 100, 400), 0.1),
            None,
            "all of it somebody else's"
        );
    }

    #[test]
    fn no_count_makes_it_panic() {
        for events in [0, 1, u64::MAX] {
            let own = Counts { events, writes: 1, ns: events, idle: Idle { events, ns: events } };
            for base in [counts(u64::MAX, 1), counts(1, u64::MAX), own] {
                let _ = own.against(&base, 0.1);
            }
        }
    }
}
