//! What a neighbour costs an environment: the same box with it and without, in the same blocks.

use std::collections::BTreeMap;

use super::{Claim, Comparison, Metric, Role, Verdict};
use crate::record::{EnvironmentPlan, Record, Stored};
use crate::statistics::{Estimate, hodges_lehmann};

/// A workload beside a neighbour.
#[derive(Debug, Clone, PartialEq)]
pub struct BesideNeighbour {
    /// Name of the workload.
    pub workload: String,
    /// The time of an operation with the neighbour over that without, from the ratios within blocks; `None` where one of the two
    /// has no figure or can't be believed, or the neighbour did nothing.
    pub overhead: Option<Estimate>,
    /// The metric that the ratio is of.
    pub metric: Metric,
    /// The logarithms of the ratios within blocks; empty where there is no ratio.
    pub logs: Vec<f64>,
    /// Whether the ratio is told from none; judged as all claims are, in a family of its own.
    pub claim: Claim,
    /// Operations that the neighbour did a second, the mean over all bursts that have a sample.
    pub rate: f64,
    /// CPUs that its box used meanwhile; `None` where that couldn't be read.
    pub cpus: Option<f64>,
    /// It did almost nothing: less than one operation a second or a burst, and no CPU time to speak of.
    pub idle: bool,
}

/// CPUs below which a neighbour that did next to no operations wasn't there: shown with two decimals, they are 0.00.
const NO_CPU: f64 = 0.005;

/// Workload by workload; empty where the environment has no neighbour, or nothing was measured beside it.
pub(super) fn of(c: &Comparison, stored: &Stored, plan: &EnvironmentPlan) -> Vec<BesideNeighbour> {
    let Some(neighbour) = &plan.neighbour else { return Vec::new() };
    let planned = c.run.workloads.iter();
    planned
        .filter_map(|planned| {
            let (workload, metric) = (&planned.name, Metric::primary(planned));
            let of = |r: &&Record| r.environment == plan.name && r.workload == *workload && r.outcome.is_ok();
            let worked = stored.records.iter().filter(of).filter_map(|r| r.evidence.neighbour);
            let (mut bursts, mut operations, mut ns, mut cpu_ns) = (0, 0, 0, Some(0));
            for beside in worked {
                bursts += 1;
                operations += beside.operations;
                ns += beside.ns;
                cpu_ns = cpu_ns.zip(beside.cpu_ns).map(|(all, own)| all + own);
            }
            let logs = logs(c, workload, metric, &plan.name, &neighbour.without).filter(|_| operations > 0);
            let logs = logs.unwrap_or_default();
            let overhead = hodges_lehmann(&logs, c.method.confidence).map(|estimate| estimate.map(f64::exp));
            let cpus = cpu_ns.map(|cpu_ns: u64| cpu_ns as f64 / ns as f64);
            let rate = operations as f64 / (ns as f64 / 1e9);
            let idle = (rate < 1.0 || operations < bursts) && cpus.is_some_and(|cpus| cpus < NO_CPU);
            let (workload, claim) = (workload.clone(), Claim::None);
            (ns > 0).then_some(BesideNeighbour { workload, overhead, metric, logs, claim, rate, cpus, idle })
        })
        .collect()
}

fn logs(c: &Comparison, workload: &str, metric: Metric, with: &str, without: &str) -> Option<Vec<f64>> {
    let believed = |name| c.cell(workload, name, metric).filter(|cell| cell.verdict != Verdict::Invalid);
    let with = believed(with)?.finding.as_ref().ok()?;
    Some(if c.environment(without)?.role == Role::Baseline {
        with.ratios.iter().map(|(_, ratio)| ratio.ln()).collect()
    } else {
        let without: BTreeMap<u32, f64> = believed(without)?.finding.as_ref().ok()?.costs.iter().copied().collect();
        with.costs.iter().filter_map(|(block, cost)| Some((cost / without.get(block)?).ln())).collect()
    })
}
