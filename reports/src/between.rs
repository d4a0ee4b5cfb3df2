//! Two runs of one suite, on one machine or on two: by how much their overheads differ, and what else does.
//!
//! Each overhead is over the baseline of its own run, and only overheads are compared: absolute times of different machines say
//! nothing of a box. The runs share no block, so nothing is paired (Welch).

use std::collections::{BTreeMap, BTreeSet};

use crate::comparison::{Comparison, Metric, Role, Verdict};
use crate::record::{CALIBRATED, EnvironmentPlan, Run, WorkloadPlan};
use crate::render::words;
use crate::statistics::{Estimate, FEWEST_FOR_INTERVAL, holm, welch, welch_p};

/// The chance that any difference is claimed where there is none.
const ALPHA: f64 = 0.05;

/// Two runs, held against each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Between {
    /// The run that was named first.
    pub first: Comparison,
    /// The run that was named second.
    pub second: Comparison,
    /// What is not the same in both, beside the overheads.
    pub differences: Vec<Difference>,
    /// Workload by workload, then environment by environment, then metric by metric.
    pub rows: Vec<Row>,
    /// What only one of them has, and work that isn't the same, one line each.
    pub left_out: Vec<String>,
}

/// What a difference is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The machine.
    Host,
    /// A program that isolates, or tarebench itself.
    Engine,
    /// A setting of an environment or a workload.
    Setting,
    /// How it was measured.
    Suite,
}

impl Part {
    /// `host`, `engine`, `setting`, `suite`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Host => "host",
            Part::Engine => "engine",
            Part::Setting => "setting",
            Part::Suite => "suite",
        }
    }
}

/// Something that isn't the same in both runs; `None` where one doesn't have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of what.
    pub part: Part,
    /// Its name: `cpu`, `runc version`, `sqlite/commit journal`.
    pub name: String,
    /// In the first run.
    pub first: Option<String>,
    /// In the second.
    pub second: Option<String>,
}

/// One overhead in both runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// The figure.
    pub metric: Metric,
    /// The overhead in the first run.
    pub first: Option<Estimate>,
    /// The overhead in the second.
    pub second: Option<Estimate>,
    /// The second overhead over the first, above 1 is worse in the second; or why there is none.
    pub ratio: Result<Estimate, String>,
    /// How likely so large a ratio is where there is no difference, adjusted for all rows.
    pub p: Option<f64>,
    /// The less trusted of both cells.
    pub verdict: Verdict,
}

impl Row {
    /// Whether the overheads differ beyond chance among all rows.
    pub fn differs(&self) -> bool {
        self.p.is_some_and(|p| p < ALPHA) && self.verdict != Verdict::Invalid
    }
}

/// Holds two runs against each other.
///
/// # Errors
/// When both are the same run, or no environment that is compared did the same work in both; says what each has.
pub fn between(first: Comparison, second: Comparison) -> Result<Between, String> {
    if first.run.id == second.run.id {
        return Err(format!("both are run {}: name another one", first.run.id));
    }
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    for workload in &first.run.workloads {
        let Some(other) = second.run.workloads.iter().find(|w| w.name == workload.name) else {
            left_out.push(format!("{}: only run {} has it", workload.name, first.run.id));
            continue;
        };
        if (workload.kind(), &workload.settings) != (other.kind(), &other.settings) {
            left_out.push(format!("{}: the settings differ, so the work does", workload.name));
            continue;
        }
        rows.extend(
            environments(&first, &second)
                .flat_map(|name| Metric::primaries(workload).iter().map(move |metric| (name, *metric)))
                .filter_map(|(name, metric)| row(&first, &second, workload, name, metric)),
        );
    }
    left_out.extend(lonely(&first.run, &second.run));
    left_out.extend(lonely(&second.run, &first.run));
    if rows.is_empty() {
        let has = |run: &Run| {
            let names =
                run.workloads.iter().map(|w| w.name.as_str()).chain(run.environments.iter().map(|e| e.name.as_str()));
            format!("{} has {}", run.id, names.collect::<Vec<_>>().join(", "))
        };
        return Err(format!(
            "there is nothing to compare: no environment but the baseline did the same work in both runs; {}; {}",
            has(&first.run),
            has(&second.run)
        ));
    }
    adjust(&mut rows);
    Ok(Between { differences: differences(&first.run, &second.run), first, second, rows, left_out })
}

/// Environments that both have, in the order of the first.
fn environments<'a>(first: &'a Comparison, second: &'a Comparison) -> impl Iterator<Item = &'a str> {
    let compared = first.environments.iter().filter(|e| e.role == Role::Compared).map(|e| e.plan.name.as_str());
    compared.filter(|name| second.environment(name).is_some_and(|e| e.role == Role::Compared))
}

