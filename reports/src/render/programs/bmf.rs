//! Overheads for Bencher, as Bencher Metric Format: a benchmark per workload and environment, a measure per metric.
//!
//! The format: <https://bencher.dev/docs/reference/bencher-metric-format>.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{figure, series};
use crate::comparison::Comparison;
use crate::render::Render;

/// The format `bmf`.
#[derive(Debug, Clone, Copy)]
pub struct Bmf;

#[derive(Serialize)]
struct Metric {
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_value: Option<f64>,
}

impl Render for Bmf {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut benchmarks: BTreeMap<String, BTreeMap<String, Metric>> = BTreeMap::new();
        for series in series(c) {
            let interval = series.interval();
            let metric = Metric {
                value: series.value(),
                lower_value: interval.map(|i| i.low),
                upper_value: interval.map(|i| i.high),
            };
            let measure = format!("overhead-{}", figure(series.cell.metric));
            benchmarks.entry(series.subject()).or_default().insert(measure, metric);
        }
        let mut bytes = serde_json::to_vec_pretty(&benchmarks).context("write Bencher Metric Format")?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}
