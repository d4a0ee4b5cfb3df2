//! The numbers behind a judgement, or why there are none.

use super::questions::Question;
use super::{CONFIDENCE, FEWEST_ACCEPTED, Mode, Past, Verdict};
use crate::comparison::{Cell, Comparison, Finding, Flag, Outcome, Severity};
use crate::record::{Ending, EnvironmentPlan};
use crate::render::{units, words};
use crate::statistics::{
    Estimate, FEWEST_FOR_INTERVAL, Known, hodges_lehmann, p_above, p_mean_above, predict, robust_sigma, sigma,
    superiority,
};

/// What a metric can be told apart by at best, in log units: three significant digits of a histogram.
const GRAIN: f64 = 0.001;

/// How a run comes to be among the accepted ones; without `--add` it would take the place of all of them.
const ACCEPT: &str = "`tarebench accept RUN --add --reason TEXT` adds one";

/// What ranks need more blocks than values for.
const RANKS: f64 = 1.05;

/// The numbers of a comparison, ratios as logarithms.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub ratio: Estimate,
    /// Nanoseconds.
    pub difference: Estimate,
    /// The most that an operation took in any block, nanoseconds: what a relative noise is a share of.
    pub dearest_ns: f64,
    /// How likely it looks as bad as this if it isn't worse (than the budget).
    pub worse: Chance,
    /// How likely it looks as good as this if it isn't better.
    pub better: Chance,
    pub blocks: usize,
    /// Standard deviation of a block's value.
    pub sigma: f64,
    /// The deviation that more blocks don't help against.
    pub between: f64,
    /// Of the accepted runs.
    pub superiority: Option<f64>,
    pub notes: Vec<String>,
}

/// A probability by two tests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chance {
    by_ranks: f64,
    by_mean: f64,
    /// What ranks of so many values can't fall below.
    least: f64,
}

impl Chance {
    fn above(d: &[f64], null: f64) -> Self {
        Self { by_ranks: p_above(d, null), by_mean: p_mean_above(d, null), least: 0.5f64.powi(d.len() as i32) }
    }

    fn known(p: f64) -> Self {
        Self { by_ranks: p, by_mean: p, least: 0.0 }
    }

    /// By ranks, which need no assumption but symmetry. Where the ranks of so few blocks could never stand beside so many other
    /// comparisons, however bad it is, by Student's test, as for the claims of a report.
    pub fn beside(self, family: usize, alpha: f64) -> f64 {
        if self.least * family as f64 > alpha { self.by_mean } else { self.by_ranks }
    }
}

/// A verdict that needs no numbers, with what would be enough.
#[derive(Debug, Clone)]
pub(super) struct Unmeasured {
    pub verdict: Verdict,
    pub because: String,
    pub enough: Option<String>,
}

fn invalid<T>(because: impl Into<String>, enough: Option<&str>) -> Result<T, Unmeasured> {
    Err(Unmeasured { verdict: Verdict::Invalid, because: because.into(), enough: enough.map(str::to_string) })
}

/// A run's own estimate with its standard error; `None` for fewer than two blocks.
pub(super) fn known(logs: &[f64]) -> Option<Known> {
    let value = hodges_lehmann(logs, CONFIDENCE)?.value;
    Some(Known { value, error: spread(logs)? * (RANKS / logs.len() as f64).sqrt() })
}

fn spread(logs: &[f64]) -> Option<f64> {
    Some(sigma(logs)?.max(robust_sigma(logs)?) + GRAIN)
}

/// Measures what is asked.
pub(super) fn measure(c: &Comparison, q: &Question, accepted: &[Past]) -> Result<Measured, Unmeasured> {
    sound(c)?;
    let cell = cell(c, q, &q.environment)?;
    let (finding, notes) = finding(cell)?;
    let base = q.base.as_deref().filter(|base| q.mode == Mode::Paired && *base != c.run.baseline);
    if base.is_none() {
        believable(cell)?;
    }
    match (q.mode, base) {
        (Mode::Budget, _) => numbers(&finding.logs(), net_of(finding), dearest(finding), q.limit.ln(), notes),
        (Mode::History, _) => history(q, finding, accepted, notes),
        (Mode::Paired, Some(base)) => paired(c, q, base, cell, finding, notes),
        (Mode::Paired, None) => numbers(&finding.logs(), net_of(finding), dearest(finding), 0.0, notes),
    }
}

/// Reasons that hold for all of the run.
fn sound(c: &Comparison) -> Result<(), Unmeasured> {
    if c.ending == Ending::Unfinished {
        return invalid("the run is not at its end: it is still measuring, or it was killed", Some("a run that ends"));
    }
    if let Some(reason) = c.invalid.first() {
        let enough = match c.ending {
            Ending::Interrupted => "a run that is not ended early: `run --resume` goes on with this one",
            _ => "a run on a quieter machine",
        };
        return invalid(reason.clone(), Some(enough));
    }
    Ok(())
}

