//! The claims that a run may make, and how far its control is to be believed: one family of comparisons, judged together.
//!
//! A run of eight workloads in eight boxes makes two hundred comparisons, and of so many that find nothing ten come out
//! "different at 95 %". So a claim has to stand up to all of them at once (Holm), to reach beyond the margin, and to lie
//! outside what two copies of the baseline differ by. Everything else is said as what was excluded.

use super::{BesideNeighbour, Cell, Claim, Comparison, Finding, Metric, Verdict};
use crate::record::WorkloadPlan;
use crate::statistics::{FEWEST_FOR_INTERVAL, Interval, hodges_lehmann, holm, p_mean_above, walsh_averages};

/// The chance that any claim of a run in which nothing differs is made.
const ALPHA: f64 = 0.05;

/// The chance that two copies of the baseline are said to differ, over all workloads.
const ALPHA_CONTROL: f64 = 0.01;

/// Says of every cell what may be claimed. The family are the costs, medians and (where they are not withheld) p99s of all
/// environments; a cell that doesn't measure what it says is no part of it.
pub(crate) fn judge(c: &mut Comparison) {
    let method = c.method;
    let family: Vec<usize> = (0..c.cells.len()).filter(|i| at_stake(&c.cells[*i], &c.run.workloads)).collect();
    let both: Vec<[f64; 2]> = family.iter().map(|i| sides(&logs(&c.cells[*i]), method.margin)).collect();
    let adjusted = holm(&both.iter().map(either).collect::<Vec<_>>());
    for ((at, [worse, better]), p) in family.into_iter().zip(both).zip(adjusted) {
        let cell = &c.cells[at];
        let control = c.control.iter().find(|other| (&other.workload, other.metric) == (&cell.workload, cell.metric));
        let beyond = cell.overhead().is_some_and(|overhead| beyond_control(overhead.value, control));
        if p < ALPHA && beyond {
            c.cells[at].claim = if worse < better { Claim::Worse } else { Claim::Better };
        }
    }
}

/// Says the same of what neighbours cost: they are a family of their own, held to the same margin and the same control.
pub(super) fn judge_neighbours(c: &mut Comparison) {
    let margin = c.method.margin;
    let all = c.environments.iter_mut().flat_map(|e| &mut e.beside);
    let family: Vec<&mut BesideNeighbour> = all.filter(|b| b.logs.len() >= FEWEST_FOR_INTERVAL as usize).collect();
    let both: Vec<[f64; 2]> = family.iter().map(|b| sides(&b.logs, margin)).collect();
    let adjusted = holm(&both.iter().map(either).collect::<Vec<_>>());
    for ((beside, [worse, better]), p) in family.into_iter().zip(both).zip(adjusted) {
        let control = c.control.iter().find(|cell| cell.workload == beside.workload && cell.metric == beside.metric);
        let beyond = beside.overhead.is_some_and(|overhead| beyond_control(overhead.value, control));
        if p < ALPHA && beyond {
            beside.claim = if worse < better { Claim::Worse } else { Claim::Better };
        }
    }
}

/// Whether a claim could be made of this cell.
fn at_stake(cell: &Cell, workloads: &[WorkloadPlan]) -> bool {
    let primary = workloads.iter().any(|w| w.name == cell.workload && Metric::primaries(w).contains(&cell.metric));
    let blocks = cell.finding.as_ref().map_or(0, |f| f.ratios.len());
    primary && cell.verdict != Verdict::Invalid && blocks >= FEWEST_FOR_INTERVAL as usize
}

/// How likely the ratios are if it is not worse, and not better, than the margin allows.
fn sides(logs: &[f64], margin: f64) -> [f64; 2] {
    let turned: Vec<f64> = logs.iter().map(|d| -d).collect();
    [p_mean_above(logs, margin.ln_1p()), p_mean_above(&turned, margin.ln_1p())]
}

/// The same of both sides together.
fn either([worse, better]: &[f64; 2]) -> f64 {
    (2.0 * worse.min(*better)).min(1.0)
}

fn logs(cell: &Cell) -> Vec<f64> {
    cell.finding.as_ref().map_or_else(|_| Vec::new(), Finding::logs)
}

/// Whether a ratio is further from 1 than the control's own interval reaches, in either direction. A control with too few blocks
/// for an interval could explain anything; a run that has none stands on its own.
fn beyond_control(ratio: f64, control: Option<&Cell>) -> bool {
    let band = match control.map(|control| widest(&logs(control), 0.95)) {
        None => 0.0,
        Some(None) => return false,
        Some(Some(interval)) => interval.low.abs().max(interval.high.abs()),
    };
    ratio.ln().abs() > band
}

/// The widest interval of at most this confidence that so many values have; `None` for fewer than any has.
pub(super) fn widest(logs: &[f64], confidence: f64) -> Option<Interval> {
    let interval = hodges_lehmann(logs, confidence)?.interval;
    interval.or_else(|| {
        let averages = walsh_averages(logs);
        let all = (averages.first().copied()?, averages.last().copied()?);
        // All values on one side happens once in 2^(n-1).
        let confidence = 1.0 - 0.5f64.powi(logs.len() as i32 - 1);
        (logs.len() >= FEWEST_FOR_INTERVAL as usize).then_some(Interval { low: all.0, high: all.1, confidence })
    })
}

/// Of the control's cells, those whose two baselines differ beyond chance: the metrics to look at first are one family, all
/// others another, so that a metric nobody looks at can't spoil those that count.
pub(super) fn disagreeing(control: &[Cell], workloads: &[WorkloadPlan]) -> Vec<(String, Metric)> {
    let (first, rest): (Vec<&Cell>, Vec<&Cell>) =
        control.iter().partition(|cell| cell.metric.leads(&cell.workload, workloads));
    let differing = |family: Vec<&Cell>| {
        let tested: Vec<&Cell> = family.into_iter().filter(|c| logs(c).len() >= FEWEST_FOR_INTERVAL as usize).collect();
        let p: Vec<f64> = tested.iter().map(|c| either(&sides(&logs(c), 0.0))).collect();
        let found = tested.into_iter().zip(holm(&p)).filter(|(_, p)| *p < ALPHA_CONTROL);
        found.map(|(cell, _)| (cell.workload.clone(), cell.metric)).collect::<Vec<_>>()
    };
    let mut all = differing(first);
    all.extend(differing(rest));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Cell, Method, compare};
    use crate::example::stored;

    #[test]
    fn what_was_put_in_is_claimed_and_nothing_else() {
        let c = compare(&stored(), Method::default());
        let claim = |workload, environment, metric| c.cell(workload, environment, metric).map(|cell: &Cell| cell.claim);
        assert_eq!(claim("sqlite/commit", "gvisor", Metric::Throughput), Some(Claim::Worse));
        assert_eq!(claim("net/rr", "qemu", Metric::P50), Some(Claim::Worse));
        // 1 to 6 %, which is about the margin.
        let runc: Vec<_> =
            c.cells.iter().filter(|cell| cell.environment == "runc" && cell.claim != Claim::None).collect();
        assert!(runc.is_empty(), "{runc:?}");
        // Invalid cells are no part of any claim, however good they look.
        assert_eq!(claim("disk/fsync", "qemu-unsafe", Metric::P50), Some(Claim::None));
    }

    #[test]
    fn the_widest_interval_there_is_is_that_of_all_values() {
        let six = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06];
        let all = widest(&six, 0.99).expect("six values have one");
        assert_eq!((all.low, all.high, all.confidence), (0.01, 0.06, 0.96875));
        assert!(widest(&six[..5], 0.99).is_none());
    }
}
