//! `tarebench run --gate`: a first look, and where it can't clear something a second one, of fresh starts and other work.
//!
//! The second run decides alone about what it is asked, and there is no third: rolling again until it is green would find a
//! regression of any size to be none.

use anyhow::Context;
use reports::comparison::compare;
use reports::gate::{self, CONFIRMS, Gate, Past, Policy};
use reports::record::{Ending, Run, Stored};
use reports::statistics::FEWEST_FOR_INTERVAL;
use reports::store::Key;
use workloads::content::mix;

use crate::execute::resume::FLEETING;
use crate::exit::{Exit, OrExit};
use crate::plan::Plan;

/// Blocks of the first look where nothing is said; a second one has twice as many.
pub const SCREEN: u32 = 12;

/// So many times the blocks of the first look has the second.
const CONFIRM_TIMES: u32 = 2;

/// That the blocks of a suite aren't those of a gate; `None` where they are, or were asked for by hand.
pub fn other_blocks(suite: u32, blocks: u32) -> Option<String> {
    (suite != blocks).then(|| {
        let second = blocks.saturating_mul(CONFIRM_TIMES);
        format!(
            "the suite's blocks ({suite}) aren't those of a gate: {blocks} are measured first, then {second} of what those \
             can't clear; --blocks N measures N first"
        )
    })
}

/// Refuses a first look of so few blocks that the second one can't be judged either.
///
/// # Errors
/// With the least that would do.
pub fn enough(blocks: u32) -> anyhow::Result<()> {
    let least = FEWEST_FOR_INTERVAL.div_ceil(CONFIRM_TIMES);
    let second = blocks.saturating_mul(CONFIRM_TIMES);
    anyhow::ensure!(
        blocks >= least,
        "--blocks {blocks} is too few to be judged: a second look would have {second} blocks, and an interval takes \
         {FEWEST_FOR_INTERVAL}; give --blocks {least} or more, or leave it away for {SCREEN}"
    );
    Ok(())
}

/// What was measured, and what is to be said of it.
#[derive(Debug)]
pub struct Gated {
    /// The first look, and the second where there was one.
    pub runs: Vec<Stored>,
    /// Of both.
    pub gate: Gate,
}

/// Looks once, and where that can't clear something once more; `measure` gets the run that a second one confirms.
///
/// # Errors
/// Those of `measure` and `accepted`; when the policy doesn't fit the run.
pub fn screen_and_confirm(
    plan: &Plan,
    policy: &Policy,
    accepted: impl FnOnce(&Run) -> anyhow::Result<Vec<Past>>,
    mut measure: impl FnMut(&Plan, Option<&str>) -> anyhow::Result<Stored>,
) -> anyhow::Result<Gated> {
    let first = measure(plan, None)?;
    let accepted = accepted(&first.run)?;
    let screen = gate::judge(&compare(&first, gate::method()), policy, &accepted).or_exit(Exit::Usage)?;
    if first.ending != Ending::Complete || screen.suspects().next().is_none() {
        return Ok(Gated { runs: vec![first], gate: screen });
    }
    let suspects: Vec<String> = screen.suspects().map(|j| format!("{} in {}", j.workload, j.environment)).collect();
    tell!("not cleared: {}; a second run of fresh starts decides", deduplicated(suspects).join(", "));
    let second = measure(&narrowed(plan, &screen)?, Some(&first.run.id))?;
    let gate = gate::confirm(&compare(&second, gate::method()), policy, &accepted, &screen).or_exit(Exit::Usage)?;
    Ok(Gated { runs: vec![first, second], gate })
}

fn deduplicated(mut names: Vec<String>) -> Vec<String> {
    names.dedup();
    names
}

/// The plan of the second look: what was not cleared and what it is held against, twice as often, with work drawn anew.
fn narrowed(plan: &Plan, screen: &Gate) -> anyhow::Result<Plan> {
    let mut suite = plan.suite.clone();
    suite.workloads.retain(|entry| screen.suspects().any(|j| j.workload == entry.name));
    let asked = |name: &str| screen.suspects().any(|j| j.environment == name || j.against == name);
    let baseline = suite.baseline.clone();
    suite.environments.retain(|entry| entry.name == baseline || asked(&entry.name));
    suite.blocks *= CONFIRM_TIMES;
    Plan::of(suite, mix(plan.seed) % 1_000_000_000).context("can't plan the second look")
}

/// The run that this one confirms, by its label.
pub fn confirms(run: &Run) -> Option<&str> {
    run.labels.get(CONFIRMS).map(String::as_str)
}

