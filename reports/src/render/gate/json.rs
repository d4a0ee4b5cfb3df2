//! The gate for programs: schema `tarebench.gate/1`. What is said of the fields here is what `docs/gate.schema.json` says.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Render;
#[cfg(test)]
use crate::comparison::Metric;
use crate::gate::{Gate, Mode, Verdict};

/// The name and version of the format.
pub const SCHEMA: &str = "tarebench.gate/1";

/// The format `json`.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// A run, held against a policy.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document<'a> {
    /// A field keeps its name, meaning and unit for as long as this number stays; new fields may come.
    #[cfg_attr(test, schemars(extend("enum" = [SCHEMA])))]
    schema: &'static str,
    /// Id of the run.
    run: &'a str,
    /// Name of its suite.
    suite: &'a str,
    /// Id of the run of fresh starts that decided about what this one could not clear; null without one.
    confirmed_by: Option<&'a str>,
    /// The worst of all.
    verdict: Verdict,
    /// Whether a verdict of those that are to fail is among them.
    failed: bool,
    /// Why head and base are the same code, so that all that is seen is error; null where they aren't or nobody knows.
    same_engine: Option<&'a str>,
    /// Everything that was asked, in the order of the run.
    judgements: Vec<Judged<'a>>,
    /// Everything that was not.
    left_out: Vec<Left<'a>>,
    /// On the run as a whole.
    notes: &'a [String],
}

/// One comparison, judged.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Judged<'a> {
    /// Name of the workload.
    workload: &'a str,
    /// The environment that is judged.
    environment: &'a str,
    /// The figure.
    #[cfg_attr(test, schemars(extend("enum" = Metric::ALL.map(Metric::name))))]
    metric: &'static str,
    /// How it is judged.
    mode: Mode,
    /// Another environment, the baseline, or `accepted runs`.
    against: &'a str,
    /// What is to be said of it.
    verdict: Verdict,
    /// Above 1 is worse, for throughput too; null where it can't be judged.
    ratio: Option<f64>,
    /// Lower end of its interval.
    low: Option<f64>,
    /// Upper end.
    high: Option<f64>,
    /// Of the interval.
    confidence: Option<f64>,
    /// The ratio that would matter: 1 and the margin, or the budget.
    limit: f64,
    /// Additional time of an operation, nanoseconds; above 0 is worse.
    difference_ns: Option<f64>,
    /// A smaller difference doesn't matter, nanoseconds.
    floor_ns: f64,
    /// Blocks that it rests on.
    blocks: u32,
    /// How likely it looks as bad as this by chance, adjusted for all comparisons of the gate.
    p: Option<f64>,
    /// Why, in one sentence.
    because: &'a str,
    /// What would be enough to say more; null where enough is said.
    enough: Option<&'a str>,
    /// What else is to be known.
    notes: &'a [String],
}

/// A comparison that was not judged.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Left<'a> {
    /// Name of the workload.
    workload: &'a str,
    /// Name of the environment.
    environment: &'a str,
    /// The figure.
    #[cfg_attr(test, schemars(extend("enum" = Metric::ALL.map(Metric::name))))]
    metric: &'static str,
    /// That of the policy, or why there is nothing to judge.
    reason: &'a str,
}

impl Render for Json {
    fn render(&self, gate: &Gate, failing: &[Verdict]) -> Result<Vec<u8>> {
        let judged = gate.judgements.iter().map(|j| {
            let interval = j.ratio.and_then(|ratio| ratio.interval);
            Judged {
                workload: &j.workload,
                environment: &j.environment,
                metric: j.metric.name(),
                mode: j.mode,
                against: &j.against,
                verdict: j.verdict,
                ratio: j.ratio.map(|ratio| ratio.value),
                low: interval.map(|i| i.low),
                high: interval.map(|i| i.high),
                confidence: interval.map(|i| i.confidence),
                limit: j.limit,
                difference_ns: j.difference_ns,
                floor_ns: j.floor_ns,
                blocks: j.blocks,
                p: j.p,
                because: &j.because,
                enough: j.enough.as_deref(),
                notes: &j.notes,
            }
        });
        let left = gate.left_out.iter().map(|l| Left {
            workload: &l.workload,
            environment: &l.environment,
            metric: l.metric.name(),
            reason: &l.reason,
        });
        let document = Document {
            schema: SCHEMA,
            run: &gate.run,
            suite: &gate.suite,
            confirmed_by: gate.confirmed_by.as_deref(),
            verdict: gate.verdict(),
            failed: gate.worst_of(failing).is_some(),
            same_engine: gate.same.as_deref(),
            judgements: judged.collect(),
            left_out: left.collect(),
            notes: &gate.notes,
        };
        let mut bytes = serde_json::to_vec_pretty(&document).context("write the gate as JSON")?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::published;

    #[test]
    fn the_published_schema_is_that_of_the_types() {
        published::hold(schemars::schema_for!(Document<'_>), SCHEMA, "gate.schema.json");
    }
}
