//! Runs from their first start to their last row, with every way to fail, on a host that follows a script.

mod asking;
mod script;

use std::collections::BTreeMap;
use std::path::Path;

use reports::record::{
    Checked, Ending, EnvironmentPlan, Failure, Record, Run, Start, Step, Stored, Void, WorkloadPlan,
};
use reports::store::Store;
use workloads::Resource;
use workloads::facts::{DataFacts, Network};
use workloads::timeline::{self, Entry};

use super::execution::Rows;
use super::progress::Progress;
use super::resume::{self, Before};
use super::{finish, record};
use crate::exit::{Exit, code_of};
use crate::plan::Plan;
use crate::suite::Suite;
use script::Fault::{Dies, Refuses};
use script::{Act, Ask, ENVIRONMENTS, Lie, Script, Signal, died, histogram};

/// A plan for `bare`, its `control` and a `box`, with two rounds of 300 operations a block.
fn plan(blocks: u32, workloads: &[&str]) -> Plan {
    let mut text = format!("blocks = {blocks}\nrounds = 2\nburst = \"3ms\"\n[environments.bare]\n");
    text += "[environments.box]\nrunner = \"bare\"\n";
    text.extend(workloads.iter().map(|name| format!("[workloads.\"{name}\"]\n")));
    let plan = Plan::of(Suite::parse("scripted", &text).expect("reads"), 7).expect("resolves");
    assert!(plan.environments.iter().map(|e| e.name.as_str()).eq(ENVIRONMENTS));
    plan
}

const ONE: &[&str] = &["control/syscall"];
const TWO: &[&str] = &["control/syscall", "control/timer"];

/// A plan of one workload, and the rows of a run of it.
pub(super) fn plan_of(blocks: u32) -> Plan {
    plan(blocks, ONE)
}

pub(super) fn rows_of(plan: &Plan) -> Stored {
    rows(plan, &Script::default())
}

pub(super) fn run() -> Run {
    Run {
        id: "scripted".into(),
        started: "2026-01-01T00:00:00Z".into(),
        suite: "scripted".into(),
        suite_toml: String::new(),
        seed: 7,
        blocks: 0,
        rounds: 2,
        baseline: "bare".into(),
        command: String::new(),
        binary_sha256: String::new(),
        version: String::new(),
        labels: BTreeMap::new(),
        host: Vec::new(),
        nested: None,
        workloads: Vec::new(),
        environments: Vec::new(),
        pinning: String::new(),
    }
}

/// Runs a plan into a store that SQLite keeps in memory.
fn rows(plan: &Plan, script: &Script) -> Stored {
    let store = Store::open(Path::new(":memory:")).expect("opens");
    let stored = record(plan, &run(), &store, script.clone(), Progress::hidden()).expect("runs");
    assert_eq!(script.up(), 0, "every session is ended");
    stored
}

/// Holds all rows of a run against a table; how far it is indented does not matter.
#[track_caller]
fn assert_rows(stored: &Stored, expected: &str) {
    let lines = |text: &str| text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    let (found, expected) = (lines(&table(stored)), lines(expected));
    assert!(found == expected, "found\n{found}\n\nexpected\n{expected}\n");
}

/// A line for the starts of a block, then for each workload its rounds in the order of their turns, and its checks.
fn table(stored: &Stored) -> String {
    let mut text = String::new();
    let blocks = stored.starts.iter().map(|s| s.block + 1).max().unwrap_or(0);
    for block in 0..blocks {
        let starts = stored.starts.iter().filter(|s| s.block == block).map(start);
        text += &format!("block {block}: {}\n", starts.collect::<Vec<_>>().join(", "));
        for workload in TWO {
            text += &of_workload(stored, block, workload);
        }
    }
    text + &format!("{:?}", stored.ending).to_lowercase()
}

fn start(start: &Start) -> String {
    let clock = if start.clock.is_some() { "up" } else { "up without a clock" };
    format!("{} {}", start.environment, outcome(&start.outcome, |_| clock.into()))
}

fn of_workload(stored: &Stored, block: u32, workload: &str) -> String {
    let short = workload.rsplit('/').next().unwrap_or(workload);
    let mut text = String::new();
    let records = || stored.records.iter().filter(|r| r.block == block && r.workload == workload);
    for round in 0..records().map(|r| r.round + 1).max().unwrap_or(0) {
        let turns: Vec<String> = records().filter(|r| r.round == round).map(turn).collect();
        text += &format!("{short} {round}: {}\n", turns.join(", "));
        let is_void = |v: &&Void| (v.block, v.round, v.workload.as_str()) == (block, round, workload);
        text.extend(stored.voids.iter().filter(is_void).map(|void| format!("{short} {round} void: {}\n", void.reason)));
    }
    let checks = stored.checks.iter().filter(|c| c.block == block && c.workload == workload);
    let checks: Vec<String> = checks.map(check).collect();
    if !checks.is_empty() {
        text += &format!("{short} checks: {}\n", checks.join(", "));
    }
    text
}

fn turn(record: &Record) -> String {
    format!("{} {}", record.environment, outcome(&record.outcome, |sample| sample.operations.to_string()))
}

fn check(checked: &Checked) -> String {
    format!("{} {}", checked.environment, outcome(&checked.outcome, |check| check.value.clone()))
}

