//! What a gate holds a run against: a TOML file, read with the line of every mistake and the nearest name there is.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use workloads::settings::{did_you_mean, nearest};

use super::{Mode, words};
use crate::comparison::Metric;
use crate::record::CONTROL;

/// The change that matters where a policy doesn't say: 5 %.
pub const MARGIN: f64 = 0.05;

/// The time of an operation below which no change matters where a policy doesn't say, nanoseconds.
pub const FLOOR_NS: f64 = 2000.0;

/// A policy that can't be used; every message says where and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

/// What is compared, and what of it matters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// The environment that may have become worse, for [`Mode::Paired`].
    pub head: Option<String>,
    /// The one that it is held against.
    pub base: Option<String>,
    /// Holds where no rule says otherwise.
    pub all: Terms,
    /// In the order of the file; of those that are about the same comparison the last one counts.
    pub rules: Vec<Rule>,
    /// Comparisons that are left out.
    pub exceptions: Vec<Exception>,
}

/// What may be said of comparisons; `None` where it isn't.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Terms {
    /// The change that matters, relative: 0.05 for 5 %.
    pub margin: Option<f64>,
    /// A change of less time for an operation doesn't matter, nanoseconds.
    pub floor_ns: Option<f64>,
    /// The most that the overhead over the baseline may be: 1.1.
    pub budget: Option<f64>,
    /// How it is judged.
    pub modes: Option<Vec<Mode>>,
}

impl Terms {
    /// These, where `other` says nothing else.
    pub(super) fn overruled(self, other: &Terms) -> Terms {
        Terms {
            margin: other.margin.or(self.margin),
            floor_ns: other.floor_ns.or(self.floor_ns),
            budget: other.budget.or(self.budget),
            modes: other.modes.clone().or(self.modes),
        }
    }
}

/// Some of the comparisons; `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Name of a workload.
    pub workload: Option<String>,
    /// Name of an environment.
    pub environment: Option<String>,
    /// A metric.
    pub metric: Option<Metric>,
}

impl Scope {
    /// Whether it is about this comparison.
    pub fn holds(&self, workload: &str, environment: &str, metric: Metric) -> bool {
        self.workload.as_deref().is_none_or(|w| w == workload)
            && self.environment.as_deref().is_none_or(|e| e == environment)
            && self.metric.is_none_or(|m| m == metric)
    }
}

/// Terms for some of the comparisons.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Which.
    pub scope: Scope,
    /// What of them.
    pub terms: Terms,
}

/// Comparisons that are known to be too noisy to gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Which.
    pub scope: Scope,
    /// Why, for the report.
    pub reason: String,
}

