//! The gate for GitHub Actions: annotations, and the summary of a step.

use anyhow::Result;

use super::super::escape::{markdown, one_line};
use super::super::units;
use super::{Render, counts};
use crate::gate::{Gate, Judgement, Verdict, words};

/// The format `github`: workflow commands, which the log turns into annotations.
#[derive(Debug, Clone, Copy)]
pub struct Github;

/// More annotations of one step aren't shown.
const ANNOTATIONS: usize = 10;

/// A larger summary is refused in whole: a mebibyte, with room for the last lines.
const SUMMARY: usize = (1 << 20) - 1024;

/// From bad to good, everything that isn't a pass.
fn told(gate: &Gate) -> Vec<&Judgement> {
    let mut told: Vec<&Judgement> = gate.judgements.iter().filter(|j| j.verdict != Verdict::Pass).collect();
    told.sort_by_key(|j| std::cmp::Reverse(j.verdict));
    told
}

impl Render for Github {
    fn render(&self, gate: &Gate, failing: &[Verdict]) -> Result<Vec<u8>> {
        let mut out = String::new();
        let told = told(gate);
        // The last one says how many there are beyond.
        let shown = if told.len() > ANNOTATIONS { ANNOTATIONS - 1 } else { told.len() };
        for j in &told[..shown] {
            let level = match j.verdict {
                verdict if failing.contains(&verdict) => "error",
                verdict if verdict.is_good() => "notice",
                _ => "warning",
            };
            let title = format!("{} {} in {}", j.verdict.name(), j.workload, j.environment);
            say!(out, "::{level} title={}::{}", property(&title), message(&words::sentence(j)));
        }
        if shown < told.len() {
            let more = format!("and {} more: {}", told.len() - shown, counts(gate));
            say!(out, "::warning title={}::{}", property("tarebench gate"), message(&more));
        }
        say!(out, "{}: {} ({})", one_line(&gate.suite), gate.verdict().name(), counts(gate));
        Ok(out.into_bytes())
    }
}

/// Text of a workflow command, whatever its characters.
fn message(text: &str) -> String {
    one_line(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

/// The summary of a step, in GitHub's Markdown and within what it takes; from bad to good.
#[must_use]
pub fn summary(gate: &Gate) -> String {
    let mut out = String::new();
    say!(out, "## tarebench gate: {}\n", gate.verdict().name());
    say!(out, "{}, run {}: {}.\n", markdown(&gate.suite), markdown(&gate.run), counts(gate));
    if let Some(second) = &gate.confirmed_by {
        say!(out, "What it could not clear was decided by run {}, of fresh starts.\n", markdown(second));
    }
    for note in gate.same.iter().chain(&gate.notes) {
        say!(out, "* {}", markdown(note));
    }
    out.push_str("\n| verdict | work | environment | against | ratio | an operation | because |\n|---|---|---|---|---|---|---|\n");
    let mut all: Vec<&Judgement> = gate.judgements.iter().collect();
    all.sort_by_key(|j| std::cmp::Reverse(j.verdict));
    let (mut rows, total) = (0, all.len() + gate.left_out.len());
    let mut add = |row: String| {
        if out.len() + row.len() < SUMMARY {
            out.push_str(&row);
            rows += 1;
        }
    };
    for j in all {
        let enough = j.enough.as_ref().map(|e| format!("; enough would be {e}")).unwrap_or_default();
        let verdict =
            if j.verdict.is_good() { j.verdict.name().to_string() } else { format!("**{}**", j.verdict.name()) };
        add(format!(
            "| {verdict} | {} {} | {} | {} | {} | {} | {}{} |\n",
            markdown(&j.workload),
            words::metric(j.metric),
            markdown(&j.environment),
            markdown(&j.against),
            j.ratio.as_ref().map(words::ratio).unwrap_or_default(),
            j.difference_ns.map(|ns| units::signed(units::duration(ns))).unwrap_or_default(),
            markdown(&j.because),
            markdown(&enough)
        ));
    }
    for l in &gate.left_out {
        let (workload, metric) = (markdown(&l.workload), words::metric(l.metric));
        add(format!(
            "| left out | {workload} {metric} | {} | | | | {} |\n",
            markdown(&l.environment),
            markdown(&l.reason)
        ));
    }
    if rows < total {
        say!(out, "\n{} more rows don't fit here.", total - rows);
    }
    out
}