fn outcome<T>(outcome: &Result<T, Failure>, shown: impl Fn(&T) -> String) -> String {
    match outcome {
        Ok(good) => shown(good),
        Err(Failure { step, message }) => {
            let message = if *message == died().to_string() { "died" } else { message };
            format!("FAILED in {}: {message}", format!("{step:?}").to_lowercase())
        }
    }
}

#[test]
fn a_round_is_the_same_work_everywhere_and_no_two_rounds_are() {
    let script = Script::default();
    let stored = rows(&plan(3, ONE), &script);
    let drawn = |block: u32, round: u32| {
        let here = stored.records.iter().filter(|r| (r.block, r.round) == (block, round));
        here.map(|r| r.outcome.as_ref().expect("a sample").drawn.expect("said")).collect::<Vec<_>>()
    };
    let mut rounds = Vec::new();
    for (block, round) in (0..3).flat_map(|block| [(block, 0), (block, 1)]) {
        let all = drawn(block, round);
        assert!(all.len() == 3 && all.iter().all(|one| *one == all[0]), "block {block}, round {round}: {all:?}");
        rounds.push(all[0]);
    }
    rounds.sort_unstable();
    rounds.dedup();
    assert_eq!(rounds.len(), 6, "blocks and rounds draw different work");
}

#[test]
fn before_durable_writes_the_idle_disk_is_watched() {
    let stored = rows(&plan(1, &["control/syscall", "disk/fsync"]), &Script::default());
    for record in &stored.records {
        let watched = (record.workload == "disk/fsync").then_some(script::IDLE);
        assert_eq!(record.evidence.idle_flushes, watched, "{} in {}", record.workload, record.environment);
    }
}

#[test]
fn nothing_is_looked_at_while_a_burst_is_timed() {
    let script = Script::default();
    rows(&plan(1, &["control/syscall", "disk/fsync"]), &script);
    let order = script.order();
    let watched: Vec<&[Act]> =
        order.iter().enumerate().filter(|(_, act)| **act == Act::Begin).map(|(at, _)| &order[at..at + 3]).collect();
    assert!(watched.iter().all(|acts| **acts == [Act::Begin, Act::Burst, Act::End]), "{order:?}");
    assert_eq!(watched.len(), script.bursts());
    assert!(order.contains(&Act::Look));
    // Nor while a neighbour works, but for the counters of whoever works beside it.
    let script = Script::default();
    rows(&beside(), &script);
    let mut watched = 0;
    for act in script.order() {
        match act {
            Act::Begin => watched += 1,
            Act::End => watched -= 1,
            Act::Look => assert_eq!(watched, 0),
            Act::Burst => {}
        }
    }
}

#[test]
fn a_run_without_trouble_has_a_row_of_everything() {
    let script = Script::default();
    let stored = rows(&plan(2, TWO), &script);
    assert_eq!(Exit::of_run(&stored, false), Exit::Done);
    assert_eq!(Exit::of_run(&stored, true), Exit::Inconclusive);
    assert_rows(
        &stored,
        "block 0: box up, control up, bare up
         syscall 0: box 300, bare 300, control 300
         syscall 1: box 300, bare 300, control 300
         syscall checks: bare c0de, control c0de, box c0de
         timer 0: box 300, control 300, bare 300
         timer 1: control 300, bare 300, box 300
         timer checks: bare c0de, control c0de, box c0de
         block 1: control up, box up, bare up
         syscall 0: box 300, control 300, bare 300
         syscall 1: bare 300, box 300, control 300
         syscall checks: bare c0de, control c0de, box c0de
         timer 0: bare 300, box 300, control 300
         timer 1: bare 300, box 300, control 300
         timer checks: bare c0de, control c0de, box c0de
         complete",
    );
    assert_eq!(script.most_up(), 3, "all environments are up at a time");
}

