//! Why a box costs what it costs, in words: the hints of its environments, those that are alike in one.

use super::marks::without_figures;
use super::{NAMED, tried};
use crate::comparison::{Comparison, Hint, Role};
use crate::explain::{Explanation, explain};
use crate::record::Run;
use crate::render::escape::one_line;
use crate::render::units;

/// What would change it, and what that gave back where the run tried it.
fn change(hint: &Hint, explanation: Option<&Explanation>) -> String {
    let gave_back = |value| gave_back(hint, explanation?, value);
    let tried: Vec<String> = hint.to_try().filter_map(gave_back).collect();
    let text = one_line(&hint.change);
    if tried.is_empty() { text } else { format!("{text} (in this run {})", tried.join("; ")) }
}

/// What a change gave back in the workloads of a hint; `None` where none of them tried it.
fn gave_back(hint: &Hint, explanation: &Explanation, change: &str) -> Option<String> {
    let own = explanation.ladders.iter().filter(|ladder| hint.workloads.contains(&ladder.workload));
    let (mut some, mut none) = (Vec::new(), Vec::new());
    for ladder in own {
        let Some(alternative) = ladder.alternatives.iter().find(|a| a.change == change) else { continue };
        let Ok(gain) = &alternative.gain else { continue };
        match alternative.share.filter(|share| *share > 0.0 && ladder.clear(gain)) {
            Some(share) => some.push(format!("{} in {}", units::percent(share), ladder.workload)),
            None => none.push(ladder.workload.as_str()),
        }
    }
    let none = (!none.is_empty()).then(|| format!("nothing that can be told from noise in {}", none.join(", ")));
    let all: Vec<String> = some.into_iter().chain(none).collect();
    (!all.is_empty()).then(|| format!("{change} gave back {}", all.join(", ")))
}

/// Where a hint holds: `seen in net/rr` where bursts show it, `may matter in net/rr` where the surroundings do.
#[must_use]
pub fn scope(hint: &Hint, run: &Run) -> String {
    match (hint.workloads.is_empty(), hint.felt) {
        (true, _) => "outside of every operation's time".into(),
        (false, true) => format!("seen in {}", felt(hint, run)),
        (false, false) => format!("may matter in {}", felt(hint, run)),
    }
}

/// Which hints are said in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alike {
    /// Those that are equal.
    Equal,
    /// Those that differ in the figures of their evidence alone: the rungs of a ladder all say so much.
    ButForFigures,
}

/// A hint, and all environments that it is said of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason<'a> {
    /// Names, the one whose evidence it has first.
    pub environments: Vec<&'a str>,
    /// The hint of the first.
    pub hint: &'a Hint,
    /// Whether the evidence of the others has the same figures.
    pub equal: bool,
    /// What would change it, and what that gave back where the run tried it.
    pub change: String,
}

/// The hints of all environments that were tried, those that are alike in one.
fn hints(c: &Comparison, alike: Alike) -> Vec<Reason<'_>> {
    let same = |one: &Hint, other: &Hint| {
        (one.name, one.felt, &one.workloads, &one.change) == (other.name, other.felt, &other.workloads, &other.change)
            && (one.evidence == other.evidence
                || alike == Alike::ButForFigures && without_figures(&one.evidence) == without_figures(&other.evidence))
    };
    let explanation = explain(c);
    let mut all: Vec<Reason> = Vec::new();
    for (e, hint) in tried(c).flat_map(|e| e.hints.iter().map(move |hint| (e, hint))) {
        match all.iter_mut().find(|reason| same(reason.hint, hint)) {
            Some(reason) => {
                reason.environments.push(c.label(&e.plan.name));
                reason.equal &= reason.hint.evidence == hint.evidence;
            }
            None => {
                let change = change(hint, explanation.as_ref());
                all.push(Reason { environments: vec![c.label(&e.plan.name)], hint, equal: true, change });
            }
        }
    }
    all
}

/// The hints of a report, those that are alike in one. The rungs of a ladder are one box, and most of them all say the same.
#[must_use]
pub fn reasons(c: &Comparison) -> Vec<Reason<'_>> {
    hints(c, if c.labels.is_empty() { Alike::Equal } else { Alike::ButForFigures })
}

