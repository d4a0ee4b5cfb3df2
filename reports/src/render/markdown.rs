//! The report for a pull request: sentences, trust, one table per workload, flags as footnotes.

use anyhow::Result;

use super::escape::markdown as safe;
use super::words::{self, Piece, Told, Tone, beside, why};
use super::{Render, units};
use crate::comparison::{Cell, Comparison, Flag, Metric, Role, Verdict};
use crate::explain::{Explanation, explain};
use crate::record::WorkloadPlan;

/// The format `markdown`: GitHub's dialect.
#[derive(Debug, Clone, Copy)]
pub struct Markdown;

/// The flags of a report, and in which order they were first mentioned: a footnote's number is its position there.
struct Notes<'a> {
    told: Vec<Told<'a>>,
    mentioned: Vec<usize>,
}

impl Notes<'_> {
    fn mark(&mut self, flag: &Flag) -> Option<String> {
        let told = self.told.iter().position(|told| told.tells(flag.name, &flag.evidence))?;
        let number = self.mentioned.iter().position(|at| *at == told).unwrap_or_else(|| {
            self.mentioned.push(told);
            self.mentioned.len() - 1
        });
        Some(format!("{}[^t{}]", safe(flag.name), number + 1))
    }
}

impl Render for Markdown {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut out = String::new();
        let mut notes = Notes { told: words::marks(c), mentioned: Vec::new() };
        head(c, &mut out);
        if let Some(explanation) = explain(c) {
            explained(&explanation, &mut out);
        }
        for environment in words::compared(c) {
            let sentence = words::sentence(c, environment);
            say!(out, "* **{}**: {}", safe(c.label(&environment.plan.name)), pieces(&sentence));
        }
        trust(c, &mut out);
        for plan in &c.run.workloads {
            table(c, plan, &mut notes, &mut out);
        }
        if let Some(pooled) = words::pooled(c) {
            say!(out, "{}\n", safe(pooled));
        }
        if let Some(notes) = words::notes(c) {
            say!(out, "{}\n", safe(&notes));
        }
        environments(c, &mut out);
        failures(c, &mut out);
        again(&c.run.command, &mut out);
        if !notes.mentioned.is_empty() {
            out.push('\n');
        }
        for (i, told) in notes.mentioned.iter().map(|at| &notes.told[*at]).enumerate() {
            say!(out, "[^t{}]: {}: {}", i + 1, safe(told.name), safe(&told.evidence()));
        }
        Ok(out.into_bytes())
    }
}

fn head(c: &Comparison, out: &mut String) {
    if let Some(words) = words::not_durable(c) {
        say!(out, "> **{}**\n", safe(&words));
    }
    say!(out, "## {} over {}\n", safe(&c.run.suite), safe(&c.run.baseline));
    for reason in &c.invalid {
        say!(out, "> **Invalid**: {}\n", safe(reason));
    }
}

/// What each setting costs, workload by workload.
fn explained(explanation: &Explanation, out: &mut String) {
    for ladder in &explanation.ladders {
        say!(out, "### Why {}\n\n{}\n", safe(&ladder.workload), pieces(&why::sentence(explanation, ladder)));
        say!(out, "| {} | remark |\n|---|---:|---:|---|---:|---|", why::HEADINGS.join(" | "));
        let row = |line: &why::Line| {
            let fields: Vec<String> = line.fields.iter().map(|field| safe(field)).collect();
            format!("| {} | {} |", fields.join(" | "), safe(&line.remark))
        };
        why::rungs(ladder).iter().for_each(|line| say!(out, "{}", row(line)));
        let alternatives = why::alternatives(ladder);
        if !alternatives.is_empty() {
            say!(out, "| *{}* | | | | | |", why::ALONE);
        }
        alternatives.iter().for_each(|line| say!(out, "{}", row(line)));
        out.push('\n');
    }
    say!(out, "{}\n", safe(why::READING));
    explanation.left_out.iter().for_each(|line| say!(out, "* left out: {}", safe(line)));
    out.push('\n');
}

