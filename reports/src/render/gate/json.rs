//! The gate for programs: schema `tarebench.gate/1`. Fields keep their name, meaning and unit; new ones may come.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Render;
use crate::gate::{Gate, Mode, Verdict};

/// The name and version of the format.
pub const SCHEMA: &str = "tarebench.gate/1";

/// The format `json`.
#[derive(Debug, Clone, Copy)]
pub struct Json;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    run: &'a str,
    suite: &'a str,
    confirmed_by: Option<&'a str>,
    verdict: Verdict,
    failed: bool,
    same_engine: Option<&'a str>,
    judgements: Vec<Judged<'a>>,
    left_out: Vec<Left<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Judged<'a> {
    workload: &'a str,
    environment: &'a str,
    metric: &'static str,
    mode: Mode,
    against: &'a str,
    verdict: Verdict,
    /// Above 1 is worse, for throughput too.
    ratio: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    confidence: Option<f64>,
    limit: f64,
    /// Nanoseconds per operation.
    difference_ns: Option<f64>,
    floor_ns: f64,
    blocks: u32,
    /// Adjusted for all comparisons of the gate.
    p: Option<f64>,
    because: &'a str,
    enough: Option<&'a str>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Left<'a> {
    workload: &'a str,
    environment: &'a str,
    metric: &'static str,
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
