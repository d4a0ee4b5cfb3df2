//! Which setting of a box costs what: the way from the baseline to an environment, one setting at a time.
//!
//! A suite with a table `explains` names environments of its own as the rungs of a ladder, from the baseline to the environment that
//! is explained, and others that each differ from the environment in one setting. All of them were measured in the same blocks, so a
//! step is a difference within blocks like any other: in each block the steps add up to the whole, to the nanosecond.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::comparison::{Cell, Comparison, Metric, Outcome, Role, Severity, Unit, Verdict, Withheld};
use crate::record::{EnvironmentPlan, WorkloadPlan};
use crate::statistics::{Estimate, hodges_lehmann};

/// The names that a suite gives.
#[derive(Debug, Default, Deserialize)]
struct Named {
    rungs: Vec<String>,
    #[serde(default)]
    alternatives: Vec<String>,
    #[serde(default)]
    left_out: Vec<String>,
}

/// An environment taken apart, workload by workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The environment.
    pub environment: String,
    /// Settings and values that the run left out, and why, one line each.
    pub left_out: Vec<String>,
    /// A ladder for each workload, in their order.
    pub ladders: Vec<Ladder>,
}

/// The way from the baseline to an environment in one workload. All times are nanoseconds of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    /// Name of the workload.
    pub workload: String,
    /// Blocks that all rungs have in common.
    pub blocks: u32,
    /// What this run can't tell in this workload: half the width of the control's interval, as a share of the baseline's time and as time.
    /// `None` where the control has no interval.
    pub floor: Option<Floor>,
    /// From the baseline to the environment.
    pub rungs: Vec<Rung>,
    /// What the environment costs over the baseline; `None` where one of them has no figure.
    pub whole: Option<Estimate>,
    /// The environment with one setting changed, each.
    pub alternatives: Vec<Alternative>,
    /// What the settings cost together beyond what changing each of them alone gives back; `None` where that isn't known of all, or
    /// where there is one alone.
    pub interaction: Option<Estimate>,
}

/// The noise floor of a workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floor {
    /// Of the baseline's time.
    pub share: f64,
    /// Nanoseconds of an operation.
    pub ns: f64,
}

/// One environment of a ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// Its name.
    pub environment: String,
    /// What it has that the rung before it hasn't: the engine, or `disk.bus=ide`. Of the first its name.
    pub change: String,
    /// The baseline's time of an operation, the net of the environment's cell, and the steps so far: the way there in one scale. Or
    /// why there is none: the next rung's step then holds both changes.
    pub cost: Result<f64, String>,
    /// The difference to the rung before it, from the differences within blocks; the first has none.
    pub step: Option<Estimate>,
    /// The step's share of the whole, where the whole can be told from noise.
    pub share: Option<f64>,
    /// The worse verdict of both ends of the step.
    pub verdict: Verdict,
    /// The doubts about either end, by name.
    pub doubts: Vec<&'static str>,
}

/// The environment with one setting changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// Its name.
    pub environment: String,
    /// The setting and the value that it would have: `disk.bus=virtio`.
    pub change: String,
    /// The time that this alone gives back; below 0 it costs more. Or why there is none.
    pub gain: Result<Estimate, String>,
    /// The gain's share of the whole, where the whole can be told from noise. Time that is won by not doing the work is no share of
    /// its cost: where the verdict is invalid there is none.
    pub share: Option<f64>,
    /// The worse verdict of the two.
    pub verdict: Verdict,
    /// The doubts about either, by name.
    pub doubts: Vec<&'static str>,
}

/// Whether a difference can be told from noise: its interval doesn't contain 0.
pub fn told(estimate: &Estimate) -> bool {
    estimate.interval.is_some_and(|i| !i.contains(0.0))
}

fn clear(floor: Option<Floor>, estimate: &Estimate) -> bool {
    told(estimate) && floor.is_none_or(|floor| estimate.value.abs() >= floor.ns)
}

impl Ladder {
    /// Whether a difference can be told from noise: by its own interval, and because it is no smaller than what two copies of the
    /// baseline may differ by.
    pub fn clear(&self, estimate: &Estimate) -> bool {
        clear(self.floor, estimate)
    }

    /// The steps added up.
    pub fn sum(&self) -> f64 {
        self.rungs.iter().filter_map(|rung| rung.step).map(|step| step.value).sum()
    }

