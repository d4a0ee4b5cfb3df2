//! The gate: whether a run holds what a policy asks for, with the care that keeps it from crying wolf.
//!
//! A gate makes many comparisons at once, and most of them of things that haven't changed. So all of them are one family
//! (Holm), a change has to be beyond chance and to matter, a machine that can't see it says so, and nothing passes because
//! nothing was seen: to pass, a change that matters has to be excluded.
//!
//! Everything here is a pure function of rows: of the run's, by way of its comparison, and of the runs that were accepted before.

mod decide;
mod measure;
mod policy;
mod questions;
pub(crate) mod words;

use serde::{Deserialize, Serialize};

pub use policy::{Exception, FLOOR_NS, MARGIN, Policy, PolicyError, Rule, Scope, Terms};

use crate::comparison::{Comparison, Method, Metric, Verdict as Trust};
use crate::record::{Ending, RESUMED, WorkloadPlan};
use crate::statistics::{Estimate, Known};
use crate::store::Accepted;
use questions::Subject;

/// The chance that anything is called regressed in a run in which nothing is.
pub const ALPHA: f64 = 0.05;

/// The same for a run that confirms what another one could not clear: what a look at 5 % and a second one at 5 % would come to,
/// but held whatever the first look was like.
pub const ALPHA_CONFIRM: f64 = 0.0025;

/// The label of a run that confirms another one: the other one's id.
pub const CONFIRMS: &str = "confirms";

/// Of intervals: their ends are bounds that hold in nineteen of twenty runs each.
pub const CONFIDENCE: f64 = 0.90;

/// Fewer accepted runs are no history.
pub const FEWEST_ACCEPTED: usize = 10;

/// The least share of accepted runs that a run has to be worse than: a series of two levels is wide, and a run on its upper
/// level is nothing new.
pub const SUPERIORITY: f64 = 0.95;

/// The constants of a comparison that is to be gated: a percentile that decides needs more operations beyond it than one that is
/// shown.
pub fn method() -> Method {
    Method { beyond: 200, ..Method::default() }
}

/// How something is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Mode {
    /// One environment against another of the same run.
    Paired,
    /// The overhead over the baseline against the most that is allowed.
    Budget,
    /// The overhead over the baseline against that of runs that were accepted.
    History,
}

impl Mode {
    /// `paired`, `budget`, `history`.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Paired => "paired",
            Mode::Budget => "budget",
            Mode::History => "history",
        }
    }
}

/// What a gate says, of a comparison and of all; from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Verdict {
    /// A change that matters is excluded.
    Pass,
    /// It is better, beyond chance and by enough to matter.
    Improved,
    /// There are too few accepted runs to say anything.
    NoBaseline,
    /// Neither a regression nor its absence is shown.
    Inconclusive,
    /// It can't be judged: something was not measured, or not soundly.
    Invalid,
    /// It is worse, beyond chance and by enough to matter.
    Regressed,
}

impl Verdict {
    /// From good to bad.
    pub const ALL: [Verdict; 6] = [
        Verdict::Pass,
        Verdict::Improved,
        Verdict::NoBaseline,
        Verdict::Inconclusive,
        Verdict::Invalid,
        Verdict::Regressed,
    ];

    /// `pass`, `improved`, `no-baseline`, `inconclusive`, `invalid`, `regressed`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Improved => "improved",
            Verdict::NoBaseline => "no-baseline",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Invalid => "invalid",
            Verdict::Regressed => "regressed",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }

    /// Whether all is well.
    pub fn is_good(self) -> bool {
        matches!(self, Verdict::Pass | Verdict::Improved)
    }
}

/// The overhead of an environment in a run that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// The figure.
    pub metric: Metric,
    /// Logarithm of the overhead over the baseline, with its standard error.
    pub overhead: Known,
    /// Blocks that it rests on.
    pub blocks: u32,
}

