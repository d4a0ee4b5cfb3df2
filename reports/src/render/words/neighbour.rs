//! What a neighbour costs, in words.

use super::{Piece, TELLING, overhead};
use crate::comparison::{BesideNeighbour, Claim, Comparison, Environment, Verdict};
use crate::record::Neighbour;
use crate::render::units;
use crate::statistics::Estimate;

/// Who it is and how much it did, and for each workload what may be said of the time it takes against that without it: by the same
/// rules as of a cell.
pub(super) fn clauses(c: &Comparison, environment: &Environment) -> Vec<Vec<Piece>> {
    let Some(neighbour) = &environment.plan.neighbour else { return Vec::new() };
    environment.beside.iter().map(|beside| clause(c, environment, neighbour, beside)).collect()
}

fn clause(c: &Comparison, environment: &Environment, neighbour: &Neighbour, beside: &BesideNeighbour) -> Vec<Piece> {
    let (work, who, without) = (&beside.workload, who(neighbour, beside), &neighbour.without);
    let Some(ratio) = beside.overhead else {
        return vec![Piece::Plain(format!("what {who} beside it costs {work} isn't known"))];
    };
    let excluded = c.excluded(work, beside.metric, ratio).filter(|share| *share <= TELLING);
    let doubted = |name: &str| c.cell(work, name, beside.metric).is_some_and(|cell| cell.verdict == Verdict::Suspect);
    let doubtful = || doubted(&environment.plan.name) || doubted(without);
    let before = match (ratio.interval, beside.claim, excluded) {
        (None, ..) => format!("too few blocks to be sure of {work} beside {who}: "),
        (_, Claim::None, Some(most)) => {
            format!("{work} takes no more than {} longer beside {who}: ", units::percent_above(most))
        }
        (_, Claim::None, None) => format!("what {who} beside it costs {work} can't be told from noise: "),
        (_, Claim::Better, _) if doubtful() => format!("{work} looks faster, but read its flags, beside {who}: "),
        _ => {
            let after = format!(" as long beside {who} as in {without} without it");
            return around(format!("{work} takes "), &ratio, after);
        }
    };
    around(before, &ratio, format!(" of its time in {without} without it"))
}

fn around(before: String, ratio: &Estimate, after: String) -> Vec<Piece> {
    vec![Piece::Plain(before), Piece::Strong(overhead(ratio)), Piece::Plain(after)]
}

/// `disk/fsync in runc (412 op/s, 0.31 of the same CPUs)`.
fn who(neighbour: &Neighbour, beside: &BesideNeighbour) -> String {
    let idle = if beside.idle { "almost nothing: " } else { "" };
    let cpus = beside.cpus.map(|cpus| format!(", {cpus:.2} of the same CPUs")).unwrap_or_default();
    format!("{} in {} ({idle}{}{cpus})", neighbour.workload, neighbour.like, units::per_second(beside.rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Metric;
    use crate::statistics::Interval;

    fn ratio(value: f64, interval: Option<(f64, f64)>) -> Option<Estimate> {
        let interval = interval.map(|(low, high)| Interval { low, high, confidence: 0.95 });
        Some(Estimate { value, interval })
    }

    /// What is said of the sample's first workload beside a neighbour, called `work` here.
    fn said(change: impl Fn(&mut Comparison, &mut BesideNeighbour)) -> String {
        let mut c = crate::render::sample::comparison();
        let mut environment = c.environments.remove(2);
        assert!(clauses(&c, &environment).is_empty());
        let (like, workload, without) = ("gvisor".into(), "disk/fsync".into(), "runc".into());
        environment.plan.neighbour = Some(Neighbour { like, workload, settings: Default::default(), without });
        let planned = &c.run.workloads[0];
        let mut beside = BesideNeighbour {
            workload: planned.name.clone(),
            overhead: ratio(1.9, Some((1.8, 2.1))),
            metric: Metric::primary(planned),
            logs: Vec::new(),
            claim: Claim::None,
            rate: 412.0,
            cpus: Some(0.31),
            idle: false,
        };
        change(&mut c, &mut beside);
        environment.beside = vec![beside];
        crate::render::words::plain(&clauses(&c, &environment)[0]).replace(&c.run.workloads[0].name, "work")
    }

    const WHO: &str = "disk/fsync in gvisor (412 op/s, 0.31 of the same CPUs)";

    #[test]
    fn a_neighbour_is_named_with_what_it_did_and_what_it_costs() {
        let unknown = said(|_, beside| (beside.overhead, beside.cpus) = (None, None));
        assert_eq!(unknown, "what disk/fsync in gvisor (412 op/s) beside it costs work isn't known");
        let claimed = said(|_, beside| beside.claim = Claim::Worse);
        assert_eq!(claimed, format!("work takes 1.90× (1.80–2.10) as long beside {WHO} as in runc without it"));
        let doubted = said(|c, beside| {
            beside.claim = Claim::Better;
            c.cells
                .iter_mut()
                .filter(|cell| cell.environment == "runc")
                .for_each(|cell| cell.verdict = Verdict::Suspect);
        });
        assert!(
            doubted.starts_with("work looks faster, but read its flags, beside disk/fsync in gvisor "),
            "{doubted}"
        );
        let idle = said(|_, beside| (beside.rate, beside.cpus, beside.idle) = (0.56, Some(0.0), true));
        assert!(idle.contains("disk/fsync in gvisor (almost nothing: 0.56 op/s, 0.00 of the same CPUs)"), "{idle}");
    }

    #[test]
    fn what_its_interval_denies_is_not_said_of_a_neighbour() {
        let few = said(|_, beside| beside.overhead = ratio(0.24, None));
        let expected = "too few blocks to be sure of work beside";
        assert_eq!(few, format!("{expected} {WHO}: 0.24× (no interval) of its time in runc without it"));
        let open = said(|_, beside| beside.overhead = ratio(0.66, Some((0.21, 1.51))));
        let expected =
            "beside it costs work can't be told from noise: 0.66× (0.21–1.51) of its time in runc without it";
        assert_eq!(open, format!("what {WHO} {expected}"));
        let equal = |c: &mut Comparison, beside: &mut BesideNeighbour| {
            beside.overhead = ratio(1.02, Some((0.98, 1.07)));
            c.invalid.clear();
        };
        let bound = said(equal);
        let expected = ": 1.02× (0.98–1.07) of its time in runc without it";
        assert_eq!(bound, format!("work takes no more than 7 % longer beside {WHO}{expected}"));
    }
}
