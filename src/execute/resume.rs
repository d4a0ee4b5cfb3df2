//! Going on with a run that is stored: on the same ground, or not at all.

use std::collections::{BTreeSet, HashMap};

use anyhow::bail;
use reports::record::{CALIBRATED, EnvironmentPlan, OTHER_RUN, RESUMED, Run, Stored, UNSEEN_RUN};
use reports::store::Store;

use super::{Options, Progress, execution::Rows, finish, set_up};
use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::Plan;

/// Facts of a host that are others at every look.
pub const FLEETING: [&str; 6] = ["load", "uptime", OTHER_RUN, UNSEEN_RUN, RESUMED, CALIBRATED];

/// What was done before: nothing, for a new run.
#[derive(Debug, Default)]
pub struct Before {
    /// Number of the next block.
    pub blocks: u32,
    /// Operations per clock reading, by workload: entries of one histogram must mean the same.
    pub batches: HashMap<String, u32>,
    /// Wall time so far, seconds.
    pub seconds: f64,
}

impl Before {
    /// What a stored run did.
    pub fn of(stored: &Stored) -> Self {
        let sample = |r: &reports::record::Record| Some((r.workload.clone(), r.outcome.as_ref().ok()?.batch.max(1)));
        Self {
            blocks: begun(stored),
            batches: stored.records.iter().filter_map(sample).collect(),
            seconds: stored.seconds.filter(|s| s.is_finite()).unwrap_or(0.0),
        }
    }
}

/// Blocks that were begun.
fn begun(stored: &Stored) -> u32 {
    stored.starts.iter().map(|s| s.block.saturating_add(1)).max().unwrap_or(0)
}

/// Blocks that were broken off: without checks of their last workload. They stay, and don't count.
fn broken_off(stored: &Stored) -> u32 {
    let last = stored.run.workloads.last().map_or("", |w| &w.name);
    let whole: BTreeSet<u32> = stored.checks.iter().filter(|c| c.workload == last).map(|c| c.block).collect();
    begun(stored).saturating_sub(whole.len() as u32)
}

/// The number of the last block, counted from 1, that gives so many whole ones in all.
///
/// # Errors
/// When there are as many already.
pub fn last_block(stored: &Stored, wanted: u32) -> anyhow::Result<u32> {
    let broken_off = broken_off(stored);
    let whole = begun(stored) - broken_off;
    if whole >= wanted {
        bail!(
            "run {} has {whole} whole blocks already: say with --blocks how many it is to have in all",
            stored.run.id
        );
    }
    Ok(wanted.saturating_add(broken_off))
}

/// Adds blocks to a stored run until the plan's last, and gives back all of its rows.
///
/// # Errors
/// As for a new run, and when this isn't the ground that it was begun on.
pub fn resume(
    plan: &Plan,
    options: Options,
    before: &Stored,
    store: &Store,
    interrupt: &Interrupt,
) -> anyhow::Result<Stored> {
    let (now, site) = set_up::set_up(plan, options, interrupt)?;
    let differences = differences(&before.run, &now);
    if !differences.is_empty() {
        let (id, list) = (&before.run.id, differences.join("\n  "));
        let error = anyhow::anyhow!(
            "run {id} was begun on other ground, and nothing was added to it:\n  {list}\nmeasure a new run, or bring back what was there"
        );
        return Err(error).or_exit(Exit::Host);
    }
    store.resume(&gone_on(before, plan.suite.blocks, &now)).or_exit(Exit::Store)?;
    finish(plan, Rows::of(&before.run.id, store), Before::of(before), site, Progress::on_terminal())
}

/// A run that is gone on with: it says so, and beside whom, as a whole run does.
fn gone_on(before: &Stored, blocks: u32, now: &Run) -> Run {
    let mut host = before.run.host.clone();
    let begun = begun(before);
    host.push((RESUMED.into(), format!("at {}, after {begun} blocks", now.started)));
    let beside = now.host.iter().filter(|(name, _)| [OTHER_RUN, UNSEEN_RUN].contains(&name.as_str()));
    host.extend(beside.map(|(name, words)| (name.clone(), format!("after {begun} blocks: {words}"))));
    Run { blocks, command: now.command.clone(), host, ..before.run.clone() }
}

