//! `tarebench calibrate`: what this machine can see, before anything is measured on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reports::calibration::regime::Watched;
use reports::calibration::{Calibration, Cited, Clocks, Floor, SCHEMA, cited, floors, host};
use reports::comparison::{Method, compare};
use reports::record::{OTHER_RUN, Stored, UNSEEN_RUN};
use reports::statistics::FEWEST_FOR_INTERVAL;
use reports::store::Store;
use runners::fingerprint;
use runners::host::{Host, Pinning, allowed_cpus};
use runners::machine::{Machine, clocks};
use runners::stage::disk::check_data_dir;
use workloads::Resource;
use workloads::canary::Canaries;

use crate::cli;
use crate::commands::{print, run, typed};
use crate::estimate::{Estimate, SET_UP};
use crate::execute::set_up::{open_host, take_turn};
use crate::execute::{Options, measure};
use crate::exit::{Coded, Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::Plan;
use crate::run_id::now;
use crate::suite::{Entry, Suite};

/// The baseline once more, as a box that costs nothing.
const COPY: &str = "copy";

/// As many blocks as there is time for, but no more than a run has that goes on until it is sure enough.
const MOST: u32 = 100;

/// The machine is kept busy for this part of the budget, half of it each resource.
const WATCHED: u32 = 4;

/// And for no longer than this.
const LONGEST_WATCH: Duration = Duration::from_secs(60);

/// What is watched is cut into slices: what lasts shorter is no regime.
const SLICE: Duration = Duration::from_millis(100);

/// Watch, measure copies against each other, look at clocks and CPUs, keep, tell.
pub fn run(args: cli::Calibrate) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let mut plan = planned(&args).or_exit(Exit::Usage)?;
    let block = block_of(&plan);
    let time = time_for_blocks(args.budget, block).or_exit(Exit::Usage)?;
    let interrupt = Interrupt::listen()?;
    let store = Store::open(&args.store.store).or_exit(Exit::Store)?;
    let data_dir = run::data_dir_of(args.scope.data_dir.as_deref(), &args.store.store);
    // The run would refuse it too, a minute later.
    check_data_dir(&data_dir, args.scope.allow_memory).or_exit(Exit::Host)?;
    tell!("tarebench {}: copies of {} in {}", env!("CARGO_PKG_VERSION"), plan.suite.baseline, plan.suite.name);
    let fit = (time.as_secs_f64() / block.as_secs_f64()) as u32;
    let few = if fit < FEWEST_FOR_INTERVAL { ", fewer than it takes to say anything" } else { "" };
    let [length, budget] = [block, args.budget].map(|time| humantime::format_duration(round(time)));
    tell!("a block takes about {length}: {} of them are expected in {budget}{few}", fit.clamp(1, plan.suite.blocks));
    let busy = watch_time(args.budget);
    let watched = watch_in_turn(&args, &plan, &data_dir, busy, &interrupt)?;
    // A run begins no block when its budget is over; this one begins none that is expected to end later.
    plan.suite.budget = Some(args.budget.saturating_sub(began.elapsed()).saturating_sub(block));
    let stored = copies(&args, &plan, &data_dir, &interrupt)?;
    if let Some(exit) = interrupt.exit() {
        tell!("ended before it was done: nothing is kept");
        return Ok(exit);
    }
    let calibration = found(&plan, &stored, watched, &names_of_suite(&args).or_exit(Exit::Usage)?)?;
    let text = match args.format {
        cli::CalibrateFormat::Json => serde_json::to_string_pretty(&calibration)? + "\n",
        cli::CalibrateFormat::Text => calibration.to_string(),
    };
    print(&text)?;
    // One that says nothing must not stand before one that does.
    says_something(&calibration, &args, block).or_exit(Exit::NothingMeasured)?;
    store.calibrated(&calibration).or_exit(Exit::Store)?;
    let again = typed(&["tarebench", "doctor"], &args.store.store);
    tell!("kept in {}: later runs here cite it, and `{again}` lists it", args.store.store.display());
    Ok(Exit::Done)
}

/// The suite's workloads in the baseline, and in one more copy of it beside the control.
fn planned(args: &cli::Calibrate) -> anyhow::Result<Plan> {
    let selection = cli::Selection { suite: args.suite.clone(), environments: Vec::new(), scope: args.scope.clone() };
    let Plan { mut suite, seed, .. } = Plan::resolve(&selection)?;
    suite.environments.retain(|entry| entry.name == suite.baseline);
    let copies: Vec<Entry> = suite.environments.iter().map(copy_of).collect();
    suite.environments.extend(copies);
    suite.explains = None;
    suite.until = None;
    suite.blocks = args.scope.blocks.unwrap_or(MOST);
    Plan::of(suite, seed)
}

/// All workloads that the suite has, whichever are chosen.
fn names_of_suite(args: &cli::Calibrate) -> anyhow::Result<Vec<String>> {
    Ok(Suite::load(&args.suite)?.workloads.into_iter().map(|entry| entry.name).collect())
}

