//! `tarebench run`: measure, keep, report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use reports::comparison::{Comparison, Method, compare};
use reports::gate::{CONFIRMS, Policy, PolicyError};
use reports::record::{CONTROL, Run, Stored, WorkloadPlan};
use reports::render::Format;
use reports::store::{HOST_CLASS, Store};

use crate::cli;
use crate::commands::{gate, gated, report, typed, writable, write_over};
use crate::execute::set_up::describe_workload;
use crate::execute::{Options, measure, resume};
use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::live::Live;
use crate::plan::Plan;
use crate::suite::{Percent, Suite};

/// How many blocks there are at most where a run goes on until it is sure enough.
const MOST: u32 = 100;

/// Parse, resolve, open what will be written, measure, report.
pub fn run(args: cli::Run) -> anyhow::Result<Exit> {
    let labels = all_labels(&args.label).or_exit(Exit::Usage)?;
    let outputs = outputs(&args.keeping.report)?;
    if let Some(policy) = &args.gate {
        return judged(&args, policy, &labels, &outputs);
    }
    if args.shown.is_given() {
        return Err(anyhow::anyhow!("--format, --fail-on and --step-summary are of a gate: give --gate POLICY too"))
            .or_exit(Exit::Usage);
    }
    let (stored, interrupt) = match &args.resume {
        None => new(&args, labels)?,
        Some(wanted) => go_on(&args, wanted)?,
    };
    let comparison = compare(&stored, Method::default());
    let told = show(&comparison, &outputs);
    tell_where(&stored, &args.keeping.store.store);
    let asked = &args.selection.environments;
    let exit = || Exit::of_run(&stored, too_unquiet(&comparison)).or_missing(&stored, asked);
    interrupt.exit().unwrap_or_else(exit).or_untold(told)
}

/// Says where a run is kept.
pub fn tell_where(stored: &Stored, store: &Path) {
    let id = &stored.run.id;
    let again = typed(&["tarebench", "report", id, "--format", "html", "-o", "report.html"], store);
    tell!("run {id} is in {}; `{again}` draws it again", store.display());
}

/// Whether the machine was too unquiet to tell.
pub fn too_unquiet(comparison: &Comparison) -> bool {
    !comparison.invalid.is_empty() || comparison.failed_controls().next().is_some()
}

