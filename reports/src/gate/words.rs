//! What a gate says of a comparison, and of the way to say more.

use super::decide::Case;
use super::questions::Question;
use super::{Judgement, Mode, Verdict};
use crate::comparison::Metric;
use crate::render::units;
use crate::statistics::Estimate;

/// Why, and what would be enough.
pub(super) struct Said {
    pub because: String,
    pub enough: Option<String>,
}

/// The words of a verdict that rests on numbers.
pub(super) fn judged(q: &Question, case: &Case, verdict: Verdict) -> Said {
    let limit = times(q.limit);
    let floor = units::duration(q.floor_ns);
    let said = |because: String| Said { because, enough: None };
    match verdict {
        Verdict::Pass if case.is_coarse(q) => {
            said(format!("it takes less than {floor} more for an operation, the control's noise included: the floor"))
        }
        Verdict::Pass if case.m.ratio.interval.is_some_and(|i| i.high < q.limit.ln()) => said(excluded(q.limit)),
        Verdict::Pass => said(format!("it takes less than {floor} more for an operation: the floor")),
        Verdict::Improved => said(format!("better beyond chance{}", of_all(case.size))),
        Verdict::Regressed if q.mode == Mode::Budget => {
            said(format!("over the budget of {limit} beyond chance{}", of_all(case.size)))
        }
        Verdict::Regressed if case.m.ratio.interval.is_some_and(|i| i.low > q.limit.ln()) => {
            said(format!("worse beyond chance{}, and by more than {limit}", of_all(case.size)))
        }
        Verdict::Regressed => said(format!("worse beyond chance{}, and {limit} is not excluded", of_all(case.size))),
        Verdict::Inconclusive | Verdict::Invalid | Verdict::NoBaseline => {
            let because = if case.is_coarse(q) {
                let noise = case.control.noise.map_or(0.0, f64::exp_m1);
                format!(
                    "this machine can't see changes of {}: its control has a noise of {}",
                    percent(q),
                    units::percent(noise)
                )
            } else if case.m.ratio.interval.is_none() {
                let are = if case.m.blocks == 1 { "is" } else { "are" };
                format!("{} {are} too few for an interval", units::number_of(case.m.blocks, "block"))
            } else if case.m.superiority.is_some_and(|s| s < super::SUPERIORITY) && case.m.ratio.value > 0.0 {
                format!("accepted runs were as bad, and {limit} is not excluded")
            } else {
                format!("neither worse beyond chance{}, nor is {limit} excluded", of_all(case.size))
            };
            Said { because, enough: Some(enough(case.more_blocks(q))) }
        }
    }
}

fn enough(more: Option<u64>) -> String {
    match more {
        Some(more) if more <= 1000 => units::number_of(more as usize, "more block"),
        // Nobody waits for those: it is the machine that has to change.
        _ => "a quieter machine or a wider margin".into(),
    }
}

fn of_all(size: usize) -> String {
    if size > 1 { format!(" among {size} comparisons") } else { String::new() }
}

/// Why a comparison passes by its margin or budget, which nobody needs to be told twice.
pub(crate) fn excluded(limit: f64) -> String {
    format!("{} is excluded", times(limit))
}

/// A limit as it was written: `1.05×`.
fn times(limit: f64) -> String {
    format!("{}×", (limit * 1e4).round() / 1e4)
}

fn percent(q: &Question) -> String {
    units::percent(q.limit - 1.0)
}

/// `1.10× (1.07–1.13)`.
#[must_use]
pub(crate) fn ratio(ratio: &Estimate) -> String {
    let ends = ratio.interval.map(|i| (i.low, i.high));
    let value = units::ratio(ratio.value, ends);
    match ends {
        Some(ends) => format!("{value} ({})", units::interval(ratio.value, ends)),
        None => value,
    }
}

/// `1.10× (1.07–1.13), +14.2 µs`; empty without numbers.
#[must_use]
pub(crate) fn figures(j: &Judgement) -> String {
    let difference = j.difference_ns.map(|ns| units::signed(units::duration(ns)));
    let both = j.ratio.as_ref().map(ratio).into_iter().chain(difference);
    both.collect::<Vec<_>>().join(", ")
}

/// The name of a metric for people: throughput is judged as the time that work takes.
#[must_use]
pub(crate) fn metric(metric: Metric) -> &'static str {
    if metric == Metric::Throughput { "cost" } else { metric.name() }
}

/// One line with everything that counts.
#[must_use]
pub(crate) fn sentence(j: &Judgement) -> String {
    let figures = figures(j);
    let figures = if figures.is_empty() { String::new() } else { format!(" {figures}:") };
    let enough = j.enough.as_ref().map(|e| format!("; enough would be {e}")).unwrap_or_default();
    format!(
        "{} of {} in {} against {}:{figures} {}{enough}",
        metric(j.metric),
        j.workload,
        j.environment,
        j.against,
        j.because
    )
}