/// What the second one doesn't have; workloads of the first that it lacks are said where the work is compared.
fn lonely<'a>(run: &'a Run, other: &'a Run) -> impl Iterator<Item = String> + 'a {
    let environments =
        run.environments.iter().map(|e| &e.name).filter(|name| !other.environments.iter().any(|e| e.name == **name));
    environments.map(|name| format!("{name}: only run {} has it", run.id))
}

/// `None` for a tail that both withhold: nobody misses it.
fn row(first: &Comparison, second: &Comparison, workload: &WorkloadPlan, name: &str, metric: Metric) -> Option<Row> {
    let cells = [first, second].map(|c| c.cell(&workload.name, name, metric));
    let because = |c: &Comparison, at: usize| match cells[at] {
        None => Some(format!("not measured in run {}", c.run.id)),
        Some(cell) => cell.finding.as_ref().err().map(|why| format!("run {}: {}", c.run.id, words::because(why))),
    };
    let (ours, theirs) = (because(first, 0), because(second, 1));
    if metric.is_tail() && ours.is_some() && theirs.is_some() {
        return None;
    }
    let overhead = |at: usize| cells[at].and_then(|cell| cell.overhead());
    let logs = cells.map(|cell| cell.and_then(|c| c.finding.as_ref().ok()).map(|f| f.logs()).unwrap_or_default());
    let few = logs.iter().any(|logs| logs.len() < FEWEST_FOR_INTERVAL as usize);
    let ratio = match ours.or(theirs) {
        Some(why) => Err(why),
        None => welch(&logs[0], &logs[1], first.method.confidence)
            .map(|e| if few { Estimate { interval: None, ..e } } else { e }.map(f64::exp))
            .ok_or_else(|| "no blocks".to_string()),
    };
    Some(Row {
        workload: workload.name.clone(),
        environment: name.into(),
        metric,
        first: overhead(0),
        second: overhead(1),
        p: ratio.as_ref().ok().filter(|_| !few).and_then(|_| welch_p(&logs[0], &logs[1])),
        ratio,
        verdict: [first, second]
            .into_iter()
            .zip(cells)
            .filter_map(|(c, cell)| cell.map(|cell| c.verdict(cell)))
            .max()
            .unwrap_or(Verdict::Trusted),
    })
}

/// All rows are one family.
fn adjust(rows: &mut [Row]) {
    let p: Vec<f64> = rows.iter().filter_map(|row| row.p).collect();
    let mut adjusted = holm(&p).into_iter();
    for row in rows.iter_mut().filter(|row| row.p.is_some()) {
        row.p = adjusted.next();
    }
}

/// What differs beside the overheads: the machine first.
fn differences(first: &Run, second: &Run) -> Vec<Difference> {
    let (ours, theirs) = (facts(first), facts(second));
    let names: BTreeSet<&(Part, String)> = ours.keys().chain(theirs.keys()).collect();
    let differing = names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name));
    differing
        .map(|name| Difference {
            part: name.0,
            name: name.1.clone(),
            first: ours.get(name).cloned(),
            second: theirs.get(name).cloned(),
        })
        .collect()
}

/// Everything of a run that ought to be the same.
fn facts(run: &Run) -> BTreeMap<(Part, String), String> {
    let mut facts = BTreeMap::new();
    let mut add = |part: Part, name: String, value: String| drop(facts.insert((part, name), value));
    for (name, value) in run.host.iter().filter(|(name, _)| name != CALIBRATED) {
        add(Part::Host, name.clone(), value.clone());
    }
    add(Part::Host, "itself a guest".into(), run.nested.clone().unwrap_or_else(|| "no".into()));
    add(Part::Host, "pinning".into(), run.pinning.clone());
    add(Part::Engine, "tarebench".into(), format!("{} {}", run.version, short(&run.binary_sha256)));
    for environment in &run.environments {
        of_environment(environment, &mut add);
    }
    for workload in &run.workloads {
        for (name, value) in &workload.settings {
            add(Part::Setting, format!("{} {name}", workload.name), value.clone());
        }
    }
    add(Part::Suite, "suite".into(), run.suite.clone());
    add(Part::Suite, "baseline".into(), run.baseline.clone());
    add(Part::Suite, "blocks".into(), run.blocks.to_string());
    add(Part::Suite, "rounds".into(), run.rounds.to_string());
    add(Part::Suite, "seed".into(), run.seed.to_string());
    facts
}

