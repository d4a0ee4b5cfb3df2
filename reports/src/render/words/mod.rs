//! What every format says in the same words: a sentence per environment, the trust strip, the text of a cell.

pub mod beside;
mod trust;

use std::collections::BTreeSet;

pub use trust::{Tone, Trust, trust};

use super::units;
use crate::comparison::{
    Cell, Comparison, Environment, Finding, Metric, Outcome, Role, Severity, Unit, Verdict, Withheld,
};
use crate::statistics::{Estimate, FEWEST_FOR_INTERVAL};

/// A piece of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Plain(String),
    /// The figures a reader looks for.
    Strong(String),
}

impl Piece {
    /// The words, without their weight.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Piece::Plain(text) | Piece::Strong(text) => text,
        }
    }
}

/// The words of a sentence as one line.
#[must_use]
pub fn plain(pieces: &[Piece]) -> String {
    pieces.iter().map(Piece::text).collect()
}

/// A value in the unit of its cell.
#[must_use]
pub fn quantity(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanoseconds => units::duration(value),
        Unit::OperationsPerSecond => units::per_second(value),
        Unit::BytesPerSecond => units::bytes_per_second(value),
    }
}

/// An overhead: `3.1× (2.9–3.4)`, or without interval where there is none.
#[must_use]
pub fn overhead(estimate: &Estimate) -> String {
    match estimate.interval {
        Some(i) => {
            let both = (i.low, i.high);
            format!("{} ({})", units::ratio(estimate.value, Some(both)), units::interval(estimate.value, both))
        }
        None => format!("{} (no interval)", units::ratio(estimate.value, None)),
    }
}

/// Why an overhead has no interval.
#[must_use]
pub fn no_interval(blocks: u32) -> String {
    let plural = if blocks == 1 { "" } else { "s" };
    if blocks < FEWEST_FOR_INTERVAL {
        format!("no finite interval ({blocks} block{plural}; {FEWEST_FOR_INTERVAL} needed)")
    } else {
        format!("no finite interval ({blocks} block{plural})")
    }
}

/// What an operation costs more: `+310 µs`.
#[must_use]
pub fn difference(finding: &Finding) -> String {
    units::signed(units::duration(finding.difference.value))
}

/// The difference with its interval: `+310 µs (+290 µs to +340 µs)`.
#[must_use]
pub fn difference_interval(finding: &Finding) -> String {
    let end = |ns| units::signed(units::duration(ns));
    match finding.difference.interval {
        Some(i) => format!("{} ({} to {})", difference(finding), end(i.low), end(i.high)),
        None => difference(finding),
    }
}

/// Gross less net in the cell's unit, with its sign.
#[must_use]
pub fn tare(cell: &Cell, finding: &Finding) -> String {
    units::signed(quantity(cell.unit, finding.tare()))
}

/// Why a cell has no numbers, in words for a table.
#[must_use]
pub fn withheld(why: &Withheld) -> String {
    match why {
        Withheld::TooFewOperations { .. } => format!("{} ({})", units::NONE, because(why)),
        Withheld::NoCommonBlock | Withheld::Failed(_) => because(why),
    }
}

/// Why a cell has no numbers, in full.
#[must_use]
pub fn because(why: &Withheld) -> String {
    match why {
        Withheld::TooFewOperations { more, .. } => {
            let plural = if *more == 1 { "" } else { "s" };
            format!("{} more sample{plural} per block needed", units::count(*more))
        }
        Withheld::NoCommonBlock => "no block in common with the baseline".to_owned(),
        Withheld::Failed(message) => format!("failed: {}", super::escape::one_line(message)),
    }
}

/// Names of the flags that weigh more than a note, gravest first.
#[must_use]
pub fn doubts(cell: &Cell) -> Vec<&'static str> {
    cell.flags.iter().filter(|f| f.severity > Severity::Note).map(|f| f.name).collect()
}

/// Names of a cell's flags: those that weigh first, notes in brackets.
#[must_use]
pub fn flags(cell: &Cell) -> String {
    let name = |f: &crate::comparison::Flag| match f.severity {
        Severity::Note => format!("({})", f.name),
        Severity::Doubt | Severity::Fatal => f.name.to_owned(),
    };
    let (notes, doubts): (Vec<_>, Vec<_>) = cell.flags.iter().partition(|f| f.severity == Severity::Note);
    doubts.into_iter().chain(notes).map(name).collect::<Vec<_>>().join(", ")
}

/// The environments that a reader wants to know the cost of, in the order of the suite.
pub fn compared(c: &Comparison) -> impl Iterator<Item = &Environment> {
    c.environments.iter().filter(|e| e.role == Role::Compared)
}

/// The environments that ran or tried to: all but the skipped.
pub fn tried(c: &Comparison) -> impl Iterator<Item = &Environment> {
    c.environments.iter().filter(|e| !matches!(e.outcome, Outcome::Skipped(_)))
}