impl Past {
    /// What accepted runs say to those that come after them.
    pub fn of(accepted: &[Accepted]) -> Vec<Past> {
        let figures = accepted.iter().flat_map(|run| &run.figures).filter(|f| f.verdict != Trust::Invalid);
        let past = figures.filter_map(|f| {
            let logs: Vec<f64> = f.ratios.iter().map(|(_, ratio)| ratio.ln()).collect();
            let (workload, environment) = (f.workload.clone(), f.environment.clone());
            let blocks = logs.len() as u32;
            Some(Past { workload, environment, metric: f.metric, overhead: measure::known(&logs)?, blocks })
        });
        past.collect()
    }
}

/// One comparison, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Name of the workload.
    pub workload: String,
    /// The environment that is judged.
    pub environment: String,
    /// The figure.
    pub metric: Metric,
    /// How.
    pub mode: Mode,
    /// What it was held against: another environment, the baseline's name, or `accepted runs`.
    pub against: String,
    /// The ratio that would matter: 1 and the margin, or the budget.
    pub limit: f64,
    /// A smaller difference doesn't matter, nanoseconds.
    pub floor_ns: f64,
    /// How many times worse it is; above 1 is worse. Of [`CONFIDENCE`]. `None` where it can't be judged.
    pub ratio: Option<Estimate>,
    /// Additional time of an operation, nanoseconds; above 0 is worse.
    pub difference_ns: Option<f64>,
    /// Blocks that it rests on.
    pub blocks: u32,
    /// How likely it looks as bad as this by chance, adjusted for all comparisons.
    pub p: Option<f64>,
    /// What is to be said of it.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub because: String,
    /// What would be enough to say more; `None` where enough is said.
    pub enough: Option<String>,
    /// What else is to be known, one line each.
    pub notes: Vec<String>,
}

impl Judgement {
    /// Whether it is of the same comparison.
    fn is_of(&self, other: &Judgement) -> bool {
        (&self.workload, &self.environment, self.metric, self.mode)
            == (&other.workload, &other.environment, other.metric, other.mode)
    }
}

/// A comparison that was not judged, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// The figure.
    pub metric: Metric,
    /// That of the policy, or why there is nothing to judge.
    pub reason: String,
}

/// A run, gated.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// Id of the run.
    pub run: String,
    /// Name of its suite.
    pub suite: String,
    /// Id of the run that confirmed what this one found suspect.
    pub confirmed_by: Option<String>,
    /// Why head and base are the same engine; `None` where they aren't.
    pub same: Option<String>,
    /// Everything that was asked, in the order of the run.
    pub judgements: Vec<Judgement>,
    /// Everything that was not.
    pub left_out: Vec<LeftOut>,
    /// On the run as a whole, one line each.
    pub notes: Vec<String>,
}

impl Gate {
    /// The worst of all; of nothing there is no good one.
    pub fn verdict(&self) -> Verdict {
        self.judgements.iter().map(|j| j.verdict).max().unwrap_or(Verdict::Invalid)
    }

    /// The worst verdict among those that are to fail; `None` where there is none of them.
    pub fn worst_of(&self, failing: &[Verdict]) -> Option<Verdict> {
        self.judgements.iter().map(|j| j.verdict).filter(|v| failing.contains(v)).max()
    }

    /// Judgements of a verdict.
    pub fn of(&self, verdict: Verdict) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(move |j| j.verdict == verdict)
    }

    /// What a first look could not clear and a second one might: [`confirm`] decides about it.
    pub fn suspects(&self) -> impl Iterator<Item = &Judgement> {
        self.judgements.iter().filter(|j| matches!(j.verdict, Verdict::Regressed | Verdict::Inconclusive))
    }
}

/// Whether a policy asks for anything of a run that is planned: no run is to end without a question. `compared` are its environments
/// without the baseline and its copy.
///
/// # Errors
/// When the policy names what the run won't have, or asks for nothing.
pub fn check(
    policy: &Policy,
    workloads: &[WorkloadPlan],
    compared: &[&str],
    baseline: &str,
) -> Result<(), PolicyError> {
    let subject = Subject { workloads, compared: compared.to_vec(), baseline, measured: None };
    questions::of(&subject, policy).map(drop)
}

