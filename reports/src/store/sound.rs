//! Whether the numbers of a run from elsewhere are such as a run can have: what reads them counts on it.

use std::collections::BTreeSet;

use crate::record::{Run, Stored};

/// Blocks and rounds are numbered below this: a thousand times more than a suite can ask for.
const MANY: u32 = 1_000_000;

/// The first of its numbers that no run can have, in words.
pub(super) fn finding(stored: &Stored) -> Option<String> {
    let id = &stored.run.id;
    of_run(&stored.run, stored.seconds).or_else(|| of_rows(stored)).map(|what| format!("run {id}: {what}"))
}

fn of_run(run: &Run, seconds: Option<f64>) -> Option<String> {
    if let Some(seconds) = seconds.filter(|seconds| !seconds.is_finite() || *seconds < 0.0) {
        return Some(format!("it says that it took {seconds} seconds"));
    }
    if !run.environments.iter().any(|e| e.name == run.baseline) {
        return Some(format!("its baseline `{}` is none of its environments", run.baseline.escape_debug()));
    }
    too_many("it", "blocks", run.blocks).or_else(|| too_many("it", "rounds", run.rounds))
}

fn of_rows(stored: &Stored) -> Option<String> {
    let starts = stored.starts.iter().map(|s| ("a start", s.block, 0));
    let bursts = stored.records.iter().map(|r| ("a burst", r.block, r.round));
    let voids = stored.voids.iter().map(|v| ("a void round", v.block, v.round));
    let checks = stored.checks.iter().map(|c| ("a check", c.block, 0));
    let numbered = |(row, block, round)| too_many(row, "block", block).or_else(|| too_many(row, "round", round));
    starts
        .chain(bursts)
        .chain(voids)
        .chain(checks)
        .find_map(numbered)
        .or_else(|| batch(stored))
        .or_else(|| check(stored))
}

fn too_many(row: &str, what: &str, number: u32) -> Option<String> {
    (number >= MANY).then(|| format!("{row} has {what} {number}, and there are fewer than {MANY}"))
}

fn batch(stored: &Stored) -> Option<String> {
    let nothing = stored.records.iter().find(|r| r.outcome.as_ref().is_ok_and(|sample| sample.batch == 0))?;
    Some(format!("a burst of block {} has no operation for a clock reading", nothing.block))
}

/// What was checked was begun before.
fn check(stored: &Stored) -> Option<String> {
    let blocks = stored.starts.iter().map(|s| s.block).chain(stored.records.iter().map(|r| r.block));
    let begun: BTreeSet<u32> = blocks.collect();
    let stray = stored.checks.iter().find(|c| !begun.contains(&c.block))?;
    Some(format!("a check is of block {}, which was never begun", stray.block))
}