fn cell<'a>(c: &'a Comparison, q: &Question, environment: &str) -> Result<&'a Cell, Unmeasured> {
    if let Some(Outcome::Skipped(why)) = c.environment(environment).map(|e| &e.outcome) {
        return invalid(format!("{environment} was not measured: {why}"), Some("a run in which it works"));
    }
    match c.cell(&q.workload, environment, q.metric) {
        Some(cell) => Ok(cell),
        None => invalid(format!("there is nothing of {environment} in this run"), Some("a run that measures it")),
    }
}

/// The numbers of a cell that can be believed, and doubts about it.
fn finding(cell: &Cell) -> Result<(&Finding, Vec<String>), Unmeasured> {
    let finding = match &cell.finding {
        Ok(finding) => finding,
        Err(why) => {
            let because = format!("no {} of {}: {}", cell.metric.name(), cell.environment, words::because(why));
            return invalid(because, Some("longer bursts or more rounds, or another metric"));
        }
    };
    let throttled = cell.flags.iter().find(|f| f.name == "throttled" && f.severity >= Severity::Doubt);
    if let Some(flag) = throttled {
        return invalid(
            format!("{} was throttled: {}", cell.environment, flag.evidence),
            Some("a quota it doesn't meet"),
        );
    }
    let doubts = cell.flags.iter().filter(|f| f.severity == Severity::Doubt);
    Ok((finding, doubts.map(|f| format!("{} is {}: {}", cell.environment, f.name, f.evidence)).collect()))
}

/// The environment's time of an operation less that of the baseline, by block.
fn net_of(finding: &Finding) -> Vec<f64> {
    let pairs = finding.ratios.iter().zip(&finding.costs);
    pairs.map(|((_, ratio), (_, cost))| cost - cost / ratio).collect()
}

/// The most that an operation took in any block.
fn dearest(finding: &Finding) -> f64 {
    finding.costs.iter().map(|(_, cost)| *cost).fold(0.0, f64::max)
}

fn numbers(
    logs: &[f64],
    differences: Vec<f64>,
    dearest_ns: f64,
    null: f64,
    notes: Vec<String>,
) -> Result<Measured, Unmeasured> {
    let estimates = hodges_lehmann(logs, CONFIDENCE).zip(hodges_lehmann(&differences, CONFIDENCE)).zip(spread(logs));
    let Some(((ratio, difference), sigma)) = estimates else {
        return invalid("fewer than two blocks count", Some("at least 6 blocks"));
    };
    let turned: Vec<f64> = logs.iter().map(|d| -d).collect();
    Ok(Measured {
        ratio,
        difference,
        dearest_ns,
        worse: Chance::above(logs, null),
        better: Chance::above(&turned, -null),
        blocks: logs.len(),
        sigma,
        between: 0.0,
        superiority: None,
        notes,
    })
}

/// Flags that say of one side what the other side has as well.
fn on_one_side<'a>(head: &'a Cell, base: &'a Cell) -> Option<&'a Flag> {
    let lacks = |cell: &Cell, name: &str| !fatal(cell).any(|f| f.name == name);
    fatal(head).find(|f| lacks(base, f.name)).or_else(|| fatal(base).find(|f| lacks(head, f.name)))
}

/// What makes a cell invalid, but for what the copies of the baseline differ by, which the decision weighs.
fn fatal(cell: &Cell) -> impl Iterator<Item = &Flag> {
    cell.flags.iter().filter(|f| f.severity == Severity::Fatal && f.name != "control-failed")
}

/// Never of the box alone, so that both sides having it is no comfort.
const SPOILT: &[&str] = &["check-failed", "percentiles-not-monotonic"];

fn paired(
    c: &Comparison,
    q: &Question,
    base: &str,
    head: &Cell,
    of_head: &Finding,
    mut notes: Vec<String>,
) -> Result<Measured, Unmeasured> {
    let base = cell(c, q, base)?;
    let (of_base, more) = finding(base)?;
    notes.extend(more);
    let spoilt = fatal(head).chain(fatal(base)).find(|f| SPOILT.contains(&f.name));
    if let Some(flag) = spoilt.or_else(|| on_one_side(head, base)) {
        return invalid(
            format!("{}: {}", flag.name, flag.evidence),
            Some("sides that do the same work in the same way"),
        );
    }
    // Both were divided by the same bursts of the baseline, which cancel.
    let (mut logs, mut differences) = (Vec::new(), Vec::new());
    for ((block, ratio), (_, cost)) in of_head.ratios.iter().zip(&of_head.costs) {
        let other = of_base.ratios.iter().zip(&of_base.costs).find(|((b, _), _)| b == block);
        if let Some(((_, other_ratio), (_, other_cost))) = other {
            logs.push(ratio.ln() - other_ratio.ln());
            differences.push(cost - other_cost);
        }
    }
    numbers(&logs, differences, dearest(of_head).max(dearest(of_base)), 0.0, notes)
}