/// In what the ground of a run differs from now, one line each.
fn differences(then: &Run, now: &Run) -> Vec<String> {
    let mut found = Vec::new();
    let mut hold = |what: &str, then: &str, now: &str| {
        if then != now {
            found.push(format!("{what}: {} then, {} now", shown(then), shown(now)));
        }
    };
    hold("tarebench (SHA-256)", &then.binary_sha256, &now.binary_sha256);
    hold("pinning", &then.pinning, &now.pinning);
    let names = then.host.iter().chain(&now.host).map(|(name, _)| name.as_str()).filter(|n| !FLEETING.contains(n));
    let fact =
        |run: &Run, name: &str| run.host.iter().find(|(n, _)| n == name).map_or(String::new(), |(_, v)| v.clone());
    for name in names.collect::<BTreeSet<_>>() {
        hold(name, &fact(then, name), &fact(now, name));
    }
    for w in &then.workloads {
        let other = now.workloads.iter().find(|other| other.name == w.name);
        hold(&w.name, &format!("{w:?}"), &other.map_or(String::new(), |other| format!("{other:?}")));
    }
    for (then, now) in then.environments.iter().zip(&now.environments) {
        let (facts, others) = (of_environment(then), of_environment(now));
        for ((what, then_is), (_, now_is)) in facts.iter().zip(&others) {
            hold(&format!("{what} of {}", then.name), then_is, now_is);
        }
    }
    found
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "nothing" } else { value }
}

/// All that an environment stands on.
fn of_environment(e: &EnvironmentPlan) -> [(&'static str, String); 10] {
    let words = |of: &Option<String>| of.clone().unwrap_or_default();
    let programs = e.programs.iter().map(|p| format!("{p:?}")).collect::<Vec<_>>().join(", ");
    [
        ("runner", e.runner.clone()),
        ("settings", format!("{:?}", e.settings)),
        ("version", words(&e.version)),
        ("programs", programs),
        ("absence", words(&e.skipped)),
        ("network", format!("{:?}", e.network)),
        ("data", format!("{} ({:?})", e.data_path, e.data)),
        ("limits", words(&e.unequal)),
        ("quota", words(&e.quota)),
        ("neighbour", format!("{:?}", e.neighbour)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{plan_of, rows_of, run};
    use super::*;

    #[test]
    fn the_same_ground_is_no_difference_and_every_other_is_named() {
        let mut then = run();
        then.host = vec![("kernel".into(), "6.1".into()), ("load".into(), "0.1".into())];
        then.binary_sha256 = "abc".into();
        let mut now = then.clone();
        now.host.push((OTHER_RUN.into(), "another run was measuring".into()));
        (now.host[1].1, now.id, now.started) = ("3.9".into(), "other".into(), "later".into());
        assert!(differences(&then, &now).is_empty());
        now.host[0].1 = "6.2".into();
        now.binary_sha256 = "def".into();
        now.host.push(("swap".into(), "1 GiB".into()));
        let found = differences(&then, &now);
        let expected =
            ["tarebench (SHA-256): abc then, def now", "kernel: 6.1 then, 6.2 now", "swap: nothing then, 1 GiB now"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_run_that_is_gone_on_with_says_so_and_beside_whom() {
        let before = rows_of(&plan_of(3));
        let mut now = before.run.clone();
        (now.started, now.command) = ("2026-02-03T04:05:06Z".into(), "tarebench run --blocks 5".into());
        let alone = gone_on(&before, 5, &now);
        assert_eq!((alone.blocks, &alone.command, &alone.started), (5, &now.command, &before.run.started));
        assert_eq!(alone.host.last(), Some(&(RESUMED.into(), "at 2026-02-03T04:05:06Z, after 3 blocks".into())));
        now.host.push((OTHER_RUN.into(), "process 7 was measuring".into()));
        let beside = gone_on(&before, 5, &now);
        assert_eq!(beside.host.last(), Some(&(OTHER_RUN.into(), "after 3 blocks: process 7 was measuring".into())));
        assert!(differences(&beside, &now).is_empty(), "it can be gone on with again");
    }

    #[test]
    fn blocks_that_were_broken_off_are_done_again_under_new_numbers() {
        let mut stored = rows_of(&plan_of(3));
        stored.run.workloads = vec![reports::record::WorkloadPlan {
            name: "control/syscall".into(),
            kind: String::new(),
            about: String::new(),
            settings: Default::default(),
            resource: workloads::Resource::Processor,
            durable: false,
            direct: false,
            streams: false,
            paced: false,
        }];
        assert_eq!(last_block(&stored, 5).expect("more"), 5);
        let error = last_block(&stored, 3).expect_err("all are there").to_string();
        assert!(error.contains("3 whole blocks already") && error.contains("--blocks"), "{error}");
        stored.checks.retain(|c| c.block < 2);
        assert_eq!(last_block(&stored, 3).expect("one was broken off"), 4);
        // Whatever somebody wrote into a store, this is no reason to panic.
        let mut stray = stored.checks[0].clone();
        stored.starts[0].block = u32::MAX;
        last_block(&stored, 5).expect("the block of the large number is one that was broken off");
        stored.starts.clear();
        stray.block = 7;
        stored.checks.push(stray);
        assert_eq!(last_block(&stored, 5).expect("nothing was begun"), 5);
    }
}