/// Measures and judges, with a second run where the first can't clear something. The gate goes to stdout, the first run's reports
/// into their files.
fn judged(
    args: &cli::Run,
    file: &Path,
    labels: &BTreeMap<String, String>,
    outputs: &[(PathBuf, &'static Format)],
) -> anyhow::Result<Exit> {
    let mut plan = Plan::resolve(&args.selection).or_exit(Exit::Usage)?;
    plan.suite.budget = args.keeping.budget.or(plan.suite.budget);
    plan.suite.until = None;
    let blocks = args.selection.scope.blocks.unwrap_or(gated::SCREEN);
    gated::enough(blocks).or_exit(Exit::Usage)?;
    let other_blocks = gated::other_blocks(plan.suite.blocks, blocks);
    plan.suite.blocks = blocks;
    // A typing error must not cost an hour, here neither.
    let policy = gate::policy(Some(file), None, None).or_exit(Exit::Usage)?;
    check(&policy, &plan).or_exit(Exit::Usage)?;
    if let Some(words) = other_blocks {
        tell!("{words}");
    }
    gate::format(&args.shown)?;
    let summary = gate::step_summary(&args.shown)?;
    let interrupt = Interrupt::listen()?;
    let store = Store::open(&args.keeping.store.store).or_exit(Exit::Store)?;
    let data_dir = data_dir(args);
    let look = |plan: &Plan, first: Option<&str>| {
        say(plan);
        let labels = first.map_or_else(|| labels.clone(), |first| of_second(labels, first));
        measure(plan, options(args, plan, &data_dir, labels), &store, &interrupt)
    };
    let accepted = |run: &Run| gate::accepted(&store, run).or_exit(Exit::Store);
    let gated = gated::screen_and_confirm(&plan, &policy, accepted, look)?;
    let written = write(&compare(&gated.runs[0], Method::default()), outputs);
    let kept = store.keep_gate(&gated.gate).or_exit(Exit::Store);
    let told = gate::show(&gated.gate, &args.shown, summary.as_deref()).and(written).and(kept);
    let ids: Vec<&str> = gated.runs.iter().map(|stored| stored.run.id.as_str()).collect();
    let again =
        typed(&["tarebench", "gate", ids[0], "--policy", &file.display().to_string()], &args.keeping.store.store);
    tell!("in {}: {}; `{again}` judges again", args.keeping.store.store.display(), ids.join(", "));
    let failed = gated.runs.iter().map(|stored| Exit::of_run(stored, false)).find(|exit| *exit != Exit::Done);
    let judged = Some(gate::exit(&gated.gate, &args.shown.failing())).filter(|exit| *exit != Exit::Done);
    interrupt.exit().or(judged).or(failed).unwrap_or(Exit::Done).or_untold(told)
}

/// The labels of a run that confirms another one: those of the first too, since it is of the same commit. Who asks for that gets the
/// first, which has all of it.
fn of_second(labels: &BTreeMap<String, String>, first: &str) -> BTreeMap<String, String> {
    let mut labels = labels.clone();
    labels.insert(CONFIRMS.into(), first.into());
    labels
}

/// Whether every name of a policy is in the plan, and the policy asks for anything of it.
fn check(policy: &Policy, plan: &Plan) -> Result<(), PolicyError> {
    let workloads: Vec<WorkloadPlan> = plan.workloads.iter().map(describe_workload).collect();
    let environments = plan.environments.iter().map(|e| e.name.as_str());
    let compared: Vec<&str> = environments.filter(|name| *name != plan.suite.baseline && *name != CONTROL).collect();
    reports::gate::check(policy, &workloads, &compared, &plan.suite.baseline)
}

/// What will be done within these bounds.
pub fn planned(selection: &cli::Selection, budget: Option<Duration>, until: Option<Percent>) -> anyhow::Result<Plan> {
    let mut plan = Plan::resolve(selection).or_exit(Exit::Usage)?;
    plan.suite.budget = budget.or(plan.suite.budget);
    plan.suite.until = until.or(plan.suite.until);
    if until.is_some() {
        plan.suite.blocks = selection.scope.blocks.unwrap_or(MOST);
    }
    Ok(plan)
}

/// Measures a run of its own.
fn new(args: &cli::Run, labels: BTreeMap<String, String>) -> anyhow::Result<(Stored, Interrupt)> {
    let plan = planned(&args.selection, args.keeping.budget, args.until)?;
    say(&plan);
    let interrupt = Interrupt::listen()?;
    let store = Store::open(&args.keeping.store.store).or_exit(Exit::Store)?;
    let stored = measure(&plan, options(args, &plan, &data_dir(args), labels), &store, &interrupt)?;
    Ok((stored, interrupt))
}

/// Adds blocks to a run that is stored.
fn go_on(args: &cli::Run, wanted: &str) -> anyhow::Result<(Stored, Interrupt)> {
    let store = Store::open_existing(&args.keeping.store.store).or_exit(Exit::Store)?;
    let id = store.find(wanted).or_exit(Exit::Usage)?;
    // Before it is read: of two who go on with it, one would do the other's blocks again.
    let _live = Live::take(&id)?;
    let before = store.load(&id).or_exit(Exit::Store)?;
    let run = &before.run;
    let suite = Suite::parse(&run.suite, &run.suite_toml)
        .with_context(|| {
            format!("run {id} can't be gone on with: its suite isn't one that this tarebench can carry out")
        })
        .or_exit(Exit::Usage)?;
    let mut plan = Plan::of(suite, run.seed).or_exit(Exit::Usage)?;
    plan.suite.budget = args.keeping.budget.or(plan.suite.budget);
    plan.suite.until = args.until.or(plan.suite.until);
    let wanted = args.selection.scope.blocks.unwrap_or(if args.until.is_some() { MOST } else { plan.suite.blocks });
    plan.suite.blocks = resume::last_block(&before, wanted).or_exit(Exit::Usage)?;
    say(&plan);
    let interrupt = Interrupt::listen()?;
    let data_dir = data_dir(args);
    let mut options = options(args, &plan, &data_dir, BTreeMap::new());
    let more = args.selection.scope.blocks.is_some() || args.until.is_some();
    options.command = if more { went_on(&run.command, wanted, args.until) } else { run.command.clone() };
    let stored = resume::resume(&plan, options, &before, &store, &interrupt)?;
    Ok((stored, interrupt))
}

/// Says what is done.
pub fn say(plan: &Plan) {
    let at_most = if plan.suite.until.is_some() { "at most " } else { "" };
    let blocks = plan.suite.blocks;
    let plural = if blocks == 1 { "" } else { "s" };
    tell!("tarebench {}: {} ({at_most}{blocks} block{plural})", env!("CARGO_PKG_VERSION"), plan.suite.name);
}

fn options<'a>(args: &cli::Run, plan: &Plan, data_dir: &'a Path, labels: BTreeMap<String, String>) -> Options<'a> {
    Options {
        data_dir,
        allow_memory: args.selection.scope.allow_memory,
        beside: args.keeping.beside,
        tune: args.keeping.tune.clone(),
        command: command(args, plan),
        labels,
    }
}