#[test]
fn an_environment_is_given_up_after_two_failed_starts_in_a_row() {
    let script = Script::default().fails("box", Ask::Start, 0..9, Dies);
    assert_rows(
        &rows(&plan(4, ONE), &script),
        "block 0: box FAILED in start: died, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in start: not running in this block
         block 1: control up, box FAILED in start: died, bare up
         syscall 0: bare 300, control 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in start: not running in this block
         block 2: bare up, control up, box FAILED in start: given up after 2 failed starts in a row
         syscall 0: control 300, bare 300
         syscall 1: bare 300, control 300
         syscall checks: bare c0de, control c0de, box FAILED in start: not running in this block
         block 3: bare up, box FAILED in start: given up after 2 failed starts in a row, control up
         syscall 0: bare 300, control 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
    assert_eq!(script.times("box", Ask::Start), 2);
}

#[test]
fn a_start_that_fails_once_is_tried_again_in_the_next_block() {
    let script = Script::default().fails("box", Ask::Start, 0..1, Dies);
    assert_rows(
        &rows(&plan(2, ONE), &script),
        "block 0: box FAILED in start: died, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in start: not running in this block
         block 1: control up, box up, bare up
         syscall 0: box 300, control 300, bare 300
         syscall 1: bare 300, box 300, control 300
         syscall checks: bare c0de, control c0de, box c0de
         complete",
    );
}

#[test]
fn failed_starts_that_are_not_in_a_row_are_no_reason_to_give_up() {
    let script = Script::default().fails("box", Ask::Start, 0..1, Dies).fails("box", Ask::Start, 2..3, Dies);
    rows(&plan(5, ONE), &script);
    assert_eq!(script.times("box", Ask::Start), 5);
}

#[test]
fn an_environment_that_is_not_available_is_neither_started_nor_missed() {
    let script = Script::default().lacks("box");
    assert_rows(
        &rows(&plan(1, ONE), &script),
        "block 0: bare up, control up
         syscall 0: bare 300, control 300
         syscall 1: bare 300, control 300
         syscall checks: bare c0de, control c0de
         complete",
    );
}

#[test]
fn a_baseline_that_never_comes_up_leaves_the_others_measured() {
    let script = Script::default().fails("bare", Ask::Start, 0..9, Dies);
    let stored = rows(&plan(3, ONE), &script);
    assert_eq!(Exit::of_run(&stored, false), Exit::NothingMeasured);
    assert_rows(
        &stored,
        "block 0: box up, control up, bare FAILED in start: died
         syscall 0: box 300, control 300
         syscall 1: box 300, control 300
         syscall checks: bare FAILED in start: not running in this block, control c0de, box c0de
         block 1: control up, box up, bare FAILED in start: died
         syscall 0: box 300, control 300
         syscall 1: control 300, box 300
         syscall checks: bare FAILED in start: not running in this block, control c0de, box c0de
         block 2: bare FAILED in start: given up after 2 failed starts in a row, control up, box up
         syscall 0: box 300, control 300
         syscall 1: control 300, box 300
         syscall checks: bare FAILED in start: not running in this block, control c0de, box c0de
         complete",
    );
}

#[test]
fn a_session_that_dies_before_it_says_who_it_is_did_not_start() {
    let script = Script::default().fails("box", Ask::Identify, 0..1, Dies);
    assert_rows(
        &rows(&plan(1, ONE), &script),
        "block 0: box FAILED in start: died, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
}

#[test]
fn a_session_that_dies_in_its_first_pings_did_not_start() {
    let script = Script::default().fails("box", Ask::Ping, 4..5, Dies);
    assert_rows(
        &rows(&plan(1, ONE), &script),
        "block 0: box FAILED in start: died, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
}

#[test]
fn a_session_that_dies_while_it_prepares_is_out_for_the_rest_of_the_block() {
    let script = Script::default().fails("box", Ask::Prepare, 0..1, Dies);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in prepare: died
         timer 0: control 300, bare 300
         timer 1: bare 300, control 300
         timer checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
}

#[test]
fn an_environment_that_can_not_prepare_a_workload_drops_out_for_that_workload_only() {
    let script = Script::default().fails("box", Ask::Prepare, 0..1, Refuses);
    let stored = rows(&plan(1, TWO), &script);
    assert_eq!(Exit::of_run(&stored, false), Exit::SomeFailed);
    assert_rows(
        &stored,
        "block 0: box up, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in prepare: it can't
         timer 0: box 300, control 300, bare 300
         timer 1: control 300, bare 300, box 300
         timer checks: bare c0de, control c0de, box c0de
         complete",
    );
}

#[test]
fn where_the_baseline_dies_in_its_pilot_the_next_sizes_the_bursts() {
    let script = Script::default().fails("bare", Ask::Burst, 0..1, Dies);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: box 300, control 300
         syscall 1: box 300, control 300
         syscall checks: bare FAILED in burst: died, control c0de, box c0de
         timer 0: box 300, control 300
         timer 1: control 300, box 300
         timer checks: bare FAILED in start: not running in this block, control c0de, box c0de
         complete",
    );
}

#[test]
fn where_nobody_can_do_the_pilot_there_are_no_rounds() {
    let refuse = |script: Script, environment| script.fails(environment, Ask::Burst, 0..1, Refuses);
    let script = ENVIRONMENTS.into_iter().fold(Script::default(), refuse);
    assert_rows(&rows(&plan(1, ONE), &script), "block 0: box up, control up, bare up
         syscall checks: bare FAILED in burst: it can't, control FAILED in burst: it can't, box FAILED in burst: it can't
         complete");
}

#[test]
fn a_session_that_dies_in_its_pilot_has_no_rounds() {
    let script = Script::default().fails("box", Ask::Burst, 0..1, Dies);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in burst: died
         timer 0: control 300, bare 300
         timer 1: bare 300, control 300
         timer checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
}

#[test]
fn who_refuses_its_pilot_has_no_rounds_of_that_workload() {
    let script = Script::default().fails("box", Ask::Burst, 0..1, Refuses);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: control 300, bare 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de, box FAILED in burst: it can't
         timer 0: box 300, control 300, bare 300
         timer 1: control 300, bare 300, box 300
         timer checks: bare c0de, control c0de, box c0de
         complete",
    );
}

#[test]
fn all_have_the_same_behind_them_when_the_rounds_begin() {
    for blocks in [1, 3] {
        let script = Script::default();
        rows(&plan(blocks, ONE), &script);
        // A pilot and two rounds a block. The baseline's pilot has a time, the others do what it did in it.
        for environment in ENVIRONMENTS {
            assert_eq!(script.times(environment, Ask::Burst), 3 * blocks as usize, "{environment}");
            assert_eq!(script.pilots(environment), [100, 100, 100][..blocks as usize], "{environment}");
        }
    }
}

#[test]
fn a_session_that_dies_in_a_burst_fails_in_that_round_and_the_others_go_on() {
    let script = Script::default().fails("box", Ask::Burst, 1..2, Dies);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: box FAILED in burst: died, bare 300, control 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de
         timer 0: control 300, bare 300
         timer 1: bare 300, control 300
         timer checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
}

#[test]
fn a_burst_that_is_refused_is_not_asked_for_again_in_its_workload() {
    let script = Script::default().fails("box", Ask::Burst, 1..2, Refuses);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: box FAILED in burst: it can't, bare 300, control 300
         syscall 1: control 300, bare 300
         syscall checks: bare c0de, control c0de
         timer 0: box 300, control 300, bare 300
         timer 1: control 300, bare 300, box 300
         timer checks: bare c0de, control c0de, box c0de
         complete",
    );
}

#[test]
fn a_session_that_dies_in_its_check_keeps_its_bursts() {
    let script = Script::default().fails("box", Ask::Verify, 0..1, Dies);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: box 300, bare 300, control 300
         syscall 1: box 300, bare 300, control 300
         syscall checks: bare c0de, control c0de, box FAILED in verify: died
         timer 0: control 300, bare 300
         timer 1: bare 300, control 300
         timer checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
}

#[test]
fn a_session_that_dies_as_it_clears_away_misses_the_next_workload() {
    let script = Script::default().fails("box", Ask::Release, 0..1, Dies);
    assert_rows(
        &rows(&plan(1, TWO), &script),
        "block 0: box up, control up, bare up
         syscall 0: box 300, bare 300, control 300
         syscall 1: box 300, bare 300, control 300
         syscall checks: bare c0de, control c0de, box c0de
         timer 0: control 300, bare 300
         timer 1: bare 300, control 300
         timer checks: bare c0de, control c0de, box FAILED in start: not running in this block
         complete",
    );
}

#[test]
fn a_session_that_dies_in_its_last_ping_has_all_its_rows() {
    let script = Script::default().fails("box", Ask::Ping, 5..6, Dies);
    assert_eq!(table(&rows(&plan(1, TWO), &script)), table(&rows(&plan(1, TWO), &Script::default())));
    assert_eq!(script.times("box", Ask::Ping), 6);
}

#[test]
fn the_clock_of_a_session_is_kept_in_whichever_step_it_dies() {
    for ask in [Ask::Prepare, Ask::Burst, Ask::Verify, Ask::Release] {
        let script = Script::default().fails("box", ask, 0..1, Dies);
        let stored = rows(&plan(1, TWO), &script);
        assert!(stored.starts.iter().all(|start| start.clock.is_some()), "{ask:?}");
    }
}

#[test]
fn when_all_environments_die_the_next_block_starts_them_afresh() {
    let die = |script: Script, environment| script.fails(environment, Ask::Prepare, 0..1, Dies);
    let script = ENVIRONMENTS.into_iter().fold(Script::default(), die);
    assert_rows(
        &rows(&plan(2, ONE), &script),
        "block 0: box up, control up, bare up
         syscall checks: bare FAILED in prepare: died, control FAILED in prepare: died, box FAILED in prepare: died
         block 1: control up, box up, bare up
         syscall 0: box 300, control 300, bare 300
         syscall 1: bare 300, box 300, control 300
         syscall checks: bare c0de, control c0de, box c0de
         complete",
    );
}

#[test]
fn a_round_in_which_everything_stood_still_is_void() {
    // The third burst of all, in the pilots' wake: ten seconds that no canary sees, and that are in nobody's CPU time.
    let stored = rows(&plan(1, ONE), &Script::default().stopped("control", 3));
    let reasons: Vec<&str> = stored.voids.iter().map(|void| void.reason.as_str()).collect();
    assert_eq!(reasons, ["the harness itself stood still for 10.0 s during the burst of control"]);
    assert_eq!(stored.records.len(), 9, "it is done again");
    let slept = stored.records.iter().filter_map(|r| r.evidence.overslept_ns).filter(|ns| *ns > 0);
    assert_eq!(slept.collect::<Vec<_>>(), [10_000_000_000], "and what was seen is kept");
}

#[test]
fn a_void_round_is_done_again_when_all_else_is_done() {
    // A look before the first round, and one after each burst.
    let script = Script::default().canaries(&[10, 10, 10, 10, 90, 90]);
    let stored = rows(&plan(1, TWO), &script);
    assert_rows(
        &stored,
        "block 0: box up, control up, bare up
         syscall 0: box 300, bare 300, control 300
         syscall 1: box 300, bare 300, control 300
         syscall 1 void: the host's own operations took 90.0 µs before the burst of box, 9.0 times the block's 10.0 µs
         syscall 2: bare 300, box 300, control 300
         syscall checks: bare c0de, control c0de, box c0de, bare c0de, control c0de, box c0de
         timer 0: box 300, control 300, bare 300
         timer 1: control 300, bare 300, box 300
         timer checks: bare c0de, control c0de, box c0de
         complete",
    );
    let order = |r: &Record| (r.workload == "control/syscall").then_some(r.round);
    let mut rounds: Vec<_> = stored.records.iter().map(order).collect();
    rounds.dedup();
    assert_eq!(rounds, [Some(0), Some(1), None, Some(2)], "not at once, in the same hiccup");
}

#[test]
fn one_look_lies_between_two_bursts_and_both_are_judged_by_it() {
    let script = Script::default();
    let stored = rows(&plan(1, ONE), &script);
    assert_eq!(script.looks(), 1 + 6, "three bursts in each of two rounds");
    for pair in stored.records.windows(2) {
        assert_eq!(pair[0].canary.after_ns, pair[1].canary.before_ns);
    }
    // A rough spell at the end of a round tells nothing about the next: the host is looked at again.
    let script = Script::default().canaries(&[10, 10, 10, 10, 10, 90, 90]);
    let mut plan = plan(1, ONE);
    plan.suite.rounds = 3;
    let stored = rows(&plan, &script);
    let voids: Vec<_> = stored.voids.iter().map(|void| void.round).collect();
    assert_eq!((voids, stored.records[6].canary.before_ns), (vec![1], 10_000));
}

#[test]
fn a_round_that_stays_void_is_done_again_four_times() {
    // A rough spell in the second round and in each that takes its place: 7 looks of the workload, 7 of the other, 4 a retry.
    let spell = [10, 90, 90, 10];
    let looks = [&[10; 3], &spell[..], &[10; 7], &spell, &spell, &spell, &spell, &spell].concat();
    let stored = rows(&plan(1, TWO), &Script::default().canaries(&looks));
    let voids: Vec<_> = stored.voids.iter().map(|v| (v.workload.as_str(), v.round)).collect();
    assert_eq!(voids, [1, 2, 3, 4, 5].map(|round| ("control/syscall", round)));
    assert!(stored.records.iter().all(|r| r.round < 6), "and then no more");
}

#[test]
fn what_is_void_again_when_it_is_retried_is_not_prepared_again_for_it() {
    // The second round meets a rough spell, and so does the first that is to take its place.
    let looks = [&[10; 4], &[90, 90, 10][..], &[10, 90, 90, 10]].concat();
    let script = Script::default().canaries(&looks);
    let stored = rows(&plan(1, ONE), &script);
    let voids: Vec<_> = stored.voids.iter().map(|void| void.round).collect();
    assert_eq!((voids, stored.records.last().map(|last| last.round)), (vec![1, 2], Some(3)));
    assert_eq!(script.times("box", Ask::Prepare), 2, "once for the workload, and once for all that it owes");
}

#[test]
fn who_is_not_up_any_more_takes_no_part_in_a_retry() {
    let script = Script::default().canaries(&[10, 10, 10, 10, 90, 90]).fails("box", Ask::Verify, 0..1, Dies);
    assert_rows(
        &rows(&plan(1, ONE), &script),
        "block 0: box up, control up, bare up
         syscall 0: box 300, bare 300, control 300
         syscall 1: box 300, bare 300, control 300
         syscall 1 void: the host's own operations took 90.0 µs before the burst of box, 9.0 times the block's 10.0 µs
         syscall 2: bare 300, control 300
         syscall checks: bare c0de, control c0de, box FAILED in verify: died, bare c0de, control c0de
         complete",
    );
}

#[test]
fn who_can_not_be_prepared_is_not_asked_again_in_a_retry() {
    let script = Script::default().stolen(0.5).fails("box", Ask::Prepare, 0..9, Refuses);
    let stored = rows(&plan(1, ONE), &script);
    let failed = stored.checks.iter().filter(|c| c.outcome.is_err()).map(|c| c.environment.as_str());
    assert_eq!((stored.voids.len(), failed.collect::<Vec<_>>()), (4, vec!["box"]));
    assert_eq!(script.times("box", Ask::Prepare), 1);
}

#[test]
fn a_machine_that_is_never_quiet_is_measured_twice_as_long_and_no_longer() {
    let script = Script::default().stolen(0.5);
    assert_rows(
        &rows(&plan(1, ONE), &script),
        "block 0: box up, control up, bare up
         syscall 0: box 300, bare 300, control 300
         syscall 0 void: 50 % of the CPU time was stolen during the burst of box
         syscall 1: box 300, bare 300, control 300
         syscall 1 void: 50 % of the CPU time was stolen during the burst of box
         syscall 2: bare 300, box 300, control 300
         syscall 2 void: 50 % of the CPU time was stolen during the burst of bare
         syscall 3: control 300, bare 300, box 300
         syscall 3 void: 50 % of the CPU time was stolen during the burst of control
         syscall checks: bare c0de, control c0de, box c0de, bare c0de, control c0de, box c0de
         complete",
    );
}

#[test]
fn no_workload_takes_the_tries_of_those_behind_it() {
    let stored = rows(&plan(1, TWO), &Script::default().stolen(0.5));
    let of =
        |workload: &str| stored.voids.iter().filter(|v| v.workload == workload).map(|v| v.round).collect::<Vec<_>>();
    assert_eq!(["control/syscall", "control/timer"].map(of), [[0, 1, 2, 3], [0, 1, 2, 3]]);
}

#[test]
fn check_values_that_differ_from_the_baselines_are_failures() {
    let script = Script::default().does_other_work("box");
    assert_rows(&rows(&plan(1, ONE), &script), "block 0: box up, control up, bare up
         syscall 0: box 300, bare 300, control 300
         syscall 1: box 300, bare 300, control 300
         syscall checks: bare c0de, control c0de, box FAILED in verify: the check value is 0bad, but c0de in bare: not the same work
         complete");
    let stored = rows(&plan(1, ONE), &Script::default().does_other_work("bare"));
    let good: Vec<_> = stored.checks.iter().filter(|c| c.outcome.is_ok()).map(|c| c.environment.as_str()).collect();
    assert_eq!(good, ["bare"], "the baseline is the measure, whatever it did");
}

#[test]
fn a_budget_ends_a_run_between_two_blocks() {
    // Nine seconds of bursts a block, pilots included.
    for (budget, blocks) in [(1, 1), (8, 1), (9, 2), (17, 2), (18, 3)] {
        let mut plan = plan(4, ONE);
        plan.suite.budget = Some(std::time::Duration::from_secs(budget));
        let stored = rows(&plan, &Script::default());
        assert_eq!(
            (stored.ending, stored.starts.len(), stored.records.len()),
            (Ending::Interrupted, 3 * blocks, 6 * blocks)
        );
    }
}

/// The run of a plan, as comparisons want it: with its workload and its environments.
fn run_of(plan: &Plan) -> Run {
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
    let workload = |w: &crate::plan::PlannedWorkload| WorkloadPlan {
        name: w.name.clone(),
        kind: w.name.clone(),
        about: String::new(),
        settings: BTreeMap::new(),
        resource: Resource::Processor,
        durable: false,
        direct: false,
        streams: false,
        paced: false,
    };
    let environments = plan.environments.iter().map(environment).collect();
    let workloads = plan.workloads.iter().map(workload).collect();
    Run { blocks: plan.suite.blocks, environments, workloads, ..run() }
}

/// A run in memory whose environments are what the plan says.
fn known(plan: &Plan, script: &Script) -> (Store, Stored) {
    let store = Store::open(Path::new(":memory:")).expect("opens");
    let stored = record(plan, &run_of(plan), &store, script.clone(), Progress::hidden()).expect("runs");
    (store, stored)
}

#[test]
fn a_run_that_is_sure_enough_stops_at_the_second_look_that_says_so() {
    let mut plan = plan(40, ONE);
    plan.suite.until = Some("3%".parse().expect("a share"));
    // All take the same time, so that every interval has no width: the first look is after 12 blocks, the second after 16.
    let (_, stored) = known(&plan, &Script::default());
    assert_eq!((stored.ending, stored.starts.len()), (Ending::Complete, 3 * 16));
    let why = stored.stopped.expect("it says why");
    assert!(why.starts_with("stopped after 16 blocks: sure to 3%; the widest interval is 0.0 %"), "{why}");
}

#[test]
fn a_run_that_is_not_sure_enough_goes_on_to_its_last_block_or_the_end_of_its_budget() {
    let mut plan = plan(13, ONE);
    plan.suite.until = Some("3%".parse().expect("a share"));
    // A box that never has a burst has no interval.
    let never = || Script::default().fails("box", Ask::Burst, 0..usize::MAX, Refuses).lacks("control");
    let (_, stored) = known(&plan, &never());
    assert_eq!((stored.ending, stored.starts.len()), (Ending::Complete, 2 * 13));
    let why = stored.stopped.expect("it says why");
    assert_eq!(why, "all 13 blocks are done, and it is not sure to 3%; no interval was looked at");
    plan.suite.budget = Some(std::time::Duration::from_secs(8));
    let (_, stored) = known(&plan, &Script::default());
    assert_eq!((stored.ending, Exit::of_run(&stored, true)), (Ending::Interrupted, Exit::Inconclusive));
    let why = stored.stopped.expect("it says why");
    assert!(
        why.starts_with("interrupted: the budget of 8s was spent after 1 of 13 blocks, and it is not sure"),
        "{why}"
    );
}

#[test]
fn a_run_that_was_broken_off_goes_on_under_new_numbers_and_with_the_same_batches() {
    let mut plan = plan(3, ONE);
    let whole = rows(&plan, &Script::default());
    let (store, broken) = known(&plan, &Script::default().signal(Signal::After(30)));
    assert_eq!(broken.ending, Ending::Interrupted);
    let begun = broken.starts.iter().map(|s| s.block + 1).max().expect("blocks");
    plan.suite.blocks = resume::last_block(&broken, 3).expect("there is something left");
    assert_eq!(plan.suite.blocks, begun + 3 - (begun - 1), "the last block was broken off");
    let before = Before { seconds: 100.0, ..Before::of(&broken) };
    let again = Run { blocks: plan.suite.blocks, command: "tarebench run --blocks 3".into(), ..broken.run.clone() };
    store.resume(&again).expect("it is opened again");
    let rows = Rows::of("scripted", &store);
    let after = finish(&plan, rows, before, Script::default(), Progress::hidden()).expect("runs");
    assert_eq!((after.ending, after.run.blocks), (Ending::Complete, plan.suite.blocks));
    assert_eq!(after.run.command, "tarebench run --blocks 3");
    assert!(after.seconds.is_some_and(|s| s >= 100.0), "its time is added to what it took before");
    assert_eq!(after.records[..broken.records.len()], broken.records, "nothing of before is touched");
    let numbers: std::collections::BTreeSet<u32> = after.starts.iter().map(|s| s.block).collect();
    assert!(numbers.iter().copied().eq(0..plan.suite.blocks));
    let whole_blocks = after.checks.iter().map(|c| c.block).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(whole_blocks.len(), 3);
    let drawn = |stored: &Stored, block| {
        let of = |r: &Record| r.outcome.as_ref().expect("a sample").drawn;
        stored.records.iter().filter(|r| r.block == block).map(of).collect::<Vec<_>>()
    };
    assert_eq!(drawn(&after, 1), drawn(&whole, 1), "a block's work follows from its number, whenever it is done");
    // Entries of one histogram mean the same: the first block decides for those that were added too.
    let batch = |r: &Record| r.outcome.as_ref().map_or(0, |s| s.batch);
    assert!(after.records.iter().all(|r| batch(r) == batch(&broken.records[0])));
}

/// Without the fits of clocks and the ends, which are made when a block ends.
fn without_ends(starts: &[Start]) -> Vec<Start> {
    starts.iter().map(|start| Start { clock: None, stop_ns: None, ..start.clone() }).collect()
}

/// A plan in which the box has a neighbour.
fn beside() -> Plan {
    let text = "blocks = 2\nrounds = 2\nburst = \"3ms\"\n[environments.bare]\n[environments.box]\nrunner = \"bare\"\n\
                neighbour = { environment = \"bare\", workload = \"disk/fsync\" }\n[workloads.\"control/syscall\"]\n";
    Plan::of(Suite::parse("scripted", text).expect("reads"), 7).expect("resolves")
}

/// The bursts of the box: what its neighbour did, or why they are worth nothing.
fn of_the_box(stored: &Stored) -> Vec<Result<bool, String>> {
    let own = stored.records.iter().filter(|r| r.environment == "box");
    own.map(|r| r.outcome.as_ref().map(|_| r.evidence.neighbour.is_some()).map_err(|e| e.message.clone())).collect()
}

#[test]
fn a_neighbour_works_beside_every_burst_of_its_box_and_of_no_other() {
    let script = Script::default();
    let stored = rows(&beside(), &script);
    assert_eq!(of_the_box(&stored), vec![Ok(true); 4]);
    let others = stored.records.iter().filter(|r| r.environment != "box");
    assert_eq!(others.filter(|r| r.outcome.is_ok() && r.evidence.neighbour.is_none()).count(), 8);
    assert_eq!(script.most_up(), 4, "it has a box of its own");
    assert!(script.times(script::NEIGHBOUR, Ask::Burst) >= 4);
    assert_eq!(script.times(script::NEIGHBOUR, Ask::Release), 2, "its files are removed in each block");
    assert_eq!(stored.starts.len(), 6, "its start is nobody's");
}

#[test]
fn a_neighbour_that_fails_or_does_nothing_is_a_failure_of_the_burst() {
    let dies = Script::default().fails(script::NEIGHBOUR, Ask::Burst, 0..1, Dies);
    let idles = Script::default().lies(script::NEIGHBOUR, |sample| *sample = script::nothing(sample));
    for (script, why) in [(dies, died().to_string()), (idles, "it did nothing".into())] {
        let stored = rows(&beside(), &script);
        let first = of_the_box(&stored).remove(0);
        assert!(
            first.as_ref().is_err_and(|e| e.contains("its neighbour: ") && e.contains(&why)),
            "{first:?}, not {why}"
        );
        assert_eq!(Exit::of_run(&stored, false), Exit::SomeFailed);
    }
    let absent = Script::default().fails(script::NEIGHBOUR, Ask::Start, 0..9, Dies);
    let stored = rows(&beside(), &absent);
    let failed = stored.starts.iter().filter_map(|s| s.outcome.as_ref().err());
    assert!(failed.clone().count() == 2 && failed.clone().all(|f| f.message.starts_with("its neighbour: ")));
}

#[test]
fn every_session_is_ended_on_its_own_and_one_that_died_says_nothing_of_it() {
    let script = Script::default().fails("box", Ask::Prepare, 1..2, Dies);
    let stored = rows(&plan(2, ONE), &script);
    let ends = |block| {
        let of = |s: &&Start| s.block == block && s.stop_ns.is_some();
        let mut ends: Vec<&str> = stored.starts.iter().filter(of).map(|s| s.environment.as_str()).collect();
        ends.sort_unstable();
        ends
    };
    assert_eq!(ends(0), ["bare", "box", "control"]);
    assert_eq!(ends(1), ["bare", "control"], "the box was gone before it was told to go");
    let known = stored.starts.iter().filter_map(|s| s.stop_ns);
    assert!(known.eq([script::STOP.as_nanos() as u64; 5]));
}

#[test]
fn a_signal_between_any_two_steps_or_in_one_leaves_what_was_finished_and_invents_nothing() {
    let plan = plan(2, TWO);
    let script = Script::default();
    let whole = rows(&plan, &script);
    let all_starts = without_ends(&whole.starts);
    for signal in (0..script.steps()).flat_map(|step| [Signal::In(step), Signal::After(step)]) {
        let script = Script::default().signal(signal);
        let stored = rows(&plan, &script);
        assert_eq!(stored.ending, Ending::Interrupted, "{signal:?}");
        assert!(all_starts.starts_with(&without_ends(&stored.starts)), "{signal:?}");
        assert!(whole.records.starts_with(&stored.records), "{signal:?}");
        assert!(whole.checks.starts_with(&stored.checks), "{signal:?}");
        assert_eq!((stored.records.len(), stored.checks.len()), (script.bursts(), script.checks()), "{signal:?}");
        assert!(stored.voids.is_empty(), "{signal:?}");
    }
}

#[test]
fn a_store_that_fails_ends_the_run_with_its_exit_code_and_keeps_what_it_has() {
    let full = |on: &str, when: &str| {
        format!("CREATE TRIGGER full BEFORE {on} {when} BEGIN INSERT INTO last VALUES (NULL); END;")
    };
    let cases = [
        (full("INSERT ON start", "WHEN (SELECT count(*) FROM start) = 1"), [1, 0, 0]),
        (full("INSERT ON burst", "WHEN (SELECT count(*) FROM burst) = 4"), [3, 3, 0]),
        (full("INSERT ON checked", "WHEN (SELECT count(*) FROM checked) = 2"), [3, 6, 2]),
        (full("UPDATE OF clock ON start", ""), [3, 6, 3]),
    ];
    for (trigger, rows) in cases {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("store.db");
        let store = Store::open(&path).expect("opens");
        let other = rusqlite::Connection::open(&path).expect("opens");
        // A table whose numbers are used up is full, to SQLite, as a disk is.
        let last =
            "CREATE TABLE last (id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO last VALUES (9223372036854775807);";
        other.execute_batch(&format!("{last} {trigger}")).expect("written");
        let script = Script::default();
        let error =
            record(&plan(2, ONE), &run(), &store, script.clone(), Progress::hidden()).expect_err("it can't be stored");
        assert_eq!(code_of(&error), Exit::Store, "{error:#}");
        assert!(format!("{error:#}").contains("is full: make room"), "{error:#}");
        assert_eq!(script.up(), 0, "every session is ended");
        let stored = store.load("scripted").expect("reads");
        assert_eq!([stored.starts.len(), stored.records.len(), stored.checks.len()], rows, "{trigger}");
        assert_eq!(stored.ending, Ending::Interrupted);
    }
}

#[test]
fn where_the_hosts_own_operations_fail_it_is_the_hosts_fault() {
    let script = Script::default().loses_canary(2);
    let store = Store::open(Path::new(":memory:")).expect("opens");
    let error = record(&plan(1, ONE), &run(), &store, script.clone(), Progress::hidden()).expect_err("it can't go on");
    assert_eq!((code_of(&error), error.to_string().as_str()), (Exit::Host, "the canary can't sing"));
    assert_eq!(store.load("scripted").expect("reads").records.len(), 1, "what came before stays");
    assert_eq!(script.up(), 0, "every session is ended");
}

/// A histogram whose header says that 4 GiB of counts follow, and none do.
const FORGED: [u8; 39] = [
    0x1c, 0x84, 0x93, 0x14, 0x00, 0x00, 0x00, 0x1f, 0x78, 0xda, 0x93, 0x69, 0x99, 0x2c, 0xfc, 0x1f, 0x08, 0x18, 0x20,
    0x80, 0x19, 0x4a, 0x33, 0x02, 0x31, 0xef, 0x0f, 0xf7, 0x08, 0x06, 0xfb, 0x0f, 0x10, 0x01, 0x00, 0xd6, 0x55, 0x08,
    0x1a,
];

#[test]
fn a_box_that_lies_has_failures_and_no_samples() {
    let lies: [(&str, Lie); 21] = [
        ("it says 301 operations", |s| (s.operations, s.concurrency) = (301, 0)),
        ("299 operations and no cut", |s| (s.operations, s.cut_short) = (299, false)),
        ("of the warm-up, 75 were asked for", |s| s.warmup_operations = 1000),
        ("2 operations per clock reading", |s| s.batch = 2),
        ("0 operations per clock reading", |s| s.batch = 0),
        ("for a burst whose answer was here within", |s| s.elapsed_ns += 20_000_000),
        ("for a warm-up whose answer was here within", |s| s.warmup_ns = 20_000_000),
        ("which no burst has", |s| s.bytes = u64::MAX),
        ("which no burst has", |s| s.operations = u64::MAX),
        ("which no burst has", |s| s.elapsed_ns = u64::MAX),
        ("4294967295 operations at a time", |s| s.concurrency = u32::MAX),
        ("its histogram can't be read", |s| s.histogram.truncate(9)),
        ("its histogram has 200 entries", |s| s.histogram = histogram(200)),
        ("its histogram has 302 entries", |s| s.histogram = histogram(302)),
        ("it says 4294967295 bytes of counts and has 0", |s| s.histogram = FORGED.to_vec()),
        ("it says 4294967295 bytes of counts and has 0", |s| s.response = Some(FORGED.to_vec())),
        ("302 of them were late", |s| s.lateness = Some(histogram(302))),
        ("376 durable writes in 300 operations", |s| s.durable_writes = Some(376)),
        ("its timeline has 302 entries", |s| {
            s.timeline = timeline::encode(&[Entry { slice: 0, class: 40, count: 302 }]);
        }),
        ("its timeline can't be read", |s| s.timeline = vec![0, 0xff, 1, 1]),
        ("its timeline is longer than the burst", |s| {
            s.timeline = timeline::encode(&[Entry { slice: 1000, class: 40, count: 1 }]);
        }),
    ];
    for (words, lie) in lies {
        let script = Script::default().lies("box", lie);
        let stored = rows(&plan(1, ONE), &script);
        let (of_box, others): (Vec<_>, Vec<_>) = stored.records.iter().partition(|r| r.environment == "box");
        assert!(!others.is_empty() && others.iter().all(|r| r.outcome.is_ok()), "{words}: the others are measured");
        assert!(!of_box.is_empty(), "{words}: there is a row of it");
        for record in of_box {
            let failure = record.outcome.as_ref().expect_err(words);
            assert_eq!(failure.step, Step::Burst);
            assert!(failure.message.contains(words), "{words}: {}", failure.message);
        }
    }
}
