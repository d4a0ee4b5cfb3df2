//! Whether somebody else worked beside an environment, on the CPUs that it was measured on.

use workloads::Resource;

use super::{Case, flag};
use crate::comparison::{Flag, Severity};
use crate::record::{OTHER_RUN, Record, UNSEEN_RUN};

/// From this share of a CPU on, bystanders are worth knowing.
const NOTED: f64 = 0.01;

/// From this on they are a doubt.
const DOUBTED: f64 = 0.05;

/// A difference of two counters in ticks of 10 ms is off by this much, as standard deviation, nanoseconds.
const OFF_NS: f64 = 10e6 / 2.449;

/// Another run, the sessions of the run's other environments, or a stranger used the machine while this one was measured.
pub(super) fn crowded(case: &Case) -> Option<Flag> {
    if case.is_imported() {
        return None;
    }
    let fact = |wanted: &str, severity| {
        let found = case.stored.run.host.iter().find(|(name, _)| name == wanted);
        found.map(|(_, words)| (severity, words.clone()))
    };
    let found = fact(OTHER_RUN, Severity::Doubt).or_else(|| bystanders(case)).or_else(|| neighbours(case));
    let (severity, evidence) = found.or_else(|| fact(UNSEEN_RUN, Severity::Note))?;
    Some(flag("crowded", severity, evidence))
}

/// Time between the counters' readings of all bursts of which the figure is known, its sum over them, both nanoseconds, and their
/// number.
fn sums(records: &[&Record], figure: impl Fn(&Record) -> Option<f64>) -> Option<(f64, f64, f64)> {
    let known = records.iter().filter_map(|r| {
        let wall = r.evidence.wall_ns.filter(|_| r.outcome.is_ok())?;
        Some((wall as f64, figure(r)?))
    });
    let (wall, sum, n) = known.fold((0.0, 0.0, 0.0), |all, (wall, one)| (all.0 + wall, all.1 + one, all.2 + 1.0));
    (wall > 0.0).then_some((wall, sum, n))
}

fn bystanders(case: &Case) -> Option<(Severity, String)> {
    let (wall, sum, _) = sums(case.records, |r| Some(r.evidence.bystanders_ns? as f64))?;
    let share = sum / wall;
    (share > NOTED).then(|| {
        let severity = if share > DOUBTED { Severity::Doubt } else { Severity::Note };
        (severity, format!("the run's other environments, idle but up, used {:.1} % of a CPU beside it", 100.0 * share))
    })
}

/// Only where the processor is what is measured: what the kernel does for a disk or a link is on nobody's account.
fn neighbours(case: &Case) -> Option<(Severity, String)> {
    if case.workload.resource != Resource::Processor {
        return None;
    }
    let (wall, sum, n) = sums(case.records, |r| Some(r.evidence.neighbours_ns? as f64))?;
    let share = sum / wall;
    (share > DOUBTED && sum > 3.0 * OFF_NS * n.sqrt()).then(|| {
        (Severity::Doubt, format!("others used {:.0} % of a CPU on the CPUs that it was measured on", 100.0 * share))
    })
}
