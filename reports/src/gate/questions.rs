//! What a policy asks of a run: one question for each comparison, every name looked up.

use super::{
    FLOOR_NS, Judgement, LeftOut, MARGIN, Mode, Policy, PolicyError, Scope, Terms, policy::wrong, words as said,
};
use crate::comparison::{Comparison, Metric, Role, Withheld};
use crate::record::WorkloadPlan;
use crate::render::words;

/// One comparison that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub workload: String,
    pub environment: String,
    pub metric: Metric,
    pub mode: Mode,
    /// The environment that it is held against, for [`Mode::Paired`].
    pub base: Option<String>,
    /// The ratio that would matter.
    pub limit: f64,
    pub floor_ns: f64,
}

impl Question {
    /// Whether a judgement is about the same.
    pub fn is(&self, j: &Judgement) -> bool {
        (&self.workload, &self.environment, self.metric, self.mode) == (&j.workload, &j.environment, j.metric, j.mode)
    }
}

/// All that is asked, and all that isn't.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub questions: Vec<Question>,
    pub left_out: Vec<LeftOut>,
}

/// What is asked of: a run, or one that is planned.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub workloads: &'a [WorkloadPlan],
    /// Environments that are held against the baseline.
    pub compared: Vec<&'a str>,
    pub baseline: &'a str,
    /// The figures of the run; `None` before it is measured.
    pub measured: Option<&'a Comparison>,
}

impl<'a> Subject<'a> {
    pub fn of(c: &'a Comparison) -> Self {
        let compared = c.environments.iter().filter(|e| e.role == Role::Compared);
        Self {
            workloads: &c.run.workloads,
            compared: compared.map(|e| e.plan.name.as_str()).collect(),
            baseline: &c.run.baseline,
            measured: Some(c),
        }
    }
}

/// Looks up every name, and asks.
///
/// # Errors
/// When a name is not one of the run's, or nothing is asked.
pub(super) fn of(subject: &Subject, policy: &Policy) -> Result<Asked, PolicyError> {
    let workloads: Vec<&str> = subject.workloads.iter().map(|w| w.name.as_str()).collect();
    policy.check(&workloads, &subject.compared, subject.baseline)?;
    let asked = all(subject, policy)?;
    if asked.questions.is_empty() {
        return wrong(nothing(policy, &asked.left_out));
    }
    Ok(asked)
}

/// Why there is no question, and what to do.
fn nothing(policy: &Policy, left_out: &[LeftOut]) -> String {
    let excepted =
        |l: &&LeftOut| policy.exceptions.iter().any(|e| e.scope.holds(&l.workload, &l.environment, l.metric));
    let Some(first) = left_out.first() else {
        return "the policy asks nothing of this run: name `head` and `base`, set a `budget`, or say modes = [\"history\"]"
            .into();
    };
    match left_out.iter().find(|l| !excepted(l)) {
        None => format!(
            "nothing is left to judge: all that the policy asks of this run is left out by [[except]], {} of {} in {} \
             among it; narrow an [[except]], or measure more workloads",
            said::metric(first.metric),
            first.workload,
            first.environment
        ),
        Some(bare) => format!(
            "nothing is left to judge: all that the policy asks of this run is left out, {} of {} in {} since {}",
            said::metric(bare.metric),
            bare.workload,
            bare.environment,
            bare.reason
        ),
    }
}

/// Goes through the run in its order.
fn all(subject: &Subject, policy: &Policy) -> Result<Asked, PolicyError> {
    let mut asked = Asked::default();
    for workload in subject.workloads {
        for environment in &subject.compared {
            for (metric, named) in metrics(workload, environment, policy) {
                ask(subject, policy, &workload.name, environment, metric, named, &mut asked)?;
            }
        }
    }
    Ok(asked)
}

/// Asks again what could not be cleared, of a run that may have only that.
///
/// # Errors
/// As for [`of`], which has looked before.
pub(super) fn again(c: &Comparison, policy: &Policy, suspects: &[&Judgement]) -> Result<Asked, PolicyError> {
    let mut asked = all(&Subject::of(c), policy)?;
    asked.questions.retain(|q| suspects.iter().any(|j| q.is(j)));
    Ok(asked)
}