/// The command in a fence that is longer than any it brings along.
fn again(command: &str, out: &mut String) {
    let command = super::escape::one_line(command);
    let longest = command.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    say!(out, "Again:\n\n{fence}sh\n{command}\n{fence}");
}

fn pieces(pieces: &[Piece]) -> String {
    let one = |piece: &Piece| match piece {
        // Spaces are kept: a sentence's pieces bring them along.
        Piece::Plain(text) => {
            let (start, end) = (text.starts_with(' '), text.ends_with(' '));
            format!("{}{}{}", if start { " " } else { "" }, safe(text.trim()), if end { " " } else { "" })
        }
        Piece::Strong(text) => format!("**{}**", safe(text)),
    };
    pieces.iter().map(one).collect()
}

fn trust(c: &Comparison, out: &mut String) {
    out.push_str("\n| | trust | | |\n|---|---|---|---|\n");
    for trust in words::trust(c) {
        let sign = match trust.tone {
            Tone::Good => "✓",
            Tone::Care => "⚠",
            Tone::Bad => "✗",
        };
        say!(out, "| {sign} | {} | {} | {} |", trust.label, safe(&trust.value), safe(&trust.detail));
    }
    out.push('\n');
    for remark in &c.remarks {
        say!(out, "* {}", safe(remark));
    }
    if !c.remarks.is_empty() {
        out.push('\n');
    }
}

fn table(c: &Comparison, plan: &WorkloadPlan, notes: &mut Notes, out: &mut String) {
    let cells: Vec<&Cell> = words::tried(c)
        .filter(|e| e.role != Role::Baseline)
        .filter_map(|e| words::primary(c, &plan.name, &e.plan.name))
        .collect();
    if cells.is_empty() {
        // A run of the baseline alone still has its counters and its place in the insertion test.
        beside_and_insertions(c, plan, out);
        return;
    }
    say!(out, "### {}\n", safe(&plan.name));
    say!(
        out,
        "| {} | net | gross | tare ({}) | overhead | p50 overhead | p99 overhead | flags |",
        beside::metric(plan),
        beside::plus(plan)
    );
    out.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
    for cell in cells {
        say!(out, "| {} |", row(c, cell, notes).join(" | "));
    }
    out.push('\n');
    beside_and_insertions(c, plan, out);
}

/// Service time and lateness of an open loop, counters, and the place in the published insertion test.
fn beside_and_insertions(c: &Comparison, plan: &WorkloadPlan, out: &mut String) {
    let rows = beside::beside(c, &plan.name);
    if !rows.is_empty() {
        say!(out, "| {} |\n|---|--:|--:|--:|--:|--:|--:|", beside::HEADINGS.join(" | "));
        for row in rows {
            let [name, figures @ ..] = &row.fields;
            say!(out, "| {} | {} |", safe(name), figures.join(" | "));
        }
        out.push('\n');
    }
    for text in beside::connections(c, &plan.name).into_iter().chain(beside::counters(c, &plan.name)) {
        say!(out, "* {}\n", safe(&text));
    }
    if let Some(table) = words::seen::table(c, plan) {
        let figures = "--:|".repeat(table.headings.len());
        say!(out, "| what the host saw, by operation | {} |\n|---|{figures}", table.headings.join(" | "));
        for (name, figures) in &table.rows {
            say!(out, "| {} | {} |", safe(name), figures.join(" | "));
        }
        out.push('\n');
    }
    let places: Vec<_> = c.insertions.iter().filter(|i| i.workload == plan.name).collect();
    let Some(first) = places.first() else { return };
    out.push_str("| | 7500 inserts | |\n|---|--:|---|\n");
    for i in &places {
        let name = safe(&i.environment);
        say!(out, "| {name} | {} | {} |", safe(&beside::inserts(i)), safe(&beside::standing(i)));
    }
    say!(out, "\n{}; {}\n", safe(&beside::population()), safe(&beside::reckoned(first)));
}