/// Holds a run against a policy; `accepted` has the overheads of all runs of the same key that were accepted.
///
/// # Errors
/// When the policy names what the run doesn't have, or asks for nothing.
pub fn judge(c: &Comparison, policy: &Policy, accepted: &[Past]) -> Result<Gate, PolicyError> {
    let asked = questions::of(&Subject::of(c), policy)?;
    Ok(answer(c, policy, accepted, asked, ALPHA))
}

/// Decides about what `screen` could not clear, by a run of fresh starts of its own. What the screen cleared stands; its
/// suspicion counts for nothing here, and the chance of a false `regressed` is [`ALPHA_CONFIRM`], whatever led to this run.
///
/// # Errors
/// As for [`judge`], which has looked before.
pub fn confirm(c: &Comparison, policy: &Policy, accepted: &[Past], screen: &Gate) -> Result<Gate, PolicyError> {
    let suspects: Vec<&Judgement> = screen.suspects().collect();
    let fresh = answer(c, policy, accepted, questions::again(c, policy, &suspects)?, ALPHA_CONFIRM);
    let judgements = screen.judgements.iter().map(|first| {
        if !suspects.contains(&first) {
            return first.clone();
        }
        fresh.judgements.iter().find(|second| second.is_of(first)).cloned().unwrap_or_else(|| Judgement {
            verdict: Verdict::Inconclusive,
            because: format!("suspect in the first run, and run {} says nothing of it", fresh.run),
            // There is no third run, so more blocks have nowhere to go.
            enough: Some("both runs anew under this policy".into()),
            ..first.clone()
        })
    });
    let mut notes = screen.notes.clone();
    notes.extend(fresh.notes);
    Ok(Gate { judgements: judgements.collect(), confirmed_by: Some(fresh.run), notes, ..screen.clone() })
}

/// What the screen could not clear where several runs say that they confirm it: nobody knows which of them was not picked for
/// what it says, so that none decides.
#[must_use]
pub fn disputed(screen: &Gate, runs: &[&str]) -> Gate {
    let because =
        format!("runs {} all say that they confirm {}, and one second run decides", runs.join(", "), screen.run);
    let judgements = screen.judgements.iter().map(|first| match first.verdict {
        Verdict::Regressed | Verdict::Inconclusive => Judgement {
            verdict: Verdict::Invalid,
            because: because.clone(),
            enough: Some("a store with the one that followed".into()),
            ..first.clone()
        },
        _ => first.clone(),
    });
    let mut notes = screen.notes.clone();
    notes.push(because.clone());
    Gate { judgements: judgements.collect(), notes, ..screen.clone() }
}

fn answer(c: &Comparison, policy: &Policy, accepted: &[Past], asked: questions::Asked, alpha: f64) -> Gate {
    let mut notes = Vec::new();
    if c.ending == Ending::Interrupted {
        notes.push(format!("the run was ended early: {} of {} blocks count", c.blocks, c.run.blocks));
    }
    for (_, when) in c.run.host.iter().filter(|(name, _)| name == RESUMED) {
        notes.push(format!(
            "the run was gone on with {when}: a run that is gated after each part is red more often than promised"
        ));
    }
    if c.control.is_empty() {
        notes.push("there is no control: nobody knows what this machine can tell apart".into());
    }
    let sides = policy.head.as_deref().zip(policy.base.as_deref());
    notes.extend(sides.and_then(|(head, base)| measure::unknown(c, head, base)));
    Gate {
        run: c.run.id.clone(),
        suite: c.run.suite.clone(),
        confirmed_by: None,
        same: sides.and_then(|(head, base)| measure::same(c, head, base)),
        judgements: decide::all(c, &asked.questions, accepted, alpha),
        left_out: asked.left_out,
        notes,
    }
}

#[cfg(test)]
mod tests;
