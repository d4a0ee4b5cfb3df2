//! Formats of other programs: services that keep results over time, CI, monitoring, and HdrHistogram's own tools.
//!
//! Services over time have no place for a doubt: a box that is fast because it does not flush would look like an improvement
//! there. So an invalid cell, which is shown elsewhere and never ranked, doesn't get into them.

pub mod bmf;
pub mod github;
pub mod hgrm;
pub mod hlog;
pub mod junit;
pub mod openmetrics;

use super::escape::one_line;
use crate::comparison::{Cell, Comparison, Finding, Metric, Verdict};
use crate::record::WorkloadPlan;
use crate::statistics::Interval;

/// An overhead that may be followed over time.
struct Series<'a> {
    cell: &'a Cell,
    finding: &'a Finding,
}

impl Series<'_> {
    /// `sqlite/commit on runc`.
    fn subject(&self) -> String {
        format!("{} on {}", one_line(&self.cell.workload), one_line(&self.cell.environment))
    }

    fn value(&self) -> f64 {
        self.finding.overhead.value
    }

    fn interval(&self) -> Option<Interval> {
        self.finding.overhead.interval.filter(|i| i.low.is_finite() && i.high.is_finite())
    }
}

/// `cost` for throughput, which the overhead turns into the time of an operation; else the metric's own name.
fn figure(metric: Metric) -> &'static str {
    if metric == Metric::Throughput { "cost" } else { metric.name() }
}

/// The overheads of the metrics that claims are made about, in the order of the comparison.
fn series(c: &Comparison) -> impl Iterator<Item = Series<'_>> {
    let plan = |cell: &Cell| c.run.workloads.iter().find(|w| w.name == cell.workload);
    let told =
        move |cell: &&Cell| plan(cell).is_some_and(|w: &WorkloadPlan| Metric::primaries(w).contains(&cell.metric));
    c.cells.iter().filter(|cell| c.verdict(cell) != Verdict::Invalid).filter(told).filter_map(|cell| {
        let finding = cell.finding.as_ref().ok()?;
        finding.overhead.value.is_finite().then_some(Series { cell, finding })
    })
}