/// How long the processor and the disk are kept busy, both together.
fn watch_time(budget: Duration) -> Duration {
    (budget / WATCHED).min(LONGEST_WATCH)
}

/// How long a block is expected to take.
fn block_of(plan: &Plan) -> Duration {
    Estimate::of(plan, &(0..plan.environments.len()).collect::<Vec<_>>()).block()
}

/// What a budget leaves for blocks.
///
/// # Errors
/// When none fits in.
fn time_for_blocks(budget: Duration, block: Duration) -> anyhow::Result<Duration> {
    let time = budget.saturating_sub(watch_time(budget) + SET_UP);
    ensure!(
        time >= block,
        "--budget {} leaves no time for a block, which takes about {} here; give --budget {} or more, or fewer workloads with \
         --workload",
        humantime::format_duration(budget),
        humantime::format_duration(round(block)),
        enough(block)
    );
    Ok(time)
}

/// A budget in which as many blocks fit as it takes to say anything, with some room.
fn enough(block: Duration) -> humantime::FormattedDuration {
    let blocks = (SET_UP + block * (FEWEST_FOR_INTERVAL + 2)).as_secs_f64();
    humantime::format_duration(Duration::from_secs((blocks * 4.0 / 3.0).ceil() as u64))
}

fn says_something(calibration: &Calibration, args: &cli::Calibrate, block: Duration) -> anyhow::Result<()> {
    let took = calibration.seconds_a_block.map_or(block, Duration::from_secs_f64);
    ensure!(
        calibration.workloads.iter().any(Floor::is_known),
        "nothing is kept in {}: no workload has {FEWEST_FOR_INTERVAL} blocks that count, so nothing can be said of what is seen \
         here; give --budget {} or more{}",
        args.store.store.display(),
        enough(took),
        if args.scope.blocks.is_some() { ", and no --blocks" } else { "" }
    );
    Ok(())
}

fn copy_of(baseline: &Entry) -> Entry {
    Entry { name: COPY.into(), of: Some(baseline.kind().to_string()), ..baseline.clone() }
}

/// Keeps the machine busy when no other run measures, and sees how even it is.
fn watch_in_turn(
    args: &cli::Calibrate,
    plan: &Plan,
    data_dir: &Path,
    busy: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<Watched>> {
    let _turn = take_turn(args.beside, interrupt)?;
    let shared = open_host(plan.suite.resources, interrupt)?;
    let pinned = shared.host.pin_harness().or_exit(Exit::Host)?;
    let mut canaries = Canaries::new(data_dir).or_exit(Exit::Host)?;
    let mut watched = Vec::new();
    for (name, resource) in [("processor", Resource::Processor), ("disk", Resource::Disk)] {
        tell!("keeping the {name} busy for {}", humantime::format_duration(round(busy / 2)));
        let slices = slices(&shared.host, &mut canaries, resource, busy / 2, interrupt)?;
        watched.push(Watched::of(name, SLICE.as_secs_f64(), &slices));
    }
    drop(pinned);
    Ok(watched)
}

/// To a tenth of a second, for people.
fn round(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64 / 100 * 100)
}

/// Of every slice of the time the median of the host's own small operations, nanoseconds.
fn slices(
    host: &Host,
    canaries: &mut Canaries,
    resource: Resource,
    time: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<Vec<f64>> {
    let began = Instant::now();
    let mut slices = Vec::new();
    while began.elapsed() + SLICE <= time {
        if let Some(exit) = interrupt.exit() {
            return Err(Coded { exit, error: anyhow::anyhow!("ended before it was done: nothing is kept") }.into());
        }
        slices.push(host.on_cpus_of_work(|| slice(canaries, resource)).or_exit(Exit::Host)?.or_exit(Exit::Host)?);
    }
    Ok(slices)
}

fn slice(canaries: &mut Canaries, resource: Resource) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut seen = vec![canaries.measure(resource)?];
    while began.elapsed() < SLICE {
        seen.push(canaries.measure(resource)?);
    }
    seen.sort_unstable();
    Ok(seen[seen.len() / 2] as f64)
}

/// As a run measures, but into a store that goes with it: `latest` is nobody's calibration.
fn copies(args: &cli::Calibrate, plan: &Plan, data_dir: &Path, interrupt: &Interrupt) -> anyhow::Result<Stored> {
    let folder = tempfile::tempdir().context("can't make a directory for the store").or_exit(Exit::Host)?;
    let store = Store::open(&folder.path().join("calibrate.db")).or_exit(Exit::Store)?;
    let options = Options {
        data_dir,
        allow_memory: args.scope.allow_memory,
        beside: args.beside,
        tune: None,
        command: command(args, plan),
        labels: BTreeMap::new(),
    };
    measure(plan, options, &store, interrupt)
}