/// The cell of a workload's primary metric.
#[must_use]
pub fn primary<'a>(c: &'a Comparison, workload: &str, environment: &str) -> Option<&'a Cell> {
    let plan = c.run.workloads.iter().find(|w| w.name == workload)?;
    c.cell(workload, environment, Metric::primary(plan))
}

/// What an environment costs, in one sentence, without its name.
#[must_use]
pub fn sentence(c: &Comparison, environment: &Environment) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut say = |text: String| pieces.push(Piece::Plain(text));
    match &environment.outcome {
        Outcome::Skipped(why) => {
            say(format!("not measured: {}", super::escape::one_line(why)));
            return pieces;
        }
        Outcome::Failed(why) => {
            say(format!("failed: {}", super::escape::one_line(why)));
            return pieces;
        }
        Outcome::Measured | Outcome::Partial(_) => {}
    }
    let sorted = Sorted::of(c, environment);
    let mut clauses = worse(&sorted.worse, &c.run.baseline);
    clauses.extend(better(&sorted.better, &format!("faster than {} in ", c.run.baseline)));
    clauses.extend(better(&sorted.doubtful, "looks faster, but read its flags, in "));
    clauses.extend(better(&sorted.unsure, "too few blocks to be sure of "));
    let mut clause = |text: String| clauses.push(vec![Piece::Plain(text)]);
    match sorted.equal.len() {
        0 => {}
        n if n > 3 && n == c.run.workloads.len() => clause(format!("no difference seen in any of {n} workloads")),
        n if n > 4 => clause(format!("no difference seen in {n} workloads")),
        _ => clause(format!("no difference seen in {}", sorted.equal.join(", "))),
    }
    for (why, workloads) in &sorted.invalid {
        clause(format!("not comparable in {} ({why})", workloads.join(", ")));
    }
    if !sorted.missing.is_empty() {
        clause(format!("no result for {}", sorted.missing.join(", ")));
    }
    if !sorted.flags.is_empty() {
        let names: Vec<&str> = sorted.flags.iter().copied().collect();
        clause(format!("flagged {}", names.join(", ")));
    }
    if environment.plan.emulated.is_some() {
        clause("its CPU was emulated in software, which says nothing about hardware".to_owned());
    }
    if clauses.is_empty() {
        clauses.push(vec![Piece::Plain("nothing to compare".to_owned())]);
    }
    for (i, clause) in clauses.into_iter().enumerate() {
        if i > 0 {
            pieces.push(Piece::Plain("; ".to_owned()));
        }
        pieces.extend(clause);
    }
    pieces
}

/// Cells named one by one; of further ones only the range is said.
const NAMED: usize = 3;

fn worse(cells: &[(&Cell, &Finding)], baseline: &str) -> Vec<Vec<Piece>> {
    let mut clauses = Vec::new();
    for (i, (cell, finding)) in cells.iter().take(NAMED).enumerate() {
        let takes = if i == 0 { "takes " } else { "" };
        let mut clause =
            vec![Piece::Plain(format!("{} {takes}", cell.workload)), Piece::Strong(overhead(&finding.overhead))];
        if i == 0 {
            clause.push(Piece::Plain(format!(" as long as on {baseline}")));
        }
        if i == 0 && cell.unit == Unit::Nanoseconds {
            clause.push(Piece::Plain(", ".to_owned()));
            clause.push(Piece::Strong(difference(finding)));
            clause.push(Piece::Plain(" per operation".to_owned()));
        }
        clauses.push(clause);
    }
    clauses.extend(rest(cells));
    clauses
}

fn better(cells: &[(&Cell, &Finding)], words: &str) -> Vec<Vec<Piece>> {
    let mut clauses = Vec::new();
    for (i, (cell, finding)) in cells.iter().take(NAMED).enumerate() {
        let faster = if i == 0 { words } else { "" };
        clauses.push(vec![
            Piece::Plain(format!("{faster}{} ", cell.workload)),
            Piece::Strong(overhead(&finding.overhead)),
        ]);
    }
    clauses.extend(rest(cells));
    clauses
}

/// `5 more at 1.1× to 1.9×`.
fn rest(cells: &[(&Cell, &Finding)]) -> Option<Vec<Piece>> {
    let rest = cells.get(NAMED..).filter(|rest| !rest.is_empty())?;
    let low = rest.iter().map(|(_, f)| f.overhead.value).fold(f64::INFINITY, f64::min);
    let high = rest.iter().map(|(_, f)| f.overhead.value).fold(0.0, f64::max);
    let (low, high) = (units::ratio(low, None), units::ratio(high, None));
    let range = if low == high { low } else { format!("{low} to {high}") };
    Some(vec![Piece::Plain(format!("{} more at {range}", rest.len()))])
}

