//! `tarebench verify`: every workload once in every available environment; the check values must be equal.

use std::collections::BTreeMap;

use anyhow::Context;
use reports::record::Stored;
use reports::store::Store;

use crate::cli;
use crate::commands::print;
use crate::execute::{Options, measure};
use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::Plan;

/// Operations of the one burst: enough to leave something that can be checked.
const OPERATIONS: u64 = 64;

/// A run of one block with a handful of operations, in a store that nobody keeps.
pub fn run(args: cli::Verify) -> anyhow::Result<Exit> {
    let mut plan = Plan::resolve(&args.selection).or_exit(Exit::Usage)?;
    plan.suite.blocks = 1;
    plan.suite.rounds = 1;
    plan.workloads.iter_mut().for_each(|workload| workload.length.operations = Some(OPERATIONS));
    let interrupt = Interrupt::listen()?;
    let folder = tempfile::tempdir().context("can't make a directory for the store").or_exit(Exit::Host)?;
    let store = Store::open(&folder.path().join("verify.db")).or_exit(Exit::Store)?;
    let data_dir = args.selection.scope.data_dir.clone().unwrap_or_else(|| ".".into());
    let options = Options {
        data_dir: &data_dir,
        allow_memory: args.selection.scope.allow_memory,
        // No figure of its is kept.
        beside: true,
        tune: None,
        command: format!("tarebench verify {} --seed {}", plan.suite.name, plan.seed),
        labels: BTreeMap::new(),
    };
    let stored = measure(&plan, options, &store, &interrupt)?;
    let (text, failures) = describe(&stored);
    print(&text)?;
    let exit = if failures == 0 { Exit::Done } else { Exit::SomeFailed };
    Ok(interrupt.exit().unwrap_or_else(|| exit.or_missing(&stored, &args.selection.environments)))
}

/// A line for every workload and environment, and how many did not pass. An environment of which nothing was heard has not.
fn describe(stored: &Stored) -> (String, usize) {
    let mut text = String::new();
    let (mut passed, mut failures) = (0, 0);
    let (running, skipped): (Vec<_>, Vec<_>) = stored.run.environments.iter().partition(|e| e.skipped.is_none());
    for workload in &stored.run.workloads {
        let checks = stored.checks.iter().filter(|c| c.workload == workload.name);
        let value = checks.clone().find_map(|c| c.outcome.as_ref().ok().map(|check| check.value.clone()));
        text.push_str(&format!("{:<18} {}\n", workload.name, value.as_deref().unwrap_or("-")));
        for environment in &running {
            let check = checks.clone().find(|c| c.environment == environment.name).map(|c| &c.outcome);
            let bursts =
                stored.records.iter().filter(|r| r.workload == workload.name && r.environment == environment.name);
            let lost = bursts.filter_map(|r| r.outcome.as_ref().err()).next_back();
            let outcome = match (check, lost) {
                (Some(Ok(check)), None) => {
                    passed += 1;
                    format!("ok: {}", check.detail)
                }
                (Some(Err(failure)), _) | (_, Some(failure)) => {
                    failures += 1;
                    format!("FAILED ({:?}): {}", failure.step, failure.message)
                }
                (None, None) => {
                    failures += 1;
                    "FAILED: it was not checked".into()
                }
            };
            text.push_str(&format!("  {:<16} {outcome}\n", environment.name));
        }
    }
    for environment in skipped {
        if let Some(because) = &environment.skipped {
            text.push_str(&format!("skipped {}: {because}\n", environment.name));
        }
    }
    text.push_str(&format!("{passed} passed, {failures} failed\n"));
    (text, failures)
}