fn row(c: &Comparison, cell: &Cell, notes: &mut Notes) -> Vec<String> {
    let marks = |notes: &mut Notes| {
        let marks: Vec<String> = cell.marks().filter_map(|flag| notes.mark(flag)).collect();
        let ranked = if cell.verdict == Verdict::Invalid { "*not ranked* " } else { "" };
        format!("{ranked}{}", marks.join(" "))
    };
    let name = safe(c.label(&cell.environment));
    let none = || units::NONE.to_owned();
    match &cell.finding {
        Ok(finding) => {
            let other = |metric: Metric| {
                c.beside(cell, metric).and_then(Cell::overhead).map_or_else(none, |e| words::overhead(&e))
            };
            let [net, gross, tare] = words::figures(cell, finding);
            let overhead = match finding.overhead.interval {
                Some(_) => words::overhead(&finding.overhead),
                None => format!("{} {}", units::ratio(finding.overhead.value, None), words::no_interval(cell.blocks)),
            };
            vec![name, net, gross, tare, overhead, other(Metric::P50), other(Metric::P99), marks(notes)]
        }
        Err(why) => vec![name, none(), none(), none(), safe(&words::withheld(why)), none(), none(), marks(notes)],
    }
}

/// Where an environment has another name in lists, both.
fn called(c: &Comparison, name: &str) -> String {
    let label = c.label(name);
    if label == name { name.to_string() } else { format!("{label} ({name})") }
}

fn environments(c: &Comparison, out: &mut String) {
    out.push_str(
        "### Environments\n\n| | start | stop | memory | runner | network | data |\n|---|--:|--:|--:|---|---|---|\n",
    );
    for e in words::tried(c) {
        let runner = safe(e.plan.version.as_deref().unwrap_or(&e.plan.runner));
        let (network, data) = (safe(&e.plan.network.to_string()), safe(&e.plan.data_path));
        let (start, stop, memory) = (words::start(e), words::stop(e), words::memory(e));
        say!(
            out,
            "| {} | {start} | {stop} | {memory} | {runner} | {network} | {data} |",
            safe(&called(c, &e.plan.name))
        );
    }
    out.push('\n');
    let mut any = false;
    for reason in words::reasons(c) {
        any = true;
        say!(out, "* Why **{}**: {}", safe(&reason.of(c)), safe(&reason.sentence(&c.run)));
    }
    if any {
        out.push('\n');
    }
}

fn failures(c: &Comparison, out: &mut String) {
    for f in &c.failures {
        let place = safe(f.workload.as_deref().unwrap_or("start"));
        let (step, message) = (f.step.name(), safe(&f.message));
        say!(out, "* {} failed in {place}, block {}, at {step}: {message}", safe(&f.environment), f.block);
    }
    if !c.failures.is_empty() {
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn text(c: &Comparison) -> String {
        String::from_utf8(Markdown.render(c).unwrap()).unwrap()
    }

    #[test]
    fn tables_have_as_many_cells_as_headings() {
        for c in [sample::comparison(), sample::hostile(), sample::short()] {
            let text = text(&c);
            let mut columns = 0;
            for line in text.lines() {
                if !line.starts_with('|') {
                    columns = 0;
                    continue;
                }
                let bars = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
                assert!(columns == 0 || columns == bars, "{line}");
                columns = bars;
            }
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        let text = text(&sample::hostile());
        let (text, command) = text.split_once("```sh").unwrap();
        // Nothing means anything within a fence, and the command is on one line of it.
        assert_eq!(command.lines().nth(2).unwrap(), "```");
        assert!(!text.contains("<script"), "{text}");
        assert!(!text.replace("\\]", "").contains("](http"), "{text}");
    }

    #[test]
    fn every_footnote_is_there_once() {
        let text = text(&sample::comparison());
        assert_eq!(text.matches("[^t1]:").count(), 1, "{text}");
        assert!(text.matches("[^t1]").count() > 1, "{text}");
        assert!(text.contains("*not ranked* fsync-not-durable"), "{text}");
    }

    #[test]
    fn sentences_keep_their_spaces() {
        let pieces = super::pieces(&[
            Piece::Plain("takes ".into()),
            Piece::Strong("3×".into()),
            Piece::Plain(" as long".into()),
        ]);
        assert_eq!(pieces, "takes **3×** as long");
    }
}