/// The primary cells of an environment by what can be said of them.
#[derive(Debug, Default)]
struct Sorted<'a> {
    /// Worst first.
    worse: Vec<(&'a Cell, &'a Finding)>,
    /// Best first.
    better: Vec<(&'a Cell, &'a Finding)>,
    /// As good, but something speaks against it: nobody is praised for work that may not have been done.
    doubtful: Vec<(&'a Cell, &'a Finding)>,
    /// Without an interval nobody knows which of these they are; worst first.
    unsure: Vec<(&'a Cell, &'a Finding)>,
    equal: Vec<&'a str>,
    /// By the flags that make them so, in order of appearance.
    invalid: Vec<(String, Vec<&'a str>)>,
    missing: Vec<&'a str>,
    /// Doubts of the cells that count.
    flags: BTreeSet<&'static str>,
}

impl<'a> Sorted<'a> {
    fn of(c: &'a Comparison, environment: &Environment) -> Self {
        let mut sorted = Self::default();
        for plan in &c.run.workloads {
            let Some(cell) = c.cell(&plan.name, &environment.plan.name, Metric::primary(plan)) else { continue };
            let Ok(finding) = &cell.finding else {
                sorted.missing.push(&cell.workload);
                continue;
            };
            if cell.verdict == Verdict::Invalid {
                let fatal = cell.flags.iter().filter(|f| f.severity == Severity::Fatal).map(|f| f.name);
                let why = fatal.collect::<Vec<_>>().join(", ");
                let why = if why.is_empty() { "invalid".to_owned() } else { why };
                match sorted.invalid.iter_mut().find(|(other, _)| *other == why) {
                    Some((_, workloads)) => workloads.push(&cell.workload),
                    None => sorted.invalid.push((why, vec![&cell.workload])),
                }
                continue;
            }
            sorted.flags.extend(doubts(cell));
            match finding.overhead.interval {
                None => sorted.unsure.push((cell, finding)),
                Some(i) if i.contains(1.0) => sorted.equal.push(&cell.workload),
                _ if finding.overhead.value >= 1.0 => sorted.worse.push((cell, finding)),
                _ if cell.verdict == Verdict::Suspect => sorted.doubtful.push((cell, finding)),
                _ => sorted.better.push((cell, finding)),
            }
        }
        let by_value = |a: &(&Cell, &Finding), b: &(&Cell, &Finding)| a.1.overhead.value.total_cmp(&b.1.overhead.value);
        sorted.worse.sort_by(|a, b| by_value(b, a));
        sorted.unsure.sort_by(|a, b| by_value(b, a));
        // What explains the rest is not the headline.
        sorted.worse.sort_by_key(|(cell, _)| cell.workload.starts_with("control/"));
        sorted.better.sort_by(by_value);
        sorted.doubtful.sort_by(by_value);
        sorted
    }
}

/// The start of an environment: `151 ms`.
#[must_use]
pub fn start(environment: &Environment) -> String {
    environment.start_ms.map_or_else(|| units::NONE.to_owned(), |e| units::duration(e.value * 1e6))
}

/// The memory an environment holds when idle: `31.2 MiB`.
#[must_use]
pub fn memory(environment: &Environment) -> String {
    // Sizes in memory are far below 2^53.
    environment.memory_bytes.map_or_else(|| units::NONE.to_owned(), |b| units::bytes(b as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn said(c: &Comparison, name: &str) -> String {
        plain(&sentence(c, c.environment(name).unwrap()))
    }

    #[test]
    fn a_sentence_starts_with_what_costs_most() {
        let c = sample::comparison();
        assert_eq!(said(&c, "runc"), "no difference seen in any of 9 workloads");
        let said = said(&c, "gvisor");
        assert!(said.starts_with("sqlite/inserts takes 15"), "{said}");
        assert!(said.contains(" as long as on bare, +") && said.contains("; sqlite/writers 11"), "{said}");
        assert!(said.ends_with("; net/paced 8.6× (7.9–9.3); 6 more at 1.57× to 6.47×"), "{said}");
    }

    #[test]
    fn what_does_not_measure_what_it_says_is_not_ranked() {
        let said = said(&sample::comparison(), "qemu-unsafe");
        assert!(said.starts_with("looks faster, but read its flags, in net/paced 0.18× (0.17–0.20); "), "{said}");
        assert!(
            said.contains(
                "; not comparable in sqlite/commit, disk/fsync, sqlite/writers, sqlite/inserts (fsync-not-durable); "
            ),
            "{said}"
        );
        assert!(said.contains("; flagged emulated-cpu"), "{said}");
    }

    #[test]
    fn too_few_blocks_are_no_claim() {
        let mut c = sample::comparison();
        for cell in c.cells.iter_mut().filter(|cell| cell.environment == "gvisor") {
            if let Ok(finding) = &mut cell.finding {
                finding.overhead.interval = None;
            }
        }
        let said = said(&c, "gvisor");
        assert!(said.starts_with("too few blocks to be sure of sqlite/inserts 15"), "{said}");
        assert!(!said.contains("as long as on bare") && !said.contains("faster"), "{said}");
    }

    #[test]
    fn skipped_and_failed_environments_say_why() {
        let c = sample::comparison();
        assert!(said(&c, "crun").starts_with("not measured: crun 1.8: cgroups in hybrid mode"));
        assert!(said(&c, "qemu").contains("no result for net/rr"));
    }
}