fn data_dir(args: &cli::Run) -> PathBuf {
    data_dir_of(args.selection.scope.data_dir.as_deref(), &args.keeping.store.store)
}

/// The data directory: as given, else the folder of the store.
pub fn data_dir_of(given: Option<&Path>, store: &Path) -> PathBuf {
    let of_store = || store.parent().filter(|p| !p.as_os_str().is_empty());
    given.or_else(of_store).unwrap_or(Path::new(".")).to_path_buf()
}

/// On the terminal and into the files that were asked for.
pub fn show(comparison: &Comparison, outputs: &[(PathBuf, &'static Format)]) -> anyhow::Result<()> {
    report::print_for_terminal(comparison)?;
    write(comparison, outputs)
}

fn write(comparison: &Comparison, outputs: &[(PathBuf, &'static Format)]) -> anyhow::Result<()> {
    for (path, format) in outputs {
        write_over(path, &report::bytes(comparison, format)?)
            .with_context(|| format!("can't write the report {}", path.display()))
            .or_exit(Exit::Host)?;
        tell!("report: {}", path.display());
    }
    Ok(())
}

/// Whether reports can be written is found out before anything is measured: a typing error must not cost the result of an hour.
pub fn outputs(paths: &[PathBuf]) -> anyhow::Result<Vec<(PathBuf, &'static Format)>> {
    paths
        .iter()
        .map(|path| {
            let format = report::by_ending(path).or_exit(Exit::Usage)?;
            let context = || format!("can't write the report {}", path.display());
            writable(path).with_context(context).or_exit(Exit::Host)?;
            Ok((path.clone(), format))
        })
        .collect()
}

/// Labels that CI's own variables say, the first that is set: GitHub and what is like it, GitLab, Buildkite, CircleCI, Jenkins. A pull
/// request's branch on GitHub is the one that it comes from. No system says on which class of machines a job runs.
const SURROUNDINGS: [(&str, &[&str]); 3] = [
    ("commit", &["GITHUB_SHA", "CI_COMMIT_SHA", "BUILDKITE_COMMIT", "CIRCLE_SHA1", "GIT_COMMIT"]),
    (
        "branch",
        &[
            "GITHUB_HEAD_REF",
            "GITHUB_REF_NAME",
            "CI_COMMIT_BRANCH",
            "CI_COMMIT_REF_NAME",
            "BUILDKITE_BRANCH",
            "CIRCLE_BRANCH",
            "GIT_BRANCH",
        ],
    ),
    (HOST_CLASS, &["TAREBENCH_HOST_CLASS"]),
];

fn surroundings(variable: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
    let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.trim().is_empty()));
    SURROUNDINGS.iter().filter_map(|(key, names)| Some((*key, first(names)?))).collect()
}

/// The labels that were typed, and beside them those of the surroundings.
pub fn all_labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = labels(given)?;
    for (key, value) in surroundings(|name| std::env::var(name).ok()) {
        labels.entry(key.into()).or_insert(value);
    }
    Ok(labels)
}

fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for text in given {
        let (key, value) = text.split_once('=').unwrap_or(("name", text));
        if key.is_empty() || value.is_empty() {
            bail!("`{text}` is not a label; write K=V, as in host=rack7");
        }
        if key == CONFIRMS {
            bail!("the label `{CONFIRMS}` is reserved: the second run of `--gate` has it, and decides for the first");
        }
        if labels.insert(key.to_string(), value.to_string()).is_some() {
            bail!("the label `{key}` is given twice");
        }
    }
    Ok(labels)
}

