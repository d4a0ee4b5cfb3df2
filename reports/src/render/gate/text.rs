//! The gate for a terminal and a log: what is bad first, then everything in the order of the run.

use anyhow::Result;

use super::super::escape::one_line;
use super::{Render, counts};
use crate::gate::{Gate, Judgement, Verdict, words};

/// The format `text`.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Render for Text {
    fn render(&self, gate: &Gate, _failing: &[Verdict]) -> Result<Vec<u8>> {
        let mut out = String::new();
        say!(out, "{}: {} ({})", one_line(&gate.suite), gate.verdict().name(), counts(gate));
        match &gate.confirmed_by {
            Some(second) => say!(out, "run {}, and run {second} of fresh starts for what it could not clear", gate.run),
            None => say!(out, "run {}", gate.run),
        }
        for note in gate.same.iter().chain(&gate.notes) {
            say!(out, "note: {}", one_line(note));
        }
        out.push('\n');
        let mut all: Vec<&Judgement> = gate.judgements.iter().collect();
        all.sort_by_key(|j| std::cmp::Reverse(j.verdict));
        let name = |j: &Judgement| {
            let against = if j.mode == crate::gate::Mode::Budget { "budget over " } else { "against " };
            format!("{} {} in {} {against}{}", j.workload, words::metric(j.metric), j.environment, j.against)
        };
        let width = all.iter().map(|j| one_line(&name(j)).chars().count()).max().unwrap_or(0);
        for j in all {
            let figures = words::figures(j);
            say!(out, "{:12}  {:width$}  {figures}", j.verdict.name(), one_line(&name(j)));
            let enough = j.enough.as_ref().map(|e| format!("; enough would be {e}")).unwrap_or_default();
            // What passes by the floor may look worse than the margin: a reader has to see why it passes.
            if j.verdict != Verdict::Pass || j.because != words::excluded(j.limit) {
                say!(out, "{:12}  {}{enough}", "", one_line(&j.because));
            }
            for note in &j.notes {
                say!(out, "{:12}  note: {}", "", one_line(note));
            }
        }
        if !gate.left_out.is_empty() {
            say!(out, "\nnot judged:");
        }
        for left in &gate.left_out {
            let (workload, environment) = (one_line(&left.workload), one_line(&left.environment));
            say!(out, "  {workload} {} in {environment}: {}", words::metric(left.metric), one_line(&left.reason));
        }
        say!(
            out,
            "\nRatios are of the time that work takes, above 1 is worse; the ends of an interval hold in 19 runs of 20 each."
        );
        Ok(out.into_bytes())
    }
}
