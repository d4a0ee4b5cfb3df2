//! `tarebench explain`: which setting of a box costs what. A run like any other, of environments that differ in one setting each.

use std::time::Duration;

use reports::comparison::{Method, compare};
use reports::record::Stored;
use reports::statistics::FEWEST_FOR_INTERVAL;
use reports::store::Store;

use crate::cli;
use crate::commands::run;
use crate::estimate::Estimate;
use crate::execute::{Options, measure};
use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::ladder::{Asked, Here, Ladder, several};
use crate::plan::{self, Plan};
use crate::suite::{BUILT_IN, Entry, Explains, LONGEST_NAME, Suite};

/// Plan the ladder, measure it, report.
pub fn run(args: cli::Explain) -> anyhow::Result<Exit> {
    let labels = run::all_labels(&args.label).or_exit(Exit::Usage)?;
    let outputs = run::outputs(&args.keeping.report)?;
    let plan = planned(&args).or_exit(Exit::Usage)?;
    run::say(&plan);
    tell_ladder(&plan);
    if let Some(words) = too_little(&plan) {
        tell!("warning: {words}");
    }
    let interrupt = Interrupt::listen()?;
    let store = Store::open(&args.keeping.store.store).or_exit(Exit::Store)?;
    let data_dir = run::data_dir_of(args.scope.data_dir.as_deref(), &args.keeping.store.store);
    let options = Options {
        data_dir: &data_dir,
        allow_memory: args.scope.allow_memory,
        beside: args.keeping.beside,
        tune: args.keeping.tune.clone(),
        command: command(&args, &plan),
        labels,
    };
    let stored = measure(&plan, options, &store, &interrupt)?;
    let comparison = compare(&stored, Method::default());
    let told = run::show(&comparison, &outputs);
    run::tell_where(&stored, &args.keeping.store.store);
    let exit = || of_ladder(Exit::of_run(&stored, run::too_unquiet(&comparison)), &stored, &plan);
    interrupt.exit().unwrap_or_else(exit).or_untold(told)
}

/// The ladder in the place of the suite's environments.
fn planned(args: &cli::Explain) -> anyhow::Result<Plan> {
    let selection = cli::Selection { suite: args.suite.clone(), environments: Vec::new(), scope: args.scope.clone() };
    let Plan { mut suite, seed, .. } = Plan::resolve(&selection)?;
    let named = named(&suite);
    let environment = plan::choose(&args.environment, &named, &[], LONGEST_NAME)?;
    if environment.neighbour.is_some() {
        anyhow::bail!(
            "`{}` has a neighbour, and a ladder is of a box's own settings: explain the same without",
            environment.name
        );
    }
    // A plan has made sure that it is there.
    let baseline = suite.environments.iter().find(|e| e.name == suite.baseline).cloned();
    let baseline = baseline.unwrap_or_else(|| environment.clone());
    let here: Here = |runner, settings| runner.settled(settings, nix::unistd::geteuid().is_root());
    let asked = Asked {
        environment: &environment,
        baseline: &baseline,
        order: &args.order,
        only: &args.only,
        named: &named,
        here,
    };
    let Ladder { environments, explains } = Ladder::of(asked)?;
    suite.environments = environments;
    suite.explains = Some(explains);
    suite.budget = args.keeping.budget.or(suite.budget);
    Plan::of(suite, seed)
}

/// The environments that go by a name: the suite's own, then those of the suites that are built in.
fn named(suite: &Suite) -> Vec<Entry> {
    suite.environments.iter().cloned().chain(built_in()).collect()
}

/// The environments of the suites that are built in.
pub fn built_in() -> Vec<Entry> {
    let suites = BUILT_IN.iter().filter_map(|(name, text)| Suite::parse(name, text).ok());
    suites.flat_map(|suite| suite.environments).collect()
}

fn tell_ladder(plan: &Plan) {
    let Some(Explains { rungs, alternatives, left_out }) = &plan.suite.explains else { return };
    tell!("the ladder: {}", rungs.join(", "));
    if !alternatives.is_empty() {
        tell!("one change each: {}", alternatives.join(", "));
    }
    left_out.iter().for_each(|line| tell!("left out: {line}"));
}

