//! `tarebench plan`: what `run` would do, in order, and about how long.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use reports::render::escape;
use workloads::load;
use workloads::settings::{Setting, Settings};

use crate::cli;
use crate::commands::print;
use crate::commands::run::planned;
use crate::estimate::Estimate;
use crate::exit::Exit;
use crate::plan::Plan;

/// Resolves and prints; probes nothing, touches nothing.
pub fn run(args: cli::PlanArgs) -> anyhow::Result<Exit> {
    let plan = planned(&args.selection, args.budget, args.until)?;
    // A suite may be a stranger's, in all that it says.
    print(&escape::lines(&describe(&plan)?))?;
    Ok(Exit::Done)
}

fn describe(plan: &Plan) -> anyhow::Result<String> {
    let suite = &plan.suite;
    let mut out = String::new();
    let about = if suite.description.is_empty() { String::new() } else { format!(": {}", suite.description) };
    writeln!(out, "{}{about}", suite.name)?;
    writeln!(out, "seed {}", plan.seed)?;
    let most = if suite.until.is_some() { "at most " } else { "" };
    let blocks =
        if suite.blocks == 1 { "1 block, which".into() } else { format!("{most}{} blocks; each", suite.blocks) };
    writeln!(out, "\n{blocks} starts every environment afresh, in random order:")?;
    for environment in &plan.environments {
        let set = set(&environment.runner.all_settings(), &environment.settings)?;
        writeln!(out, "{}", item(&format!("{:<14} {:<12}", environment.name, environment.runner.name()), &set))?;
        if let Some(tenant) = &environment.neighbour {
            let work = &tenant.workload;
            let set = self::set(&load::settings(work.workload.settings()), &work.settings)?;
            let comma = if set.is_empty() { "" } else { "," };
            let who = format!("{:<14} beside {} in {}, on the same CPUs{comma}", "", work.name, tenant.like);
            writeln!(out, "{}", item(&who, &set))?;
        }
    }
    let rounds = if suite.rounds == 1 { "1 round".into() } else { format!("{} rounds", suite.rounds) };
    let burst = humantime::format_duration(suite.burst);
    writeln!(
        out,
        "then, for each workload, prepares it everywhere, does {rounds} of one burst ({burst} on {}) in every",
        suite.baseline
    )?;
    writeln!(out, "environment in random order with a canary between two bursts, and checks what was done:")?;
    for workload in &plan.workloads {
        let set = set(&load::settings(workload.workload.settings()), &workload.settings)?;
        writeln!(out, "{}", item(&format!("{:<18}", workload.name), &set))?;
    }
    writeln!(out, "\nwith {} for each environment", suite.resources)?;
    let all: Vec<usize> = (0..plan.environments.len()).collect();
    let estimate = Estimate::of(plan, &all);
    let whole = estimate.run(suite.blocks);
    // A block that has begun is done.
    let time = suite.budget.map_or(whole, |budget| whole.min(budget.saturating_add(estimate.block())));
    let about = humantime::format_duration(Duration::from_secs(time.as_secs()));
    let timed = 100.0 * estimate.share_timed();
    if let Some(until) = suite.until {
        writeln!(out, "no more blocks than it takes until every interval is within {until}")?;
    }
    writeln!(out, "{most}about {about} if all of them are available, {timed:.0} % of it timed")?;
    if let Some(budget) = suite.budget {
        writeln!(out, "no new block after {}", humantime::format_duration(budget))?;
    }
    Ok(out)
}

/// The settings that are not at their default, each as `name=value`.
fn set(table: &[Setting], settings: &Settings) -> anyhow::Result<Vec<String>> {
    let defaults = Settings::resolve(table, &BTreeMap::new())?;
    let set = settings.iter().filter(|pair| !defaults.iter().any(|default| default == *pair));
    Ok(set.map(|(name, value)| format!("{name}={value}")).collect())
}

/// A name and its settings, which go on below themselves where they are many.
fn item(name: &str, set: &[String]) -> String {
    const WIDTH: usize = 100;
    let mut out = format!("  {name}");
    let indent = out.chars().count();
    let mut used = indent;
    for word in set {
        if used > indent && used + 1 + word.chars().count() > WIDTH {
            out.push_str(&format!("\n{:indent$}", ""));
            used = indent;
        }
        out.push_str(&format!(" {word}"));
        used += 1 + word.chars().count();
    }
    out.trim_end().to_owned()
}