/// The figures to look at, and those that the policy names, which are told apart.
fn metrics(workload: &WorkloadPlan, environment: &str, policy: &Policy) -> Vec<(Metric, bool)> {
    let named = |metric: &Metric| {
        let about = |scope: &Scope| scope.metric == Some(*metric) && scope.holds(&workload.name, environment, *metric);
        policy.rules.iter().any(|rule| about(&rule.scope))
    };
    let usual = Metric::primaries(workload);
    let more = Metric::ALL.iter().filter(|metric| !usual.contains(metric) && named(metric));
    usual.iter().chain(more).map(|metric| (*metric, named(metric))).collect()
}

fn ask(
    subject: &Subject,
    policy: &Policy,
    workload: &str,
    environment: &str,
    metric: Metric,
    named: bool,
    asked: &mut Asked,
) -> Result<(), PolicyError> {
    let fitting = policy.rules.iter().filter(|rule| rule.scope.holds(workload, environment, metric));
    let terms = fitting.fold(policy.all.clone(), |terms, rule| terms.overruled(&rule.terms));
    let is_head = policy.head.as_deref() == Some(environment);
    let mut modes = terms.modes.clone().unwrap_or_else(|| implied(&terms, policy));
    modes.sort();
    modes.dedup();
    if modes.contains(&Mode::Paired) && policy.head.is_none() {
        return wrong("`paired` needs two environments: name `head` and `base`, in the policy or by --head and --base");
    }
    // Of two environments that are held against each other, one is judged.
    modes.retain(|mode| *mode != Mode::Paired || is_head);
    if modes.is_empty() {
        return Ok(());
    }
    let left_out =
        |reason: String| LeftOut { workload: workload.into(), environment: environment.into(), metric, reason };
    if let Some(exception) = policy.exceptions.iter().find(|e| e.scope.holds(workload, environment, metric)) {
        asked.left_out.push(left_out(exception.reason.clone()));
        return Ok(());
    }
    let withheld = |environment| withheld(subject.measured?, workload, environment, metric);
    if let Some(why) = withheld(environment).filter(|_| !named) {
        let other = policy.base.as_deref().filter(|base| is_head && *base != subject.baseline);
        // Where only one side has too little, the other one has done something else.
        if other.is_none_or(|base| withheld(base).is_some()) {
            asked.left_out.push(left_out(words::because(why)));
            return Ok(());
        }
    }
    for mode in modes {
        let limit = match (mode, terms.budget) {
            (Mode::Budget, Some(budget)) => budget,
            (Mode::Budget, None) => {
                return wrong(format!(
                    "`modes` asks for a budget of {environment} in {workload}, but none is set: write `budget = 1.1` for at most \
                     10 % over the baseline, at the top or in a [[rule]] that fits"
                ));
            }
            (Mode::Paired | Mode::History, _) => 1.0 + terms.margin.unwrap_or(MARGIN),
        };
        asked.questions.push(Question {
            workload: workload.into(),
            environment: environment.into(),
            metric,
            mode,
            base: (mode == Mode::Paired).then(|| policy.base.clone()).flatten(),
            limit,
            floor_ns: terms.floor_ns.unwrap_or(FLOOR_NS),
        });
    }
    Ok(())
}

/// What is asked for by being there: two environments, a budget. A history is asked for by name.
fn implied(terms: &Terms, policy: &Policy) -> Vec<Mode> {
    let paired = policy.head.as_ref().map(|_| Mode::Paired);
    let budget = terms.budget.map(|_| Mode::Budget);
    paired.into_iter().chain(budget).collect()
}

/// Why a figure has no value though the work was done.
fn withheld<'a>(c: &'a Comparison, workload: &str, environment: &str, metric: Metric) -> Option<&'a Withheld> {
    let why = c.cell(workload, environment, metric)?.finding.as_ref().err()?;
    matches!(why, Withheld::TooFewOperations { .. } | Withheld::Batched { .. } | Withheld::NotStated).then_some(why)
}