/// A cell that doesn't measure what it says can be held against its like, but not against the baseline.
fn believable(cell: &Cell) -> Result<(), Unmeasured> {
    match fatal(cell).next() {
        Some(flag) => invalid(
            format!("{} is {}: {}", cell.environment, flag.name, flag.evidence),
            Some("settings under which it does the work, or an [[except]] with a reason"),
        ),
        None => Ok(()),
    }
}

fn history(q: &Question, finding: &Finding, accepted: &[Past], notes: Vec<String>) -> Result<Measured, Unmeasured> {
    let about = |p: &&Past| (&p.workload, &p.environment, p.metric) == (&q.workload, &q.environment, q.metric);
    // A run of so few blocks that it couldn't be judged itself is no measure for others.
    let (long, short): (Vec<&Past>, Vec<&Past>) =
        accepted.iter().filter(about).partition(|p| p.blocks >= FEWEST_FOR_INTERVAL);
    let series: Vec<Known> = long.iter().map(|p| p.overhead).collect();
    if series.len() < FEWEST_ACCEPTED && series.len() + short.len() >= FEWEST_ACCEPTED {
        let more = FEWEST_ACCEPTED - series.len();
        return Err(Unmeasured {
            verdict: Verdict::Inconclusive,
            because: format!(
                "{} of the accepted runs {} fewer than {FEWEST_FOR_INTERVAL} blocks of this",
                short.len(),
                if short.len() == 1 { "has" } else { "have" }
            ),
            enough: Some(format!("{} of more blocks: {ACCEPT}", units::number_of(more, "more accepted run"))),
        });
    }
    if series.len() < FEWEST_ACCEPTED {
        let more = FEWEST_ACCEPTED - series.len();
        return Err(Unmeasured {
            verdict: Verdict::NoBaseline,
            because: format!(
                "{} of this key, and {FEWEST_ACCEPTED} are needed",
                units::number_of(series.len(), "accepted run")
            ),
            enough: Some(format!("{}: {ACCEPT}", units::number_of(more, "more accepted run"))),
        });
    }
    let logs = finding.logs();
    let Some((own, sigma)) = known(&logs).zip(spread(&logs)) else {
        return invalid("fewer than two blocks count", Some("at least 6 blocks"));
    };
    let Some(prediction) = predict(&series, own.error) else {
        return invalid("the accepted runs say nothing", Some("more accepted runs"));
    };
    let ratio = prediction.above(own.value, CONFIDENCE);
    // What is spent now for an operation less what would have been at the centre of the series.
    let costs: Vec<f64> = finding.costs.iter().map(|(_, cost)| *cost).collect();
    let cost = hodges_lehmann(&costs, CONFIDENCE).map_or(0.0, |e| e.value);
    let below: Vec<Known> = series.iter().map(|k| Known { value: -k.value, ..*k }).collect();
    let sides = (superiority(&series, own.value), superiority(&below, -own.value));
    Ok(Measured {
        ratio,
        difference: ratio.map(|log| cost * (1.0 - (-log).exp())),
        dearest_ns: dearest(finding),
        worse: Chance::known(prediction.p_above(own.value)),
        better: Chance::known(1.0 - prediction.p_above(own.value)),
        blocks: logs.len(),
        sigma,
        between: (prediction.sigma.powi(2) - own.error.powi(2)).max(0.0).sqrt(),
        superiority: Some(sides.0.max(sides.1)),
        notes,
    })
}

/// Why head and base are the same engine, so that a difference between them is an error.
pub(super) fn same(c: &Comparison, head: &str, base: &str) -> Option<String> {
    let (head, base) = sides(c, head, base)?;
    head.same_code(base).then(|| {
        format!(
            "{} and {} ran the same named programs, byte for byte{}: this is an A/A run, and all it can show is error",
            head.name,
            base.name,
            short(head)
        )
    })
}

/// Why nobody knows whether they are, though their files are the same.
pub(super) fn unknown(c: &Comparison, head: &str, base: &str) -> Option<String> {
    let (head, base) = sides(c, head, base)?;
    let program = head.unseen().filter(|_| head.same_files(base))?;
    let (path, why) = match program.script {
        Some(_) => (&program.path, "is a script, and what it starts isn't looked at"),
        None => (&program.path, "may be a script, which nobody looked at when this run was measured"),
    };
    Some(format!(
        "whether {} and {} ran the same code isn't known: their named programs are the same, byte for byte{}, but {path} {why}",
        head.name,
        base.name,
        short(head)
    ))
}

fn sides<'a>(c: &'a Comparison, head: &str, base: &str) -> Option<(&'a EnvironmentPlan, &'a EnvironmentPlan)> {
    let plan = |name: &str| c.environment(name).map(|e| &e.plan);
    // Where no program was read, nobody knows.
    plan(head).filter(|head| !head.programs.is_empty()).zip(plan(base))
}

/// The begin of the first program's hash.
fn short(plan: &EnvironmentPlan) -> String {
    let hash = plan.programs.first().and_then(|program| program.sha256.as_deref());
    hash.map_or_else(String::new, |hash| format!(" ({})", hash.get(..12).unwrap_or(hash)))
}
