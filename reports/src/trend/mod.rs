//! What a suite cost from run to run: the figures of one history, and where they changed for good.

mod changes;
mod text;

pub use changes::changes;
pub use text::text;

use crate::comparison::{Metric, Verdict};
use crate::gate;
use crate::record::WorkloadPlan;
use crate::statistics::Estimate;
use crate::store::{Gated, Key, Past};

/// The runs of one history with what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// What they have in common.
    pub key: Key,
    /// Name of their suite.
    pub suite: String,
    /// In the order in which they came into the store.
    pub runs: Vec<Night>,
    /// Workload by workload, then environment by environment.
    pub series: Vec<Series>,
}

/// A run of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Night {
    /// Its id.
    pub run: String,
    /// UTC, RFC 3339.
    pub started: String,
    /// From the label `commit`.
    pub commit: Option<String>,
    /// Why it was accepted, if it was.
    pub accepted: Option<String>,
    /// What the last gate over it came to, if there was one.
    pub gated: Option<Gated>,
}

/// The overhead of a workload in an environment, over the runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// The figure to look at first.
    pub metric: Metric,
    /// Numbers of the runs that have it, and the overhead. What doesn't measure what it says isn't there.
    pub points: Vec<(usize, Estimate)>,
    /// Where it changed.
    pub changes: Vec<Change>,
}

/// A change for good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The last run of the level before, by its number.
    pub last: usize,
    /// The first run of the new level.
    pub first: usize,
    /// Median overhead of the level before.
    pub before: f64,
    /// Median overhead of the new level.
    pub after: f64,
}

impl Trend {
    /// The trend of a history. `workloads` are those of its latest run.
    #[must_use]
    pub fn of(key: Key, suite: &str, past: &[Past], workloads: &[WorkloadPlan], environments: &[String]) -> Self {
        let night = |p: &Past| Night {
            run: p.run.clone(),
            started: p.started.clone(),
            commit: p.labels.get("commit").cloned(),
            accepted: p.accepted.clone(),
            gated: p.gated,
        };
        let mut series: Vec<Series> = workloads
            .iter()
            .flat_map(|w| environments.iter().map(move |e| (w, e)))
            .map(|(w, e)| Series {
                workload: w.name.clone(),
                environment: e.clone(),
                metric: Metric::primary(w),
                points: Vec::new(),
                changes: Vec::new(),
            })
            .collect();
        for (at, run) in past.iter().enumerate() {
            for o in run.overheads.iter().filter(|o| o.verdict != Verdict::Invalid) {
                let here = |s: &&mut Series| {
                    (&s.workload, &s.environment, s.metric) == (&o.workload, &o.environment, o.metric)
                };
                if let Some(series) = series.iter_mut().find(here) {
                    series.points.push((at, o.overhead));
                }
            }
        }
        series.retain(|s| !s.points.is_empty());
        series.iter_mut().for_each(Series::find_changes);
        Self { key, suite: suite.into(), runs: past.iter().map(night).collect(), series }
    }

    /// How many runs there are, in words.
    pub(crate) fn count(&self) -> String {
        let plural = if self.runs.len() == 1 { "" } else { "s" };
        format!("{} run{plural}", self.runs.len())
    }

    /// How often a gate held a build against itself, and how often that was red, in words; `None` where it never did.
    pub(crate) fn same_code(&self) -> Option<String> {
        let same = || self.runs.iter().filter_map(|night| night.gated).filter(|gated| gated.same_code);
        let red = same().filter(|gated| gated.verdict == gate::Verdict::Regressed).count();
        let gates = same().count();
        let plural = if gates == 1 { "" } else { "s" };
        (gates > 0).then(|| {
            format!(
                "{gates} A/A gate{plural}, of head and base with the same code; {red} red (regressed), which is error"
            )
        })
    }

    /// The series of a workload.
    pub(crate) fn of_workload<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a Series> {
        self.series.iter().filter(move |s| s.workload == workload)
    }

    /// Names of the workloads, in order.
    pub(crate) fn workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.series.iter().map(|s| s.workload.as_str()).collect();
        names.dedup();
        names
    }
}

impl Series {
    fn find_changes(&mut self) {
        let logs: Vec<f64> = self.points.iter().map(|(_, overhead)| overhead.value.ln()).collect();
        let starts: Vec<usize> = changes(&logs);
        let ends = starts.iter().skip(1).copied().chain([logs.len()]);
        let begins = std::iter::once(0).chain(starts.iter().copied());
        let level = |from: usize, to: usize| middle(&self.points[from..to]);
        let change = |((before, start), end): ((usize, usize), usize)| Change {
            last: self.points[start - 1].0,
            first: self.points[start].0,
            before: level(before, start),
            after: level(start, end),
        };
        self.changes = begins.zip(starts.iter().copied()).zip(ends).map(change).collect();
    }

    /// Median of the level that holds now.
    pub(crate) fn now(&self) -> f64 {
        let from = self.changes.last().map_or(0, |c| c.first);
        let points: Vec<_> = self.points.iter().filter(|(at, _)| *at >= from).copied().collect();
        middle(&points)
    }
}

fn middle(points: &[(usize, Estimate)]) -> f64 {
    let values: Vec<f64> = points.iter().map(|(_, overhead)| overhead.value).collect();
    crate::statistics::median(&values, 0.95).map_or(f64::NAN, |m| m.value)
}

impl Change {
    /// What it is for people: `1.08× → 1.19×, 10.2 % more`.
    pub(crate) fn words(&self) -> String {
        use crate::render::units::{percent, ratio};
        let share = self.after / self.before;
        let (by, which) = if share >= 1.0 { (share - 1.0, "more") } else { (1.0 - share, "less") };
        format!("{} → {}, {} {which}", ratio(self.before, None), ratio(self.after, None), percent(by))
    }
}

impl Night {
    /// Its day, id and commit.
    pub(crate) fn words(&self) -> String {
        let day = self.started.get(..10).unwrap_or(&self.started);
        let commit = self.commit.as_deref().map_or(String::new(), |c| format!(", commit {}", c.get(..12).unwrap_or(c)));
        format!("{day} (run {}{commit})", self.run)
    }
}

#[cfg(test)]
mod tests;