fn of_environment(environment: &EnvironmentPlan, add: &mut impl FnMut(Part, String, String)) {
    let name = &environment.name;
    add(Part::Engine, format!("{name} runner"), environment.runner.clone());
    add(Part::Engine, format!("{name} version"), environment.version.clone().unwrap_or_else(|| "unknown".into()));
    for program in &environment.programs {
        let hash = program.sha256.as_deref().map_or("unread", short);
        add(Part::Engine, format!("{name} program {}", last(&program.path)), hash.into());
    }
    for (key, value) in &environment.settings {
        add(Part::Setting, format!("{name} {key}"), value.clone());
    }
    if let Some(neighbour) = &environment.neighbour {
        add(Part::Setting, format!("{name} neighbour"), format!("{} in {}", neighbour.workload, neighbour.like));
        for (key, value) in &neighbour.settings {
            add(Part::Setting, format!("{name} neighbour's {key}"), value.clone());
        }
    }
    add(Part::Setting, format!("{name} data"), environment.data_path.clone());
    add(Part::Setting, format!("{name} CPU"), environment.emulated.clone().unwrap_or_else(|| "the host's".into()));
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Method, compare};
    use crate::example::Example;

    fn run(id: &str, seed: u64) -> Comparison {
        let mut stored = Example { seed, ..Example::default() }.build();
        stored.run.id = id.into();
        compare(&stored, Method::default())
    }

    fn row<'a>(b: &'a Between, workload: &str, environment: &str) -> &'a Row {
        let here = |r: &&Row| r.workload == workload && r.environment == environment && r.metric == Metric::Throughput;
        b.rows.iter().find(here).unwrap_or_else(|| panic!("{workload} in {environment}"))
    }

    #[test]
    fn two_runs_of_the_same_differ_in_nothing_but_the_seed() {
        let b = between(run("a", 1), run("b", 2)).unwrap();
        let names: Vec<&str> = b.differences.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["seed"]);
        assert!(b.left_out.is_empty() && b.rows.iter().all(|r| !r.differs()), "{:?}", b.rows);
        let commit = row(&b, "sqlite/commit", "gvisor");
        assert!(commit.ratio.as_ref().unwrap().interval.unwrap().contains(1.0), "{commit:?}");
    }

    #[test]
    fn a_slower_machine_with_the_same_overheads_makes_no_difference_and_another_engine_does() {
        let (first, mut second) = (run("a", 1), run("b", 2));
        // Twice as slow altogether: gross and net, which nobody compares.
        for cell in &mut second.cells {
            if let Ok(finding) = &mut cell.finding {
                (finding.net, finding.gross) = (2.0 * finding.net, 2.0 * finding.gross);
                if cell.workload == "net/rr" && cell.environment == "gvisor" {
                    finding.ratios.iter_mut().for_each(|(_, ratio)| *ratio *= 1.5);
                }
            }
        }
        second.run.host[1].1 = "64 x another".into();
        second.run.environments[3].version = Some("gvisor 2.0".into());
        second.run.environments[4].settings.insert("disk.cache".into(), "unsafe".into());
        let b = between(first, second).unwrap();
        assert!(!row(&b, "sqlite/commit", "gvisor").differs());
        let rr = row(&b, "net/rr", "gvisor");
        assert!(rr.differs() && (1.4..1.6).contains(&rr.ratio.as_ref().unwrap().value), "{rr:?}");
        let said: Vec<(Part, &str)> = b.differences.iter().map(|d| (d.part, d.name.as_str())).collect();
        let expected = [
            (Part::Host, "cpu"),
            (Part::Engine, "gvisor version"),
            (Part::Setting, "qemu disk.cache"),
            (Part::Suite, "seed"),
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn other_work_is_not_compared_and_what_one_lacks_is_said() {
        let (first, mut second) = (run("a", 1), run("b", 2));
        second
            .run
            .workloads
            .iter_mut()
            .find(|w| w.name == "sqlite/commit")
            .unwrap()
            .settings
            .insert("journal".into(), "off".into());
        second.run.workloads.retain(|w| w.name != "net/rr");
        second.run.environments.retain(|e| e.name != "qemu");
        second.environments.retain(|e| e.plan.name != "qemu");
        let b = between(first, second).unwrap();
        assert!(
            b.rows
                .iter()
                .all(|r| !["sqlite/commit", "net/rr"].contains(&r.workload.as_str()) && r.environment != "qemu")
        );
        let said = b.left_out.join("; ");
        assert!(
            said.contains("sqlite/commit: the settings differ")
                && said.contains("net/rr: only run a")
                && said.contains("qemu: only run a")
        );
    }

    #[test]
    fn the_same_run_twice_and_runs_without_anything_in_common_are_refused() {
        assert!(between(run("a", 1), run("a", 1)).unwrap_err().contains("both are run a"));
        let mut other = run("b", 2);
        other.run.workloads.clear();
        assert!(between(run("a", 1), other).unwrap_err().contains("nothing to compare"));
    }
}