/// Whether a run can be the second look of another one: the same work in the same boxes, by the same programs on the same host,
/// from another seed and often enough. It may have less of it, never more.
///
/// # Errors
/// With what stands against it.
pub fn fits(first: &Run, second: &Run) -> Result<(), String> {
    let (key, own) = (Key::of(first), Key::of(second));
    let narrowed = |name: &str| name.starts_with("environment ") || name.starts_with("workload ");
    let other = own.differences(&key).find(|(name, own, _)| !(own.is_none() && narrowed(name)));
    if let Some((name, ..)) = other {
        return Err(format!("its {name} is another"));
    }
    if first.binary_sha256 != second.binary_sha256 {
        return Err("another tarebench measured it".into());
    }
    let fact = |run: &Run, name: &str| run.host.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let mut facts =
        first.host.iter().chain(&second.host).map(|(name, _)| name).filter(|n| !FLEETING.contains(&n.as_str()));
    if let Some(name) = facts.find(|name| fact(first, name) != fact(second, name)) {
        return Err(format!("its host has another {name}"));
    }
    let of_first = |name: &str| first.environments.iter().find(|e| e.name == name);
    let changed = second.environments.iter().find(|e| of_first(&e.name).is_none_or(|f| f.programs != e.programs));
    if let Some(environment) = changed {
        return Err(format!("other programs ran in its {}", environment.name));
    }
    if first.seed == second.seed {
        return Err("its work was drawn from the same seed".into());
    }
    if second.blocks < first.blocks.saturating_mul(CONFIRM_TIMES) {
        return Err(format!(
            "{} blocks are fewer than {CONFIRM_TIMES} times the first's {}",
            second.blocks, first.blocks
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
    use reports::gate::Verdict;
    use reports::record::{EnvironmentPlan, Record, WorkloadPlan};
    use workloads::evidence::{Canary, Evidence};
    use workloads::facts::{DataFacts, Network};
    use workloads::protocol::Sample;
    use workloads::stopwatch::HIGHEST_NS;

    use super::*;
    use crate::suite::Suite;

    const SUITE: &str = "blocks = 12\nrounds = 1\n[environments.bare]\n[environments.old]\nrunner = \"bare\"\n\
        [environments.new]\nrunner = \"bare\"\n[environments.other]\nrunner = \"bare\"\n\
        [workloads.\"sqlite/commit\"]\n[workloads.\"disk/fsync\"]\n";

    fn plan() -> Plan {
        Plan::of(Suite::parse("made up", SUITE).expect("reads"), 7).expect("resolves")
    }

    fn policy() -> Policy {
        Policy::parse("gate.toml", "head = \"new\"\nbase = \"old\"\n").expect("reads")
    }

    /// A burst of a hundred operations that take so long each.
    fn sample(ns: u64) -> Sample {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, HIGHEST_NS, 3).expect("bounds that fit");
        histogram.record_n(ns, 100).expect("within the bounds");
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut bytes).expect("in memory");
        Sample {
            operations: 100,
            elapsed_ns: 100 * ns,
            batch: 1,
            histogram: bytes,
            concurrency: 1,
            drawn: Some(1),
            ..Sample::default()
        }
    }

    /// What a plan would give on a machine on which `new` takes so many times as long in commits.
    fn measured(plan: &Plan, id: &str, factor: f64) -> Stored {
        let environments: Vec<&str> = plan.environments.iter().map(|e| e.name.as_str()).collect();
        let mut records = Vec::new();
        for block in 0..plan.suite.blocks {
            for workload in &plan.workloads {
                for (position, environment) in environments.iter().enumerate() {
                    let slow = *environment == "new" && workload.name == "sqlite/commit";
                    let noise = 1.0 + 0.004 * ((block as usize * 7 + position * 3) % 5) as f64;
                    let ns = 140_000.0 * noise * if slow { factor } else { 1.0 };
                    records.push(Record {
                        block,
                        round: 0,
                        position: position as u32,
                        workload: workload.name.clone(),
                        environment: environment.to_string(),
                        outcome: Ok(sample(ns as u64)),
                        canary: Canary { before_ns: 1000, after_ns: 1000 },
                        evidence: Evidence::default(),
                    });
                }
            }
        }
        Stored {
            run: run(plan, id),
            ending: Ending::Complete,
            stopped: None,
            seconds: Some(1.0),
            starts: Vec::new(),
            records,
            voids: Vec::new(),
            checks: Vec::new(),
        }
    }

    fn run(plan: &Plan, id: &str) -> Run {
        let workload = |w: &crate::plan::PlannedWorkload| WorkloadPlan {
            name: w.name.clone(),
            kind: w.workload.name().into(),
            about: String::new(),
            settings: BTreeMap::new(),
            resource: w.workload.resource(),
            durable: false,
            direct: false,
            streams: false,
            paced: false,
        };
        let environment = |e: &crate::plan::Environment| EnvironmentPlan {
            name: e.name.clone(),
            runner: "bare".into(),
            settings: BTreeMap::new(),
            version: None,
            skipped: None,
            network: Network::None,
            data: DataFacts::default(),
            emulated: None,
            sandbox: Default::default(),
            unequal: None,
            quota: None,
            data_path: String::new(),
            programs: Vec::new(),
            neighbour: None,
        };
        Run {
            id: id.into(),
            started: String::new(),
            suite: "made up".into(),
            suite_toml: String::new(),
            seed: plan.seed,
            blocks: plan.suite.blocks,
            rounds: 1,
            baseline: "bare".into(),
            command: String::new(),
            binary_sha256: String::new(),
            version: String::new(),
            labels: BTreeMap::new(),
            host: Vec::new(),
            nested: None,
            workloads: plan.workloads.iter().map(workload).collect(),
            environments: plan.environments.iter().map(environment).collect(),
            pinning: String::new(),
        }
    }

    /// Both looks at a machine on which `new` is slower by these factors, and the plans of those that were taken.
    fn looked(first: f64, second: f64) -> (Gated, Vec<(Plan, Option<String>)>) {
        let mut plans = Vec::new();
        let gated = screen_and_confirm(
            &plan(),
            &policy(),
            |_| Ok(Vec::new()),
            |plan, confirms| {
                plans.push((plan.clone(), confirms.map(str::to_string)));
                let (id, factor) = if confirms.is_some() { ("second", second) } else { ("first", first) };
                Ok(measured(plan, id, factor))
            },
        );
        (gated.expect("both looks"), plans)
    }

    #[test]
    fn what_the_first_look_clears_is_not_looked_at_again() {
        let (gated, plans) = looked(1.0, 9.0);
        assert_eq!((gated.gate.verdict(), plans.len(), gated.runs.len()), (Verdict::Pass, 1, 1));
        assert_eq!(gated.gate.confirmed_by, None);
    }

    #[test]
    fn a_suspicion_is_looked_at_alone_twice_as_often_and_with_other_work() {
        let (gated, plans) = looked(1.2, 1.2);
        assert_eq!(gated.gate.verdict(), Verdict::Regressed);
        assert_eq!(gated.gate.confirmed_by.as_deref(), Some("second"));
        let [(first, None), (second, Some(confirms))] = plans.as_slice() else { panic!("{}", plans.len()) };
        assert_eq!(confirms, "first");
        assert_ne!(first.seed, second.seed);
        assert_eq!((first.suite.blocks, second.suite.blocks), (12, 24));
        let names = |plan: &Plan| plan.environments.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(second), ["bare", "control", "old", "new"], "`other` has nothing to do with it");
        assert!(second.workloads.iter().map(|w| &w.name).eq(["sqlite/commit"]));
        // What was cleared stands beside what was confirmed.
        assert!(gated.gate.of(Verdict::Pass).any(|j| j.workload == "disk/fsync"));
    }

    #[test]
    fn the_second_look_decides_and_there_is_no_third() {
        let (gated, plans) = looked(1.2, 1.0);
        assert_eq!((gated.gate.verdict(), plans.len()), (Verdict::Pass, 2));
    }

    #[test]
    fn what_no_look_could_judge_is_refused() {
        for few in [1, 2] {
            let refused = enough(few).expect_err("too few").to_string();
            assert!(refused.starts_with(&format!("--blocks {few} is too few")), "{refused}");
            assert!(refused.contains("give --blocks 3 or more, or leave it away for 12"), "{refused}");
        }
        enough(3).expect("its second look has 6");
    }

    #[test]
    fn a_suite_of_other_blocks_is_told_that_they_do_not_count() {
        assert_eq!(other_blocks(SCREEN, SCREEN), None);
        let told = other_blocks(24, SCREEN).expect("they are others");
        assert!(told.contains("(24)") && told.contains("12 are measured first, then 24"), "{told}");
    }

    #[test]
    fn a_look_that_was_cut_off_is_not_followed_by_another() {
        let mut looks = 0;
        let gated = screen_and_confirm(
            &plan(),
            &policy(),
            |_| Ok(Vec::new()),
            |plan, _| {
                looks += 1;
                Ok(Stored { ending: Ending::Interrupted, ..measured(plan, "first", 1.2) })
            },
        );
        assert_eq!((gated.expect("a look").gate.verdict(), looks), (Verdict::Regressed, 1));
    }

    #[test]
    fn only_the_look_that_followed_confirms() {
        let (gated, _) = looked(1.2, 1.2);
        let (first, second) = (&gated.runs[0].run, &gated.runs[1].run);
        assert_eq!(fits(first, second), Ok(()));
        let refused = |change: fn(&mut Run)| {
            let mut other = second.clone();
            change(&mut other);
            fits(first, &other).expect_err("not the one")
        };
        assert!(refused(|r| r.seed = 7).contains("seed"));
        assert!(refused(|r| r.blocks = 23).contains("23 blocks"));
        assert!(refused(|r| r.suite = "full".into()).contains("suite"));
        assert!(refused(|r| r.binary_sha256 = "abc".into()).contains("tarebench"));
        assert!(refused(|r| r.host.push(("kernel".into(), "7.0".into()))).contains("kernel"));
        assert!(refused(|r| r.workloads[0].name = "net/rr".into()).contains("net/rr"));
        assert!(refused(|r| drop(r.environments[2].settings.insert("a".into(), "b".into()))).contains("old"));
        let program = |r: &mut Run| {
            let (path, sha256) = ("/runsc".into(), Some("1".into()));
            let program = workloads::facts::Program { path, version: None, sha256, script: Some(false) };
            r.environments[2].programs.push(program);
        };
        assert!(refused(program).contains("programs"));
        let mut load = second.clone();
        load.host.push(("load".into(), "3".into()));
        assert_eq!(fits(first, &load), Ok(()));
    }
}
