//! What a neighbour costs an environment: the same box with it and without, in the same blocks.

use std::collections::BTreeMap;

use super::{Comparison, Metric, Role, Verdict};
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
    /// Operations that the neighbour did a second, the mean over all bursts that have a sample.
    pub rate: f64,
    /// CPUs that its box used meanwhile; `None` where that couldn't be read.
    pub cpus: Option<f64>,
}

/// Workload by workload; empty where the environment has no neighbour, or nothing was measured beside it.
pub(super) fn of(c: &Comparison, stored: &Stored, plan: &EnvironmentPlan) -> Vec<BesideNeighbour> {
    let Some(neighbour) = &plan.neighbour else { return Vec::new() };
    let names = c.run.workloads.iter().map(|workload| workload.name.as_str());
    names
        .filter_map(|workload| {
            let of = |r: &&Record| r.environment == plan.name && r.workload == workload && r.outcome.is_ok();
            let worked = stored.records.iter().filter(of).filter_map(|r| r.evidence.neighbour);
            let (mut operations, mut ns, mut cpu_ns) = (0, 0, Some(0));
            for beside in worked {
                operations += beside.operations;
                ns += beside.ns;
                cpu_ns = cpu_ns.zip(beside.cpu_ns).map(|(all, own)| all + own);
            }
            let overhead = overhead(c, workload, &plan.name, &neighbour.without).filter(|_| operations > 0);
            let cpus = cpu_ns.map(|cpu_ns: u64| cpu_ns as f64 / ns as f64);
            let rate = operations as f64 / (ns as f64 / 1e9);
            (ns > 0).then(|| BesideNeighbour { workload: workload.into(), overhead, rate, cpus })
        })
        .collect()
}

fn overhead(c: &Comparison, workload: &str, with: &str, without: &str) -> Option<Estimate> {
    let metric = Metric::primary(c.run.workloads.iter().find(|w| w.name == workload)?);
    let believed = |name| c.cell(workload, name, metric).filter(|cell| cell.verdict != Verdict::Invalid);
    let with = believed(with)?.finding.as_ref().ok()?;
    let logs: Vec<f64> = if c.environment(without)?.role == Role::Baseline {
        with.ratios.iter().map(|(_, ratio)| ratio.ln()).collect()
    } else {
        let without: BTreeMap<u32, f64> = believed(without)?.finding.as_ref().ok()?.costs.iter().copied().collect();
        with.costs.iter().filter_map(|(block, cost)| Some((cost / without.get(block)?).ln())).collect()
    };
    hodges_lehmann(&logs, c.method.confidence).map(|estimate| estimate.map(f64::exp))
}