impl Reason<'_> {
    /// The hint in one sentence, without the environments' names.
    #[must_use]
    pub fn sentence(&self, run: &Run) -> String {
        let evidence = one_line(&self.hint.evidence);
        format!("{}, {}: {evidence}. To change it: {}", self.hint.what, scope(self.hint, run), self.change)
    }

    /// The environments, and whose figures the evidence has where they differ. Of a long list that is all of them nobody needs the names.
    #[must_use]
    pub fn of(&self, c: &Comparison) -> String {
        let of = if self.equal { String::new() } else { format!(" (figures of {})", self.environments[0]) };
        let all = tried(c).filter(|e| e.role == Role::Compared).count();
        match self.environments.len() {
            n if n > NAMED && n == all => format!("all {n} environments{of}"),
            _ => format!("{}{of}", self.environments.join(", ")),
        }
    }
}

/// The workloads in which a hint's evidence stands: all of the run's workloads, or their names.
fn felt(hint: &Hint, run: &Run) -> String {
    let all = run.workloads.len() > 1 && hint.workloads.len() == run.workloads.len();
    if all { "all workloads".into() } else { hint.workloads.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn hints_that_are_alike_are_said_in_one() {
        let mut c = sample::comparison();
        c.environments.iter_mut().for_each(|e| e.hints.clear());
        let said = |figure: &str| Hint {
            name: "clock-call",
            what: "slow",
            workloads: vec!["a".into()],
            felt: false,
            evidence: format!("a reading costs {figure}, no more"),
            change: "another".into(),
        };
        let names: Vec<String> = tried(&c).map(|e| e.plan.name.clone()).take(3).collect();
        for (name, figure) in names.iter().zip(["310 ns", "310 ns", "1.25 µs"]) {
            let e = c.environments.iter_mut().find(|e| e.plan.name == *name).expect("there");
            e.hints.push(said(figure));
        }
        let told = |alike| {
            let all = hints(&c, alike).into_iter();
            all.map(|r| (r.environments.len(), r.equal)).collect::<Vec<_>>()
        };
        assert_eq!(told(Alike::Equal), [(2, true), (1, true)]);
        assert_eq!(told(Alike::ButForFigures), [(3, false)]);
    }

    #[test]
    fn a_hint_of_all_environments_needs_no_list_of_them() {
        let mut c = sample::comparison();
        let hint = c.environments.iter().flat_map(|e| &e.hints).next().expect("the sample has one").clone();
        c.environments.iter_mut().for_each(|e| e.hints.clear());
        let own = c.environments.iter_mut().filter(|e| e.role == Role::Compared);
        own.for_each(|e| e.hints = vec![hint.clone()]);
        let n = tried(&c).filter(|e| e.role == Role::Compared).count();
        let told: Vec<String> = reasons(&c).iter().map(|reason| reason.of(&c)).collect();
        assert_eq!(told, [format!("all {n} environments")]);
        c.environments.iter_mut().find(|e| e.plan.name == "runc").expect("there").hints.clear();
        let told: Vec<String> = reasons(&c).iter().map(|reason| reason.of(&c)).collect();
        assert!(n > NAMED && told[0].starts_with("gvisor, qemu"), "{told:?}");
    }

    #[test]
    fn what_the_run_tried_of_a_hint_is_said_with_it() {
        let mut c = crate::explain::tests::both();
        let hint = Hint {
            name: "disk",
            what: "slow",
            workloads: vec!["disk/fsync".into()],
            felt: false,
            evidence: "seen".into(),
            change: "another; now bus=ide, format=qcow2; try bus=virtio, cpu=host".into(),
        };
        let told = change(&hint, explain(&c).as_ref());
        let expected = "try bus=virtio, cpu=host (in this run bus=virtio gave back 65 % in disk/fsync)";
        assert!(told.ends_with(expected), "{told}");
        // As far as two copies of the baseline differ nothing is told.
        c.resolution.iter_mut().for_each(|r| r.noise_floor = Some(50.0));
        let told = change(&hint, explain(&c).as_ref());
        assert!(
            told.ends_with("(in this run bus=virtio gave back nothing that can be told from noise in disk/fsync)"),
            "{told}"
        );
    }

    #[test]
    fn a_hint_says_whether_it_was_seen_or_may_matter() {
        let c = sample::comparison();
        let of = |workloads: &[&str], felt| Hint {
            name: "a",
            what: "slow",
            workloads: workloads.iter().map(ToString::to_string).collect(),
            felt,
            evidence: "seen".into(),
            change: "another".into(),
        };
        assert_eq!(scope(&of(&["net/rr"], true), &c.run), "seen in net/rr");
        assert_eq!(scope(&of(&["net/rr"], false), &c.run), "may matter in net/rr");
        assert_eq!(scope(&of(&[], false), &c.run), "outside of every operation's time");
    }
}