/// What is said of a budget in which the blocks have no room.
fn too_little(plan: &Plan) -> Option<String> {
    let budget = plan.suite.budget?;
    let all: Vec<usize> = (0..plan.environments.len()).collect();
    let estimate = Estimate::of(plan, &all);
    let blocks = plan.suite.blocks;
    let time = |blocks: u32| humantime::format_duration(Duration::from_secs(estimate.run(blocks).as_secs().max(1)));
    if estimate.run(blocks) <= budget {
        return None;
    }
    let given = humantime::format_duration(budget);
    let fewest = FEWEST_FOR_INTERVAL;
    Some(format!(
        "{} of {} and {} would take about {}, and the budget is {given}; no interval has less than {fewest} \
         blocks, which take about {}. Give that, or take less apart: --only, --workload",
        several(blocks as usize, "block"),
        several(all.len(), "environment"),
        several(plan.workloads.len(), "workload"),
        time(blocks),
        time(fewest)
    ))
}

/// As of a run in which ENVIRONMENT was asked for by name; a rung or an alternative that can't run here is no failure, only less is told.
fn of_ladder(exit: Exit, stored: &Stored, plan: &Plan) -> Exit {
    let target = plan.suite.explains.as_ref().and_then(|explains| explains.rungs.last());
    let skipped = stored.run.environments.iter().any(|e| Some(&e.name) == target && e.skipped.is_some());
    if skipped { Exit::NothingMeasured } else { exit }
}

/// The command that measures the same again.
fn command(args: &cli::Explain, plan: &Plan) -> String {
    let mut words: Vec<String> = ["tarebench", "explain", &args.environment].map(String::from).into();
    let mut option = |name: &str, value: String| words.extend([name.to_string(), value]);
    if args.suite != "explain" {
        option("--suite", args.suite.clone());
    }
    args.scope.workloads.iter().for_each(|workload| option("--workload", workload.clone()));
    for (name, keys) in [("--only", &args.only), ("--order", &args.order)] {
        if !keys.is_empty() {
            option(name, keys.join(","));
        }
    }
    words.extend(run::tuning(&args.keeping));
    words.extend(run::alongside(args.keeping.beside));
    run::typed_again(
        words,
        &args.scope,
        args.scope.blocks,
        (args.keeping.budget, None),
        plan.seed,
        &args.keeping.store.store,
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn args(words: &[&str]) -> cli::Explain {
        let all = ["tarebench", "explain"].iter().chain(words);
        match cli::Cli::try_parse_from(all).expect("can be typed").command {
            cli::Command::Explain(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_ladder_is_a_plan_and_its_command_can_be_typed_again() {
        let typed = args(&[
            "gvisor:data=root,overlay=none",
            "--workload",
            "disk/fsync",
            "--beside",
            "--blocks",
            "6",
            "--seed",
            "5",
        ]);
        let plan = planned(&typed).expect("plans");
        let names: Vec<&str> = plan.environments.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["bare", "control", "namespaces", "runc", "gvisor", "gvisor-root-none"]);
        let command = command(&typed, &plan);
        let expected =
            "tarebench explain gvisor:data=root,overlay=none --workload disk/fsync --beside --blocks 6 --seed 5";
        assert_eq!(command, expected);
        let suite = Suite::parse("again", &plan.suite.to_toml()).expect("reads");
        assert_eq!(Plan::of(suite, 5).expect("resolves").suite.explains, plan.suite.explains);
    }

    #[test]
    fn the_box_of_2009_is_there_by_its_name() {
        let plan = planned(&args(&["vmware-server-2009"])).expect("plans");
        let rungs = &plan.suite.explains.as_ref().expect("a ladder").rungs;
        assert_eq!((rungs.len(), rungs.last().map(String::as_str)), (8, Some("vmware-server-2009")));
        let e = planned(&args(&["vmware-server-2009x"])).expect_err("refused");
        assert!(e.to_string().ends_with("did you mean `vmware-server-2009`?"), "{e}");
        // Of another suite than the one that measures, too.
        assert!(planned(&args(&["podman-rm-layer"])).is_ok());
    }

    #[test]
    fn a_budget_too_small_says_what_it_would_take() {
        let of = |budget: &str| too_little(&planned(&args(&["gvisor", "--budget", budget])).expect("plans"));
        let words = of("5s").expect("too small");
        assert!(words.contains("the budget is 5s") && words.contains("--only, --workload"), "{words}");
        assert_eq!(of("5h"), None);
    }
}
