//! What a neighbour costs, in words.

use super::{Piece, overhead};
use crate::comparison::{BesideNeighbour, Environment};
use crate::record::Neighbour;
use crate::render::units;

/// Who it is and how much it did, and for each workload how many times as long it takes as without it.
pub(super) fn clauses(environment: &Environment) -> Vec<Vec<Piece>> {
    let Some(neighbour) = &environment.plan.neighbour else { return Vec::new() };
    let told = |beside: &BesideNeighbour| {
        let (work, who) = (&beside.workload, who(neighbour, beside));
        match &beside.overhead {
            Some(ratio) => vec![
                Piece::Plain(format!("{work} takes ")),
                Piece::Strong(overhead(ratio)),
                Piece::Plain(format!(" as long beside {who} as in {} without it", neighbour.without)),
            ],
            None => vec![Piece::Plain(format!("what {who} beside it costs {work} isn't known"))],
        }
    };
    environment.beside.iter().map(told).collect()
}

/// `disk/fsync in runc (412 op/s, 0.31 of the same CPUs)`.
fn who(neighbour: &Neighbour, beside: &BesideNeighbour) -> String {
    let cpus = beside.cpus.map(|cpus| format!(", {cpus:.2} of the same CPUs")).unwrap_or_default();
    format!("{} in {} ({}{cpus})", neighbour.workload, neighbour.like, units::per_second(beside.rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Estimate, Interval};

    #[test]
    fn a_neighbour_is_named_with_what_it_did_and_what_it_costs() {
        let mut environment = crate::render::sample::comparison().environments.remove(2);
        assert!(clauses(&environment).is_empty());
        let (like, workload, without) = ("gvisor".into(), "disk/fsync".into(), "runc".into());
        environment.plan.neighbour = Some(Neighbour { like, workload, settings: Default::default(), without });
        let interval = Some(Interval { low: 1.8, high: 2.1, confidence: 0.95 });
        let overhead = Some(Estimate { value: 1.9, interval });
        let beside = BesideNeighbour { workload: "control/cpu".into(), overhead, rate: 412.0, cpus: Some(0.31) };
        environment.beside = vec![BesideNeighbour { overhead: None, cpus: None, ..beside.clone() }, beside];
        let said: Vec<String> =
            clauses(&environment).iter().map(|clause| crate::render::words::plain(clause)).collect();
        let who = "disk/fsync in gvisor (412 op/s";
        assert_eq!(said[0], format!("what {who}) beside it costs control/cpu isn't known"));
        assert_eq!(
            said[1],
            format!(
                "control/cpu takes 1.90× (1.80–2.10) as long beside {who}, 0.31 of the same CPUs) as in runc without it"
            )
        );
    }
}