/// The command of a run that was gone on with: it is to have as many blocks now, and to be as sure.
fn went_on(command: &str, blocks: u32, until: Option<Percent>) -> String {
    let command = with(command, "--blocks", &blocks.to_string());
    until.map_or_else(|| command.clone(), |until| with(&command, "--until", &until.to_string()))
}

/// The command with another value of an option; one that it doesn't have goes before the seed, which every command ends with.
fn with(command: &str, option: &str, value: &str) -> String {
    let said = format!(" {option} ");
    if let Some((before, after)) = command.split_once(&said) {
        let rest = after.find(' ').map_or("", |end| &after[end..]);
        return format!("{before}{said}{value}{rest}");
    }
    let (before, seed) = command.split_at(command.find(" --seed ").unwrap_or(command.len()));
    format!("{before}{said}{value}{seed}")
}

/// The command that measures the same again: what was typed, with the seed.
fn command(args: &cli::Run, plan: &Plan) -> String {
    let mut words: Vec<String> = vec!["tarebench".into(), "run".into(), plan.suite.name.clone()];
    words.extend(args.selection.environments.iter().flat_map(|e| ["--env".into(), e.clone()]));
    words.extend(args.selection.scope.workloads.iter().flat_map(|w| ["--workload".into(), w.clone()]));
    words.extend(tuning(&args.keeping));
    // A gate has blocks of its own, and its second run twice as many.
    let blocks = args.gate.as_ref().map(|_| plan.suite.blocks).or(args.selection.scope.blocks);
    let keeping = &args.keeping;
    words.extend(alongside(keeping.beside));
    typed_again(words, &args.selection.scope, blocks, (keeping.budget, args.until), plan.seed, &keeping.store.store)
}

/// The word that tunes the machine, where it was typed.
pub fn tuning(keeping: &cli::Keeping) -> Option<String> {
    keeping.tune.as_ref().map(|knobs| format!("--tune={knobs}"))
}

/// The word that measures beside other runs, where it was typed or set.
pub fn alongside(beside: bool) -> Option<String> {
    beside.then(|| "--beside".into())
}