    /// Of the sum, what lies in steps of which an end is suspect or invalid.
    pub fn doubted(&self) -> f64 {
        let doubted = self.rungs.iter().filter(|rung| rung.verdict != Verdict::Trusted);
        doubted.filter_map(|rung| rung.step).map(|step| step.value).sum()
    }
}

/// Takes the environment of a run apart; `None` where its suite doesn't ask for that.
pub fn explain(c: &Comparison) -> Option<Explanation> {
    let named = named(c)?;
    let environment = named.rungs.last()?.clone();
    let ladders = c.run.workloads.iter().map(|workload| Case { c, workload }.ladder(&named)).collect();
    Some(Explanation { environment, left_out: named.left_out, ladders })
}

fn named(c: &Comparison) -> Option<Named> {
    let suite = c.run.suite_toml.parse::<toml::Table>().ok()?;
    suite.get("explains")?.clone().try_into().ok()
}

/// What the environments of a ladder are called in lists, by name: `+ disk.bus=ide` on the way to the environment that is explained, and
/// `but disk.bus=virtio` beside it. Those that are more than one change have their name alone, and so has that environment.
pub(crate) fn labels(c: &Comparison) -> BTreeMap<String, String> {
    let Some(Named { rungs, alternatives, .. }) = named(c) else { return BTreeMap::new() };
    let last = rungs.last().map_or("", String::as_str);
    let label = |word: &str, from: &str, to: &str| {
        let change = change(c, from, to);
        (change != to && to != last).then(|| (to.to_string(), format!("{word} {change}")))
    };
    let beside = alternatives.iter().filter_map(|name| label("but", last, name));
    let on_the_way = rungs.windows(2).filter_map(|pair| label("+", &pair[0], &pair[1]));
    beside.chain(on_the_way).collect()
}

/// Time of an operation by block.
type Costs = BTreeMap<u32, f64>;

/// One workload of a comparison.
#[derive(Clone, Copy)]
struct Case<'a> {
    c: &'a Comparison,
    workload: &'a WorkloadPlan,
}

impl<'a> Case<'a> {
    fn ladder(self, named: &Named) -> Ladder {
        let confidence = self.c.method.confidence;
        let costs: Vec<Result<Costs, String>> = named.rungs.iter().map(|name| self.costs(name)).collect();
        let most = costs.iter().flatten().map(BTreeMap::len).max().unwrap_or(0);
        let costs: Vec<Result<Costs, String>> = costs.into_iter().map(|costs| enough(costs?, most)).collect();
        let blocks = common(costs.iter().flatten());
        let between = |from: &Costs, to: &Costs| {
            let differences: Vec<f64> = blocks.iter().map(|block| to[block] - from[block]).collect();
            hodges_lehmann(&differences, confidence)
        };
        let ends = costs.first().zip(costs.last());
        let whole = ends.and_then(|(first, last)| between(first.as_ref().ok()?, last.as_ref().ok()?));
        let floor = self.floor(named);
        let share = |part: &Estimate| Some(part.value / whole.filter(|whole| clear(floor, whole))?.value);
        let mut rungs: Vec<Rung> = Vec::new();
        let mut before: Option<(&str, &Costs)> = None;
        let mut reached = self.net(named).unwrap_or(0.0);
        for (at, (name, costs)) in named.rungs.iter().zip(&costs).enumerate() {
            let (verdict, doubts) = self.doubts(before.map(|(name, _)| name), name);
            // Of a rung that is left out it is what it would have added; the next one's step is from the last that is there.
            let from = match (costs, before) {
                (Ok(_), Some((from, _))) => Some(from),
                _ => at.checked_sub(1).map(|before| named.rungs[before].as_str()),
            };
            let change = from.map_or_else(|| name.clone(), |from| change(self.c, from, name));
            let step = costs.as_ref().ok().zip(before).and_then(|(own, (_, from))| between(from, own));
            reached += step.map_or(0.0, |step| step.value);
            let cost = costs.as_ref().map_err(String::clone).and_then(|_| {
                // Where there is no block in common there is no step either.
                if blocks.is_empty() { Err(NO_BLOCK.to_string()) } else { Ok(reached) }
            });
            let share = step.as_ref().and_then(share);
            rungs.push(Rung { environment: name.clone(), change, cost, step, share, verdict, doubts });
            before = costs.as_ref().ok().map(|costs| (name.as_str(), costs)).or(before);
        }
        let last = named.rungs.last().map_or("", String::as_str);
        let target = costs.last().and_then(|costs| costs.as_ref().ok());
        let alternatives: Vec<(Alternative, Option<Costs>)> = named
            .alternatives
            .iter()
            .map(|name| {
                let costs = self.costs(name).and_then(|costs| enough(costs, most));
                let gain = gain(&costs, target, confidence);
                let (verdict, doubts) = self.doubts(Some(last), name);
                let sound = gain.as_ref().ok().filter(|_| verdict != Verdict::Invalid);
                let share = sound.and_then(share);
                let change = change(self.c, last, name);
                (Alternative { environment: name.clone(), change, gain, share, verdict, doubts }, costs.ok())
            })
            .collect();
        let interaction = self.interaction(named, &costs, &alternatives);
        let alternatives = alternatives.into_iter().map(|(alternative, _)| alternative).collect();
        let (workload, blocks) = (self.workload.name.clone(), blocks.len() as u32);
        Ladder { workload, blocks, floor, rungs, whole, alternatives, interaction }
    }