impl Policy {
    /// Reads a policy; `name` is what to call it in errors.
    ///
    /// # Errors
    /// With the line, what is wrong there, and the nearest name there is.
    pub fn parse(name: &str, text: &str) -> Result<Policy, PolicyError> {
        let file: File = toml::from_str(text).map_err(|e| {
            let hint = hint(e.message()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            PolicyError(format!("{name}: {}{hint}", e.to_string().trim_end()))
        })?;
        file.policy().map_err(|PolicyError(problem)| PolicyError(format!("{name}: {problem}")))
    }

    /// Looks up every name, those of the environments that are compared without the baseline.
    ///
    /// # Errors
    /// For a name that isn't there, with the nearest that is.
    pub fn check(&self, workloads: &[&str], compared: &[&str], baseline: &str) -> Result<(), PolicyError> {
        let scopes = self.rules.iter().map(|r| &r.scope).chain(self.exceptions.iter().map(|e| &e.scope));
        for scope in scopes {
            judgeable("`environment` of a rule", scope.environment.as_deref(), baseline)?;
            known("workload", scope.workload.as_deref(), workloads)?;
            known("environment", scope.environment.as_deref(), compared)?;
        }
        judgeable("`head`", self.head.as_deref(), baseline)?;
        known("environment", self.head.as_deref(), compared)?;
        let mut bases = compared.to_vec();
        bases.push(baseline);
        if self.base.as_deref() == Some(CONTROL) {
            return wrong(format!(
                "`base` can't be `{CONTROL}`, which is `{baseline}` a second time and shows the machine's noise: to hold \
                 an environment against bare work set a `budget`, or name `{baseline}` as `base`"
            ));
        }
        known("environment", self.base.as_deref(), &bases)?;
        if self.head.is_some() && self.head == self.base {
            return wrong("`head` and `base` are the same environment: name two");
        }
        Ok(())
    }
}

/// The baseline and its control are in every run, and what is judged is held against them.
fn judgeable(what: &str, name: Option<&str>, baseline: &str) -> Result<(), PolicyError> {
    let Some(name) = name.filter(|name| *name == baseline || *name == CONTROL) else { return Ok(()) };
    let is = if name == baseline { "the baseline" } else { "the baseline a second time" };
    wrong(format!(
        "{what} can't be `{name}`, which is {is}: name an environment that is held against `{baseline}`, by a `budget` \
         or with `{baseline}` as `base`"
    ))
}

fn known(kind: &str, name: Option<&str>, names: &[&str]) -> Result<(), PolicyError> {
    let Some(name) = name.filter(|name| !names.contains(name)) else { return Ok(()) };
    if names.is_empty() {
        return wrong(format!(
            "there is no {kind} `{name}` to judge, nor any other: all that was measured is the baseline"
        ));
    }
    wrong(format!("there is no {kind} `{name}` to judge; {}", did_you_mean(name, names.iter().copied())))
}

/// The nearest of the names that serde lists after the one that it doesn't know.
fn hint(message: &str) -> Option<String> {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (typed, known) = names.split_first()?;
    message.starts_with("unknown").then(|| nearest(typed, known.iter().copied())).flatten()
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    head: Option<String>,
    base: Option<String>,
    #[serde(default, deserialize_with = "margin")]
    margin: Option<f64>,
    floor: Option<String>,
    budget: Option<f64>,
    modes: Option<Vec<Mode>>,
    #[serde(default, rename = "rule")]
    rules: Vec<RuleInFile>,
    #[serde(default, rename = "except")]
    exceptions: Vec<ExceptionInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleInFile {
    workload: Option<String>,
    environment: Option<String>,
    metric: Option<String>,
    #[serde(default, deserialize_with = "margin")]
    margin: Option<f64>,
    floor: Option<String>,
    budget: Option<f64>,
    modes: Option<Vec<Mode>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionInFile {
    workload: Option<String>,
    environment: Option<String>,
    metric: Option<String>,
    reason: String,
}

/// A share as it is written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a margin is a number up to 1, as in 0.05, or a text with a per cent sign, as in \"5%\"")]
enum Share {
    Number(f64),
    Text(String),
}

/// A number above 1 is the per cents of somebody who forgot the sign: 500 % would let everything pass.
fn margin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let share = Share::deserialize(deserializer)?.value().map_err(serde::de::Error::custom)?;
    Ok(Some(share))
}

impl Share {
    fn value(self) -> Result<f64, String> {
        match self {
            Share::Number(n) if n.is_finite() && n > 1.0 => {
                let percent = (n * 1e6).round() / 1e4;
                let meant = (n * 1e4).round() / 1e6;
                Err(format!("margin = {n} is {percent} %: write {meant} or \"{n}%\", or \"{percent}%\" if it is meant"))
            }
            Share::Number(n) => Ok(n),
            Share::Text(text) => {
                let number = text.trim().strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
                number
                    .map(|percent| percent / 100.0)
                    .ok_or_else(|| format!("margin = \"{text}\" is no share: write 0.05 or \"5%\""))
            }
        }
    }
}

impl File {
    fn policy(self) -> Result<Policy, PolicyError> {
        if self.head.is_some() != self.base.is_some() {
            return wrong("`head` and `base` name two environments: give both, or neither");
        }
        let rule = |r: RuleInFile| {
            Ok(Rule {
                scope: scope(r.workload, r.environment, r.metric)?,
                terms: terms(r.margin, r.floor, r.budget, r.modes)?,
            })
        };
        let exception = |e: ExceptionInFile| {
            let scope = scope(e.workload, e.environment, e.metric)?;
            if scope == Scope::default() {
                return wrong("[[except]] leaves everything out: name a workload, an environment or a metric");
            }
            if e.reason.trim().is_empty() {
                return wrong("[[except]] needs a reason: what is left out of a gate is listed with it");
            }
            Ok(Exception { scope, reason: e.reason })
        };
        Ok(Policy {
            head: self.head,
            base: self.base,
            all: terms(self.margin, self.floor, self.budget, self.modes)?,
            rules: self.rules.into_iter().map(rule).collect::<Result<_, _>>()?,
            exceptions: self.exceptions.into_iter().map(exception).collect::<Result<_, _>>()?,
        })
    }
}

pub(super) fn wrong<T>(problem: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError(problem.into()))
}

/// A metric by its name for programs, or by the one that reports have for people: `cost` is `throughput`.
fn metric_named(name: &str) -> Option<Metric> {
    Metric::ALL.into_iter().find(|metric| [metric.name(), words::metric(*metric)].contains(&name))
}

fn scope(workload: Option<String>, environment: Option<String>, metric: Option<String>) -> Result<Scope, PolicyError> {
    let metric = metric.map(|name| metric_named(&name).ok_or(name)).transpose().or_else(|name| {
        let known = Metric::ALL.map(Metric::name).into_iter().chain([words::metric(Metric::Throughput)]);
        wrong(format!("there is no metric `{name}`; {}", did_you_mean(&name, known)))
    })?;
    Ok(Scope { workload, environment, metric })
}

fn terms(
    margin: Option<f64>,
    floor: Option<String>,
    budget: Option<f64>,
    modes: Option<Vec<Mode>>,
) -> Result<Terms, PolicyError> {
    if let Some(margin) = margin.filter(|margin| !(0.001..=10.0).contains(margin)) {
        return wrong(format!(
            "`margin` is {margin}, but must be from 0.001 (\"0.1%\") to 10 (\"1000%\"); 0.05 is 5 %"
        ));
    }
    if let Some(budget) = budget.filter(|budget| !(1.0..=1e6).contains(budget)) {
        return wrong(format!("`budget` is {budget}, but must be from 1; 1.1 allows 10 % over the baseline"));
    }
    if modes.as_ref().is_some_and(Vec::is_empty) {
        return wrong("`modes` is empty: name paired, budget or history, or say in [[except]] why nothing is compared");
    }
    let nanoseconds = |text: String| match humantime::parse_duration(&text) {
        Ok(floor) if floor <= Duration::from_secs(60) => Ok(floor.as_nanos() as f64),
        Ok(_) => wrong(format!("`floor` is {text}, but must be at most 60s")),
        Err(e) => wrong(format!("`floor` is not a time: {e} in \"{text}\"; write it as in \"2us\"")),
    };
    Ok(Terms { margin, floor_ns: floor.map(nanoseconds).transpose()?, budget, modes })
}