fn found(plan: &Plan, stored: &Stored, watched: Vec<Watched>, of_suite: &[String]) -> anyhow::Result<Calibration> {
    let comparison = compare(stored, Method::default());
    let blocks = comparison.blocks;
    let seconds_a_block = stored.seconds.filter(|_| blocks > 0).map(|seconds| seconds / f64::from(blocks));
    let allowed = allowed_cpus().context("can't see which CPUs we may use").or_exit(Exit::Host)?;
    let machine = Machine::here();
    let [source, available] = machine.clock_sources();
    let doubtful =
        |(name, words): &(String, String)| [OTHER_RUN, UNSEEN_RUN].contains(&name.as_str()).then(|| words.clone());
    let doubts: Vec<String> = stored.run.host.iter().filter_map(doubtful).collect();
    let (at, workloads) = (now(), floors(&comparison, COPY, seconds_a_block));
    let known: Vec<&Floor> = workloads.iter().filter(|floor| floor.is_known()).collect();
    let measured = workloads.iter().map(|floor| &floor.workload);
    let all: BTreeSet<&String> = of_suite.iter().chain(measured).collect();
    let is_known = |name: &String| known.iter().any(|floor| floor.workload == *name);
    let unknown: Vec<&str> = all.into_iter().filter(|name| !is_known(name)).map(String::as_str).collect();
    Ok(Calibration {
        schema: SCHEMA.into(),
        cited: cited(&at, &plan.suite.name, &known, &unknown, !doubts.is_empty()),
        unknown: unknown.iter().map(ToString::to_string).collect(),
        at,
        host: host(&stored.run.host),
        suite: plan.suite.name.clone(),
        command: stored.run.command.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        pinning: stored.run.pinning.clone(),
        doubts,
        blocks,
        seconds_a_block,
        workloads,
        watched,
        clocks: Clocks { source, available, reading_ns: clocks::reading_ns() },
        pinning_advice: machine.topology(&allowed).advice(&Pinning::split(&allowed, plan.suite.resources.cpus)),
    })
}

/// The calibrations of this machine that a store has, the newest first. One that isn't there has none.
pub fn of_this_machine(store: &Path, data_dir: &Path) -> anyhow::Result<Vec<Cited>> {
    if !store.exists() {
        return Ok(Vec::new());
    }
    Ok(Store::open_existing(store)?.calibrations(&host(&fingerprint::facts(data_dir)))?)
}

/// The command that measures the same again.
fn command(args: &cli::Calibrate, plan: &Plan) -> String {
    let mut words: Vec<String> = vec!["tarebench".into(), "calibrate".into(), plan.suite.name.clone()];
    words.extend(args.scope.workloads.iter().flat_map(|w| ["--workload".into(), w.clone()]));
    words.extend(run::alongside(args.beside));
    run::typed_again(words, &args.scope, args.scope.blocks, (Some(args.budget), None), plan.seed, &args.store.store)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_budget_without_room_for_a_block_is_refused_with_one_that_has() {
        let block = Duration::from_secs(3);
        let refused = time_for_blocks(Duration::ZERO, block).expect_err("no time at all").to_string();
        assert!(refused.starts_with("--budget 0s leaves no time for a block, which takes about 3s here"), "{refused}");
        assert!(refused.contains("--budget 35s or more"), "{refused}");
        let left = time_for_blocks(Duration::from_secs(35), block).expect("has room");
        assert!(left >= block * FEWEST_FOR_INTERVAL, "{left:?}");
    }

    #[test]
    fn several_workloads_are_named_in_one_word_or_each_in_its_own() {
        let of = |workloads: &[&str]| {
            let words = ["tarebench", "calibrate"].into_iter().chain(workloads.iter().flat_map(|w| ["--workload", *w]));
            let args = match cli::Cli::try_parse_from(words).expect("can be typed").command {
                cli::Command::Calibrate(args) => args,
                other => panic!("{other:?}"),
            };
            planned(&args).expect("plans").workloads.into_iter().map(|w| w.name).collect::<Vec<_>>()
        };
        assert_eq!(of(&["disk/fsync,net/rr"]), ["disk/fsync", "net/rr"]);
        assert_eq!(of(&["disk/fsync", "net/rr:jobs=2,rate=10"]).len(), 2, "behind a colon a comma parts settings");
    }

    #[test]
    fn the_copy_is_the_baseline_and_nothing_else_of_the_suite_is_measured() {
        let words = "tarebench calibrate standard --workload disk/fsync --beside --budget 90s --seed 5";
        let words = words.split(' ');
        let args = match cli::Cli::try_parse_from(words).expect("can be typed").command {
            cli::Command::Calibrate(args) => args,
            other => panic!("{other:?}"),
        };
        let plan = planned(&args).expect("plans");
        let all: Vec<(&str, &str)> = plan.environments.iter().map(|e| (e.name.as_str(), e.runner.name())).collect();
        assert_eq!(all, [("bare", "bare"), ("control", "bare"), ("copy", "bare")]);
        let again = "tarebench calibrate standard --workload disk/fsync --beside --budget 1m30s --seed 5";
        assert_eq!(command(&args, &plan), again);
    }
}