    /// What the settings cost together less what each of them alone gives back.
    fn interaction(
        self,
        named: &Named,
        costs: &[Result<Costs, String>],
        alternatives: &[(Alternative, Option<Costs>)],
    ) -> Option<Estimate> {
        let target = self.plan(named.rungs.last()?)?;
        // The rung from which on nothing but settings changes.
        let engine = named.rungs.iter().position(|name| self.plan(name).is_some_and(|p| p.runner == target.runner))?;
        let plain = self.plan(&named.rungs[engine])?;
        let keys: BTreeSet<&str> = differing(plain, target).map(|(key, _)| key).collect();
        let back = |alternative: &Alternative| {
            let plan = self.plan(&alternative.environment)?;
            let mut changed = differing(target, plan);
            let (key, value) = changed.next().filter(|(key, _)| keys.contains(key))?;
            (changed.next().is_none() && plain.settings.get(key).is_some_and(|v| v == value)).then_some(key)
        };
        let mut each = BTreeMap::new();
        for (alternative, costs) in alternatives {
            each.extend(back(alternative).zip(costs.as_ref()));
        }
        if keys.len() < 2 || each.len() != keys.len() {
            return None;
        }
        let (from, to) = (costs[engine].as_ref().ok()?, costs.last()?.as_ref().ok()?);
        let blocks = common([from, to].into_iter().chain(each.values().copied()));
        let left = |block: &u32| {
            let gains: f64 = each.values().map(|costs| to[block] - costs[block]).sum();
            to[block] - from[block] - gains
        };
        hodges_lehmann(&blocks.iter().map(left).collect::<Vec<_>>(), self.c.method.confidence)
    }