/// The command that begins with these words and measures so many blocks within these bounds, drawn from this seed, into this store.
pub fn typed_again(
    mut words: Vec<String>,
    scope: &cli::Scope,
    blocks: Option<u32>,
    (budget, until): (Option<Duration>, Option<Percent>),
    seed: u64,
    store: &Path,
) -> String {
    let mut option = |name: &str, value: String| words.extend([name.into(), value]);
    blocks.iter().for_each(|b| option("--blocks", b.to_string()));
    budget.iter().for_each(|b| option("--budget", humantime::format_duration(*b).to_string().replace(' ', "")));
    until.iter().for_each(|u| option("--until", u.to_string()));
    option("--seed", seed.to_string());
    scope.data_dir.iter().for_each(|d| option("--data-dir", d.display().to_string()));
    if scope.allow_memory {
        words.push("--allow-memory".into());
    }
    typed(&words.iter().map(String::as_str).collect::<Vec<_>>(), store)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_command_of_a_run_that_went_on_says_what_it_has_now() {
        let until = "3%".parse().expect("a share");
        assert_eq!(
            went_on("tarebench run quick --blocks 8 --seed 5", 24, None),
            "tarebench run quick --blocks 24 --seed 5"
        );
        assert_eq!(
            went_on("tarebench run quick --env 'a b' --seed 5", 24, Some(until)),
            "tarebench run quick --env 'a b' --blocks 24 --until 3% --seed 5"
        );
        assert_eq!(
            went_on("tarebench run x --until 5% --seed 5", 9, Some(until)),
            "tarebench run x --until 3% --blocks 9 --seed 5"
        );
    }

    #[test]
    fn what_measures_the_same_again_keeps_it_in_the_same_store() {
        let again = |words: &[&str]| {
            let beside = words.contains(&"--beside");
            let words = ["tarebench", "run", "quick", "--env", "bare", "--seed", "5"].iter().chain(words);
            let mut args = match cli::Cli::try_parse_from(words).expect("can be typed").command {
                cli::Command::Run(args) => args,
                other => panic!("{other:?}"),
            };
            // Whoever tests may have set it.
            args.keeping.beside = beside;
            command(&args, &Plan::resolve(&args.selection).expect("plans"))
        };
        assert_eq!(again(&[]), "tarebench run quick --env bare --seed 5");
        let other = "tarebench run quick --env bare --seed 5 --store 'my runs.db'";
        assert_eq!(again(&["--store", "my runs.db"]), other);
        assert_eq!(went_on(other, 9, None), other.replace("--seed", "--blocks 9 --seed"));
        assert_eq!(again(&["--beside"]), "tarebench run quick --env bare --beside --seed 5");
    }

    #[test]
    fn commit_and_branch_are_those_of_the_job() {
        let of = |set: &[(&str, &str)]| surroundings(|name| Some(set.iter().find(|(n, _)| *n == name)?.1.to_string()));
        let github = [("GITHUB_SHA", "abc"), ("GITHUB_HEAD_REF", ""), ("GITHUB_REF_NAME", "main")];
        assert_eq!(of(&github), [("commit", "abc".into()), ("branch", "main".into())]);
        let pull = [("GITHUB_SHA", "abc"), ("GITHUB_HEAD_REF", "mend"), ("GITHUB_REF_NAME", "7/merge")];
        assert_eq!(of(&pull)[1], ("branch", "mend".into()));
        let gitlab = [("CI_COMMIT_SHA", "def"), ("CI_COMMIT_REF_NAME", "v1"), ("TAREBENCH_HOST_CLASS", "rack7")];
        assert_eq!(of(&gitlab), [("commit", "def".into()), ("branch", "v1".into()), ("host-class", "rack7".into())]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_run_that_confirms_another_has_its_labels() {
        let of_first = labels(&["commit=abc".into()]).expect("reads");
        let second = of_second(&of_first, "first");
        assert_eq!((second["commit"].as_str(), second[CONFIRMS].as_str(), second.len()), ("abc", "first", 2));
    }

    #[test]
    fn a_label_without_a_key_is_a_name() {
        assert_eq!(labels(&["release".into()]).expect("reads")["name"], "release");
        assert!(labels(&["=x".into()]).is_err());
        assert!(labels(&["a=1".into(), "a=2".into()]).is_err());
        assert!(labels(&["confirms=abc".into()]).expect_err("reserved").to_string().contains("reserved"));
    }
}
