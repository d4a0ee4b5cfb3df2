//! Two runs for programs: schema `tarebench.compare/1`. What is said of the fields here is what `docs/compare.schema.json` says.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Render, cautions};
use crate::between::Between;
#[cfg(test)]
use crate::comparison::{Metric, Verdict};

/// The name and version of the format.
pub const SCHEMA: &str = "tarebench.compare/1";

/// The format `json`.
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// Two runs of one suite, held against each other.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Document<'a> {
    /// A field keeps its name, meaning and unit for as long as this number stays; new fields may come.
    #[cfg_attr(test, schemars(extend("enum" = [SCHEMA])))]
    schema: &'static str,
    /// Id of the run to start from.
    first: &'a str,
    /// Id of the run that is held against it.
    second: &'a str,
    /// What of the runs is to be taken with care, as their trust strip has it: control, smallest visible change, blocks, void rounds,
    /// failures, how they ended.
    cautions: Cautions,
    /// What ought to be the same in both and isn't.
    differences: Vec<Difference<'a>>,
    /// A line per workload, environment and metric that both have.
    rows: Vec<Row<'a>>,
    /// What isn't compared, in words.
    left_out: &'a [String],
}

/// What is to be taken with care, a line each.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Cautions {
    /// Of the first run.
    first: Vec<String>,
    /// Of the second.
    second: Vec<String>,
}

/// Something that ought to be the same.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Difference<'a> {
    /// The part of a run that it belongs to.
    part: &'static str,
    /// Its name.
    name: &'a str,
    /// In the first run; null where that doesn't have it.
    first: Option<&'a str>,
    /// In the second.
    second: Option<&'a str>,
}

/// An overhead in both runs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Row<'a> {
    /// Name of the workload.
    workload: &'a str,
    /// Name of the environment.
    environment: &'a str,
    /// The figure.
    #[cfg_attr(test, schemars(extend("enum" = Metric::ALL.map(Metric::name))))]
    metric: &'static str,
    /// The overhead in the first run, over its own baseline.
    first: Option<f64>,
    /// The same of the second.
    second: Option<f64>,
    /// The second over the first; above 1 is worse in the second. Null where they can't be compared.
    ratio: Option<f64>,
    /// Lower end of its interval.
    low: Option<f64>,
    /// Upper end.
    high: Option<f64>,
    /// How likely they look as different as this by chance, adjusted for all rows.
    p: Option<f64>,
    /// Whether they differ beyond chance.
    differs: bool,
    /// Whether to believe it.
    #[cfg_attr(test, schemars(extend("enum" = [Verdict::Trusted, Verdict::Suspect, Verdict::Invalid].map(Verdict::name))))]
    verdict: &'static str,
    /// Why there is no ratio.
    because: Option<&'a str>,
}

impl Render for Json {
    fn render(&self, b: &Between) -> Result<Vec<u8>> {
        let differences = b.differences.iter().map(|d| Difference {
            part: d.part.name(),
            name: &d.name,
            first: d.first.as_deref(),
            second: d.second.as_deref(),
        });
        let rows = b.rows.iter().map(|row| {
            let ratio = row.ratio.as_ref().ok();
            let interval = ratio.and_then(|ratio| ratio.interval);
            Row {
                workload: &row.workload,
                environment: &row.environment,
                metric: row.metric.name(),
                first: row.first.map(|e| e.value),
                second: row.second.map(|e| e.value),
                ratio: ratio.map(|ratio| ratio.value),
                low: interval.map(|i| i.low),
                high: interval.map(|i| i.high),
                p: row.p,
                differs: row.differs(),
                verdict: row.verdict.name(),
                because: row.ratio.as_ref().err().map(String::as_str),
            }
        });
        let document = Document {
            schema: SCHEMA,
            first: &b.first.run.id,
            second: &b.second.run.id,
            cautions: Cautions { first: cautions(&b.first), second: cautions(&b.second) },
            differences: differences.collect(),
            rows: rows.collect(),
            left_out: &b.left_out,
        };
        let mut bytes = serde_json::to_vec_pretty(&document).context("write the comparison of two runs as JSON")?;
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
        published::hold(schemars::schema_for!(Document<'_>), SCHEMA, "compare.schema.json");
    }
}