    fn plan(self, name: &str) -> Option<&'a EnvironmentPlan> {
        self.c.environment(name).map(|e| &e.plan)
    }

    fn cell(self, environment: &str) -> Option<&'a Cell> {
        self.c.cell(&self.workload.name, environment, Metric::primary(self.workload))
    }

    /// The time of an operation in each block, or why there is none.
    fn costs(self, name: &str) -> Result<Costs, String> {
        let Some(environment) = self.c.environment(name) else { return Err("it isn't in the run".into()) };
        if environment.role == Role::Baseline {
            return Ok(self.of_baseline());
        }
        if let Outcome::Skipped(because) = &environment.outcome {
            return Err(because.clone());
        }
        let cell = self.cell(name).ok_or_else(|| NO_BLOCK.to_string())?;
        match &cell.finding {
            Ok(finding) => Ok(finding.costs.iter().copied().collect()),
            Err(Withheld::Failed(message)) => Err(message.clone()),
            Err(Withheld::TooFewOperations { .. }) => Err("it did too few operations".into()),
            Err(Withheld::Batched { .. }) => Err("its operations were timed several at a time".into()),
            Err(Withheld::NotStated) => Err("what was imported doesn't have it".into()),
            Err(Withheld::NoCommonBlock) => Err(NO_BLOCK.into()),
        }
    }

    /// The baseline's time of an operation as the environment's cell has it, so that a reader finds one figure and not two; of bytes a
    /// second, which are no time, the centre of its blocks.
    fn net(self, named: &Named) -> Option<f64> {
        let cell = named.rungs.iter().rev().filter_map(|name| self.cell(name)).find(|cell| cell.finding.is_ok())?;
        let net = cell.finding.as_ref().ok()?.net;
        match cell.unit {
            Unit::Nanoseconds => Some(net),
            Unit::OperationsPerSecond => Some(1e9 / net),
            Unit::BytesPerSecond => {
                let costs: Vec<f64> = self.of_baseline().into_values().collect();
                hodges_lehmann(&costs, self.c.method.confidence).map(|e| e.value)
            }
        }
    }

    fn floor(self, named: &Named) -> Option<Floor> {
        let resolution = self.c.resolution(&self.workload.name, Metric::primary(self.workload))?;
        let (share, net) = (resolution.noise_floor?, self.net(named)?);
        Some(Floor { share, ns: share * net })
    }

    /// The baseline's time is what every cell of a block was divided by.
    fn of_baseline(self) -> Costs {
        let metric = Metric::primary(self.workload);
        let cells = self.c.cells.iter().filter(|cell| cell.workload == self.workload.name && cell.metric == metric);
        let findings = cells.filter_map(|cell| cell.finding.as_ref().ok());
        let pairs = findings.flat_map(|f| f.costs.iter().zip(&f.ratios));
        pairs.map(|((block, cost), (_, ratio))| (*block, cost / ratio)).collect()
    }

    /// What is believed less of two environments, by the flags of either.
    fn doubts(self, one: Option<&str>, other: &str) -> (Verdict, Vec<&'static str>) {
        let cells: Vec<&Cell> = one.into_iter().chain([other]).filter_map(|name| self.cell(name)).collect();
        let verdict = cells.iter().map(|cell| self.c.verdict(cell)).max().unwrap_or(Verdict::Trusted);
        let flags = cells.iter().flat_map(|cell| &cell.flags).filter(|flag| flag.severity > Severity::Note);
        let names: BTreeSet<&'static str> = flags.map(|flag| flag.name).collect();
        (verdict, names.into_iter().collect())
    }
}

/// What one environment has that another hasn't.
fn change(c: &Comparison, from: &str, to: &str) -> String {
    let plan = |name| c.environment(name).map(|e| &e.plan);
    let (Some(one), Some(other)) = (plan(from), plan(to)) else { return to.to_string() };
    let changed: Vec<String> = differing(one, other).map(|(key, value)| format!("{key}={value}")).collect();
    if one.runner != other.runner || changed.is_empty() { to.to_string() } else { changed.join(" and ") }
}

const NO_BLOCK: &str = "it has no block in common with the others";

/// A rung that has less than half of the blocks would take the others' from all rungs.
fn enough(costs: Costs, most: usize) -> Result<Costs, String> {
    match costs.len() {
        0 => Err(NO_BLOCK.into()),
        few if few * 2 < most => Err(format!("it has {few} of {most} blocks")),
        _ => Ok(costs),
    }
}

fn common<'a>(all: impl IntoIterator<Item = &'a Costs>) -> BTreeSet<u32> {
    let mut sets = all.into_iter().map(|costs| costs.keys().copied().collect::<BTreeSet<u32>>());
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |common, set| &common & &set)
}

fn gain(costs: &Result<Costs, String>, target: Option<&Costs>, confidence: f64) -> Result<Estimate, String> {
    let costs = costs.as_ref().map_err(String::clone)?;
    let target = target.ok_or_else(|| "the environment itself has no figure".to_string())?;
    let differences: Vec<f64> = common([costs, target]).iter().map(|block| target[block] - costs[block]).collect();
    hodges_lehmann(&differences, confidence).ok_or_else(|| NO_BLOCK.to_string())
}

/// The settings that have another value, with the second environment's.
fn differing<'a>(
    one: &'a EnvironmentPlan,
    other: &'a EnvironmentPlan,
) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    let pairs = other.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    pairs.filter(|(key, value)| one.settings.get(*key).is_none_or(|before| before != value))
}

#[cfg(test)]
pub(crate) mod tests;
