//! Overheads for github-action-benchmark, as its `customSmallerIsBetter`: a list of names with a value each.
//!
//! The format: <https://github.com/benchmark-action/github-action-benchmark#examples>.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Series, figure, series};
use crate::comparison::Comparison;
use crate::render::{Render, escape, units, words};

/// The format `github-benchmark`.
#[derive(Debug, Clone, Copy)]
pub struct GithubBenchmark;

#[derive(Serialize)]
struct Benchmark {
    name: String,
    unit: String,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

impl Render for GithubBenchmark {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let benchmarks: Vec<_> = series(c).map(|series| benchmark(c, &series)).collect();
        let mut bytes = serde_json::to_vec_pretty(&benchmarks).context("write the list for github-action-benchmark")?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn benchmark(c: &Comparison, series: &Series<'_>) -> Benchmark {
    let [net, gross, _] = words::figures(series.cell, series.finding);
    let doubts = words::doubts(series.cell);
    let flags = if doubts.is_empty() { String::new() } else { format!(": {}", doubts.join(", ")) };
    let baseline = &c.run.baseline;
    Benchmark {
        name: cell(&format!("{}: {}", series.subject(), figure(series.cell.metric))),
        unit: cell(&format!("× {baseline}")),
        value: series.value(),
        range: series.interval().map(|i| units::interval(series.value(), (i.low, i.high))),
        extra: escape::one_line(&format!(
            "{gross}, {baseline} {net}, {} block{}, {}{flags}",
            series.cell.blocks,
            if series.cell.blocks == 1 { "" } else { "s" },
            c.verdict(series.cell).name()
        )),
    }
}

/// The action puts names into the cells of a table, between backticks, where nothing can be escaped.
fn cell(text: &str) -> String {
    escape::one_line(text).replace(['|', '`', '<', '>'], "·")
}
