//! Two runs for programs: schema `tarebench.compare/1`. Fields keep their name, meaning and unit; new ones may come.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Render;
use crate::between::Between;

/// The name and version of the format.
pub const SCHEMA: &str = "tarebench.compare/1";

/// The format `json`.
#[derive(Debug, Clone, Copy)]
pub struct Json;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    first: &'a str,
    second: &'a str,
    differences: Vec<Difference<'a>>,
    rows: Vec<Row<'a>>,
    left_out: &'a [String],
}

#[derive(Serialize)]
struct Difference<'a> {
    part: &'static str,
    name: &'a str,
    first: Option<&'a str>,
    second: Option<&'a str>,
}

#[derive(Serialize)]
struct Row<'a> {
    workload: &'a str,
    environment: &'a str,
    metric: &'static str,
    /// The overheads, each over the baseline of its own run.
    first: Option<f64>,
    second: Option<f64>,
    /// The second over the first; above 1 is worse in the second.
    ratio: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    /// Adjusted for all rows.
    p: Option<f64>,
    differs: bool,
    verdict: &'static str,
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
            differences: differences.collect(),
            rows: rows.collect(),
            left_out: &b.left_out,
        };
        let mut bytes = serde_json::to_vec_pretty(&document).context("write the comparison of two runs as JSON")?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
